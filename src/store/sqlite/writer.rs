//! What writes to the file: commits that meet share a transaction.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, TransactionBehavior};

use super::guard::Place;
use super::{failed, schema};
use crate::random;
use crate::store::group::Group;
use crate::store::inspect::{Filling, Put};
use crate::store::{Change, Error, Outcome, Revision};

pub(super) struct Writer {
    group: Group<Vec<Change>, Result<Outcome, Error>>,
    /// `None` once it is closed.
    ledger: Mutex<Option<Ledger>>,
}

struct Ledger {
    connection: Connection,
    /// The next to be given.
    next: u64,
    /// Those below are written down as given.
    reserved: u64,
}

/// How many revisions are written down as given at once. Those that a process has left are lost, which costs nothing.
const REVISIONS: u64 = 1 << 16;

/// Revisions from here to 2^63 are those of [`Writer::beside`].
const BESIDE: u64 = 1 << 62;

impl Writer {
    pub(super) fn new(connection: Connection) -> rusqlite::Result<Writer> {
        let reserved = schema::reserved(&connection)?;
        let ledger = Ledger {
            connection,
            next: reserved,
            reserved,
        };
        Ok(Writer {
            group: Group::new(usize::MAX),
            ledger: Mutex::new(Some(ledger)),
        })
    }

    /// For a few commits beside a broker. Its revisions are random numbers that no broker comes to by counting.
    pub(super) fn beside(connection: Connection) -> io::Result<Writer> {
        let mut random = [0; 8];
        random::fill(&mut random)?;
        let ledger = Ledger {
            connection,
            next: BESIDE | u64::from_le_bytes(random) >> 3,
            reserved: u64::MAX,
        };
        Ok(Writer {
            group: Group::new(usize::MAX),
            ledger: Mutex::new(Some(ledger)),
        })
    }

    /// Commits, together with others where there are any, and returns when that is on disk.
    pub(super) fn commit(&self, place: &Place, changes: Vec<Change>) -> Result<Outcome, Error> {
        let write = |commits: &[Vec<Change>]| match &mut *self.ledger() {
            Some(ledger) => ledger.commit(place, commits),
            None => vec![Err(place.error("closed")); commits.len()],
        };
        let answer = self.group.commit(changes, write);
        answer.unwrap_or_else(|| Err(place.error("cannot be written: the commit was given up")))
    }

    fn ledger(&self) -> MutexGuard<'_, Option<Ledger>> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts records into a file that has none, in one transaction. What `source` gives is not kept in memory.
    pub(super) fn fill(
        &self,
        place: &Place,
        source: &mut dyn FnMut(&mut Put<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut ledger = self.ledger();
        let Some(ledger) = &mut *ledger else {
            return Err(place.error("closed"));
        };
        let cannot = |error| failed(place, "cannot be written", &error);
        let transaction = ledger
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(cannot)?;
        if !schema::is_empty(&transaction).map_err(cannot)? {
            return Err(place.error("has records already; wanted a store without any"));
        }
        let revision = Revision(ledger.next);
        source(&mut |Filling { key, body, open }| {
            let change = Change::Put {
                key,
                revision: Revision::ABSENT,
                body,
                open,
            };
            if !schema::holds(&transaction, std::slice::from_ref(&change)).map_err(cannot)? {
                return Err(place.error("a record came twice; nothing was written"));
            }
            schema::apply(&transaction, &change, revision).map_err(cannot)
        })?;
        let reserved = ledger.reserved.max(ledger.next + 1);
        schema::reserve(&transaction, reserved).map_err(cannot)?;
        transaction.commit().map_err(cannot)?;
        (ledger.next, ledger.reserved) = (ledger.next + 1, reserved);
        Ok(())
    }

    /// In a transaction of its own.
    pub(super) fn forget_audit(
        &self,
        place: &Place,
        before: u64,
        most: usize,
    ) -> Result<usize, Error> {
        let ledger = self.ledger();
        let Some(Ledger { connection, .. }) = &*ledger else {
            return Err(place.error("closed"));
        };
        place.same_file()?;
        schema::forget_audit(connection, before, most)
            .map_err(|error| failed(place, "cannot be written", &error))
    }

    /// Takes the log over into the file, where no other process reads it.
    pub(super) fn close(&self) {
        let ledger = self.ledger().take();
        if let Some(Ledger { connection, .. }) = ledger {
            // SQLite does so itself in closing, if this is the last connection of all processes.
            let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        }
    }
}

impl Ledger {
    /// An outcome for each commit of the group, or an error for all of them: then none of them was made.
    fn commit(&mut self, place: &Place, group: &[Vec<Change>]) -> Vec<Result<Outcome, Error>> {
        let before = self.reserved;
        let outcomes = place.same_file().and_then(|()| {
            self.try_commit(group).map_err(|error| {
                self.reserved = before;
                self.take_back();
                failed(place, "cannot be written", &error)
            })
        });
        match outcomes {
            Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error); group.len()],
        }
    }

    /// Judges each commit against the state that the ones before it left, and makes all that hold in one transaction.
    fn try_commit(&mut self, group: &[Vec<Change>]) -> rusqlite::Result<Vec<Outcome>> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut outcomes = Vec::with_capacity(group.len());
        for changes in group {
            if !schema::holds(&transaction, changes)? {
                outcomes.push(Outcome::Conflict);
                continue;
            }
            if self.next >= self.reserved {
                self.reserved = self.next + REVISIONS;
                schema::reserve(&transaction, self.reserved)?;
            }
            let revision = Revision(self.next);
            self.next += 1;
            for change in changes {
                schema::apply(&transaction, change, revision)?;
            }
            outcomes.push(Outcome::Committed(revision));
        }
        transaction.commit()?;
        Ok(outcomes)
    }

    /// Writes another transaction over one that failed, so that it does not come to light after kill -9: where only the sync
    /// failed, all of it may be in the log. If this fails as well, the next commit does it.
    fn take_back(&mut self) {
        // Beside a broker, which writes soon.
        if self.reserved == u64::MAX {
            return;
        }
        let reserved = self.reserved + 1;
        if schema::reserve(&self.connection, reserved).is_ok() {
            self.reserved = reserved;
        }
    }
}
