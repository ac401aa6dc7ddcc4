//! The gate: what stands between the clients and tiny_http, and stops whatever is hostile.
//!
//! It accepts connections and admits a bounded number of them, each to a thread of its own; receives each request whole,
//! under a deadline and within limits; checks its framing strictly; and only then hands it, normalised, to tiny_http on a
//! private socket. So tiny_http never has more connections than workers, and never sees a slow or malformed byte.
//!
//! | part | what it does |
//! | --- | --- |
//! | `limits` | what a client may cost |
//! | `admission` | who may come in, who waits, who has to leave |
//! | `connection` | one connection: requests and their answers in order; `direct`, those that workers send themselves |
//! | `receive` | one request: `head`, then the body, `chunked` or not, within the `budget` of memory |
//! | `lines` | the way to tiny_http and back, on the `private` socket |
//! | `answer` | what is sent |
//! | `throttle`, `proxies`, `refusal` | wrong passwords; who the client is; what is logged of those who were refused |
//! | `socket`, `transport`, `tls` | bytes under a deadline, in the clear or encrypted |

mod body_memory;
mod buffer;
pub mod chunked;
mod client;
mod connection;
mod connection_limit;
mod exchange;
pub mod head;
pub mod limits;
mod private_socket;
mod rate_limit;
mod refusal_log;
mod request_reader;
mod response_writer;
mod socket;
pub mod tls;
mod transport;
pub mod trusted_proxies;
mod upstream;

use super::dispatch::Dispatcher;
use crate::broker::error::Error;
use crate::log;
use body_memory::BodyMemory;
use client::Client;
use connection::Connection;
use connection_limit::{Accepted, ConnectionLimit};
use limits::Limits;
use rate_limit::RateLimit;
use refusal_log::RefusalLog;
use socket::Socket;
use transport::Transport;
use trusted_proxies::TrustedProxies;
use upstream::Upstream;

use rustix::io::Errno;
use std::io::{self, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Stack of a thread that serves a connection.
const STACK: usize = 128 * 1024;
/// Connections that the system may hold until they are accepted; it may have a lower limit of its own. Whoever comes when there
/// are so many has to try again, which systems do after a second only.
const BACKLOG: i32 = 4096;
/// How long to wait for descriptors or memory before accepting again.
const SHORTAGE: Duration = Duration::from_millis(100);
/// What the log says of a connection that had to go.
const MADE_ROOM: &str =
    "the connection has shown no valid credentials, and another needed its place";

/// How the gate is set up.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub limits: Limits,
    /// Requests worked on at the same time, as long as none of them waits for something.
    pub workers: usize,
    pub proxies: TrustedProxies,
    #[cfg(feature = "tls")]
    pub tls: Option<Arc<tls::Tls>>,
}

/// The gate at work.
pub struct Gate {
    shared: Arc<Shared>,
    listener: TcpListener,
    address: SocketAddr,
}

/// What all connections share.
pub struct Shared {
    dispatcher: Arc<Dispatcher>,
    limits: Limits,
    connection_limit: ConnectionLimit,
    lines: Upstream,
    bodies: BodyMemory,
    rate_limit: RateLimit,
    proxies: TrustedProxies,
    refusals: RefusalLog,
    #[cfg(feature = "tls")]
    tls: Option<Arc<tls::Tls>>,
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
        let Settings {
            limits,
            workers,
            proxies,
            ..
        } = settings;
        let dispatcher = dispatcher.into();
        let lines = Upstream::start(dispatcher.clone(), workers.max(1), limits.connections)?;
        let shared = Arc::new(Shared {
            dispatcher,
            connection_limit: ConnectionLimit::new(limits.connections, limits.queue),
            lines,
            bodies: BodyMemory::new(limits.body_memory),
            rate_limit: RateLimit::new(limits.logins),
            proxies,
            refusals: RefusalLog::default(),
            limits,
            #[cfg(feature = "tls")]
            tls: settings.tls,
        });
        let doorkeeper = shared.clone();
        spawn("doorkeeper", move || {
            let refuse = |stream, peer| doorkeeper.refuse_waiting(stream, peer);
            doorkeeper.connection_limit.keep_door(refuse);
        })?;
        let (accepting, sockets) = (shared.clone(), listener.try_clone()?);
        spawn("accept", move || accept(&accepting, &sockets, &broken))?;
        Ok(Gate {
            shared,
            listener,
            address,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, lets the requests in flight finish within `limit`, closes the connections, and ends the workers.
    /// Returns false if some requests did not finish.
    pub fn stop(self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        self.shared.connection_limit.begin_stop();
        // Ends the accept loop; connections that exist go on.
        let _ = socket2::SockRef::from(&self.listener).shutdown(Shutdown::Both);
        let empty = self.shared.connection_limit.wait_until_empty(end);
        let left = end.saturating_duration_since(Instant::now());
        self.shared.lines.stop(left) && empty
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new()
        .name(name.into())
        .stack_size(STACK)
        .spawn(run)
        .map(drop)
}

/// The accept loop.
fn accept(gate: &Arc<Shared>, listener: &TcpListener, broken: &impl Fn()) {
    while gate.connection_limit.wait_for_room() {
        match listener.accept() {
            Ok((stream, peer)) => gate.enter(stream, peer.ip().to_canonical()),
            Err(_) if gate.connection_limit.is_stopping() => return,
            Err(error) if is_shortage(&error) => {
                let text = format!("cannot accept connections: {error}");
                gate.refusals.shortage(&text);
                gate.connection_limit.make_room();
                gate.connection_limit.wait_for_leave(SHORTAGE);
            }
            Err(error) if is_of_listener(&error) => {
                log::error("accept_failed")
                    .with("error", &error.to_string())
                    .send();
                return broken();
            }
            Err(_) => {}
        }
    }
}

/// There is too little of something, for a while. accept(2).
fn is_shortage(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}

/// The socket itself will not do. Every other error is about one connection, which has ended before it was accepted.
fn is_of_listener(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP | Errno::FAULT)
    )
}

impl Shared {
    /// Puts a connection into the queue, and starts a thread for it if there has to be one more.
    fn enter(self: &Arc<Shared>, stream: TcpStream, peer: IpAddr) {
        // Answers are written whole; waiting for more to send makes them late.
        let _ = stream.set_nodelay(true);
        let Accepted::NeedsThread = self.connection_limit.enter(stream, peer) else {
            return;
        };
        let gate = self.clone();
        let spawned = spawn("connection", move || {
            while let Some(visit) = gate.connection_limit.next() {
                let served = catch_unwind(AssertUnwindSafe(|| gate.serve(&visit)));
                gate.connection_limit.leave(&visit, served.unwrap_or(false));
                if visit.is_turned_out() {
                    gate.refusals.log(visit.peer, None, MADE_ROOM);
                }
            }
        });
        if let Err(error) = spawned {
            let text = format!("cannot start a thread for a connection: {error}");
            self.refusals.shortage(&text);
            self.connection_limit.no_handler();
        }
    }

    /// One connection. Returns whether the client may still be sending when it ends.
    fn serve(self: &Arc<Shared>, visit: &Arc<Client>) -> bool {
        let socket = Socket::new(&visit.stream);
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return self.serve_tls(tls, visit, socket);
        }
        Connection::new(self, visit, Transport::Plain(socket)).serve(None)
    }

    /// A connection through TLS. The handshake counts as part of the first request.
    #[cfg(feature = "tls")]
    fn serve_tls(
        self: &Arc<Shared>,
        tls: &tls::Tls,
        visit: &Arc<Client>,
        mut socket: Socket<'_>,
    ) -> bool {
        socket.set_deadline(Instant::now() + self.limits.silent);
        if socket.wait().is_err() || !visit.has_begun() {
            return false;
        }
        visit.work();
        let begun = Instant::now();
        socket.set_deadline(begun + self.limits.request);
        if visit
            .first_byte()
            .is_some_and(|first| first.is_ascii_alphabetic())
        {
            return self.refuse_plain(visit, socket);
        }
        match tls.accept(socket) {
            Ok(stream) => {
                Connection::new(self, visit, Transport::Tls(Box::new(stream))).serve(Some(begun))
            }
            Err(_) if visit.is_asked_to_leave() => false,
            Err(error) => {
                let text = format!("the TLS handshake failed: {error}");
                self.refusals.log(visit.peer, None, &text);
                true
            }
        }
    }

    /// Answers a client that speaks http where https is wanted: its words begin with a method, and no record of TLS does.
    #[cfg(feature = "tls")]
    fn refuse_plain(&self, visit: &Client, mut socket: Socket<'_>) -> bool {
        let error = Error::bad_request(
            "The client speaks http, and this port https: wanted a URL that begins with https://.",
        );
        self.refusals
            .log(visit.peer, Some(error.status), &error.description);
        // Whoever does not listen misses it.
        let _ = socket.write_all(&response_writer::whole(&response_writer::refusal(error)));
        true
    }

    /// Answers a connection that has waited too long for its turn, without waiting for the client. Returns it if the client
    /// is to be given time to read.
    fn refuse_waiting(&self, stream: TcpStream, peer: IpAddr) -> Option<TcpStream> {
        let error = Error {
            retry_after: Some(1),
            ..Error::new(
                503,
                "The service broker has too many connections right now. Try again in a moment.",
            )
        };
        self.refusals
            .log(peer, Some(error.status), &error.description);
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return None;
        }
        stream.set_nonblocking(true).ok()?;
        let answer = response_writer::whole(&response_writer::refusal(error));
        (&stream).write_all(&answer).ok()?;
        Some(stream)
    }
}
