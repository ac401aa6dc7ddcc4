//! The limits of one request and one connection: size and time.

use crate::client::Client;
use crate::support::Broker;
use crate::{
    HALF_A_HEAD, descriptors, get_catalog, is_refusal, is_served, large_catalog, padded, provision,
    request, setup, stranger,
};

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

/// Short, and not so short that what comes in one go does not.
const SHORT: &str = "400ms";
const MIB: usize = 1024 * 1024;

/// The answer to bytes after which the broker closes the connection.
fn last_answer(address: SocketAddr, bytes: impl AsRef<[u8]>) -> crate::support::Response {
    let mut client = Client::open(address);
    client.send(bytes);
    client.last_answer()
}

/// A request whose head is exactly so long.
fn with_head_of(length: usize) -> Vec<u8> {
    let short = request("GET /v2/catalog", "X-Long: \r\n", b"").len();
    let long = "x".repeat(length - short);
    request("GET /v2/catalog", &format!("X-Long: {long}\r\n"), b"")
}

#[test]
fn a_head_may_have_32_kib_and_no_more() {
    let broker = setup().start();
    let mut client = Client::open(broker.address);
    client.send(with_head_of(32 * 1024));
    client.answer().expect(200);
    client.send(with_head_of(32 * 1024 + 1));
    is_refusal(client.last_answer(), 431);
    let target = format!("GET /v2/catalog?{}", "x".repeat(40_000));
    is_refusal(last_answer(broker.address, request(&target, "", b"")), 431);
    is_served(broker.address);
}

#[test]
fn a_head_may_have_64_fields_and_no_more() {
    let broker = setup().start();
    let with_fields = |count: usize| {
        // Host, credentials and version are among them.
        let fields: String = (3..count).map(|n| format!("X-{n}: x\r\n")).collect();
        request("GET /v2/catalog", &fields, b"")
    };
    let mut client = Client::open(broker.address);
    client.send(with_fields(64));
    client.answer().expect(200);
    client.send(with_fields(65));
    is_refusal(client.last_answer(), 431);
}

#[test]
fn a_body_may_have_1_mib_or_what_is_set_and_no_more() {
    for (setup, limit) in [
        (setup(), MIB),
        (setup().env("BROKER_MAX_BODY", "3MiB"), 3 * MIB),
    ] {
        let broker = setup.start();
        let put = |id: &str, length: usize| {
            let fields = format!("Content-Length: {length}\r\n");
            request(
                &format!("PUT /v2/service_instances/{id}"),
                &fields,
                &padded(length),
            )
        };
        let mut client = Client::open(broker.address);
        client.send(put("fits", limit));
        client.answer().expect(201);
        client.send(put("large", limit + 1));
        is_refusal(client.last_answer(), 413);
        broker
            .delete(&format!(
                "/v2/service_instances/large{}",
                crate::support::IDS
            ))
            .expect(410);
    }
}

#[test]
fn a_declared_body_that_is_too_large_is_refused_before_any_of_it_comes() {
    let broker = setup().start();
    for length in [
        "1048577",
        "9000000000000000",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999999999999999999",
    ] {
        let fields = format!("Content-Length: {length}\r\n");
        let head = request("PUT /v2/service_instances/i", &fields, b"");
        is_refusal(last_answer(broker.address, head), 413);
    }
}

#[test]
fn a_chunked_body_that_is_too_large_is_refused_when_it_is() {
    let broker = setup().start();
    let put = |id: &str| {
        request(
            &format!("PUT /v2/service_instances/{id}"),
            "Transfer-Encoding: chunked\r\n",
            b"",
        )
    };
    let chunk =
        |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    let mut client = Client::open(broker.address);
    client.send(put("fits"));
    for part in padded(MIB).chunks(64 * 1024) {
        client.send(chunk(part));
    }
    client.send("0\r\n\r\n");
    client.answer().expect(201);
    client.send(put("large"));
    for part in padded(MIB).chunks(64 * 1024) {
        client.send(chunk(part));
    }
    assert!(client.is_waiting());
    client.send("1\r\n");
    is_refusal(client.last_answer(), 413);
}

#[test]
fn without_credentials_the_size_of_a_body_does_not_matter() {
    let broker = setup().start();
    for credentials in [stranger(), String::new()] {
        for framing in [
            "Content-Length: 1000",
            "Content-Length: 9000000000000000",
            "Transfer-Encoding: chunked",
        ] {
            let head = format!(
                "PUT /v2/service_instances/i HTTP/1.1\r\nHost: broker\r\n{credentials}{framing}\r\n\r\n"
            );
            is_refusal(last_answer(broker.address, head), 401);
        }
    }
    is_served(broker.address);
}

#[test]
fn a_head_that_stalls_is_timed_out() {
    let broker = setup().env("BROKER_REQUEST_TIMEOUT", SHORT).start();
    for beginning in [
        "G",
        HALF_A_HEAD,
        "GET /v2/catalog HTTP/1.1\r\nHost: broker\r\n",
    ] {
        is_refusal(last_answer(broker.address, beginning), 408);
    }
    is_served(broker.address);
}

#[test]
fn a_head_that_comes_byte_by_byte_is_timed_out() {
    let broker = setup().env("BROKER_REQUEST_TIMEOUT", SHORT).start();
    let mut client = Client::open(broker.address);
    client.send(HALF_A_HEAD);
    // Ends with the connection, which ends long before a head of this length would.
    for _ in 0..2000 {
        if !client.is_waiting() {
            break;
        }
        client.send("x");
        thread::sleep(Duration::from_millis(10));
    }
    is_refusal(client.last_answer(), 408);
}

#[test]
fn a_body_that_stalls_is_timed_out() {
    let broker = setup().env("BROKER_REQUEST_TIMEOUT", SHORT).start();
    for (fields, body) in [
        ("Content-Length: 100\r\n", ""),
        ("Content-Length: 100\r\n", "{"),
        ("Content-Length: 100000\r\n", "{"),
        ("Content-Length: 100\r\nExpect: 100-continue\r\n", "{"),
        ("Transfer-Encoding: chunked\r\n", ""),
        ("Transfer-Encoding: chunked\r\n", "5"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhel"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n"),
    ] {
        let bytes = request("PUT /v2/service_instances/i", fields, body.as_bytes());
        is_refusal(last_answer(broker.address, bytes), 408);
    }
}

#[test]
fn a_body_that_comes_byte_by_byte_is_timed_out() {
    let broker = setup().env("BROKER_REQUEST_TIMEOUT", SHORT).start();
    let mut client = Client::open(broker.address);
    let fields = "Content-Length: 1000000\r\n";
    client.send(request("PUT /v2/service_instances/i", fields, b"{"));
    for _ in 0..2000 {
        if !client.is_waiting() {
            break;
        }
        client.send(" ");
        thread::sleep(Duration::from_millis(10));
    }
    is_refusal(client.last_answer(), 408);
}

#[test]
fn the_time_of_a_request_begins_anew_with_each() {
    let broker = setup().env("BROKER_REQUEST_TIMEOUT", SHORT).start();
    let mut client = Client::open(broker.address);
    client.send(get_catalog());
    client.answer().expect(200);
    // Longer than a request may take: the 408 of another tells.
    is_refusal(last_answer(broker.address, HALF_A_HEAD), 408);
    client.send(get_catalog());
    client.answer().expect(200);
    client.send(HALF_A_HEAD);
    is_refusal(client.last_answer(), 408);
}

#[test]
fn a_silent_connection_is_closed() {
    let broker = setup().env("BROKER_SILENT_TIMEOUT", SHORT).start();
    Client::open(broker.address).is_closed();
    // Empty lines are no request, but they are something.
    let mut client = Client::open(broker.address);
    client.send(get_catalog());
    client.answer().expect(200);
    // This one is not silent any more: it outlives another.
    Client::open(broker.address).is_closed();
    client.send(get_catalog());
    client.answer().expect(200);
}

#[test]
fn an_idle_connection_is_closed() {
    let broker = setup().env("BROKER_IDLE_TIMEOUT", SHORT).start();
    let mut silent = Client::open(broker.address);
    let mut client = Client::open(broker.address);
    client.send(get_catalog());
    client.answer().expect(200);
    client.is_closed();
    // Only connections that were used are idle.
    silent.send(get_catalog());
    silent.answer().expect(200);
}

#[test]
fn empty_lines_do_not_keep_a_connection_open() {
    let broker = setup()
        .env("BROKER_REQUEST_TIMEOUT", SHORT)
        .env("BROKER_SILENT_TIMEOUT", SHORT)
        .start();
    let mut client = Client::open(broker.address);
    for _ in 0..2000 {
        if !client.is_waiting() {
            break;
        }
        client.send("\r\n");
        thread::sleep(Duration::from_millis(10));
    }
    assert!(!client.is_waiting(), "the connection stays");
    is_served(broker.address);
}

/// Asks for a large catalog again and again, and reads nothing.
fn never_reads(broker: &Broker) -> Client {
    let mut client = Client::narrow(broker.address);
    client.send(get_catalog().repeat(40));
    client
}

#[test]
fn whoever_does_not_read_the_answer_is_disconnected() {
    let broker = setup()
        .env("BROKER_ANSWER_TIMEOUT", SHORT)
        .env("BROKER_WORKERS", "2")
        .catalog(&large_catalog(512 * 1024))
        .start();
    let mut clients: Vec<Client> = (0..8).map(|_| never_reads(&broker)).collect();
    // They hold up nobody, before and after.
    is_served(broker.address);
    for client in &mut clients {
        client.is_closed_unread(&get_catalog());
    }
    is_served(broker.address);
}

#[test]
fn whoever_reads_slowly_is_disconnected() {
    let broker = setup()
        .env("BROKER_ANSWER_TIMEOUT", SHORT)
        .catalog(&large_catalog(8 * 1024 * 1024))
        .start();
    is_served(broker.address);
    let before = descriptors(&broker);
    let mut client = Client::narrow(broker.address);
    client.send(get_catalog());
    while descriptors(&broker) <= before {
        thread::yield_now();
    }
    // What the system has taken over by then is still delivered.
    let came = client.trickle(|| descriptors(&broker) <= before);
    assert!(came < 8 * 1024 * 1024, "all of {came} bytes came");
    is_served(broker.address);
}

#[test]
fn a_time_that_has_passed_between_requests_takes_nothing_from_those_that_come() {
    let broker = setup()
        .env("BROKER_REQUEST_TIMEOUT", SHORT)
        .env("BROKER_ANSWER_TIMEOUT", SHORT)
        .start();
    let mut clients: Vec<Client> = (0..4).map(|_| Client::open(broker.address)).collect();
    for round in 0..3 {
        for (n, client) in clients.iter_mut().enumerate() {
            client.send(provision(&format!("i{round}-{n}"), ""));
            client.answer().expect(201);
        }
        is_refusal(last_answer(broker.address, HALF_A_HEAD), 408);
    }
}
