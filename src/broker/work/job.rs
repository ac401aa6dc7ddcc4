//! Holding a record while it is worked on, and a turn of a plan while an adapter is called.

use super::{MAX_PROGRESS, Work};
use crate::adapter::{Cancel, Run};
use crate::store::Key;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What is known of an operation while it is being worked on.
pub(super) struct Job {
    pub operation: Box<str>,
    pub cancel: Cancel,
    progress: Mutex<Option<String>>,
}

impl Job {
    pub fn new(operation: &str) -> Job {
        Job {
            operation: operation.into(),
            cancel: Cancel::new(),
            progress: Mutex::default(),
        }
    }

    pub fn progress(&self) -> MutexGuard<'_, Option<String>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, text: &str) {
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        let end = text.floor_char_boundary(MAX_PROGRESS);
        *self.progress() = Some(text[..end].to_owned());
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

    /// Says what is being done, in the name of the adapter.
    pub fn tell(&self, text: &str) {
        self.job.tell(text);
    }

    /// Ends the work for now; what was told last is still known.
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
