//! spec: Unbinding.

mod support;

use serde_json::{Value, json};
use std::sync::Arc;
use support::{Broker, Folder, IDS, Setup, binding, instance};

fn catalog(plans: &[&str]) -> Value {
    let plan = |id: &&str| json!({ "id": id, "name": id, "description": id });
    json!({ "services": [{
        "id": "db",
        "name": "db",
        "description": "Databases",
        "bindable": true,
        "bindings_retrievable": true,
        "plan_updateable": true,
        "plans": plans.iter().map(plan).collect::<Value>()
    }]})
}

/// Gives the broker an instance `i` of plan `small` and its binding `b`.
fn bound(broker: Broker) -> Broker {
    let body = support::provision("db", "small");
    broker.put(&instance("i"), &body).expect(201);
    let body = support::bind("db", "small");
    broker.put(&binding("i", "b"), &body).expect(201);
    broker
}

fn broker() -> Broker {
    bound(Broker::with(&catalog(&["small", "large", "huge"])))
}

fn unbind(instance: &str, id: &str, plan: &str) -> String {
    format!("{}?service_id=db&plan_id={plan}", binding(instance, id))
}

#[test]
fn a_deleted_binding_is_answered_with_200_and_an_empty_object() {
    let broker = broker();
    let answer = broker.delete(&unbind("i", "b", "small")).expect(200);
    assert_eq!(answer.json(), json!({}));
    broker.get(&binding("i", "b")).expect(404);
    broker
        .get(&format!("{}/last_operation", binding("i", "b")))
        .expect(404);
}

#[test]
fn what_does_not_exist_is_gone() {
    let broker = broker();
    broker
        .delete(&unbind("i", "nosuch", "small"))
        .expect_naming(410, "\"nosuch\"");
    broker.delete(&unbind("nowhere", "b", "small")).expect(410);
    // Not even the ids need to be known: whoever cleans up may have outlived the catalog.
    let target = format!("{}?service_id=x&plan_id=y", binding("i", "nosuch"));
    broker.delete(&target).expect(410);
    broker.get(&binding("i", "b")).expect(200);
}

#[test]
fn a_second_delete_finds_it_gone() {
    let broker = broker();
    broker.delete(&unbind("i", "b", "small")).expect(200);
    broker.delete(&unbind("i", "b", "small")).expect(410);
}

#[test]
fn a_deleted_binding_can_be_made_again() {
    let broker = broker();
    broker.delete(&unbind("i", "b", "small")).expect(200);
    let body = support::bind("db", "small");
    broker.put(&binding("i", "b"), &body).expect(201);
}

/// spec: Unbinding, Parameters: both are required.
#[test]
fn ids_that_are_missing_in_the_query_are_named_and_nothing_is_deleted() {
    let broker = broker();
    for (query, name) in [
        ("", "service_id"),
        ("?plan_id=small", "service_id"),
        ("?service_id=&plan_id=small", "service_id"),
        ("?service_id=db", "plan_id"),
        ("?service_id=db&plan_id=", "plan_id"),
        ("?service_id=db&plan_id", "plan_id"),
        ("?service_id=db&Plan_id=small", "plan_id"),
    ] {
        broker
            .delete(&format!("{}{query}", binding("i", "b")))
            .expect_naming(400, name);
    }
    broker.get(&binding("i", "b")).expect(200);
}

#[test]
fn ids_of_another_plan_are_refused_and_nothing_is_deleted() {
    let broker = broker();
    for (query, name) in [
        ("?service_id=db&plan_id=large", "plan_id"),
        ("?service_id=db&plan_id=nosuch", "plan_id"),
        ("?service_id=nosuch&plan_id=small", "service_id"),
    ] {
        broker
            .delete(&format!("{}{query}", binding("i", "b")))
            .expect_naming(400, name);
    }
    broker.get(&binding("i", "b")).expect(200);
}

#[test]
fn other_things_in_the_query_do_not_matter() {
    let broker = broker();
    broker
        .delete(&format!(
            "{}&accepts_incomplete=maybe",
            unbind("i", "b", "small")
        ))
        .expect_naming(400, "accepts_incomplete");
    broker
        .delete(&format!(
            "{}&accepts_incomplete=true&x=y",
            unbind("i", "b", "small")
        ))
        .expect(200);
}

/// A platform names the plan that it believes the instance to have.
#[test]
fn after_a_change_of_plan_old_and_new_plan_are_accepted() {
    for plan in ["small", "large"] {
        let broker = broker();
        let update = json!({ "service_id": "db", "plan_id": "large" });
        broker.patch(&instance("i"), &update).expect(200);
        broker
            .delete(&unbind("i", "b", "huge"))
            .expect_naming(400, "plan_id");
        broker.delete(&unbind("i", "b", plan)).expect(200);
    }
}

#[test]
fn a_binding_is_deleted_under_its_own_instance_only() {
    let broker = broker();
    let body = support::provision("db", "small");
    broker.put(&instance("j"), &body).expect(201);
    broker.delete(&unbind("j", "b", "small")).expect(410);
    broker.get(&binding("i", "b")).expect(200);
}

#[test]
fn the_other_bindings_of_the_instance_stay() {
    let broker = broker();
    let body = support::bind("db", "small");
    for id in ["a", "bb", "c"] {
        broker.put(&binding("i", id), &body).expect(201);
    }
    broker.delete(&unbind("i", "b", "small")).expect(200);
    for id in ["a", "bb", "c"] {
        broker.get(&binding("i", id)).expect(200);
    }
}

#[test]
fn the_tutorials_binding_can_be_deleted() {
    let broker = Setup::new().env("BROKER_STORE", "memory").start();
    let ids = ("example_service", "plan_one");
    let body = support::provision(ids.0, ids.1);
    broker.put(&instance("i"), &body).expect(201);
    let body = support::bind(ids.0, ids.1);
    broker.put(&binding("i", "b"), &body).expect(201);
    broker
        .delete(&format!("{}{IDS}", binding("i", "b")))
        .expect(200);
}

/// Removing a plan from the catalog must not strand what was made with it. Needs the file store.
#[test]
fn a_binding_of_a_plan_that_has_left_the_catalog_can_be_deleted() {
    let folder = Arc::new(Folder::new());
    let start = |plans: &[&str]| {
        Setup::in_folder(folder.clone())
            .catalog(&catalog(plans))
            .start()
    };
    bound(start(&["small", "large"])).stop();
    let broker = start(&["large"]);
    broker
        .delete(&unbind("i", "b", "large"))
        .expect_naming(400, "plan_id");
    broker.get(&binding("i", "b")).expect(200);
    broker.delete(&unbind("i", "b", "small")).expect(200);
    broker.delete(&unbind("i", "b", "small")).expect(410);
}
