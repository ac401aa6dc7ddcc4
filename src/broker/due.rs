//! What the broker does by itself when its time has come: it unbinds what has expired, where the plan says so, and forgets
//! old tombstones. All of it beside the requests of platforms, by the same endpoints and the same rules.

use super::binding;
use super::endpoint::Endpoint;
use super::plans::Plans;
use super::protocol::binding::record::Binding;
use super::protocol::caller::Caller;
use super::protocol::error::Error;
use super::state::read;
use super::state::walk::Member;
use crate::catalog::Plan;
use crate::log;
use crate::store::{self, Key};

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How much is done before it is looked again what there is to do.
const MOST: usize = 1000;
/// The share of the time in which it is looked: one in so many. With a million instances it takes seconds.
const SHARE: u32 = 100;
/// How often it is looked what is due that other brokers on the same state have made.
const OTHERS: Duration = Duration::from_secs(600);
/// When what could not be done is tried again: where something else is in progress, and where it has failed.
const BUSY: Duration = Duration::from_secs(60);
const FAILED: Duration = Duration::from_secs(600);

/// What is known from one time to the next.
#[derive(Default)]
pub struct Due {
    /// The catalog when it was looked last.
    plans: Option<Arc<Plans>>,
    looked: Option<Instant>,
    /// Not before this it is looked again.
    again: Option<Instant>,
    /// What is not tried before this time.
    later: HashMap<Key, SystemTime>,
}

/// A binding whose time is over.
struct Expired {
    instance_id: String,
    id: String,
    service_id: String,
    plan_id: String,
}

impl Due {
    /// Does what is due. `rang` says that something is.
    pub(super) fn work(&mut self, endpoint: &Endpoint<'_>, rang: bool) {
        let (state, plans) = (endpoint.state, &endpoint.plans);
        let stop = || endpoint.operations.is_stopping();
        state.forget_old_tombstones(SystemTime::now(), stop);
        let is_new = |before: &Arc<Plans>| !Arc::ptr_eq(before, plans);
        let others = state.is_shared() && self.looked.is_none_or(|at| at.elapsed() >= OTHERS);
        if !(rang || others || self.plans.as_ref().is_none_or(is_new)) {
            return;
        }
        if let Some(again) = self.again
            && let left = again.saturating_duration_since(Instant::now())
            && !left.is_zero()
        {
            return state.alarm().at(SystemTime::now() + left);
        }
        self.plans = Some(plans.clone());
        self.looked = Some(Instant::now());
        let mut services = plans.catalog().services().iter();
        if !services.any(|service| service.plans.iter().any(unbinds)) {
            return;
        }
        let began = Instant::now();
        let now = SystemTime::now();
        self.later.retain(|_, time| *time > now);
        let found = self.look(endpoint, now);
        self.again = Some(Instant::now() + began.elapsed() * SHARE);
        // That the state cannot be read is counted and logged where requests meet it.
        let Ok(found) = found else {
            return state.alarm().at(now + BUSY);
        };
        for expired in found {
            if stop() {
                return;
            }
            self.unbind(endpoint, expired);
        }
    }

    /// The bindings whose time is over. For those whose time comes later, the alarm is set.
    fn look(&self, endpoint: &Endpoint<'_>, now: SystemTime) -> Result<Vec<Expired>, store::Error> {
        let (state, plans) = (endpoint.state, &endpoint.plans);
        let mut found = Vec::new();
        let stop = || endpoint.operations.is_stopping();
        state.walk(stop, |instance_id, record| {
            let service =
                Member::read(record).and_then(|member| plans.catalog().service(&member.service_id));
            if !service.is_some_and(|service| service.plans.iter().any(unbinds)) {
                return Ok(());
            }
            for (id, record) in state.bindings(instance_id)? {
                let Some(binding) = read::<Binding>(&record) else {
                    continue;
                };
                let offer = plans.lookup(&binding.service_id, &binding.plan_id);
                let is_idle = !binding.operation.in_progress();
                let Some(time) = binding
                    .expires_at()
                    .filter(|_| is_idle && offer.is_ok_and(|offer| unbinds(offer.plan)))
                else {
                    continue;
                };
                let later = self.later.get(&Key::binding(instance_id, &id));
                let time = later.map_or(time, |later| time.max(*later));
                if time > now || found.len() >= MOST {
                    state.alarm().at(time);
                    continue;
                }
                found.push(Expired {
                    instance_id: instance_id.to_owned(),
                    id,
                    service_id: binding.service_id,
                    plan_id: binding.plan_id,
                });
            }
            Ok(())
        })?;
        Ok(found)
    }

    fn unbind(&mut self, endpoint: &Endpoint<'_>, expired: Expired) {
        let Expired {
            instance_id,
            id,
            service_id,
            plan_id,
        } = expired;
        let endpoint = Endpoint {
            plans: endpoint.plans.clone(),
            // Its time begins now.
            caller: Caller::itself(),
            ..*endpoint
        };
        let result = binding::unbind(&endpoint, &instance_id, &id, &service_id, &plan_id);
        let key = Key::binding(&instance_id, &id);
        let (line, wait) = match &result {
            // Somebody else was faster.
            Err(error) if error.status == 410 => return,
            Err(error) if error.status == 422 => (log::warn("binding_expired"), BUSY),
            Err(_) => (log::warn("binding_expired"), FAILED),
            // An asynchronous one may still fail.
            Ok(_) => (log::info("binding_expired"), FAILED),
        };
        let error = result.as_ref().err();
        let time = SystemTime::now() + wait;
        self.later.insert(key.clone(), time);
        if error.is_some() {
            endpoint.state.alarm().at(time);
        }
        endpoint
            .plans
            .line(line, &key, &plan_id)
            .with("outcome", result.as_ref().ok().map(|answer| answer.outcome))
            .with("error", error.map(Error::for_log))
            .with("detail", error.and_then(|error| error.detail.as_ref()))
            .send();
    }
}

fn unbinds(plan: &Plan) -> bool {
    plan.rules.unbind_expired
}
