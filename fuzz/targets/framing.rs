//! The framing of what comes on one connection. The input is the bytes.
//!
//! It makes no difference in which pieces they come; the gate finds exactly the requests that the reference finds, at the
//! same places, and refuses what the reference refuses; httparse agrees about every head; and what follows a request is
//! read as if it had come alone.

use super::pieces;
use super::reference::{self, No};

use brokerlet::http::gate::chunked::{Decoder, Fault};
use brokerlet::http::gate::head::{self, Framing};
use brokerlet::http::gate::limits::Limits;

pub fn run(bytes: &[u8]) {
    let whole = read(std::iter::once(bytes));
    let sizes = [1, 2, 5, 16, 251];
    for n in 0..=sizes.len() {
        let sizes = if n == sizes.len() {
            &sizes[..]
        } else {
            &sizes[n..=n]
        };
        assert_eq!(read(pieces(bytes, sizes)), whole, "in pieces of {sizes:?}");
    }
    let mut at = 0;
    for seen in &whole.requests {
        at = skip_empty_lines(bytes, at);
        assert_eq!(at, seen.at);
        let wanted = reference::request(&bytes[at..]).map(|request| reference::Request {
            size: reference::Size {
                // Nobody but the reference looks at those.
                chunk_line: 0,
                trailers: 0,
                ..request.size
            },
            ..request
        });
        assert_eq!(wanted.as_ref(), Ok(&seen.request), "at {at}");
        agrees_with_httparse(&bytes[at..at + seen.request.size.head], &seen.request);
        at += seen.request.length;
        if seen.request.keep_alive {
            let rest = read(std::iter::once(&bytes[at..]));
            let left = whole.requests.iter().filter(|other| other.at >= at);
            assert!(
                rest.requests
                    .iter()
                    .map(|seen| &seen.request)
                    .eq(left.map(|seen| &seen.request))
            );
            assert_eq!(rest.end, whole.end);
        }
    }
    let at = skip_empty_lines(bytes, at);
    match (whole.end, reference::request(&bytes[at..])) {
        (End::Closed, _)
        | (End::Waits, Err(No::Incomplete))
        | (End::Refused, Err(No::Malformed)) => {}
        // What is wrong with a head that has not ended is seen before its end, or only there.
        (End::Refused, Err(No::Incomplete)) => {}
        (End::Refused, Ok(request)) => assert!(
            is_over_limits(&request) || !is_plain(&request.target),
            "refused: {request:?}"
        ),
        (end, wanted) => panic!("{end:?}, and the reference says {wanted:?}"),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Stream {
    requests: Vec<Seen>,
    end: End,
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    at: usize,
    request: reference::Request,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// More may come.
    Waits,
    Refused,
    /// The last request was the last that is read.
    Closed,
}

/// Reads as the gate does, from whatever comes at a time.
fn read<'b>(pieces: impl Iterator<Item = &'b [u8]>) -> Stream {
    let mut reader = Reader::default();
    for piece in pieces {
        reader.buffer.extend_from_slice(piece);
        while reader.end == End::Waits && reader.step() {}
        if reader.end != End::Waits {
            break;
        }
    }
    Stream {
        requests: reader.requests,
        end: reader.end,
    }
}

struct Reader {
    limits: Limits,
    requests: Vec<Seen>,
    end: End,
    buffer: Vec<u8>,
    /// Where the buffer begins in the input.
    consumed: usize,
    looked: usize,
    /// The request of which only the body is missing.
    begun: Option<(Seen, Framing)>,
    decoder: Option<Decoder>,
}

impl Default for Reader {
    fn default() -> Reader {
        Reader {
            limits: Limits::default(),
            requests: Vec::new(),
            end: End::Waits,
            buffer: Vec::new(),
            consumed: 0,
            looked: 0,
            begun: None,
            decoder: None,
        }
    }
}

impl Reader {
    fn consume(&mut self, count: usize) {
        self.buffer.drain(..count);
        self.consumed += count;
        self.looked = 0;
    }

    /// Whether it got any further.
    fn step(&mut self) -> bool {
        match self.begun.take() {
            None => self.head(),
            Some((seen, framing)) => self.body(seen, framing),
        }
    }

    fn head(&mut self) -> bool {
        while self.buffer.starts_with(b"\r\n") {
            self.consume(2);
        }
        if matches!(&*self.buffer, b"" | b"\r") {
            return false;
        }
        let window = &self.buffer[..self.buffer.len().min(self.limits.head)];
        let end = match head::find_end(window, &mut self.looked) {
            Ok(Some(end)) => end,
            Ok(None) if window.len() < self.limits.head => return false,
            _ => return self.refuse(),
        };
        let parsed = match head::parse(&self.buffer[..end], &self.limits) {
            Ok(parsed) => parsed,
            Err(error) => {
                assert!((400..500).contains(&error.status) && !error.description.is_empty());
                return self.refuse();
            }
        };
        let framing = parsed.body;
        let fields = self.buffer[..end]
            .windows(2)
            .filter(|two| two == b"\r\n")
            .count()
            - 2;
        let request = reference::Request {
            method: parsed.method.to_owned(),
            target: parsed.target.to_owned(),
            body: Vec::new(),
            keep_alive: parsed.keep_alive,
            length: end,
            size: reference::Size {
                head: end,
                fields,
                ..Default::default()
            },
        };
        let at = self.consumed;
        self.consume(end);
        self.begun = Some((Seen { at, request }, framing));
        true
    }

    fn body(&mut self, mut seen: Seen, framing: Framing) -> bool {
        let request = &mut seen.request;
        match framing {
            Framing::None => {}
            Framing::Length(length) if length > self.limits.body as u64 => return self.refuse(),
            Framing::Length(length) => {
                let length = length as usize;
                if self.buffer.len() < length {
                    self.begun = Some((seen, framing));
                    return false;
                }
                request.body = self.buffer[..length].to_vec();
                self.consume(length);
            }
            Framing::Chunked => {
                let limit = self.limits.body;
                let decoder = self.decoder.get_or_insert_with(|| Decoder::new(limit));
                let taken = match decoder.decode(&self.buffer, &mut request.body) {
                    Ok(taken) => taken,
                    Err(Fault::Malformed | Fault::TooLarge) => return self.refuse(),
                };
                let is_done = decoder.is_done();
                assert!(is_done || taken == self.buffer.len());
                self.consume(taken);
                if !is_done {
                    self.begun = Some((seen, framing));
                    return false;
                }
                self.decoder = None;
            }
        }
        request.length = self.consumed - seen.at;
        if !request.keep_alive {
            self.end = End::Closed;
        }
        self.requests.push(seen);
        true
    }

    fn refuse(&mut self) -> bool {
        self.end = End::Refused;
        false
    }
}

fn skip_empty_lines(bytes: &[u8], mut at: usize) -> usize {
    while bytes[at..].starts_with(b"\r\n") {
        at += 2;
    }
    at
}

fn agrees_with_httparse(head: &[u8], request: &reference::Request) {
    let mut fields = [httparse::EMPTY_HEADER; 256];
    let mut parsed = httparse::Request::new(&mut fields);
    assert_eq!(
        parsed.parse(head),
        Ok(httparse::Status::Complete(head.len()))
    );
    assert_eq!(parsed.method, Some(&*request.method));
    let target = parsed.path.unwrap_or_default();
    // A whole URL ends with its path, if it has one.
    let is_url = !target.starts_with('/');
    assert!(
        target == request.target
            || (is_url && (target.ends_with(&request.target) || request.target == "/"))
    );
    assert_eq!(parsed.headers.len(), request.size.fields);
}

/// Well-formed, and more than is taken.
fn is_over_limits(request: &reference::Request) -> bool {
    let limits = Limits::default();
    let size = &request.size;
    size.head > limits.head
        || size.fields > limits.fields
        || request.body.len() > limits.body
        || size.chunk_line > 256
        || size.trailers > 4096
}

/// Of characters that RFC 3986 has in a path or a query; about others opinions may differ.
fn is_plain(target: &str) -> bool {
    target
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"/?-._~!$&'()*+,;=:@%".contains(&byte))
}
