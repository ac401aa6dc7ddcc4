//! spec: Updating a Service Instance.

mod support;

use serde_json::{Value, json};
use support::*;

/// `db`: plans can be changed, but for `frozen`. `fixed`: plans cannot be changed, but for `movable`. `told`: allows
/// context updates. All can be fetched, so that the tests see what became of an instance.
fn catalog() -> Value {
    let plan = |id: &str| json!({ "id": id, "name": id, "description": "A plan" });
    let version = |id: &str, version: &str| {
        merged(
            &plan(id),
            json!({ "maintenance_info": { "version": version } }),
        )
    };
    let updateable = |id: &str, value: bool| merged(&plan(id), json!({ "plan_updateable": value }));
    let shown = |id: &str, host: &str| {
        let url = format!("https://{host}.example/${{instance_id}}");
        merged(
            &plan(id),
            json!({ "adapter": { "kind": "shared", "instance": { "dashboard_url": url } } }),
        )
    };
    let service = |id: &str, plans: Value| {
        json!({
            "id": id, "name": id, "description": "A service", "bindable": true, "instances_retrievable": true,
            "plans": plans,
        })
    };
    let db = [
        plan("small"),
        plan("large"),
        updateable("frozen", false),
        version("v2", "2.0.0"),
        version("v3", "3.0.0"),
        shown("shown", "one"),
        shown("shown-too", "two"),
    ];
    json!({ "services": [
        merged(&service("db", json!(db)), json!({ "plan_updateable": true })),
        service("fixed", json!([plan("plain"), updateable("movable", true)])),
        merged(&service("told", json!([plan("told-plan")])), json!({ "allow_context_updates": true })),
    ]})
}

/// A service offering that shows what its adapter knows of an instance's name.
fn told_of_updates() -> Value {
    json!({
        "description": "A service", "bindable": true, "instances_retrievable": true,
        "plans": [{
            "id": "quiet-plan", "name": "quiet", "description": "A plan",
            "maintenance_info": { "version": "1.0.0" },
            "adapter": {
                "kind": "shared",
                "instance": { "dashboard_url": "https://q.example/${context.instance_name}" },
                "binding": { "credentials": { "name": "${context.instance_name}" } }
            }
        }]
    })
}

/// A broker with the instance `i` of this plan and these parameters.
fn broker(service: &str, plan: &str, parameters: Value) -> Broker {
    let broker = Broker::with(&catalog());
    let body = merged(
        &provision(service, plan),
        json!({ "parameters": parameters }),
    );
    broker.put(&instance("i"), &body).expect(201);
    broker
}

fn fetched(broker: &Broker) -> Value {
    broker.get(&instance("i")).expect(200).json()
}

/// Asserts that an update of `i` is 200, and what is then fetched of these fields.
#[track_caller]
fn updated(broker: &Broker, body: &Value, wanted: Value) {
    broker.patch(&instance("i"), body).expect(200);
    let fetched = fetched(broker);
    for (field, value) in wanted.as_object().unwrap() {
        assert_eq!(fetched[field], *value, "{field} after {body}");
    }
}

/// Asserts that an update of `i` is refused, naming this, and that nothing of it was applied.
#[track_caller]
fn refused(broker: &Broker, body: impl Into<Vec<u8>>, status: u16, name: &str) -> Response {
    let before = broker.get(&instance("i")).expect(200).body;
    let request = broker.request("PATCH", &instance("i")).body(body);
    let answer = request.send().expect_naming(status, name);
    assert_eq!(broker.get(&instance("i")).expect(200).body, before);
    let poll = broker.get(&(instance("i") + "/last_operation")).expect(200);
    assert_eq!(poll.json(), json!({ "state": "succeeded" }));
    answer
}

/// The context of the instance under another name.
fn renamed(name: &str) -> Value {
    let mut context = provision("", "")["context"].clone();
    context["instance_name"] = json!(name);
    context
}

// What is left out stays

#[test]
fn without_a_plan_id_the_plan_stays() {
    let broker = broker("db", "small", json!({}));
    for body in [
        json!({ "service_id": "db", "parameters": { "a": 1 } }),
        json!({ "service_id": "db", "plan_id": null, "parameters": { "a": 2 } }),
        json!({ "service_id": "db", "plan_id": "", "parameters": { "a": 3 } }),
        json!({ "service_id": "db", "previous_values": { "plan_id": "large" } }),
    ] {
        updated(&broker, &body, json!({ "plan_id": "small" }));
    }
}

#[test]
fn without_parameters_the_parameters_stay() {
    let broker = broker("db", "small", json!({ "a": 1, "b": [2] }));
    let kept = json!({ "a": 1, "b": [2] });
    for (plan, parameters) in [
        ("large", None),
        ("small", Some(json!({}))),
        ("large", Some(Value::Null)),
    ] {
        let mut body = json!({ "service_id": "db", "plan_id": plan });
        if let Some(parameters) = parameters {
            body["parameters"] = parameters;
        }
        updated(
            &broker,
            &body,
            json!({ "plan_id": plan, "parameters": kept }),
        );
    }
}

#[test]
fn without_maintenance_info_the_version_stays() {
    let broker = broker("db", "v2", json!({}));
    for info in [Value::Null, json!({})] {
        let body =
            json!({ "service_id": "db", "parameters": { "a": info }, "maintenance_info": info });
        updated(
            &broker,
            &body,
            json!({ "maintenance_info": { "version": "2.0.0" } }),
        );
    }
}

// Parameters

#[test]
fn parameters_are_merged_by_name_and_null_removes_one() {
    let broker = broker(
        "db",
        "small",
        json!({ "a": 1, "b": { "x": 1, "y": 2 }, "c": [1] }),
    );
    for (parameters, wanted) in [
        (
            json!({ "a": 2 }),
            json!({ "a": 2, "b": { "x": 1, "y": 2 }, "c": [1] }),
        ),
        (
            json!({ "d": "new" }),
            json!({ "a": 2, "b": { "x": 1, "y": 2 }, "c": [1], "d": "new" }),
        ),
        // A value is replaced whole.
        (
            json!({ "b": { "x": 3 }, "c": [2] }),
            json!({ "a": 2, "b": { "x": 3 }, "c": [2], "d": "new" }),
        ),
        (
            json!({ "c": null, "d": null }),
            json!({ "a": 2, "b": { "x": 3 } }),
        ),
        (
            json!({ "missing": null }),
            json!({ "a": 2, "b": { "x": 3 } }),
        ),
        (json!({ "a": null, "b": null }), json!({})),
        (json!({ "e": 5 }), json!({ "e": 5 })),
    ] {
        let body = json!({ "service_id": "db", "parameters": parameters });
        updated(&broker, &body, json!({ "parameters": wanted }));
    }
}

#[test]
fn an_instance_without_parameters_can_get_some() {
    let broker = broker("db", "small", Value::Null);
    let body = json!({ "service_id": "db", "parameters": { "a": 1 } });
    updated(&broker, &body, json!({ "parameters": { "a": 1 } }));
}

#[test]
fn a_repeated_provision_is_compared_with_the_instance_as_updated() {
    let broker = broker("db", "small", json!({ "a": 1 }));
    let with =
        |plan: &str, a: i32| merged(&provision("db", plan), json!({ "parameters": { "a": a } }));
    broker.put(&instance("i"), &with("small", 1)).expect(200);
    let body = json!({ "service_id": "db", "plan_id": "large", "parameters": { "a": 2 } });
    updated(&broker, &body, json!({ "plan_id": "large" }));
    broker.put(&instance("i"), &with("large", 2)).expect(200);
    broker
        .put(&instance("i"), &with("small", 1))
        .expect_naming(409, "plan_id");
    broker
        .put(&instance("i"), &with("large", 1))
        .expect_naming(409, "parameters");
}

// Plan

#[test]
fn the_plan_can_be_changed_where_it_is_plan_updateable() {
    let broker = broker("db", "small", json!({}));
    for plan in ["large", "small", "v2", "frozen"] {
        updated(
            &broker,
            &json!({ "service_id": "db", "plan_id": plan }),
            json!({ "plan_id": plan }),
        );
    }
}

#[test]
fn a_plan_change_that_is_not_supported_is_422_and_need_not_be_repeated() {
    let broker = broker("fixed", "plain", json!({}));
    let body = json!({ "service_id": "fixed", "plan_id": "movable", "parameters": { "a": 1 } });
    let answer = refused(&broker, body.to_string(), 422, "plan_updateable");
    let error = answer.json();
    assert_eq!(error["error"], "PlanChangeNotSupported");
    assert_eq!(
        (&error["update_repeatable"], &error["instance_usable"]),
        (&json!(false), &json!(true))
    );
    // Other updates are possible.
    updated(
        &broker,
        &json!({ "service_id": "fixed", "plan_id": "plain", "parameters": { "a": 1 } }),
        json!({ "plan_id": "plain", "parameters": { "a": 1 } }),
    );
}

#[test]
fn what_the_plan_says_of_plan_updateable_overrides_the_service() {
    // The service offering says yes, the plan no.
    let frozen = broker("db", "frozen", json!({}));
    let body = json!({ "service_id": "db", "plan_id": "small" });
    let answer = refused(&frozen, body.to_string(), 422, "frozen");
    assert_eq!(answer.json()["error"], "PlanChangeNotSupported");
    // The service offering says nothing, the plan yes.
    let movable = broker("fixed", "movable", json!({}));
    let body = json!({ "service_id": "fixed", "plan_id": "plain" });
    updated(&movable, &body, json!({ "plan_id": "plain" }));
    // Now it is of a plan that cannot be changed.
    let body = json!({ "service_id": "fixed", "plan_id": "movable" });
    refused(&movable, body.to_string(), 422, "plan_updateable");
}

#[test]
fn a_plan_that_is_no_plan_of_the_service_is_400() {
    let broker = broker("db", "small", json!({}));
    for plan in ["nothing", "plain", "told-plan", "Large"] {
        let body = json!({ "service_id": "db", "plan_id": plan, "parameters": { "a": 1 } });
        refused(
            &broker,
            body.to_string(),
            400,
            &format!("plan_id: found \"{plan}\""),
        );
    }
}

#[test]
fn the_dashboard_follows_the_plan_and_is_kept_where_there_is_no_new_one() {
    let broker = broker("db", "shown", json!({}));
    let target = instance("i");
    let change = |plan: &str| {
        broker
            .patch(&target, &json!({ "service_id": "db", "plan_id": plan }))
            .expect(200)
            .json()
    };
    assert_eq!(
        change("shown-too"),
        json!({ "dashboard_url": "https://two.example/i" })
    );
    assert_eq!(fetched(&broker)["dashboard_url"], "https://two.example/i");
    change("small");
    assert_eq!(fetched(&broker)["dashboard_url"], "https://two.example/i");
    assert_eq!(
        change("shown"),
        json!({ "dashboard_url": "https://one.example/i" })
    );
}

// Service and instance

#[test]
fn another_service_id_is_400() {
    let broker = broker("db", "small", json!({}));
    for (service, plan) in [("told", "told-plan"), ("nothing", "small"), ("DB", "small")] {
        let body = json!({ "service_id": service, "plan_id": plan, "parameters": { "a": 1 } });
        refused(
            &broker,
            body.to_string(),
            400,
            &format!("service_id: found \"{service}\""),
        );
    }
}

#[test]
fn an_unknown_instance_is_404() {
    let broker = broker("db", "small", json!({}));
    let body = json!({ "service_id": "db", "plan_id": "large" });
    broker
        .patch(&instance("none"), &body)
        .expect_naming(404, "none");
    broker.get(&instance("none")).expect(404);
    broker
        .delete(&(instance("i") + "?service_id=db&plan_id=small"))
        .expect(200);
    broker.patch(&instance("i"), &body).expect(404);
    broker.get(&instance("i")).expect(404);
}

// 400

#[test]
fn a_missing_or_empty_service_id_is_400() {
    let broker = broker("db", "small", json!({}));
    for body in [
        json!({ "plan_id": "large" }),
        json!({ "plan_id": "large", "service_id": null }),
        json!({ "plan_id": "large", "service_id": "" }),
        json!({}),
    ] {
        refused(&broker, body.to_string(), 400, "service_id");
    }
}

#[test]
fn a_field_of_the_wrong_type_is_400_and_named() {
    let broker = broker("db", "small", json!({ "a": 1 }));
    let full = json!({ "service_id": "db", "plan_id": "large", "parameters": { "a": 2 } });
    for (field, value, wanted) in [
        ("service_id", json!(5), "a string"),
        ("plan_id", json!({}), "a string"),
        ("parameters", json!("a=1"), "an object"),
        ("parameters", json!([1]), "an object"),
        ("context", json!(true), "an object"),
        ("previous_values", json!("x"), "an object"),
        ("maintenance_info", json!("2.0.0"), "an object"),
    ] {
        let body = merged(&full, json!({ field: value })).to_string();
        refused(&broker, body, 400, &format!("{field}: found "));
        let body = merged(&full, json!({ field: value })).to_string();
        refused(&broker, body, 400, &format!("wanted {wanted}"));
    }
    let body = merged(&full, json!({ "maintenance_info": { "version": 2 } }));
    refused(
        &broker,
        body.to_string(),
        400,
        "maintenance_info.version: found a number",
    );
}

#[test]
fn a_body_that_cannot_be_read_is_400_or_413() {
    let broker = broker("db", "small", json!({ "a": 1 }));
    let deep = format!(
        r#"{{"service_id":"db","parameters":{{"a":{}{}}}}}"#,
        "[".repeat(70),
        "]".repeat(70)
    );
    for (body, told) in [
        ("", "empty"),
        ("[]", "an array"),
        ("null", "null"),
        (
            r#"{"service_id":"db","parameters":{"a":2}"#,
            "not valid JSON",
        ),
        (&deep, "deeper than 64"),
    ] {
        refused(&broker, body, 400, told);
    }
    refused(&broker, vec![b' '; 1024 * 1024 + 1], 413, "1048576");
}

#[test]
fn an_accepts_incomplete_that_is_neither_true_nor_false_is_400() {
    let broker = broker("db", "small", json!({}));
    let body = json!({ "service_id": "db", "plan_id": "large" });
    let target = instance("i") + "?accepts_incomplete=1";
    broker
        .patch(&target, &body)
        .expect_naming(400, "accepts_incomplete");
    assert_eq!(fetched(&broker)["plan_id"], "small");
    broker
        .patch(&(instance("i") + "?accepts_incomplete=true"), &body)
        .expect(200);
    assert_eq!(fetched(&broker)["plan_id"], "large");
}

// 200

#[test]
fn an_update_is_200_with_an_empty_object_whether_it_changes_anything_or_not() {
    let broker = broker("db", "small", json!({ "a": 1 }));
    for body in [
        json!({ "service_id": "db", "plan_id": "large", "parameters": { "a": 2 } }),
        json!({ "service_id": "db", "plan_id": "large", "parameters": { "a": 2 } }),
        json!({ "service_id": "db" }),
        json!({ "service_id": "db", "plan_id": "large" }),
        json!({ "service_id": "db", "parameters": {} }),
    ] {
        let answer = broker.patch(&instance("i"), &body).expect(200);
        assert_eq!(answer.json(), json!({}), "{body}");
    }
    let wanted = json!({ "service_id": "db", "plan_id": "large", "parameters": { "a": 2 } });
    assert_eq!(fetched(&broker), wanted);
}

#[test]
fn cloud_controllers_body_is_accepted() {
    let broker = broker("db", "small", json!({ "a": 1 }));
    let body = json!({
        "service_id": "db", "plan_id": "v2", "parameters": {}, "context": renamed("mine"),
        "previous_values": {
            "plan_id": "small", "service_id": "db", "organization_id": "org-1", "space_id": "space-1",
            "maintenance_info": null,
        },
        "maintenance_info": { "version": "2.0.0" },
    });
    let wanted = json!({ "plan_id": "v2", "parameters": { "a": 1 }, "maintenance_info": { "version": "2.0.0" } });
    for _ in 0..2 {
        updated(&broker, &body, wanted.clone());
    }
}

// Context

/// `allow_context_updates` says what a platform may send; one that sends more is answered all the same. The adapter is not
/// called for that, and has the new context with its next call.
#[test]
fn an_update_of_the_context_alone_waits_for_the_next_call_of_the_adapter() {
    let catalog = json!({ "services": [
        merged(&told_of_updates(), json!({ "id": "quiet", "name": "quiet" })),
    ]});
    let broker = Broker::with(&catalog);
    let body = merged(
        &provision("quiet", "quiet-plan"),
        json!({ "parameters": { "a": 1 } }),
    );
    broker.put(&instance("i"), &body).expect(201);
    let shown = |broker: &Broker| fetched(broker)["dashboard_url"].clone();
    let first = shown(&broker);
    let own = json!({ "plan_id": "quiet-plan", "service_id": "quiet", "space_id": "space-1" });
    for (n, more) in [
        json!({}),
        json!({ "parameters": {} }),
        json!({ "parameters": null, "plan_id": null, "maintenance_info": null }),
        json!({ "plan_id": "quiet-plan", "previous_values": own }),
        json!({ "maintenance_info": { "version": "1.0.0" } }),
        json!({ "parameters": { "a": 1 } }),
    ]
    .into_iter()
    .enumerate()
    {
        let context = renamed(&format!("name-{n}"));
        let update = merged(&json!({ "service_id": "quiet", "context": context }), more);
        let answer = broker.patch(&instance("i"), &update).expect(200).json();
        assert_eq!(answer["dashboard_url"], first, "{update}");
        assert_eq!(shown(&broker), first, "the adapter was called: {update}");
        // The next call knows it, and the one after.
        let bound = broker.put(&binding("i", &n.to_string()), &bind("quiet", "quiet-plan"));
        assert_eq!(
            bound.expect(201).json()["credentials"]["name"],
            format!("name-{n}")
        );
    }
    let update = json!({ "service_id": "quiet", "parameters": { "a": 2 } });
    broker.patch(&instance("i"), &update).expect(200);
    assert_eq!(shown(&broker), "https://q.example/name-5");
}

#[test]
fn an_update_of_the_context_alone_is_200_where_it_is_allowed() {
    let broker = broker("told", "told-plan", json!({ "a": 1 }));
    let before = fetched(&broker);
    for name in ["new", "new", "newer"] {
        let body = json!({ "service_id": "told", "context": renamed(name) });
        assert_eq!(
            broker.patch(&instance("i"), &body).expect(200).json(),
            json!({})
        );
        assert_eq!(fetched(&broker), before);
    }
}

#[test]
fn where_context_updates_are_allowed_the_adapter_is_told_at_once() {
    let told = json!({ "id": "told", "name": "told", "allow_context_updates": true });
    let catalog = json!({ "services": [merged(&told_of_updates(), told)] });
    let broker = Broker::with(&catalog);
    broker
        .put(&instance("i"), &provision("told", "quiet-plan"))
        .expect(201);
    let body = json!({ "service_id": "told", "context": renamed("new") });
    let wanted = json!({ "dashboard_url": "https://q.example/new" });
    updated(&broker, &body, wanted);
}

#[test]
fn a_context_that_is_as_it_was_needs_no_permission() {
    let broker = broker("db", "small", json!({}));
    let body = json!({ "service_id": "db", "context": renamed("mine") });
    broker.patch(&instance("i"), &body).expect(200);
}

#[test]
fn another_context_beside_other_changes_needs_no_permission() {
    let broker = broker("db", "small", json!({ "a": 1 }));
    let body = json!({ "service_id": "db", "context": renamed("new"), "parameters": { "a": 2 } });
    updated(&broker, &body, json!({ "parameters": { "a": 2 } }));
    let body = json!({ "service_id": "db", "context": renamed("newer"), "plan_id": "v2" });
    updated(&broker, &body, json!({ "plan_id": "v2" }));
}

#[test]
fn parameters_or_maintenance_that_are_repeated_are_200_under_another_context() {
    let broker = broker("db", "v2", json!({ "a": 1 }));
    let wanted = json!({ "plan_id": "v2", "parameters": { "a": 1 }, "maintenance_info": { "version": "2.0.0" } });
    let body = json!({ "service_id": "db", "context": renamed("new"), "parameters": { "a": 1 } });
    updated(&broker, &body, wanted.clone());
    let info = json!({ "version": "2.0.0" });
    let body = json!({ "service_id": "db", "context": renamed("newer"), "maintenance_info": info });
    updated(&broker, &body, wanted);
}

// Maintenance

#[test]
fn another_maintenance_version_than_the_catalogs_is_422() {
    let broker = broker("db", "v2", json!({ "a": 1 }));
    for (plan, version) in [
        ("v2", "1.0.0"),
        ("v2", "3.0.0"),
        ("v3", "2.0.0"),
        ("small", "2.0.0"),
    ] {
        for parameters in [json!({}), json!({ "a": 2 })] {
            let body = json!({
                "service_id": "db", "plan_id": plan, "parameters": parameters,
                "maintenance_info": { "version": version },
            });
            let answer = refused(&broker, body.to_string(), 422, version);
            assert_eq!(answer.json()["error"], "MaintenanceInfoConflict");
        }
    }
    // Without a plan, it is that of the instance's plan that counts.
    let body = json!({ "service_id": "db", "maintenance_info": { "version": "3.0.0" } });
    let answer = refused(&broker, body.to_string(), 422, "2.0.0");
    assert_eq!(answer.json()["error"], "MaintenanceInfoConflict");
}

#[test]
fn the_catalogs_maintenance_version_is_accepted_and_only_it_counts() {
    let broker = broker("db", "v2", json!({}));
    let info = json!({ "version": "2.0.0", "description": 5, "x-acme": "ignored" });
    let body = json!({ "service_id": "db", "maintenance_info": info });
    updated(
        &broker,
        &body,
        json!({ "maintenance_info": { "version": "2.0.0" } }),
    );
}

#[test]
fn with_the_plan_the_maintenance_version_changes() {
    let broker = broker("db", "small", json!({}));
    for (plan, info, version) in [
        ("v2", Value::Null, json!({ "version": "2.0.0" })),
        (
            "v3",
            json!({ "version": "3.0.0" }),
            json!({ "version": "3.0.0" }),
        ),
        ("large", Value::Null, Value::Null),
    ] {
        let body = json!({ "service_id": "db", "plan_id": plan, "maintenance_info": info });
        updated(
            &broker,
            &body,
            json!({ "plan_id": plan, "maintenance_info": version }),
        );
    }
}

#[test]
fn an_instance_is_upgraded_to_the_version_of_a_newer_catalog() {
    let mut newer = catalog();
    newer["services"][0]["plans"][3]["maintenance_info"]["version"] = json!("2.1.0");
    let before = Setup::new().catalog(&catalog()).start();
    before
        .put(&instance("i"), &provision("db", "v2"))
        .expect(201);
    let broker = Setup::in_folder(before.kill()).catalog(&newer).start();

    // It stays what it is until somebody upgrades it.
    let body = json!({ "service_id": "db", "parameters": { "a": 1 } });
    updated(
        &broker,
        &body,
        json!({ "maintenance_info": { "version": "2.0.0" } }),
    );
    let upgrade =
        |version: &str| json!({ "service_id": "db", "maintenance_info": { "version": version } });
    let answer = refused(&broker, upgrade("2.0.0").to_string(), 422, "2.1.0");
    assert_eq!(answer.json()["error"], "MaintenanceInfoConflict");
    for _ in 0..2 {
        updated(
            &broker,
            &upgrade("2.1.0"),
            json!({ "maintenance_info": { "version": "2.1.0" } }),
        );
    }
}

// Previous values

#[test]
fn previous_values_are_what_the_platform_believes_and_change_nothing() {
    let broker = broker("db", "v2", json!({}));
    for previous in [
        json!({}),
        Value::Null,
        json!({ "maintenance_info": null }),
        json!({ "maintenance_info": { "version": "1.0.0" } }),
        json!({ "plan_id": "large", "service_id": "db", "organization_id": "o", "space_id": "s" }),
    ] {
        let body =
            json!({ "service_id": "db", "previous_values": previous, "parameters": { "a": 1 } });
        let wanted = json!({ "plan_id": "v2", "maintenance_info": { "version": "2.0.0" }, "parameters": { "a": 1 } });
        updated(&broker, &body, wanted);
    }
}

// Concurrency

#[test]
fn of_updates_at_once_none_is_lost() {
    let broker = broker("db", "small", json!({}));
    let broker = &broker;
    std::thread::scope(|scope| {
        for n in 0..16 {
            scope.spawn(move || {
                let body = json!({ "service_id": "db", "parameters": { format!("p{n}"): n } });
                broker.patch(&instance("i"), &body).expect(200);
            });
        }
    });
    let parameters = &fetched(broker)["parameters"];
    for n in 0..16 {
        assert_eq!(parameters[format!("p{n}")], n, "{parameters}");
    }
}
