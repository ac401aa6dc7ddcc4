//! Parameters that do not fit the JSON Schemas of their plan are refused, each by the schema of its operation.
#![cfg(feature = "schemas")]

mod support;

use serde_json::{Value, json};
use support::{Broker, binding, instance, merged};

/// A plan whose parameters need `name`: `create`, `update` or `bind`, as the operation is.
fn catalog() -> Value {
    let input = |name: &str| {
        json!({ "parameters": {
            "$schema": "http://json-schema.org/draft-06/schema#",
            "type": "object",
            "properties": { name: { "type": "integer", "maximum": 10 } },
            "required": [name],
        }})
    };
    json!({ "services": [{
        "id": "service-1",
        "name": "mail",
        "description": "Mail",
        "bindable": true,
        "instances_retrievable": true,
        "plan_updateable": true,
        "plans": [{
            "id": "plan-1",
            "name": "small",
            "description": "Small",
            "binding_rotatable": true,
            "schemas": {
                "service_instance": { "create": input("create"), "update": input("update") },
                "service_binding": { "create": input("bind") },
            },
            "adapter": { "kind": "shared" },
        }, {
            "id": "plan-2",
            "name": "large",
            "description": "Large",
            "adapter": { "kind": "shared" },
        }]
    }]})
}

fn with(body: &Value, parameters: Value) -> Value {
    merged(body, json!({ "parameters": parameters }))
}

/// A broker with the instance `i`.
fn broker() -> Broker {
    let broker = Broker::with(&catalog());
    let body = with(
        &support::provision("service-1", "plan-1"),
        json!({ "create": 1 }),
    );
    broker.put(&instance("i"), &body).expect(201);
    broker
}

#[test]
fn a_provision_needs_parameters_that_fit() {
    let (broker, new) = (broker(), instance("new"));
    let body = support::provision("service-1", "plan-1");
    // None are as good as `{}`.
    broker.put(&new, &body).expect_naming(400, "create");
    let wrong = with(&body, json!({ "create": 11 }));
    broker
        .put(&new, &wrong)
        .expect_naming(400, "parameters.create: 11");
    broker.get(&new).expect(404);
    broker
        .put(&new, &with(&body, json!({ "create": 10 })))
        .expect(201);
}

#[test]
fn an_update_needs_those_of_its_own_schema_if_it_has_any() {
    let (broker, i) = (broker(), instance("i"));
    let body = json!({ "service_id": "service-1" });
    let before = broker.get(&i).expect(200).json();
    for wrong in [json!({ "create": 2 }), json!({ "update": "2" })] {
        broker
            .patch(&i, &with(&body, wrong))
            .expect_naming(400, "update");
    }
    broker.patch(&i, &body).expect(200);
    assert_eq!(broker.get(&i).expect(200).json(), before);
    broker
        .patch(&i, &with(&body, json!({ "update": 2 })))
        .expect(200);
}

#[test]
fn a_bind_needs_those_of_its_own_schema_and_a_rotation_inherits_them() {
    let broker = broker();
    let body = support::bind("service-1", "plan-1");
    for wrong in [json!({}), json!({ "create": 1 }), json!({ "bind": 1.5 })] {
        broker
            .put(&binding("i", "b"), &with(&body, wrong))
            .expect_naming(400, "bind");
    }
    broker
        .put(&binding("i", "b"), &with(&body, json!({ "bind": 1 })))
        .expect(201);
    let rotation = json!({ "predecessor_binding_id": "b" });
    broker
        .put(
            &binding("i", "next"),
            &with(&rotation, json!({ "bind": 11 })),
        )
        .expect_naming(400, "bind");
    broker.put(&binding("i", "next"), &rotation).expect(201);
}

#[test]
fn a_plan_without_schemas_takes_any_parameters() {
    let broker = broker();
    let body = support::provision("service-1", "plan-2");
    for (id, parameters) in [("a", json!({})), ("b", json!({ "create": "x" }))] {
        broker
            .put(&instance(id), &with(&body, parameters))
            .expect(201);
    }
}

/// A plan whose parameter `password` has a pattern that only a backtracking engine can apply, and whose bindings have a
/// schema that refers to nothing.
fn passwords(pattern: &str) -> Broker {
    let parameters = |mut keywords: Value| {
        keywords["$schema"] = json!("http://json-schema.org/draft-06/schema#");
        json!({ "create": { "parameters": keywords } })
    };
    let mut catalog = catalog();
    catalog["services"][0]["plans"][0]["schemas"] = json!({
        "service_instance": parameters(json!({ "properties": { "password": { "pattern": pattern } } })),
        "service_binding": parameters(json!({ "properties": { "size": { "$ref": "#/definitions/gone" } } })),
    });
    Broker::with(&catalog)
}

#[test]
fn a_password_rule_with_look_ahead_is_applied() {
    let broker = passwords("^(?=.*[0-9])(?=.*[a-z]).{8,64}$");
    let body = support::provision("service-1", "plan-1");
    let provision = |id: &str, password: &str| {
        broker.put(&instance(id), &with(&body, json!({ "password": password })))
    };
    provision("i", "password").expect_naming(400, "parameters.password: ");
    provision("i", "passw0rd").expect(201);
    // Nobody can tell what the other schema means, so nothing is checked against it.
    let bind = with(&support::bind("service-1", "plan-1"), json!({ "size": [] }));
    broker.put(&binding("i", "b"), &bind).expect(201);
}

#[test]
fn no_parameter_holds_a_worker() {
    let broker = passwords("^(?!x)(a|a)*\\1b");
    let body = support::provision("service-1", "plan-1");
    // Without a limit, each of these would take until the sun goes out.
    for _ in 0..20 {
        let evil = json!({ "password": format!("{}!", "a".repeat(10_000)) });
        broker
            .put(&instance("i"), &with(&body, evil))
            .expect_naming(400, "parameters.password: ");
    }
    broker
        .put(&instance("i"), &with(&body, json!({ "password": "aaab" })))
        .expect(201);
}
