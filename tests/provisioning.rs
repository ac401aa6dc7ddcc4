//! spec: Provisioning.

mod support;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use support::*;

const MIB: usize = 1024 * 1024;

/// Two services; every instance can be fetched, so that the tests see what became of it.
fn catalog() -> Value {
    json!({ "services": [
        {
            "id": "db", "name": "db", "description": "A database", "bindable": true, "instances_retrievable": true,
            "plans": [
                { "id": "small", "name": "small", "description": "Small" },
                { "id": "large", "name": "large", "description": "Large" },
                {
                    "id": "kept", "name": "kept", "description": "With maintenance information",
                    "maintenance_info": { "version": "2.0.0", "description": "New OS" },
                },
                {
                    "id": "shown", "name": "shown", "description": "With a dashboard",
                    "adapter": { "kind": "shared", "instance": {
                        "dashboard_url": "https://acme.example/${instance_id}",
                        "metadata": { "labels": { "acme": "db" } },
                    }},
                },
            ],
        },
        {
            "id": "cache", "name": "cache", "description": "A cache", "bindable": true, "instances_retrievable": true,
            "plans": [{ "id": "tiny", "name": "tiny", "description": "Tiny" }],
        },
    ]})
}

/// A request for plan `small` of service `db`, with parameters.
fn small() -> Value {
    let parameters =
        json!({ "size": 5, "tags": ["a", "b"], "nested": { "on": true, "name": "ü" } });
    merged(
        &provision("db", "small"),
        json!({ "parameters": parameters }),
    )
}

/// Asserts that a request is refused, naming this, and that no instance came of it.
#[track_caller]
fn refused(broker: &Broker, body: impl Into<Vec<u8>>, status: u16, name: &str) {
    let request = broker.request("PUT", &instance("refused")).body(body);
    request.send().expect_naming(status, name);
    broker.get(&instance("refused")).expect(404);
    broker
        .get(&(instance("refused") + "/last_operation"))
        .expect(404);
}

/// Asserts that a request about the instance `i` is refused, naming this, and that the instance is as it was.
#[track_caller]
fn conflicts(broker: &Broker, body: &Value, name: &str) {
    let before = broker.get(&instance("i")).expect(200).body;
    broker.put(&instance("i"), body).expect_naming(409, name);
    assert_eq!(broker.get(&instance("i")).expect(200).body, before);
    broker.put(&instance("i"), &small()).expect(200);
}

// 201

#[test]
fn a_new_instance_is_201_with_a_json_object() {
    let broker = Broker::with(&catalog());
    let answer = broker.put(&instance("i"), &small()).expect(201);
    assert_eq!(answer.json(), json!({}));
    broker.get(&instance("i")).expect(200);
}

#[test]
fn the_dashboard_and_metadata_come_with_the_first_answer_and_with_repeats() {
    let broker = Broker::with(&catalog());
    let body = provision("db", "shown");
    let wanted = json!({
        "dashboard_url": "https://acme.example/i",
        "metadata": { "labels": { "acme": "db" } },
    });
    assert_eq!(broker.put(&instance("i"), &body).expect(201).json(), wanted);
    assert_eq!(broker.put(&instance("i"), &body).expect(200).json(), wanted);
}

#[test]
fn only_the_required_fields_are_required() {
    let broker = Broker::with(&catalog());
    let body = json!({ "service_id": "db", "plan_id": "small", "organization_guid": "o", "space_guid": "s" });
    broker.put(&instance("i"), &body).expect(201);
}

#[test]
fn korifis_body_is_accepted() {
    let broker = Broker::with(&catalog());
    let target = instance("i") + "?accepts_incomplete=true";
    let body = json!({
        "service_id": "db", "plan_id": "small", "organization_guid": "o", "space_guid": "s", "parameters": null,
    });
    broker.put(&target, &body).expect(201);
    broker.put(&target, &body).expect(200);
}

#[test]
fn cloud_controllers_body_is_accepted() {
    let broker = Broker::with(&catalog());
    let target = instance("i") + "?accepts_incomplete=true";
    let body = json!({
        "service_id": "db", "plan_id": "kept", "organization_guid": "org-1", "space_guid": "space-1",
        "context": {
            "platform": "cloudfoundry",
            "organization_guid": "org-1", "organization_name": "acme", "organization_annotations": {},
            "space_guid": "space-1", "space_name": "dev", "space_annotations": { "acme.example/team": "blue" },
            "instance_name": "mine", "instance_annotations": {},
        },
        "parameters": { "size": 5 },
        "maintenance_info": { "version": "2.0.0", "description": "New OS" },
    });
    broker.put(&target, &body).expect(201);
    broker.put(&target, &body).expect(200);
}

#[test]
fn whoever_supports_asynchronous_operations_is_answered_synchronously_too() {
    let broker = Broker::with(&catalog());
    for (n, query) in [
        "",
        "?accepts_incomplete=true",
        "?accepts_incomplete=false",
        "?accepts_incomplete=",
    ]
    .into_iter()
    .enumerate()
    {
        let target = instance(&n.to_string());
        broker.put(&(target.clone() + query), &small()).expect(201);
        broker.put(&target, &small()).expect(200);
    }
    let target = instance("refused") + "?accepts_incomplete=yes";
    broker
        .put(&target, &small())
        .expect_naming(400, "accepts_incomplete");
    broker.get(&instance("refused")).expect(404);
}

#[test]
fn a_deleted_instance_can_be_made_anew_with_other_attributes() {
    let broker = Broker::with(&catalog());
    broker.put(&instance("i"), &small()).expect(201);
    broker
        .delete(&(instance("i") + "?service_id=db&plan_id=small"))
        .expect(200);
    broker
        .put(&instance("i"), &provision("cache", "tiny"))
        .expect(201);
    let fetched = broker.get(&instance("i")).expect(200).json();
    assert_eq!(fetched, json!({ "service_id": "cache", "plan_id": "tiny" }));
}

// 200

#[test]
fn identical_provision_again_is_200() {
    let broker = Broker::with(&catalog());
    let created = broker.put(&instance("i"), &small()).expect(201);
    for _ in 0..3 {
        assert_eq!(
            broker.put(&instance("i"), &small()).expect(200).body,
            created.body
        );
    }
}

#[test]
fn order_white_space_and_the_form_of_numbers_make_no_difference() {
    let broker = Broker::with(&catalog());
    broker.put(&instance("i"), &small()).expect(201);
    let same = r#"
        {
            "space_guid" : "space-1", "organization_guid" : "org-1",
            "parameters" : { "nested" : { "name" : "\u00fc", "on" : true }, "tags" : [ "a", "\u0062" ], "size" : 5.0e0 },
            "plan_id" : "sm\u0061ll", "service_id" : "db",
            "context" : { "space_guid" : "space-1", "platform" : "cloudfoundry", "organization_guid" : "org-1" }
        }
    "#;
    broker
        .request("PUT", &instance("i"))
        .body(same)
        .send()
        .expect(200);
}

#[test]
fn absent_null_and_empty_parameters_are_the_same() {
    let broker = Broker::with(&catalog());
    let bare = provision("db", "small");
    let forms = [
        bare.clone(),
        merged(&bare, json!({ "parameters": null })),
        merged(&bare, json!({ "parameters": {} })),
    ];
    for (n, first) in forms.iter().enumerate() {
        let target = instance(&n.to_string());
        broker.put(&target, first).expect(201);
        for again in &forms {
            broker.put(&target, again).expect(200);
        }
    }
}

#[test]
fn the_context_makes_no_difference() {
    let broker = Broker::with(&catalog());
    broker.put(&instance("i"), &small()).expect(201);
    let mut renamed = small();
    for name in ["organization_name", "space_name", "instance_name"] {
        renamed["context"][name] = json!("renamed");
    }
    for name in [
        "organization_annotations",
        "space_annotations",
        "instance_annotations",
    ] {
        renamed["context"][name] = json!({ "acme.example/new": "x" });
    }
    broker.put(&instance("i"), &renamed).expect(200);
    broker
        .put(&instance("i"), &without(&small(), "context"))
        .expect(200);
    renamed["context"] = json!({ "platform": "kubernetes", "clusterid": "c", "namespace": "n" });
    broker.put(&instance("i"), &renamed).expect(200);
}

#[test]
fn maintenance_info_may_be_left_out_or_given_in_a_repeat() {
    let broker = Broker::with(&catalog());
    let bare = provision("db", "kept");
    let given = merged(&bare, json!({ "maintenance_info": { "version": "2.0.0" } }));
    for (n, first) in [&bare, &given].into_iter().enumerate() {
        let target = instance(&n.to_string());
        broker.put(&target, first).expect(201);
        broker.put(&target, &bare).expect(200);
        broker.put(&target, &given).expect(200);
    }
}

// 409

#[test]
fn another_value_of_any_attribute_is_409_and_named() {
    let broker = Broker::with(&catalog());
    broker.put(&instance("i"), &small()).expect(201);
    for (change, name) in [
        (
            json!({ "service_id": "cache", "plan_id": "tiny" }),
            "service_id",
        ),
        (json!({ "plan_id": "large" }), "plan_id"),
        (json!({ "organization_guid": "org-2" }), "organization_guid"),
        (json!({ "space_guid": "space-2" }), "space_guid"),
        (json!({ "parameters": null }), "parameters"),
        (json!({ "parameters": {} }), "parameters"),
    ] {
        conflicts(&broker, &merged(&small(), change), name);
    }
    conflicts(&broker, &without(&small(), "parameters"), "parameters");
}

#[test]
fn any_difference_in_the_parameters_is_409() {
    let broker = Broker::with(&catalog());
    broker.put(&instance("i"), &small()).expect(201);
    for (pointer, other) in [
        ("/parameters/size", json!(6)),
        ("/parameters/size", json!(5.5)),
        ("/parameters/size", json!("5")),
        ("/parameters/size", Value::Null),
        ("/parameters/tags", json!(["b", "a"])),
        ("/parameters/tags", json!(["a"])),
        ("/parameters/nested/on", json!(false)),
        ("/parameters/nested", json!({})),
    ] {
        let mut body = small();
        *body.pointer_mut(pointer).unwrap() = other;
        conflicts(&broker, &body, "parameters");
    }
    let mut more = small();
    more["parameters"]["more"] = Value::Null;
    conflicts(&broker, &more, "parameters");
}

#[test]
fn the_same_id_under_two_spellings_is_the_same_instance() {
    let broker = Broker::with(&catalog());
    broker.put(&instance("a%2Fb"), &small()).expect(201);
    broker.put(&instance("%61%2f%62"), &small()).expect(200);
    broker
        .put(&instance("a%2Fb"), &provision("db", "large"))
        .expect(409);
}

// 400

#[test]
fn a_missing_or_empty_required_field_is_400_and_named() {
    let broker = Broker::with(&catalog());
    for field in ["service_id", "plan_id", "organization_guid", "space_guid"] {
        refused(&broker, without(&small(), field).to_string(), 400, field);
        for nothing in [json!(""), Value::Null] {
            let body = merged(&small(), json!({ field: nothing }));
            refused(&broker, body.to_string(), 400, field);
        }
    }
}

#[test]
fn a_field_of_the_wrong_type_is_400_and_named_with_what_was_found() {
    let broker = Broker::with(&catalog());
    let kinds = [
        (json!("x"), "a string"),
        (json!(5), "a number"),
        (json!(true), "a boolean"),
        (json!([]), "an array"),
        (json!({}), "an object"),
    ];
    for (field, wanted) in [
        ("service_id", "a string"),
        ("plan_id", "a string"),
        ("organization_guid", "a string"),
        ("space_guid", "a string"),
        ("parameters", "an object"),
        ("context", "an object"),
        ("maintenance_info", "an object"),
    ] {
        for (value, found) in kinds.iter().filter(|(_, found)| *found != wanted) {
            let body = merged(&small(), json!({ field: value }));
            let text = format!("{field}: found {found}, wanted {wanted}");
            refused(&broker, body.to_string(), 400, &text);
        }
    }
    let body = merged(&small(), json!({ "maintenance_info": { "version": 2 } }));
    refused(
        &broker,
        body.to_string(),
        400,
        "maintenance_info.version: found a number",
    );
}

#[test]
fn a_body_that_is_no_json_object_is_400() {
    let broker = Broker::with(&catalog());
    for (body, told) in [
        ("", "empty"),
        (" \r\n", "empty"),
        ("null", "null"),
        ("[]", "an array"),
        (r#"["db","small","o","s"]"#, "an array"),
        (r#""text""#, "a string"),
        ("5", "a number"),
        ("true", "a boolean"),
        ("{", "not valid JSON"),
        ("{}{}", "not valid JSON"),
        ("service_id=db", "not valid JSON"),
        (r#"{"service_id":"db",}"#, "not valid JSON"),
        (r#"{"service_id":NaN}"#, "not valid JSON"),
        (
            r#"{"service_id":"db","service_id":"db"}"#,
            "duplicate field `service_id`",
        ),
        ("{}", "service_id"),
    ] {
        refused(&broker, body, 400, told);
    }
}

#[test]
fn text_that_is_not_unicode_is_400() {
    let broker = Broker::with(&catalog());
    let broken = |text: &str| small().to_string().replace("\"db\"", text);
    let utf8 = [&br#"{"service_id":"\u00ff"#[..], b"\xff\"}"].concat();
    refused(&broker, utf8, 400, "UTF-8");
    refused(
        &broker,
        broken(r#""d\ud800b""#),
        400,
        "service_id: found half of a surrogate pair",
    );
    let parameters = small()
        .to_string()
        .replace("\"tags\":[", r#""tags":["\udc00","#);
    refused(&broker, parameters, 400, "parameters");
}

#[test]
fn json_may_be_nested_64_levels_deep_but_no_deeper() {
    let broker = Broker::with(&catalog());
    let nested = |levels: usize| {
        // The body and `parameters` are two of the levels.
        let value = format!("{}{}", "[".repeat(levels - 2), "]".repeat(levels - 2));
        let body = provision("db", "small").to_string();
        format!(r#"{{"parameters":{{"deep":{value}}},{}"#, &body[1..])
    };
    refused(&broker, nested(65), 400, "deeper than 64");
    refused(&broker, nested(100_000), 400, "deeper than 64");
    let request = broker.request("PUT", &instance("i")).body(nested(64));
    request.send().expect(201);
}

#[test]
fn an_unknown_service_or_plan_is_400_and_named() {
    let broker = Broker::with(&catalog());
    for (service, plan, told) in [
        ("nothing", "small", "service_id: found \"nothing\""),
        ("DB", "small", "service_id: found \"DB\""),
        ("db", "nothing", "plan_id: found \"nothing\""),
        // A plan, but of another service offering.
        ("db", "tiny", "plan_id: found \"tiny\""),
        ("cache", "small", "plan_id: found \"small\""),
        ("small", "db", "service_id: found \"small\""),
    ] {
        refused(&broker, provision(service, plan).to_string(), 400, told);
    }
}

// 413

#[test]
fn a_body_over_one_mebibyte_is_413() {
    let broker = Broker::with(&catalog());
    let padded = |length: usize| {
        let mut body = small().to_string().into_bytes();
        body.resize(length, b' ');
        body
    };
    refused(&broker, padded(MIB + 1), 413, "1048576");
    let request = broker.request("PUT", &instance("i")).body(padded(MIB));
    request.send().expect(201);
}

// 422

#[test]
fn another_maintenance_version_than_the_catalogs_is_422() {
    let broker = Broker::with(&catalog());
    for version in ["1.0.0", "2.0.1", "2.0.0+build", "x"] {
        let body = merged(
            &provision("db", "kept"),
            json!({ "maintenance_info": { "version": version } }),
        );
        let answer = broker
            .put(&instance("i"), &body)
            .expect_error(422, "MaintenanceInfoConflict");
        assert!(answer.description().contains(version), "{version}");
        broker.get(&instance("i")).expect(404);
    }
}

#[test]
fn a_maintenance_version_for_a_plan_without_one_is_422() {
    let broker = Broker::with(&catalog());
    let body = merged(
        &small(),
        json!({ "maintenance_info": { "version": "1.0.0" } }),
    );
    broker
        .put(&instance("i"), &body)
        .expect_error(422, "MaintenanceInfoConflict");
    broker.get(&instance("i")).expect(404);
}

#[test]
fn of_maintenance_info_only_the_version_counts() {
    let broker = Broker::with(&catalog());
    for (n, info) in [
        json!({ "version": "2.0.0", "description": "Other words" }),
        json!({ "version": "2.0.0", "description": 5, "x-acme": [] }),
        json!({ "description": "No version" }),
        json!({}),
        Value::Null,
    ]
    .into_iter()
    .enumerate()
    {
        let body = merged(
            &provision("db", "kept"),
            json!({ "maintenance_info": info }),
        );
        broker.put(&instance(&n.to_string()), &body).expect(201);
    }
}

// Ids

#[test]
fn ids_are_opaque_and_percent_decoded() {
    let broker = Broker::with(&catalog());
    let longest = "x".repeat(1024);
    let ids = [
        "a", "a%2Fb", "a%20b", "%C3%BC", "50%25", "a+b", "%2e%2e", "a;b", "~._-", "A", &longest,
    ];
    for id in ids {
        broker.put(&instance(id), &small()).expect(201);
    }
    for id in ids {
        broker.get(&instance(id)).expect(200);
        let poll = instance(id) + "/last_operation";
        broker.get(&poll).expect(200);
        broker
            .delete(&(instance(id) + "?service_id=db&plan_id=small"))
            .expect(200);
        broker.get(&poll).expect(404);
    }
}

#[test]
fn what_cannot_be_an_id_is_400() {
    let broker = Broker::with(&catalog());
    let too_long = "x".repeat(1025);
    for (id, told) in [
        ("", "instance_id"),
        ("a%0Ab", "instance_id"),
        ("%00", "instance_id"),
        ("%7f", "instance_id"),
        ("%C2%85", "instance_id"),
        (&too_long, "1025 bytes"),
        ("%ff", "UTF-8"),
    ] {
        broker.put(&instance(id), &small()).expect_naming(400, told);
    }
}

// Concurrency

/// Sends one request from each of 50 threads at once.
fn at_once(broker: &Broker, body: impl Fn(usize) -> Value + Sync) -> Vec<(Value, u16)> {
    let start = std::sync::Barrier::new(50);
    let (start, body) = (&start, &body);
    std::thread::scope(|scope| {
        let sent: Vec<_> = (0..50)
            .map(|n| {
                scope.spawn(move || {
                    let request = broker.request("PUT", &instance("i")).json(&body(n));
                    start.wait();
                    (body(n), request.send().status)
                })
            })
            .collect();
        sent.into_iter().map(|sent| sent.join().unwrap()).collect()
    })
}

fn counted(answers: &[(Value, u16)]) -> BTreeMap<u16, usize> {
    let mut counts = BTreeMap::new();
    for (_, status) in answers {
        *counts.entry(*status).or_default() += 1;
    }
    counts
}

#[test]
fn of_50_identical_provisions_at_once_one_is_201_and_49_are_200() {
    let broker = Broker::with(&catalog());
    let answers = at_once(&broker, |_| small());
    assert_eq!(counted(&answers), BTreeMap::from([(201, 1), (200, 49)]));
}

#[test]
fn of_different_provisions_at_once_one_wins_and_the_others_are_409() {
    let broker = Broker::with(&catalog());
    let answers = at_once(&broker, |n| {
        merged(&small(), json!({ "parameters": { "n": n } }))
    });
    assert_eq!(counted(&answers), BTreeMap::from([(201, 1), (409, 49)]));
    let (winner, _) = answers.iter().find(|(_, status)| *status == 201).unwrap();
    let fetched = broker.get(&instance("i")).expect(200).json();
    assert_eq!(fetched["parameters"], winner["parameters"]);
}
