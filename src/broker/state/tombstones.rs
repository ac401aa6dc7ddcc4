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

    pub fn add(&self, key: Key, revision: Revision, since: SystemTime) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.push_back(Kept {
            key,
            revision,
            since,
        });
    }

    /// Takes one out that has had its time.
    pub fn take_old(&self, now: SystemTime) -> Option<Kept> {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let front = list.front()?;
        let old = now
            .duration_since(front.since)
            .is_ok_and(|age| age > KEPT_FOR);
        if old || list.len() > MOST {
            list.pop_front()
        } else {
            None
        }
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
        assert!(tombstones.take_old(days(108)).is_none());
        let later = days(108) + Duration::from_secs(1);
        assert_eq!(tombstones.take_old(later).unwrap().key, key(1));
        assert!(tombstones.take_old(later).is_none());
        // The clock may have been set back.
        assert!(tombstones.take_old(days(1)).is_none());
    }

    #[test]
    fn of_many_tombstones_the_oldest_go_first() {
        let tombstones = Tombstones::default();
        for n in 0..MOST + 2 {
            tombstones.add(key(n), Revision(1), days(1));
        }
        assert_eq!(tombstones.take_old(days(1)).unwrap().key, key(0));
        assert_eq!(tombstones.take_old(days(1)).unwrap().key, key(1));
        assert!(tombstones.take_old(days(1)).is_none());
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
        assert_eq!(tombstones.take_old(days(50)).unwrap().key, key(1));
        assert_eq!(tombstones.take_old(days(50)).unwrap().key, key(2));
    }
}
