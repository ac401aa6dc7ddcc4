//! Group commit over one connection: everything that waits goes into one round trip and one transaction.
//!
//! Whoever comes when nobody is writing leads, as in the file store. If the connection breaks before the answer has come, nobody
//! knows whether the transaction was committed. Then each commit of it is sent again: every put has a revision of its own, so
//! a commit that was there already does not hold the second time, but its revision is in the record.

use super::schema::{self, does_not_hold, step};
use crate::postgres::{Error, Kind, Pool, Statement};
use crate::store::{self, Change, Key, Outcome, Revision};

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a commit may take, with finding out what became of it.
const COMMIT_TIME: Duration = Duration::from_secs(15);
/// How long one try may take.
const TRY_TIME: Duration = Duration::from_secs(5);
/// Between two tries to reach a database that is away.
const AGAIN: Duration = Duration::from_millis(250);
/// How many commits share a transaction at most.
const TOGETHER: usize = 64;

pub struct Writer {
    /// Of one connection.
    pool: Pool,
    owner: String,
    queue: Mutex<Queue>,
    writing: Mutex<()>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// Whether somebody writes, or was told to.
    led: bool,
}

struct Waiting {
    changes: Vec<Change>,
    revision: Revision,
    called: SyncSender<Call>,
}

type Committed = Result<Outcome, store::Error>;

enum Call {
    Lead,
    Answer(Committed),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writer {
    pub fn new(pool: Pool, owner: &str) -> Writer {
        Writer {
            pool,
            owner: owner.to_owned(),
            queue: Mutex::default(),
            writing: Mutex::new(()),
        }
    }

    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    pub fn commit(&self, changes: Vec<Change>, revision: Revision) -> Committed {
        let (called, calls) = sync_channel(2);
        let led = {
            let mut queue = lock(&self.queue);
            queue.waiting.push(Waiting {
                changes,
                revision,
                called,
            });
            std::mem::replace(&mut queue.led, true)
        };
        if !led {
            self.lead();
        }
        loop {
            match calls.recv() {
                Ok(Call::Lead) => self.lead(),
                Ok(Call::Answer(answer)) => return answer,
                // Only if who led has panicked.
                Err(_) => return Err(self.failed("the commit was given up", true)),
            }
        }
    }

    fn lead(&self) {
        // The next one is called whatever becomes of this.
        let _handover = Handover(&self.queue);
        let _writing = lock(&self.writing);
        let batch = {
            let mut queue = lock(&self.queue);
            let rest = queue.waiting.len().min(TOGETHER);
            let rest = queue.waiting.split_off(rest);
            std::mem::replace(&mut queue.waiting, rest)
        };
        let outcomes = self.write(&batch);
        for (waiting, outcome) in batch.into_iter().zip(outcomes) {
            // Who waits for it is there.
            let _ = waiting.called.send(Call::Answer(outcome));
        }
    }

    fn write(&self, batch: &[Waiting]) -> Vec<Committed> {
        let deadline = Instant::now() + COMMIT_TIME;
        match self.together(batch, deadline.min(Instant::now() + TRY_TIME)) {
            Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
            Err(error) if error.kind == Kind::Connect => {
                let error = self.failed(&error.message, false);
                batch.iter().map(|_| Err(error.clone())).collect()
            }
            // One of them did not hold, which took back all; or nobody knows.
            Err(error) => {
                let mut unknown = error.is_connection();
                let mut away = None;
                batch
                    .iter()
                    .map(|waiting| match &away {
                        Some(error) if !unknown => Err(store::Error::clone(error)),
                        _ => self.alone(waiting, unknown, deadline).inspect_err(|error| {
                            unknown |= error.unknown;
                            away = Some(error.clone());
                        }),
                    })
                    .collect()
            }
        }
    }

    /// All commits in one transaction.
    fn together(&self, batch: &[Waiting], deadline: Instant) -> Result<Vec<Outcome>, Error> {
        let mut statements = Vec::new();
        let mut wanted = Vec::new();
        for waiting in batch {
            let alone = waiting.changes.len() == 1;
            for change in &waiting.changes {
                let step = step(change, waiting.revision, &self.owner, alone);
                wanted.push(step.wanted);
                statements.push(step.statement);
            }
        }
        let counts = self.run(&statements, deadline)?;
        let mut holds = counts
            .iter()
            .zip(wanted)
            .map(|(count, wanted)| wanted.is_none_or(|wanted| *count == wanted));
        Ok(batch
            .iter()
            .map(|waiting| {
                let held = holds.by_ref().take(waiting.changes.len());
                match held.fold(true, |all, holds| all & holds) {
                    true => Outcome::Committed(waiting.revision),
                    false => Outcome::Conflict,
                }
            })
            .collect())
    }

    /// The connection is kept, and a broken one is not tried again: what was sent may have been committed.
    fn run(&self, statements: &[Statement<'_>], deadline: Instant) -> Result<Vec<u64>, Error> {
        let mut sent = false;
        self.pool.with(deadline, |connection| {
            if std::mem::replace(&mut sent, true) {
                return Err(Error::new(Kind::Lost, "the connection broke"));
            }
            let done = connection.run(statements, deadline)?;
            Ok(done.into_iter().map(|done| done.count).collect())
        })
    }

    /// One commit in a transaction of its own, until it is known what became of it. `unknown` says that it may have been
    /// committed before.
    fn alone(&self, waiting: &Waiting, mut unknown: bool, deadline: Instant) -> Committed {
        loop {
            let until = deadline.min(Instant::now() + TRY_TIME);
            let error = match self.together(std::slice::from_ref(waiting), until) {
                Ok(outcomes) => {
                    let outcome = outcomes.first().copied().unwrap_or(Outcome::Conflict);
                    match (outcome, unknown) {
                        (Outcome::Conflict, true) => self.is_written(waiting, until),
                        (outcome, _) => Ok(outcome),
                    }
                }
                Err(error) if does_not_hold(&error) && unknown => self.is_written(waiting, until),
                Err(error) if does_not_hold(&error) => Ok(Outcome::Conflict),
                Err(error) => Err(error),
            };
            let error = match error {
                Ok(outcome) => return Ok(outcome),
                Err(error) => error,
            };
            if error.is_serialization() && Instant::now() < deadline {
                continue;
            }
            unknown |= error.kind != Kind::Connect && error.is_connection();
            // Without doubt there is nothing to wait for.
            if !unknown || Instant::now() + AGAIN >= deadline {
                return Err(self.failed(&error.message, unknown));
            }
            thread::sleep(AGAIN);
        }
    }

    /// Whether a commit that does not hold any more was committed itself.
    fn is_written(&self, waiting: &Waiting, deadline: Instant) -> Result<Outcome, Error> {
        let keys: Vec<Key> = waiting
            .changes
            .iter()
            .filter_map(|change| match change {
                Change::Put { key, .. } | Change::Delete { key, .. } => Some(key.clone()),
                Change::Expect { .. } | Change::DeleteBindings { .. } => None,
            })
            .collect();
        let mut sql = String::new();
        let statement = [schema::read(&keys, &mut sql)];
        let mut done = self.pool.run(&statement, deadline)?;
        let mut revisions = vec![Revision::ABSENT; keys.len()];
        for row in done.iter_mut().flat_map(|done| &mut done.rows) {
            let place = usize::try_from(row.int(0)?).unwrap_or(usize::MAX);
            if let Some(revision) = revisions.get_mut(place) {
                *revision = Revision(row.int(1)?.cast_unsigned());
            }
        }
        let changed = waiting
            .changes
            .iter()
            .filter(|change| matches!(change, Change::Put { .. } | Change::Delete { .. }));
        let all = changed.zip(revisions).all(|(change, found)| match change {
            Change::Put { .. } => found == waiting.revision,
            _ => found == Revision::ABSENT,
        });
        Ok(match all {
            true => Outcome::Committed(waiting.revision),
            false => Outcome::Conflict,
        })
    }

    fn failed(&self, what: &str, unknown: bool) -> store::Error {
        super::failed(self.pool.config(), what, unknown)
    }
}

/// Calls the next one to lead, or leaves nobody leading.
struct Handover<'a>(&'a Mutex<Queue>);

impl Drop for Handover<'_> {
    fn drop(&mut self) {
        let mut queue = lock(self.0);
        match queue.waiting.first() {
            // It is there: it waits to be called.
            Some(next) => drop(next.called.send(Call::Lead)),
            None => queue.led = false,
        }
    }
}
