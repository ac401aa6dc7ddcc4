//! spec: Fetching a Service Instance; Fetching a Service Binding.

mod support;

use serde_json::{Value, json};
use support::*;

/// Service `open` can be fetched, `closed` cannot, `silent` does not say.
fn catalog() -> Value {
    let plans = |service: &str| {
        json!([
            { "id": format!("{service}-small"), "name": "small", "description": "Small" },
            { "id": format!("{service}-large"), "name": "large", "description": "Large" },
            {
                "id": format!("{service}-kept"), "name": "kept", "description": "With maintenance information",
                "maintenance_info": { "version": "2.0.0", "description": "New OS" },
            },
            {
                "id": format!("{service}-full"), "name": "full", "description": "With all that a plan can show",
                "adapter": {
                    "kind": "shared",
                    "instance": {
                        "dashboard_url": "https://acme.example/${instance_id}",
                        "metadata": { "labels": { "acme": "db" } },
                    },
                    "binding": {
                        "credentials": { "user": "u-${random:16}" },
                        "endpoints": [{ "host": "db.acme.example", "ports": ["3306"] }],
                    },
                },
            },
        ])
    };
    let service = |id: &str| {
        json!({
            "id": id, "name": id, "description": "A service", "bindable": true, "plan_updateable": true,
            "plans": plans(id),
        })
    };
    let retrievable =
        |value: bool| json!({ "instances_retrievable": value, "bindings_retrievable": value });
    json!({ "services": [
        merged(&service("open"), retrievable(true)),
        merged(&service("closed"), retrievable(false)),
        service("silent"),
    ]})
}

fn with_parameters(body: Value, parameters: Value) -> Value {
    merged(&body, json!({ "parameters": parameters }))
}

/// A broker with the instance `i` of plan `open-small`, which has the binding `b`.
fn broker() -> Broker {
    let broker = Broker::with(&catalog());
    broker
        .put(&instance("i"), &provision("open", "open-small"))
        .expect(201);
    broker
        .put(&binding("i", "b"), &bind("open", "open-small"))
        .expect(201);
    broker
}

/// Changes the plan of the instance `i` to `open-large`.
fn enlarge(broker: &Broker) {
    let body = json!({ "service_id": "open", "plan_id": "open-large" });
    broker.patch(&instance("i"), &body).expect(200);
}

// Instances

#[test]
fn an_instance_shows_its_service_and_plan_and_no_nulls() {
    let fetched = broker().get(&instance("i")).expect(200);
    assert_eq!(
        fetched.json(),
        json!({ "service_id": "open", "plan_id": "open-small" })
    );
}

#[test]
fn an_instance_shows_its_parameters_as_they_were_given() {
    let broker = Broker::with(&catalog());
    let parameters = r#"{"z": 1.50, "a": [ 1e3, null ], "name": "\u00fc"}"#;
    let body = provision("open", "open-small").to_string();
    let body = format!(r#"{{"parameters":{parameters},{}"#, &body[1..]);
    broker
        .request("PUT", &instance("i"))
        .body(body)
        .send()
        .expect(201);
    let fetched = String::from_utf8(broker.get(&instance("i")).expect(200).body).unwrap();
    assert!(fetched.contains(parameters), "{fetched}");
}

#[test]
fn an_instance_shows_the_version_of_its_maintenance_info() {
    let broker = Broker::with(&catalog());
    broker
        .put(&instance("i"), &provision("open", "open-kept"))
        .expect(201);
    let fetched = broker.get(&instance("i")).expect(200).json();
    assert_eq!(fetched["maintenance_info"], json!({ "version": "2.0.0" }));
}

#[test]
fn an_instance_shows_its_dashboard_and_metadata() {
    let broker = Broker::with(&catalog());
    let created = broker
        .put(&instance("i"), &provision("open", "open-full"))
        .expect(201)
        .json();
    let fetched = broker.get(&instance("i")).expect(200).json();
    assert_eq!(fetched["dashboard_url"], "https://acme.example/i");
    for field in ["dashboard_url", "metadata"] {
        assert_eq!(fetched[field], created[field], "{field}");
    }
}

#[test]
fn an_instance_shows_what_an_update_changed() {
    let broker = broker();
    enlarge(&broker);
    let body = with_parameters(json!({ "service_id": "open" }), json!({ "size": 5 }));
    broker.patch(&instance("i"), &body).expect(200);
    let wanted =
        json!({ "service_id": "open", "plan_id": "open-large", "parameters": { "size": 5 } });
    assert_eq!(broker.get(&instance("i")).expect(200).json(), wanted);
}

#[test]
fn an_instance_that_does_not_exist_is_404() {
    let broker = broker();
    broker.get(&instance("none")).expect_naming(404, "none");
    broker.get(&instance("I")).expect(404);
    broker
        .delete(&(instance("i") + "?service_id=open&plan_id=open-small"))
        .expect(200);
    broker.get(&instance("i")).expect_naming(404, "i");
}

#[test]
fn an_instance_of_a_service_that_is_not_instances_retrievable_is_404() {
    let broker = Broker::with(&catalog());
    for service in ["closed", "silent"] {
        let body = provision(service, &format!("{service}-small"));
        broker.put(&instance(service), &body).expect(201);
        broker
            .get(&instance(service))
            .expect_naming(404, "instances_retrievable");
        // It is there all the same.
        broker
            .get(&(instance(service) + "/last_operation"))
            .expect(200);
        broker.put(&instance(service), &body).expect(200);
    }
}

#[test]
fn hints_that_fit_the_instance_are_accepted() {
    let broker = broker();
    for query in [
        "?service_id=open&plan_id=open-small",
        "?service_id=open",
        "?plan_id=open-small",
        "?plan_id=open%2Dsmall",
        "?service_id=&plan_id=",
        "?x-acme=1",
    ] {
        broker.get(&(instance("i") + query)).expect(200);
    }
}

#[test]
fn hints_that_do_not_fit_the_instance_are_400_and_named() {
    let broker = broker();
    for (query, told) in [
        (
            "?service_id=closed&plan_id=open-small",
            "service_id: found \"closed\"",
        ),
        ("?service_id=nothing", "service_id: found \"nothing\""),
        (
            "?service_id=open&plan_id=open-large",
            "plan_id: found \"open-large\"",
        ),
        ("?plan_id=nothing", "plan_id: found \"nothing\""),
        ("?plan_id=%ff", "plan_id"),
    ] {
        broker
            .get(&(instance("i") + query))
            .expect_naming(400, told);
    }
}

#[test]
fn after_a_change_of_plan_the_plan_before_is_a_fitting_hint_too() {
    let broker = broker();
    enlarge(&broker);
    for plan in ["open-small", "open-large"] {
        let query = format!("?service_id=open&plan_id={plan}");
        let fetched = broker.get(&(instance("i") + &query)).expect(200).json();
        assert_eq!(fetched["plan_id"], "open-large");
    }
    broker
        .get(&(instance("i") + "?plan_id=open-kept"))
        .expect_naming(400, "plan_id");
}

#[test]
fn head_fetches_without_a_body() {
    let broker = broker();
    for target in [instance("i"), binding("i", "b")] {
        let answer = broker.request("HEAD", &target).send();
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b""[..]));
        let whole = broker.get(&target).expect(200);
        assert_eq!(
            answer.header("Content-Length"),
            whole.header("Content-Length")
        );
    }
}

// Bindings

#[test]
fn a_binding_shows_its_credentials_and_no_nulls() {
    let fetched = broker().get(&binding("i", "b")).expect(200).json();
    assert_eq!(fetched, json!({ "credentials": {} }));
}

#[test]
fn a_binding_shows_what_the_bind_answered_and_its_parameters() {
    let broker = Broker::with(&catalog());
    broker
        .put(&instance("i"), &provision("open", "open-full"))
        .expect(201);
    let body = with_parameters(bind("open", "open-full"), json!({ "role": "reader" }));
    let bound = broker.put(&binding("i", "b"), &body).expect(201).json();
    assert!(
        bound["credentials"]["user"].as_str().unwrap().len() > 16,
        "{bound}"
    );
    let fetched = broker.get(&binding("i", "b")).expect(200).json();
    assert_eq!(fetched, with_parameters(bound, json!({ "role": "reader" })));
    // Nothing is generated anew.
    assert_eq!(broker.get(&binding("i", "b")).expect(200).json(), fetched);
}

#[test]
fn a_binding_that_does_not_exist_is_404() {
    let broker = broker();
    broker
        .put(&instance("j"), &provision("open", "open-small"))
        .expect(201);
    broker.get(&binding("i", "none")).expect_naming(404, "none");
    broker.get(&binding("none", "b")).expect_naming(404, "b");
    // The binding is one of another instance.
    broker.get(&binding("j", "b")).expect_naming(404, "b");

    let ids = "?service_id=open&plan_id=open-small";
    broker.delete(&(binding("i", "b") + ids)).expect(200);
    broker.get(&binding("i", "b")).expect_naming(404, "b");
}

#[test]
fn a_binding_is_gone_with_its_instance() {
    let broker = broker();
    broker
        .delete(&(instance("i") + "?service_id=open&plan_id=open-small"))
        .expect(200);
    broker.get(&binding("i", "b")).expect(404);
    // Nor does it come back with another instance of the same id.
    broker
        .put(&instance("i"), &provision("open", "open-small"))
        .expect(201);
    broker.get(&binding("i", "b")).expect(404);
}

#[test]
fn a_binding_of_a_service_that_is_not_bindings_retrievable_is_404() {
    let broker = Broker::with(&catalog());
    for service in ["closed", "silent"] {
        let plan = format!("{service}-small");
        broker
            .put(&instance(service), &provision(service, &plan))
            .expect(201);
        broker
            .put(&binding(service, "b"), &bind(service, &plan))
            .expect(201);
        broker
            .get(&binding(service, "b"))
            .expect_naming(404, "bindings_retrievable");
        broker
            .put(&binding(service, "b"), &bind(service, &plan))
            .expect(200);
    }
}

#[test]
fn hints_about_a_binding_have_to_fit() {
    let broker = broker();
    for query in [
        "?service_id=open&plan_id=open-small",
        "?service_id=&plan_id=",
        "?plan_id=open-small",
    ] {
        broker.get(&(binding("i", "b") + query)).expect(200);
    }
    for (query, told) in [
        ("?service_id=closed", "service_id: found \"closed\""),
        ("?plan_id=open-large", "plan_id: found \"open-large\""),
    ] {
        broker
            .get(&(binding("i", "b") + query))
            .expect_naming(400, told);
    }
}

#[test]
fn a_binding_is_found_under_the_plan_it_was_made_with_and_under_the_instances() {
    let broker = broker();
    enlarge(&broker);
    for plan in ["open-small", "open-large"] {
        broker
            .get(&(binding("i", "b") + "?plan_id=" + plan))
            .expect(200);
    }
    broker
        .get(&(binding("i", "b") + "?plan_id=open-kept"))
        .expect_naming(400, "plan_id");
}
