//! What an operation is about, how it may end, and what is written then.

use super::answer::Answer;
use super::binding::record::Binding;
use super::error::Error;
use super::instance::record::Instance;
use super::operation::{Kind, Operation, State};
use crate::adapter::{Failure, FailureKind};
use crate::store::AuditLine;

use serde_json::value::RawValue;
use std::time::Duration;

/// A record with an operation in progress on it.
#[derive(Debug, Clone)]
pub enum Subject {
    Instance(Box<Instance>),
    /// A binding, and its instance as it was read together with it.
    Binding(Box<Instance>, Box<Binding>),
}

/// What an operation has come to when it succeeds.
#[derive(Debug, Clone)]
pub enum Success {
    Instance(Instance),
    Binding(Binding),
    Removed,
}

/// What an attempt has come to.
pub type Outcome = Result<Success, AttemptError>;

/// Why an attempt at an operation did not succeed.
#[derive(Debug, Clone)]
pub struct AttemptError {
    /// What the platform is told.
    pub error: Error,
    /// Whether the same call may succeed a little later.
    pub retry: bool,
    /// For how many seconds the adapter wants to be left alone before.
    pub retry_after: u32,
    /// Whether something may have been left behind, or was changed half-way.
    pub leftovers: bool,
}

impl AttemptError {
    /// The adapter's words.
    pub fn of(kind: Kind, failure: Failure) -> AttemptError {
        AttemptError {
            retry: failure.kind == FailureKind::Again,
            retry_after: failure.retry_after.map_or(0, whole_seconds),
            leftovers: matches!(failure.kind, FailureKind::Failed | FailureKind::Again),
            error: match kind {
                Kind::Update => Error::from_update_failure(failure),
                Kind::Deprovision => Error::from_deprovision_failure(failure),
                _ => Error::from_failure(failure),
            },
        }
    }

    /// The broker's own words, before anything was changed.
    pub fn unchanged(error: Error) -> AttemptError {
        AttemptError {
            error,
            retry: false,
            retry_after: 0,
            leftovers: false,
        }
    }

    /// The broker's own words, and nobody knows how far it came.
    pub fn half_way(error: Error) -> AttemptError {
        AttemptError {
            leftovers: true,
            ..AttemptError::unchanged(error)
        }
    }
}

/// Rounded up.
fn whole_seconds(time: Duration) -> u32 {
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

/// What is written when an operation has ended.
#[derive(Debug, Clone)]
pub enum Ending {
    Instance(Instance),
    Binding(Binding),
    /// The record goes, and this is remembered of it.
    Tombstone(Operation),
    /// The record goes.
    Nothing,
}

/// How an operation has ended, and its line in the audit trail, if there is one.
#[derive(Debug, Clone)]
pub struct Ended {
    pub ending: Ending,
    pub line: Option<AuditLine>,
}

impl Subject {
    pub fn operation(&self) -> &Operation {
        match self {
            Subject::Instance(instance) => &instance.operation,
            Subject::Binding(_, binding) => &binding.operation,
        }
    }

    fn operation_mut(&mut self) -> &mut Operation {
        match self {
            Subject::Instance(instance) => &mut instance.operation,
            Subject::Binding(_, binding) => &mut binding.operation,
        }
    }

    /// Counts the next attempt.
    pub fn count_attempt(&mut self) {
        if let Some(underway) = &mut self.operation_mut().underway {
            underway.attempt = underway.attempt.saturating_add(1);
        }
    }

    pub fn service_id(&self) -> &str {
        match self {
            Subject::Instance(instance) => &instance.service_id,
            Subject::Binding(_, binding) => &binding.service_id,
        }
    }

    /// The plans whose adapter can do it, the best first.
    pub fn plan_ids(&self) -> Vec<&str> {
        match self {
            Subject::Instance(instance) => vec![instance.next_plan_id()],
            Subject::Binding(instance, binding) => vec![&*binding.plan_id, &*instance.plan_id],
        }
    }

    /// Whether the adapter left something behind that only it can remove.
    pub fn effects(&self) -> bool {
        match self {
            Subject::Instance(instance) => instance.effects,
            Subject::Binding(_, binding) => binding.effects,
        }
    }

    /// What users gave for it.
    pub fn parameters(&self) -> [Option<&RawValue>; 3] {
        let (instance, binding) = match self {
            Subject::Instance(instance) => (instance, None),
            Subject::Binding(instance, binding) => (instance, Some(binding)),
        };
        let update = instance.update.as_ref();
        [
            instance.parameters.as_deref(),
            update.and_then(|update| update.parameters.as_deref()),
            binding.and_then(|binding| binding.parameters.as_deref()),
        ]
    }

    /// 202. spec: Provisioning, Updating, Binding, Body. What is known of an instance is told, and nothing of a binding.
    pub fn accepted(&self) -> Result<Answer, Error> {
        match self {
            Subject::Instance(instance) if instance.operation.kind != Kind::Deprovision => {
                Answer::accepted(&instance.operation, &instance.answer())
            }
            _ => Answer::accepted(self.operation(), &serde_json::Map::new()),
        }
    }

    /// What is written when the operation has ended. A pure function: the table of all endings.
    pub fn ending(&self, outcome: Outcome) -> Ending {
        let operation = self.operation();
        match outcome {
            Ok(Success::Instance(after)) => Ending::Instance(after),
            Ok(Success::Binding(after)) => Ending::Binding(after),
            Ok(Success::Removed) if operation.asynchronous => {
                Ending::Tombstone(operation.ended(State::Succeeded))
            }
            Ok(Success::Removed) => match operation.before() {
                // Whoever polls for it learns that it has failed. spec: Deprovisioning, Unbinding.
                Some(before) if before.asynchronous && !before.exists() => {
                    Ending::Tombstone(before.clone())
                }
                _ => Ending::Nothing,
            },
            Err(failed) => self.failed(operation, &failed),
        }
    }

    fn failed(&self, operation: &Operation, failed: &AttemptError) -> Ending {
        let creates = matches!(operation.kind, Kind::Provision | Kind::Bind);
        let last = if operation.asynchronous {
            operation.failed(&failed.error)
        } else if creates && !failed.leftovers && operation.before().is_none() {
            return Ending::Nothing;
        } else if failed.leftovers && !operation.unmade {
            // Also of a creation: something may be left behind, and orphan mitigation must reach the adapter.
            operation.failed(&failed.error)
        } else {
            // As if it had not been asked for. What was never made stays so: there is nothing to use.
            match operation.before() {
                Some(before) => before.clone(),
                None => operation.failed(&failed.error),
            }
        };
        match self {
            Subject::Instance(instance) => Ending::Instance(Instance {
                update: None,
                ..instance.during(last)
            }),
            Subject::Binding(_, binding) => Ending::Binding(binding.during(last)),
        }
    }
}

impl Ending {
    /// What a request is answered with that has waited for its operation.
    pub fn answer(&self, kind: Kind) -> Result<Answer, Error> {
        match (kind, self) {
            (Kind::Provision, Ending::Instance(instance)) => {
                Answer::new(201, "created", &instance.answer())
            }
            // It is kept, which is nothing to the platform.
            (Kind::Deprovision, _) => Ok(Answer::empty("deleted")),
            (_, Ending::Instance(instance)) => Answer::new(200, "updated", &instance.answer()),
            (_, Ending::Binding(binding)) => Answer::new(201, "created", &binding.answer),
            _ => Ok(Answer::empty("deleted")),
        }
    }
}

#[cfg(test)]
mod tests;
