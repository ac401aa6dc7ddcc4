//! Asynchronous operations: 202, polling, deletes that cut creations off, temporary failures, turns, restarts.

mod deletes;
#[path = "../support/fake.rs"]
#[allow(dead_code, reason = "every test file uses a part of it")]
mod fake;
mod polling;
mod restarts;
mod retries;
mod stop;
#[path = "../support/mod.rs"]
mod support;
mod turns;

use brokerlet::adapter::{Failure, Kind};
use brokerlet::store::Store;
use fake::{Answered, Api, Fake, SERVICE, Shelf};
use serde_json::{Value, json};
use std::thread;
use std::time::{Duration, Instant};
use support::merged;

fn small() -> Value {
    support::provision(SERVICE, "small")
}

fn bind() -> Value {
    support::bind(SERVICE, "small")
}

fn to_large() -> Value {
    json!({ "plan_id": "large", "parameters": { "a": 1 } })
}

fn asynchronous() -> (Fake, Shelf, Api) {
    let (fake, shelf) = (Fake::default(), Shelf::new());
    fake.set_async(&Kind::ALL);
    let broker = shelf.broker(&fake);
    (fake, shelf, broker)
}

/// A broker whose operations are all asynchronous, with the instance `i` and its binding `b`.
fn bound() -> (Fake, Shelf, Api) {
    let (fake, shelf, broker) = asynchronous();
    accepted(broker.provision("i", &small()));
    succeeds(broker.ended(|| broker.poll("i")));
    accepted(broker.bind("i", "b", &bind()));
    succeeds(broker.ended(|| broker.poll_binding("i", "b")));
    fake.calls();
    (fake, shelf, broker)
}

/// Asserts 202, and returns the operation.
#[track_caller]
fn accepted(answered: Answered) -> String {
    let body = answered.expect(202);
    let operation = body["operation"].as_str().unwrap();
    assert!(!operation.is_empty());
    operation.to_owned()
}

#[track_caller]
fn succeeds(answered: Answered) {
    assert_eq!(answered.expect(200), json!({ "state": "succeeded" }));
}

#[track_caller]
fn fails(answered: Answered) -> String {
    let body = answered.expect(200);
    assert_eq!(body["state"], "failed", "{body}");
    body["description"].as_str().unwrap().to_owned()
}

type Request = fn(&Api) -> Answered;
type Poll = fn(&Api) -> Answered;

/// Each operation on what [`bound`] made, how it is polled, and what it ends with.
const OPERATIONS: [(&str, Request, Poll, u16); 5] = [
    (
        "provision",
        |broker| broker.provision("new", &small()),
        |broker| broker.poll("new"),
        200,
    ),
    (
        "update",
        |broker| broker.update("i", &to_large()),
        |broker| broker.poll("i"),
        200,
    ),
    (
        "bind",
        |broker| broker.bind("i", "new", &bind()),
        |broker| broker.poll_binding("i", "new"),
        200,
    ),
    (
        "unbind",
        |broker| broker.unbind("i", "b", "small"),
        |broker| broker.poll_binding("i", "b"),
        410,
    ),
    (
        "deprovision",
        |broker| broker.deprovision("i", "small"),
        |broker| broker.poll("i"),
        410,
    ),
];

/// [`bound`], ready for one of [`OPERATIONS`].
fn ready_for(operation: &str) -> (Fake, Shelf, Api) {
    let (fake, shelf, broker) = bound();
    if operation == "deprovision" {
        accepted(broker.unbind("i", "b", "small"));
        broker.ended(|| broker.poll_binding("i", "b")).expect(410);
        fake.calls();
    }
    (fake, shelf, broker)
}
