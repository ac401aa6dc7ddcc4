//! What is kept of a record that is no more: enough to tell a platform that polls that the deletion it waits for has come
//! to its end. It takes the place of the record, and a new record takes its place in turn.

use super::operation::Operation;

use serde::{Deserialize, Serialize};
use std::time::SystemTime;

/// What is kept of a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tombstone {
    /// RFC 3339, UTC: since when.
    gone: String,
    /// A removal that has succeeded, or a creation that a removal has cut off.
    pub operation: Operation,
}

impl Tombstone {
    pub fn new(operation: Operation, at: SystemTime) -> Tombstone {
        Tombstone {
            gone: humantime::format_rfc3339_millis(at).to_string(),
            operation,
        }
    }

    /// What cannot be read is as old as can be.
    pub fn since(&self) -> SystemTime {
        humantime::parse_rfc3339(&self.gone).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}
