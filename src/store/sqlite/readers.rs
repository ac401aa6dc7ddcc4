//! Connections that read: they block nobody, and see what is durable only, since a commit shows itself after its sync.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use super::guard::Place;
use super::{connect, failed};
use crate::store::Error;

/// More would not be faster, on the processors that a broker has.
const MOST: usize = 4;

pub(super) struct Readers {
    cache_bytes: usize,
    pool: Mutex<Pool>,
    returned: Condvar,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Connection>,
    /// Idle or in use.
    open: usize,
    closed: bool,
}

impl Readers {
    pub(super) fn new(cache_bytes: usize) -> Readers {
        Readers {
            cache_bytes,
            pool: Mutex::default(),
            returned: Condvar::new(),
        }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads through a connection that nobody else uses meanwhile.
    pub(super) fn read<T>(
        &self,
        place: &Place,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        let mut lent = self.take(place)?;
        let connection = match lent.connection.take() {
            Some(connection) => connection,
            None => self.connect(place)?,
        };
        let found = read(&connection);
        // After an error a new connection begins from nothing.
        lent.connection = Some(connection).filter(|_| found.is_ok());
        found.map_err(|error| failed(place, "cannot be read", &error))
    }

    fn connect(&self, place: &Place) -> Result<Connection, Error> {
        place.same_file()?;
        let connection = connect(place, self.cache_bytes / MOST).and_then(|connection| {
            connection.pragma_update(None, "query_only", true)?;
            Ok(connection)
        });
        connection.map_err(|error| failed(place, "cannot be opened", &error))
    }

    fn take(&self, place: &Place) -> Result<Lent<'_>, Error> {
        let mut pool = self.pool();
        loop {
            if pool.closed {
                return Err(place.error("closed"));
            }
            let connection = pool.idle.pop();
            if connection.is_some() || pool.open < MOST {
                pool.open += usize::from(connection.is_none());
                return Ok(Lent {
                    readers: self,
                    connection,
                });
            }
            pool = self
                .returned
                .wait(pool)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Those in use are closed when they come back.
    pub(super) fn close(&self) {
        let mut pool = self.pool();
        pool.closed = true;
        pool.idle.clear();
        self.returned.notify_all();
    }
}

/// A place in the pool, and mostly a connection; given back when it is dropped.
struct Lent<'a> {
    readers: &'a Readers,
    connection: Option<Connection>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut pool = self.readers.pool();
        match self.connection.take() {
            Some(connection) if !pool.closed => pool.idle.push(connection),
            _ => pool.open -= 1,
        }
        self.readers.returned.notify_one();
    }
}
