//! For each plan: how many calls of its adapter there may be at once, how many there are, which requests wait for a permit,
//! and which operations are queued.

use crate::store::Key;

use std::collections::{HashMap, VecDeque};
use std::time::SystemTime;

/// An operation that waits for a thread. Small: there may be many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    pub key: Key,
    /// The operation's id. If the record has another one by then, nothing is left to do.
    pub operation: Box<str>,
    /// When it was asked for.
    pub since: SystemTime,
    /// Whether the adapter may have been called for it before.
    pub retried: bool,
}

/// One for each plan, made when it is first needed.
#[derive(Default)]
pub struct PlanQueues(HashMap<Box<str>, PlanQueue>);

#[derive(Default)]
struct PlanQueue {
    /// How many calls there may be at once. Of queued operations there are never more than this at work.
    limit: usize,
    /// Permits that are taken.
    taken: usize,
    /// Requests whose platform waits for the answer, by their tickets. They go first.
    waiting: VecDeque<u64>,
    queue: VecDeque<Queued>,
}

impl PlanQueue {
    fn is_free(&self) -> bool {
        self.taken < self.limit
    }
}

impl PlanQueues {
    fn plan_queue(&mut self, plan: &str, limit: usize) -> &mut PlanQueue {
        if !self.0.contains_key(plan) {
            self.0.insert(plan.into(), PlanQueue::default());
        }
        let plan_queue = self.0.entry(plan.into()).or_default();
        plan_queue.limit = limit.max(1);
        plan_queue
    }

    /// Changes how many permits a plan has. What waits or is queued keeps its place.
    pub fn set_limit(&mut self, plan: &str, limit: usize) {
        self.plan_queue(plan, limit);
    }

    /// Queues an operation behind those that came before it.
    pub fn push(&mut self, plan: &str, limit: usize, queued: Queued) {
        self.plan_queue(plan, limit).queue.push_back(queued);
    }

    /// Queues one that was taken from there before.
    pub fn push_back(&mut self, plan: &str, queued: Queued) {
        if let Some(plan_queue) = self.0.get_mut(plan) {
            plan_queue.queue.push_back(queued);
        }
    }

    /// Puts back what could not be begun after all, before all others.
    pub fn put_back(&mut self, plan: &str, queued: Queued) {
        if let Some(plan_queue) = self.0.get_mut(plan) {
            plan_queue.taken = plan_queue.taken.saturating_sub(1);
            plan_queue.queue.push_front(queued);
        }
    }

    /// The next queued operation, with a permit, if there is one; [`PlanQueues::release`] when it is done.
    pub fn take(&mut self, plan: &str) -> Option<Queued> {
        let plan_queue = self.0.get_mut(plan)?;
        if !plan_queue.is_free() || !plan_queue.waiting.is_empty() {
            return None;
        }
        let queued = plan_queue.queue.pop_front()?;
        plan_queue.taken += 1;
        Some(queued)
    }

    /// This request waits for a permit.
    pub fn wait(&mut self, plan: &str, limit: usize, ticket: u64) {
        self.plan_queue(plan, limit).waiting.push_back(ticket);
    }

    /// Gives this request a permit, if it is its turn; [`PlanQueues::release`] when it is done.
    pub fn acquire(&mut self, plan: &str, ticket: u64) -> bool {
        let Some(plan_queue) = self.0.get_mut(plan) else {
            return false;
        };
        let acquired = plan_queue.is_free() && plan_queue.waiting.front() == Some(&ticket);
        if acquired {
            plan_queue.waiting.pop_front();
            plan_queue.taken += 1;
        }
        acquired
    }

    /// This request does not wait any more.
    pub fn give_up(&mut self, plan: &str, ticket: u64) {
        if let Some(plan_queue) = self.0.get_mut(plan) {
            plan_queue.waiting.retain(|waiting| *waiting != ticket);
        }
    }

    /// Gives a permit back.
    pub fn release(&mut self, plan: &str) {
        if let Some(plan_queue) = self.0.get_mut(plan) {
            plan_queue.taken = plan_queue.taken.saturating_sub(1);
            if plan_queue.queue.is_empty() {
                plan_queue.queue.shrink_to(16);
            }
        }
    }

    /// What is queued, by the ids of plans.
    pub fn each(&self) -> impl Iterator<Item = (&str, &VecDeque<Queued>)> {
        let queues = self.0.iter();
        queues.map(|(plan, plan_queue)| (&**plan, &plan_queue.queue))
    }

    /// The plans that have something queued.
    pub fn queued(&self) -> Vec<Box<str>> {
        let queues = self.0.iter();
        queues
            .filter(|(_, plan_queue)| !plan_queue.queue.is_empty())
            .map(|(plan, _)| plan.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued(id: &str) -> Queued {
        Queued {
            key: Key::instance(id),
            operation: "op".into(),
            since: SystemTime::UNIX_EPOCH,
            retried: false,
        }
    }

    fn taken(queues: &mut PlanQueues, plan: &str) -> Option<Key> {
        queues.take(plan).map(|queued| queued.key)
    }

    #[test]
    fn queued_operations_come_in_their_order_and_no_more_at_once_than_allowed() {
        let mut queues = PlanQueues::default();
        for id in ["1", "2", "3"] {
            queues.push("p", 2, queued(id));
        }
        assert_eq!(taken(&mut queues, "p"), Some(Key::instance("1")));
        assert_eq!(taken(&mut queues, "p"), Some(Key::instance("2")));
        assert_eq!(taken(&mut queues, "p"), None);
        queues.release("p");
        assert_eq!(taken(&mut queues, "p"), Some(Key::instance("3")));
        queues.release("p");
        assert_eq!(taken(&mut queues, "p"), None);
    }

    #[test]
    fn plans_do_not_wait_for_each_other() {
        let mut queues = PlanQueues::default();
        queues.push("p", 1, queued("1"));
        queues.push("p", 1, queued("2"));
        queues.push("q", 1, queued("3"));
        assert_eq!(taken(&mut queues, "p"), Some(Key::instance("1")));
        assert_eq!(taken(&mut queues, "q"), Some(Key::instance("3")));
        assert_eq!(queues.queued(), ["p".into()]);
    }

    #[test]
    fn who_waits_for_an_answer_goes_before_what_is_queued_and_in_order() {
        let mut queues = PlanQueues::default();
        queues.push("p", 1, queued("1"));
        assert!(taken(&mut queues, "p").is_some());
        queues.push("p", 1, queued("2"));
        queues.wait("p", 1, 7);
        queues.wait("p", 1, 8);
        assert!(!queues.acquire("p", 7));
        queues.release("p");
        assert_eq!(taken(&mut queues, "p"), None);
        assert!(!queues.acquire("p", 8));
        assert!(queues.acquire("p", 7));
        assert!(!queues.acquire("p", 8));
        queues.give_up("p", 8);
        queues.release("p");
        assert_eq!(taken(&mut queues, "p"), Some(Key::instance("2")));
    }

    #[test]
    fn a_new_limit_holds_for_what_is_queued_already() {
        let mut queues = PlanQueues::default();
        for id in ["1", "2", "3", "4"] {
            queues.push("p", 1, queued(id));
        }
        assert!(taken(&mut queues, "p").is_some());
        assert_eq!(taken(&mut queues, "p"), None);
        queues.set_limit("p", 3);
        assert_eq!(taken(&mut queues, "p"), Some(Key::instance("2")));
        assert_eq!(taken(&mut queues, "p"), Some(Key::instance("3")));
        assert_eq!(taken(&mut queues, "p"), None);
        queues.set_limit("p", 1);
        queues.release("p");
        queues.release("p");
        assert_eq!(taken(&mut queues, "p"), None);
        queues.release("p");
        assert_eq!(taken(&mut queues, "p"), Some(Key::instance("4")));
    }

    #[test]
    fn what_is_put_back_comes_first() {
        let mut queues = PlanQueues::default();
        queues.push("p", 1, queued("1"));
        queues.push("p", 1, queued("2"));
        let first = queues.take("p").unwrap();
        queues.put_back("p", first.clone());
        assert_eq!(queues.take("p"), Some(first));
    }
}
