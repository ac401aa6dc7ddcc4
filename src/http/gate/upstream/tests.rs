use super::*;
use crate::adapter::Kinds;
use crate::broker::Broker;
use crate::broker::plans::Plans;
use crate::http::auth::Credentials;
use crate::store::memory::Memory;

use std::net::{IpAddr, Ipv4Addr};

pub fn dispatcher() -> Dispatcher {
    let (offered, _) = crate::adapter::load::load(None, &Kinds::standard(), &|_| None);
    let (catalog, fulfilments) = offered.unwrap();
    let plans = Plans::new(catalog, fulfilments);
    let broker = Broker::new(plans, Box::new(Memory::new()));
    Dispatcher::new(broker, Credentials::new([("alex", "bigsecret")]))
}

fn upstream(usual: usize, max: usize) -> Upstream {
    Upstream::start(Arc::new(dispatcher()), usual, max).unwrap()
}

/// An exchange that says which status it was answered with.
struct Asked(Context, SyncSender<Option<u16>>);

impl Exchange for Asked {
    fn context(&self) -> Option<Context> {
        Some(self.0)
    }

    fn complete(&self, reply: Option<Reply>) {
        self.1.try_send(reply.map(|reply| reply.status)).unwrap();
    }
}

/// The status of the answer to somebody without credentials. `None` if there is no answer.
fn ask(connection: &mut UpstreamConnection, target: &str) -> Option<u16> {
    let (answered, answer) = sync_channel(1);
    let context = Context {
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        proto: None,
        authentication: Credentials::new([]).check(None),
        too_large: None,
    };
    let head = format!("GET {target} HTTP/1.1\r\n");
    let asked = Arc::new(Asked(context, answered));
    connection.send([head.as_bytes(), b""], asked).ok()?;
    answer.recv().ok()?
}

#[test]
fn a_connection_carries_one_request_after_the_other() {
    let upstream = upstream(2, 2);
    for _ in 0..3 {
        let mut connection = upstream.acquire(None).unwrap();
        assert_eq!(ask(&mut connection, "/healthz"), Some(200));
        assert_eq!(ask(&mut connection, "/v2/catalog"), Some(401));
        upstream.release(connection);
    }
    assert_eq!(upstream.state().open, 1);
    assert!(upstream.stop(Duration::from_secs(60)));
}

#[test]
fn requests_without_the_key_are_refused() {
    use std::io::Read;
    let upstream = upstream(1, 1);
    let connection = upstream.acquire(None).unwrap();
    let (key, number) = (&connection.backend.key, connection.number);
    for field in [
        "".to_owned(),
        format!("Gate: x {number}\r\n"),
        format!("Gate: {key}\r\n"),
        // The right key; but no request is expected on that connection.
        format!("Gate: {key} {number}\r\n"),
        format!("Gate: {key} {}\r\n", number + 1000),
    ] {
        let mut stranger = connection.backend.socket.connect().unwrap();
        let request = format!("GET /healthz HTTP/1.1\r\nConnection: close\r\n{field}\r\n");
        stranger.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stranger.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 403 "), "{field}: {answer}");
    }
}

#[test]
fn more_connections_are_opened_when_all_are_in_use_for_long_and_closed_again() {
    let upstream = upstream(2, 4);
    let mut taken: Vec<_> = (0..4).map(|_| upstream.acquire(None).unwrap()).collect();
    let soon = Instant::now() + 2 * STALLED;
    let refused = upstream.acquire(Some(soon)).err();
    assert_eq!(refused.map(|error| error.status), Some(503));
    for connection in &mut taken {
        assert_eq!(ask(connection, "/healthz"), Some(200));
    }
    for connection in taken {
        upstream.release(connection);
    }
    assert_eq!(upstream.state().open, 2);
}

#[test]
fn a_connection_that_is_released_is_given_to_a_thread_that_waits() {
    let upstream = upstream(1, 1);
    let connection = upstream.acquire(None).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| upstream.acquire(None).is_ok());
        while upstream.state().waiting == 0 {
            std::thread::yield_now();
        }
        upstream.release(connection);
        assert!(waiting.join().unwrap());
    });
}

#[test]
fn a_broken_server_is_replaced_while_its_connections_go_on() {
    let upstream = upstream(2, 2);
    let mut old = upstream.acquire(None).unwrap();
    let broken = upstream.state().backend.clone();
    broken.server.close();
    let mut new = upstream.acquire(None).unwrap();
    assert!(!Arc::ptr_eq(&broken, &upstream.state().backend));
    assert_eq!(ask(&mut old, "/healthz"), Some(200));
    assert_eq!(ask(&mut new, "/healthz"), Some(200));
    upstream.release(old);
    upstream.release(new);
    assert_eq!(upstream.state().idle.len(), 1);
}

#[test]
fn a_dead_connection_is_noticed() {
    let upstream = upstream(1, 1);
    let mut connection = upstream.acquire(None).unwrap();
    assert!(connection.is_alive());
    connection
        .stream
        .shutdown(std::net::Shutdown::Both)
        .unwrap();
    assert!(!connection.is_alive());
    assert_eq!(ask(&mut connection, "/healthz"), None);
    upstream.discard(connection);
    let mut connection = upstream.acquire(None).unwrap();
    assert_eq!(ask(&mut connection, "/healthz"), Some(200));
}
