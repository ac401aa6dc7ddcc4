//! Holding a record while it is worked on, and a turn of a plan while an adapter is called.

use super::{MAX_PROGRESS, Work};
use crate::adapter::{Cancel, Run};
use crate::store::Key;

use humantime::format_rfc3339_seconds;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

/// What is known of an operation while it is being worked on.
pub(super) struct Job {
    pub operation: Box<str>,
    pub cancel: Cancel,
    phase: Mutex<Phase>,
}

/// How far the work on an operation is.
#[derive(Default)]
pub(super) enum Phase {
    #[default]
    Waiting,
    /// This attempt is being made, and its adapter has told nothing of it yet.
    Running { attempt: u32, since: SystemTime },
    /// What the adapter tells of the attempt that it makes.
    Told(String),
    /// The next attempt comes later.
    Paused {
        /// The last attempt, and why it did not succeed.
        attempt: u32,
        why: String,
        due: SystemTime,
    },
    /// The broker could not read or write its state, and tries that again later.
    Blocked { due: SystemTime },
}

impl Phase {
    /// For whoever polls, in one sentence or two.
    pub fn text(&self) -> String {
        let due = |due: SystemTime, what: &str| match due > SystemTime::now() {
            true => format!("{what}, which begins at {}", format_rfc3339_seconds(due)),
            false => format!("its turn for {what}"),
        };
        match self {
            Phase::Waiting => "It is waiting for its turn.".to_owned(),
            Phase::Running { attempt: 1, since } => {
                format!(
                    "It has been running since {}.",
                    format_rfc3339_seconds(*since)
                )
            }
            Phase::Running { attempt, since } => format!(
                "Attempt {attempt} has been running since {}.",
                format_rfc3339_seconds(*since)
            ),
            Phase::Told(text) => text.clone(),
            Phase::Paused {
                attempt,
                why,
                due: at,
            } => {
                let next = format!("attempt {}", attempt.saturating_add(1));
                format!(
                    "It is waiting for {}. Attempt {attempt} did not succeed: {why}",
                    due(*at, &next)
                )
            }
            Phase::Blocked { due: at } => format!(
                "It is waiting for {}: the broker could not read or write its state.",
                due(*at, "the next attempt")
            ),
        }
    }
}

impl Job {
    pub fn new(operation: &str) -> Job {
        Job {
            operation: operation.into(),
            cancel: Cancel::new(),
            phase: Mutex::default(),
        }
    }

    pub fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, text: &str) {
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        let end = text.floor_char_boundary(MAX_PROGRESS);
        *self.phase() = Phase::Told(text[..end].to_owned());
    }
}

/// The work on one operation: nobody else works on its record until this is dropped.
pub(in crate::broker) struct Entered<'a> {
    pub(super) work: &'a Work,
    pub(super) key: Key,
    pub(super) job: Arc<Job>,
    pub(super) pauses: bool,
}

impl Entered<'_> {
    /// Calls `f` with what an adapter is told of the operation.
    pub fn run<T>(&self, attempt: u32, deadline: Instant, f: impl FnOnce(Run<'_>) -> T) -> T {
        f(Run {
            id: &self.job.operation,
            attempt,
            deadline,
            progress: &|text| self.job.tell(text),
            cancel: &self.job.cancel,
        })
    }

    pub fn cancel(&self) -> &Cancel {
        &self.job.cancel
    }

    /// Says how far the work is.
    pub(super) fn is(&self, phase: Phase) {
        *self.job.phase() = phase;
    }

    /// Ends the work for now; how far it is, is still known.
    pub fn pause(mut self) {
        self.pauses = true;
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut state = self.work.shared.lock();
        if self.pauses && !self.job.cancel.is_cancelled() {
            if let Some(known) = state.known.get_mut(&self.key) {
                known.active = false;
            }
        } else {
            state.known.remove(&self.key);
        }
        self.work.shared.changed.notify_all();
    }
}

/// A turn of a plan; dropped when it is over.
pub(super) struct Turn<'a>(pub Option<(&'a Work, &'a str)>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some((work, plan)) = self.0 {
            let mut state = work.shared.lock();
            state.lanes.release(plan);
            work.pass_on(&mut state, plan);
        }
    }
}
