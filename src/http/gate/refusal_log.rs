//! The log lines about refused requests, of which there are few even if refusals are many.

use crate::http::counts::{Gate, Refusal};
use crate::log;

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most lines in a second. The next line after that says how many were left out.
const LINES: u32 = 10;

pub struct RefusalLog {
    window: Mutex<Window>,
    counts: &'static Gate,
}

#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl RefusalLog {
    /// All refusals are counted, also those that get no line.
    pub fn new(counts: &'static Gate) -> RefusalLog {
        RefusalLog {
            window: Mutex::default(),
            counts,
        }
    }

    /// A client was refused.
    pub fn refused(&self, why: Refusal, client: IpAddr, status: Option<u16>, reason: &str) {
        self.counts.refused(why);
        let Some(left_out) = self.admit(Instant::now()) else {
            return;
        };
        log::warn("request_refused")
            .with("client", &client.to_string())
            .with("status", status.map(u64::from))
            .with("reason", reason)
            .with("left_out", (left_out > 0).then_some(left_out))
            .send();
    }

    /// There is too little of something.
    pub fn shortage(&self, text: &str) {
        let Some(left_out) = self.admit(Instant::now()) else {
            return;
        };
        log::error("shortage")
            .with("error", text)
            .with("left_out", (left_out > 0).then_some(left_out))
            .send();
    }

    /// How many lines were left out since the last one. `None` if this one is to be left out, too.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let over = window
            .began
            .is_none_or(|began| now.duration_since(began) >= Duration::from_secs(1));
        if over {
            window.began = Some(now);
            window.lines = 0;
        }
        if window.lines == LINES {
            window.left_out += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::counts::Listener;

    #[test]
    fn a_flood_gives_few_lines_and_a_count() {
        let (refusals, now) = (RefusalLog::new(Listener::Broker.counts()), Instant::now());
        let admitted = |at| {
            (0..1000)
                .filter_map(|_| refusals.admit(at))
                .collect::<Vec<_>>()
        };
        assert_eq!(admitted(now), [0; LINES as usize]);
        let next = admitted(now + Duration::from_secs(1));
        assert_eq!(next.len(), LINES as usize);
        assert_eq!(next[0], 1000 - u64::from(LINES));
    }
}
