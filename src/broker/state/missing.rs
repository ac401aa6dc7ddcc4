//! Which service instances are of a plan that is not in the catalog.

use super::State;
use super::walk::Member;
use crate::store;

use std::collections::BTreeMap;

/// Service instances whose plan is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub service_id: String,
    pub plan_id: String,
    /// How many service instances have this plan, or are being updated to it.
    pub instances: u64,
}

impl State {
    /// The plans that service instances have and that are not `known`. Goes through all of the state. `None` if it was told to
    /// stop.
    pub fn missing_plans(
        &self,
        known: impl Fn(&str, &str) -> bool,
        stop: impl Fn() -> bool,
    ) -> Result<Option<Vec<Missing>>, store::Error> {
        let mut missing = BTreeMap::new();
        let whole = self.walk(stop, |_, record| {
            if let Some(member) = Member::read(record) {
                for plan_id in member.plan_ids() {
                    if !known(&member.service_id, plan_id) {
                        let ids = (member.service_id.to_string(), plan_id.to_owned());
                        *missing.entry(ids).or_insert(0) += 1;
                    }
                }
            }
            Ok(())
        })?;
        let missing = missing
            .into_iter()
            .map(|((service_id, plan_id), instances)| Missing {
                service_id,
                plan_id,
                instances,
            });
        Ok(whole.then(|| missing.collect()))
    }
}
