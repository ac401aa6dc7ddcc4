//! Operations: what was done last to a record, or is being done.

use super::caller::Caller;
use super::error::Error;
use super::named;
pub use crate::adapter::Kind;
use crate::adapter::kinds::Fulfilment;
use crate::adapter::{Identity, Origin, SYNCHRONOUS_TIMEOUT};
use crate::random;
use crate::store::Key;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

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

impl State {
    /// As the specification writes it.
    pub fn name(self) -> &'static str {
        match self {
            State::InProgress => "in progress",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
        }
    }
}

/// The last operation on an instance or binding, kept in its record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    pub kind: Kind,
    pub state: State,
    /// What the platform names it by when it polls. Empty once a synchronous operation has ended: nobody was told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Whether the platform was told to poll.
    #[serde(default, rename = "async", skip_serializing_if = "is_false")]
    pub asynchronous: bool,
    /// Of a removal: what it removes was never made in full, so there is nothing to use, whatever becomes of it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unmade: bool,
    /// What the user reads of a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_usable: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_repeatable: Option<bool>,
    /// Only while it is in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub underway: Option<Box<Underway>>,
}

/// What must be known to go on with an operation, also after a crash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Underway {
    /// Of the adapter's last call, which may or may not have been made; counted from 1.
    pub attempt: u32,
    /// When the operation has failed at the latest.
    pub deadline: Moment,
    pub requested: Arc<Stamp>,
    /// The operation that was the last one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Operation>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Whether a record has been made of which this was done last.
pub fn exists(kind: Kind, state: State, unmade: bool) -> bool {
    match kind {
        Kind::Provision | Kind::Bind => state == State::Succeeded,
        Kind::Update => true,
        Kind::Deprovision | Kind::Unbind => !unmade,
    }
}

impl Operation {
    pub fn new(kind: Kind, state: State) -> Operation {
        Operation {
            kind,
            state,
            id: String::new(),
            asynchronous: false,
            unmade: false,
            description: None,
            instance_usable: None,
            update_repeatable: None,
            underway: None,
        }
    }

    /// An operation that begins now. `fulfilment` is absent where there is nothing left for an adapter to do. Refused with
    /// 422 AsyncRequired where the platform would not poll (spec: Asynchronous Operations), and with 503 where it would
    /// not wait any longer, since something else had to be done first.
    pub fn begin(
        kind: Kind,
        fulfilment: Option<&Fulfilment>,
        before: Option<Operation>,
        caller: Caller<'_>,
    ) -> Result<Operation, Error> {
        let asynchronous = fulfilment.is_some_and(|fulfilment| fulfilment.is_async(kind));
        if asynchronous && !caller.accepts_incomplete {
            return Err(Error::async_required());
        }
        let mut timeout = fulfilment.map_or(SYNCHRONOUS_TIMEOUT, |fulfilment| {
            fulfilment.adapter.timeout(kind)
        });
        if !asynchronous {
            let left = SYNCHRONOUS_TIMEOUT.saturating_sub(caller.since.elapsed());
            let has_effects = fulfilment.is_some_and(|f| f.adapter.has_effects());
            if has_effects && left < SHORTEST {
                return Err(no_time());
            }
            timeout = timeout.min(left);
        }
        let removes = matches!(kind, Kind::Deprovision | Kind::Unbind);
        Ok(Operation {
            id: new_id()?,
            asynchronous,
            unmade: removes && before.as_ref().is_some_and(|before| !before.exists()),
            underway: Some(Box::new(Underway {
                attempt: 1,
                deadline: deadline_after(timeout),
                requested: Stamp::now(caller.origin),
                before,
            })),
            ..Operation::new(kind, State::InProgress)
        })
    }

    /// The operation once it has ended. Of a synchronous one nobody knows the id.
    pub fn ended(&self, state: State) -> Operation {
        Operation {
            id: if self.asynchronous {
                self.id.clone()
            } else {
                String::new()
            },
            asynchronous: self.asynchronous,
            unmade: self.unmade,
            ..Operation::new(self.kind, state)
        }
    }

    /// The operation once it has failed, and what the user is told of it. spec: Polling Last Operation, Body.
    pub fn failed(&self, error: &Error) -> Operation {
        Operation {
            description: Some(error.description.clone().into_owned())
                .filter(|text| !text.is_empty()),
            instance_usable: error
                .instance_usable
                .filter(|_| matches!(self.kind, Kind::Update | Kind::Deprovision)),
            update_repeatable: error
                .update_repeatable
                .filter(|_| self.kind == Kind::Update),
            ..self.ended(State::Failed)
        }
    }

    pub fn in_progress(&self) -> bool {
        self.state == State::InProgress
    }

    /// In progress, and the platform polls for its end.
    pub fn is_polled(&self) -> bool {
        self.in_progress() && self.asynchronous
    }

    /// The record has been made: neither still on its way nor failed on it.
    pub fn exists(&self) -> bool {
        exists(self.kind, self.state, self.unmade)
    }

    /// The operation as the removal that cuts it off remembers it: it has failed.
    pub fn cut_off(&self) -> Operation {
        Operation {
            description: Some(CUT_OFF.to_owned()),
            ..self.ended(State::Failed)
        }
    }

    /// Whether a removal has cut it off.
    pub fn was_cut_off(&self) -> bool {
        self.asynchronous && self.description.as_deref() == Some(CUT_OFF)
    }

    /// The operation that was the last one before this, while this one is in progress.
    pub fn before(&self) -> Option<&Operation> {
        self.underway.as_ref()?.before.as_ref()
    }

    pub fn attempt(&self) -> u32 {
        self.underway
            .as_ref()
            .map_or(1, |underway| underway.attempt)
    }

    /// When it was asked for, and by whom, while it is in progress.
    pub fn requested(&self) -> Option<&Arc<Stamp>> {
        self.underway.as_ref().map(|underway| &underway.requested)
    }

    /// Who asked for it.
    pub fn origin(&self) -> Origin<'_> {
        self.underway
            .as_ref()
            .map_or_else(Origin::default, |underway| underway.requested.origin())
    }

    /// How much time is left for it.
    pub fn left(&self, now: SystemTime) -> Duration {
        let deadline = self.underway.as_ref().map(|underway| underway.deadline.0);
        deadline
            .and_then(|deadline| deadline.duration_since(now).ok())
            .unwrap_or_default()
    }

    /// When it has failed at the latest.
    pub fn deadline(&self) -> Instant {
        crate::adapter::run::after(self.left(SystemTime::now()))
    }

    /// The body of `last_operation`. spec: Polling Last Operation, Body. `progress` is what is being done right now.
    pub fn answer<'a>(&'a self, progress: Option<&'a str>) -> impl Serialize + use<'a> {
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
            description: progress.or(self.description.as_deref()),
            instance_usable: self.instance_usable,
            update_repeatable: self.update_repeatable,
        }
    }
}

const CUT_OFF: &str = "It was stopped, since it is to be deleted.";

/// What is begun with less time than this is not begun at all.
const SHORTEST: Duration = Duration::from_secs(1);

fn no_time() -> Error {
    Error {
        retry_after: Some(1),
        ..Error::new(
            503,
            "Something that was left behind had to be removed first, and that took too long for this request to be \
             carried out as well. Try again.",
        )
    }
}

/// Operations without end are not: a deadline has to be a date.
pub const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

fn deadline_after(timeout: Duration) -> Moment {
    Moment(SystemTime::now() + timeout.min(FOREVER))
}

/// A moment in a record: in RFC 3339, UTC, to the millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub SystemTime);

/// 9999-12-31T23:59:59Z, in seconds since 1970.
const LAST: Duration = Duration::from_secs(253_402_300_799);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // humantime writes no later year.
        let last = SystemTime::UNIX_EPOCH + LAST;
        serializer.collect_str(&humantime::format_rfc3339_millis(self.0.min(last)))
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Moment, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let time = humantime::parse_rfc3339(&text).map_err(serde::de::Error::custom)?;
        Ok(Moment(time))
    }
}

/// The id of a new operation: 128 random bits. 503 if the system's generator fails.
pub fn new_id() -> Result<String, Error> {
    random::word().map_err(|error| Error {
        detail: Some(format!("the system's random generator failed: {error}")),
        ..Error::new(
            503,
            "The service broker cannot begin anything right now. Try again later; the operator finds the cause in the \
             broker's log.",
        )
    })
}

/// 422 ConcurrencyError that says what is in progress.
pub fn busy(key: &Key, kind: Kind) -> Error {
    Error::concurrency(format!(
        "{} is being {} right now. Try again when that is done.",
        named(key),
        kind.participle()
    ))
}

/// When something was done, and for whom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stamp {
    pub at: Moment,
    /// The user of X-Broker-API-Originating-Identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Identity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The address of the platform, or that nobody outside has asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

impl Stamp {
    pub fn now(origin: Origin<'_>) -> Arc<Stamp> {
        Arc::new(Stamp {
            at: Moment(SystemTime::now()),
            by: origin.identity.cloned(),
            request_id: origin.request_id.map(str::to_owned),
            from: origin.from.map(str::to_owned),
        })
    }

    fn origin(&self) -> Origin<'_> {
        Origin {
            identity: self.by.as_ref(),
            request_id: self.request_id.as_deref(),
            from: self.from.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of most records the last operation is such a one.
    #[test]
    fn of_what_a_synchronous_operation_has_not_nothing_is_written() {
        let operation = Operation::new(Kind::Bind, State::Succeeded);
        let text = serde_json::to_string(&operation).unwrap();
        assert_eq!(text, r#"{"kind":"bind","state":"succeeded"}"#);
        let read: Operation = serde_json::from_str(&text).unwrap();
        assert_eq!(read, operation);
    }

    #[test]
    fn an_operation_without_end_has_a_deadline_that_nobody_lives_to_see() {
        let Moment(deadline) = deadline_after(Duration::MAX);
        let years = Duration::from_secs(99 * 365 * 24 * 3600);
        assert!(deadline > SystemTime::now() + years, "{deadline:?}");
    }

    #[test]
    fn moments_are_written_in_rfc_3339() {
        let text = "\"2026-02-03T04:05:06.789Z\"";
        let moment: Moment = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&moment).unwrap(), text);
        let late = Moment(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40));
        assert_eq!(
            serde_json::to_string(&late).unwrap(),
            "\"9999-12-31T23:59:59.000Z\""
        );
        for wrong in ["\"\"", "\"yesterday\"", "1"] {
            assert!(serde_json::from_str::<Moment>(wrong).is_err(), "{wrong}");
        }
    }
}
