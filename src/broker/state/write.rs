//! Commits: what is written when an operation begins, goes on and ends.

use super::found::put;
use super::{IdleBinding, State, lost};
use crate::broker::protocol::audit::{self, Entry};
use crate::broker::protocol::error::Error;
use crate::broker::protocol::instance::record::Instance;
use crate::broker::protocol::operation::Kind;
use crate::broker::protocol::subject::{Ended, Ending, Subject};
use crate::broker::protocol::tombstone::Tombstone;
use crate::store::{Change, Key, Outcome, Revision};

use std::time::{Duration, SystemTime};

impl State {
    /// `None` if somebody else was faster.
    fn commit(&self, changes: Vec<Change>) -> Result<Option<Revision>, Error> {
        Ok(match self.store.commit(changes)? {
            Outcome::Committed(revision) => Some(revision),
            Outcome::Conflict => None,
        })
    }

    /// Writes a record that no operation is in progress on: an update that no adapter has to do with. `None` if somebody else was
    /// faster.
    pub fn write_instance(
        &self,
        id: &str,
        revision: Revision,
        instance: &Instance,
    ) -> Result<Option<Revision>, Error> {
        let key = Key::instance(id);
        let stamp = instance.updated.as_deref();
        let operation = Kind::Update.name();
        let entry =
            || Entry::of_instance(&key, instance, operation, audit::Outcome::Succeeded, stamp);
        let line = self.line(|| Some(entry())).map(Change::Audit);
        let put = put(key.clone(), revision, instance, false)?;
        self.commit([put].into_iter().chain(line).collect())
    }

    /// Writes a record with a new operation in progress. `expected` is what the commit is held to beside. `None` if somebody
    /// else was faster. If nobody knows whether it was written, it is settled before the next request about it.
    pub fn begin(
        &self,
        key: &Key,
        revision: Revision,
        subject: &Subject,
        expected: Option<Change>,
    ) -> Result<Option<Revision>, Error> {
        // In this order, however coarse the clock is.
        let now = SystemTime::now();
        let lines = [
            self.line_at(now, || Entry::cut_off(key, subject)),
            self.line_at(now + Duration::from_micros(1), || {
                let is_async = subject.operation().asynchronous;
                is_async.then(|| Entry::accepted(key, subject))
            }),
        ];
        let changes = [put_subject(key, revision, subject)?]
            .into_iter()
            .chain(expected)
            .chain(lines.into_iter().flatten().map(Change::Audit));
        let committed = self.store.commit(changes.collect());
        // Where nobody knows whether it was written, it has its place rather than not.
        let may_be_there = match &committed {
            Ok(outcome) => matches!(outcome, Outcome::Committed(_)),
            Err(error) => error.unknown,
        };
        if may_be_there && let Subject::Instance(instance) = subject {
            self.places.note(key, Some(instance));
        }
        match committed {
            Ok(Outcome::Committed(revision)) => Ok(Some(revision)),
            Ok(Outcome::Conflict) => Ok(None),
            Err(error) => {
                if error.unknown {
                    self.mark_unwritten(key, Some(&subject.operation().id));
                }
                Err(error.into())
            }
        }
    }

    /// Writes a record whose operation goes on. `None` if somebody else was faster.
    pub fn write_subject(
        &self,
        key: &Key,
        revision: Revision,
        subject: &Subject,
    ) -> Result<Option<Revision>, Error> {
        self.commit(vec![put_subject(key, revision, subject)?])
    }

    /// Writes how an operation has ended. `None` if somebody else was faster.
    pub fn write_ending(
        &self,
        key: &Key,
        revision: Revision,
        Ended { ending, line }: &Ended,
        expected: Option<Change>,
    ) -> Result<Option<Revision>, Error> {
        let now = SystemTime::now();
        let mut changes = changes(key, revision, ending, now)?;
        changes.extend(expected);
        changes.extend(line.clone().map(Change::Audit));
        let committed = self.commit(changes)?;
        if committed.is_some() {
            let left = match ending {
                Ending::Instance(instance) => Some(instance),
                _ => None,
            };
            self.places.note(key, left);
        }
        let due = match (ending, committed) {
            (Ending::Tombstone(_), Some(revision)) => {
                let too_many = self.tombstones.add(key.clone(), revision, now);
                too_many.then_some(now)
            }
            (Ending::Binding(binding), Some(_)) => binding.expires_at(),
            (Ending::Instance(instance), Some(_)) => instance.kept.map(|kept| kept.until.0),
            _ => None,
        };
        if let Some(time) = due {
            self.alarm.at(time);
        }
        Ok(committed)
    }

    /// Writes how an operation has ended whose record nobody else may touch while it is in progress. If that cannot be
    /// written, the record is settled before the next request about it. `operation` is its id.
    pub fn conclude(
        &self,
        key: &Key,
        revision: Revision,
        operation: &str,
        ended: &Ended,
    ) -> Result<(), Error> {
        let error = match self.write_ending(key, revision, ended, None) {
            Ok(Some(_)) => return Ok(()),
            Ok(None) => lost(key),
            Err(error) => Error {
                description: "The service broker could not write down what became of this request, and settles that before \
                              it answers the next one about it. Try again later; the operator finds the cause in the \
                              broker's log."
                    .into(),
                ..error
            },
        };
        self.mark_unwritten(key, Some(operation));
        Err(error)
    }

    /// Deletes a binding that was removed with its instance. `None` if somebody else was faster.
    pub fn delete_binding(
        &self,
        instance_id: &str,
        instance: &Instance,
        binding: &IdleBinding,
    ) -> Result<Option<Revision>, Error> {
        let key = Key::binding(instance_id, &binding.id);
        let line = self.line(|| Some(Entry::unbound(&key, instance, &binding.record)));
        let revision = binding.revision;
        let delete = Change::Delete {
            key: key.clone(),
            revision,
        };
        let changes = [delete].into_iter().chain(line.map(Change::Audit));
        self.commit(changes.collect())
    }
}

/// The change that writes a record with its operation in progress.
fn put_subject(key: &Key, revision: Revision, subject: &Subject) -> Result<Change, Error> {
    match subject {
        Subject::Instance(instance) => put(key.clone(), revision, instance, true),
        Subject::Binding(_, binding) => put(key.clone(), revision, binding, true),
    }
}

/// The changes that write an ending. With an instance, its bindings go, and what is remembered of them; also if it is kept.
pub(super) fn changes(
    key: &Key,
    revision: Revision,
    ending: &Ending,
    now: SystemTime,
) -> Result<Vec<Change>, Error> {
    let key = key.clone();
    let is_gone = match ending {
        Ending::Nothing | Ending::Tombstone(_) => true,
        Ending::Instance(instance) => instance.is_hidden(),
        Ending::Binding(_) => false,
    };
    let bindings = match &key {
        Key::Instance(instance) if is_gone => Some(Change::DeleteBindings {
            instance: instance.clone(),
        }),
        _ => None,
    };
    let change = match ending {
        Ending::Instance(instance) => put(key, revision, instance, false)?,
        Ending::Binding(binding) => put(key, revision, binding, false)?,
        Ending::Tombstone(operation) => {
            put(key, revision, &Tombstone::new(operation.clone(), now), true)?
        }
        Ending::Nothing => Change::Delete { key, revision },
    };
    Ok([change].into_iter().chain(bindings).collect())
}
