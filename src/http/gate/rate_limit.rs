//! The rate limit for wrong credentials: from one address, a number of them each second is answered at once. The answers
//! to more are delayed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Addresses that are remembered at once.
const MAX_ADDRESSES: usize = 4096;
/// The longest delay of an answer.
const LONGEST: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct RateLimit {
    /// Time that one attempt uses up. `None` if there is no limit.
    each: Option<Duration>,
    /// For each address: until when its attempts have used up the time. Up to a second from now, nothing is delayed.
    used: Mutex<HashMap<IpAddr, Instant>>,
}

impl RateLimit {
    /// `rate`: attempts in a second; 0 for any number.
    pub fn new(rate: u32) -> RateLimit {
        RateLimit {
            each: Duration::from_secs(1).checked_div(rate),
            used: Mutex::default(),
        }
    }

    /// Counts an attempt. Returns how long its answer is to be delayed.
    pub fn failed(&self, address: IpAddr, now: Instant) -> Duration {
        let Some(each) = self.each else {
            return Duration::ZERO;
        };
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= MAX_ADDRESSES {
            used.retain(|_, until| *until > now);
            // So many addresses at once belong to one attacker. To forget them bounds the memory.
            if used.len() >= MAX_ADDRESSES {
                used.clear();
            }
        }
        let until = used.entry(network(address)).or_insert(now);
        let latest = now + Duration::from_secs(1) + LONGEST;
        *until = ((*until).max(now) + each).min(latest);
        until
            .saturating_duration_since(now)
            .saturating_sub(Duration::from_secs(1))
    }
}

/// The network that an address counts as. Who has one address of IPv6 usually has all with the same first 64 bits.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            IpAddr::V6(network.into())
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "192.0.2.1";

    fn delays(throttle: &RateLimit, address: &str, now: Instant, count: usize) -> Vec<Duration> {
        (0..count)
            .map(|_| throttle.failed(address.parse().unwrap(), now))
            .collect()
    }

    #[test]
    fn attempts_beyond_the_rate_are_delayed() {
        let (throttle, now) = (RateLimit::new(10), Instant::now());
        let delayed = delays(&throttle, ONE, now, 13);
        assert!(delayed[..10].iter().all(Duration::is_zero), "{delayed:?}");
        let tenths = [1, 2, 3].map(|n| Duration::from_millis(n * 100));
        assert_eq!(delayed[10..], tenths);
        // Other addresses are not delayed, nor is this one later.
        assert_eq!(delays(&throttle, "192.0.2.2", now, 1), [Duration::ZERO]);
        let later = now + Duration::from_secs(2);
        assert_eq!(delays(&throttle, ONE, later, 1), [Duration::ZERO]);
    }

    #[test]
    fn the_delay_is_bounded() {
        let (throttle, now) = (RateLimit::new(1), Instant::now());
        let delayed = delays(&throttle, ONE, now, 1000);
        assert_eq!(delayed.last(), Some(&LONGEST));
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let (throttle, now) = (RateLimit::new(1), Instant::now());
        throttle.failed("2001:db8::1".parse().unwrap(), now);
        assert!(
            !throttle
                .failed("2001:db8::2".parse().unwrap(), now)
                .is_zero()
        );
        assert!(
            throttle
                .failed("2001:db8:0:1::1".parse().unwrap(), now)
                .is_zero()
        );
        throttle.failed(ONE.parse().unwrap(), now);
        assert!(
            !throttle
                .failed("::ffff:192.0.2.1".parse().unwrap(), now)
                .is_zero()
        );
    }

    #[test]
    fn memory_is_bounded() {
        let (throttle, now) = (RateLimit::new(1), Instant::now());
        for n in 0..20_000u32 {
            throttle.failed(IpAddr::V4(n.into()), now);
        }
        assert!(throttle.used.lock().unwrap().len() <= MAX_ADDRESSES);
    }
}
