//! What the specification says to a request about a service instance: (record found, request) -> verdict.
//!
//! These functions are the tables of the specification. They touch nothing.

use super::record::Instance;
use super::request::{Changes, ProvisionRequest, UpdateRequest};
use crate::broker::error::Error;
use crate::broker::operation::{Kind, Operation, State};

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
    let Operation { kind, state, .. } = found.operation;
    match (kind, state) {
        // What failed on its way never was: it is made anew.
        (Kind::Provision, State::Failed) if request.is_of_plan(found) => Provision::Create,
        (Kind::Provision, State::Failed) => Provision::Replace(found),
        (Kind::Deprovision, State::InProgress) => Provision::Busy(kind),
        _ => match request.difference(found) {
            Some(attribute) => Provision::Differs(attribute),
            None if state == State::InProgress => Provision::Busy(kind),
            None => Provision::Exists(found),
        },
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
    /// 200, if the catalog allows the changes.
    Change(&'r Instance, Changes),
    /// 422 ConcurrencyError.
    Busy(Kind),
}

pub fn judge_update<'r>(found: Option<&'r Instance>, request: &UpdateRequest<'_>) -> Update<'r> {
    let Some(found) = found else {
        return Update::Absent;
    };
    let Operation { kind, state, .. } = found.operation;
    match (kind, state) {
        (Kind::Provision, State::Failed) => Update::Absent,
        _ if request.service_id != found.service_id => Update::OtherService(&found.service_id),
        (_, State::InProgress) => Update::Busy(kind),
        // After a failed update the same values may repair the instance.
        (Kind::Update, State::Failed) => Update::Change(found, request.changes(found)),
        _ => match request.changes(found) {
            Changes::NONE => Update::Unchanged(found),
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
    /// 200.
    Delete(&'r Instance),
    /// 422 ConcurrencyError.
    Busy(Kind),
}

pub fn judge_deprovision<'r>(
    found: Option<&'r Instance>,
    service_id: &str,
    plan_id: &str,
) -> Deprovision<'r> {
    match found {
        None => Deprovision::Gone,
        Some(found) => match mismatch(found, Some(service_id), Some(plan_id)) {
            Some(error) => Deprovision::Mismatch(error),
            None if found.operation.in_progress() => Deprovision::Busy(found.operation.kind),
            None => Deprovision::Delete(found),
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
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Every state that a record can be in; `None` is the absent record.
    const STATES: [Option<(Kind, State)>; 10] = [
        None,
        Some((Kind::Provision, State::InProgress)),
        Some((Kind::Provision, State::Succeeded)),
        Some((Kind::Provision, State::Failed)),
        Some((Kind::Update, State::InProgress)),
        Some((Kind::Update, State::Succeeded)),
        Some((Kind::Update, State::Failed)),
        Some((Kind::Deprovision, State::InProgress)),
        Some((Kind::Deprovision, State::Succeeded)),
        Some((Kind::Deprovision, State::Failed)),
    ];

    fn found((kind, state): (Kind, State)) -> Instance {
        serde_json::from_value(json!({
            "service_id": "s", "plan_id": "p", "previous_plan_id": "old",
            "organization_guid": "o", "space_guid": "sp",
            "context": {"platform": "cloudfoundry", "space_guid": "sp", "space_name": "dev"},
            "parameters": {"a": 1, "b": {"c": [true]}},
            "maintenance_version": "1.0.0",
            "adapter": "shared", "effects": false,
            "created": {"at": "2026-01-01T00:00:00Z"},
            "operation": {"kind": kind, "state": state},
        }))
        .unwrap()
    }

    fn provision_request() -> Value {
        json!({
            "service_id": "s", "plan_id": "p", "organization_guid": "o", "space_guid": "sp",
            "context": {"platform": "cloudfoundry", "space_guid": "sp", "space_name": "renamed",
                        "space_annotations": {"x": "y"}, "instance_name": "n"},
            "parameters": {"b": {"c": [true]}, "a": 1.0},
            "maintenance_info": {"version": "1.0.0", "description": "ignored"},
        })
    }

    fn changed(mut value: Value, field: &str, to: Value) -> Value {
        value[field] = to;
        value
    }

    fn provision(state: Option<(Kind, State)>, body: &Value) -> String {
        let record = state.map(found);
        let body = body.to_string();
        let request = ProvisionRequest::parse(body.as_bytes()).unwrap();
        match judge_provision(record.as_ref(), &request) {
            Provision::Create => "201".into(),
            Provision::Replace(_) => "201 replace".into(),
            Provision::Exists(_) => "200".into(),
            Provision::Differs(attribute) => format!("409 {attribute}"),
            Provision::Busy(_) => "422".into(),
        }
    }

    /// spec: Provisioning, Response.
    #[test]
    fn an_identical_provision_is_judged_by_the_state() {
        let expected = [
            "201", "422", "200", "201", "422", "200", "200", "422", "200", "200",
        ];
        for (state, expected) in STATES.into_iter().zip(expected) {
            assert_eq!(
                provision(state, &provision_request()),
                expected,
                "{state:?}"
            );
        }
    }

    /// spec: Provisioning, 409: also while it is being provisioned.
    #[test]
    fn a_provision_with_any_other_attribute_conflicts() {
        for (field, to, name) in [
            ("service_id", json!("x"), "service_id"),
            ("plan_id", json!("x"), "plan_id"),
            ("organization_guid", json!("x"), "organization_guid"),
            ("space_guid", json!("x"), "space_guid"),
            (
                "parameters",
                json!({"a": 2, "b": {"c": [true]}}),
                "parameters",
            ),
            ("parameters", json!({"a": 1}), "parameters"),
            ("parameters", json!({}), "parameters"),
            ("parameters", Value::Null, "parameters"),
            (
                "context",
                json!({"platform": "kubernetes", "space_guid": "sp"}),
                "context",
            ),
            ("context", json!({}), "context"),
            (
                "maintenance_info",
                json!({"version": "2.0.0"}),
                "maintenance_info.version",
            ),
        ] {
            let body = changed(provision_request(), field, to);
            for state in STATES {
                let expected = match state {
                    Some((Kind::Provision, State::Failed)) if name.ends_with("_id") => {
                        "201 replace".to_owned()
                    }
                    None | Some((Kind::Provision, State::Failed)) => "201".to_owned(),
                    Some((Kind::Deprovision, State::InProgress)) => "422".to_owned(),
                    _ => format!("409 {name}"),
                };
                assert_eq!(provision(state, &body), expected, "{field} {state:?}");
            }
        }
    }

    #[test]
    fn maintenance_info_may_be_left_out_of_a_repeat() {
        let body = changed(provision_request(), "maintenance_info", Value::Null);
        assert_eq!(
            provision(Some((Kind::Provision, State::Succeeded)), &body),
            "200"
        );
    }

    fn update(state: Option<(Kind, State)>, body: Value) -> String {
        let record = state.map(found);
        let body = body.to_string();
        let request = UpdateRequest::parse(body.as_bytes()).unwrap();
        match judge_update(record.as_ref(), &request) {
            Update::Absent => "404".into(),
            Update::OtherService(_) => "400".into(),
            Update::Unchanged(_) => "200 unchanged".into(),
            Update::Change(_, changes) => format!(
                "200{}{}{}{}",
                if changes.plan { " plan" } else { "" },
                if changes.parameters {
                    " parameters"
                } else {
                    ""
                },
                if changes.maintenance {
                    " maintenance"
                } else {
                    ""
                },
                if changes.context { " context" } else { "" },
            ),
            Update::Busy(_) => "422".into(),
        }
    }

    /// spec: Updating a Service Instance, Response.
    #[test]
    fn an_update_is_judged_by_the_state() {
        let change = json!({"service_id": "s", "parameters": {"a": 2}});
        let done = "200 parameters";
        let expected = [
            "404", "422", done, "404", "422", done, done, "422", done, done,
        ];
        for (state, expected) in STATES.into_iter().zip(expected) {
            assert_eq!(update(state, change.clone()), expected, "{state:?}");
        }
        let other = json!({"service_id": "x", "parameters": {"a": 2}});
        for state in STATES {
            let expected = match state {
                None | Some((Kind::Provision, State::Failed)) => "404",
                _ => "400",
            };
            assert_eq!(update(state, other.clone()), expected, "{state:?}");
        }
    }

    #[test]
    fn an_update_changes_what_it_names_and_nothing_else() {
        let ready = Some((Kind::Provision, State::Succeeded));
        let same_context =
            json!({"platform": "cloudfoundry", "space_guid": "sp", "space_name": "dev"});
        let renamed = json!({"platform": "cloudfoundry", "space_guid": "sp", "space_name": "new"});
        for (body, expected) in [
            (json!({"service_id": "s"}), "200 unchanged"),
            (
                json!({"service_id": "s", "plan_id": "p", "parameters": {}}),
                "200 unchanged",
            ),
            (
                json!({"service_id": "s", "parameters": null, "context": null}),
                "200 unchanged",
            ),
            (
                json!({"service_id": "s", "parameters": {"a": 1.0}}),
                "200 unchanged",
            ),
            (
                json!({"service_id": "s", "parameters": {"missing": null}}),
                "200 unchanged",
            ),
            (
                json!({"service_id": "s", "context": same_context}),
                "200 unchanged",
            ),
            (json!({"service_id": "s", "plan_id": "q"}), "200 plan"),
            (
                json!({"service_id": "s", "parameters": {"a": null}}),
                "200 parameters",
            ),
            (
                json!({"service_id": "s", "parameters": {"new": 1}}),
                "200 parameters",
            ),
            (
                json!({"service_id": "s", "maintenance_info": {"version": "1.0.0"}}),
                "200 unchanged",
            ),
            (
                json!({"service_id": "s", "maintenance_info": {"version": "2.0.0"}}),
                "200 maintenance",
            ),
            (
                json!({"service_id": "s", "context": renamed}),
                "200 context",
            ),
            (
                json!({"service_id": "s", "plan_id": "q", "parameters": {"a": 2}, "context": renamed,
                       "maintenance_info": {"version": "2.0.0"}}),
                "200 plan parameters maintenance context",
            ),
        ] {
            assert_eq!(update(ready, body.clone()), expected, "{body}");
        }
        // After a failed update the same values may repair the instance.
        let failed = Some((Kind::Update, State::Failed));
        assert_eq!(update(failed, json!({"service_id": "s"})), "200");
    }

    /// spec: Deprovisioning, Response.
    #[test]
    fn a_deprovision_is_judged_by_the_state_and_the_ids() {
        let judge = |state: Option<(Kind, State)>, service: &str, plan: &str| {
            let record = state.map(found);
            match judge_deprovision(record.as_ref(), service, plan) {
                Deprovision::Gone => "410",
                Deprovision::Mismatch(_) => "400",
                Deprovision::Delete(_) => "200",
                Deprovision::Busy(_) => "422",
            }
        };
        let expected = [
            "410", "422", "200", "200", "422", "200", "200", "422", "200", "200",
        ];
        for (state, expected) in STATES.into_iter().zip(expected) {
            assert_eq!(judge(state, "s", "p"), expected, "{state:?}");
            // A platform that did not hear of the change of plan names the plan before it.
            assert_eq!(judge(state, "s", "old"), expected, "{state:?}");
            let wrong = if state.is_none() { "410" } else { "400" };
            assert_eq!(judge(state, "s", "x"), wrong, "{state:?}");
            assert_eq!(judge(state, "x", "p"), wrong, "{state:?}");
        }
    }

    /// spec: Fetching a Service Instance, Response.
    #[test]
    fn a_fetch_is_judged_by_the_state() {
        let expected = [
            "404", "404", "200", "404", "422", "200", "200", "422", "200", "200",
        ];
        for (state, expected) in STATES.into_iter().zip(expected) {
            let record = state.map(found);
            let verdict = match judge_fetch(record.as_ref()) {
                Fetch::Absent => "404",
                Fetch::Found(_) => "200",
                Fetch::Busy(_) => "422",
            };
            assert_eq!(verdict, expected, "{state:?}");
        }
    }
}
