//! One connection, from its first byte to its last: requests are received whole, handed to tiny_http, and answered in
//! their order.

use super::Shared;
use super::admission::Visit;
use super::lines::{Answer, Line};
use super::receive::{End, Receiver, Request};
use super::refusal;
use super::transport::Transport;
use crate::broker::error::Error;

use std::fmt::Write as _;
use std::io::Write;
use std::time::{Duration, Instant};

/// Memory for an answer that a connection keeps from one request to the next.
const KEPT: usize = 8 * 1024;
/// How long the health check may take before it fails.
const HEALTH: Duration = Duration::from_secs(5);
/// How much of a large answer is on its way at once.
const PIECE: usize = 16 * 1024;

/// A connection at work.
pub struct Connection<'g> {
    gate: &'g Shared,
    visit: &'g Visit,
    receiver: Receiver<'g>,
    /// The head of a request for tiny_http, the words that tell of its client, and the answer.
    head: Vec<u8>,
    words: String,
    answer: Vec<u8>,
}

/// How a connection goes on.
enum Next {
    /// Another request may come.
    Request,
    /// The connection ends. `linger`: the client may still be sending.
    Close { linger: bool },
}

impl<'g> Connection<'g> {
    pub fn new(gate: &'g Shared, visit: &'g Visit, client: Transport<'g>) -> Connection<'g> {
        Connection {
            gate,
            visit,
            receiver: Receiver::new(gate, visit.peer, client),
            head: Vec::with_capacity(512),
            words: String::new(),
            answer: Vec::new(),
        }
    }

    /// Serves requests until the connection ends. `begun` is when the first of them began, if it has. Returns whether the
    /// client may still be sending.
    pub fn serve(&mut self, begun: Option<Instant>) -> bool {
        let linger = self.serve_all(begun);
        self.receiver.client.close();
        linger
    }

    fn serve_all(&mut self, mut begun: Option<Instant>) -> bool {
        let limits = &self.gate.limits;
        let mut patience = limits.silent;
        loop {
            if begun.is_none() && !self.receiver.has_more() {
                self.gate.admission.rest(self.visit);
                if !self.receiver.wait(Instant::now() + patience) {
                    return false;
                }
            }
            self.visit.work();
            let deadline = begun.take().unwrap_or_else(Instant::now) + limits.request;
            let received = self.receiver.receive(deadline, &mut self.head);
            let next = match received {
                Ok(mut request) => {
                    let next = self.exchange(&request);
                    self.receiver.finish(&mut request);
                    next
                }
                Err(end) => Err(end),
            };
            match next {
                Ok(Next::Request) => patience = limits.idle,
                Ok(Next::Close { linger }) => return linger,
                Err(End::Gone) => return false,
                Err(End::Refused(error)) => {
                    self.refuse(error);
                    return true;
                }
            }
        }
    }

    /// Has a request answered, and passes the answer on.
    fn exchange(&mut self, request: &Request<'_>) -> Result<Next, End> {
        self.words.clear();
        // Writing to a string does not fail.
        let _ = write!(
            self.words,
            "{} {}",
            request.client,
            request.proto.unwrap_or("-")
        );
        if let Some(size) = request.too_large {
            let _ = write!(self.words, " {size}");
        }
        let deadline = request.is_health_check.then(|| Instant::now() + HEALTH);
        let (line, answer) = self.ask(request, deadline)?;
        // What is read whole frees the line before the client gets it: a slow one holds up nobody.
        let line = if answer.left == 0 {
            self.gate.lines.give_back(line);
            None
        } else {
            Some(line)
        };
        if answer.status == 401 && request.authenticates {
            let delay = self.gate.throttle.failed(request.client, Instant::now());
            if !delay.is_zero() {
                self.gate.admission.rest(self.visit);
                self.visit.pause(delay);
                self.visit.work();
            }
        }
        let stays = request.keep_alive
            && !self.gate.admission.is_stopping()
            && !self.visit.is_asked_to_leave();
        self.declare(stays, request.old);
        let limit = Instant::now() + self.gate.limits.answer;
        self.receiver.client.set_deadline(limit);
        let sent = self.send(line, answer.left);
        if self.answer.capacity() > KEPT {
            self.answer = Vec::new();
        }
        match sent {
            Err(_) => Err(End::Gone),
            Ok(()) if stays => Ok(Next::Request),
            Ok(()) => Ok(Next::Close { linger: true }),
        }
    }

    /// Sends the request to tiny_http; once more, if the line turns out to be dead.
    fn ask(
        &mut self,
        request: &Request<'_>,
        deadline: Option<Instant>,
    ) -> Result<(Line, Answer), Error> {
        let body = self.receiver.body(request);
        let mut dead = 0;
        loop {
            let mut line = self.gate.lines.take(deadline)?;
            let asked = line.exchange(
                &self.head,
                &self.words,
                body,
                request.bodiless,
                &mut self.answer,
                deadline,
            );
            match asked {
                Ok(answer) => return Ok((line, answer)),
                Err(error) => {
                    self.gate.lines.discard(line);
                    dead += 1;
                    if dead > 1 || error.kind() == std::io::ErrorKind::TimedOut {
                        return Err(unanswered(&error));
                    }
                }
            }
        }
    }

    /// Adds to the head of the answer what is to become of the connection, where the client does not assume it.
    fn declare(&mut self, stays: bool, old: bool) {
        let field: &[u8] = match (stays, old) {
            (true, false) => return,
            (true, true) => b"Connection: keep-alive\r\n",
            (false, _) => b"Connection: close\r\n",
        };
        let status_line = self.answer.iter().position(|byte| *byte == b'\n');
        let after = status_line.map_or(0, |end| end + 1);
        self.answer.splice(after..after, field.iter().copied());
    }

    /// Sends the answer, and what is `left` of it on the line.
    fn send(&mut self, line: Option<Line>, mut left: u64) -> std::io::Result<()> {
        let client = &mut self.receiver.client;
        let mut sent = client.write_all(&self.answer);
        if let Some(mut line) = line {
            self.answer.resize(PIECE, 0);
            while left > 0 && sent.is_ok() {
                let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
                let piece = &mut self.answer[..most];
                sent = line.read_some(piece, None).and_then(|count| {
                    left -= count as u64;
                    client.write_all(&piece[..count])
                });
            }
            match sent {
                Ok(()) => self.gate.lines.give_back(line),
                Err(_) => self.gate.lines.discard(line),
            }
        }
        sent.and_then(|()| client.flush())
    }

    /// Answers what never gets to tiny_http.
    fn refuse(&mut self, error: Error) {
        self.gate
            .refusals
            .log(self.visit.peer, Some(error.status), &error.description);
        let limit = Instant::now() + self.gate.limits.answer;
        let client = &mut self.receiver.client;
        client.set_deadline(limit);
        // Whoever does not listen misses it.
        let _ = client
            .write_all(&refusal::answer(error))
            .and_then(|()| client.flush());
    }
}

fn unanswered(error: &std::io::Error) -> Error {
    Error {
        detail: Some(error.to_string()),
        retry_after: Some(1),
        ..Error::new(
            503,
            "The service broker did not answer. Try again in a moment; the operator finds the cause in the broker's log.",
        )
    }
}
