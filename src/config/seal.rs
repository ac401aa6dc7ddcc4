//! The keys that secrets in the state are sealed with.

use super::{Environment, Reader};
use crate::store::sealed::{KEY_BYTES, Keys};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// Those of a broker with this environment: for whoever looks into its state.
pub fn keys(environment: Environment<'_>) -> Result<Option<Keys>, Vec<String>> {
    let mut reader = Reader::new(environment);
    let keys = read(&mut reader);
    match reader.errors.is_empty() {
        true => Ok(keys),
        false => Err(reader.errors),
    }
}

/// No part of a key is part of a complaint.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Keys> {
    let text = reader.secret("BROKER_SEAL_KEYS", &[], "BROKER_SEAL_KEYS_FILE")?;
    let mut keys = Vec::new();
    for (at, key) in text.split([',', '\n']).map(str::trim).enumerate() {
        if key.is_empty() {
            continue;
        }
        let bytes = BASE64_STANDARD.decode(key).ok();
        match bytes.and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes).ok()) {
            Some(key) => keys.push(key),
            None => reader.errors.push(format!(
                "BROKER_SEAL_KEYS: key {} is not {KEY_BYTES} bytes in Base64, as openssl rand -base64 {KEY_BYTES} prints them",
                at + 1
            )),
        }
    }
    Keys::new(&keys)
}
