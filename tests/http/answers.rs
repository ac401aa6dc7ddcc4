//! What becomes of what a web service answers.

use super::service::{Service, done, say};
use super::{incomplete, setup};
use crate::support::programs::{IDS, bind, provision};
use crate::support::{binding, instance};
use serde_json::json;
use std::time::Duration;

#[test]
fn what_a_service_returns_reaches_the_platform() {
    let bound = json!({
        "credentials": { "uri": "db://x", "n": 1.0 },
        "endpoints": [{ "host": "db.example.com", "ports": ["5432"] }],
        "metadata": { "expires_at": "2030-12-31T23:59:59.0Z" }
    });
    let made = json!({ "dashboard_url": "https://db.example.com/i-1", "metadata": { "labels": { "a": "b" } } });
    let service = Service::start({
        let (bound, made) = (bound.to_string(), made.to_string());
        move |heard, out| match heard.operation().as_str() {
            "bind" => say(out, "200 OK", "Content-Type: text/plain\r\n", &bound),
            "unbind" => say(out, "204 No Content", "", ""),
            _ => say(out, "201 Created", "", &made),
        }
    });
    let broker = setup(&service, json!({})).start();
    let answer = broker.put(&instance("i-1"), &provision()).expect(201);
    assert_eq!(answer.json(), made);
    let answer = broker.put(&binding("i-1", "b-1"), &bind()).expect(201);
    assert_eq!(answer.json(), bound);
    let target = format!("{}{IDS}", binding("i-1", "b-1"));
    broker.delete(&target).expect(200);
    broker.delete(&target).expect(410);
}

#[test]
fn what_is_wrong_with_an_answer_is_told_and_its_cause_logged() {
    for (status, body, described, logged) in [
        (
            "200 OK",
            "oops hunter22",
            "did not answer as it should: line 1 of its answer is not JSON from column 1 on.",
            "not JSON",
        ),
        (
            "200 OK",
            "",
            "did not answer as it should: answered no result",
            "answered no result",
        ),
        (
            "200 OK",
            "{}\n{}",
            "line 2 of its answer is a second result",
            "second result",
        ),
        (
            "200 OK",
            "{\"credentials\": [\"hunter22\"]}",
            "has \"credentials\": found an array, wanted an object",
            "found an array",
        ),
        (
            "200 OK",
            "{\"dashbord_url\": \"hunter22\"}",
            "has an unknown key.",
            "the unknown key \\\"dashbord_url\\\", did you mean",
        ),
        (
            "200 OK",
            "{\"metadata\": {\"labels\": 7}}",
            "metadata.labels: found a number",
            "metadata.labels",
        ),
        (
            "200 OK",
            "{\"error\":\"full\",\"description\":\"No room left.\"}",
            "No room left.",
            "error \\\"full\\\"",
        ),
        (
            "202 Accepted",
            "{}",
            "answered 202 without \"poll\"",
            "answered 202",
        ),
        (
            "202 Accepted",
            "hunter22",
            "line 1 of its answer is no object with \"poll\"",
            "column 1",
        ),
        (
            "202 Accepted",
            "{\"poll\":\"https://evil.example.com/hunter22\"}",
            "is not of its own scheme, host and port",
            "not of its own",
        ),
        (
            "302 Found",
            "",
            "failed (status 302)",
            "redirects are not followed",
        ),
        (
            "400 Bad Request",
            "hunter22",
            "failed (status 400)",
            "the web service answered 400",
        ),
        (
            "401 Unauthorized",
            "{\"error\":\"hunter\"}",
            "failed (status 401)",
            "answered 401; error \\\"hunter\\\"",
        ),
        (
            "404 Not Found",
            "<html>hunter22</html>",
            "failed (status 404)",
            "the web service answered 404",
        ),
        (
            "500 Internal Server Error",
            "Traceback hunter22",
            "failed (status 500)",
            "answered 500",
        ),
        (
            "500 X",
            "{\"error\":\"full\",\"description\":\"No room left.\"}",
            "failed (status 500)",
            "error \\\"full\\\"; No room left.",
        ),
    ] {
        let service = Service::saying(status, "Location: /elsewhere\r\n", body);
        let broker = setup(&service, json!({})).start();
        let answer = broker
            .put(&instance("i-1"), &provision())
            .expect_naming(500, described);
        assert!(
            !answer.description().contains("127.0.0.1"),
            "no address for users"
        );
        broker.get(&instance("i-1")).expect(404);
        let (_, printed) = broker.stop();
        assert!(printed.contains(logged), "{status} {body}\n{printed}");
        assert!(!printed.contains("hunter22"), "{printed}");
        assert_eq!(service.heard().len(), 1, "{status} {body}");
    }
}

#[test]
fn a_refusal_is_in_words_for_the_user_and_changes_nothing() {
    for (status, error, wanted) in [
        ("400 Bad Request", "size", 400),
        ("409 Conflict", "taken", 422),
        ("422 Unprocessable Entity", "no", 422),
        ("422 Unprocessable Entity", "invalid", 400),
        ("400 Bad Request", "unsupported", 422),
        ("200 OK", "invalid", 400),
    ] {
        let body = json!({ "error": error, "description": "size: wanted 1 to 9." }).to_string();
        let service = Service::start(move |heard, out| match heard.operation().as_str() {
            "deprovision" => say(
                out,
                status,
                "",
                "{\"error\":\"busy\",\"description\":\"In use.\"}",
            ),
            "bind" => done(out),
            _ if heard.document()["parameters"]["size"].is_null() => done(out),
            _ => say(out, status, "", &body),
        });
        let broker = setup(&service, json!({})).start();
        let refused = crate::support::merged(&provision(), json!({ "parameters": { "size": 0 } }));
        broker
            .put(&instance("i-1"), &refused)
            .expect_naming(wanted, "size: wanted 1 to 9.");
        // Nothing was made, so there is nothing to delete.
        broker
            .delete(&format!("{}{IDS}", instance("i-1")))
            .expect(410);
        broker.put(&instance("i-2"), &provision()).expect(201);
        let update = json!({ "service_id": "service-1", "parameters": { "size": 2 } });
        broker
            .patch(&instance("i-2"), &update)
            .expect_naming(wanted, "size: wanted 1 to 9.");
        // A request to remove something cannot be wrong.
        let delete = format!("{}{IDS}", instance("i-2"));
        broker.delete(&delete).expect_naming(500, "In use.");
    }
}

#[test]
fn a_failure_says_how_usable_the_instance_is() {
    let service = Service::start(|heard, out| match heard.operation().as_str() {
        "update" => {
            let text = r#"{"error":"x","description":"Half grown.","instance_usable":false,"update_repeatable":true}"#;
            say(out, "200 OK", "", text)
        }
        _ => done(out),
    });
    let broker = setup(&service, json!({})).start();
    broker.put(&instance("i-1"), &provision()).expect(201);
    let update = json!({ "service_id": "service-1", "parameters": { "size": 2 } });
    let answer = broker
        .patch(&instance("i-1"), &update)
        .expect_naming(500, "Half grown.");
    assert_eq!(answer.json()["instance_usable"], false);
    assert_eq!(answer.json()["update_repeatable"], true);
}

#[test]
fn not_now_is_tried_again_with_the_same_key_and_no_earlier_than_wanted() {
    for (status, headers, wait) in [
        ("503 Service Unavailable", "Retry-After: 2\r\n", 2000),
        ("429 Too Many Requests", "Retry-After: 1\r\n", 1000),
        ("503 Service Unavailable", "", 500),
        ("408 Request Timeout", "", 500),
        ("502 Bad Gateway", "", 500),
        ("504 Gateway Timeout", "", 500),
    ] {
        for is_async in [false, true] {
            let service = Service::start(move |heard, out| match heard.attempt() {
                1 => say(out, status, headers, "later"),
                _ => done(out),
            });
            let broker = setup(&service, json!({ "async": is_async, "timeout": "50s" })).start();
            let answer = broker.put(&incomplete(&instance("i-1")), &provision());
            answer.expect(if is_async { 202 } else { 201 });
            let heard = service.wait_for(2);
            assert_eq!(
                heard[0].header("Idempotency-Key"),
                heard[1].header("Idempotency-Key")
            );
            assert_eq!([heard[0].attempt(), heard[1].attempt()], [1, 2]);
            assert_eq!(heard[1].document()["attempt"], 2);
            let waited = heard[1].at - heard[0].at;
            assert!(
                waited >= Duration::from_millis(wait),
                "{status}: {waited:?}"
            );
        }
    }
}

#[test]
fn not_now_ends_with_the_timeout_in_words_of_the_service() {
    let body = r#"{"error":"busy","description":"All servers are busy."}"#;
    for (headers, body, wanted) in [
        ("", body, "All servers are busy."),
        ("Retry-After: 3600\r\n", body, "All servers are busy."),
        ("", "<html>", "could not do it now"),
    ] {
        let service = Service::saying("503 Service Unavailable", headers, body);
        let broker = setup(&service, json!({ "timeout": "1200ms" })).start();
        broker
            .put(&instance("i-1"), &provision())
            .expect_naming(503, wanted);
    }
}

#[test]
fn secrets_are_masked_in_all_that_a_service_says() {
    let body = r#"{"error":"env-secret","description":"Bearer env-secret is refused, ${env:x}"}"#;
    for status in ["200 OK", "500 X", "400 Bad Request", "503 X"] {
        let service = Service::saying(status, "", body);
        let settings = json!({
            "headers": { "Authorization": "Bearer ${env:TOKEN}" }, "timeout": "300ms",
            "sign_with": "${env:KEY}"
        });
        let broker = setup(&service, settings)
            .env("TOKEN", "env-secret")
            .env("KEY", "key-secret")
            .start();
        let answer = broker.put(&instance("i-1"), &provision());
        assert!(
            !answer.description().contains("env-secret"),
            "{}",
            answer.description()
        );
        let (_, printed) = broker.stop();
        assert!(printed.contains("error \\\"***\\\""), "{printed}");
        assert!(
            !printed.contains("env-secret") && !printed.contains("key-secret"),
            "{printed}"
        );
    }
}
