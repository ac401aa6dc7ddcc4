//! The rules of the Open Service Broker API. No sockets, no SQL, no processes: requests come in as values, answers go
//! out as values, records are in the [`Store`], and the work is done by the [`Adapter`](crate::adapter::Adapter) of the
//! plan.
//!
//! **The record is the lock.** A change by an adapter with outside effects is committed twice: first the record that says
//! which operation is in progress, compare-and-set on the revision that was read; then, after the work, its outcome.
//! The work is done by the thread of the request, or, if the operation is asynchronous, by one of the broker's own after
//! 202 was answered; it is the same work either way, and the record says all that is needed for it. Whoever meets a
//! record with an operation in progress answers ConcurrencyError, or 202 again to the same request, and
//! [`Broker::recover`] takes up what a crash has cut off. An adapter without outside effects needs the second commit
//! only.

pub mod binding;
pub mod body;
pub mod census;
pub mod error;
pub mod instance;
pub mod operation;
pub mod plans;
pub mod poll;
mod quotes;
mod recovery;
mod stored;
mod work;

use crate::adapter::{Failure, Origin};
use crate::current::Current;
use crate::log;
use crate::store::{self, Change, Key, Outcome, Revision, Store};
use binding::record::Binding;
use error::Error;
use instance::record::Instance;
use operation::Operation;
use plans::{Names, Offer, Plans};
use stored::{Found, unreadable};
use work::Work;
use work::gone::{Graveyard, Tombstone};
use work::subject::Subject;

use serde::Serialize;
use std::cell::OnceCell;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// How often a decision is made anew because somebody else was faster, before the request is refused.
const MAX_ATTEMPTS: usize = 100;

/// A success. Every body is a JSON object.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    /// For the log: `created`, `exists`, `updated`, `deleted`, …
    pub outcome: &'static str,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u32>,
}

/// Who asks, and whether they would poll for the end of an asynchronous operation.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    pub origin: Origin<'a>,
    pub accepts_incomplete: bool,
    /// When the request came: a platform waits a minute for its answer, whatever has to be done before.
    pub since: Instant,
    /// Takes what the plan that the request is about is called, for the log.
    pub names: Option<&'a OnceCell<Arc<Names>>>,
}

impl Default for Caller<'_> {
    /// Nobody that is known, right now.
    fn default() -> Self {
        Caller {
            origin: Origin::default(),
            accepts_incomplete: false,
            since: Instant::now(),
            names: None,
        }
    }
}

impl Caller<'_> {
    /// Says which plan it is about. The first one counts.
    fn about(&self, offer: &Offer<'_>) {
        if let Some(names) = self.names {
            names.get_or_init(|| offer.names().clone());
        }
    }
}

/// How often a platform should poll, in seconds: a promptly polling user sees progress. Cloud Foundry polls no more often
/// than once a minute, whatever it is told.
const POLL_AGAIN: u32 = 5;

impl Answer {
    fn new(status: u16, outcome: &'static str, body: &impl Serialize) -> Result<Answer, Error> {
        let body = serde_json::to_vec(body).map_err(|error| unreadable("an answer", &error))?;
        Ok(Answer {
            status,
            body,
            outcome,
            retry_after: None,
        })
    }

    /// The answer to a poll. spec: Polling Last Operation, Body.
    fn polled(operation: &Operation, progress: Option<&str>) -> Result<Answer, Error> {
        let answer = Answer::new(200, "polled", &operation.answer(progress))?;
        Ok(Answer {
            retry_after: operation.in_progress().then_some(POLL_AGAIN),
            ..answer
        })
    }

    /// 200 `{}`.
    fn empty(outcome: &'static str) -> Answer {
        Answer {
            status: 200,
            body: b"{}".to_vec(),
            outcome,
            retry_after: None,
        }
    }
}

/// The broker: what it offers, and what it knows.
pub struct Broker {
    plans: Current<Plans>,
    store: Box<dyn Store>,
    /// Records whose operation has ended, but whose outcome could not be written: see [`Broker::settle`].
    unsettled: Mutex<HashSet<Key>>,
    work: Work,
    graveyard: Graveyard,
}

impl Broker {
    /// Shared with the threads that carry out asynchronous operations.
    pub fn new(plans: Plans, store: Box<dyn Store>) -> Arc<Broker> {
        Arc::new_cyclic(|broker| Broker {
            plans: Current::new(plans),
            store,
            unsettled: Mutex::default(),
            work: Work::new(broker.clone()),
            graveyard: Graveyard::default(),
        })
    }

    /// Begins no asynchronous operation any more: what is asked for from now on is taken up after the next start.
    pub fn finish(&self) {
        self.work.finish();
    }

    /// Lets the operations that are being worked on end up to `finish`, then tells adapters to come back, and waits for that
    /// up to `end`. Returns whether all have. What has not ended is settled or taken up at the next start.
    pub fn stop(&self, finish: Instant, end: Instant) -> bool {
        self.work.stop(finish, end)
    }

    /// Leaves the state in order, when nothing goes on any more.
    pub fn close(&self) {
        self.store.close();
    }

    /// What is offered now. Whoever works with it goes on with what it was then.
    pub fn plans(&self) -> Arc<Plans> {
        self.plans.get()
    }

    /// From now on this is offered. What has begun with the plans of before ends with them, a call of an adapter at the
    /// latest; what is queued is worked on as the new ones say.
    pub fn replace_plans(&self, plans: Plans) {
        self.plans.set(plans);
        let plans = self.plans();
        for (service_id, plan_id) in plans.all() {
            if let Ok(offer) = plans.lookup(service_id, plan_id) {
                let concurrency = offer.fulfilment().adapter.concurrency();
                self.work.set_concurrency(plan_id, concurrency);
            }
        }
    }

    /// Whether the state can be read, for the health check.
    pub fn check_store(&self) -> Result<(), store::Error> {
        self.store.read(&[Key::instance("")]).map(|_| ())
    }

    /// Says which plan a request is about, if nobody has yet, and hands on what has become of it.
    fn about<T>(&self, caller: Caller<'_>, plan_id: Option<&str>, result: T) -> T {
        if let (Some(cell), Some(plan_id)) = (caller.names, plan_id)
            && cell.get().is_none()
            && let Some(names) = self.plans().names(plan_id)
        {
            cell.get_or_init(|| names.clone());
        }
        result
    }

    /// A line of the log about a record, with what its plan is called, if that is in the catalog.
    fn line(&self, line: log::Entry, key: &Key, plan_id: &str) -> log::Entry {
        let (instance_id, binding_id) = match key {
            Key::Instance(id) => (id, None),
            Key::Binding(instance_id, id) => (instance_id, Some(id)),
        };
        let plans = self.plans();
        let names = plans.names(plan_id);
        line.with("instance_id", instance_id)
            .with("binding_id", binding_id)
            .with("service", names.map(|names| &names.service))
            .with("plan", names.map(|names| &names.plan))
    }

    fn read_instance(&self, id: &str) -> Result<Found<Instance>, Error> {
        let mut records = self.store.read(&[Key::instance(id)])?.into_iter();
        Found::new(records.next().flatten())
    }

    /// An instance and one of its bindings, of one moment.
    fn read_binding(
        &self,
        instance_id: &str,
        id: &str,
    ) -> Result<(Found<Instance>, Found<Binding>), Error> {
        let keys = [Key::instance(instance_id), Key::binding(instance_id, id)];
        let mut records = self.store.read(&keys)?.into_iter();
        Ok((
            Found::new(records.next().flatten())?,
            Found::new(records.next().flatten())?,
        ))
    }

    /// A record and what must be known with it; `None` if there is none, or only a binding whose instance is gone.
    fn read_subject(&self, key: &Key) -> Result<Option<(Revision, Subject)>, Error> {
        match key {
            Key::Instance(id) => {
                let found = self.read_instance(id)?;
                let subject = found
                    .record
                    .map(|instance| Subject::Instance(Box::new(instance)));
                Ok(subject.map(|subject| (found.revision, subject)))
            }
            Key::Binding(instance_id, id) => {
                let (instance, found) = self.read_binding(instance_id, id)?;
                let records = instance.record.zip(found.record);
                let subject = records
                    .map(|(instance, binding)| Subject::Binding(instance.into(), binding.into()));
                Ok(subject.map(|subject| (found.revision, subject)))
            }
        }
    }

    /// What is left of a record that is no more, if anything is.
    fn tombstone(&self, key: &Key) -> Result<Option<(Revision, Tombstone)>, Error> {
        let mut records = self.store.read(std::slice::from_ref(key))?.into_iter();
        let record = records.next().flatten();
        Ok(record.and_then(|record| {
            let tombstone = serde_json::from_slice(&record.body).ok()?;
            Some((record.revision, tombstone))
        }))
    }

    /// What is being done for an operation, for whoever polls.
    fn progress(&self, key: &Key, operation: &Operation) -> Option<String> {
        if !operation.is_polled() {
            return None;
        }
        self.work.nudge();
        Some(self.work.progress(key, &operation.id))
    }

    /// Makes a decision again until nobody else was faster: `attempt` returns `None` after a conflict.
    fn decide<T>(&self, mut attempt: impl FnMut() -> Result<Option<T>, Error>) -> Result<T, Error> {
        for _ in 0..MAX_ATTEMPTS {
            if let Some(result) = attempt()? {
                return Ok(result);
            }
        }
        Err(Error::concurrency(
            "Too many requests change the same service instance at the same time. Try again.",
        ))
    }

    /// `None` if somebody else was faster.
    fn commit(&self, changes: Vec<Change>) -> Result<Option<Revision>, Error> {
        Ok(match self.store.commit(changes)? {
            Outcome::Committed(revision) => Some(revision),
            Outcome::Conflict => None,
        })
    }

    /// Commits the outcome of an operation, whose record nobody else may touch while it is in progress. If that cannot be
    /// written, the record is settled before the next request about it.
    fn conclude(&self, key: &Key, changes: Vec<Change>) -> Result<Revision, Error> {
        let result = match self.store.commit(changes) {
            Ok(Outcome::Committed(revision)) => return Ok(revision),
            Ok(Outcome::Conflict) => Err(Error::internal(
                "The service broker lost track of this operation; the operator finds the cause in the broker's log.",
                format!("the record of {key:?} changed during its own operation"),
            )),
            Err(error) => Err(Error {
                description: "The service broker could not write down what became of this request, and settles that before \
                              it answers the next one about it. Try again later; the operator finds the cause in the \
                              broker's log."
                    .into(),
                ..error.into()
            }),
        };
        self.unsettled().insert(key.clone());
        result
    }

    /// Takes back, or ends, operations about an instance whose outcome could not be written when it was there.
    fn settle(&self, instance_id: &str, caller: Caller<'_>) -> Result<(), Error> {
        let of_instance = |key: &Key| match key {
            Key::Instance(id) | Key::Binding(id, _) => id == instance_id,
        };
        let mut keys: Vec<Key> = {
            let unsettled = self.unsettled();
            if unsettled.is_empty() {
                return Ok(());
            }
            unsettled
                .iter()
                .filter(|key| of_instance(key))
                .cloned()
                .collect()
        };
        recovery::sort(&mut keys);
        for key in keys {
            // Whoever removes the key settles it; others meet the record, still in progress.
            if self.unsettled().remove(&key) {
                let end = caller.since + recovery::LIMIT;
                let resumable = self.recover_until(&key, end).inspect_err(|_| {
                    self.unsettled().insert(key.clone());
                })?;
                if let Some(subject) = resumable {
                    self.submit(&key, &subject, true);
                }
            }
        }
        Ok(())
    }

    fn unsettled(&self) -> std::sync::MutexGuard<'_, HashSet<Key>> {
        self.unsettled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The plan whose adapter removes what it made: the one of the record, if it is still in the catalog. `None` if it is
    /// not, and there is nothing outside the broker to remove.
    fn remover<'p>(
        plans: &'p Plans,
        what: &str,
        service_id: &str,
        plan_ids: &[&str],
        effects: bool,
    ) -> Result<Option<Offer<'p>>, Error> {
        let offer = plan_ids
            .iter()
            .find_map(|plan_id| plans.lookup(service_id, plan_id).ok());
        if offer.is_none() && effects {
            let plan_id = plan_ids.first().copied().unwrap_or_default();
            return Err(Error::internal(
                format!(
                    "{what} cannot be removed: its plan {plan_id:?} has left the broker's catalog, and with it the \
                     adapter that can. The operator has to put the plan back into the catalog file."
                ),
                "the plan has left the catalog",
            ));
        }
        Ok(offer)
    }
}

/// Calls an adapter; a panic there is a failure like any other.
fn guarded<T>(call: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        Err(Failure::failed(
            "The service broker failed unexpectedly; the operator finds the cause in the broker's log.",
        )
        .with_detail("the adapter panicked"))
    })
}
