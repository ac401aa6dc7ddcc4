//! Three brokers on one database, one of which is killed every second, and clients that go on with another one. Each client has
//! instances of its own, so it knows what every answer must be.

use super::Server;
use super::support::programs::{self, IDS};
use super::support::{Broker, Folder, Request, Setup, instance};

use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const BROKERS: usize = 3;
const CLIENTS: usize = 16;
const KILLS: usize = 30;
/// As long as a platform would go on for what was cut off.
const PATIENCE: Duration = Duration::from_secs(90);

/// Makes a folder for each instance. Of a broker that was killed in that moment only a part of the document may have come, or
/// nothing: then it does nothing.
const PROGRAM: &str = r#"#!/bin/sh
input=$(cat)
rest=${input#*\"instance_id\":\"}
[ "$rest" != "$input" ] && [ "${rest%%\"*}" != "$rest" ] || exit 1
thing=things/${rest%%\"*}
case $1 in
  provision) mkdir -p "$thing" ;;
  deprovision) rm -rf "$thing" ;;
esac
echo '{}'
"#;

struct Cluster {
    addresses: Vec<Mutex<SocketAddr>>,
    turn: AtomicUsize,
    over: AtomicBool,
    acknowledged: AtomicUsize,
}

impl Cluster {
    /// Sends a request to one broker after the other until one answers with something else than "later".
    fn ask(&self, method: &str, target: &str) -> u16 {
        let end = Instant::now() + PATIENCE;
        loop {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            let address = *self.addresses[turn % BROKERS].lock().unwrap();
            let mut request = Request::new(address, method, target);
            if method == "PUT" {
                request = request.json(&programs::provision());
            }
            match request.try_send().map(|response| response.status) {
                Ok(status @ (200 | 201 | 404 | 410)) => {
                    self.acknowledged.fetch_add(1, Ordering::Relaxed);
                    return status;
                }
                // In progress, or not now.
                Ok(422 | 500 | 503) | Err(_) => assert!(Instant::now() < end, "{method} {target}"),
                Ok(status) => panic!("{method} {target}: {status}"),
            }
        }
    }
}

/// The life of one instance after the other.
fn client(cluster: &Cluster, number: usize, folder: &Path) {
    for round in 0.. {
        let id = format!("c{number}-{round}");
        let target = instance(&id);
        let delete = format!("{target}{IDS}");
        let thing = folder.join("things").join(&id);
        // A repeat after an answer that was lost is 200.
        let made = cluster.ask("PUT", &target);
        assert!(matches!(made, 200 | 201), "{id}: {made}");
        assert!(thing.is_dir(), "{id} was acknowledged, and is not there");
        assert_eq!(cluster.ask("PUT", &target), 200, "{id} is there");
        assert_eq!(cluster.ask("GET", &target), 200, "{id} is there");
        if cluster.over.load(Ordering::Relaxed) {
            return;
        }
        let gone = cluster.ask("DELETE", &delete);
        assert!(matches!(gone, 200 | 410), "{id}: {gone}");
        assert!(
            !thing.exists(),
            "{id} is acknowledged as gone, and is there"
        );
        assert_eq!(cluster.ask("DELETE", &delete), 410, "{id} is gone");
        assert_eq!(cluster.ask("GET", &target), 404, "{id} is gone");
    }
}

#[test]
fn whoever_is_killed_nothing_is_lost() {
    let Some(server) = Server::start() else {
        return;
    };
    let url = server.database("chaos");
    let folder = Arc::new(Folder::new());
    programs::executable(&folder, "program", PROGRAM);
    let start = || -> Broker {
        Setup::in_folder(folder.clone())
            .catalog(&programs::catalog(json!({ "command": ["./program"] })))
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("BROKER_STORE", &url)
            .start()
    };
    let mut brokers: Vec<Broker> = (0..BROKERS).map(|_| start()).collect();
    let cluster = Cluster {
        addresses: brokers
            .iter()
            .map(|broker| Mutex::new(broker.address))
            .collect(),
        turn: AtomicUsize::new(0),
        over: AtomicBool::new(false),
        acknowledged: AtomicUsize::new(0),
    };
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (cluster, folder) = (&cluster, folder.clone());
            scope.spawn(move || client(cluster, number, folder.path()));
        }
        for kill in 0..KILLS {
            let begun = Instant::now();
            let at = kill % BROKERS;
            let killed = std::mem::replace(&mut brokers[at], start());
            killed.kill();
            *cluster.addresses[at].lock().unwrap() = brokers[at].address;
            // One a second: it is the pace that the test is about.
            thread::sleep(Duration::from_secs(1).saturating_sub(begun.elapsed()));
        }
        cluster.over.store(true, Ordering::Relaxed);
    });
    // Every client has left one, and nothing else is there.
    let things = std::fs::read_dir(folder.path().join("things"))
        .unwrap()
        .count();
    assert_eq!(things, CLIENTS);
    let password = super::support::servers::ADMIN_PASSWORD;
    let count = |table: &str| {
        let sql = format!("SELECT count(*) FROM {table}");
        server.psql_as("admin", password, "chaos", &sql).unwrap()
    };
    assert_eq!(count("service_instances"), CLIENTS.to_string());
    assert_eq!(count("service_instances WHERE open"), "0");
    let acknowledged = cluster.acknowledged.into_inner();
    assert!(acknowledged > 20 * CLIENTS, "{acknowledged}");
}
