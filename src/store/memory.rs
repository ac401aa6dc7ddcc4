//! Records in memory, for trying the broker out: everything is gone when the process ends.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Change, Error, Key, Outcome, Record, Revision, Store};

/// A store that forgets everything when it is dropped.
#[derive(Default)]
pub struct Memory {
    state: Mutex<State>,
}

/// Ordered maps rather than hash maps: the bindings of an instance are a range, and there is no moment at which a
/// million records move to a larger table while every request waits for the lock.
#[derive(Default)]
struct State {
    records: BTreeMap<Key, Held>,
    open: BTreeSet<Key>,
    last_revision: u64,
}

/// The body is shared, so that a reader copies it after the lock is released.
struct Held {
    revision: Revision,
    body: Arc<Vec<u8>>,
}

impl Memory {
    pub fn new() -> Memory {
        Memory::default()
    }

    /// Nothing that runs under the lock can panic half-way through a change, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn share(&self) -> (Revision, Arc<Vec<u8>>) {
        (self.revision, Arc::clone(&self.body))
    }
}

fn record((revision, body): (Revision, Arc<Vec<u8>>)) -> Record {
    Record {
        elsewhere: false,
        revision,
        body: body.to_vec(),
    }
}

impl State {
    fn as_expected(&self, change: &Change) -> bool {
        match change {
            Change::Expect { key, revision }
            | Change::Put { key, revision, .. }
            | Change::Delete { key, revision } => {
                self.records
                    .get(key)
                    .map_or(Revision::ABSENT, |held| held.revision)
                    == *revision
            }
            Change::DeleteBindings { .. } | Change::Audit(_) => true,
        }
    }

    fn apply(&mut self, change: Change, revision: Revision) {
        match change {
            // Nobody could read it.
            Change::Expect { .. } | Change::Audit(_) => {}
            Change::Put {
                key, body, open, ..
            } => {
                if open {
                    self.open.insert(key.clone());
                } else {
                    self.open.remove(&key);
                }
                let held = Held {
                    revision,
                    body: Arc::new(body),
                };
                self.records.insert(key, held);
            }
            Change::Delete { key, .. } => self.remove(&key),
            Change::DeleteBindings { instance } => {
                let keys: Vec<Key> = self
                    .bindings_of(&instance)
                    .map(|(key, _, _)| key.clone())
                    .collect();
                keys.iter().for_each(|key| self.remove(key));
            }
        }
    }

    fn remove(&mut self, key: &Key) {
        self.records.remove(key);
        self.open.remove(key);
    }

    /// Key, binding id and record, in the order of the ids.
    fn bindings_of(&self, instance_id: &str) -> impl Iterator<Item = (&Key, &str, &Held)> {
        self.records
            .range(Key::binding(instance_id, "")..)
            .map_while(move |(key, held)| match key {
                Key::Binding(instance, id) if instance == instance_id => {
                    Some((key, id.as_str(), held))
                }
                _ => None,
            })
    }
}

impl Store for Memory {
    fn read(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, Error> {
        let found: Vec<_> = {
            let state = self.lock();
            keys.iter()
                .map(|key| state.records.get(key).map(Held::share))
                .collect()
        };
        Ok(found.into_iter().map(|held| held.map(record)).collect())
    }

    fn bindings(&self, instance_id: &str) -> Result<Vec<(String, Record)>, Error> {
        let found: Vec<_> = {
            let state = self.lock();
            let shared = |(_, id, held): (&Key, &str, &Held)| (id.to_owned(), held.share());
            state.bindings_of(instance_id).map(shared).collect()
        };
        Ok(found
            .into_iter()
            .map(|(id, held)| (id, record(held)))
            .collect())
    }

    fn instances(&self, after: &str, most: usize) -> Result<Vec<(String, Record)>, Error> {
        let behind = (Bound::Excluded(Key::instance(after)), Bound::Unbounded);
        let found: Vec<_> = {
            let state = self.lock();
            let instances = state
                .records
                .range(behind)
                .map_while(|(key, held)| match key {
                    Key::Instance(id) => Some((id.clone(), held.share())),
                    Key::Binding(..) => None,
                });
            instances.take(most).collect()
        };
        Ok(found
            .into_iter()
            .map(|(id, held)| (id, record(held)))
            .collect())
    }

    fn open_operations(&self) -> Result<Vec<Key>, Error> {
        Ok(self.lock().open.iter().cloned().collect())
    }

    fn commit(&self, changes: Vec<Change>) -> Result<Outcome, Error> {
        let mut state = self.lock();
        if !changes.iter().all(|change| state.as_expected(change)) {
            return Ok(Outcome::Conflict);
        }
        state.last_revision += 1;
        let revision = Revision(state.last_revision);
        changes
            .into_iter()
            .for_each(|change| state.apply(change, revision));
        Ok(Outcome::Committed(revision))
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract;

    #[test]
    fn keeps_the_contract() {
        contract::check(&Memory::new());
    }

    #[test]
    fn says_what_it_is() {
        assert_eq!(Memory::new().describe(), "memory");
    }
}
