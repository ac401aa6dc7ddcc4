//! What a crash has cut off. Asynchronous operations go on: the platform polls for their end. To a synchronous request
//! the platform got no answer, so what may have been made is taken back, and what was to be removed is removed.

use super::Broker;
use super::error::Error;
use super::operation::{self, Kind};
use super::work::subject::{Done, Setback, Subject};
use crate::adapter::Run;
use crate::log;
use crate::store::{self, Change, Key};

use std::time::{Duration, Instant, SystemTime};

/// How long settling may take: at the start for all, since a platform waits for that a minute at most; later for what a
/// request meets, before it goes on.
pub(super) const LIMIT: Duration = Duration::from_secs(20);

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
    /// It was settled now: taken back, or brought to its end. Of this plan.
    Settled(Kind, String),
}

impl Broker {
    /// Settles every synchronous operation that was in progress when the broker stopped, and takes up the asynchronous
    /// ones, in the order in which they came. To be called before the first request. What cannot be settled now is
    /// logged, and tried again when a request comes about it.
    pub fn recover(&self) -> Result<(), store::Error> {
        let end = Instant::now() + LIMIT;
        let mut keys = self.store.open_operations()?;
        sort(&mut keys);
        let (mut tombstones, mut resumable) = (Vec::new(), Vec::new());
        for key in keys {
            let opened = match self.tombstone(&key) {
                Ok(Some((revision, tombstone))) => {
                    tombstones.push((key, revision, tombstone));
                    continue;
                }
                Ok(None) => self.recover_until(&key, end),
                Err(error) => Err(error),
            };
            match opened {
                Ok(Some(subject)) => {
                    let underway = subject.operation().underway.as_ref();
                    let at = underway.map(|underway| underway.requested.at);
                    resumable.push((at, key));
                }
                Ok(None) => {}
                Err(error) => {
                    log::error("recovery_failed")
                        .with("record", &format!("{key:?}"))
                        .with("error", error.for_log())
                        .with("detail", error.detail.as_ref())
                        .send();
                    self.unsettled().insert(key);
                }
            }
        }
        self.graveyard.fill(tombstones);
        self.sweep(SystemTime::now());
        resumable.sort();
        if !resumable.is_empty() {
            log::warn("operations_resumed")
                .with("count", resumable.len())
                .send();
        }
        for (_, key) in resumable {
            match self.read_subject(&key) {
                Ok(Some((_, subject))) => self.submit(&key, &subject, true),
                // Nobody else is at it yet, so it is there; what cannot be read is tried again with the next request.
                _ => _ = self.unsettled().insert(key),
            }
        }
        Ok(())
    }

    /// Settles one operation, if it is still in progress. An asynchronous one is returned, to be resumed.
    pub(super) fn recover_until(&self, key: &Key, end: Instant) -> Result<Option<Subject>, Error> {
        match self.open(key, end)? {
            Open::Closed => Ok(None),
            Open::Resumable(subject) => Ok(Some(subject)),
            Open::Settled(kind, plan_id) => {
                let line = log::warn("operation_recovered")
                    .with("record", &format!("{key:?}"))
                    .with("interrupted", kind.participle());
                self.line(line, key, &plan_id).send();
                Ok(None)
            }
        }
    }

    fn open(&self, key: &Key, end: Instant) -> Result<Open, Error> {
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
                self.take_back(key, &subject, end)
                    .map_err(|setback| setback.error)?;
                Ok(Done::Removed)
            }
        };
        self.write_end(key, revision, &subject, result)?;
        Ok(Open::Settled(kind, subject.plan_ids()[0].to_owned()))
    }

    /// Removes what the operation was to remove, or may have made.
    fn take_back(&self, key: &Key, subject: &Subject, end: Instant) -> Result<(), Setback> {
        let late = || {
            Setback::half_way(Error::new(
                503,
                "What was interrupted before could not be settled in time. Try again later.",
            ))
        };
        if Instant::now() >= end {
            return Err(late());
        }
        let id = operation::new_id().map_err(Setback::half_way)?;
        let entered = self.work.enter(key, &id, end).ok_or_else(late)?;
        entered.run(1, end, |run| self.take_back_in(key, subject, run))
    }

    fn take_back_in(&self, key: &Key, subject: &Subject, run: Run<'_>) -> Result<(), Setback> {
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
        let found = self.read_binding(instance_id, id)?.1;
        let Some(binding) = found.record else {
            return Ok(Open::Closed);
        };
        let change = Change::Delete {
            key: key.clone(),
            revision: found.revision,
        };
        self.conclude(key, vec![change])?;
        Ok(Open::Settled(binding.operation.kind, binding.plan_id))
    }
}
