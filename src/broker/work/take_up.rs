//! Carrying out an asynchronous operation, in a thread of the workshop.

use super::super::Broker;
use super::super::error::Error;
use super::super::operation::{Kind, Operation, State};
use super::job::Phase;
use super::lanes::Entry;
use super::subject::{Setback, Subject, Written};
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
            let line = log::error("operation_retried").with("operation_id", &*entry.operation);
            log_retry(
                self.line(line, &entry.key, plan),
                &error,
                pause::OF_THE_STORE,
            );
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
                let due = SystemTime::now() + pause::OF_THE_STORE;
                entered.is(Phase::Blocked { due });
                retry(error);
                entered.pause();
            }
        }
    }

    /// Returns how long to wait before it is taken up again; `None` if there is nothing left to do.
    fn work_on(&self, entered: &Entered<'_>, entry: &Entry) -> Result<Option<Duration>, Error> {
        let key = &entry.key;
        if self.work.is_stopping() {
            return Ok(None);
        }
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
            entered.is(Phase::Running {
                attempt: operation.attempt(),
                since: SystemTime::now(),
            });
            entered.run(operation.attempt(), deadline, |run| {
                self.attempt(key, &subject, run)
            })
        };
        let reason = entered.cancel().reason();
        if let Err(setback) = &result {
            if reason == Some(Reason::Stopping) {
                return Ok(None);
            }
            let pause = pause::after_attempt(operation.attempt());
            let in_time = pause < operation.left(SystemTime::now());
            if reason.is_none() && setback.again && in_time {
                let line = log_operation(log::warn("operation_retried"), operation);
                let line = self.line(line, key, subject.plan_ids()[0]);
                log_retry(line, &setback.error, pause);
                entered.is(Phase::Paused {
                    attempt: operation.attempt(),
                    why: setback.error.description.clone().into_owned(),
                    due: SystemTime::now() + pause,
                });
                return Ok(Some(pause));
            }
        }
        let error = result.as_ref().err().map(|setback| setback.error.clone());
        let written = subject.ending(result);
        if reason == Some(Reason::Superseded) {
            self.hand_over(key, entry, &written);
            return Ok(None);
        }
        match self.store.commit(written.changes(key, revision)?)? {
            Outcome::Committed(committed) => {
                self.log_end(key, &subject, error.as_ref());
                if matches!(written, Written::Tombstone(_)) {
                    self.buried(key, committed);
                }
            }
            // Cut off at the last moment.
            Outcome::Conflict => self.hand_over(key, entry, &written),
        }
        Ok(None)
    }

    /// The line about the end of an operation.
    fn log_end(&self, key: &Key, subject: &Subject, error: Option<&Error>) {
        let (line, state) = match error {
            None => (log::info("operation"), State::Succeeded),
            Some(_) => (log::error("operation"), State::Failed),
        };
        let line = log_operation(line, subject.operation());
        self.line(line, key, subject.plan_ids()[0])
            .with("state", state.name())
            .with("error", error.map(Error::for_log))
            .with("detail", error.and_then(|error| error.detail.as_ref()))
            .send();
    }

    /// Hands the state that a creation has told after it was cut off to the removal that cut it off.
    fn hand_over(&self, key: &Key, entry: &Entry, made: &Written) {
        let handed = self.decide(|| {
            let Some((revision, mut subject)) = self.read_subject(key)? else {
                return Ok(Some(()));
            };
            let operation = subject.operation();
            let cut_off = operation.before().filter(|_| operation.unmade);
            if cut_off.is_none_or(|before| *before.id != *entry.operation) {
                return Ok(Some(()));
            }
            let (found, told) = match (&mut subject, made) {
                (Subject::Instance(found), Written::Instance(made)) => {
                    (&mut found.state, &made.state)
                }
                (Subject::Binding(_, found), Written::Binding(made)) => {
                    (&mut found.state, &made.state)
                }
                _ => return Ok(Some(())),
            };
            if told.is_none() {
                return Ok(Some(()));
            }
            found.clone_from(told);
            Ok(self.commit(vec![subject.put(key, revision)?])?.map(drop))
        });
        if let Err(error) = handed {
            log::warn("operation")
                .with("operation_id", &*entry.operation)
                .with("message", "what was cut off could not hand over its state")
                .with("error", error.for_log())
                .send();
        }
    }
}

fn log_operation(line: log::Entry, operation: &Operation) -> log::Entry {
    line.with("operation", operation.kind.name())
        .with("operation_id", &operation.id)
        .with("attempt", u64::from(operation.attempt()))
        .with("request_id", operation.origin().request_id)
}

/// The line about an attempt that is followed by another one.
fn log_retry(line: log::Entry, error: &Error, pause: Duration) {
    let next = humantime::format_rfc3339_millis(SystemTime::now() + pause).to_string();
    line.with("reason", error.for_log())
        .with("detail", error.detail.as_ref())
        .with("next_attempt", &next)
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
