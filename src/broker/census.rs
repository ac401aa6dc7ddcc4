//! How many instances and bindings of each plan there are.
//!
//! Stores are not asked to count: all of the state is gone through, in small steps, beside whatever else is done. With a
//! million instances that takes long, so it is done when somebody asks, in a thread of its own, and for a hundredth of
//! the time at most. Whoever asks meanwhile gets the numbers of before.

use super::state::State;
use super::state::walk::Member;
use crate::log;
use crate::store::{self, Record};

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// How long to wait for the numbers. A small state is counted by then.
const PATIENCE: Duration = Duration::from_millis(250);
/// The share of the time in which it is counted: one in so many.
const SHARE: u32 = 100;

/// The numbers of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbers {
    /// By the ids of service offering and plan: instances and bindings.
    pub plans: BTreeMap<(String, String), [u64; 2]>,
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
        stop: impl Fn() -> bool + Send + 'static,
    ) -> Option<Arc<Numbers>> {
        let mut latest = self.latest();
        if !latest.running && latest.again.is_none_or(|again| again <= Instant::now()) {
            let (census, state) = (self.clone(), state.clone());
            let thread = thread::Builder::new()
                .name("census".to_owned())
                .spawn(move || census.take(&state, stop));
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

    fn take(&self, state: &State, stop: impl Fn() -> bool) {
        let began = Instant::now();
        // That the state cannot be read is counted and logged where requests meet it.
        let numbers = count_all(state, stop).ok().flatten();
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
fn count_all(state: &State, stop: impl Fn() -> bool) -> Result<Option<Numbers>, store::Error> {
    let at = SystemTime::now();
    let mut plans: BTreeMap<(String, String), [u64; 2]> = BTreeMap::new();
    let mut count = |record: &Record, which: usize| {
        if let Some(member) = Member::read(record).filter(|member| member.kept.is_none()) {
            let ids = (member.service_id.into(), member.plan_id.into());
            plans.entry(ids).or_default()[which] += 1;
        }
    };
    let whole = state.walk(stop, |id, record| {
        count(record, 0);
        for (_, binding) in state.bindings(id)? {
            count(&binding, 1);
        }
        Ok(())
    })?;
    Ok(whole.then_some(Numbers { plans, at }))
}
