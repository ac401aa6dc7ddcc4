//! From what a web service answered, or did not, to what the user and the operator are told.

use super::answer::Reply;
use crate::adapter::protocol::line::{Answer, Done, Refused};
use crate::adapter::protocol::mask::Mask;
use crate::adapter::protocol::verdict::{Teller, word};
use crate::adapter::{Failure, Kind};

use std::time::Duration;
use ureq::{Error, Timeout};

/// Judges one exchange. Sentences for the user name the plan, and no address.
pub struct Verdict<'a> {
    pub kind: Kind,
    pub teller: Teller<'a>,
    pub timeout: Duration,
}

/// What an exchange has come to, where it did not fail.
pub enum Step {
    Done(Done),
    /// The work goes on; where its result will be, if that was said.
    Later(Option<String>, Option<Duration>),
    /// The service does not know the operation any more: it is to be told once more what to do.
    Forgotten(Failure),
}

/// Why there is no answer.
pub enum Trouble {
    /// The time for the whole operation is over.
    Deadline,
    /// It may go better the next time.
    Passing(String),
    Lasting(String),
}

impl Trouble {
    pub fn of(error: Error) -> Trouble {
        match error {
            Error::Timeout(Timeout::Global | Timeout::PerCall) => Trouble::Deadline,
            Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
                Trouble::Passing("no connection in time (connect_timeout)".to_owned())
            }
            Error::Timeout(_) => {
                Trouble::Passing("no answer began in time (first_byte_timeout)".to_owned())
            }
            Error::HostNotFound => Trouble::Passing("its host has no address".to_owned()),
            Error::ConnectionFailed => Trouble::Passing("no connection".to_owned()),
            Error::Io(error) => match error
                .get_ref()
                .is_some_and(|inner| inner.is::<rustls::Error>())
            {
                true => Trouble::Lasting(format!("TLS: {error}")),
                false => Trouble::Passing(error.to_string()),
            },
            error => Trouble::Lasting(error.to_string()),
        }
    }
}

impl Verdict<'_> {
    /// `mask`: what is secret in the headers that were sent. `is_poll`: asked for the result, rather than for the work.
    pub fn of(&self, reply: Reply, is_poll: bool, mask: &Mask) -> Result<Step, Failure> {
        let detail = mask.apply(&detail(&reply)).into_owned();
        let Reply {
            status,
            retry_after,
            answer,
            fault,
            poll,
            is_endless,
        } = reply;
        let fault = fault.map(|fault| fault.told);
        let failure = match (status, answer) {
            (202, _) => match (poll, fault) {
                (_, Some(fault)) => self.teller.unfit(&fault),
                (None, None) if !is_poll => self
                    .teller
                    .unfit("answered 202 without \"poll\", the address where its result will be"),
                (poll, None) => return Ok(Step::Later(poll, retry_after)),
            },
            (204, _) => return Ok(Step::Done(Done::default())),
            (200..=299, Some(Answer::Done(done))) if fault.is_none() => {
                return Ok(Step::Done(done));
            }
            (200..=299, Some(Answer::Refused(refused))) => {
                self.teller.refused(self.kind, refused, false, mask)
            }
            (200..=299, None) if is_endless => self.again("broke off its answer", None),
            (200..=299, _) => self.teller.unfit(&fault.unwrap_or_default()),
            (400 | 409 | 422, Some(Answer::Refused(refused))) => {
                self.teller
                    .refused(self.kind, meant(refused, status), false, mask)
            }
            (408 | 429 | 502..=504, Some(Answer::Refused(refused))) => Failure {
                retry_after,
                ..self.teller.refused(self.kind, refused, true, mask)
            },
            (408 | 429 | 502..=504, _) => self.again("could not do it now", retry_after),
            (404 | 410, _) if is_poll => {
                let failure = self.again("does not know the operation any more", None);
                return Ok(Step::Forgotten(failure.with_detail(detail)));
            }
            _ => self.teller.failed(&format!("failed (status {status})")),
        };
        Err(failure.with_detail(detail))
    }

    pub fn trouble(&self, trouble: Trouble, mask: &Mask) -> Failure {
        let (failure, detail) = match trouble {
            Trouble::Deadline => return self.late(),
            Trouble::Passing(detail) => {
                (self.again("cannot be reached at the moment", None), detail)
            }
            Trouble::Lasting(detail) => (self.teller.failed("cannot be spoken to"), detail),
        };
        failure.with_detail(mask.apply(&detail))
    }

    pub fn late(&self) -> Failure {
        let limit = humantime::format_duration(self.timeout);
        self.teller
            .failed(&format!("did not finish within {limit}"))
    }

    fn again(&self, what: &str, retry_after: Option<Duration>) -> Failure {
        Failure {
            retry_after,
            ..Failure::again(self.teller.sentence(what))
        }
    }
}

pub fn cancelled() -> Failure {
    Failure::failed("The operation was cancelled.")
}

/// Where a refusal has a word of its own, the status says what it means: 400 that the request is wrong, the others that it
/// cannot be done.
fn meant(refused: Refused, status: u16) -> Refused {
    let error = match (refused.error.as_str(), status) {
        ("invalid" | "unsupported", _) => return refused,
        (_, 400) => "invalid",
        _ => "unsupported",
    };
    Refused {
        error: error.to_owned(),
        ..refused
    }
}

/// All that is known, for the operator. Not masked yet.
fn detail(reply: &Reply) -> String {
    let mut pieces = vec![format!("the web service answered {}", reply.status)];
    if (300..400).contains(&reply.status) {
        pieces.push("redirects are not followed".to_owned());
    }
    if let Some(fault) = reply
        .fault
        .as_ref()
        .filter(|_| (200..300).contains(&reply.status))
    {
        pieces.push(fault.detail.clone());
    }
    if let Some(Answer::Refused(refused)) = &reply.answer {
        pieces.push(word(refused));
        if !matches!(reply.status, 200..=299 | 400 | 408 | 409 | 422 | 429 | 502..=504) {
            pieces.push(refused.description.clone());
        }
    }
    pieces.join("; ")
}
