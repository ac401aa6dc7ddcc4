//! Reading one request whole, within its time and its limits.

use super::body_memory::Reservation;
use super::buffer::Buffer;
use super::chunked::{Decoder, Fault};
use super::client::Client;
use super::head::{self, Framing, Head};
use super::response_writer::Format;
use super::shared::Shared;
use super::transport::Transport;
use crate::broker::error::Error;
use crate::http::request::AUTHORIZATION;
use crate::http::server::Context;

use std::io::{self, ErrorKind, Read as _, Write};
use std::ops::Range;
use std::time::Instant;

/// Space for most requests, kept as long as the connection.
const BUFFER: usize = 2 * 1024;
/// Memory for a body that a connection keeps from one request to the next.
const KEPT_BODY: usize = 8 * 1024;

pub struct RequestReader<'g> {
    shared: &'g Shared,
    client: &'g Client,
    pub transport: Transport<'g>,
    buffer: Buffer,
    /// A body that did not fit into the buffer, or was chunked.
    body: Vec<u8>,
}

/// A request that was read. Its body is still in the reader; see [`RequestReader::body`].
pub struct Received<'g> {
    pub keep_alive: bool,
    pub format: Format,
    pub is_health_check: bool,
    pub context: Context,
    body: Body,
    /// The part of the memory for bodies that this body takes.
    reservation: Option<Reservation<'g>>,
}

enum Body {
    /// There is none, or the broker does not read it.
    None,
    /// In this part of the reader's buffer.
    Buffered(Range<usize>),
    /// In the reader's `body`.
    Collected,
}

impl Received<'_> {
    pub fn holds_memory(&self) -> bool {
        self.reservation.is_some()
    }
}

/// What came of the wait for a request.
pub enum Arrival {
    Request,
    /// The client sends no more.
    End,
    TimedOut,
}

/// Why there is no request.
pub enum End {
    /// Nobody is there to be answered.
    Gone,
    Refused(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> End {
        End::Refused(error)
    }
}

impl<'g> RequestReader<'g> {
    pub fn new(
        shared: &'g Shared,
        client: &'g Client,
        transport: Transport<'g>,
    ) -> RequestReader<'g> {
        RequestReader {
            shared,
            client,
            transport,
            buffer: Buffer::new(BUFFER),
            body: Vec::new(),
        }
    }

    /// Waits for the first bytes of a request, and reads them.
    pub fn wait(&mut self, deadline: Instant) -> Arrival {
        self.transport.set_deadline(deadline);
        match self.transport.wait() {
            // Before reading: until then, others see the bytes in the socket.
            Ok(()) => self.client.set_receiving(),
            Err(error) if error.kind() == ErrorKind::TimedOut => return Arrival::TimedOut,
            Err(_) => return Arrival::End,
        }
        let limits = &self.shared.limits;
        self.transport.set_deadline(Instant::now() + limits.request);
        match self.buffer.read(&mut self.transport, limits.head) {
            Ok(1..) => Arrival::Request,
            _ => Arrival::End,
        }
    }

    /// Whether there are bytes of another request in the buffer.
    pub fn has_more(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The same while the body of this request is still in the buffer.
    pub fn has_more_than(&self, request: &Received<'_>) -> bool {
        match &request.body {
            Body::Buffered(range) => self.buffer.filled().len() > range.end,
            Body::None | Body::Collected => self.has_more(),
        }
    }

    /// Reads a request by `deadline`. Writes its head into `head` as tiny_http is to read it: only the fields that the broker
    /// reads, and no empty line at the end.
    pub fn read(&mut self, deadline: Instant, head: &mut Vec<u8>) -> Result<Received<'g>, End> {
        self.transport.set_deadline(deadline);
        let end = self.find_head()?;
        let shared = self.shared;
        let parsed = head::parse(&self.buffer.filled()[..end], &shared.limits)?;
        shared.dispatcher.check_host(parsed.host)?;
        write_head(&parsed, head);
        let authentication = shared.dispatcher.authenticate(parsed.field(AUTHORIZATION));
        let trusted = shared.proxies.trust(self.client.peer);
        let forwarded = parsed.forwarded_proto.filter(|_| trusted);
        let mut request = Received {
            keep_alive: parsed.keep_alive,
            format: Format {
                http10: parsed.http10,
                no_body: parsed.method == "HEAD",
            },
            is_health_check: shared.dispatcher.is_health_check(parsed.path()),
            context: Context {
                client: shared
                    .proxies
                    .client(self.client.peer, &parsed.forwarded_for),
                proto: forwarded.map_or(self.transport.proto(), known_proto),
                authentication,
                too_large: None,
            },
            body: Body::None,
            reservation: None,
        };
        // A connection that was evicted by now cannot be answered, so nothing is done for it.
        if authentication.was_attempted()
            && !self.client.set_authenticated(authentication.is_valid())
        {
            return Err(End::Gone);
        }
        if parsed.body == Framing::None {
            self.buffer.consume(end);
            return Ok(request);
        }
        if !authentication.is_valid() {
            // The answer is a 401 whatever the body is, so we read none.
            self.buffer.consume(end);
            request.keep_alive = false;
            return Ok(request);
        }
        let wants_body = matches!(parsed.method, "PUT" | "PATCH");
        let incoming = Incoming {
            start: end,
            expects_continue: parsed.expects_continue,
            deadline,
        };
        let read = match parsed.body {
            Framing::Length(length) => self.read_length(length, &incoming)?,
            _ => self.read_chunks(&incoming)?,
        };
        (request.body, request.reservation) = match read {
            Read::Whole(body, reservation) => (body, reservation),
            Read::TooLarge(size) => {
                request.keep_alive = false;
                request.context.too_large = Some(size);
                return Ok(request);
            }
        };
        if wants_body {
            let length = self.body(&request).len();
            // Writing to a vector does not fail.
            let _ = write!(head, "Content-Length: {length}\r\n");
        } else {
            self.finish(&mut request);
        }
        Ok(request)
    }

    /// The body that is to be passed on.
    pub fn body(&self, request: &Received<'_>) -> &[u8] {
        match &request.body {
            Body::None => &[],
            Body::Buffered(range) => self.buffer.filled().get(range.clone()).unwrap_or_default(),
            Body::Collected => &self.body,
        }
    }

    /// Drops the body of a request, and releases its memory.
    pub fn finish(&mut self, request: &mut Received<'_>) {
        if let Body::Buffered(range) = std::mem::replace(&mut request.body, Body::None) {
            self.buffer.consume(range.end);
        }
        self.buffer.shrink(BUFFER);
        self.body.clear();
        self.body.shrink_to(KEPT_BODY);
        request.reservation = None;
    }

    /// Reads until the head is complete. Returns its length.
    fn find_head(&mut self) -> Result<usize, End> {
        let most = self.shared.limits.head;
        let mut looked = 0;
        loop {
            // Empty lines before a request are allowed. RFC 9112, 2.2.
            while self.buffer.filled().starts_with(b"\r\n") {
                self.buffer.consume(2);
                looked = 0;
            }
            let filled = self.buffer.filled();
            if !matches!(filled, b"" | b"\r") {
                if let Some(end) = head::find_end(filled, &mut looked)? {
                    return Ok(end);
                }
                if filled.len() >= most {
                    let text = format!("The head of the request is larger than {most} bytes.");
                    return Err(Error::new(431, text).into());
                }
            }
            match self.buffer.read(&mut self.transport, most) {
                Ok(1..) => {}
                Ok(0) if matches!(self.buffer.filled(), b"" | b"\r") => return Err(End::Gone),
                Ok(0) => return Err(self.cut_off()),
                Err(error) => return Err(self.failed(&error)),
            }
        }
    }

    /// Reads a body of declared length. If all of it is in the buffer already, it stays there.
    fn read_length(&mut self, declared: u64, incoming: &Incoming) -> Result<Read<'g>, End> {
        let limit = self.shared.limits.body;
        let Some(length) = usize::try_from(declared).ok().filter(|n| *n <= limit) else {
            return Ok(Read::TooLarge(declared));
        };
        let range = incoming.start..incoming.start + length;
        if self.buffer.filled().len() >= range.end {
            return Ok(Read::Whole(Body::Buffered(range), None));
        }
        let reservation = self.reserve(length, incoming)?;
        self.send_continue(incoming)?;
        self.body.clear();
        self.body
            .extend_from_slice(&self.buffer.filled()[incoming.start..]);
        self.buffer.consume(usize::MAX);
        let mut filled = self.body.len();
        self.body.resize(length, 0);
        while filled < length {
            match self.transport.read(&mut self.body[filled..]) {
                Ok(0) => return Err(self.cut_off()),
                Ok(count) => filled += count,
                Err(error) => return Err(self.failed(&error)),
            }
        }
        Ok(Read::Whole(Body::Collected, Some(reservation)))
    }

    /// Reads a chunked body. Memory is reserved only if it did not come together with the head.
    fn read_chunks(&mut self, incoming: &Incoming) -> Result<Read<'g>, End> {
        let limits = &self.shared.limits;
        let mut decoder = Decoder::new(limits.body);
        let mut reservation = None;
        self.body.clear();
        self.buffer.consume(incoming.start);
        loop {
            match decoder.decode(self.buffer.filled(), &mut self.body) {
                Ok(taken) => self.buffer.consume(taken),
                Err(Fault::Malformed) => {
                    return Err(Error::bad_request("The chunked body is malformed.").into());
                }
                Err(Fault::TooLarge) => return Ok(Read::TooLarge(limits.body as u64 + 1)),
            }
            if decoder.is_done() {
                return Ok(Read::Whole(Body::Collected, reservation));
            }
            if reservation.is_none() {
                // Nobody knows yet how long it will be.
                reservation = Some(self.reserve(limits.body, incoming)?);
                self.send_continue(&Incoming {
                    start: 0,
                    ..*incoming
                })?;
            }
            match self.buffer.read(&mut self.transport, limits.head) {
                Ok(0) => return Err(self.cut_off()),
                Ok(_) => {}
                Err(error) => return Err(self.failed(&error)),
            }
        }
    }

    /// Waits until there is memory for a body.
    fn reserve(&self, length: usize, incoming: &Incoming) -> Result<Reservation<'g>, End> {
        let shared: &'g Shared = self.shared;
        let reserved = shared.body_memory.reserve(length, incoming.deadline);
        reserved.ok_or_else(|| {
            Error::new(
                408,
                "The service broker is receiving too many large requests at the same time. Try again in a moment.",
            )
            .into()
        })
    }

    /// Tells a client that waits for it to send the body. Not needed if some of the body is here already.
    fn send_continue(&mut self, incoming: &Incoming) -> Result<(), End> {
        if incoming.expects_continue && self.buffer.filled().len() <= incoming.start {
            self.transport
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                .and_then(|()| self.transport.flush())
                .map_err(|_| End::Gone)?;
        }
        Ok(())
    }

    /// The stream has ended in the middle of a request. If the gate has ended it, the client made no mistake, and gets no
    /// answer.
    fn cut_off(&self) -> End {
        if self.client.is_closing() {
            return End::Gone;
        }
        Error::bad_request("The request ended before it was complete.").into()
    }

    fn failed(&self, error: &io::Error) -> End {
        if error.kind() != ErrorKind::TimedOut {
            return End::Gone;
        }
        let limit = humantime::format_duration(self.shared.limits.request);
        Error::new(
            408,
            format!("The request did not arrive whole within {limit}."),
        )
        .into()
    }
}

/// What came of reading a body.
enum Read<'g> {
    /// Where it is, and the memory that was reserved for it.
    Whole(Body, Option<Reservation<'g>>),
    /// It has at least this size. It was not read to its end.
    TooLarge(u64),
}

/// A body that is about to be read.
struct Incoming {
    /// Where it begins in the buffer.
    start: usize,
    expects_continue: bool,
    deadline: Instant,
}

/// Writes a head for tiny_http. The password is left out: the dispatcher has compared it already.
fn write_head(parsed: &Head<'_>, out: &mut Vec<u8>) {
    out.clear();
    for part in [parsed.method, " ", parsed.target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    let fields = parsed.fields.iter();
    for (name, value) in fields.filter(|(name, _)| *name != AUTHORIZATION) {
        for part in [name, ": ", value, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
}

fn known_proto(said: &str) -> Option<&'static str> {
    ["https", "http"]
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(said.trim()))
}
