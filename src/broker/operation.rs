//! Operations: what was done last to a record, or is being done.

use super::error::Error;
pub use crate::adapter::Kind;
use crate::adapter::{Failure, Identity, Origin};

use serde::{Deserialize, Serialize};
use std::time::SystemTime;

/// The id of a new operation: 128 random bits. 503 if the system's generator fails.
pub fn new_id() -> Result<String, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error {
        detail: Some(format!("the system's random generator failed: {error}")),
        ..Error::new(
            503,
            "The service broker cannot draw an operation id right now. Try again later.",
        )
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// spec: Polling Last Operation, Body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    #[serde(rename = "in progress")]
    InProgress,
    #[serde(rename = "succeeded")]
    Succeeded,
    #[serde(rename = "failed")]
    Failed,
}

/// The last operation on an instance or binding, kept in its record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    pub kind: Kind,
    pub state: State,
    /// What the user reads of a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_usable: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_repeatable: Option<bool>,
}

impl Operation {
    pub fn new(kind: Kind, state: State) -> Operation {
        Operation {
            kind,
            state,
            description: None,
            instance_usable: None,
            update_repeatable: None,
        }
    }

    /// The operation as it ends when the adapter fails.
    pub fn failed(kind: Kind, failure: &Failure) -> Operation {
        Operation {
            description: Some(failure.description.clone()).filter(|text| !text.is_empty()),
            instance_usable: failure
                .instance_usable
                .filter(|_| matches!(kind, Kind::Update | Kind::Deprovision)),
            update_repeatable: failure.update_repeatable.filter(|_| kind == Kind::Update),
            ..Operation::new(kind, State::Failed)
        }
    }

    pub fn in_progress(&self) -> bool {
        self.state == State::InProgress
    }

    /// The record has been made: neither still on its way nor failed on it.
    pub fn exists(&self) -> bool {
        !matches!(self.kind, Kind::Provision | Kind::Bind) || self.state == State::Succeeded
    }

    /// The body of `last_operation`. spec: Polling Last Operation, Body.
    pub fn answer(&self) -> impl Serialize + use<'_> {
        #[derive(Serialize)]
        struct LastOperation<'a> {
            state: State,
            #[serde(skip_serializing_if = "Option::is_none")]
            description: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            instance_usable: Option<bool>,
            #[serde(skip_serializing_if = "Option::is_none")]
            update_repeatable: Option<bool>,
        }
        LastOperation {
            state: self.state,
            description: self.description.as_deref(),
            instance_usable: self.instance_usable,
            update_repeatable: self.update_repeatable,
        }
    }
}

/// 422 ConcurrencyError that says what is in progress. `what` names the record, as in `Service instance "x"`.
pub fn busy(what: &str, kind: Kind) -> Error {
    Error::concurrency(format!(
        "{what} is being {} right now. Try again when that is done.",
        kind.participle()
    ))
}

/// 400 for an `operation` that this broker did not give out. spec: Polling Last Operation, 400. Synchronous operations
/// have none; a platform that names none asks for the last one.
pub fn refuse_unknown(operation: Option<&str>) -> Result<(), Error> {
    match operation {
        None => Ok(()),
        Some(operation) => Err(Error::bad_request(format!(
            "operation: found {operation:?}, which is no operation that this broker has answered with."
        ))),
    }
}

/// When something was done, and for whom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stamp {
    /// RFC 3339, UTC.
    pub at: String,
    /// The user of X-Broker-API-Originating-Identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Identity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl Stamp {
    pub fn now(origin: Origin<'_>) -> Stamp {
        Stamp {
            at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            by: origin.identity.cloned(),
            request_id: origin.request_id.map(str::to_owned),
        }
    }
}
