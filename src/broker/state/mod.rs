//! Records in the store: typed reads, and what could not be written. [`write`] has the commits, [`forget`] what goes when it has
//! had its time.

pub mod alarm;
mod counting;
mod forget;
mod found;
pub mod missing;
pub mod places;
mod tombstones;
mod trail;
pub mod walk;
mod write;

use super::protocol::binding::record::Binding;
use super::protocol::error::Error;
use super::protocol::instance::record::Instance;
use super::protocol::operation;
use super::protocol::subject::Subject;
use super::protocol::tombstone::Tombstone;
use crate::store::{self, Key, Record, Revision, Store};
use alarm::Alarm;
pub use found::{Found, read};
use places::Places;
use tombstones::Tombstones;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// How often a decision is made anew because somebody else was faster, before the request is refused.
const MAX_DECISIONS: usize = 100;

/// What the broker knows, as it is in the store.
pub struct State {
    store: Box<dyn Store>,
    /// Records whose operation has ended, but whose outcome could not be written, with the id of that operation. Without one,
    /// whatever is in progress: the record could not even be read.
    unwritten: Mutex<HashMap<Key, Option<String>>>,
    tombstones: Tombstones,
    alarm: Arc<Alarm>,
    /// How long the audit trail is kept, if at all.
    audit_for: OnceLock<Duration>,
    places: Places,
}

/// A record and what must be known with it, as it was read.
pub struct Located {
    pub revision: Revision,
    pub subject: Subject,
    /// Another broker works on it.
    pub elsewhere: bool,
}

/// A binding that no operation is in progress on.
pub struct IdleBinding {
    pub id: String,
    pub revision: Revision,
    pub record: Binding,
}

impl State {
    pub fn new(store: Box<dyn Store>) -> State {
        State {
            store,
            unwritten: Mutex::default(),
            tombstones: Tombstones::default(),
            alarm: Arc::default(),
            audit_for: OnceLock::new(),
            places: Places::default(),
        }
    }

    /// Whether the store can be read.
    pub fn check(&self) -> Result<(), store::Error> {
        self.store.read(&[Key::instance("")]).map(|_| ())
    }

    /// Rings when something is due that nobody asks for.
    pub fn alarm(&self) -> &Arc<Alarm> {
        &self.alarm
    }

    /// Leaves the store in order.
    pub fn close(&self) {
        self.store.close();
    }

    /// One that was deprovisioned and is kept is as good as gone.
    pub fn instance(&self, id: &str) -> Result<Found<Instance>, Error> {
        let mut records = self.store.read(&[Key::instance(id)])?.into_iter();
        Found::visible(records.next().flatten())
    }

    /// An instance and one of its bindings, of one moment.
    pub fn binding(
        &self,
        instance_id: &str,
        id: &str,
    ) -> Result<(Found<Instance>, Found<Binding>), Error> {
        let keys = [Key::instance(instance_id), Key::binding(instance_id, id)];
        let mut records = self.store.read(&keys)?.into_iter();
        Ok((
            Found::visible(records.next().flatten())?,
            Found::new(records.next().flatten())?,
        ))
    }

    /// A record and what must be known with it; `None` if there is none, or only a binding whose instance is gone.
    pub fn subject(&self, key: &Key) -> Result<Option<Located>, Error> {
        let (subject, revision, elsewhere) = match key {
            Key::Instance(_) => {
                // Also one that is hidden: it may be about to be removed.
                let found = Found::<Instance>::new(self.record(key)?)?;
                let subject = found
                    .record
                    .map(|instance| Subject::Instance(instance.into()));
                (subject, found.revision, found.elsewhere)
            }
            Key::Binding(instance_id, id) => {
                let (instance, found) = self.binding(instance_id, id)?;
                let records = instance.record.zip(found.record);
                let subject = records
                    .map(|(instance, binding)| Subject::Binding(instance.into(), binding.into()));
                (subject, found.revision, found.elsewhere)
            }
        };
        Ok(subject.map(|subject| Located {
            revision,
            subject,
            elsewhere,
        }))
    }

    /// A record as it is.
    pub fn record(&self, key: &Key) -> Result<Option<Record>, store::Error> {
        let mut records = self.store.read(std::slice::from_ref(key))?.into_iter();
        Ok(records.next().flatten())
    }

    /// The next records of instances behind this id, in the order of their ids, and at most so many.
    pub fn instances(
        &self,
        after: &str,
        most: usize,
    ) -> Result<Vec<(String, Record)>, store::Error> {
        self.store.instances(after, most)
    }

    /// The records of all bindings of an instance.
    pub fn bindings(&self, instance_id: &str) -> Result<Vec<(String, Record)>, store::Error> {
        self.store.bindings(instance_id)
    }

    /// The bindings of an instance, or 422 if an operation is in progress on one of them.
    pub fn idle_bindings(&self, instance_id: &str) -> Result<Vec<IdleBinding>, Error> {
        let mut bindings = Vec::new();
        for (id, found) in self.store.bindings(instance_id)? {
            let revision = found.revision;
            let Some(record) = Found::<Binding>::new(Some(found))?.record else {
                continue;
            };
            if record.operation.in_progress() {
                let key = Key::binding(instance_id, &id);
                return Err(operation::busy(&key, record.operation.kind));
            }
            bindings.push(IdleBinding {
                id,
                revision,
                record,
            });
        }
        Ok(bindings)
    }

    /// The keys of this broker's records with an operation in progress, and of its tombstones.
    pub fn open_operations(&self) -> Result<Vec<Key>, store::Error> {
        self.store.open_operations()
    }

    /// Whether other brokers use the store as well.
    pub fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    /// The same of brokers that are gone; they are this broker's now.
    pub fn take_over(&self) -> Result<Vec<Key>, store::Error> {
        self.store.take_over()
    }

    /// What is left of a record that is no more, if anything is.
    pub fn tombstone(&self, key: &Key) -> Result<Option<(Revision, Tombstone)>, Error> {
        let mut records = self.store.read(std::slice::from_ref(key))?.into_iter();
        let record = records.next().flatten();
        Ok(record.and_then(|record| {
            let tombstone = serde_json::from_slice(&record.body).ok()?;
            Some((record.revision, tombstone))
        }))
    }

    /// Makes a decision again until nobody else was faster: `decision` returns `None` after a conflict.
    pub fn decide<T>(
        &self,
        mut decision: impl FnMut() -> Result<Option<T>, Error>,
    ) -> Result<T, Error> {
        for _ in 0..MAX_DECISIONS {
            if let Some(result) = decision()? {
                return Ok(result);
            }
        }
        Err(Error::concurrency(
            "Too many requests change the same service instance at the same time. Try again.",
        ))
    }

    /// The outcome of this record's operation could not be written. `None` stands for whatever is in progress.
    pub fn mark_unwritten(&self, key: &Key, operation: Option<&str>) {
        let operation = operation.map(str::to_owned);
        self.unwritten().entry(key.clone()).or_insert(operation);
    }

    /// Records of an instance, or of all, whose outcome could not be written.
    pub fn unwritten_of(&self, instance_id: Option<&str>) -> Vec<Key> {
        let of_instance = |key: &&Key| match key {
            Key::Instance(id) | Key::Binding(id, _) => {
                instance_id.is_none_or(|wanted| id == wanted)
            }
        };
        let unwritten = self.unwritten();
        unwritten.keys().filter(of_instance).cloned().collect()
    }

    /// The operation of this record whose outcome is still to be written. Whoever asks has to write it; nobody else is told so.
    pub fn take_unwritten(&self, key: &Key) -> Option<Option<String>> {
        self.unwritten().remove(key)
    }

    fn unwritten(&self) -> MutexGuard<'_, HashMap<Key, Option<String>>> {
        self.unwritten
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// 500: a record changed though its operation was in progress.
pub fn lost(key: &Key) -> Error {
    Error::internal(
        "The service broker lost track of this operation; the operator finds the cause in the broker's log.",
        format!("the record of {key:?} changed during its own operation"),
    )
}

#[cfg(test)]
mod tests;
