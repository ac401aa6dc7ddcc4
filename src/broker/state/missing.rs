//! Which service instances are of a plan that is not in the catalog.

use super::State;
use crate::store;

use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// How many records are read at once: there may be a million of them, and each may be large.
const STEP: usize = 32;

/// Service instances whose plan is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub service_id: String,
    pub plan_id: String,
    /// How many service instances have this plan, or are being updated to it.
    pub instances: u64,
}

/// As much of a record of an instance as is looked at. What is left of one that was deleted has no plan.
#[derive(Deserialize)]
struct Member<'a> {
    #[serde(borrow)]
    service_id: Cow<'a, str>,
    #[serde(borrow)]
    plan_id: Cow<'a, str>,
    #[serde(borrow)]
    update: Option<Update<'a>>,
}

#[derive(Deserialize)]
struct Update<'a> {
    #[serde(borrow)]
    plan_id: Option<Cow<'a, str>>,
}

impl State {
    /// The plans that service instances have and that are not `known`. Goes through all of the state in small steps, beside
    /// whatever else is done; with a million instances it takes seconds. `None` if it was told to stop.
    pub fn missing_plans(
        &self,
        known: impl Fn(&str, &str) -> bool,
        stop: impl Fn() -> bool,
    ) -> Result<Option<Vec<Missing>>, store::Error> {
        let mut missing = BTreeMap::new();
        let mut after = String::new();
        loop {
            if stop() {
                return Ok(None);
            }
            let step = self.store.instances(&after, STEP)?;
            let Some((last, _)) = step.last() else {
                break;
            };
            after.clone_from(last);
            for (_, record) in &step {
                // What cannot be read is told when somebody asks for it.
                let Ok(member) = serde_json::from_slice::<Member<'_>>(&record.body) else {
                    continue;
                };
                let next = member.update.and_then(|update| update.plan_id);
                for plan_id in [Some(member.plan_id), next].into_iter().flatten() {
                    if !known(&member.service_id, &plan_id) {
                        let ids = (member.service_id.to_string(), plan_id.into_owned());
                        *missing.entry(ids).or_insert(0) += 1;
                    }
                }
            }
        }
        let missing = missing
            .into_iter()
            .map(|((service_id, plan_id), instances)| Missing {
                service_id,
                plan_id,
                instances,
            });
        Ok(Some(missing.collect()))
    }
}
