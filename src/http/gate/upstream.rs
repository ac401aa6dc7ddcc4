//! The lines to tiny_http: kept-alive connections on a private socket, one for each worker.
//!
//! Each line carries one request at a time, so tiny_http never has more connections than workers. They are opened one by
//! one, each once the one before has answered: tiny_http starves connections that come in a burst.

use super::private_socket::PrivateSocket;
use crate::broker::error::Error;
use crate::http::dispatch::Dispatcher;
use crate::http::reply::Reply;
use crate::http::reply_slot::{ReplySink, ReplySlot, Taken};
use crate::http::server::{GATE, Server};
use crate::{log, random};

use std::io::{self, ErrorKind, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long all lines may be in use before one more is opened: then the workers wait for something, as for a slow adapter.
const STALLED: Duration = Duration::from_millis(100);
/// How long tiny_http may take to answer on a new line.
const PROBE: Duration = Duration::from_secs(2);
/// How long tiny_http may take to read a request: it has nothing else to do on a line.
const HAND_OVER: Duration = Duration::from_secs(10);
/// How often whoever waits for an answer makes sure that the line still leads to somebody.
pub const CHECK: Duration = Duration::from_secs(1);

/// All lines.
pub struct Upstream {
    dispatcher: Arc<Dispatcher>,
    /// Upstream that are kept open, and the most that there may be while workers are stalled.
    usual: usize,
    most: usize,
    inside: Mutex<Inside>,
    freed: Condvar,
    /// Held while a line is opened.
    opening: Mutex<()>,
}

struct Inside {
    backend: Arc<Backend>,
    idle: Vec<UpstreamConnection>,
    open: usize,
    /// How many wait for a line. Waking nobody is a system call, too.
    waiting: usize,
}

/// tiny_http with its workers, and the socket that leads to it.
struct Backend {
    private: PrivateSocket,
    server: Server,
    /// tiny_http accepts no more connections.
    deaf: Arc<AtomicBool>,
    key: String,
}

/// One line.
pub struct UpstreamConnection {
    stream: UnixStream,
    backend: Arc<Backend>,
    /// Where the answers are put.
    tray: Arc<ReplySlot>,
    number: u64,
    /// The beginning of the field in which the gate speaks to the server: its name, the key and the number of the tray.
    field: String,
}

impl Upstream {
    /// Starts tiny_http behind a private socket.
    pub fn start(dispatcher: Arc<Dispatcher>, usual: usize, most: usize) -> io::Result<Upstream> {
        let backend = Arc::new(Backend::start(&dispatcher)?);
        let lines = Upstream {
            dispatcher,
            usual,
            most: most.max(usual),
            inside: Mutex::new(Inside {
                backend,
                idle: Vec::new(),
                open: 0,
                waiting: 0,
            }),
            freed: Condvar::new(),
            opening: Mutex::new(()),
        };
        let first = lines.open()?;
        lines.give_back(first);
        Ok(lines)
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line that nobody uses, at the latest by `deadline`.
    pub fn take(&self, deadline: Option<Instant>) -> Result<UpstreamConnection, Error> {
        let started = Instant::now();
        let mut inside = self.inside();
        loop {
            if let Some(line) = inside.idle.pop() {
                return Ok(line);
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Err(unavailable());
            }
            let waited = now - started;
            let may_open =
                inside.open < self.usual || (inside.open < self.most && waited >= STALLED);
            if may_open {
                drop(inside);
                match self.open() {
                    Ok(line) => return Ok(line),
                    Err(error) if self.inside().open == 0 => {
                        log::error("worker_unavailable")
                            .with("error", &error.to_string())
                            .send();
                        return Err(unavailable());
                    }
                    // As when there are no descriptors or threads left: what there is has to do.
                    Err(_) => inside = self.inside(),
                }
            }
            let wait = deadline.map_or(STALLED, |deadline| (deadline - now).min(STALLED));
            inside.waiting += 1;
            inside = self
                .freed
                .wait_timeout(inside, wait)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            inside.waiting -= 1;
        }
    }

    /// Has a worker answer a request (see [`UpstreamConnection::exchange`]). If a line turns out to be dead, it asks on another, at most so
    /// often in all.
    pub fn ask(
        &self,
        request: [&[u8]; 3],
        deadline: Option<Instant>,
        mut times: u32,
    ) -> Result<Reply, Error> {
        loop {
            let mut line = self.take(deadline)?;
            match line.exchange(request, deadline) {
                Ok(reply) => {
                    self.give_back(line);
                    return Ok(reply);
                }
                Err(error) => {
                    self.discard(line);
                    times -= 1;
                    if times == 0 || error.kind() == ErrorKind::TimedOut {
                        return Err(unanswered(&error));
                    }
                }
            }
        }
    }

    /// Returns a line after a whole answer.
    pub fn give_back(&self, line: UpstreamConnection) {
        let mut inside = self.inside();
        if !Arc::ptr_eq(&inside.backend, &line.backend) {
            return;
        }
        if inside.open > self.usual && inside.idle.len() >= self.usual / 2 {
            inside.open -= 1;
            drop(inside);
            line.backend.server.retire_worker();
            return;
        }
        inside.idle.push(line);
        if inside.waiting > 0 {
            drop(inside);
            self.freed.notify_one();
        }
    }

    /// Throws away a line that is of no more use, and its worker with it.
    pub fn discard(&self, line: UpstreamConnection) {
        let mut inside = self.inside();
        if Arc::ptr_eq(&inside.backend, &line.backend) {
            inside.open -= 1;
            line.backend.server.retire_worker();
        }
        drop(inside);
        self.freed.notify_one();
    }

    /// Opens one more line. If tiny_http does not answer, another is started in its place.
    fn open(&self) -> io::Result<UpstreamConnection> {
        let _one_by_one = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let backend = {
            let mut inside = self.inside();
            if let Some(line) = inside.idle.pop() {
                return Ok(line);
            }
            inside.backend.clone()
        };
        let error = match self.open_on(&backend) {
            Ok(line) => return Ok(line),
            Err(error) => error,
        };
        if !backend.deaf.load(Ordering::SeqCst) && is_shortage(&error) {
            return Err(error);
        }
        log::error("server_restarted")
            .with("error", &error.to_string())
            .send();
        let backend = Arc::new(Backend::start(&self.dispatcher)?);
        {
            // Upstream to the old one that are in use come to their end; it goes away with the last of them.
            let mut inside = self.inside();
            inside.backend = backend.clone();
            inside.idle.clear();
            inside.open = 0;
        }
        self.open_on(&backend)
    }

    fn open_on(&self, backend: &Arc<Backend>) -> io::Result<UpstreamConnection> {
        backend.server.add_worker()?;
        let line = UpstreamConnection::open(backend.clone())
            .inspect_err(|_| backend.server.retire_worker())?;
        self.inside().open += 1;
        Ok(line)
    }

    /// Upstream that nobody uses lead nowhere any more.
    #[cfg(test)]
    pub fn cut_idle(&self) {
        for line in &self.inside().idle {
            line.stream.shutdown(std::net::Shutdown::Both).unwrap();
        }
    }

    /// Has the workers finish within `limit`. False if some did not.
    pub fn stop(&self, limit: Duration) -> bool {
        let backend = self.inside().backend.clone();
        // Not left to the last who holds it: the process may end before.
        backend.private.close();
        backend.server.stop(limit)
    }
}

impl Backend {
    fn start(dispatcher: &Arc<Dispatcher>) -> io::Result<Backend> {
        let (private, listener) = PrivateSocket::listen()?;
        let key = random::word()?;
        let deaf = Arc::new(AtomicBool::new(false));
        let told = deaf.clone();
        let broken = move || told.store(true, Ordering::SeqCst);
        let (dispatcher, given) = (dispatcher.clone(), Some(key.clone()));
        // tiny_http panics where it cannot start a thread.
        let start = AssertUnwindSafe(|| Server::start(listener, dispatcher, given, broken));
        let server = catch_unwind(start)
            .unwrap_or_else(|_| Err(io::Error::other("tiny_http cannot start")))?;
        Ok(Backend {
            private,
            server,
            deaf,
            key,
        })
    }
}

impl UpstreamConnection {
    /// Connects, and waits until a worker has answered.
    fn open(backend: Arc<Backend>) -> io::Result<UpstreamConnection> {
        let stream = backend.private.connect()?;
        stream.set_write_timeout(Some(HAND_OVER))?;
        let (number, tray) = backend.server.add_tray();
        let field = format!("{GATE}: {} {number}", backend.key);
        let mut line = UpstreamConnection {
            stream,
            backend,
            tray,
            number,
            field,
        };
        let deadline = Some(Instant::now() + PROBE);
        line.exchange([b"GET / HTTP/1.1\r\n", b"", b""], deadline)?;
        Ok(line)
    }

    /// Sends a request, and waits for its answer. A request is its head, the words that tell of its client, and its body.
    /// The head has no empty line yet: the field that names the client follows it. Without a deadline it waits for as long
    /// as the line leads to somebody.
    pub fn exchange(
        &mut self,
        request: [&[u8]; 3],
        deadline: Option<Instant>,
    ) -> io::Result<Reply> {
        self.tray.clear();
        self.write(request)?;
        loop {
            let check = Instant::now() + CHECK;
            let until = deadline.map_or(check, |deadline| deadline.min(check));
            match self.tray.take(until) {
                Taken::Answer(reply) => return Ok(reply),
                Taken::Lost => return Err(io::Error::other("the worker has failed")),
                Taken::Nothing if deadline.is_some_and(|end| end <= Instant::now()) => {
                    return Err(ErrorKind::TimedOut.into());
                }
                Taken::Nothing => self.leads_somewhere()?,
            }
        }
    }

    /// Sends a request, as [`UpstreamConnection::exchange`] does, whose answer goes to `outlet`.
    pub fn send(&mut self, request: [&[u8]; 3], outlet: Arc<dyn ReplySink>) -> io::Result<()> {
        self.tray.deliver_to(outlet);
        self.write(request)
    }

    fn write(&mut self, [head, words, body]: [&[u8]; 3]) -> io::Result<()> {
        let parts = [head, self.field.as_bytes(), words, b"\r\n\r\n", body];
        write_all(&mut self.stream, &mut parts.map(IoSlice::new))
    }

    /// Makes sure that tiny_http still holds the other end, and that there is a worker behind it.
    pub fn leads_somewhere(&self) -> io::Result<()> {
        self.check()?;
        if self.backend.server.revive()? {
            log::error("worker_replaced").send();
        }
        Ok(())
    }

    /// Whether tiny_http still holds the other end.
    fn check(&self) -> io::Result<()> {
        self.stream.set_nonblocking(true)?;
        let peeked = socket2::SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit()]);
        self.stream.set_nonblocking(false)?;
        match peeked {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            // What tiny_http says itself, it says before it hangs up.
            Ok(_) => Err(ErrorKind::UnexpectedEof.into()),
            Err(error) => Err(error),
        }
    }
}

impl Drop for UpstreamConnection {
    fn drop(&mut self) {
        self.backend.server.remove_tray(self.number);
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

/// There are no descriptors, threads or memory left for more: no fault of tiny_http.
fn is_shortage(error: &io::Error) -> bool {
    error.raw_os_error().is_some() && error.kind() != ErrorKind::ConnectionRefused
        || matches!(error.kind(), ErrorKind::OutOfMemory)
}

fn unavailable() -> Error {
    Error {
        retry_after: Some(1),
        ..Error::new(
            503,
            "The service broker is too busy to take up this request. Try again in a moment.",
        )
    }
}

fn unanswered(error: &io::Error) -> Error {
    Error {
        detail: Some(error.to_string()),
        retry_after: Some(1),
        ..Error::new(
            503,
            "The service broker did not answer. Try again in a moment; the operator finds the cause in the broker's log.",
        )
    }
}

#[cfg(test)]
pub mod tests;
