//! What the specification says to a request about a service binding: (records found, request) -> verdict.
//!
//! These functions are the tables of the specification. They touch nothing.

use super::record::Binding;
use super::request::BindRequest;
use crate::broker::error::Error;
use crate::broker::instance::record::Instance;
use crate::broker::operation::Kind;

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
    /// 200.
    Delete(&'r Instance, &'r Binding),
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
    if let Some(error) = mismatch(instance, found, Some(service_id), Some(plan_id)) {
        Unbind::Mismatch(error)
    } else if found.operation.in_progress() {
        Unbind::Busy(found.operation.kind)
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
mod tests {
    use super::*;
    use crate::broker::operation::State;
    use serde_json::{Value, json};

    const KINDS: [Kind; 3] = [Kind::Provision, Kind::Update, Kind::Deprovision];
    const OUTCOMES: [State; 3] = [State::InProgress, State::Succeeded, State::Failed];

    fn instance(kind: Kind, state: State) -> Instance {
        serde_json::from_value(json!({
            "service_id": "s", "plan_id": "p", "previous_plan_id": "old",
            "organization_guid": "o", "space_guid": "sp",
            "adapter": "shared", "effects": false,
            "created": {"at": "2026-01-01T00:00:00Z"},
            "operation": {"kind": kind, "state": state},
        }))
        .unwrap()
    }

    fn found(kind: Kind, state: State, predecessor: Option<&str>) -> Binding {
        serde_json::from_value(json!({
            "service_id": "s", "plan_id": "made-with",
            "app_guid": "app", "bind_resource": {"app_guid": "app", "space_guid": "sp", "app_annotations": {"a": "b"}},
            "parameters": {"a": 1}, "context": {"platform": "cloudfoundry", "space_name": "dev"},
            "predecessor_binding_id": predecessor,
            "answer": {}, "effects": false,
            "created": {"at": "2026-01-01T00:00:00Z"},
            "operation": {"kind": kind, "state": state},
        }))
        .unwrap()
    }

    fn request() -> Value {
        json!({
            "service_id": "s", "plan_id": "made-with",
            "bind_resource": {"space_guid": "sp", "app_guid": "app", "app_annotations": {}},
            "app_guid": "app", "parameters": {"a": 1.0},
            "context": {"platform": "cloudfoundry", "space_name": "renamed"},
        })
    }

    fn bind(instance: Option<&Instance>, found: Option<&Binding>, body: &Value) -> String {
        let body = body.to_string();
        let request = BindRequest::parse(body.as_bytes()).unwrap();
        match judge_bind(instance, found, &request) {
            Bind::NoInstance => "404".into(),
            Bind::Create(_) => "201".into(),
            Bind::Replace(..) => "201 replace".into(),
            Bind::Exists(_) => "200".into(),
            Bind::Differs(attribute) => format!("409 {attribute}"),
            Bind::InstanceBusy(_) => "422 instance".into(),
            Bind::Busy(_) => "422".into(),
        }
    }

    /// spec: Binding, Response; Blocking Operations.
    #[test]
    fn a_new_binding_is_judged_by_the_state_of_the_instance() {
        assert_eq!(bind(None, None, &request()), "404");
        for kind in KINDS {
            for state in OUTCOMES {
                let instance = instance(kind, state);
                let expected = match (kind, state) {
                    (Kind::Provision, State::Failed) => "404",
                    (_, State::InProgress) => "422 instance",
                    _ => "201",
                };
                assert_eq!(
                    bind(Some(&instance), None, &request()),
                    expected,
                    "{kind:?} {state:?}"
                );
            }
        }
    }

    #[test]
    fn a_repeated_bind_is_judged_by_the_state_of_the_binding() {
        let instance = instance(Kind::Provision, State::Succeeded);
        let different = {
            let mut request = request();
            request["parameters"] = json!({"a": 2});
            request
        };
        for (kind, state, same, other) in [
            (Kind::Bind, State::InProgress, "422", "409 parameters"),
            (Kind::Bind, State::Succeeded, "200", "409 parameters"),
            (Kind::Bind, State::Failed, "201 replace", "201 replace"),
            (Kind::Unbind, State::InProgress, "422", "422"),
            (Kind::Unbind, State::Failed, "200", "409 parameters"),
        ] {
            let binding = found(kind, state, None);
            assert_eq!(
                bind(Some(&instance), Some(&binding), &request()),
                same,
                "{kind:?} {state:?}"
            );
            assert_eq!(
                bind(Some(&instance), Some(&binding), &different),
                other,
                "{kind:?} {state:?}"
            );
        }
        let mut failed = found(Kind::Bind, State::Failed, None);
        failed.plan_id = instance.plan_id.clone();
        assert_eq!(bind(Some(&instance), Some(&failed), &request()), "201");
    }

    /// spec: Binding, 409.
    #[test]
    fn a_bind_with_any_other_attribute_conflicts() {
        let instance = instance(Kind::Provision, State::Succeeded);
        let binding = found(Kind::Bind, State::Succeeded, None);
        for (field, to, name) in [
            ("service_id", json!("x"), "service_id"),
            ("plan_id", json!("x"), "plan_id"),
            (
                "bind_resource",
                json!({"app_guid": "x", "space_guid": "sp"}),
                "app_guid",
            ),
            ("bind_resource", json!({"app_guid": "app"}), "bind_resource"),
            ("bind_resource", Value::Null, "bind_resource"),
            ("parameters", Value::Null, "parameters"),
            ("context", json!({"platform": "x"}), "context"),
            (
                "predecessor_binding_id",
                json!("old"),
                "predecessor_binding_id",
            ),
        ] {
            let mut body = request();
            body[field] = to;
            let verdict = bind(Some(&instance), Some(&binding), &body);
            assert_eq!(verdict, format!("409 {name}"), "{field}");
        }
    }

    /// spec: Binding Rotation: the request names the predecessor alone; what it leaves out is inherited.
    #[test]
    fn a_repeated_rotation_needs_only_the_predecessor() {
        let instance = instance(Kind::Provision, State::Succeeded);
        let rotated = found(Kind::Bind, State::Succeeded, Some("old"));
        let verdict = |body: Value| bind(Some(&instance), Some(&rotated), &body);
        assert_eq!(verdict(json!({"predecessor_binding_id": "old"})), "200");
        assert_eq!(
            verdict(json!({"predecessor_binding_id": "older"})),
            "409 predecessor_binding_id"
        );
        assert_eq!(
            verdict(json!({"predecessor_binding_id": "old", "parameters": {"a": 2}})),
            "409 parameters"
        );
        assert_eq!(verdict(request()), "409 predecessor_binding_id");
    }

    /// spec: Unbinding, Response.
    #[test]
    fn an_unbind_is_judged_by_both_states_and_the_ids() {
        let judge =
            |instance: Option<&Instance>, found: Option<&Binding>, service: &str, plan: &str| {
                match judge_unbind(instance, found, service, plan) {
                    Unbind::Gone => "410",
                    Unbind::Mismatch(_) => "400",
                    Unbind::Delete(..) => "200",
                    Unbind::InstanceBusy(_) => "422 instance",
                    Unbind::Busy(_) => "422",
                }
            };
        let ready = instance(Kind::Provision, State::Succeeded);
        let bound = found(Kind::Bind, State::Succeeded, None);
        assert_eq!(judge(None, None, "s", "p"), "410");
        assert_eq!(judge(Some(&ready), None, "s", "p"), "410");
        assert_eq!(judge(None, Some(&bound), "s", "p"), "410");
        for (service, plan, expected) in [
            ("s", "made-with", "200"),
            ("s", "p", "200"),
            ("s", "old", "200"),
            ("s", "x", "400"),
            ("x", "p", "400"),
        ] {
            assert_eq!(
                judge(Some(&ready), Some(&bound), service, plan),
                expected,
                "{service} {plan}"
            );
        }
        for (kind, state, expected) in [
            (Kind::Bind, State::InProgress, "422"),
            (Kind::Bind, State::Failed, "200"),
            (Kind::Unbind, State::InProgress, "422"),
            (Kind::Unbind, State::Failed, "200"),
        ] {
            let binding = found(kind, state, None);
            assert_eq!(
                judge(Some(&ready), Some(&binding), "s", "p"),
                expected,
                "{kind:?} {state:?}"
            );
        }
        for kind in KINDS {
            for state in OUTCOMES {
                let instance = instance(kind, state);
                let expected = match (kind, state) {
                    (Kind::Deprovision, State::InProgress) => "422 instance",
                    _ => "200",
                };
                assert_eq!(
                    judge(Some(&instance), Some(&bound), "s", "p"),
                    expected,
                    "{kind:?} {state:?}"
                );
            }
        }
    }
}
