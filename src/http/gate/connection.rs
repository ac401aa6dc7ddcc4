//! One connection, from its first byte to its last: requests are read whole, passed on, and answered in their order.

use super::client::Client;
use super::exchange::{CHECK, Exchange, Outcome};
use super::request_reader::{Arrival, End, Received, RequestReader};
use super::response_writer::{Format, Persistence, refusal, render};
use super::shared::Shared;
use super::transport::Transport;
use crate::broker::error::Error;
use crate::http::counts::Refusal;
use crate::http::reply::Reply;
use crate::http::server::Context;

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the health check may take before it fails.
const HEALTH: Duration = Duration::from_secs(5);
/// How often a request is sent before it fails. To send one twice does no harm: all of them are idempotent.
const ATTEMPTS: usize = 2;

pub struct Connection<'g> {
    shared: &'g Arc<Shared>,
    client: &'g Arc<Client>,
    reader: RequestReader<'g>,
    /// The head of the last request, as it is passed on.
    head: Vec<u8>,
    /// The body of a request that a worker answers itself, while the next request is read.
    body: Vec<u8>,
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
    pub fn new(
        shared: &'g Arc<Shared>,
        client: &'g Arc<Client>,
        transport: Transport<'g>,
    ) -> Connection<'g> {
        Connection {
            shared,
            client,
            reader: RequestReader::new(shared, client, transport),
            head: Vec::with_capacity(512),
            body: Vec::new(),
            answer: Vec::new(),
        }
    }

    /// Serves requests until the connection ends. `begun` is when the first of them began, if it has. Returns whether the
    /// client may still be sending.
    pub fn serve(&mut self, begun: Option<Instant>) -> bool {
        let linger = self.serve_all(begun);
        self.reader.transport.close();
        linger
    }

    fn serve_all(&mut self, mut begun: Option<Instant>) -> bool {
        let limits = &self.shared.limits;
        let mut patience = limits.silent;
        let mut served = false;
        loop {
            if begun.is_none() && !self.reader.has_more() {
                self.shared.connection_limit.set_idle(self.client, served);
                match self.reader.wait(Instant::now() + patience) {
                    Arrival::Request => {}
                    Arrival::End | Arrival::TimedOut => return false,
                }
            }
            self.client.set_receiving();
            let deadline = begun.take().unwrap_or_else(Instant::now) + limits.request;
            match self.serve_one(deadline) {
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

    fn serve_one(&mut self, deadline: Instant) -> Result<Next, End> {
        let mut request = self.reader.read(deadline, &mut self.head)?;
        if !self.may_answer_directly(&request) {
            let next = self.answer(&request);
            self.reader.finish(&mut request);
            return next;
        }
        self.body.clear();
        self.body.extend_from_slice(self.reader.body(&request));
        self.reader.finish(&mut request);
        self.let_worker_answer(request.context, request.format)
    }

    /// The usual case: nothing but the answer is left to do for this request, and then the connection is idle.
    fn may_answer_directly(&self, request: &Received<'_>) -> bool {
        request.keep_alive
            && request.context.authentication.is_valid()
            && matches!(self.reader.transport, Transport::Plain(_))
            && !request.holds_memory()
            && !request.is_health_check
            && !self.reader.has_more_than(request)
    }

    /// Has a request answered, and sends the answer.
    fn answer(&mut self, request: &Received<'_>) -> Result<Next, End> {
        let (context, format) = (request.context, request.format);
        let deadline = request.is_health_check.then(|| Instant::now() + HEALTH);
        let reply = self.ask(context, self.reader.body(request), deadline)?;
        if reply.status == 401 && context.authentication.was_attempted() {
            self.delay_login(context);
        }
        let stays = request.keep_alive && self.shared.connection_limit.may_stay(self.client);
        self.send(&reply, Persistence::of(stays, format), format)?;
        match stays {
            true => Ok(Next::Request),
            false => Ok(Next::Close { linger: true }),
        }
    }

    /// Has a worker answer a request. If tiny_http drops it, asks again.
    fn ask(
        &self,
        context: Context,
        body: &[u8],
        deadline: Option<Instant>,
    ) -> Result<Reply, Error> {
        for _ in 0..ATTEMPTS {
            let upstream = self.shared.upstream.acquire(deadline)?;
            let exchange = Exchange::new(self.shared, self.client, context, None);
            exchange.start(upstream, [&self.head, body]);
            if let Outcome::Reply(reply) = exchange.wait(deadline) {
                return Ok(reply);
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                break;
            }
        }
        Err(unanswered())
    }

    /// Holds back the answer to wrong credentials if there were too many. The connection can be closed meanwhile.
    fn delay_login(&self, context: Context) {
        let limit = &self.shared.rate_limit;
        let delay = limit.failed(context.client, Instant::now());
        if !delay.is_zero() {
            self.shared.counts.delayed_logins.add();
            self.shared.connection_limit.set_idle(self.client, true);
            self.client.sleep(delay);
            self.client.set_receiving();
        }
    }

    /// Has a worker send the answer, and waits for the next request meanwhile.
    fn let_worker_answer(&mut self, context: Context, format: Format) -> Result<Next, End> {
        let upstream = self.shared.upstream.acquire(None)?;
        let exchange = Exchange::new(self.shared, self.client, context, Some(format));
        self.client.set_answering();
        exchange.start(upstream, [&self.head, &self.body]);
        let mut sent = None;
        loop {
            let until = match sent {
                None => Instant::now() + CHECK,
                Some(since) => since + self.shared.limits.idle,
            };
            let ended = match self.reader.wait(until) {
                Arrival::TimedOut if sent.is_some() => return Ok(Next::Close { linger: false }),
                Arrival::TimedOut => {
                    match exchange.outcome() {
                        None => exchange.check(true),
                        Some(Outcome::Sent(since)) => sent = Some(since),
                        Some(outcome) => return self.finish(outcome, context, format),
                    }
                    continue;
                }
                Arrival::End => true,
                Arrival::Request => false,
            };
            let outcome = match sent {
                Some(since) => Outcome::Sent(since),
                None => exchange.wait(None),
            };
            return match outcome {
                Outcome::Sent(_) if ended => Ok(Next::Close { linger: false }),
                outcome => self.finish(outcome, context, format),
            };
        }
    }

    /// Does what a worker has left to do.
    fn finish(&mut self, outcome: Outcome, context: Context, format: Format) -> Result<Next, End> {
        match outcome {
            Outcome::Sent(_) => return Ok(Next::Request),
            Outcome::SentLast => {}
            Outcome::Rest(rest) => {
                let transport = &mut self.reader.transport;
                transport.set_deadline(Instant::now() + self.shared.limits.answer);
                transport.write_all(&rest).map_err(|_| End::Gone)?;
            }
            Outcome::Reply(reply) => self.send(&reply, Persistence::Closed, format)?,
            Outcome::Failed => {
                let reply = self.ask(context, &self.body, None)?;
                self.send(&reply, Persistence::Closed, format)?;
            }
        }
        Ok(Next::Close { linger: true })
    }

    fn send(&mut self, reply: &Reply, connection: Persistence, format: Format) -> Result<(), End> {
        self.try_send(reply, connection, format)
            .map_err(|_| End::Gone)
    }

    fn try_send(
        &mut self,
        reply: &Reply,
        connection: Persistence,
        format: Format,
    ) -> io::Result<()> {
        let rest = render(reply, connection, format, &mut self.answer);
        let transport = &mut self.reader.transport;
        transport.set_deadline(Instant::now() + self.shared.limits.answer);
        transport.write_all(&self.answer)?;
        transport.write_all(rest)?;
        transport.flush()
    }

    /// Answers a request that is not passed on.
    fn refuse(&mut self, error: Error) {
        let (status, reason) = (error.status, &error.description);
        let log = &self.shared.refusal_log;
        log.refused(Refusal::of(status), self.client.peer, Some(status), reason);
        // Fails if the client has gone.
        let _ = self.send(&refusal(error), Persistence::Closed, Format::default());
    }
}

fn unanswered() -> Error {
    Error {
        retry_after: Some(1),
        ..Error::new(
            503,
            "The service broker did not answer. Try again in a moment; the operator finds the cause in the broker's log.",
        )
    }
}
