//! Carrying out an asynchronous operation, in a thread of the queue.

use super::queue::{Claim, Progress, Queued, Worker};
use super::{End, Operations, retry};
use crate::adapter::Reason;
use crate::broker::protocol::error::Error;
use crate::broker::protocol::operation::{Kind, Operation, State};
use crate::broker::protocol::subject::{AttemptError, Ending, Subject};
use crate::broker::state::Located;
use crate::log;
use crate::store::Key;

use std::time::{Duration, Instant, SystemTime};

impl Worker for Operations {
    /// Works on an asynchronous operation: one attempt.
    fn work(&self, plan: &str, queued: &Queued) {
        let retry_later = |error: Error| {
            // The state cannot be read or written. The adapter bears to be called again.
            let line = log::error("operation_retried").with("operation_id", &*queued.operation);
            let line = self.plans.get().line(line, &queued.key, plan);
            log_retry(line, &error, retry::STORE_DELAY);
            self.queue.retry_after(plan, queued, retry::STORE_DELAY);
        };
        let claim = loop {
            let now = Instant::now();
            if let Some(claim) = self
                .queue
                .claim(&queued.key, &queued.operation, queued.since, now)
            {
                break claim;
            }
            // Either this has cut off what is being worked on, and waits for that; or it was cut off itself, and then it
            // must not keep the permit that the other waits for.
            match self.state.subject(&queued.key) {
                Ok(Some(found)) if *found.subject.operation().id == *queued.operation => {
                    self.queue.wait_until_free(&queued.key);
                }
                Ok(_) => return,
                Err(error) => return retry_later(error),
            }
        };
        match self.work_on(&claim, queued) {
            Ok(None) => {}
            Ok(Some(delay)) => {
                self.queue.retry_after(plan, queued, delay);
                claim.until_retry();
            }
            Err(error) => {
                let due = SystemTime::now() + retry::STORE_DELAY;
                claim.is(Progress::Blocked { due });
                retry_later(error);
                claim.until_retry();
            }
        }
    }
}

impl Operations {
    /// Returns how long to wait before the next attempt; `None` if there is nothing left to do.
    fn work_on(&self, claim: &Claim<'_>, queued: &Queued) -> Result<Option<Duration>, Error> {
        let key = &queued.key;
        if self.queue.is_stopping() {
            return Ok(None);
        }
        // It may be another broker's by now, which has waited in vain for a sign of this one.
        let found = self.state.subject(key)?.filter(|found| !found.elsewhere);
        let Some(Located {
            mut revision,
            mut subject,
            ..
        }) = found
        else {
            return Ok(None);
        };
        let is_it = *subject.operation().id == *queued.operation;
        if !is_it || !subject.operation().is_polled() {
            return Ok(None);
        }
        if queued.retried {
            subject.count_attempt();
            match self.state.write_subject(key, revision, &subject)? {
                Some(committed) => revision = committed,
                None => return Ok(None),
            }
        }
        let operation = subject.operation();
        let outcome = if operation.left(SystemTime::now()).is_zero() {
            Err(AttemptError::half_way(time_over(operation.kind)))
        } else {
            claim.is(Progress::Running {
                attempt: operation.attempt(),
                since: SystemTime::now(),
            });
            self.next_attempt(claim, key, &subject)
        };
        let reason = claim.cancel().reason();
        if let Err(failed) = &outcome {
            if reason == Some(Reason::Stopping) {
                return Ok(None);
            }
            let delay = retry::delay_after(operation.attempt(), failed.retry_after);
            let in_time = delay < operation.left(SystemTime::now());
            if reason.is_none() && failed.retry && in_time {
                let line = log_operation(log::warn("operation_retried"), operation);
                let line = self.plans.get().line(line, key, subject.plan_ids()[0]);
                log_retry(line, &failed.error, delay);
                let plans = self.plans.get();
                plans.counts(&subject).retried(operation.kind);
                claim.is(Progress::Delayed {
                    attempt: operation.attempt(),
                    why: failed.error.description.clone().into_owned(),
                    due: SystemTime::now() + delay,
                });
                return Ok(Some(delay));
            }
        }
        let error = outcome.as_ref().err().map(|failed| failed.error.clone());
        let ended = self.state.ended(key, &subject, outcome);
        if reason == Some(Reason::Superseded) {
            self.count(&subject, End::CutOff);
            self.hand_over(key, queued, &ended.ending);
            return Ok(None);
        }
        match self.state.write_ending(key, revision, &ended, None)? {
            Some(_) => {
                let end = error.as_ref().map_or(End::Succeeded, |_| End::Failed);
                self.count(&subject, end);
                self.log_end(key, &subject, error.as_ref());
            }
            // Cut off at the last moment.
            None => {
                self.count(&subject, End::CutOff);
                self.hand_over(key, queued, &ended.ending);
            }
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
        let plans = self.plans.get();
        plans
            .line(line, key, subject.plan_ids()[0])
            .with("state", state.name())
            .with("error", error.map(Error::for_log))
            .with("detail", error.and_then(|error| error.detail.as_ref()))
            .send();
    }

    /// Hands the state that a creation has told after it was cut off to the removal that cut it off.
    fn hand_over(&self, key: &Key, queued: &Queued, made: &Ending) {
        let handed = self.state.decide(|| {
            let Some(Located {
                revision,
                mut subject,
                ..
            }) = self.state.subject(key)?
            else {
                return Ok(Some(()));
            };
            let operation = subject.operation();
            let cut_off = operation.before().filter(|_| operation.unmade);
            if cut_off.is_none_or(|before| *before.id != *queued.operation) {
                return Ok(Some(()));
            }
            let (found, told) = match (&mut subject, made) {
                (Subject::Instance(found), Ending::Instance(made)) => {
                    (&mut found.state, &made.state)
                }
                (Subject::Binding(_, found), Ending::Binding(made)) => {
                    (&mut found.state, &made.state)
                }
                _ => return Ok(Some(())),
            };
            if told.is_none() {
                return Ok(Some(()));
            }
            found.clone_from(told);
            let written = self.state.write_subject(key, revision, &subject)?;
            Ok(written.map(drop))
        });
        if let Err(error) = handed {
            log::warn("operation")
                .with("operation_id", &*queued.operation)
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
fn log_retry(line: log::Entry, error: &Error, delay: Duration) {
    let next = humantime::format_rfc3339_millis(SystemTime::now() + delay).to_string();
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
