//! Lines for the audit trail.

use super::State;
use crate::broker::protocol::audit::Entry;
use crate::broker::protocol::subject::{Ended, Outcome, Subject};
use crate::store::{AuditLine, Key};

use std::time::{Duration, SystemTime};

impl State {
    /// The audit trail is kept for so long. Without this there is none. To be called once.
    pub fn keep_audit_for(&self, time: Duration) {
        if self.store.keeps_audit() {
            self.audit_for.get_or_init(|| time);
        }
    }

    /// The line about this moment, if a trail is kept.
    pub(super) fn line<'e>(&self, entry: impl FnOnce() -> Option<Entry<'e>>) -> Option<AuditLine> {
        self.line_at(SystemTime::now(), entry)
    }

    pub(super) fn line_at<'e>(
        &self,
        at: SystemTime,
        entry: impl FnOnce() -> Option<Entry<'e>>,
    ) -> Option<AuditLine> {
        self.audit_for.get()?;
        entry()?.line(at)
    }

    /// How an operation has ended with its last attempt.
    pub fn ended(&self, key: &Key, subject: &Subject, outcome: Outcome) -> Ended {
        Ended {
            line: self.line(|| Some(Entry::ended(key, subject, &outcome))),
            ending: subject.ending(outcome),
        }
    }
}
