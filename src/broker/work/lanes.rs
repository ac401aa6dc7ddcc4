//! Whose turn it is: for each plan, how many calls there are, which requests wait, and which operations are queued.

use crate::store::Key;

use std::collections::{HashMap, VecDeque};

/// An operation that is to be taken up. Small: there may be many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: Key,
    /// The operation's id. If the record has another one by then, nothing is left to do.
    pub operation: Box<str>,
    /// Whether the adapter may have been called for it before.
    pub again: bool,
}

/// One lane a plan, made when it is first needed.
#[derive(Default)]
pub struct Lanes(HashMap<Box<str>, Lane>);

#[derive(Default)]
struct Lane {
    /// How many calls there may be at once. Of queued operations there are never more than this at work.
    limit: usize,
    active: usize,
    /// Requests whose platform waits for the answer, by their tickets. They go first.
    waiting: VecDeque<u64>,
    queue: VecDeque<Entry>,
}

impl Lane {
    fn is_free(&self) -> bool {
        self.active < self.limit
    }
}

impl Lanes {
    fn lane(&mut self, plan: &str, limit: usize) -> &mut Lane {
        if !self.0.contains_key(plan) {
            self.0.insert(plan.into(), Lane::default());
        }
        let lane = self.0.entry(plan.into()).or_default();
        lane.limit = limit.max(1);
        lane
    }

    /// Changes how many calls for a plan there may be at once. What waits or is queued keeps its place.
    pub fn set_limit(&mut self, plan: &str, limit: usize) {
        self.lane(plan, limit);
    }

    /// Queues an operation behind those that came before it.
    pub fn push(&mut self, plan: &str, limit: usize, entry: Entry) {
        self.lane(plan, limit).queue.push_back(entry);
    }

    /// Queues one that was taken from there before.
    pub fn push_again(&mut self, plan: &str, entry: Entry) {
        if let Some(lane) = self.0.get_mut(plan) {
            lane.queue.push_back(entry);
        }
    }

    /// Puts back what could not be begun after all, before all others.
    pub fn put_back(&mut self, plan: &str, entry: Entry) {
        if let Some(lane) = self.0.get_mut(plan) {
            lane.active = lane.active.saturating_sub(1);
            lane.queue.push_front(entry);
        }
    }

    /// The next queued operation, if it is its turn; [`Lanes::release`] when it is done.
    pub fn take(&mut self, plan: &str) -> Option<Entry> {
        let lane = self.0.get_mut(plan)?;
        if !lane.is_free() || !lane.waiting.is_empty() {
            return None;
        }
        let entry = lane.queue.pop_front()?;
        lane.active += 1;
        Some(entry)
    }

    /// Joins the requests that wait.
    pub fn wait(&mut self, plan: &str, limit: usize, ticket: u64) {
        self.lane(plan, limit).waiting.push_back(ticket);
    }

    /// Whether it is this request's turn; [`Lanes::release`] when it is done.
    pub fn admit(&mut self, plan: &str, ticket: u64) -> bool {
        let Some(lane) = self.0.get_mut(plan) else {
            return false;
        };
        let admitted = lane.is_free() && lane.waiting.front() == Some(&ticket);
        if admitted {
            lane.waiting.pop_front();
            lane.active += 1;
        }
        admitted
    }

    /// Leaves the requests that wait.
    pub fn give_up(&mut self, plan: &str, ticket: u64) {
        if let Some(lane) = self.0.get_mut(plan) {
            lane.waiting.retain(|waiting| *waiting != ticket);
        }
    }

    /// Ends a turn.
    pub fn release(&mut self, plan: &str) {
        if let Some(lane) = self.0.get_mut(plan) {
            lane.active = lane.active.saturating_sub(1);
            if lane.queue.is_empty() {
                lane.queue.shrink_to(16);
            }
        }
    }

    /// The plans that have something queued.
    pub fn queued(&self) -> Vec<Box<str>> {
        let lanes = self.0.iter();
        lanes
            .filter(|(_, lane)| !lane.queue.is_empty())
            .map(|(plan, _)| plan.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str) -> Entry {
        Entry {
            key: Key::instance(id),
            operation: "op".into(),
            again: false,
        }
    }

    fn taken(lanes: &mut Lanes, plan: &str) -> Option<Key> {
        lanes.take(plan).map(|entry| entry.key)
    }

    #[test]
    fn queued_operations_come_in_their_order_and_no_more_at_once_than_allowed() {
        let mut lanes = Lanes::default();
        for id in ["1", "2", "3"] {
            lanes.push("p", 2, entry(id));
        }
        assert_eq!(taken(&mut lanes, "p"), Some(Key::instance("1")));
        assert_eq!(taken(&mut lanes, "p"), Some(Key::instance("2")));
        assert_eq!(taken(&mut lanes, "p"), None);
        lanes.release("p");
        assert_eq!(taken(&mut lanes, "p"), Some(Key::instance("3")));
        lanes.release("p");
        assert_eq!(taken(&mut lanes, "p"), None);
    }

    #[test]
    fn plans_do_not_wait_for_each_other() {
        let mut lanes = Lanes::default();
        lanes.push("p", 1, entry("1"));
        lanes.push("p", 1, entry("2"));
        lanes.push("q", 1, entry("3"));
        assert_eq!(taken(&mut lanes, "p"), Some(Key::instance("1")));
        assert_eq!(taken(&mut lanes, "q"), Some(Key::instance("3")));
        assert_eq!(lanes.queued(), ["p".into()]);
    }

    #[test]
    fn who_waits_for_an_answer_goes_before_what_is_queued_and_in_order() {
        let mut lanes = Lanes::default();
        lanes.push("p", 1, entry("1"));
        assert!(taken(&mut lanes, "p").is_some());
        lanes.push("p", 1, entry("2"));
        lanes.wait("p", 1, 7);
        lanes.wait("p", 1, 8);
        assert!(!lanes.admit("p", 7));
        lanes.release("p");
        assert_eq!(taken(&mut lanes, "p"), None);
        assert!(!lanes.admit("p", 8));
        assert!(lanes.admit("p", 7));
        assert!(!lanes.admit("p", 8));
        lanes.give_up("p", 8);
        lanes.release("p");
        assert_eq!(taken(&mut lanes, "p"), Some(Key::instance("2")));
    }

    #[test]
    fn a_new_limit_holds_for_what_is_queued_already() {
        let mut lanes = Lanes::default();
        for id in ["1", "2", "3", "4"] {
            lanes.push("p", 1, entry(id));
        }
        assert!(taken(&mut lanes, "p").is_some());
        assert_eq!(taken(&mut lanes, "p"), None);
        lanes.set_limit("p", 3);
        assert_eq!(taken(&mut lanes, "p"), Some(Key::instance("2")));
        assert_eq!(taken(&mut lanes, "p"), Some(Key::instance("3")));
        assert_eq!(taken(&mut lanes, "p"), None);
        lanes.set_limit("p", 1);
        lanes.release("p");
        lanes.release("p");
        assert_eq!(taken(&mut lanes, "p"), None);
        lanes.release("p");
        assert_eq!(taken(&mut lanes, "p"), Some(Key::instance("4")));
    }

    #[test]
    fn what_is_put_back_comes_first() {
        let mut lanes = Lanes::default();
        lanes.push("p", 1, entry("1"));
        lanes.push("p", 1, entry("2"));
        let first = lanes.take("p").unwrap();
        lanes.put_back("p", first.clone());
        assert_eq!(lanes.take("p"), Some(first));
    }
}
