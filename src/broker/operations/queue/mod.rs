//! What is worked on, and when: queues and permits of plans, claims on records, threads, retries that come later, and the
//! stop.
//!
//! What is to be done stands in the records; here are only the keys of those that are being worked on or wait for it.
//! Everything here is lost in a crash, and built again from the records when the broker starts.

mod claim;
mod plan_queue;
mod running;
mod shared;
mod threads;

use crate::adapter::{Cancel, Reason};
use crate::store::Key;
pub use claim::{Claim, Permit};
pub use plan_queue::Queued;
pub use running::Progress;
pub use shared::Worker;

use running::Running;
use shared::{Claimed, Shared, State, Stop};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

/// How many asynchronous operations of a plan are at work at once if the adapter does not say: each has a thread.
const DEFAULT_CONCURRENCY: usize = 32;

pub struct Queue {
    shared: Arc<Shared>,
}

/// What is in progress, in numbers.
#[derive(Debug, Default, PartialEq)]
pub struct Overview {
    /// Operations that have not ended, whether they are worked on, queued, or wait for their next attempt.
    pub in_progress: usize,
    /// When the oldest of them was asked for.
    pub oldest: Option<SystemTime>,
    /// How many wait for their turn, by the ids of plans.
    pub queued: BTreeMap<String, usize>,
}

/// Why there is no permit.
#[derive(Debug, PartialEq)]
pub enum NoPermit {
    /// Others took all of the time.
    Timeout,
    Cancelled,
}

impl Queue {
    /// `worker` works on what is queued. Nothing is begun once it is gone.
    pub fn new(worker: Weak<dyn Worker>) -> Queue {
        Queue {
            shared: Arc::new(Shared::new(worker)),
        }
    }

    /// Queues an operation of a plan.
    pub fn submit(&self, plan: &str, concurrency: Option<usize>, queued: Queued) {
        let mut state = self.shared.lock();
        let limit = concurrency.unwrap_or(DEFAULT_CONCURRENCY);
        state.plans.push(plan, limit, queued);
        self.shared.start_threads(&mut state, plan);
    }

    /// Changes how many calls for a plan there may be at once.
    pub fn set_concurrency(&self, plan: &str, concurrency: Option<usize>) {
        let mut state = self.shared.lock();
        let limit = concurrency.unwrap_or(DEFAULT_CONCURRENCY);
        state.plans.set_limit(plan, limit);
        self.shared.pass_on(&mut state, plan);
    }

    /// Sees to it that what is queued is worked on, as when a thread could not be had before.
    pub fn wake(&self) {
        let mut state = self.shared.lock();
        for plan in state.plans.queued() {
            self.shared.start_threads(&mut state, &plan);
        }
        self.shared.start_timer(&mut state);
    }

    /// What is in progress, in numbers.
    pub fn overview(&self) -> Overview {
        let state = self.shared.lock();
        let operations = in_progress(&state);
        let queued = state.plans.each();
        Overview {
            in_progress: operations.len(),
            oldest: operations.values().map(|(since, _)| *since).min(),
            queued: queued
                .map(|(plan, queue)| (plan.to_owned(), queue.len()))
                .collect(),
        }
    }

    /// The records of the oldest operations in progress.
    pub fn in_progress(&self, most: usize) -> Vec<Key> {
        let state = self.shared.lock();
        let mut operations: Vec<_> = in_progress(&state).into_values().collect();
        operations.sort_unstable();
        let oldest = operations.into_iter().take(most);
        oldest.map(|(_, key)| key.clone()).collect()
    }

    /// What is being done for an operation right now.
    pub fn progress(&self, key: &Key, operation: &str) -> String {
        let running = {
            let state = self.shared.lock();
            state.claims.get(key).map(|claimed| claimed.running.clone())
        };
        match running {
            Some(running) if *running.operation == *operation => running.progress().text(),
            Some(_) => "It is waiting until what it cuts off has come to its end.".to_owned(),
            None => Progress::Queued.text(),
        }
    }

    /// Has the work for an operation end early, since its record is another one's by now.
    pub fn supersede(&self, key: &Key, operation: &str) {
        let mut state = self.shared.lock();
        let Some(claimed) = state.claims.get(key) else {
            return;
        };
        if *claimed.running.operation != *operation {
            return;
        }
        if !claimed.active {
            state.claims.remove(key);
            return;
        }
        let running = claimed.running.clone();
        drop(state);
        running.cancel.cancel(Reason::Superseded);
        self.shared.changed.notify_all();
    }

    /// Begins nothing from now on.
    pub fn finish(&self) {
        let mut state = self.shared.lock();
        if state.stop == Stop::No {
            state.stop = Stop::Finishing;
        }
        drop(state);
        self.shared.timer.notify_all();
    }

    /// Waits until nothing is worked on any more, up to `finish`; then cancels what is, and waits for that up to `end`.
    /// Returns whether everything has come back. What has not come to its end stays in progress in its record.
    pub fn stop(&self, finish: Instant, end: Instant) -> bool {
        self.finish();
        if self.shared.wait_for_idle(finish) {
            return true;
        }
        let active: Vec<_> = {
            let mut state = self.shared.lock();
            state.stop = Stop::Cancelling;
            let active = state.claims.values().filter(|claimed| claimed.active);
            active.map(|claimed| claimed.running.clone()).collect()
        };
        for running in active {
            running.cancel.cancel(Reason::Stopping);
        }
        self.shared.changed.notify_all();
        self.shared.wait_for_idle(end)
    }

    /// Whether nothing is begun any more.
    pub fn is_stopping(&self) -> bool {
        self.shared.lock().stop != Stop::No
    }

    /// Begins to work on an operation, once nobody works on its record any more, as one that was superseded may. `None`
    /// if that takes too long.
    pub fn claim(
        &self,
        key: &Key,
        operation: &str,
        since: SystemTime,
        until: Instant,
    ) -> Option<Claim<'_>> {
        let mut state = self.shared.lock();
        while state.claims.get(key).is_some_and(|claimed| claimed.active) {
            let left = until.checked_duration_since(Instant::now())?;
            state = self.shared.wait(state, left);
        }
        let running = match state.claims.remove(key) {
            Some(claimed) if *claimed.running.operation == *operation => claimed.running,
            _ => Arc::new(Running::new(operation, since)),
        };
        if state.stop == Stop::Cancelling {
            running.cancel.cancel(Reason::Stopping);
        }
        let claimed = Claimed {
            running: running.clone(),
            active: true,
        };
        state.claims.insert(key.clone(), claimed);
        Some(Claim {
            shared: &self.shared,
            key: key.clone(),
            running,
            retries: false,
        })
    }

    /// Waits until nobody works on a record.
    pub fn wait_until_free(&self, key: &Key) {
        let mut state = self.shared.lock();
        while state.claims.get(key).is_some_and(|claimed| claimed.active) {
            state = self.shared.wait(state, Duration::from_secs(60));
        }
    }

    /// Waits for a permit of a plan.
    pub fn permit<'a>(
        &'a self,
        plan: &'a str,
        concurrency: Option<usize>,
        until: Instant,
        cancel: &Cancel,
    ) -> Result<Permit<'a>, NoPermit> {
        let Some(limit) = concurrency else {
            return match cancel.is_cancelled() {
                true => Err(NoPermit::Cancelled),
                false => Ok(Permit(None)),
            };
        };
        let mut state = self.shared.lock();
        let ticket = state.ticket;
        state.ticket += 1;
        state.plans.wait(plan, limit, ticket);
        let refused = loop {
            // Those that are to come back are told one by one: none of them makes room for the next.
            if cancel.is_cancelled() || state.stop == Stop::Cancelling {
                break NoPermit::Cancelled;
            }
            if state.plans.acquire(plan, ticket) {
                // The next one may go, too.
                self.shared.changed.notify_all();
                return Ok(Permit(Some((&self.shared, plan))));
            }
            match until.checked_duration_since(Instant::now()) {
                Some(left) => state = self.shared.wait(state, left),
                None => break NoPermit::Timeout,
            }
        };
        state.plans.give_up(plan, ticket);
        self.shared.pass_on(&mut state, plan);
        Err(refused)
    }

    /// Queues an operation of a plan again after this delay.
    pub fn retry_after(&self, plan: &str, queued: &Queued, delay: Duration) {
        self.shared.retry_after(plan, queued, delay);
    }
}

/// By the ids of all operations in progress: when each was asked for, and its record.
fn in_progress(state: &State) -> HashMap<&str, (SystemTime, &Key)> {
    // One that comes later, or is queued once more, has a claim, too.
    let claimed = state.claims.iter().map(|(key, claimed)| {
        let running = &claimed.running;
        (&*running.operation, (running.since, key))
    });
    let later = state.delayed.values().map(|delayed| &delayed.queued);
    let queued = state.plans.each().flat_map(|(_, queue)| queue);
    let waiting = later.chain(queued);
    let waiting = waiting.map(|queued| (&*queued.operation, (queued.since, &queued.key)));
    claimed.chain(waiting).collect()
}

/// Takes no lock: whoever drops the last reference to it may hold the lock.
impl Drop for Queue {
    fn drop(&mut self) {
        self.shared.abandoned.store(true, Ordering::SeqCst);
        self.shared.timer.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::shared::Delayed;
    use super::*;

    use std::thread;

    struct Nobody;

    impl Worker for Nobody {
        fn work(&self, _: &str, _: &Queued) {}
    }

    /// Longer than anything takes that is not broken.
    const PATIENCE: Duration = Duration::from_secs(20);

    #[track_caller]
    fn wait_until(mut done: impl FnMut() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done() {
            assert!(Instant::now() < end);
            thread::yield_now();
        }
    }

    fn queued(id: &str) -> Queued {
        Queued {
            key: Key::instance(id),
            operation: id.into(),
            since: SystemTime::UNIX_EPOCH,
            retried: false,
        }
    }

    #[test]
    fn retries_come_in_the_order_of_their_time() {
        let queue = Queue::new(Weak::<Nobody>::new());
        let before = Instant::now();
        for (id, minutes) in [("c", 30), ("a", 10), ("d", 40), ("b", 20)] {
            queue.retry_after("plan", &queued(id), Duration::from_secs(60 * minutes));
        }
        let mut state = queue.shared.lock();
        let mut taken = Vec::new();
        while let Some(((due, _), later)) = state.delayed.pop_first() {
            assert!(later.queued.retried && due >= before + Duration::from_secs(600));
            taken.push(later.queued.operation);
        }
        assert_eq!(taken, ["a", "b", "c", "d"].map(Box::from));
    }

    /// As when there was no thread to be had for it.
    #[test]
    fn what_was_left_lying_is_begun_when_it_is_woken() {
        let worker = Arc::new(Nobody);
        let worker: Arc<dyn Worker> = worker;
        let queue = Queue::new(Arc::downgrade(&worker));
        let delayed = Delayed {
            plan: "plan".into(),
            queued: queued("later"),
        };
        {
            let mut state = queue.shared.lock();
            state.plans.push("plan", 1, queued("now"));
            let due = Instant::now() + Duration::from_secs(3600);
            state.delayed.insert((due, 0), delayed);
        }
        queue.wake();
        let state = queue.shared.lock();
        assert!(state.plans.queued().is_empty() && state.timed);
    }

    #[test]
    fn who_gives_up_takes_nobody_elses_place() {
        let (queue, cancel) = (Queue::new(Weak::<Nobody>::new()), Cancel::new());
        let permit = |until| queue.permit("plan", Some(1), until, &cancel);
        let first = permit(Instant::now()).unwrap();
        thread::scope(|scope| {
            let second = scope.spawn(|| permit(Instant::now() + PATIENCE).is_ok());
            wait_until(|| queue.shared.lock().ticket == 2);
            assert_eq!(permit(Instant::now()).err(), Some(NoPermit::Timeout));
            drop(first);
            assert!(second.join().unwrap());
        });
    }

    #[test]
    fn there_is_a_timer_while_a_retry_is_to_come_and_only_one() {
        let queue = Queue::new(Weak::<Nobody>::new());
        let timers = || Arc::strong_count(&queue.shared) - 1;
        // A timer that was begun under the lock cannot end under it.
        let mut state = queue.shared.lock();
        queue.shared.start_timer(&mut state);
        assert_eq!(timers(), 0);
        drop(state);
        for id in ["a", "b"] {
            queue.retry_after("plan", &queued(id), Duration::from_secs(3600));
            assert_eq!(timers(), 1);
        }
        queue.finish();
        wait_until(|| timers() == 0);
        let mut state = queue.shared.lock();
        queue.shared.start_timer(&mut state);
        assert_eq!(timers(), 0);
    }

    #[test]
    fn the_timer_ends_with_its_queue() {
        let queue = Queue::new(Weak::<Nobody>::new());
        queue.retry_after("plan", &queued("far"), Duration::from_secs(3600));
        queue.retry_after("plan", &queued("now"), Duration::ZERO);
        // Once it has queued the one, it waits for the other.
        wait_until(|| queue.shared.lock().delayed.len() == 1);
        let shared = Arc::downgrade(&queue.shared);
        drop(queue);
        wait_until(|| shared.strong_count() == 0);
    }
}
