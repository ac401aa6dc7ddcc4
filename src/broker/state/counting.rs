//! Counting the instances of plans that have limits, and holding places for more of them.

use super::State;
use super::places::Claim;
use super::walk::Member;
use crate::broker::protocol::error::Error;
use crate::catalog::Plan;
use crate::store::{self, Key};

use std::collections::HashSet;
use std::time::SystemTime;

impl State {
    /// Holds a place for an instance that is about to be made of this plan, or to move to it. 422 if that goes over a limit.
    pub fn claim_place(
        &self,
        key: &Key,
        plan: &Plan,
        organization: &str,
        space: &str,
    ) -> Result<Claim<'_>, Error> {
        let claim = self.places.claim(key, plan, organization, space);
        claim.map_err(|full| {
            self.alarm.at(SystemTime::now());
            full.error(&plan.name)
        })
    }

    /// Counts the instances of plans that have limits. Goes through all of the state. False if it was told to stop.
    pub fn count_places(
        &self,
        limited: HashSet<String>,
        stop: impl Fn() -> bool,
    ) -> Result<bool, store::Error> {
        if limited.is_empty() {
            self.places.forget();
            return Ok(true);
        }
        match self.places.begin(Some(limited)) {
            Some(number) => self.count(number, stop),
            None => Ok(true),
        }
    }

    /// Counts anew if it is time. Where somebody waits for that, the alarm is set.
    pub fn recount_places(&self, stop: impl Fn() -> bool) {
        match self.places.wait(self.is_shared()) {
            Some(wait) if wait.is_zero() => {
                if let Some(number) = self.places.begin(None) {
                    // That the state cannot be read is counted and logged where requests meet it.
                    let _ = self.count(number, stop);
                }
            }
            Some(wait) => self.alarm.at(SystemTime::now() + wait),
            None => {}
        }
    }

    fn count(&self, number: u64, stop: impl Fn() -> bool) -> Result<bool, store::Error> {
        let whole = self.walk(stop, |id, record| {
            let member = Member::read(record).filter(|member| member.kept.is_none());
            if let Some(member) = member {
                let organization = member.organization_guid.as_deref().unwrap_or_default();
                let space = member.space_guid.as_deref().unwrap_or_default();
                let key = Key::instance(id);
                let plan_ids = member.plan_ids();
                self.places
                    .meet(number, &key, plan_ids, organization, space);
            }
            Ok(())
        });
        self.places.end(number, matches!(whole, Ok(true)));
        whole
    }
}
