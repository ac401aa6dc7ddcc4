//! What the program that works for a call does.

use crate::adapter::exec::Witness;
use crate::adapter::exec::process::Bell;

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Records the last run.
#[derive(Default)]
pub struct Tape {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    recorded: Recorded,
    /// Of the program that runs.
    bell: Option<Bell>,
    must_die: bool,
    given_up: bool,
}

/// What a run left to read.
#[derive(Default, Clone)]
pub struct Recorded {
    pub output: String,
    pub messages: Vec<String>,
    /// Whether a program ran at all: other kinds of adapter have none.
    pub is_program: bool,
}

impl Tape {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a new recording.
    pub fn rewind(&self) {
        *self.lock() = State::default();
    }

    pub fn recorded(&self) -> Recorded {
        self.lock().recorded.clone()
    }

    /// Whether the program was told to die.
    pub fn has_killed(&self) -> bool {
        self.lock().must_die
    }

    /// Ends the wait of [`Tape::kill_after`] for a program to start.
    pub fn give_up(&self) {
        self.lock().given_up = true;
        self.changed.notify_all();
    }

    /// Kills the program so long after its start. Does nothing if none starts before `until`.
    pub fn kill_after(&self, delay: Duration, until: Instant) {
        let mut state = self.lock();
        while state.bell.is_none() {
            if state.given_up {
                return;
            }
            let Some(left) = until.checked_duration_since(Instant::now()) else {
                return;
            };
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let strike = Instant::now() + delay;
        while let Some(left) = strike.checked_duration_since(Instant::now()) {
            if state.given_up {
                return;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.must_die = true;
        if let Some(bell) = &state.bell {
            bell.ring();
        }
    }
}

impl Witness for Tape {
    fn starts(&self, bell: Bell) {
        let mut state = self.lock();
        state.recorded.is_program = true;
        state.bell = Some(bell);
        self.changed.notify_all();
    }

    fn must_die(&self) -> bool {
        self.lock().must_die
    }

    fn says(&self, line: &str) {
        self.lock().recorded.messages.push(line.to_owned());
    }

    fn printed(&self, output: &str) {
        self.lock().recorded.output = output.to_owned();
    }
}
