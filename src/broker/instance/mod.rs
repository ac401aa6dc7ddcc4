//! Service instances: provision, fetch, update, deprovision, and their last operation.

pub mod record;
pub mod request;
pub mod verdict;
pub(super) mod work;

use super::error::Error;
use super::operation::{self, Kind, Operation, Stamp};
use super::plans::{Offer, Plans};
use super::poll::{self, Poll};
use super::stored::{Found, put};
use super::work::subject::Subject;
use super::{Answer, Broker, Caller};
use crate::catalog::SchemaUse;
use crate::store::{Key, Revision};
use record::Instance;
use request::{Changes, ProvisionRequest, UpdateRequest};
use verdict::{Deprovision, Fetch, Provision, Update};

use serde_json::value::RawValue;

pub(super) fn named(id: &str) -> String {
    format!("Service instance {id:?}")
}

pub(super) fn absent(id: &str) -> Error {
    Error::not_found(format!("{} does not exist.", named(id)))
}

impl Broker {
    /// `PUT /v2/service_instances/:instance_id`. spec: Provisioning.
    pub fn provision(&self, id: &str, body: &[u8], caller: Caller<'_>) -> Result<Answer, Error> {
        let request = ProvisionRequest::parse(body)?;
        self.settle(id, caller)?;
        self.decide(|| {
            let found = self.read_instance(id)?;
            let plan = found.record.as_ref().map(|found| &*found.plan_id);
            let answer = match verdict::judge_provision(found.record.as_ref(), &request) {
                Provision::Create => self.create(id, &found, &request, caller),
                Provision::Replace(instance) => {
                    let plans = self.plans();
                    let offer = plans.find_offered(&request.service_id, &request.plan_id)?;
                    caller.about(&offer);
                    self.replace(id, found.revision, instance, caller)?;
                    Ok(None)
                }
                Provision::Accepted(instance) => again(instance, caller).map(Some),
                Provision::Exists(instance) => {
                    Answer::new(200, "exists", &instance.answer()).map(Some)
                }
                Provision::Differs(attribute) => Err(Error::conflict(format!(
                    "{} exists already, with another {attribute}.",
                    named(id)
                ))),
                Provision::Busy(kind) => Err(operation::busy(&named(id), kind)),
            };
            self.about(caller, plan, answer)
        })
    }

    fn create(
        &self,
        id: &str,
        found: &Found<Instance>,
        request: &ProvisionRequest<'_>,
        caller: Caller<'_>,
    ) -> Result<Option<Answer>, Error> {
        let plans = self.plans();
        let offer = plans.find_offered(&request.service_id, &request.plan_id)?;
        caller.about(&offer);
        offer.check_maintenance(request.maintenance_version.as_deref())?;
        offer.check_parameters(SchemaUse::Provision, request.parameters)?;
        let fulfilment = offer.fulfilment();
        // If it comes to nothing, what failed before is still to be removed.
        let failed = found.record.as_ref().map(|found| found.operation.clone());
        let operation = Operation::begin(Kind::Provision, Some(fulfilment), failed, caller)?;
        let instance =
            Instance::requested(request, offer.plan, fulfilment, operation, caller.origin);
        let effects = instance.effects;
        let subject = Subject::Instance(Box::new(instance));
        self.begin(&Key::instance(id), found.revision, subject, effects, None)
    }

    /// Removes what a failed provision of another plan has left behind.
    fn replace(
        &self,
        id: &str,
        revision: Revision,
        instance: &Instance,
        caller: Caller<'_>,
    ) -> Result<(), Error> {
        let subject = Subject::Instance(Box::new(instance.clone()));
        let plans = self.plans();
        let offer = Broker::offer(&plans, &subject);
        if offer.is_some_and(|offer| offer.fulfilment().is_async(Kind::Deprovision)) {
            return Err(Error::conflict(format!(
                "{} could not be provisioned before, with another plan, and what may be left of that takes time to \
                 remove. Deprovision it first.",
                named(id)
            )));
        }
        self.delete(id, revision, instance, caller).map(drop)
    }

    /// `GET /v2/service_instances/:instance_id`. spec: Fetching a Service Instance. The ids are hints of the platform.
    pub fn fetch_instance(
        &self,
        id: &str,
        service_id: Option<&str>,
        plan_id: Option<&str>,
        caller: Caller<'_>,
    ) -> Result<Answer, Error> {
        let found = self.read_instance(id)?;
        let plan = found.record.as_ref().map(|found| &*found.plan_id);
        self.about(caller, plan, ());
        let instance = match verdict::judge_fetch(found.record.as_ref()) {
            Fetch::Absent => return Err(absent(id)),
            Fetch::Busy(kind) => return Err(operation::busy(&named(id), kind)),
            Fetch::Found(instance) => instance,
        };
        if let Some(error) = verdict::mismatch(instance, service_id, plan_id) {
            return Err(error);
        }
        let plans = self.plans();
        let service = plans.catalog().service(&instance.service_id);
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
        caller: Caller<'_>,
    ) -> Result<Answer, Error> {
        let found = self.read_instance(id)?;
        let plan = found.record.as_ref().map(|found| &*found.plan_id);
        self.about(caller, plan, ());
        if let Some(instance) = &found.record
            && let Some(error) = verdict::mismatch(instance, service_id, plan_id)
        {
            return Err(error);
        }
        let last = found.record.as_ref().map(|instance| &instance.operation);
        match poll::judge_poll(last, found.gone.as_ref(), operation) {
            Poll::Absent => Err(absent(id)),
            Poll::Gone => Err(Error::gone(format!("{} was deleted.", named(id)))),
            Poll::Unknown => Err(poll::unknown(operation)),
            Poll::Known(operation) => {
                let progress = self.progress(&Key::instance(id), operation);
                Answer::polled(operation, progress.as_deref())
            }
        }
    }

    /// `PATCH /v2/service_instances/:instance_id`. spec: Updating a Service Instance.
    pub fn update(&self, id: &str, body: &[u8], caller: Caller<'_>) -> Result<Answer, Error> {
        let request = UpdateRequest::parse(body)?;
        self.settle(id, caller)?;
        self.decide(|| {
            let found = self.read_instance(id)?;
            let plan = found.record.as_ref().map(|found| &*found.plan_id);
            let answer = match verdict::judge_update(found.record.as_ref(), &request) {
                Update::Absent => Err(absent(id)),
                Update::OtherService(wanted) => {
                    Err(verdict::other("service_id", &request.service_id, wanted))
                }
                Update::Busy(kind) => Err(operation::busy(&named(id), kind)),
                Update::Unchanged(instance) => {
                    let plans = self.plans();
                    Broker::check_update(&plans, instance, &request, Changes::NONE, caller)?;
                    Answer::new(200, "unchanged", &instance.answer()).map(Some)
                }
                Update::Context(instance) => {
                    self.take_context(id, found.revision, instance, &request, caller)
                }
                Update::Change(instance, changes) => {
                    self.change(id, found.revision, instance, &request, changes, caller)
                }
                Update::Accepted(instance) => again(instance, caller).map(Some),
            };
            self.about(caller, plan, answer)
        })
    }

    /// What the catalog says to an update. spec: Updating a Service Instance, 400 and 422.
    fn check_update<'p>(
        plans: &'p Plans,
        instance: &Instance,
        request: &UpdateRequest<'_>,
        changes: Changes,
        caller: Caller<'_>,
    ) -> Result<Offer<'p>, Error> {
        let plan_id = request.plan_id.as_deref().unwrap_or(&instance.plan_id);
        let offer = if plan_id == instance.plan_id {
            plans.find_own(&instance.service_id, plan_id)?
        } else {
            plans.find_offered(&instance.service_id, plan_id)?
        };
        caller.about(&offer);
        if changes.plan {
            let (plan, updateable) = match plans.lookup(&instance.service_id, &instance.plan_id) {
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
        Ok(offer)
    }

    /// An update of the context alone. Platforms send theirs along with everything, so `allow_context_updates` decides
    /// only whether the adapter is told now. If not, the context is kept for its next call.
    fn take_context(
        &self,
        id: &str,
        revision: Revision,
        before: &Instance,
        request: &UpdateRequest<'_>,
        caller: Caller<'_>,
    ) -> Result<Option<Answer>, Error> {
        let changes = Changes::CONTEXT_ONLY;
        let plans = self.plans();
        let offer = Broker::check_update(&plans, before, request, changes, caller)?;
        if offer.service.allow_context_updates == Some(true) {
            return self.change(id, revision, before, request, changes, caller);
        }
        let after = Instance {
            context: request.context.map(RawValue::to_owned),
            updated: Some(Stamp::now(caller.origin)),
            ..before.clone()
        };
        match self.commit(vec![put(Key::instance(id), revision, &after, false)?])? {
            Some(_) => Answer::new(200, "unchanged", &after.answer()).map(Some),
            None => Ok(None),
        }
    }

    fn change(
        &self,
        id: &str,
        revision: Revision,
        before: &Instance,
        request: &UpdateRequest<'_>,
        changes: Changes,
        caller: Caller<'_>,
    ) -> Result<Option<Answer>, Error> {
        let plans = self.plans();
        let offer = Broker::check_update(&plans, before, request, changes, caller)?;
        let fulfilment = offer.fulfilment();
        let last = Some(before.operation.clone());
        let operation = Operation::begin(Kind::Update, Some(fulfilment), last, caller)?;
        let instance = Instance {
            update: Some(Box::new(request.pending())),
            ..before.during(operation)
        };
        let effects = fulfilment.adapter.has_effects();
        let subject = Subject::Instance(Box::new(instance));
        self.begin(&Key::instance(id), revision, subject, effects, None)
    }

    /// `DELETE /v2/service_instances/:instance_id`. spec: Deprovisioning. Bindings that are left are removed first: the
    /// platform is the source of truth, and it wants the instance gone.
    pub fn deprovision(
        &self,
        id: &str,
        service_id: &str,
        plan_id: &str,
        caller: Caller<'_>,
    ) -> Result<Answer, Error> {
        self.settle(id, caller)?;
        self.decide(|| {
            let found = self.read_instance(id)?;
            let plan = found.record.as_ref().map(|found| &*found.plan_id);
            let answer =
                match verdict::judge_deprovision(found.record.as_ref(), service_id, plan_id) {
                    Deprovision::Gone => Err(Error::gone(format!("{} does not exist.", named(id)))),
                    Deprovision::Mismatch(error) => Err(error),
                    Deprovision::Busy(kind) => Err(operation::busy(&named(id), kind)),
                    Deprovision::Accepted(instance) => again(instance, caller).map(Some),
                    Deprovision::Delete(instance) => {
                        self.delete(id, found.revision, instance, caller)
                    }
                };
            self.about(caller, plan, answer)
        })
    }

    /// Deletes an instance, also one whose asynchronous provision is in progress: that is cut off then.
    fn delete(
        &self,
        id: &str,
        revision: Revision,
        instance: &Instance,
        caller: Caller<'_>,
    ) -> Result<Option<Answer>, Error> {
        let bindings = self.idle_bindings(id)?;
        let effects = instance.effects || bindings.iter().any(|binding| binding.record.effects);
        let ids = [instance.plan_id.as_str()];
        let plans = self.plans();
        let offer = Broker::remover(
            &plans,
            &named(id),
            &instance.service_id,
            &ids,
            instance.effects,
        )?;
        offer.iter().for_each(|offer| caller.about(offer));
        let fulfilment = offer.map(|offer| offer.fulfilment());
        let last = match instance.operation.in_progress() {
            true => instance.operation.cut_off(),
            false => instance.operation.clone(),
        };
        let operation = Operation::begin(Kind::Deprovision, fulfilment, Some(last), caller)?;
        let subject = Subject::Instance(Box::new(instance.during(operation)));
        self.begin(&Key::instance(id), revision, subject, effects, None)
    }
}

/// 202 for the request whose operation is in progress, sent again; 422 AsyncRequired if the platform would not poll.
fn again(instance: &Instance, caller: Caller<'_>) -> Result<Answer, Error> {
    if !caller.accepts_incomplete {
        return Err(Error::async_required());
    }
    Subject::Instance(Box::new(instance.clone())).accepted()
}
