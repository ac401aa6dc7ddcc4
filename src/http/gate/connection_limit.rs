//! How many connections are served at once, which of them wait, and which have to close.
//!
//! An accepted connection goes into a queue. Each connection that is served has a thread, which takes the next one from the
//! queue when its own has ended. If the queue grows and there can be no more threads, connections are evicted.

use super::client::Client;
use super::eviction::{Evicted, GRACE, evict};
use super::lingering::{self, Lingering};
use crate::http::counts;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longest queue. More connections are left to the system's backlog.
const MAX_QUEUE: usize = 128;
/// How many threads stay without a connection, and how long those beyond them do.
const KEPT_THREADS: usize = 2;
const KEEP_THREAD: Duration = Duration::from_secs(5);

pub struct ConnectionLimit {
    max: usize,
    /// How long a connection may be in the queue.
    queue_time: Duration,
    stopping: AtomicBool,
    /// How many connections in the queue can expect no place, not even from those that are new and may be evicted soon.
    starved: AtomicUsize,
    state: Mutex<State>,
    counts: &'static counts::Gate,
    /// For threads without a connection: something is in the queue, or the gate stops.
    queued: Condvar,
    /// For the timer thread: there is something new to wait for.
    timers: Condvar,
    /// For those who wait for a shorter queue or fewer connections.
    freed: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Queued>,
    /// The connections that are served, by their ids.
    clients: BTreeMap<u64, Arc<Client>>,
    last_id: u64,
    lingering: Lingering,
    threads: usize,
    idle_threads: usize,
    stopping: bool,
    /// When evicting can do more than it could the last time.
    evict_again: Option<Instant>,
}

struct Queued {
    stream: TcpStream,
    peer: IpAddr,
    since: Instant,
}

/// What is to be done for a connection that was put into the queue.
pub enum Accepted {
    /// Nothing: a thread will take it.
    Queued,
    /// Start a thread. If that fails, call [`ConnectionLimit::thread_failed`].
    NeedsThread,
}

impl ConnectionLimit {
    pub fn new(max: usize, queue_time: Duration, counts: &'static counts::Gate) -> ConnectionLimit {
        ConnectionLimit {
            max,
            queue_time,
            stopping: AtomicBool::new(false),
            starved: AtomicUsize::new(0),
            state: Mutex::default(),
            counts,
            queued: Condvar::new(),
            timers: Condvar::new(),
            freed: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the metrics, after a change.
    fn count(&self, state: &State) {
        self.counts.are(state.clients.len(), state.queue.len());
    }

    /// Waits until the queue has space. Returns false when the gate stops.
    pub fn wait_for_space(&self) -> bool {
        let full = |state: &mut State| state.queue.len() >= MAX_QUEUE && !state.stopping;
        let state = self.freed.wait_while(self.state(), full);
        !state.unwrap_or_else(PoisonError::into_inner).stopping
    }

    /// Puts a connection into the queue.
    pub fn accept(&self, stream: TcpStream, peer: IpAddr) -> Accepted {
        let mut state = self.state();
        state.queue.push_back(Queued {
            stream,
            peer,
            since: Instant::now(),
        });
        self.counts.accepted.add();
        self.count(&state);
        if state.idle_threads >= state.queue.len() {
            self.queued.notify_one();
            return Accepted::Queued;
        }
        if state.threads < self.max {
            state.threads += 1;
            return Accepted::NeedsThread;
        }
        self.evict_for_queue(&mut state);
        Accepted::Queued
    }

    /// The thread that was to be started could not be.
    pub fn thread_failed(&self) {
        let mut state = self.state();
        state.threads -= 1;
        self.evict_for_queue(&mut state);
    }

    /// Evicts as many connections as are in the queue and have no thread to take them.
    fn evict_for_queue(&self, state: &mut State) {
        let free = state.threads.saturating_sub(state.clients.len());
        let wanted = state.queue.len().saturating_sub(free);
        // Whoever is authenticated is not closed for one that has just come: often another connection ends at that moment.
        let patient_until = state.queue.front().map(|first| first.since + GRACE);
        let patient = patient_until.is_some_and(|until| Instant::now() < until);
        let evicted = match wanted {
            0 => Evicted::default(),
            _ => evict(state.clients.values(), wanted, !patient),
        };
        let again = [evicted.grace_ends, patient_until.filter(|_| patient)];
        let again = again.into_iter().flatten().min();
        state.evict_again = again.filter(|_| evicted.closing < wanted);
        let starved = wanted.saturating_sub(evicted.closing + evicted.in_grace);
        self.starved.store(starved, Ordering::SeqCst);
        self.timers.notify_one();
    }

    /// Evicts one connection, as when there are no descriptors left.
    pub fn evict_one(&self) {
        evict(self.state().clients.values(), 1, true);
    }

    /// Waits a moment for a connection to end.
    pub fn wait_for_end(&self, limit: Duration) {
        drop(self.freed.wait_timeout(self.state(), limit));
    }

    /// Whether connections are to close after their next answer: the gate stops, or the queue is starved.
    fn is_closing_all(&self) -> bool {
        self.is_stopping() || self.starved.load(Ordering::SeqCst) > 0
    }

    /// Whether a connection may stay open after its next answer.
    pub fn may_stay(&self, client: &Client) -> bool {
        !self.is_closing_all() && !client.is_closing()
    }

    /// The next connection for a thread. `None` if the thread is not needed any more.
    pub fn next(&self) -> Option<Arc<Client>> {
        let mut state = self.state();
        loop {
            if let Some(next) = state.queue.pop_front() {
                state.last_id += 1;
                let client = Arc::new(Client::new(state.last_id, next.stream, next.peer));
                state.clients.insert(client.id, client.clone());
                self.count(&state);
                if state.stopping {
                    client.close_when_idle();
                }
                if !state.queue.is_empty() || self.is_closing_all() {
                    self.evict_for_queue(&mut state);
                }
                self.freed.notify_all();
                return Some(client);
            }
            let mut waited_long = state.stopping;
            if !state.stopping {
                state.idle_threads += 1;
                let (woken, waited) = self
                    .queued
                    .wait_timeout(state, KEEP_THREAD)
                    .unwrap_or_else(PoisonError::into_inner);
                state = woken;
                state.idle_threads -= 1;
                waited_long = waited.timed_out();
            }
            let superfluous = state.stopping || state.threads > KEPT_THREADS;
            if waited_long && state.queue.is_empty() && superfluous {
                state.threads -= 1;
                self.freed.notify_all();
                return None;
            }
        }
    }

    /// A connection has ended. `linger`: the client may still be sending.
    pub fn ended(&self, client: &Client, linger: bool) {
        // Without descriptors for a copy, the connection is closed at once.
        let copy = linger.then(|| client.stream.try_clone().ok()).flatten();
        let mut state = self.state();
        state.clients.remove(&client.id);
        self.count(&state);
        if let Some(stream) = copy {
            state.lingering.add(stream);
            self.timers.notify_one();
        }
        self.freed.notify_all();
    }

    /// Marks a connection as idle. It closes if the gate stops, or if the queue is starved and it was `served` before.
    pub fn set_idle(&self, client: &Client, served: bool) {
        client.set_idle();
        self.close_idle(client, served);
    }

    /// A worker has answered. Does the same, unless the next request has begun.
    pub fn set_answered(&self, client: &Client) {
        if client.set_answered() {
            self.close_idle(client, true);
        }
    }

    fn close_idle(&self, client: &Client, served: bool) {
        if self.is_stopping() {
            client.close_when_idle();
        } else if served && self.is_closing_all() {
            client.evict();
        }
    }

    /// Does what depends on time, until the gate has stopped: reads from lingering connections, evicts again, and takes
    /// connections from the queue that have waited too long. Those are given to `refuse`, which answers without waiting and
    /// returns the connection if it is to linger.
    pub fn run_timers(&self, refuse: impl Fn(TcpStream, IpAddr) -> Option<TcpStream>) {
        let mut state = self.state();
        loop {
            let now = Instant::now();
            let is_overdue = |first: &Queued| now >= first.since + self.queue_time;
            if state.queue.front().is_some_and(is_overdue)
                && let Some(Queued { stream, peer, .. }) = state.queue.pop_front()
            {
                drop(state);
                let refused = refuse(stream, peer);
                state = self.state();
                self.count(&state);
                if let Some(stream) = refused {
                    state.lingering.add(stream);
                }
                self.evict_for_queue(&mut state);
                self.freed.notify_all();
                continue;
            }
            state.lingering.read();
            if state.stopping && state.queue.is_empty() {
                return;
            }
            if state.evict_again.is_some_and(|time| time <= now) {
                self.evict_for_queue(&mut state);
            }
            let overdue = state
                .queue
                .front()
                .map(|first| first.since + self.queue_time);
            let linger = (!state.lingering.is_empty()).then_some(now + lingering::TICK);
            let next = [overdue, linger, state.evict_again];
            state = match next.into_iter().flatten().min() {
                Some(next) => {
                    self.timers
                        .wait_timeout(state, next.saturating_duration_since(now))
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                None => self
                    .timers
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Begins to stop: idle connections close now, the others after their next answer.
    pub fn begin_stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        let mut state = self.state();
        state.stopping = true;
        for client in state.clients.values() {
            if client.is_idle() {
                client.close_when_idle();
            }
        }
        self.queued.notify_all();
        self.timers.notify_all();
        self.freed.notify_all();
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Waits until all connections have ended. Returns false if some have not by `end`.
    pub fn wait_until_empty(&self, end: Instant) -> bool {
        let busy = |state: &mut State| !state.clients.is_empty() || !state.queue.is_empty();
        let left = end.saturating_duration_since(Instant::now());
        let waited = self.freed.wait_timeout_while(self.state(), left, busy);
        let waited = waited.unwrap_or_else(PoisonError::into_inner).1;
        !waited.timed_out()
    }
}
