//! Beginning an operation, and carrying it out in the thread of the request, while the platform waits.

use super::super::error::Error;
use super::super::operation::Kind;
use super::super::plans::{Offer, Plans};
use super::super::{Answer, Broker};
use super::lanes::Entry;
use super::subject::{Done, Setback, Subject, Written};
use super::{NoTurn, pause};
use crate::adapter::Run;
use crate::store::{Change, Key, Revision};

use std::sync::Arc;
use std::time::{Duration, SystemTime};

impl Broker {
    /// Begins an operation on a record that was read with this revision, and carries it out if the platform waits for it.
    /// `expected` is what the commit is held to beside. `None` if somebody else was faster.
    pub(in crate::broker) fn begin(
        &self,
        key: &Key,
        revision: Revision,
        subject: Subject,
        effects: bool,
        expected: Option<Change>,
    ) -> Result<Option<Answer>, Error> {
        if !effects {
            return self.compute(key, revision, &subject, expected);
        }
        let mut changes = vec![subject.put(key, revision)?];
        changes.extend(expected);
        let Some(begun) = self.commit(changes)? else {
            return Ok(None);
        };
        let operation = subject.operation();
        // What a delete cuts off is not waited for by anybody any more.
        if let Some(before) = operation.before().filter(|_| operation.unmade) {
            self.work.supersede(key, &before.id);
        }
        if !operation.asynchronous {
            return self.carry_out(key, begun, subject).map(Some);
        }
        self.submit(key, &subject, false);
        subject.accepted().map(Some)
    }

    /// Queues an asynchronous operation.
    pub(in crate::broker) fn submit(&self, key: &Key, subject: &Subject, again: bool) {
        let plans = self.plans();
        let (plan, concurrency) = Broker::lane(&plans, subject);
        let entry = Entry {
            key: key.clone(),
            operation: subject.operation().id.as_str().into(),
            again,
        };
        self.work.submit(plan, concurrency, entry);
        let now = self.plans();
        if !Arc::ptr_eq(&plans, &now) {
            // They were replaced meanwhile, and what was asked for last must not be undone.
            let (plan, concurrency) = Broker::lane(&now, subject);
            self.work.set_concurrency(plan, concurrency);
        }
    }

    /// The plan whose adapter does it, if it is still in the catalog.
    pub(in crate::broker) fn offer<'p>(plans: &'p Plans, subject: &Subject) -> Option<Offer<'p>> {
        let ids = subject.plan_ids();
        let mut offers = ids
            .iter()
            .map(|plan| plans.lookup(subject.service_id(), plan));
        offers.find_map(Result::ok)
    }

    /// The plan whose turns are used, and how many there are at once.
    fn lane<'a>(plans: &'a Plans, subject: &'a Subject) -> (&'a str, Option<usize>) {
        match Broker::offer(plans, subject) {
            Some(offer) => (&offer.plan.id, offer.fulfilment().adapter.concurrency()),
            None => (subject.plan_ids()[0], None),
        }
    }

    /// An operation without outside effects: one commit, after the work.
    fn compute(
        &self,
        key: &Key,
        revision: Revision,
        subject: &Subject,
        expected: Option<Change>,
    ) -> Result<Option<Answer>, Error> {
        let operation = subject.operation();
        let run = Run {
            deadline: operation.deadline(),
            ..Run::alone(&operation.id, Duration::ZERO)
        };
        let done = self
            .attempt(key, subject, run)
            .map_err(|setback| setback.error)?;
        let written = subject.ending(Ok(done));
        let mut changes = written.changes(key, revision)?;
        changes.extend(expected);
        match self.commit(changes)? {
            Some(_) => answer(operation.kind, &written).map(Some),
            None => Ok(None),
        }
    }

    /// One call of the adapter, or for a deprovision as many as there are things to remove.
    pub(in crate::broker) fn attempt(
        &self,
        key: &Key,
        subject: &Subject,
        run: Run<'_>,
    ) -> Result<Done, Setback> {
        let done = match (key, subject) {
            (Key::Instance(id), Subject::Instance(instance)) => {
                self.attempt_instance(id, instance, run)
            }
            (Key::Binding(instance_id, id), Subject::Binding(instance, binding)) => {
                self.attempt_binding(instance_id, instance, id, binding, run)
            }
            _ => Err(Setback::unchanged(lost(key))),
        };
        done.map_err(|setback| Setback {
            error: setback.error.unquoted(&subject.parameters()),
            ..setback
        })
    }

    /// Carries out an operation whose record was committed, and answers: in as many attempts as there is time for.
    fn carry_out(
        &self,
        key: &Key,
        mut revision: Revision,
        mut subject: Subject,
    ) -> Result<Answer, Error> {
        let operation = subject.operation().clone();
        let deadline = operation.deadline();
        let Some(entered) = self.work.enter(key, &operation.id, deadline) else {
            let error = Error::new(
                503,
                "What was in progress before did not come to its end in time. Try again later.",
            );
            return self.end(key, revision, &subject, Err(Setback::unchanged(error)));
        };
        if operation.unmade {
            // What was cut off may have told its state meanwhile.
            let read = self.read_subject(key).inspect_err(|_| {
                self.unsettled().insert(key.clone());
            });
            match read? {
                Some(found) => (revision, subject) = found,
                None => return Err(lost(key)),
            }
        }
        loop {
            let operation = subject.operation();
            let plans = self.plans();
            let (plan, concurrency) = Broker::lane(&plans, &subject);
            let result = match self
                .work
                .turn(plan, concurrency, deadline, entered.cancel())
            {
                Ok(_turn) => entered.run(operation.attempt(), deadline, |run| {
                    self.attempt(key, &subject, run)
                }),
                Err(reason) => {
                    let setback = no_turn(&reason, operation.attempt());
                    return self.end(key, revision, &subject, Err(setback));
                }
            };
            let Err(setback) = &result else {
                return self.end(key, revision, &subject, result);
            };
            if entered.cancel().is_cancelled() {
                return Err(stopped());
            }
            let pause = pause::after_attempt(operation.attempt());
            if !setback.again || pause >= operation.left(SystemTime::now()) {
                return self.end(key, revision, &subject, result);
            }
            if entered.cancel().wait_timeout(pause) {
                return Err(stopped());
            }
            subject.try_again();
            revision = match self.commit(vec![subject.put(key, revision)?]) {
                Ok(Some(revision)) => revision,
                Ok(None) => return Err(lost(key)),
                Err(error) => {
                    self.unsettled().insert(key.clone());
                    return Err(error);
                }
            };
        }
    }

    /// Writes down how an operation has ended, and answers.
    fn end(
        &self,
        key: &Key,
        revision: Revision,
        subject: &Subject,
        result: Result<Done, Setback>,
    ) -> Result<Answer, Error> {
        let setback = result.as_ref().err().cloned();
        let written = self.write_end(key, revision, subject, result)?;
        match setback {
            None => answer(subject.operation().kind, &written),
            Some(setback) => Err(setback.error),
        }
    }

    /// Writes down how an operation has ended.
    pub(in crate::broker) fn write_end(
        &self,
        key: &Key,
        revision: Revision,
        subject: &Subject,
        result: Result<Done, Setback>,
    ) -> Result<Written, Error> {
        let written = subject.ending(result);
        let committed = self.conclude(key, written.changes(key, revision)?)?;
        if matches!(written, Written::Tombstone(_)) {
            self.buried(key, committed);
        }
        Ok(written)
    }
}

/// What a request is answered with that has waited for its operation.
fn answer(kind: Kind, written: &Written) -> Result<Answer, Error> {
    match (kind, written) {
        (Kind::Provision, Written::Instance(instance)) => {
            Answer::new(201, "created", &instance.answer())
        }
        (_, Written::Instance(instance)) => Answer::new(200, "updated", &instance.answer()),
        (_, Written::Binding(binding)) => Answer::new(201, "created", &binding.answer),
        _ => Ok(Answer::empty("deleted")),
    }
}

/// It has not begun, or not again.
fn no_turn(reason: &NoTurn, attempt: u32) -> Setback {
    let description = match reason {
        NoTurn::Timeout => {
            "The service broker is busy with other requests for this plan, and it was not the turn of this one in time. \
             Try again later."
        }
        NoTurn::Cancelled => "The service broker is being stopped. Try again later.",
    };
    let error = Error {
        retry_after: Some(10),
        ..Error::new(503, description)
    };
    match attempt {
        1 => Setback::unchanged(error),
        _ => Setback::half_way(error),
    }
}

/// It has begun, and nobody knows how far it came. Its record is left as it is.
fn stopped() -> Error {
    Error::new(
        503,
        "The service broker was stopped during this request, and settles it when it starts again. Try again later.",
    )
}

fn lost(key: &Key) -> Error {
    Error::internal(
        "The service broker lost track of this operation; the operator finds the cause in the broker's log.",
        format!("the record of {key:?} changed during its own operation"),
    )
}
