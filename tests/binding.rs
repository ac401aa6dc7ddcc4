//! spec: Binding.

mod support;

use serde_json::{Value, json};
use std::sync::Barrier;
use std::thread;
use support::connection::Connection;
use support::{Broker, binding, instance, merged, without};

/// A service whose plans differ in what binding is about.
fn catalog() -> Value {
    json!({ "services": [
        {
            "id": "db",
            "name": "db",
            "description": "Databases",
            "bindable": true,
            "bindings_retrievable": true,
            "instances_retrievable": true,
            "plan_updateable": true,
            "plans": [
                { "id": "plain", "name": "plain", "description": "Plain" },
                { "id": "other", "name": "other", "description": "Another" },
                {
                    "id": "app-only",
                    "name": "app-only",
                    "description": "Apps only",
                    "adapter": { "kind": "shared", "requires_app": true }
                },
                { "id": "closed", "name": "closed", "description": "Closed", "bindable": false }
            ]
        },
        {
            "id": "queue",
            "name": "queue",
            "description": "Queues",
            "bindable": false,
            "plans": [
                { "id": "deaf", "name": "deaf", "description": "Deaf" },
                { "id": "open", "name": "open", "description": "Open", "bindable": true }
            ]
        }
    ]})
}

fn bind(plan: &str) -> Value {
    support::bind("db", plan)
}

/// A broker with an instance `i` of this plan.
fn broker_with(service: &str, plan: &str) -> Broker {
    let broker = Broker::with(&catalog());
    provision(&broker, "i", service, plan);
    broker
}

fn provision(broker: &Broker, id: &str, service: &str, plan: &str) {
    let body = support::provision(service, plan);
    broker.put(&instance(id), &body).expect(201);
}

#[test]
fn a_new_binding_is_answered_with_201_and_its_credentials() {
    let broker = broker_with("db", "plain");
    let answer = broker.put(&binding("i", "b"), &bind("plain")).expect(201);
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    // A plan without adapter has nothing to tell, but platforms want an object.
    assert_eq!(answer.json(), json!({ "credentials": {} }));
}

#[test]
fn the_same_bind_again_is_answered_with_200_and_the_same_body() {
    let broker = broker_with("db", "plain");
    let body = merged(
        &bind("plain"),
        json!({
            "parameters": { "a": 1, "b": { "c": ["d", null] } },
            "context": { "platform": "cloudfoundry", "space_name": "dev" }
        }),
    );
    let first = broker.put(&binding("i", "b"), &body).expect(201);
    let again = broker.put(&binding("i", "b"), &body).expect(200);
    assert_eq!(again.body, first.body);
    // Equal are values, not bytes.
    let text = body.to_string().replace(":1,", ": 1.0 ,");
    assert_ne!(text, body.to_string());
    broker
        .request("PUT", &binding("i", "b"))
        .body(text)
        .send()
        .expect(200);
    // Names and annotations change over time, and do not make another binding.
    let renamed = merged(
        &body,
        json!({
            "context": { "platform": "cloudfoundry", "space_name": "renamed" },
            "bind_resource": {
                "app_guid": "app-1", "space_guid": "space-1", "app_annotations": { "a": "b" }
            }
        }),
    );
    broker.put(&binding("i", "b"), &renamed).expect(200);
    // spec: Synchronous Operations: a synchronous broker may ignore the flag.
    let target = format!("{}?accepts_incomplete=true", binding("i", "b"));
    broker.put(&target, &body).expect(200);
}

#[test]
fn the_same_id_with_another_attribute_is_a_conflict_that_names_it() {
    let broker = broker_with("db", "plain");
    let body = merged(
        &bind("plain"),
        json!({ "parameters": { "a": 1 }, "context": { "platform": "cloudfoundry" } }),
    );
    broker.put(&binding("i", "b"), &body).expect(201);
    for (change, name) in [
        (json!({ "service_id": "queue" }), "service_id"),
        (json!({ "plan_id": "other" }), "plan_id"),
        (json!({ "parameters": { "a": 2 } }), "parameters"),
        (json!({ "parameters": { "a": "1" } }), "parameters"),
        (json!({ "parameters": { "a": 1, "b": 2 } }), "parameters"),
        (json!({ "parameters": null }), "parameters"),
        (
            json!({ "bind_resource": { "app_guid": "app-2", "space_guid": "space-1" } }),
            "app_guid",
        ),
        (
            json!({ "bind_resource": { "app_guid": "app-1", "space_guid": "space-2" } }),
            "bind_resource",
        ),
        (
            json!({ "bind_resource": { "app_guid": "app-1", "space_guid": "space-1", "route": "x" } }),
            "bind_resource",
        ),
        (
            json!({ "app_guid": null, "bind_resource": { "space_guid": "space-1" } }),
            "app_guid",
        ),
    ] {
        let answer = broker.put(&binding("i", "b"), &merged(&body, change));
        answer.expect_naming(409, name);
    }
    broker.put(&binding("i", "b"), &body).expect(200);
}

/// spec: Binding, 409: the parameters and what is bound decide; a context says where, and changes with time.
#[test]
fn a_repeat_under_another_context_has_the_same_credentials() {
    let broker = broker_with("db", "plain");
    let under = |context: Value| merged(&bind("plain"), json!({ "context": context }));
    let contexts = [
        json!(null),
        json!({}),
        json!({ "platform": "cloudfoundry", "space_guid": "space-1" }),
        json!({ "platform": "kubernetes", "namespace": "n" }),
    ];
    for (n, first) in contexts.iter().enumerate() {
        let target = binding("i", &n.to_string());
        let created = broker.put(&target, &under(first.clone())).expect(201);
        for again in &contexts {
            let repeated = broker.put(&target, &under(again.clone())).expect(200);
            assert_eq!(repeated.body, created.body, "{first} {again}");
        }
    }
}

#[test]
fn what_is_missing_or_of_the_wrong_type_is_refused_by_name() {
    let broker = broker_with("db", "plain");
    for field in ["service_id", "plan_id"] {
        let body = without(&bind("plain"), field);
        broker
            .put(&binding("i", "b"), &body)
            .expect_naming(400, field);
        for wrong in [
            json!(""),
            json!(null),
            json!(5),
            json!({}),
            json!(["plain"]),
        ] {
            let body = merged(&bind("plain"), json!({ field: wrong }));
            broker
                .put(&binding("i", "b"), &body)
                .expect_naming(400, field);
        }
    }
    for field in ["bind_resource", "parameters", "context"] {
        for wrong in [json!("x"), json!(1), json!([]), json!(true)] {
            let body = merged(&bind("plain"), json!({ field: wrong }));
            broker
                .put(&binding("i", "b"), &body)
                .expect_naming(400, field);
        }
    }
    for (change, name) in [
        (json!({ "app_guid": 5 }), "app_guid"),
        (
            json!({ "bind_resource": { "app_guid": [] } }),
            "bind_resource.app_guid",
        ),
        (
            json!({ "bind_resource": { "route": {} } }),
            "bind_resource.route",
        ),
        (
            json!({ "predecessor_binding_id": 1 }),
            "predecessor_binding_id",
        ),
    ] {
        broker
            .put(&binding("i", "b"), &merged(&bind("plain"), change))
            .expect_naming(400, name);
    }
    for (body, what) in [
        ("", "empty"),
        ("[]", "array"),
        ("{\"service_id\": \"db\",", "line 1"),
    ] {
        broker
            .request("PUT", &binding("i", "b"))
            .body(body)
            .send()
            .expect_naming(400, what);
    }
    // Nothing of it has left a binding behind.
    broker.get(&binding("i", "b")).expect(404);
}

/// spec: Vendor Extension Fields.
#[test]
fn unknown_fields_are_ignored() {
    let broker = broker_with("db", "plain");
    let body = merged(&bind("plain"), json!({ "x_vendor": { "a": 1 } }));
    broker.put(&binding("i", "b"), &body).expect(201);
    broker.put(&binding("i", "b"), &bind("plain")).expect(200);
}

#[test]
fn an_unknown_instance_cannot_be_bound() {
    let broker = Broker::with(&catalog());
    broker
        .put(&binding("nowhere", "b"), &bind("plain"))
        .expect_naming(404, "\"nowhere\"");
    provision(&broker, "nowhere", "db", "plain");
    broker
        .put(&binding("nowhere", "b"), &bind("plain"))
        .expect(201);
}

#[test]
fn service_and_plan_must_be_those_of_the_instance() {
    let broker = broker_with("db", "plain");
    for (service, plan, name) in [
        ("queue", "open", "service_id"),
        ("queue", "plain", "service_id"),
        ("nosuch", "plain", "service_id"),
        ("db", "other", "plan_id"),
        ("db", "open", "plan_id"),
        ("db", "nosuch", "plan_id"),
    ] {
        broker
            .put(&binding("i", "b"), &support::bind(service, plan))
            .expect_naming(400, name);
    }
    broker.get(&binding("i", "b")).expect(404);
}

#[test]
fn after_a_change_of_plan_the_new_plan_is_bound() {
    let broker = broker_with("db", "plain");
    broker.put(&binding("i", "old"), &bind("plain")).expect(201);
    let update = json!({ "service_id": "db", "plan_id": "other" });
    broker.patch(&instance("i"), &update).expect(200);
    broker
        .put(&binding("i", "new"), &bind("plain"))
        .expect_naming(400, "plan_id");
    broker.put(&binding("i", "new"), &bind("other")).expect(201);
    // A platform that repeats itself finds what it has made.
    broker.put(&binding("i", "old"), &bind("plain")).expect(200);
}

/// spec: Service Offering Object and Service Plan Object, bindable.
#[test]
fn only_bindable_plans_are_bound_and_the_plan_has_the_last_word() {
    for (service, plan, status) in [
        ("queue", "deaf", 400),
        ("queue", "open", 201),
        ("db", "closed", 400),
        ("db", "plain", 201),
    ] {
        let broker = broker_with(service, plan);
        let answer = broker.put(&binding("i", "b"), &support::bind(service, plan));
        if status == 400 {
            answer.expect_naming(400, "bindable");
        } else {
            answer.expect(status);
        }
    }
}

/// Korifi sends empty strings for what it has not got, and `null` for no parameters.
#[test]
fn null_and_empty_count_as_absent() {
    let broker = broker_with("db", "plain");
    let korifi = json!({
        "service_id": "db",
        "plan_id": "plain",
        "app_guid": "",
        "bind_resource": { "app_guid": "" },
        "parameters": null,
        "context": null
    });
    broker.put(&binding("i", "b"), &korifi).expect(201);
    let bare = json!({ "service_id": "db", "plan_id": "plain" });
    for same in [
        korifi,
        bare.clone(),
        merged(&bare, json!({ "parameters": {} })),
        merged(&bare, json!({ "bind_resource": {}, "context": {} })),
        merged(&bare, json!({ "bind_resource": null, "app_guid": null })),
    ] {
        broker.put(&binding("i", "b"), &same).expect(200);
    }
}

/// spec: Binding, Body: `app_guid` is deprecated in favour of `bind_resource.app_guid`.
#[test]
fn the_app_may_be_named_in_either_place() {
    let broker = broker_with("db", "plain");
    let bare = json!({ "service_id": "db", "plan_id": "plain" });
    let old = merged(&bare, json!({ "app_guid": "a" }));
    let new = merged(&bare, json!({ "bind_resource": { "app_guid": "a" } }));
    let both = merged(&old, json!({ "bind_resource": { "app_guid": "a" } }));
    broker.put(&binding("i", "b"), &old).expect(201);
    broker.put(&binding("i", "b"), &new).expect(200);
    broker.put(&binding("i", "b"), &both).expect(200);
    let other = merged(&old, json!({ "bind_resource": { "app_guid": "z" } }));
    broker
        .put(&binding("i", "b"), &other)
        .expect_naming(409, "app_guid");
    broker
        .put(&binding("i", "b"), &bare)
        .expect_naming(409, "app_guid");
}

/// spec: Binding, 422 RequiresApp.
#[test]
fn a_plan_that_requires_an_app_refuses_service_keys() {
    let broker = broker_with("db", "app-only");
    let key = json!({ "service_id": "db", "plan_id": "app-only" });
    for key in [
        key.clone(),
        merged(&key, json!({ "bind_resource": {} })),
        merged(
            &key,
            json!({ "app_guid": "", "bind_resource": { "app_guid": "" } }),
        ),
        merged(
            &key,
            json!({ "bind_resource": { "route": "r.example.com" } }),
        ),
    ] {
        broker
            .put(&binding("i", "b"), &key)
            .expect_error(422, "RequiresApp")
            .expect_naming(
                422,
                "This service supports generation of credentials through binding an application only.",
            );
    }
    broker.get(&binding("i", "b")).expect(404);
    let old = merged(&key, json!({ "app_guid": "app-1" }));
    broker.put(&binding("i", "b"), &old).expect(201);
    let new = merged(&key, json!({ "bind_resource": { "app_guid": "app-1" } }));
    broker.put(&binding("i", "b2"), &new).expect(201);
}

#[test]
fn an_app_may_be_bound_to_an_instance_several_times() {
    let broker = broker_with("db", "plain");
    for id in ["b1", "b2", "b3"] {
        broker.put(&binding("i", id), &bind("plain")).expect(201);
    }
    broker
        .delete(&format!(
            "{}?service_id=db&plan_id=plain",
            binding("i", "b2")
        ))
        .expect(200);
    broker.put(&binding("i", "b1"), &bind("plain")).expect(200);
    broker.put(&binding("i", "b2"), &bind("plain")).expect(201);
    broker.put(&binding("i", "b3"), &bind("plain")).expect(200);
}

#[test]
fn one_binding_id_under_two_instances_is_two_bindings() {
    let broker = broker_with("db", "plain");
    provision(&broker, "j", "db", "plain");
    let red = merged(&bind("plain"), json!({ "parameters": { "color": "red" } }));
    let blue = merged(&bind("plain"), json!({ "parameters": { "color": "blue" } }));
    broker.put(&binding("i", "b"), &red).expect(201);
    broker.get(&binding("j", "b")).expect(404);
    broker.put(&binding("j", "b"), &blue).expect(201);
    let color = |instance: &str| {
        let answer = broker.get(&binding(instance, "b")).expect(200);
        answer.json()["parameters"]["color"].clone()
    };
    assert_eq!((color("i"), color("j")), (json!("red"), json!("blue")));
    broker
        .delete(&format!(
            "{}?service_id=db&plan_id=plain",
            binding("j", "b")
        ))
        .expect(200);
    assert_eq!(color("i"), "red");
}

/// spec: URL Properties: nothing restricts the characters of an id.
#[test]
fn ids_are_opaque() {
    let broker = Broker::with(&catalog());
    for (instance, id) in [
        ("a%2Fb", "c"),
        ("a", "b%2Fc"),
        ("%C3%BC", "%F0%9F%A6%80"),
        ("..", "%2E."),
        ("i", "last_operation"),
    ] {
        provision(&broker, instance, "db", "plain");
        let target = binding(instance, id);
        broker.put(&target, &bind("plain")).expect(201);
        broker.put(&target, &bind("plain")).expect(200);
        broker.get(&target).expect(200);
    }
}

/// spec: Fetching a Service Binding, Body.
#[test]
fn a_fetch_shows_the_parameters_and_what_the_bind_had_answered() {
    let broker = broker_with("db", "plain");
    let parameters = json!({ "a": 1.50, "b": { "c": [null, "ü"] } });
    let body = merged(&bind("plain"), json!({ "parameters": parameters }));
    broker.put(&binding("i", "b"), &body).expect(201);
    let fetched = broker.get(&binding("i", "b")).expect(200).json();
    assert_eq!(
        fetched,
        json!({ "credentials": {}, "parameters": parameters })
    );
    // spec: nulls are not to be sent for what is absent.
    broker
        .put(&binding("i", "bare"), &bind("plain"))
        .expect(201);
    let fetched = broker.get(&binding("i", "bare")).expect(200).json();
    assert_eq!(fetched, json!({ "credentials": {} }));
}

#[test]
fn fifty_binds_at_the_same_time_make_one_binding() {
    let broker = broker_with("db", "plain");
    let request = broker
        .request("PUT", &binding("i", "b"))
        .json(&bind("plain"));
    let connections: Vec<_> = (0..50).map(|_| Connection::warm(broker.address)).collect();
    let start = Barrier::new(connections.len());
    let answers: Vec<_> = thread::scope(|scope| {
        let requests: Vec<_> = connections
            .into_iter()
            .map(|mut connection| {
                let (start, request) = (&start, &request);
                scope.spawn(move || {
                    start.wait();
                    connection.send(request)
                })
            })
            .collect();
        requests.into_iter().map(|r| r.join().unwrap()).collect()
    });
    let count = |status| answers.iter().filter(|a| a.status == status).count();
    assert_eq!((count(201), count(200)), (1, 49));
    assert!(answers.iter().all(|a| a.body == answers[0].body));
}
