//! What the specification says, as values and pure functions: nothing here reads or writes anything.
//!
//! [`record`](instance::record)s say what the broker knows, requests what the platform asks, and verdicts are the tables of the
//! specification: (record found, request) -> what to do. [`operation`] is what is done to a record, and [`subject`] how that may end.

pub mod answer;
pub mod audit;
pub mod binding;
pub mod body;
pub mod caller;
pub mod error;
pub mod instance;
pub mod operation;
pub mod poll;
mod quotes;
pub mod subject;
pub mod tombstone;

use crate::store::Key;

/// What users read of a record, as in `Service instance "x"`.
pub fn named(key: &Key) -> String {
    match key {
        Key::Instance(id) => format!("Service instance {id:?}"),
        Key::Binding(_, id) => format!("Service binding {id:?}"),
    }
}
