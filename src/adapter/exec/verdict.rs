//! From what a program did to what the user and the operator are told.

use super::mask::Mask;
use super::messages::one_line;
use super::process::{Ended, Stopped};
use super::protocol::{Answer, Done, Fault, MAX_OUTPUT, NO_RESULT, Refused};
use crate::adapter::{Failure, Kind};

use rustix::io::Errno;
use std::io;
use std::path::Path;
use std::time::Duration;

/// "Try again later" (sysexits.h).
const EX_TEMPFAIL: i32 = 75;
/// Longest piece of a detail that is the program's, in bytes.
const LONGEST_PIECE: usize = 512;

/// Judges one run. Sentences for the user name the plan, and no path of the broker's machine.
pub struct Verdict<'a> {
    pub kind: Kind,
    pub plan: &'a str,
    pub file: &'a Path,
    pub timeout: Duration,
}

/// What is left of a run.
pub struct Outcome {
    pub ended: Ended,
    pub answer: Option<Answer>,
    /// What is wrong with the output.
    pub output: Result<(), Fault>,
    pub last_message: Option<String>,
}

impl Verdict<'_> {
    pub fn damaged(&self) -> Failure {
        let what = "cannot be told what to do, since the broker's record is damaged";
        Failure::failed(sentence(self.plan, what))
    }

    /// A file of the environment cannot be read: most probably it is being replaced.
    pub fn no_secret(&self, error: String) -> Failure {
        Failure::again(sentence(self.plan, "cannot be started at the moment")).with_detail(error)
    }

    pub fn not_started(&self, error: &io::Error) -> Failure {
        let detail = format!("cannot run {}: {error}", self.file.display());
        let what = "cannot be started at the moment";
        let failure = if is_passing(error) {
            Failure::again(sentence(self.plan, what))
        } else {
            Failure::unavailable(sentence(self.plan, what))
        };
        failure.with_detail(detail)
    }

    /// `mask`: what is secret in the environment of the run.
    pub fn of(&self, outcome: Outcome, mask: &Mask) -> Result<Done, Failure> {
        let detail = detail(&outcome);
        let code = outcome.ended.status.and_then(|status| status.code());
        let failure = match (outcome.ended.stopped, outcome.answer) {
            (Some(Stopped::Killed), _) => Failure::failed("The program was killed."),
            (Some(Stopped::Output), _) => {
                self.failed(&format!("printed more than {MAX_OUTPUT} bytes"))
            }
            // Also in the time that it had after SIGTERM: the work is done.
            (None | Some(Stopped::Deadline | Stopped::Cancelled), Some(Answer::Done(done)))
                if code == Some(0) && outcome.output.is_ok() =>
            {
                return Ok(done);
            }
            (Some(Stopped::Cancelled), _) => Failure::failed("The operation was cancelled."),
            (Some(Stopped::Deadline), _) => {
                let limit = humantime::format_duration(self.timeout);
                self.failed(&format!("did not finish within {limit}"))
            }
            (None, Some(Answer::Refused(refused))) => self.refused(code, refused, mask),
            (None, _) if code == Some(EX_TEMPFAIL) => {
                Failure::again(sentence(self.plan, "could not do it now"))
            }
            (None, _) if code == Some(0) => {
                let told = outcome.output.err().map(|fault| fault.told);
                return Err(
                    unfit(self.plan, &told.unwrap_or_default()).with_detail(mask.apply(&detail))
                );
            }
            (None, _) => match outcome.ended.status {
                // `exit status: 3`, `signal: 9 (SIGKILL)`.
                Some(status) => self.failed(&format!("failed ({status})")),
                None => self.failed("could not be stopped"),
            },
        };
        Err(failure.with_detail(mask.apply(&detail)))
    }

    fn failed(&self, what: &str) -> Failure {
        Failure::failed(sentence(self.plan, what))
    }

    /// What the program itself says of its failure.
    fn refused(&self, code: Option<i32>, refused: Refused, mask: &Mask) -> Failure {
        let description = mask.apply(&refused.description).into_owned();
        // A request to remove something cannot be wrong.
        let is_request = matches!(self.kind, Kind::Provision | Kind::Update | Kind::Bind);
        let mut failure = match refused.error.as_str() {
            _ if code == Some(EX_TEMPFAIL) => Failure::again(description),
            "invalid" if is_request => Failure::invalid(description),
            "unsupported" if is_request => Failure::unsupported(description),
            _ => Failure::failed(description),
        };
        failure.instance_usable = refused.instance_usable;
        failure.update_repeatable = refused.update_repeatable;
        failure
    }
}

/// An answer that cannot be used.
pub fn unfit(plan: &str, fault: &str) -> Failure {
    Failure::failed(sentence(
        plan,
        &format!("did not answer as it should: {fault}"),
    ))
    .with_detail(fault)
}

/// A sentence for the user about the program.
fn sentence(plan: &str, what: &str) -> String {
    format!(
        "The program that fulfils plan {plan:?} {what}. The operator finds more in the log of the service broker."
    )
}

/// All that is known, for the operator. Not masked yet.
fn detail(outcome: &Outcome) -> String {
    let mut pieces = Vec::new();
    let succeeded = outcome.ended.status.is_some_and(|status| status.success());
    match outcome.ended.status {
        _ if succeeded => {}
        Some(status) => pieces.push(format!("the program ended with {status}")),
        None => pieces.push("the program could not be killed and is left behind".to_owned()),
    }
    if let Err(fault) = &outcome.output
        // Who fails need not print a result.
        && (succeeded || fault.detail != NO_RESULT)
    {
        pieces.push(fault.detail.clone());
    }
    if let Some(Answer::Refused(refused)) = &outcome.answer {
        pieces.push(format!(
            "error {:?}",
            one_line(&refused.error, LONGEST_PIECE)
        ));
    }
    if let Some(line) = &outcome.last_message {
        pieces.push(format!("last message: {}", one_line(line, LONGEST_PIECE)));
    }
    pieces.join("; ")
}

/// Too many processes or descriptors, no memory, or a file that is being replaced.
fn is_passing(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    let passing = [
        Errno::AGAIN,
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOENT,
        Errno::NOMEM,
        Errno::TXTBSY,
    ];
    errno.is_some_and(|errno| passing.contains(&errno))
}
