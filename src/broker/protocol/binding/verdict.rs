//! What the specification says to a request about a service binding: (records found, request) -> verdict.
//!
//! These functions are the tables of the specification. They touch nothing.

use super::record::Binding;
use super::request::BindRequest;
use crate::broker::protocol::error::Error;
use crate::broker::protocol::instance::record::Instance;
use crate::broker::protocol::operation::Kind;

/// What to do with a bind request. spec: Binding, Response; Blocking Operations.
#[derive(Debug)]
pub enum Bind<'r> {
    /// 404: no such instance, or it is still to become one.
    NoInstance,
    /// 201.
    Create(&'r Instance),
    /// 201, once what a bind has left behind is removed that failed before the instance changed its plan.
    Replace(&'r Instance, &'r Binding),
    /// 200.
    Exists(&'r Binding),
    /// 409, with the attribute that differs.
    Differs(&'static str),
    /// 202: it is being made, and is what was asked for.
    Accepted(&'r Instance, &'r Binding),
    /// 422 ConcurrencyError: the instance is busy.
    InstanceBusy(Kind),
    /// 422 ConcurrencyError: the binding is busy.
    Busy(Kind),
}

pub fn judge_bind<'r>(
    instance: Option<&'r Instance>,
    found: Option<&'r Binding>,
    request: &BindRequest<'_>,
) -> Bind<'r> {
    let Some(instance) = instance else {
        return Bind::NoInstance;
    };
    let busy = instance.operation.in_progress();
    if !instance.operation.exists() && !busy {
        return Bind::NoInstance;
    }
    match found {
        // What failed on its way never was: it is made anew.
        Some(found) if found.operation.exists() || found.operation.in_progress() => {
            match (found.operation.kind, request.difference(found)) {
                (Kind::Unbind, _) if found.operation.in_progress() => Bind::Busy(Kind::Unbind),
                (_, Some(attribute)) => Bind::Differs(attribute),
                (Kind::Bind, None) if found.operation.is_polled() => {
                    Bind::Accepted(instance, found)
                }
                (kind, None) if found.operation.in_progress() => Bind::Busy(kind),
                (_, None) => Bind::Exists(found),
            }
        }
        _ if busy => Bind::InstanceBusy(instance.operation.kind),
        Some(found) if found.plan_id != instance.plan_id => Bind::Replace(instance, found),
        _ => Bind::Create(instance),
    }
}

/// What to do with an unbind request. spec: Unbinding, Response.
#[derive(Debug)]
pub enum Unbind<'r> {
    /// 410.
    Gone,
    /// 400: the binding is of another service offering or plan.
    Mismatch(Error),
    /// 200 or 202. An asynchronous bind may be in progress: it is to be cut off.
    Delete(&'r Instance, &'r Binding),
    /// 202: it is being unbound.
    Accepted(&'r Instance, &'r Binding),
    /// 422 ConcurrencyError: the instance is being deprovisioned, and its bindings with it.
    InstanceBusy(Kind),
    /// 422 ConcurrencyError.
    Busy(Kind),
}

pub fn judge_unbind<'r>(
    instance: Option<&'r Instance>,
    found: Option<&'r Binding>,
    service_id: &str,
    plan_id: &str,
) -> Unbind<'r> {
    let (Some(instance), Some(found)) = (instance, found) else {
        return Unbind::Gone;
    };
    let (kind, is_polled) = (found.operation.kind, found.operation.is_polled());
    if let Some(error) = mismatch(instance, found, Some(service_id), Some(plan_id)) {
        Unbind::Mismatch(error)
    } else if kind == Kind::Unbind && is_polled {
        Unbind::Accepted(instance, found)
    } else if found.operation.in_progress() && !is_polled {
        Unbind::Busy(kind)
    } else if instance.operation.in_progress() && instance.operation.kind == Kind::Deprovision {
        Unbind::InstanceBusy(Kind::Deprovision)
    } else {
        Unbind::Delete(instance, found)
    }
}

/// 400, where a query names another service offering or plan than the binding is of. After a change of plan the platform
/// names the instance's plan, not the one the binding was made with.
pub fn mismatch(
    instance: &Instance,
    found: &Binding,
    service_id: Option<&str>,
    plan_id: Option<&str>,
) -> Option<Error> {
    let other = |field, id: &str, wanted: &str| {
        Error::bad_request(format!(
            "{field}: found {id:?}, but the service binding has {wanted:?}."
        ))
    };
    match (service_id, plan_id) {
        (Some(id), _) if id != found.service_id => Some(other("service_id", id, &found.service_id)),
        (_, Some(id)) if found.plan_id != id && !instance.is_or_was_of_plan(id) => {
            Some(other("plan_id", id, &found.plan_id))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
