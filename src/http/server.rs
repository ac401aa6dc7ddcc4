//! The blocking request loop, its workers, and the graceful stop.
//!
//! tiny_http accepts connections and reads requests on threads of its own, and puts them into one queue. Each worker takes
//! one request after the other and has the dispatcher answer it. Requests come from the [`gate`](super::gate), on a private
//! socket. It keeps an [`Exchange`] ready for each of them, which gets the answer.

mod message;

use super::auth::Authentication;
use super::counts::REQUESTS;
use super::dispatch::Dispatcher;
use super::reply::{Body, Reply};
use super::request::{Headers, Request};
use crate::broker::error::Error;
use crate::log;
use message::{Head, response};

use std::collections::HashMap;
use std::io;
use std::mem::ManuallyDrop;
use std::net::{IpAddr, Shutdown};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;

/// The header field by which a worker finds the exchange of a request: a key that only the gate knows, and the number of
/// the connection that the request came on. Short, since tiny_http reads byte by byte.
pub const GATE: &str = "Gate";

/// One request, as the gate and a worker share it.
pub trait Exchange: Send + Sync {
    /// What the gate knows of the request besides its text. `None` for a probe: the gate only wants to know whether a
    /// worker answers.
    fn context(&self) -> Option<Context>;

    /// Takes the answer, or `None` if the worker has failed. Called once.
    fn complete(&self, reply: Option<Reply>);
}

/// What the gate knows of a request. It travels as a value, beside tiny_http, so no client can forge it.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    pub client: IpAddr,
    /// `https` or `http`, if known.
    pub proto: Option<&'static str>,
    pub authentication: Authentication,
    /// The body has at least this size, which is too large, and was not passed on.
    pub too_large: Option<u64>,
}

/// Stack of a worker. A request nests as deeply as its JSON may.
const STACK: usize = 512 * 1024;

/// A running server.
pub struct Server {
    shared: Arc<Shared>,
    /// The listening socket, held here too so that it can be closed while requests are worked on.
    listener: OwnedFd,
    /// How many workers there have ever been, for their names.
    started: AtomicUsize,
}

struct Shared {
    /// Never dropped: tiny_http would connect to itself then, and panics if its socket has an abstract name.
    http: ManuallyDrop<tiny_http::Server>,
    dispatcher: Arc<Dispatcher>,
    /// Requests without this key are refused. `None` without a gate: everything is served.
    key: Option<String>,
    stopping: AtomicBool,
    /// For each connection from the gate: the exchange that its next request belongs to.
    exchanges: Mutex<HashMap<u64, Option<Arc<dyn Exchange>>>>,
    /// How many workers there are.
    workers: Mutex<usize>,
    ended: Condvar,
    broken: Box<dyn Fn() + Send + Sync>,
}

impl Server {
    /// Listens on a socket. Nothing is served before [`Server::add_worker`]. With a `key`, requests whose field [`GATE`] does
    /// not begin with it are refused. `broken` is called if tiny_http can accept no more connections; those that it has
    /// still work.
    pub fn start<L>(
        listener: L,
        dispatcher: Arc<Dispatcher>,
        key: Option<String>,
        broken: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Server>
    where
        L: Into<tiny_http::Listener> + AsFd,
    {
        let copy = listener.as_fd().try_clone_to_owned()?;
        let http = tiny_http::Server::from_listener(listener, None).map_err(io::Error::other)?;
        Ok(Server {
            shared: Arc::new(Shared {
                http: ManuallyDrop::new(http),
                dispatcher,
                key,
                stopping: AtomicBool::new(false),
                exchanges: Mutex::default(),
                workers: Mutex::new(0),
                ended: Condvar::new(),
                broken: Box::new(broken),
            }),
            listener: copy,
            started: AtomicUsize::new(0),
        })
    }

    /// Starts one more worker.
    pub fn add_worker(&self) -> io::Result<()> {
        let shared = self.shared.clone();
        let n = self.started.fetch_add(1, Ordering::Relaxed);
        let mut workers = self.shared.workers();
        thread::Builder::new()
            .name(format!("worker-{n}"))
            .stack_size(STACK)
            .spawn(move || work(&shared))?;
        *workers += 1;
        Ok(())
    }

    /// A number for a connection from the gate.
    pub fn add_connection(&self) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.shared.exchanges().insert(number, None);
        number
    }

    /// The next request on this connection belongs to this exchange.
    pub fn expect(&self, connection: u64, exchange: Arc<dyn Exchange>) {
        let old = self.shared.exchanges().insert(connection, Some(exchange));
        // Not before the lock is released.
        drop(old);
    }

    pub fn remove_connection(&self, connection: u64) {
        let old = self.shared.exchanges().remove(&connection);
        drop(old);
    }

    /// Ends one worker, as soon as one has nothing to do.
    pub fn retire_worker(&self) {
        self.shared.http.unblock();
    }

    /// Stops accepting, lets the requests in flight finish within `limit`, and ends the workers. Returns false if some did
    /// not finish.
    pub fn stop(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        self.release();
        let mut workers = self.shared.workers();
        while *workers > 0 {
            let Some(left) = end.checked_duration_since(Instant::now()) else {
                return false;
            };
            workers = self
                .shared
                .ended
                .wait_timeout(workers, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    /// Ends tiny_http's accept loop.
    pub(super) fn close(&self) {
        let _ = socket2::SockRef::from(&self.listener).shutdown(Shutdown::Both);
    }

    /// Ends tiny_http's accept loop, while connections that exist go on, and has each worker end once the requests that are
    /// queued by now are answered.
    fn release(&self) {
        if self.shared.stopping.swap(true, Ordering::SeqCst) {
            return;
        }
        self.close();
        for _ in 0..*self.shared.workers() {
            self.shared.http.unblock();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.release();
    }
}

impl Shared {
    fn exchanges(&self) -> MutexGuard<'_, HashMap<u64, Option<Arc<dyn Exchange>>>> {
        self.exchanges
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The exchange of a request, if the request came through the gate. Nobody else gets it, so it is answered once.
    fn take_exchange(&self, key: &str, field: Option<&str>) -> Option<Pending> {
        let (given, connection) = field?.split_once(' ')?;
        if !bool::from(given.as_bytes().ct_eq(key.as_bytes())) {
            return None;
        }
        let connection = connection.parse().ok()?;
        let exchange = self.exchanges().get_mut(&connection)?.take()?;
        Some(Pending(Some(exchange)))
    }

    fn workers(&self) -> MutexGuard<'_, usize> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The loop of one worker.
fn work(shared: &Shared) {
    let mut head = Head::default();
    while let Some(request) = next(shared) {
        // tiny_http panics when some connections are reset early. That costs this answer and nothing else.
        let _ = catch_unwind(AssertUnwindSafe(|| serve(shared, request, &mut head)));
    }
    *shared.workers() -= 1;
    shared.ended.notify_all();
}

/// The next request. `None` when the server stops; what is in the queue by then is still answered.
fn next(shared: &Shared) -> Option<tiny_http::Request> {
    loop {
        match shared.http.recv() {
            Ok(request) => return Some(request),
            // Unblocked. tiny_http's queue is in order, so nothing that came before is left.
            Err(error) if error.raw_os_error().is_none() => return None,
            // tiny_http's accept loop has ended because the server stops.
            Err(_) if shared.stopping.load(Ordering::SeqCst) => {}
            Err(error) => {
                log::error("accept_failed")
                    .with("error", &error.to_string())
                    .send();
                (shared.broken)();
            }
        }
    }
}

fn serve(shared: &Shared, mut received: tiny_http::Request, head: &mut Head) {
    let started = Instant::now();
    head.copy(&received);
    let mut exchange = match &shared.key {
        None => None,
        Some(key) => match shared.take_exchange(key, head.field(GATE)) {
            Some(exchange) => Some(exchange),
            // An error when responding means that whoever asked has gone.
            None => return drop(received.respond(tiny_http::Response::empty(403))),
        },
    };
    let context = exchange.as_ref().and_then(Pending::context);
    if context.is_none()
        && let Some(probe) = exchange.take()
    {
        drop(received.into_writer());
        return probe.complete(Reply::new(204, Body::Owned(Vec::new()), "probed"));
    }
    let declared = received.body_length().map(|length| length as u64);
    let too_large = context.and_then(|context| context.too_large);
    let client = context.map(|context| context.client.to_string());
    let mut request = Request {
        client: client.as_deref(),
        method: head.method(),
        target: head.target(),
        headers: Headers::new(head.fields()),
        content_length: too_large.or(declared),
        body: received.as_reader(),
    };
    let dispatcher = &shared.dispatcher;
    let handled = catch_unwind(AssertUnwindSafe(|| match context {
        Some(context) => dispatcher.handle_authenticated(&mut request, context.authentication),
        None => dispatcher.handle(&mut request),
    }));
    let (reply, line) = handled.unwrap_or_else(|_| {
        REQUESTS.add(request.method, "", 500, started.elapsed());
        panicked()
    });
    match exchange {
        Some(exchange) => {
            exchange.complete(reply);
            // Nothing is written, but tiny_http goes on to the next request of the connection. Last, since this wakes a
            // thread.
            drop(received.into_writer());
        }
        None => drop(received.respond(response(reply))),
    }
    line.with("client", client.as_ref())
        .with("proto", context.and_then(|context| context.proto))
        .with("duration_us", started.elapsed().as_micros() as u64)
        .send();
}

/// An exchange that a worker has to complete. If it is dropped before, the exchange learns that the worker has failed.
struct Pending(Option<Arc<dyn Exchange>>);

impl Pending {
    fn context(&self) -> Option<Context> {
        self.0.as_ref()?.context()
    }

    fn complete(mut self, reply: Reply) {
        if let Some(exchange) = self.0.take() {
            exchange.complete(Some(reply));
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(exchange) = self.0.take() {
            exchange.complete(None);
        }
    }
}

/// The answer to a request at which the dispatcher panicked, and its log line.
fn panicked() -> (Reply, log::Entry) {
    let error = Error::new(
        500,
        "The service broker failed unexpectedly; the operator finds the cause in the broker's log.",
    );
    let line = log::error("request")
        .with("status", error.status)
        .with("outcome", "panic")
        .with("reason", error.for_log());
    (
        Reply::from(error).with_header("Content-Type", "application/json"),
        line,
    )
}
