//! What the program that works for a call does.

use crate::adapter::protocol::Witness;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Records the last run, and says whether it is to be cut off.
#[derive(Default)]
pub struct Tape(Mutex<State>);

#[derive(Default)]
struct State {
    recorded: Recorded,
    /// Of the next program.
    dies_after: Option<Duration>,
}

/// What a run left to read.
#[derive(Default, Clone)]
pub struct Recorded {
    pub output: String,
    pub messages: Vec<String>,
    /// Whether a program ran at all: other kinds of adapter have none.
    pub is_program: bool,
    pub is_killed: bool,
}

impl Tape {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a new recording.
    pub fn rewind(&self) {
        *self.lock() = State::default();
    }

    /// Has the programs of this recording killed so soon after their start.
    pub fn kill_after(&self, delay: Option<Duration>) {
        self.lock().dies_after = delay;
    }

    pub fn recorded(&self) -> Recorded {
        self.lock().recorded.clone()
    }
}

impl Witness for Tape {
    fn starts(&self) -> Option<Duration> {
        let mut state = self.lock();
        state.recorded.is_program = true;
        state.dies_after
    }

    fn says(&self, line: &str) {
        self.lock().recorded.messages.push(line.to_owned());
    }

    fn ended(&self, output: &str, is_killed: bool) {
        let mut state = self.lock();
        state.recorded.output = output.to_owned();
        state.recorded.is_killed = is_killed;
    }
}
