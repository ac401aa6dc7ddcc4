//! What becomes of service instances whose plan has left the catalog. Deleting them is in `deprovisioning.rs`.

mod support;

use serde_json::{Value, json};
use std::sync::Arc;
use support::{Broker, Folder, IDS, Setup, bind, binding, brokerlet, instance, merged, provision};

fn catalog(plans: &[&str]) -> Value {
    let plan = |id: &&str| json!({ "id": id, "name": id, "description": "A plan" });
    json!({ "services": [{
        "id": "example_service", "name": "example_service", "description": "A service", "bindable": true,
        "instances_retrievable": true, "plans": plans.iter().map(plan).collect::<Value>()
    }]})
}

/// A broker that no longer has the plan `plan_one`, and an instance `i` of it from the time when it had.
fn broker() -> Broker {
    let folder = Arc::new(Folder::new());
    let start = |plans: &[&str]| {
        Setup::in_folder(folder.clone())
            .catalog(&catalog(plans))
            .start()
    };
    let before = start(&["plan_one", "plan_two"]);
    let parameters = json!({ "parameters": { "color": "red" } });
    let request = merged(&provision("example_service", "plan_one"), parameters);
    before.put(&instance("i"), &request).expect(201);
    before.stop();
    start(&["plan_two"])
}

#[test]
fn an_update_says_what_can_be_done_and_changes_nothing() {
    let broker = broker();
    let before = broker.get(&instance("i")).expect(200).json();
    for update in [
        json!({ "parameters": { "color": "blue" } }),
        json!({ "parameters": { "color": "blue" }, "plan_id": "plan_one" }),
        json!({ "context": { "platform": "cloudfoundry", "instance_name": "renamed" } }),
        json!({}),
    ] {
        let update = merged(&update, json!({ "service_id": "example_service" }));
        let answer = broker.patch(&instance("i"), &update);
        let answer = answer.expect_naming(400, "\"plan_one\"");
        let told = answer.description();
        assert!(
            told.contains("deleted") && told.contains("put the plan back"),
            "{told}"
        );
        assert_eq!(broker.get(&instance("i")).expect(200).json(), before);
    }
    // A plan that never was is another matter.
    let update = json!({ "service_id": "example_service", "plan_id": "plan_six" });
    broker
        .patch(&instance("i"), &update)
        .expect_naming(400, "plan_id: found \"plan_six\"");
}

#[test]
fn a_bind_says_what_can_be_done_and_changes_nothing() {
    let broker = broker();
    broker
        .put(&binding("i", "b"), &bind("example_service", "plan_one"))
        .expect_naming(400, "put the plan back");
    broker.delete(&(binding("i", "b") + IDS)).expect(410);
    broker.delete(&(instance("i") + IDS)).expect(200);
}

#[test]
fn a_plan_that_is_put_back_retired_serves_its_instances_and_no_new_ones() {
    let folder = broker().kill();
    let mut retired = catalog(&["plan_one", "plan_two"]);
    retired["services"][0]["plans"][0]["retired"] = json!(true);
    let broker = Setup::in_folder(folder).catalog(&retired).start();
    assert!(!broker.printed().contains("plan_missing"));
    broker
        .put(&binding("i", "b"), &bind("example_service", "plan_one"))
        .expect(201);
    broker
        .put(&instance("j"), &provision("example_service", "plan_one"))
        .expect_naming(400, "retired");
    let served = broker.get("/v2/catalog").expect(200);
    let served = String::from_utf8(served.body).unwrap();
    assert!(
        served.contains("plan_two") && !served.contains("plan_one"),
        "{served}"
    );
    assert!(!served.contains("retired"), "{served}");
}

#[test]
fn check_counts_what_is_offered_and_wants_true_or_false() {
    let folder = Folder::new();
    let check = |catalog: &Value| {
        let file = folder.file("catalog.json", catalog.to_string());
        let output = brokerlet().arg("check").arg(file).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let mut retired = catalog(&["plan_one", "plan_two"]);
    retired["services"][0]["plans"][0]["retired"] = json!(true);
    let (code, told) = check(&retired);
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.contains("0 warnings; offers 1 service with 1 plan"),
        "{told}"
    );
    assert!(!told.contains("plan_one"), "{told}");
    retired["services"][0]["plans"][0]["retired"] = json!("yes");
    retired["services"][0]["retired"] = json!(1);
    let (code, told) = check(&retired);
    assert_eq!(code, Some(1), "{told}");
    for place in ["services[0].retired", "services[0].plans[0].retired"] {
        let found = told
            .lines()
            .find(|line| line.contains(&format!(" {place}: ")));
        assert!(
            found.unwrap_or_default().ends_with("wanted true or false"),
            "{told}"
        );
    }
}

#[test]
fn a_plan_that_is_put_back_serves_its_instances_again() {
    let folder = broker().kill();
    let broker = Setup::in_folder(folder)
        .catalog(&catalog(&["plan_one"]))
        .start();
    let update = json!({ "service_id": "example_service", "parameters": { "color": "blue" } });
    broker.patch(&instance("i"), &update).expect(200);
    let fetched = broker.get(&instance("i")).expect(200).json();
    assert_eq!(fetched["parameters"], json!({ "color": "blue" }));
    broker
        .put(&binding("i", "b"), &bind("example_service", "plan_one"))
        .expect(201);
}
