//! The rules of the Open Service Broker API. No sockets, no SQL, no processes: requests come in as values, answers go
//! out as values, records are in the [`Store`], and the work is done by the [`Adapter`](crate::adapter::Adapter) of the
//! plan.
//!
//! **The record is the lock.** A change by an adapter with outside effects is committed twice: first the record that says
//! which operation is in progress, compare-and-set on the revision that was read; then, after the work, its outcome.
//! Whoever meets a record with an operation in progress answers ConcurrencyError, and [`Broker::recover`] takes up
//! what a crash has cut off. An adapter without outside effects needs the second commit only.

pub mod binding;
pub mod body;
pub mod error;
pub mod instance;
pub mod operation;
pub mod plans;
mod recovery;

use crate::adapter::Failure;
use crate::catalog::Catalog;
use crate::store::{self, Change, Key, Outcome, Record, Revision, Store};
use binding::record::Binding;
use error::Error;
use instance::record::Instance;
use plans::{Offer, Plans};

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

/// How often a decision is made anew because somebody else was faster, before the request is refused.
const MAX_ATTEMPTS: usize = 100;

/// A success. Every body is a JSON object.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    /// For the log: `created`, `exists`, `updated`, `deleted`, …
    pub outcome: &'static str,
}

impl Answer {
    fn new(status: u16, outcome: &'static str, body: &impl Serialize) -> Result<Answer, Error> {
        let body = serde_json::to_vec(body).map_err(|error| unreadable("an answer", &error))?;
        Ok(Answer {
            status,
            body,
            outcome,
        })
    }

    /// 200 `{}`.
    fn empty(outcome: &'static str) -> Answer {
        Answer {
            status: 200,
            body: b"{}".to_vec(),
            outcome,
        }
    }
}

/// The broker: what it offers, and what it knows.
pub struct Broker {
    plans: Plans,
    store: Box<dyn Store>,
    /// Records whose operation has ended, but whose outcome could not be written: see [`Broker::settle`].
    unsettled: Mutex<HashSet<Key>>,
}

impl Broker {
    pub fn new(plans: Plans, store: Box<dyn Store>) -> Broker {
        Broker {
            plans,
            store,
            unsettled: Mutex::default(),
        }
    }

    pub fn catalog(&self) -> &Catalog {
        self.plans.catalog()
    }

    /// Whether the state can be read, for the health check.
    pub fn check_store(&self) -> Result<(), store::Error> {
        self.store.read(&[Key::instance("")]).map(|_| ())
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
    fn conclude(&self, key: &Key, changes: Vec<Change>) -> Result<(), Error> {
        let result = match self.store.commit(changes) {
            Ok(Outcome::Committed(_)) => return Ok(()),
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
    fn settle(&self, instance_id: &str) -> Result<(), Error> {
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
                self.recover_one(&key).inspect_err(|_| {
                    self.unsettled().insert(key.clone());
                })?;
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
    fn remover(
        &self,
        what: &str,
        service_id: &str,
        plan_ids: &[&str],
        effects: bool,
    ) -> Result<Option<Offer<'_>>, Error> {
        let offer = plan_ids
            .iter()
            .find_map(|plan_id| self.plans.lookup(service_id, plan_id).ok());
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

/// A record as it was read; absent ones have the revision [`Revision::ABSENT`].
struct Found<T> {
    revision: Revision,
    record: Option<T>,
}

impl<T: DeserializeOwned> Found<T> {
    fn new(found: Option<Record>) -> Result<Found<T>, Error> {
        Ok(match found {
            None => Found {
                revision: Revision::ABSENT,
                record: None,
            },
            Some(found) => Found {
                revision: found.revision,
                record: Some(decode(&found.body)?),
            },
        })
    }
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| unreadable("a record", &error))
}

fn encode(record: &impl Serialize) -> Result<Vec<u8>, Error> {
    // Room for nearly every record; what is not needed is given back, since stores may keep it.
    let mut body = Vec::with_capacity(1024);
    serde_json::to_writer(&mut body, record).map_err(|error| unreadable("a record", &error))?;
    body.shrink_to_fit();
    Ok(body)
}

/// `error` tells line, column and kind, never the content.
fn unreadable(what: &str, error: &serde_json::Error) -> Error {
    Error::internal(
        "The service broker failed; the operator finds the cause in the broker's log.",
        format!(
            "{what} is not readable JSON ({:?} at line {}, column {})",
            error.classify(),
            error.line(),
            error.column()
        ),
    )
}

fn put(key: Key, revision: Revision, record: &impl Serialize, open: bool) -> Result<Change, Error> {
    Ok(Change::Put {
        key,
        revision,
        body: encode(record)?,
        open,
    })
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
