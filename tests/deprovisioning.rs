//! spec: Deprovisioning.

mod support;

use serde_json::{Value, json};
use std::sync::Arc;
use support::{Broker, Folder, Setup, binding, instance};

fn catalog(plans: &[&str]) -> Value {
    let plan = |id: &&str| json!({ "id": id, "name": id, "description": id });
    json!({ "services": [{
        "id": "db",
        "name": "db",
        "description": "Databases",
        "bindable": true,
        "instances_retrievable": true,
        "bindings_retrievable": true,
        "plan_updateable": true,
        "plans": plans.iter().map(plan).collect::<Value>()
    }]})
}

/// A broker with an instance `i` of plan `small`.
fn broker() -> Broker {
    let broker = Broker::with(&catalog(&["small", "large", "huge"]));
    provision(&broker, "i", 201);
    broker
}

fn provision(broker: &Broker, id: &str, status: u16) {
    let body = support::provision("db", "small");
    broker.put(&instance(id), &body).expect(status);
}

fn bind(broker: &Broker, id: &str, status: u16) {
    let body = support::bind("db", "small");
    broker.put(&binding("i", id), &body).expect(status);
}

fn deprovision(id: &str, plan: &str) -> String {
    format!("{}?service_id=db&plan_id={plan}", instance(id))
}

#[test]
fn a_deleted_instance_is_answered_with_200_and_an_empty_object() {
    let broker = broker();
    let answer = broker.delete(&deprovision("i", "small")).expect(200);
    assert_eq!(answer.json(), json!({}));
    broker.get(&instance("i")).expect(404);
    broker
        .get(&format!("{}/last_operation", instance("i")))
        .expect(404);
    let update = json!({ "service_id": "db", "plan_id": "large" });
    broker.patch(&instance("i"), &update).expect(404);
    let bind = support::bind("db", "small");
    broker.put(&binding("i", "b"), &bind).expect(404);
}

#[test]
fn what_does_not_exist_is_gone() {
    let broker = broker();
    broker
        .delete(&deprovision("nosuch", "small"))
        .expect_naming(410, "\"nosuch\"");
    // Not even the ids need to be known: whoever cleans up may have outlived the catalog.
    let target = format!("{}?service_id=x&plan_id=y", instance("nosuch"));
    broker.delete(&target).expect(410);
    broker.get(&instance("i")).expect(200);
}

#[test]
fn a_second_delete_finds_it_gone() {
    let broker = broker();
    broker.delete(&deprovision("i", "small")).expect(200);
    broker.delete(&deprovision("i", "small")).expect(410);
}

/// spec: Deprovisioning, Parameters: both are required.
#[test]
fn ids_that_are_missing_in_the_query_are_named_and_nothing_is_deleted() {
    let broker = broker();
    for (query, name) in [
        ("", "service_id"),
        ("?plan_id=small", "service_id"),
        ("?service_id=&plan_id=small", "service_id"),
        ("?service_id=db", "plan_id"),
        ("?service_id=db&plan_id=", "plan_id"),
    ] {
        broker
            .delete(&format!("{}{query}", instance("i")))
            .expect_naming(400, name);
    }
    broker.get(&instance("i")).expect(200);
}

#[test]
fn ids_of_another_plan_are_refused_and_nothing_is_deleted() {
    let broker = broker();
    bind(&broker, "b", 201);
    for (query, name) in [
        ("?service_id=db&plan_id=large", "plan_id"),
        ("?service_id=db&plan_id=nosuch", "plan_id"),
        ("?service_id=nosuch&plan_id=small", "service_id"),
    ] {
        broker
            .delete(&format!("{}{query}", instance("i")))
            .expect_naming(400, name);
    }
    broker.get(&instance("i")).expect(200);
    broker.get(&binding("i", "b")).expect(200);
}

/// A platform that did not hear of the change names the plan before it.
#[test]
fn after_a_change_of_plan_old_and_new_plan_are_accepted() {
    for plan in ["small", "large"] {
        let broker = broker();
        let update = json!({ "service_id": "db", "plan_id": "large" });
        broker.patch(&instance("i"), &update).expect(200);
        broker
            .delete(&deprovision("i", "huge"))
            .expect_naming(400, "plan_id");
        let target = format!("{}&accepts_incomplete=true", deprovision("i", plan));
        broker.delete(&target).expect(200);
    }
}

/// The platform is the source of truth, and it wants the instance gone.
#[test]
fn bindings_that_are_left_go_with_the_instance_and_the_log_says_so() {
    let broker = broker();
    provision(&broker, "ii", 201);
    let body = support::bind("db", "small");
    broker.put(&binding("ii", "b"), &body).expect(201);
    bind(&broker, "a", 201);
    bind(&broker, "b", 201);
    broker.delete(&deprovision("i", "small")).expect(200);
    broker.get(&binding("i", "a")).expect(404);
    let target = format!("{}?service_id=db&plan_id=small", binding("i", "a"));
    broker.delete(&target).expect(410);
    broker.get(&binding("ii", "b")).expect(200);
    // Made anew, it has no bindings.
    provision(&broker, "i", 201);
    broker.get(&binding("i", "b")).expect(404);
    bind(&broker, "b", 201);

    let (_, printed) = broker.stop();
    let removed: Vec<_> = printed
        .lines()
        .filter(|line| line.contains("event=bindings_removed"))
        .collect();
    let [line] = removed[..] else {
        panic!("{printed}")
    };
    assert!(line.contains(" level=warn "), "{line}");
    assert!(
        line.contains(" instance_id=i service=db plan=small count=2 "),
        "{line}"
    );
}

#[test]
fn without_bindings_the_log_has_nothing_to_say_of_them() {
    let broker = broker();
    bind(&broker, "b", 201);
    let target = format!("{}?service_id=db&plan_id=small", binding("i", "b"));
    broker.delete(&target).expect(200);
    broker.delete(&deprovision("i", "small")).expect(200);
    assert!(!broker.stop().1.contains("bindings_removed"));
}

#[test]
fn an_id_can_be_used_again() {
    let broker = broker();
    broker.delete(&deprovision("i", "small")).expect(200);
    let body = support::provision("db", "large");
    broker.put(&instance("i"), &body).expect(201);
    let fetched = broker.get(&instance("i")).expect(200).json();
    assert_eq!(fetched["plan_id"], "large");
}

#[test]
fn the_other_instances_stay() {
    let broker = broker();
    for id in ["h", "ii", "j"] {
        provision(&broker, id, 201);
    }
    broker.delete(&deprovision("i", "small")).expect(200);
    for id in ["h", "ii", "j"] {
        broker.get(&instance(id)).expect(200);
    }
}

/// Removing a plan from the catalog must not strand what was made with it. Needs the file store.
#[test]
fn an_instance_of_a_plan_that_has_left_the_catalog_can_be_deleted_but_not_made() {
    let folder = Arc::new(Folder::new());
    let start = |plans: &[&str]| {
        Setup::in_folder(folder.clone())
            .catalog(&catalog(plans))
            .start()
    };
    let broker = start(&["small", "large"]);
    provision(&broker, "i", 201);
    provision(&broker, "j", 201);
    bind(&broker, "b", 201);
    broker.stop();

    let broker = start(&["large"]);
    let body = support::provision("db", "small");
    broker
        .put(&instance("new"), &body)
        .expect_naming(400, "plan_id");
    // What is there is there, and a repeat is told so.
    provision(&broker, "i", 200);
    broker.get(&instance("i")).expect(200);
    broker
        .delete(&deprovision("i", "large"))
        .expect_naming(400, "plan_id");
    // With what is bound.
    broker.delete(&deprovision("i", "small")).expect(200);
    broker.get(&binding("i", "b")).expect(404);
    broker.delete(&deprovision("i", "small")).expect(410);
    // Or it may move to a plan that has not left, where the service offering lets it.
    let update = json!({ "service_id": "db", "plan_id": "large" });
    broker.patch(&instance("j"), &update).expect(200);
    broker.delete(&deprovision("j", "large")).expect(200);
}
