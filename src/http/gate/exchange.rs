//! Answers that a worker sends itself.
//!
//! To wake a thread costs more than anything else in a request. So while a worker has a request of a connection, the
//! connection's thread waits for the next request already, and the worker sends the answer, as much of it as the socket
//! takes at once. If there is anything left to do, the worker ends the waiting by shutting the reading half of the socket,
//! as when a connection is asked to leave: the thread does the rest, and closes the connection.

use super::Shared;
use super::client::Client;
use super::response_writer::{self, KEPT, Persistence};
use super::upstream::UpstreamConnection;
use crate::http::reply::Reply;
use crate::http::reply_slot::ReplySink;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use std::io::IoSlice;
use std::mem::take;
use std::net::Shutdown;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The answers of one connection, one at a time.
pub struct Exchange {
    gate: Arc<Shared>,
    visit: Arc<Client>,
    inside: Mutex<Inside>,
    changed: Condvar,
}

#[derive(Default)]
struct Inside {
    state: State,
    /// How the client wants its answer.
    form: ReplyFormat,
    /// What the request went on, until it is answered.
    line: Option<UpstreamConnection>,
    /// The connection's thread waits here, and not for the client.
    awaited: bool,
    /// The client has begun another request.
    begun: bool,
    /// Kept from one answer to the next.
    answer: Vec<u8>,
}

#[derive(Default)]
enum State {
    /// Nothing is owed, or nobody cares any more.
    #[default]
    Done,
    /// A worker has the request, or will have it.
    Responder,
    /// A worker is sending the answer.
    Sending,
    /// What has become of it, until somebody asks.
    Settled(Outcome),
}

/// What has become of a request.
pub enum Outcome {
    /// Another request may come since then.
    Sent(Instant),
    /// The connection is to end.
    Last,
    /// The socket has not taken all of the answer, and the connection is to end after the rest.
    Rest(Vec<u8>),
    /// Whoever worked on it has failed, or tiny_http has gone.
    Lost,
}

/// How a client wants its answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReplyFormat {
    /// It speaks HTTP/1.0.
    pub old: bool,
    /// Without a body, though it is declared.
    pub bodiless: bool,
}

impl Exchange {
    pub fn new(gate: Arc<Shared>, visit: Arc<Client>) -> Exchange {
        Exchange {
            gate,
            visit,
            inside: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a request over. What becomes of it is known by [`Exchange::settled`] or [`Exchange::wait`], also if the line turns
    /// out to be dead.
    pub fn hand_over(
        self: &Arc<Self>,
        mut line: UpstreamConnection,
        request: [&[u8]; 3],
        form: ReplyFormat,
    ) {
        {
            let mut inside = self.inside();
            inside.state = State::Responder;
            inside.form = form;
            inside.begun = false;
        }
        match line.send(request, self.clone()) {
            Ok(()) => self.deposit(line),
            Err(_) => self.give_up(line),
        }
    }

    /// The line has led to nobody. A worker that answers nevertheless comes too late: there is never a second answer.
    fn give_up(&self, line: UpstreamConnection) {
        {
            let mut inside = self.inside();
            if matches!(inside.state, State::Responder) {
                inside.state = State::Settled(Outcome::Lost);
            }
        }
        self.gate.lines.discard(line);
    }

    /// Keeps the line for as long as the answer is owed.
    fn deposit(&self, line: UpstreamConnection) {
        let mut inside = self.inside();
        match inside.state {
            State::Responder => inside.line = Some(line),
            State::Settled(Outcome::Lost) => {
                drop(inside);
                self.gate.lines.discard(line);
            }
            _ => {
                drop(inside);
                self.gate.lines.give_back(line);
            }
        }
    }

    /// What has become of the request, if that is known.
    pub fn settled(&self) -> Option<Outcome> {
        let mut inside = self.inside();
        match take(&mut inside.state) {
            State::Settled(outcome) => Some(outcome),
            other => {
                inside.state = other;
                None
            }
        }
    }

    /// The connection must not be closed for others any more, also when the request is answered.
    pub fn has_begun_another(&self) {
        self.inside().begun = true;
        self.visit.work();
    }

    /// Waits until it is known what has become of the request. Every now and then, after `check`, it makes sure that
    /// somebody still works on it.
    pub fn wait(&self, check: Duration) -> Outcome {
        loop {
            if let Some(outcome) = self.settled() {
                return outcome;
            }
            let end = Instant::now() + check;
            let mut inside = self.inside();
            inside.awaited = true;
            while matches!(inside.state, State::Responder | State::Sending) {
                let Some(left) = end.checked_duration_since(Instant::now()) else {
                    break;
                };
                inside = self
                    .changed
                    .wait_timeout(inside, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
            inside.awaited = false;
            drop(inside);
            self.look_after();
        }
    }

    /// Makes sure that somebody still works on the request, if it is not answered yet.
    pub fn look_after(&self) {
        let Some(line) = self.inside().line.take() else {
            return;
        };
        match line.leads_somewhere() {
            Ok(()) => self.deposit(line),
            Err(_) => self.give_up(line),
        }
    }

    /// Sends what the socket takes at once.
    fn send(&self, reply: &Reply, form: ReplyFormat, answer: &mut Vec<u8>) -> Outcome {
        let stays = self.gate.connection_limit.lets_stay(&self.visit);
        let connection = Persistence::of(stays, form.old);
        let body = response_writer::render(reply, connection, form.bodiless, answer);
        let parts = [&answer[..], body].map(IoSlice::new);
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = loop {
            let nothing = &mut SendAncillaryBuffer::default();
            match sendmsg(&self.visit.stream, &parts, nothing, flags) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break 0,
                Err(_) => return Outcome::Last,
                Ok(count) => break count,
            }
        };
        if sent < answer.len() + body.len() {
            let left = answer.iter().chain(body).skip(sent);
            return Outcome::Rest(left.copied().collect());
        }
        match stays {
            true => Outcome::Sent(Instant::now()),
            false => Outcome::Last,
        }
    }
}

impl ReplySink for Exchange {
    fn deliver(&self, reply: Option<Reply>) {
        let (form, mut answer, line) = {
            let mut inside = self.inside();
            if !matches!(inside.state, State::Responder) {
                return;
            }
            inside.state = State::Sending;
            (inside.form, take(&mut inside.answer), inside.line.take())
        };
        let outcome = match &reply {
            Some(reply) => self.send(reply, form, &mut answer),
            None => Outcome::Lost,
        };
        answer.clear();
        answer.shrink_to(KEPT);
        let goes_on = matches!(outcome, Outcome::Sent(_));
        {
            let mut inside = self.inside();
            inside.state = State::Settled(outcome);
            inside.answer = answer;
            match (inside.awaited, goes_on) {
                (true, _) => self.changed.notify_one(),
                (false, true) if inside.begun => {}
                (false, true) => self.gate.connection_limit.rest(&self.visit, true),
                (false, false) => drop(self.visit.stream.shutdown(Shutdown::Read)),
            }
        }
        match line {
            Some(line) if reply.is_some() => self.gate.lines.give_back(line),
            Some(line) => self.gate.lines.discard(line),
            // The connection's thread is still busy with it.
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::upstream::tests::dispatcher;
    use super::super::{Gate, Settings};

    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    #[test]
    fn what_went_on_a_dead_line_is_asked_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let settings = Settings {
            workers: 2,
            ..Settings::default()
        };
        let gate = Gate::start(listener, dispatcher(), settings, || ()).unwrap();
        let mut client = TcpStream::connect(gate.address()).unwrap();
        gate.shared.lines.cut_idle();
        let head = "GET /v2/catalog HTTP/1.1\r\nHost: broker\r\nAuthorization: Basic YWxleDpiaWdzZWNyZXQ=\r\n\
                    X-Broker-API-Version: 2.17\r\n\r\n";
        client.write_all(head.as_bytes()).unwrap();
        // Once, and then the connection ends.
        let mut answers = String::new();
        client.read_to_string(&mut answers).unwrap();
        assert!(answers.starts_with("HTTP/1.1 200 OK\r\n"), "{answers}");
        assert!(answers.contains("\r\nConnection: close\r\n"), "{answers}");
        assert_eq!(answers.matches("HTTP/1.1").count(), 1, "{answers}");
        assert!(gate.stop(Duration::from_secs(60)));
    }
}
