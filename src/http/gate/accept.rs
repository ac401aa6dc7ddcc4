//! The accept loop, the threads that serve connections, and what a connection has to pass before its first request.

use super::client::Client;
use super::connection::Connection;
use super::connection_limit::Accepted;
use super::response_writer::{refusal, whole};
use super::shared::Shared;
use super::socket::Socket;
#[cfg(feature = "tls")]
use super::tls::Tls;
use super::transport::Transport;
use crate::broker::error::Error;
use crate::http::counts::Refusal;
use crate::log;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::io::{self, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
#[cfg(feature = "tls")]
use std::time::Instant;

/// Stack of a thread that serves a connection.
const STACK: usize = 128 * 1024;
/// How long to wait for descriptors or memory before accepting again.
const SHORTAGE: Duration = Duration::from_millis(100);
/// What the log says of a connection that was evicted.
const EVICTED: &str = "the connection has shown no valid credentials, and another needed its place";

/// Starts the accept loop and the timers of the connection limit, each on a thread of its own. The loop ends with the other
/// side of `ended`, if there is one, else when the listening socket is shut.
pub fn start(
    shared: &Arc<Shared>,
    listener: TcpListener,
    ended: Option<UnixStream>,
    broken: impl Fn() + Send + 'static,
) -> io::Result<()> {
    let gate = shared.clone();
    spawn("timers", move || {
        let refuse = |stream, peer| refuse_queued(&gate, stream, peer);
        gate.connection_limit.run_timers(refuse);
    })?;
    let gate = shared.clone();
    spawn("accept", move || {
        accept(&gate, &listener, ended.as_ref(), &broken);
    })
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new()
        .name(name.into())
        .stack_size(STACK)
        .spawn(run)
        .map(drop)
}

/// The accept loop.
fn accept(
    gate: &Arc<Shared>,
    listener: &TcpListener,
    ended: Option<&UnixStream>,
    broken: &impl Fn(),
) {
    while gate.connection_limit.wait_for_space() {
        if ended.is_some_and(|ended| has_ended(listener, ended)) {
            return;
        }
        match listener.accept() {
            Ok((stream, peer)) => enqueue(gate, stream, peer.ip().to_canonical()),
            Err(_) if gate.connection_limit.is_stopping() => return,
            Err(error) if is_shortage(&error) => {
                let text = format!("cannot accept connections: {error}");
                gate.refusal_log.shortage(&text);
                gate.connection_limit.evict_one();
                gate.connection_limit.wait_for_end(SHORTAGE);
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

/// Waits for a connection, or the end of the loop.
fn has_ended(listener: &TcpListener, ended: &UnixStream) -> bool {
    let mut waiting = [
        PollFd::new(listener, PollFlags::IN),
        PollFd::new(ended, PollFlags::IN),
    ];
    // Interrupted, or too little memory: accepting tells what is there.
    let _ = poll(&mut waiting, None);
    !waiting[1].revents().is_empty()
}

/// There is too little of something, for a while. accept(2).
fn is_shortage(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}

/// The listening socket is unusable. Every other error is about one connection, which has ended before it was accepted.
fn is_of_listener(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP | Errno::FAULT)
    )
}

/// Puts a connection into the queue, and starts a thread if one more is needed.
fn enqueue(shared: &Arc<Shared>, stream: TcpStream, peer: IpAddr) {
    // Answers are written whole. To wait for more would only make them late.
    let _ = stream.set_nodelay(true);
    let Accepted::NeedsThread = shared.connection_limit.accept(stream, peer) else {
        return;
    };
    let gate = shared.clone();
    if let Err(error) = spawn("connection", move || serve_queue(&gate)) {
        let text = format!("cannot start a thread for a connection: {error}");
        shared.refusal_log.shortage(&text);
        shared.connection_limit.thread_failed();
    }
}

/// Serves connections from the queue, one after the other, for as long as this thread is needed.
fn serve_queue(gate: &Arc<Shared>) {
    while let Some(client) = gate.connection_limit.next() {
        let served = catch_unwind(AssertUnwindSafe(|| serve(gate, &client)));
        gate.connection_limit
            .ended(&client, served.unwrap_or(false));
        if client.was_evicted() {
            gate.refusal_log
                .refused(Refusal::Evicted, client.peer, None, EVICTED);
        }
    }
}

/// Serves one connection. Returns whether the client may still be sending when it ends.
fn serve(gate: &Arc<Shared>, client: &Arc<Client>) -> bool {
    let socket = Socket::new(&client.stream);
    #[cfg(feature = "tls")]
    if let Some(tls) = &gate.tls {
        return serve_tls(gate, tls, client, socket);
    }
    Connection::new(gate, client, Transport::Plain(socket)).serve(None)
}

/// Serves one connection through TLS. The handshake counts as part of the first request.
#[cfg(feature = "tls")]
fn serve_tls(gate: &Arc<Shared>, tls: &Tls, client: &Arc<Client>, mut socket: Socket<'_>) -> bool {
    socket.set_deadline(Instant::now() + gate.limits.silent);
    if socket.wait().is_err() || !client.has_unread() {
        return false;
    }
    client.set_receiving();
    let begun = Instant::now();
    socket.set_deadline(begun + gate.limits.request);
    let first = client.first_unread();
    // A method begins so, and no record of TLS does.
    if first.is_some_and(|first| first.is_ascii_alphabetic()) {
        return refuse_plain(gate, client, socket);
    }
    match tls.accept(socket) {
        Ok(stream) => {
            let transport = Transport::Tls(Box::new(stream));
            Connection::new(gate, client, transport).serve(Some(begun))
        }
        Err(_) if client.is_closing() => false,
        Err(error) => {
            let text = format!("the TLS handshake failed: {error}");
            let log = &gate.refusal_log;
            log.refused(Refusal::Tls, client.peer, None, &text);
            true
        }
    }
}

/// Answers a client that speaks http on a port for https.
#[cfg(feature = "tls")]
fn refuse_plain(gate: &Shared, client: &Client, mut socket: Socket<'_>) -> bool {
    let error = Error::bad_request(
        "The client speaks http, and this port https: wanted a URL that begins with https://.",
    );
    let (status, reason) = (Some(error.status), &error.description);
    let log = &gate.refusal_log;
    log.refused(Refusal::Tls, client.peer, status, reason);
    // Fails if the client has gone.
    let _ = socket.write_all(&whole(&refusal(error)));
    true
}

/// Answers a connection that was in the queue for too long, without waiting for the client. Returns it if the client is to
/// be given time to read.
fn refuse_queued(gate: &Shared, stream: TcpStream, peer: IpAddr) -> Option<TcpStream> {
    let error = Error {
        retry_after: Some(1),
        ..Error::new(
            503,
            "The service broker has too many connections right now. Try again in a moment.",
        )
    };
    let (status, reason) = (Some(error.status), &error.description);
    gate.refusal_log
        .refused(Refusal::Full, peer, status, reason);
    #[cfg(feature = "tls")]
    if gate.tls.is_some() {
        return None;
    }
    stream.set_nonblocking(true).ok()?;
    let answer = whole(&refusal(error));
    (&stream).write_all(&answer).ok()?;
    Some(stream)
}
