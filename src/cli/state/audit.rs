//! `brokerlet audit`: prints the audit trail.

use super::names::Names;
use super::place::Place;
use super::{Failed, counted, exit, printable};
use crate::broker::protocol::audit::micros;
use crate::cli::options::Said;
use crate::duration;

use serde_json::Value;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

/// Options that a value follows.
const WITH_VALUE: [&str; 5] = ["--store", "--catalog", "--instance", "--user", "--since"];

/// What the arguments say.
pub struct Options {
    store: Option<String>,
    catalog: Option<PathBuf>,
    instance: Option<String>,
    user: Option<String>,
    since: Option<SystemTime>,
    json: bool,
}

impl Options {
    /// The error is a complaint for the user.
    pub fn parse(arguments: &[&str]) -> Result<Options, String> {
        let said = Said::parse("audit", arguments, &WITH_VALUE)?;
        let unknown = said.unknown(&[&WITH_VALUE, &["--json"]]);
        if let Some(found) = unknown.or(said.words.first().copied()) {
            return Err(format!("audit: cannot understand {found:?}"));
        }
        let text = |option: &str| match said.text(option) {
            Some(value) if value.is_empty() => {
                Err(format!("audit: {option}: found nothing, wanted a value"))
            }
            value => Ok(value),
        };
        let since = text("--since")?.map(|since| time(&since, SystemTime::now()));
        Ok(Options {
            store: text("--store")?,
            catalog: text("--catalog")?.map(PathBuf::from),
            instance: text("--instance")?,
            user: text("--user")?,
            since: since.transpose()?,
            json: said.has("--json"),
        })
    }

    fn wants(&self, line: &Value) -> bool {
        let has = |wanted: &Option<String>, places: &[&str]| {
            let mut found = places.iter().filter_map(|place| text(line, place));
            wanted
                .as_deref()
                .is_none_or(|wanted| found.any(|found| found == wanted))
        };
        has(&self.instance, &["/instance_id"]) && has(&self.user, &USERS)
    }
}

/// Where a user's id or name stands, as each platform has it.
const USERS: [&str; 3] = [
    "/by/properties/user_id",
    "/by/properties/username",
    "/by/properties/uid",
];

/// `2026-12-01T10:00:00Z`, or how long ago, as in `7d`.
fn time(text: &str, now: SystemTime) -> Result<SystemTime, String> {
    let ago = || now.checked_sub(duration::parse(text)?);
    humantime::parse_rfc3339(text)
        .ok()
        .or_else(ago)
        .ok_or_else(|| {
            format!(
                "audit: --since: found {text:?}, wanted a time such as 2026-12-01T10:00:00Z, or a duration such as 7d"
            )
        })
}

fn text<'l>(line: &'l Value, place: &str) -> Option<&'l str> {
    line.pointer(place)?.as_str()
}

pub fn run(options: &Options) -> ExitCode {
    exit(show(options))
}

/// As the lines come: there may be a million of them.
fn show(options: &Options) -> Result<(), Failed> {
    let names = Names::load(options.catalog.as_deref())?;
    let store = Place::of(options.store.as_deref())?.read()?;
    let since = options.since.map_or(0, micros);
    let (mut unreadable, mut broken) = (0, None);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    store.audit(since, &mut |line| {
        let Ok(value) = serde_json::from_slice::<Value>(&line.text) else {
            unreadable += 1;
            return ControlFlow::Continue(());
        };
        if !options.wants(&value) {
            return ControlFlow::Continue(());
        }
        let written = match options.json {
            true => out
                .write_all(&line.text)
                .and_then(|()| out.write_all(b"\n")),
            false => writeln!(out, "{}", told(&value, &names)),
        };
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                broken = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    match broken.map_or_else(|| out.flush(), Err) {
        Ok(()) => {}
        // A reader that has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
        Err(error) => {
            return Err(Failed::Unusable(format!(
                "standard output: cannot be written: {error}"
            )));
        }
    }
    if unreadable > 0 {
        let what = counted(unreadable, "line");
        eprintln!("brokerlet: {what} of the audit trail cannot be read");
    }
    Ok(())
}

/// A line for people.
fn told(line: &Value, names: &Names) -> String {
    let part = |place| text(line, place).unwrap_or("-");
    let plan_id = part("/plan_id");
    let (service, plan) = names.of(plan_id).unwrap_or((part("/service_id"), plan_id));
    let mut told = format!(
        "{}  {:11} {:10} {}",
        part("/at"),
        part("/operation"),
        part("/outcome").replace('_', " "),
        part("/instance_id"),
    );
    // Writing to a string does not fail.
    if let Some(binding) = text(line, "/binding_id") {
        let _ = write!(told, " binding {binding}");
    }
    let _ = write!(told, " ({service}, {plan})");
    let user = USERS.iter().find_map(|place| text(line, place));
    if let Some(user) = user {
        let _ = write!(told, " by {user}");
    }
    if let Some(from) = text(line, "/from") {
        let _ = write!(told, " from {from}");
    }
    if let Some(description) = text(line, "/description") {
        let _ = write!(told, ": {description}");
    }
    printable(&told)
}
