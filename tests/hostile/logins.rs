//! Wrong passwords: the 401 of more than so many a second from one address is delayed, and nobody else's.

use crate::client::Client;
use crate::{HALF_A_HEAD, get_catalog, is_served, setup, stranger};

use std::net::{Ipv4Addr, SocketAddr};

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn guess() -> Vec<u8> {
    format!(
        "GET /v2/catalog HTTP/1.1\r\nHost: broker\r\n{}\r\n",
        stranger()
    )
    .into_bytes()
}

/// So many wrong passwords at once, from as many connections.
fn guesses(source: Ipv4Addr, address: SocketAddr, count: usize) -> Vec<Client> {
    let guessing = |_| {
        let mut client = Client::from(source, address);
        client.send(guess());
        client
    };
    (0..count).map(guessing).collect()
}

/// How many have no answer yet.
fn waiting(clients: &[Client]) -> usize {
    clients.iter().filter(|client| client.is_waiting()).count()
}

#[test]
fn more_wrong_passwords_than_allowed_have_to_wait() {
    let broker = setup().env("BROKER_LOGIN_RATE", "1").start();
    let mut guessing = guesses(HERE, broker.address, 20);
    // Another address is answered at once, with wrong passwords and right ones, while those wait.
    let mut other = Client::from(ELSEWHERE, broker.address);
    other.send(guess());
    other.answer().expect(401);
    assert!(waiting(&guessing) > 0, "nobody waits");
    other.send(get_catalog());
    other.answer().expect(200);
    assert!(waiting(&guessing) > 0, "nobody waits");
    // And the right password from the same address: who shares it with a guesser is not shut out.
    is_served(broker.address);
    assert!(waiting(&guessing) > 0, "nobody waits");
    for client in &mut guessing {
        client.answer().expect(401);
    }
}

#[test]
fn as_many_wrong_passwords_as_allowed_are_answered_at_once() {
    let broker = setup().env("BROKER_LOGIN_RATE", "1000").start();
    for mut client in guesses(HERE, broker.address, 50) {
        client.answer().expect(401);
    }
}

#[test]
fn whoever_waits_makes_room_for_others() {
    // Also who has sent more by then.
    for more in ["", HALF_A_HEAD] {
        let broker = setup()
            .env("BROKER_LOGIN_RATE", "1")
            .env("BROKER_MAX_CONNECTIONS", "4")
            .env("BROKER_QUEUE_TIMEOUT", "60s")
            .start();
        let mut guessing = guesses(HERE, broker.address, 12);
        guessing.iter_mut().for_each(|client| client.send(more));
        is_served(broker.address);
        for client in &mut guessing {
            // One whose request was not seen yet has made room without an answer.
            if let Some(answer) = client.next(false) {
                answer.expect(401);
            }
        }
    }
}

#[test]
fn a_request_without_any_password_is_no_guess() {
    let broker = setup().env("BROKER_LOGIN_RATE", "1").start();
    let mut asking: Vec<Client> = (0..20).map(|_| Client::open(broker.address)).collect();
    for client in &mut asking {
        client.send("GET /v2/catalog HTTP/1.1\r\nHost: broker\r\n\r\n");
        client.answer().expect(401);
    }
    // Nothing was counted: a first wrong password is answered before the many that come after it.
    let mut first = Client::open(broker.address);
    first.send(guess());
    first.answer().expect(401);
    let guessing = guesses(HERE, broker.address, 20);
    is_served(broker.address);
    assert!(waiting(&guessing) > 0);
}

#[test]
fn credentials_count_for_the_request_that_has_them_and_no_other() {
    let broker = setup().start();
    let mut client = Client::open(broker.address);
    let nobody = b"GET /v2/catalog HTTP/1.1\r\nHost: broker\r\n\r\n".to_vec();
    for (request, status) in [
        (get_catalog(), 200),
        (guess(), 401),
        (get_catalog(), 200),
        (nobody.clone(), 401),
        (get_catalog(), 200),
    ] {
        client.send(request);
        client.answer().expect(status);
    }
    // Also if they come at once.
    client.send([get_catalog(), guess(), get_catalog(), nobody].concat());
    for status in [200, 401, 200, 401] {
        client.answer().expect(status);
    }
}

#[test]
fn no_field_of_a_client_takes_the_place_of_credentials() {
    let broker = setup().start();
    for field in ["Gate: guess 1", "Gate: guess 1 127.0.0.1 https", "Gate:"] {
        let mut client = Client::open(broker.address);
        client.send(format!(
            "GET /v2/catalog HTTP/1.1\r\nHost: broker\r\nX-Broker-API-Version: 2.17\r\n{field}\r\n\r\n"
        ));
        client.answer().expect(401);
    }
}
