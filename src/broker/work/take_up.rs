//! Carrying out an asynchronous operation, in a thread of the workshop.

use super::super::Broker;
use super::super::error::Error;
use super::super::operation::{Kind, State};
use super::lanes::Entry;
use super::subject::{Done, Setback, Subject, Written};
use super::{Entered, pause};
use crate::adapter::Reason;
use crate::log;
use crate::store::{Key, Outcome};

use std::time::{Duration, Instant, SystemTime};

impl Broker {
    /// Takes up an asynchronous operation whose turn it is.
    pub(in crate::broker) fn take_up(&self, plan: &str, entry: &Entry) {
        let retry = |error: Error| {
            // The state cannot be read or written. The adapter bears to be called again.
            log::error("operation")
                .with("operation_id", &*entry.operation)
                .with("error", &*error.description)
                .with("detail", error.detail.as_ref())
                .send();
            self.work.later(plan, entry, pause::OF_THE_STORE);
        };
        let entered = loop {
            let now = Instant::now();
            if let Some(entered) = self.work.enter(&entry.key, &entry.operation, now) {
                break entered;
            }
            // Either this has cut off what is being worked on, and waits for that; or it was cut off itself, and then it
            // must not keep the turn that the other waits for.
            match self.read_subject(&entry.key) {
                Ok(Some((_, subject))) if *subject.operation().id == *entry.operation => {
                    self.work.wait_until_free(&entry.key);
                }
                Ok(_) => return,
                Err(error) => return retry(error),
            }
        };
        match self.work_on(&entered, entry) {
            Ok(None) => {}
            Ok(Some(pause)) => {
                self.work.later(plan, entry, pause);
                entered.pause();
            }
            Err(error) => {
                retry(error);
                entered.pause();
            }
        }
    }

    /// Returns how long to wait before it is taken up again; `None` if there is nothing left to do.
    fn work_on(&self, entered: &Entered<'_>, entry: &Entry) -> Result<Option<Duration>, Error> {
        let key = &entry.key;
        let Some((mut revision, mut subject)) = self.read_subject(key)? else {
            return Ok(None);
        };
        let is_it = *subject.operation().id == *entry.operation;
        if !is_it || !subject.operation().is_polled() {
            return Ok(None);
        }
        if entry.again {
            subject.try_again();
            match self.commit(vec![subject.put(key, revision)?])? {
                Some(committed) => revision = committed,
                None => return Ok(None),
            }
        }
        let operation = subject.operation();
        let deadline = operation.deadline();
        let result = if operation.left(SystemTime::now()).is_zero() {
            Err(Setback::half_way(time_over(operation.kind)))
        } else {
            entered.run(operation.attempt(), deadline, |run| {
                self.attempt(key, &subject, run)
            })
        };
        match (&result, entered.cancel().reason()) {
            (Err(_), Some(Reason::Stopping)) => return Ok(None),
            (Ok(_), Some(Reason::Stopping)) | (_, None) => {}
            (result, Some(Reason::Superseded)) => {
                self.hand_over(key, entry, result);
                return Ok(None);
            }
        }
        if let Err(setback) = result.as_ref()
            && setback.again
        {
            let pause = pause::after_attempt(operation.attempt());
            if pause < operation.left(SystemTime::now()) {
                entered.tell(&setback.error.description);
                return Ok(Some(pause));
            }
        }
        let written = subject.ending(&result);
        match self.store.commit(written.changes(key, revision)?)? {
            Outcome::Committed(committed) => {
                log_end(key, &subject, &result);
                if matches!(written, Written::Tombstone(_)) {
                    self.buried(key, committed);
                }
            }
            // Cut off at the last moment.
            Outcome::Conflict => self.hand_over(key, entry, &result),
        }
        Ok(None)
    }

    /// Hands the state that a creation has told after it was cut off to the removal that cut it off.
    fn hand_over(&self, key: &Key, entry: &Entry, result: &Result<Done, Setback>) {
        let handed = self.decide(|| {
            let Some((revision, mut subject)) = self.read_subject(key)? else {
                return Ok(Some(()));
            };
            let operation = subject.operation();
            let is_it = operation
                .before()
                .is_some_and(|b| *b.id == *entry.operation);
            if !is_it || !operation.unmade || !operation.in_progress() {
                return Ok(Some(()));
            }
            match (&mut subject, result) {
                (Subject::Instance(found), Ok(Done::Instance(made))) => {
                    found.state.clone_from(&made.state);
                }
                (Subject::Binding(_, found), Ok(Done::Binding(made))) => {
                    found.state.clone_from(&made.state);
                }
                _ => return Ok(Some(())),
            }
            Ok(self.commit(vec![subject.put(key, revision)?])?.map(drop))
        });
        if let Err(error) = handed {
            log::warn("operation")
                .with("operation_id", &*entry.operation)
                .with("message", "what was cut off could not hand over its state")
                .with("error", &*error.description)
                .send();
        }
    }
}

fn log_end(key: &Key, subject: &Subject, result: &Result<Done, Setback>) {
    let operation = subject.operation();
    let (instance_id, binding_id) = match key {
        Key::Instance(id) => (id, None),
        Key::Binding(instance_id, id) => (instance_id, Some(id)),
    };
    let (line, state, error) = match result {
        Ok(_) => (log::info("operation"), State::Succeeded, None),
        Err(setback) => (log::error("operation"), State::Failed, Some(&setback.error)),
    };
    line.with("operation", operation.kind.name())
        .with("operation_id", &operation.id)
        .with("instance_id", instance_id)
        .with("binding_id", binding_id)
        .with("state", state.name())
        .with("attempt", u64::from(operation.attempt()))
        .with("request_id", operation.origin().request_id)
        .with("error", error.map(|error| &*error.description))
        .with("detail", error.and_then(|error| error.detail.as_ref()))
        .send();
}

fn time_over(kind: Kind) -> Error {
    Error::new(
        500,
        format!(
            "It could not be {} in the time that the plan allows for it.",
            kind.participle()
        ),
    )
}
