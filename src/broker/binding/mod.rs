//! Service bindings: bind, rotate, fetch, unbind, and their last operation.

pub mod record;
pub mod request;
pub mod verdict;

use super::error::Error;
use super::instance::record::Instance;
use super::instance::{absent as instance_absent, named as instance_named};
use super::operation::{self, Kind, Operation, State};
use super::plans::Offer;
use super::{Answer, Broker, Found, guarded, put};
use crate::adapter::{FailureKind, Origin, Run};
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
        origin: Origin<'_>,
    ) -> Result<Answer, Error> {
        let request = BindRequest::parse(body)?;
        self.settle(instance_id)?;
        self.decide(|| {
            let (instance, found) = self.read_binding(instance_id, id)?;
            match verdict::judge_bind(instance.record.as_ref(), found.record.as_ref(), &request) {
                Bind::NoInstance => Err(instance_absent(instance_id)),
                Bind::Create(record) => {
                    let instance = Bindable {
                        id: instance_id,
                        revision: instance.revision,
                        record,
                    };
                    self.create_binding(instance, id, found.revision, &request, origin)
                }
                Bind::Replace(record, binding) => {
                    self.check_bind(record, &request)?;
                    let instance = Bindable {
                        id: instance_id,
                        revision: instance.revision,
                        record,
                    };
                    self.delete_binding(instance, id, found.revision, binding, origin)?;
                    Ok(None)
                }
                Bind::Exists(binding) => Answer::new(200, "exists", &binding.answer).map(Some),
                Bind::Differs(attribute) => Err(Error::conflict(format!(
                    "{} exists already, with another {attribute}.",
                    named(id)
                ))),
                Bind::InstanceBusy(kind) => {
                    Err(operation::busy(&instance_named(instance_id), kind))
                }
                Bind::Busy(kind) => Err(operation::busy(&named(id), kind)),
            }
        })
    }

    fn create_binding(
        &self,
        instance: Bindable<'_>,
        id: &str,
        revision: Revision,
        request: &BindRequest<'_>,
        origin: Origin<'_>,
    ) -> Result<Option<Answer>, Error> {
        let offer = self.check_bind(instance.record, request)?;
        let predecessor = match request.predecessor_binding_id.as_deref() {
            Some(predecessor) => Some(self.predecessor(instance.id, predecessor, &offer)?),
            None => None,
        };
        let fulfilment = offer.fulfilment();
        let effects = fulfilment.adapter.has_effects();
        let mut binding = Binding::requested(
            request,
            instance.record,
            predecessor.as_ref(),
            effects,
            origin,
        );
        if fulfilment.requires_app && binding.app_guid.is_none() {
            return Err(Error::requires_app());
        }
        offer.check_parameters(SchemaUse::Bind, binding.parameters.as_deref())?;
        let key = Key::binding(instance.id, id);
        let begun = if effects {
            let change = put(key.clone(), revision, &binding, true)?;
            match self.commit(vec![instance.expected(), change])? {
                Some(revision) => revision,
                None => return Ok(None),
            }
        } else {
            revision
        };
        let operation = operation::new_id()?;
        let run = Run::alone(&operation, fulfilment.adapter.timeout(Kind::Bind));
        let told = instance
            .record
            .call(instance.id, offer.service, offer.plan, origin, run);
        let call = binding.call(id, told);
        match guarded(|| fulfilment.adapter.bind(&call)) {
            Ok(bound) => binding.apply(bound),
            Err(failure) => {
                if effects {
                    let change = match failure.kind {
                        // Something may be left behind: kept, so that orphan mitigation reaches the adapter.
                        FailureKind::Failed => {
                            binding.operation = Operation::failed(Kind::Bind, &failure);
                            put(key.clone(), begun, &binding, false)?
                        }
                        _ => Change::Delete {
                            key: key.clone(),
                            revision: begun,
                        },
                    };
                    self.conclude(&key, vec![change])?;
                }
                return Err(Error::from_failure(failure));
            }
        }
        let change = put(key.clone(), begun, &binding, false)?;
        if effects {
            self.conclude(&key, vec![change])?;
        } else if self.commit(vec![instance.expected(), change])?.is_none() {
            return Ok(None);
        }
        Answer::new(201, "created", &binding.answer).map(Some)
    }

    /// What the catalog says to a bind. spec: Binding, 400 and 422.
    fn check_bind(
        &self,
        instance: &Instance,
        request: &BindRequest<'_>,
    ) -> Result<Offer<'_>, Error> {
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
        let offer = self.plans.find(&instance.service_id, &instance.plan_id)?;
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
    ) -> Result<Answer, Error> {
        let (instance, found) = self.read_binding(instance_id, id)?;
        let (Some(instance), Some(binding)) = (instance.record, found.record) else {
            return Err(absent(id));
        };
        if !binding.operation.exists() {
            return Err(absent(id));
        }
        if let Some(error) = verdict::mismatch(&instance, &binding, service_id, plan_id) {
            return Err(error);
        }
        let service = self.catalog().service(&binding.service_id);
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
    ) -> Result<Answer, Error> {
        let (instance, found) = self.read_binding(instance_id, id)?;
        let (Some(instance), Some(binding)) = (instance.record, found.record) else {
            return Err(absent(id));
        };
        if let Some(error) = verdict::mismatch(&instance, &binding, service_id, plan_id) {
            return Err(error);
        }
        operation::refuse_unknown(operation)?;
        Answer::new(200, "polled", &binding.operation.answer())
    }

    /// `DELETE /v2/service_instances/:instance_id/service_bindings/:binding_id`. spec: Unbinding.
    pub fn unbind(
        &self,
        instance_id: &str,
        id: &str,
        service_id: &str,
        plan_id: &str,
        origin: Origin<'_>,
    ) -> Result<Answer, Error> {
        self.settle(instance_id)?;
        self.decide(|| {
            let (instance, found) = self.read_binding(instance_id, id)?;
            let (record, binding) = (instance.record.as_ref(), found.record.as_ref());
            match verdict::judge_unbind(record, binding, service_id, plan_id) {
                Unbind::Gone => Err(Error::gone(format!("{} does not exist.", named(id)))),
                Unbind::Mismatch(error) => Err(error),
                Unbind::InstanceBusy(kind) => {
                    Err(operation::busy(&instance_named(instance_id), kind))
                }
                Unbind::Busy(kind) => Err(operation::busy(&named(id), kind)),
                Unbind::Delete(record, binding) => {
                    let instance = Bindable {
                        id: instance_id,
                        revision: instance.revision,
                        record,
                    };
                    self.delete_binding(instance, id, found.revision, binding, origin)
                }
            }
        })
    }

    fn delete_binding(
        &self,
        instance: Bindable<'_>,
        id: &str,
        revision: Revision,
        binding: &Binding,
        origin: Origin<'_>,
    ) -> Result<Option<Answer>, Error> {
        let key = Key::binding(instance.id, id);
        let remove = |revision| Change::Delete {
            key: key.clone(),
            revision,
        };
        if !binding.effects {
            self.call_unbind(instance.id, instance.record, id, binding, origin)?;
            let committed = self.commit(vec![remove(revision)])?;
            return Ok(committed.map(|_| Answer::empty("deleted")));
        }
        let mut busy = binding.clone();
        busy.operation = Operation::new(Kind::Unbind, State::InProgress);
        let change = put(key.clone(), revision, &busy, true)?;
        let Some(begun) = self.commit(vec![instance.expected(), change])? else {
            return Ok(None);
        };
        match self.call_unbind(instance.id, instance.record, id, binding, origin) {
            Ok(()) => {
                self.conclude(&key, vec![remove(begun)])?;
                Ok(Some(Answer::empty("deleted")))
            }
            Err(error) => {
                let mut restored = binding.clone();
                // A bind that failed stays one that failed: there is nothing to use.
                if error.status >= 500 && binding.operation.exists() {
                    restored.operation = Operation {
                        description: Some(error.description.clone().into_owned()),
                        ..Operation::new(Kind::Unbind, State::Failed)
                    };
                }
                let change = put(key.clone(), begun, &restored, false)?;
                self.conclude(&key, vec![change])?;
                Err(error)
            }
        }
    }

    /// Has the adapter that made the binding remove it.
    pub(super) fn call_unbind(
        &self,
        instance_id: &str,
        instance: &Instance,
        id: &str,
        binding: &Binding,
        origin: Origin<'_>,
    ) -> Result<(), Error> {
        // If the plan that the binding was made with has left the catalog, that of the instance does, whose adapter is of
        // the same kind.
        let plans = [binding.plan_id.as_str(), instance.plan_id.as_str()];
        let offer = self.remover(&named(id), &binding.service_id, &plans, binding.effects)?;
        let Some(offer) = offer else { return Ok(()) };
        let adapter = &offer.fulfilment().adapter;
        let operation = operation::new_id()?;
        let run = Run::alone(&operation, adapter.timeout(Kind::Unbind));
        let told = instance.call(instance_id, offer.service, offer.plan, origin, run);
        let call = binding.call(id, told);
        guarded(|| adapter.unbind(&call)).map_err(Error::from_failure)
    }
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
