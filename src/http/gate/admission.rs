//! Who may come in: connections that wait for their turn, those that are served, and those that take their leave.

use rustix::net::{RecvFlags, recv};
use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Connections that wait for their turn at once; more are left to the system's backlog.
const MAX_WAITING: usize = 128;
/// Threads that are kept when there is nothing to do, and how long more than those are.
const KEPT_HANDLERS: usize = 2;
const KEEP_HANDLER: Duration = Duration::from_secs(5);
/// How long, and for how many connections at once, we go on reading what a client sends after its last answer. If the
/// socket were closed at once, what the client still sends would make the system throw the answer away.
const LEAVE: Duration = Duration::from_secs(1);
const MAX_LEAVING: usize = 64;
const LEAVE_TICK: Duration = Duration::from_millis(50);

/// A connection that is served.
pub struct Visit {
    id: u64,
    pub stream: TcpStream,
    pub peer: IpAddr,
    /// Since when, on the clock of [`Admission`], the connection could be closed without harm; 0 while it could not.
    resting: AtomicU64,
    /// It rests because it is made to wait, and may leave whatever has come since.
    held_up: AtomicBool,
    asked_to_leave: Mutex<bool>,
    asked: Condvar,
}

/// Admits so many connections at once.
pub struct Admission {
    most: usize,
    /// How long a connection may wait for its turn.
    patience: Duration,
    started: Instant,
    stopping: AtomicBool,
    /// How many wait for whom there is no thread, and there can be none.
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
    visits: BTreeMap<u64, Arc<Visit>>,
    next_id: u64,
    leaving: VecDeque<Leaving>,
    handlers: usize,
    idle_handlers: usize,
    stopping: bool,
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
pub enum Entered {
    /// Nothing: somebody takes care of it.
    Expected,
    /// A handler is to be started; if that cannot be done, [`Admission::no_handler`] has to be told.
    NeedsHandler,
}

impl Admission {
    pub fn new(most: usize, patience: Duration) -> Admission {
        Admission {
            most,
            patience,
            started: Instant::now(),
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

    fn now(&self) -> u64 {
        1 + self.started.elapsed().as_millis() as u64
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
    pub fn enter(&self, stream: TcpStream, peer: IpAddr) -> Entered {
        let mut inside = self.inside();
        inside.waiting.push_back(Waiting {
            stream,
            peer,
            since: Instant::now(),
        });
        if inside.idle_handlers >= inside.waiting.len() {
            self.arrived.notify_one();
            return Entered::Expected;
        }
        if inside.handlers < self.most {
            inside.handlers += 1;
            return Entered::NeedsHandler;
        }
        self.make_room_for_waiting(&mut inside);
        Entered::Expected
    }

    /// The handler that was to be started could not be.
    pub fn no_handler(&self) {
        let mut inside = self.inside();
        inside.handlers -= 1;
        self.make_room_for_waiting(&mut inside);
    }

    fn make_room_for_waiting(&self, inside: &mut Inside) {
        self.crowd.store(inside.waiting.len(), Ordering::SeqCst);
        inside.ask_longest_resting_to_leave();
        self.waiting.notify_one();
    }

    /// Keeps the size of the crowd in step with the queue that it is a part of.
    fn left_queue(&self, inside: &Inside) {
        self.crowd.fetch_min(inside.waiting.len(), Ordering::SeqCst);
        self.gone.notify_all();
    }

    /// Whether connections should end after their next answer: the gate stops, or somebody waits for a place.
    fn wants_room(&self) -> bool {
        self.stopping.load(Ordering::SeqCst) || self.crowd.load(Ordering::SeqCst) > 0
    }

    /// Whether a connection may go on after its next answer.
    pub fn lets_stay(&self, visit: &Visit) -> bool {
        !self.wants_room() && !visit.is_asked_to_leave()
    }

    /// Makes room, as when there are no descriptors left. Whether there was any to make.
    pub fn make_room(&self) -> bool {
        self.inside().ask_longest_resting_to_leave()
    }

    /// Waits a moment for somebody to leave.
    pub fn wait_for_leave(&self, limit: Duration) {
        let inside = self.inside();
        drop(self.gone.wait_timeout(inside, limit));
    }

    /// The next connection for a handler; `None` when the handler is not needed any more.
    pub fn next(&self) -> Option<Arc<Visit>> {
        let mut inside = self.inside();
        loop {
            if let Some(next) = inside.waiting.pop_front() {
                inside.next_id += 1;
                let visit = Arc::new(Visit {
                    id: inside.next_id,
                    stream: next.stream,
                    peer: next.peer,
                    resting: AtomicU64::new(self.now()),
                    held_up: AtomicBool::new(false),
                    asked_to_leave: Mutex::new(false),
                    asked: Condvar::new(),
                });
                inside.visits.insert(visit.id, visit.clone());
                if inside.stopping {
                    visit.ask_to_leave();
                }
                self.left_queue(&inside);
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
    pub fn leave(&self, visit: &Visit, linger: bool) {
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

    /// Marks a connection as one that could be closed without harm, from now on. It is so at once, if the gate stops, or if
    /// somebody waits for a place and this client has been `served` already.
    pub fn rest(&self, visit: &Visit, served: bool) {
        let now = self.now();
        visit.resting.store(now, Ordering::SeqCst);
        if self.is_stopping() {
            visit.ask_to_leave();
        } else if served && self.wants_room() {
            visit.makes_room(now);
        }
    }

    /// The same for a client that is made to wait.
    pub fn hold_up(&self, visit: &Visit) {
        visit.held_up.store(true, Ordering::SeqCst);
        self.rest(visit, true);
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
                self.left_queue(&inside);
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
            let tick = (!inside.leaving.is_empty()).then_some(LEAVE_TICK);
            let wait = [turn, tick].into_iter().flatten().min();
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
            if visit.resting.load(Ordering::SeqCst) > 0 {
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
    /// Whether there was somebody.
    fn ask_longest_resting_to_leave(&mut self) -> bool {
        let resting = self.visits.values().filter_map(|visit| {
            let since = visit.resting.load(Ordering::SeqCst);
            (since > 0 && !visit.is_asked_to_leave()).then_some((since, visit))
        });
        let mut resting: Vec<_> = resting.collect();
        resting.sort_unstable_by_key(|(since, _)| *since);
        resting
            .into_iter()
            .any(|(since, visit)| visit.makes_room(since))
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

impl Visit {
    /// From now on the connection must not be closed without an answer.
    pub fn work(&self) {
        self.resting.store(0, Ordering::SeqCst);
        self.held_up.store(false, Ordering::SeqCst);
    }

    /// Asks the connection to leave, unless the client has begun a request. Whoever serves it says so before it reads what
    /// has come. Whether it leaves; `since` is when it began to rest.
    fn makes_room(&self, since: u64) -> bool {
        let leaves = (self.held_up.load(Ordering::SeqCst) || !self.has_begun())
            && self
                .resting
                .compare_exchange(since, 0, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok();
        if leaves {
            self.ask_to_leave();
        }
        leaves
    }

    /// Something has come that was not read yet.
    pub fn has_begun(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        matches!(recv(&self.stream, &mut [0u8; 1], flags), Ok((1.., _)))
    }

    pub fn is_asked_to_leave(&self) -> bool {
        *self.asked_to_leave()
    }

    /// Waits, or until the connection is asked to leave.
    pub fn pause(&self, time: Duration) {
        let end = Instant::now() + time;
        let mut asked = self.asked_to_leave();
        while !*asked {
            let Some(left) = end.checked_duration_since(Instant::now()) else {
                return;
            };
            asked = self
                .asked
                .wait_timeout(asked, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Ends the wait for a request. One that has come by now is still read, and answered.
    fn ask_to_leave(&self) {
        *self.asked_to_leave() = true;
        self.asked.notify_all();
        let _ = self.stream.shutdown(Shutdown::Read);
    }

    fn asked_to_leave(&self) -> MutexGuard<'_, bool> {
        self.asked_to_leave
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
