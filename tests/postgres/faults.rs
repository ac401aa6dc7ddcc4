//! The database is away, comes back, or loses an answer.

use super::proxy::Proxy;
use super::support::servers::ADMIN_PASSWORD;
use super::support::{Request, bind, binding, instance, needs, provision};
use super::{Server, broker};

use serde_json::Value;
use std::time::{Duration, Instant};

fn request() -> Value {
    provision("example_service", "plan_one")
}

const DELETE: &str = "?service_id=example_service&plan_id=plan_one";

/// Until it answers so: the database takes its time to be found.
fn until(
    status: u16,
    mut send: impl FnMut() -> super::support::Response,
) -> super::support::Response {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let response = send();
        if response.status == status {
            return response;
        }
        assert!(
            Instant::now() < end,
            "{}: {}",
            response.status,
            response.description()
        );
    }
}

#[test]
fn a_restart_of_the_database_needs_none_of_the_broker() {
    let Some(mut server) = Server::start() else {
        return;
    };
    let broker = broker(&server.database("restarted"));
    broker.put(&instance("i"), &request()).expect(201);
    server.stop();
    let refused = broker.put(&instance("j"), &request()).expect(503);
    assert!(refused.header("Retry-After").is_some());
    assert!(
        refused.description().contains("nothing was changed"),
        "{}",
        refused.description()
    );
    assert!(!refused.description().contains(ADMIN_PASSWORD));
    // The process is well; only requests are no good.
    Request::new(broker.address, "GET", "/healthz")
        .send()
        .expect(200);
    Request::new(broker.address, "GET", "/readyz")
        .send()
        .expect(503);
    server.go_on();
    until(201, || broker.put(&instance("j"), &request()));
    broker.put(&instance("i"), &request()).expect(200);
    until(200, || {
        Request::new(broker.address, "GET", "/readyz").send()
    });
    assert!(!broker.printed().contains(ADMIN_PASSWORD));
}

#[test]
fn a_database_that_hangs_is_a_503_and_goes_on() {
    let Some(server) = Server::start() else {
        return;
    };
    let broker = broker(&server.database("hanging"));
    broker.put(&instance("i"), &request()).expect(201);
    let pids = server.psql("SELECT pid FROM pg_stat_activity WHERE datname = 'hanging'");
    let signal = |name: &str| {
        for pid in pids.lines().chain([server.pid().as_str()]) {
            needs::kill(name, pid);
        }
    };
    signal("STOP");
    broker.put(&instance("i"), &request()).expect(503);
    signal("CONT");
    until(200, || broker.put(&instance("i"), &request()));
}

/// The server has committed, and nobody hears of it: the broker finds out before it answers.
#[test]
fn the_answer_to_a_commit_is_lost_and_found() {
    let Some(server) = Server::start() else {
        return;
    };
    let proxy = Proxy::to(server.port);
    let direct = server.database("lost");
    let url = direct.replace(&format!(":{}/", server.port), &format!(":{}/", proxy.port));
    let broker = broker(&url);
    broker.put(&instance("first"), &request()).expect(201);
    for n in 1..=3 {
        let id = format!("i-{n}");
        proxy.lose_answers(n);
        broker.put(&instance(&id), &request()).expect(201);
        assert!(proxy.lost_all(), "{n}");
        broker.put(&instance(&id), &request()).expect(200);
        let bound = bind("example_service", "plan_one");
        proxy.lose_answers(1);
        broker.put(&binding(&id, "b"), &bound).expect(201);
        assert!(proxy.lost_all(), "{n}");
        broker.put(&binding(&id, "b"), &bound).expect(200);
        broker
            .delete(&format!("{}{DELETE}", instance(&id)))
            .expect(200);
        broker
            .delete(&format!("{}{DELETE}", instance(&id)))
            .expect(410);
    }
}

#[test]
fn a_network_that_is_cut_heals() {
    let Some(server) = Server::start() else {
        return;
    };
    let proxy = Proxy::to(server.port);
    let direct = server.database("cut");
    let url = direct.replace(&format!(":{}/", server.port), &format!(":{}/", proxy.port));
    let broker = broker(&url);
    broker.put(&instance("i"), &request()).expect(201);
    proxy.cut(true);
    broker.put(&instance("j"), &request()).expect(503);
    proxy.cut(false);
    until(201, || broker.put(&instance("j"), &request()));
    broker.put(&instance("i"), &request()).expect(200);
}
