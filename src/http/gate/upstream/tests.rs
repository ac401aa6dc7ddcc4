use super::*;
use crate::adapter::Kinds;
use crate::broker::Broker;
use crate::broker::plans::Plans;
use crate::http::auth::Credentials;
use crate::store::memory::Memory;

pub fn dispatcher() -> Dispatcher {
    let (offered, _) = crate::cli::load(None, &Kinds::standard(), &|_| None);
    let (catalog, fulfilments) = offered.unwrap();
    let plans = Plans::new(catalog, fulfilments);
    let broker = Broker::new(plans, Box::new(Memory::new()));
    Dispatcher::new(broker, Credentials::new([("alex", "bigsecret")]))
}

fn lines(usual: usize, most: usize) -> Upstream {
    Upstream::start(Arc::new(dispatcher()), usual, most).unwrap()
}

fn ask(line: &mut UpstreamConnection, target: &str) -> io::Result<u16> {
    let head = format!("GET {target} HTTP/1.1\r\n");
    let reply = line.exchange([head.as_bytes(), b" 192.0.2.1 -", b""], None)?;
    Ok(reply.status)
}

#[test]
fn a_line_carries_one_request_after_the_other() {
    let lines = lines(2, 2);
    for _ in 0..3 {
        let mut line = lines.take(None).unwrap();
        assert_eq!(ask(&mut line, "/healthz").unwrap(), 200);
        assert_eq!(ask(&mut line, "/v2/catalog").unwrap(), 401);
        lines.give_back(line);
    }
    assert_eq!(lines.inside().open, 1);
    assert!(lines.stop(Duration::from_secs(60)));
}

#[test]
fn whoever_has_not_the_key_is_refused() {
    use std::io::Read;
    let lines = lines(1, 1);
    let backend = lines.inside().backend.clone();
    for field in ["", "Gate: x 1 192.0.2.1 -\r\n"] {
        let mut stranger = backend.private.connect().unwrap();
        let request = format!("GET /healthz HTTP/1.1\r\nConnection: close\r\n{field}\r\n");
        stranger.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stranger.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }
}

#[test]
fn more_lines_are_opened_when_all_are_in_use_for_long_and_closed_again() {
    let lines = lines(2, 4);
    let mut taken: Vec<_> = (0..4).map(|_| lines.take(None).unwrap()).collect();
    let soon = Instant::now() + 2 * STALLED;
    let refused = lines.take(Some(soon)).err();
    assert_eq!(refused.map(|error| error.status), Some(503));
    for line in &mut taken {
        assert_eq!(ask(line, "/healthz").unwrap(), 200);
    }
    taken.into_iter().for_each(|line| lines.give_back(line));
    assert_eq!(lines.inside().open, 2);
}

#[test]
fn a_line_that_comes_back_is_given_to_whoever_waits() {
    let lines = lines(1, 1);
    let line = lines.take(None).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| lines.take(None).is_ok());
        while lines.inside().waiting == 0 {
            std::thread::yield_now();
        }
        lines.give_back(line);
        assert!(waiting.join().unwrap());
    });
}

#[test]
fn a_deaf_server_is_replaced_while_its_lines_go_on() {
    let lines = lines(2, 2);
    let mut old = lines.take(None).unwrap();
    let deaf = lines.inside().backend.clone();
    deaf.server.close();
    let mut new = lines.take(None).unwrap();
    assert!(!Arc::ptr_eq(&deaf, &lines.inside().backend));
    assert_eq!(ask(&mut old, "/healthz").unwrap(), 200);
    assert_eq!(ask(&mut new, "/healthz").unwrap(), 200);
    lines.give_back(old);
    lines.give_back(new);
    assert_eq!(lines.inside().idle.len(), 1);
}

#[test]
fn a_dead_line_is_noticed() {
    let lines = lines(1, 1);
    let mut line = lines.take(None).unwrap();
    line.stream.shutdown(std::net::Shutdown::Both).unwrap();
    assert!(ask(&mut line, "/healthz").is_err());
    lines.discard(line);
    let mut line = lines.take(None).unwrap();
    assert_eq!(ask(&mut line, "/healthz").unwrap(), 200);
}

#[test]
fn a_server_without_workers_gets_one() {
    let lines = lines(1, 1);
    let mut line = lines.take(None).unwrap();
    line.backend.server.retire_worker();
    assert_eq!(ask(&mut line, "/healthz").unwrap(), 200);
}
