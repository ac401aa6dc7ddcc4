//! How many instances there are of the plans that limit it, so that no more are made than there may be.
//!
//! Stores are not asked to count: that would be done with each request. It is known here which instances there are, from going
//! through the state once and from every commit since. Who makes one claims a place first, and holds that until the commit has
//! given it one. With other brokers on the same state, and with operators beside the broker, it is not exact, so it is
//! counted anew now and then.

use crate::broker::protocol::instance::record::Instance;
use crate::broker::protocol::instance::room::{Among, Full, judge_room};
use crate::catalog::Plan;
use crate::store::Key;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often it is counted anew, alone on a state and with other brokers.
const EVERY: Duration = Duration::from_secs(600);
const EVERY_SHARED: Duration = Duration::from_secs(60);
/// The same when somebody was refused: it may have been put right beside the broker.
const DOUBTED: Duration = Duration::from_secs(1);
/// The share of the time in which it is counted: one in so many.
const SHARE: u32 = 100;

/// What stands for an instance, and for what is counted together: there may be a million, so it is a hash.
type Id = u64;

#[derive(Default)]
pub struct Places {
    hasher: RandomState,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    /// `None` as long as no plan has limits.
    now: Option<Book>,
    /// What is being counted, to take the place of `now`.
    next: Option<Count>,
    counts: u64,
    counted: Option<Instant>,
    took: Duration,
    /// Somebody was refused since it was counted.
    doubted: bool,
}

struct Count {
    number: u64,
    began: Instant,
    book: Book,
    /// What was written down meanwhile: newer than what is met on the way.
    noted: HashSet<Id>,
}

#[derive(Default)]
struct Book {
    /// The plans that have limits.
    plans: Arc<HashSet<String>>,
    /// Where each instance is counted: by its record, and by those who are about to write it.
    placed: HashMap<Id, Box<[Id]>>,
    claimed: HashMap<Id, Vec<Box<[Id]>>>,
    sums: HashMap<Id, u64>,
}

/// A place that is held for an instance as long as this lives.
pub struct Claim<'a>(Option<(&'a Places, Id, Box<[Id]>)>);

impl Places {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn id(&self, key: &Key) -> Id {
        self.hasher.hash_one(key)
    }

    /// What an instance of this plan is counted in.
    fn sums(&self, plan_id: &str, organization: &str, space: &str) -> [Id; 3] {
        Among::EACH.map(|among| {
            let whose = match among {
                Among::All => "",
                Among::Organization => organization,
                Among::Space => space,
            };
            self.hasher.hash_one((plan_id, among, whose))
        })
    }

    fn all_sums<'p>(
        &self,
        plans: &HashSet<String>,
        plan_ids: impl Iterator<Item = &'p str>,
        organization: &str,
        space: &str,
    ) -> Box<[Id]> {
        let limited = plan_ids.filter(|plan_id| plans.contains(*plan_id));
        let sums = limited.flat_map(|plan_id| self.sums(plan_id, organization, space));
        sums.collect()
    }

    pub fn claim(
        &self,
        key: &Key,
        plan: &Plan,
        organization: &str,
        space: &str,
    ) -> Result<Claim<'_>, Full> {
        let limits = &plan.rules.limits;
        if limits.is_empty() {
            return Ok(Claim(None));
        }
        let (id, sums) = (self.id(key), self.sums(&plan.id, organization, space));
        let mut books = self.books();
        let Some(now) = &books.now else {
            return Ok(Claim(None));
        };
        let held = now.held(id);
        let there = |among| {
            let sum = sums[among as usize];
            let there = now.sums.get(&sum).copied().unwrap_or_default();
            (!held.contains(&sum)).then_some(there)
        };
        if let Some(full) = judge_room(limits, there) {
            books.doubted = true;
            return Err(full);
        }
        for book in books.each() {
            book.change(id, |book| {
                let claims = book.claimed.entry(id).or_default();
                claims.push(sums.into());
            });
        }
        Ok(Claim(Some((self, id, sums.into()))))
    }

    /// This is the record of an instance now. `None` if it is gone.
    pub fn note(&self, key: &Key, instance: Option<&Instance>) {
        if !matches!(key, Key::Instance(_)) {
            return;
        }
        let mut books = self.books();
        if books.now.is_none() && books.next.is_none() {
            return;
        }
        let id = self.id(key);
        let instance = instance.filter(|instance| instance.kept.is_none());
        for book in books.each() {
            let sums = instance.map(|instance| {
                let plan_ids = [&*instance.plan_id, instance.next_plan_id()].into_iter();
                let (organization, space) = (&instance.organization_guid, &instance.space_guid);
                self.all_sums(&book.plans, plan_ids, organization, space)
            });
            book.place(id, sums.unwrap_or_default());
        }
        if let Some(next) = &mut books.next {
            next.noted.insert(id);
        }
    }

    /// Begins to count: the instances of these plans, or of the same as before. `None` if there is nothing to count, or that
    /// is being done.
    pub fn begin(&self, plans: Option<HashSet<String>>) -> Option<u64> {
        let mut books = self.books();
        let (plans, claimed) = match (plans, &books.now) {
            (Some(plans), now) => {
                let claimed = now.as_ref().map(|now| now.claimed.clone());
                (Arc::new(plans), claimed.unwrap_or_default())
            }
            (None, Some(now)) if books.next.is_none() => (now.plans.clone(), now.claimed.clone()),
            (None, _) => return None,
        };
        let mut book = Book {
            plans,
            ..Book::default()
        };
        for (id, claims) in claimed {
            book.change(id, |book| book.claimed.insert(id, claims));
        }
        books.counts += 1;
        let number = books.counts;
        books.next = Some(Count {
            number,
            began: Instant::now(),
            book,
            noted: HashSet::new(),
        });
        Some(number)
    }

    /// Counts an instance that was met on the way, and is of these plans.
    pub fn meet<'p>(
        &self,
        number: u64,
        key: &Key,
        plan_ids: impl Iterator<Item = &'p str>,
        organization: &str,
        space: &str,
    ) {
        let id = self.id(key);
        let mut books = self.books();
        let next = books.next.as_mut();
        let next = next.filter(|next| next.number == number && !next.noted.contains(&id));
        if let Some(next) = next {
            let sums = self.all_sums(&next.book.plans, plan_ids, organization, space);
            next.book.place(id, sums);
        }
    }

    /// Takes what was counted, if that was to the end.
    pub fn end(&self, number: u64, whole: bool) {
        let mut books = self.books();
        let Some(next) = books.next.take_if(|next| next.number == number) else {
            return;
        };
        books.counted = Some(Instant::now());
        books.took = next.began.elapsed();
        books.doubted = false;
        if whole {
            let before = books.now.replace(next.book);
            // A million pieces of memory are given back while nobody waits for the lock.
            drop(books);
            drop(before);
        }
    }

    /// No plan has limits.
    pub fn forget(&self) {
        let mut books = self.books();
        (books.now, books.next) = (None, None);
    }

    /// How long until it is to be counted anew, if somebody waits for that or it is time.
    pub fn wait(&self, is_shared: bool) -> Option<Duration> {
        let books = self.books();
        books.now.as_ref()?;
        let every = match (books.doubted, is_shared) {
            (true, _) => DOUBTED,
            (false, true) => EVERY_SHARED,
            (false, false) => EVERY,
        };
        let left = every.max(books.took * SHARE);
        let left = left.saturating_sub(books.counted?.elapsed());
        (books.doubted || left.is_zero()).then_some(left)
    }
}

impl Books {
    fn each(&mut self) -> impl Iterator<Item = &mut Book> {
        let next = self.next.as_mut().map(|next| &mut next.book);
        self.now.iter_mut().chain(next)
    }
}

impl Book {
    /// Where an instance is counted: once, whoever says so.
    fn held(&self, id: Id) -> Vec<Id> {
        let placed = self.placed.get(&id).into_iter();
        let claimed = self.claimed.get(&id).into_iter().flatten();
        let mut held: Vec<Id> = placed.chain(claimed).flatten().copied().collect();
        held.sort_unstable();
        held.dedup();
        held
    }

    fn change<T>(&mut self, id: Id, change: impl FnOnce(&mut Book) -> T) {
        for sum in self.held(id) {
            if let Some(count) = self.sums.get_mut(&sum) {
                *count -= 1;
                if *count == 0 {
                    self.sums.remove(&sum);
                }
            }
        }
        change(self);
        for sum in self.held(id) {
            *self.sums.entry(sum).or_default() += 1;
        }
    }

    fn place(&mut self, id: Id, sums: Box<[Id]>) {
        self.change(id, |book| match sums.is_empty() {
            true => book.placed.remove(&id),
            false => book.placed.insert(id, sums),
        });
    }

    fn release(&mut self, id: Id, sums: &[Id]) {
        self.change(id, |book| {
            if let Some(claims) = book.claimed.get_mut(&id) {
                if let Some(at) = claims.iter().position(|claim| **claim == *sums) {
                    claims.swap_remove(at);
                }
                if claims.is_empty() {
                    book.claimed.remove(&id);
                }
            }
        });
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some((places, id, sums)) = &self.0 {
            for book in places.books().each() {
                book.release(*id, sums);
            }
        }
    }
}

#[cfg(test)]
mod tests;
