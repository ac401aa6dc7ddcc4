//! Where every operation begins.

use super::queue::Queued;
use super::{Begun, End, Operations, limit, requested_at};
use crate::adapter::Run;
use crate::broker::protocol::error::Error;
use crate::broker::protocol::subject::Subject;
use crate::store::{Change, Key, Revision};

use std::sync::Arc;
use std::time::Duration;

impl Operations {
    /// Begins an operation on a record that was read with this revision, and carries it out if it is synchronous.
    /// `expected` is what the commit is held to beside. `None` if somebody else was faster.
    ///
    /// With `effects`, the record is written before the adapter is called, so that a crash leaves a trace of the call.
    pub fn begin(
        &self,
        key: &Key,
        revision: Revision,
        subject: Subject,
        effects: bool,
        expected: Option<Change>,
    ) -> Result<Option<Begun>, Error> {
        if !effects {
            return self.compute(key, revision, &subject, expected);
        }
        let begun = self.state.begin(key, revision, &subject, expected)?;
        let Some(begun) = begun else {
            return Ok(None);
        };
        let operation = subject.operation();
        // What a delete cuts off is not waited for by anybody any more.
        if let Some(before) = operation.before().filter(|_| operation.unmade) {
            self.queue.supersede(key, &before.id);
        }
        if !operation.asynchronous {
            let ending = self.carry_out(key, begun, subject)?;
            return Ok(Some(Begun::Ended(ending.into())));
        }
        self.submit(key, &subject, false);
        Ok(Some(Begun::Accepted(subject)))
    }

    /// An operation without outside effects: one commit, after the work.
    fn compute(
        &self,
        key: &Key,
        revision: Revision,
        subject: &Subject,
        expected: Option<Change>,
    ) -> Result<Option<Begun>, Error> {
        let operation = subject.operation();
        let run = Run {
            deadline: operation.deadline(),
            ..Run::alone(&operation.id, Duration::ZERO)
        };
        let success = self.attempt(key, subject, run).map_err(|failed| {
            self.count(subject, End::Failed);
            failed.error
        })?;
        let ended = self.state.ended(key, subject, Ok(success));
        let written = self.state.write_ending(key, revision, &ended, expected)?;
        Ok(written.map(|_| {
            self.count(subject, End::Succeeded);
            Begun::Ended(ended.ending.into())
        }))
    }

    /// Queues an asynchronous operation.
    pub(super) fn submit(&self, key: &Key, subject: &Subject, retried: bool) {
        let plans = self.plans.get();
        let (plan, concurrency) = limit(&plans, subject);
        let queued = Queued {
            key: key.clone(),
            operation: subject.operation().id.as_str().into(),
            since: requested_at(subject.operation()),
            retried,
        };
        self.queue.submit(plan, concurrency, queued);
        let now = self.plans.get();
        if !Arc::ptr_eq(&plans, &now) {
            // The catalog was replaced meanwhile, and its limits must not be undone.
            let (plan, concurrency) = limit(&now, subject);
            self.queue.set_concurrency(plan, concurrency);
        }
    }
}
