//! What a proxy says of its clients is believed of trusted proxies only.

use crate::client::Client;
use crate::support::{Broker, Setup};
use crate::{platform, setup};

use std::net::Ipv4Addr;

const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const WRONG: &str = "Authorization: Basic YWxleDpndWVzcw==\r\n";

/// Asks for the catalog from this address, and says what the log has of it.
fn logged(broker: &Broker, source: Ipv4Addr, fields: &str) -> String {
    let mut client = Client::from(source, broker.address);
    let seen = broker.printed().len();
    client.send(format!(
        "GET /v2/catalog HTTP/1.1\r\nHost: broker\r\n{}{fields}\r\n",
        platform()
    ));
    client.answer().expect(200);
    loop {
        let printed = broker.printed();
        if let Some(line) = printed[seen..]
            .lines()
            .find(|line| line.contains("event=request "))
        {
            return line.to_owned();
        }
        std::thread::yield_now();
    }
}

fn behind(proxies: &str) -> Setup {
    setup().env("BROKER_TRUSTED_PROXIES", proxies)
}

const FORWARDED: &str = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n";

#[test]
fn the_log_names_the_client_behind_a_trusted_proxy() {
    for proxies in ["127.0.0.2", "192.0.2.1, 127.0.0.2/31", "127.0.0.2/32"] {
        let broker = behind(proxies).start();
        let line = logged(&broker, PROXY, FORWARDED);
        assert!(line.contains("client=203.0.113.9 "), "{line}");
        assert!(line.contains("proto=https "), "{line}");
        let line = logged(&broker, Ipv4Addr::LOCALHOST, FORWARDED);
        assert!(line.contains("client=127.0.0.1 "), "{line}");
        assert!(!line.contains("https"), "{line}");
    }
}

#[test]
fn nobody_is_trusted_by_default() {
    let broker = setup().start();
    let line = logged(&broker, PROXY, FORWARDED);
    assert!(line.contains("client=127.0.0.2 "), "{line}");
    assert!(!line.contains("https"), "{line}");
}

#[test]
fn of_several_addresses_the_one_that_a_trusted_proxy_saw_counts() {
    let broker = behind("127.0.0.2,10.0.0.0/8").start();
    for (said, client) in [
        ("X-Forwarded-For: 1.1.1.1, 203.0.113.9\r\n", "203.0.113.9"),
        (
            "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 203.0.113.9\r\n",
            "203.0.113.9",
        ),
        (
            "X-Forwarded-For: 1.1.1.1, 203.0.113.9, 10.1.2.3\r\n",
            "203.0.113.9",
        ),
        ("X-Forwarded-For: 2001:db8::7\r\n", "2001:db8::7"),
        (
            "X-Forwarded-For: 203.0.113.9, event=forged\r\n",
            "127.0.0.2",
        ),
        ("X-Forwarded-For: \r\n", "127.0.0.2"),
        ("X-Forwarded-For: größe\r\n", "127.0.0.2"),
        ("", "127.0.0.2"),
    ] {
        let line = logged(&broker, PROXY, said);
        assert!(
            line.contains(&format!("client={client} ")),
            "{said:?}: {line}"
        );
    }
    for proto in ["ftp", "https event=forged", "https, http", ""] {
        let line = logged(&broker, PROXY, &format!("X-Forwarded-Proto: {proto}\r\n"));
        assert!(!line.contains("forged") && !line.contains("ftp"), "{line}");
    }
}

#[test]
fn wrong_passwords_count_for_the_client_behind_the_proxy() {
    let broker = behind("127.0.0.2").env("BROKER_LOGIN_RATE", "1").start();
    let guess = |source: Ipv4Addr, client: &str| {
        let mut connection = Client::from(source, broker.address);
        connection.send(format!(
            "GET /v2/catalog HTTP/1.1\r\nHost: broker\r\n{WRONG}X-Forwarded-For: {client}\r\n\r\n"
        ));
        connection
    };
    let mut guessing: Vec<Client> = (0..20).map(|_| guess(PROXY, "203.0.113.9")).collect();
    let waiting = |guessing: &[Client]| guessing.iter().any(Client::is_waiting);
    guess(PROXY, "203.0.113.10").answer().expect(401);
    assert!(waiting(&guessing));
    // Who is not trusted cannot make others wait, nor hide behind many addresses.
    guess(OTHER, "203.0.113.9").answer().expect(401);
    assert!(waiting(&guessing));
    for client in &mut guessing {
        client.answer().expect(401);
    }
    let hiding: Vec<Client> = (0..20)
        .map(|n| guess(OTHER, &format!("203.0.113.{n}")))
        .collect();
    guess(PROXY, "203.0.113.11").answer().expect(401);
    assert!(waiting(&hiding));
}

#[test]
fn a_list_of_proxies_that_is_not_one_is_refused_at_the_start() {
    for proxies in ["router.example.com", "10.0.0.0/33", "10.0.0.1;10.0.0.2"] {
        let output = behind(proxies).run();
        assert_eq!(output.status.code(), Some(78), "{proxies}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("BROKER_TRUSTED_PROXIES"), "{text}");
    }
}
