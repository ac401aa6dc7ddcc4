//! What a service manager is told, as systemd wants to know it. The test is the service manager.

#![cfg(target_os = "linux")]

mod support;

use serde_json::json;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{Broker, Folder, Request, Setup, needs};

/// A socket that hears what the broker says.
struct Manager(UnixDatagram);

impl Manager {
    fn at(address: &SocketAddr) -> Manager {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Manager(socket)
    }

    fn in_folder(folder: &Folder) -> (Manager, String) {
        // The name of a socket must be short, so it is the folder's of the system.
        let path = std::env::temp_dir().join(format!(
            "brokerlet-{}",
            folder.path().file_name().unwrap().display()
        ));
        let _ = std::fs::remove_file(&path);
        let manager = Manager::at(&SocketAddr::from_pathname(&path).unwrap());
        (manager, path.to_str().unwrap().to_owned())
    }

    /// The next message, but for signs of life.
    fn hear(&self) -> String {
        loop {
            let message = self.next();
            if message != "WATCHDOG=1" {
                return message;
            }
        }
    }

    fn next(&self) -> String {
        let mut bytes = [0; 512];
        let length = self.0.recv(&mut bytes).expect("nothing was said");
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    /// Whether nothing more comes for so long; what is on its way is let through first.
    fn falls_silent(&self, time: Duration) -> bool {
        self.0.set_nonblocking(true).unwrap();
        while self.0.recv(&mut [0; 512]).is_ok() {}
        self.0.set_nonblocking(false).unwrap();
        self.0.set_read_timeout(Some(time)).unwrap();
        let silent = self.0.recv(&mut [0; 512]).is_err();
        self.0
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        silent
    }
}

fn told(broker: &Broker) -> bool {
    broker.printed().contains("event=service_manager")
}

#[test]
fn it_learns_when_requests_are_answered_when_all_is_read_anew_and_when_the_broker_stops() {
    let setup = Setup::new();
    let (manager, path) = Manager::in_folder(&setup.folder);
    let broker = setup.env("NOTIFY_SOCKET", &path).start();
    let ready = manager.hear();
    assert_eq!(
        ready,
        format!("READY=1\nSTATUS=Serving on {}", broker.address)
    );
    broker.get("/readyz").expect(200);
    broker.signal("HUP");
    let reloading = manager.hear();
    let micros = reloading
        .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
        .unwrap();
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    let said: f64 = micros.parse().unwrap();
    assert!((uptime - said / 1e6).abs() < 60.0, "{said} {uptime}");
    assert_eq!(manager.hear(), ready);
    // Also when what was read is refused.
    let (status, _) = broker.stop();
    assert!(status.success());
    assert!(manager.hear().starts_with("STOPPING=1\n"));
    let _ = std::fs::remove_file(path);
}

#[test]
fn a_refused_reload_ends_too() {
    let setup = Setup::new().catalog(
        &json!({ "services": [{ "id": "s", "name": "s", "description": "S",
        "bindable": true, "plans": [{ "id": "p", "name": "p", "description": "P" }] }] }),
    );
    let (manager, path) = Manager::in_folder(&setup.folder);
    let broker = setup.env("NOTIFY_SOCKET", &path).start();
    let ready = manager.hear();
    broker.folder.file("catalog.json", "{");
    broker.signal("HUP");
    assert!(manager.hear().starts_with("RELOADING=1\n"));
    assert_eq!(manager.hear(), ready);
    broker.wait_for_print("event=reload_refused");
    let _ = std::fs::remove_file(path);
}

#[test]
fn a_broker_that_hangs_gives_no_sign_of_life() {
    let name = format!("brokerlet-test-{}", std::process::id());
    let manager = Manager::at(&SocketAddr::from_abstract_name(&name).unwrap());
    let limit = Duration::from_millis(600);
    let broker = Setup::new()
        .env("NOTIFY_SOCKET", format!("@{name}"))
        .env("WATCHDOG_USEC", limit.as_micros().to_string())
        .start();
    assert!(manager.next().starts_with("READY=1\n") || manager.next().starts_with("READY=1\n"));
    let mut before = Instant::now();
    for _ in 0..5 {
        assert_eq!(manager.next(), "WATCHDOG=1");
        let now = Instant::now();
        // Within its time, give or take what a busy machine needs.
        assert!(now - before < limit + Duration::from_secs(5));
        before = now;
    }
    broker.signal("STOP");
    assert!(manager.falls_silent(limit * 3));
    broker.signal("CONT");
    assert_eq!(manager.next(), "WATCHDOG=1");
    broker.get("/healthz").expect(200);
}

#[test]
fn a_watchdog_for_another_process_is_left_alone() {
    let setup = Setup::new();
    let (manager, path) = Manager::in_folder(&setup.folder);
    let broker = setup
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "30000")
        .env("WATCHDOG_PID", "1")
        .start();
    assert!(manager.next().starts_with("READY=1\n"));
    assert!(manager.falls_silent(Duration::from_millis(300)));
    assert!(!told(&broker));
    let _ = std::fs::remove_file(path);
}

#[test]
fn without_a_service_manager_that_listens_the_broker_serves_all_the_same() {
    for (name, words) in [
        ("/gone/away", "cannot be told anything: No such file"),
        ("nonsense", "found \\\"nonsense\\\", wanted a path"),
    ] {
        let broker = Setup::new().env("NOTIFY_SOCKET", name).start();
        broker.get("/healthz").expect(200);
        let printed = broker.printed();
        assert!(printed.contains("NOTIFY_SOCKET: "), "{printed}");
        assert!(printed.contains(words), "{words}: {printed}");
    }
    let broker = Setup::new().start();
    assert!(!told(&broker));
}

/// What a program says to the service manager would be taken for the broker's word.
#[test]
fn programs_are_not_told_where_it_listens() {
    let script = "env >seen; echo '{}'";
    let setup = support::programs::shell(script, json!({}));
    let (_manager, path) = Manager::in_folder(&setup.folder);
    let broker = setup
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "60000000")
        .start();
    broker
        .put(&support::instance("i"), &support::programs::provision())
        .expect(201);
    let seen = broker.written("seen");
    assert!(
        seen.contains("PATH=") && !seen.contains("NOTIFY") && !seen.contains("WATCHDOG"),
        "{seen}"
    );
    let _ = std::fs::remove_file(path);
}

// The socket

/// A broker whose standard input is this socket.
fn with_socket(socket: impl Into<OwnedFd>, folder: &Arc<Folder>) -> Setup {
    let mut setup = Setup::in_folder(folder.clone());
    setup.command.stdin(socket.into());
    setup
}

#[test]
fn a_socket_that_is_handed_over_outlives_the_broker() {
    let folder = Arc::new(Folder::new());
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    // Nobody answers yet, and nobody is refused.
    let mut early = TcpStream::connect(address).unwrap();
    let request = Request::new(address, "GET", "/readyz").bytes("close");
    early.write_all(&request).unwrap();
    for _ in 0..2 {
        let broker = with_socket(socket.try_clone().unwrap(), &folder)
            // Not asked.
            .env("PORT", "1")
            .start();
        assert_eq!(broker.address, address);
        let mut answer = String::new();
        early.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        // One that is open does not hold up the stop.
        let idle = TcpStream::connect(address).unwrap();
        broker.get("/v2/catalog").expect(200);
        let (status, printed) = broker.stop();
        assert_eq!(status.code(), Some(0), "{printed}");
        drop(idle);
        early = TcpStream::connect(address).unwrap();
        early.write_all(&request).unwrap();
    }
}

#[test]
fn while_the_broker_finishes_what_it_has_new_connections_wait_for_the_next_one() {
    let script = "[ \"$1\" != provision ] || { echo >started; until [ -e go ]; do sleep 0.02; done; }; echo '{}'";
    let mut setup = support::programs::shell(script, json!({}));
    let folder = setup.folder.clone();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    setup
        .command
        .stdin(OwnedFd::from(socket.try_clone().unwrap()));
    let broker = setup.start();
    let target = support::instance("i");
    let slow = broker
        .request("PUT", &target)
        .json(&support::programs::provision());
    let slow = std::thread::spawn(move || slow.send());
    broker.wait_for_file("started");
    broker.signal("TERM");
    broker.wait_for_print("event=stopping");
    let address = socket.local_addr().unwrap();
    // The first ones may still be the old broker's.
    let mut late = (0..50).find_map(|_| waits(address));
    let late = late.as_mut().expect("nobody has to wait");
    folder.file("go", "");
    slow.join().unwrap().expect(201);
    let (status, printed) = broker.stop();
    assert_eq!(status.code(), Some(0), "{printed}");
    let _next = with_socket(socket, &folder).start();
    late.set_read_timeout(None).unwrap();
    let mut answer = String::new();
    late.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// A connection with a request, if nobody takes it up.
fn waits(address: std::net::SocketAddr) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = Request::new(address, "GET", "/v2/catalog").bytes("close");
    stream.write_all(&request).unwrap();
    let time = Duration::from_millis(300);
    stream.set_read_timeout(Some(time)).unwrap();
    let error = stream.read(&mut [0; 64]).err()?;
    (error.kind() == std::io::ErrorKind::WouldBlock).then_some(stream)
}

#[test]
fn a_socket_that_is_not_of_tcp_is_refused() {
    let folder = Arc::new(Folder::new());
    let socket = std::os::unix::net::UnixListener::bind_addr(
        &SocketAddr::from_abstract_name(format!("brokerlet-not-tcp-{}", std::process::id()))
            .unwrap(),
    );
    let refused = with_socket(socket.unwrap(), &folder).run();
    assert_eq!(refused.status.code(), Some(74));
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(
        told.contains("a listening socket, but none of TCP"),
        "{told}"
    );
}

// The units

fn example(name: &str) -> String {
    let path = support::pages::root().join("examples/systemd").join(name);
    std::fs::read_to_string(path).unwrap()
}

/// What systemd itself says of the units, whose program is this binary.
fn verify(service: &str, conf: &str) -> (bool, String) {
    let folder = Folder::new();
    let installed = "ExecStart=/usr/local/bin/brokerlet";
    assert!(service.contains(installed));
    let built = format!("ExecStart={}", env!("CARGO_BIN_EXE_brokerlet"));
    let service = folder.file("brokerlet.service", service.replace(installed, &built));
    let socket = folder.file("brokerlet.socket", example("brokerlet.socket"));
    std::fs::create_dir(folder.path().join("brokerlet.service.d")).unwrap();
    folder.file("brokerlet.service.d/socket.conf", conf);
    let output = Command::new("systemd-analyze")
        .arg("verify")
        .args([service, socket])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    // Of units of the machine it may say something, too.
    let said: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("brokerlet"))
        .collect();
    (output.status.success(), said.join("\n"))
}

#[test]
fn systemd_reads_the_units_without_a_complaint() {
    // Alpine has no systemd.
    if needs::installed("apk").is_some() || !needs::has(&["systemd-analyze"]) {
        return;
    }
    let service = example("brokerlet.service");
    let conf = example("socket.conf");
    let (sound, said) = verify(&service, &conf);
    assert!(sound && said.is_empty(), "{said}");
    let misspelt = service.replace("WatchdogSec=", "WatchdogSeconds=");
    let misplaced = conf.replace("[Service]\n", "");
    let said = [verify(&misspelt, &conf), verify(&service, &misplaced)].map(|(_, said)| said);
    assert!(said[0].contains("WatchdogSeconds"), "{said:?}");
    assert!(said[1].contains("StandardInput"), "{said:?}");
}
