//! What is known of an operation while it is being worked on.

use crate::adapter::Cancel;

use humantime::format_rfc3339_seconds;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// The longest text that is kept of what an adapter says about its progress, in bytes; the rest is cut off.
const MAX_PROGRESS: usize = 4096;

/// What is known of an operation while it is being worked on.
pub struct Running {
    pub operation: Box<str>,
    /// When it was asked for.
    pub since: SystemTime,
    pub cancel: Cancel,
    progress: Mutex<Progress>,
}

/// How far the work on an operation has come.
#[derive(Default)]
pub enum Progress {
    #[default]
    Queued,
    /// This attempt is being made, and its adapter has told nothing of it yet.
    Running { attempt: u32, since: SystemTime },
    /// What the adapter tells of the attempt that it makes.
    Told(String),
    /// The next attempt comes later.
    Delayed {
        /// The last attempt, and why it did not succeed.
        attempt: u32,
        why: String,
        due: SystemTime,
    },
    /// The broker could not read or write its state, and tries that again later.
    Blocked { due: SystemTime },
}

impl Progress {
    /// For whoever polls, in one sentence or two.
    pub fn text(&self) -> String {
        let due = |due: SystemTime, what: &str| match due > SystemTime::now() {
            true => format!("{what}, which begins at {}", format_rfc3339_seconds(due)),
            false => format!("its turn for {what}"),
        };
        match self {
            Progress::Queued => "It is waiting for its turn.".to_owned(),
            Progress::Running { attempt: 1, since } => {
                format!(
                    "It has been running since {}.",
                    format_rfc3339_seconds(*since)
                )
            }
            Progress::Running { attempt, since } => format!(
                "Attempt {attempt} has been running since {}.",
                format_rfc3339_seconds(*since)
            ),
            Progress::Told(text) => text.clone(),
            Progress::Delayed {
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
            Progress::Blocked { due: at } => format!(
                "It is waiting for {}: the broker could not read or write its state.",
                due(*at, "the next attempt")
            ),
        }
    }
}

impl Running {
    pub fn new(operation: &str, since: SystemTime) -> Running {
        Running {
            operation: operation.into(),
            since,
            cancel: Cancel::new(),
            progress: Mutex::default(),
        }
    }

    pub fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an adapter says of its progress.
    pub fn tell(&self, text: &str) {
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        let end = text.floor_char_boundary(MAX_PROGRESS);
        *self.progress() = Progress::Told(text[..end].to_owned());
    }
}
