//! What an operator does with a store beside the brokers that use it, or instead of them.

use super::{AuditLine, Change, Error, Key, Outcome, Record, Revision, Store};

use std::ops::ControlFlow;
use std::path::Path;

/// A record for [`Inspect::fill`].
pub struct Filling {
    pub key: Key,
    pub body: Vec<u8>,
    pub open: bool,
}

/// Sees a record, and whether it was put with `open`.
pub type Visit<'v> = dyn FnMut(Key, Record, bool) -> ControlFlow<()> + 'v;
/// Takes a record.
pub type Put<'p> = dyn FnMut(Filling) -> Result<(), Error> + 'p;

/// Why a store cannot be copied or compacted here: what an operator uses instead.
#[derive(Debug)]
pub enum Refusal {
    Unusable(Error),
    Instead(&'static str),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::Unusable(error)
    }
}

/// A store that can be looked into, and moved.
pub trait Inspect: Store {
    /// Shows every record to `visit` until that breaks off, all of one moment and without keeping them: the instances in the
    /// order of their ids, then the bindings in that of theirs.
    fn each(&self, visit: &mut Visit<'_>) -> Result<(), Error>;

    /// Puts the records that `source` gives into a store that has none: all of them, or, where `source` ends with an error or
    /// the store cannot be written, none. They are not kept in memory.
    fn fill(&self, source: &mut dyn FnMut(&mut Put<'_>) -> Result<(), Error>) -> Result<(), Error>;

    /// Removes an instance and its bindings, and adds a line to the audit trail, if they are still those that were read, and no other binding has come.
    fn forget(
        &self,
        instance: (&str, Revision),
        bindings: &[(String, Record)],
        line: Option<AuditLine>,
    ) -> Result<Outcome, Error> {
        self.commit(removal(instance, bindings, line))
    }

    /// Whether an operation on a record that is in progress is that of a broker that lives.
    fn is_worked_on(&self, _: &Key) -> Result<bool, Error> {
        Ok(false)
    }

    /// What is wrong with the structure of the store: one line each.
    fn check(&self) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    /// Writes a copy of one moment to a new file, for its owner alone. A copy that fails leaves no file.
    fn backup(&self, target: &Path) -> Result<(), Refusal>;

    /// Gives the space back that nothing is in.
    fn compact(&self) -> Result<(), Refusal>;
}

/// The changes of [`Inspect::forget`].
pub(super) fn removal(
    (instance, revision): (&str, Revision),
    bindings: &[(String, Record)],
    line: Option<AuditLine>,
) -> Vec<Change> {
    let delete = |key, revision| Change::Delete { key, revision };
    let bindings = bindings
        .iter()
        .map(|(id, record)| delete(Key::binding(instance, id), record.revision));
    std::iter::once(delete(Key::instance(instance), revision))
        .chain(bindings)
        .chain(line.map(Change::Audit))
        .collect()
}
