//! What writes to the database, over one connection: commits that meet share a round trip and a transaction.
//!
//! If the connection breaks before the answer has come, nobody knows whether the transaction was committed. Then each commit of
//! it is sent again: every put has a revision of its own, so a commit that was there already does not hold the second time, but
//! its revision is in the record.

use super::schema::{self, does_not_hold, step};
use crate::postgres::{Error, Kind, Pool, Statement};
use crate::store::group::Group;
use crate::store::{self, Change, Key, Outcome, Revision};

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
    group: Group<Commit, Committed>,
}

struct Commit {
    changes: Vec<Change>,
    /// That of its puts.
    revision: Revision,
}

type Committed = Result<Outcome, store::Error>;

impl Writer {
    pub fn new(pool: Pool, owner: &str) -> Writer {
        Writer {
            pool,
            owner: owner.to_owned(),
            group: Group::new(TOGETHER),
        }
    }

    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    pub fn commit(&self, changes: Vec<Change>, revision: Revision) -> Committed {
        let commit = Commit { changes, revision };
        let answer = self.group.commit(commit, |commits| self.write(commits));
        answer.unwrap_or_else(|| Err(self.failed("the commit was given up", true)))
    }

    fn write(&self, group: &[Commit]) -> Vec<Committed> {
        let deadline = Instant::now() + COMMIT_TIME;
        match self.together(group, deadline.min(Instant::now() + TRY_TIME)) {
            Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
            Err(error) if error.kind == Kind::Connect => {
                let error = self.failed(&error.message, false);
                group.iter().map(|_| Err(error.clone())).collect()
            }
            // One of them did not hold, which took back all; or nobody knows.
            Err(error) => {
                let unknown = error.is_connection();
                let outcomes = group
                    .iter()
                    .map(|commit| self.alone(commit, unknown, deadline));
                outcomes.collect()
            }
        }
    }

    /// All commits in one transaction.
    fn together(&self, group: &[Commit], deadline: Instant) -> Result<Vec<Outcome>, Error> {
        let mut statements = Vec::new();
        let mut wanted = Vec::new();
        for commit in group {
            let alone = commit.changes.len() == 1;
            for change in &commit.changes {
                let step = step(change, commit.revision, &self.owner, alone);
                wanted.push(step.wanted);
                statements.push(step.statement);
            }
        }
        let counts = self.run(&statements, deadline)?;
        let mut holds = counts
            .iter()
            .zip(wanted)
            .map(|(count, wanted)| wanted.is_none_or(|wanted| *count == wanted));
        Ok(group
            .iter()
            .map(|commit| {
                let held = holds.by_ref().take(commit.changes.len());
                match held.fold(true, |all, holds| all & holds) {
                    true => Outcome::Committed(commit.revision),
                    false => Outcome::Conflict,
                }
            })
            .collect())
    }

    /// Once: what was sent over a connection that broke may have been committed.
    fn run(&self, statements: &[Statement<'_>], deadline: Instant) -> Result<Vec<u64>, Error> {
        let done = self
            .pool
            .once(deadline, |connection| connection.run(statements, deadline))?;
        Ok(done.into_iter().map(|done| done.count).collect())
    }

    /// One commit in a transaction of its own, until it is known what became of it. `unknown` says that it may have been
    /// committed before.
    fn alone(&self, commit: &Commit, mut unknown: bool, deadline: Instant) -> Committed {
        loop {
            let until = deadline.min(Instant::now() + TRY_TIME);
            let error = match self.together(std::slice::from_ref(commit), until) {
                Ok(outcomes) => {
                    let outcome = outcomes.first().copied().unwrap_or(Outcome::Conflict);
                    match (outcome, unknown) {
                        (Outcome::Conflict, true) => self.is_written(commit, until),
                        (outcome, _) => Ok(outcome),
                    }
                }
                Err(error) if does_not_hold(&error) && unknown => self.is_written(commit, until),
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
    fn is_written(&self, commit: &Commit, deadline: Instant) -> Result<Outcome, Error> {
        let keys: Vec<Key> = commit
            .changes
            .iter()
            .filter_map(|change| match change {
                Change::Put { key, .. } | Change::Delete { key, .. } => Some(key.clone()),
                Change::Expect { .. } | Change::DeleteBindings { .. } | Change::Audit(_) => None,
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
        let changed = commit
            .changes
            .iter()
            .filter(|change| matches!(change, Change::Put { .. } | Change::Delete { .. }));
        let all = changed.zip(revisions).all(|(change, found)| match change {
            Change::Put { .. } => found == commit.revision,
            _ => found == Revision::ABSENT,
        });
        Ok(match all {
            true => Outcome::Committed(commit.revision),
            false => Outcome::Conflict,
        })
    }

    fn failed(&self, what: &str, unknown: bool) -> store::Error {
        super::failed(self.pool.config(), what, unknown)
    }
}
