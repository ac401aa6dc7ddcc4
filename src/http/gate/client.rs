//! One connection that is served: whether its client is known, and whether it has to leave.

use rustix::net::{RecvFlags, recv};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A connection that is served.
pub struct Client {
    pub id: u64,
    pub stream: TcpStream,
    pub peer: IpAddr,
    standing: Mutex<Standing>,
    asked: Condvar,
}

/// What decides who has to leave when room is needed.
struct Standing {
    /// The credentials that the client has shown last were valid. Who has shown none has no claim to a place.
    known: bool,
    /// Waits for a request, or is made to wait for its 401.
    resting: bool,
    /// Since when it rests; of whom is not known, since when it has been here.
    since: Instant,
    leave: Leave,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leave {
    NotAsked,
    /// After what has been asked by now.
    Asked,
    /// At once: the connection is closed.
    TurnedOut,
}

impl Client {
    pub fn new(id: u64, stream: TcpStream, peer: IpAddr) -> Client {
        Client {
            id,
            stream,
            peer,
            standing: Mutex::new(Standing {
                known: false,
                resting: true,
                since: Instant::now(),
                leave: Leave::NotAsked,
            }),
            asked: Condvar::new(),
        }
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a request from now on, or for its answer to be sent.
    pub fn rest(&self) {
        let mut standing = self.standing();
        standing.resting = true;
        if standing.known {
            standing.since = Instant::now();
        }
    }

    pub fn is_resting(&self) -> bool {
        self.standing().resting
    }

    /// Whether it could leave for somebody else. If so, whether its client is known, and since when it rests or is here.
    pub fn may_make_room(&self) -> Option<(bool, Instant)> {
        let standing = self.standing();
        let stays = standing.leave != Leave::NotAsked || (standing.known && !standing.resting);
        (!stays).then_some((standing.known, standing.since))
    }

    /// A request has begun.
    pub fn work(&self) {
        self.standing().resting = false;
    }

    /// The client has shown valid credentials, or others. Whether it is still here.
    pub fn show(&self, valid: bool) -> bool {
        let mut standing = self.standing();
        standing.known = valid;
        standing.leave != Leave::TurnedOut
    }

    /// Has the connection leave, unless the client is known and has begun a request. Whoever serves it says so before it reads
    /// what has come. Whether it leaves.
    pub fn makes_room(&self) -> bool {
        let mut standing = self.standing();
        let leave = match *standing {
            Standing { known: false, .. } => Leave::TurnedOut,
            Standing { resting: true, .. } if !self.has_begun() => Leave::Asked,
            _ => return false,
        };
        standing.leave = leave;
        drop(standing);
        self.end(leave);
        true
    }

    /// Something has come that was not read yet.
    pub fn has_begun(&self) -> bool {
        self.first_byte().is_some()
    }

    /// The first byte that has come and was not read yet.
    pub fn first_byte(&self) -> Option<u8> {
        let mut first = [0];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        match recv(&self.stream, &mut first, flags) {
            Ok((1.., _)) => Some(first[0]),
            _ => None,
        }
    }

    pub fn is_asked_to_leave(&self) -> bool {
        self.standing().leave != Leave::NotAsked
    }

    /// It had to make room, whatever the client had sent.
    pub fn is_turned_out(&self) -> bool {
        self.standing().leave == Leave::TurnedOut
    }

    /// Waits, or until the connection is asked to leave.
    pub fn pause(&self, time: Duration) {
        let here = |standing: &mut Standing| standing.leave == Leave::NotAsked;
        let paused = self.asked.wait_timeout_while(self.standing(), time, here);
        drop(paused);
    }

    /// Ends the wait for a request. One that has come by now is still read, and answered.
    pub fn ask_to_leave(&self) {
        let leave = &mut self.standing().leave;
        if *leave == Leave::NotAsked {
            *leave = Leave::Asked;
        }
        self.end(Leave::Asked);
    }

    /// Wakes whoever serves the connection.
    fn end(&self, leave: Leave) {
        self.asked.notify_all();
        let how = match leave {
            Leave::TurnedOut => Shutdown::Both,
            _ => Shutdown::Read,
        };
        // The client may have gone already.
        let _ = self.stream.shutdown(how);
    }
}
