//! What an operator does with the file beside the broker: a copy, a check, compaction.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{Sqlite, connect, failed, schema};
use crate::store::Error;
use crate::store::inspect::{Inspect, Put, Refusal, Visit};

/// How many complaints of SQLite are told.
const COMPLAINTS: u32 = 100;

impl Inspect for Sqlite {
    fn each(&self, visit: &mut Visit<'_>) -> Result<(), Error> {
        self.readers
            .read(&self.place, |connection| schema::each(connection, visit))
    }

    fn fill(&self, source: &mut dyn FnMut(&mut Put<'_>) -> Result<(), Error>) -> Result<(), Error> {
        match &self.writer {
            Some(writer) => writer.fill(&self.place, source),
            None => Err(self.place.error("was opened for reading only")),
        }
    }

    fn backup(&self, target: &Path) -> Result<(), Refusal> {
        let cannot = |cause: &dyn std::fmt::Display| {
            Error::new(format!("{}: cannot be written: {cause}", target.display()))
        };
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        options.open(target).map_err(|cause| cannot(&cause))?;
        let copied = (|| {
            let path = target.to_str().ok_or("its name is not UTF-8")?;
            let connection = connect(&self.place, 1 << 20).map_err(|e| e.to_string())?;
            // SQLite fills a file that is empty, and does not sync it.
            connection
                .execute("VACUUM INTO ?", [path])
                .map_err(|e| e.to_string())?;
            let synced = File::open(target).and_then(|file| file.sync_all());
            synced.map_err(|e| e.to_string())
        })();
        copied.map_err(|cause: String| {
            let _ = fs::remove_file(target);
            cannot(&cause).into()
        })
    }

    fn check(&self) -> Result<Vec<String>, Error> {
        let lines: Vec<String> = self.readers.read(&self.place, |connection| {
            connection
                .prepare(&format!("PRAGMA integrity_check({COMPLAINTS})"))?
                .query_map([], |row| row.get(0))?
                .collect()
        })?;
        Ok(lines.into_iter().filter(|line| line != "ok").collect())
    }

    /// The file must have been opened with [`Sqlite::open`].
    fn compact(&self) -> Result<(), Refusal> {
        let connection = connect(&self.place, 1 << 20);
        connection
            .and_then(|connection| connection.execute_batch("VACUUM"))
            .map_err(|error| failed(&self.place, "cannot be compacted", &error).into())
    }
}
