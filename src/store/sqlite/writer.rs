//! Group commit: everything that waits goes into one transaction, so that 16 requests share one `fdatasync`.
//!
//! One thread at a time writes, but none is kept for it. Whoever comes when nobody is writing leads: takes all that waits,
//! writes it, and answers it. Who comes meanwhile waits, and the first of them leads next. So company forms by itself under
//! load, and a lone commit waits for nobody, and wakes nobody either.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, TransactionBehavior};

use super::guard::Place;
use super::{Filling, failed, schema};
use crate::store::{Change, Error, Outcome, Revision};

pub(super) struct Writer {
    queue: Mutex<Queue>,
    /// Locked by who leads. `None` once it is closed.
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

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// Whether somebody writes, or was told to.
    led: bool,
}

struct Waiting {
    changes: Vec<Change>,
    called: SyncSender<Call>,
}

enum Call {
    Lead,
    Answer(Result<Outcome, Error>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writer {
    pub(super) fn new(connection: Connection) -> rusqlite::Result<Writer> {
        let reserved = schema::reserved(&connection)?;
        let ledger = Ledger {
            connection,
            next: reserved,
            reserved,
        };
        Ok(Writer {
            queue: Mutex::default(),
            ledger: Mutex::new(Some(ledger)),
        })
    }

    /// Commits, together with others where there are any, and returns when that is on disk.
    pub(super) fn commit(&self, place: &Place, changes: Vec<Change>) -> Result<Outcome, Error> {
        // Room for both calls: nobody waits for who is called.
        let (called, calls) = sync_channel(2);
        let led = {
            let mut queue = lock(&self.queue);
            queue.waiting.push(Waiting { changes, called });
            std::mem::replace(&mut queue.led, true)
        };
        if !led {
            self.lead(place);
        }
        loop {
            match calls.recv() {
                Ok(Call::Lead) => self.lead(place),
                Ok(Call::Answer(answer)) => return answer,
                // Only if who led has panicked.
                Err(_) => return Err(place.error("cannot be written: the commit was given up")),
            }
        }
    }

    fn lead(&self, place: &Place) {
        // The next one is called whatever becomes of this.
        let _handover = Handover(&self.queue);
        let mut ledger = lock(&self.ledger);
        let batch = std::mem::take(&mut lock(&self.queue).waiting);
        let outcomes = match &mut *ledger {
            Some(ledger) => ledger.commit(place, &batch),
            None => Err(place.error("closed")),
        };
        drop(ledger);
        for (at, waiting) in batch.into_iter().enumerate() {
            let answer = match &outcomes {
                Ok(outcomes) => Ok(outcomes[at]),
                Err(error) => Err(error.clone()),
            };
            // Who waits for it is there.
            let _ = waiting.called.send(Call::Answer(answer));
        }
    }

    /// Puts records into a file that has none, in one transaction. What `next` gives is not kept in memory.
    pub(super) fn fill<E: From<Error>>(
        &self,
        place: &Place,
        next: &mut dyn FnMut() -> Result<Option<Filling>, E>,
    ) -> Result<(), E> {
        let mut ledger = lock(&self.ledger);
        let Some(ledger) = &mut *ledger else {
            return Err(place.error("closed").into());
        };
        let cannot = |error| failed(place, "cannot be written", &error);
        let transaction = ledger
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(cannot)?;
        if !schema::is_empty(&transaction).map_err(cannot)? {
            return Err(place
                .error("has records already; wanted a store without any")
                .into());
        }
        let revision = Revision(ledger.next);
        while let Some(Filling { key, body, open }) = next()? {
            let change = Change::Put {
                key,
                revision: Revision::ABSENT,
                body,
                open,
            };
            if !schema::holds(&transaction, std::slice::from_ref(&change)).map_err(cannot)? {
                return Err(place
                    .error("a record came twice; nothing was written")
                    .into());
            }
            schema::apply(&transaction, &change, revision).map_err(cannot)?;
        }
        let reserved = ledger.reserved.max(ledger.next + 1);
        schema::reserve(&transaction, reserved).map_err(cannot)?;
        transaction.commit().map_err(cannot)?;
        (ledger.next, ledger.reserved) = (ledger.next + 1, reserved);
        Ok(())
    }

    /// Takes the log over into the file, where no other process reads it.
    pub(super) fn close(&self) {
        let ledger = lock(&self.ledger).take();
        if let Some(Ledger { connection, .. }) = ledger {
            // SQLite does so itself in closing, if this is the last connection of all processes.
            let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        }
    }
}

/// After the answers: who got one and comes again at once is still in the next batch.
struct Handover<'a>(&'a Mutex<Queue>);

impl Drop for Handover<'_> {
    fn drop(&mut self) {
        let mut queue = lock(self.0);
        match queue.waiting.first() {
            Some(next) => _ = next.called.send(Call::Lead),
            None => queue.led = false,
        }
    }
}

impl Ledger {
    /// One outcome for each commit of the batch, or an error for all of them: then none of them was made.
    fn commit(&mut self, place: &Place, batch: &[Waiting]) -> Result<Vec<Outcome>, Error> {
        place.same_file()?;
        let before = self.reserved;
        self.try_commit(batch).map_err(|error| {
            self.reserved = before;
            self.take_back();
            failed(place, "cannot be written", &error)
        })
    }

    /// Judges each commit against the state that the ones before it left, and makes all that hold in one transaction.
    fn try_commit(&mut self, batch: &[Waiting]) -> rusqlite::Result<Vec<Outcome>> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut outcomes = Vec::with_capacity(batch.len());
        for Waiting { changes, .. } in batch {
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
        let reserved = self.reserved + 1;
        if schema::reserve(&self.connection, reserved).is_ok() {
            self.reserved = reserved;
        }
    }
}
