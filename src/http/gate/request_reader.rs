//! Receiving one request whole, within its time and its limits.

use super::Shared;
use super::body_memory::Reservation;
use super::buffer::Buffer;
use super::chunked::{Decoder, Fault};
use super::client::Client;
use super::exchange::ReplyFormat;
use super::head::{self, Framing};
use super::transport::Transport;
use crate::broker::error::Error;

use std::io::{self, ErrorKind, Read as _, Write};
use std::net::IpAddr;
use std::ops::Range;
use std::time::Instant;

/// What most requests fit into; kept for the time of a connection.
const FIRST_READ: usize = 2 * 1024;
/// Memory for a body that a connection keeps from one request to the next.
const KEPT: usize = 8 * 1024;

/// Reads requests from a client.
pub struct RequestReader<'g> {
    gate: &'g Shared,
    visit: &'g Client,
    pub client: Transport<'g>,
    buffer: Buffer,
    /// The body that did not fit into the buffer, or was chunked.
    body: Vec<u8>,
}

/// A request that was received, but for the bytes of its body.
pub struct Request<'g> {
    pub keep_alive: bool,
    pub form: ReplyFormat,
    pub is_health_check: bool,
    /// The client has given credentials, be they right or wrong.
    pub authenticates: bool,
    /// They are right.
    pub authorized: bool,
    pub client: IpAddr,
    /// What the client speaks to a trusted proxy, or to us.
    pub proto: Option<&'static str>,
    /// The body is of this size at least, which is too large: it was not read to its end.
    pub too_large: Option<u64>,
    body: Body,
    /// Memory that the body takes up.
    share: Option<Reservation<'g>>,
}

/// Where the body is.
enum Body {
    /// There is none, or none that anybody wants.
    Absent,
    Buffered(Range<usize>),
    Collected,
}

impl Request<'_> {
    /// A part of the memory that all bodies share is in use for it.
    pub fn holds_memory(&self) -> bool {
        self.share.is_some()
    }
}

/// What has become of the wait for a request.
pub enum Arrival {
    Request,
    /// There will be no more.
    End,
    /// Not by the deadline.
    Nothing,
}

/// Why there is no request.
pub enum End {
    /// There is nobody to answer.
    Gone,
    Refused(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> End {
        End::Refused(error)
    }
}

impl<'g> RequestReader<'g> {
    pub fn new(gate: &'g Shared, visit: &'g Client, client: Transport<'g>) -> RequestReader<'g> {
        RequestReader {
            gate,
            visit,
            client,
            buffer: Buffer::new(FIRST_READ),
            body: Vec::new(),
        }
    }

    /// Waits for the first bytes of a request. Before they are read, and so nobody can see any more that something has come,
    /// `begun` is told.
    pub fn wait(&mut self, deadline: Instant, begun: impl FnOnce()) -> Arrival {
        if !self.buffer.is_empty() {
            begun();
            return Arrival::Request;
        }
        self.client.set_deadline(deadline);
        match self.client.wait() {
            Ok(()) => begun(),
            Err(error) if error.kind() == ErrorKind::TimedOut => return Arrival::Nothing,
            Err(_) => return Arrival::End,
        }
        let limits = &self.gate.limits;
        self.client.set_deadline(Instant::now() + limits.request);
        match self.buffer.read(&mut self.client, limits.head) {
            Ok(1..) => Arrival::Request,
            _ => Arrival::End,
        }
    }

    /// Whether the client has sent more than the request that was received last.
    pub fn has_more(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The same, while that request's body is still here.
    pub fn has_more_than(&self, request: &Request<'_>) -> bool {
        match &request.body {
            Body::Buffered(range) => self.buffer.filled().len() > range.end,
            Body::Absent | Body::Collected => self.has_more(),
        }
    }

    /// Receives a request by `deadline`. Its head replaces what is in `head`, as tiny_http is to read it: without what
    /// nobody behind the gate reads, and without an empty line at its end.
    pub fn receive(&mut self, deadline: Instant, head: &mut Vec<u8>) -> Result<Request<'g>, End> {
        self.client.set_deadline(deadline);
        let end = self.find_head()?;
        let gate = self.gate;
        let parsed = head::parse(&self.buffer.filled()[..end], &gate.limits)?;
        head.clear();
        for part in [parsed.method, " ", parsed.target, " HTTP/1.1\r\n"] {
            head.extend_from_slice(part.as_bytes());
        }
        for (name, value) in &parsed.fields {
            for part in [name, ": ", value, "\r\n"] {
                head.extend_from_slice(part.as_bytes());
            }
        }
        let authorization = parsed.field("Authorization");
        let believed = gate.proxies.trust(self.visit.peer);
        let forwarded = parsed.forwarded_proto.filter(|_| believed);
        let mut request = Request {
            keep_alive: parsed.keep_alive,
            form: ReplyFormat {
                old: parsed.old,
                bodiless: parsed.method == "HEAD",
            },
            is_health_check: gate.dispatcher.is_health_check(parsed.path()),
            authenticates: authorization.is_some(),
            authorized: gate.dispatcher.authorizes(authorization),
            client: gate.proxies.client(self.visit.peer, &parsed.forwarded_for),
            proto: forwarded.map_or(self.client.proto(), known_proto),
            too_large: None,
            body: Body::Absent,
            share: None,
        };
        // Whoever has made room by now cannot be answered any more, so nothing is done for it.
        if request.authenticates && !self.visit.show(request.authorized) {
            return Err(End::Gone);
        }
        let framing = parsed.body;
        if framing == Framing::None {
            self.buffer.consume(end);
            return Ok(request);
        }
        if !request.authorized {
            // Whoever has no password does not make us hold a body: the answer comes from the head alone.
            self.buffer.consume(end);
            request.keep_alive = false;
            return Ok(request);
        }
        let wants_body = matches!(parsed.method, "PUT" | "PATCH");
        let expects_continue = parsed.expects_continue;
        let incoming = Incoming {
            start: end,
            expects_continue,
            deadline,
        };
        let read = match framing {
            Framing::Length(length) => self.read_length(length, &incoming)?,
            _ => self.read_chunks(&incoming)?,
        };
        (request.body, request.share) = match read {
            Read::Whole(body, share) => (body, share),
            Read::TooLarge(size) => {
                request.keep_alive = false;
                request.too_large = Some(size);
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

    /// The body that is to be handed on.
    pub fn body(&self, request: &Request<'_>) -> &[u8] {
        match &request.body {
            Body::Absent => &[],
            Body::Buffered(range) => self.buffer.filled().get(range.clone()).unwrap_or_default(),
            Body::Collected => &self.body,
        }
    }

    /// Forgets the body of a request, and gives back its memory.
    pub fn finish(&mut self, request: &mut Request<'_>) {
        if let Body::Buffered(range) = std::mem::replace(&mut request.body, Body::Absent) {
            self.buffer.consume(range.end);
        }
        self.buffer.shrink(FIRST_READ);
        self.body.clear();
        self.body.shrink_to(KEPT);
        request.share = None;
    }

    /// Reads until the head is complete, and returns its length.
    fn find_head(&mut self) -> Result<usize, End> {
        let most = self.gate.limits.head;
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
            match self.buffer.read(&mut self.client, most) {
                Ok(1..) => {}
                Ok(0) if matches!(self.buffer.filled(), b"" | b"\r") => return Err(End::Gone),
                Ok(0) => return Err(self.cut_off()),
                Err(error) => return Err(self.failed(&error)),
            }
        }
    }

    /// A body of declared length, which stays in the buffer if it is there already.
    fn read_length(&mut self, declared: u64, incoming: &Incoming) -> Result<Read<'g>, End> {
        let limit = self.gate.limits.body;
        let Some(length) = usize::try_from(declared).ok().filter(|n| *n <= limit) else {
            return Ok(Read::TooLarge(declared));
        };
        let range = incoming.start..incoming.start + length;
        if self.buffer.filled().len() >= range.end {
            return Ok(Read::Whole(Body::Buffered(range), None));
        }
        let share = self.make_room(length, incoming)?;
        self.invite(incoming)?;
        self.body.clear();
        self.body
            .extend_from_slice(&self.buffer.filled()[incoming.start..]);
        self.buffer.consume(usize::MAX);
        let mut filled = self.body.len();
        self.body.resize(length, 0);
        while filled < length {
            match self.client.read(&mut self.body[filled..]) {
                Ok(0) => return Err(self.cut_off()),
                Ok(count) => filled += count,
                Err(error) => return Err(self.failed(&error)),
            }
        }
        Ok(Read::Whole(Body::Collected, Some(share)))
    }

    /// A chunked body. It takes up memory of its own only if it does not come with its head.
    fn read_chunks(&mut self, incoming: &Incoming) -> Result<Read<'g>, End> {
        let limits = &self.gate.limits;
        let mut decoder = Decoder::new(limits.body);
        let mut share = None;
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
                return Ok(Read::Whole(Body::Collected, share));
            }
            if share.is_none() {
                // How long it will be, nobody knows.
                share = Some(self.make_room(limits.body, incoming)?);
                self.invite(&Incoming {
                    start: 0,
                    ..*incoming
                })?;
            }
            match self.buffer.read(&mut self.client, limits.head) {
                Ok(0) => return Err(self.cut_off()),
                Ok(_) => {}
                Err(error) => return Err(self.failed(&error)),
            }
        }
    }

    /// Waits until there is memory for a body.
    fn make_room(&self, length: usize, incoming: &Incoming) -> Result<Reservation<'g>, End> {
        let gate: &'g Shared = self.gate;
        gate.bodies.take(length, incoming.deadline).ok_or_else(|| {
            Error::new(
                408,
                "The service broker is receiving too many large requests at the same time. Try again in a moment.",
            )
            .into()
        })
    }

    /// Tells a client that waits for it to send the body, unless some of it is here already.
    fn invite(&mut self, incoming: &Incoming) -> Result<(), End> {
        if incoming.expects_continue && self.buffer.filled().len() <= incoming.start {
            self.client
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                .and_then(|()| self.client.flush())
                .map_err(|_| End::Gone)?;
        }
        Ok(())
    }

    /// Nothing more comes in the middle of a request. The client may still be listening; but if it was us who stopped
    /// reading, it has done nothing wrong, and is told nothing.
    fn cut_off(&self) -> End {
        if self.visit.is_asked_to_leave() {
            return End::Gone;
        }
        Error::bad_request("The request ended before it was complete.").into()
    }

    fn failed(&self, error: &io::Error) -> End {
        if error.kind() != ErrorKind::TimedOut {
            return End::Gone;
        }
        let limit = humantime::format_duration(self.gate.limits.request);
        Error::new(
            408,
            format!("The request did not arrive whole within {limit}."),
        )
        .into()
    }
}

/// A body, or none of it.
enum Read<'g> {
    /// Where it is, and the memory that it takes up beyond the buffer.
    Whole(Body, Option<Reservation<'g>>),
    TooLarge(u64),
}

/// A body that is about to be read.
struct Incoming {
    /// Where it begins in the buffer.
    start: usize,
    expects_continue: bool,
    deadline: Instant,
}

fn known_proto(said: &str) -> Option<&'static str> {
    ["https", "http"]
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(said.trim()))
}
