//! Which connections are closed when others need their place.

use super::client::Client;
use super::rate_limit::network;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a new connection may take to send credentials before it can be evicted: enough for a handshake and a head.
/// Short, since others wait meanwhile.
pub const GRACE: Duration = Duration::from_millis(50);
/// An address may have this part of all connections, without credentials, before its connections are evicted first.
const FAIR_PART: usize = 8;

/// What came of an eviction.
#[derive(Default)]
pub struct Evicted {
    /// Connections that close, with those that did so before.
    pub closing: usize,
    /// Connections without credentials that have not had their [`GRACE`] yet.
    pub in_grace: usize,
    /// When the first of them will have had it.
    pub grace_ends: Option<Instant>,
}

/// Evicts connections until this many close. First those without valid credentials: of the address that has most of them,
/// the oldest. Then, if `authenticated_too`, those that are authenticated and idle, the longest idle first.
pub fn evict<'c>(
    clients: impl ExactSizeIterator<Item = &'c Arc<Client>>,
    wanted: usize,
    authenticated_too: bool,
) -> Evicted {
    // Addresses that have no more than a fair part are not compared with each other: among them, only age counts.
    let fair = clients.len() / FAIR_PART;
    let mut result = Evicted::default();
    let mut held: HashMap<IpAddr, usize> = HashMap::new();
    let mut candidates = Vec::new();
    for client in clients {
        let Some((authenticated, since)) = client.evictable() else {
            result.closing += usize::from(client.is_closing());
            continue;
        };
        if !authenticated {
            *held.entry(network(client.peer)).or_default() += 1;
        }
        if authenticated || since.elapsed() >= GRACE {
            candidates.push((authenticated, since, client));
        } else {
            result.in_grace += 1;
            let ends = since + GRACE;
            result.grace_ends = Some(result.grace_ends.map_or(ends, |first| first.min(ends)));
        }
    }
    let order = |(authenticated, since, client): &(bool, Instant, &Arc<Client>)| {
        let held = held.get(&network(client.peer)).filter(|_| !authenticated);
        (
            *authenticated,
            Reverse(held.copied().max(Some(fair))),
            *since,
        )
    };
    while result.closing < wanted {
        let orders = candidates.iter().map(order).enumerate();
        let Some((first, _)) = orders.min_by_key(|(_, order)| *order) else {
            break;
        };
        let (authenticated, _, client) = candidates.swap_remove(first);
        // No need to close one that is authenticated: those in grace can be evicted soon.
        if authenticated && (!authenticated_too || result.closing + result.in_grace >= wanted) {
            break;
        }
        result.closing += usize::from(client.evict());
    }
    result
}
