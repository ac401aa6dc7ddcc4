//! Who works on what, and when: turns of plans, threads for asynchronous operations, pauses, and the stop.
//!
//! What is to be done stands in the records; here are only the keys of those that are being worked on or wait for it.
//! Everything here is lost in a crash, and built again from the records by [`Broker::recover`].

mod carry;
pub mod gone;
mod job;
mod lanes;
mod pause;
pub mod subject;
mod take_up;
mod threads;

use super::Broker;
use crate::adapter::{Cancel, Reason};
use crate::store::Key;
use job::{Entered, Job, Phase, Turn};
pub(super) use lanes::Entry;
use lanes::Lanes;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How many asynchronous operations of a plan are at work at once if the adapter does not say: each has a thread.
const DEFAULT_CONCURRENCY: usize = 32;

/// The longest text that is kept of what an adapter says about its progress, in bytes; the rest is cut off.
const MAX_PROGRESS: usize = 4096;

/// The workshop of a broker.
pub(super) struct Work {
    shared: Arc<Shared>,
    broker: Weak<Broker>,
}

struct Shared {
    state: Mutex<State>,
    /// Something that somebody may wait for has happened: a turn or a key is free, or the broker stops.
    changed: Condvar,
    /// There is something earlier for the timer, or nothing any more.
    timer: Condvar,
    /// The broker is no more.
    abandoned: AtomicBool,
}

#[derive(Default)]
struct State {
    lanes: Lanes,
    known: HashMap<Key, Known>,
    /// What pauses, by the time at which it is due, and then by number.
    later: BTreeMap<(Instant, u64), Later>,
    /// Whether the timer has a thread.
    timed: bool,
    ticket: u64,
    stop: Stop,
}

#[derive(Default, Clone, Copy, PartialEq, PartialOrd)]
enum Stop {
    #[default]
    No,
    /// Nothing new is taken up.
    Finishing,
    /// What is under way is to come back early.
    Cancelling,
}

/// An operation that is being worked on, or pauses.
struct Known {
    job: Arc<Job>,
    /// Whether an adapter may be at it; others wait for the key then.
    active: bool,
}

/// An operation that pauses.
struct Later {
    plan: Box<str>,
    entry: Entry,
}

/// Why there is no turn.
#[derive(Debug, PartialEq)]
enum NoTurn {
    /// Others took all of the time.
    Timeout,
    Cancelled,
}

impl Work {
    /// `broker` is alive whenever something is asked of this.
    pub fn new(broker: Weak<Broker>) -> Work {
        Work {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                changed: Condvar::new(),
                timer: Condvar::new(),
                abandoned: AtomicBool::new(false),
            }),
            broker,
        }
    }

    /// Queues an operation of a plan.
    pub fn submit(&self, plan: &str, concurrency: Option<usize>, entry: Entry) {
        let mut state = self.shared.lock();
        let limit = concurrency.unwrap_or(DEFAULT_CONCURRENCY);
        state.lanes.push(plan, limit, entry);
        self.hire(&mut state, plan);
    }

    /// Changes how many calls for a plan there may be at once.
    pub fn set_concurrency(&self, plan: &str, concurrency: Option<usize>) {
        let mut state = self.shared.lock();
        let limit = concurrency.unwrap_or(DEFAULT_CONCURRENCY);
        state.lanes.set_limit(plan, limit);
        self.pass_on(&mut state, plan);
    }

    /// Sees to it that what is queued is worked on, as when a thread could not be had before.
    pub fn nudge(&self) {
        let mut state = self.shared.lock();
        for plan in state.lanes.queued() {
            self.hire(&mut state, &plan);
        }
        self.shared.tend(&mut state, &self.broker);
    }

    /// What is being done for an operation right now.
    pub fn progress(&self, key: &Key, operation: &str) -> String {
        let job = {
            let state = self.shared.lock();
            state.known.get(key).map(|known| known.job.clone())
        };
        match job {
            Some(job) if *job.operation == *operation => job.phase().text(),
            Some(_) => "It is waiting until what it cuts off has come to its end.".to_owned(),
            None => Phase::Waiting.text(),
        }
    }

    /// Has the work for an operation end early, since its record is another one's by now.
    pub fn supersede(&self, key: &Key, operation: &str) {
        let mut state = self.shared.lock();
        let Some(known) = state.known.get(key) else {
            return;
        };
        if *known.job.operation != *operation {
            return;
        }
        if !known.active {
            state.known.remove(key);
            return;
        }
        let job = known.job.clone();
        drop(state);
        job.cancel.cancel(Reason::Superseded);
        self.shared.changed.notify_all();
    }

    /// Takes nothing up from now on.
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
        let jobs: Vec<_> = {
            let mut state = self.shared.lock();
            state.stop = Stop::Cancelling;
            let active = state.known.values().filter(|known| known.active);
            active.map(|known| known.job.clone()).collect()
        };
        for job in jobs {
            job.cancel.cancel(Reason::Stopping);
        }
        self.shared.changed.notify_all();
        self.shared.wait_for_idle(end)
    }

    /// Whether nothing is to be taken up any more.
    pub fn is_stopping(&self) -> bool {
        self.shared.lock().stop != Stop::No
    }

    /// Begins to work on an operation, once nobody works on its record any more, as one that was superseded may. `None`
    /// if that takes too long.
    pub fn enter(&self, key: &Key, operation: &str, until: Instant) -> Option<Entered<'_>> {
        let mut state = self.shared.lock();
        while state.known.get(key).is_some_and(|known| known.active) {
            let left = until.checked_duration_since(Instant::now())?;
            state = self.shared.wait(state, left);
        }
        let job = match state.known.remove(key) {
            Some(known) if *known.job.operation == *operation => known.job,
            _ => Arc::new(Job::new(operation)),
        };
        if state.stop == Stop::Cancelling {
            job.cancel.cancel(Reason::Stopping);
        }
        let known = Known {
            job: job.clone(),
            active: true,
        };
        state.known.insert(key.clone(), known);
        Some(Entered {
            work: self,
            key: key.clone(),
            job,
            pauses: false,
        })
    }

    /// Waits until nobody works on a record.
    fn wait_until_free(&self, key: &Key) {
        let mut state = self.shared.lock();
        while state.known.get(key).is_some_and(|known| known.active) {
            state = self.shared.wait(state, Duration::from_secs(60));
        }
    }

    /// Waits for a turn of a plan.
    fn turn<'a>(
        &'a self,
        plan: &'a str,
        concurrency: Option<usize>,
        until: Instant,
        cancel: &Cancel,
    ) -> Result<Turn<'a>, NoTurn> {
        let Some(limit) = concurrency else {
            return match cancel.is_cancelled() {
                true => Err(NoTurn::Cancelled),
                false => Ok(Turn(None)),
            };
        };
        let mut state = self.shared.lock();
        let ticket = state.ticket;
        state.ticket += 1;
        state.lanes.wait(plan, limit, ticket);
        let refused = loop {
            // Those that are to come back are told one by one: none of them makes room for the next.
            if cancel.is_cancelled() || state.stop == Stop::Cancelling {
                break NoTurn::Cancelled;
            }
            if state.lanes.admit(plan, ticket) {
                // The next one may go, too.
                self.shared.changed.notify_all();
                return Ok(Turn(Some((self, plan))));
            }
            match until.checked_duration_since(Instant::now()) {
                Some(left) => state = self.shared.wait(state, left),
                None => break NoTurn::Timeout,
            }
        };
        state.lanes.give_up(plan, ticket);
        self.pass_on(&mut state, plan);
        Err(refused)
    }

    /// Lets the next one of a plan go: a request that waits, or else what is queued.
    fn pass_on(&self, state: &mut State, plan: &str) {
        self.shared.changed.notify_all();
        self.hire(state, plan);
    }

    /// Begins what is queued for a plan, as far as it may be, each in a thread.
    fn hire(&self, state: &mut State, plan: &str) {
        Shared::hire(state, plan, &self.broker);
    }

    /// Takes an operation of a plan up again after a pause.
    fn later(&self, plan: &str, entry: &Entry, pause: Duration) {
        let mut state = self.shared.lock();
        let number = state.ticket;
        state.ticket += 1;
        let later = Later {
            plan: plan.into(),
            entry: Entry {
                again: true,
                ..entry.clone()
            },
        };
        state.later.insert((Instant::now() + pause, number), later);
        self.shared.tend(&mut state, &self.broker);
        drop(state);
        self.shared.timer.notify_all();
    }
}

/// Takes no lock: the last to hold the broker may hold it.
impl Drop for Work {
    fn drop(&mut self) {
        self.shared.abandoned.store(true, Ordering::SeqCst);
        self.shared.timer.notify_all();
    }
}

impl Shared {
    /// Nothing that runs under the lock can panic half-way, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        self.changed
            .wait_timeout(state, limit)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    fn wait_for_idle(&self, until: Instant) -> bool {
        let mut state = self.lock();
        loop {
            if !state.known.values().any(|known| known.active) {
                return true;
            }
            match until.checked_duration_since(Instant::now()) {
                Some(left) => state = self.wait(state, left),
                None => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::plans::Plans;
    use super::*;
    use crate::catalog::Catalog;
    use crate::store::memory::Memory;

    use std::thread;
    use std::time::SystemTime;

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

    fn entry(id: &str) -> Entry {
        Entry {
            key: Key::instance(id),
            operation: id.into(),
            again: false,
        }
    }

    #[test]
    fn what_pauses_is_taken_up_in_the_order_of_its_time() {
        let work = Work::new(Weak::new());
        let before = Instant::now();
        for (id, minutes) in [("c", 30), ("a", 10), ("d", 40), ("b", 20)] {
            work.later("plan", &entry(id), Duration::from_secs(60 * minutes));
        }
        let mut state = work.shared.lock();
        let mut taken = Vec::new();
        while let Some(((due, _), later)) = state.later.pop_first() {
            assert!(later.entry.again && due >= before + Duration::from_secs(600));
            taken.push(later.entry.operation);
        }
        assert_eq!(taken, ["a", "b", "c", "d"].map(Box::from));
    }

    /// As when there was no thread to be had for it.
    #[test]
    fn a_nudge_has_what_was_left_lying_taken_up() {
        let catalog = Catalog::new(Vec::new(), SystemTime::now());
        let plans = Plans::new(catalog, HashMap::new());
        let broker = Broker::new(plans, Box::new(Memory::default()));
        let later = Later {
            plan: "plan".into(),
            entry: entry("later"),
        };
        {
            let mut state = broker.work.shared.lock();
            state.lanes.push("plan", 1, entry("now"));
            let due = Instant::now() + Duration::from_secs(3600);
            state.later.insert((due, 0), later);
        }
        broker.work.nudge();
        let state = broker.work.shared.lock();
        assert!(state.lanes.queued().is_empty() && state.timed);
    }

    #[test]
    fn who_gives_up_takes_nobody_elses_place() {
        let (work, cancel) = (Work::new(Weak::new()), Cancel::new());
        let turn = |until| work.turn("plan", Some(1), until, &cancel);
        let first = turn(Instant::now()).unwrap();
        thread::scope(|scope| {
            let second = scope.spawn(|| turn(Instant::now() + PATIENCE).is_ok());
            wait_until(|| work.shared.lock().ticket == 2);
            assert_eq!(turn(Instant::now()).err(), Some(NoTurn::Timeout));
            drop(first);
            assert!(second.join().unwrap());
        });
    }

    #[test]
    fn there_is_a_timer_while_something_pauses_and_only_one() {
        let work = Work::new(Weak::new());
        let timers = || Arc::strong_count(&work.shared) - 1;
        // A timer that was begun under the lock cannot end under it.
        let mut state = work.shared.lock();
        work.shared.tend(&mut state, &work.broker);
        assert_eq!(timers(), 0);
        drop(state);
        for id in ["a", "b"] {
            work.later("plan", &entry(id), Duration::from_secs(3600));
            assert_eq!(timers(), 1);
        }
        work.finish();
        wait_until(|| timers() == 0);
        let mut state = work.shared.lock();
        work.shared.tend(&mut state, &work.broker);
        assert_eq!(timers(), 0);
    }

    #[test]
    fn the_timer_ends_with_its_broker() {
        let work = Work::new(Weak::new());
        work.later("plan", &entry("far"), Duration::from_secs(3600));
        work.later("plan", &entry("now"), Duration::ZERO);
        // Once it has taken up the one, it waits for the other.
        wait_until(|| work.shared.lock().later.len() == 1);
        let shared = Arc::downgrade(&work.shared);
        drop(work);
        wait_until(|| shared.strong_count() == 0);
    }
}
