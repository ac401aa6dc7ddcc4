//! A crowd that has no password: thousands of connections that are never done with what they say, and that come back as
//! soon as they are closed.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Between two bytes of one connection.
const DRIP: Duration = Duration::from_millis(200);

/// How many they are.
const CONNECTIONS: usize = 2000;

/// A crowd at work, until this is dropped.
pub struct Crowd {
    over: Arc<AtomicBool>,
    closed: Arc<AtomicU64>,
    at_work: Option<JoinHandle<()>>,
}

impl Crowd {
    /// They come from these addresses of this machine. Each says the words at once, and then one byte after the other,
    /// slowly. Returns when all of them have tried to connect.
    pub fn gather(broker: SocketAddr, sources: Vec<Ipv4Addr>, words: &[u8]) -> io::Result<Crowd> {
        allow_descriptors();
        let manner = Manner {
            broker,
            sources,
            words: words.to_vec(),
        };
        let all = (0..CONNECTIONS).map(|n| manner.connect(n));
        let all = all.collect::<io::Result<Vec<_>>>()?;
        let (over, closed) = (Arc::default(), Arc::default());
        let (told, counted) = (Arc::clone(&over), Arc::clone(&closed));
        let press = move || manner.press(all, &told, &counted);
        let at_work = thread::Builder::new().name("crowd".into()).spawn(press)?;
        Ok(Crowd {
            over,
            closed,
            at_work: Some(at_work),
        })
    }

    /// How many connections the broker has closed so far.
    pub fn closed(&self) -> u64 {
        self.closed.load(Ordering::Relaxed)
    }
}

/// What they are like.
struct Manner {
    broker: SocketAddr,
    sources: Vec<Ipv4Addr>,
    words: Vec<u8>,
}

impl Manner {
    fn connect(&self, n: usize) -> io::Result<One> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let source = self.sources[n % self.sources.len()];
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.set_nonblocking(true)?;
        // The rest of connecting goes on by itself.
        let _ = socket.connect(&self.broker.into());
        let said = 0;
        Ok(One { socket, said })
    }

    /// Talks on, and connects anew whenever the broker has hung up.
    fn press(&self, mut all: Vec<One>, over: &AtomicBool, closed: &AtomicU64) {
        let mut next_drip = Instant::now();
        while !over.load(Ordering::Relaxed) {
            let drips = Instant::now() >= next_drip;
            if drips {
                next_drip = Instant::now() + DRIP;
            }
            let mut polled: Vec<PollFd<'_>> = all
                .iter()
                .map(|one| PollFd::new(&one.socket, one.awaits(&self.words)))
                .collect();
            let tick = Timespec::try_from(DRIP).ok();
            if poll(&mut polled, tick.as_ref()).is_err() {
                continue;
            }
            let events: Vec<PollFlags> = polled.iter().map(PollFd::revents).collect();
            for (n, (one, events)) in all.iter_mut().zip(events).enumerate() {
                let gone = one.is_gone(events) || one.speak(&self.words, drips).is_err();
                if gone && let Ok(again) = self.connect(n) {
                    closed.fetch_add(1, Ordering::Relaxed);
                    *one = again;
                }
            }
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(at_work) = self.at_work.take() {
            let _ = at_work.join();
        }
    }
}

/// One of them.
struct One {
    socket: Socket,
    /// How many bytes it has said.
    said: usize,
}

impl One {
    fn awaits(&self, words: &[u8]) -> PollFlags {
        match self.said < words.len() {
            true => PollFlags::IN | PollFlags::OUT,
            false => PollFlags::IN,
        }
    }

    /// What comes is read: somebody who is answered, as by a ServerHello, is still there.
    fn is_gone(&self, events: PollFlags) -> bool {
        if !events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return false;
        }
        match recv(&self.socket, &mut [0u8; 4096], RecvFlags::DONTWAIT) {
            Ok((0, _)) => true,
            Ok(_) => false,
            Err(error) => error != rustix::io::Errno::AGAIN,
        }
    }

    fn speak(&mut self, words: &[u8], drips: bool) -> rustix::io::Result<()> {
        let left = words.get(self.said..).unwrap_or_default();
        let more = match (left, drips) {
            ([], true) => b"x",
            (left, _) => left,
        };
        if more.is_empty() {
            return Ok(());
        }
        match send(
            &self.socket,
            more,
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        ) {
            Ok(sent) => self.said += sent,
            Err(
                rustix::io::Errno::AGAIN
                | rustix::io::Errno::INPROGRESS
                | rustix::io::Errno::NOTCONN,
            ) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Many systems allow a thousand unless they are asked for more.
fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let _ = setrlimit(Resource::Nofile, raised);
}
