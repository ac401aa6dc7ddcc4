//! Work that takes long: lines that come one after the other, and results that are asked for later.

use super::service::{Gate, Heard, Service, Then, done, say};
use super::{incomplete, setup};
use crate::support::programs::{IDS, provision};
use crate::support::{Broker, Setup, instance};
use serde_json::{Value, json};
use std::sync::Mutex;
use std::time::Duration;

const ACCEPTED: &str = "202 Accepted";
const POLL: &str = "{\"poll\": \"/operations/7?a=b\"}";
/// Polls without a pause that a test would notice.
const SOON: &str = "Retry-After: 0\r\n";

fn begin(broker: &Broker) -> String {
    let target = instance("i-1");
    broker.put(&incomplete(&target), &provision()).expect(202);
    target
}

fn ended(broker: &Broker, target: &str) -> Value {
    broker.poll_until(target, |answer| answer["state"] != "in progress")
}

/// The requests with their paths, in short.
fn told(service: &Service) -> Vec<String> {
    let name = |heard: &Heard| match heard.method.as_str() {
        "POST" => format!("{} {}", heard.operation(), heard.attempt()),
        method => format!("{method} {}", heard.path),
    };
    service.heard().iter().map(name).collect()
}

#[test]
fn progress_is_what_a_poller_reads_as_soon_as_it_is_said() {
    let [first, second] = [Gate::default(), Gate::default()];
    let service = Service::start({
        let gates = [first.clone(), second.clone()];
        move |_, out| {
            let mut send = |text: &str| {
                let sent = match text.len() {
                    0 => write!(out, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
                    length => write!(out, "{length:x}\r\n{text}\r\n"),
                };
                sent.and_then(|()| out.flush()).unwrap();
            };
            send("");
            send("{\"progress\": \"Creating VM\"}\n");
            gates[0].pass();
            // A line in two pieces.
            send("{\"progress\": ");
            send("\"Starting\"}\n");
            gates[1].pass();
            send("{\"dashboard_url\": \"https://x.example.com/a\"}");
            out.write_all(b"0\r\n\r\n").unwrap();
            Then::Keep
        }
    });
    let broker = setup(&service, json!({ "async": true })).start();
    let target = begin(&broker);
    let is = |wanted: &'static str| move |answer: &Value| answer["description"] == wanted;
    broker.poll_until(&target, is("Creating VM"));
    first.open();
    broker.poll_until(&target, is("Starting"));
    second.open();
    assert_eq!(ended(&broker, &target)["state"], "succeeded");
    let made = broker.get(&target).expect(200).json();
    assert_eq!(made["dashboard_url"], "https://x.example.com/a");
}

#[test]
fn a_result_that_comes_later_is_asked_for() {
    let polls = Mutex::new(0);
    let gate = Gate::default();
    let service = Service::start({
        let gate = gate.clone();
        move |heard, out| {
            if heard.method == "POST" {
                return say(out, ACCEPTED, "Retry-After: 1\r\n", POLL);
            }
            let mut polls = polls.lock().unwrap();
            *polls += 1;
            match *polls {
                1 => say(out, ACCEPTED, SOON, "{\"progress\": \"Token env-secret\"}"),
                2 => {
                    gate.pass();
                    let moved = format!(
                        "{{\"poll\": \"http://{}/moved\"}}",
                        heard.header("Host").unwrap()
                    );
                    say(out, ACCEPTED, SOON, &moved)
                }
                3 => say(out, ACCEPTED, SOON, ""),
                _ => say(
                    out,
                    "200 OK",
                    "",
                    "{\"progress\": \"Nearly\"}\n{\"dashboard_url\": \"https://x.example.com\"}",
                ),
            }
        }
    });
    let settings = json!({
        "async": true, "headers": { "Authorization": "Bearer ${env:TOKEN}" }, "sign_with": "a-raw-secret"
    });
    let broker = setup(&service, settings).env("TOKEN", "env-secret").start();
    let target = begin(&broker);
    broker.poll_until(&target, |answer| answer["description"] == "Token ***");
    gate.open();
    assert_eq!(ended(&broker, &target)["state"], "succeeded");
    let made = broker.get(&target).expect(200).json();
    assert_eq!(made["dashboard_url"], "https://x.example.com");
    let wanted = [
        "provision 1",
        "GET /operations/7?a=b",
        "GET /operations/7?a=b",
        "GET /moved",
        "GET /moved",
    ];
    assert_eq!(told(&service), wanted);
    let heard = service.heard();
    assert!(
        heard[1].at - heard[0].at >= Duration::from_secs(1),
        "Retry-After"
    );
    for poll in &heard[1..] {
        assert_eq!(
            poll.header("Idempotency-Key"),
            heard[0].header("Idempotency-Key")
        );
        assert_eq!(poll.header("Authorization"), Some("Bearer env-secret"));
        assert!(poll.header("webhook-signature").unwrap().starts_with("v1,"));
        assert!(poll.body.is_empty() && poll.header("Content-Type").is_none());
    }
}

#[test]
fn a_poll_that_fails_is_made_again_and_the_work_is_not() {
    let polls = Mutex::new(0);
    let service = Service::start(move |heard, out| {
        if heard.method == "POST" {
            return say(out, ACCEPTED, SOON, POLL);
        }
        let mut polls = polls.lock().unwrap();
        *polls += 1;
        match *polls {
            1 => say(out, "503 Service Unavailable", SOON, ""),
            2 => Then::Close,
            3 => say(out, "502 Bad Gateway", SOON, "<html>"),
            _ => done(out),
        }
    });
    let broker = setup(&service, json!({ "async": true })).start();
    let target = begin(&broker);
    assert_eq!(ended(&broker, &target)["state"], "succeeded");
    let told = told(&service);
    assert_eq!(told.len(), 5);
    assert!(
        told[1..].iter().all(|told| told.starts_with("GET ")),
        "{told:?}"
    );
}

#[test]
fn a_service_that_has_forgotten_is_told_once_more() {
    for status in ["404 Not Found", "410 Gone"] {
        let service = Service::start(move |heard, out| match heard.method.as_str() {
            "POST" if heard.attempt() == 1 => say(out, ACCEPTED, SOON, POLL),
            "POST" => done(out),
            _ => say(out, status, "", ""),
        });
        let broker = setup(&service, json!({ "async": true })).start();
        let target = begin(&broker);
        assert_eq!(ended(&broker, &target)["state"], "succeeded");
        assert_eq!(
            told(&service),
            ["provision 1", "GET /operations/7?a=b", "provision 2"]
        );
        let heard = service.heard();
        assert_eq!(
            heard[0].header("Idempotency-Key"),
            heard[2].header("Idempotency-Key")
        );
    }
}

#[test]
fn a_poll_may_tell_of_a_failure() {
    for (status, body, wanted) in [
        (
            "200 OK",
            r#"{"error":"full","description":"No room left."}"#,
            "No room left.",
        ),
        (
            "422 X",
            r#"{"error":"full","description":"No room left."}"#,
            "No room left.",
        ),
        ("500 X", "", "failed (status 500)"),
        ("200 OK", "{", "line 1 of its answer is not JSON"),
    ] {
        let service = Service::start(move |heard, out| match heard.method.as_str() {
            "POST" if heard.operation() == "provision" => say(out, ACCEPTED, SOON, POLL),
            "POST" => done(out),
            _ => say(out, status, "", body),
        });
        let broker = setup(&service, json!({ "async": true })).start();
        let target = begin(&broker);
        let ended = ended(&broker, &target);
        assert_eq!(ended["state"], "failed");
        assert!(
            ended["description"].as_str().unwrap().contains(wanted),
            "{ended}"
        );
    }
}

#[test]
fn work_that_takes_too_long_has_failed() {
    let service = Service::start(|heard, out| match heard.method.as_str() {
        "POST" => say(out, ACCEPTED, "", POLL),
        _ => say(out, ACCEPTED, SOON, ""),
    });
    let broker = setup(&service, json!({ "async": true, "timeout": "1500ms" })).start();
    let target = begin(&broker);
    let ended = ended(&broker, &target);
    assert_eq!(ended["state"], "failed");
    assert!(
        ended["description"]
            .as_str()
            .unwrap()
            .contains("did not finish within 1s 500ms"),
        "{ended}"
    );
}

#[test]
fn a_delete_during_creation_takes_the_work_back_and_waits_for_its_end() {
    // How the service answers a DELETE, and whether it is polled afterwards.
    for (status, is_polled) in [
        ("204 No Content", false),
        ("202 Accepted", true),
        ("405 Method Not Allowed", true),
    ] {
        let taken_back = Mutex::new(false);
        let service = Service::start(move |heard, out| match heard.method.as_str() {
            "POST" if heard.operation() == "provision" => {
                say(out, ACCEPTED, "Retry-After: 30\r\n", POLL)
            }
            "POST" => done(out),
            "DELETE" => {
                *taken_back.lock().unwrap() = true;
                say(out, status, "", "")
            }
            _ if *taken_back.lock().unwrap() => {
                say(out, "200 OK", "", "{\"state\": {\"made\": true}}")
            }
            _ => say(out, ACCEPTED, "Retry-After: 30\r\n", ""),
        });
        let broker = setup(&service, json!({ "async": true })).start();
        let target = begin(&broker);
        service.wait_for(1);
        let delete = format!("{target}{IDS}&accepts_incomplete=true");
        broker.delete(&delete).expect(202);
        broker.wait_for_print("operation=deprovision ");
        let mut wanted = vec!["provision 1", "DELETE /operations/7?a=b"];
        wanted.extend(is_polled.then_some("GET /operations/7?a=b"));
        wanted.push("deprovision 1");
        assert_eq!(told(&service), wanted, "{status}");
        let state = if is_polled {
            json!({ "made": true })
        } else {
            json!({})
        };
        assert_eq!(service.heard().last().unwrap().document()["state"], state);
    }
}

#[test]
fn a_delete_during_a_call_waits_for_its_end() {
    let gate = Gate::default();
    let service = Service::start({
        let gate = gate.clone();
        move |heard, out| {
            if heard.operation() == "provision" {
                gate.pass();
            }
            say(out, "200 OK", "", "{\"state\": {\"made\": true}}")
        }
    });
    let broker = setup(&service, json!({ "async": true })).start();
    let target = begin(&broker);
    service.wait_for(1);
    broker
        .delete(&format!("{target}{IDS}&accepts_incomplete=true"))
        .expect(202);
    assert_eq!(service.heard().len(), 1);
    gate.open();
    let heard = service.wait_for(2);
    assert_eq!(heard[1].operation(), "deprovision");
    assert_eq!(heard[1].document()["state"], json!({ "made": true }));
}

#[test]
fn after_a_kill_of_the_broker_the_service_is_called_with_the_same_key() {
    let service = Service::start(|heard, out| match heard.method.as_str() {
        "POST" => say(out, ACCEPTED, SOON, POLL),
        _ if heard.attempt() == 1 => say(out, ACCEPTED, "Retry-After: 30\r\n", ""),
        _ => done(out),
    });
    let broker = setup(&service, json!({ "async": true }))
        .env("BROKER_STORE", "file:state.db")
        .start();
    let target = begin(&broker);
    service.wait_for(2);
    let folder = broker.kill();
    let catalog = folder.path().join("catalog.json");
    let broker = Setup::in_folder(folder)
        .env("BROKER_STORE", "file:state.db")
        .env("BROKER_CATALOG", catalog)
        .start();
    assert_eq!(ended(&broker, &target)["state"], "succeeded");
    let wanted = [
        "provision 1",
        "GET /operations/7?a=b",
        "provision 2",
        "GET /operations/7?a=b",
    ];
    assert_eq!(told(&service), wanted);
    let heard = service.heard();
    assert_eq!(
        heard[0].header("Idempotency-Key"),
        heard[2].header("Idempotency-Key")
    );
}

#[test]
fn a_broker_that_stops_cuts_off_what_hangs() {
    let gate = Gate::default();
    for is_polled in [false, true] {
        let service = Service::start({
            let gate = gate.clone();
            move |heard, out| {
                if heard.method == "POST" && is_polled {
                    return say(out, ACCEPTED, "Retry-After: 30\r\n", POLL);
                }
                gate.pass();
                done(out)
            }
        });
        let broker = setup(&service, json!({ "async": true })).start();
        begin(&broker);
        service.wait_for(1);
        let (status, printed) = broker.stop();
        assert!(status.success(), "{printed}");
        assert!(!printed.contains("did not finish in time"), "{printed}");
    }
    gate.open();
}
