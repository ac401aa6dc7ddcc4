//! spec: Polling Last Operation for Service Instances; Polling Last Operation for Service Bindings.

mod support;

use serde_json::{Value, json};
use support::*;

const QUERY: &str = "?service_id=db&plan_id=small";

fn catalog() -> Value {
    let plan = |id: &str| json!({ "id": id, "name": id, "description": "A plan" });
    json!({ "services": [
        {
            "id": "db", "name": "db", "description": "A database", "bindable": true, "plan_updateable": true,
            "instances_retrievable": true, "bindings_retrievable": true,
            "plans": [plan("small"), plan("large"), plan("huge")],
        },
        {
            "id": "cache", "name": "cache", "description": "A cache", "bindable": true,
            "plans": [plan("tiny")],
        },
    ]})
}

fn of_instance(id: &str) -> String {
    instance(id) + "/last_operation"
}

fn of_binding(instance: &str, id: &str) -> String {
    binding(instance, id) + "/last_operation"
}

/// A broker with the instance `i` and its binding `b`.
fn broker() -> Broker {
    let broker = Broker::with(&catalog());
    broker
        .put(&instance("i"), &provision("db", "small"))
        .expect(201);
    broker
        .put(&binding("i", "b"), &bind("db", "small"))
        .expect(201);
    broker
}

fn change_plan(broker: &Broker, plan: &str) {
    let body = json!({ "service_id": "db", "plan_id": plan });
    broker.patch(&instance("i"), &body).expect(200);
}

/// Asserts that the last operation has succeeded, and that nothing else is told of it.
#[track_caller]
fn succeeded(broker: &Broker, target: &str) {
    assert_eq!(
        broker.get(target).expect(200).json(),
        json!({ "state": "succeeded" })
    );
}

// Instances

#[test]
fn a_synchronous_provision_has_succeeded() {
    let broker = Broker::with(&catalog());
    broker
        .put(&instance("i"), &provision("db", "small"))
        .expect(201);
    succeeded(&broker, &of_instance("i"));
    succeeded(&broker, &(of_instance("i") + QUERY));
}

#[test]
fn an_operation_is_not_forgotten_after_it_was_told() {
    let broker = broker();
    for _ in 0..3 {
        succeeded(&broker, &of_instance("i"));
        succeeded(&broker, &of_binding("i", "b"));
    }
}

#[test]
fn a_synchronous_update_has_succeeded() {
    let broker = broker();
    change_plan(&broker, "large");
    succeeded(&broker, &of_instance("i"));
    let body = json!({ "service_id": "db", "parameters": { "a": 1 } });
    broker.patch(&instance("i"), &body).expect(200);
    succeeded(&broker, &of_instance("i"));
    // The binding has an operation of its own.
    succeeded(&broker, &of_binding("i", "b"));
}

#[test]
fn a_refused_request_is_no_operation() {
    let broker = broker();
    broker
        .put(&instance("i"), &provision("db", "large"))
        .expect(409);
    let body = json!({ "service_id": "db", "maintenance_info": { "version": "1.0.0" } });
    broker.patch(&instance("i"), &body).expect(422);
    broker
        .delete(&(instance("i") + "?service_id=db&plan_id=huge"))
        .expect(400);
    succeeded(&broker, &of_instance("i"));
    broker
        .put(
            &binding("i", "b"),
            &merged(&bind("db", "small"), json!({ "parameters": { "a": 1 } })),
        )
        .expect(409);
    broker
        .delete(&(binding("i", "b") + "?service_id=db&plan_id=huge"))
        .expect(400);
    succeeded(&broker, &of_binding("i", "b"));
}

#[test]
fn after_a_synchronous_deprovision_there_is_nothing_to_poll() {
    let broker = broker();
    broker.delete(&(instance("i") + QUERY)).expect(200);
    broker.get(&of_instance("i")).expect_naming(404, "i");
    broker.get(&(of_instance("i") + QUERY)).expect(404);
    broker.get(&of_binding("i", "b")).expect_naming(404, "b");
}

#[test]
fn an_instance_that_does_not_exist_is_404() {
    let broker = broker();
    for target in [
        of_instance("none"),
        of_instance("none") + QUERY,
        of_instance("I"),
    ] {
        broker.get(&target).expect(404);
    }
    broker
        .get(&(of_instance("none") + "?operation=x"))
        .expect(404);
}

#[test]
fn an_instance_that_was_refused_is_404() {
    let broker = Broker::with(&catalog());
    broker
        .put(&instance("i"), &provision("db", "nothing"))
        .expect(400);
    broker.get(&of_instance("i")).expect(404);
}

#[test]
fn hints_about_an_instance_have_to_fit() {
    let broker = broker();
    for query in [
        "?service_id=db",
        "?plan_id=small",
        "?service_id=&plan_id=&operation=",
        "?x-acme=1",
    ] {
        succeeded(&broker, &(of_instance("i") + query));
    }
    for (query, told) in [
        (
            "?service_id=cache&plan_id=small",
            "service_id: found \"cache\"",
        ),
        ("?service_id=db&plan_id=large", "plan_id: found \"large\""),
        ("?plan_id=tiny", "plan_id: found \"tiny\""),
        ("?service_id=%ff", "service_id"),
    ] {
        broker
            .get(&(of_instance("i") + query))
            .expect_naming(400, told);
    }
}

#[test]
fn after_a_change_of_plan_both_plans_fit() {
    let broker = broker();
    change_plan(&broker, "large");
    for plan in ["small", "large"] {
        succeeded(
            &broker,
            &format!("{}?service_id=db&plan_id={plan}", of_instance("i")),
        );
    }
    let huge = of_instance("i") + "?plan_id=huge";
    broker.get(&huge).expect_naming(400, "plan_id");
    // The plan before the last change, not the one before that.
    change_plan(&broker, "huge");
    succeeded(&broker, &huge);
    succeeded(&broker, &(of_instance("i") + "?plan_id=large"));
    broker
        .get(&(of_instance("i") + "?plan_id=small"))
        .expect_naming(400, "plan_id");
}

#[test]
fn an_update_of_something_else_leaves_the_plan_before_fitting() {
    let broker = broker();
    change_plan(&broker, "large");
    let body = json!({ "service_id": "db", "parameters": { "a": 1 } });
    broker.patch(&instance("i"), &body).expect(200);
    succeeded(&broker, &(of_instance("i") + "?plan_id=small"));
}

#[test]
fn an_operation_that_the_broker_did_not_name_is_400() {
    let broker = broker();
    for operation in ["task_10", "task%2010", "+"] {
        let query = format!("{QUERY}&operation={operation}");
        broker
            .get(&(of_instance("i") + &query))
            .expect_naming(400, "operation");
        broker
            .get(&(of_binding("i", "b") + &query))
            .expect_naming(400, "operation");
    }
    broker
        .get(&(of_instance("i") + "?operation=%ff"))
        .expect_naming(400, "operation");
}

// Bindings

#[test]
fn a_synchronous_bind_has_succeeded() {
    let broker = broker();
    succeeded(&broker, &of_binding("i", "b"));
    succeeded(&broker, &(of_binding("i", "b") + QUERY));
}

#[test]
fn after_a_synchronous_unbind_there_is_nothing_to_poll() {
    let broker = broker();
    broker.delete(&(binding("i", "b") + QUERY)).expect(200);
    broker.get(&of_binding("i", "b")).expect_naming(404, "b");
    // The instance has an operation of its own.
    succeeded(&broker, &of_instance("i"));
}

#[test]
fn a_binding_that_does_not_exist_is_404() {
    let broker = broker();
    broker
        .put(&instance("j"), &provision("db", "small"))
        .expect(201);
    broker
        .get(&of_binding("i", "none"))
        .expect_naming(404, "none");
    broker.get(&of_binding("none", "b")).expect(404);
    // The binding is one of another instance.
    broker.get(&of_binding("j", "b")).expect(404);
    broker
        .get(&(of_binding("i", "none") + "?operation=x"))
        .expect(404);
}

#[test]
fn hints_about_a_binding_have_to_fit() {
    let broker = broker();
    for query in [
        "?service_id=db",
        "?plan_id=small",
        "?service_id=&plan_id=&operation=",
    ] {
        succeeded(&broker, &(of_binding("i", "b") + query));
    }
    for (query, told) in [
        ("?service_id=cache", "service_id: found \"cache\""),
        ("?plan_id=large", "plan_id: found \"large\""),
    ] {
        broker
            .get(&(of_binding("i", "b") + query))
            .expect_naming(400, told);
    }
}

#[test]
fn a_binding_can_be_polled_under_the_plan_it_was_made_with_and_under_the_instances() {
    let broker = broker();
    change_plan(&broker, "large");
    change_plan(&broker, "huge");
    for plan in ["small", "large", "huge"] {
        succeeded(&broker, &(of_binding("i", "b") + "?plan_id=" + plan));
    }
    broker
        .get(&(of_binding("i", "b") + "?plan_id=tiny"))
        .expect_naming(400, "plan_id");
}

// Both

#[test]
fn services_that_cannot_be_fetched_can_be_polled() {
    let broker = Broker::with(&catalog());
    broker
        .put(&instance("i"), &provision("cache", "tiny"))
        .expect(201);
    broker
        .put(&binding("i", "b"), &bind("cache", "tiny"))
        .expect(201);
    broker.get(&instance("i")).expect(404);
    broker.get(&binding("i", "b")).expect(404);
    succeeded(&broker, &of_instance("i"));
    succeeded(&broker, &of_binding("i", "b"));
}

#[test]
fn head_polls_without_a_body() {
    let broker = broker();
    for target in [of_instance("i"), of_binding("i", "b")] {
        let answer = broker.request("HEAD", &target).send();
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b""[..]));
    }
}

// What an asynchronous operation does right now

/// Waits until the description of a poll begins so, and returns it.
#[track_caller]
fn described(broker: &Broker, id: &str, start: &str) -> String {
    let mut description = String::new();
    for _ in 0..4000 {
        let answer = broker.get(&of_instance(id)).expect(200).json();
        assert_eq!(answer["state"], "in progress", "{answer}");
        description = answer["description"].as_str().unwrap().to_owned();
        if description.starts_with(start) {
            return description;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("{start:?}: {description:?}");
}

/// The time that follows this.
#[track_caller]
fn time_after(description: &str, start: &str) -> std::time::SystemTime {
    let rest = description.strip_prefix(start).expect(description);
    let (time, _) = rest.split_once("Z.").expect(description);
    humantime::parse_rfc3339(&format!("{time}Z")).expect(description)
}

#[test]
fn a_poll_tells_what_runs_since_when_and_what_waits() {
    let script = r#"case $1 in
provision) echo x >begun; until [ -e go ]; do sleep 0.02; done ;;
esac
echo '{}'"#;
    let settings = json!({ "async": ["provision"], "concurrency": 1 });
    let broker = programs::shell(script, settings).start();
    let begun = std::time::SystemTime::now() - std::time::Duration::from_secs(1);
    for id in ["first", "second"] {
        let target = instance(id) + "?accepts_incomplete=true";
        broker.put(&target, &programs::provision()).expect(202);
    }
    broker.wait_for_file("begun");
    let running = "It has been running since ";
    let since = time_after(&described(&broker, "first", running), running);
    assert!(begun <= since && since <= std::time::SystemTime::now());
    described(&broker, "second", "It is waiting for its turn.");
    broker.folder.file("go", "");
    succeeds(&broker, "second");
}

/// Waits until nothing is in progress any more.
#[track_caller]
fn succeeds(broker: &Broker, id: &str) {
    for _ in 0..4000 {
        let answer = broker.get(&of_instance(id)).expect(200).json();
        if answer["state"] == "succeeded" {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("{id} has not come to its end");
}

#[test]
fn a_poll_tells_of_the_next_attempt_and_of_what_went_wrong() {
    let script = r#"case $1 in
provision) [ -e go ] || { echo '{"progress":"Asking"}'; echo '{"error":"busy","description":"All servers are busy."}'; exit 75; } ;;
esac
echo '{}'"#;
    let settings = json!({ "async": ["provision"] });
    let broker = programs::shell(script, settings).start();
    let target = instance("i") + "?accepts_incomplete=true";
    broker.put(&target, &programs::provision()).expect(202);
    let waiting = "It is waiting for attempt 2, which begins at ";
    let description = described(&broker, "i", waiting);
    time_after(&description, waiting);
    let wrong = "Z. Attempt 1 did not succeed: All servers are busy.";
    assert!(description.ends_with(wrong), "{description}");
    described(
        &broker,
        "i",
        "It is waiting for attempt 3, which begins at ",
    );
    broker.folder.file("go", "");
    succeeds(&broker, "i");
}
