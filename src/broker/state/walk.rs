//! Going through the whole state, in small steps, beside whatever else is done. With a million instances that takes seconds.

use super::State;
use crate::broker::protocol::instance::record::Kept;
use crate::broker::protocol::operation::{Kind, State as Progress, exists};
use crate::store::{self, Record};

use serde::Deserialize;
use std::borrow::Cow;

/// How many records are read at once: there may be a million of them, and each may be large.
const STEP: usize = 32;

/// As much of a record as is looked at. What is left of one that was deleted has no plan.
#[derive(Deserialize)]
pub struct Member<'a> {
    #[serde(borrow)]
    pub service_id: Cow<'a, str>,
    #[serde(borrow)]
    pub plan_id: Cow<'a, str>,
    /// Where an instance is; of a binding, there is none.
    #[serde(borrow)]
    pub organization_guid: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub space_guid: Option<Cow<'a, str>>,
    #[serde(borrow)]
    update: Option<Update<'a>>,
    /// It was deprovisioned, and is kept.
    pub kept: Option<Kept>,
    #[serde(borrow)]
    pub maintenance_version: Option<Cow<'a, str>>,
    operation: Step,
}

#[derive(Deserialize)]
struct Step {
    kind: Kind,
    state: Progress,
    #[serde(default)]
    unmade: bool,
}

#[derive(Deserialize)]
struct Update<'a> {
    #[serde(borrow)]
    plan_id: Option<Cow<'a, str>>,
}

impl<'a> Member<'a> {
    /// `None` for what cannot be read: it is told when somebody asks for it.
    pub fn read(record: &'a Record) -> Option<Member<'a>> {
        serde_json::from_slice(&record.body).ok()
    }

    pub fn in_progress(&self) -> bool {
        self.operation.state == Progress::InProgress
    }

    /// It has been made.
    pub fn exists(&self) -> bool {
        exists(
            self.operation.kind,
            self.operation.state,
            self.operation.unmade,
        )
    }

    /// Its plan, and the one that it is being updated to.
    pub fn plan_ids(&self) -> impl Iterator<Item = &str> {
        let next = self
            .update
            .as_ref()
            .and_then(|update| update.plan_id.as_deref());
        [Some(&*self.plan_id), next].into_iter().flatten()
    }
}

impl State {
    /// Calls `each` with the id and the record of each instance, and of what is left of deleted ones. False if it was told to
    /// stop.
    pub fn walk(
        &self,
        stop: impl Fn() -> bool,
        mut each: impl FnMut(&str, &Record) -> Result<(), store::Error>,
    ) -> Result<bool, store::Error> {
        let mut after = String::new();
        loop {
            let step = self.store.instances(&after, STEP)?;
            let Some((last, _)) = step.last() else {
                return Ok(true);
            };
            after.clone_from(last);
            for (id, record) in &step {
                if stop() {
                    return Ok(false);
                }
                each(id, record)?;
            }
        }
    }
}
