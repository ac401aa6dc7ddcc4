//! Group commit: whatever waits is written together, so that 16 requests share one `fdatasync`, or one round trip.
//!
//! One thread at a time writes, but none is kept for it. Whoever comes when nobody is writing leads: takes all that waits,
//! writes it, and answers it. Who comes meanwhile waits, and the first of them leads next. So groups form by themselves under
//! load, and a lone commit waits for nobody, and wakes nobody either.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Commits of type `C`, each of which is answered with an `A`.
pub(super) struct Group<C, A> {
    queue: Mutex<Queue<C, A>>,
    /// How many are written together at most.
    most: usize,
}

struct Queue<C, A> {
    waiting: Vec<(C, SyncSender<Call<A>>)>,
    /// Whether somebody writes, or was told to.
    led: bool,
}

enum Call<A> {
    Lead,
    Answer(A),
}

impl<C, A> Group<C, A> {
    pub(super) fn new(most: usize) -> Group<C, A> {
        Group {
            queue: Mutex::new(Queue {
                waiting: Vec::new(),
                led: false,
            }),
            most,
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue<C, A>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a commit written, together with others where there are any, and returns its answer. `write` answers each of a
    /// group, in its order; nobody else writes meanwhile. `None` if who wrote it has panicked.
    pub(super) fn commit(&self, commit: C, write: impl Fn(&[C]) -> Vec<A>) -> Option<A> {
        // Room for both calls: nobody waits for who is called.
        let (called, calls) = sync_channel(2);
        let led = {
            let mut queue = self.queue();
            queue.waiting.push((commit, called));
            std::mem::replace(&mut queue.led, true)
        };
        if !led {
            self.lead(&write);
        }
        loop {
            match calls.recv().ok()? {
                Call::Lead => self.lead(&write),
                Call::Answer(answer) => return Some(answer),
            }
        }
    }

    fn lead(&self, write: impl Fn(&[C]) -> Vec<A>) {
        // The next one is called whatever becomes of this.
        let _handover = Handover(self);
        let group = {
            let waiting = &mut self.queue().waiting;
            let rest = waiting.split_off(waiting.len().min(self.most));
            std::mem::replace(waiting, rest)
        };
        let (commits, called): (Vec<C>, Vec<_>) = group.into_iter().unzip();
        for (called, answer) in called.into_iter().zip(write(&commits)) {
            // Who waits for it is there.
            let _ = called.send(Call::Answer(answer));
        }
    }
}

/// After the answers: who got one and comes again at once is still in the next group.
struct Handover<'g, C, A>(&'g Group<C, A>);

impl<C, A> Drop for Handover<'_, C, A> {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        match queue.waiting.first() {
            Some((_, next)) => _ = next.send(Call::Lead),
            None => queue.led = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::Barrier;
    use std::thread;

    /// Everybody gets the answer to what is theirs, no group is larger than allowed, and a panic costs its group alone.
    #[test]
    fn everybody_is_answered_and_a_panic_leaves_the_others_going() {
        let group: Group<u32, u32> = Group::new(4);
        let begin = Barrier::new(16);
        let answered: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..16)
                .map(|thread| {
                    let (group, begin) = (&group, &begin);
                    scope.spawn(move || {
                        begin.wait();
                        let mine = (0..200).map(|n| thread * 1000 + n);
                        let write = |commits: &[u32]| -> Vec<u32> {
                            assert!(commits.len() <= 4);
                            commits.iter().map(|n| n + 1).collect()
                        };
                        mine.filter(|n| group.commit(*n, write) == Some(n + 1))
                            .count()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(answered, 16 * 200);
        let panics = || group.commit(1, |_| panic!("as it was told"));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
        assert_eq!(group.commit(1, |_| vec![7]), Some(7));
    }
}
