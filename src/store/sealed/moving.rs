//! Records that are moved from one store to another, or looked at.

use super::keys::{Keys, is_stale, taken_apart};
use super::marker;
use crate::store::inspect::Filling;
use crate::store::{Error, Key};

/// Whether it is that of the record that names the keys.
pub fn is_marker(key: &Key) -> bool {
    *key == marker::key()
}

/// The name of the key that a record is sealed with. `None` if it is not sealed.
pub fn sealed_with(body: &[u8]) -> Option<String> {
    taken_apart(body).map(|(_, name, _)| name)
}

impl Keys {
    /// The body of a record for a store that is sealed with the current key. An error if it is sealed with a key that is not here.
    pub fn seal_anew(&self, key: &Key, body: Vec<u8>) -> Result<Vec<u8>, Error> {
        let plain = self.open(key, body.clone())?;
        match is_stale(&body, self.current()) {
            true => self.seal(key, plain),
            false => Ok(body),
        }
    }

    /// The record that names the current key, for a store whose records are all sealed with it.
    pub fn marker(&self) -> Result<Filling, Error> {
        Ok(Filling {
            key: marker::key(),
            body: marker::body(vec![self.current().to_owned()])?,
            open: false,
        })
    }
}
