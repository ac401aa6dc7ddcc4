//! What has had its time goes, some at once and beside all requests: tombstones, and lines of the audit trail.

use super::State;
use super::tombstones::Kept;
use crate::broker::protocol::audit;
use crate::broker::protocol::tombstone::Tombstone;
use crate::log;
use crate::store::{Change, Key, Outcome, Revision};

use std::thread;
use std::time::{Instant, SystemTime};

/// How many lines of the audit trail go in one commit: others wait for no more.
const LINES_AT_ONCE: usize = 500;
/// How many tombstones go in one commit: others wait for no more.
const FORGOTTEN_AT_ONCE: usize = 32;

impl State {
    /// Remembers tombstones that were found at the start.
    pub fn remember_tombstones(&self, found: Vec<(Key, Revision, Tombstone)>) {
        self.tombstones.fill(found);
    }

    /// Forgets the tombstones that have had their time, until it is told to stop: some at once, as long as no record has come
    /// in their place.
    pub fn forget_old_tombstones(&self, now: SystemTime, stop: impl Fn() -> bool) {
        while !stop() {
            let old = self.tombstones.take_old(now, FORGOTTEN_AT_ONCE);
            if old.is_empty() {
                return;
            }
            let change = |kept: &Kept| Change::Delete {
                key: kept.key.clone(),
                revision: kept.revision,
            };
            let together = self.store.commit(old.iter().map(change).collect());
            let one_by_one = || {
                let mut each = old.iter().map(|kept| self.store.commit(vec![change(kept)]));
                // A conflict means that there is a new record in its place.
                each.find_map(Result::err)
            };
            let error = match together {
                Ok(Outcome::Committed(_)) => None,
                Ok(Outcome::Conflict) => one_by_one(),
                Err(error) => Some(error),
            };
            if let Some(error) = error {
                self.tombstones.put_back(old);
                log::warn("tombstone").with("error", &error.message).send();
                return;
            }
        }
    }

    /// Forgets the lines of the audit trail that have had their time, some at once, until it is told to stop.
    pub fn forget_old_audit(&self, now: SystemTime, stop: impl Fn() -> bool) {
        // Without a trail, what there was goes too.
        let Some(before) = now.checked_sub(self.audit_for.get().copied().unwrap_or_default())
        else {
            return;
        };
        while !stop() {
            let began = Instant::now();
            match self
                .store
                .forget_audit(audit::micros(before), LINES_AT_ONCE)
            {
                // Requests that wait for the store come first.
                Ok(LINES_AT_ONCE) => thread::sleep(began.elapsed()),
                Ok(_) => return,
                Err(error) => return log::warn("audit").with("error", &error.message).send(),
            }
        }
    }
}
