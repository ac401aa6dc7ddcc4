use super::keys::{NONCE_BYTES, taken_apart};
use super::*;
use crate::store::Revision;
use crate::store::contract;
use crate::store::memory::Memory;

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;
use std::time::Duration;

fn keys(numbers: &[u8]) -> Keys {
    let keys: Vec<[u8; KEY_BYTES]> = numbers.iter().map(|number| [*number; KEY_BYTES]).collect();
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
    let refused = |keys: &Keys, key: &Key, body: Vec<u8>| keys.open(key, body).unwrap_err().message;
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
    while marker::read(&*memory).unwrap().1 != [keys(&[2]).current()] {
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
