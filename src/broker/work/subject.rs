//! What an operation is about, how it may end, and what is written then.

use super::super::Answer;
use super::super::binding::record::Binding;
use super::super::error::Error;
use super::super::instance::record::Instance;
use super::super::operation::{Kind, Operation, State};
use super::super::stored::put;
use super::gone::Tombstone;
use crate::adapter::{Failure, FailureKind};
use crate::store::{Change, Key, Revision};

use serde_json::value::RawValue;

/// A record with an operation in progress on it.
#[derive(Debug, Clone)]
pub enum Subject {
    Instance(Box<Instance>),
    /// A binding, and its instance as it was read together with it.
    Binding(Box<Instance>, Box<Binding>),
}

/// What an operation has come to when it succeeds.
#[derive(Debug, Clone)]
pub enum Done {
    Instance(Instance),
    Binding(Binding),
    Removed,
}

/// Why an operation did not succeed, or not yet.
#[derive(Debug, Clone)]
pub struct Setback {
    /// What the platform is told.
    pub error: Error,
    /// Whether the same call may succeed a little later.
    pub again: bool,
    /// Whether something may have been left behind, or was changed half-way.
    pub residue: bool,
}

impl Setback {
    /// The adapter's words.
    pub fn of(kind: Kind, failure: Failure) -> Setback {
        Setback {
            again: failure.kind == FailureKind::Again,
            residue: matches!(failure.kind, FailureKind::Failed | FailureKind::Again),
            error: match kind {
                Kind::Update => Error::from_update_failure(failure),
                Kind::Deprovision => Error::from_deprovision_failure(failure),
                _ => Error::from_failure(failure),
            },
        }
    }

    /// The broker's own words, before anything was changed.
    pub fn unchanged(error: Error) -> Setback {
        Setback {
            error,
            again: false,
            residue: false,
        }
    }

    /// The broker's own words, and nobody knows how far it came.
    pub fn half_way(error: Error) -> Setback {
        Setback {
            residue: true,
            ..Setback::unchanged(error)
        }
    }
}

/// What is written when an operation has ended.
#[derive(Debug, Clone)]
pub enum Written {
    Instance(Instance),
    Binding(Binding),
    /// The record goes, and this is remembered of it.
    Tombstone(Operation),
    /// The record goes.
    Nothing,
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
    pub fn try_again(&mut self) {
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

    /// The change that writes the record as it is, its operation in progress.
    pub fn put(&self, key: &Key, revision: Revision) -> Result<Change, Error> {
        match self {
            Subject::Instance(instance) => put(key.clone(), revision, instance, true),
            Subject::Binding(_, binding) => put(key.clone(), revision, binding, true),
        }
    }

    /// 202. spec: Provisioning, Updating, Binding, Body. What is known of an instance is told, and nothing of a binding.
    pub fn accepted(&self) -> Result<Answer, Error> {
        match self {
            Subject::Instance(instance) if instance.operation.kind != Kind::Deprovision => {
                instance.operation.accepted(&instance.answer())
            }
            _ => self.operation().accepted(&serde_json::Map::new()),
        }
    }

    /// What is written when the operation has ended. A pure function: the table of all endings.
    pub fn ending(&self, result: Result<Done, Setback>) -> Written {
        let operation = self.operation();
        match result {
            Ok(Done::Instance(after)) => Written::Instance(after),
            Ok(Done::Binding(after)) => Written::Binding(after),
            Ok(Done::Removed) if operation.asynchronous => {
                Written::Tombstone(operation.ended(State::Succeeded))
            }
            Ok(Done::Removed) => match operation.before() {
                // Whoever polls for it learns that it has failed. spec: Deprovisioning, Unbinding.
                Some(before) if before.asynchronous && !before.exists() => {
                    Written::Tombstone(before.clone())
                }
                _ => Written::Nothing,
            },
            Err(setback) => self.setback(operation, &setback),
        }
    }

    fn setback(&self, operation: &Operation, setback: &Setback) -> Written {
        let creates = matches!(operation.kind, Kind::Provision | Kind::Bind);
        let last = if operation.asynchronous {
            operation.failed(&setback.error)
        } else if creates && !setback.residue && operation.before().is_none() {
            return Written::Nothing;
        } else if setback.residue && !operation.unmade {
            // Also of a creation: something may be left behind, and orphan mitigation must reach the adapter.
            operation.failed(&setback.error)
        } else {
            // As if it had not been asked for. What was never made stays so: there is nothing to use.
            match operation.before() {
                Some(before) => before.clone(),
                None => operation.failed(&setback.error),
            }
        };
        match self {
            Subject::Instance(instance) => Written::Instance(Instance {
                update: None,
                ..instance.during(last)
            }),
            Subject::Binding(_, binding) => Written::Binding(binding.during(last)),
        }
    }
}

impl Written {
    /// The changes that write it. With an instance, its bindings go, and what is remembered of them.
    pub fn changes(&self, key: &Key, revision: Revision) -> Result<Vec<Change>, Error> {
        let key = key.clone();
        let bindings = match (&key, self) {
            (Key::Instance(instance), Written::Nothing | Written::Tombstone(_)) => {
                Some(Change::DeleteBindings {
                    instance: instance.clone(),
                })
            }
            _ => None,
        };
        let change = match self {
            Written::Instance(instance) => put(key, revision, instance, false)?,
            Written::Binding(binding) => put(key, revision, binding, false)?,
            Written::Tombstone(operation) => {
                put(key, revision, &Tombstone::now(operation.clone()), true)?
            }
            Written::Nothing => Change::Delete { key, revision },
        };
        Ok([change].into_iter().chain(bindings).collect())
    }
}

#[cfg(test)]
mod tests;
