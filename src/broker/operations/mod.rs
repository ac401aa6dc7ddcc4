//! The engine: begins operations, has adapters carry them out, and writes down how they end. It knows records, plans and
//! adapters; it does not know HTTP, nor who asked.
//!
//! [`begin`] is where every operation begins. [`synchronous`] ones are carried out in the thread of the request,
//! [`asynchronous`] ones in a thread of the [`queue`]; both make the same [`attempt`]s, with the same [`retry`] delays.
//! [`recovery`] goes on with what a crash has cut off.

mod asynchronous;
mod attempt;
mod begin;
mod queue;
mod recovery;
mod retry;
mod synchronous;

use super::counts::End;
use super::plans::Plans;
use super::protocol::operation::Operation;
use super::protocol::subject::{Ending, Outcome, Subject};
use super::state::State;
use crate::adapter::Run;
use crate::current::Current;
use crate::store::Key;
use attempt::Attempt;
pub use queue::Overview;
use queue::{Claim, Queue, Worker};

use std::sync::{Arc, Weak};
use std::time::{Instant, SystemTime};

/// The operations of a broker. Shared with the threads of its queue.
pub struct Operations {
    plans: Arc<Current<Plans>>,
    state: Arc<State>,
    queue: Queue,
}

/// What has become of an operation when its request can be answered.
pub enum Begun {
    /// It is asynchronous.
    Accepted(Subject),
    Ended(Box<Ending>),
}

impl Operations {
    pub fn new(plans: Arc<Current<Plans>>, state: Arc<State>) -> Arc<Operations> {
        Arc::new_cyclic(|operations: &Weak<Operations>| {
            let worker: Weak<dyn Worker> = operations.clone();
            Operations {
                plans,
                state,
                queue: Queue::new(worker),
            }
        })
    }

    /// Begins no asynchronous operation any more: what is asked for from now on is carried out after the next start.
    pub fn finish(&self) {
        self.queue.finish();
    }

    /// Lets the operations that are being worked on end up to `finish`, then tells adapters to come back, and waits for that
    /// up to `end`. Returns whether all have. What has not ended is settled or resumed at the next start.
    pub fn stop(&self, finish: Instant, end: Instant) -> bool {
        self.queue.stop(finish, end)
    }

    pub fn is_stopping(&self) -> bool {
        self.queue.is_stopping()
    }

    /// Takes over from the catalog how many calls of each adapter there may be at once.
    pub fn take_limits(&self) {
        let plans = self.plans.get();
        for (service_id, plan_id) in plans.all() {
            if let Ok(offer) = plans.lookup(service_id, plan_id) {
                let concurrency = offer.fulfilment().adapter.concurrency();
                self.queue.set_concurrency(plan_id, concurrency);
            }
        }
    }

    /// What is being done for an operation, for whoever polls.
    pub fn progress(&self, key: &Key, operation: &Operation) -> Option<String> {
        if !operation.is_polled() {
            return None;
        }
        self.queue.wake();
        Some(self.queue.progress(key, &operation.id))
    }

    /// One attempt, by the adapter that the catalog names now.
    fn attempt(&self, key: &Key, subject: &Subject, run: Run<'_>) -> Outcome {
        let plans = self.plans.get();
        let attempt = Attempt {
            plans: &plans,
            state: &self.state,
            run,
        };
        attempt.make(key, subject)
    }

    /// Counts that an operation has ended.
    fn count(&self, subject: &Subject, end: End) {
        let operation = subject.operation();
        let took = requested_at(operation).elapsed().unwrap_or_default();
        let plans = self.plans.get();
        plans.counts(subject).ended(operation.kind, end, took);
    }

    /// What is in progress, for the metrics.
    pub fn overview(&self) -> Overview {
        self.queue.overview()
    }

    /// The records of the oldest operations in progress.
    pub fn in_progress(&self, most: usize) -> Vec<Key> {
        self.queue.in_progress(most)
    }

    /// The next attempt of an operation that is claimed.
    fn next_attempt(&self, claim: &Claim<'_>, key: &Key, subject: &Subject) -> Outcome {
        let operation = subject.operation();
        claim.run(operation.attempt(), operation.deadline(), |run| {
            self.attempt(key, subject, run)
        })
    }
}

/// When an operation in progress was asked for.
fn requested_at(operation: &Operation) -> SystemTime {
    let requested = operation.requested();
    requested.map_or_else(SystemTime::now, |requested| requested.at.0)
}

impl End {
    fn of<T, E>(outcome: &Result<T, E>) -> End {
        match outcome {
            Ok(_) => End::Succeeded,
            Err(_) => End::Failed,
        }
    }
}

/// The plan whose permits an operation uses, and how many there are.
fn limit<'a>(plans: &'a Plans, subject: &'a Subject) -> (&'a str, Option<usize>) {
    match plans.of(subject) {
        Some(offer) => (&offer.plan.id, offer.fulfilment().adapter.concurrency()),
        None => (subject.plan_ids()[0], None),
    }
}
