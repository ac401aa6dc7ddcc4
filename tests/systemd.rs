//! What a service manager is told, as systemd wants to know it. The test is the service manager.

#![cfg(target_os = "linux")]

mod support;

use serde_json::json;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};
use support::{Broker, Folder, Setup};

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
