//! The record that names the keys which records may be sealed with. Its id is none that a service instance has.

use crate::store::{Change, Error, Key, Outcome, Revision, Store};

use serde::{Deserialize, Serialize};

/// The record that names the keys. `gone` hides it from whoever lists instances.
#[derive(Serialize, Deserialize)]
struct Marker {
    gone: String,
    sealed_with: Vec<String>,
}

pub fn key() -> Key {
    // The ids of platforms have no control characters.
    Key::instance("\u{1}keys")
}

pub fn read(store: &dyn Store) -> Result<(Revision, Vec<String>), Error> {
    let found = store.read(&[key()])?.into_iter().next().flatten();
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

pub fn body(sealed_with: Vec<String>) -> Result<Vec<u8>, Error> {
    let marker = Marker {
        gone: "1970-01-01T00:00:00Z".to_owned(),
        sealed_with,
    };
    serde_json::to_vec(&marker).map_err(|error| Error::new(error.to_string()))
}

/// Whether nobody else was faster.
pub fn write(
    store: &dyn Store,
    revision: Revision,
    sealed_with: Vec<String>,
) -> Result<bool, Error> {
    let put = Change::Put {
        key: key(),
        revision,
        body: body(sealed_with)?,
        open: false,
    };
    Ok(matches!(store.commit(vec![put])?, Outcome::Committed(_)))
}
