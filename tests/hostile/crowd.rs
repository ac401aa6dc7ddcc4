//! A crowd without credentials takes no place from those who have them.

use crate::client::Client;
use crate::gather::Crowd;
use crate::{get_catalog, provision, setup};

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;

/// Honest clients at once, and requests of each: one after the other on a kept connection, and as many on new ones.
const CLIENTS: usize = 10;
const REQUESTS: usize = 50;

/// A thousand requests. Each is answered, at its first try.
fn are_served(address: SocketAddr) {
    thread::scope(|scope| {
        for n in 0..CLIENTS {
            scope.spawn(move || {
                let mut kept = Client::open(address);
                for m in 0..REQUESTS {
                    kept.send(provision(&format!("i{n}-{m}"), ""));
                    let answer = kept.answer().expect(201);
                    assert_eq!(answer.header("Connection"), None);
                    let mut new = Client::open(address);
                    new.send(get_catalog());
                    new.answer().expect(200);
                }
            });
        }
    });
}

fn beside(sources: Vec<Ipv4Addr>) {
    let broker = setup().start();
    let words = b"GET /v2/catalog HTTP/1.1\r\nHost: broker\r\nX-Slow: ";
    let crowd = Crowd::gather(broker.address, sources, words).unwrap();
    are_served(broker.address);
    // It had to make room, again and again.
    assert!(crowd.closed() > 1000);
}

#[test]
fn a_crowd_from_one_address_takes_no_place_from_those_who_have_a_password() {
    // The honest clients have the same one.
    beside(vec![Ipv4Addr::LOCALHOST]);
}

#[test]
fn a_crowd_from_many_addresses_takes_no_place_from_those_who_have_a_password() {
    beside((2..252).map(|n| Ipv4Addr::new(127, 0, 0, n)).collect());
}
