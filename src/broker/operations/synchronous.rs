//! Carrying out an operation in the thread of its request, while the platform waits.

use super::queue::{Claim, NoPermit};
use super::{End, Operations, limit, requested_at, retry};
use crate::broker::protocol::error::Error;
use crate::broker::protocol::subject::{AttemptError, Ending, Outcome, Subject};
use crate::broker::state::lost;
use crate::store::{Key, Revision};

use std::time::{Instant, SystemTime};

impl Operations {
    /// Carries out an operation whose record was written, in as many attempts as there is time for, and writes down how it
    /// has ended.
    pub(super) fn carry_out(
        &self,
        key: &Key,
        mut revision: Revision,
        mut subject: Subject,
    ) -> Result<Ending, Error> {
        let deadline = subject.operation().deadline();
        let since = requested_at(subject.operation());
        let Some(claim) = self
            .queue
            .claim(key, &subject.operation().id, since, deadline)
        else {
            let error = Error::new(
                503,
                "What was in progress before did not come to its end in time. Try again later.",
            );
            let outcome = Err(AttemptError::unchanged(error));
            return self.end(key, revision, &subject, outcome);
        };
        if subject.operation().unmade {
            // What was cut off may have told its state meanwhile.
            let read = self.state.subject(key).inspect_err(|_| {
                self.state
                    .mark_unwritten(key, Some(&subject.operation().id));
            });
            match read? {
                Some(found) => (revision, subject) = (found.revision, found.subject),
                None => return Err(lost(key)),
            }
        }
        loop {
            let attempt = subject.operation().attempt();
            let outcome = match self.attempt_in_turn(&claim, key, &subject, deadline) {
                Ok(outcome) => outcome,
                Err(reason) => {
                    let outcome = Err(without_permit(&reason, attempt));
                    return self.end(key, revision, &subject, outcome);
                }
            };
            let Err(failed) = &outcome else {
                return self.end(key, revision, &subject, outcome);
            };
            if claim.cancel().is_cancelled() {
                return Err(stopped());
            }
            let delay = retry::delay_after(attempt, failed.retry_after);
            if !failed.retry || delay >= subject.operation().left(SystemTime::now()) {
                return self.end(key, revision, &subject, outcome);
            }
            if claim.cancel().wait_timeout(delay) {
                return Err(stopped());
            }
            subject.count_attempt();
            let plans = self.plans.get();
            plans.counts(&subject).retried(subject.operation().kind);
            revision = match self.state.write_subject(key, revision, &subject) {
                Ok(Some(revision)) => revision,
                Ok(None) => return Err(lost(key)),
                Err(error) => {
                    self.state
                        .mark_unwritten(key, Some(&subject.operation().id));
                    return Err(error);
                }
            };
        }
    }

    /// One attempt, with a permit of its plan.
    fn attempt_in_turn(
        &self,
        claim: &Claim<'_>,
        key: &Key,
        subject: &Subject,
        until: Instant,
    ) -> Result<Outcome, NoPermit> {
        let plans = self.plans.get();
        let (plan, concurrency) = limit(&plans, subject);
        let _permit = self
            .queue
            .permit(plan, concurrency, until, claim.cancel())?;
        Ok(self.next_attempt(claim, key, subject))
    }

    /// Writes down how an operation has ended. An error if it did not succeed.
    fn end(
        &self,
        key: &Key,
        revision: Revision,
        subject: &Subject,
        outcome: Outcome,
    ) -> Result<Ending, Error> {
        let error = outcome.as_ref().err().map(|failed| failed.error.clone());
        let end = End::of(&outcome);
        let ended = self.state.ended(key, subject, outcome);
        let operation = &subject.operation().id;
        self.state.conclude(key, revision, operation, &ended)?;
        self.count(subject, end);
        match error {
            None => Ok(ended.ending),
            Some(error) => Err(error),
        }
    }
}

/// It has not begun, or not again.
fn without_permit(reason: &NoPermit, attempt: u32) -> AttemptError {
    let description = match reason {
        NoPermit::Timeout => {
            "The service broker is busy with other requests for this plan, and it was not the turn of this one in time. \
             Try again later."
        }
        NoPermit::Cancelled => "The service broker is being stopped. Try again later.",
    };
    let error = Error {
        retry_after: Some(10),
        ..Error::new(503, description)
    };
    match attempt {
        1 => AttemptError::unchanged(error),
        _ => AttemptError::half_way(error),
    }
}

/// It has begun, and nobody knows how far it came. Its record is left as it is.
fn stopped() -> Error {
    Error::new(
        503,
        "The service broker was stopped during this request, and settles it when it starts again. Try again later.",
    )
}
