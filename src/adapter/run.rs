//! One run of an operation, as an adapter sees it: which operation, which attempt, until when, and whether to go on.

use serde::{Deserialize, Serialize};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What an adapter is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Provision,
    Update,
    Deprovision,
    Bind,
    Unbind,
}

impl Kind {
    pub const ALL: [Kind; 5] = [
        Kind::Provision,
        Kind::Update,
        Kind::Deprovision,
        Kind::Bind,
        Kind::Unbind,
    ];

    /// `provision`, `update`, …: in records, log lines, and the arguments of programs.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Provision => "provision",
            Kind::Update => "update",
            Kind::Deprovision => "deprovision",
            Kind::Bind => "bind",
            Kind::Unbind => "unbind",
        }
    }

    /// As in "is being …".
    pub fn participle(self) -> &'static str {
        match self {
            Kind::Provision => "provisioned",
            Kind::Update => "updated",
            Kind::Deprovision => "deprovisioned",
            Kind::Bind => "created",
            Kind::Unbind => "deleted",
        }
    }
}

/// One call of an adapter, as a part of the operation that it carries out.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// The operation's id: the same in every attempt, also after a crash.
    pub id: &'a str,
    /// 1 at first; higher where the operation was tried before, and may have done some of its work.
    pub attempt: u32,
    /// When the call must have come back. The time for the whole operation, with its waiting and all of its attempts,
    /// is [`Adapter::timeout`](super::Adapter::timeout).
    pub deadline: Instant,
    /// Takes what is being done, for whoever polls the operation: they read the latest text as it is. No secrets.
    pub progress: &'a (dyn Fn(&str) + Sync),
    /// Whether the call is to come back early.
    pub cancel: &'a Cancel,
}

static NEVER: Cancel = Cancel::new();

impl<'a> Run<'a> {
    /// A first attempt that nobody watches and nobody cancels.
    pub fn alone(id: &'a str, timeout: Duration) -> Run<'a> {
        Run {
            id,
            attempt: 1,
            deadline: after(timeout),
            progress: &|_| {},
            cancel: &NEVER,
        }
    }

    /// How long until the deadline.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// The moment in `time` from now; in a year, if the clock cannot count as far as that.
pub(crate) fn after(time: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    Instant::now() + time.min(YEAR)
}

/// Why a call is to come back early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// What the call makes is not wanted any more: a delete came. It is removed next.
    Superseded,
    /// The broker stops. The same operation goes on after the next start, as its next attempt.
    Stopping,
}

/// Tells a call to come back early: to stop what it does, leave things such that a repeat or a removal finds its way,
/// and return any [`Failure`](super::Failure). Which one does not matter; a success that is still returned counts.
#[derive(Default)]
pub struct Cancel {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    reason: Option<Reason>,
    wakers: Vec<(u64, Waker)>,
    next: u64,
}

type Waker = Box<dyn FnOnce(Reason) + Send>;

impl Cancel {
    pub const fn new() -> Cancel {
        Cancel {
            state: Mutex::new(State {
                reason: None,
                wakers: Vec::new(),
                next: 0,
            }),
            changed: Condvar::new(),
        }
    }

    /// Cancels, and wakes whoever waits. The first reason counts.
    pub fn cancel(&self, reason: Reason) {
        let wakers = {
            let mut state = self.lock();
            if state.reason.is_some() {
                return;
            }
            state.reason = Some(reason);
            std::mem::take(&mut state.wakers)
        };
        self.changed.notify_all();
        for (_, wake) in wakers {
            wake(reason);
        }
    }

    pub fn is_cancelled(&self) -> bool {
        self.reason().is_some()
    }

    pub fn reason(&self) -> Option<Reason> {
        self.lock().reason
    }

    /// Waits until cancelled, for this long at most. Returns whether it is cancelled.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let (state, _) = self
            .changed
            .wait_timeout_while(self.lock(), timeout, |state| state.reason.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        state.reason.is_some()
    }

    /// Has `wake` called once when cancelled, at once if it is so already; not any more when what is returned was
    /// dropped. `wake` runs on the thread that cancels and must not block: it sends into a channel or writes to a pipe.
    pub fn on_cancel(&self, wake: impl FnOnce(Reason) + Send + 'static) -> OnCancel<'_> {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        if let Some(reason) = state.reason {
            drop(state);
            wake(reason);
        } else {
            state.wakers.push((number, Box::new(wake)));
        }
        OnCancel {
            cancel: self,
            number,
        }
    }

    /// Nothing that runs under the lock can panic half-way, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a waker of [`Cancel::on_cancel`] in place.
#[must_use]
pub struct OnCancel<'a> {
    cancel: &'a Cancel,
    number: u64,
}

impl Drop for OnCancel<'_> {
    fn drop(&mut self) {
        let wakers = &mut self.cancel.lock().wakers;
        wakers.retain(|(number, _)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::thread;

    #[test]
    fn the_name_of_a_kind_is_the_one_in_records() {
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }

    #[test]
    fn who_waits_is_woken_and_the_first_reason_counts() {
        let cancel = Cancel::new();
        assert!(!cancel.wait_timeout(Duration::ZERO));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| cancel.wait_timeout(Duration::MAX));
            cancel.cancel(Reason::Superseded);
            cancel.cancel(Reason::Stopping);
            assert!(waiting.join().unwrap());
        });
        assert_eq!(cancel.reason(), Some(Reason::Superseded));
    }

    #[test]
    fn wakers_are_called_once_and_only_while_they_are_kept() {
        let cancel = Cancel::new();
        let (sender, woken) = channel();
        let send = |name| {
            let sender = sender.clone();
            move |_| sender.send(name).unwrap()
        };
        drop(cancel.on_cancel(send("dropped")));
        let kept = cancel.on_cancel(send("kept"));
        cancel.cancel(Reason::Stopping);
        cancel.cancel(Reason::Stopping);
        drop(kept);
        drop(cancel.on_cancel(send("late")));
        assert_eq!(woken.try_iter().collect::<Vec<_>>(), ["kept", "late"]);
    }

    #[test]
    fn a_timeout_without_end_is_a_time_that_the_clock_knows() {
        let run = Run::alone("op", Duration::MAX);
        assert!(run.left() > Duration::from_secs(3600));
        assert!(!run.cancel.is_cancelled());
    }
}
