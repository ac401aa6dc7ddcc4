//! What a crash has cut off. Asynchronous operations go on: the platform polls for their end. To a synchronous request
//! the platform got no answer, so what may have been made is taken back, and what was to be removed is removed.

use super::attempt::Attempt;
use super::{End, Operations};
use crate::broker::protocol::error::Error;
use crate::broker::protocol::operation::{self, Kind, Operation};
use crate::broker::protocol::subject::{AttemptError, Ended, Ending, Outcome, Subject};
use crate::log;
use crate::store::{self, Key};

use std::time::{Duration, Instant, SystemTime};

/// How long settling may take: at the start for all, since a platform waits for that a minute at most; later for what a
/// request meets, before it goes on.
const LIMIT: Duration = Duration::from_secs(20);

/// Bindings first: an instance is deprovisioned only when nothing is in progress on its bindings.
fn sort(keys: &mut [Key]) {
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

impl Operations {
    /// Settles every synchronous operation that was in progress when the broker stopped, and resumes the asynchronous
    /// ones, in the order in which they came. To be called before the first request. What cannot be settled now is
    /// logged, and tried again when a request comes about it.
    pub fn recover(&self) -> Result<(), store::Error> {
        self.recover_all(self.state.open_operations()?);
        Ok(())
    }

    /// The same for operations of other brokers on the same state, which are gone; and for what this one could not write
    /// down. To be called now and then.
    pub fn take_over(&self) -> Result<(), store::Error> {
        self.recover_all(self.state.take_over()?);
        // What cannot be settled yet is tried again.
        let _ = self.settle(None, Instant::now());
        Ok(())
    }

    fn recover_all(&self, mut keys: Vec<Key>) {
        let end = Instant::now() + LIMIT;
        sort(&mut keys);
        let (mut tombstones, mut resumable) = (Vec::new(), Vec::new());
        for key in keys {
            let opened = match self.state.tombstone(&key) {
                Ok(Some((revision, tombstone))) => {
                    tombstones.push((key, revision, tombstone));
                    continue;
                }
                Ok(None) => self.recover_one(&key, None, end),
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
                    self.state.mark_unwritten(&key, None);
                }
            }
        }
        self.state.remember_tombstones(tombstones);
        resumable.sort();
        if !resumable.is_empty() {
            log::warn("operations_resumed")
                .with("count", resumable.len())
                .send();
        }
        for (_, key) in resumable {
            match self.state.subject(&key) {
                Ok(Some(found)) => self.submit(&key, &found.subject, true),
                // Nobody else is at it yet, so it is there; what cannot be read is tried again with the next request.
                _ => self.state.mark_unwritten(&key, None),
            }
        }
    }

    /// Takes back, or ends, operations about an instance, or about all, whose outcome could not be written when it was there.
    /// `since` is when the request came.
    pub fn settle(&self, instance_id: Option<&str>, since: Instant) -> Result<(), Error> {
        let mut keys = self.state.unwritten_of(instance_id);
        sort(&mut keys);
        let mut result = Ok(());
        for key in keys {
            // Whoever takes the key settles it; others meet the record, still in progress.
            if let Some(operation) = self.state.take_unwritten(&key) {
                let operation = operation.as_deref();
                match self.recover_one(&key, operation, since + LIMIT) {
                    Ok(Some(subject)) => self.submit(&key, &subject, true),
                    Ok(None) => {}
                    Err(error) => {
                        self.state.mark_unwritten(&key, operation);
                        // What is left of one must not keep the others.
                        result = result.and(Err(error));
                    }
                }
            }
        }
        result
    }

    /// Settles one operation, if it is still in progress: this one, or whatever is. An asynchronous one is returned, to be
    /// resumed.
    fn recover_one(
        &self,
        key: &Key,
        wanted: Option<&str>,
        end: Instant,
    ) -> Result<Option<Subject>, Error> {
        match self.open(key, wanted, end)? {
            Open::Closed => Ok(None),
            Open::Resumable(subject) => Ok(Some(subject)),
            Open::Settled(kind, plan_id) => {
                let line = log::warn("operation_recovered")
                    .with("record", &format!("{key:?}"))
                    .with("interrupted", kind.participle());
                self.plans.get().line(line, key, &plan_id).send();
                Ok(None)
            }
        }
    }

    fn open(&self, key: &Key, wanted: Option<&str>, end: Instant) -> Result<Open, Error> {
        let is_wanted = |operation: &Operation| wanted.is_none_or(|id| id == operation.id);
        let Some(found) = self.state.subject(key)? else {
            return self.forget_orphan(key, is_wanted);
        };
        let (revision, subject) = (found.revision, found.subject);
        let operation = subject.operation();
        // Another one may have begun since, which a request of this broker works on.
        if found.elsewhere || !operation.in_progress() || !is_wanted(operation) {
            return Ok(Open::Closed);
        }
        if operation.asynchronous {
            return Ok(Open::Resumable(subject));
        }
        let kind = operation.kind;
        let outcome = match kind {
            // Nobody knows how far it came; the same update may be sent again.
            Kind::Update => Err(AttemptError::half_way(Error::new(
                500,
                "The service broker was stopped during the update. Try again.",
            ))),
            _ => Ok(self
                .take_back(key, &subject, end)
                .map_err(|failed| failed.error)?),
        };
        let ended = self.state.ended(key, &subject, outcome);
        self.state.conclude(key, revision, &operation.id, &ended)?;
        self.count(&subject, End::Recovered);
        Ok(Open::Settled(kind, subject.plan_ids()[0].to_owned()))
    }

    /// Does what a removal was to do, or removes what the operation may have made.
    fn take_back(&self, key: &Key, subject: &Subject, end: Instant) -> Outcome {
        let late = || {
            AttemptError::half_way(Error::new(
                503,
                "What was interrupted before could not be settled in time. Try again later.",
            ))
        };
        if Instant::now() >= end {
            return Err(late());
        }
        let id = operation::new_id().map_err(AttemptError::half_way)?;
        let claim = self
            .queue
            .claim(key, &id, SystemTime::now(), end)
            .ok_or_else(late)?;
        let plans = self.plans.get();
        claim.run(1, end, |run| {
            let attempt = Attempt {
                plans: &plans,
                state: &self.state,
                run,
            };
            attempt.take_back(key, subject)
        })
    }

    /// A binding that is in progress though its instance is gone: nothing is left of it outside.
    fn forget_orphan(
        &self,
        key: &Key,
        is_wanted: impl Fn(&Operation) -> bool,
    ) -> Result<Open, Error> {
        let Key::Binding(instance_id, id) = key else {
            return Ok(Open::Closed);
        };
        let found = self.state.binding(instance_id, id)?.1;
        let Some(binding) = found.record.filter(|it| is_wanted(&it.operation)) else {
            return Ok(Open::Closed);
        };
        let id = &binding.operation.id;
        // The line of the instance's deprovision is the last one of it.
        let nothing = Ended {
            ending: Ending::Nothing,
            line: None,
        };
        self.state.conclude(key, found.revision, id, &nothing)?;
        Ok(Open::Settled(binding.operation.kind, binding.plan_id))
    }
}
