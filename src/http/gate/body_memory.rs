//! The memory that all request bodies share.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

#[derive(Debug)]
pub struct BodyMemory {
    total: usize,
    free: Mutex<usize>,
    released: Condvar,
}

/// Bytes that are reserved until this is dropped.
#[derive(Debug)]
pub struct Reservation<'b> {
    memory: &'b BodyMemory,
    bytes: usize,
}

impl BodyMemory {
    pub fn new(total: usize) -> BodyMemory {
        BodyMemory {
            total,
            free: Mutex::new(total),
            released: Condvar::new(),
        }
    }

    fn free(&self) -> MutexGuard<'_, usize> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until this many bytes are free, or all if there are fewer, and reserves them. `None` at the deadline.
    pub fn reserve(&self, bytes: usize, deadline: Instant) -> Option<Reservation<'_>> {
        let bytes = bytes.min(self.total);
        let mut free = self.free();
        while *free < bytes {
            let left = deadline.checked_duration_since(Instant::now())?;
            free = self
                .released
                .wait_timeout(free, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        *free -= bytes;
        Some(Reservation {
            memory: self,
            bytes,
        })
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        *self.memory.free() += self.bytes;
        self.memory.released.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dropped_reservations_are_free_again() {
        let memory = BodyMemory::new(10);
        let soon = || Instant::now() + Duration::from_millis(5);
        let first = memory.reserve(6, soon()).unwrap();
        assert!(memory.reserve(5, soon()).is_none());
        let second = memory.reserve(4, soon()).unwrap();
        drop(first);
        let third = memory.reserve(6, soon()).unwrap();
        drop((second, third));
        assert!(memory.reserve(1000, soon()).is_some());
    }

    #[test]
    fn a_reservation_waits_until_there_is_enough() {
        let memory = BodyMemory::new(10);
        let far = Instant::now() + Duration::from_secs(60);
        let taken = memory.reserve(10, far).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| memory.reserve(10, far).is_some());
            drop(taken);
            assert!(waiting.join().unwrap());
        });
    }
}
