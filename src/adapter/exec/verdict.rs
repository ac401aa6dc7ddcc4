//! From what a program did to what the user and the operator are told.

use super::process::{Ended, Stopped};
use crate::adapter::protocol::line::{Answer, Done, Fault};
use crate::adapter::protocol::mask::Mask;
use crate::adapter::protocol::messages::one_line;
use crate::adapter::protocol::output::PROGRAM;
use crate::adapter::protocol::verdict::{LONGEST_PIECE, Teller, word};
use crate::adapter::{Failure, Kind};

use rustix::io::Errno;
use std::io;
use std::path::Path;
use std::time::Duration;

/// "Try again later" (sysexits.h).
const EX_TEMPFAIL: i32 = 75;

/// Judges one run. Sentences for the user name the plan, and no path of the broker's machine.
pub struct Verdict<'a> {
    pub kind: Kind,
    pub teller: Teller<'a>,
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
    pub fn not_started(&self, error: &io::Error) -> Failure {
        let detail = format!("cannot run {}: {error}", self.file.display());
        let what = "cannot be started at the moment";
        let failure = if is_passing(error) {
            Failure::again(self.teller.sentence(what))
        } else {
            Failure::unavailable(self.teller.sentence(what))
        };
        failure.with_detail(detail)
    }

    /// `mask`: what is secret in the environment of the run.
    pub fn of(&self, outcome: Outcome, mask: &Mask) -> Result<Done, Failure> {
        let detail = detail(&outcome);
        let code = outcome.ended.status.and_then(|status| status.code());
        let failure = match (outcome.ended.stopped, outcome.answer) {
            (Some(Stopped::Killed), _) => Failure::failed("The program was killed."),
            (Some(Stopped::Output), _) => self.teller.failed(&PROGRAM.too_much()),
            // Also in the time that it had after SIGTERM: the work is done.
            (None | Some(Stopped::Deadline | Stopped::Cancelled), Some(Answer::Done(done)))
                if code == Some(0) && outcome.output.is_ok() =>
            {
                return Ok(done);
            }
            (Some(Stopped::Cancelled), _) => Failure::failed("The operation was cancelled."),
            (Some(Stopped::Deadline), _) => {
                let limit = humantime::format_duration(self.timeout);
                self.teller
                    .failed(&format!("did not finish within {limit}"))
            }
            (None, Some(Answer::Refused(refused))) => {
                let is_again = code == Some(EX_TEMPFAIL);
                self.teller.refused(self.kind, refused, is_again, mask)
            }
            (None, _) if code == Some(EX_TEMPFAIL) => {
                Failure::again(self.teller.sentence("could not do it now"))
            }
            (None, _) if code == Some(0) => {
                let told = outcome.output.err().map(|fault| fault.told);
                self.teller.unfit(&told.unwrap_or_default())
            }
            (None, _) => match outcome.ended.status {
                // `exit status: 3`, `signal: 9 (SIGKILL)`.
                Some(status) => self.teller.failed(&format!("failed ({status})")),
                None => self.teller.failed("could not be stopped"),
            },
        };
        Err(failure.with_detail(mask.apply(&detail)))
    }
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
        && (succeeded || fault.detail != PROGRAM.no_result())
    {
        pieces.push(fault.detail.clone());
    }
    if let Some(Answer::Refused(refused)) = &outcome.answer {
        pieces.push(word(refused));
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
