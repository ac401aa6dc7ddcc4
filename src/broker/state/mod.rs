//! Records in the store: typed reads, commits, tombstones, and what could not be written.

pub mod alarm;
mod counting;
mod found;
pub mod missing;
pub mod places;
mod tombstones;
pub mod walk;

use super::protocol::audit::{self, Entry};
use super::protocol::binding::record::Binding;
use super::protocol::error::Error;
use super::protocol::instance::record::Instance;
use super::protocol::operation::{self, Kind};
use super::protocol::subject::{self, Ended, Ending, Subject};
use super::protocol::tombstone::Tombstone;
use crate::log;
use crate::store::{self, AuditLine, Change, Key, Outcome, Record, Revision, Store};
use alarm::Alarm;
use found::put;
pub use found::{Found, read};
use places::Places;
use tombstones::{Kept, Tombstones};

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// How often a decision is made anew because somebody else was faster, before the request is refused.
const MAX_DECISIONS: usize = 100;

/// How many lines of the audit trail go in one commit: others wait for no more.
const LINES_AT_ONCE: usize = 500;
/// How many tombstones go in one commit: others wait for no more.
const FORGOTTEN_AT_ONCE: usize = 32;

/// What the broker knows, as it is in the store.
pub struct State {
    store: Box<dyn Store>,
    /// Records whose operation has ended, but whose outcome could not be written, with the id of that operation. Without one,
    /// whatever is in progress: the record could not even be read.
    unwritten: Mutex<HashMap<Key, Option<String>>>,
    tombstones: Tombstones,
    alarm: Arc<Alarm>,
    /// How long the audit trail is kept, if at all.
    audit_for: Mutex<Option<Duration>>,
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
            audit_for: Mutex::default(),
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

    /// `None` if somebody else was faster.
    fn commit(&self, changes: Vec<Change>) -> Result<Option<Revision>, Error> {
        Ok(match self.store.commit(changes)? {
            Outcome::Committed(revision) => Some(revision),
            Outcome::Conflict => None,
        })
    }

    /// From now on, the audit trail is kept for so long; with `None` there is none.
    pub fn keep_audit_for(&self, time: Option<Duration>) {
        let time = time.filter(|_| self.store.keeps_audit());
        *self
            .audit_for
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = time;
    }

    fn audit_for(&self) -> Option<Duration> {
        *self
            .audit_for
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The line of the audit trail, if one is kept.
    fn line<'e>(&self, entry: impl FnOnce() -> Option<Entry<'e>>) -> Option<AuditLine> {
        self.audit_for()?;
        entry()?.line(SystemTime::now())
    }

    /// How an operation has ended with its last attempt.
    pub fn ended(&self, key: &Key, subject: &Subject, outcome: subject::Outcome) -> Ended {
        Ended {
            line: self.line(|| Some(Entry::ended(key, subject, &outcome))),
            ending: subject.ending(outcome),
        }
    }

    /// Forgets the lines of the audit trail that have had their time, some at once, until it is told to stop.
    pub fn forget_old_audit(&self, now: SystemTime, stop: impl Fn() -> bool) {
        // Without a trail, what there was goes too.
        let Some(before) = now.checked_sub(self.audit_for().unwrap_or_default()) else {
            return;
        };
        while !stop() {
            let began = Instant::now();
            match self
                .store
                .forget_audit(audit::micros(before), LINES_AT_ONCE)
            {
                // Requests that wait for the store come first.
                Ok(LINES_AT_ONCE) => thread::sleep(began.elapsed()),
                Ok(_) => return,
                Err(error) => return log::warn("audit").with("error", &error.message).send(),
            }
        }
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
        let cut_off = self.line(|| Entry::cut_off(key, subject));
        let accepted = self.line(|| {
            let is_async = subject.operation().asynchronous;
            is_async.then(|| Entry::accepted(key, subject))
        });
        // In this order, however coarse the clock is.
        let after = cut_off.as_ref().map_or(0, |line| line.at + 1);
        let accepted = accepted.map(|line| AuditLine {
            at: line.at.max(after),
            ..line
        });
        let lines = [cut_off, accepted];
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

    /// Remembers tombstones that were found at the start.
    pub fn remember_tombstones(&self, found: Vec<(Key, Revision, Tombstone)>) {
        self.tombstones.fill(found);
    }

    /// Forgets the tombstones that have had their time, until it is told to stop: some at once, as long as no record has come
    /// in their place.
    pub fn forget_old_tombstones(&self, now: SystemTime, stop: impl Fn() -> bool) {
        while !stop() {
            let old = self.tombstones.take_old(now, FORGOTTEN_AT_ONCE);
            if old.is_empty() {
                return;
            }
            let change = |kept: &Kept| Change::Delete {
                key: kept.key.clone(),
                revision: kept.revision,
            };
            let together = self.store.commit(old.iter().map(change).collect());
            let one_by_one = || {
                let mut each = old.iter().map(|kept| self.store.commit(vec![change(kept)]));
                // A conflict means that there is a new record in its place.
                each.find_map(Result::err)
            };
            let error = match together {
                Ok(Outcome::Committed(_)) => None,
                Ok(Outcome::Conflict) => one_by_one(),
                Err(error) => Some(error),
            };
            if let Some(error) = error {
                self.tombstones.put_back(old);
                log::warn("tombstone").with("error", &error.message).send();
                return;
            }
        }
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

/// The change that writes a record with its operation in progress.
fn put_subject(key: &Key, revision: Revision, subject: &Subject) -> Result<Change, Error> {
    match subject {
        Subject::Instance(instance) => put(key.clone(), revision, instance, true),
        Subject::Binding(_, binding) => put(key.clone(), revision, binding, true),
    }
}

/// The changes that write an ending. With an instance, its bindings go, and what is remembered of them; also if it is kept.
fn changes(
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

/// 500: a record changed though its operation was in progress.
pub fn lost(key: &Key) -> Error {
    Error::internal(
        "The service broker lost track of this operation; the operator finds the cause in the broker's log.",
        format!("the record of {key:?} changed during its own operation"),
    )
}

#[cfg(test)]
mod tests;
