//! What the endpoints for service instances and for service bindings do alike.

use super::operations::{Begun, Operations};
use super::plans::{Offer, Plans};
use super::protocol::answer::Answer;
use super::protocol::caller::Caller;
use super::protocol::error::Error;
use super::protocol::named;
use super::protocol::operation::{self, Kind, Operation};
use super::protocol::poll::{self, Poll};
use super::protocol::subject::Subject;
use super::state::State;
use crate::store::{Change, Key, Revision};

use std::sync::Arc;

/// What an endpoint works with to answer one request.
pub struct Endpoint<'a> {
    pub state: &'a State,
    pub operations: &'a Operations,
    /// The catalog of the moment.
    pub plans: Arc<Plans>,
    pub caller: Caller<'a>,
}

impl Endpoint<'_> {
    /// Changes an instance or a binding of it: settles what was left behind, then lets `decide` read the records and judge
    /// the request. It returns `None` after a conflict, and is called again.
    pub fn change(
        &self,
        instance_id: &str,
        decide: impl FnMut() -> Result<Option<Answer>, Error>,
    ) -> Result<Answer, Error> {
        self.operations
            .settle(Some(instance_id), self.caller.since)?;
        self.state.decide(decide)
    }

    /// For the log: the request is about this plan.
    pub fn about(&self, offer: &Offer<'_>) {
        self.caller.about(Some(offer.names()));
    }

    /// For the log: the request was about a record of this plan, if nothing better is known.
    pub fn about_found(&self, plan_id: Option<&str>) {
        self.caller
            .about(plan_id.and_then(|id| self.plans.names(id)));
    }

    /// Begins an operation, and answers when its request can be answered. `None` after a conflict.
    pub fn begin(
        &self,
        key: &Key,
        revision: Revision,
        subject: Subject,
        effects: bool,
        expected: Option<Change>,
    ) -> Result<Option<Answer>, Error> {
        let kind = subject.operation().kind;
        let begun = self
            .operations
            .begin(key, revision, subject, effects, expected)?;
        begun
            .map(|begun| match begun {
                Begun::Accepted(subject) => subject.accepted(),
                Begun::Ended(ending) => ending.answer(kind),
            })
            .transpose()
    }

    /// The operation that removes a record, also one whose asynchronous creation is in progress: that is cut off then.
    pub fn removal(&self, key: &Key, kind: Kind, found: &Subject) -> Result<Operation, Error> {
        let plan_ids = found.plan_ids();
        let effects = found.effects();
        let offer = self
            .plans
            .remover(key, found.service_id(), &plan_ids, effects)?;
        if let Some(offer) = &offer {
            self.about(offer);
        }
        let last = found.operation();
        let last = match last.in_progress() {
            true => last.cut_off(),
            false => last.clone(),
        };
        let fulfilment = offer.map(|offer| offer.fulfilment());
        Operation::begin(kind, fulfilment, Some(last), self.caller)
    }

    /// 409 where a creation would first have to remove what one of another plan has left behind, and that is asynchronous.
    /// `removal` is what the user has to do then.
    pub fn check_replaceable(
        &self,
        key: &Key,
        found: &Subject,
        removal: Kind,
    ) -> Result<(), Error> {
        let offer = self.plans.of(found);
        if !offer.is_some_and(|offer| offer.fulfilment().is_async(removal)) {
            return Ok(());
        }
        let (created, remove) = match removal {
            Kind::Unbind => ("created", "Unbind"),
            _ => ("provisioned", "Deprovision"),
        };
        Err(Error::conflict(format!(
            "{} could not be {created} before, with another plan, and what may be left of that takes time to remove. \
             {remove} it first.",
            named(key)
        )))
    }

    /// 202 for the request whose operation is in progress, sent again; 422 AsyncRequired if the platform would not poll.
    pub fn accepted_again(&self, found: &Subject) -> Result<Option<Answer>, Error> {
        match self.caller.accepts_incomplete {
            true => found.accepted().map(Some),
            false => Err(Error::async_required()),
        }
    }

    /// The answer to a poll. spec: Polling Last Operation. `last` is the operation of the record, `gone` that of a record
    /// which is no more, `asked` the one that the platform names, and `elsewhere` says that another broker works on it.
    pub fn poll(
        &self,
        key: &Key,
        last: Option<&Operation>,
        gone: Option<&Operation>,
        asked: Option<&str>,
        elsewhere: bool,
    ) -> Result<Answer, Error> {
        match poll::judge_poll(last, gone, asked) {
            Poll::Absent => Err(absent(key)),
            Poll::Gone => Err(Error::gone(format!("{} was deleted.", named(key)))),
            Poll::Unknown => Err(poll::unknown(asked)),
            Poll::Known(operation) => {
                let progress = match elsewhere && operation.is_polled() {
                    true => Some("Another broker works on it.".to_owned()),
                    false => self.operations.progress(key, operation),
                };
                Answer::polled(operation, progress.as_deref())
            }
        }
    }
}

/// 404.
pub fn absent(key: &Key) -> Error {
    Error::not_found(format!("{} does not exist.", named(key)))
}

/// 410, to a delete.
pub fn gone(key: &Key) -> Error {
    Error::gone(format!("{} does not exist.", named(key)))
}

/// 409: it exists, with another value of this attribute.
pub fn differs(key: &Key, attribute: &str) -> Error {
    Error::conflict(format!(
        "{} exists already, with another {attribute}.",
        named(key)
    ))
}

/// 422 where another broker works on a creation that is to be cut off: only that one can stop it.
pub fn check_here(key: &Key, elsewhere: bool, operation: &Operation) -> Result<(), Error> {
    match elsewhere && operation.in_progress() {
        true => Err(operation::busy(key, operation.kind)),
        false => Ok(()),
    }
}

/// 404: the catalog does not allow it. `what` is the field of the service offering that would.
pub fn not_retrievable(key: &Key, what: &str) -> Error {
    Error::not_found(format!(
        "{} cannot be fetched: its service offering is not {what}.",
        named(key)
    ))
}
