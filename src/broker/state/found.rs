//! Records as a store keeps them: JSON.

use crate::broker::protocol::error::Error;
use crate::broker::protocol::instance::record::Instance;
use crate::broker::protocol::operation::Operation;
use crate::broker::protocol::tombstone::Tombstone;
use crate::store::{Change, Key, Record, Revision};

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::RefCell;

/// What a thread keeps for writing records down, in bytes: nearly all are smaller.
const ROOM: usize = 4096;

/// A record as it was read; absent ones have the revision [`Revision::ABSENT`].
pub struct Found<T> {
    pub revision: Revision,
    pub record: Option<T>,
    /// The last operation of a record that is no more.
    pub gone: Option<Operation>,
    /// A service instance that was deprovisioned and is kept. Nobody but the broker itself works with it.
    pub kept: Option<Box<T>>,
    /// Another broker works on it.
    pub elsewhere: bool,
}

impl Found<Instance> {
    /// As [`Found::new`], but what is kept is no record.
    pub fn visible(found: Option<Record>) -> Result<Found<Instance>, Error> {
        let mut found = Found::<Instance>::new(found)?;
        if let Some(instance) = found.record.take_if(|instance| instance.is_hidden()) {
            found.gone = Some(instance.hidden_by()).filter(|operation| operation.asynchronous);
            found.kept = Some(instance.into());
        }
        Ok(found)
    }
}

impl<T: DeserializeOwned> Found<T> {
    pub fn new(found: Option<Record>) -> Result<Found<T>, Error> {
        let Some(Record {
            revision,
            body,
            elsewhere,
        }) = found
        else {
            return Ok(Found {
                revision: Revision::ABSENT,
                record: None,
                gone: None,
                kept: None,
                elsewhere: false,
            });
        };
        match decode(&body) {
            Ok(record) => Ok(Found {
                revision,
                record: Some(record),
                gone: None,
                kept: None,
                elsewhere,
            }),
            Err(error) => match serde_json::from_slice::<Tombstone>(&body) {
                Ok(tombstone) => Ok(Found {
                    revision,
                    record: None,
                    gone: Some(tombstone.operation),
                    kept: None,
                    elsewhere: false,
                }),
                Err(_) => Err(error),
            },
        }
    }
}

/// A record where it does no harm that one cannot be read: it is told when somebody asks for it.
pub fn read<T: DeserializeOwned>(record: &Record) -> Option<T> {
    decode(&record.body).ok()
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| Error::unreadable("a record", &error))
}

/// Stores may keep what they get, so it is as large as it has to be and no larger.
fn encode(record: &impl Serialize) -> Result<Vec<u8>, Error> {
    thread_local!(static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });
    TEXT.with_borrow_mut(|text| {
        text.clear();
        let written = serde_json::to_writer(&mut *text, record);
        let body = text.as_slice().to_vec();
        text.shrink_to(ROOM);
        written.map_err(|error| Error::unreadable("a record", &error))?;
        Ok(body)
    })
}

/// The change that writes a record.
pub fn put(
    key: Key,
    revision: Revision,
    record: &impl Serialize,
    open: bool,
) -> Result<Change, Error> {
    Ok(Change::Put {
        key,
        revision,
        body: encode(record)?,
        open,
    })
}
