//! One request on its way to a worker and back.
//!
//! Waking a thread costs more than anything else in a request. So in the usual case the worker sends the answer itself, as
//! much as the socket takes at once, while the connection's thread waits for the client's next request already. If anything
//! is left to do, the worker shuts the reading half of the socket: that ends the wait, and the thread does the rest and
//! closes the connection.

use super::client::Client;
use super::response_writer::{Format, Persistence, render};
use super::shared::Shared;
use super::upstream::UpstreamConnection;
use crate::http::reply::Reply;
use crate::http::server::{self, Context};

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use std::io::IoSlice;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often whoever waits for an answer makes sure that tiny_http still has the request.
pub const CHECK: Duration = Duration::from_secs(1);

pub struct Exchange {
    shared: Arc<Shared>,
    client: Arc<Client>,
    context: Context,
    /// The worker sends the answer itself, in this format.
    direct: Option<Format>,
    state: Mutex<State>,
    settled: Condvar,
}

struct State {
    stage: Stage,
    /// What the request was sent on. Kept here while the stage is `Pending`.
    upstream: Option<UpstreamConnection>,
    /// The connection's thread waits in [`Exchange::wait`], not for the client. Waking nobody would be a system call, too.
    awaited: bool,
}

enum Stage {
    Pending,
    /// A worker sends the answer.
    Sending,
    Settled(Outcome),
    /// The outcome was taken.
    Done,
}

/// What became of a request.
pub enum Outcome {
    /// The answer, which the worker did not send.
    Reply(Reply),
    /// The worker has sent the answer, at this time. Another request may follow.
    Sent(Instant),
    /// The worker has sent the answer, and the connection has to close.
    SentLast,
    /// The worker has sent the answer, but for this rest. Then the connection has to close.
    Rest(Vec<u8>),
    /// There will be no answer: the worker has failed, or tiny_http has dropped the request.
    Failed,
}

impl Exchange {
    pub fn new(
        shared: &Arc<Shared>,
        client: &Arc<Client>,
        context: Context,
        direct: Option<Format>,
    ) -> Arc<Exchange> {
        Arc::new(Exchange {
            shared: shared.clone(),
            client: client.clone(),
            context,
            direct,
            state: Mutex::new(State {
                stage: Stage::Pending,
                upstream: None,
                awaited: false,
            }),
            settled: Condvar::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the request: its head, without the empty line, and its body. If that fails, the outcome says so.
    pub fn start(self: &Arc<Self>, mut upstream: UpstreamConnection, request: [&[u8]; 2]) {
        match upstream.send(request, self.clone()) {
            Ok(()) => self.keep(upstream),
            Err(_) => self.fail(upstream),
        }
    }

    /// Keeps the upstream connection until the request is answered.
    fn keep(&self, upstream: UpstreamConnection) {
        let mut state = self.state();
        match state.stage {
            Stage::Pending => state.upstream = Some(upstream),
            Stage::Settled(Outcome::Failed) => {
                drop(state);
                self.shared.upstream.discard(upstream);
            }
            _ => {
                drop(state);
                self.shared.upstream.release(upstream);
            }
        }
    }

    /// Gives up. If a worker answers nevertheless, it is too late: there is never a second answer.
    fn fail(&self, upstream: UpstreamConnection) {
        {
            let mut state = self.state();
            if matches!(state.stage, Stage::Pending) {
                state.stage = Stage::Settled(Outcome::Failed);
            }
        }
        self.shared.upstream.discard(upstream);
    }

    /// What became of the request, if that is known and was not taken before.
    pub fn outcome(&self) -> Option<Outcome> {
        self.state().take_outcome()
    }

    /// Waits for the outcome. At the deadline, the request has failed.
    pub fn wait(&self, deadline: Option<Instant>) -> Outcome {
        loop {
            let mut state = self.state();
            let now = Instant::now();
            let left = deadline.map_or(CHECK, |end| CHECK.min(end.saturating_duration_since(now)));
            state.awaited = true;
            let open = |state: &mut State| matches!(state.stage, Stage::Pending | Stage::Sending);
            state = self
                .settled
                .wait_timeout_while(state, left, open)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            state.awaited = false;
            if let Some(outcome) = state.take_outcome() {
                return outcome;
            }
            drop(state);
            self.check(deadline.is_none_or(|end| Instant::now() < end));
        }
    }

    /// Fails the request if tiny_http has dropped it, or if there is no more time.
    pub fn check(&self, in_time: bool) {
        // Not held during the check: a worker that answers meanwhile leaves the connection to us.
        let Some(upstream) = self.state().upstream.take() else {
            return;
        };
        match in_time && upstream.is_alive() {
            true => self.keep(upstream),
            false => self.fail(upstream),
        }
    }

    /// Sends as much of an answer as the socket takes at once.
    fn send(&self, reply: &Reply, format: Format) -> Outcome {
        let stays = self.shared.connection_limit.may_stay(&self.client);
        let mut head = Vec::new();
        let body = render(reply, Persistence::of(stays, format), format, &mut head);
        let parts = [&head[..], body].map(IoSlice::new);
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = loop {
            let nothing = &mut SendAncillaryBuffer::default();
            match sendmsg(&self.client.stream, &parts, nothing, flags) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break 0,
                Err(_) => return Outcome::SentLast,
                Ok(count) => break count,
            }
        };
        if sent < head.len() + body.len() {
            let rest = head.iter().chain(body).skip(sent);
            return Outcome::Rest(rest.copied().collect());
        }
        match stays {
            true => Outcome::Sent(Instant::now()),
            false => Outcome::SentLast,
        }
    }
}

impl State {
    fn take_outcome(&mut self) -> Option<Outcome> {
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Settled(outcome) => Some(outcome),
            other => {
                self.stage = other;
                None
            }
        }
    }
}

/// The worker's side.
impl server::Exchange for Exchange {
    fn context(&self) -> Option<Context> {
        Some(self.context)
    }

    fn complete(&self, reply: Option<Reply>) {
        let upstream = {
            let mut state = self.state();
            if !matches!(state.stage, Stage::Pending) {
                return;
            }
            state.stage = Stage::Sending;
            state.upstream.take()
        };
        let outcome = match (reply, self.direct) {
            (None, _) => Outcome::Failed,
            (Some(reply), None) => Outcome::Reply(reply),
            (Some(reply), Some(format)) => self.send(&reply, format),
        };
        let failed = matches!(outcome, Outcome::Failed);
        let sent = matches!(outcome, Outcome::Sent(_));
        {
            let mut state = self.state();
            state.stage = Stage::Settled(outcome);
            if state.awaited {
                self.settled.notify_one();
            } else if sent {
                self.shared.connection_limit.set_answered(&self.client);
            } else if self.direct.is_some() {
                self.client.end_reading();
            }
        }
        match upstream {
            Some(upstream) if failed => self.shared.upstream.discard(upstream),
            Some(upstream) => self.shared.upstream.release(upstream),
            // The connection's thread has it, and will see the outcome.
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
    fn a_request_on_a_dead_upstream_connection_is_sent_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let settings = Settings {
            workers: 2,
            ..Settings::default()
        };
        let gate = Gate::start(listener, dispatcher(), settings, || ()).unwrap();
        let mut client = TcpStream::connect(gate.address()).unwrap();
        gate.shared.upstream.cut_idle();
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
