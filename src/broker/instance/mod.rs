//! Service instances: provision, fetch, update, deprovision, and their last operation.

pub mod record;
pub mod request;
pub mod verdict;

use super::binding::record::Binding;
use super::error::Error;
use super::operation::{self, Kind, Operation, State};
use super::{Answer, Broker, decode, guarded, put};
use crate::adapter::{FailureKind, Origin, Run, UpdateCall};
use crate::catalog::SchemaUse;
use crate::json::Object;
use crate::log;
use crate::store::{Change, Key, Revision};
use record::Instance;
use request::{Changes, ProvisionRequest, UpdateRequest};
use verdict::{Deprovision, Fetch, Provision, Update};

pub(super) fn named(id: &str) -> String {
    format!("Service instance {id:?}")
}

pub(super) fn absent(id: &str) -> Error {
    Error::not_found(format!("{} does not exist.", named(id)))
}

impl Broker {
    /// `PUT /v2/service_instances/:instance_id`. spec: Provisioning.
    pub fn provision(&self, id: &str, body: &[u8], origin: Origin<'_>) -> Result<Answer, Error> {
        let request = ProvisionRequest::parse(body)?;
        self.settle(id)?;
        self.decide(|| {
            let found = self.read_instance(id)?;
            match verdict::judge_provision(found.record.as_ref(), &request) {
                Provision::Create => self.create(id, found.revision, &request, origin),
                Provision::Replace(instance) => {
                    self.plans.find(&request.service_id, &request.plan_id)?;
                    self.delete(id, found.revision, instance, origin)?;
                    Ok(None)
                }
                Provision::Exists(instance) => {
                    Answer::new(200, "exists", &instance.answer()).map(Some)
                }
                Provision::Differs(attribute) => Err(Error::conflict(format!(
                    "{} exists already, with another {attribute}.",
                    named(id)
                ))),
                Provision::Busy(kind) => Err(operation::busy(&named(id), kind)),
            }
        })
    }

    fn create(
        &self,
        id: &str,
        revision: Revision,
        request: &ProvisionRequest<'_>,
        origin: Origin<'_>,
    ) -> Result<Option<Answer>, Error> {
        let offer = self.plans.find(&request.service_id, &request.plan_id)?;
        offer.check_maintenance(request.maintenance_version.as_deref())?;
        offer.check_parameters(SchemaUse::Provision, request.parameters)?;
        let fulfilment = offer.fulfilment();
        let key = Key::instance(id);
        let mut instance = Instance::requested(request, offer.plan, fulfilment, origin);
        let begun = if instance.effects {
            match self.commit(vec![put(key.clone(), revision, &instance, true)?])? {
                Some(revision) => revision,
                None => return Ok(None),
            }
        } else {
            revision
        };
        let operation = operation::new_id()?;
        let run = Run::alone(&operation, fulfilment.adapter.timeout(Kind::Provision));
        let call = instance.call(id, offer.service, offer.plan, origin, run);
        match guarded(|| fulfilment.adapter.provision(&call)) {
            Ok(outcome) => instance.apply(outcome),
            Err(failure) if instance.effects => {
                let change = match failure.kind {
                    // Something may be left behind: kept, so that orphan mitigation reaches the adapter.
                    FailureKind::Failed => {
                        instance.operation = Operation::failed(Kind::Provision, &failure);
                        put(key.clone(), begun, &instance, false)?
                    }
                    _ => Change::Delete {
                        key: key.clone(),
                        revision: begun,
                    },
                };
                self.conclude(&key, vec![change])?;
                return Err(Error::from_failure(failure));
            }
            Err(failure) => return Err(Error::from_failure(failure)),
        }
        let change = put(key.clone(), begun, &instance, false)?;
        if instance.effects {
            self.conclude(&key, vec![change])?;
        } else if self.commit(vec![change])?.is_none() {
            return Ok(None);
        }
        Answer::new(201, "created", &instance.answer()).map(Some)
    }

    /// `GET /v2/service_instances/:instance_id`. spec: Fetching a Service Instance. The ids are hints of the platform.
    pub fn fetch_instance(
        &self,
        id: &str,
        service_id: Option<&str>,
        plan_id: Option<&str>,
    ) -> Result<Answer, Error> {
        let found = self.read_instance(id)?;
        let instance = match verdict::judge_fetch(found.record.as_ref()) {
            Fetch::Absent => return Err(absent(id)),
            Fetch::Busy(kind) => return Err(operation::busy(&named(id), kind)),
            Fetch::Found(instance) => instance,
        };
        if let Some(error) = verdict::mismatch(instance, service_id, plan_id) {
            return Err(error);
        }
        let service = self.catalog().service(&instance.service_id);
        if service.is_some_and(|service| service.instances_retrievable != Some(true)) {
            return Err(Error::not_found(format!(
                "{} cannot be fetched: its service offering is not instances_retrievable.",
                named(id)
            )));
        }
        Answer::new(200, "fetched", &instance.fetched())
    }

    /// `GET /v2/service_instances/:instance_id/last_operation`. spec: Polling Last Operation for Service Instances.
    pub fn poll_instance(
        &self,
        id: &str,
        service_id: Option<&str>,
        plan_id: Option<&str>,
        operation: Option<&str>,
    ) -> Result<Answer, Error> {
        let Some(instance) = self.read_instance(id)?.record else {
            return Err(absent(id));
        };
        if let Some(error) = verdict::mismatch(&instance, service_id, plan_id) {
            return Err(error);
        }
        operation::refuse_unknown(operation)?;
        Answer::new(200, "polled", &instance.operation.answer())
    }

    /// `PATCH /v2/service_instances/:instance_id`. spec: Updating a Service Instance.
    pub fn update(&self, id: &str, body: &[u8], origin: Origin<'_>) -> Result<Answer, Error> {
        let request = UpdateRequest::parse(body)?;
        self.settle(id)?;
        self.decide(|| {
            let found = self.read_instance(id)?;
            match verdict::judge_update(found.record.as_ref(), &request) {
                Update::Absent => Err(absent(id)),
                Update::OtherService(wanted) => {
                    Err(verdict::other("service_id", &request.service_id, wanted))
                }
                Update::Busy(kind) => Err(operation::busy(&named(id), kind)),
                Update::Unchanged(instance) => {
                    self.check_update(instance, &request, Changes::NONE)?;
                    Answer::new(200, "unchanged", &instance.answer()).map(Some)
                }
                Update::Change(instance, changes) => {
                    self.change(id, found.revision, instance, &request, changes, origin)
                }
            }
        })
    }

    /// What the catalog says to an update. spec: Updating a Service Instance, 400 and 422.
    fn check_update(
        &self,
        instance: &Instance,
        request: &UpdateRequest<'_>,
        changes: Changes,
    ) -> Result<(), Error> {
        let plan_id = request.plan_id.as_deref().unwrap_or(&instance.plan_id);
        let offer = self.plans.find(&instance.service_id, plan_id)?;
        if changes.plan {
            let (plan, updateable) =
                match self.plans.lookup(&instance.service_id, &instance.plan_id) {
                    Ok(current) => (&current.plan.name, current.plan.is_updateable()),
                    // The plan has left the catalog; what the service offering says holds for it.
                    Err(_) => (
                        &instance.plan_id,
                        offer.service.plan_updateable == Some(true),
                    ),
                };
            if !updateable {
                return Err(Error::unsupported_update(
                    "PlanChangeNotSupported",
                    format!(
                        "plan_id: instances of plan {plan:?} cannot change their plan; the plan is not plan_updateable."
                    ),
                ));
            }
            if offer.fulfilment().kind != instance.adapter {
                return Err(Error::unsupported_update(
                    "PlanChangeNotSupported",
                    format!(
                        "plan_id: an instance cannot change from plan {plan:?} to plan {:?}: they are fulfilled in \
                         different ways.",
                        offer.plan.name
                    ),
                ));
            }
        }
        offer.check_maintenance(request.maintenance_version.as_deref())?;
        if request.parameters.is_some() {
            offer.check_parameters(SchemaUse::Update, request.parameters)?;
        }
        // A platform sends its context along with everything: a request that repeats parameters or maintenance which the
        // instance already has is not one of "only contextual data".
        let context_only = changes == Changes::CONTEXT_ONLY
            && request.parameters.is_none()
            && request.maintenance_version.is_none();
        if context_only && offer.service.allow_context_updates != Some(true) {
            return Err(Error::unsupported_update(
                "ContextUpdateNotSupported",
                format!(
                    "context: service offering {:?} does not allow_context_updates, and the request changes nothing \
                     else.",
                    offer.service.name
                ),
            ));
        }
        Ok(())
    }

    fn change(
        &self,
        id: &str,
        revision: Revision,
        before: &Instance,
        request: &UpdateRequest<'_>,
        changes: Changes,
        origin: Origin<'_>,
    ) -> Result<Option<Answer>, Error> {
        self.check_update(before, request, changes)?;
        let plan_id = request.plan_id.as_deref().unwrap_or(&before.plan_id);
        let offer = self.plans.find(&before.service_id, plan_id)?;
        let fulfilment = offer.fulfilment();
        let key = Key::instance(id);
        let effects = fulfilment.adapter.has_effects();
        let begun = if effects {
            let mut busy = before.clone();
            busy.operation = Operation::new(Kind::Update, State::InProgress);
            match self.commit(vec![put(key.clone(), revision, &busy, true)?])? {
                Some(revision) => revision,
                None => return Ok(None),
            }
        } else {
            revision
        };
        let mut after = before.updated_by(request, offer.plan, effects, origin);
        let operation = operation::new_id()?;
        let run = Run::alone(&operation, fulfilment.adapter.timeout(Kind::Update));
        let call = UpdateCall {
            instance: after.call(id, offer.service, offer.plan, origin, run),
            changes: Object::new(request.parameters),
            previous_parameters: Object::new(before.parameters.as_deref()),
            previous_plan_id: &before.plan_id,
        };
        match guarded(|| fulfilment.adapter.update(&call)) {
            Ok(outcome) => after.apply(outcome),
            Err(failure) => {
                if effects {
                    let mut restored = before.clone();
                    if failure.kind == FailureKind::Failed {
                        restored.operation = Operation::failed(Kind::Update, &failure);
                    }
                    let change = put(key.clone(), begun, &restored, false)?;
                    self.conclude(&key, vec![change])?;
                }
                return Err(Error::from_update_failure(failure));
            }
        }
        let change = put(key.clone(), begun, &after, false)?;
        if effects {
            self.conclude(&key, vec![change])?;
        } else if self.commit(vec![change])?.is_none() {
            return Ok(None);
        }
        Answer::new(200, "updated", &after.answer()).map(Some)
    }

    /// `DELETE /v2/service_instances/:instance_id`. spec: Deprovisioning. Bindings that are left are removed first: the
    /// platform is the source of truth, and it wants the instance gone.
    pub fn deprovision(
        &self,
        id: &str,
        service_id: &str,
        plan_id: &str,
        origin: Origin<'_>,
    ) -> Result<Answer, Error> {
        self.settle(id)?;
        self.decide(|| {
            let found = self.read_instance(id)?;
            match verdict::judge_deprovision(found.record.as_ref(), service_id, plan_id) {
                Deprovision::Gone => Err(Error::gone(format!("{} does not exist.", named(id)))),
                Deprovision::Mismatch(error) => Err(error),
                Deprovision::Busy(kind) => Err(operation::busy(&named(id), kind)),
                Deprovision::Delete(instance) => self.delete(id, found.revision, instance, origin),
            }
        })
    }

    fn delete(
        &self,
        id: &str,
        revision: Revision,
        instance: &Instance,
        origin: Origin<'_>,
    ) -> Result<Option<Answer>, Error> {
        let key = Key::instance(id);
        let bindings = self.idle_bindings(id)?;
        let effects = instance.effects || bindings.iter().any(|binding| binding.record.effects);
        if !effects {
            self.call_deprovision(id, instance, origin)?;
            let changes = vec![
                Change::Delete { key, revision },
                Change::DeleteBindings {
                    instance: id.to_owned(),
                },
            ];
            if self.commit(changes)?.is_none() {
                return Ok(None);
            }
            log_removed_bindings(id, bindings.len());
            return Ok(Some(Answer::empty("deleted")));
        }
        let mut busy = instance.clone();
        busy.operation = Operation::new(Kind::Deprovision, State::InProgress);
        let Some(begun) = self.commit(vec![put(key.clone(), revision, &busy, true)?])? else {
            return Ok(None);
        };
        match self.remove_with_bindings(id, instance, begun, origin) {
            Ok(()) => Ok(Some(Answer::empty("deleted"))),
            Err(error) => {
                let mut restored = instance.clone();
                // A provision that failed stays one that failed: there is nothing to use.
                if error.status >= 500 && instance.operation.exists() {
                    restored.operation = Operation {
                        description: Some(error.description.clone().into_owned()),
                        instance_usable: error.instance_usable,
                        ..Operation::new(Kind::Deprovision, State::Failed)
                    };
                }
                let change = put(key.clone(), begun, &restored, false)?;
                self.conclude(&key, vec![change])?;
                Err(error)
            }
        }
    }

    /// Removes the bindings of an instance that is being deprovisioned, then the instance itself.
    pub(super) fn remove_with_bindings(
        &self,
        id: &str,
        instance: &Instance,
        begun: Revision,
        origin: Origin<'_>,
    ) -> Result<(), Error> {
        // Read again: from here on no binding can be added.
        let bindings = self.idle_bindings(id)?;
        for binding in &bindings {
            self.call_unbind(id, instance, &binding.id, &binding.record, origin)?;
            self.commit(vec![Change::Delete {
                key: Key::binding(id, &binding.id),
                revision: binding.revision,
            }])?;
        }
        log_removed_bindings(id, bindings.len());
        self.call_deprovision(id, instance, origin)?;
        let key = Key::instance(id);
        let change = Change::Delete {
            key: key.clone(),
            revision: begun,
        };
        self.conclude(&key, vec![change])?;
        Ok(())
    }

    /// The bindings of an instance, or 422 if one of them is busy.
    fn idle_bindings(&self, instance_id: &str) -> Result<Vec<IdleBinding>, Error> {
        let mut bindings = Vec::new();
        for (id, found) in self.store.bindings(instance_id)? {
            let record: Binding = decode(&found.body)?;
            if record.operation.in_progress() {
                let what = super::binding::named(&id);
                return Err(operation::busy(&what, record.operation.kind));
            }
            bindings.push(IdleBinding {
                id,
                revision: found.revision,
                record,
            });
        }
        Ok(bindings)
    }

    /// Has the adapter remove the instance.
    pub(super) fn call_deprovision(
        &self,
        id: &str,
        instance: &Instance,
        origin: Origin<'_>,
    ) -> Result<(), Error> {
        let plans = [instance.plan_id.as_str()];
        let offer = self.remover(&named(id), &instance.service_id, &plans, instance.effects)?;
        let Some(offer) = offer else { return Ok(()) };
        let adapter = &offer.fulfilment().adapter;
        let operation = operation::new_id()?;
        let run = Run::alone(&operation, adapter.timeout(Kind::Deprovision));
        let call = instance.call(id, offer.service, offer.plan, origin, run);
        guarded(|| adapter.deprovision(&call)).map_err(Error::from_deprovision_failure)
    }
}

/// A binding that nothing is in progress on.
struct IdleBinding {
    id: String,
    revision: Revision,
    record: Binding,
}

fn log_removed_bindings(instance_id: &str, count: usize) {
    if count > 0 {
        log::warn("bindings_removed")
            .with("instance_id", instance_id)
            .with("count", count)
            .with(
                "reason",
                "the platform deprovisioned the service instance without deleting its bindings first",
            )
            .send();
    }
}
