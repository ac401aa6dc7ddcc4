//! How many connections there may be, and who has to wait or to leave.

use crate::client::Client;
use crate::{HALF_A_HEAD, get_catalog, is_refusal, is_served, provision, setup};

use std::net::SocketAddr;
use std::thread;

/// Connections that have begun a request, and so may stay; the broker has seen that.
fn busy(address: SocketAddr, count: usize) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..count).map(|_| Client::open(address)).collect();
    for client in &mut clients {
        let mut bytes = get_catalog();
        bytes.extend_from_slice(HALF_A_HEAD.as_bytes());
        client.send(bytes);
        client.answer().expect(200);
    }
    clients
}

/// The other half.
fn finish(client: &mut Client) {
    let whole = get_catalog();
    client.send("ker\r\n");
    let rest = whole.windows(2).position(|two| two == b"\r\n").unwrap() + 2;
    let rest = &whole[rest..];
    let host = rest.windows(2).position(|two| two == b"\r\n").unwrap() + 2;
    client.send(&rest[host..]);
    client.answer().expect(200);
}

#[test]
fn one_connection_too_many_gets_503_when_it_has_waited() {
    let broker = setup()
        .env("BROKER_MAX_CONNECTIONS", "4")
        .env("BROKER_QUEUE_TIMEOUT", "300ms")
        .start();
    let mut busy = busy(broker.address, 4);
    for _ in 0..3 {
        let mut late = Client::open(broker.address);
        late.send(get_catalog());
        let answer = late.last_answer();
        assert!(answer.header("Retry-After").is_some(), "{answer:?}");
        is_refusal(answer, 503);
    }
    // It is answered without having said anything, too.
    is_refusal(Client::open(broker.address).last_answer(), 503);
    busy.iter_mut().for_each(finish);
    is_served(broker.address);
}

#[test]
fn one_connection_too_many_is_served_when_another_ends() {
    let broker = setup().env("BROKER_MAX_CONNECTIONS", "4").start();
    let mut busy = busy(broker.address, 4);
    let mut late: Vec<Client> = (0..20).map(|_| Client::open(broker.address)).collect();
    for client in &mut late {
        client.send(get_catalog());
        client.finish_sending();
    }
    assert!(late.iter().all(Client::is_waiting));
    drop(busy.pop());
    for client in &mut late {
        client.last_answer().expect(200);
    }
    busy.iter_mut().for_each(finish);
}

#[test]
fn a_connection_that_becomes_idle_makes_room_for_one_that_waits() {
    let broker = setup().env("BROKER_MAX_CONNECTIONS", "4").start();
    let mut busy = busy(broker.address, 4);
    let mut late: Vec<Client> = (0..3).map(|_| Client::open(broker.address)).collect();
    for client in &mut late {
        client.send(get_catalog());
    }
    assert!(late.iter().all(Client::is_waiting));
    finish(&mut busy[0]);
    // Each of them becomes idle, too.
    for client in &mut late {
        client.answer().expect(200);
    }
    busy[1..].iter_mut().for_each(finish);
}

#[test]
fn a_connection_whose_next_request_has_come_makes_no_room() {
    for _ in 0..5 {
        let broker = setup().env("BROKER_MAX_CONNECTIONS", "4").start();
        let mut clients: Vec<Client> = (0..4).map(|_| Client::open(broker.address)).collect();
        for client in &mut clients {
            client.send(get_catalog());
            client.answer().expect(200);
        }
        // All that comes meanwhile comes at once.
        broker.signal("STOP");
        for client in &mut clients {
            client.send(HALF_A_HEAD);
        }
        let mut late = Client::open(broker.address);
        late.send(get_catalog());
        broker.signal("CONT");
        clients.iter_mut().for_each(finish);
        late.answer().expect(200);
    }
}

#[test]
fn idle_connections_make_room_the_longest_idle_first() {
    let broker = setup().env("BROKER_MAX_CONNECTIONS", "4").start();
    let mut idle: Vec<Client> = (0..4).map(|_| Client::open(broker.address)).collect();
    for client in &mut idle {
        client.send(get_catalog());
        client.answer().expect(200);
        // The clock of the gate has to see a difference.
        thread::sleep(std::time::Duration::from_millis(5));
    }
    let mut new = Client::open(broker.address);
    new.send(get_catalog());
    new.answer().expect(200);
    idle.remove(0).is_closed();
    for client in &mut idle {
        client.send(get_catalog());
        client.answer().expect(200);
    }
}

#[test]
fn three_hundred_silent_connections_do_not_keep_out_an_honest_client() {
    let broker = setup().start();
    let mut silent: Vec<Client> = (0..300).map(|_| Client::open(broker.address)).collect();
    for _ in 0..20 {
        is_served(broker.address);
    }
    // They cost no more than there may be connections.
    assert!(crate::kib(&broker, "Threads") <= 256 + 64);
    let waiting = silent.iter().filter(|client| client.is_waiting()).count();
    assert!(waiting <= 256, "{waiting} connections are open");
    silent.truncate(10);
    is_served(broker.address);
}

#[test]
fn connections_that_begin_a_request_and_stall_keep_out_nobody_who_has_credentials() {
    let broker = setup().env("BROKER_MAX_CONNECTIONS", "8").start();
    let mut stalled: Vec<Client> = (0..40).map(|_| Client::open(broker.address)).collect();
    for client in &mut stalled {
        client.send(HALF_A_HEAD);
    }
    for _ in 0..8 {
        is_served(broker.address);
    }
    // Those that were there first had to leave first, and were told nothing.
    for client in &mut stalled[..32] {
        assert_eq!(client.answers().len(), 0);
    }
    broker.wait_for_print("the connection has shown no valid credentials");
}

#[test]
fn those_who_guess_passwords_leave_before_those_who_have_one() {
    let broker = setup().env("BROKER_MAX_CONNECTIONS", "4").start();
    let mut known = Client::open(broker.address);
    known.send(get_catalog());
    known.answer().expect(200);
    for _ in 0..20 {
        let mut guesser = Client::open(broker.address);
        let guess = format!(
            "GET /v2/catalog HTTP/1.1\r\nHost: b\r\n{}\r\n",
            crate::stranger()
        );
        guesser.send(guess + HALF_A_HEAD);
        is_served(broker.address);
    }
    // It has rested longest, and has a claim.
    known.send(get_catalog());
    known.answer().expect(200);
}

#[test]
fn bursts_of_connections_are_all_served_while_they_live() {
    let broker = setup().start();
    for burst in 0..20 {
        let mut clients: Vec<Client> = (0..16).map(|_| Client::open(broker.address)).collect();
        for (n, client) in clients.iter_mut().enumerate() {
            client.send(provision(&format!("i{burst}-{n}"), ""));
        }
        for client in &mut clients {
            client.answer().expect(201);
        }
        for client in &mut clients {
            client.send(get_catalog());
        }
        for client in &mut clients {
            client.answer().expect(200);
        }
    }
}

#[test]
fn many_clients_take_turns_on_few_connections() {
    let broker = setup().env("BROKER_MAX_CONNECTIONS", "4").start();
    thread::scope(|scope| {
        for client in 0..16 {
            let address = broker.address;
            scope.spawn(move || {
                let mut connection = Client::open(address);
                for n in 0..20 {
                    let bytes = provision(&format!("i{client}-{n}"), "");
                    connection.send(&bytes);
                    // Whoever is asked to leave before the request has come gets nothing, and tries again.
                    let mut tries = 0;
                    let answer = loop {
                        if let Some(answer) = connection.next(false) {
                            break answer;
                        }
                        tries += 1;
                        assert!(tries < 100, "never served");
                        connection = Client::open(address);
                        connection.send(&bytes);
                    };
                    assert!(matches!(answer.status, 200 | 201), "{answer:?}");
                    if answer.header("Connection") == Some("close") {
                        connection.is_closed();
                        connection = Client::open(address);
                    }
                }
            });
        }
    });
}

#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    // Each worker takes a descriptor or two when it is needed first.
    let broker = setup().env("BROKER_WORKERS", "1").start();
    let descriptors = || crate::descriptors(&broker);
    let round = || {
        let mut clients: Vec<Client> = (0..50).map(|_| Client::open(broker.address)).collect();
        for (n, client) in clients.iter_mut().enumerate() {
            match n % 5 {
                0 => client.send(get_catalog()),
                1 => client.send(HALF_A_HEAD),
                2 => client.send("GET / HTTP/1.1\n\n"),
                3 => client.send([0x16, 0x03, 0x01, 0x02, 0x00, 0x01]),
                _ => {}
            }
        }
    };
    round();
    is_served(broker.address);
    let before = descriptors();
    for _ in 0..20 {
        round();
    }
    is_served(broker.address);
    // Those that are just being closed apart.
    for _ in 0..1000 {
        if descriptors() <= before {
            return;
        }
        thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{} descriptors, before {before}", descriptors());
}
