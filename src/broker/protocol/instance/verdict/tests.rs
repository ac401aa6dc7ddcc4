use super::*;
use serde_json::{Value, json};

/// Every state that a record can be in: the last operation, its state, and whether it is asynchronous or of an instance
/// that was never made. The empty one is the absent record.
const STATES: [&str; 17] = [
    "",
    "provision, in progress",
    "provision, in progress, async",
    "provision, succeeded",
    "provision, failed",
    "provision, failed, async",
    "update, in progress",
    "update, in progress, async",
    "update, succeeded",
    "update, failed",
    "deprovision, in progress",
    "deprovision, in progress, async",
    "deprovision, in progress, unmade",
    "deprovision, in progress, async, unmade",
    "deprovision, failed",
    "deprovision, failed, unmade",
    "deprovision, failed, async, unmade",
];

fn found(state: &str) -> Option<Instance> {
    let words: Vec<&str> = state.split(", ").collect();
    let [kind, state, flags @ ..] = &words[..] else {
        return None;
    };
    let mut record = json!({
        "service_id": "s", "plan_id": "p", "previous_plan_id": "old",
        "organization_guid": "o", "space_guid": "sp",
        "context": {"platform": "cloudfoundry", "space_guid": "sp", "space_name": "dev"},
        "parameters": {"a": 1, "b": {"c": [true]}},
        "maintenance_version": "1.0.0",
        "adapter": "shared", "effects": false,
        "created": {"at": "2026-01-01T00:00:00Z"},
        "operation": {"kind": kind, "state": state, "id": "op"},
    });
    for flag in flags {
        record["operation"][*flag] = json!(true);
    }
    if (*kind, *state) == ("update", "in progress") {
        record["update"] = json!({"plan_id": "q", "parameters": {"a": 2}});
    }
    Some(serde_json::from_value(record).unwrap())
}

/// The verdict for each of [`STATES`], as a table to compare with: one line a state.
fn table(judge: impl Fn(Option<&Instance>) -> String) -> String {
    let line = |state: &&str| {
        let record = found(state);
        format!("{state}: {}\n", judge(record.as_ref()))
    };
    STATES.iter().map(line).collect()
}

/// The table without the white space that makes it readable here.
#[track_caller]
fn assert_table(found: &str, wanted: &str) {
    let lines = |text: &str| -> Vec<String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.map(str::to_owned).collect()
    };
    assert_eq!(lines(found), lines(wanted));
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

fn provision(record: Option<&Instance>, body: &Value) -> String {
    let body = body.to_string();
    let request = ProvisionRequest::parse(body.as_bytes()).unwrap();
    match judge_provision(record, &request) {
        Provision::Create => "201".into(),
        Provision::Replace(_) => "201 replace".into(),
        Provision::Exists(_) => "200".into(),
        Provision::Accepted(_) => "202".into(),
        Provision::Differs(attribute) => format!("409 {attribute}"),
        Provision::Busy(_) => "422".into(),
    }
}

/// spec: Provisioning, Response.
#[test]
fn an_identical_provision_is_judged_by_the_state() {
    assert_table(
        &table(|record| provision(record, &provision_request())),
        "
        : 201
        provision, in progress: 422
        provision, in progress, async: 202
        provision, succeeded: 200
        provision, failed: 201
        provision, failed, async: 201
        update, in progress: 422
        update, in progress, async: 422
        update, succeeded: 200
        update, failed: 200
        deprovision, in progress: 422
        deprovision, in progress, async: 422
        deprovision, in progress, unmade: 422
        deprovision, in progress, async, unmade: 422
        deprovision, failed: 200
        deprovision, failed, unmade: 201
        deprovision, failed, async, unmade: 201
        ",
    );
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
    ] {
        let body = changed(provision_request(), field, to);
        for state in STATES {
            let was_never = state.starts_with("provision, failed")
                || state.contains("failed") && state.ends_with("unmade");
            let expected = if was_never && name.ends_with("_id") {
                "201 replace".to_owned()
            } else if was_never || state.is_empty() {
                "201".to_owned()
            } else if state.starts_with("deprovision, in progress") {
                "422".to_owned()
            } else {
                format!("409 {name}")
            };
            let verdict = provision(found(state).as_ref(), &body);
            assert_eq!(verdict, expected, "{field} {state:?}");
        }
    }
}

#[test]
fn context_and_maintenance_info_may_be_others_in_a_repeat() {
    for (field, to) in [
        ("maintenance_info", Value::Null),
        ("maintenance_info", json!({"version": "2.0.0"})),
        ("context", Value::Null),
        ("context", json!({"platform": "kubernetes"})),
    ] {
        let body = changed(provision_request(), field, to);
        let verdict = provision(found("provision, succeeded").as_ref(), &body);
        assert_eq!(verdict, "200", "{field}");
    }
}

fn update(record: Option<&Instance>, body: &Value) -> String {
    let body = body.to_string();
    let request = UpdateRequest::parse(body.as_bytes()).unwrap();
    match judge_update(record, &request) {
        Update::Absent => "404".into(),
        Update::OtherService(_) => "400".into(),
        Update::Unchanged(_) => "200 unchanged".into(),
        Update::Context(_) => "200 context alone".into(),
        Update::Accepted(_) => "202".into(),
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
    assert_table(
        &table(|record| update(record, &change)),
        "
        : 404
        provision, in progress: 422
        provision, in progress, async: 422
        provision, succeeded: 200 parameters
        provision, failed: 404
        provision, failed, async: 404
        update, in progress: 422
        update, in progress, async: 422
        update, succeeded: 200 parameters
        update, failed: 200 parameters
        deprovision, in progress: 422
        deprovision, in progress, async: 422
        deprovision, in progress, unmade: 422
        deprovision, in progress, async, unmade: 422
        deprovision, failed: 200 parameters
        deprovision, failed, unmade: 404
        deprovision, failed, async, unmade: 404
        ",
    );
    let other = json!({"service_id": "x", "parameters": {"a": 2}});
    for state in STATES {
        let is_there = !matches!(
            state,
            "" | "provision, failed"
                | "provision, failed, async"
                | "deprovision, failed, unmade"
                | "deprovision, failed, async, unmade"
        );
        let expected = if is_there { "400" } else { "404" };
        assert_eq!(update(found(state).as_ref(), &other), expected, "{state:?}");
    }
}

/// spec: Updating a Service Instance, 202: a re-sent PATCH.
#[test]
fn the_update_that_is_in_progress_is_known_again() {
    let under_way = found("update, in progress, async");
    let verdict = |body| update(under_way.as_ref(), &body);
    let same = json!({"service_id": "s", "plan_id": "q", "parameters": {"a": 2.0}});
    assert_eq!(verdict(same.clone()), "202");
    // To whom nobody said that they should poll, it cannot be 202.
    assert_eq!(update(found("update, in progress").as_ref(), &same), "422");
    for (field, to) in [
        ("plan_id", json!("p")),
        ("plan_id", Value::Null),
        ("parameters", json!({"a": 3})),
        ("parameters", Value::Null),
        ("context", json!({"platform": "cloudfoundry"})),
        ("maintenance_info", json!({"version": "1.0.0"})),
    ] {
        assert_eq!(verdict(changed(same.clone(), field, to)), "422", "{field}");
    }
    assert_eq!(verdict(changed(same, "service_id", json!("x"))), "400");
}

#[test]
fn an_update_changes_what_it_names_and_nothing_else() {
    let ready = found("provision, succeeded");
    let same_context = json!({"platform": "cloudfoundry", "space_guid": "sp", "space_name": "dev"});
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
            "200 context alone",
        ),
        (
            json!({"service_id": "s", "plan_id": "p", "parameters": {"a": 1.0}, "context": renamed}),
            "200 context alone",
        ),
        (
            json!({"service_id": "s", "plan_id": "q", "parameters": {"a": 2}, "context": renamed,
                   "maintenance_info": {"version": "2.0.0"}}),
            "200 plan parameters maintenance context",
        ),
    ] {
        assert_eq!(update(ready.as_ref(), &body), expected, "{body}");
    }
    // After a failed update the same values may repair the instance.
    let failed = found("update, failed");
    assert_eq!(update(failed.as_ref(), &json!({"service_id": "s"})), "200");
    let context = json!({"service_id": "s", "context": renamed});
    assert_eq!(update(failed.as_ref(), &context), "200 context");
}

/// spec: Deprovisioning, Response.
#[test]
fn a_deprovision_is_judged_by_the_state_and_the_ids() {
    let judge = |record: Option<&Instance>, service: &str, plan: &str| {
        let verdict = match judge_deprovision(record, service, plan) {
            Deprovision::Gone => "410",
            Deprovision::Mismatch(_) => "400",
            Deprovision::Protected(_) => "protected",
            Deprovision::Delete(_) => "delete",
            Deprovision::Accepted(_) => "202",
            Deprovision::Busy(_) => "422",
        };
        verdict.to_owned()
    };
    let expected = "
        : 410
        provision, in progress: 422
        provision, in progress, async: delete
        provision, succeeded: delete
        provision, failed: delete
        provision, failed, async: delete
        update, in progress: 422
        update, in progress, async: 422
        update, succeeded: delete
        update, failed: delete
        deprovision, in progress: 422
        deprovision, in progress, async: 202
        deprovision, in progress, unmade: 422
        deprovision, in progress, async, unmade: 202
        deprovision, failed: delete
        deprovision, failed, unmade: delete
        deprovision, failed, async, unmade: delete
        ";
    assert_table(&table(|record| judge(record, "s", "p")), expected);
    // A platform that did not hear of the change of plan names the plan before it.
    assert_table(&table(|record| judge(record, "s", "old")), expected);
    for state in STATES {
        let record = found(state);
        let wrong = if state.is_empty() { "410" } else { "400" };
        assert_eq!(judge(record.as_ref(), "s", "x"), wrong, "{state:?}");
        assert_eq!(judge(record.as_ref(), "x", "p"), wrong, "{state:?}");
    }
}

#[test]
fn what_is_protected_is_not_deprovisioned_unless_it_never_was() {
    for state in STATES.into_iter().filter(|state| !state.is_empty()) {
        let free = found(state).unwrap();
        let mut record = free.clone();
        let protection = serde_json::json!({ "since": "2026-01-01T00:00:00Z" });
        record.protected = serde_json::from_value(protection).unwrap();
        let was = !matches!(free.operation.kind, Kind::Provision) || state.contains("succeeded");
        let wanted = match judge_deprovision(Some(&free), "s", "p") {
            Deprovision::Delete(_) => was && !state.contains("unmade"),
            _ => false,
        };
        let verdict = judge_deprovision(Some(&record), "s", "p");
        let is_protected = matches!(verdict, Deprovision::Protected(_));
        assert_eq!(is_protected, wanted, "{state:?}");
    }
}

/// spec: Polling Last Operation, plan_id: the one before the change, while it is made; and the other one is no lie either.
#[test]
fn during_a_change_of_plan_both_plans_are_accepted() {
    for state in STATES.into_iter().filter(|state| !state.is_empty()) {
        let record = found(state).unwrap();
        for (plan, known) in [
            ("p", true),
            ("old", true),
            ("q", state.starts_with("update, in progress")),
            ("x", false),
        ] {
            let mismatch = mismatch(&record, Some("s"), Some(plan));
            assert_eq!(mismatch.is_none(), known, "{state:?} {plan}");
        }
        assert!(mismatch(&record, None, None).is_none());
        assert!(mismatch(&record, Some("x"), None).is_some());
    }
}

/// spec: Fetching a Service Instance, Response.
#[test]
fn a_fetch_is_judged_by_the_state() {
    let judge = |record: Option<&Instance>| {
        let verdict = match judge_fetch(record) {
            Fetch::Absent => "404",
            Fetch::Found(_) => "200",
            Fetch::Busy(_) => "422",
        };
        verdict.to_owned()
    };
    assert_table(
        &table(judge),
        "
        : 404
        provision, in progress: 404
        provision, in progress, async: 404
        provision, succeeded: 200
        provision, failed: 404
        provision, failed, async: 404
        update, in progress: 422
        update, in progress, async: 422
        update, succeeded: 200
        update, failed: 200
        deprovision, in progress: 422
        deprovision, in progress, async: 422
        deprovision, in progress, unmade: 404
        deprovision, in progress, async, unmade: 404
        deprovision, failed: 200
        deprovision, failed, unmade: 404
        deprovision, failed, async, unmade: 404
        ",
    );
}
