use super::*;
use crate::broker::protocol::operation::State;
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
        Bind::Accepted(..) => "202".into(),
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

/// spec: Binding, 200; platforms send what they have nothing for as null or as an empty text.
#[test]
fn what_a_bind_leaves_empty_is_no_difference() {
    let instance = instance(Kind::Provision, State::Succeeded);
    let binding = found(Kind::Bind, State::Succeeded, None);
    for nothing in [Value::Null, json!("")] {
        let mut body = request();
        body["bind_resource"]["route"] = nothing.clone();
        body["bind_resource"]["backup_agent"] = nothing;
        assert_eq!(bind(Some(&instance), Some(&binding), &body), "200");
    }
    let mut body = request();
    body["bind_resource"]["route"] = json!("example.com");
    let verdict = bind(Some(&instance), Some(&binding), &body);
    assert_eq!(verdict, "409 bind_resource");
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
                Unbind::Delete(..) => "delete",
                Unbind::Accepted(..) => "202",
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
        ("s", "made-with", "delete"),
        ("s", "p", "delete"),
        ("s", "old", "delete"),
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
        (Kind::Bind, State::Failed, "delete"),
        (Kind::Unbind, State::InProgress, "422"),
        (Kind::Unbind, State::Failed, "delete"),
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
                _ => "delete",
            };
            assert_eq!(
                judge(Some(&instance), Some(&bound), "s", "p"),
                expected,
                "{kind:?} {state:?}"
            );
        }
    }
}

fn marked(mut binding: Binding, asynchronous: bool, unmade: bool) -> Binding {
    binding.operation.asynchronous = asynchronous;
    binding.operation.unmade = unmade;
    binding
}

/// spec: Binding and Unbinding, 202: re-sent requests; a binding may be deleted while it is created.
#[test]
fn what_is_in_progress_asynchronously_is_accepted_again() {
    let instance = instance(Kind::Provision, State::Succeeded);
    let other = {
        let mut request = request();
        request["parameters"] = json!({"a": 2});
        request
    };
    let unbind = |binding: &Binding| match judge_unbind(Some(&instance), Some(binding), "s", "p") {
        Unbind::Delete(..) => "delete",
        Unbind::Accepted(..) => "202",
        Unbind::Busy(_) => "422",
        verdict => panic!("{verdict:?}"),
    };
    for (kind, state, unmade, same, different, deleted) in [
        (
            Kind::Bind,
            State::InProgress,
            false,
            "202",
            "409 parameters",
            "delete",
        ),
        (
            Kind::Bind,
            State::Succeeded,
            false,
            "200",
            "409 parameters",
            "delete",
        ),
        (
            Kind::Bind,
            State::Failed,
            false,
            "201 replace",
            "201 replace",
            "delete",
        ),
        (Kind::Unbind, State::InProgress, false, "422", "422", "202"),
        (
            Kind::Unbind,
            State::Failed,
            false,
            "200",
            "409 parameters",
            "delete",
        ),
        (Kind::Unbind, State::InProgress, true, "422", "422", "202"),
        (
            Kind::Unbind,
            State::Failed,
            true,
            "201 replace",
            "201 replace",
            "delete",
        ),
    ] {
        let binding = marked(found(kind, state, None), true, unmade);
        let case = format!("{kind:?} {state:?} {unmade}");
        assert_eq!(
            bind(Some(&instance), Some(&binding), &request()),
            same,
            "{case}"
        );
        assert_eq!(
            bind(Some(&instance), Some(&binding), &other),
            different,
            "{case}"
        );
        assert_eq!(unbind(&binding), deleted, "{case}");
    }
}

/// While its instance is deprovisioned, a binding is left alone, whatever is in progress on it.
#[test]
fn a_binding_goes_with_its_instance() {
    let instance = instance(Kind::Deprovision, State::InProgress);
    let binding = marked(found(Kind::Bind, State::InProgress, None), true, false);
    let verdict = judge_unbind(Some(&instance), Some(&binding), "s", "p");
    assert!(matches!(verdict, Unbind::InstanceBusy(_)), "{verdict:?}");
}
