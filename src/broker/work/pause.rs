//! How long to wait before the same call is made again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
pub const LONGEST: Duration = Duration::from_secs(60);

/// The pause where the state could not be read or written.
pub const OF_THE_STORE: Duration = Duration::from_secs(2);

/// The pause after this attempt, counted from 1: half a second, then twice as long each time, up to a minute.
pub fn after_attempt(attempt: u32) -> Duration {
    let doublings = attempt.saturating_sub(1).min(16);
    (FIRST * 2_u32.pow(doublings)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_no_further() {
        let pauses = [1, 2, 3, 7, 8, u32::MAX].map(|attempt| after_attempt(attempt).as_millis());
        assert_eq!(pauses, [500, 1_000, 2_000, 32_000, 60_000, 60_000]);
        assert_eq!(after_attempt(0), FIRST);
    }
}
