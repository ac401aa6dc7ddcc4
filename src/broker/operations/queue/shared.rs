//! What threads and requests share: claims on records, the queues of plans, and retries that are due later.

use super::plan_queue::{PlanQueues, Queued};
use super::running::Running;
use crate::store::Key;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// What works on queued operations.
pub trait Worker: Send + Sync {
    /// Works on an operation of a plan, in one of the queue's threads.
    fn work(&self, plan: &str, queued: &Queued);
}

pub struct Shared {
    state: Mutex<State>,
    /// Something that somebody may wait for has happened: a permit or a record is free, or the broker stops.
    pub changed: Condvar,
    /// There is something earlier for the timer, or nothing any more.
    pub timer: Condvar,
    /// The queue is no more.
    pub abandoned: AtomicBool,
    pub worker: Weak<dyn Worker>,
}

#[derive(Default)]
pub struct State {
    pub plans: PlanQueues,
    /// The records that are worked on, or whose next attempt comes later.
    pub claims: HashMap<Key, Claimed>,
    /// What comes later, by the time at which it is due, and then by number.
    pub delayed: BTreeMap<(Instant, u64), Delayed>,
    /// Whether the timer has a thread.
    pub timed: bool,
    pub ticket: u64,
    pub stop: Stop,
}

#[derive(Default, Clone, Copy, PartialEq, PartialOrd)]
pub enum Stop {
    #[default]
    No,
    /// Nothing new is begun.
    Finishing,
    /// What is running is to come back early.
    Cancelling,
}

/// A record that is worked on, or whose next attempt comes later.
pub struct Claimed {
    pub running: Arc<Running>,
    /// Whether an adapter may be called for it now; others wait for the record then.
    pub active: bool,
}

/// An operation whose next attempt comes later.
pub struct Delayed {
    pub plan: Box<str>,
    pub queued: Queued,
}

impl Shared {
    pub fn new(worker: Weak<dyn Worker>) -> Shared {
        Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            timer: Condvar::new(),
            abandoned: AtomicBool::new(false),
            worker,
        }
    }

    /// Nothing that runs under the lock can panic half-way, so a poisoned lock is as good as any.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn wait<'a>(&self, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        self.changed
            .wait_timeout(state, limit)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    pub fn wait_for_idle(&self, until: Instant) -> bool {
        let mut state = self.lock();
        loop {
            if !state.claims.values().any(|claimed| claimed.active) {
                return true;
            }
            match until.checked_duration_since(Instant::now()) {
                Some(left) => state = self.wait(state, left),
                None => return false,
            }
        }
    }
}
