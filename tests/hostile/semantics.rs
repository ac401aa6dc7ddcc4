//! What HTTP promises to clients that are unusual, but in the right.

use crate::client::Client;
use crate::support::{Broker, IDS, instance, programs};
use crate::{
    HALF_A_HEAD, get_catalog, is_refusal, is_served, large_catalog, padded, platform, provision,
    request, setup, stranger, tutorial,
};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

const IDENTITY: &str = "X-Broker-API-Request-Identity";

/// A request that is told from others by the identity, which comes back.
fn numbered(n: usize, method_and_target: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    request(
        method_and_target,
        &format!("{IDENTITY}: r{n}\r\n{fields}"),
        body,
    )
}

/// spec: RFC 9112, 3.2.2: a server has to take them.
#[test]
fn a_target_in_absolute_form_is_answered_as_its_path_is() {
    let broker = setup().start();
    let mut client = Client::open(broker.address);
    for (target, status) in [
        ("http://broker.example.com/v2/catalog", 200),
        ("HTTP://[::1]:5000/v2/catalog?x=y", 200),
        ("https://broker/healthz", 200),
        ("http://other/v2/service_instances/i", 404),
        ("http://broker", 404),
    ] {
        client.send(request(&format!("GET {target}"), "", b""));
        let answer = client.answer();
        assert_eq!(answer.status, status, "{target}: {answer:?}");
    }
    client.send(request(
        "GET http://broker/v2/catalog",
        "X-Broker-API-Version: 1.0\r\n",
        b"",
    ));
    client.last_answer().expect(400);
    broker.wait_for_print("route=/v2/service_instances/:instance_id");
}

/// Kubernetes names all groups of a user, and hundreds of them are common.
#[test]
fn a_user_in_three_hundred_groups_is_served() {
    let broker = setup().start();
    let groups: Vec<_> = (0..300)
        .map(|n| format!("department-{n}-developers-of-the-company"))
        .collect();
    let user = json!({"username": "alex", "uid": "1", "groups": groups, "extra": {}});
    let identity = BASE64_STANDARD.encode(user.to_string());
    assert!(identity.len() > 17_000);
    let field = format!("X-Broker-API-Originating-Identity: kubernetes {identity}\r\n");
    let mut client = Client::open(broker.address);
    for n in 0..3 {
        client.send(provision(&format!("i{n}"), &field));
        client.answer().expect(201);
    }
    client.send(request("GET /v2/catalog", &field, b""));
    client.answer().expect(200);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let body = tutorial().to_string();
    let length = format!("Content-Length: {}\r\n", body.len());
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let target = |id: &str| format!("PUT {}", instance(id));
    let delete = format!("DELETE {}{IDS}", instance("a"));
    let mut wanted = Vec::new();
    let mut bytes = Vec::new();
    for round in 0..20 {
        let n = round * 6;
        bytes.extend(numbered(n, "GET /v2/catalog", "", b""));
        bytes.extend(numbered(n + 1, &target("a"), &length, body.as_bytes()));
        bytes.extend(numbered(
            n + 2,
            &target("b"),
            "Transfer-Encoding: chunked\r\n",
            chunks.as_bytes(),
        ));
        bytes.extend(numbered(n + 3, "GET /nowhere", "", b""));
        bytes.extend(numbered(n + 4, &delete, "", b""));
        bytes.extend(numbered(n + 5, "GET /healthz", "", b""));
        let b = if round == 0 { 201 } else { 200 };
        wanted.extend([200, 201, b, 404, 200, 200]);
    }
    for size in [bytes.len(), 4096, 100] {
        let broker = setup().start();
        let mut client = Client::open(broker.address);
        std::thread::scope(|scope| {
            let mut sender = client.copy();
            let bytes = &bytes;
            scope.spawn(move || bytes.chunks(size).for_each(|piece| sender.send(piece)));
            for (n, status) in wanted.iter().enumerate() {
                let answer = client.answer();
                assert_eq!(answer.status, *status, "request {n}: {answer:?}");
                assert_eq!(answer.header(IDENTITY), Some(&*format!("r{n}")));
            }
        });
        assert!(client.is_waiting());
    }
}

#[test]
fn pipelined_requests_end_with_the_one_that_closes() {
    let broker = setup().start();
    let mut client = Client::open(broker.address);
    client.send(get_catalog());
    client.send(request("GET /v2/catalog", "Connection: close\r\n", b""));
    client.send(provision("late", ""));
    client.answer().expect(200);
    let last = client.last_answer().expect(200);
    assert_eq!(last.header("Connection"), Some("close"));
    broker
        .delete(&format!("{}{IDS}", instance("late")))
        .expect(410);
}

#[test]
fn a_client_that_has_finished_sending_gets_its_answers() {
    let broker = setup().start();
    let mut client = Client::open(broker.address);
    client.send([get_catalog(), provision("i", ""), get_catalog()].concat());
    client.finish_sending();
    let statuses: Vec<u16> = client
        .answers()
        .iter()
        .map(|answer| answer.status)
        .collect();
    assert_eq!(statuses, [200, 201, 200]);
}

/// A broker whose program works on each provision until there is a file `go`, and a client that waits for that.
fn working() -> (Broker, Client) {
    let script = "echo >started; while [ ! -e go ]; do sleep 0.01; done; echo '{}'";
    let broker = programs::shell(script, json!({})).start();
    let mut client = Client::open(broker.address);
    client.send(slow("slow"));
    broker.wait_for_file("started");
    (broker, client)
}

fn slow(id: &str) -> Vec<u8> {
    let body = programs::provision().to_string();
    let fields = format!("Content-Length: {}\r\n", body.len());
    let target = format!("PUT {}", crate::support::instance(id));
    request(&target, &fields, body.as_bytes())
}

#[test]
fn a_request_that_comes_while_another_is_worked_on_is_answered_after_it() {
    let (broker, mut client) = working();
    for _ in 0..3 {
        client.send(request("GET /v2/nothing", "", b""));
        client.send(slow("other"));
    }
    client.send(HALF_A_HEAD);
    // Nobody else waits for it.
    is_served(broker.address);
    assert!(client.is_waiting());
    broker.folder.file("go", "");
    client.answer().expect(201);
    for round in 0..3 {
        client.answer().expect(404);
        client.answer().expect(if round == 0 { 201 } else { 200 });
    }
    assert!(client.is_waiting());
    client.finish_sending();
    is_refusal(client.last_answer(), 400);
}

#[test]
fn a_client_that_finishes_sending_while_its_request_is_worked_on_gets_its_answer() {
    let (broker, mut client) = working();
    client.finish_sending();
    is_served(broker.address);
    assert!(client.is_waiting());
    broker.folder.file("go", "");
    client.last_answer().expect(201);
}

#[test]
fn an_answer_that_the_system_does_not_take_at_once_comes_whole() {
    const BYTES: usize = 8 * 1024 * 1024;
    let broker = setup().catalog(&large_catalog(BYTES)).start();
    let mut client = Client::narrow(broker.address);
    client.send(get_catalog());
    // The worker that had the request has done its part.
    is_served(broker.address);
    let answer = client.last_answer().expect(200);
    assert!(answer.body.len() > BYTES, "{}", answer.body.len());
    assert!(
        answer.json()["services"][0]["plans"]
            .as_array()
            .unwrap()
            .len()
            > 8000
    );
}

#[test]
fn continue_is_said_once_the_head_is_accepted() {
    let broker = setup().start();
    let body = tutorial().to_string();
    let length = format!("Content-Length: {}\r\n", body.len());
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for (n, framing, body) in [
        (0, &*length, &*body),
        (1, "Transfer-Encoding: chunked\r\n", &*chunks),
    ] {
        let target = format!("PUT {}", instance(&format!("i{n}")));
        let fields = format!("{framing}Expect: 100-Continue\r\n");
        let mut client = Client::open(broker.address);
        client.send(request(&target, &fields, b""));
        let interim = client.answer();
        assert_eq!((interim.status, interim.body.len()), (100, 0));
        client.send(body);
        client.answer().expect(201);
        // The body comes without being asked for: there is nothing to invite.
        client.send(request(&target, &fields, body.as_bytes()));
        client.answer().expect(200);
    }
}

#[test]
fn continue_is_not_said_where_the_head_is_refused() {
    let broker = setup().start();
    for (fields, status) in [
        ("Content-Length: 1048577\r\n", 413),
        ("Content-Length: abc\r\n", 400),
        ("Transfer-Encoding: gzip\r\n", 400),
    ] {
        let fields = format!("{fields}Expect: 100-continue\r\n");
        let mut client = Client::open(broker.address);
        client.send(request("PUT /v2/service_instances/i", &fields, b""));
        is_refusal(client.last_answer(), status);
    }
    let mut client = Client::open(broker.address);
    client.send(format!(
        "PUT /v2/service_instances/i HTTP/1.1\r\nHost: broker\r\n{}Content-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        stranger()
    ));
    is_refusal(client.last_answer(), 401);
    let mut client = Client::open(broker.address);
    client.send(request("GET /v2/catalog", "Expect: 200-ok\r\n", b""));
    is_refusal(client.last_answer(), 417);
}

#[test]
fn clients_of_http_1_0_know_no_interim_answers() {
    let broker = setup().start();
    let bytes = provision("i", "Expect: 100-continue\r\n");
    let bytes = String::from_utf8(bytes)
        .unwrap()
        .replace("HTTP/1.1", "HTTP/1.0");
    let end = bytes.find("\r\n\r\n").unwrap() + 4;
    let mut client = Client::open(broker.address);
    client.send(&bytes[..end]);
    client.send(&bytes[end..]);
    client.last_answer().expect(201);
}

#[test]
fn connections_of_http_1_0_end_unless_the_client_wants_to_keep_them() {
    let broker = setup().start();
    let old = |fields: &str| format!("GET /v2/catalog HTTP/1.0\r\n{}{fields}\r\n", platform());
    let mut client = Client::open(broker.address);
    client.send(old(""));
    let answer = client.last_answer().expect(200);
    assert_eq!(answer.header("Connection"), Some("close"));
    let mut client = Client::open(broker.address);
    for _ in 0..3 {
        client.send(old("Connection: Keep-Alive\r\n"));
        let answer = client.answer().expect(200);
        assert_eq!(answer.header("Connection"), Some("keep-alive"));
    }
    client.send(old(""));
    client.last_answer().expect(200);
    // A body of unknown length cannot be in HTTP/1.0.
    let chunked = "PUT /v2/service_instances/i HTTP/1.0\r\n";
    let mut client = Client::open(broker.address);
    client.send(format!(
        "{chunked}{}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        platform()
    ));
    is_refusal(client.last_answer(), 400);
}

#[test]
fn the_answer_to_head_has_no_body() {
    let broker = setup().start();
    let mut client = Client::open(broker.address);
    for target in ["/v2/catalog", "/healthz", "/nowhere"] {
        client.send(request(&format!("GET {target}"), "", b""));
        let whole = client.answer();
        client.send(request(&format!("HEAD {target}"), "", b""));
        let head = client.answer_to_head();
        assert_eq!(head.status, whole.status, "{target}");
        assert_eq!(
            head.header("Content-Length"),
            whole.header("Content-Length")
        );
        // Whatever came of a body would be taken for the beginning of the next answer.
        client.send(get_catalog());
        client.answer().expect(200);
    }
}

#[test]
fn empty_lines_before_a_request_are_forgiven() {
    let broker = setup().start();
    let mut client = Client::open(broker.address);
    client.send(
        [
            "\r\n\r\n".as_bytes(),
            &get_catalog(),
            b"\r\n",
            &get_catalog(),
        ]
        .concat(),
    );
    client.answer().expect(200);
    client.answer().expect(200);
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let broker = setup().start();
    let mut client = Client::open(broker.address);
    for byte in provision("i", "") {
        client.send([byte]);
    }
    client.answer().expect(201);
}

#[test]
fn a_large_body_on_a_connection_leaves_it_as_it_was() {
    let broker = setup().start();
    let mut client = Client::open(broker.address);
    for (n, length) in [1_000_000, 400, 70_000, 1_048_576, 400]
        .into_iter()
        .enumerate()
    {
        let target = format!("PUT {}", instance(&format!("i{n}")));
        let fields = format!("Content-Length: {length}\r\n");
        client.send(request(&target, &fields, &padded(length)));
        client.answer().expect(201);
        client.send(get_catalog());
        client.answer().expect(200);
    }
}

#[test]
fn nothing_of_a_request_becomes_part_of_an_answers_head_unchecked() {
    let broker = setup().start();
    for value in [
        "a\nX-Injected: b",
        "a\rX-Injected: b",
        "a\r\n X-Injected: b",
        "a\n\nHTTP/1.1 200 OK",
        "a\u{0}b",
        "ä",
        "a\u{85}X-Injected: b",
        "a\u{2028}X-Injected: b",
        "a\u{1b}[2J",
    ] {
        let mut client = Client::open(broker.address);
        let fields = format!("{IDENTITY}: {value}\r\nConnection: close\r\n");
        client.send(request("GET /v2/catalog", &fields, b""));
        let answer = client.last_answer();
        assert!(matches!(answer.status, 200 | 400), "{value:?}: {answer:?}");
        assert_eq!(answer.header("X-Injected"), None, "{value:?}");
        assert_eq!(answer.header(IDENTITY), None, "{value:?}");
    }
    // In the target they are escaped, and stay so.
    for target in [
        "/v2/%0d%0aX-Injected:%20b",
        "/v2/service_instances/%0aX-Injected:%20b/last_operation",
    ] {
        let mut client = Client::open(broker.address);
        client.send(request(
            &format!("GET {target}"),
            "Connection: close\r\n",
            b"",
        ));
        assert_eq!(client.last_answer().header("X-Injected"), None, "{target}");
    }
    let mut client = Client::open(broker.address);
    client.send(request(
        "GET /v2/catalog",
        &format!("{IDENTITY}: plain one\r\n"),
        b"",
    ));
    let answer = client.answer().expect(200);
    assert_eq!(answer.header(IDENTITY), Some("plain one"));
    for line in broker.printed().lines() {
        assert!(line.starts_with("time="), "no line of ours: {line:?}");
    }
}
