//! The last requests, and the last of those that failed, for the page of operators.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// How many of each are kept.
const KEPT: usize = 50;

/// A request as operators see it. Nothing in it is secret.
#[derive(Debug, Clone)]
pub struct Recent {
    pub at: SystemTime,
    pub method: &'static str,
    /// The template of its path.
    pub route: &'static str,
    pub instance_id: Option<String>,
    pub status: u16,
    /// Why it did not succeed.
    pub reason: Option<String>,
    pub took: Duration,
}

/// The last requests, the youngest last.
pub static REQUESTS: Ring = Ring::new();
/// The last requests that failed.
pub static FAILURES: Ring = Ring::new();

pub struct Ring(Mutex<VecDeque<Recent>>);

impl Ring {
    const fn new() -> Ring {
        Ring(Mutex::new(VecDeque::new()))
    }

    /// Keeps a request, unless somebody else does so right now: nobody waits for this.
    pub fn add(&self, request: impl FnOnce() -> Recent) {
        let oldest;
        if let Ok(mut ring) = self.0.try_lock() {
            oldest = match ring.len() {
                KEPT => ring.pop_front(),
                _ => None,
            };
            ring.push_back(request());
            // Its memory goes when the lock has.
            drop(ring);
            drop(oldest);
        }
    }

    /// What is kept, the youngest first.
    pub fn all(&self) -> Vec<Recent> {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_youngest_are_kept() {
        let ring = Ring::new();
        for status in 0..200 {
            ring.add(|| Recent {
                at: SystemTime::now(),
                method: "GET",
                route: "-",
                instance_id: None,
                status,
                reason: None,
                took: Duration::ZERO,
            });
        }
        let kept: Vec<u16> = ring.all().iter().map(|request| request.status).collect();
        assert_eq!(kept, (150..200).rev().collect::<Vec<u16>>());
    }
}
