//! What the start says: of variables that nobody reads, of the catalog, and of the state that it finds.

mod support;

use serde_json::{Value, json};
use std::sync::Arc;
use support::*;

fn catalog(plans: &[&str]) -> Value {
    let plan = |id: &&str| json!({ "id": id, "name": id, "description": "A plan" });
    json!({ "services": [{
        "id": "s", "name": "s", "description": "A service", "bindable": true,
        "plans": plans.iter().map(plan).collect::<Value>()
    }]})
}

#[test]
fn a_misspelt_variable_that_matters_stops_the_start() {
    for (name, meant) in [
        ("BROKER_CATALOGUE", "BROKER_CATALOG"),
        ("BROKER_STOER", "BROKER_STORE"),
        ("BROKER_PASSWD", "BROKER_PASSWORD"),
    ] {
        let output = Setup::new().env(name, "a-secret").run();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{told}");
        let wanted = format!("brokerlet: {name}: unknown variable, did you mean \"{meant}\"?");
        assert!(told.contains(&wanted), "{told}");
        assert!(!told.contains("a-secret"), "{told}");
    }
}

#[test]
fn a_start_without_credentials_says_what_was_meant() {
    let mut setup = Setup::new()
        .env("BROKER_USER", "alex")
        .env("BROKER_PASS", "a-secret");
    for name in ["BROKER_USERNAME", "BROKER_PASSWORD"] {
        setup.command.env_remove(name);
    }
    let output = setup.run();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{told}");
    for wanted in [
        "BROKER_TOKEN",
        "BROKER_USER: unknown variable, did you mean \"BROKER_USERNAME\"?",
        "BROKER_PASS: unknown variable, did you mean \"BROKER_PASSWORD\"?",
    ] {
        assert!(told.contains(wanted), "{told}");
    }
    assert!(!told.contains("a-secret"), "{told}");
}

#[test]
fn other_misspelt_variables_are_warned_about_and_so_is_the_tutorials_catalog() {
    let broker = Setup::new()
        .env("BROKER_STORE", "memory")
        .env("BROKER_LOG_LEVEL", "debug")
        .start();
    broker.wait_for_print("did you mean \\\"BROKER_LOG\\\"?");
    broker.wait_for_print("BROKER_CATALOG is not set");
    let broker = Broker::with(&catalog(&["a"]));
    broker.get("/v2/catalog").expect(200);
    assert!(!broker.stop().1.contains("event=configuration"));
}

#[test]
fn instances_whose_plan_is_not_in_the_catalog_are_counted() {
    let folder = Arc::new(Folder::new());
    let start = |plans: &[&str]| {
        Setup::in_folder(folder.clone())
            .catalog(&catalog(plans))
            .start()
    };
    let broker = start(&["a", "b", "c"]);
    for (id, plan) in [("1", "a"), ("2", "a"), ("3", "b"), ("4", "c"), ("5", "c")] {
        broker.put(&instance(id), &provision("s", plan)).expect(201);
    }
    broker.put(&binding("1", "b"), &bind("s", "a")).expect(201);
    // What is gone counts no more.
    broker
        .delete(&format!("{}?service_id=s&plan_id=c", instance("5")))
        .expect(200);
    assert!(!broker.stop().1.contains("plan_missing"));

    let broker = start(&["b"]);
    broker.wait_for_print("plan_id=c");
    let (_, printed) = broker.stop();
    let lines: Vec<&str> = printed
        .lines()
        .filter(|line| line.contains("event=plan_missing"))
        .collect();
    assert_eq!(lines.len(), 2, "{printed}");
    for (line, words) in lines.iter().zip([
        ["level=warn", "service_id=s plan_id=a instances=2"],
        ["level=warn", "service_id=s plan_id=c instances=1"],
    ]) {
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
    }
}

// A path that the proxy in front does not strip

#[test]
fn a_broker_below_a_path_serves_there_and_nowhere_else() {
    let broker = Setup::new()
        .env("BROKER_STORE", "memory")
        .env("BROKER_BASE_PATH", "brokers/mail/")
        .start();
    for base in [
        "/brokers/mail",
        "//brokers/mail",
        "/brokers/mail/",
        "/%62rokers/ma%69l",
    ] {
        broker.get(&format!("{base}/v2/catalog")).expect(200);
    }
    let id = format!("/brokers/mail{}", instance("i"));
    broker
        .put(&id, &provision("example_service", "plan_one"))
        .expect(201);
    broker
        .get(&format!("{id}/last_operation?operation=x"))
        .expect(400);
    broker.delete(&format!("{id}{IDS}")).expect(200);
    for elsewhere in [
        "/v2/catalog",
        "/brokers/mails/v2/catalog",
        "/brokers%2Fmail/v2/catalog",
        "/",
    ] {
        broker
            .get(elsewhere)
            .expect_naming(404, "/brokers/mail/v2/catalog");
    }
    let bare = |target: &str| {
        let request = broker.request("GET", target);
        request
            .without("Authorization")
            .without("X-Broker-API-Version")
            .send()
    };
    for health in ["/healthz", "/brokers/mail/healthz"] {
        bare(health).expect(200);
    }
    for other in [
        "/brokers/healthz",
        "/brokers/mail/healthz/",
        "/brokers/mail/v2/catalog",
    ] {
        bare(other).expect(401);
    }
    let printed = broker.stop().1;
    assert!(printed.contains("route=/v2/catalog "), "{printed}");
}

#[test]
fn a_base_path_that_cannot_be_one_stops_the_start() {
    for bad in ["/a//b", "/a/../b", "/a?b", "https://broker.example.com/a"] {
        let output = Setup::new().env("BROKER_BASE_PATH", bad).run();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{told}");
        assert!(
            told.contains("BROKER_BASE_PATH") && told.contains(bad),
            "{told}"
        );
    }
}
