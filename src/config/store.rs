//! Where the state is kept: `BROKER_STORE`, or a database that the platform has bound.

use super::{Environment, Reader, size};
use crate::vcap;

#[cfg(feature = "postgres")]
use crate::postgres;

use std::path::PathBuf;

const MIN_CACHE: usize = 64 * 1024;

/// Where the state is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreConfig {
    Memory,
    File {
        path: PathBuf,
        cache: usize,
    },
    #[cfg(feature = "postgres")]
    Postgres(Box<postgres::Config>),
}

impl StoreConfig {
    /// Whether others than the machine's users can see it.
    pub fn is_shared(&self) -> bool {
        !matches!(self, StoreConfig::Memory | StoreConfig::File { .. })
    }

    /// What is lost with an app of Cloud Foundry that is restarted, if it is.
    pub fn lost_with_app(&self) -> Option<String> {
        match self {
            StoreConfig::File { path, .. } => {
                Some(format!("the disk, and {} with it,", path.display()))
            }
            StoreConfig::Memory => Some("memory".to_owned()),
            #[cfg(feature = "postgres")]
            StoreConfig::Postgres(_) => None,
        }
    }
}

/// Where a broker with this environment keeps its state: for whoever looks into it.
pub fn state(environment: Environment<'_>) -> Result<StoreConfig, Vec<String>> {
    let mut reader = Reader::new(environment);
    let store = read(&mut reader);
    if reader.errors.is_empty() {
        Ok(store)
    } else {
        Err(reader.errors)
    }
}

/// A value is no part of a complaint where it may be a connection string: that has a password in it.
pub(super) fn read(reader: &mut Reader<'_>) -> StoreConfig {
    let cache = reader.parsed(
        "BROKER_CACHE",
        1 << 20,
        "a size of at least 64KiB, such as 1MiB",
        |text| size(text).filter(|bytes| *bytes >= MIN_CACHE),
    );
    let file = |path: &str| StoreConfig::File {
        path: path.into(),
        cache,
    };
    let default = file("brokerlet.db");
    let named = reader.get("BROKER_STORE");
    let text = named.as_deref().unwrap_or_default().trim();
    let found = match text.split_once(':') {
        None if text.is_empty() => bound(reader),
        None if text == "memory" => Ok(Some(StoreConfig::Memory)),
        Some(("file", path)) if !path.is_empty() => Ok(Some(file(path))),
        Some(("postgres" | "postgresql", _)) => database(text)
            .map_err(|error| format!("BROKER_STORE: {error}"))
            .map(Some),
        _ => {
            let shown = text
                .split(['@', '?'])
                .next()
                .filter(|_| !text.contains('@'));
            let found = shown.map_or("something else".to_owned(), |shown| format!("{shown:?}"));
            Err(format!(
                "BROKER_STORE: found {found}, wanted file:PATH, postgres://… or memory"
            ))
        }
    };
    match found {
        Ok(store) => store.unwrap_or(default),
        Err(error) => {
            reader.errors.push(error);
            default
        }
    }
}

#[cfg(feature = "postgres")]
fn database(url: &str) -> Result<StoreConfig, String> {
    let config = postgres::Config::parse(url)?;
    Ok(StoreConfig::Postgres(Box::new(config)))
}

#[cfg(not(feature = "postgres"))]
fn database(_: &str) -> Result<StoreConfig, String> {
    Err(
        "found postgres://…, and this brokerlet was built without the feature postgres: cargo build --features postgres"
            .to_owned(),
    )
}

/// The database that the platform has bound to this app: the service that `BROKER_STORE_SERVICE` names, or the only one that is
/// tagged as PostgreSQL. `None` if there is none.
fn bound(reader: &Reader<'_>) -> Result<Option<StoreConfig>, String> {
    let wanted = reader.get("BROKER_STORE_SERVICE");
    let services = match reader.get("VCAP_SERVICES") {
        None => Vec::new(),
        Some(text) => vcap::services(&text)?,
    };
    let found: Vec<&vcap::Bound> = services
        .iter()
        .filter(|service| match &wanted {
            Some(name) => service.is_named(name),
            None => service.is_postgres(),
        })
        .collect();
    match (&found[..], wanted) {
        ([], None) => Ok(None),
        ([], Some(name)) => Err(format!(
            "BROKER_STORE_SERVICE: found {name:?}, which is no service in VCAP_SERVICES"
        )),
        ([service, ..], Some(_)) | ([service], None) => {
            let name = &service.name;
            database(&service.connection_string()?)
                .map_err(|error| format!("VCAP_SERVICES: the credentials of {name}: {error}"))
                .map(Some)
        }
        (several, None) => Err(format!(
            "VCAP_SERVICES: found {} services tagged postgresql; wanted BROKER_STORE_SERVICE, the name of one, or \
             BROKER_STORE",
            several.len()
        )),
    }
}
