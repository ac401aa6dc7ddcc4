//! The connections to tiny_http: a pool of kept-alive connections on a private socket.
//!
//! There is one for each worker, and each carries one request at a time, so tiny_http never has more connections than
//! workers. They are opened one after the other, each once the one before has answered, because tiny_http starves
//! connections that come in a burst.

use super::private_socket::PrivateSocket;
use crate::broker::error::Error;
use crate::http::dispatch::Dispatcher;
use crate::http::reply::Reply;
use crate::http::server::{Context, Exchange, GATE, Server};
use crate::{log, random};

use std::io::{self, ErrorKind, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// If all connections are in use for so long, the workers wait for something, such as a slow adapter. Then one more
/// connection is opened, with one more worker.
const STALLED: Duration = Duration::from_millis(100);
/// How long tiny_http may take to answer on a new connection.
const PROBE: Duration = Duration::from_secs(2);
/// How long tiny_http may take to read a request. It has nothing else to do on that connection.
const SEND: Duration = Duration::from_secs(10);

/// The pool.
pub struct Upstream {
    dispatcher: Arc<Dispatcher>,
    /// How many connections are kept open, and how many there may be while workers are stalled.
    usual: usize,
    max: usize,
    state: Mutex<State>,
    released: Condvar,
    /// Held while a connection is opened.
    opening: Mutex<()>,
}

struct State {
    backend: Arc<Backend>,
    idle: Vec<UpstreamConnection>,
    /// Connections to this backend, in use or not.
    open: usize,
    /// How many threads wait for a connection. Waking nobody would be a system call, too.
    waiting: usize,
}

/// tiny_http with its workers, and the socket that leads to it.
struct Backend {
    socket: PrivateSocket,
    server: Server,
    /// tiny_http accepts no more connections.
    broken: Arc<AtomicBool>,
    key: String,
}

pub struct UpstreamConnection {
    stream: UnixStream,
    backend: Arc<Backend>,
    /// What the server knows the connection by.
    number: u64,
    /// The last line of each head, and the empty line. It tells the worker whose request this is.
    gate_field: String,
}

impl Upstream {
    /// Starts tiny_http behind a private socket, and opens the first connection.
    pub fn start(dispatcher: Arc<Dispatcher>, usual: usize, max: usize) -> io::Result<Upstream> {
        let backend = Arc::new(Backend::start(&dispatcher)?);
        let upstream = Upstream {
            dispatcher,
            usual,
            max: max.max(usual),
            state: Mutex::new(State {
                backend,
                idle: Vec::new(),
                open: 0,
                waiting: 0,
            }),
            released: Condvar::new(),
            opening: Mutex::new(()),
        };
        let first = upstream.open()?;
        upstream.release(first);
        Ok(upstream)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection that nobody uses. Waits for one, until the deadline.
    pub fn acquire(&self, deadline: Option<Instant>) -> Result<UpstreamConnection, Error> {
        let started = Instant::now();
        let mut state = self.state();
        loop {
            if let Some(connection) = state.idle.pop() {
                return Ok(connection);
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Err(busy());
            }
            let stalled = now - started >= STALLED;
            if state.open < self.usual || (state.open < self.max && stalled) {
                drop(state);
                match self.open() {
                    Ok(connection) => return Ok(connection),
                    Err(error) if self.state().open == 0 => {
                        log::error("worker_unavailable")
                            .with("error", &error.to_string())
                            .send();
                        return Err(busy());
                    }
                    // As when there are no descriptors or threads left. We wait for one of those that are open.
                    Err(_) => state = self.state(),
                }
            }
            let wait = deadline.map_or(STALLED, |deadline| (deadline - now).min(STALLED));
            state.waiting += 1;
            state = self
                .released
                .wait_timeout(state, wait)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            state.waiting -= 1;
        }
    }

    /// Whether a worker answers until then.
    pub fn answers(&self, deadline: Instant) -> bool {
        let Ok(mut connection) = self.acquire(Some(deadline)) else {
            return false;
        };
        match connection.probe(deadline.saturating_duration_since(Instant::now())) {
            Ok(()) => {
                self.release(connection);
                true
            }
            Err(_) => {
                self.discard(connection);
                false
            }
        }
    }

    /// Returns a connection on which the last request was answered.
    pub fn release(&self, connection: UpstreamConnection) {
        let mut state = self.state();
        if !Arc::ptr_eq(&state.backend, &connection.backend) {
            return;
        }
        if state.open > self.usual && state.idle.len() >= self.usual / 2 {
            state.open -= 1;
            drop(state);
            connection.backend.server.retire_worker();
            return;
        }
        state.idle.push(connection);
        if state.waiting > 0 {
            drop(state);
            self.released.notify_one();
        }
    }

    /// Closes a connection that does not work any more, and ends a worker with it.
    pub fn discard(&self, connection: UpstreamConnection) {
        let mut state = self.state();
        if Arc::ptr_eq(&state.backend, &connection.backend) {
            state.open -= 1;
            connection.backend.server.retire_worker();
        }
        drop(state);
        self.released.notify_one();
    }

    /// Opens one more connection. If tiny_http does not answer, starts another in its place.
    fn open(&self) -> io::Result<UpstreamConnection> {
        let _one_by_one = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let backend = {
            let mut state = self.state();
            if let Some(connection) = state.idle.pop() {
                return Ok(connection);
            }
            state.backend.clone()
        };
        let error = match self.open_to(&backend) {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        if !backend.broken.load(Ordering::SeqCst) && is_shortage(&error) {
            return Err(error);
        }
        log::error("server_restarted")
            .with("error", &error.to_string())
            .send();
        let backend = Arc::new(Backend::start(&self.dispatcher)?);
        {
            // Connections to the old one that are in use finish their requests. It ends with the last of them.
            let mut state = self.state();
            state.backend = backend.clone();
            state.idle.clear();
            state.open = 0;
        }
        self.open_to(&backend)
    }

    fn open_to(&self, backend: &Arc<Backend>) -> io::Result<UpstreamConnection> {
        backend.server.add_worker()?;
        let connection = UpstreamConnection::open(backend.clone())
            .inspect_err(|_| backend.server.retire_worker())?;
        self.state().open += 1;
        Ok(connection)
    }

    /// Breaks all connections that nobody uses.
    #[cfg(test)]
    pub fn cut_idle(&self) {
        for connection in &self.state().idle {
            connection
                .stream
                .shutdown(std::net::Shutdown::Both)
                .unwrap();
        }
    }

    /// Lets the workers finish within `limit`. Returns false if some did not.
    pub fn stop(&self, limit: Duration) -> bool {
        let backend = self.state().backend.clone();
        // The process may end before the last owner drops it.
        backend.socket.close();
        backend.server.stop(limit)
    }
}

impl Backend {
    fn start(dispatcher: &Arc<Dispatcher>) -> io::Result<Backend> {
        let (socket, listener) = PrivateSocket::listen()?;
        let key = random::word()?;
        let broken = Arc::new(AtomicBool::new(false));
        let flag = broken.clone();
        let set_broken = move || flag.store(true, Ordering::SeqCst);
        let (dispatcher, given) = (dispatcher.clone(), Some(key.clone()));
        // tiny_http panics if it cannot start a thread.
        let start = AssertUnwindSafe(|| Server::start(listener, dispatcher, given, set_broken));
        let server = catch_unwind(start)
            .unwrap_or_else(|_| Err(io::Error::other("tiny_http cannot start")))?;
        Ok(Backend {
            socket,
            server,
            broken,
            key,
        })
    }
}

impl UpstreamConnection {
    /// Connects, and waits until a worker has answered a probe.
    fn open(backend: Arc<Backend>) -> io::Result<UpstreamConnection> {
        let stream = backend.socket.connect()?;
        stream.set_write_timeout(Some(SEND))?;
        let number = backend.server.add_connection();
        let gate_field = format!("{GATE}: {} {number}\r\n\r\n", backend.key);
        let mut connection = UpstreamConnection {
            stream,
            backend,
            number,
            gate_field,
        };
        connection.probe(PROBE)?;
        Ok(connection)
    }

    /// Waits until a worker has answered.
    fn probe(&mut self, limit: Duration) -> io::Result<()> {
        let (answered, answer) = sync_channel(1);
        self.send([b"GET / HTTP/1.1\r\n", b""], Arc::new(Probe(answered)))?;
        match answer.recv_timeout(limit) {
            Ok(()) => Ok(()),
            Err(_) => Err(ErrorKind::TimedOut.into()),
        }
    }

    /// Sends a request, whose answer `exchange` gets. The request is its head, without the empty line, and its body.
    pub fn send(
        &mut self,
        [head, body]: [&[u8]; 2],
        exchange: Arc<dyn Exchange>,
    ) -> io::Result<()> {
        self.backend.server.expect(self.number, exchange);
        let parts = [head, self.gate_field.as_bytes(), body];
        write_all(&mut self.stream, &mut parts.map(IoSlice::new))
    }

    /// Whether tiny_http still holds the other end.
    pub fn is_alive(&self) -> bool {
        let peek = || {
            self.stream.set_nonblocking(true)?;
            let peeked = socket2::SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit()]);
            self.stream.set_nonblocking(false)?;
            peeked
        };
        // Answers do not come this way. tiny_http itself writes only before it hangs up.
        peek().is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

impl Drop for UpstreamConnection {
    fn drop(&mut self) {
        self.backend.server.remove_connection(self.number);
    }
}

/// A request that only asks whether a worker answers.
struct Probe(SyncSender<()>);

impl Exchange for Probe {
    fn context(&self) -> Option<Context> {
        None
    }

    fn complete(&self, reply: Option<Reply>) {
        if reply.is_some() {
            // Fails if nobody waits any more.
            let _ = self.0.try_send(());
        }
    }
}

fn write_all(stream: &mut UnixStream, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        match stream.write_vectored(parts) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut parts, count),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// There are no descriptors, threads or memory left. tiny_http is not to blame.
fn is_shortage(error: &io::Error) -> bool {
    error.raw_os_error().is_some() && error.kind() != ErrorKind::ConnectionRefused
        || matches!(error.kind(), ErrorKind::OutOfMemory)
}

fn busy() -> Error {
    Error {
        retry_after: Some(1),
        ..Error::new(
            503,
            "The service broker is too busy to take up this request. Try again in a moment.",
        )
    }
}

#[cfg(test)]
pub mod tests;
