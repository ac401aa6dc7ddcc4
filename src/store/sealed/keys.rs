//! The keys, and what they make of the secrets in the body of a record.

use crate::random;
use crate::store::{Error, Key};

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The fields of a record that are sealed. What `answer` holds is what the platform was given.
const SECRET: [&str; 4] = ["answer", "parameters", "state", "update"];
/// The field that takes their place: the key's name, a dot, and nonce and ciphertext in Base64.
const SEALED: &str = "sealed";

/// The bytes of a key.
pub const KEY_BYTES: usize = 32;
pub(super) const NONCE_BYTES: usize = 24;

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

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    pub(super) fn current(&self) -> &str {
        self.names().next().unwrap_or_default()
    }

    /// The body of a record with its secrets sealed. What is no record of an instance or binding stays as it is.
    pub(super) fn seal(&self, key: &Key, body: Vec<u8>) -> Result<Vec<u8>, Error> {
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
pub(super) fn taken_apart(body: &[u8]) -> Option<(Fields, String, Vec<u8>)> {
    let mut fields: Fields = serde_json::from_slice(body).ok()?;
    let sealed: String = serde_json::from_str(fields.remove(SEALED)?.get()).ok()?;
    let (name, sealed) = sealed.split_once('.')?;
    Some((fields, name.to_owned(), BASE64.decode(sealed).ok()?))
}

/// Whether a record that is sealed with another key, or has secrets that are not sealed, may be written anew.
pub(super) fn is_stale(body: &[u8], current: &str) -> bool {
    let Ok(fields) = serde_json::from_slice::<Fields>(body) else {
        return false;
    };
    match taken_apart(body) {
        Some((_, name, _)) => name != current,
        None => SECRET.iter().any(|name| fields.contains_key(*name)),
    }
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
