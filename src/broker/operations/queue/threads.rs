//! The threads: started when there is something to do, gone when there is not.

use super::plan_queue::Queued;
use super::shared::{Delayed, Shared, State, Stop, Worker};
use crate::log;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long an operation rests whose thread has panicked.
const AFTER_PANIC: Duration = Duration::from_secs(60);

impl Shared {
    /// Begins what is queued for a plan, as far as there are permits, each in a thread.
    pub fn start_threads(self: &Arc<Self>, state: &mut State, plan: &str) {
        if state.stop != Stop::No {
            return;
        }
        let Some(worker) = self.worker.upgrade() else {
            return;
        };
        while let Some(queued) = state.plans.take(plan) {
            let (shared, worker) = (self.clone(), worker.clone());
            let (plan_id, first) = (plan.to_owned(), queued.clone());
            let spawned = thread::Builder::new()
                .name("operation".to_owned())
                .spawn(move || shared.run_thread(&*worker, &plan_id, first));
            if let Err(error) = spawned {
                // Whoever is done next, or polls, tries again.
                state.plans.put_back(plan, queued);
                log::error("no_thread")
                    .with("error", &error.to_string())
                    .send();
                return;
            }
        }
    }

    /// A permit of a plan is free: for a request that waits, or else for what is queued.
    pub fn pass_on(self: &Arc<Self>, state: &mut State, plan: &str) {
        self.changed.notify_all();
        self.start_threads(state, plan);
    }

    /// The life of a thread: works on one operation of its plan after the other.
    fn run_thread(self: &Arc<Self>, worker: &dyn Worker, plan: &str, first: Queued) {
        let mut next = Some(first);
        while let Some(queued) = next {
            let worked = catch_unwind(AssertUnwindSafe(|| worker.work(plan, &queued)));
            if worked.is_err() {
                // The panic is in the log. The record is still in progress; perhaps it goes better another time.
                self.retry_after(plan, &queued, AFTER_PANIC);
            }
            let mut state = self.lock();
            state.plans.release(plan);
            self.changed.notify_all();
            next = match state.stop {
                Stop::No => state.plans.take(plan),
                _ => None,
            };
        }
    }

    /// Queues an operation of a plan again after this delay.
    pub fn retry_after(self: &Arc<Self>, plan: &str, queued: &Queued, delay: Duration) {
        let mut state = self.lock();
        let number = state.ticket;
        state.ticket += 1;
        let delayed = Delayed {
            plan: plan.into(),
            queued: Queued {
                retried: true,
                ..queued.clone()
            },
        };
        let due = Instant::now() + delay;
        state.delayed.insert((due, number), delayed);
        self.start_timer(&mut state);
        drop(state);
        self.timer.notify_all();
    }

    /// Sees to it that the timer runs if there is something for it.
    pub fn start_timer(self: &Arc<Self>, state: &mut State) {
        if state.timed || state.delayed.is_empty() || state.stop != Stop::No {
            return;
        }
        let shared = self.clone();
        let spawned = thread::Builder::new()
            .name("retries".to_owned())
            .spawn(move || shared.keep_time());
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

    /// The timer: queues what is due, until there is nothing left to wait for.
    fn keep_time(self: &Arc<Self>) {
        let mut state = self.lock();
        loop {
            let due = match state.delayed.first_key_value() {
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
                    if let Some((_, delayed)) = state.delayed.pop_first() {
                        state.plans.push_back(&delayed.plan, delayed.queued);
                        self.start_threads(&mut state, &delayed.plan);
                    }
                }
            }
        }
        state.timed = false;
    }
}
