//! The admin address: what operators look at, on a socket of its own.
//!
//! It has the gate of the broker once more, with its own small limits. So whoever looks is held to the same rules, and
//! takes no place from a platform, nor the other way round: the metrics can be read while the broker is crowded.

use super::{Refusal, cannot_listen};
use crate::http::counts::Listener;
use crate::http::dispatch::Dispatcher;
use crate::http::gate::limits::Limits;
use crate::http::gate::{Gate, Settings};

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

/// Connections served at once.
pub const CONNECTIONS: usize = 8;
/// Requests worked on at once.
const WORKERS: usize = 1;
/// How long what is asked for at the stop may take.
pub const STOP_LIMIT: Duration = Duration::from_millis(200);

/// The socket, before anything is served on it.
pub struct Setup {
    listener: TcpListener,
    address: SocketAddr,
}

impl Setup {
    /// Listens, if there is an address.
    pub fn listen(address: Option<SocketAddr>) -> Result<Option<Setup>, Refusal> {
        let Some(address) = address else {
            return Ok(None);
        };
        match TcpListener::bind(address) {
            Ok(listener) => Ok(Some(Setup { listener, address })),
            Err(error) => Err(cannot_listen(address, &error)),
        }
    }

    /// Serves. On a loopback address without credentials and without TLS, else with those of the broker.
    pub fn start(self, dispatcher: &Dispatcher, broker: &Settings) -> Result<Gate, Refusal> {
        let open = self.address.ip().to_canonical().is_loopback();
        let settings = Settings {
            limits: Limits {
                connections: CONNECTIONS,
                ..broker.limits.clone()
            },
            workers: WORKERS,
            listener: Listener::Admin,
            #[cfg(feature = "tls")]
            tls: broker.tls.clone().filter(|_| !open),
            ..Settings::default()
        };
        // If it breaks later, the broker serves on, and the log says so.
        Gate::start(self.listener, dispatcher.for_admin(open), settings, || ())
            .map_err(|error| cannot_listen(self.address, &error))
    }
}
