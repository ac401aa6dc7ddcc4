//! The endpoints for service bindings: bind, rotate, fetch, unbind, and their last operation.

use super::endpoint::{Endpoint, absent, check_here, differs, gone, not_retrievable};
use super::plans::Offer;
use super::protocol::answer::Answer;
use super::protocol::binding::record::Binding;
use super::protocol::binding::request::BindRequest;
use super::protocol::binding::verdict::{self, Bind, Unbind};
use super::protocol::error::Error;
use super::protocol::instance;
use super::protocol::instance::record::Instance;
use super::protocol::operation::{self, Kind, Operation};
use super::protocol::subject::Subject;
use super::state::Found;
use crate::catalog::SchemaUse;
use crate::store::{Change, Key, Revision};

use std::time::SystemTime;

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

    fn with(&self, binding: Binding) -> Subject {
        Subject::Binding(self.record.clone().into(), binding.into())
    }
}

/// `PUT /v2/service_instances/:instance_id/service_bindings/:binding_id`. spec: Binding; Binding Rotation.
pub fn bind(
    endpoint: &Endpoint<'_>,
    instance_id: &str,
    id: &str,
    body: &[u8],
) -> Result<Answer, Error> {
    let request = BindRequest::parse(body)?;
    let (instance_key, key) = (Key::instance(instance_id), Key::binding(instance_id, id));
    endpoint.change(instance_id, || {
        let (instance, found) = endpoint.state.binding(instance_id, id)?;
        let bindable = |record| Bindable {
            id: instance_id,
            revision: instance.revision,
            record,
        };
        let record = instance.record.as_ref();
        let answer = match verdict::judge_bind(record, found.record.as_ref(), &request) {
            Bind::NoInstance => Err(absent(&instance_key)),
            Bind::Create(record) => create(endpoint, bindable(record), &key, &found, &request),
            Bind::Replace(record, binding) => {
                check_bind(endpoint, record, &request)?;
                let instance = bindable(record);
                let subject = instance.with(binding.clone());
                endpoint.check_replaceable(&key, &subject, Kind::Unbind)?;
                delete(endpoint, instance, &key, found.revision, binding)?;
                Ok(None)
            }
            Bind::Accepted(record, binding) => {
                endpoint.accepted_again(&bindable(record).with(binding.clone()))
            }
            Bind::Exists(binding) => Answer::new(200, "exists", &binding.answer).map(Some),
            Bind::Differs(attribute) => Err(differs(&key, attribute)),
            Bind::InstanceBusy(kind) => Err(operation::busy(&instance_key, kind)),
            Bind::Busy(kind) => Err(operation::busy(&key, kind)),
        };
        endpoint.about_found(record.map(|found| &*found.plan_id));
        answer
    })
}

fn create(
    endpoint: &Endpoint<'_>,
    instance: Bindable<'_>,
    key: &Key,
    found: &Found<Binding>,
    request: &BindRequest<'_>,
) -> Result<Option<Answer>, Error> {
    let offer = check_bind(endpoint, instance.record, request)?;
    let predecessor = match request.predecessor_binding_id.as_deref() {
        Some(predecessor) => Some(find_predecessor(
            endpoint,
            instance.id,
            predecessor,
            &offer,
        )?),
        None => None,
    };
    let fulfilment = offer.fulfilment();
    let effects = fulfilment.adapter.has_effects();
    // If it comes to nothing, what failed before is still to be removed.
    let failed = found.record.as_ref().map(|found| found.operation.clone());
    let caller = endpoint.caller;
    let operation = Operation::begin(Kind::Bind, Some(fulfilment), failed, caller)?;
    let binding = request.binding(
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
    let expected = Some(instance.expected());
    endpoint.begin(
        key,
        found.revision,
        instance.with(binding),
        effects,
        expected,
    )
}

/// What the catalog says to a bind. spec: Binding, 400 and 422.
fn check_bind<'e>(
    endpoint: &'e Endpoint<'_>,
    instance: &Instance,
    request: &BindRequest<'_>,
) -> Result<Offer<'e>, Error> {
    if let Some(id) = request
        .service_id
        .as_deref()
        .filter(|id| *id != instance.service_id)
    {
        return Err(instance::verdict::other(
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
        return Err(instance::verdict::other("plan_id", id, &instance.plan_id));
    }
    let offer = endpoint
        .plans
        .find_own(&instance.service_id, &instance.plan_id)?;
    endpoint.about(&offer);
    if !offer.plan.is_bindable() {
        return Err(Error::bad_request(format!(
            "plan_id: service instances of plan {:?} cannot be bound; the plan is not bindable.",
            offer.plan.name
        )));
    }
    Ok(offer)
}

/// The binding that a rotation replaces. spec: Binding Rotation; it must be of the same instance and not expired.
fn find_predecessor(
    endpoint: &Endpoint<'_>,
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
    let found = endpoint.state.binding(instance_id, id)?.1;
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
        return Err(operation::busy(
            &Key::binding(instance_id, id),
            predecessor.operation.kind,
        ));
    }
    if predecessor.is_expired(SystemTime::now()) {
        return Err(wrong(" that has not expired"));
    }
    Ok(predecessor)
}

/// `GET /v2/service_instances/:instance_id/service_bindings/:binding_id`. spec: Fetching a Service Binding. The ids are
/// hints of the platform.
pub fn fetch(
    endpoint: &Endpoint<'_>,
    instance_id: &str,
    id: &str,
    service_id: Option<&str>,
    plan_id: Option<&str>,
) -> Result<Answer, Error> {
    let key = Key::binding(instance_id, id);
    let (instance, found) = endpoint.state.binding(instance_id, id)?;
    endpoint.about_found(instance.record.as_ref().map(|found| &*found.plan_id));
    let (Some(instance), Some(binding)) = (instance.record, found.record) else {
        return Err(absent(&key));
    };
    if !binding.operation.exists() {
        return Err(absent(&key));
    }
    if let Some(error) = verdict::mismatch(&instance, &binding, service_id, plan_id) {
        return Err(error);
    }
    let service = endpoint.plans.catalog().service(&binding.service_id);
    if service.is_some_and(|service| service.bindings_retrievable != Some(true)) {
        return Err(not_retrievable(&key, "bindings_retrievable"));
    }
    Answer::new(200, "fetched", &binding.fetched())
}

/// `GET /v2/service_instances/:instance_id/service_bindings/:binding_id/last_operation`.
/// spec: Polling Last Operation for Service Bindings.
pub fn poll(
    endpoint: &Endpoint<'_>,
    instance_id: &str,
    id: &str,
    service_id: Option<&str>,
    plan_id: Option<&str>,
    operation: Option<&str>,
) -> Result<Answer, Error> {
    let (instance, found) = endpoint.state.binding(instance_id, id)?;
    endpoint.about_found(instance.record.as_ref().map(|found| &*found.plan_id));
    let records = instance.record.as_ref().zip(found.record.as_ref());
    if let Some((instance, binding)) = records
        && let Some(error) = verdict::mismatch(instance, binding, service_id, plan_id)
    {
        return Err(error);
    }
    let last = records.map(|(_, binding)| &binding.operation);
    let key = Key::binding(instance_id, id);
    let gone = found.gone.as_ref();
    endpoint.poll(&key, last, gone, operation, found.elsewhere)
}

/// `DELETE /v2/service_instances/:instance_id/service_bindings/:binding_id`. spec: Unbinding. 410 also where it may not go: the one
/// that is meant is there no more.
pub fn unbind(
    endpoint: &Endpoint<'_>,
    instance_id: &str,
    id: &str,
    service_id: &str,
    plan_id: &str,
    may_go: impl Fn(&Binding) -> bool,
) -> Result<Answer, Error> {
    let (instance_key, key) = (Key::instance(instance_id), Key::binding(instance_id, id));
    endpoint.change(instance_id, || {
        let (instance, found) = endpoint.state.binding(instance_id, id)?;
        let bindable = |record| Bindable {
            id: instance_id,
            revision: instance.revision,
            record,
        };
        let (record, binding) = (instance.record.as_ref(), found.record.as_ref());
        let answer = match verdict::judge_unbind(record, binding, service_id, plan_id) {
            Unbind::Gone => Err(gone(&key)),
            Unbind::Mismatch(error) => Err(error),
            Unbind::InstanceBusy(kind) => Err(operation::busy(&instance_key, kind)),
            Unbind::Busy(kind) => Err(operation::busy(&key, kind)),
            Unbind::Accepted(record, binding) => {
                endpoint.accepted_again(&bindable(record).with(binding.clone()))
            }
            Unbind::Delete(_, binding) if !may_go(binding) => Err(gone(&key)),
            Unbind::Delete(record, binding) => {
                check_here(&key, found.elsewhere, &binding.operation)?;
                delete(endpoint, bindable(record), &key, found.revision, binding)
            }
        };
        endpoint.about_found(record.map(|found| &*found.plan_id));
        answer
    })
}

fn delete(
    endpoint: &Endpoint<'_>,
    instance: Bindable<'_>,
    key: &Key,
    revision: Revision,
    binding: &Binding,
) -> Result<Option<Answer>, Error> {
    let found = instance.with(binding.clone());
    let operation = endpoint.removal(key, Kind::Unbind, &found)?;
    let subject = instance.with(binding.during(operation));
    let effects = binding.effects;
    let expected = effects.then(|| instance.expected());
    endpoint.begin(key, revision, subject, effects, expected)
}
