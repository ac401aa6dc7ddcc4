//! Who may come in: connections that wait for their turn, those that are served, and those that take their leave.

use super::client::Client;
use super::rate_limit::network;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::Read;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Connections that wait for their turn at once; more are left to the system's backlog.
const MAX_WAITING: usize = 128;
/// How long a connection may take to show credentials, whoever waits: as long as a handshake and a head take. Short, since
/// others wait meanwhile.
const GRACE: Duration = Duration::from_millis(50);
/// Which part of the places an address may hold without credentials before its connections go first.
const FAIR_PART: usize = 8;
/// Threads that are kept when there is nothing to do, and how long more than those are.
const KEPT_HANDLERS: usize = 2;
const KEEP_HANDLER: Duration = Duration::from_secs(5);
/// How long, and for how many connections at once, we go on reading what a client sends after its last answer. If the
/// socket were closed at once, what the client still sends would make the system throw the answer away.
const LEAVE: Duration = Duration::from_secs(1);
const MAX_LEAVING: usize = 64;
const LEAVE_TICK: Duration = Duration::from_millis(50);

/// Admits so many connections at once.
pub struct ConnectionLimit {
    most: usize,
    /// How long a connection may wait for its turn.
    patience: Duration,
    stopping: AtomicBool,
    /// How many wait for whom there is no thread, there can be none, and no stranger will leave.
    crowd: AtomicUsize,
    inside: Mutex<Inside>,
    /// For handlers: somebody waits, or the gate stops.
    arrived: Condvar,
    /// For the doorkeeper: somebody may have to wait long, or takes leave.
    waiting: Condvar,
    /// For whoever waits for an empty queue or an empty house.
    gone: Condvar,
}

#[derive(Default)]
struct Inside {
    waiting: VecDeque<Waiting>,
    visits: BTreeMap<u64, Arc<Client>>,
    next_id: u64,
    leaving: VecDeque<Leaving>,
    handlers: usize,
    idle_handlers: usize,
    stopping: bool,
    /// Connections without credentials that had not had their time yet when room was made last, when the first of them will
    /// have had it, and the same if somebody waits for that.
    strangers: usize,
    next_stranger: Option<Instant>,
    awaits_stranger: Option<Instant>,
}

struct Waiting {
    stream: TcpStream,
    peer: IpAddr,
    since: Instant,
}

struct Leaving {
    stream: TcpStream,
    until: Instant,
}

/// What is to be done for a connection that came.
pub enum Accepted {
    /// Nothing: somebody takes care of it.
    Queued,
    /// A handler is to be started; if that cannot be done, [`ConnectionLimit::no_handler`] has to be told.
    NeedsThread,
}

impl ConnectionLimit {
    pub fn new(most: usize, patience: Duration) -> ConnectionLimit {
        ConnectionLimit {
            most,
            patience,
            stopping: AtomicBool::new(false),
            crowd: AtomicUsize::new(0),
            inside: Mutex::default(),
            arrived: Condvar::new(),
            waiting: Condvar::new(),
            gone: Condvar::new(),
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a connection that comes can be put somewhere. False when the gate stops.
    pub fn wait_for_room(&self) -> bool {
        let mut inside = self.inside();
        while inside.waiting.len() >= MAX_WAITING && !inside.stopping {
            inside = self
                .gone
                .wait(inside)
                .unwrap_or_else(PoisonError::into_inner);
        }
        !inside.stopping
    }

    /// Puts a connection into the queue.
    pub fn enter(&self, stream: TcpStream, peer: IpAddr) -> Accepted {
        let mut inside = self.inside();
        inside.waiting.push_back(Waiting {
            stream,
            peer,
            since: Instant::now(),
        });
        if inside.idle_handlers >= inside.waiting.len() {
            self.arrived.notify_one();
            return Accepted::Queued;
        }
        if inside.handlers < self.most {
            inside.handlers += 1;
            return Accepted::NeedsThread;
        }
        self.make_room_for_waiting(&mut inside);
        Accepted::Queued
    }

    /// The handler that was to be started could not be.
    pub fn no_handler(&self) {
        let mut inside = self.inside();
        inside.handlers -= 1;
        self.make_room_for_waiting(&mut inside);
    }

    /// As many connections leave as wait for whom there is no thread, and can be none.
    fn make_room_for_waiting(&self, inside: &mut Inside) {
        let free = inside.handlers.saturating_sub(inside.visits.len());
        let wanted = inside.waiting.len().saturating_sub(free);
        let leaving = if wanted > 0 {
            inside.make_room(wanted)
        } else {
            0
        };
        inside.awaits_stranger = inside.next_stranger.filter(|_| leaving < wanted);
        let crowd = wanted.saturating_sub(leaving + inside.strangers);
        self.crowd.store(crowd, Ordering::SeqCst);
        self.waiting.notify_one();
    }

    /// Whether connections should end after their next answer: the gate stops, or somebody waits for a place.
    fn wants_room(&self) -> bool {
        self.stopping.load(Ordering::SeqCst) || self.crowd.load(Ordering::SeqCst) > 0
    }

    /// Whether a connection may go on after its next answer.
    pub fn lets_stay(&self, visit: &Client) -> bool {
        !self.wants_room() && !visit.is_asked_to_leave()
    }

    /// Makes room, as when there are no descriptors left. Whether there was any to make.
    pub fn make_room(&self) -> bool {
        self.inside().make_room(1) > 0
    }

    /// Waits a moment for somebody to leave.
    pub fn wait_for_leave(&self, limit: Duration) {
        let inside = self.inside();
        drop(self.gone.wait_timeout(inside, limit));
    }

    /// The next connection for a handler; `None` when the handler is not needed any more.
    pub fn next(&self) -> Option<Arc<Client>> {
        let mut inside = self.inside();
        loop {
            if let Some(next) = inside.waiting.pop_front() {
                inside.next_id += 1;
                let visit = Arc::new(Client::new(inside.next_id, next.stream, next.peer));
                inside.visits.insert(visit.id, visit.clone());
                if inside.stopping {
                    visit.ask_to_leave();
                }
                if !inside.waiting.is_empty() || self.wants_room() {
                    self.make_room_for_waiting(&mut inside);
                }
                self.gone.notify_all();
                return Some(visit);
            }
            inside.idle_handlers += 1;
            let waited = if inside.stopping {
                (inside, true)
            } else {
                let (inside, result) = self
                    .arrived
                    .wait_timeout(inside, KEEP_HANDLER)
                    .unwrap_or_else(PoisonError::into_inner);
                (inside, result.timed_out())
            };
            inside = waited.0;
            inside.idle_handlers -= 1;
            let superfluous = inside.stopping || inside.handlers > KEPT_HANDLERS;
            if waited.1 && inside.waiting.is_empty() && superfluous {
                inside.handlers -= 1;
                self.gone.notify_all();
                return None;
            }
        }
    }

    /// A connection has come to its end. `linger`: the client may still be sending.
    pub fn leave(&self, visit: &Client, linger: bool) {
        // What cannot be copied, for want of descriptors, is closed at once.
        let copy = linger.then(|| visit.stream.try_clone().ok()).flatten();
        let mut inside = self.inside();
        inside.visits.remove(&visit.id);
        if let Some(stream) = copy {
            inside.say_goodbye(stream);
            self.waiting.notify_one();
        }
        self.gone.notify_all();
    }

    /// Marks a connection as one that waits, for a request or for its answer. It has to leave at once, if the gate stops, or
    /// if somebody waits for a place and this client has been `served` already.
    pub fn rest(&self, visit: &Client, served: bool) {
        visit.rest();
        if self.is_stopping() {
            visit.ask_to_leave();
        } else if served && self.wants_room() {
            visit.makes_room();
        }
    }

    /// The loop of the doorkeeper: `refuse` gets each connection that has waited too long, answers without waiting, and
    /// returns it. Ends when the gate has stopped.
    pub fn keep_door(&self, refuse: impl Fn(TcpStream, IpAddr) -> Option<TcpStream>) {
        let mut inside = self.inside();
        loop {
            let now = Instant::now();
            let is_overdue = |first: &Waiting| now >= first.since + self.patience;
            if inside.waiting.front().is_some_and(is_overdue)
                && let Some(Waiting { stream, peer, .. }) = inside.waiting.pop_front()
            {
                drop(inside);
                let refused = refuse(stream, peer);
                inside = self.inside();
                if let Some(stream) = refused {
                    inside.say_goodbye(stream);
                }
                self.make_room_for_waiting(&mut inside);
                self.gone.notify_all();
                continue;
            }
            inside.leaving.retain_mut(|leaving| leaving.goes_on(now));
            if inside.stopping && inside.waiting.is_empty() {
                return;
            }
            let turn = inside
                .waiting
                .front()
                .map(|first| (first.since + self.patience).saturating_duration_since(now));
            if inside
                .awaits_stranger
                .is_some_and(|stranger| stranger <= now)
            {
                self.make_room_for_waiting(&mut inside);
            }
            let stranger = inside
                .awaits_stranger
                .map(|stranger| stranger.saturating_duration_since(now));
            let tick = (!inside.leaving.is_empty()).then_some(LEAVE_TICK);
            let wait = [turn, tick, stranger].into_iter().flatten().min();
            inside = match wait {
                Some(wait) => {
                    self.waiting
                        .wait_timeout(inside, wait)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                None => self
                    .waiting
                    .wait(inside)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Begins to stop: whoever rests is asked to leave, the others finish.
    pub fn begin_stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        let mut inside = self.inside();
        inside.stopping = true;
        for visit in inside.visits.values() {
            if visit.is_resting() {
                visit.ask_to_leave();
            }
        }
        self.arrived.notify_all();
        self.waiting.notify_all();
        self.gone.notify_all();
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Waits until everybody has left. False if somebody has not by `end`.
    pub fn wait_until_empty(&self, end: Instant) -> bool {
        let mut inside = self.inside();
        while !inside.visits.is_empty() || !inside.waiting.is_empty() {
            let Some(left) = end.checked_duration_since(Instant::now()) else {
                return false;
            };
            inside = self
                .gone
                .wait_timeout(inside, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }
}

impl Inside {
    /// Has so many connections leave, with those that have been asked to already: first those that have shown no valid
    /// credentials, of the address that holds most and that have been here longest; then those that rest longest. Returns
    /// how many leave.
    fn make_room(&mut self, wanted: usize) -> usize {
        // Addresses that hold no more than a fair part are no crowd: among them, only time counts.
        let fair = self.visits.len() / FAIR_PART;
        let mut held: HashMap<IpAddr, usize> = HashMap::new();
        let mut leaving = 0;
        let mut candidates = Vec::new();
        (self.strangers, self.next_stranger) = (0, None);
        for visit in self.visits.values() {
            let (known, since) = match visit.may_make_room() {
                Some(place) => place,
                None => {
                    leaving += usize::from(visit.is_asked_to_leave());
                    continue;
                }
            };
            if !known {
                *held.entry(network(visit.peer)).or_default() += 1;
            }
            match known || since.elapsed() >= GRACE {
                true => candidates.push((known, since, visit)),
                false => {
                    self.strangers += 1;
                    let ripe = since + GRACE;
                    self.next_stranger =
                        Some(self.next_stranger.map_or(ripe, |next| next.min(ripe)));
                }
            }
        }
        let place = |(known, since, visit): &(bool, Instant, &Arc<Client>)| {
            let held = held.get(&network(visit.peer)).filter(|_| !known);
            (*known, Reverse(held.copied().max(Some(fair))), *since)
        };
        while leaving < wanted {
            let places = candidates.iter().map(place).enumerate();
            let Some((first, _)) = places.min_by_key(|(_, place)| *place) else {
                break;
            };
            let (known, _, visit) = candidates.swap_remove(first);
            // Strangers will have had their time soon.
            if known && leaving + self.strangers >= wanted {
                break;
            }
            leaving += usize::from(visit.makes_room());
        }
        leaving
    }

    /// Goes on reading, for a moment, what a client sends.
    fn say_goodbye(&mut self, stream: TcpStream) {
        if stream.shutdown(Shutdown::Write).is_err() || stream.set_nonblocking(true).is_err() {
            return;
        }
        if self.leaving.len() == MAX_LEAVING {
            self.leaving.pop_front();
        }
        self.leaving.push_back(Leaving {
            stream,
            until: Instant::now() + LEAVE,
        });
    }
}

impl Leaving {
    fn goes_on(&mut self, now: Instant) -> bool {
        let mut ignored = [0; 8192];
        // Bounded: whoever sends without end does not hold up the doorkeeper.
        for _ in 0..16 {
            match (&self.stream).read(&mut ignored) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        now < self.until
    }
}
