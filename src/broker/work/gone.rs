//! What is remembered of records that are no more: enough to tell a platform that polls that the deletion it waits for
//! has come to its end.
//!
//! A tombstone takes the place of its record, so that it is as durable, and a new record takes its place in turn. It is
//! put with the store's open flag, so that it is found again after a restart. Tombstones are forgotten when platforms
//! have long stopped to poll, and the oldest of them when there are many.

use super::super::Broker;
use super::super::operation::Operation;
use crate::log;
use crate::store::{Change, Key, Outcome, Revision};

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Cloud Foundry polls for up to seven days.
const KEPT_FOR: Duration = Duration::from_secs(8 * 24 * 3600);
/// How many tombstones there are at most, give or take those of the same moment.
const KEPT: usize = 10_000;

/// What is kept of a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tombstone {
    /// RFC 3339, UTC: since when.
    gone: String,
    /// A removal that has succeeded, or a creation that a removal has cut off.
    pub operation: Operation,
}

impl Tombstone {
    pub fn now(operation: Operation) -> Tombstone {
        Tombstone {
            gone: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            operation,
        }
    }

    /// What cannot be read is as old as can be.
    fn since(&self) -> SystemTime {
        humantime::parse_rfc3339(&self.gone).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// The tombstones there are, the oldest first.
#[derive(Default)]
pub struct Graveyard(Mutex<VecDeque<Grave>>);

struct Grave {
    key: Key,
    revision: Revision,
    since: SystemTime,
}

impl Graveyard {
    /// Adds those that were found at the start.
    pub fn fill(&self, found: Vec<(Key, Revision, Tombstone)>) {
        let mut graves: Vec<_> = found
            .into_iter()
            .map(|(key, revision, tombstone)| Grave {
                key,
                revision,
                since: tombstone.since(),
            })
            .collect();
        graves.sort_by_key(|grave| grave.since);
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(graves);
    }

    fn add(&self, key: Key, revision: Revision, since: SystemTime) {
        let mut graves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        graves.push_back(Grave {
            key,
            revision,
            since,
        });
    }

    /// Takes one out that has had its time.
    fn next(&self, now: SystemTime) -> Option<Grave> {
        let mut graves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let front = graves.front()?;
        let old = now
            .duration_since(front.since)
            .is_ok_and(|age| age > KEPT_FOR);
        if old || graves.len() > KEPT {
            graves.pop_front()
        } else {
            None
        }
    }
}

impl Broker {
    /// Remembers a tombstone that was committed, and forgets those that have had their time.
    pub(in crate::broker) fn buried(&self, key: &Key, revision: Revision) {
        let now = SystemTime::now();
        self.graveyard.add(key.clone(), revision, now);
        self.sweep(now);
    }

    /// Forgets the tombstones that have had their time.
    pub(in crate::broker) fn sweep(&self, now: SystemTime) {
        while let Some(Grave { key, revision, .. }) = self.graveyard.next(now) {
            // A conflict means that there is a new record in its place.
            match self.store.commit(vec![Change::Delete { key, revision }]) {
                Ok(Outcome::Committed(_) | Outcome::Conflict) => {}
                Err(error) => {
                    // It is found again at the next start.
                    log::warn("tombstone").with("error", &error.message).send();
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::operation::{Kind, State};
    use crate::broker::plans::Plans;
    use crate::broker::stored::put;
    use crate::catalog::Catalog;
    use crate::store::memory::Memory;

    use std::collections::HashMap;

    fn days(n: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(n * 24 * 3600)
    }

    fn key(n: usize) -> Key {
        Key::instance(&n.to_string())
    }

    #[test]
    fn tombstones_are_kept_for_eight_days() {
        let graveyard = Graveyard::default();
        graveyard.add(key(1), Revision(1), days(100));
        graveyard.add(key(2), Revision(2), days(101));
        assert!(graveyard.next(days(108)).is_none());
        let later = days(108) + Duration::from_secs(1);
        assert_eq!(graveyard.next(later).unwrap().key, key(1));
        assert!(graveyard.next(later).is_none());
        // The clock may have been set back.
        assert!(graveyard.next(days(1)).is_none());
    }

    #[test]
    fn of_many_tombstones_the_oldest_go_first() {
        let graveyard = Graveyard::default();
        for n in 0..KEPT + 2 {
            graveyard.add(key(n), Revision(1), days(1));
        }
        assert_eq!(graveyard.next(days(1)).unwrap().key, key(0));
        assert_eq!(graveyard.next(days(1)).unwrap().key, key(1));
        assert!(graveyard.next(days(1)).is_none());
    }

    #[test]
    fn those_found_at_the_start_come_in_the_order_of_their_time() {
        let at = |day| Tombstone {
            gone: humantime::format_rfc3339_millis(days(day)).to_string(),
            operation: Operation::new(Kind::Deprovision, State::Succeeded),
        };
        let graveyard = Graveyard::default();
        graveyard.fill(vec![
            (key(2), Revision(2), at(2)),
            (key(1), Revision(1), at(1)),
        ]);
        assert_eq!(graveyard.next(days(50)).unwrap().key, key(1));
        assert_eq!(graveyard.next(days(50)).unwrap().key, key(2));
    }

    #[test]
    fn what_was_deleted_today_is_forgotten_in_nine_days() {
        let catalog = Catalog::new(Vec::new(), SystemTime::now());
        let plans = Plans::new(catalog, HashMap::new());
        let broker = Broker::new(plans, Box::new(Memory::default()));
        let tombstone = Tombstone::now(Operation::new(Kind::Deprovision, State::Succeeded));
        let put = put(key(1), Revision::ABSENT, &tombstone, true).unwrap();
        let Ok(Some(revision)) = broker.commit(vec![put]) else {
            panic!("not committed");
        };
        broker.buried(&key(1), revision);
        let is_known = || broker.tombstone(&key(1)).unwrap().is_some();
        let day = Duration::from_secs(24 * 3600);
        broker.sweep(SystemTime::now() + 7 * day);
        assert!(is_known());
        broker.sweep(SystemTime::now() + 9 * day);
        assert!(!is_known());
    }
}
