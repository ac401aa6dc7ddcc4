//! TLS to a web service: whom the broker trusts, and who it is.

use super::catalog;
use super::material::{Authority, Pair};
use super::service::{Gate, ReadWrite, Service, done};
use crate::support::programs::provision;
use crate::support::{Folder, Setup, instance};

use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

/// The certificates that clients have shown.
type Shown = Arc<Mutex<Vec<Vec<u8>>>>;

/// A service that is this one, and wants clients that this authority knows.
fn service(pair: &Pair, clients: Option<&Authority>, shown: &Shown) -> Service {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let roots = Arc::new(authority.roots());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let config = builder
        .with_single_cert(vec![pair.der()], pair.key_der())
        .unwrap();
    let (config, shown) = (Arc::new(config), shown.clone());
    let wrap = move |stream: TcpStream| {
        let connection = ServerConnection::new(config.clone()).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).ok()?;
        }
        let certificate = stream.conn.peer_certificates();
        let certificate = certificate.map(|chain| chain[0].to_vec());
        shown.lock().unwrap().extend(certificate);
        Some(Box::new(stream) as Box<dyn ReadWrite>)
    };
    Service::over("127.0.0.1:0", wrap, |_, out| done(out))
}

fn setup(folder: &Arc<Folder>, service: &Service, settings: &Value) -> Setup {
    let url = format!("https://localhost:{}/brokerlet", service.address.port());
    Setup::in_folder(folder.clone())
        .env("BROKER_STORE", "memory")
        .catalog(&catalog(&url, settings))
}

#[test]
fn a_service_is_trusted_whose_certificate_an_authority_of_the_settings_or_the_system_signed() {
    let authority = Authority::new("ours");
    let folder = Arc::new(Folder::new());
    let ca = folder.file("ca.pem", authority.pem());
    let service = service(&authority.issue("localhost"), None, &Shown::default());
    for (settings, system) in [(json!({ "ca": "ca.pem" }), None), (json!({}), Some(&ca))] {
        let mut setup = setup(&folder, &service, &settings);
        if let Some(system) = system {
            setup = setup.env("SSL_CERT_FILE", system);
        }
        let broker = setup.start();
        broker.put(&instance("i-1"), &provision()).expect(201);
        broker.put(&instance("i-2"), &provision()).expect(201);
    }
    let connections: Vec<_> = service
        .heard()
        .iter()
        .map(|heard| heard.connection)
        .collect();
    assert_eq!(connections, [0, 0, 1, 1], "connections are kept");
}

#[test]
fn a_service_that_is_somebody_else_is_told_nothing() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let folder = Arc::new(Folder::new());
    folder.file("ca.pem", ours.pem());
    for (pair, why) in [
        (theirs.issue("localhost"), "UnknownIssuer"),
        (ours.issue("elsewhere.example.com"), "not valid for name"),
        (ours.issue_for(2001, 2002), "expired"),
    ] {
        let service = service(&pair, None, &Shown::default());
        let broker = setup(&folder, &service, &json!({ "ca": "ca.pem" })).start();
        broker
            .put(&instance("i-1"), &provision())
            .expect_naming(500, "cannot be spoken to");
        broker.wait_for_print("TLS: ");
        broker.wait_for_print(why);
        assert_eq!(service.heard().len(), 0);
    }
    // Nor one that speaks no TLS.
    let service = Service::start(|_, out| done(out));
    let broker = setup(
        &folder,
        &service,
        &json!({ "ca": "ca.pem", "timeout": "2s" }),
    )
    .start();
    let answer = broker.put(&instance("i-1"), &provision());
    assert!(answer.status >= 500, "{}", answer.status);
}

#[test]
fn the_broker_shows_its_certificate_and_a_new_one_needs_no_restart() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let folder = Arc::new(Folder::new());
    folder.file("ca.pem", servers.pem());
    let shown = Shown::default();
    let service = service(&servers.issue("localhost"), Some(&clients), &shown);
    let settings = json!({ "ca": "ca.pem", "certificate": "own.pem", "key": "own.key" });
    let pairs = [clients.issue("broker"), clients.issue("broker")];
    let mut broker = None;
    for (n, pair) in pairs.iter().enumerate() {
        folder.file("own.pem", &pair.certificate);
        folder.file("own.key", &pair.key);
        let broker = broker.get_or_insert_with(|| setup(&folder, &service, &settings).start());
        broker
            .put(&instance(&format!("i-{n}")), &provision())
            .expect(201);
    }
    let wanted: Vec<_> = pairs.iter().map(|pair| pair.der().to_vec()).collect();
    assert_eq!(*shown.lock().unwrap(), wanted);

    // Without one it is told so, and nobody is asked again and again.
    let broker = setup(
        &folder,
        &service,
        &json!({ "ca": "ca.pem", "timeout": "2s" }),
    )
    .start();
    let answer = broker.put(&instance("i-9"), &provision());
    assert!(answer.status >= 500, "{}", answer.status);
    assert_eq!(service.heard().len(), 2);
}

#[test]
fn a_key_that_does_not_go_with_its_certificate_is_found_at_the_start() {
    let authority = Authority::new("ours");
    let folder = Arc::new(Folder::new());
    let (one, other) = (authority.issue("a"), authority.issue("b"));
    folder.file("ca.pem", authority.pem());
    folder.file("own.pem", one.certificate);
    folder.file("own.key", other.key);
    let settings = json!({ "ca": "ca.pem", "certificate": "own.pem", "key": "own.key" });
    let file = folder.file(
        "catalog.json",
        catalog("https://localhost/", &settings).to_string(),
    );
    let output = crate::support::brokerlet()
        .arg("check")
        .arg(file)
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        printed.contains("plans[0].adapter.certificate: ") && printed.contains("own.key"),
        "{printed}"
    );
}

#[test]
fn a_handshake_that_hangs_is_given_up_and_tried_again() {
    let authority = Authority::new("ours");
    let folder = Arc::new(Folder::new());
    folder.file("ca.pem", authority.pem());
    let gate = Gate::default();
    let hang = gate.clone();
    let wrap = move |_: TcpStream| {
        hang.pass();
        None
    };
    let service = Service::over("127.0.0.1:0", wrap, |_, out| done(out));
    let settings = json!({ "ca": "ca.pem", "connect_timeout": "200ms", "timeout": "600ms" });
    let broker = setup(&folder, &service, &settings).start();
    broker
        .put(&instance("i-1"), &provision())
        .expect_naming(503, "cannot be reached at the moment");
    broker.wait_for_print("no connection in time (connect_timeout)");
    gate.open();
}
