//! Handshakes that do not end, or are none.

use crate::client::{Client, Connector, rest_of};
use crate::material::Authority;
use crate::{setup, start};

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

/// A ClientHello of an old client: TLS of this version, and nothing newer.
pub fn hello(minor: u8) -> Vec<u8> {
    let mut hello = vec![3, minor];
    hello.extend([7; 32]);
    // No session; two suites, one compression.
    hello.extend([0, 0, 4, 0xc0, 0x13, 0x00, 0x2f, 1, 0]);
    let length = hello.len() as u8;
    let mut record = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    record
}

/// How an alert and a ServerHello begin.
const ALERT: u8 = 21;

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

#[test]
fn older_versions_are_refused() {
    let (broker, authority) = start();
    for minor in [0, 1, 2] {
        let mut stream = connect(broker.address);
        stream.write_all(&hello(minor)).unwrap();
        let answer = rest_of(&stream);
        assert_eq!(answer.first(), Some(&ALERT), "3.{minor}: {answer:?}");
    }
    Client::open(broker.address, &authority)
        .get_catalog()
        .expect(200);
}

#[test]
fn handshakes_that_stall_hold_up_nobody_and_are_ended() {
    let authority = Authority::new("ours");
    let broker = setup(&authority.issue("localhost"))
        .env("BROKER_REQUEST_TIMEOUT", "2s")
        .env("BROKER_SILENT_TIMEOUT", "10m")
        .start();
    let stalled: Vec<TcpStream> = (0..40)
        .map(|n| {
            let mut stream = connect(broker.address);
            // Nothing but the beginning of a record, or of a handshake.
            let hello = hello(3);
            stream
                .write_all(&hello[..1 + n % (hello.len() - 1)])
                .unwrap();
            stream
        })
        .collect();
    Client::open(broker.address, &authority)
        .get_catalog()
        .expect(200);
    for stream in &stalled {
        rest_of(stream);
    }
    Client::open(broker.address, &authority)
        .get_catalog()
        .expect(200);
}

#[test]
fn a_handshake_that_comes_byte_by_byte_is_ended() {
    let authority = Authority::new("ours");
    let setup = setup(&authority.issue("localhost"));
    let broker = setup.env("BROKER_REQUEST_TIMEOUT", "400ms").start();
    let mut stream = connect(broker.address);
    // A record of 16 KiB, of which less comes in all this time than in any that is meant.
    stream
        .write_all(&[22, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xfb, 3, 3])
        .unwrap();
    for _ in 0..2000 {
        if stream.write_all(&[7]).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    rest_of(&stream);
    Client::open(broker.address, &authority)
        .get_catalog()
        .expect(200);
}

#[test]
fn the_handshake_counts_as_part_of_the_first_request() {
    let authority = Authority::new("ours");
    let setup = setup(&authority.issue("localhost"));
    let broker = setup.env("BROKER_REQUEST_TIMEOUT", "500ms").start();
    // After the handshake nothing comes; this is no idle connection, which could stay for minutes.
    let mut client = Client::open(broker.address, &authority);
    let answer = client.answer();
    if let Ok(answer) = answer {
        answer.expect(408);
    }
    Client::open(broker.address, &authority)
        .get_catalog()
        .expect(200);
}

#[test]
fn a_silent_connection_is_closed() {
    let authority = Authority::new("ours");
    let setup = setup(&authority.issue("localhost"));
    let broker = setup.env("BROKER_SILENT_TIMEOUT", "300ms").start();
    assert!(rest_of(&connect(broker.address)).is_empty());
}

#[test]
fn what_is_no_tls_is_refused_with_one_line_in_the_log() {
    for bytes in [
        &b"\0\0\0\0\0\0\0\0\0\0"[..],
        &[0xff; 10_000],
        &[22, 3, 1, 0xff, 0xff, 0, 0, 0],
    ] {
        let (broker, authority) = start();
        let mut stream = connect(broker.address);
        stream.write_all(bytes).unwrap();
        let _ = stream.shutdown(Shutdown::Write);
        let answer = rest_of(&stream);
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
        Client::open(broker.address, &authority)
            .get_catalog()
            .expect(200);
        let (_, printed) = broker.stop();
        assert_eq!(
            printed.matches("event=request_refused").count(),
            1,
            "{printed}"
        );
    }
}

#[test]
fn http_on_a_port_of_https_is_told_so() {
    let (broker, authority) = start();
    let mut stream = connect(broker.address);
    stream
        .write_all(b"GET /v2/catalog HTTP/1.1\r\nHost: broker\r\n\r\n")
        .unwrap();
    let answer = String::from_utf8(rest_of(&stream)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let told = "The client speaks http, and this port https";
    assert!(answer.contains(told), "{answer}");
    broker.wait_for_print(told);
    Client::open(broker.address, &authority)
        .get_catalog()
        .expect(200);
}

#[test]
fn the_limit_of_connections_holds() {
    let authority = Authority::new("ours");
    let broker = setup(&authority.issue("localhost"))
        .env("BROKER_MAX_CONNECTIONS", "4")
        .env("BROKER_QUEUE_TIMEOUT", "300ms")
        .start();
    let mut busy: Vec<Client> = (0..4)
        .map(|_| {
            let mut client = Client::open(broker.address, &authority);
            client.get_catalog().expect(200);
            client.send("GET /v2/catalog HTTP/1.1\r\n");
            client
        })
        .collect();
    // One whose half of a request was not seen yet is taken for idle, and makes room for the next, which is busy then.
    let is_refused = |_| match Connector::trusting(&authority).connect(broker.address) {
        Err(_) => true,
        Ok(mut client) => {
            let _ = client.try_send("GET /v2/catalog HTTP/1.1\r\n");
            busy.push(client);
            false
        }
    };
    assert!((0..100).any(is_refused));
    busy.clear();
    Client::open(broker.address, &authority)
        .get_catalog()
        .expect(200);
}
