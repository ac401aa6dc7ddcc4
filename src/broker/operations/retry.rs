//! How long to wait before the same call of an adapter is made again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
pub const LONGEST: Duration = Duration::from_secs(60);

/// Where the state could not be read or written.
pub const STORE_DELAY: Duration = Duration::from_secs(2);

/// The delay after this attempt, counted from 1: half a second, then twice as long each time, up to a minute.
/// At least as many seconds as the adapter wants.
pub fn delay_after(attempt: u32, wanted: u32) -> Duration {
    let wanted = Duration::from_secs(wanted.into());
    let doublings = attempt.saturating_sub(1).min(16);
    (FIRST * 2_u32.pow(doublings)).min(LONGEST).max(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_minute_and_no_further() {
        let delays = [1, 2, 3, 7, 8, u32::MAX].map(|attempt| delay_after(attempt, 0).as_millis());
        assert_eq!(delays, [500, 1_000, 2_000, 32_000, 60_000, 60_000]);
        assert_eq!(delay_after(0, 0), FIRST);
        assert_eq!(delay_after(1, 5), Duration::from_secs(5));
        assert_eq!(delay_after(8, 5), LONGEST);
    }
}
