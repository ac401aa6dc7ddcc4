//! `brokerlet state`: what is in the state, and what an operator does with it, while the broker runs or not.

mod arguments;
mod inspect;
mod list;
mod names;
mod records;
mod show;
mod transfer;

use super::{EX_CONFIG, counted, print, usage};
use crate::config::{self, StoreConfig};
use crate::store;
use crate::store::sqlite::Sqlite;

use arguments::Command;
pub(super) use arguments::Options;
use std::path::PathBuf;
use std::process::ExitCode;

/// The state cannot be used (sysexits.h).
const EX_IOERR: u8 = 74;

/// Why a command ends without its result.
enum Failed {
    /// There is no such thing, or what was asked for is not so.
    No(String),
    /// The state or a file cannot be used.
    Unusable(String),
    Config(Vec<String>),
    Usage(String),
}

impl From<store::Error> for Failed {
    fn from(error: store::Error) -> Failed {
        Failed::Unusable(error.message)
    }
}

/// Runs a command. What it finds goes to standard output, what it has to say to standard error.
pub(super) fn run(options: &Options) -> ExitCode {
    let (code, messages) = match carry_out(options) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failed::No(message)) => (1, vec![message]),
        Err(Failed::Unusable(message)) => (EX_IOERR, vec![message]),
        Err(Failed::Config(messages)) => (EX_CONFIG, messages),
        Err(Failed::Usage(complaint)) => return usage(&complaint),
    };
    for message in messages {
        eprintln!("brokerlet: {message}");
    }
    ExitCode::from(code)
}

fn carry_out(options: &Options) -> Result<(), Failed> {
    let place = Place::of(options.store.as_deref())?;
    let catalog = options.catalog.as_deref();
    match &options.command {
        Command::List(filters) => list::list(&place.read()?, catalog, filters, options.json),
        Command::Show { id, credentials } => {
            show::show(&place.read()?, catalog, id, *credentials, options.json)
        }
        Command::Export(file) => transfer::export(&place.read()?, file.as_deref()),
        Command::Import(file) => transfer::import(&place.write()?, file),
        Command::Backup(file) => transfer::backup(&place.read()?, file),
        Command::Check => inspect::check(&place.read()?, catalog, options.json),
        Command::Compact => inspect::compact(&place.write()?),
        Command::Forget { id, yes } => inspect::forget(&place.write()?, id, *yes),
    }
}

/// Where the state is.
struct Place {
    path: PathBuf,
    cache: usize,
}

impl Place {
    /// As `--store` says, else as the environment of the broker.
    fn of(said: Option<&str>) -> Result<Place, Failed> {
        let environment = |name: &str| match (name, said) {
            ("BROKER_STORE", Some(said)) => Some(said.to_owned()),
            _ => std::env::var(name).ok(),
        };
        match config::state(&environment).map_err(Failed::Config)? {
            StoreConfig::File { path, cache } => Ok(Place { path, cache }),
            StoreConfig::Memory => Err(Failed::Usage(
                "state: the state is in the memory of the broker, where nobody else can look; wanted --store file:PATH"
                    .to_owned(),
            )),
            #[cfg(feature = "postgres")]
            StoreConfig::Postgres(config) => Err(Failed::Usage(format!(
                "state: {config} is a database: look into it with psql (the views instances and bindings), and back it up \
                 as databases are"
            ))),
        }
    }

    /// Beside a broker, if there is one.
    fn read(&self) -> Result<Sqlite, Failed> {
        Ok(Sqlite::open_to_read(&self.path, self.cache)?)
    }

    /// Instead of a broker: one that runs keeps its file.
    fn write(&self) -> Result<Sqlite, Failed> {
        Ok(Sqlite::open(&self.path, self.cache)?)
    }
}

/// Text that comes from platforms and users, for a terminal: without characters that it would obey.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown
}
