//! What clients can make the broker keep in memory.

use crate::client::Client;
use crate::support::Broker;
use crate::{is_refusal, is_served, kib, padded, request, setup, stranger};

use std::thread;

const MIB: usize = 1024 * 1024;

/// A request without valid credentials that declares a body.
fn put_of_stranger(framing: &str) -> String {
    format!(
        "PUT /v2/service_instances/i HTTP/1.1\r\nHost: broker\r\n{}{framing}\r\n\r\n",
        stranger()
    )
}

fn put(id: usize, length: usize) -> Vec<u8> {
    request(
        &format!("PUT /v2/service_instances/i{id}"),
        &format!("Content-Length: {length}\r\n"),
        b"",
    )
}

/// Does this, and says by how many KiB the broker's memory has grown at its highest.
fn growth(broker: &Broker, work: impl FnOnce()) -> u64 {
    is_served(broker.address);
    let before = kib(broker, "VmRSS");
    work();
    kib(broker, "VmHWM").saturating_sub(before)
}

#[test]
fn an_enormous_content_length_without_credentials_does_not_end_the_process() {
    let broker = setup().start();
    for length in ["9000000000000000", "18446744073709551615"] {
        let mut client = Client::open(broker.address);
        client.send(put_of_stranger(&format!("Content-Length: {length}")));
        client.send([b'x'; 2000]);
        is_refusal(client.last_answer(), 401);
    }
    let grown = growth(&broker, || is_served(broker.address));
    assert!(grown < 1024, "{grown} KiB");
}

#[test]
fn an_endless_head_is_not_kept() {
    let broker = setup().start();
    let grown = growth(&broker, || {
        for beginning in [
            "GET /v2/catalog HTTP/1.1\r\nHost: broker\r\nX-Endless: ",
            "GET /v2/catalog?",
            "GET",
        ] {
            let mut client = Client::open(broker.address);
            client.send(beginning);
            // Ends when the broker takes no more.
            for _ in 0..1000 {
                if client.try_send([b'x'; 64 * 1024]).is_err() {
                    break;
                }
            }
            is_refusal(client.last_answer(), 431);
        }
    });
    assert!(grown < 4096, "{grown} KiB");
    is_served(broker.address);
}

#[test]
fn bodies_without_credentials_are_not_kept() {
    let broker = setup().start();
    let grown = growth(&broker, || {
        thread::scope(|scope| {
            for n in 0..32 {
                let address = broker.address;
                scope.spawn(move || {
                    let mut client = Client::open(address);
                    let framing = match n % 2 {
                        0 => "Content-Length: 1000000",
                        _ => "Transfer-Encoding: chunked",
                    };
                    client.send(put_of_stranger(framing));
                    client.send(vec![b'x'; 1_000_000]);
                    is_refusal(client.last_answer(), 401);
                });
            }
        });
    });
    assert!(grown < 8 * 1024, "{grown} KiB");
}

#[test]
fn a_client_that_still_sends_when_it_is_refused_is_not_cut_off() {
    let broker = setup().start();
    let mut client = Client::open(broker.address);
    client.send(put_of_stranger("Content-Length: 1000000"));
    is_refusal(client.answer(), 401);
    // Whatever comes to a closed socket is answered with a reset, so the next write would fail.
    for _ in 0..4 {
        client.try_send([b'x'; 100]).unwrap();
        thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn large_bodies_take_turns() {
    let broker = setup().env("BROKER_BODY_MEMORY", "2MiB").start();
    let body = padded(MIB);
    let body = &body;
    thread::scope(|scope| {
        for n in 0..24 {
            let address = broker.address;
            scope.spawn(move || {
                let mut client = Client::open(address);
                client.send(put(n, MIB));
                for part in body.chunks(100_000) {
                    client.send(part);
                }
                client.answer().expect(201);
            });
        }
    });
}

#[test]
fn bodies_that_stall_share_the_memory() {
    let broker = setup()
        .env("BROKER_BODY_MEMORY", "2MiB")
        .env("BROKER_REQUEST_TIMEOUT", "2s")
        .start();
    let grown = growth(&broker, || {
        let almost_all = &padded(MIB)[1..];
        thread::scope(|scope| {
            for n in 0..64 {
                let address = broker.address;
                scope.spawn(move || {
                    let mut client = Client::open(address);
                    client.send(put(n, MIB));
                    client.send(almost_all);
                    is_refusal(client.last_answer(), 408);
                });
            }
        });
    });
    // All of them would be 64 MiB.
    assert!(grown < 16 * 1024, "{grown} KiB");
}

#[test]
fn bodies_that_stall_keep_others_waiting_for_the_time_of_a_request_only() {
    let broker = setup()
        .env("BROKER_BODY_MEMORY", "2MiB")
        .env("BROKER_REQUEST_TIMEOUT", "2s")
        .start();
    // They take all of the memory, declared or not, and send nothing for it.
    let mut stalled: Vec<Client> = (0..8).map(|_| Client::open(broker.address)).collect();
    for (n, client) in stalled.iter_mut().enumerate() {
        client.send(match n % 2 {
            0 => put(n, MIB),
            _ => request(
                &format!("PUT /v2/service_instances/i{n}"),
                "Transfer-Encoding: chunked\r\n",
                b"",
            ),
        });
    }
    // Small requests need none of it.
    is_served(broker.address);
    let body = crate::tutorial();
    broker.put("/v2/service_instances/small", &body).expect(201);
    for client in &mut stalled {
        is_refusal(client.last_answer(), 408);
    }
    let mut client = Client::open(broker.address);
    client.send(put(9, MIB));
    client.send(padded(MIB));
    client.answer().expect(201);
}

#[test]
fn stalled_bodies_hold_no_workers() {
    let broker = setup().env("BROKER_WORKERS", "2").start();
    let mut stalled: Vec<Client> = (0..16).map(|_| Client::open(broker.address)).collect();
    for (n, client) in stalled.iter_mut().enumerate() {
        client.send(put(n, 2000));
        client.send("{");
    }
    for n in 0..16 {
        let mut client = Client::open(broker.address);
        client.send(put_of_stranger("Content-Length: 2000"));
        is_refusal(client.last_answer(), 401);
        is_served(broker.address);
        let body = crate::tutorial();
        broker
            .put(&format!("/v2/service_instances/honest{n}"), &body)
            .expect(201);
    }
    // They are late, not lost.
    for client in &mut stalled {
        client.send(&padded(2000)[1..]);
        client.answer().expect(201);
    }
}
