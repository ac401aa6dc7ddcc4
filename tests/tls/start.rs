//! Certificates at the start, and their replacement.

use crate::client::Client;
use crate::material::{Authority, Pair};
use crate::support::{Broker, Setup, brokerlet};
use crate::{setup, write};

use std::fs;
use std::path::PathBuf;

/// The start is refused, and the error names all of this.
#[track_caller]
fn refused(setup: Setup, names: &[&str]) {
    let output = setup.run();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{text}");
    for name in names {
        assert!(text.contains(name), "{name:?} is not in {text:?}");
    }
    assert!(!text.contains("PRIVATE KEY"), "{text}");
}

fn pair(certificate: &str, key: &str) -> Pair {
    Pair {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
    }
}

#[test]
fn certificates_that_will_not_do_are_a_clear_error() {
    let authority = Authority::new("ours");
    let (one, two) = (authority.issue("localhost"), authority.issue("localhost"));
    for (wrong, names) in [
        (
            authority.issue_for(2000, 2001),
            &["cert.pem", "expired"][..],
        ),
        (
            authority.issue_for(3000, 3001),
            &["cert.pem", "not valid yet"],
        ),
        (pair(&one.certificate, &two.key), &["cert.pem", "key.pem"]),
        (pair(&one.key, &one.key), &["cert.pem"]),
        (pair(&one.certificate, &one.certificate), &["key.pem"]),
        (pair("", &one.key), &["cert.pem"]),
        (pair(&one.certificate, ""), &["key.pem"]),
        (pair("no certificate", "no key"), &["cert.pem"]),
        (pair(&one.certificate[..200], &one.key), &["cert.pem"]),
    ] {
        refused(setup(&wrong), names);
    }
    let garbled = one.certificate.replace('M', "N");
    refused(setup(&pair(&garbled, &one.key)), &["cert.pem"]);
}

#[test]
fn files_that_are_not_there_are_a_clear_error() {
    let pair = Authority::new("ours").issue("localhost");
    for (name, variable) in [
        ("cert.pem", "BROKER_TLS_CERT"),
        ("key.pem", "BROKER_TLS_KEY"),
    ] {
        let setup = setup(&pair);
        fs::remove_file(setup.folder.path().join(name)).unwrap();
        refused(setup, &[name]);
        let missing = crate::setup(&pair).env(variable, "/nowhere/at-all.pem");
        refused(missing, &["/nowhere/at-all.pem"]);
    }
    let setup = crate::setup(&pair).env("BROKER_TLS_CLIENT_CA", "/nowhere/clients.pem");
    refused(setup, &["/nowhere/clients.pem"]);
    let setup = crate::setup(&pair);
    let file = setup.folder.file("clients.pem", &pair.key);
    refused(setup.env("BROKER_TLS_CLIENT_CA", file), &["clients.pem"]);
}

#[test]
fn one_file_without_the_other_is_a_clear_error() {
    let pair = Authority::new("ours").issue("localhost");
    for variable in ["BROKER_TLS_CERT", "BROKER_TLS_KEY"] {
        refused(
            setup(&pair).env(variable, ""),
            &["BROKER_TLS_CERT", "BROKER_TLS_KEY"],
        );
    }
}

#[test]
fn a_chain_is_sent_as_it_is_in_the_file() {
    let authority = Authority::new("ours");
    let mut pair = authority.issue("localhost");
    pair.certificate += &authority.pem();
    let broker = setup(&pair).start();
    let mut client = Client::open(broker.address, &authority);
    assert_eq!(client.certificate(), pair.der());
    client.get_catalog().expect(200);
}

/// SIGHUP, with these files in the place of the ones before. Waits for this event, the `n`-th of its name.
fn reload(broker: &Broker, pair: &Pair, event: &str, n: usize) {
    write_whole(broker, pair);
    broker.signal("HUP");
    let wanted = format!("event={event} ");
    let end = std::time::Instant::now() + crate::client::PATIENCE;
    while broker.printed().matches(&wanted).count() < n {
        assert!(std::time::Instant::now() < end, "{}", broker.printed());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn new_connections_get_new_certificates_and_old_ones_go_on() {
    let authority = Authority::new("ours");
    let pairs: Vec<Pair> = (0..3).map(|_| authority.issue("localhost")).collect();
    let broker = setup(&pairs[0]).start();
    let mut clients = vec![Client::open(broker.address, &authority)];
    for (n, pair) in pairs.iter().enumerate().skip(1) {
        reload(&broker, pair, "reloaded", n);
        clients.push(Client::open(broker.address, &authority));
    }
    for (client, pair) in clients.iter_mut().zip(&pairs) {
        assert_eq!(client.certificate(), pair.der());
        client.get_catalog().expect(200);
    }
}

#[test]
fn files_that_will_not_do_are_not_taken() {
    let authority = Authority::new("ours");
    let (first, other) = (authority.issue("localhost"), authority.issue("localhost"));
    let broker = setup(&first).start();
    let mut old = Client::open(broker.address, &authority);
    for (n, wrong) in [
        pair("", ""),
        pair(&other.certificate, &first.key),
        pair(&other.certificate[..100], &other.key),
        authority.issue_for(2000, 2001),
    ]
    .iter()
    .enumerate()
    {
        reload(&broker, wrong, "reload_refused", n + 1);
        old.get_catalog().expect(200);
        let mut new = Client::open(broker.address, &authority);
        assert_eq!(new.certificate(), first.der());
        new.get_catalog().expect(200);
    }
    reload(&broker, &other, "reloaded", 1);
    let new = Client::open(broker.address, &authority);
    assert_eq!(new.certificate(), other.der());
    for line in broker
        .printed()
        .lines()
        .filter(|line| line.contains("reload_refused"))
    {
        assert!(
            line.contains("level=error") && line.contains(".pem"),
            "{line}"
        );
    }
}

#[test]
fn replaced_files_are_noticed_without_a_signal() {
    let authority = Authority::new("ours");
    let (first, other) = (authority.issue("localhost"), authority.issue("localhost"));
    let broker = setup(&first).env("BROKER_RELOAD_EVERY", "20ms").start();
    let mut old = Client::open(broker.address, &authority);
    write_whole(&broker, &other);
    // Between the two files they do not go together, which may be noticed and told first.
    broker.wait_for_print("event=reloaded ");
    assert_eq!(
        Client::open(broker.address, &authority).certificate(),
        other.der()
    );
    assert_eq!(old.certificate(), first.der());
    old.get_catalog().expect(200);
}

fn write_whole(broker: &Broker, pair: &Pair) {
    let folder = broker.folder.path();
    for (name, text) in [("cert.pem", &pair.certificate), ("key.pem", &pair.key)] {
        fs::write(folder.join("new"), text).unwrap();
        fs::rename(folder.join("new"), folder.join(name)).unwrap();
    }
}

#[test]
fn the_files_may_have_more_than_certificates() {
    let authority = Authority::new("ours");
    let issued = authority.issue("localhost");
    // As some tools write it: text before, and everything in one file.
    let all = format!("Issued for tests\n{}{}", issued.key, issued.certificate);
    let setup = setup(&pair(&all, &all));
    write(&setup, &pair(&all, &all));
    let broker = setup.start();
    Client::open(broker.address, &authority)
        .get_catalog()
        .expect(200);
}

/// The broker's own health check, with the broker's environment: exit code and standard error.
fn health(port: u16, variables: &[(&str, PathBuf)]) -> (Option<i32>, String) {
    let mut command = brokerlet();
    command.arg("health").env("PORT", port.to_string());
    command.envs(variables.iter().map(|(name, path)| (name, path)));
    let output = command.output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), told)
}

#[test]
fn the_health_check_asks_through_tls_where_the_broker_speaks_it() {
    let authority = Authority::new("ours");
    // Nobody has to be able to verify it here: the name is another one.
    let pair = authority.issue("broker.example.com");
    let asked = |setup: Setup, client_ca: Option<&Authority>| {
        let (certificate, key) = write(&setup, &pair);
        let mut files = vec![("BROKER_TLS_CERT", certificate), ("BROKER_TLS_KEY", key)];
        let of_clients = client_ca.map(|ca| setup.folder.file("clients.pem", ca.pem()));
        files.extend(of_clients.map(|path| ("BROKER_TLS_CLIENT_CA", path)));
        let setup = files
            .iter()
            .fold(setup, |setup, (name, path)| setup.env(name, path));
        let broker = setup.env("BROKER_STORE", "memory").start();
        health(broker.address.port(), &files)
    };
    assert_eq!(asked(Setup::new(), None), (Some(0), String::new()));
    // The broker's own certificate is what it can show.
    assert_eq!(
        asked(Setup::new(), Some(&authority)),
        (Some(0), String::new())
    );
    let (code, told) = asked(Setup::new(), Some(&Authority::new("others")));
    assert_eq!(code, Some(1));
    assert!(told.starts_with("brokerlet: https://127.0.0.1:"), "{told}");

    // A broker that does not speak it.
    let plain = Broker::in_memory();
    let url = format!("https://{}", plain.address);
    let output = brokerlet().args(["health", &url]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}
