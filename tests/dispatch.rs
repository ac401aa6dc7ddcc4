//! The dispatcher called without a socket: what a client or a store would have to be broken for.

#[path = "support/fake.rs"]
#[allow(dead_code, reason = "every test file uses a part of it")]
mod fake;
mod support;

use brokerlet::broker::Broker;
use brokerlet::http::auth::Credentials;
use brokerlet::http::dispatch::{Dispatcher, MAX_BODY};
use brokerlet::http::{Headers, Request};
use brokerlet::store::{Change, Error, Key, Outcome, Record, Store};
use fake::{Fake, PLANS, SERVICE, Shelf, offer};
use serde_json::Value;
use std::io::Read;
use std::sync::Arc;
use support::{PASSWORD, USERNAME, instance, provision};

/// A store that cannot be reached.
struct Gone;

fn gone<T>() -> Result<T, Error> {
    Err(Error::new("the disk is gone".to_owned()))
}

impl Store for Gone {
    fn read(&self, _: &[Key]) -> Result<Vec<Option<Record>>, Error> {
        gone()
    }

    fn bindings(&self, _: &str) -> Result<Vec<(String, Record)>, Error> {
        gone()
    }

    fn instances(&self, _: &str, _: usize) -> Result<Vec<(String, Record)>, Error> {
        gone()
    }

    fn open_operations(&self) -> Result<Vec<Key>, Error> {
        gone()
    }

    fn commit(&self, _: Vec<Change>) -> Result<Outcome, Error> {
        gone()
    }

    fn describe(&self) -> String {
        "gone".to_owned()
    }
}

fn dispatcher(broker: Arc<Broker>) -> Dispatcher {
    Dispatcher::new(broker, Credentials::new([(USERNAME, PASSWORD)]))
}

/// Status and body of the answer to a request with this body, of which the head declares this length.
fn ask(
    dispatcher: &Dispatcher,
    method: &str,
    target: &str,
    content_length: Option<u64>,
    body: &mut dyn Read,
) -> (u16, Value) {
    let mut request = Request {
        client: None,
        method,
        target,
        headers: Headers::new([
            ("Authorization", "Basic YWxleDpiaWdzZWNyZXQ="),
            ("X-Broker-API-Version", "2.17"),
        ]),
        content_length,
        body,
    };
    let (reply, _) = dispatcher.handle(&mut request);
    (
        reply.status,
        serde_json::from_slice(reply.body.as_ref()).unwrap(),
    )
}

#[test]
fn a_broker_whose_store_cannot_be_read_is_not_healthy() {
    let fake = Fake::default();
    let plans = || offer(&PLANS, &fake);
    let broken = dispatcher(Broker::new(plans(), Box::new(Gone)));
    let (status, body) = ask(&broken, "GET", "/healthz", None, &mut &b""[..]);
    assert_eq!(status, 503);
    assert!(!body["description"].as_str().unwrap().is_empty());
    // The catalog needs no store.
    let (status, _) = ask(&broken, "GET", "/v2/catalog", None, &mut &b""[..]);
    assert_eq!(status, 200);

    let sound = dispatcher(Broker::new(plans(), Box::new(Shelf::new())));
    let (status, _) = ask(&sound, "GET", "/healthz", None, &mut &b""[..]);
    assert_eq!(status, 200);
}

#[test]
fn a_body_that_ends_too_early_is_400_and_not_acted_on() {
    let fake = Fake::default();
    let broker = Broker::new(offer(&PLANS, &fake), Box::new(Shelf::new()));
    let dispatcher = dispatcher(broker);
    // The part that came is a whole request, taken alone.
    let body = provision(SERVICE, "small").to_string();
    let length = body.len() as u64;
    let target = instance("i");
    for declared in [length + 1, length + 1000, MAX_BODY] {
        let (status, answer) = ask(
            &dispatcher,
            "PUT",
            &target,
            Some(declared),
            &mut body.as_bytes(),
        );
        assert_eq!(status, 400, "{answer}");
        let told = answer["description"].as_str().unwrap();
        assert!(told.contains("before it was complete"), "{told}");
    }
    assert!(fake.calls().is_empty());
    let (status, answer) = ask(
        &dispatcher,
        "PUT",
        &target,
        Some(length),
        &mut body.as_bytes(),
    );
    assert_eq!(status, 201, "{answer}");
}

#[test]
fn a_body_may_be_as_large_as_the_limit_whether_its_length_is_declared_or_not() {
    let fake = Fake::default();
    let broker = Broker::new(offer(&PLANS, &fake), Box::new(Shelf::new()));
    let dispatcher = dispatcher(broker);
    let body = provision(SERVICE, "small").to_string();
    let padded = |length: u64| body.clone() + &" ".repeat(length as usize - body.len());
    for declared in [true, false] {
        for (length, wanted) in [(MAX_BODY, 201), (MAX_BODY + 1, 413)] {
            let target = instance(&format!("{declared}-{length}"));
            let (status, answer) = ask(
                &dispatcher,
                "PUT",
                &target,
                declared.then_some(length),
                &mut padded(length).as_bytes(),
            );
            assert_eq!(status, wanted, "{declared} {length} {answer}");
        }
    }
}
