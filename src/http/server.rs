//! The blocking request loop, its workers, and the graceful stop.
//!
//! tiny_http accepts connections and reads requests on threads of its own and puts them into one queue. Each worker
//! takes one request after the other, and has the dispatcher answer it. Requests come from the [`gate`](super::gate), which
//! is in front on a private socket; it gets the answer as a value, on a tray, and knows best how to send it.

use super::dispatch::Dispatcher;
use super::reply::{Body, Reply};
use super::reply_slot::ReplySlot;
use super::{Headers, Request};
use crate::broker::error::Error;
use crate::log;

use std::collections::HashMap;
use std::io::{self, Cursor};
use std::mem::ManuallyDrop;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;

/// The field in which the gate says who the client is. Its value begins with the key that only the gate knows, and the
/// number of the tray on which it expects the answer. Short, since tiny_http reads byte by byte.
pub const GATE: &str = "Gate";

/// Stack of a worker. A request nests as deeply as its JSON may.
const STACK: usize = 512 * 1024;

/// A server at work.
pub struct Server {
    shared: Arc<Shared>,
    /// The listening socket, held here too so that it can be closed while requests are worked on.
    listener: OwnedFd,
    /// How many workers there have ever been, for their names.
    started: AtomicUsize,
}

struct Shared {
    /// Not dropped: tiny_http would connect to itself to end a thread that has ended already, and panics where its socket
    /// has an abstract name.
    http: ManuallyDrop<tiny_http::Server>,
    dispatcher: Arc<Dispatcher>,
    /// What the gate proves itself with; without a gate everything is served.
    key: Option<String>,
    stopping: AtomicBool,
    trays: Mutex<HashMap<u64, Arc<ReplySlot>>>,
    /// The workers that there are.
    workers: Mutex<usize>,
    ended: Condvar,
    broken: Box<dyn Fn() + Send + Sync>,
}

impl Server {
    /// Listens on a socket; [`Server::add_worker`] adds those who serve. Where there is a `key`, requests whose field
    /// [`GATE`] does not begin with it are refused. `broken` is called if tiny_http can accept no more connections; those
    /// that it has go on.
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
                trays: Mutex::default(),
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

    /// A new tray for the answers to one request after the other, and its number.
    pub fn add_tray(&self) -> (u64, Arc<ReplySlot>) {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let tray = Arc::new(ReplySlot::default());
        self.shared.trays().insert(number, tray.clone());
        (number, tray)
    }

    pub fn remove_tray(&self, number: u64) {
        self.shared.trays().remove(&number);
    }

    /// Makes sure that somebody serves. True if nobody did.
    pub fn revive(&self) -> io::Result<bool> {
        let nobody = *self.shared.workers() == 0;
        if nobody {
            self.add_worker()?;
        }
        Ok(nobody)
    }

    /// Ends one worker, once it has nothing to do.
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
    fn trays(&self) -> MutexGuard<'_, HashMap<u64, Arc<ReplySlot>>> {
        self.trays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn workers(&self) -> MutexGuard<'_, usize> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The loop of one worker.
fn work(shared: &Shared) {
    let mut head = Head::default();
    while let Some(request) = next(shared) {
        // tiny_http panics when some connections are reset early; that costs this answer and nothing else.
        let _ = catch_unwind(AssertUnwindSafe(|| serve(shared, request, &mut head)));
    }
    *shared.workers() -= 1;
    shared.ended.notify_all();
}

/// The next request; `None` when the server stops. What is waiting in the queue by then is still answered.
fn next(shared: &Shared) -> Option<tiny_http::Request> {
    loop {
        match shared.http.recv() {
            Ok(request) => return Some(request),
            // Unblocked: tiny_http's queue is in order, so nothing that came before is left.
            Err(error) if error.raw_os_error().is_none() => return None,
            // tiny_http's accept loop has ended, as it is to when the server stops.
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
    let headers = head.headers();
    let Some(visitor) = admitted(shared.key.as_deref(), headers.get(GATE)) else {
        // An error when responding means that whoever asked has gone.
        return drop(received.respond(tiny_http::Response::empty(403)));
    };
    let tray = visitor
        .tray
        .and_then(|number| shared.trays().get(&number).cloned());
    let owed = tray.as_ref().map(|tray| tray.owe());
    if visitor.is_gate() {
        drop(received.into_writer());
        return owed.into_iter().for_each(|owed| {
            owed.put(Reply::new(204, Body::Owned(Vec::new()), "probed"));
        });
    }
    let declared = received.body_length().map(|length| length as u64);
    let mut request = Request {
        method: head.method(),
        target: head.target(),
        headers,
        content_length: visitor.too_large.or(declared),
        body: received.as_reader(),
    };
    let handled = catch_unwind(AssertUnwindSafe(|| shared.dispatcher.handle(&mut request)));
    let (reply, line) = handled.unwrap_or_else(|_| {
        let error = Error::new(
            500,
            "The service broker failed unexpectedly; the operator finds the cause in the broker's log.",
        );
        let line = log::error("request")
            .with("status", error.status)
            .with("outcome", "panic")
            .with("reason", error.for_log());
        (Reply::from(error).with_header("Content-Type", "application/json"), line)
    });
    match owed {
        Some(owed) => {
            owed.put(reply);
            // Nothing is written there, but tiny_http goes on to the next request. Last, since it wakes a thread.
            drop(received.into_writer());
        }
        None => drop(received.respond(response(reply))),
    }
    line.with("client", visitor.client)
        .with("proto", visitor.proto)
        .with("duration_us", started.elapsed().as_micros() as u64)
        .send();
}

/// What the gate says of a request, in the words of the field [`GATE`] after the key. Without a gate nothing is said.
#[derive(Default)]
struct Origin<'a> {
    tray: Option<u64>,
    /// The client's address; absent where the gate itself wants to know whether anybody is here.
    client: Option<&'a str>,
    /// `https` or `http`, where it is known, else `-`.
    proto: Option<&'a str>,
    /// The body is of this size at least, and was withheld as too large.
    too_large: Option<u64>,
}

impl Origin<'_> {
    fn is_gate(&self) -> bool {
        self.tray.is_some() && self.client.is_none()
    }
}

/// `None` for a request that did not come through the gate.
fn admitted<'a>(key: Option<&str>, field: Option<&'a str>) -> Option<Origin<'a>> {
    let Some(key) = key else {
        return Some(Origin::default());
    };
    let mut words = field?.split(' ');
    let given = words.next().unwrap_or_default();
    if !bool::from(given.as_bytes().ct_eq(key.as_bytes())) {
        return None;
    }
    Some(Origin {
        tray: words.next().and_then(|number| number.parse().ok()),
        client: words.next(),
        proto: words.next().filter(|proto| *proto != "-"),
        too_large: words.next().and_then(|size| size.parse().ok()),
    })
}

fn response(reply: Reply) -> tiny_http::Response<Cursor<Body>> {
    let mut headers = Vec::with_capacity(reply.headers.len() + 1);
    let fields = reply
        .headers
        .iter()
        .map(|(name, value)| (*name, value.as_ref()));
    for (name, value) in fields.chain([("Server", "brokerlet")]) {
        // What is not ASCII cannot be sent; nothing that the dispatcher sets is.
        headers.extend(tiny_http::Header::from_bytes(name, value));
    }
    let length = reply.body.as_ref().len();
    tiny_http::Response::new(
        reply.status.into(),
        headers,
        Cursor::new(reply.body),
        Some(length),
        None,
    )
    .with_chunked_threshold(usize::MAX)
}

/// The head of a request, copied into one buffer that a worker uses again: tiny_http lends out either the head or the body.
#[derive(Default)]
struct Head {
    text: String,
    method: usize,
    target: usize,
    /// Ends of name and value of each header field in `text`; each begins where the one before ends.
    fields: Vec<(usize, usize)>,
}

impl Head {
    fn copy(&mut self, request: &tiny_http::Request) {
        self.text.clear();
        self.fields.clear();
        self.text.push_str(request.method().as_str());
        self.method = self.text.len();
        self.text.push_str(request.url());
        self.target = self.text.len();
        for header in request.headers() {
            self.text.push_str(header.field.as_str().as_str());
            let name = self.text.len();
            self.text.push_str(header.value.as_str());
            self.fields.push((name, self.text.len()));
        }
    }

    fn method(&self) -> &str {
        &self.text[..self.method]
    }

    fn target(&self) -> &str {
        &self.text[self.method..self.target]
    }

    fn headers(&self) -> Headers<'_> {
        let mut start = self.target;
        Headers::new(self.fields.iter().map(|&(name, value)| {
            let field = (&self.text[start..name], &self.text[name..value]);
            start = value;
            field
        }))
    }
}
