//! `brokerlet state export`, `import` and `backup`: the whole state, to and from files.

use super::records::ids;
use super::{Failed, counted};
use crate::store::Key;
use crate::store::sqlite::{Filling, Sqlite};

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

/// To a new file, or to standard output.
pub(super) fn export(store: &Sqlite, path: Option<&Path>) -> Result<(), Failed> {
    let Some(path) = path else {
        let written = write(store, &mut io::stdout().lock());
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
    let written = write(store, &mut &file).and_then(|records| {
        file.sync_all().map_err(Stopped::Output)?;
        Ok(records)
    });
    match written {
        Ok(records) => {
            eprintln!(
                "brokerlet: {}: {} with all credentials in plain text, readable by its owner alone",
                path.display(),
                counted(records, "record")
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

impl Stopped {
    fn into_failed(self, path: &Path) -> Failed {
        match self {
            Stopped::Output(error) => cannot(path, "cannot be written", error),
            Stopped::Failed(failed) => failed,
        }
    }
}

fn write(store: &Sqlite, to: &mut dyn Write) -> Result<usize, Stopped> {
    let mut to = BufWriter::new(to);
    let header = Header {
        format: FORMAT.to_owned(),
        version: VERSION,
        exported: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
    };
    line(&mut to, &header)?;
    let mut records = 0;
    let mut stopped = None;
    let shown = store.each(&mut |key, record, open| {
        let written = one(&mut to, &key, &record.body, open);
        records += 1;
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(why) => {
                stopped = Some(why);
                ControlFlow::Break(())
            }
        }
    });
    shown.map_err(|error| Stopped::Failed(error.into()))?;
    if let Some(stopped) = stopped {
        return Err(stopped);
    }
    line(&mut to, &End { records })?;
    to.flush().map_err(Stopped::Output)?;
    Ok(records)
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

/// From such a file into a store without records: all of it or nothing.
pub(super) fn import(store: &Sqlite, path: &Path) -> Result<(), Failed> {
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
    store.fill(&mut || {
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
            return Ok(Some(Filling { key, body, open }));
        }
        match serde_json::from_slice::<End>(&text) {
            Ok(end) if end.records == records => Ok(None),
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
pub(super) fn backup(store: &Sqlite, path: &Path) -> Result<(), Failed> {
    store.backup(path)?;
    eprintln!(
        "brokerlet: {}: a copy with all credentials in plain text, readable by its owner alone",
        path.display()
    );
    Ok(())
}
