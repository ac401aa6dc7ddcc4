//! What the specification says to a request about a service instance: (record found, request) -> verdict.
//!
//! These functions are the tables of the specification. They touch nothing.

use super::record::{Instance, Protection};
use super::request::{Changes, ProvisionRequest, UpdateRequest};
use crate::broker::protocol::error::Error;
use crate::broker::protocol::operation::{Kind, State};

/// What to do with a provision request. spec: Provisioning, Response.
#[derive(Debug)]
pub enum Provision<'r> {
    /// 201.
    Create,
    /// 201, once what the provision of another plan has left behind is removed: this plan's adapter does not know it.
    Replace(&'r Instance),
    /// 200: it exists, and is what was asked for.
    Exists(&'r Instance),
    /// 409: it exists or is being made, with another value of this attribute.
    Differs(&'static str),
    /// 202: it is being made, and is what was asked for.
    Accepted(&'r Instance),
    /// 422 ConcurrencyError.
    Busy(Kind),
}

pub fn judge_provision<'r>(
    found: Option<&'r Instance>,
    request: &ProvisionRequest<'_>,
) -> Provision<'r> {
    let Some(found) = found else {
        return Provision::Create;
    };
    let operation = &found.operation;
    let kind = operation.kind;
    if !operation.in_progress() && !operation.exists() {
        // What failed on its way never was: it is made anew.
        return match request.is_of_plan(found) {
            true => Provision::Create,
            false => Provision::Replace(found),
        };
    }
    if operation.in_progress() && kind == Kind::Deprovision {
        return Provision::Busy(kind);
    }
    match request.difference(found) {
        Some(attribute) => Provision::Differs(attribute),
        None if operation.is_polled() && kind == Kind::Provision => Provision::Accepted(found),
        None if operation.in_progress() => Provision::Busy(kind),
        None => Provision::Exists(found),
    }
}

/// What to do with an update request, before the catalog is asked. spec: Updating a Service Instance, Response.
#[derive(Debug)]
pub enum Update<'r> {
    /// 404.
    Absent,
    /// 400: the instance is of another service offering.
    OtherService(&'r str),
    /// 200: it is already so.
    Unchanged(&'r Instance),
    /// 200: nothing changes but the context.
    Context(&'r Instance),
    /// 200 or 202, if the catalog allows the changes.
    Change(&'r Instance, Changes),
    /// 202: this very update is in progress.
    Accepted(&'r Instance),
    /// 422 ConcurrencyError.
    Busy(Kind),
}

pub fn judge_update<'r>(found: Option<&'r Instance>, request: &UpdateRequest<'_>) -> Update<'r> {
    let Some(found) = found else {
        return Update::Absent;
    };
    let operation = &found.operation;
    match (operation.kind, operation.state) {
        (_, State::Succeeded | State::Failed) if !operation.exists() => Update::Absent,
        _ if request.service_id != found.service_id => Update::OtherService(&found.service_id),
        (Kind::Update, State::InProgress)
            if operation.asynchronous && request.is_under_way(found) =>
        {
            Update::Accepted(found)
        }
        (kind, State::InProgress) => Update::Busy(kind),
        // After a failed update the same values may repair the instance.
        (Kind::Update, State::Failed) => Update::Change(found, request.changes(found)),
        _ => match request.changes(found) {
            Changes::NONE => Update::Unchanged(found),
            Changes::CONTEXT_ONLY => Update::Context(found),
            changes => Update::Change(found, changes),
        },
    }
}

/// What to do with a deprovision request. spec: Deprovisioning, Response.
#[derive(Debug)]
pub enum Deprovision<'r> {
    /// 410.
    Gone,
    /// 400: the instance is of another service offering or plan.
    Mismatch(Error),
    /// 422: an operator does not want it to go.
    Protected(&'r Protection),
    /// 200 or 202. An asynchronous provision may be in progress: it is to be cut off.
    Delete(&'r Instance),
    /// 202: it is being deprovisioned.
    Accepted(&'r Instance),
    /// 422 ConcurrencyError.
    Busy(Kind),
}

pub fn judge_deprovision<'r>(
    found: Option<&'r Instance>,
    service_id: &str,
    plan_id: &str,
) -> Deprovision<'r> {
    let Some(found) = found else {
        return Deprovision::Gone;
    };
    if let Some(error) = mismatch(found, Some(service_id), Some(plan_id)) {
        return Deprovision::Mismatch(error);
    }
    match found.operation.kind {
        Kind::Deprovision if found.operation.is_polled() => Deprovision::Accepted(found),
        Kind::Provision if found.operation.is_polled() => Deprovision::Delete(found),
        kind if found.operation.in_progress() => Deprovision::Busy(kind),
        // What was never made in full may go all the same.
        _ => match &found.protected {
            Some(protection) if found.operation.exists() => Deprovision::Protected(protection),
            _ => Deprovision::Delete(found),
        },
    }
}

/// 400, where a query names another service offering or plan than the instance is of.
pub fn mismatch(
    found: &Instance,
    service_id: Option<&str>,
    plan_id: Option<&str>,
) -> Option<Error> {
    match (service_id, plan_id) {
        (Some(id), _) if id != found.service_id => Some(other("service_id", id, &found.service_id)),
        (_, Some(id)) if !found.is_or_was_of_plan(id) => Some(other("plan_id", id, &found.plan_id)),
        _ => None,
    }
}

/// 400: an id that is not the one of the instance.
pub fn other(field: &str, found: &str, wanted: &str) -> Error {
    Error::bad_request(format!(
        "{field}: found {found:?}, but the service instance has {wanted:?}."
    ))
}

/// What to do with a fetch. spec: Fetching a Service Instance, Response.
#[derive(Debug)]
pub enum Fetch<'r> {
    /// 404: it does not exist, or is still being provisioned.
    Absent,
    /// 200.
    Found(&'r Instance),
    /// 422 ConcurrencyError.
    Busy(Kind),
}

pub fn judge_fetch(found: Option<&Instance>) -> Fetch<'_> {
    match found {
        Some(found) if !found.operation.exists() => Fetch::Absent,
        Some(found) if found.operation.in_progress() => Fetch::Busy(found.operation.kind),
        Some(found) => Fetch::Found(found),
        None => Fetch::Absent,
    }
}

#[cfg(test)]
mod tests;
