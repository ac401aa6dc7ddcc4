//! Adapters with outside effects: what the broker tells them, and what others see while they work and after they fail.

mod busy;
mod failures;
mod told;

#[path = "../support/fake.rs"]
#[allow(dead_code, reason = "every test file uses a part of it")]
mod fake;
#[path = "../support/mod.rs"]
mod support;

use brokerlet::adapter::{Failure, Identity, Origin};
use brokerlet::broker::Caller;
use brokerlet::store::{Key, Store};
use fake::{Answered, Api, Fake, Held, SERVICE, Shelf};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};
use support::merged;

fn small() -> Value {
    support::provision(SERVICE, "small")
}

fn large() -> Value {
    support::provision(SERVICE, "large")
}

fn bind() -> Value {
    support::bind(SERVICE, "small")
}

fn with_color(body: &Value, color: &str) -> Value {
    merged(body, json!({ "parameters": { "color": color } }))
}

/// A broker with the instance `i` and its binding `b`, of plan `small`.
fn bound() -> (Fake, Shelf, Api) {
    let (fake, shelf) = (Fake::default(), Shelf::new());
    let broker = shelf.broker(&fake);
    broker.provision("i", &small()).expect(201);
    broker.bind("i", "b", &bind()).expect(201);
    fake.calls();
    shelf.commits();
    (fake, shelf, broker)
}

/// Runs `request` into a held adapter, `meanwhile` while it is there, and returns the answer to the request.
fn during(
    held: &Held,
    request: impl FnOnce() -> Answered + Send,
    meanwhile: impl FnOnce(),
) -> Answered {
    thread::scope(|scope| {
        let request = scope.spawn(request);
        held.entered();
        meanwhile();
        held.release();
        request.join().unwrap()
    })
}
