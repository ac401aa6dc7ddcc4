//! What the service manager is told: systemd's protocol of `sd_notify`, a line of text for each event, to the socket that
//! `NOTIFY_SOCKET` names. (<https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html>)

use super::background;
use crate::http::gate::Pulse;
use crate::log;

use rustix::time::{ClockId, clock_gettime};
use std::io;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// The service manager, if there is one that wants to know.
#[derive(Clone, Default)]
pub struct Notify(Option<Arc<UnixDatagram>>);

impl Notify {
    /// As the environment says. If that is of no use, it is a warning in the log: the broker can serve all the same.
    pub fn from_environment(environment: &dyn Fn(&str) -> Option<String>) -> Notify {
        let Some(name) = environment("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Notify::default();
        };
        match connect(&name) {
            Ok(socket) => Notify(Some(Arc::new(socket))),
            Err(error) => {
                warn(&format!(
                    "NOTIFY_SOCKET: the service manager cannot be told anything: {error}"
                ));
                Notify::default()
            }
        }
    }

    /// Requests are answered; also after a reload.
    pub fn ready(&self, address: &std::net::SocketAddr) {
        self.send(&format!("READY=1\nSTATUS=Serving on {address}"));
    }

    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=Finishing what is in progress");
    }

    /// Says every so often that the broker lives, as long as a worker answers: a process that hangs is started anew.
    pub fn watch(&self, environment: &dyn Fn(&str) -> Option<String>, pulse: Pulse) {
        let (Some(limit), true) = (watchdog(environment), self.0.is_some()) else {
            return;
        };
        let notify = self.clone();
        let beat = move || {
            // A worker that is busy may take its time. What takes longer than the limit is for the service manager to judge.
            while let Some(lives) = pulse.beats(Instant::now() + limit / 4) {
                match lives {
                    true => notify.send("WATCHDOG=1"),
                    false => warn(
                        "no worker has answered; the service manager is not told that the broker lives",
                    ),
                }
                thread::sleep(limit / 3);
            }
        };
        background("watchdog", beat);
    }

    /// That the service manager does not listen is its own affair.
    fn send(&self, text: &str) {
        if let Some(socket) = &self.0 {
            let _ = socket.send(text.as_bytes());
        }
    }
}

/// How long the service manager waits for a sign of life.
fn watchdog(environment: &dyn Fn(&str) -> Option<String>) -> Option<Duration> {
    let micros = environment("WATCHDOG_USEC")?.parse().ok()?;
    let pid = environment("WATCHDOG_PID");
    let is_meant = pid.is_none_or(|pid| pid == std::process::id().to_string());
    (is_meant && micros > 0).then(|| Duration::from_micros(micros))
}

fn connect(name: &str) -> io::Result<UnixDatagram> {
    let address = match name.strip_prefix('@') {
        #[cfg(target_os = "linux")]
        Some(name) => SocketAddr::from_abstract_name(name)?,
        _ if name.starts_with('/') => SocketAddr::from_pathname(name)?,
        _ => {
            let text = format!("found {name:?}, wanted a path, or @ and an abstract name");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // Nothing waits for the service manager.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn warn(message: &str) {
    log::warn("service_manager").with("message", message).send();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_is_for_the_process_that_it_names() {
        let me = std::process::id().to_string();
        let of = |usec: Option<&str>, pid: Option<&str>| {
            watchdog(&|name| match name {
                "WATCHDOG_USEC" => usec.map(str::to_owned),
                _ => pid.map(str::to_owned),
            })
        };
        let wanted = Some(Duration::from_millis(1500));
        assert_eq!(of(Some("1500000"), None), wanted);
        assert_eq!(of(Some("1500000"), Some(&me)), wanted);
        assert_eq!(of(Some("1500000"), Some("1")), None);
        for nothing in [None, Some(""), Some("0"), Some("soon")] {
            assert_eq!(of(nothing, None), None, "{nothing:?}");
        }
    }
}
