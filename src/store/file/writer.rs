//! The one thread that writes: everything that waits goes into one transaction, so that 16 requests share one
//! `fdatasync`. It also opens the database again after a fault of the file.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, PoisonError};

use redb::Database;

use super::tables::{Batch, Revisions};
use super::{Live, Shared};
use crate::store::{Change, Error, Outcome};

pub(super) enum Work {
    Commit(Commit),
    /// Opens the database again where it is broken, so that reading works again.
    Mend(SyncSender<Result<(), Error>>),
    Stop,
}

pub(super) struct Commit {
    pub(super) changes: Vec<Change>,
    pub(super) answer: SyncSender<Result<Outcome, Error>>,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    revisions: Revisions,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, revisions: Revisions) -> Writer {
        Writer { shared, revisions }
    }

    /// Ends on [`Work::Stop`], or when nobody can send work any more. Should it ever end otherwise, the channel closes
    /// and the answers in it are dropped, and whoever waits for one is told.
    pub(super) fn run(mut self, queue: &Receiver<Work>) {
        while let Ok(first) = queue.recv() {
            let mut commits = Vec::new();
            let mut mends = Vec::new();
            let mut stop = false;
            // What came while the last batch was being written is the next batch: company forms by itself under load,
            // and a lone commit waits for none.
            for work in std::iter::once(first).chain(queue.try_iter()) {
                match work {
                    Work::Commit(commit) => commits.push(commit),
                    Work::Mend(answer) => mends.push(answer),
                    Work::Stop => stop = true,
                }
            }
            let usable = self.mend_if_broken();
            for answer in mends {
                // The other end waits until it gets this; it may only be gone if its thread was torn down.
                let _ = answer.send(usable.clone());
            }
            if !commits.is_empty() {
                self.answer(commits, usable);
            }
            if stop {
                return;
            }
        }
    }

    fn answer(&mut self, commits: Vec<Commit>, usable: Result<(), Error>) {
        match usable.and_then(|()| self.commit_all(&commits)) {
            Ok(outcomes) => {
                for (commit, outcome) in commits.into_iter().zip(outcomes) {
                    let _ = commit.answer.send(Ok(outcome));
                }
            }
            Err(error) => {
                // Before the answers: who is told that nothing was written shall find nothing, even after kill -9.
                // Where it does not succeed, the next piece of work tries again.
                let _ = self.mend_if_broken();
                for commit in commits {
                    let _ = commit.answer.send(Err(error.clone()));
                }
            }
        }
    }

    fn commit_all(&mut self, commits: &[Commit]) -> Result<Vec<Outcome>, Error> {
        let shared = Arc::clone(&self.shared);
        let live = shared.live();
        let Some(live) = live.as_ref() else {
            return Err(shared.closed());
        };
        shared.same_file()?;
        let before = live.disk.durable_header();
        let mut outcomes = Vec::with_capacity(commits.len());
        let result = catch_unwind(AssertUnwindSafe(|| {
            commit_in_one(&live.db, &mut self.revisions, commits, &mut outcomes)
        }));
        if let Ok(Ok(())) = result {
            return Ok(outcomes);
        }
        live.disk.give_up();
        // redb may fail after the commit was on disk, in tidying up. Then it was made, whatever redb says.
        if live.disk.durable_header() != before {
            return Ok(outcomes);
        }
        Err(match result {
            Ok(Err(error)) => shared.failed("cannot be written", &live.disk, &error),
            _ => shared
                .error("cannot be written: redb stopped half-way, which points to a damaged file"),
        })
    }

    fn mend_if_broken(&mut self) -> Result<(), Error> {
        if self.shared.live().as_ref().is_some_and(Live::usable) {
            return Ok(());
        }
        self.mend()
    }

    fn mend(&mut self) -> Result<(), Error> {
        self.shared.same_file()?;
        if let Some(live) = self.shared.live().as_ref() {
            let restored = live.disk.restore();
            restored.map_err(|error| self.shared.error(&format!("cannot be written: {error}")))?;
        }
        // Waits for the readers, which are short, and keeps them out until the database is back.
        let mut live = self
            .shared
            .live
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // The old database must have given up its lock before the file can be opened again.
        let old = live.take();
        let closed = catch_unwind(AssertUnwindSafe(|| drop(old)));
        if closed.is_err() {
            return Err(self
                .shared
                .error("cannot be closed after an error; restart the broker"));
        }
        let (opened, revisions) = self.shared.open()?;
        *live = Some(opened);
        self.revisions = revisions;
        Ok(())
    }
}

/// Judges each commit against the state that the ones before it left, and makes all that hold in one transaction.
fn commit_in_one(
    db: &Database,
    revisions: &mut Revisions,
    commits: &[Commit],
    outcomes: &mut Vec<Outcome>,
) -> Result<(), redb::Error> {
    // redb's default, one fdatasync for each transaction, is what makes a commit fast. Its `set_quick_repair`, which
    // would spare the walk through the file after kill -9, takes two of them and writes the allocator's state as well:
    // see benches/store.rs for both figures.
    let txn = db.begin_write()?;
    let mut batch = Batch::new(&txn, revisions);
    for commit in commits {
        outcomes.push(batch.commit(&commit.changes)?);
    }
    let changed = batch.changed();
    drop(batch);
    let _pin = redb::ReadableDatabase::begin_read(db)?;
    if changed {
        txn.commit()?;
    } else {
        txn.abort()?;
    }
    Ok(())
}
