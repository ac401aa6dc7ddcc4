//! One connection, from its first byte to its last: requests are received whole, handed to tiny_http, and answered in
//! their order.

use super::Shared;
use super::admission::Visit;
use super::answer::{self, Persistence};
use super::receive::{End, Receiver, Request};
use super::transport::Transport;
use crate::broker::error::Error;
use crate::http::reply::Reply;

use std::fmt::Write as _;
use std::io::Write;
use std::time::{Duration, Instant};

/// Up to this size the body of an answer is copied behind its head, and kept in memory until the next.
const KEPT: usize = 8 * 1024;
/// How long the health check may take before it fails.
const HEALTH: Duration = Duration::from_secs(5);

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
            receiver: Receiver::new(gate, visit, client),
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
        let mut served = false;
        loop {
            if begun.is_none() && !self.receiver.has_more() {
                self.gate.admission.rest(self.visit, served);
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
                Ok(Next::Request) => (patience, served) = (limits.idle, true),
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
        let proto = request.proto.unwrap_or("-");
        let _ = write!(self.words, " {} {proto}", request.client);
        if let Some(size) = request.too_large {
            let _ = write!(self.words, " {size}");
        }
        let reply = self.ask(request)?;
        if reply.status == 401 && request.authenticates {
            let delay = self.gate.throttle.failed(request.client, Instant::now());
            if !delay.is_zero() {
                self.gate.admission.rest(self.visit, true);
                self.visit.pause(delay);
                self.visit.work();
            }
        }
        let stays = request.keep_alive
            && !self.gate.admission.wants_room()
            && !self.visit.is_asked_to_leave();
        let connection = match (stays, request.old) {
            (true, false) => Persistence::Assumed,
            (true, true) => Persistence::Kept,
            (false, _) => Persistence::Closed,
        };
        match self.send(&reply, connection, request.bodiless) {
            Err(_) => Err(End::Gone),
            Ok(()) if stays => Ok(Next::Request),
            Ok(()) => Ok(Next::Close { linger: true }),
        }
    }

    /// Has a worker answer; asks once more, if the line turns out to be dead.
    fn ask(&mut self, request: &Request<'_>) -> Result<Reply, Error> {
        let deadline = request.is_health_check.then(|| Instant::now() + HEALTH);
        let body = self.receiver.body(request);
        let lines = &self.gate.lines;
        let mut dead = 0;
        loop {
            let mut line = lines.take(deadline)?;
            match line.exchange(&self.head, &self.words, body, deadline) {
                Ok(reply) => {
                    lines.give_back(line);
                    return Ok(reply);
                }
                Err(error) => {
                    lines.discard(line);
                    dead += 1;
                    if dead > 1 || error.kind() == std::io::ErrorKind::TimedOut {
                        return Err(unanswered(&error));
                    }
                }
            }
        }
    }

    fn send(
        &mut self,
        reply: &Reply,
        connection: Persistence,
        bodiless: bool,
    ) -> std::io::Result<()> {
        let body = match reply.status {
            204 | 304 => &[],
            _ if bodiless => &[],
            _ => reply.body.as_ref(),
        };
        self.answer.clear();
        answer::head(reply, connection, &mut self.answer);
        let client = &mut self.receiver.client;
        client.set_deadline(Instant::now() + self.gate.limits.answer);
        if body.len() <= KEPT {
            self.answer.extend_from_slice(body);
            client.write_all(&self.answer)?;
        } else {
            client.write_all(&self.answer)?;
            client.write_all(body)?;
        }
        client.flush()
    }

    /// Answers what never gets to tiny_http.
    fn refuse(&mut self, error: Error) {
        self.gate
            .refusals
            .log(self.visit.peer, Some(error.status), &error.description);
        // Whoever does not listen misses it.
        let _ = self.send(&answer::refusal(error), Persistence::Closed, false);
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
