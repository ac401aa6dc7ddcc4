//! Every limit of the gate, with its default.

use crate::http::dispatch::MAX_BODY;

use std::time::Duration;

/// Each limit is a variable of the environment; see `config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections served at once. One more waits in the queue.
    pub connections: usize,
    /// How long a connection waits in the queue before it is refused with 503.
    pub queue: Duration,
    /// Bytes of a request's head: request line and header fields. More is 431.
    pub head: usize,
    /// Header fields of a request. More is 431.
    pub fields: usize,
    /// Bytes of a request's body, without the framing of chunks. More is 413.
    pub body: usize,
    /// Bytes of all bodies that are held at once. A request waits, within its time, until there is space for its body.
    pub body_memory: usize,
    /// From the first byte of a request to its last. Longer is 408.
    pub request: Duration,
    /// From the beginning of a connection to its first byte. Then it is closed.
    pub silent: Duration,
    /// From an answer to the first byte of the next request. Then the connection is closed. Cloud Foundry's router keeps its
    /// connections for 90 seconds. This is longer, so the router closes first, and never uses one that is closed.
    pub idle: Duration,
    /// From the first byte of an answer to its last. Then the connection is closed.
    pub answer: Duration,
    /// Wrong passwords a second from one address that are answered at once.
    pub logins: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 256,
            queue: Duration::from_secs(1),
            head: 32 * 1024,
            fields: 64,
            body: MAX_BODY as usize,
            body_memory: 4 * 1024 * 1024,
            request: Duration::from_secs(10),
            silent: Duration::from_secs(10),
            idle: Duration::from_secs(95),
            answer: Duration::from_secs(10),
            logins: 10,
        }
    }
}

/// The most header fields that can be allowed.
pub const MAX_FIELDS: usize = 256;
