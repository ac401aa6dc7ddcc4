//! A crowd that never ends its handshakes takes no place from those who have credentials.

use crate::client::Client;
use crate::gather::Crowd;
use crate::material::Authority;
use crate::{handshakes, setup};

use std::net::Ipv4Addr;
use std::thread;

#[test]
fn a_crowd_of_half_handshakes_takes_no_place_from_those_who_have_a_password() {
    let authority = Authority::new("ours");
    let broker = setup(&authority.issue("localhost"))
        .env("BROKER_REQUEST_TIMEOUT", "10m")
        .env("BROKER_QUEUE_TIMEOUT", "10m")
        .start();
    let hello = handshakes::hello(3);
    let sources = vec![Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)];
    let half = &hello[..hello.len() / 2];
    let crowd = Crowd::gather(broker.address, sources, half).unwrap();
    thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                let mut kept = Client::open(broker.address, &authority);
                for _ in 0..20 {
                    kept.get_catalog().expect(200);
                    let mut new = Client::open(broker.address, &authority);
                    new.get_catalog().expect(200);
                }
            });
        }
    });
    assert!(crowd.closed() > 1000);
}
