//! Which store a command works on, and how it is opened.

use super::Failed;
use crate::config::{self, StoreConfig};
use crate::store::inspect::Inspect;
#[cfg(feature = "postgres")]
use crate::store::postgres::Postgres;
use crate::store::sqlite::Sqlite;

/// Where a state is.
pub(super) struct Place(StoreConfig);

/// A variable that holds an address: so no password stands in the list of processes.
const VARIABLE: &str = "env:";

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

impl Place {
    /// As `--store` says, else as the environment of the broker.
    pub fn of(said: Option<&str>) -> Result<Place, Failed> {
        match said {
            Some(said) => Place::named("--store", said),
            None => Place::found("BROKER_STORE", &variable),
        }
    }

    /// As an argument says: an address without a password, or the name of a variable.
    pub fn named(what: &str, said: &str) -> Result<Place, Failed> {
        let with = |text: &str| {
            let text = text.to_owned();
            move |name: &str| match name {
                "BROKER_STORE" => Some(text.clone()),
                _ => variable(name),
            }
        };
        match said.strip_prefix(VARIABLE) {
            Some("VCAP_SERVICES") => {
                let bound = |name: &str| variable(name).filter(|_| name != "BROKER_STORE");
                let place = Place::found(what, &bound)?;
                match place.0.is_shared() {
                    true => Ok(place),
                    false => Err(Failed::Config(vec![format!(
                        "{what}: VCAP_SERVICES: found no service tagged postgresql"
                    )])),
                }
            }
            Some(name) => {
                let text = variable(name).ok_or_else(|| {
                    Failed::Config(vec![format!(
                        "{what}: found {said}, and no variable {name}; wanted an address in it"
                    )])
                })?;
                Place::found(name, &with(&text))
            }
            None => {
                let place = Place::found(what, &with(said))?;
                match place.has_password() {
                    false => Ok(place),
                    true => Err(Failed::Usage(format!(
                        "state: {what}: found a password, which every user of this machine can read in the list of processes; \
                         wanted the address in BROKER_STORE, or env:NAME, and the address in the variable NAME"
                    ))),
                }
            }
        }
    }

    fn found(what: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Place, Failed> {
        let named = |error: String| match error.strip_prefix("BROKER_STORE: ") {
            Some(rest) => format!("{what}: {rest}"),
            None => error,
        };
        let wrong = |errors: Vec<String>| Failed::Config(errors.into_iter().map(named).collect());
        match config::state(environment).map_err(wrong)? {
            StoreConfig::Memory => Err(Failed::Usage(
                "state: the state is in the memory of the broker, where nobody else can look; wanted --store file:PATH"
                    .to_owned(),
            )),
            store => Ok(Place(store)),
        }
    }

    fn has_password(&self) -> bool {
        match &self.0 {
            #[cfg(feature = "postgres")]
            StoreConfig::Postgres(config) => config.password.is_some(),
            _ => false,
        }
    }

    /// Beside brokers, if there are any. Changes nothing.
    pub fn read(&self) -> Result<Box<dyn Inspect>, Failed> {
        Ok(match &self.0 {
            #[cfg(feature = "postgres")]
            StoreConfig::Postgres(config) => Box::new(Postgres::open_to_read((**config).clone())?),
            StoreConfig::File { path, cache } => Box::new(Sqlite::open_to_read(path, *cache)?),
            StoreConfig::Memory => return Err(nowhere()),
        })
    }

    /// For a change of what is there: beside brokers, where several can work on the store; else instead of the one.
    pub fn change(&self) -> Result<Box<dyn Inspect>, Failed> {
        let found = self.read()?;
        match self.0.is_shared() {
            true => Ok(found),
            false => self.alone(),
        }
    }

    /// The same, and a file that is not there is made.
    pub fn change_or_make(&self) -> Result<Box<dyn Inspect>, Failed> {
        match self.0.is_shared() {
            true => self.read(),
            false => self.alone(),
        }
    }

    /// For a change of a record or two, beside brokers or not.
    pub fn beside(&self) -> Result<Box<dyn Inspect>, Failed> {
        Ok(match &self.0 {
            StoreConfig::File { path, .. } => Box::new(Sqlite::open_beside(path)?),
            _ => self.read()?,
        })
    }

    /// Instead of brokers: refused if one runs. What is not there is made.
    pub fn alone(&self) -> Result<Box<dyn Inspect>, Failed> {
        Ok(match &self.0 {
            #[cfg(feature = "postgres")]
            StoreConfig::Postgres(config) => Box::new(Postgres::open_alone((**config).clone())?),
            StoreConfig::File { path, cache } => Box::new(Sqlite::open(path, *cache)?),
            StoreConfig::Memory => return Err(nowhere()),
        })
    }
}

fn nowhere() -> Failed {
    Failed::Usage("state: wanted a file or a database".to_owned())
}
