//! `brokerlet health`: whether a running broker is healthy, and what it says of one that is not.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Output;
use std::time::{Duration, Instant};
use support::{Broker, Setup, brokerlet};

/// `brokerlet health` with these arguments in this environment: its exit code, standard output and standard error.
fn health(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut command = brokerlet();
    command.arg("health").args(arguments);
    command.envs(environment.iter().copied());
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[track_caller]
fn expect_healthy(arguments: &[&str], environment: &[(&str, &str)], url: &str) {
    let wanted = (Some(0), format!("{url}: healthy\n"), String::new());
    assert_eq!(health(arguments, environment), wanted);
}

#[track_caller]
fn expect_ill(arguments: &[&str], url: &str, why: &str) {
    let (code, printed, told) = health(arguments, &[]);
    assert_eq!((code, printed.as_str()), (Some(1), ""), "{told}");
    let wanted = format!("brokerlet: {url}: {why}");
    assert!(told.starts_with(&wanted), "{wanted:?} is not {told:?}");
    assert_eq!(told.lines().count(), 1, "{told}");
}

#[test]
fn the_environment_of_the_broker_says_where_to_ask() {
    let broker = Broker::in_memory();
    let port = broker.address.port().to_string();
    let url = format!("http://127.0.0.1:{port}/healthz");
    expect_healthy(&[], &[("PORT", &port)], &url);
    expect_healthy(&[], &[("VCAP_APP_PORT", &port), ("PORT", "")], &url);
    let everything = [("PORT", &*port), ("BROKER_ADDRESS", "0.0.0.0")];
    expect_healthy(&[], &everything, &url);
    let itself = [("PORT", &*port), ("BROKER_ADDRESS", "127.0.0.1")];
    expect_healthy(&[], &itself, &url);
}

#[test]
fn a_url_may_be_named_with_a_path_or_without() {
    let broker = Broker::in_memory();
    let port = broker.address.port();
    let base = format!("http://127.0.0.1:{port}");
    for named in [base.clone(), base.clone() + "/", base.clone() + "/healthz"] {
        expect_healthy(&[&named], &[], &format!("{base}/healthz"));
    }
    let by_name = format!("http://localhost:{port}");
    expect_healthy(&[&by_name], &[], &format!("{by_name}/healthz"));
    // The catalog is for those with a password.
    let catalog = base + "/v2/catalog";
    expect_ill(&[&catalog], &catalog, "answered 401, wanted 200\n");
}

#[test]
fn a_broker_on_ipv6_is_asked_there() {
    if TcpListener::bind("[::1]:0").is_err() {
        // Without IPv6 on this machine there is nothing to see.
        return;
    }
    for address in ["::", "::1"] {
        let setup = Setup::new().env("BROKER_STORE", "memory");
        let broker = setup.env("BROKER_ADDRESS", address).start();
        let port = broker.address.port().to_string();
        let url = format!("http://[::1]:{port}");
        let set = [("PORT", &*port), ("BROKER_ADDRESS", address)];
        expect_healthy(&[], &set, &format!("{url}/healthz"));
        expect_healthy(&[&url], &[], &format!("{url}/healthz"));
    }
}

/// Answers one connection with these bytes, and holds it open.
fn stranger(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        connection.write_all(answer).unwrap();
        _ = connection.read_to_end(&mut Vec::new());
    });
    address
}

#[test]
fn what_is_not_healthy_is_told() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/healthz", closed.local_addr().unwrap());
    drop(closed);
    expect_ill(&[&url], &url, "Connection refused");
    for (answer, why) in [
        (
            &b"HTTP/1.1 503 Service Unavailable\r\n\r\n"[..],
            "answered 503, wanted 200\n",
        ),
        (b"SSH-2.0-x\r\n", "the answer is not HTTP\n"),
        (&[b'x'; 2000], "the answer is not HTTP\n"),
    ] {
        let url = format!("http://{}/healthz", stranger(answer));
        expect_ill(&[&url], &url, why);
    }
}

#[test]
fn who_does_not_answer_is_not_waited_for() {
    let url = format!("http://{}/healthz", stranger(b"HTTP/1.1 "));
    let begun = Instant::now();
    expect_ill(&[&url], &url, "no answer within 5 seconds\n");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn wrong_urls_and_environments_have_codes_of_their_own() {
    for (url, why) in [
        ("localhost", "no scheme"),
        ("ftp://localhost", "another scheme"),
        ("http://::1:5000", "an IPv6 address stands within []"),
        ("http://localhost:http", "no such port"),
    ] {
        let (code, printed, told) = health(&[url], &[]);
        assert_eq!((code, printed.as_str()), (Some(64), ""));
        let wanted = format!("brokerlet: health: found {url:?}: {why}; wanted http://HOST");
        assert!(told.starts_with(&wanted), "{told}");
        assert!(told.contains("\n\nUsage:\n"), "{told}");
    }
    assert_eq!(health(&["http://x", "http://y"], &[]).0, Some(64));
    for (name, value, why) in [
        ("PORT", "http", "PORT: found \"http\", wanted a port"),
        ("PORT", "0", "PORT: found 0, "),
        ("BROKER_ADDRESS", "here", "BROKER_ADDRESS: found \"here\""),
    ] {
        let (code, printed, told) = health(&[], &[(name, value)]);
        assert_eq!((code, printed.as_str()), (Some(78), ""));
        assert!(told.starts_with(&format!("brokerlet: {why}")), "{told}");
    }
}
