//! Requests through TLS: as without, with the same limits.

use crate::client::{Client, Connector, TLS_1_2, TLS_1_3};
use crate::material::{Authority, Pair};
use crate::support::{Request, Setup, instance, provision};
use crate::{setup, start};

use rustls::ProtocolVersion;
use serde_json::json;

/// A provision of that many bytes.
fn put(client: &mut Client, id: &str, length: usize) -> u16 {
    let mut body = provision("example_service", "plan_one").to_string();
    body += &" ".repeat(length.saturating_sub(body.len()));
    let address = ([127, 0, 0, 1], 1).into();
    let request = Request::new(address, "PUT", &instance(id)).body(body);
    client.send(request.bytes("keep-alive"));
    client.answer().unwrap().status
}

#[test]
fn both_versions_are_served() {
    let (broker, authority) = start();
    for (versions, version) in [
        (TLS_1_2, ProtocolVersion::TLSv1_2),
        (TLS_1_3, ProtocolVersion::TLSv1_3),
    ] {
        let connector = Connector {
            versions,
            ..Connector::trusting(&authority)
        };
        let mut client = connector.connect(broker.address).unwrap();
        assert_eq!(client.version(), version);
        for _ in 0..3 {
            client.get_catalog().expect(200);
        }
    }
    let (_, printed) = broker.stop();
    let requests = printed
        .lines()
        .filter(|line| line.contains("event=request "));
    assert!(
        requests.clone().count() == 6
            && requests.clone().all(|line| line.contains(" proto=https "))
    );
}

#[test]
fn the_protocol_of_the_application_is_http_1_1() {
    let (broker, authority) = start();
    let connector = Connector {
        alpn: &["h2", "http/1.1"],
        ..Connector::trusting(&authority)
    };
    let mut client = connector.connect(broker.address).unwrap();
    assert_eq!(client.alpn(), Some(&b"http/1.1"[..]));
    client.get_catalog().expect(200);
    let connector = Connector {
        alpn: &["h2"],
        ..Connector::trusting(&authority)
    };
    assert!(connector.connect(broker.address).is_err());
}

#[test]
fn large_bodies_and_answers_go_through() {
    let plan = |n: usize| json!({ "id": format!("p{n}"), "name": format!("p{n}"), "description": "x".repeat(1000) });
    let mut catalog = json!({ "services": [{
        "id": "large", "name": "large", "description": "Large", "bindable": true,
        "plans": (0..1000).map(plan).collect::<Vec<_>>(),
    }, {
        "id": "example_service", "name": "example_service", "description": "Example", "bindable": true,
        "plans": [{ "id": "plan_one", "name": "plan_one", "description": "One" }],
    }]});
    catalog["services"][0]["plans"][0]["free"] = json!(false);
    let authority = Authority::new("ours");
    let broker = setup(&authority.issue("localhost"))
        .catalog(&catalog)
        .start();
    let mut client = Client::open(broker.address, &authority);
    for n in 0..3 {
        let answer = client.get_catalog().expect(200);
        assert_eq!(
            answer.json()["services"][0]["plans"]
                .as_array()
                .unwrap()
                .len(),
            1000
        );
        assert_eq!(put(&mut client, &format!("i{n}"), 1024 * 1024), 201);
        assert_eq!(put(&mut client, &format!("small{n}"), 0), 201);
    }
    assert_eq!(put(&mut client, "too-large", 1024 * 1024 + 1), 413);
    client.is_closed();
}

#[test]
fn a_request_that_stalls_is_timed_out() {
    let authority = Authority::new("ours");
    let setup = setup(&authority.issue("localhost"));
    let broker = setup.env("BROKER_REQUEST_TIMEOUT", "1s").start();
    let mut client = Client::open(broker.address, &authority);
    client.get_catalog().expect(200);
    client.send("GET /v2/catalog HTTP/1.1\r\nHost: bro");
    client.answer().unwrap().expect(408);
    client.is_closed();
    Client::open(broker.address, &authority)
        .get_catalog()
        .expect(200);
}

#[test]
fn an_idle_connection_is_closed() {
    let authority = Authority::new("ours");
    let setup = setup(&authority.issue("localhost"));
    let broker = setup.env("BROKER_IDLE_TIMEOUT", "300ms").start();
    let mut client = Client::open(broker.address, &authority);
    client.get_catalog().expect(200);
    client.is_closed();
}

#[test]
fn what_is_no_request_is_refused() {
    let (broker, authority) = start();
    for bytes in [
        "GET / HTTP/1.1\nHost: x\n\n",
        "\u{0}\u{0}",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut client = Client::open(broker.address, &authority);
        client.send(bytes);
        client.answer().unwrap().expect(400);
        client.is_closed();
    }
}

#[test]
fn the_end_is_said_in_tls_and_requests_in_flight_are_finished_before() {
    let (mut broker, authority) = start();
    let mut idle = Client::open(broker.address, &authority);
    idle.get_catalog().expect(200);
    let mut busy = Client::open(broker.address, &authority);
    busy.get_catalog().expect(200);
    let bytes = Request::new(broker.address, "GET", "/v2/catalog").bytes("keep-alive");
    // Answered, and the next has begun: the broker knows both.
    busy.send([&bytes, &bytes[..20]].concat());
    busy.answer().unwrap().expect(200);
    broker.signal("TERM");
    idle.is_closed();
    busy.send(&bytes[20..]);
    busy.answer().unwrap().expect(200);
    busy.is_closed();
    assert_eq!(broker.wait().code(), Some(0));
}

/// A broker that wants certificates of its clients, of this authority.
fn mutual(own: &Pair, clients: &Authority) -> Setup {
    let setup = setup(own);
    let file = setup.folder.file("clients.pem", clients.pem());
    setup.env("BROKER_TLS_CLIENT_CA", file)
}

#[test]
fn clients_need_a_certificate_where_there_is_an_authority_for_them() {
    let (ours, platforms, others) = (
        Authority::new("ours"),
        Authority::new("platforms"),
        Authority::new("others"),
    );
    let broker = mutual(&ours.issue("localhost"), &platforms).start();
    let right = platforms.issue("platform");
    let (stranger, expired) = (others.issue("platform"), platforms.issue_for(2000, 2001));
    for versions in [TLS_1_2, TLS_1_3] {
        // In TLS 1.3 the client learns that it was refused only after its part of the handshake.
        let get = |own| {
            let connector = Connector {
                own,
                versions,
                ..Connector::trusting(&ours)
            };
            connector.connect(broker.address)?.try_get_catalog()
        };
        get(Some(&right)).unwrap().expect(200);
        for wrong in [None, Some(&stranger), Some(&expired)] {
            assert!(get(wrong).is_err());
        }
        get(Some(&right)).unwrap().expect(200);
    }
}

#[test]
fn a_certificate_does_not_replace_the_password() {
    let (ours, platforms) = (Authority::new("ours"), Authority::new("platforms"));
    let broker = mutual(&ours.issue("localhost"), &platforms).start();
    let own = platforms.issue("platform");
    let connector = Connector {
        own: Some(&own),
        ..Connector::trusting(&ours)
    };
    let mut client = connector.connect(broker.address).unwrap();
    let request = Request::new(broker.address, "GET", "/v2/catalog");
    client.send(request.without("Authorization").bytes("close"));
    client.answer().unwrap().expect(401);
    client.is_closed();
}
