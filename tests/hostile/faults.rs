//! Shortages, and parts that fail: noticed, logged, recovered from.

use crate::client::Client;
use crate::support::connection::Connection;
use crate::support::needs::{self, is_root};
use crate::support::{Broker, Folder, Request, Setup, brokerlet, instance, program};
use crate::{descriptors, get_catalog, is_served, provision, request, setup, tutorial};

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

/// Somebody without special rights. The system does not limit root's threads.
const NOBODY: &str = "61234";

/// What a limit of the system is set to, as `prlimit` of util-linux takes it: only the soft limit, so that it can be raised
/// again.
fn limit(broker: &Broker, resource: &str, value: &str, as_nobody: bool) {
    let mut command = if as_nobody {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid",
            NOBODY,
            "--regid",
            NOBODY,
            "--clear-groups",
            "prlimit",
        ]);
        command
    } else {
        Command::new("prlimit")
    };
    let pid = broker.pid().to_string();
    command.args(["--pid", &pid, &format!("--{resource}={value}:")]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn running_out_of_descriptors_is_survived() {
    if !needs::has(&["prlimit"]) {
        return;
    }
    let broker = setup().start();
    let mut early = Client::open(broker.address);
    early.send(get_catalog());
    early.answer().expect(200);
    for round in 0..2 {
        limit(
            &broker,
            "nofile",
            &(descriptors(&broker) + 4).to_string(),
            false,
        );
        let mut clients: Vec<Client> = (0..30).map(|_| Client::open(broker.address)).collect();
        for (n, client) in clients.iter_mut().enumerate() {
            client.send(provision(&format!("i{round}-{n}"), ""));
        }
        broker.wait_for_print("event=shortage");
        limit(&broker, "nofile", "1024", false);
        // Whoever was not asked to make room was served, or is now.
        for (n, client) in clients.iter_mut().enumerate() {
            if let Some(answer) = client.next(false) {
                assert!(matches!(answer.status, 201 | 503), "{n}: {answer:?}");
            }
        }
        is_served(broker.address);
    }
    // That connection was idle, and may have been asked to make room; nothing else may have become of it.
    early.send(get_catalog());
    if let Some(answer) = early.next(false) {
        answer.expect(200);
    }
}

#[test]
fn while_descriptors_are_short_connections_that_exist_are_served() {
    if !needs::has(&["prlimit"]) {
        return;
    }
    let broker = setup().start();
    let mut busy = Client::open(broker.address);
    let half = get_catalog().len() / 2;
    busy.send([&get_catalog(), &get_catalog()[..half]].concat());
    busy.answer().expect(200);
    limit(&broker, "nofile", "1", false);
    // For one more the system has reserved a descriptor already.
    let mut last = Client::open(broker.address);
    last.send(get_catalog());
    last.answer().expect(200);
    let mut waiting = Client::open(broker.address);
    waiting.send(get_catalog());
    broker.wait_for_print("event=shortage");
    for _ in 0..10 {
        busy.send(&get_catalog()[half..]);
        busy.answer().expect(200);
        busy.send(&get_catalog()[..half]);
    }
    assert!(waiting.is_waiting());
    limit(&broker, "nofile", "1024", false);
    waiting.answer().expect(200);
}

#[test]
fn running_out_of_threads_is_survived() {
    if !needs::has(&["prlimit", "setpriv"]) {
        return;
    }
    let folder = Arc::new(Folder::new());
    let everybody = |mode| std::fs::Permissions::from_mode(mode);
    // The broker is another user, who must reach what it is started from.
    let home = Temporary::new();
    std::fs::set_permissions(&home.0, everybody(0o777)).unwrap();
    let binary = home.0.join("brokerlet");
    std::fs::copy(brokerlet().get_program(), &binary).unwrap();
    std::fs::set_permissions(&binary, everybody(0o755)).unwrap();
    let command = if is_root() {
        let mut command = program("/usr/bin/env");
        command.args([
            "setpriv",
            "--reuid",
            NOBODY,
            "--regid",
            NOBODY,
            "--clear-groups",
        ]);
        command.arg(&binary).env("PATH", "/usr/bin:/bin");
        command
    } else {
        program(binary.to_str().unwrap())
    };
    let setup = Setup::of(command, folder).env("BROKER_STORE", "memory");
    let broker = setup.env("TMPDIR", &home.0).start();
    is_served(broker.address);
    for round in 0..3 {
        limit(&broker, "nproc", "1", is_root());
        let mut clients: Vec<Client> = (0..16).map(|_| Client::open(broker.address)).collect();
        for (n, client) in clients.iter_mut().enumerate() {
            client.send(provision(&format!("i{round}-{n}"), "Connection: close\r\n"));
        }
        broker.wait_for_print("event=shortage");
        // With the threads that there are, one after the other, unless one was asked to make room.
        for client in &mut clients {
            if let Some(answer) = client.next(false) {
                assert!(matches!(answer.status, 201 | 503), "{answer:?}");
            }
        }
        Client::insist(broker.address, &get_catalog()).expect(200);
        limit(&broker, "nproc", "1000", is_root());
        is_served(broker.address);
    }
    let mut clients: Vec<Client> = (0..16).map(|_| Client::open(broker.address)).collect();
    for client in &mut clients {
        client.send(get_catalog());
    }
    for client in &mut clients {
        client.answer().expect(200);
    }
}

/// A folder outside of the project, short enough for the name of a socket.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Temporary {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("brokerlet-test-{}-{n}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Temporary(path)
    }

    /// The one folder that the broker has made in here.
    fn only(&self) -> PathBuf {
        let mut entries = self
            .0
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let only = entries.next().unwrap();
        assert_eq!(entries.next(), None);
        only
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Every socket under a folder.
fn sockets(folder: &Path) -> Vec<PathBuf> {
    let entries = folder.read_dir().unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn nobody_else_can_use_the_private_socket() {
    let temporary = Temporary::new();
    let broker = setup().env("TMPDIR", &temporary.0).start();
    is_served(broker.address);
    let folder = temporary.only();
    let mode = folder.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    for socket in sockets(&folder) {
        for fields in ["", "Gate: guess 1 127.0.0.1 -\r\n", "Gate:\r\n"] {
            let mut stream = UnixStream::connect(&socket).unwrap();
            let fields = format!("{fields}Connection: close\r\n");
            stream
                .write_all(&request("GET /v2/catalog", &fields, b""))
                .unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
            assert!(!answer.contains("example_service"), "{answer}");
        }
    }
    is_served(broker.address);
    // Nor through the gate.
    let mut client = Client::open(broker.address);
    client.send(request(
        "PUT /healthz",
        "Gate: guess 1 192.0.2.66 https\r\n",
        b"",
    ));
    client.answer().expect(405);
    broker.wait_for_print("route=/healthz");
    assert!(!broker.printed().contains("192.0.2.66"));
    broker.stop();
    assert!(!folder.exists());
}

#[test]
fn without_a_writable_folder_the_broker_serves_as_well() {
    let broker = setup().env("TMPDIR", "/nowhere/at/all").start();
    for burst in 0..3 {
        let mut clients: Vec<Client> = (0..16).map(|_| Client::open(broker.address)).collect();
        for (n, client) in clients.iter_mut().enumerate() {
            client.send(provision(&format!("i{burst}-{n}"), ""));
        }
        for client in &mut clients {
            client.answer().expect(201);
        }
    }
    let (status, _) = broker.stop();
    assert!(status.success());
}

#[test]
fn when_the_private_socket_goes_away_there_is_another() {
    let temporary = Temporary::new();
    let broker = setup().env("TMPDIR", &temporary.0).start();
    is_served(broker.address);
    // As those do that clean up what has not been used for long.
    std::fs::remove_dir_all(temporary.only()).unwrap();
    for round in 0..3 {
        thread::scope(|scope| {
            for n in 0..16 {
                let target = instance(&format!("i{round}-{n}"));
                let broker = &broker;
                scope.spawn(move || broker.put(&target, &tutorial()).expect(201));
            }
        });
    }
    assert!(broker.get("/healthz").status == 200);
}

#[test]
fn a_client_that_resets_its_connection_costs_nothing() {
    let broker = setup().env("BROKER_WORKERS", "2").start();
    for n in 0..200 {
        let mut client = Client::open(broker.address);
        match n % 4 {
            0 => {}
            1 => client.send(get_catalog()),
            2 => client.send(&get_catalog()[..20]),
            _ => client.send(&provision("reset", "")[..300]),
        }
        client.reset();
    }
    for _ in 0..10 {
        is_served(broker.address);
    }
    assert!(!broker.printed().contains("event=panic"));
}

#[test]
fn the_health_check_does_not_wait_behind_what_is_slow() {
    let broker = setup().env("BROKER_WORKERS", "1").start();
    let mut stalled: Vec<Client> = (0..8).map(|_| Client::open(broker.address)).collect();
    for client in &mut stalled {
        client.send(&provision("stalled", "")[..300]);
    }
    let mut platform = Connection::open(broker.address);
    for _ in 0..10 {
        let check = Request::new(broker.address, "GET", "/healthz").without("Authorization");
        platform.send(&check).expect(200);
    }
}
