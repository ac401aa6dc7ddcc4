//! Which file it is, whether it is ours, and that one broker at a time uses it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::{DAMAGED, ELSEWHERE, schema};
use crate::store::Error;

/// A file, by its name and by what is there.
pub(super) struct Place {
    /// As the operator wrote it, for messages.
    pub(super) name: String,
    /// The same, absolute and without links, as SQLite names what lies beside it.
    pub(super) path: PathBuf,
    /// Device and number of the file when it was opened.
    identity: (u64, u64),
}

/// Held by the one broker that uses the file. It is on a file beside it: to close the database's own file anywhere in this
/// process would end SQLite's locks on it (POSIX locks belong to the process), and SQLite's readers are not to be refused.
pub(super) struct Guard {
    path: PathBuf,
    _file: File,
    created: bool,
}

/// What is in a file, as far as its first bytes tell.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    Nothing,
    Ours,
}

/// How long to wait for the lock. A broker that was killed while it started a program has left its lock to that program, for
/// the moment until the program runs.
const LOCK_LIMIT: Duration = Duration::from_secs(1);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

const IN_USE: &str =
    "in use by another process; stop the other broker or set BROKER_STORE to another path";

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn owned(mut options: OpenOptions, path: &Path) -> io::Result<File> {
    options.read(true).write(true).mode(0o600).open(path)
}

impl Place {
    /// A file that is there.
    pub(super) fn find(path: &Path) -> Result<Place, Error> {
        let name = path.display().to_string();
        let unusable = |cause| Error::new(format!("{name}: cannot be opened: {cause}"));
        let path = fs::canonicalize(path).map_err(unusable)?;
        let metadata = fs::metadata(&path).map_err(unusable)?;
        let identity = (metadata.dev(), metadata.ino());
        let place = Place {
            name,
            path,
            identity,
        };
        match metadata.is_file() {
            true => Ok(place),
            false => Err(place.error("not a regular file")),
        }
    }

    /// Makes the file where there is none, and keeps other brokers out. The last of the three is what the operator should
    /// know.
    pub(super) fn claim(path: &Path) -> Result<(Place, Guard, Vec<String>), Error> {
        let name = path.display();
        let error = |message: String| Error::new(format!("{name}: {message}"));
        let mut new = OpenOptions::new();
        new.create_new(true);
        let created = match owned(new, path) {
            Ok(_) => true,
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => false,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
                let folder = path.parent().unwrap_or(&path).display();
                return Err(error(format!(
                    "cannot be created: there is no folder {folder}"
                )));
            }
            Err(cause) => return Err(error(format!("cannot be created: {cause}"))),
        };
        let place = Place::find(path)?;
        let guard = Guard::take(&place, created)?;
        let mode = fs::metadata(&place.path).map_or(0, |found| found.permissions().mode() & 0o777);
        let mut warnings = Vec::new();
        if mode & 0o077 != 0 {
            warnings.push(format!(
                "{name}: mode {mode:04o} lets other users at the credentials in it; run: chmod 600 {name}"
            ));
        }
        Ok((place, guard, warnings))
    }

    pub(super) fn error(&self, message: &str) -> Error {
        Error::new(format!("{}: {message}", self.name))
    }

    /// Looks at the file's header, before SQLite does: what is not ours stays as it is.
    /// (<https://sqlite.org/fileformat2.html#the_database_header>)
    pub(super) fn look(&self) -> Result<Content, Error> {
        let mut header = Vec::new();
        let file = owned(OpenOptions::new(), &self.path).map_err(|cause| {
            self.error(&format!(
                "cannot be opened for reading and writing: {cause}"
            ))
        })?;
        file.take(100)
            .read_to_end(&mut header)
            .map_err(|cause| self.error(&format!("cannot be read: {cause}")))?;
        if header.is_empty() {
            // SQLite would throw the log away.
            let log = fs::metadata(beside(&self.path, "-wal"));
            return match log.is_ok_and(|log| log.len() > 0) {
                true => Err(self.error(&format!("{DAMAGED} (it is empty, but its log is not)"))),
                false => Ok(Content::Nothing),
            };
        }
        let number = |at: usize| {
            let bytes = header.get(at..at + 4)?.try_into().ok()?;
            Some(i32::from_be_bytes(bytes))
        };
        let (true, Some(version), Some(application)) = (
            header.starts_with(b"SQLite format 3\0"),
            number(60),
            number(68),
        ) else {
            return Err(self.error(&format!("not a store of brokerlet; {ELSEWHERE}")));
        };
        if application != schema::APPLICATION {
            return Err(self.error(&format!(
                "a SQLite database, but not of brokerlet; {ELSEWHERE}"
            )));
        }
        schema::known(version, self)?;
        Ok(Content::Ours)
    }

    /// Refuses to go on where the file was removed or replaced behind our back: what is written then would be gone with
    /// the process.
    pub(super) fn same_file(&self) -> Result<(), Error> {
        match fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) != self.identity => {
                Err(self.error("replaced by another file while in use; restart the broker"))
            }
            Ok(found) if found.len() == 0 => {
                Err(self.error("emptied while in use; stop the broker and restore a backup"))
            }
            Ok(_) => Ok(()),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                Err(self.error("removed while in use; put it back or restart the broker"))
            }
            Err(cause) => Err(self.error(&format!("cannot be reached any more: {cause}"))),
        }
    }
}

impl Guard {
    fn take(place: &Place, created: bool) -> Result<Guard, Error> {
        let path = beside(&place.path, "-lock");
        let cannot = |cause: io::Error| {
            place.error(&format!("{} cannot be locked: {cause}", path.display()))
        };
        let end = Instant::now() + LOCK_LIMIT;
        loop {
            let mut options = OpenOptions::new();
            options.create(true).truncate(false);
            let file = owned(options, &path).map_err(cannot)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if Instant::now() < end => {
                    thread::sleep(LOCK_PAUSE);
                    continue;
                }
                Err(TryLockError::WouldBlock) => return Err(place.error(IN_USE)),
                Err(TryLockError::Error(cause)) => return Err(cannot(cause)),
            }
            // Who had it before has removed it by now, perhaps.
            let locked = file.metadata().map_err(cannot)?;
            if fs::metadata(&path).is_ok_and(|found| found.ino() == locked.ino()) {
                return Ok(Guard {
                    path,
                    _file: file,
                    created,
                });
            }
        }
    }

    /// Whether the file was made by this process.
    pub(super) fn is_new(&self) -> bool {
        self.created
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // While it is still held.
        let _ = fs::remove_file(&self.path);
    }
}
