//! Records in one file, on redb: the store of a single broker.
//!
//! Everything runs on the caller's thread. Commits that meet go into one transaction ([`writer`]), which is durable as soon
//! as it is in the [`journal`]. [`disk`] sees to it that an error is an error: what was answered with one does not come to
//! light later. [`tables`] is how records lie in the file.

mod disk;
mod journal;
mod tables;
mod writer;

#[cfg(test)]
mod tests;

use std::fs::{self, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::thread;
use std::time::{Duration, Instant};

use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase,
    StorageBackend, StorageError,
};

use self::disk::{Disk, Handle};
use self::journal::{Journal, Unusable};
use self::tables::{Applied, Content, Revisions};
use self::writer::{Ledger, Writer};
use super::{Change, Error, Key, Outcome, Record, Store};

/// A store in one file, which no other process can use meanwhile.
pub struct File {
    shared: Shared,
    writer: Writer,
    warnings: Vec<String>,
}

/// The file and the database in it.
struct Shared {
    /// As the operator wrote it, for messages.
    name: String,
    /// The same, absolute.
    path: PathBuf,
    /// Kept open as long as the store is, so that a fault never leads to another file of the same name.
    file: fs::File,
    /// Where its journal is, or would be.
    journal: PathBuf,
    cache_bytes: usize,
    wrap: Wrap,
    /// `None` where the database could not be opened again after a fault, and after the end.
    live: RwLock<Option<Live>>,
    /// It is not to be opened again.
    closed: AtomicBool,
}

/// An open database.
struct Live {
    db: Database,
    disk: Arc<Disk>,
}

/// Puts something between the store and the file; tests let it fail.
type Wrap = Box<dyn Fn(FileBackend) -> Box<dyn StorageBackend> + Send + Sync>;

impl File {
    /// Opens the file, or makes it, with access for its owner alone.
    ///
    /// `cache_bytes` limits what redb keeps in memory of the file. Beyond it there are the commits in flight and the
    /// allocator's bitmaps, some 0.3 MB for every 4 GiB of file, so memory does not grow with the number of records.
    ///
    /// Errors name the file and leave it as it was: another process uses it, it is of a newer format, damaged, not a
    /// store at all, without its journal, or cannot be reached. A file that was not closed (kill -9, power loss) is
    /// repaired in opening.
    pub fn open(path: &Path, cache_bytes: usize) -> Result<File, Error> {
        File::open_through(path, cache_bytes, Box::new(|file| Box::new(file)))
    }

    fn open_through(path: &Path, cache_bytes: usize, wrap: Wrap) -> Result<File, Error> {
        let name = path.display().to_string();
        let error = |message: String| Error {
            message: format!("{name}: {message}"),
        };
        let unusable = |cause: io::Error| error(format!("cannot be opened: {cause}"));
        let path = std::path::absolute(path).map_err(unusable)?;
        let (file, created) = open_file(&path).map_err(|cause| match path.parent() {
            Some(folder) if cause.kind() == io::ErrorKind::NotFound => error(format!(
                "cannot be created: there is no folder {}",
                folder.display()
            )),
            _ => error(format!("cannot be opened for reading and writing: {cause}")),
        })?;
        let metadata = file.metadata().map_err(unusable)?;
        if !metadata.is_file() {
            return Err(error("not a regular file".to_owned()));
        }
        // redb locks the file as well. This lock comes first, so that nothing is looked at while another broker writes.
        match lock(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(error(IN_USE.to_owned())),
            Err(TryLockError::Error(cause)) => {
                return Err(error(format!("cannot be locked: {cause}")));
            }
        }
        let mut warnings = Vec::new();
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            warnings.push(format!(
                "{name}: mode {mode:04o} lets other users at the credentials in it; run: chmod 600 {name}"
            ));
        }
        let unfinished = !created && was_never_finished(&file).map_err(unusable)?;
        if unfinished {
            file.set_len(0).map_err(unusable)?;
            warnings.push(format!(
                "{name}: was empty, or its creation was cut short; starting without records"
            ));
        }

        let journal = journal::path_of(&path);
        let mut shared = Shared {
            name: name.clone(),
            path,
            file,
            journal,
            cache_bytes,
            wrap,
            live: RwLock::new(None),
            closed: AtomicBool::new(false),
        };
        let (live, ledger) = shared.open()?;
        if created || unfinished {
            sync_folder(&shared.path).map_err(unusable)?;
        }
        if ledger.journal.is_none() {
            warnings.extend(shared.slow_without_journal());
        }
        shared.live = RwLock::new(Some(live));
        Ok(File {
            shared,
            writer: Writer::new(ledger),
            warnings,
        })
    }

    /// What the operator should know about the file, found when it was opened: one line each, without a line end.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }

    /// Runs `read` in a read transaction. Where the file has failed, it is first opened again: otherwise a broker that
    /// reads before it writes would never get to the write that mends the store. Where that does not succeed, redb may
    /// still have in memory what is asked for.
    fn reading<T>(
        &self,
        read: impl Fn(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, Error> {
        let mended = self.mend();
        match self.shared.try_reading(&read) {
            // It failed just now.
            Err(_) if mended.is_ok() && !self.shared.usable() => {
                self.mend()?;
                self.shared.try_reading(&read)
            }
            Err(error) => Err(mended.err().unwrap_or(error)),
            found => found,
        }
    }

    fn mend(&self) -> Result<(), Error> {
        match self.shared.usable() {
            true => Ok(()),
            false => self.writer.mend(&self.shared),
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.close();
    }
}

impl Store for File {
    fn read(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, Error> {
        self.reading(|txn| tables::read(txn, keys))
    }

    fn bindings(&self, instance_id: &str) -> Result<Vec<(String, Record)>, Error> {
        self.reading(|txn| tables::bindings(txn, instance_id))
    }

    fn instances(&self, after: &str, most: usize) -> Result<Vec<(String, Record)>, Error> {
        self.reading(|txn| tables::instances(txn, after, most))
    }

    fn open_operations(&self) -> Result<Vec<Key>, Error> {
        self.reading(tables::open_operations)
    }

    fn commit(&self, changes: Vec<Change>) -> Result<Outcome, Error> {
        self.writer.commit(&self.shared, changes)
    }

    /// Leaves one file that is complete, where it can; else the journal stays, and the next open takes it up.
    fn close(&self) {
        self.writer.close(&self.shared);
    }

    fn describe(&self) -> String {
        format!("file:{}", self.shared.name)
    }
}

/// How long to wait for a lock. A broker that was killed while it started a program has left its lock to that program, for
/// the moment until the program runs.
const LOCK_LIMIT: Duration = Duration::from_secs(1);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

fn lock(file: &fs::File) -> Result<(), TryLockError> {
    let end = Instant::now() + LOCK_LIMIT;
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < end => thread::sleep(LOCK_PAUSE),
            result => return result,
        }
    }
}

const IN_USE: &str =
    "in use by another process; stop the other broker or set BROKER_STORE to another path";

impl Shared {
    fn error(&self, message: &str) -> Error {
        Error {
            message: format!("{}: {message}", self.name),
        }
    }

    fn closed(&self) -> Error {
        self.error(match self.closed.load(Ordering::Acquire) {
            true => "closed",
            false => "closed after an error, and could not be opened again yet",
        })
    }

    /// The operating system's own words where there are any: redb's later errors only say that there was an earlier one.
    fn failed(&self, what: &str, disk: &Disk, error: &redb::Error) -> Error {
        match disk.fault() {
            Some(fault) => self.error(&format!("{what}: {fault}")),
            None => self.error(&format!("{what}: {error}")),
        }
    }

    fn usable(&self) -> bool {
        self.live().as_ref().is_some_and(|live| !live.disk.failed())
    }

    fn live(&self) -> RwLockReadGuard<'_, Option<Live>> {
        self.live.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_reading<T>(
        &self,
        read: impl Fn(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, Error> {
        let live = self.live();
        let Some(live) = live.as_ref() else {
            return Err(self.closed());
        };
        // redb checks no page when it reads one, and may panic on a damaged one.
        match catch_unwind(AssertUnwindSafe(|| read(&live.db.begin_read()?))) {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(self.failed("cannot be read", &live.disk, &error)),
            Err(_) => Err(self.error(DAMAGED)),
        }
    }

    /// Opens the database in the file, and makes it a store where it is new. Nothing is written before the content was
    /// found to be a store that this version knows.
    fn open(&self) -> Result<(Live, Ledger), Error> {
        let backend = self
            .file
            .try_clone()
            .map_err(DatabaseError::from)
            .and_then(FileBackend::new);
        let backend = backend.map_err(|cause| self.refused(cause))?;
        let exists = self
            .file
            .metadata()
            .map_or(true, |metadata| metadata.len() > 0);
        let disk = Arc::new(Disk::new((self.wrap)(backend), exists));
        // Like reading, opening may panic on a damaged file.
        let opened = catch_unwind(AssertUnwindSafe(|| self.open_on(&disk)));
        let (db, ledger) = opened.unwrap_or_else(|_| Err(self.error(DAMAGED)))?;
        Ok((Live { db, disk }, ledger))
    }

    fn open_on(&self, disk: &Arc<Disk>) -> Result<(Database, Ledger), Error> {
        let failed = |error: redb::Error| self.failed("cannot be opened", disk, &error);
        let db = Builder::new()
            .set_cache_size(self.cache_bytes)
            .create_with_backend(Handle(Arc::clone(disk)))
            .map_err(|cause| self.refused(cause))?;
        let content = tables::content(&db).map_err(failed)?;
        let mut journal = None;
        match content {
            Content::Nothing | Content::Ours(None) => {}
            Content::Ours(Some(applied)) => journal = self.open_journal(applied)?,
            Content::Newer(format) => {
                return Err(self.error(&format!(
                    "written by a newer brokerlet, in format {format}; this one knows formats up to {}",
                    tables::FORMAT
                )));
            }
            Content::Foreign => {
                return Err(self.error(
                    "a redb database, but not of brokerlet; set BROKER_STORE to another path",
                ));
            }
        }
        let cannot_write = |cause: io::Error| self.error(&format!("cannot be written: {cause}"));
        disk.release().map_err(cannot_write)?;
        if content == Content::Nothing {
            tables::create(&db).map_err(failed)?;
        }
        let journal = match journal {
            None => None,
            Some((journal, content)) => {
                take_up(&db, &content).map_err(failed)?;
                Some(journal)
            }
        };
        let revisions = Revisions::load(&db).map_err(failed)?;
        Ok((db, Ledger { revisions, journal }))
    }

    /// `None` where somebody has emptied the journal.
    fn open_journal(&self, applied: Applied) -> Result<Option<(Journal, journal::Content)>, Error> {
        let name = self.journal.display();
        let complaint = match Journal::open(&self.journal, &self.wrap, applied) {
            Ok(opened) => return Ok(Some(opened)),
            Err(Unusable::Empty) => return Ok(None),
            Err(Unusable::Missing) => "is missing".to_owned(),
            Err(Unusable::Foreign) => "is there, but is that of another store".to_owned(),
            Err(Unusable::Damaged) => "is damaged".to_owned(),
            Err(Unusable::Io(cause)) => {
                return Err(self.error(&format!("its journal {name} cannot be read: {cause}")));
            }
        };
        Err(self.error(&format!(
            "was not closed, and its journal {name}, which has what was written last, {complaint}; restore the two \
             together, or, to go on without it, put an empty file in its place"
        )))
    }

    /// What keeps a journal from being made, as a warning.
    fn slow_without_journal(&self) -> Option<String> {
        let cause = journal::obstacle(&self.journal)?;
        Some(format!(
            "{}: writes are slower without a journal: {}: {cause}",
            self.name,
            self.journal.display()
        ))
    }

    fn refused(&self, cause: DatabaseError) -> Error {
        let message = match cause {
            DatabaseError::DatabaseAlreadyOpen => IN_USE.to_owned(),
            DatabaseError::UpgradeRequired(version) => {
                format!("of redb's old file format {version}, which this version cannot read")
            }
            DatabaseError::Storage(StorageError::Io(cause))
                if cause.kind() == io::ErrorKind::InvalidData =>
            {
                format!("not a store of brokerlet ({cause}); set BROKER_STORE to another path")
            }
            DatabaseError::Storage(StorageError::Corrupted(cause)) => {
                format!("{DAMAGED} ({cause})")
            }
            DatabaseError::Storage(StorageError::Io(cause))
                if cause.kind() == io::ErrorKind::UnexpectedEof =>
            {
                format!("{DAMAGED} (it ends too early)")
            }
            cause => format!("cannot be opened: {cause}"),
        };
        self.error(&message)
    }

    /// Refuses to go on where the file was removed or replaced behind our back: what is written then would be gone
    /// with the process.
    fn same_file(&self) -> Result<(), Error> {
        let ours = self.file.metadata().map(|metadata| identity(&metadata));
        match (fs::metadata(&self.path), ours) {
            (Ok(found), Ok(ours)) if identity(&found) == ours => Ok(()),
            (Ok(_), Ok(_)) => {
                Err(self.error("replaced by another file while in use; restart the broker"))
            }
            (Err(cause), _) if cause.kind() == io::ErrorKind::NotFound => {
                Err(self.error("removed while in use; put it back or restart the broker"))
            }
            (Err(cause), _) | (_, Err(cause)) => {
                Err(self.error(&format!("cannot be reached any more: {cause}")))
            }
        }
    }
}

/// Which file it is, whatever its name is now: device and number.
type Identity = (u64, u64);

fn identity(metadata: &fs::Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// Makes the name of a new file durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// What was in the journal alone is in the database from now on, though not yet durable there.
fn take_up(db: &Database, content: &journal::Content) -> Result<(), redb::Error> {
    let mut txn = db.begin_write()?;
    txn.set_durability(Durability::None)?;
    tables::apply(&txn, content.entries())?;
    Ok(txn.commit()?)
}

const DAMAGED: &str =
    "damaged; restore it from a backup, or move it away to start with an empty store";

/// The file, and whether it is new.
fn open_file(path: &Path) -> io::Result<(fs::File, bool)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    match options.clone().create_new(true).open(path) {
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
            Ok((options.open(path)?, false))
        }
        result => Ok((result?, true)),
    }
}

/// A file that redb has begun is of whole pages, and smaller than this (72 KiB with redb 4.6).
const UNFINISHED_BYTES: u64 = 1 << 20;
const PAGE_BYTES: u64 = 4096;
const MAGIC_BYTES: usize = 9;
const HEADER_BYTES: usize = 320;

/// Whether the file is what a process leaves that is killed while it makes one: empty, or zeros but for redb's header,
/// which gets its first bytes last.
fn was_never_finished(file: &fs::File) -> io::Result<bool> {
    let length = file.metadata()?.len();
    if length > UNFINISHED_BYTES || !length.is_multiple_of(PAGE_BYTES) {
        return Ok(false);
    }
    let mut content = vec![0; length as usize];
    file.read_exact_at(&mut content, 0)?;
    let is_zero =
        |bytes: Option<&[u8]>| bytes.is_none_or(|bytes| bytes.iter().all(|byte| *byte == 0));
    let magic = content.get(..MAGIC_BYTES.min(content.len()));
    Ok(is_zero(magic) && is_zero(content.get(HEADER_BYTES..)))
}
