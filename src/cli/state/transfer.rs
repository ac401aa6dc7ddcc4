//! `brokerlet state export`, `import`, `copy` and `backup`: the whole state, to and from files and from store to store.

use super::place::Place;
use super::records::ids;
use super::{Failed, counted, refused};
use crate::config;
use crate::store::inspect::{Filling, Inspect, Put};
use crate::store::sealed::{Keys, is_marker, sealed_with};
use crate::store::{Change, Error, Key};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

const FORMAT: &str = "brokerlet state";
const VERSION: u32 = 1;

/// The first line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    version: u32,
    /// RFC 3339, UTC.
    exported: String,
}

/// Each line but the first and the last.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    instance_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    binding_id: Option<String>,
    /// The broker looks for it at its start: an operation is in progress, or the record was deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    open: bool,
    #[serde(borrow)]
    record: &'a RawValue,
}

/// The last line: without it something is missing.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    records: usize,
}

fn cannot(path: &Path, what: &str, cause: impl std::fmt::Display) -> Failed {
    Failed::Unusable(format!("{}: {what}: {cause}", path.display()))
}

fn keys() -> Result<Option<Keys>, Failed> {
    config::seal_keys(&|name| std::env::var(name).ok()).map_err(Failed::Config)
}

/// What an export has in it.
struct Written {
    records: usize,
    /// How many of them are sealed.
    sealed: usize,
}

impl Written {
    fn told(&self) -> String {
        let records = counted(self.records, "record");
        match self.sealed {
            0 => format!("{records} with all credentials in plain text"),
            sealed => format!("{records}, {sealed} of them sealed"),
        }
    }
}

/// To a new file, or to standard output. What is sealed stays so, unless it was asked for.
pub(super) fn export(
    store: &dyn Inspect,
    path: Option<&Path>,
    unsealed: bool,
) -> Result<(), Failed> {
    let keys = match unsealed {
        true => Some(keys()?.ok_or_else(|| {
            let what = "state export: --unsealed opens what is sealed; wanted BROKER_SEAL_KEYS";
            Failed::Config(vec![what.to_owned()])
        })?),
        false => None,
    };
    let keys = keys.as_ref();
    let Some(path) = path else {
        let written = write(store, &mut io::stdout().lock(), keys);
        return match written {
            Ok(_) => Ok(()),
            // A reader that has seen enough.
            Err(Stopped::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(stopped) => Err(stopped.into_failed(Path::new("standard output"))),
        };
    };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let file = options
        .open(path)
        .map_err(|error| cannot(path, "cannot be created", error))?;
    let written = write(store, &mut &file, keys).and_then(|written| {
        file.sync_all().map_err(Stopped::Output)?;
        Ok(written)
    });
    match written {
        Ok(written) => {
            eprintln!(
                "brokerlet: {}: {}, readable by its owner alone",
                path.display(),
                written.told()
            );
            Ok(())
        }
        Err(stopped) => {
            // Half an export is none.
            let _ = fs::remove_file(path);
            Err(stopped.into_failed(path))
        }
    }
}

enum Stopped {
    Output(io::Error),
    Failed(Failed),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Stopped {
        Stopped::Failed(error.into())
    }
}

impl Stopped {
    fn into_failed(self, path: &Path) -> Failed {
        match self {
            Stopped::Output(error) => cannot(path, "cannot be written", error),
            Stopped::Failed(failed) => failed,
        }
    }
}

/// With keys, what is sealed is opened.
fn write(store: &dyn Inspect, to: &mut dyn Write, keys: Option<&Keys>) -> Result<Written, Stopped> {
    let mut to = BufWriter::new(to);
    let header = Header {
        format: FORMAT.to_owned(),
        version: VERSION,
        exported: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
    };
    line(&mut to, &header)?;
    let mut written = Written {
        records: 0,
        sealed: 0,
    };
    every(store, &mut |filling| {
        let body = match keys {
            // What names the keys would have a broker ask for them.
            Some(_) if is_marker(&filling.key) => return Ok(()),
            Some(keys) => keys.open(&filling.key, filling.body)?,
            None => filling.body,
        };
        written.records += 1;
        written.sealed += usize::from(sealed_with(&body).is_some());
        one(&mut to, &filling.key, &body, filling.open)
    })?;
    let records = written.records;
    line(&mut to, &End { records })?;
    to.flush().map_err(Stopped::Output)?;
    Ok(written)
}

/// Hands over every record, until one is not taken.
fn every<E: From<Error>>(
    store: &dyn Inspect,
    take: &mut dyn FnMut(Filling) -> Result<(), E>,
) -> Result<(), E> {
    let mut taken = Ok(());
    store.each(&mut |key, record, open| {
        let body = record.body;
        taken = take(Filling { key, body, open });
        match taken {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    taken
}

fn one(to: &mut impl Write, key: &Key, body: &[u8], open: bool) -> Result<(), Stopped> {
    let record: &RawValue = serde_json::from_slice(body).map_err(|_| {
        let text = format!("{key:?}: the record cannot be read; brokerlet state check tells why");
        Stopped::Failed(Failed::No(text))
    })?;
    let (instance_id, binding_id) = ids(key);
    let exported = Line {
        instance_id: instance_id.to_owned(),
        binding_id: binding_id.map(str::to_owned),
        open,
        record,
    };
    line(to, &exported)
}

fn line(to: &mut impl Write, value: &impl Serialize) -> Result<(), Stopped> {
    let written = serde_json::to_writer(&mut *to, value).map_err(io::Error::from);
    written
        .and_then(|()| to.write_all(b"\n"))
        .map_err(Stopped::Output)
}

/// Takes a record.
type Take<'t> = dyn FnMut(Filling) -> Result<(), Failed> + 't;

/// Puts what `source` gives into a store without records, all of it or nothing. With `BROKER_SEAL_KEYS` it is sealed with the
/// current key, whatever it was sealed with; without, it stays as it is.
fn fill(
    store: &dyn Inspect,
    source: &mut dyn FnMut(&mut Take<'_>) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let keys = keys()?;
    let mut why = None;
    let filled = store.fill(&mut |put: &mut Put<'_>| {
        let given = source(&mut |filling| match &keys {
            Some(_) if is_marker(&filling.key) => Ok(()),
            Some(keys) => {
                let body = keys.seal_anew(&filling.key, filling.body)?;
                Ok(put(Filling { body, ..filling })?)
            }
            None => Ok(put(filling)?),
        });
        given.map_err(|failed| {
            why = Some(failed);
            Error::new("given up")
        })?;
        keys.as_ref().map_or(Ok(()), |keys| put(keys.marker()?))
    });
    match why {
        Some(failed) => Err(failed),
        None => Ok(filled?),
    }
}

/// From one store to another one that has no records. Nobody uses either meanwhile.
pub(super) fn copy(from: &Place, to: &Place) -> Result<(), Failed> {
    // What is not there is not made.
    drop(from.read()?);
    let from = from.alone()?;
    let to = to.alone()?;
    let mut copied = 0;
    fill(&*to, &mut |put| {
        every(&*from, &mut |filling| {
            copied += usize::from(!is_marker(&filling.key));
            put(filling)
        })
    })?;
    let mut found = 0;
    every::<Failed>(&*to, &mut |filling| {
        found += usize::from(!is_marker(&filling.key));
        Ok(())
    })?;
    copy_audit(&*from, &*to)?;
    let (from, to) = (from.describe(), to.describe());
    if found != copied {
        return Err(Failed::Unusable(format!(
            "{to}: found {}, wanted {copied}: start no broker on it",
            counted(found, "record")
        )));
    }
    eprintln!(
        "brokerlet: {} copied from {from} to {to}; start no broker on {from} any more",
        counted(copied, "record")
    );
    Ok(())
}

/// How many lines of the audit trail are written in one transaction.
const LINES_TOGETHER: usize = 500;

/// The audit trail, after the records.
fn copy_audit(from: &dyn Inspect, to: &dyn Inspect) -> Result<(), Failed> {
    let mut waiting = Vec::new();
    let write = |lines: Vec<Change>| match to.commit(lines) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failed::Unusable(format!(
            "{}; the records were copied, the audit trail only in part",
            error.message
        ))),
    };
    let mut written = Ok(());
    from.audit(0, &mut |line| {
        waiting.push(Change::Audit(line));
        if waiting.len() == LINES_TOGETHER {
            written = write(std::mem::take(&mut waiting));
        }
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    written?;
    match waiting.is_empty() {
        true => Ok(()),
        false => write(waiting),
    }
}

/// From such a file into a store without records: all of it or nothing.
pub(super) fn import(store: &dyn Inspect, path: &Path) -> Result<(), Failed> {
    let file = File::open(path).map_err(|error| cannot(path, "cannot be opened", error))?;
    let mut lines = BufReader::new(file);
    let mut number = 0;
    let mut text = Vec::new();
    let mut next = move |wanted: &str| -> Result<(usize, Vec<u8>), Failed> {
        number += 1;
        text.clear();
        let read = lines.read_until(b'\n', &mut text);
        read.map_err(|error| cannot(path, "cannot be read", error))?;
        match text.is_empty() {
            true => Err(wrong(
                path,
                number,
                &format!("the file ends, wanted {wanted}"),
            )),
            false => Ok((number, std::mem::take(&mut text))),
        }
    };
    let (at, first) = next("the header of an export")?;
    match serde_json::from_slice::<Header>(&first) {
        Ok(header) if header.format == FORMAT && header.version == VERSION => {}
        Ok(header) if header.format == FORMAT => {
            let text = format!("found version {}, wanted {VERSION}", header.version);
            return Err(wrong(path, at, &text));
        }
        _ => return Err(wrong(path, at, "this is no export of a brokerlet")),
    }
    let mut records = 0;
    fill(store, &mut |put| {
        loop {
            let (at, text) = next("more records, or the line that counts them")?;
            if let Ok(Line {
                instance_id,
                binding_id,
                open,
                record,
            }) = serde_json::from_slice(&text)
            {
                records += 1;
                let key = match binding_id {
                    None => Key::Instance(instance_id),
                    Some(id) => Key::Binding(instance_id, id),
                };
                let body = record.get().as_bytes().to_vec();
                put(Filling { key, body, open })?;
                continue;
            }
            return match serde_json::from_slice::<End>(&text) {
                Ok(end) if end.records == records => Ok(()),
                Ok(end) => {
                    let text = format!(
                        "found {}, wanted {}",
                        counted(records, "record"),
                        end.records
                    );
                    Err(wrong(path, at, &text))
                }
                // Never its content: it may be a secret.
                Err(_) => Err(wrong(path, at, "found no record")),
            };
        }
    })?;
    eprintln!(
        "brokerlet: {}: {}",
        path.display(),
        counted(records, "record")
    );
    Ok(())
}

fn wrong(path: &Path, line: usize, what: &str) -> Failed {
    Failed::No(format!("{}: line {line}: {what}", path.display()))
}

/// A copy of one moment, which is a store itself.
pub(super) fn backup(store: &dyn Inspect, path: &Path) -> Result<(), Failed> {
    let copied = store.backup(path);
    copied.map_err(|refusal| refused(store, "backup", refusal))?;
    eprintln!(
        "brokerlet: {}: a copy with all credentials in it, readable by its owner alone",
        path.display()
    );
    Ok(())
}
