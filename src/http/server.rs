//! The blocking request loop, its workers, and the graceful stop.
//!
//! tiny_http accepts connections and reads requests on threads of its own and puts them into one queue. Each worker
//! takes one request after the other, has the dispatcher answer it, and sends the answer.

use super::dispatch::Dispatcher;
use super::reply::{Body, Reply};
use super::{Headers, Request};
use crate::broker::error::Error;
use crate::log;

use std::io::{self, Cursor};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A server at work.
pub struct Server {
    shared: Arc<Shared>,
    /// The listening socket, held here too so that it can be closed while requests are worked on.
    listener: TcpListener,
    address: SocketAddr,
    workers: Vec<JoinHandle<()>>,
    ended: Receiver<()>,
}

struct Shared {
    http: tiny_http::Server,
    dispatcher: Dispatcher,
    stopping: AtomicBool,
}

impl Server {
    /// Serves on a listening socket with this many workers. `broken` is called if the server can accept no more
    /// connections: it has to be stopped then.
    pub fn start(
        listener: TcpListener,
        dispatcher: Dispatcher,
        workers: usize,
        broken: impl Fn() + Send + Clone + 'static,
    ) -> io::Result<Server> {
        let address = listener.local_addr()?;
        let http = tiny_http::Server::from_listener(listener.try_clone()?, None)
            .map_err(io::Error::other)?;
        let shared = Arc::new(Shared {
            http,
            dispatcher,
            stopping: AtomicBool::new(false),
        });
        let (ending, ended) = channel();
        let workers = (0..workers)
            .map(|n| {
                let (shared, broken, ending) = (shared.clone(), broken.clone(), ending.clone());
                thread::Builder::new()
                    .name(format!("worker-{n}"))
                    .spawn(move || work(&shared, &broken, &ending))
            })
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Server {
            shared,
            listener,
            address,
            workers,
            ended,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, lets the requests in flight finish within `limit`, and ends the workers. Returns false if some did
    /// not finish.
    pub fn stop(self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Ends tiny_http's accept loop; connections that exist go on.
        let _ = socket2::SockRef::from(&self.listener).shutdown(Shutdown::Both);
        for _ in &self.workers {
            self.shared.http.unblock();
        }
        for _ in &self.workers {
            let left = end.saturating_duration_since(Instant::now());
            if let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(left) {
                return false;
            }
        }
        for worker in self.workers {
            // A worker does not panic; if it did, its requests have ended with it.
            let _ = worker.join();
        }
        true
    }
}

/// The loop of one worker.
fn work(shared: &Shared, broken: &impl Fn(), ending: &Sender<()>) {
    let mut head = Head::default();
    while let Some(request) = next(shared, broken) {
        // tiny_http panics when some connections are reset early; that costs this answer and nothing else.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            serve(&shared.dispatcher, request, &mut head)
        }));
    }
    let _ = ending.send(());
}

/// The next request; `None` when the server stops. What is waiting in the queue by then is still answered.
fn next(shared: &Shared, broken: &impl Fn()) -> Option<tiny_http::Request> {
    loop {
        match shared.http.recv() {
            Ok(request) => return Some(request),
            // Unblocked, by `stop`: tiny_http's queue is in order, so nothing that came before is left.
            Err(error) if error.raw_os_error().is_none() => return None,
            // tiny_http's accept loop has ended, as it is to when the server stops.
            Err(_) if shared.stopping.load(Ordering::SeqCst) => {}
            Err(error) => {
                log::error("accept_failed")
                    .with("error", &error.to_string())
                    .send();
                broken();
            }
        }
    }
}

fn serve(dispatcher: &Dispatcher, mut received: tiny_http::Request, head: &mut Head) {
    let started = Instant::now();
    head.copy(&received);
    let content_length = received.body_length().map(|length| length as u64);
    let mut request = Request {
        method: head.method(),
        target: head.target(),
        headers: head.headers(),
        content_length,
        body: received.as_reader(),
    };
    let handled = catch_unwind(AssertUnwindSafe(|| dispatcher.handle(&mut request)));
    let (reply, line) = handled.unwrap_or_else(|_| {
        let error = Error::new(
            500,
            "The service broker failed unexpectedly; the operator finds the cause in the broker's log.",
        );
        let line = log::error("request").with("status", error.status).with("outcome", "panic");
        (Reply::from(error).with_header("Content-Type", "application/json"), line)
    });
    // An error here means that the client has gone.
    let _ = received.respond(response(reply));
    line.with("duration_us", started.elapsed().as_micros() as u64)
        .send();
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
