//! What a web service is told.

use super::service::{Service, done, say};
use super::{incomplete, setup};
use crate::support::programs::{IDS, bind, provision};
use crate::support::{Folder, binding, brokerlet, instance, merged};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::hmac::{HMAC_SHA256, Key, sign};
use serde_json::json;
use std::time::{SystemTime, UNIX_EPOCH};

#[test]
fn a_service_is_told_what_a_program_is_told() {
    let service = Service::start(|heard, out| {
        let answer = json!({ "state": { "of": heard.operation() } });
        say(out, "201 Created", "", &answer.to_string())
    });
    let broker = setup(&service, json!({})).start();
    let parameters = json!({ "size": 1.0, "name": "a\"b\n'c$(d)" });
    let body = merged(&provision(), json!({ "parameters": parameters }));
    broker.put(&instance("i-1"), &body).expect(201);
    broker.put(&binding("i-1", "b-1"), &bind()).expect(201);
    let update = json!({ "service_id": "service-1", "parameters": { "size": 2 } });
    broker.patch(&instance("i-1"), &update).expect(200);
    for target in [binding("i-1", "b-1"), instance("i-1")] {
        broker.delete(&format!("{target}{IDS}")).expect(200);
    }
    let heard = service.heard();
    let operations: Vec<_> = heard.iter().map(|heard| heard.operation()).collect();
    assert_eq!(
        operations,
        ["provision", "bind", "update", "unbind", "deprovision"]
    );
    for heard in &heard {
        assert_eq!((&*heard.method, &*heard.path), ("POST", "/brokerlet"));
        let document = heard.document();
        assert_eq!(
            heard.header("Idempotency-Key"),
            document["operation_id"].as_str()
        );
        assert_eq!(heard.attempt(), 1);
        assert_eq!(heard.header("Content-Type"), Some("application/json"));
        assert!(
            heard
                .header("User-Agent")
                .unwrap()
                .starts_with("brokerlet/")
        );
        assert!(heard.header("webhook-id").is_none());
    }
    let document = heard[0].document();
    let wanted = json!({
        "operation": "provision",
        "operation_id": document["operation_id"],
        "attempt": 1,
        "instance_id": "i-1",
        "service": { "id": "service-1", "name": "database", "metadata": { "displayName": "Database" } },
        "plan": { "id": "plan-1", "name": "small", "metadata": { "size": 1 } },
        "organization_guid": "org-1",
        "space_guid": "space-1",
        "parameters": parameters,
        "context": body["context"],
        "state": {}
    });
    assert_eq!(document, wanted);
    assert_eq!(
        heard[1].document()["instance"]["state"],
        json!({ "of": "provision" })
    );
    assert_eq!(heard[2].document()["changes"], json!({ "size": 2 }));
    assert_eq!(heard[3].document()["state"], json!({ "of": "bind" }));
    assert_eq!(heard[4].document()["state"], json!({ "of": "update" }));
}

#[test]
fn secrets_in_headers_are_read_anew_at_each_call() {
    let folder = Folder::new();
    let token = folder.file("token", "first-token\n");
    let service = Service::start(|_, out| done(out));
    let headers = json!({
        "Authorization": format!("Bearer ${{file:{}}}", token.display()),
        "X-Word": "${env:WORD}",
        "X-Literal": "a $${b}"
    });
    let broker = setup(&service, json!({ "headers": headers, "async": true }))
        .env("WORD", "word")
        .start();
    let provision = |id| {
        let target = incomplete(&instance(id));
        broker.put(&target, &provision()).expect(202);
    };
    provision("i-1");
    service.wait_for(1);
    folder.file("token", "second-token");
    provision("i-2");
    service.wait_for(2);
    std::fs::remove_file(&token).unwrap();
    // It is being replaced, most likely: tried again.
    provision("i-3");
    broker.wait_for_print("event=operation_retried");
    folder.file("token", "third-token");
    service.wait_for(3);
    let heard = service.heard();
    let tokens: Vec<_> = heard
        .iter()
        .map(|heard| heard.header("Authorization").unwrap())
        .collect();
    assert_eq!(
        tokens,
        [
            "Bearer first-token",
            "Bearer second-token",
            "Bearer third-token"
        ]
    );
    assert_eq!(heard[0].header("X-Word"), Some("word"));
    assert_eq!(heard[0].header("X-Literal"), Some("a ${b}"));
}

#[test]
fn a_header_that_cannot_be_sent_is_a_failure_that_quotes_nothing() {
    let folder = Folder::new();
    let token = folder.file("token", "good");
    let service = Service::start(|_, out| done(out));
    let headers = json!({ "X-Token": format!("${{file:{}}}", token.display()) });
    let broker = setup(&service, json!({ "headers": headers, "timeout": "300ms" })).start();
    folder.file("token", "bigsecret\r\nEvil: 1");
    let answer = broker.put(&instance("i-1"), &provision()).expect(503);
    assert!(
        answer
            .description()
            .contains("cannot be called at the moment")
    );
    let (_, printed) = broker.stop();
    assert!(
        printed.contains("the value of the header x-token holds a character"),
        "{printed}"
    );
    assert!(!printed.contains("bigsecret"));
    assert_eq!(service.heard().len(), 0);
}

#[test]
fn what_is_sent_is_signed_in_the_form_of_standard_webhooks() {
    let folder = Folder::new();
    let file = folder.file("secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
    let service = Service::start(|_, out| done(out));
    let sign_with = format!("${{file:{}}}", file.display());
    let broker = setup(&service, json!({ "sign_with": sign_with })).start();
    broker.put(&instance("i-1"), &provision()).expect(201);
    folder.file("secret", "a-raw-secret");
    broker.put(&instance("i-2"), &provision()).expect(201);
    let raw = BASE64_STANDARD
        .decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        .unwrap();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    for (heard, key) in service.heard().iter().zip([raw, b"a-raw-secret".to_vec()]) {
        let [id, time, signature] = ["webhook-id", "webhook-timestamp", "webhook-signature"]
            .map(|name| heard.header(name).unwrap());
        assert_eq!(Some(id), heard.header("Idempotency-Key"));
        assert!(now - time.parse::<u64>().unwrap() < 100);
        let signed = [format!("{id}.{time}.").as_bytes(), &heard.body].concat();
        let code = sign(&Key::new(HMAC_SHA256, &key), &signed);
        let wanted = BASE64_STANDARD.encode(code);
        assert_eq!(signature, format!("v1,{wanted}"));
    }
    assert_eq!(service.heard().len(), 2);
}

#[test]
fn a_service_is_asked_for_what_another_broker_has_made_if_its_plan_says_so() {
    let service = Service::start(|heard, out| match heard.operation().as_str() {
        "verify" => say(out, "200 OK", "", "{\"state\": {\"machine\": \"m-1\"}}"),
        _ => done(out),
    });
    let line = merged(&provision(), json!({ "instance_id": "i-1" })).to_string();
    for (settings, code, told) in [
        (json!({}), 1, "its web service knows"),
        (json!({ "adopt": true }), 0, ""),
    ] {
        let setup = setup(&service, settings);
        setup.folder.file("lines", &line);
        let mut command = brokerlet();
        command.args(["state", "adopt", "lines", "--store", "file:brokerlet.db"]);
        command
            .current_dir(setup.folder.path())
            .env("BROKER_CATALOG", "catalog.json");
        let output = command.output().unwrap();
        let printed =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{printed}");
        assert!(printed.contains(told), "{printed}");
    }
    let heard = service.heard();
    assert_eq!(heard.len(), 1);
    assert_eq!(heard[0].document()["operation"], "verify");
}

/// A service that remembers answers by their key must not take one for another.
#[test]
fn bindings_that_go_with_their_instance_have_keys_of_their_own() {
    let service = Service::start(|_, out| done(out));
    let broker = setup(&service, json!({})).start();
    broker.put(&instance("i-1"), &provision()).expect(201);
    for id in ["b", "%C3%BC-2"] {
        broker.put(&binding("i-1", id), &bind()).expect(201);
    }
    broker
        .delete(&format!("{}{IDS}", instance("i-1")))
        .expect(200);
    let heard = service.heard();
    let [.., one, two, last] = &heard[..] else {
        panic!("{}", heard.len());
    };
    let key = last.header("Idempotency-Key").unwrap();
    assert_eq!(last.operation(), "deprovision");
    let mut keys = [one, two].map(|heard| {
        assert_eq!(heard.operation(), "unbind");
        heard.header("Idempotency-Key").unwrap()
    });
    keys.sort_unstable();
    assert_eq!(keys, [format!("{key}.%C3%BC%2D2"), format!("{key}.b")]);
}
