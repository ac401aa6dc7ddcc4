//! `brokerlet state adopt`: takes over the instances and bindings of another broker, once the adapters have found each.
//!
//! [`listed`] is one line of the list, [`judge`] what becomes of it. All lines are judged before anything is written.

mod judge;
mod listed;

use super::place::Place;
use super::{Failed, counted, print, printable};
use crate::adapter::Kinds;
use crate::adapter::load::load;
use crate::broker::plans::Plans;
use crate::catalog::finding::Severity;
use crate::config;
use crate::store::sealed::{self, Sealed};
use crate::store::{Change, Key, Outcome, Store};
use judge::{Judge, Stop, Verified};
use listed::Listed;

use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, stdin};
use std::path::{Path, PathBuf};

/// How many records are written in one transaction.
const TOGETHER: usize = 256;

/// What the arguments say.
pub(in crate::cli::state) struct Adopt {
    /// The list; `-` is standard input.
    pub list: PathBuf,
    /// Writes nothing.
    pub dry_run: bool,
    /// Takes over what was verified, whatever becomes of the others.
    pub skip_failed: bool,
    pub json: bool,
}

pub(super) fn adopt(
    place: &Place,
    catalog: Option<&Path>,
    kinds: &Kinds,
    options: &Adopt,
) -> Result<(), Failed> {
    let plans = plans(catalog, kinds)?;
    let keys = config::seal_keys(&|name| std::env::var(name).ok()).map_err(Failed::Config)?;
    let store: Box<dyn Store> = match (options.dry_run, keys) {
        (true, Some(keys)) => Box::new(Sealed::open_to_read(place.read()?, keys)),
        (true, None) => {
            let store = place.read()?;
            sealed::refuse_sealed(&*store)?;
            store
        }
        (false, keys) => sealed::with_keys(place.change_or_make()?, keys)?,
    };
    let adopted = all(&plans, &*store, options);
    store.close();
    adopted
}

/// The catalog as a broker reads it.
fn plans(said: Option<&Path>, kinds: &Kinds) -> Result<Plans, Failed> {
    let set = std::env::var_os("BROKER_CATALOG").filter(|name| !name.is_empty());
    let path = said.map(Path::to_owned).or(set.map(PathBuf::from));
    let path = path.ok_or_else(|| {
        let what = "state adopt: no catalog file is named; wanted --catalog FILE or BROKER_CATALOG";
        Failed::Config(vec![what.to_owned()])
    })?;
    let (offered, findings) = load(Some(&path), kinds, &|name| std::env::var(name).ok());
    let (catalog, fulfilments) = offered.ok_or_else(|| {
        let errors = findings.0.iter().filter(|f| f.severity == Severity::Error);
        Failed::Config(
            errors
                .map(|error| format!("{}: {error}", path.display()))
                .collect(),
        )
    })?;
    Ok(Plans::new(catalog, fulfilments))
}

fn all(plans: &Plans, store: &dyn Store, options: &Adopt) -> Result<(), Failed> {
    let cannot = |error| {
        Failed::Unusable(format!(
            "{}: cannot be read: {error}",
            options.list.display()
        ))
    };
    let mut lines: Box<dyn BufRead> = match options.list.as_os_str() == "-" {
        true => Box::new(stdin().lock()),
        false => Box::new(BufReader::new(File::open(&options.list).map_err(cannot)?)),
    };
    let mut judge = Judge::new(plans, store);
    let (mut verified, mut there, mut refused) = (Vec::new(), 0, 0);
    let (mut text, mut number) = (Vec::new(), 0);
    loop {
        text.clear();
        if lines.read_until(b'\n', &mut text).map_err(cannot)? == 0 {
            break;
        }
        number += 1;
        if text.trim_ascii().is_empty() {
            continue;
        }
        let mut ids = None;
        let listed = Listed::parse(&text).map_err(Stop::Refused);
        let judged = listed.and_then(|listed| {
            let (instance, binding) = (listed.instance_id.clone(), listed.binding_id.clone());
            ids = Some((instance, binding));
            judge.judge(&listed)
        });
        let why = match judged {
            Ok(Some(record)) => {
                verified.push(record);
                Ok("verified")
            }
            Ok(None) => {
                there += 1;
                Ok("there already")
            }
            Err(Stop::Refused(why)) => {
                refused += 1;
                Err(why)
            }
            Err(Stop::Unusable(error)) => return Err(error.into()),
        };
        tell(number, ids, why, options.json);
    }
    let told = format!(
        "{} verified, {there} there already, {refused} refused",
        counted(verified.len(), "record")
    );
    if options.dry_run || refused > 0 && !options.skip_failed {
        let told = format!("{told}; nothing was changed");
        return match refused {
            0 => {
                eprintln!("brokerlet: {told}");
                Ok(())
            }
            _ => Err(Failed::No(told)),
        };
    }
    let count = verified.len();
    write(verified, &judge)?;
    let taken = counted(count, "record");
    let told = format!("{taken} taken over, {there} there already, {refused} refused");
    match refused {
        0 => eprintln!("brokerlet: {told}"),
        _ => return Err(Failed::No(told)),
    }
    Ok(())
}

/// What was found of a line. Never what is in it but for its ids.
fn tell(
    line: usize,
    ids: Option<(String, Option<String>)>,
    found: Result<&str, String>,
    as_json: bool,
) {
    if as_json {
        let (outcome, reason) = match &found {
            Ok(outcome) => (*outcome, None),
            Err(why) => ("refused", Some(why)),
        };
        let (instance_id, binding_id) = ids.unzip();
        let mut told = json!({ "line": line, "outcome": outcome });
        for (field, value) in [
            ("instance_id", instance_id),
            ("binding_id", binding_id.flatten()),
            ("reason", reason.cloned()),
        ] {
            if let Some(value) = value {
                told[field] = value.into();
            }
        }
        print(&format!("{told}\n"));
        return;
    }
    let what = match ids {
        Some((instance, Some(binding))) => {
            format!("service binding {binding:?} of service instance {instance:?}: ")
        }
        Some((instance, None)) => format!("service instance {instance:?}: "),
        None => String::new(),
    };
    let found = match found {
        Ok(outcome) => outcome.to_owned(),
        Err(why) => format!("refused: {why}"),
    };
    print(&format!("line {line}: {what}{}\n", printable(&found)));
}

/// In the order of the list, so that no binding is there without its instance. Nothing of what others have changed meanwhile is
/// written over.
fn write(records: Vec<Verified>, judge: &Judge<'_>) -> Result<(), Failed> {
    let mut written = 0;
    let mut revisions = HashMap::new();
    let mut records = records.into_iter().peekable();
    while records.peek().is_some() {
        let (mut changes, mut held, mut puts) = (Vec::new(), HashSet::new(), HashSet::new());
        let batch = records.by_ref().take(TOGETHER);
        for Verified {
            key,
            revision,
            body,
            line,
        } in batch
        {
            match &key {
                Key::Instance(id) => {
                    puts.insert(id.clone());
                }
                Key::Binding(id, _) if !puts.contains(id) && held.insert(id.clone()) => {
                    let before = revisions.get(id).copied().or(judge.revision_of(id));
                    changes.extend(before.map(|revision| Change::Expect {
                        key: Key::instance(id),
                        revision,
                    }));
                }
                Key::Binding(..) => {}
            }
            written += 1;
            changes.push(Change::Put {
                key,
                revision,
                body,
                open: false,
            });
            changes.extend(line.map(Change::Audit));
        }
        let batch = changes
            .iter()
            .filter(|change| matches!(change, Change::Put { .. }))
            .count();
        match judge.store.commit(changes)? {
            Outcome::Committed(revision) => {
                revisions.extend(puts.into_iter().map(|id| (id, revision)));
            }
            Outcome::Conflict => {
                return Err(Failed::Unusable(format!(
                    "{} taken over, the others not: records have changed meanwhile; the same command goes on",
                    counted(written - batch, "record")
                )));
            }
        }
    }
    Ok(())
}
