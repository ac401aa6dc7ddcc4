//! Records whose secrets are sealed before they reach another store: credentials, what adapters keep, and parameters.
//!
//! What is secret in a record is one JSON object, encrypted with XChaCha20-Poly1305 under a random nonce and bound to the record's
//! id: it opens in no other record. The rest stays readable, so that people can look at the state, and the broker can count plans.
//!
//! A record with an id that no service instance has names the keys that records may be sealed with. So a broker without one of
//! them is refused at its start.

mod keys;
mod marker;
mod moving;
mod rotation;

use super::{Change, Error, Key, Outcome, Record, SeeLine, Store};
pub use keys::{KEY_BYTES, Keys};
pub use moving::{is_marker, sealed_with};

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// A store that seals what it writes.
pub struct Sealed {
    store: Arc<dyn Store>,
    keys: Keys,
    /// Ends the rotation when it is dropped.
    life: Mutex<Option<Sender<()>>>,
}

/// The store as a broker uses it. Refused without the keys that the state is sealed with.
pub fn with_keys(store: Box<dyn Store>, keys: Option<Keys>) -> Result<Box<dyn Store>, Error> {
    match keys {
        Some(keys) => Ok(Box::new(Sealed::open(store, keys)?)),
        None => {
            refuse_sealed(&*store)?;
            Ok(store)
        }
    }
}

/// Refuses a sealed state for which there are no keys at all.
pub fn refuse_sealed(store: &dyn Store) -> Result<(), Error> {
    let (_, names) = marker::read(store)?;
    match names.first() {
        None => Ok(()),
        Some(name) => Err(missing(store, name)),
    }
}

fn missing(store: &dyn Store, name: &str) -> Error {
    Error::new(format!(
        "{}: is sealed with the key {name}, which is not in BROKER_SEAL_KEYS; nothing was changed",
        store.describe()
    ))
}

impl Sealed {
    /// Refused if the state is sealed with a key that is not among these. What is not sealed with the current one, or not at all,
    /// is sealed anew in the background.
    pub fn open(store: Box<dyn Store>, keys: Keys) -> Result<Sealed, Error> {
        let store: Arc<dyn Store> = Arc::from(store);
        // Without another key around, nothing is sealed with one.
        let mut rotates = keys.names().count() > 1;
        loop {
            let (revision, mut names) = marker::read(&*store)?;
            if let Some(name) = names
                .iter()
                .find(|name| !keys.names().any(|key| key == **name))
            {
                return Err(missing(&*store, name));
            }
            if names.iter().any(|name| name == keys.current()) {
                rotates |= names.len() > 1;
                break;
            }
            rotates = true;
            names.push(keys.current().to_owned());
            if marker::write(&*store, revision, names)? {
                break;
            }
        }
        let (life, over) = channel();
        if rotates {
            let (store, keys) = (store.clone(), keys.clone());
            thread::Builder::new()
                .name("seal".to_owned())
                .spawn(move || rotation::seal_all(&*store, &keys, &over))
                .map_err(|error| Error::new(format!("no thread can be had: {error}")))?;
        }
        Ok(Sealed {
            store,
            keys,
            life: Mutex::new(Some(life)),
        })
    }

    /// For whoever only reads: what is sealed with a key that is not here is an error when it is read.
    pub fn open_to_read(store: Box<dyn Store>, keys: Keys) -> Sealed {
        Sealed {
            store: Arc::from(store),
            keys,
            life: Mutex::new(None),
        }
    }

    fn opened(&self, key: &Key, record: Record) -> Result<Record, Error> {
        Ok(Record {
            body: self.keys.open(key, record.body)?,
            ..record
        })
    }
}

impl Store for Sealed {
    fn read(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, Error> {
        let records = self.store.read(keys)?;
        let records = records.into_iter().zip(keys);
        records
            .map(|(record, key)| record.map(|record| self.opened(key, record)).transpose())
            .collect()
    }

    fn bindings(&self, instance_id: &str) -> Result<Vec<(String, Record)>, Error> {
        let bindings = self.store.bindings(instance_id)?.into_iter();
        bindings
            .map(|(id, record)| {
                let record = self.opened(&Key::binding(instance_id, &id), record)?;
                Ok((id, record))
            })
            .collect()
    }

    fn instances(&self, after: &str, most: usize) -> Result<Vec<(String, Record)>, Error> {
        let instances = self.store.instances(after, most)?.into_iter();
        instances
            .map(|(id, record)| {
                let record = self.opened(&Key::instance(&id), record)?;
                Ok((id, record))
            })
            .collect()
    }

    fn open_operations(&self) -> Result<Vec<Key>, Error> {
        self.store.open_operations()
    }

    fn keeps_audit(&self) -> bool {
        self.store.keeps_audit()
    }

    fn audit(&self, since: u64, see: &mut SeeLine<'_>) -> Result<(), Error> {
        self.store.audit(since, see)
    }

    fn forget_audit(&self, before: u64, most: usize) -> Result<usize, Error> {
        self.store.forget_audit(before, most)
    }

    fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    fn take_over(&self) -> Result<Vec<Key>, Error> {
        self.store.take_over()
    }

    fn commit(&self, changes: Vec<Change>) -> Result<Outcome, Error> {
        let sealed: Result<Vec<Change>, Error> = changes
            .into_iter()
            .map(|change| {
                Ok(match change {
                    Change::Put {
                        key,
                        revision,
                        body,
                        open,
                    } => Change::Put {
                        body: self.keys.seal(&key, body)?,
                        key,
                        revision,
                        open,
                    },
                    other => other,
                })
            })
            .collect();
        self.store.commit(sealed?)
    }

    fn close(&self) {
        let life = self
            .life
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(life);
        self.store.close();
    }

    fn describe(&self) -> String {
        self.store.describe()
    }
}

#[cfg(test)]
mod tests;
