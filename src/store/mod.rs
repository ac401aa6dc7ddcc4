//! What must survive: records of instances and bindings, behind one trait.
//!
//! A store keeps opaque bodies under typed keys and knows nothing of the lifecycles. Every change is a
//! compare-and-set on the revision that was read, so that concurrent requests, and several brokers on one state,
//! meet the same rule; no lock is held while an adapter works.

pub mod contract;
pub mod counted;
mod group;
pub mod inspect;
pub mod memory;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod sealed;
pub mod sqlite;

use std::fmt;
use std::ops::ControlFlow;

/// Which record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    Instance(String),
    /// Instance id, binding id.
    Binding(String, String),
}

impl Key {
    pub fn instance(id: &str) -> Key {
        Key::Instance(id.to_owned())
    }

    pub fn binding(instance_id: &str, id: &str) -> Key {
        Key::Binding(instance_id.to_owned(), id.to_owned())
    }
}

/// Names one state of one record. Never used again for another state of the same record, not even after the record
/// was deleted and made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision of what is not there.
    pub const ABSENT: Revision = Revision(0);
}

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub revision: Revision,
    pub body: Vec<u8>,
    /// It was put with `open`, by another broker on the same state.
    pub elsewhere: bool,
}

/// One step of a commit. `revision` is what the caller read: where the record is of another revision by now, the
/// whole commit is refused. [`Revision::ABSENT`] stands for "there is none".
#[derive(Debug, Clone)]
pub enum Change {
    /// Changes nothing, but holds the commit to what was read.
    Expect {
        key: Key,
        revision: Revision,
    },
    /// Writes the record under a new revision. `open` says that an operation on it is in progress, so that
    /// [`Store::open_operations`] finds it after a crash.
    Put {
        key: Key,
        revision: Revision,
        body: Vec<u8>,
        open: bool,
    },
    Delete {
        key: Key,
        revision: Revision,
    },
    /// Deletes every binding of an instance, also one that came after the caller looked.
    DeleteBindings {
        instance: String,
    },
    /// Adds a line to the audit trail, where the store keeps one.
    Audit(AuditLine),
}

/// A line of the audit trail: added with a change, and never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLine {
    /// In microseconds since 1970.
    pub at: u64,
    pub text: Vec<u8>,
}

/// Sees a line of the audit trail.
pub type SeeLine<'v> = dyn FnMut(AuditLine) -> ControlFlow<()> + 'v;

/// What became of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// Everything was written, and is durable as far as the store is. Its puts have this revision.
    Committed(Revision),
    /// Some record was not of the revision expected; nothing was written. Read again and decide again.
    Conflict,
}

/// The store cannot do what it is for: the disk is full, the file is gone, the database does not answer.
#[derive(Debug, Clone)]
pub struct Error {
    /// Says what was tried, on which file or database, and what came back. For the log and the operator.
    pub message: String,
    /// Of a commit: nobody knows whether it was written.
    pub unknown: bool,
}

impl Error {
    /// Nothing was written.
    pub fn new(message: impl Into<String>) -> Error {
        Error {
            message: message.into(),
            unknown: false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Where records live. Every implementation passes [`contract`].
pub trait Store: Send + Sync {
    /// The records of these keys, all of one moment.
    fn read(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, Error>;

    /// The bindings of an instance with their ids, in the order of the ids.
    fn bindings(&self, instance_id: &str) -> Result<Vec<(String, Record)>, Error>;

    /// The next instances behind this id, in the order of their ids, and at most so many. Behind the empty id are all.
    fn instances(&self, after: &str, most: usize) -> Result<Vec<(String, Record)>, Error>;

    /// The keys of the records that were last put with `open`. With a store that is shared, those of this broker.
    fn open_operations(&self) -> Result<Vec<Key>, Error>;

    /// All of the changes or none of them. When this returns [`Outcome::Committed`], the changes are on disk. The changes of one
    /// commit name each key at most once.
    fn commit(&self, changes: Vec<Change>) -> Result<Outcome, Error>;

    /// Whether it keeps the audit trail.
    fn keeps_audit(&self) -> bool {
        false
    }

    /// Shows the lines of the audit trail from this time on, in their order, until `see` breaks off. They are not kept in memory.
    fn audit(&self, _since: u64, _see: &mut SeeLine<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// Forgets lines of the audit trail that are older than this, and at most so many. Returns how many it were.
    fn forget_audit(&self, _before: u64, _most: usize) -> Result<usize, Error> {
        Ok(0)
    }

    /// Whether several brokers may use it at once.
    fn is_shared(&self) -> bool {
        false
    }

    /// Makes the open records of brokers that are gone this broker's, each under a new revision, and returns their keys.
    fn take_over(&self) -> Result<Vec<Key>, Error> {
        Ok(Vec::new())
    }

    /// Leaves everything in order, when nothing more is asked of it. What was committed is durable without that.
    fn close(&self) {}

    /// What and where, for the start line: `memory`, `file:brokerlet.db`.
    fn describe(&self) -> String;
}
