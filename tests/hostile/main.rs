//! What clients that mean no good, and shortages, can do to the broker: nothing. Raw bytes to the real binary, one test
//! for each promise.

mod client;
mod connections;
mod crowd;
mod faults;
mod framing;
#[path = "../support/crowd.rs"]
mod gather;
mod limits;
mod logins;
mod memory;
mod proxies;
mod semantics;
mod stop;
#[path = "../support/mod.rs"]
mod support;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use client::Client;
use serde_json::{Value, json};
use std::net::SocketAddr;
use support::{Broker, PASSWORD, Response, Setup, USERNAME};

/// Times of the gate, in a test that waits for none of them: nothing in it may come from one that has passed.
const NEVER: &str = "10m";

/// The tutorial's broker, its state in memory; every time out of the way.
fn setup() -> Setup {
    [
        "BROKER_QUEUE_TIMEOUT",
        "BROKER_REQUEST_TIMEOUT",
        "BROKER_SILENT_TIMEOUT",
        "BROKER_IDLE_TIMEOUT",
        "BROKER_ANSWER_TIMEOUT",
    ]
    .into_iter()
    .fold(Setup::new().env("BROKER_STORE", "memory"), |setup, name| {
        setup.env(name, NEVER)
    })
}

/// The header fields of a platform: right credentials, and the version.
fn platform() -> String {
    let token = BASE64_STANDARD.encode(format!("{USERNAME}:{PASSWORD}"));
    format!("Authorization: Basic {token}\r\nX-Broker-API-Version: 2.17\r\n")
}

/// The same with a wrong password.
fn stranger() -> String {
    let token = BASE64_STANDARD.encode(format!("{USERNAME}:guess"));
    format!("Authorization: Basic {token}\r\nX-Broker-API-Version: 2.17\r\n")
}

/// A request of a platform in HTTP/1.1. `fields` come after those that every request has, each with its line end.
fn request(method_and_target: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{method_and_target} HTTP/1.1\r\nHost: broker\r\n{}{fields}\r\n",
        platform()
    );
    [head.as_bytes(), body].concat()
}

fn get_catalog() -> Vec<u8> {
    request("GET /v2/catalog", "", b"")
}

/// A provision that the tutorial's broker accepts, with these fields beside Content-Length.
fn provision(id: &str, fields: &str) -> Vec<u8> {
    let body = tutorial().to_string();
    let length = body.len();
    request(
        &format!("PUT {}", support::instance(id)),
        &format!("Content-Length: {length}\r\n{fields}"),
        body.as_bytes(),
    )
}

/// The body of that provision.
fn tutorial() -> Value {
    support::provision("example_service", "plan_one")
}

/// The same body, filled up with white space.
fn padded(length: usize) -> Vec<u8> {
    let mut body = tutorial().to_string().into_bytes();
    assert!(body.len() <= length);
    body.resize(length, b' ');
    body
}

/// The beginning of a request, of which the rest does not come.
const HALF_A_HEAD: &str = "GET /v2/catalog HTTP/1.1\r\nHost: bro";

/// Somebody who does everything right is served.
#[track_caller]
fn is_served(address: SocketAddr) {
    let mut client = Client::open(address);
    client.send(get_catalog());
    client.answer().expect(200);
}

/// An answer of the gate itself: a description, and the end of the connection.
#[track_caller]
fn is_refusal(answer: Response, status: u16) {
    let answer = answer.expect(status);
    assert_eq!(answer.header("Connection"), Some("close"));
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
}

/// A catalog that is served as about so many bytes.
fn large_catalog(bytes: usize) -> Value {
    let plan = |n: usize| {
        json!({
            "id": format!("plan-{n}"),
            "name": format!("plan-{n}"),
            "description": "x".repeat(1000),
        })
    };
    json!({ "services": [{
        "id": "large",
        "name": "large",
        "description": "Large",
        "bindable": true,
        "plans": (0..bytes / 1000).map(plan).collect::<Value>(),
    }]})
}

/// A number of /proc/PID/status in KiB, as in `VmRSS`.
fn kib(broker: &Broker, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", broker.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn descriptors(broker: &Broker) -> usize {
    let folder = format!("/proc/{}/fd", broker.pid());
    std::fs::read_dir(folder).unwrap().count()
}
