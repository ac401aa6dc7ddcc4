//! One connection, from its first byte to its last: requests are received whole, handed to tiny_http, and answered in
//! their order.

use super::Shared;
use super::client::Client;
use super::exchange::{Exchange, Outcome, ReplyFormat};
use super::request_reader::{Arrival, End, Request, RequestReader};
use super::response_writer::{self, Persistence};
use super::transport::Transport;
use super::upstream::CHECK;
use crate::broker::error::Error;
use crate::http::reply::Reply;

use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the health check may take before it fails.
const HEALTH: Duration = Duration::from_secs(5);

/// A connection at work.
pub struct Connection<'g> {
    gate: &'g Shared,
    visit: &'g Client,
    receiver: RequestReader<'g>,
    /// The head of a request for tiny_http, the words that tell of its client, and the answer.
    head: Vec<u8>,
    words: String,
    answer: Vec<u8>,
    /// Where workers may send answers themselves: that, and the body of the request that one of them has.
    direct: Option<Arc<Exchange>>,
    handed_over: Vec<u8>,
}

/// How a connection goes on.
enum Next {
    /// Another request may come.
    Request,
    /// A worker has the request, and sends the answer.
    Answer(ReplyFormat),
    /// The connection ends. `linger`: the client may still be sending.
    Close { linger: bool },
}

impl<'g> Connection<'g> {
    pub fn new(
        gate: &'g Arc<Shared>,
        visit: &'g Arc<Client>,
        client: Transport<'g>,
    ) -> Connection<'g> {
        let direct = matches!(client, Transport::Plain(_))
            .then(|| Arc::new(Exchange::new(gate.clone(), visit.clone())));
        Connection {
            gate,
            visit,
            receiver: RequestReader::new(gate, visit, client),
            head: Vec::with_capacity(512),
            words: String::new(),
            answer: Vec::new(),
            direct,
            handed_over: Vec::new(),
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
                self.gate.connection_limit.rest(self.visit, served);
                let visit = self.visit;
                match self
                    .receiver
                    .wait(Instant::now() + patience, || visit.work())
                {
                    Arrival::Request => {}
                    Arrival::End | Arrival::Nothing => return false,
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
            let next = match next {
                Ok(Next::Answer(form)) => self.wait_for_answer(form),
                next => next,
            };
            match next {
                Ok(Next::Request) => (patience, served) = (limits.idle, true),
                Ok(Next::Answer(_)) => {}
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
        if self.may_be_handed_over(request)
            && let Some(direct) = &self.direct
        {
            let form = request.form;
            self.handed_over.clear();
            self.handed_over
                .extend_from_slice(self.receiver.body(request));
            let line = self.gate.lines.take(None)?;
            let request = [&*self.head, self.words.as_bytes(), &self.handed_over];
            direct.hand_over(line, request, form);
            return Ok(Next::Answer(form));
        }
        let deadline = request.is_health_check.then(|| Instant::now() + HEALTH);
        let body = self.receiver.body(request);
        let lines = &self.gate.lines;
        let reply = lines.ask([&self.head, self.words.as_bytes(), body], deadline, 2)?;
        if reply.status == 401 && request.authenticates {
            let delay = self.gate.rate_limit.failed(request.client, Instant::now());
            if !delay.is_zero() {
                self.gate.connection_limit.rest(self.visit, true);
                self.visit.pause(delay);
                self.visit.work();
            }
        }
        let stays = request.keep_alive && self.gate.connection_limit.lets_stay(self.visit);
        match self.send(
            &reply,
            Persistence::of(stays, request.form.old),
            request.form.bodiless,
        ) {
            Err(_) => Err(End::Gone),
            Ok(()) if stays => Ok(Next::Request),
            Ok(()) => Ok(Next::Close { linger: true }),
        }
    }

    /// Nothing but the answer is left to do, if all goes well, and then the connection rests.
    fn may_be_handed_over(&self, request: &Request<'_>) -> bool {
        request.keep_alive
            && request.authorized
            && !request.holds_memory()
            && !request.is_health_check
            && !self.receiver.has_more_than(request)
    }

    /// Waits until a worker has sent the answer, and for the first byte of the next request.
    fn wait_for_answer(&mut self, form: ReplyFormat) -> Result<Next, End> {
        let Some(direct) = self.direct.clone() else {
            return Ok(Next::Close { linger: false });
        };
        let mut answered = None;
        let mut ended = false;
        while !ended && !self.receiver.has_more() {
            let patience = match answered {
                // So that a line that leads to nobody is noticed.
                None => Instant::now() + CHECK,
                Some(since) => since + self.gate.limits.idle,
            };
            match self.receiver.wait(patience, || direct.has_begun_another()) {
                Arrival::Request => {}
                Arrival::End => ended = true,
                Arrival::Nothing if answered.is_some() => return Ok(Next::Close { linger: false }),
                Arrival::Nothing => match direct.settled() {
                    Some(Outcome::Sent(since)) => answered = Some(since),
                    Some(outcome) => return self.settle(outcome, form),
                    None => direct.look_after(),
                },
            }
        }
        let outcome = match answered {
            Some(since) => Outcome::Sent(since),
            None => direct.wait(CHECK),
        };
        match outcome {
            Outcome::Sent(_) if ended => Ok(Next::Close { linger: false }),
            outcome => self.settle(outcome, form),
        }
    }

    /// Does what a worker has left to do.
    fn settle(&mut self, outcome: Outcome, form: ReplyFormat) -> Result<Next, End> {
        let sent = match outcome {
            Outcome::Sent(_) => return Ok(Next::Request),
            Outcome::Last => Ok(()),
            Outcome::Rest(rest) => {
                let client = &mut self.receiver.client;
                client.set_deadline(Instant::now() + self.gate.limits.answer);
                client.write_all(&rest)
            }
            Outcome::Lost => {
                let request = [&*self.head, self.words.as_bytes(), &self.handed_over];
                let reply = self.gate.lines.ask(request, None, 1)?;
                self.send(&reply, Persistence::Closed, form.bodiless)
            }
        };
        sent.map_err(|_| End::Gone)?;
        Ok(Next::Close { linger: true })
    }

    fn send(
        &mut self,
        reply: &Reply,
        connection: Persistence,
        bodiless: bool,
    ) -> std::io::Result<()> {
        let rest = response_writer::render(reply, connection, bodiless, &mut self.answer);
        let client = &mut self.receiver.client;
        client.set_deadline(Instant::now() + self.gate.limits.answer);
        client.write_all(&self.answer)?;
        client.write_all(rest)?;
        client.flush()
    }

    /// Answers what never gets to tiny_http.
    fn refuse(&mut self, error: Error) {
        self.gate
            .refusals
            .log(self.visit.peer, Some(error.status), &error.description);
        // Whoever does not listen misses it.
        let _ = self.send(&response_writer::refusal(error), Persistence::Closed, false);
    }
}
