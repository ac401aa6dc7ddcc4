//! When the broker has something to do by itself.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Rings at the earliest of the times that it is told.
#[derive(Default)]
pub struct Alarm {
    next: Mutex<Option<SystemTime>>,
    told: Condvar,
}

impl Alarm {
    /// Something is due at this time.
    pub fn at(&self, time: SystemTime) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if next.is_none_or(|next| time < next) {
            *next = Some(time);
            self.told.notify_all();
        }
    }

    /// Waits until something is due, and forgets it; or, as clocks are set now and then, for no longer than this. Returns whether
    /// something is due.
    pub fn wait(&self, most: Duration) -> bool {
        let end = Instant::now() + most;
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let now = SystemTime::now();
            let wait = end.saturating_duration_since(Instant::now());
            let wait = match *next {
                Some(time) => time.duration_since(now).unwrap_or_default().min(wait),
                None => wait,
            };
            if !wait.is_zero() {
                next = self
                    .told
                    .wait_timeout(next, wait)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            } else if next.is_some_and(|time| time <= now) {
                *next = None;
                return true;
            } else {
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn it_rings_at_the_earliest_time_and_once() {
        let alarm = Alarm::default();
        let now = SystemTime::now();
        alarm.at(now + Duration::from_secs(3600));
        assert!(!alarm.wait(Duration::from_millis(1)));
        alarm.at(now);
        alarm.at(now + Duration::from_secs(7200));
        assert!(alarm.wait(Duration::from_secs(3600)));
        assert!(!alarm.wait(Duration::from_millis(1)));
    }

    #[test]
    fn who_waits_hears_of_an_earlier_time() {
        let alarm = Alarm::default();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| alarm.wait(Duration::from_secs(3600)));
            alarm.at(SystemTime::now());
            assert!(waiting.join().unwrap());
        });
    }
}
