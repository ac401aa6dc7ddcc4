//! The state of one client connection that other threads look at: whether its client is authenticated, whether it is idle,
//! and whether it has to close.

use rustix::net::{RecvFlags, recv};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub struct Client {
    pub id: u64,
    pub stream: TcpStream,
    pub peer: IpAddr,
    state: Mutex<State>,
    /// The connection was told to close.
    closing: Condvar,
}

struct State {
    /// The credentials that the client has sent last were valid.
    authenticated: bool,
    /// Bytes of a request have come, and it is not answered yet.
    receiving: bool,
    /// A worker has a request, and will send the answer itself.
    answering: bool,
    /// Since when the connection is idle. If the client is not authenticated: since when the connection is open.
    since: Instant,
    closing: Closing,
}

impl State {
    fn is_idle(&self) -> bool {
        !self.receiving && !self.answering
    }

    fn restart_clock(&mut self) {
        if self.authenticated {
            self.since = Instant::now();
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    No,
    /// After the answer to what has come by now.
    WhenIdle,
    /// At once, without an answer.
    Now,
}

impl Client {
    pub fn new(id: u64, stream: TcpStream, peer: IpAddr) -> Client {
        Client {
            id,
            stream,
            peer,
            state: Mutex::new(State {
                authenticated: false,
                receiving: false,
                answering: false,
                since: Instant::now(),
                closing: Closing::No,
            }),
            closing: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is to be done for the client, or its answer is held back.
    pub fn set_idle(&self) {
        let mut state = self.state();
        state.receiving = false;
        state.answering = false;
        state.restart_clock();
    }

    /// Bytes of a request have come. To be called before they are read: until then they can be seen in the socket.
    pub fn set_receiving(&self) {
        self.state().receiving = true;
    }

    /// A worker is to answer, while the client may send the next request.
    pub fn set_answering(&self) {
        let mut state = self.state();
        state.answering = true;
        state.receiving = false;
    }

    /// The worker has answered. Returns whether the connection is idle now.
    pub fn set_answered(&self) -> bool {
        let mut state = self.state();
        state.answering = false;
        if state.is_idle() {
            state.restart_clock();
        }
        state.is_idle()
    }

    /// The client has sent credentials. Returns false if the connection was evicted by now.
    pub fn set_authenticated(&self, valid: bool) -> bool {
        let mut state = self.state();
        state.authenticated = valid;
        state.closing != Closing::Now
    }

    pub fn is_idle(&self) -> bool {
        self.state().is_idle()
    }

    /// `None` if the connection cannot be evicted, or closes already. Else whether the client is authenticated, and since
    /// when the connection is idle or, if it is not authenticated, open.
    pub fn evictable(&self) -> Option<(bool, Instant)> {
        let state = self.state();
        let stays = state.closing != Closing::No || (state.authenticated && !state.is_idle());
        (!stays).then_some((state.authenticated, state.since))
    }

    /// Closes the connection for another: at once if the client is not authenticated, else only if it is idle. Returns
    /// whether it closes.
    pub fn evict(&self) -> bool {
        let mut state = self.state();
        let closing = if !state.authenticated {
            Closing::Now
        } else if state.is_idle() && !self.has_unread() {
            Closing::WhenIdle
        } else {
            return false;
        };
        state.closing = closing;
        drop(state);
        self.wake(closing);
        true
    }

    /// Closes the connection once what has come by now is answered.
    pub fn close_when_idle(&self) {
        let closing = &mut self.state().closing;
        if *closing == Closing::No {
            *closing = Closing::WhenIdle;
        }
        self.wake(Closing::WhenIdle);
    }

    pub fn is_closing(&self) -> bool {
        self.state().closing != Closing::No
    }

    /// It was closed at once, for another.
    pub fn was_evicted(&self) -> bool {
        self.state().closing == Closing::Now
    }

    /// Sleeps, but not longer than until the connection has to close.
    pub fn sleep(&self, time: Duration) {
        let stays = |state: &mut State| state.closing == Closing::No;
        drop(self.closing.wait_timeout_while(self.state(), time, stays));
    }

    /// Whether bytes have come that were not read yet.
    pub fn has_unread(&self) -> bool {
        self.first_unread().is_some()
    }

    pub fn first_unread(&self) -> Option<u8> {
        let mut first = [0];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        match recv(&self.stream, &mut first, flags) {
            Ok((1.., _)) => Some(first[0]),
            _ => None,
        }
    }

    /// Ends the wait for the next request: its thread sees the end of the stream, after what has come by now.
    pub fn end_reading(&self) {
        // Fails if the client has gone already.
        let _ = self.stream.shutdown(Shutdown::Read);
    }

    /// Wakes the thread that serves the connection.
    fn wake(&self, closing: Closing) {
        self.closing.notify_all();
        match closing {
            Closing::Now => drop(self.stream.shutdown(Shutdown::Both)),
            _ => self.end_reading(),
        }
    }
}
