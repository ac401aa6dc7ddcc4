//! `brokerlet import-env`: the same environment, the same ids and answers as worlds-simplest-service-broker.
//!
//! What that broker answers is from its source: `pkg/broker/broker.go` of v1.3.3 with brokerapi 6.4.1, `main.go` of v1.0.

mod support;

use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use support::{Broker, Folder, Setup, binding, brokerlet, instance};

/// The environment of its README.
const README: [(&str, &str); 7] = [
    ("BASE_GUID", "F55C69BB-032A-4DAD-AAF0-8BB518D1D8F5"),
    ("CREDENTIALS", r#"{"port": "4000", "host": "1.2.3.4"}"#),
    ("SERVICE_NAME", "myservice"),
    ("SERVICE_PLAN_NAME", "small"),
    ("AUTH_USER", "broker"),
    ("AUTH_PASSWORD", "geheim"),
    ("PORT", "3000"),
];

const SERVICE: &str = "F55C69BB-032A-4DAD-AAF0-8BB518D1D8F5-service-myservice";
const PLAN: &str = "F55C69BB-032A-4DAD-AAF0-8BB518D1D8F5-plan-small";

fn import(environment: &[(&str, &str)]) -> Output {
    let mut command = brokerlet();
    command.arg("import-env").envs(environment.iter().copied());
    command.output().unwrap()
}

/// What was printed and what was told, without an error.
fn imported(environment: &[(&str, &str)]) -> (Value, String) {
    let output = import(environment);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    (serde_json::from_slice(&output.stdout).unwrap(), told)
}

/// The complaints.
fn refused(environment: &[(&str, &str)]) -> String {
    let output = import(environment);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(output.stdout.is_empty());
    assert!(
        told.lines().all(|line| line.starts_with("brokerlet: ")),
        "{told}"
    );
    told
}

fn with<'e>(more: &[(&'e str, &'e str)]) -> Vec<(&'e str, &'e str)> {
    let mut environment: Vec<_> = README.to_vec();
    environment.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
    environment.extend(more);
    environment
}

/// Everything that `part` says, `whole` says too.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part
            .iter()
            .all(|(name, value)| whole.get(name).is_some_and(|found| contains(found, value))),
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(a, b)| contains(a, b))
        }
        _ => whole == part,
    }
}

fn body() -> Value {
    json!({
        "service_id": SERVICE, "plan_id": PLAN, "organization_guid": "org-1", "space_guid": "space-1",
        "parameters": { "a": 1 }
    })
}

#[test]
fn a_broker_with_the_file_answers_as_the_original() {
    let environment = with(&[
        ("FAKE_STATEFUL", "true"),
        ("IMAGE_URL", "https://example.com/logo.png"),
    ]);
    let (catalog, told) = imported(&environment);
    assert!(
        !told.contains("geheim") && !told.contains("1.2.3.4"),
        "{told}"
    );
    // The environment of the original is enough for the broker, too.
    let setup = Setup::new()
        .env("AUTH_USER", "broker")
        .env("AUTH_PASSWORD", "geheim");
    let mut setup = setup.env("BROKER_STORE", "memory").catalog(&catalog);
    setup
        .command
        .env_remove("BROKER_USERNAME")
        .env_remove("BROKER_PASSWORD");
    let broker = setup.start();
    let send = |method: &str, target: &str, body: Option<&Value>| {
        let request = broker.request(method, target).login("broker", "geheim");
        match body {
            Some(body) => request.json(body).send(),
            None => request.send(),
        }
    };

    let served = send("GET", "/v2/catalog", None).expect(200).json();
    let original = json!({ "services": [{
        "id": SERVICE,
        "name": "myservice",
        "description": "Shared service for myservice",
        "bindable": true,
        "instances_retrievable": true,
        "bindings_retrievable": true,
        "plan_updateable": false,
        "plans": [{
            "id": PLAN,
            "name": "small",
            "description": "Shared service for myservice",
            "free": true,
        }],
        "metadata": { "displayName": "myservice", "imageUrl": "https://example.com/logo.png" },
    }]});
    assert!(contains(&served, &original), "{served:#}");
    let fields = |value: &Value| value.as_object().unwrap().len();
    let service = &served["services"][0];
    assert_eq!(fields(service), fields(&original["services"][0]));
    assert_eq!(service["metadata"], original["services"][0]["metadata"]);
    // brokerlet says of each plan what the original says of the service offering.
    assert_eq!(service["plans"][0]["bindable"], true);
    assert_eq!(service["plans"][0]["plan_updateable"], false);
    assert_eq!(fields(&service["plans"][0]), 6);

    let (i, b) = (instance("i-1"), binding("i-1", "b-1"));
    let credentials = json!({ "credentials": { "port": "4000", "host": "1.2.3.4" } });
    assert_eq!(send("PUT", &i, Some(&body())).expect(201).json(), json!({}));
    let fetched = json!({ "service_id": SERVICE, "plan_id": PLAN, "parameters": { "a": 1 } });
    assert_eq!(send("GET", &i, None).expect(200).json(), fetched);
    assert_eq!(
        send("PUT", &b, Some(&body())).expect(201).json(),
        credentials
    );
    let fetched = json!({ "credentials": credentials["credentials"], "parameters": { "a": 1 } });
    assert_eq!(send("GET", &b, None).expect(200).json(), fetched);
    let query = format!("?service_id={SERVICE}&plan_id={PLAN}");
    for target in [b, i] {
        let answer = send("DELETE", &(target + &query), None).expect(200);
        assert_eq!(answer.json(), json!({}));
    }
}

/// The way of an operator: the file, the list of what is there, the broker.
#[test]
fn instances_of_the_original_go_on() {
    let folder = std::sync::Arc::new(Folder::new());
    let run = |arguments: &[&str]| {
        let mut command = brokerlet();
        command.args(arguments).envs(README);
        let output = command.current_dir(folder.path()).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{told}");
    };
    run(&["import-env", "--output", "catalog.json"]);
    let list = [
        json!({ "instance_id": "i-1", "service": "myservice", "plan": "small", "organization_guid": "org-1",
            "space_guid": "space-1", "parameters": { "a": 1 } }),
        json!({ "instance_id": "i-1", "binding_id": "b-1", "app_guid": "app-1" }),
    ];
    folder.file("list.jsonl", list.map(|line| line.to_string()).join("\n"));
    run(&["state", "adopt", "list.jsonl", "--catalog", "catalog.json"]);

    let path = folder.path().join("catalog.json");
    let broker = Setup::in_folder(folder).env("BROKER_CATALOG", path).start();
    let same = json!({ "service_id": SERVICE, "plan_id": PLAN, "app_guid": "app-1" });
    broker.put(&instance("i-1"), &body()).expect(200);
    let again = broker.put(&binding("i-1", "b-1"), &same).expect(200);
    let new = broker.put(&binding("i-1", "b-2"), &same).expect(201);
    assert_eq!(again.json(), new.json());
    assert_eq!(new.json()["credentials"]["host"], "1.2.3.4");
    let query = format!("?service_id={SERVICE}&plan_id={PLAN}");
    for target in [binding("i-1", "b-1"), instance("i-1")] {
        broker.delete(&(target + &query)).expect(200);
    }
}

/// Version 1.0, and what the README of every version promises.
#[test]
fn tags_and_log_drain_are_served_and_said_to_be() {
    let environment = with(&[
        ("TAGS", "simple, shared,"),
        ("SYSLOG_DRAIN_URL", "syslog://1.2.3.4:514"),
    ]);
    let (catalog, told) = imported(&environment);
    for name in ["TAGS", "SYSLOG_DRAIN_URL"] {
        assert!(
            told.contains(&format!("brokerlet: note: {name}: ")),
            "{told}"
        );
    }
    let broker = Broker::with(&catalog);
    let served = broker.get("/v2/catalog").expect(200).json();
    assert_eq!(served["services"][0]["tags"], json!(["simple", "shared"]));
    assert_eq!(served["services"][0]["requires"], json!(["syslog_drain"]));
    broker.put(&instance("i-1"), &body()).expect(201);
    let bound = broker
        .put(&binding("i-1", "b-1"), &body())
        .expect(201)
        .json();
    let wanted = json!({
        "credentials": { "port": "4000", "host": "1.2.3.4" }, "syslog_drain_url": "syslog://1.2.3.4:514"
    });
    assert_eq!(bound, wanted);

    let (catalog, told) = imported(&README);
    assert_eq!(catalog["services"][0].get("tags"), None);
    assert_eq!(catalog["services"][0].get("requires"), None);
    assert!(
        !told.contains("TAGS") && !told.contains("SYSLOG_DRAIN_URL"),
        "{told}"
    );
}

#[test]
fn what_is_not_set_or_empty_is_as_the_original_has_it() {
    let (catalog, told) = imported(&[("SERVICE_NAME", "mail"), ("BASE_GUID", ""), ("TAGS", "")]);
    let service = &catalog["services"][0];
    assert_eq!(service["id"], "29140B3F-0E69-4C7E-8A35-service-mail");
    assert_eq!(
        service["plans"][0]["id"],
        "29140B3F-0E69-4C7E-8A35-plan-shared"
    );
    let credentials = &service["plans"][0]["adapter"]["binding"]["credentials"];
    assert_eq!(credentials, &json!({ "port": "4000" }));
    assert_eq!(service["metadata"], json!({ "displayName": "mail" }));
    assert_eq!(service["instances_retrievable"], false);
    for name in ["BASE_GUID", "SERVICE_PLAN_NAME", "CREDENTIALS"] {
        assert!(
            told.contains(&format!("note: {name}: not set; took ")),
            "{told}"
        );
    }
    assert!(
        told.contains("BROKER_USERNAME and BROKER_PASSWORD"),
        "{told}"
    );
    assert!(told.contains("note: PORT: not set; "), "{told}");
    let (catalog, _) = imported(&[("CREDENTIALS", "{}")]);
    assert_eq!(catalog["services"][0]["name"], "some-service-name");
}

#[test]
fn the_plan_of_version_1_0_is_asked_about() {
    let told = imported(&with(&[("SERVICE_PLAN", "gold")])).1;
    assert!(
        told.contains("warning: SERVICE_PLAN: found \"gold\""),
        "{told}"
    );
    let told = imported(&with(&[("SERVICE_PLAN", "small")])).1;
    assert!(!told.contains("SERVICE_PLAN:"), "{told}");
    let told = imported(&with(&[("FAKE_ASYNC", "true")])).1;
    assert!(told.contains("note: FAKE_ASYNC: "), "{told}");
}

/// Nothing in a value is an expression, and every digit stays.
#[test]
fn credentials_are_given_as_they_are() {
    let credentials = r#"{
        "a": "${env:HOME}", "b": ["$${x}", "${"], "${c}": {"d": "$$${parameters.e}"}, "number": 12345678901234567890.50
    }"#;
    let environment = with(&[
        ("CREDENTIALS", credentials),
        ("IMAGE_URL", "https://example.com/${env:HOME}/${x}"),
        ("SYSLOG_DRAIN_URL", "syslog://${file:x}"),
    ]);
    let broker = Broker::with(&imported(&environment).0);
    let served = broker.get("/v2/catalog").expect(200).json();
    let image = &served["services"][0]["metadata"]["imageUrl"];
    assert_eq!(image, "https://example.com/${env:HOME}/${x}");
    broker.put(&instance("i-1"), &body()).expect(201);
    let bound = broker
        .put(&binding("i-1", "b-1"), &body())
        .expect(201)
        .json();
    let wanted: Value = serde_json::from_str(credentials).unwrap();
    assert_eq!(bound["credentials"], wanted);
    assert_eq!(bound["syslog_drain_url"], "syslog://${file:x}");
}

#[test]
fn a_file_is_new_its_owners_alone_and_passes_the_check() {
    let folder = Folder::new();
    let run = |arguments: &[&str]| {
        let mut command = brokerlet();
        command
            .args(arguments)
            .envs(README)
            .current_dir(folder.path());
        let output = command.output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            told,
        )
    };
    let (code, printed, told) = run(&["import-env", "--output", "new.json"]);
    assert_eq!((code, printed.as_str()), (Some(0), ""), "{told}");
    assert!(told.contains("warning: CREDENTIALS: "), "{told}");
    assert!(told.contains("new.json"), "{told}");
    let path = folder.path().join("new.json");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.as_bytes(), import(&README).stdout);
    let (code, printed, _) = run(&["check", "new.json"]);
    assert_eq!(code, Some(0));
    assert!(
        printed.contains("new.json: 0 errors, 0 warnings; "),
        "{printed}"
    );

    folder.file("old.json", "mine");
    for (arguments, wanted) in [
        (
            &["import-env", "--output=old.json"][..],
            "--output: old.json is there already",
        ),
        (
            &["import-env", "--output", "none/x.json"],
            "--output: none/x.json: cannot be written: ",
        ),
    ] {
        let (code, printed, told) = run(arguments);
        assert_eq!((code, printed.as_str()), (Some(1), ""), "{told}");
        assert!(told.starts_with(&format!("brokerlet: {wanted}")), "{told}");
    }
    assert_eq!(
        std::fs::read_to_string(folder.path().join("old.json")).unwrap(),
        "mine"
    );
}

#[test]
fn what_is_wrong_is_told_with_its_variable_and_never_with_a_secret() {
    for (environment, wanted) in [
        (
            with(&[("CREDENTIALS", r#"["geheim"]"#)]),
            "CREDENTIALS: found an array, wanted a JSON object",
        ),
        (
            with(&[("CREDENTIALS", "null")]),
            "CREDENTIALS: found null, wanted a JSON object",
        ),
        (
            with(&[("CREDENTIALS", "geheim")]),
            "CREDENTIALS: not valid JSON (line 1, column 1), wanted a JSON object",
        ),
        (
            with(&[("SERVICE_NAME", " ")]),
            "SERVICE_NAME: error: services[0].name: found only blanks",
        ),
        (
            with(&[("BASE_GUID", &"g".repeat(256))]),
            "BASE_GUID, SERVICE_PLAN_NAME: error: services[0].plans[0].id: ",
        ),
        (
            with(&[("TAGS", &"t".repeat(2049))]),
            "TAGS: error: services[0].tags: ",
        ),
        (
            vec![("PORT", "80")],
            "found none of BASE_GUID, SERVICE_NAME, SERVICE_PLAN_NAME, CREDENTIALS; wanted ",
        ),
    ] {
        let told = refused(&environment);
        assert!(told.contains(&format!("brokerlet: {wanted}")), "{told}");
        assert!(!told.contains("geheim"), "{told}");
    }
}

#[test]
fn wrong_arguments_are_another_code() {
    for (arguments, wanted) in [
        (&["--file"][..], "unknown option --file"),
        (
            &["catalog.json"],
            "found \"catalog.json\", wanted no argument",
        ),
        (
            &["--output"],
            "--output: found nothing, wanted the name of a file",
        ),
        (
            &["--output="],
            "--output: found nothing, wanted the name of a file",
        ),
        (
            &["--output=a", "--output", "b"],
            "--output: found twice, wanted once",
        ),
    ] {
        let output = brokerlet()
            .arg("import-env")
            .args(arguments)
            .output()
            .unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{told}");
        assert!(
            told.starts_with(&format!("brokerlet: import-env: {wanted}\n\nUsage:")),
            "{told}"
        );
    }
}
