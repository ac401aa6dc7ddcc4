//! Stopping under load, and starting again: no answered request is lost.

use crate::client::Client;
use crate::support::{Broker, Setup};
use crate::{HALF_A_HEAD, get_catalog, is_refusal, provision, setup, tutorial};

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const CLIENTS: usize = 8;

/// What became of a client's provisions.
#[derive(Default)]
struct Outcome {
    /// Those that were answered.
    answered: BTreeSet<String>,
    /// Those of which it is unknown whether they were carried out.
    unanswered: usize,
}

/// Provisions one instance after the other on one connection until the broker closes it.
fn provisions(address: SocketAddr, client: usize, counted: &AtomicUsize) -> Outcome {
    let mut outcome = Outcome::default();
    let mut connection = Client::open(address);
    for n in 0.. {
        let id = format!("i{client}-{n}");
        if connection.try_send(provision(&id, "")).is_err() {
            break;
        }
        let Some(answer) = connection.next(false) else {
            outcome.unanswered += 1;
            break;
        };
        let answer = answer.expect(201);
        outcome.answered.insert(id);
        counted.fetch_add(1, Ordering::SeqCst);
        if answer.header("Connection") == Some("close") {
            connection.is_closed();
            break;
        }
    }
    outcome
}

#[test]
fn a_rolling_restart_under_load_loses_no_answered_request() {
    let mut broker = Setup::new().start();
    let counted = AtomicUsize::new(0);
    let mut outcomes = Vec::new();
    thread::scope(|scope| {
        let address = broker.address;
        let counted = &counted;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| scope.spawn(move || provisions(address, client, counted)))
            .collect();
        while counted.load(Ordering::SeqCst) < 50 {
            thread::yield_now();
        }
        broker.signal("TERM");
        for client in clients {
            outcomes.push(client.join().unwrap());
        }
    });
    assert_eq!(broker.wait().code(), Some(0));
    let again = Setup::in_folder(broker.folder.clone()).start();
    for outcome in &outcomes {
        for id in &outcome.answered {
            // It exists: made anew, it would be 201.
            let target = crate::support::instance(id);
            again.put(&target, &tutorial()).expect(200);
        }
    }
    let answered: usize = outcomes.iter().map(|outcome| outcome.answered.len()).sum();
    assert!(answered >= 50);
    // A request can meet the end of its connection on the way, but only one that nobody has begun to work on.
    let printed = broker.printed();
    let worked_on = printed
        .matches("route=/v2/service_instances/:instance_id")
        .count();
    let in_log = printed.matches("outcome=created").count();
    assert_eq!(in_log, answered, "{worked_on} requests, {printed}");
}

#[test]
fn a_request_that_has_come_before_the_end_is_answered() {
    for _ in 0..10 {
        let mut broker = setup().start();
        let mut clients: Vec<Client> = (0..20).map(|_| Client::open(broker.address)).collect();
        for client in &mut clients {
            client.send(get_catalog());
            client.answer().expect(200);
        }
        for client in &mut clients {
            client.send(get_catalog());
        }
        broker.signal("TERM");
        for client in &mut clients {
            client.last_answer().expect(200);
        }
        assert_eq!(broker.wait().code(), Some(0));
    }
}

#[test]
fn silent_and_idle_connections_are_closed_at_the_end() {
    let mut broker = setup().start();
    let mut idle: Vec<Client> = (0..50).map(|_| Client::open(broker.address)).collect();
    for client in idle.iter_mut().step_by(2) {
        client.send(get_catalog());
        client.answer().expect(200);
    }
    broker.signal("TERM");
    idle.iter_mut().for_each(Client::is_closed);
    assert_eq!(broker.wait().code(), Some(0));
    assert!(!broker.printed().contains("did not finish"));
}

#[test]
fn a_request_that_is_on_its_way_at_the_end_is_answered_and_then_nothing_is_accepted() {
    let mut broker = setup().start();
    let whole = provision("i", "");
    let mut clients: Vec<Client> = [1, 50, whole.len() - 1]
        .map(|length| {
            let mut client = Client::open(broker.address);
            client.send([&get_catalog(), &whole[..length]].concat());
            client.answer().expect(200);
            client
        })
        .into();
    broker.signal("TERM");
    while TcpStream::connect(broker.address).is_ok() {
        thread::yield_now();
    }
    for (client, length) in clients.iter_mut().zip([1, 50, whole.len() - 1]) {
        client.send(&whole[length..]);
        let answer = client.last_answer();
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        assert_eq!(answer.header("Connection"), Some("close"));
    }
    assert_eq!(broker.wait().code(), Some(0));
    assert!(!broker.printed().contains("did not finish"));
}

#[test]
fn requests_that_stall_do_not_keep_the_broker_from_stopping() {
    let mut broker = setup().env("BROKER_REQUEST_TIMEOUT", "300ms").start();
    let mut stalled: Vec<Client> = (0..8).map(|_| Client::open(broker.address)).collect();
    for client in &mut stalled {
        client.send([&get_catalog(), HALF_A_HEAD.as_bytes()].concat());
        client.answer().expect(200);
    }
    broker.signal("TERM");
    for client in &mut stalled {
        is_refusal(client.last_answer(), 408);
    }
    assert_eq!(broker.wait().code(), Some(0));
}

#[test]
fn a_delayed_401_does_not_keep_the_broker_from_stopping() {
    let mut broker: Broker = setup().env("BROKER_LOGIN_RATE", "1").start();
    let mut guessing: Vec<Client> = (0..10).map(|_| Client::open(broker.address)).collect();
    for client in &mut guessing {
        // Accepted by now: the stop leaves nothing of these unread.
        client.send(get_catalog());
        client.answer().expect(200);
    }
    for client in &mut guessing {
        let wrong = crate::stranger();
        client.send(format!("GET / HTTP/1.1\r\nHost: broker\r\n{wrong}\r\n"));
    }
    guessing[0].answer().expect(401);
    broker.signal("TERM");
    for client in &mut guessing[1..] {
        client.last_answer().expect(401);
    }
    assert_eq!(broker.wait().code(), Some(0));
    assert!(!broker.printed().contains("did not finish"));
}
