//! The endpoints for service instances: provision, fetch, update, deprovision, and their last operation.

use super::endpoint::{Endpoint, absent, check_here, differs, gone, not_retrievable};
use super::plans::Offer;
use super::protocol::answer::Answer;
use super::protocol::error::Error;
use super::protocol::instance::record::{Instance, Kept, Protection};
use super::protocol::instance::request::{Changes, ProvisionRequest, UpdateRequest};
use super::protocol::instance::verdict::{self, Deprovision, Fetch, Provision, Update};
use super::protocol::named;
use super::protocol::operation::{self, Kind, Moment, Operation, Stamp};
use super::protocol::subject::Subject;
use super::state::Found;
use super::state::places::Claim;
use crate::catalog::SchemaUse;
use crate::store::{Key, Revision};

use serde_json::value::RawValue;
use std::time::SystemTime;

/// `PUT /v2/service_instances/:instance_id`. spec: Provisioning.
pub fn provision(endpoint: &Endpoint<'_>, id: &str, body: &[u8]) -> Result<Answer, Error> {
    let request = ProvisionRequest::parse(body)?;
    let key = Key::instance(id);
    endpoint.change(id, || {
        let found = endpoint.state.instance(id)?;
        if let Some(Kept { until, .. }) = found.kept.as_ref().and_then(|instance| instance.kept) {
            return Err(kept(&key, until));
        }
        let record = found.record.as_ref();
        let answer = match verdict::judge_provision(record, &request) {
            Provision::Create => create(endpoint, &key, &found, &request),
            Provision::Replace(instance) => {
                let offer = endpoint
                    .plans
                    .find_offered(&request.service_id, &request.plan_id)?;
                endpoint.about(&offer);
                offer.check_maintenance(request.maintenance_version.as_deref())?;
                offer.check_parameters(SchemaUse::Provision, request.parameters)?;
                let subject = Subject::Instance(instance.clone().into());
                endpoint.check_replaceable(&key, &subject, Kind::Deprovision)?;
                let _place = place(endpoint, &key, &offer, &request)?;
                delete(endpoint, id, found.revision, instance)?;
                Ok(None)
            }
            Provision::Accepted(instance) => accepted_again(endpoint, instance),
            Provision::Exists(instance) => Answer::new(200, "exists", &instance.answer()).map(Some),
            Provision::Differs(attribute) => Err(differs(&key, attribute)),
            Provision::Busy(kind) => Err(operation::busy(&key, kind)),
        };
        endpoint.about_found(record.map(|found| &*found.plan_id));
        answer
    })
}

fn create(
    endpoint: &Endpoint<'_>,
    key: &Key,
    found: &Found<Instance>,
    request: &ProvisionRequest<'_>,
) -> Result<Option<Answer>, Error> {
    let offer = endpoint
        .plans
        .find_offered(&request.service_id, &request.plan_id)?;
    endpoint.about(&offer);
    offer.check_maintenance(request.maintenance_version.as_deref())?;
    offer.check_parameters(SchemaUse::Provision, request.parameters)?;
    let fulfilment = offer.fulfilment();
    // If it comes to nothing, what failed before is still to be removed.
    let failed = found.record.as_ref().map(|found| found.operation.clone());
    let caller = endpoint.caller;
    let operation = Operation::begin(Kind::Provision, Some(fulfilment), failed, caller)?;
    let instance = request.instance(offer.plan, fulfilment, operation, caller.origin);
    let effects = instance.effects;
    let subject = Subject::Instance(instance.into());
    let _place = place(endpoint, key, &offer, request)?;
    endpoint.begin(key, found.revision, subject, effects, None)
}

/// A place among the instances of the plan, or 422 if there may be no more.
fn place<'e>(
    endpoint: &'e Endpoint<'_>,
    key: &Key,
    offer: &Offer<'_>,
    request: &ProvisionRequest<'_>,
) -> Result<Claim<'e>, Error> {
    let (organization, space) = (&request.organization_guid, &request.space_guid);
    let state = endpoint.state;
    state.claim_place(key, offer.plan, organization, space)
}

/// `GET /v2/service_instances/:instance_id`. spec: Fetching a Service Instance. The ids are hints of the platform.
pub fn fetch(
    endpoint: &Endpoint<'_>,
    id: &str,
    service_id: Option<&str>,
    plan_id: Option<&str>,
) -> Result<Answer, Error> {
    let key = Key::instance(id);
    let found = endpoint.state.instance(id)?;
    endpoint.about_found(found.record.as_ref().map(|found| &*found.plan_id));
    let instance = match verdict::judge_fetch(found.record.as_ref()) {
        Fetch::Absent => return Err(absent(&key)),
        Fetch::Busy(kind) => return Err(operation::busy(&key, kind)),
        Fetch::Found(instance) => instance,
    };
    if let Some(error) = verdict::mismatch(instance, service_id, plan_id) {
        return Err(error);
    }
    let service = endpoint.plans.catalog().service(&instance.service_id);
    if service.is_some_and(|service| service.instances_retrievable != Some(true)) {
        return Err(not_retrievable(&key, "instances_retrievable"));
    }
    Answer::new(200, "fetched", &instance.fetched())
}

/// `GET /v2/service_instances/:instance_id/last_operation`. spec: Polling Last Operation for Service Instances.
pub fn poll(
    endpoint: &Endpoint<'_>,
    id: &str,
    service_id: Option<&str>,
    plan_id: Option<&str>,
    operation: Option<&str>,
) -> Result<Answer, Error> {
    let found = endpoint.state.instance(id)?;
    endpoint.about_found(found.record.as_ref().map(|found| &*found.plan_id));
    if let Some(instance) = &found.record
        && let Some(error) = verdict::mismatch(instance, service_id, plan_id)
    {
        return Err(error);
    }
    let last = found.record.as_ref().map(|instance| &instance.operation);
    let key = Key::instance(id);
    let gone = found.gone.as_ref();
    endpoint.poll(&key, last, gone, operation, found.elsewhere)
}

/// `PATCH /v2/service_instances/:instance_id`. spec: Updating a Service Instance.
pub fn update(endpoint: &Endpoint<'_>, id: &str, body: &[u8]) -> Result<Answer, Error> {
    let request = UpdateRequest::parse(body)?;
    let key = Key::instance(id);
    endpoint.change(id, || {
        let found = endpoint.state.instance(id)?;
        let record = found.record.as_ref();
        let answer = match verdict::judge_update(record, &request) {
            Update::Absent => Err(absent(&key)),
            Update::OtherService(wanted) => {
                Err(verdict::other("service_id", &request.service_id, wanted))
            }
            Update::Busy(kind) => Err(operation::busy(&key, kind)),
            Update::Unchanged(instance) => {
                check_update(endpoint, instance, &request, Changes::NONE)?;
                Answer::new(200, "unchanged", &instance.answer()).map(Some)
            }
            Update::Context(instance) => {
                take_context(endpoint, id, found.revision, instance, &request)
            }
            Update::Change(instance, changes) => {
                change(endpoint, id, found.revision, instance, &request, changes)
            }
            Update::Accepted(instance) => accepted_again(endpoint, instance),
        };
        endpoint.about_found(record.map(|found| &*found.plan_id));
        answer
    })
}

/// What the catalog says to an update. spec: Updating a Service Instance, 400 and 422.
fn check_update<'e>(
    endpoint: &'e Endpoint<'_>,
    instance: &Instance,
    request: &UpdateRequest<'_>,
    changes: Changes,
) -> Result<Offer<'e>, Error> {
    let plans = &endpoint.plans;
    let plan_id = request.plan_id.as_deref().unwrap_or(&instance.plan_id);
    let offer = if plan_id == instance.plan_id {
        plans.find_own(&instance.service_id, plan_id)?
    } else {
        plans.find_offered(&instance.service_id, plan_id)?
    };
    endpoint.about(&offer);
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

/// An update of the context alone. Platforms send theirs along with everything, so `allow_context_updates` decides only
/// whether the adapter is told now. If not, the context is kept for its next call.
fn take_context(
    endpoint: &Endpoint<'_>,
    id: &str,
    revision: Revision,
    before: &Instance,
    request: &UpdateRequest<'_>,
) -> Result<Option<Answer>, Error> {
    let changes = Changes::CONTEXT_ONLY;
    let offer = check_update(endpoint, before, request, changes)?;
    if offer.service.allow_context_updates == Some(true) {
        return change(endpoint, id, revision, before, request, changes);
    }
    let after = Instance {
        context: request.context.map(RawValue::to_owned),
        updated: Some(Stamp::now(endpoint.caller.origin)),
        ..before.clone()
    };
    match endpoint.state.write_instance(id, revision, &after)? {
        Some(_) => Answer::new(200, "unchanged", &after.answer()).map(Some),
        None => Ok(None),
    }
}

fn change(
    endpoint: &Endpoint<'_>,
    id: &str,
    revision: Revision,
    before: &Instance,
    request: &UpdateRequest<'_>,
    changes: Changes,
) -> Result<Option<Answer>, Error> {
    let offer = check_update(endpoint, before, request, changes)?;
    let fulfilment = offer.fulfilment();
    let last = Some(before.operation.clone());
    let operation = Operation::begin(Kind::Update, Some(fulfilment), last, endpoint.caller)?;
    let instance = Instance {
        update: Some(Box::new(request.pending())),
        ..before.during(operation)
    };
    let effects = fulfilment.adapter.has_effects();
    let key = Key::instance(id);
    let (organization, space) = (&before.organization_guid, &before.space_guid);
    let _place = match changes.plan {
        true => Some(
            endpoint
                .state
                .claim_place(&key, offer.plan, organization, space)?,
        ),
        false => None,
    };
    let subject = Subject::Instance(instance.into());
    endpoint.begin(&key, revision, subject, effects, None)
}

/// `DELETE /v2/service_instances/:instance_id`. spec: Deprovisioning. Bindings that are left are removed first: the
/// platform is the source of truth, and it wants the instance gone.
pub fn deprovision(
    endpoint: &Endpoint<'_>,
    id: &str,
    service_id: &str,
    plan_id: &str,
) -> Result<Answer, Error> {
    let key = Key::instance(id);
    endpoint.change(id, || {
        let found = endpoint.state.instance(id)?;
        let record = found.record.as_ref();
        let answer = match verdict::judge_deprovision(record, service_id, plan_id) {
            Deprovision::Gone => Err(gone(&key)),
            Deprovision::Mismatch(error) => Err(error),
            Deprovision::Busy(kind) => Err(operation::busy(&key, kind)),
            Deprovision::Accepted(instance) => accepted_again(endpoint, instance),
            Deprovision::Protected(protection) => Err(protected(&key, protection)),
            Deprovision::Delete(instance) => {
                check_here(&key, found.elsewhere, &instance.operation)?;
                delete(endpoint, id, found.revision, instance)
            }
        };
        endpoint.about_found(record.map(|found| &*found.plan_id));
        answer
    })
}

/// Has the adapter remove an instance that was deprovisioned and kept, when its time is over. 410 if there is no such one.
pub fn remove_kept(endpoint: &Endpoint<'_>, id: &str) -> Result<Answer, Error> {
    let key = Key::instance(id);
    endpoint.change(id, || {
        let found = endpoint.state.instance(id)?;
        let is_over = |kept: Kept| kept.until.0 <= SystemTime::now();
        match &found.kept {
            Some(instance) if instance.operation.in_progress() => {
                Err(operation::busy(&key, instance.operation.kind))
            }
            Some(instance) if instance.kept.is_some_and(is_over) => {
                delete(endpoint, id, found.revision, instance)
            }
            _ => Err(gone(&key)),
        }
    })
}

/// 409: the id is that of an instance which is kept.
fn kept(key: &Key, until: Moment) -> Error {
    Error::conflict(format!(
        "{} was deleted, and is kept until {}; until then there cannot be another one with its id.",
        named(key),
        humantime::format_rfc3339_seconds(until.0)
    ))
}

/// 422: an operator does not want it to go.
fn protected(key: &Key, protection: &Protection) -> Error {
    let reason = protection.reason.as_deref().unwrap_or_default();
    let reason = match reason.trim_end_matches('.') {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    Error::protected(format!(
        "{} is protected from deletion{reason}. The operator of the service broker can lift that.",
        named(key)
    ))
}

fn delete(
    endpoint: &Endpoint<'_>,
    id: &str,
    revision: Revision,
    instance: &Instance,
) -> Result<Option<Answer>, Error> {
    let key = Key::instance(id);
    let bindings = endpoint.state.idle_bindings(id)?;
    let effects = instance.effects || bindings.iter().any(|binding| binding.record.effects);
    let found = Subject::Instance(instance.clone().into());
    let operation = endpoint.removal(&key, Kind::Deprovision, &found)?;
    let subject = Subject::Instance(instance.during(operation).into());
    endpoint.begin(&key, revision, subject, effects, None)
}

fn accepted_again(endpoint: &Endpoint<'_>, instance: &Instance) -> Result<Option<Answer>, Error> {
    endpoint.accepted_again(&Subject::Instance(instance.clone().into()))
}
