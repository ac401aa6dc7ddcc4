//! The audit trail: who had what done to an instance or binding, and how it ended. Never a value of a parameter, nor a
//! credential.

use super::binding::record::Binding;
use super::instance::record::Instance;
use super::operation::{Kind, Moment, Operation, Stamp};
use super::subject::{self, Subject, Success};
use crate::adapter::Identity;
use crate::store::{AuditLine, Key};

use serde::Serialize;
use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

/// How far what was done has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// An asynchronous operation: another line tells how it ended.
    Accepted,
    Succeeded,
    Failed,
    /// A creation whose request was cut off: what it may have made was removed.
    TakenBack,
    /// An asynchronous creation that a deletion has stopped.
    CutOff,
    /// A deprovision that has left the instance hidden for a while.
    Kept,
}

/// A line of the trail.
#[derive(Debug, Serialize)]
pub struct Entry<'a> {
    pub operation: &'a str,
    pub outcome: Outcome,
    instance_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    binding_id: Option<&'a str>,
    service_id: &'a str,
    plan_id: &'a str,
    organization_guid: &'a str,
    space_guid: &'a str,
    /// When it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    requested: Option<Moment>,
    /// The user of X-Broker-API-Originating-Identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'a Identity>,
    /// The address of the platform; `broker` and `operator` for what no platform has asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    /// Of an asynchronous operation: the same in all of its lines.
    #[serde(skip_serializing_if = "str::is_empty")]
    operation_id: &'a str,
    /// Why it has failed, in the words that users read.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<Cow<'a, str>>,
}

impl<'a> Entry<'a> {
    /// Something that was done to an instance.
    pub fn of_instance(
        key: &'a Key,
        instance: &'a Instance,
        operation: &'a str,
        outcome: Outcome,
        stamp: Option<&'a Stamp>,
    ) -> Entry<'a> {
        let (instance_id, binding_id) = match key {
            Key::Instance(id) => (id, None),
            Key::Binding(instance_id, id) => (instance_id, Some(id.as_str())),
        };
        Entry {
            operation,
            outcome,
            instance_id,
            binding_id,
            service_id: &instance.service_id,
            plan_id: &instance.plan_id,
            organization_guid: &instance.organization_guid,
            space_guid: &instance.space_guid,
            requested: stamp.map(|stamp| stamp.at),
            by: stamp.and_then(|stamp| stamp.by.as_ref()),
            from: stamp.and_then(|stamp| stamp.from.as_deref()),
            request_id: stamp.and_then(|stamp| stamp.request_id.as_deref()),
            operation_id: "",
            description: None,
        }
    }

    fn about(key: &'a Key, subject: &'a Subject, outcome: Outcome) -> Entry<'a> {
        let operation = subject.operation();
        let (Subject::Instance(instance) | Subject::Binding(instance, _)) = subject;
        let stamp = operation.requested().map(|stamp| &**stamp);
        let plan_id = match subject {
            Subject::Instance(instance) => instance.next_plan_id(),
            Subject::Binding(_, binding) => &binding.plan_id,
        };
        Entry {
            plan_id,
            operation_id: if operation.asynchronous {
                &operation.id
            } else {
                ""
            },
            ..Entry::of_instance(key, instance, operation.kind.name(), outcome, stamp)
        }
    }

    /// An asynchronous operation has begun.
    pub fn accepted(key: &'a Key, subject: &'a Subject) -> Entry<'a> {
        Entry::about(key, subject, Outcome::Accepted)
    }

    /// An operation has ended with the last attempt.
    pub fn ended(key: &'a Key, subject: &'a Subject, outcome: &'a subject::Outcome) -> Entry<'a> {
        let creates = matches!(subject.operation().kind, Kind::Provision | Kind::Bind);
        let (end, description) = match outcome {
            Ok(Success::Removed) if creates => (Outcome::TakenBack, None),
            Ok(Success::Instance(instance)) if instance.is_hidden() => (Outcome::Kept, None),
            Ok(_) => (Outcome::Succeeded, None),
            Err(failed) => (Outcome::Failed, Some(failed.error.for_log())),
        };
        Entry {
            description: description.map(Cow::Borrowed),
            ..Entry::about(key, subject, end)
        }
    }

    /// The asynchronous creation that a removal cuts off, if it does.
    pub fn cut_off(key: &'a Key, subject: &'a Subject) -> Option<Entry<'a>> {
        let before: &Operation = subject.operation().before()?;
        before.was_cut_off().then(|| Entry {
            operation: before.kind.name(),
            operation_id: &before.id,
            ..Entry::about(key, subject, Outcome::CutOff)
        })
    }

    /// A binding was removed because its instance is being deprovisioned.
    pub fn unbound(key: &'a Key, instance: &'a Instance, binding: &'a Binding) -> Entry<'a> {
        let stamp = instance.operation.requested().map(|stamp| &**stamp);
        let operation = Kind::Unbind.name();
        Entry {
            plan_id: &binding.plan_id,
            ..Entry::of_instance(key, instance, operation, Outcome::Succeeded, stamp)
        }
    }

    /// As it is kept. `None` for what is no JSON, which there is not.
    pub fn line(&self, at: SystemTime) -> Option<AuditLine> {
        #[derive(Serialize)]
        struct Line<'a, 'b> {
            at: Moment,
            #[serde(flatten)]
            entry: &'b Entry<'a>,
        }
        let line = Line {
            at: Moment(at),
            entry: self,
        };
        Some(AuditLine {
            at: micros(at),
            text: serde_json::to_vec(&line).ok()?,
        })
    }
}

/// Microseconds since 1970.
pub fn micros(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
