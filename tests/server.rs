//! The process and its sockets: start, stop, what HTTP asks for, and what one broken request may cost.

#[path = "support/fake.rs"]
#[allow(dead_code, reason = "every test file uses a part of it")]
mod fake;
mod support;

use brokerlet::http::auth::Credentials;
use brokerlet::http::dispatch::Dispatcher;
use brokerlet::http::gate::{Gate, Settings};
use fake::{Fake, SERVICE, Shelf};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;
use support::connection::Connection;
use support::{Broker, PASSWORD, Request, Setup, USERNAME, binding, instance};

fn tutorial() -> Value {
    support::provision("example_service", "plan_one")
}

/// The tutorial's broker, its state in memory.
fn setup() -> Setup {
    Setup::new().env("BROKER_STORE", "memory")
}

/// A server in this process, on a free port.
fn serve(shelf: &Shelf, fake: &Fake) -> (Gate, SocketAddr) {
    let credentials = Credentials::new([(USERNAME, PASSWORD)]);
    let dispatcher = Dispatcher::new(shelf.broker(fake).0, credentials);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = Settings {
        workers: 4,
        ..Settings::default()
    };
    let gate = Gate::start(listener, dispatcher, settings, || {}).unwrap();
    let address = gate.address();
    (gate, address)
}

/// Waits until nobody listens any more.
fn until_refused(address: SocketAddr) {
    loop {
        match TcpStream::connect(address) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return,
            _ => thread::yield_now(),
        }
    }
}

/// A provision that has got as far as `100 Continue`: the broker works on it, and waits for the body.
fn begun(address: SocketAddr, id: &str) -> (Connection, Vec<u8>) {
    let mut connection = Connection::open(address);
    let request = Request::new(address, "PUT", &instance(id))
        .header("Expect", "100-continue")
        .json(&tutorial());
    let bytes = request.bytes("close");
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, body) = bytes.split_at(end.unwrap() + 4);
    connection.write(head);
    assert_eq!(connection.read(false).status, 100);
    (connection, body.to_vec())
}

#[test]
fn a_signal_stops_the_broker_with_exit_code_0() {
    for signal in ["TERM", "INT"] {
        let mut broker = setup().start();
        broker.get("/v2/catalog").expect(200);
        broker.signal(signal);
        assert_eq!(broker.wait().code(), Some(0), "{signal}");
        broker.wait_for_print(&format!("event=stopping signal=SIG{signal}"));
        broker.wait_for_print("event=stopped");
    }
}

#[test]
fn a_request_in_flight_is_finished_before_the_broker_stops() {
    for signal in ["TERM", "INT"] {
        let mut broker = setup().start();
        let (mut connection, body) = begun(broker.address, "i");
        broker.signal(signal);
        until_refused(broker.address);
        connection.write(&body);
        assert_eq!(connection.read(false).status, 201, "{signal}");
        assert_eq!(broker.wait().code(), Some(0), "{signal}");
    }
}

#[test]
fn idle_connections_do_not_keep_the_broker_from_stopping() {
    let mut broker = setup().start();
    let mut silent = Connection::open(broker.address);
    let mut idle = Connection::warm(broker.address);
    broker.signal("TERM");
    assert_eq!(broker.wait().code(), Some(0));
    assert!(!broker.printed().contains("did not finish"));
    assert!(idle.is_closed() && silent.is_closed());
}

#[test]
fn stopping_waits_for_the_adapter() {
    let (shelf, fake) = (Shelf::new(), Fake::default());
    let (server, address) = serve(&shelf, &fake);
    let held = fake.hold("provision");
    let body = support::provision(SERVICE, "small");
    let request = Request::new(address, "PUT", &instance("i")).json(&body);
    thread::scope(|scope| {
        let answer = scope.spawn(|| request.send());
        held.entered();
        let stopped = scope.spawn(|| server.stop(Duration::from_secs(20)));
        until_refused(address);
        assert!(!stopped.is_finished());
        held.release();
        answer.join().unwrap().expect(201);
        assert!(stopped.join().unwrap());
    });
    shelf.broker(&fake).provision("i", &body).expect(200);
}

#[test]
fn stopping_waits_no_longer_than_it_was_told() {
    let (shelf, fake) = (Shelf::new(), Fake::default());
    let (server, address) = serve(&shelf, &fake);
    let held = fake.hold("provision");
    let body = support::provision(SERVICE, "small");
    let request = Request::new(address, "PUT", &instance("i")).json(&body);
    thread::scope(|scope| {
        scope.spawn(|| request.try_send());
        held.entered();
        assert!(!server.stop(Duration::ZERO));
        held.release();
    });
}

#[test]
fn a_panic_costs_one_answer_and_nothing_else() {
    let (shelf, fake) = (Shelf::new(), Fake::default());
    let (server, address) = serve(&shelf, &fake);
    let send = |method: &str, target: &str, body: &Value| {
        Request::new(address, method, target).json(body).send()
    };
    let provision = support::provision(SERVICE, "small");
    let bind = support::bind(SERVICE, "small");
    // More often than there are workers: none of them is lost.
    for n in 0..10 {
        fake.panic("provision");
        let target = instance(&format!("i{n}"));
        let answer = send("PUT", &target, &provision).expect(500);
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
        assert!(!answer.description().contains("as it was told"));
        send("PUT", &target, &provision).expect(201);
        fake.panic("bind");
        let target = binding(&format!("i{n}"), "b");
        send("PUT", &target, &bind).expect(500);
        send("PUT", &target, &bind).expect(201);

        shelf.set_panics(true);
        let mut connection = Connection::open(address);
        let request = Request::new(address, "GET", &instance("i0"));
        let answer = connection.send(&request).expect(500);
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
        assert!(!answer.description().contains("as it was told"));
        shelf.set_panics(false);
        // Not even the connection.
        connection.send(&request).expect(200);
    }
    assert!(server.stop(Duration::from_secs(20)));
}

#[test]
fn a_port_in_use_ends_the_start_with_exit_code_74_and_says_which() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let output = setup().env("PORT", address.port().to_string()).run();
    assert_eq!(output.status.code(), Some(74));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.starts_with(&format!("brokerlet: cannot listen on {address}: ")),
        "{stderr}"
    );
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn a_connection_carries_several_requests() {
    let broker = setup().start();
    let mut connection = Connection::open(broker.address);
    let target = instance("i");
    let put = broker.request("PUT", &target).json(&tutorial());
    connection.send(&put).expect(201);
    connection.send(&put).expect(200);
    connection
        .send(&broker.request("GET", "/v2/catalog"))
        .expect(200);
    connection
        .send(&broker.request("GET", "/nowhere"))
        .expect(404);
    // An error that was found before the body was read costs the connection nothing, or the connection: the next
    // request is never read from the middle of a body.
    let refused = put.login(USERNAME, "wrong");
    connection.send(&refused).expect(401);
    let mut next = Connection::open(broker.address);
    next.send(&broker.request("GET", "/healthz")).expect(200);
}

#[test]
fn requests_that_are_sent_ahead_are_answered_in_their_order() {
    let broker = setup().start();
    let mut connection = Connection::open(broker.address);
    let mut bytes = Vec::new();
    for request in [
        broker.request("PUT", &instance("i")).json(&tutorial()),
        broker.request("GET", "/nowhere"),
        broker.request("GET", "/healthz"),
    ] {
        bytes.extend(request.bytes("keep-alive"));
    }
    connection.write(&bytes);
    let statuses = [(); 3].map(|()| connection.read(false).status);
    assert_eq!(statuses, [201, 404, 200]);
}

#[test]
fn a_client_that_wants_the_connection_closed_gets_it_closed() {
    let broker = setup().start();
    let mut connection = Connection::open(broker.address);
    connection.write(&broker.request("GET", "/healthz").bytes("close"));
    connection.read(false).expect(200);
    assert!(connection.is_closed());
}

#[test]
fn a_chunked_body_is_a_body() {
    let broker = setup().start();
    let body = tutorial().to_string();
    let (first, second) = body.split_at(body.len() / 3);
    let head = broker
        .request("PUT", &instance("i"))
        .header("Transfer-Encoding", "chunked")
        .bytes("keep-alive");
    // The harness declares a length for every PUT.
    let head = String::from_utf8(head)
        .unwrap()
        .replace("Content-Length: 0\r\n", "");
    let chunks = format!(
        "{:x}\r\n{first}\r\n{:X};name=value\r\n{second}\r\n0\r\n\r\n",
        first.len(),
        second.len()
    );
    let mut connection = Connection::open(broker.address);
    connection.write((head.clone() + &chunks).as_bytes());
    connection.read(false).expect(201);
    // The next request begins where the body ended.
    connection.write((head + &chunks).as_bytes());
    connection.read(false).expect(200);
}

#[test]
fn a_body_comes_in_pieces_of_any_size() {
    let broker = setup().start();
    let bytes = broker
        .request("PUT", &instance("i"))
        .json(&tutorial())
        .bytes("close");
    let mut connection = Connection::open(broker.address);
    for piece in bytes.chunks(7) {
        connection.write(piece);
    }
    connection.read(false).expect(201);
}

#[test]
fn a_client_that_expects_100_continue_gets_it() {
    let broker = setup().start();
    let (mut connection, body) = begun(broker.address, "i");
    connection.write(&body);
    assert_eq!(connection.read(false).status, 201);
    broker.put(&instance("i"), &tutorial()).expect(200);
}

/// RFC 9110, 9.3.2: the head of the answer to a HEAD is that of the answer to a GET.
#[test]
fn head_is_get_without_the_body() {
    let broker = setup().start();
    broker.put(&instance("i"), &tutorial()).expect(201);
    let last_operation = format!("{}/last_operation", instance("i"));
    for target in [
        "/v2/catalog",
        "/healthz",
        &last_operation,
        &instance("x"),
        "/nowhere",
    ] {
        let get = broker.get(target);
        let mut connection = Connection::open(broker.address);
        let head = connection.send(&broker.request("HEAD", target));
        assert_eq!(head.status, get.status, "{target}");
        for name in ["Content-Length", "Content-Type", "ETag", "Last-Modified"] {
            assert_eq!(head.header(name), get.header(name), "{target} {name}");
        }
        // Had there been a body, it would be taken for the next answer.
        let next = connection.send(&broker.request("GET", target));
        assert_eq!(next.body, get.body, "{target}");
    }
}

#[test]
fn the_health_check_needs_no_credentials() {
    let broker = setup().start();
    let check = |method: &str| {
        broker
            .request(method, "/healthz")
            .without("Authorization")
            .without("X-Broker-API-Version")
            .send()
    };
    let answer = check("GET").expect(200);
    assert_eq!(answer.json(), json!({ "status": "ok" }));
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(check("HEAD").status, 200);
    for method in ["PUT", "POST", "DELETE", "PATCH"] {
        let answer = check(method).expect(405);
        assert_eq!(answer.header("Allow"), Some("GET, HEAD"), "{method}");
    }
    // Everything else does.
    broker
        .request("GET", "/healthz/")
        .without("Authorization")
        .send()
        .expect(401);
}

#[test]
fn one_worker_serves_many_clients() {
    let broker = setup().env("BROKER_WORKERS", "1").start();
    let connections: Vec<_> = (0..8).map(|_| Connection::warm(broker.address)).collect();
    thread::scope(|scope| {
        for (n, mut connection) in connections.into_iter().enumerate() {
            let broker = &broker;
            scope.spawn(move || {
                let target = instance(&format!("i{n}"));
                let put = broker.request("PUT", &target).json(&tutorial());
                connection.send(&put).expect(201);
                connection.send(&put).expect(200);
                let target = format!("{target}{}", support::IDS);
                connection
                    .send(&broker.request("DELETE", &target))
                    .expect(200);
            });
        }
    });
    let (status, _) = broker.stop();
    assert_eq!(status.code(), Some(0));
}

/// A client that goes away in the middle costs nothing but its own request.
#[test]
fn clients_that_leave_early_cost_nothing() {
    let broker = setup().env("BROKER_WORKERS", "2").start();
    let request = broker.request("PUT", &instance("i")).json(&tutorial());
    let bytes = request.bytes("close");
    for n in (0..bytes.len()).step_by(23) {
        let mut connection = Connection::open(broker.address);
        connection.write(&bytes[..n]);
    }
    broker
        .get(&format!("{}/last_operation", instance("i")))
        .expect(404);
    broker.put(&instance("i"), &tutorial()).expect(201);
    let (status, _) = broker.stop();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn the_answer_to_everything_is_json_and_names_nothing_of_the_inside() {
    let broker = Broker::with(&json!({ "services": [{
        "id": "s", "name": "s", "description": "s", "bindable": true,
        "plans": [{ "id": "p", "name": "p", "description": "p" }]
    }]}));
    for (method, target, status) in [
        ("GET", "/v2/catalog", 200),
        ("GET", "/", 404),
        ("GET", "/v2/catalog/x", 404),
        ("POST", "/v2/catalog", 405),
        ("DELETE", "/v2/service_instances/i", 400),
    ] {
        let answer = broker.request(method, target).send();
        assert_eq!(answer.status, status, "{method} {target}");
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
        assert_eq!(answer.header("Server"), Some("brokerlet"));
        assert!(answer.json().is_object());
    }
}
