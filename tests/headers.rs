//! spec: Headers; Vendor Extension Fields; Service Broker Errors; Content Type.

mod support;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use support::*;

const VERSION: &str = "X-Broker-API-Version";
const ORIGINATING: &str = "X-Broker-API-Originating-Identity";
const IDENTITY: &str = "X-Broker-API-Request-Identity";

fn identity(platform: &str, value: &str) -> String {
    format!("{platform} {}", BASE64_STANDARD.encode(value))
}

fn tutorial() -> Value {
    provision("example_service", "plan_one")
}

/// A broker with an instance and a binding, and a request for every status that it answers with. The requests have to be
/// sent in this order.
fn every_kind() -> (Broker, Vec<(u16, Request)>) {
    let broker = Broker::with(&json!({ "services": [{
        "id": "example_service", "name": "example_service", "description": "Fetched too", "bindable": true,
        "instances_retrievable": true, "bindings_retrievable": true,
        "plans": [
            { "id": "plan_one", "name": "plan_one", "description": "Simple" },
            { "id": "plan_two", "name": "plan_two", "description": "Another" },
        ],
    }]}));
    let i = instance("i");
    let b = binding("i", "b");
    let ids = |path: &str| format!("{path}{IDS}");
    let last = |path: &str| format!("{path}/last_operation");
    let poll_unknown = format!("{}?operation=x", last(&i));
    let other_space = merged(&tutorial(), json!({ "space_guid": "other" }));
    let plan_change = json!({ "service_id": "example_service", "plan_id": "plan_two" });
    let rename = json!({ "service_id": "example_service", "parameters": {} });
    let bound = bind("example_service", "plan_one");
    let request = |method: &str, target: &str| broker.request(method, target);
    let requests = vec![
        (200, request("GET", "/healthz")),
        (405, request("PUT", "/healthz")),
        (200, request("GET", "/v2/catalog")),
        (200, request("HEAD", "/v2/catalog")),
        (
            304,
            request("GET", "/v2/catalog").header("If-None-Match", "*"),
        ),
        (201, request("PUT", &i).json(&tutorial())),
        (200, request("PUT", &i).json(&tutorial())),
        (200, request("GET", &i)),
        (200, request("GET", &last(&i))),
        (200, request("PATCH", &i).json(&rename)),
        (201, request("PUT", &b).json(&bound)),
        (200, request("PUT", &b).json(&bound)),
        (200, request("GET", &b)),
        (200, request("GET", &last(&b))),
        (400, request("GET", "/v2/catalog").without(VERSION)),
        (400, request("GET", "/v2/catalog").header(ORIGINATING, "x")),
        (400, request("PUT", &i).body("{")),
        (400, request("GET", &poll_unknown)),
        (401, request("GET", "/v2/catalog").login("alex", "wrong")),
        (401, request("GET", "/nowhere").without("Authorization")),
        (404, request("GET", "/nowhere")),
        (404, request("GET", &instance("none"))),
        (404, request("PUT", &binding("none", "b")).json(&bound)),
        (405, request("POST", "/v2/catalog")),
        (409, request("PUT", &i).json(&other_space)),
        (412, request("GET", "/v2/catalog").header(VERSION, "2.9")),
        (413, request("PUT", &i).body(vec![b' '; 1024 * 1024 + 1])),
        (422, request("PATCH", &i).json(&plan_change)),
        (200, request("DELETE", &ids(&b))),
        (410, request("DELETE", &ids(&b))),
        (200, request("DELETE", &ids(&i))),
        (410, request("DELETE", &ids(&i))),
    ];
    (broker, requests)
}

// API Version Header

#[test]
fn a_request_without_a_version_is_400_and_told_which_header_it_lacks() {
    let broker = Broker::in_memory();
    for request in [
        broker.request("GET", "/v2/catalog").without(VERSION),
        broker.request("GET", "/v2/catalog").header(VERSION, ""),
    ] {
        request.send().expect_naming(400, VERSION);
    }
}

#[test]
fn a_malformed_version_is_400() {
    let broker = Broker::in_memory();
    for version in [
        "2", "2.", ".17", "2.x", "two", "2.17.1", "v2.17", "2,17", "-2.17",
    ] {
        let request = broker
            .request("GET", "/v2/catalog")
            .header(VERSION, version);
        let answer = request.send().expect_naming(400, VERSION);
        assert!(answer.description().contains(version), "{version}");
    }
}

#[test]
fn an_unsupported_version_is_412_and_told_which_are_accepted() {
    let broker = Broker::in_memory();
    for version in ["2.9", "2.0", "1.17", "3.0", "0.0"] {
        let request = broker
            .request("GET", "/v2/catalog")
            .header(VERSION, version);
        let answer = request.send().expect_naming(412, "2.10");
        assert!(answer.description().contains(version), "{version}");
    }
}

#[test]
fn versions_from_2_10_on_are_accepted() {
    let broker = Broker::in_memory();
    for version in [
        "2.10", "2.11", "2.12", "2.13", "2.14", "2.15", "2.16", "2.17", "2.18", "2.100",
    ] {
        let request = broker.request("GET", "/v2/catalog");
        request.header(VERSION, version).send().expect(200);
    }
}

#[test]
fn header_names_are_read_in_any_case() {
    let broker = Broker::in_memory();
    let request = broker.request("GET", "/v2/catalog").without(VERSION);
    request
        .header("x-broker-api-VERSION", "2.17")
        .send()
        .expect(200);
}

#[test]
fn every_endpoint_wants_the_version() {
    let (broker, requests) = every_kind();
    for (status, request) in requests {
        if request.target() != "/healthz" && status != 401 && request.method() != "HEAD" {
            let line = format!("{} {}", request.method(), request.target());
            let answer = request.without(VERSION).send();
            assert_eq!(answer.status, 400, "{line}");
            assert!(answer.description().contains(VERSION), "{line}");
        }
    }
    // Nothing came of it.
    broker.get(&instance("i")).expect(404);
}

// Originating Identity

#[test]
fn identities_of_every_platform_are_accepted() {
    let broker = Broker::in_memory();
    for (n, header) in [
        // The example of the specification.
        "cloudfoundry eyANCiAgInVzZXJfaWQiOiAiNjgzZWE3NDgtMzA5Mi00ZmY0LWI2NTYtMzljYWNjNGQ1MzYwIg0KfQ==".to_owned(),
        identity("cloudfoundry", r#"{"user_id":"683ea748","acme":{"more":[1]}}"#),
        identity("kubernetes", r#"{"username":"duke","uid":"c2dde242","groups":["admin"],"extra":{"x":["y"]}}"#),
        identity("some-other-platform", "{}"),
        // Without padding, as clients send `Authorization`, too.
        identity("cloudfoundry", r#"{"user_id":"u-1"}"#).trim_end_matches('=').to_owned(),
    ]
    .into_iter()
    .enumerate()
    {
        let target = instance(&format!("i-{n}"));
        let request = broker.request("PUT", &target).header(ORIGINATING, &header);
        request.json(&tutorial()).send().expect(201);
    }
}

#[test]
fn a_malformed_identity_is_400_and_the_request_is_not_carried_out() {
    let broker = Broker::in_memory();
    let target = instance("i");
    for header in [
        String::new(),
        "cloudfoundry".to_owned(),
        "cloudfoundry ".to_owned(),
        "cloudfoundry %%%".to_owned(),
        "eyJ1c2VyX2lkIjoiYSJ9".to_owned(),
        identity("cloudfoundry", "no json"),
        identity("cloudfoundry", "[1]"),
        identity("cloudfoundry", "null"),
        identity("cloudfoundry", "\"text\""),
        identity(
            "cloudfoundry",
            &format!("{{\"a\":{}{}}}", "[".repeat(99), "]".repeat(99)),
        ),
    ] {
        let request = broker.request("PUT", &target).header(ORIGINATING, header);
        request
            .json(&tutorial())
            .send()
            .expect_naming(400, ORIGINATING);
    }
    broker.get(&format!("{target}/last_operation")).expect(404);
}

#[test]
fn a_request_without_an_identity_is_fine() {
    let broker = Broker::in_memory();
    broker.put(&instance("i"), &tutorial()).expect(201);
    broker.delete(&(instance("i") + IDS)).expect(200);
}

#[test]
fn the_log_names_the_user_and_the_request() {
    let broker = Broker::in_memory();
    let request = broker.request("PUT", &instance("i")).user("user-683ea748");
    request
        .header(IDENTITY, "e26cee84-6b38")
        .json(&tutorial())
        .send()
        .expect(201);
    let (_, printed) = broker.stop();
    let line = printed
        .lines()
        .find(|line| line.contains("status=201"))
        .unwrap();
    assert!(line.contains("user=user-683ea748"), "{line}");
    assert!(line.contains("request_id=e26cee84-6b38"), "{line}");
}

// Request Identity

#[test]
fn the_request_identity_is_echoed_with_every_kind_of_answer() {
    let (_broker, requests) = every_kind();
    for (status, request) in requests {
        let identity = format!(
            "{} {}",
            request.method(),
            request.target().replace('?', " ")
        );
        let answer = request.header(IDENTITY, &identity).send();
        assert_eq!(answer.status, status, "{identity}");
        assert_eq!(answer.header(IDENTITY), Some(identity.as_str()), "{status}");
    }
}

#[test]
fn without_a_request_identity_none_is_answered() {
    let (_broker, requests) = every_kind();
    for (status, request) in requests {
        let answer = request.send();
        assert_eq!((answer.status, answer.header(IDENTITY)), (status, None));
    }
}

#[test]
fn a_request_identity_of_any_reasonable_length_is_echoed() {
    let broker = Broker::in_memory();
    for (length, echoed) in [(1, true), (1024, true), (1025, false)] {
        let identity = "x".repeat(length);
        let request = broker
            .request("GET", "/v2/catalog")
            .header(IDENTITY, &identity);
        let answer = request.send().expect(200);
        assert_eq!(answer.header(IDENTITY).is_some(), echoed, "{length}");
    }
}

#[test]
fn an_unsafe_request_identity_is_never_echoed() {
    let broker = Broker::in_memory();
    for unsafe_value in [
        "a\u{1}b",
        "a\nX-Evil: 1",
        "a\rX-Evil: 1",
        "a\tb",
        "é",
        "a\u{7f}",
        "",
    ] {
        let request = broker
            .request("GET", "/v2/catalog")
            .header(IDENTITY, unsafe_value);
        // Refusing the request, or closing the connection, is as good as leaving the header out.
        if let Ok(answer) = request.try_send() {
            assert_eq!(answer.header(IDENTITY), None, "{unsafe_value:?}");
            assert_eq!(answer.header("X-Evil"), None, "{unsafe_value:?}");
        }
    }
    broker.get("/v2/catalog").expect(200);
}

// Vendor Extension Fields

#[test]
fn unknown_fields_are_ignored_at_every_level() {
    let broker = Broker::in_memory();
    let vendor = json!({ "nested": [{ "deep": null }], "number": 1e300 });
    let with_vendor = |value: Value| merged(&value, json!({ "x-acme": vendor, "acme_field": "x" }));
    let mut body = with_vendor(tutorial());
    body["context"] = with_vendor(body["context"].clone());
    broker.put(&instance("i"), &body).expect(201);
    // They do not count when requests are compared either.
    let mut repeated = tutorial();
    repeated["context"] = body["context"].clone();
    broker.put(&instance("i"), &repeated).expect(200);

    let body = with_vendor(bind("example_service", "plan_one"));
    broker.put(&binding("i", "b"), &body).expect(201);
    let body = with_vendor(json!({
        "service_id": "example_service",
        "parameters": { "a": 1 },
        "previous_values": with_vendor(json!({ "plan_id": "plan_one" })),
    }));
    broker.patch(&instance("i"), &body).expect(200);
    let query = format!("{IDS}&x-acme=1&acme_field");
    broker
        .get(&format!("{}/last_operation{query}", instance("i")))
        .expect(200);
    broker.delete(&(instance("i") + &query)).expect(200);
}

#[test]
fn unknown_fields_may_hold_what_known_ones_may_not() {
    let broker = Broker::in_memory();
    let body = tutorial().to_string();
    let body = format!(r#"{{"x-acme":[1e999,"\ud800",-0.0],{}"#, &body[1..]);
    broker
        .request("PUT", &instance("i"))
        .body(body)
        .send()
        .expect(201);
}

// Service Broker Errors

#[test]
fn error_bodies_have_the_fields_of_the_specification_and_no_others() {
    let (_broker, requests) = every_kind();
    let mut seen = Vec::new();
    for (status, request) in requests {
        let of_update = request.method() == "PATCH";
        let answer = request.send();
        assert_eq!(answer.status, status);
        if status < 400 {
            continue;
        }
        let body = answer.expect(status).json();
        for (field, value) in body.as_object().unwrap() {
            match field.as_str() {
                "error" => {
                    let code = value.as_str().unwrap();
                    assert!(
                        !code.is_empty() && code.bytes().all(|b| b.is_ascii_alphanumeric()),
                        "{body}"
                    );
                }
                "description" => assert!(value.is_string(), "{body}"),
                // They MUST NOT be present for errors of other operations.
                "instance_usable" | "update_repeatable" => {
                    assert!(of_update && value.is_boolean(), "{body}")
                }
                _ => panic!("{field} in {body}"),
            }
        }
        seen.push(status);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen, [400, 401, 404, 405, 409, 410, 412, 413, 422]);
}

// Content Type

#[test]
fn every_answer_is_json_and_says_so() {
    let (_broker, requests) = every_kind();
    for (status, request) in requests {
        let line = format!("{} {}", request.method(), request.target());
        let bodiless = status == 304 || request.method() == "HEAD";
        let answer = request.send();
        assert_eq!(answer.status, status, "{line}");
        assert_eq!(
            answer.header("Content-Type"),
            Some("application/json"),
            "{line} {status}"
        );
        if bodiless {
            assert_eq!(answer.body, b"", "{line}");
        } else {
            assert!(answer.json().is_object(), "{line} {status}");
        }
    }
}

#[test]
fn the_content_type_of_a_request_is_not_insisted_on() {
    let broker = Broker::in_memory();
    for (n, content_type) in [
        "",
        "text/plain",
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "nonsense",
    ]
    .into_iter()
    .enumerate()
    {
        let request = broker
            .request("PUT", &instance(&n.to_string()))
            .json(&tutorial());
        request
            .header("Content-Type", content_type)
            .send()
            .expect(201);
    }
    let request = broker.request("PUT", &instance("none")).json(&tutorial());
    request.without("Content-Type").send().expect(201);
}
