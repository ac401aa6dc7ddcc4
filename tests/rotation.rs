//! spec: Binding Rotation; Request (Rotating a Service Binding).

mod support;

use serde_json::{Value, json};
use std::time::SystemTime;
use support::{Broker, binding, instance, merged, without};

fn catalog() -> Value {
    let expiring = json!({ "kind": "shared", "binding": { "lifetime": "1ms" } });
    let drawn =
        json!({ "kind": "shared", "binding": { "credentials": { "token": "${random:20}" } } });
    json!({ "services": [{
        "id": "db",
        "name": "db",
        "description": "Databases",
        "bindable": true,
        "bindings_retrievable": true,
        "plan_updateable": true,
        "plans": [
            { "id": "plain", "name": "plain", "description": "Plain", "binding_rotatable": true },
            { "id": "app-only", "name": "app-only", "description": "Apps only", "binding_rotatable": true,
              "adapter": { "kind": "shared", "requires_app": true } },
            { "id": "expiring", "name": "expiring", "description": "Expiring", "binding_rotatable": true,
              "adapter": expiring },
            { "id": "drawn", "name": "drawn", "description": "Drawn", "binding_rotatable": true,
              "adapter": drawn },
            { "id": "fixed", "name": "fixed", "description": "Fixed", "binding_rotatable": false },
            { "id": "silent", "name": "silent", "description": "Silent" }
        ]
    }]})
}

fn rotation(predecessor: &str) -> Value {
    json!({ "predecessor_binding_id": predecessor })
}

/// A broker with an instance `i` of this plan and its binding `b`.
fn bound(plan: &str) -> Broker {
    let broker = Broker::with(&catalog());
    add_instance(&broker, "i", plan);
    broker.put(&binding("i", "b"), &bind(plan)).expect(201);
    broker
}

fn add_instance(broker: &Broker, id: &str, plan: &str) {
    let body = support::provision("db", plan);
    broker.put(&instance(id), &body).expect(201);
}

fn bind(plan: &str) -> Value {
    merged(
        &support::bind("db", plan),
        json!({
            "parameters": { "color": "red" },
            "context": { "platform": "cloudfoundry", "space_guid": "space-1" }
        }),
    )
}

fn unbind(broker: &Broker, id: &str, plan: &str) {
    let target = format!("{}?service_id=db&plan_id={plan}", binding("i", id));
    broker.delete(&target).expect(200);
}

#[test]
fn a_rotation_needs_the_id_of_the_predecessor_alone() {
    let broker = bound("plain");
    let answer = broker
        .put(&binding("i", "b2"), &rotation("b"))
        .expect(201)
        .json();
    assert_eq!(answer, json!({ "credentials": {} }));
}

/// The platform need not have kept the parameters: that is what rotation is for.
#[test]
fn a_successor_inherits_what_the_request_leaves_out() {
    let broker = bound("plain");
    broker.put(&binding("i", "b2"), &rotation("b")).expect(201);
    let fetched = broker.get(&binding("i", "b2")).expect(200).json();
    assert_eq!(fetched["parameters"], json!({ "color": "red" }));
    // Asked for by name, it is what was inherited, and nothing else.
    let full = merged(&bind("plain"), rotation("b"));
    broker.put(&binding("i", "b2"), &full).expect(200);
    for (change, name) in [
        (json!({ "parameters": {} }), "parameters"),
        (
            json!({ "bind_resource": { "app_guid": "app-2", "space_guid": "space-1" } }),
            "app_guid",
        ),
        (
            json!({ "bind_resource": { "app_guid": "app-1", "space_guid": "space-2" } }),
            "bind_resource",
        ),
    ] {
        broker
            .put(&binding("i", "b2"), &merged(&full, change))
            .expect_naming(409, name);
    }
    let elsewhere = json!({ "context": { "platform": "cloudfoundry" } });
    broker
        .put(&binding("i", "b2"), &merged(&full, elsewhere))
        .expect(200);
}

#[test]
fn a_successor_inherits_the_app_of_a_plan_that_requires_one() {
    let broker = bound("app-only");
    broker.put(&binding("i", "b2"), &rotation("b")).expect(201);
}

#[test]
fn a_rotation_may_bring_values_of_its_own() {
    let broker = bound("plain");
    let body = merged(
        &rotation("b"),
        json!({ "service_id": "db", "plan_id": "plain", "parameters": { "color": "blue" } }),
    );
    broker.put(&binding("i", "b2"), &body).expect(201);
    let fetched = broker.get(&binding("i", "b2")).expect(200).json();
    assert_eq!(fetched["parameters"], json!({ "color": "blue" }));
    for (change, name) in [
        (json!({ "service_id": "nosuch" }), "service_id"),
        (json!({ "plan_id": "fixed" }), "plan_id"),
        (json!({ "parameters": 5 }), "parameters"),
    ] {
        broker
            .put(&binding("i", "b3"), &merged(&body, change))
            .expect_naming(400, name);
    }
}

/// spec: "Both Service Bindings, the new and the old one, MUST both be valid in parallel".
#[test]
fn both_bindings_are_valid_until_they_are_deleted() {
    let broker = bound("plain");
    let old = broker.get(&binding("i", "b")).expect(200).json();
    broker.put(&binding("i", "b2"), &rotation("b")).expect(201);
    assert_eq!(broker.get(&binding("i", "b")).expect(200).json(), old);
    broker.put(&binding("i", "b"), &bind("plain")).expect(200);
    unbind(&broker, "b", "plain");
    broker.get(&binding("i", "b2")).expect(200);
    // The successor can be rotated in its turn, and has inherited what the first was given.
    broker.put(&binding("i", "b3"), &rotation("b2")).expect(201);
    let fetched = broker.get(&binding("i", "b3")).expect(200).json();
    assert_eq!(fetched["parameters"], json!({ "color": "red" }));
}

#[test]
fn a_successor_has_credentials_of_its_own() {
    let broker = bound("drawn");
    let token = |id: &str| {
        let fetched = broker.get(&binding("i", id)).expect(200).json();
        fetched["credentials"]["token"].as_str().unwrap().to_owned()
    };
    broker.put(&binding("i", "b2"), &rotation("b")).expect(201);
    assert_ne!(token("b"), token("b2"));
}

/// spec: Service Plan Object, binding_rotatable: false or absent means that there is no rotation.
#[test]
fn a_plan_that_is_not_rotatable_refuses_rotations() {
    for plan in ["fixed", "silent"] {
        let broker = bound(plan);
        broker
            .put(&binding("i", "b2"), &rotation("b"))
            .expect_naming(400, "binding_rotatable");
        broker.get(&binding("i", "b2")).expect(404);
    }
}

/// spec: "MUST be the Service Binding ID of a non-expired Service Binding of the same Service Instance".
#[test]
fn the_predecessor_must_be_a_binding_of_the_same_instance() {
    let broker = bound("plain");
    add_instance(&broker, "j", "plain");
    broker
        .put(&binding("i", "b2"), &rotation("nosuch"))
        .expect_naming(400, "predecessor_binding_id");
    broker
        .put(&binding("j", "b2"), &rotation("b"))
        .expect_naming(400, "predecessor_binding_id");
    // Nor is it its own.
    broker
        .put(&binding("i", "b2"), &rotation("b2"))
        .expect_naming(400, "predecessor_binding_id");
    unbind(&broker, "b", "plain");
    broker
        .put(&binding("i", "b2"), &rotation("b"))
        .expect_naming(400, "predecessor_binding_id");
    broker.get(&binding("i", "b2")).expect(404);
    broker
        .put(&binding("nowhere", "b2"), &rotation("b"))
        .expect(404);
}

/// Needs the settings of the adapter `shared`.
#[test]
fn an_expired_predecessor_is_refused() {
    let broker = bound("expiring");
    let fetched = broker.get(&binding("i", "b")).expect(200).json();
    let expires_at = fetched["metadata"]["expires_at"].as_str().unwrap();
    let expires_at = humantime::parse_rfc3339(expires_at).unwrap();
    while SystemTime::now() <= expires_at {
        std::thread::yield_now();
    }
    broker
        .put(&binding("i", "b2"), &rotation("b"))
        .expect_naming(400, "expired");
    broker.get(&binding("i", "b2")).expect(404);
    // What has expired is still there, to be deleted.
    unbind(&broker, "b", "expiring");
}

#[test]
fn the_same_rotation_again_is_answered_with_200_and_the_same_body() {
    let broker = bound("drawn");
    let first = broker.put(&binding("i", "b2"), &rotation("b")).expect(201);
    let again = broker.put(&binding("i", "b2"), &rotation("b")).expect(200);
    assert_eq!(again.body, first.body);
}

#[test]
fn another_predecessor_is_a_conflict() {
    let broker = bound("plain");
    broker
        .put(&binding("i", "other"), &bind("plain"))
        .expect(201);
    broker.put(&binding("i", "b2"), &rotation("b")).expect(201);
    for body in [
        rotation("other"),
        rotation("nosuch"),
        bind("plain"),
        merged(&bind("plain"), json!({ "predecessor_binding_id": "" })),
    ] {
        broker
            .put(&binding("i", "b2"), &body)
            .expect_naming(409, "predecessor_binding_id");
    }
    // Nor does a binding that was made without one get one afterwards.
    broker
        .put(&binding("i", "b"), &rotation("other"))
        .expect_naming(409, "predecessor_binding_id");
}

#[test]
fn a_repeat_finds_the_successor_even_when_the_predecessor_is_gone() {
    let broker = bound("plain");
    broker.put(&binding("i", "b2"), &rotation("b")).expect(201);
    unbind(&broker, "b", "plain");
    broker.put(&binding("i", "b2"), &rotation("b")).expect(200);
}

/// The successor is of the plan that the instance has now.
#[test]
fn after_a_change_of_plan_a_rotation_goes_by_the_new_plan() {
    let broker = bound("plain");
    let update = |plan: &str| {
        let body = json!({ "service_id": "db", "plan_id": plan });
        broker.patch(&instance("i"), &body).expect(200);
    };
    update("drawn");
    let answer = broker.put(&binding("i", "b2"), &rotation("b")).expect(201);
    let token = answer.json()["credentials"]["token"].clone();
    assert_eq!(token.as_str().map(str::len), Some(20), "{token}");
    update("fixed");
    broker
        .put(&binding("i", "b3"), &rotation("b2"))
        .expect_naming(400, "binding_rotatable");
}

#[test]
fn without_predecessor_the_ids_are_required() {
    let broker = bound("plain");
    for field in ["service_id", "plan_id"] {
        let body = merged(&bind("plain"), json!({ "predecessor_binding_id": null }));
        broker
            .put(&binding("i", "b2"), &without(&body, field))
            .expect_naming(400, field);
    }
}
