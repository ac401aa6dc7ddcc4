//! What the broker does by itself when its time has come: it unbinds what has expired, and removes instances that were
//! deprovisioned and kept, where the plan says so; it forgets old tombstones and lines of the audit trail, and counts anew
//! where plans have limits. All of it beside the requests of platforms, by the same endpoints and the same rules, and each plan
//! in a thread of its own: an adapter that hangs holds up no other.

use super::binding;
use super::endpoint::Endpoint;
use super::instance;
use super::plans::Plans;
use super::protocol::binding::record::Binding;
use super::protocol::error::Error;
use super::state::alarm::Alarm;
use super::state::read;
use super::state::walk::Member;
use crate::catalog::Plan;
use crate::log;
use crate::store::{self, Key};

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    /// Whether any instance was kept when it was looked last.
    keeps: bool,
    doing: Arc<Mutex<Doing>>,
}

/// What is known of what is being done.
#[derive(Default)]
struct Doing {
    /// What is not tried before this time.
    later: HashMap<Key, SystemTime>,
    /// The plans that are being worked on.
    busy: HashSet<String>,
}

/// What is due for one plan.
pub struct Work {
    plan_id: String,
    found: Vec<Overdue>,
    doing: Arc<Mutex<Doing>>,
    alarm: Arc<Alarm>,
}

fn lock(doing: &Mutex<Doing>) -> MutexGuard<'_, Doing> {
    doing.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is there whose time is over.
struct Overdue {
    key: Key,
    service_id: String,
    plan_id: String,
}

impl Due {
    /// Does what takes no adapter, and returns what does. `rang` says that something is due.
    pub(super) fn work(&mut self, endpoint: &Endpoint<'_>, rang: bool) -> Vec<Work> {
        let (state, plans) = (endpoint.state, &endpoint.plans);
        let stop = || endpoint.operations.is_stopping();
        state.forget_old_tombstones(SystemTime::now(), stop);
        state.forget_old_audit(SystemTime::now(), stop);
        state.recount_places(stop);
        // Nobody may ask again about what could not be settled. Where the state is shared, that is done with what others left.
        if !state.is_shared() {
            let _ = endpoint.operations.settle(None, Instant::now());
        }
        let is_new = |before: &Arc<Plans>| !Arc::ptr_eq(before, plans);
        let others = state.is_shared() && self.looked.is_none_or(|at| at.elapsed() >= OTHERS);
        if !(rang || others || self.plans.as_ref().is_none_or(is_new)) {
            return Vec::new();
        }
        if let Some(again) = self.again
            && let left = again.saturating_duration_since(Instant::now())
            && !left.is_zero()
        {
            state.alarm().at(SystemTime::now() + left);
            return Vec::new();
        }
        // What is kept was deprovisioned when the rules of before held.
        let before = self.plans.replace(plans.clone());
        self.looked = Some(Instant::now());
        if !(self.keeps || has_rules(plans) || before.is_none_or(|before| has_rules(&before))) {
            return Vec::new();
        }
        let began = Instant::now();
        let now = SystemTime::now();
        let found = self.look(endpoint, now);
        self.again = Some(Instant::now() + began.elapsed() * SHARE);
        // That the state cannot be read is counted and logged where requests meet it.
        let Ok(found) = found else {
            state.alarm().at(now + BUSY);
            return Vec::new();
        };
        let mut plans: BTreeMap<String, Vec<Overdue>> = BTreeMap::new();
        for found in found {
            plans.entry(found.plan_id.clone()).or_default().push(found);
        }
        lock(&self.doing).busy.extend(plans.keys().cloned());
        let work = plans.into_iter().map(|(plan_id, found)| Work {
            plan_id,
            found,
            doing: self.doing.clone(),
            alarm: state.alarm().clone(),
        });
        work.collect()
    }

    /// What is there whose time is over. For what comes later, the alarm is set.
    fn look(
        &mut self,
        endpoint: &Endpoint<'_>,
        now: SystemTime,
    ) -> Result<Vec<Overdue>, store::Error> {
        let (state, plans) = (endpoint.state, &endpoint.plans);
        let (mut found, mut keeps) = (Vec::new(), false);
        lock(&self.doing).later.retain(|_, time| *time > now);
        let doing = self.doing.clone();
        let mut meet = |key: Key, time: SystemTime, service_id: &str, plan_id: &str| {
            let doing = lock(&doing);
            // Its end sets the alarm.
            if doing.busy.contains(plan_id) {
                return;
            }
            let time = doing.later.get(&key).map_or(time, |later| time.max(*later));
            if time > now || found.len() >= MOST {
                return state.alarm().at(time);
            }
            found.push(Overdue {
                key,
                service_id: service_id.to_owned(),
                plan_id: plan_id.to_owned(),
            });
        };
        let stop = || endpoint.operations.is_stopping();
        state.walk(stop, |id, record| {
            let Some(member) = Member::read(record) else {
                return Ok(());
            };
            if let Some(kept) = member.kept {
                keeps = true;
                if !member.in_progress() {
                    let key = Key::instance(id);
                    meet(key, kept.until.0, &member.service_id, &member.plan_id);
                }
                return Ok(());
            }
            let service = plans.catalog().service(&member.service_id);
            if !service.is_some_and(|service| service.plans.iter().any(unbinds)) {
                return Ok(());
            }
            for (binding_id, record) in state.bindings(id)? {
                let Some(binding) = read::<Binding>(&record) else {
                    continue;
                };
                let offer = plans.lookup(&binding.service_id, &binding.plan_id);
                if !binding.operation.in_progress()
                    && offer.is_ok_and(|offer| unbinds(offer.plan))
                    && let Some(time) = binding.expires_at()
                {
                    let key = Key::binding(id, &binding_id);
                    meet(key, time, &binding.service_id, &binding.plan_id);
                }
            }
            Ok(())
        })?;
        self.keeps = keeps;
        Ok(found)
    }
}

impl Work {
    /// Does it, one after the other. `endpoint` is that of the moment, with its catalog.
    pub(super) fn carry_out<'e>(mut self, endpoint: impl Fn() -> Endpoint<'e>) {
        for found in std::mem::take(&mut self.found) {
            let endpoint = endpoint();
            if endpoint.operations.is_stopping() {
                return;
            }
            if let Some(time) = found.remove(&endpoint) {
                lock(&self.doing).later.insert(found.key, time);
            }
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        lock(&self.doing).busy.remove(&self.plan_id);
        // More of this plan may be due.
        self.alarm.at(SystemTime::now());
    }
}

impl Overdue {
    /// Returns when it may be tried again, if it is there still.
    fn remove(&self, endpoint: &Endpoint<'_>) -> Option<SystemTime> {
        let Overdue {
            key,
            service_id,
            plan_id,
        } = self;
        let result = match key {
            Key::Instance(id) => instance::remove_kept(endpoint, id),
            Key::Binding(instance_id, id) => {
                let offer = endpoint.plans.lookup(service_id, plan_id);
                if !offer.is_ok_and(|offer| unbinds(offer.plan)) {
                    return None;
                }
                // Another one may have come in its place.
                let expired = |binding: &Binding| binding.is_expired(SystemTime::now());
                binding::unbind(endpoint, instance_id, id, service_id, plan_id, expired)
            }
        };
        let wait = match &result {
            // Somebody else was faster.
            Err(error) if error.status == 410 => return None,
            Err(error) if error.status == 422 => BUSY,
            // An asynchronous one may still fail.
            _ => FAILED,
        };
        let line = match (key, &result) {
            (Key::Instance(_), Ok(_)) => log::info("kept_removed"),
            (Key::Instance(_), Err(_)) => log::warn("kept_removed"),
            (Key::Binding(..), Ok(_)) => log::info("binding_expired"),
            (Key::Binding(..), Err(_)) => log::warn("binding_expired"),
        };
        let error = result.as_ref().err();
        let time = SystemTime::now() + wait;
        if error.is_some() {
            endpoint.state.alarm().at(time);
        }
        endpoint
            .plans
            .line(line, key, plan_id)
            .with("outcome", result.as_ref().ok().map(|answer| answer.outcome))
            .with("error", error.map(Error::for_log))
            .with("detail", error.and_then(|error| error.detail.as_ref()))
            .send();
        Some(time)
    }
}

fn has_rules(plans: &Plans) -> bool {
    let mut all = plans.catalog().services().iter().flat_map(|it| &it.plans);
    all.any(|plan| unbinds(plan) || plan.rules.retain.is_some())
}

fn unbinds(plan: &Plan) -> bool {
    plan.rules.unbind_expired
}
