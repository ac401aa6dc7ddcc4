//! A store that outlives its broker and fails when the test says so.

use super::{Api, Fake, PLANS};

use brokerlet::store::memory::Memory;
use brokerlet::store::{Change, Error, Key, Outcome, Record, Store};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A store in memory that outlives its broker, as a disk does, and that can fail.
#[derive(Clone, Default)]
pub struct Shelf(Arc<Inner>);

#[derive(Default)]
struct Inner {
    memory: Memory,
    commits: AtomicUsize,
    /// How many more commits succeed, and then how many fail.
    script: Mutex<Option<(usize, usize)>>,
    panics: AtomicBool,
    before_commit: Interlude,
    before_read: Interlude,
}

/// What happens before something else does, once.
#[derive(Default)]
struct Interlude(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Interlude {
    fn set(&self, interlude: impl FnOnce() + Send + 'static) {
        *self.0.lock().unwrap() = Some(Box::new(interlude));
    }

    fn play(&self) {
        let interlude = self.0.lock().unwrap().take();
        if let Some(interlude) = interlude {
            interlude();
        }
    }
}

impl Shelf {
    pub fn new() -> Shelf {
        Shelf::default()
    }

    /// A broker on what is in the store; it has recovered.
    pub fn broker(&self, fake: &Fake) -> Api {
        self.broker_offering(&PLANS, fake)
    }

    /// The same, with some of the plans only.
    pub fn broker_offering(&self, plans: &[&'static str], fake: &Fake) -> Api {
        let cut = Arc::new(AtomicBool::new(false));
        let store = Handle(self.clone(), cut.clone());
        Api::new(Box::new(store), plans, fake, cut)
    }

    /// So many commits succeed from now on, then so many fail, then all succeed again.
    pub fn fail(&self, after: usize, times: usize) {
        *self.0.script.lock().unwrap() = Some((after, times));
    }

    /// All commits succeed again.
    pub fn heal(&self) {
        *self.0.script.lock().unwrap() = None;
    }

    /// Lets this happen just before the next commit, once everything for that was read.
    pub fn before_next_commit(&self, interlude: impl FnOnce() + Send + 'static) {
        self.0.before_commit.set(interlude);
    }

    /// Lets this happen just before records are read the next time.
    pub fn before_next_read(&self, interlude: impl FnOnce() + Send + 'static) {
        self.0.before_read.set(interlude);
    }

    /// Whether reading panics.
    pub fn set_panics(&self, panics: bool) {
        self.0.panics.store(panics, Ordering::SeqCst);
    }

    /// How many commits succeeded since this was asked last.
    pub fn commits(&self) -> usize {
        self.0.commits.swap(0, Ordering::SeqCst)
    }

    fn fails(&self) -> bool {
        match &mut *self.0.script.lock().unwrap() {
            Some((after, _)) if *after > 0 => {
                *after -= 1;
                false
            }
            Some((_, times)) if *times > 0 => {
                *times -= 1;
                true
            }
            _ => false,
        }
    }
}

impl Store for Shelf {
    fn read(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, Error> {
        assert!(
            !self.0.panics.load(Ordering::SeqCst),
            "the store panics, as it was told"
        );
        self.0.memory.read(keys)
    }

    fn bindings(&self, instance_id: &str) -> Result<Vec<(String, Record)>, Error> {
        self.0.memory.bindings(instance_id)
    }

    fn instances(&self, after: &str, most: usize) -> Result<Vec<(String, Record)>, Error> {
        self.0.memory.instances(after, most)
    }

    fn open_operations(&self) -> Result<Vec<Key>, Error> {
        self.0.memory.open_operations()
    }

    fn commit(&self, changes: Vec<Change>) -> Result<Outcome, Error> {
        if self.fails() {
            return Err(Error::new("the disk is full".to_owned()));
        }
        let outcome = self.0.memory.commit(changes)?;
        if outcome != Outcome::Conflict {
            self.0.commits.fetch_add(1, Ordering::SeqCst);
        }
        Ok(outcome)
    }

    fn describe(&self) -> String {
        "shelf".to_owned()
    }
}

/// The shelf as one broker sees it, until that is killed.
struct Handle(Shelf, Arc<AtomicBool>);

impl Handle {
    fn alive(&self) -> Result<&Shelf, Error> {
        match self.1.load(Ordering::SeqCst) {
            false => Ok(&self.0),
            true => Err(Error::new("the broker was killed".to_owned())),
        }
    }
}

impl Store for Handle {
    fn read(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, Error> {
        self.0.0.before_read.play();
        self.alive()?.read(keys)
    }

    fn bindings(&self, instance_id: &str) -> Result<Vec<(String, Record)>, Error> {
        self.alive()?.bindings(instance_id)
    }

    fn instances(&self, after: &str, most: usize) -> Result<Vec<(String, Record)>, Error> {
        self.alive()?.instances(after, most)
    }

    fn open_operations(&self) -> Result<Vec<Key>, Error> {
        self.alive()?.open_operations()
    }

    fn commit(&self, changes: Vec<Change>) -> Result<Outcome, Error> {
        self.0.0.before_commit.play();
        self.alive()?.commit(changes)
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}
