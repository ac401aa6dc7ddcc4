//! What becomes of what a program answers.

use crate::support::programs::{IDS, bind, program, provision, shell};
use crate::support::{binding, instance, merged};
use serde_json::json;

#[test]
fn what_a_program_returns_reaches_the_platform() {
    let bound = json!({
        "credentials": { "uri": "db://x", "n": 1.0 },
        "endpoints": [{ "host": "db.example.com", "ports": ["5432"] }],
        "syslog_drain_url": "syslog://logs.example.com",
        "route_service_url": "https://route.example.com",
        "volume_mounts": [{
            "driver": "nfs", "container_dir": "/data", "mode": "rw", "device_type": "shared",
            "device": { "volume_id": "v-1" }
        }],
        "metadata": { "expires_at": "2030-12-31T23:59:59.0Z" }
    });
    let made = json!({
        "dashboard_url": "https://db.example.com/i-1",
        "metadata": { "labels": { "a": "b" }, "attributes": { "c": "d" } }
    });
    let script = format!("case $1 in bind) echo '{bound}' ;; *) echo '{made}' ;; esac");
    let broker = shell(&script, json!({})).start();
    let answer = broker
        .put(&instance("i-1"), &provision())
        .expect(201)
        .json();
    assert_eq!(answer, made);
    let answer = broker
        .put(&binding("i-1", "b-1"), &bind())
        .expect(201)
        .json();
    assert_eq!(answer, bound);
    let answer = broker.get(&binding("i-1", "b-1")).expect(200).json();
    assert_eq!(answer["credentials"], bound["credentials"]);
}

#[test]
fn a_result_may_be_printed_over_several_lines() {
    // As `jq -n '{credentials: {a: 1}}'` prints it.
    let script = "printf '{\n  \"credentials\": {\n    \"a\": 1\n  }\n}\n'";
    let broker = shell(script, json!({})).start();
    broker.put(&instance("i-1"), &provision()).expect(201);
    let answer = broker.put(&binding("i-1", "b-1"), &bind()).expect(201);
    assert_eq!(answer.json()["credentials"], json!({ "a": 1 }));
}

#[test]
fn what_is_wrong_with_an_answer_is_told_and_its_cause_logged() {
    let large = "head -c 1100000 /dev/zero | tr '\\0' x";
    for (script, described, logged) in [
        (
            "echo oops",
            "did not answer as it should: line 1 of its output is not JSON",
            "line 1 of its output is not JSON from column 1 on",
        ),
        (
            "true",
            "did not answer as it should: printed no result",
            "printed no result",
        ),
        (
            "echo '{}'; echo '{}'",
            "did not answer as it should: line 2 of its output is a second result",
            "a second result",
        ),
        (
            r"printf '\177ELF\377\000\001'",
            "did not answer as it should: line 1 of its output is not text in UTF-8",
            "not text",
        ),
        (
            "echo '{\"credentials\": [\"hunter22\"]}'",
            "has \"credentials\": found an array, wanted an object",
            "found an array",
        ),
        (
            "echo '{\"dashbord_url\": \"hunter22\"}'",
            "did not answer as it should: line 1 of its output has an unknown key. The operator",
            "has the unknown key \\\"dashbord_url\\\", did you mean \\\"dashboard_url\\\"?",
        ),
        (
            "printf '{\n  \"dashboard_url\": 7\n}\n'",
            "the object in lines 1 to 3 of its output has \"dashboard_url\": found a number, wanted a string",
            "lines 1 to 3",
        ),
        (
            "echo '{\"metadata\": {\"labels\": 7}}'",
            "did not answer as it should: metadata.labels: found a number, wanted an object",
            "metadata.labels",
        ),
        (
            "echo '{\"progress\": \"half\"}'",
            "printed no result",
            "printed no result",
        ),
        (
            large,
            "printed more than 1048576 bytes",
            "more than 1048576 bytes",
        ),
        (
            "echo '{}'; echo why >&2; exit 3",
            "failed (exit status: 3)",
            "the program ended with exit status: 3; last message: why",
        ),
        (
            "echo why >&2; kill -9 $$",
            "failed (signal: 9 (SIGKILL))",
            "signal: 9 (SIGKILL); last message: why",
        ),
        (
            "echo '{\"error\":\"full\",\"description\":\"No room left.\"}'; exit 1",
            "No room left.",
            "exit status: 1; error \\\"full\\\"",
        ),
        // It says that it failed: the exit code does not make a success of it.
        (
            "echo '{\"error\":\"full\",\"description\":\"No room left.\"}'",
            "No room left.",
            "full",
        ),
    ] {
        let broker = shell(script, json!({})).start();
        broker
            .put(&instance("i-1"), &provision())
            .expect_naming(500, described);
        // Something may have been left behind: the platform can have it removed.
        broker.get(&instance("i-1")).expect(404);
        let (_, printed) = broker.stop();
        assert!(printed.contains(logged), "{script}\n{printed}");
        assert!(!printed.contains("hunter22"), "{printed}");
    }
}

#[test]
fn a_program_can_refuse_a_request() {
    let script = r#"case $1 in
deprovision | unbind) echo '{}' ;;
*) echo '{"error":"invalid","description":"size: wanted 1 to 9."}' ;;
esac"#;
    let broker = shell(script, json!({})).start();
    broker
        .put(&instance("i-1"), &provision())
        .expect_naming(400, "size: wanted 1 to 9.");
    // Nothing was made, so there is nothing to delete.
    broker
        .delete(&format!("{}{IDS}", instance("i-1")))
        .expect(410);

    let script = r#"case $1 in
update) echo '{"error":"unsupported","description":"It cannot grow."}' ;;
*) echo '{}' ;;
esac"#;
    let broker = shell(script, json!({})).start();
    broker.put(&instance("i-1"), &provision()).expect(201);
    let update = json!({ "service_id": "service-1", "parameters": { "size": 2 } });
    broker
        .patch(&instance("i-1"), &update)
        .expect_naming(422, "It cannot grow.");
}

#[test]
fn a_program_that_fails_says_how_usable_the_instance_is() {
    let script = r#"case $1 in
update) echo '{"error":"x","description":"Half grown.","instance_usable":false,"update_repeatable":true}'; exit 1 ;;
*) echo '{}' ;;
esac"#;
    let broker = shell(script, json!({})).start();
    broker.put(&instance("i-1"), &provision()).expect(201);
    let update = json!({ "service_id": "service-1", "parameters": { "size": 2 } });
    let answer = broker
        .patch(&instance("i-1"), &update)
        .expect_naming(500, "Half grown.")
        .json();
    assert_eq!(answer["instance_usable"], false);
    assert_eq!(answer["update_repeatable"], true);
}

#[test]
fn a_program_need_not_read_what_it_is_told() {
    let parameters = json!({ "text": "x".repeat(900_000) });
    let body = merged(&provision(), json!({ "parameters": parameters }));
    for script in [
        "echo '{}'",
        "exec <&-; echo '{}'",
        "head -c 10 >/dev/null; echo '{}'",
    ] {
        let broker = program(&format!("#!/bin/sh\n{script}\n"), json!({})).start();
        broker.put(&instance("i-1"), &body).expect(201);
    }
}
