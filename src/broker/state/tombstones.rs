//! Which tombstones there are, and how long they are kept. They are forgotten when platforms have long stopped to poll, and
//! the oldest of them when there are many.

use crate::broker::protocol::tombstone::Tombstone;
use crate::store::{Key, Revision};

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Cloud Foundry polls for up to seven days.
const KEPT_FOR: Duration = Duration::from_secs(8 * 24 * 3600);
/// How many tombstones there are at most, give or take those of the same moment.
const MOST: usize = 10_000;

/// The tombstones there are, the oldest first.
#[derive(Default)]
pub struct Tombstones(Mutex<VecDeque<Kept>>);

pub struct Kept {
    pub key: Key,
    pub revision: Revision,
    since: SystemTime,
}

impl Tombstones {
    /// Adds those that were found at the start.
    pub fn fill(&self, found: Vec<(Key, Revision, Tombstone)>) {
        let mut list: Vec<_> = found
            .into_iter()
            .map(|(key, revision, tombstone)| Kept {
                key,
                revision,
                since: tombstone.since(),
            })
            .collect();
        list.sort_by_key(|kept| kept.since);
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(list);
    }

    /// Returns whether there are too many by now.
    pub fn add(&self, key: Key, revision: Revision, since: SystemTime) -> bool {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.push_back(Kept {
            key,
            revision,
            since,
        });
        list.len() > MOST
    }

    /// Puts those back, in front, that could not be forgotten.
    pub fn put_back(&self, old: Vec<Kept>) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for kept in old.into_iter().rev() {
            list.push_front(kept);
        }
    }

    /// Takes some out that have had their time.
    pub fn take_old(&self, now: SystemTime, most: usize) -> Vec<Kept> {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = |kept: &Kept| {
            now.duration_since(kept.since)
                .is_ok_and(|age| age > KEPT_FOR)
        };
        let old = list.iter().take_while(|kept| is_old(kept)).count();
        let old = old.max(list.len().saturating_sub(MOST)).min(most);
        list.drain(..old).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::protocol::operation::{Kind, Operation, State};

    fn days(n: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(n * 24 * 3600)
    }

    fn key(n: usize) -> Key {
        Key::instance(&n.to_string())
    }

    #[test]
    fn tombstones_are_kept_for_eight_days() {
        let tombstones = Tombstones::default();
        tombstones.add(key(1), Revision(1), days(100));
        tombstones.add(key(2), Revision(2), days(101));
        let take_old = |now| tombstones.take_old(now, 1).pop();
        assert!(take_old(days(108)).is_none());
        let later = days(108) + Duration::from_secs(1);
        assert_eq!(take_old(later).unwrap().key, key(1));
        assert!(take_old(later).is_none());
        // The clock may have been set back.
        assert!(take_old(days(1)).is_none());
    }

    #[test]
    fn of_many_tombstones_the_oldest_go_first() {
        let tombstones = Tombstones::default();
        let is_too_many = |n| tombstones.add(key(n), Revision(1), days(1));
        assert!(!(0..MOST).any(is_too_many));
        assert!((MOST..MOST + 2).all(is_too_many));
        let taken = tombstones.take_old(days(1), 10);
        let keys: Vec<Key> = taken.into_iter().map(|kept| kept.key).collect();
        assert_eq!(keys, [key(0), key(1)]);
        assert!(tombstones.take_old(days(1), 10).is_empty());
    }

    #[test]
    fn those_found_at_the_start_come_in_the_order_of_their_time() {
        let at = |day| {
            let operation = Operation::new(Kind::Deprovision, State::Succeeded);
            Tombstone::new(operation, days(day))
        };
        let tombstones = Tombstones::default();
        tombstones.fill(vec![
            (key(2), Revision(2), at(2)),
            (key(1), Revision(1), at(1)),
        ]);
        for n in [1, 2] {
            let taken = tombstones.take_old(days(50), 1).pop();
            assert_eq!(taken.unwrap().key, key(n));
        }
    }
}
