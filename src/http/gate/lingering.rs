//! Closing connections without losing the last answer.
//!
//! If a socket is closed while the client still sends, the system throws away what the client has not read yet. So we go
//! on reading for a moment, and forget what comes.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// How long a connection lingers.
const TIME: Duration = Duration::from_secs(1);
/// How many linger at once. If there are more, the oldest is closed.
const MAX: usize = 64;
/// How often [`Lingering::read`] is to be called.
pub const TICK: Duration = Duration::from_millis(50);

/// Connections of which everything is sent.
#[derive(Default)]
pub struct Lingering(VecDeque<(TcpStream, Instant)>);

impl Lingering {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn add(&mut self, stream: TcpStream) {
        if stream.shutdown(Shutdown::Write).is_err() || stream.set_nonblocking(true).is_err() {
            return;
        }
        if self.0.len() == MAX {
            self.0.pop_front();
        }
        self.0.push_back((stream, Instant::now() + TIME));
    }

    /// Reads what has come, and closes the connections whose client or time is at its end.
    pub fn read(&mut self) {
        let now = Instant::now();
        self.0
            .retain(|(stream, until)| now < *until && goes_on(stream));
    }
}

/// Whether the client may send more.
fn goes_on(mut stream: &TcpStream) -> bool {
    let mut ignored = [0; 8192];
    // A client that sends without end must not hold up the others.
    for _ in 0..16 {
        match stream.read(&mut ignored) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
    true
}
