//! What a crash has cut off. Asynchronous operations go on: the platform polls for their end. To a synchronous request
//! the platform got no answer, so what may have been made is taken back, and what was to be removed is removed.

use super::error::Error;
use super::operation::{self, Kind, Operation};
use super::work::subject::{Done, Setback, Subject};
use super::{Broker, Found};
use crate::adapter::{Run, SYNCHRONOUS_TIMEOUT};
use crate::log;
use crate::store::{self, Change, Key};

use std::time::SystemTime;

/// Bindings first: an instance is deprovisioned only when nothing is in progress on its bindings.
pub(super) fn sort(keys: &mut [Key]) {
    keys.sort_by_key(|key| matches!(key, Key::Instance(_)));
}

/// What was open when the broker stopped.
enum Open {
    /// Nothing, after all.
    Closed,
    /// An asynchronous operation.
    Resumable(Subject),
    /// It was settled now: taken back, or brought to its end.
    Settled(Kind),
}

impl Broker {
    /// Settles every synchronous operation that was in progress when the broker stopped, and takes up the asynchronous
    /// ones, in the order in which they came. To be called before the first request. What cannot be settled now is
    /// logged, and tried again when a request comes about it.
    pub fn recover(&self) -> Result<(), store::Error> {
        let mut keys = self.store.open_operations()?;
        sort(&mut keys);
        let (mut tombstones, mut resumable) = (Vec::new(), Vec::new());
        for key in keys {
            let opened = match self.tombstone(&key) {
                Ok(Some((revision, tombstone))) => {
                    tombstones.push((key, revision, tombstone));
                    continue;
                }
                Ok(None) => self.recover_one(&key),
                Err(error) => Err(error),
            };
            match opened {
                Ok(Some(subject)) => {
                    let underway = subject.operation().underway.as_ref();
                    let at = underway.map(|underway| underway.requested.at.clone());
                    resumable.push((at, key));
                }
                Ok(None) => {}
                Err(error) => {
                    log::error("recovery_failed")
                        .with("record", &format!("{key:?}"))
                        .with("error", &*error.description)
                        .with("detail", error.detail.as_ref())
                        .send();
                    self.unsettled().insert(key);
                }
            }
        }
        self.graveyard.fill(tombstones);
        self.sweep(SystemTime::now());
        resumable.sort();
        for (_, key) in resumable {
            if let Ok(Some((_, subject))) = self.read_subject(&key) {
                self.resume(&key, &subject);
            }
        }
        Ok(())
    }

    fn resume(&self, key: &Key, subject: &Subject) {
        let operation = subject.operation();
        log::warn("operation_resumed")
            .with("record", &format!("{key:?}"))
            .with("operation", operation.kind.name())
            .with("operation_id", &operation.id)
            .send();
        self.submit(key, subject, true);
    }

    /// Settles one operation, if it is still in progress. An asynchronous one is returned, to be resumed.
    pub(super) fn recover_one(&self, key: &Key) -> Result<Option<Subject>, Error> {
        match self.open(key)? {
            Open::Closed => Ok(None),
            Open::Resumable(subject) => Ok(Some(subject)),
            Open::Settled(kind) => {
                log::warn("operation_recovered")
                    .with("record", &format!("{key:?}"))
                    .with("interrupted", kind.participle())
                    .send();
                Ok(None)
            }
        }
    }

    fn open(&self, key: &Key) -> Result<Open, Error> {
        let Some((revision, subject)) = self.read_subject(key)? else {
            return self.forget_bereft(key);
        };
        let operation = subject.operation();
        if !operation.in_progress() {
            return Ok(Open::Closed);
        }
        if operation.asynchronous {
            return Ok(Open::Resumable(subject));
        }
        let kind = operation.kind;
        let result = match kind {
            // Nobody knows how far it came; the same update may be sent again.
            Kind::Update => Err(Setback::half_way(Error::new(
                500,
                "The service broker was stopped during the update. Try again.",
            ))),
            _ => {
                let id = operation::new_id()?;
                let run = Run::alone(&id, SYNCHRONOUS_TIMEOUT);
                self.take_back(key, &subject, run)
                    .map_err(|setback| setback.error)?;
                Ok(Done::Removed)
            }
        };
        let changes = subject.ending(&result).changes(key, revision)?;
        self.conclude(key, changes)?;
        Ok(Open::Settled(kind))
    }

    /// Removes what the operation was to remove, or may have made.
    fn take_back(&self, key: &Key, subject: &Subject, run: Run<'_>) -> Result<(), Setback> {
        match (key, subject) {
            (Key::Instance(id), Subject::Instance(instance))
                if instance.operation.kind == Kind::Provision =>
            {
                self.call_deprovision(id, instance, run)
            }
            (Key::Binding(instance_id, id), Subject::Binding(instance, binding)) => {
                self.call_unbind(instance_id, instance, id, binding, run)
            }
            _ => self.attempt(key, subject, run).map(drop),
        }
    }

    /// A binding that is in progress though its instance is gone: nothing is left of it outside.
    fn forget_bereft(&self, key: &Key) -> Result<Open, Error> {
        let Key::Binding(instance_id, id) = key else {
            return Ok(Open::Closed);
        };
        let (
            _,
            Found {
                revision, record, ..
            },
        ) = self.read_binding(instance_id, id)?;
        let Some(Operation { kind, .. }) = record.map(|binding| binding.operation) else {
            return Ok(Open::Closed);
        };
        let change = Change::Delete {
            key: key.clone(),
            revision,
        };
        self.conclude(key, vec![change])?;
        Ok(Open::Settled(kind))
    }
}
