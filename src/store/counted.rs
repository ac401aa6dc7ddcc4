//! A store in front of another one, which counts what is asked of it.

use super::{Change, Error, Key, Outcome, Record, SeeLine, Store};
use crate::metrics::{Counter, Histogram, SHORT, Text};

use std::time::Instant;

struct Counts {
    committed: Counter,
    conflicts: Counter,
    failed: Counter,
    reads: Counter,
    failed_reads: Counter,
    commits: Histogram<{ SHORT.len() }>,
}

static COUNTS: Counts = Counts {
    committed: Counter::new(),
    conflicts: Counter::new(),
    failed: Counter::new(),
    reads: Counter::new(),
    failed_reads: Counter::new(),
    commits: Histogram::new(&SHORT),
};

/// Counts for the store that it holds.
pub struct Counted(pub Box<dyn Store>);

/// Counts a read.
fn read<T>(result: Result<T, Error>) -> Result<T, Error> {
    let counter = match &result {
        Ok(_) => &COUNTS.reads,
        Err(_) => &COUNTS.failed_reads,
    };
    counter.add();
    result
}

impl Store for Counted {
    fn read(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, Error> {
        read(self.0.read(keys))
    }

    fn bindings(&self, instance_id: &str) -> Result<Vec<(String, Record)>, Error> {
        read(self.0.bindings(instance_id))
    }

    fn instances(&self, after: &str, most: usize) -> Result<Vec<(String, Record)>, Error> {
        read(self.0.instances(after, most))
    }

    fn open_operations(&self) -> Result<Vec<Key>, Error> {
        read(self.0.open_operations())
    }

    fn commit(&self, changes: Vec<Change>) -> Result<Outcome, Error> {
        let began = Instant::now();
        let outcome = self.0.commit(changes);
        COUNTS.commits.add(began.elapsed());
        let counter = match &outcome {
            Ok(Outcome::Committed(_)) => &COUNTS.committed,
            Ok(Outcome::Conflict) => &COUNTS.conflicts,
            Err(_) => &COUNTS.failed,
        };
        counter.add();
        outcome
    }

    fn keeps_audit(&self) -> bool {
        self.0.keeps_audit()
    }

    fn audit(&self, since: u64, see: &mut SeeLine<'_>) -> Result<(), Error> {
        self.0.audit(since, see)
    }

    fn forget_audit(&self, before: u64, most: usize) -> Result<usize, Error> {
        self.0.forget_audit(before, most)
    }

    fn is_shared(&self) -> bool {
        self.0.is_shared()
    }

    fn take_over(&self) -> Result<Vec<Key>, Error> {
        read(self.0.take_over())
    }

    fn close(&self) {
        self.0.close();
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}

/// Writes what was counted.
pub fn write(text: &mut Text) {
    let mut commits = text.counter(
        "brokerlet_store_commits_total",
        "Commits to the state; a conflict wrote nothing, since another request was faster.",
    );
    commits.sample(&[("outcome", "committed")], COUNTS.committed.get());
    commits.sample(&[("outcome", "conflict")], COUNTS.conflicts.get());
    commits.sample(&[("outcome", "failed")], COUNTS.failed.get());
    text.histogram(
        "brokerlet_store_commit_duration_seconds",
        "How long a commit took until it was durable.",
    )
    .durations(&[], &COUNTS.commits);
    let mut reads = text.counter("brokerlet_store_reads_total", "Reads of the state.");
    reads.sample(&[("outcome", "read")], COUNTS.reads.get());
    reads.sample(&[("outcome", "failed")], COUNTS.failed_reads.get());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{contract, memory::Memory};

    #[test]
    fn it_is_as_good_a_store_as_the_one_behind_it() {
        contract::check(&Counted(Box::new(Memory::new())));
    }
}
