//! The lines to tiny_http: kept-alive connections on a private socket, one for each worker.
//!
//! Each line carries one request at a time, so tiny_http never has more connections than workers. They are opened one by
//! one, each once the one before has answered: tiny_http starves connections that come in a burst.

use super::private::Private;
use crate::broker::error::Error;
use crate::http::dispatch::Dispatcher;
use crate::http::server::{GATE, Server};
use crate::{log, random};

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long all lines may be in use before one more is opened: then the workers wait for something, as for a slow adapter.
const STALLED: Duration = Duration::from_millis(100);
/// How long tiny_http may take to answer on a new line.
const PROBE: Duration = Duration::from_secs(2);
/// How long tiny_http may take to read a request: it has nothing else to do on a line.
const HAND_OVER: Duration = Duration::from_secs(10);
/// What most answers fit into.
const FIRST_READ: usize = 2 * 1024;
/// The longest head of an answer.
const MAX_ANSWER_HEAD: usize = 64 * 1024;
/// An answer up to this size is collected before it goes to the client, so that the line is free for the next.
const MAX_COLLECTED: usize = 64 * 1024;

/// All lines.
pub struct Lines {
    dispatcher: Arc<Dispatcher>,
    /// Lines that are kept open, and the most that there may be while workers are stalled.
    usual: usize,
    most: usize,
    inside: Mutex<Inside>,
    freed: Condvar,
    /// Held while a line is opened.
    opening: Mutex<()>,
}

struct Inside {
    backend: Arc<Backend>,
    idle: Vec<Line>,
    open: usize,
}

/// tiny_http with its workers, and the socket that leads to it.
struct Backend {
    private: Private,
    server: Server,
    /// tiny_http accepts no more connections.
    deaf: Arc<AtomicBool>,
    /// The beginning of the field in which the gate speaks to the server: its name and the key.
    field: String,
}

/// One line.
pub struct Line {
    stream: UnixStream,
    backend: Arc<Backend>,
}

/// An answer as far as it was read: its head is complete.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    pub status: u16,
    /// Bytes that are still to be read from the line.
    pub left: u64,
}

impl Lines {
    /// Starts tiny_http behind a private socket.
    pub fn start(dispatcher: Arc<Dispatcher>, usual: usize, most: usize) -> io::Result<Lines> {
        let backend = Arc::new(Backend::start(&dispatcher)?);
        let lines = Lines {
            dispatcher,
            usual,
            most: most.max(usual),
            inside: Mutex::new(Inside {
                backend,
                idle: Vec::new(),
                open: 0,
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
    pub fn take(&self, deadline: Option<Instant>) -> Result<Line, Error> {
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
            inside = self
                .freed
                .wait_timeout(inside, wait)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Returns a line after a whole answer.
    pub fn give_back(&self, line: Line) {
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
        drop(inside);
        self.freed.notify_one();
    }

    /// Throws away a line that is of no more use, and its worker with it.
    pub fn discard(&self, line: Line) {
        let mut inside = self.inside();
        if Arc::ptr_eq(&inside.backend, &line.backend) {
            inside.open -= 1;
            line.backend.server.retire_worker();
        }
        drop(inside);
        self.freed.notify_one();
    }

    /// Opens one more line. If tiny_http does not answer, another is started in its place.
    fn open(&self) -> io::Result<Line> {
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
            // Lines to the old one that are in use come to their end; it goes away with the last of them.
            let mut inside = self.inside();
            inside.backend = backend.clone();
            inside.idle.clear();
            inside.open = 0;
        }
        self.open_on(&backend)
    }

    fn open_on(&self, backend: &Arc<Backend>) -> io::Result<Line> {
        backend.server.add_worker()?;
        let line = Line::open(backend.clone()).inspect_err(|_| backend.server.retire_worker())?;
        self.inside().open += 1;
        Ok(line)
    }

    /// Has the workers finish within `limit`. False if some did not.
    pub fn stop(&self, limit: Duration) -> bool {
        let backend = self.inside().backend.clone();
        backend.server.stop(limit)
    }
}

impl Backend {
    fn start(dispatcher: &Arc<Dispatcher>) -> io::Result<Backend> {
        let (private, listener) = Private::listen()?;
        let key = random::hex()?;
        let field = format!("{GATE}: {key} ");
        let deaf = Arc::new(AtomicBool::new(false));
        let told = deaf.clone();
        let server = Server::start(listener, dispatcher.clone(), Some(key), move || {
            told.store(true, Ordering::SeqCst);
        })?;
        Ok(Backend {
            private,
            server,
            deaf,
            field,
        })
    }
}

impl Line {
    /// Connects, and waits until tiny_http has answered.
    fn open(backend: Arc<Backend>) -> io::Result<Line> {
        let stream = backend.private.connect()?;
        stream.set_write_timeout(Some(HAND_OVER))?;
        let mut line = Line { stream, backend };
        let mut answer = Vec::new();
        let deadline = Some(Instant::now() + PROBE);
        line.exchange(
            b"GET / HTTP/1.1\r\nHost: gate\r\n",
            "",
            b"",
            false,
            &mut answer,
            deadline,
        )?;
        Ok(line)
    }

    /// Sends a request and reads its answer, which replaces what is in `answer`: all of it, or, if it is large, a part.
    /// `head` has no empty line yet: the field that names the `client` follows it. A request to which there is no answer body
    /// (`bodiless`) declares its length all the same.
    pub fn exchange(
        &mut self,
        head: &[u8],
        client: &str,
        body: &[u8],
        bodiless: bool,
        answer: &mut Vec<u8>,
        deadline: Option<Instant>,
    ) -> io::Result<Answer> {
        let field = self.backend.field.as_bytes();
        let parts = [head, field, client.as_bytes(), b"\r\n\r\n", body];
        write_all(&mut self.stream, &mut parts.map(IoSlice::new))?;
        let mut filled = 0;
        answer.resize(answer.capacity().clamp(FIRST_READ, MAX_COLLECTED), 0);
        let (status, head) = loop {
            if filled == answer.len() {
                if filled >= MAX_ANSWER_HEAD {
                    return Err(garbled());
                }
                answer.resize(filled * 2, 0);
            }
            let looked = filled.saturating_sub(3);
            filled += self.read_some(&mut answer[filled..], deadline)?;
            if let Some(end) = find(&answer[looked..filled], b"\r\n\r\n") {
                break (status(&answer[..filled])?, looked + end + 4);
            }
        };
        let length = match status {
            204 | 304 => 0,
            _ if bodiless => 0,
            _ => content_length(&answer[..head])?,
        };
        let total = length.saturating_add(head as u64);
        let collected = if total <= MAX_COLLECTED as u64 {
            total as usize
        } else {
            filled
        };
        answer.resize(collected.max(filled), 0);
        while filled < collected {
            filled += self.read_some(&mut answer[filled..], deadline)?;
        }
        Ok(Answer {
            status,
            left: total.checked_sub(filled as u64).ok_or_else(garbled)?,
        })
    }

    /// More of an answer; never nothing.
    pub fn read_some(&mut self, into: &mut [u8], deadline: Option<Instant>) -> io::Result<usize> {
        if let Some(deadline) = deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = left.max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left))?;
        }
        let result = loop {
            match self.stream.read(into) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) => break Err(ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    break Err(ErrorKind::TimedOut.into());
                }
                result => break result,
            }
        };
        if deadline.is_some() {
            self.stream.set_read_timeout(None)?;
        }
        result
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

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

/// The status in `HTTP/1.1 200 OK`.
fn status(answer: &[u8]) -> io::Result<u16> {
    answer
        .get(9..12)
        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
        .ok_or_else(garbled)
}

/// What our own server declares.
fn content_length(head: &[u8]) -> io::Result<u64> {
    const NAME: &[u8] = b"\r\nContent-Length: ";
    let value = find(head, NAME).map(|at| &head[at + NAME.len()..]);
    value
        .and_then(|value| {
            let end = value.iter().position(|byte| *byte == b'\r')?;
            std::str::from_utf8(&value[..end]).ok()?.parse().ok()
        })
        .ok_or_else(garbled)
}

fn garbled() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "the answer of a worker is garbled")
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
