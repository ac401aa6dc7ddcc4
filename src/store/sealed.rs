//! Records whose secrets are sealed before they reach another store: credentials, what adapters keep, and parameters.
//!
//! What is secret in a record is one JSON object, encrypted with XChaCha20-Poly1305 under a random nonce and bound to the record's
//! id: it opens in no other record. The rest stays readable, so that people can look at the state, and the broker can count plans.
//!
//! A record with an id that no service instance has names the keys that records may be sealed with. So a broker without one of
//! them is refused at its start.

use super::{Change, Error, Key, Outcome, Record, Revision, Store};
use crate::log;
use crate::random;

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// The fields of a record that are sealed. What `answer` holds is what the platform was given.
const SECRET: [&str; 4] = ["answer", "parameters", "state", "update"];
/// The field that takes their place: the key's name, a dot, and nonce and ciphertext in Base64.
const SEALED: &str = "sealed";

/// The bytes of a key.
pub const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// How many records are looked at in one step.
const STEP: usize = 32;
/// When what could not be sealed anew, since an operation was in progress, is looked at again.
const AGAIN: Duration = Duration::from_secs(60);

/// The keys: what is written is sealed with the first one, and what is read may be sealed with any.
#[derive(Clone)]
pub struct Keys(Arc<Vec<(String, XChaCha20Poly1305)>>);

/// Without the keys.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        write!(f, "Keys({})", names.join(", "))
    }
}

impl PartialEq for Keys {
    fn eq(&self, other: &Keys) -> bool {
        self.names().eq(other.names())
    }
}

impl Eq for Keys {}

type Fields = BTreeMap<String, Box<RawValue>>;

impl Keys {
    /// The current key first. `None` if there is none.
    pub fn new(keys: &[[u8; KEY_BYTES]]) -> Option<Keys> {
        let keys: Vec<_> = keys
            .iter()
            .map(|key| {
                let cipher = XChaCha20Poly1305::new(key.into());
                // A name that tells nothing of the key: what it makes of nothing.
                let tag = cipher.encrypt(&XNonce::default(), Payload::from(&b""[..]));
                let name: String = tag
                    .iter()
                    .flatten()
                    .take(4)
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                (name, cipher)
            })
            .collect();
        (!keys.is_empty()).then(|| Keys(Arc::new(keys)))
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    fn current(&self) -> &str {
        self.names().next().unwrap_or_default()
    }

    /// The body of a record with its secrets sealed. What is no record of an instance or binding stays as it is.
    fn seal(&self, key: &Key, body: Vec<u8>) -> Result<Vec<u8>, Error> {
        let Ok(mut fields) = serde_json::from_slice::<Fields>(&body) else {
            return Ok(body);
        };
        let secret: Fields = SECRET
            .iter()
            .filter_map(|name| fields.remove_entry(*name))
            .collect();
        let Some((name, cipher)) = self.0.first().filter(|_| !secret.is_empty()) else {
            return Ok(body);
        };
        let cannot =
            |what: &dyn fmt::Display| Error::new(format!("a record cannot be sealed: {what}"));
        let plain = serde_json::to_vec(&secret).map_err(|error| cannot(&error))?;
        let mut nonce = [0; NONCE_BYTES];
        random::fill(&mut nonce).map_err(|error| cannot(&error))?;
        let payload = Payload {
            msg: &plain,
            aad: &bound_to(key),
        };
        let sealed = cipher
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|error| cannot(&error))?;
        let sealed = [&nonce[..], &sealed].concat();
        let text = format!("\"{name}.{}\"", BASE64.encode(sealed));
        let text = RawValue::from_string(text).map_err(|error| cannot(&error))?;
        fields.insert(SEALED.to_owned(), text);
        serde_json::to_vec(&fields).map_err(|error| cannot(&error))
    }

    /// The body of a record as it was before [`Keys::seal`]. One that is not sealed stays as it is.
    pub fn open(&self, key: &Key, body: Vec<u8>) -> Result<Vec<u8>, Error> {
        let Some((mut fields, name, sealed)) = taken_apart(&body) else {
            return Ok(body);
        };
        let cannot =
            |what: String| Error::new(format!("the record of {key:?} cannot be opened: {what}"));
        let Some((_, cipher)) = self.0.iter().find(|(known, _)| *known == name) else {
            return Err(cannot(format!(
                "it is sealed with the key {name}, which is not in BROKER_SEAL_KEYS"
            )));
        };
        let Some((nonce, sealed)) = sealed.split_first_chunk::<NONCE_BYTES>() else {
            return Err(cannot("what is sealed was cut off".to_owned()));
        };
        let payload = Payload {
            msg: sealed,
            aad: &bound_to(key),
        };
        let plain = cipher
            .decrypt(&XNonce::from(*nonce), payload)
            .map_err(|_| {
                cannot("what is sealed was changed, or belongs to another record".to_owned())
            })?;
        let secret: Fields = serde_json::from_slice(&plain).map_err(|error| {
            cannot(format!(
                "what is sealed is not JSON: {:?}",
                error.classify()
            ))
        })?;
        fields.extend(secret);
        serde_json::to_vec(&fields).map_err(|error| cannot(error.to_string()))
    }
}

/// The other fields of a sealed record, the name of its key, and what is sealed.
fn taken_apart(body: &[u8]) -> Option<(Fields, String, Vec<u8>)> {
    let mut fields: Fields = serde_json::from_slice(body).ok()?;
    let sealed: String = serde_json::from_str(fields.remove(SEALED)?.get()).ok()?;
    let (name, sealed) = sealed.split_once('.')?;
    Some((fields, name.to_owned(), BASE64.decode(sealed).ok()?))
}

/// Whether a record that is sealed with another key, or has secrets that are not sealed, may be written anew.
fn is_stale(body: &[u8], current: &str) -> bool {
    let Ok(fields) = serde_json::from_slice::<Fields>(body) else {
        return false;
    };
    match taken_apart(body) {
        Some((_, name, _)) => name != current,
        None => SECRET.iter().any(|name| fields.contains_key(*name)),
    }
}

fn in_progress(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Operation {
        state: String,
    }
    #[derive(Deserialize)]
    struct Partly {
        operation: Operation,
    }
    serde_json::from_slice::<Partly>(body)
        .is_ok_and(|record| record.operation.state == "in progress")
}

/// The id of a record, so that no two ids are the same bytes.
fn bound_to(key: &Key) -> Vec<u8> {
    match key {
        Key::Instance(id) => [b"instance ", id.as_bytes()].concat(),
        Key::Binding(instance_id, id) => {
            let length = format!("binding {} ", instance_id.len());
            [length.as_bytes(), instance_id.as_bytes(), id.as_bytes()].concat()
        }
    }
}

/// The record that names the keys. `gone` hides it from whoever lists instances.
#[derive(Serialize, Deserialize)]
struct Marker {
    gone: String,
    sealed_with: Vec<String>,
}

fn marker_key() -> Key {
    // The ids of platforms have no control characters.
    Key::instance("\u{1}keys")
}

fn marker(store: &dyn Store) -> Result<(Revision, Vec<String>), Error> {
    let found = store.read(&[marker_key()])?.into_iter().next().flatten();
    let Some(record) = found else {
        return Ok((Revision::ABSENT, Vec::new()));
    };
    let marker: Marker = serde_json::from_slice(&record.body).map_err(|error| {
        Error::new(format!(
            "{}: the names of its keys cannot be read: {error}",
            store.describe()
        ))
    })?;
    Ok((record.revision, marker.sealed_with))
}

/// A store that seals what it writes.
pub struct Sealed {
    store: Arc<dyn Store>,
    keys: Keys,
    life: Arc<Life>,
}

#[derive(Default)]
struct Life {
    over: Mutex<bool>,
    changed: Condvar,
}

/// Refuses a sealed state for which there are no keys at all.
pub fn refuse_sealed(store: &dyn Store) -> Result<(), Error> {
    let (_, names) = marker(store)?;
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
        loop {
            let (revision, mut names) = marker(&*store)?;
            if let Some(name) = names
                .iter()
                .find(|name| !keys.names().any(|key| key == **name))
            {
                return Err(missing(&*store, name));
            }
            if names.iter().any(|name| name == keys.current()) {
                break;
            }
            names.push(keys.current().to_owned());
            if write_marker(&*store, revision, names)? {
                break;
            }
        }
        let sealed = Sealed {
            store,
            keys,
            life: Arc::default(),
        };
        let (store, keys, life) = (
            sealed.store.clone(),
            sealed.keys.clone(),
            sealed.life.clone(),
        );
        let spawned = thread::Builder::new()
            .name("seal".to_owned())
            .spawn(move || seal_all(&*store, &keys, &life));
        spawned.map_err(|error| Error::new(format!("no thread can be had: {error}")))?;
        Ok(sealed)
    }

    fn opened(&self, key: &Key, record: Record) -> Result<Record, Error> {
        Ok(Record {
            body: self.keys.open(key, record.body)?,
            ..record
        })
    }
}

/// Whether nobody else was faster.
fn write_marker(
    store: &dyn Store,
    revision: Revision,
    sealed_with: Vec<String>,
) -> Result<bool, Error> {
    let marker = Marker {
        gone: "1970-01-01T00:00:00Z".to_owned(),
        sealed_with,
    };
    let body = serde_json::to_vec(&marker).map_err(|error| Error::new(error.to_string()))?;
    let put = Change::Put {
        key: marker_key(),
        revision,
        body,
        open: false,
    };
    Ok(matches!(store.commit(vec![put])?, Outcome::Committed(_)))
}

/// Seals with the current key whatever is not, until nothing is left or the store is closed.
fn seal_all(store: &dyn Store, keys: &Keys, life: &Life) {
    loop {
        let mut count = 0;
        let result = seal_once(store, keys, life, &mut count);
        if count > 0 {
            log::info("sealed")
                .with("records", count)
                .with("key", keys.current())
                .send();
        }
        match result {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => log::warn("store").with("message", &error.message).send(),
        }
        let mut over = life.over.lock().unwrap_or_else(PoisonError::into_inner);
        if !*over {
            over = life
                .changed
                .wait_timeout(over, AGAIN)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        if *over {
            return;
        }
    }
}

/// Whether nothing is left to do.
fn seal_once(
    store: &dyn Store,
    keys: &Keys,
    life: &Life,
    count: &mut usize,
) -> Result<bool, Error> {
    let is_over = || *life.over.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut after, mut whole) = (String::new(), true);
    loop {
        let step = store.instances(&after, STEP)?;
        let Some((last, _)) = step.last() else {
            break;
        };
        after.clone_from(last);
        for (id, record) in step {
            let bindings = store.bindings(&id)?;
            let bindings = bindings
                .into_iter()
                .map(|(binding, record)| (Key::binding(&id, &binding), record));
            for (key, record) in bindings.chain([(Key::instance(&id), record)]) {
                if is_over() {
                    return Ok(true);
                }
                if !is_stale(&record.body, keys.current()) {
                    continue;
                }
                // It is sealed when its operation has ended, by whoever writes that.
                if in_progress(&record.body) {
                    whole = false;
                    continue;
                }
                let body = keys.seal(&key, keys.open(&key, record.body)?)?;
                let put = Change::Put {
                    key,
                    revision: record.revision,
                    body,
                    open: false,
                };
                match store.commit(vec![put])? {
                    Outcome::Committed(_) => *count += 1,
                    Outcome::Conflict => whole = false,
                }
            }
        }
    }
    if !whole {
        return Ok(false);
    }
    let (revision, names) = marker(store)?;
    let current = vec![keys.current().to_owned()];
    Ok(names == current || write_marker(store, revision, current)?)
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
        *self
            .life
            .over
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = true;
        self.life.changed.notify_all();
        self.store.close();
    }

    fn describe(&self) -> String {
        self.store.describe()
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        *self
            .life
            .over
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = true;
        self.life.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract;
    use crate::store::memory::Memory;

    fn keys(numbers: &[u8]) -> Keys {
        let keys: Vec<[u8; KEY_BYTES]> =
            numbers.iter().map(|number| [*number; KEY_BYTES]).collect();
        Keys::new(&keys).unwrap()
    }

    const RECORD: &str = r#"{"service_id":"s","parameters":{"a": 1.10},"state":{"password":"hunter2"},"operation":{"state":"succeeded"}}"#;

    fn same(a: &[u8], b: &[u8]) -> bool {
        let parsed = |body| serde_json::from_slice::<serde_json::Value>(body).unwrap();
        parsed(a) == parsed(b)
    }

    #[test]
    fn it_passes_the_contract() {
        contract::check(&Sealed::open(Box::new(Memory::new()), keys(&[1])).unwrap());
    }

    #[test]
    fn what_is_secret_cannot_be_read_and_the_rest_can() {
        let (key, keys) = (Key::instance("i"), keys(&[1]));
        let sealed = keys.seal(&key, RECORD.into()).unwrap();
        let text = String::from_utf8(sealed.clone()).unwrap();
        assert!(
            !text.contains("hunter2")
                && !text.contains("1.10")
                && text.contains("\"service_id\":\"s\""),
            "{text}"
        );
        let opened = keys.open(&key, sealed.clone()).unwrap();
        assert!(same(&opened, RECORD.as_bytes()));
        // The digits of numbers are those that were given.
        assert!(String::from_utf8(opened).unwrap().contains("{\"a\": 1.10}"));
        // Never the same twice.
        assert_ne!(keys.seal(&key, RECORD.into()).unwrap(), sealed);
        for plain in [&b"not JSON"[..], br#"{"gone":"x"}"#, b"[1]", b""] {
            assert_eq!(keys.seal(&key, plain.to_vec()).unwrap(), plain);
            assert_eq!(keys.open(&key, plain.to_vec()).unwrap(), plain);
        }
    }

    #[test]
    fn a_wrong_key_another_record_and_every_changed_byte_are_noticed() {
        let key = Key::binding("a", "bc");
        let sealed = keys(&[1]).seal(&key, RECORD.into()).unwrap();
        let refused =
            |keys: &Keys, key: &Key, body: Vec<u8>| keys.open(key, body).unwrap_err().message;
        let message = refused(&keys(&[2]), &key, sealed.clone());
        assert!(
            message.contains("which is not in BROKER_SEAL_KEYS"),
            "{message}"
        );
        for other in [
            Key::binding("ab", "c"),
            Key::instance("a"),
            Key::binding("a", "b"),
        ] {
            let message = refused(&keys(&[1]), &other, sealed.clone());
            assert!(message.contains("belongs to another record"), "{message}");
        }
        let (_, name, bytes) = taken_apart(&sealed).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let body = format!(r#"{{"sealed":"{name}.{}"}}"#, BASE64.encode(changed));
            assert!(
                keys(&[1]).open(&key, body.into_bytes()).is_err(),
                "byte {at}"
            );
        }
        let cut = format!(
            r#"{{"sealed":"{name}.{}"}}"#,
            BASE64.encode(&bytes[..NONCE_BYTES - 1])
        );
        assert!(refused(&keys(&[1]), &key, cut.into_bytes()).contains("cut off"));
    }

    /// A store that several handles share, as brokers that come one after the other do.
    struct Shared(Arc<Memory>);

    impl Store for Shared {
        fn read(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, Error> {
            self.0.read(keys)
        }
        fn bindings(&self, instance_id: &str) -> Result<Vec<(String, Record)>, Error> {
            self.0.bindings(instance_id)
        }
        fn instances(&self, after: &str, most: usize) -> Result<Vec<(String, Record)>, Error> {
            self.0.instances(after, most)
        }
        fn open_operations(&self) -> Result<Vec<Key>, Error> {
            self.0.open_operations()
        }
        fn commit(&self, changes: Vec<Change>) -> Result<Outcome, Error> {
            self.0.commit(changes)
        }
        fn describe(&self) -> String {
            "shared".to_owned()
        }
    }

    #[test]
    fn keys_are_rotated_and_the_old_one_can_go() {
        let memory = Arc::new(Memory::new());
        let shared = || Box::new(Shared(memory.clone()));
        let put = |store: &dyn Store, key: Key| {
            let put = Change::Put {
                key,
                revision: Revision::ABSENT,
                body: RECORD.into(),
                open: false,
            };
            assert!(matches!(store.commit(vec![put]), Ok(Outcome::Committed(_))));
        };
        let all = [
            Key::instance("plain"),
            Key::instance("i"),
            Key::binding("i", "b"),
        ];
        // Before there were keys.
        put(&*shared(), all[0].clone());
        assert!(refuse_sealed(&*shared()).is_ok());
        let first = Sealed::open(shared(), keys(&[1])).unwrap();
        put(&first, all[1].clone());
        put(&first, all[2].clone());
        drop(first);
        for wrong in [&[2][..], &[2, 3]] {
            let refused = Sealed::open(shared(), keys(wrong)).err().unwrap().message;
            assert!(refused.contains("is sealed with the key"), "{refused}");
        }
        assert!(refuse_sealed(&*shared()).is_err());
        let rotated = Sealed::open(shared(), keys(&[2, 1])).unwrap();
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while marker(&*memory).unwrap().1 != [keys(&[2]).current()] {
            assert!(std::time::Instant::now() < end);
            thread::yield_now();
        }
        drop(rotated);
        let only = Sealed::open(shared(), keys(&[2])).unwrap();
        for record in only.read(&all).unwrap() {
            assert!(same(&record.unwrap().body, RECORD.as_bytes()));
        }
        for record in memory.read(&all).unwrap() {
            assert!(
                !String::from_utf8(record.unwrap().body)
                    .unwrap()
                    .contains("hunter2")
            );
        }
    }
}
