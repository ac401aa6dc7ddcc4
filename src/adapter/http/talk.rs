//! One call of a web service: the work is asked for, and where it takes long, its result.

use super::answer::{Reply, hear};
use super::client::Message;
use super::setup::{Headers, Setup};
use super::verdict::{Step, Trouble, Verdict, cancelled};
use crate::adapter::protocol::document::Call;
use crate::adapter::protocol::line::Done;
use crate::adapter::protocol::mask::Mask;
use crate::adapter::protocol::verdict::Teller;
use crate::adapter::{Failure, FailureKind, Reason, Run};

use std::time::{Duration, Instant};
use ureq::http::{Method, Uri};

/// How soon a result is asked for where the service does not say, and how seldom in the long run.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// No service is asked more often.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// How often it is asked for the end of work that is not wanted any more.
const UNWANTED_PAUSE: Duration = Duration::from_secs(1);

pub struct Talk<'a> {
    setup: &'a Setup,
    verdict: Verdict<'a>,
    run: Run<'a>,
    body: Vec<u8>,
    deadline: Instant,
    /// What is secret in the headers.
    mask: Mask,
    /// Of all answers, for a witness.
    copy: Option<Vec<u8>>,
    /// When the connection is to be cut, as if a machine went down.
    dies_at: Option<Instant>,
}

impl<'a> Talk<'a> {
    pub fn new(setup: &'a Setup, teller: Teller<'a>, call: &Call<'a>, body: Vec<u8>) -> Talk<'a> {
        let run = call.instance().run;
        Talk {
            setup,
            verdict: Verdict {
                kind: call.kind(),
                teller,
                timeout: setup.pace.timeout(call.kind()),
            },
            run,
            body,
            deadline: run.deadline,
            mask: Mask::default(),
            copy: None,
            dies_at: None,
        }
    }

    /// The same as [`Talk::hold`], for a witness.
    pub fn hold_watched(&mut self, dies_after: Option<Duration>) -> Result<Done, Failure> {
        self.copy = Some(Vec::new());
        self.dies_at = dies_after.map(|delay| Instant::now() + delay);
        self.deadline = self
            .dies_at
            .map_or(self.deadline, |at| at.min(self.deadline));
        self.hold()
    }

    /// What was answered, without the secrets of the settings.
    pub fn heard(&self) -> String {
        let copy = self.copy.as_deref().unwrap_or_default();
        self.mask.apply(&String::from_utf8_lossy(copy)).into_owned()
    }

    /// Whether the connection was cut as wanted.
    pub fn is_cut_off(&self) -> bool {
        self.dies_at.is_some_and(|at| Instant::now() >= at)
    }

    /// Has the work done.
    pub fn hold(&mut self) -> Result<Done, Failure> {
        let setup = self.setup;
        match self.step(Method::POST, setup.address.uri())? {
            Step::Done(done) => Ok(done),
            Step::Later(poll, wait) => self.follow(poll, wait),
            Step::Forgotten(failure) => Err(failure),
        }
    }

    /// Asks for the result until there is one.
    fn follow(
        &mut self,
        mut poll: Option<String>,
        mut wait: Option<Duration>,
    ) -> Result<Done, Failure> {
        let mut at = self.setup.address.uri().clone();
        let mut pause = FIRST_PAUSE;
        let mut is_unwanted = false;
        loop {
            if let Some(named) = poll.take() {
                at = self.setup.address.within(&named).ok_or_else(|| {
                    let fault =
                        "named a \"poll\" address that is not of its own scheme, host and port";
                    self.verdict.teller.unfit(fault)
                })?;
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            let rest = wait.take().unwrap_or_else(|| {
                let next = (pause * 2).min(LAST_PAUSE);
                std::mem::replace(&mut pause, next)
            });
            let rest = rest.max(SHORTEST_PAUSE).min(left);
            if is_unwanted {
                std::thread::sleep(rest.min(UNWANTED_PAUSE));
            } else if self.run.cancel.wait_timeout(rest) {
                is_unwanted = true;
                if self.run.cancel.reason() == Some(Reason::Stopping) || self.take_back(&at) {
                    return Err(cancelled());
                }
            }
            match self.step(Method::GET, &at) {
                Ok(Step::Done(done)) => return Ok(done),
                Ok(Step::Later(named, after)) => (poll, wait) = (named, after),
                // A service that cannot be reached goes on with its work, most likely.
                Err(failure) if failure.kind == FailureKind::Again => wait = failure.retry_after,
                Ok(Step::Forgotten(failure)) | Err(failure) => return Err(failure),
            }
        }
    }

    /// Asks for the end of work that is not wanted any more. Returns whether it has ended.
    fn take_back(&mut self, at: &Uri) -> bool {
        let reply = self.exchange(Method::DELETE, at);
        matches!(
            reply,
            Ok(Ok(Reply {
                status: 200 | 204 | 404 | 410,
                ..
            }))
        )
    }

    fn step(&mut self, method: Method, to: &Uri) -> Result<Step, Failure> {
        let is_poll = method == Method::GET;
        match self.exchange(method, to)? {
            Ok(reply) => self.verdict.of(reply, is_poll, &self.mask),
            Err(trouble) => Err(self.verdict.trouble(trouble, &self.mask)),
        }
    }

    /// One message, and the answer to it.
    fn exchange(&mut self, method: Method, to: &Uri) -> Result<Result<Reply, Trouble>, Failure> {
        let Talk { setup, run, .. } = *self;
        let teller = self.verdict.teller;
        let unreadable = |error| teller.no_secret("cannot be called at the moment", error);
        let client = setup.client().map_err(unreadable)?;
        let body = (method == Method::POST).then_some(self.body.as_slice());
        let Headers { headers, mask } = setup
            .headers(run, body.unwrap_or_default())
            .map_err(unreadable)?;
        self.mask = mask;
        let progress = |text: &str| (run.progress)(&self.mask.apply(text));
        let message = Message {
            method,
            to,
            headers,
            body,
        };
        let copy = &mut self.copy;
        let reply = client.send(
            message,
            setup.limits,
            self.deadline,
            run.cancel,
            |head, body| hear(head, body, &progress, copy),
        );
        Ok(reply.map_err(Trouble::of))
    }
}
