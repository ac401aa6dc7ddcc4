//! Plans that a program fulfils: any executable that reads one JSON document and prints JSON lines.
//!
//! docs/exec.md has the program's side of it.

mod process;
mod setup;
mod verdict;

use super::protocol::document::Call;
use super::protocol::line::{Answer, Done};
use super::protocol::messages::Messages;
use super::protocol::output::{Output, PROGRAM};
use super::protocol::pace::Pace;
use super::protocol::verdict::Teller;
use super::protocol::{Speaker, Witness};
use super::{Failure, Kind, Reason, Settings};
use crate::log;
use process::{Program, Sink, Stopped};
use setup::{Environment, Setup};
use verdict::{Outcome, Verdict};

use std::ffi::{OsStr, OsString};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a program may go on after SIGTERM when the broker stops.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// The adapter `exec`: one program for a plan, called once for each operation.
pub struct Exec {
    setup: Setup,
    plan: String,
    adopts: bool,
    witness: Option<Arc<dyn Witness>>,
}

impl Exec {
    /// Reads `command`, `env`, `async`, `timeout`, `concurrency` and `adopt`. What is wrong is reported to the settings.
    pub fn from_settings(settings: &Settings<'_>) -> Option<Exec> {
        let adopts = settings.boolean("adopt").unwrap_or(false);
        Some(Exec {
            setup: Setup::read(settings)?,
            plan: settings.plan().name.clone(),
            adopts,
            witness: None,
        })
    }

    /// The same, watched.
    pub(crate) fn watched_by(mut self, witness: Arc<dyn Witness>) -> Exec {
        self.witness = Some(witness);
        self
    }

    /// A line that the program wrote to its standard error, masked.
    fn tell(&self, call: &Call<'_>, line: &str) {
        if let Some(witness) = &self.witness {
            witness.says(line);
        }
        log::info("program")
            .with("operation", call.name())
            .with("operation_id", call.instance().run.id)
            .with("instance_id", call.instance().instance_id)
            .with("binding_id", call.binding_id())
            .with("message", line)
            .send();
    }
}

struct Printed<'a> {
    output: Output,
    /// Of the output, for a witness.
    copy: Option<Vec<u8>>,
    messages: Messages<'a>,
    progress: &'a dyn Fn(&str),
}

impl Sink for Printed<'_> {
    fn output(&mut self, bytes: &[u8]) -> ControlFlow<()> {
        if let Some(copy) = &mut self.copy {
            copy.extend_from_slice(bytes);
        }
        self.output.feed(bytes, self.progress)
    }

    fn messages(&mut self, bytes: &[u8]) {
        self.messages.feed(bytes);
    }
}

impl Speaker for Exec {
    fn pace(&self) -> &Pace {
        &self.setup.pace
    }

    fn teller(&self) -> Teller<'_> {
        Teller {
            voice: &PROGRAM,
            plan: &self.plan,
        }
    }

    fn adopts(&self) -> bool {
        self.adopts
    }

    /// Runs the program for one call.
    fn call(&self, call: &Call<'_>) -> Result<Done, Failure> {
        let run = call.instance().run;
        let verdict = Verdict {
            kind: call.kind(),
            teller: self.teller(),
            file: &self.setup.file,
            timeout: self.setup.pace.timeout(call.kind()),
        };
        let input = call.document().map_err(|_| self.teller().damaged())?;
        let environment = self.setup.environment();
        let Environment { variables, mask } = environment.map_err(|error| {
            let what = "cannot be started at the moment";
            self.teller().no_secret(what, error)
        })?;
        let arguments = self.setup.arguments.iter().map(String::as_str);
        let arguments: Vec<&str> = arguments.chain([call.name()]).collect();
        let variables: Vec<(&OsStr, OsString)> = variables
            .iter()
            .map(|(name, value)| (OsStr::new(name), value.clone()))
            .collect();
        let dies_after = self.witness.as_ref().and_then(|witness| witness.starts());
        let program = Program {
            file: &self.setup.file,
            arguments: &arguments,
            folder: &self.setup.folder,
            environment: &variables,
            deadline: run.deadline,
            grace: self.setup.grace(call.kind()),
            dies_at: dies_after.map(|delay| Instant::now() + delay),
        };

        let progress = |text: &str| (run.progress)(&mask.apply(text));
        let mut say = |line: &str| self.tell(call, line);
        // Only what a bind returns must not be seen in its messages; those of other operations are told as they come.
        let mut printed = Printed {
            output: Output::new(&PROGRAM),
            copy: self.witness.as_ref().map(|_| Vec::new()),
            messages: Messages::new(mask.clone(), call.kind() == Kind::Bind, &mut say),
            progress: &progress,
        };
        let cancelled = || {
            Some(match run.cancel.reason()? {
                Reason::Superseded => program.grace,
                // The broker waits no longer than that. A program that outlived it would meet its own next attempt.
                Reason::Stopping => program.grace.min(STOP_GRACE),
            })
        };
        let ended = process::run(&program, &input, &cancelled, &mut printed)
            .map_err(|error| verdict.not_started(&error))?;

        if let (Some(witness), Some(copy)) = (&self.witness, &printed.copy) {
            let is_killed = ended.stopped == Some(Stopped::Killed);
            witness.ended(&mask.apply(&String::from_utf8_lossy(copy)), is_killed);
        }
        let (answer, output) = printed.output.close(&progress);
        let mut secrets = mask.clone();
        if let Some(Answer::Done(done)) = &answer {
            let credentials = done.credentials.iter().flat_map(|members| members.values());
            credentials.for_each(|value| secrets.add_within(value));
        }
        let last_message = printed.messages.close(&secrets);
        if ended.held_open {
            self.tell(call, "(a process left behind keeps its output open)");
        }
        verdict.of(
            Outcome {
                ended,
                answer,
                output,
                last_message,
            },
            &mask,
        )
    }
}
