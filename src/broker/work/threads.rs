//! The threads of the workshop: made when there is something to do, gone when there is not.

use super::lanes::Entry;
use super::{Shared, State, Stop, pause};
use crate::broker::Broker;
use crate::log;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::thread;
use std::time::Instant;

impl Shared {
    /// Begins what is queued for a plan, as far as it may be, each in a thread.
    pub fn hire(state: &mut State, plan: &str, broker: &Weak<Broker>) {
        if state.stop != Stop::No {
            return;
        }
        let Some(broker) = broker.upgrade() else {
            return;
        };
        while let Some(entry) = state.lanes.take(plan) {
            let (broker, plan_id, first) = (broker.clone(), plan.to_owned(), entry.clone());
            let spawned = thread::Builder::new()
                .name("operation".to_owned())
                .spawn(move || labour(&broker, &plan_id, first));
            if let Err(error) = spawned {
                // Whoever is done next, or polls, tries again.
                state.lanes.put_back(plan, entry);
                log::error("no_thread")
                    .with("error", &error.to_string())
                    .send();
                return;
            }
        }
    }

    /// Sees to it that the timer runs if there is something for it.
    pub fn tend(self: &Arc<Self>, state: &mut State, broker: &Weak<Broker>) {
        if state.timed || state.later.is_empty() || state.stop != Stop::No {
            return;
        }
        let (shared, broker) = (self.clone(), broker.clone());
        let spawned = thread::Builder::new()
            .name("pauses".to_owned())
            .spawn(move || shared.keep_time(&broker));
        match spawned {
            Ok(_) => state.timed = true,
            Err(error) => log::error("no_thread")
                .with("error", &error.to_string())
                .send(),
        }
    }

    fn goes_on(&self, state: &State) -> bool {
        state.stop == Stop::No && !self.abandoned.load(Ordering::SeqCst)
    }

    /// The timer: queues what has paused for long enough, until there is nothing left to wait for.
    fn keep_time(&self, broker: &Weak<Broker>) {
        let mut state = self.lock();
        loop {
            let due = match state.later.first_key_value() {
                Some(((due, _), _)) if self.goes_on(&state) => *due,
                _ => break,
            };
            match due.checked_duration_since(Instant::now()) {
                Some(left) => {
                    state = self
                        .timer
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0;
                }
                None => {
                    if let Some((_, later)) = state.later.pop_first() {
                        state.lanes.push_again(&later.plan, later.entry);
                        Shared::hire(&mut state, &later.plan, broker);
                    }
                }
            }
        }
        state.timed = false;
    }
}

/// The life of a thread: takes up one operation of its plan after the other.
fn labour(broker: &Broker, plan: &str, first: Entry) {
    let mut next = Some(first);
    while let Some(entry) = next {
        let worked = catch_unwind(AssertUnwindSafe(|| broker.take_up(plan, &entry)));
        if worked.is_err() {
            // The panic is in the log. The record is still in progress; perhaps it goes better another time.
            broker.work.later(plan, &entry, pause::LONGEST);
        }
        let mut state = broker.work.shared.lock();
        state.lanes.release(plan);
        broker.work.shared.changed.notify_all();
        next = match state.stop {
            Stop::No => state.lanes.take(plan),
            _ => None,
        };
    }
}
