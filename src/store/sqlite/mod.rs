//! Records in one file, on SQLite: the store of a single broker, which everybody with the rights to can read meanwhile.
//!
//! SQLite's write-ahead log makes a commit durable, and lets readers go on beside it. What is here is what SQLite leaves
//! to its caller: commits that meet share a transaction ([`writer`]), readers share connections ([`readers`]), one broker
//! at a time uses the file ([`guard`]), and [`schema`] is how records lie in it.

mod guard;
mod inspect;
mod readers;
mod schema;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use self::guard::{Guard, Place};
use self::readers::Readers;
use self::writer::Writer;
use super::{Change, Error, Key, Outcome, Record, SeeLine, Store};

/// A store in one file.
pub struct Sqlite {
    place: Place,
    readers: Readers,
    /// `None` where the file was opened for reading.
    writer: Option<Writer>,
    guard: Mutex<Option<Guard>>,
    warnings: Vec<String>,
}

/// How long a commit waits for another process that writes, such as `sqlite3`.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pages in the log after which they are taken over into the file: 16 MB. A page that many commits change is then written
/// to the file once for all of them.
const CHECKPOINT_PAGES: u32 = 4000;
/// How much is kept in memory of a file in which a record or two are changed, in bytes.
const CACHE_BESIDE: usize = 1 << 20;
/// What the log is cut to, when readers had made it grow: a log of the usual length keeps its blocks, which is faster.
const LOG_BYTES: u32 = 20 << 20;

impl Sqlite {
    /// Opens the file, or makes it, with access for its owner alone. No other broker can use it meanwhile.
    ///
    /// `cache_bytes` limits what is kept in memory of the file, so memory does not grow with the number of records.
    ///
    /// Errors name the file and leave it as it was: another broker uses it, it is of a newer format, damaged, not a store
    /// at all, or cannot be reached. What was committed before a kill -9 or a loss of power is there.
    pub fn open(path: &Path, cache_bytes: usize) -> Result<Sqlite, Error> {
        let (place, guard, mut warnings) = Place::claim(path)?;
        let content = place.look()?;
        if content == guard::Content::Nothing && !guard.is_new() {
            warnings.push(format!(
                "{}: was empty, or its creation was cut short; starting without records",
                place.name
            ));
        }
        let cannot = |error| failed(&place, "cannot be opened", &error);
        let mut connection = connect(&place, cache_bytes / 2).map_err(cannot)?;
        if content == guard::Content::Nothing {
            schema::create(&mut connection).map_err(cannot)?;
        }
        schema::migrate(&mut connection, &place)?;
        write_ahead(&connection).map_err(cannot)?;
        let writer = Writer::new(connection).map_err(cannot)?;
        Ok(Sqlite {
            readers: Readers::new(cache_bytes / 2),
            writer: Some(writer),
            guard: Mutex::new(Some(guard)),
            warnings,
            place,
        })
    }

    /// Opens a file that is there for reading only, whether a broker uses it or not.
    pub fn open_to_read(path: &Path, cache_bytes: usize) -> Result<Sqlite, Error> {
        let place = Place::find(path)?;
        if place.look()? == guard::Content::Nothing {
            return Err(place.error("is empty: there is no store in it"));
        }
        let store = Sqlite {
            readers: Readers::new(cache_bytes),
            writer: None,
            guard: Mutex::new(None),
            warnings: Vec::new(),
            place,
        };
        store
            .readers
            .read(&store.place, |connection| Ok(schema::version(connection)))?
            .map_err(|error| failed(&store.place, "cannot be read", &error))
            .and_then(|version| schema::known(version, &store.place))?;
        Ok(store)
    }

    /// Opens a file that is there to change a record or two, whether a broker uses it or not.
    pub fn open_beside(path: &Path) -> Result<Sqlite, Error> {
        let mut store = Sqlite::open_to_read(path, CACHE_BESIDE)?;
        let cannot = |error| failed(&store.place, "cannot be opened", &error);
        let connection = connect(&store.place, CACHE_BESIDE).map_err(cannot)?;
        if !schema::is_current(&connection).map_err(cannot)? {
            let message =
                "of an earlier version of brokerlet; start a broker of this version on it first";
            return Err(store.place.error(message));
        }
        write_ahead(&connection).map_err(cannot)?;
        let writer = Writer::beside(connection)
            .map_err(|error| store.place.error(&format!("no random numbers: {error}")))?;
        store.writer = Some(writer);
        Ok(store)
    }

    /// What the operator should know about the file, found when it was opened: one line each, without a line end.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        self.close();
    }
}

impl Store for Sqlite {
    fn read(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, Error> {
        self.readers
            .read(&self.place, |connection| schema::read(connection, keys))
    }

    fn bindings(&self, instance_id: &str) -> Result<Vec<(String, Record)>, Error> {
        self.readers.read(&self.place, |connection| {
            schema::bindings(connection, instance_id)
        })
    }

    fn open_operations(&self) -> Result<Vec<Key>, Error> {
        self.readers.read(&self.place, schema::open_operations)
    }

    fn instances(&self, after: &str, most: usize) -> Result<Vec<(String, Record)>, Error> {
        self.readers.read(&self.place, |connection| {
            schema::instances(connection, after, most)
        })
    }

    fn commit(&self, changes: Vec<Change>) -> Result<Outcome, Error> {
        match &self.writer {
            Some(writer) => writer.commit(&self.place, changes),
            None => Err(self.place.error("was opened for reading only")),
        }
    }

    fn keeps_audit(&self) -> bool {
        true
    }

    /// Page by page: a reader that is slow does not hold up the log.
    fn audit(&self, since: u64, see: &mut SeeLine<'_>) -> Result<(), Error> {
        let mut last = (since, 0);
        loop {
            let page = self
                .readers
                .read(&self.place, |connection| schema::audit(connection, last))?;
            let Some((row, line)) = page.last() else {
                return Ok(());
            };
            last = (line.at, *row);
            for (_, line) in page {
                if see(line).is_break() {
                    return Ok(());
                }
            }
        }
    }

    fn forget_audit(&self, before: u64, most: usize) -> Result<usize, Error> {
        match &self.writer {
            Some(writer) => writer.forget_audit(&self.place, before, most),
            None => Err(self.place.error("was opened for reading only")),
        }
    }

    /// Leaves one file that is complete, unless another process still reads it: then the last one to close it does.
    fn close(&self) {
        self.readers.close();
        if let Some(writer) = &self.writer {
            writer.close();
        }
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        *guard = None;
    }

    fn describe(&self) -> String {
        format!("file:{}", self.place.name)
    }
}

/// A connection as all are: it makes no file, and waits for others.
fn connect(place: &Place, cache_bytes: usize) -> rusqlite::Result<Connection> {
    // Each is used by one thread at a time.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&place.path, flags)?;
    connection.busy_timeout(PATIENCE)?;
    // A negative number is of KiB.
    let kibibytes = i64::try_from(cache_bytes / 1024).unwrap_or(i64::MAX);
    connection.pragma_update(None, "cache_size", -kibibytes)?;
    Ok(connection)
}

/// What makes a commit durable, on the connection that writes.
fn write_ahead(connection: &Connection) -> rusqlite::Result<()> {
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
    let synchronous: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0))?;
    match (mode.as_str(), synchronous) {
        ("wal", 2) => Ok(()),
        _ => Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_PROTOCOL),
            Some(format!(
                "there is no write-ahead log on this file system (journal_mode {mode}, synchronous {synchronous})"
            )),
        )),
    }
}

/// SQLite's own words name no content: values are always bound.
fn failed(place: &Place, what: &str, error: &rusqlite::Error) -> Error {
    let rusqlite::Error::SqliteFailure(cause, _) = error else {
        return place.error(&format!("{what}: {error}"));
    };
    place.error(&match cause.code {
        ErrorCode::DatabaseCorrupt => format!("{DAMAGED} ({error})"),
        ErrorCode::NotADatabase => format!("not a store of brokerlet ({error}); {ELSEWHERE}"),
        ErrorCode::DatabaseBusy => format!("{what}: another process keeps it locked ({error})"),
        _ => format!("{what}: {error} (SQLite code {})", cause.extended_code),
    })
}

const DAMAGED: &str =
    "damaged; restore it from a backup, or move it away to start with an empty store";
const ELSEWHERE: &str = "set BROKER_STORE to another path";
