//! `brokerlet state`: what is in the state, and what an operator does with it, while the broker runs or not.

mod adopt;
mod amend;
mod arguments;
pub(super) mod audit;
mod inspect;
mod list;
mod names;
mod place;
mod records;
mod show;
mod transfer;

use super::{EX_CONFIG, counted, print, usage};
use crate::adapter::Kinds;
use crate::store;
use crate::store::inspect::{Inspect, Refusal};

use arguments::Command;
pub(super) use arguments::Options;
use place::Place;
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
pub(super) fn run(options: &Options, kinds: &Kinds) -> ExitCode {
    exit(carry_out(options, kinds))
}

fn exit(result: Result<(), Failed>) -> ExitCode {
    let (code, messages) = match result {
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

fn carry_out(options: &Options, kinds: &Kinds) -> Result<(), Failed> {
    if let Command::Copy { from, to } = &options.command {
        return transfer::copy(&Place::named("FROM", from)?, &Place::named("TO", to)?);
    }
    let place = Place::of(options.store.as_deref())?;
    let catalog = options.catalog.as_deref();
    match &options.command {
        Command::List(filters) => list::list(&*place.read()?, catalog, filters, options.json),
        Command::Show { id, credentials } => {
            show::show(&*place.read()?, catalog, id, *credentials, options.json)
        }
        Command::Adopt(options) => adopt::adopt(&place, catalog, kinds, options),
        Command::Export { file, unsealed } => {
            transfer::export(&*place.read()?, file.as_deref(), *unsealed)
        }
        Command::Import(file) => transfer::import(&*place.alone()?, file),
        Command::Copy { .. } => Ok(()),
        Command::Backup(file) => transfer::backup(&*place.read()?, file),
        Command::Check => inspect::check(&*place.read()?, catalog, options.json),
        Command::Compact => inspect::compact(&*place.change()?),
        Command::Protect { id, reason } => amend::protect(&*place.beside()?, id, reason.as_deref()),
        Command::Unprotect(id) => amend::unprotect(&*place.beside()?, id),
        Command::Undelete(id) => amend::undelete(&*place.beside()?, id),
        Command::Forget { id, yes } => inspect::forget(&*place.change()?, id, *yes),
    }
}

/// What a store does not do here, in words for the operator.
fn refused(store: &dyn Inspect, command: &str, refusal: Refusal) -> Failed {
    match refusal {
        Refusal::Unusable(error) => error.into(),
        Refusal::Instead(instead) => Failed::Usage(format!(
            "state {command}: {} is a database: {instead}",
            store.describe()
        )),
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
