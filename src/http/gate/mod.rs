//! The gate stands between the clients and tiny_http, which trusts its clients too much.
//!
//! It serves a limited number of connections, each on a thread of its own. It reads each request whole, within a time and
//! other limits, checks strictly how it is framed, and only then passes it on, in one normal form, on a private socket. So
//! tiny_http never has more connections than workers, and never sees a slow or malformed byte.
//!
//! A file uses only files above it in this list:
//!
//! | file | what it does |
//! | --- | --- |
//! | `limits` | what a client may cost |
//! | `rate_limit`, `body_memory`, `refusal_log`, `trusted_proxies` | one limit or rule each |
//! | `head`, `chunked`, `buffer` | the bytes of a request |
//! | `socket`, `tls`, `transport` | reading and writing before a deadline, in the clear or encrypted |
//! | `client`, `eviction`, `lingering`, `connection_limit` | which connections are served, which wait, and which close |
//! | `private_socket`, `upstream` | the connections to tiny_http |
//! | `shared` | what all connections share |
//! | `response_writer`, `exchange` | an answer, and its way from a worker to the client |
//! | `request_reader`, `connection` | the requests of one connection |
//! | `accept` | the accept loop, and the first bytes of a connection |

mod accept;
mod body_memory;
mod buffer;
pub mod chunked;
mod client;
mod connection;
mod connection_limit;
mod eviction;
mod exchange;
pub mod head;
pub mod limits;
mod lingering;
mod private_socket;
mod rate_limit;
mod refusal_log;
mod request_reader;
mod response_writer;
mod shared;
mod socket;
pub mod tls;
mod transport;
pub mod trusted_proxies;
mod upstream;

use super::counts::Listener;
use super::dispatch::Dispatcher;
use body_memory::BodyMemory;
use connection_limit::ConnectionLimit;
use limits::Limits;
use rate_limit::RateLimit;
use refusal_log::RefusalLog;
use shared::Shared;
use trusted_proxies::TrustedProxies;
use upstream::Upstream;

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Connections that the system holds until they are accepted; it may have a lower limit of its own. If there are more, they
/// have to try again, which systems do only after a second.
const BACKLOG: i32 = 4096;

/// How the gate is set up.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub limits: Limits,
    /// How many requests are worked on at once, as long as none of them waits for something.
    pub workers: usize,
    pub proxies: TrustedProxies,
    /// Which of the gates it is, in the metrics.
    pub listener: Listener,
    /// The socket is somebody else's, who goes on with it.
    pub handed_over: bool,
    #[cfg(feature = "tls")]
    pub tls: Option<Arc<tls::Tls>>,
}

/// A running gate.
pub struct Gate {
    shared: Arc<Shared>,
    listener: TcpListener,
    /// Ends the accept loop when dropped, if the socket is to go on.
    until: Option<UnixStream>,
    address: SocketAddr,
}

/// Tells whether a gate lives. It does not keep it alive.
pub struct Pulse(Weak<Shared>);

impl Pulse {
    /// Whether a worker has answered until then. `None` if the gate is gone.
    pub fn beats(&self, deadline: Instant) -> Option<bool> {
        Some(self.0.upgrade()?.upstream.answers(deadline))
    }
}

impl Gate {
    /// Serves on a listening socket. `broken` is called if nothing more can be accepted there: the gate has to be stopped
    /// then.
    pub fn start(
        listener: TcpListener,
        dispatcher: impl Into<Arc<Dispatcher>>,
        settings: Settings,
        broken: impl Fn() + Send + 'static,
    ) -> io::Result<Gate> {
        let address = listener.local_addr()?;
        rustix::net::listen(&listener, BACKLOG)?;
        let limits = settings.limits;
        let dispatcher = dispatcher.into();
        let workers = settings.workers.max(1);
        let counts = settings.listener.counts();
        counts.set_most(limits.connections);
        let shared = Arc::new(Shared {
            // One more: a look whether a worker answers takes no request's place.
            upstream: Upstream::start(dispatcher.clone(), workers, limits.connections + 1)?,
            dispatcher,
            connection_limit: ConnectionLimit::new(limits.connections, limits.queue, counts),
            body_memory: BodyMemory::new(limits.body_memory),
            rate_limit: RateLimit::new(limits.logins),
            proxies: settings.proxies,
            refusal_log: RefusalLog::new(counts),
            counts,
            limits,
            #[cfg(feature = "tls")]
            tls: settings.tls,
        });
        let (until, ended) = match settings.handed_over {
            true => {
                // What waits there when the loop ends is left to the next one.
                listener.set_nonblocking(true)?;
                let (until, ended) = UnixStream::pair()?;
                (Some(until), Some(ended))
            }
            false => (None, None),
        };
        accept::start(&shared, listener.try_clone()?, ended, broken)?;
        Ok(Gate {
            shared,
            listener,
            until,
            address,
        })
    }

    pub fn pulse(&self) -> Pulse {
        Pulse(Arc::downgrade(&self.shared))
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, lets the requests in flight finish within `limit`, closes the connections, and ends the workers.
    /// Returns false if some requests did not finish.
    pub fn stop(self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        self.shared.connection_limit.begin_stop();
        // Ends the accept loop. Connections that exist go on.
        match self.until {
            Some(until) => drop(until),
            None => drop(socket2::SockRef::from(&self.listener).shutdown(Shutdown::Both)),
        }
        let empty = self.shared.connection_limit.wait_until_empty(end);
        let left = end.saturating_duration_since(Instant::now());
        self.shared.upstream.stop(left) && empty
    }
}
