//! How many instances and bindings of each plan there are.
//!
//! Stores are not asked to count: all of the state is gone through, in small steps, beside whatever else is done. With a
//! million instances that takes long, so it is done when somebody asks, in a thread of its own, and for a hundredth of
//! the time at most. Whoever asks meanwhile gets the numbers of before.

use super::plans::Plans;
use super::state::State;
use super::state::walk::Member;
use crate::log;
use crate::store;

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// How long to wait for the numbers. A small state is counted by then.
const PATIENCE: Duration = Duration::from_millis(250);
/// The share of the time in which it is counted: one in so many.
const SHARE: u32 = 100;

/// What is counted of a plan, each in its place.
pub type Counts = [u64; 4];
pub const INSTANCES: usize = 0;
pub const BINDINGS: usize = 1;
/// Of the instances, those that are behind the maintenance information of their plan.
pub const BEHIND: usize = 2;
/// Instances that were deprovisioned, and are kept.
pub const KEPT: usize = 3;

/// The numbers of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbers {
    /// By the ids of service offering and plan.
    pub plans: BTreeMap<(String, String), Counts>,
    /// When it was counted.
    pub at: SystemTime,
}

#[derive(Default)]
pub struct Census {
    latest: Mutex<Latest>,
    counted: Condvar,
}

#[derive(Default)]
struct Latest {
    numbers: Option<Arc<Numbers>>,
    running: bool,
    /// Not before this it is counted again.
    again: Option<Instant>,
}

impl Census {
    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The numbers, as new as they can be had soon. `None` if it was never counted to the end. `stop` says whether to give
    /// up, as when the broker is being stopped.
    pub fn numbers(
        self: &Arc<Self>,
        state: &Arc<State>,
        plans: &Arc<Plans>,
        stop: impl Fn() -> bool + Send + 'static,
    ) -> Option<Arc<Numbers>> {
        let mut latest = self.latest();
        if !latest.running && latest.again.is_none_or(|again| again <= Instant::now()) {
            let (census, state, plans) = (self.clone(), state.clone(), plans.clone());
            let thread = thread::Builder::new()
                .name("census".to_owned())
                .spawn(move || census.take(&state, &plans, stop));
            match thread {
                Ok(_) => latest.running = true,
                Err(error) => log::error("no_thread")
                    .with("error", &error.to_string())
                    .send(),
            }
        }
        let running = |latest: &mut Latest| latest.running;
        let waited = self.counted.wait_timeout_while(latest, PATIENCE, running);
        let latest = waited.unwrap_or_else(PoisonError::into_inner).0;
        latest.numbers.clone()
    }

    fn take(&self, state: &State, plans: &Plans, stop: impl Fn() -> bool) {
        let began = Instant::now();
        // That the state cannot be read is counted and logged where requests meet it.
        let numbers = count_all(state, plans, stop).ok().flatten();
        let mut latest = self.latest();
        latest.running = false;
        latest.again = Some(Instant::now() + began.elapsed() * SHARE);
        if let Some(numbers) = numbers {
            latest.numbers = Some(Arc::new(numbers));
        }
        drop(latest);
        self.counted.notify_all();
    }
}

/// `None` if it was told to stop.
fn count_all(
    state: &State,
    catalog: &Plans,
    stop: impl Fn() -> bool,
) -> Result<Option<Numbers>, store::Error> {
    let at = SystemTime::now();
    let mut plans: BTreeMap<(String, String), Counts> = BTreeMap::new();
    let mut count = |member: &Member<'_>, which: usize| {
        let ids = (member.service_id.to_string(), member.plan_id.to_string());
        plans.entry(ids).or_default()[which] += 1;
    };
    let is_behind = |member: &Member<'_>| {
        let offer = catalog.lookup(&member.service_id, &member.plan_id);
        let version = member.maintenance_version.as_deref();
        member.exists() && offer.is_ok_and(|offer| offer.plan.ahead_of(version).is_some())
    };
    let whole = state.walk(stop, |id, record| {
        if let Some(member) = Member::read(record) {
            if member.kept.is_some() {
                count(&member, KEPT);
            } else {
                count(&member, INSTANCES);
                if is_behind(&member) {
                    count(&member, BEHIND);
                }
            }
        }
        for (_, binding) in state.bindings(id)? {
            if let Some(member) = Member::read(&binding) {
                count(&member, BINDINGS);
            }
        }
        Ok(())
    })?;
    Ok(whole.then_some(Numbers { plans, at }))
}
