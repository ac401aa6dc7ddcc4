//! Lengths of time as operators write them.

use std::time::Duration;

/// `"30d"`, `"10m"` or `"1h 30m"`; never zero. `None` also for what no calendar needs: humantime 2.4 panics on some sums of
/// about `u64::MAX` seconds, which takes more than ten digits.
pub fn parse(text: &str) -> Option<Duration> {
    if text.bytes().filter(u8::is_ascii_digit).count() > 10 {
        return None;
    }
    humantime::parse_duration(text)
        .ok()
        .filter(|duration| !duration.is_zero())
}
