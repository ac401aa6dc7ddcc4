//! `lifetime` and `renew_before`: until when a binding may be used.

use crate::adapter::Settings;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long bindings may be used.
pub struct Lifetime {
    valid: Duration,
    /// How long before the expiry a binding should be renewed.
    renew_before: Option<Duration>,
}

/// spec: Binding, Binding Metadata Object.
#[derive(Debug, PartialEq, Eq)]
pub struct Times {
    pub expires_at: String,
    pub renew_before: Option<String>,
}

impl Lifetime {
    /// Reads both keys. `now` tells whether there is a date at the end of such a lifetime.
    pub fn read(settings: &Settings<'_>, now: SystemTime) -> Option<Lifetime> {
        let is_given = settings.value("lifetime").is_some();
        let valid = settings.duration("lifetime");
        let renew_before = settings.duration("renew_before");
        if renew_before.is_some() && !is_given {
            settings.error(
                "renew_before",
                "counts back from the end of \"lifetime\", which is missing",
            );
        }
        let lifetime = Lifetime {
            valid: valid?,
            renew_before,
        };
        if renew_before.is_some_and(|renew_before| renew_before > lifetime.valid) {
            settings.error(
                "renew_before",
                "longer than \"lifetime\", wanted at most as long",
            );
        } else if lifetime.times(now).is_none() {
            settings.error(
                "lifetime",
                "a binding made now would expire in no year from 1970 to 9999; \
                 wanted a shorter lifetime, or a right system clock",
            );
        }
        Some(lifetime)
    }

    /// The times of a binding made now, or `None` if they are not within the years 1970 to 9999.
    pub fn times(&self, now: SystemTime) -> Option<Times> {
        let expires_at = now.checked_add(self.valid)?;
        let renew_before = match self.renew_before {
            Some(before) => Some(format(expires_at.checked_sub(before)?)?),
            None => None,
        };
        Some(Times {
            expires_at: format(expires_at)?,
            renew_before,
        })
    }
}

/// `yyyy-mm-ddThh:mm:ss.sZ`, rounded down.
fn format(time: SystemTime) -> Option<String> {
    const YEAR_10000: u64 = 253_402_300_800;
    // humantime panics on times outside of these years.
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    if since.as_secs() >= YEAR_10000 {
        return None;
    }
    let mut text = humantime::format_rfc3339_millis(time).to_string();
    text.truncate("2019-12-31T23:59:59.0".len());
    text.push('Z');
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SystemTime {
        humantime::parse_rfc3339(text).unwrap()
    }

    fn lifetime(valid: u64, renew_before: Option<u64>) -> Lifetime {
        Lifetime {
            valid: Duration::from_secs(valid),
            renew_before: renew_before.map(Duration::from_secs),
        }
    }

    #[test]
    fn times_have_one_fractional_digit_in_utc() {
        let times = lifetime(86_400, Some(3_600))
            .times(at("2019-12-30T23:59:59.987654321Z"))
            .unwrap();
        assert_eq!(times.expires_at, "2019-12-31T23:59:59.9Z");
        assert_eq!(times.renew_before.unwrap(), "2019-12-31T22:59:59.9Z");
        let times = lifetime(1, None).times(at("2024-02-28T23:59:59Z")).unwrap();
        assert_eq!(times.expires_at, "2024-02-29T00:00:00.0Z");
        assert_eq!(times.renew_before, None);
    }

    #[test]
    fn bad_clocks_and_endless_lifetimes_have_no_times() {
        let day = 86_400;
        let last = at("9999-12-31T23:59:59Z");
        assert!(lifetime(day, None).times(last).is_none());
        assert!(
            lifetime(day, None)
                .times(last - Duration::from_secs(day))
                .is_some()
        );
        assert!(lifetime(1, None).times(last).is_none());
        assert!(lifetime(u64::MAX, None).times(last).is_none());
        let before_1970 = UNIX_EPOCH - Duration::from_secs(2 * day);
        assert!(lifetime(day, None).times(before_1970).is_none());
        assert!(lifetime(3 * day, None).times(before_1970).is_some());
        assert!(
            lifetime(3 * day, Some(2 * day))
                .times(before_1970)
                .is_none()
        );
    }
}
