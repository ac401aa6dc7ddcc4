//! Service bindings: bind, rotate, fetch, unbind, and their last operation.

pub mod record;
pub mod request;
pub mod verdict;
pub(super) mod work;

use super::error::Error;
use super::instance::record::Instance;
use super::instance::{absent as instance_absent, named as instance_named};
use super::operation::{self, Kind, Operation};
use super::plans::{Offer, Plans};
use super::poll::{self, Poll};
use super::stored::Found;
use super::work::subject::Subject;
use super::{Answer, Broker, Caller};
use crate::catalog::SchemaUse;
use crate::store::{Change, Key, Revision};
use record::Binding;
use request::BindRequest;
use verdict::{Bind, Unbind};

use std::time::SystemTime;

pub(super) fn named(id: &str) -> String {
    format!("Service binding {id:?}")
}

fn absent(id: &str) -> Error {
    Error::not_found(format!("{} does not exist.", named(id)))
}

impl Broker {
    /// `PUT /v2/service_instances/:instance_id/service_bindings/:binding_id`. spec: Binding; Binding Rotation.
    pub fn bind(
        &self,
        instance_id: &str,
        id: &str,
        body: &[u8],
        caller: Caller<'_>,
    ) -> Result<Answer, Error> {
        let request = BindRequest::parse(body)?;
        self.settle(instance_id, caller)?;
        self.decide(|| {
            let (instance, found) = self.read_binding(instance_id, id)?;
            let plan = instance.record.as_ref().map(|found| &*found.plan_id);
            let answer = match verdict::judge_bind(
                instance.record.as_ref(),
                found.record.as_ref(),
                &request,
            ) {
                Bind::NoInstance => Err(instance_absent(instance_id)),
                Bind::Create(record) => {
                    let instance = Bindable {
                        id: instance_id,
                        revision: instance.revision,
                        record,
                    };
                    self.create_binding(instance, id, &found, &request, caller)
                }
                Bind::Replace(record, binding) => {
                    Broker::check_bind(&self.plans(), record, &request, caller)?;
                    let instance = Bindable {
                        id: instance_id,
                        revision: instance.revision,
                        record,
                    };
                    self.replace_binding(instance, id, found.revision, binding, caller)?;
                    Ok(None)
                }
                Bind::Accepted(instance, binding) => again(instance, binding, caller).map(Some),
                Bind::Exists(binding) => Answer::new(200, "exists", &binding.answer).map(Some),
                Bind::Differs(attribute) => Err(Error::conflict(format!(
                    "{} exists already, with another {attribute}.",
                    named(id)
                ))),
                Bind::InstanceBusy(kind) => {
                    Err(operation::busy(&instance_named(instance_id), kind))
                }
                Bind::Busy(kind) => Err(operation::busy(&named(id), kind)),
            };
            self.about(caller, plan, answer)
        })
    }

    fn create_binding(
        &self,
        instance: Bindable<'_>,
        id: &str,
        found: &Found<Binding>,
        request: &BindRequest<'_>,
        caller: Caller<'_>,
    ) -> Result<Option<Answer>, Error> {
        let plans = self.plans();
        let offer = Broker::check_bind(&plans, instance.record, request, caller)?;
        let predecessor = match request.predecessor_binding_id.as_deref() {
            Some(predecessor) => Some(self.predecessor(instance.id, predecessor, &offer)?),
            None => None,
        };
        let fulfilment = offer.fulfilment();
        let effects = fulfilment.adapter.has_effects();
        // If it comes to nothing, what failed before is still to be removed.
        let failed = found.record.as_ref().map(|found| found.operation.clone());
        let operation = Operation::begin(Kind::Bind, Some(fulfilment), failed, caller)?;
        let binding = Binding::requested(
            request,
            instance.record,
            predecessor.as_ref(),
            effects,
            operation,
            caller.origin,
        );
        if fulfilment.requires_app && binding.app_guid.is_none() {
            return Err(Error::requires_app());
        }
        offer.check_parameters(SchemaUse::Bind, binding.parameters.as_deref())?;
        let subject = Subject::Binding(instance.record.clone().into(), binding.into());
        let key = Key::binding(instance.id, id);
        let expected = Some(instance.expected());
        self.begin(&key, found.revision, subject, effects, expected)
    }

    /// Removes what a failed bind with another plan has left behind.
    fn replace_binding(
        &self,
        instance: Bindable<'_>,
        id: &str,
        revision: Revision,
        binding: &Binding,
        caller: Caller<'_>,
    ) -> Result<(), Error> {
        let subject = Subject::Binding(instance.record.clone().into(), binding.clone().into());
        let plans = self.plans();
        let offer = Broker::offer(&plans, &subject);
        if offer.is_some_and(|offer| offer.fulfilment().is_async(Kind::Unbind)) {
            return Err(Error::conflict(format!(
                "{} could not be created before, with another plan, and what may be left of that takes time to remove. \
                 Unbind it first.",
                named(id)
            )));
        }
        self.delete_binding(instance, id, revision, binding, caller)
            .map(drop)
    }

    /// What the catalog says to a bind. spec: Binding, 400 and 422.
    fn check_bind<'p>(
        plans: &'p Plans,
        instance: &Instance,
        request: &BindRequest<'_>,
        caller: Caller<'_>,
    ) -> Result<Offer<'p>, Error> {
        if let Some(id) = request
            .service_id
            .as_deref()
            .filter(|id| *id != instance.service_id)
        {
            return Err(super::instance::verdict::other(
                "service_id",
                id,
                &instance.service_id,
            ));
        }
        if let Some(id) = request
            .plan_id
            .as_deref()
            .filter(|id| *id != instance.plan_id)
        {
            return Err(super::instance::verdict::other(
                "plan_id",
                id,
                &instance.plan_id,
            ));
        }
        let offer = plans.find_own(&instance.service_id, &instance.plan_id)?;
        caller.about(&offer);
        if !offer.plan.is_bindable() {
            return Err(Error::bad_request(format!(
                "plan_id: service instances of plan {:?} cannot be bound; the plan is not bindable.",
                offer.plan.name
            )));
        }
        Ok(offer)
    }

    /// The binding that a rotation replaces. spec: Binding Rotation; it must be of the same instance and not expired.
    fn predecessor(
        &self,
        instance_id: &str,
        id: &str,
        offer: &Offer<'_>,
    ) -> Result<Binding, Error> {
        if !offer.plan.is_rotatable() {
            return Err(Error::bad_request(format!(
                "predecessor_binding_id: bindings of plan {:?} cannot be rotated; the plan is not binding_rotatable.",
                offer.plan.name
            )));
        }
        let found: Found<Binding> = self.read_binding(instance_id, id)?.1;
        let wrong = |what: &str| {
            Error::bad_request(format!(
                "predecessor_binding_id: found {id:?}, wanted the id of a binding of this service instance{what}."
            ))
        };
        let predecessor = found
            .record
            .filter(|binding| binding.operation.exists())
            .ok_or_else(|| wrong(""))?;
        if predecessor.operation.in_progress() {
            return Err(operation::busy(&named(id), predecessor.operation.kind));
        }
        if predecessor.is_expired(SystemTime::now()) {
            return Err(wrong(" that has not expired"));
        }
        Ok(predecessor)
    }

    /// `GET /v2/service_instances/:instance_id/service_bindings/:binding_id`. spec: Fetching a Service Binding. The ids
    /// are hints of the platform.
    pub fn fetch_binding(
        &self,
        instance_id: &str,
        id: &str,
        service_id: Option<&str>,
        plan_id: Option<&str>,
        caller: Caller<'_>,
    ) -> Result<Answer, Error> {
        let (instance, found) = self.read_binding(instance_id, id)?;
        let plan = instance.record.as_ref().map(|found| &*found.plan_id);
        self.about(caller, plan, ());
        let (Some(instance), Some(binding)) = (instance.record, found.record) else {
            return Err(absent(id));
        };
        if !binding.operation.exists() {
            return Err(absent(id));
        }
        if let Some(error) = verdict::mismatch(&instance, &binding, service_id, plan_id) {
            return Err(error);
        }
        let plans = self.plans();
        let service = plans.catalog().service(&binding.service_id);
        if service.is_some_and(|service| service.bindings_retrievable != Some(true)) {
            return Err(Error::not_found(format!(
                "{} cannot be fetched: its service offering is not bindings_retrievable.",
                named(id)
            )));
        }
        Answer::new(200, "fetched", &binding.fetched())
    }

    /// `GET /v2/service_instances/:instance_id/service_bindings/:binding_id/last_operation`.
    /// spec: Polling Last Operation for Service Bindings.
    pub fn poll_binding(
        &self,
        instance_id: &str,
        id: &str,
        service_id: Option<&str>,
        plan_id: Option<&str>,
        operation: Option<&str>,
        caller: Caller<'_>,
    ) -> Result<Answer, Error> {
        let (instance, found) = self.read_binding(instance_id, id)?;
        let plan = instance.record.as_ref().map(|found| &*found.plan_id);
        self.about(caller, plan, ());
        let records = instance.record.as_ref().zip(found.record.as_ref());
        if let Some((instance, binding)) = records
            && let Some(error) = verdict::mismatch(instance, binding, service_id, plan_id)
        {
            return Err(error);
        }
        let last = records.map(|(_, binding)| &binding.operation);
        match poll::judge_poll(last, found.gone.as_ref(), operation) {
            Poll::Absent => Err(absent(id)),
            Poll::Gone => Err(Error::gone(format!("{} was deleted.", named(id)))),
            Poll::Unknown => Err(poll::unknown(operation)),
            Poll::Known(operation) => {
                let progress = self.progress(&Key::binding(instance_id, id), operation);
                Answer::polled(operation, progress.as_deref())
            }
        }
    }

    /// `DELETE /v2/service_instances/:instance_id/service_bindings/:binding_id`. spec: Unbinding.
    pub fn unbind(
        &self,
        instance_id: &str,
        id: &str,
        service_id: &str,
        plan_id: &str,
        caller: Caller<'_>,
    ) -> Result<Answer, Error> {
        self.settle(instance_id, caller)?;
        self.decide(|| {
            let (instance, found) = self.read_binding(instance_id, id)?;
            let (record, binding) = (instance.record.as_ref(), found.record.as_ref());
            let plan = record.map(|found| &*found.plan_id);
            let answer = match verdict::judge_unbind(record, binding, service_id, plan_id) {
                Unbind::Gone => Err(Error::gone(format!("{} does not exist.", named(id)))),
                Unbind::Mismatch(error) => Err(error),
                Unbind::InstanceBusy(kind) => {
                    Err(operation::busy(&instance_named(instance_id), kind))
                }
                Unbind::Busy(kind) => Err(operation::busy(&named(id), kind)),
                Unbind::Accepted(instance, binding) => again(instance, binding, caller).map(Some),
                Unbind::Delete(record, binding) => {
                    let instance = Bindable {
                        id: instance_id,
                        revision: instance.revision,
                        record,
                    };
                    self.delete_binding(instance, id, found.revision, binding, caller)
                }
            };
            self.about(caller, plan, answer)
        })
    }

    /// Deletes a binding, also one whose asynchronous creation is in progress: that is cut off then.
    fn delete_binding(
        &self,
        instance: Bindable<'_>,
        id: &str,
        revision: Revision,
        binding: &Binding,
        caller: Caller<'_>,
    ) -> Result<Option<Answer>, Error> {
        let subject = Subject::Binding(instance.record.clone().into(), binding.clone().into());
        let ids = subject.plan_ids();
        let plans = self.plans();
        let offer = Broker::remover(
            &plans,
            &named(id),
            &binding.service_id,
            &ids,
            binding.effects,
        )?;
        offer.iter().for_each(|offer| caller.about(offer));
        let fulfilment = offer.map(|offer| offer.fulfilment());
        let last = match binding.operation.in_progress() {
            true => binding.operation.cut_off(),
            false => binding.operation.clone(),
        };
        let operation = Operation::begin(Kind::Unbind, fulfilment, Some(last), caller)?;
        let subject = Subject::Binding(
            instance.record.clone().into(),
            binding.during(operation).into(),
        );
        let (key, effects) = (Key::binding(instance.id, id), binding.effects);
        let expected = effects.then(|| instance.expected());
        self.begin(&key, revision, subject, effects, expected)
    }
}

/// 202 for the request whose operation is in progress, sent again; 422 AsyncRequired if the platform would not poll.
fn again(instance: &Instance, binding: &Binding, caller: Caller<'_>) -> Result<Answer, Error> {
    if !caller.accepts_incomplete {
        return Err(Error::async_required());
    }
    Subject::Binding(instance.clone().into(), binding.clone().into()).accepted()
}

/// An instance as it was read for a change of its bindings.
#[derive(Clone, Copy)]
struct Bindable<'a> {
    id: &'a str,
    revision: Revision,
    record: &'a Instance,
}

impl Bindable<'_> {
    /// Holds a commit to the instance as it was read: it must not go away while a binding of it comes.
    fn expected(&self) -> Change {
        Change::Expect {
            key: Key::instance(self.id),
            revision: self.revision,
        }
    }
}
