//! The claim on a record while it is worked on, and the permit of a plan while its adapter is called.

use super::running::{Progress, Running};
use super::shared::Shared;
use crate::adapter::{Cancel, Run};
use crate::store::Key;

use std::sync::Arc;
use std::time::Instant;

/// The work on one operation: nobody else works on its record until this is dropped.
pub struct Claim<'a> {
    pub shared: &'a Arc<Shared>,
    pub key: Key,
    pub running: Arc<Running>,
    pub retries: bool,
}

impl Claim<'_> {
    /// Calls `f` with what an adapter is told of the operation.
    pub fn run<T>(&self, attempt: u32, deadline: Instant, f: impl FnOnce(Run<'_>) -> T) -> T {
        f(Run {
            id: &self.running.operation,
            attempt,
            deadline,
            progress: &|text| self.running.tell(text),
            cancel: &self.running.cancel,
        })
    }

    pub fn cancel(&self) -> &Cancel {
        &self.running.cancel
    }

    /// Says how far the work has come.
    pub fn is(&self, progress: Progress) {
        *self.running.progress() = progress;
    }

    /// Ends the work until the next attempt; its progress is kept for whoever polls.
    pub fn until_retry(mut self) {
        self.retries = true;
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if self.retries && !self.running.cancel.is_cancelled() {
            if let Some(claimed) = state.claims.get_mut(&self.key) {
                claimed.active = false;
            }
        } else {
            state.claims.remove(&self.key);
        }
        self.shared.changed.notify_all();
    }
}

/// A permit to call the adapter of a plan; given back when it is dropped. `None` where a plan has no limit.
pub struct Permit<'a>(pub Option<(&'a Arc<Shared>, &'a str)>);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some((shared, plan)) = self.0 {
            let mut state = shared.lock();
            state.plans.release(plan);
            shared.pass_on(&mut state, plan);
        }
    }
}
