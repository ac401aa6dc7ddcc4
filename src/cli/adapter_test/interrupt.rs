//! Ctrl-C: the call that goes on is cancelled, and what was made is deleted.

use crate::adapter::{Cancel, Reason};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Whether somebody wants the test to end.
#[derive(Default)]
pub struct Interrupt(Mutex<State>);

#[derive(Default)]
struct State {
    is_interrupted: bool,
    /// Of the call that goes on.
    cancel: Option<Arc<Cancel>>,
}

impl Interrupt {
    /// Hears SIGINT and SIGTERM from here on.
    pub fn watch() -> io::Result<Arc<Interrupt>> {
        let interrupt = Arc::new(Interrupt::default());
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let hears = interrupt.clone();
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                for _ in signals.forever() {
                    hears.interrupt();
                }
            })?;
        Ok(interrupt)
    }

    /// For the next call: a second signal also ends what is called to clean up.
    pub fn next_call(&self) -> Arc<Cancel> {
        let cancel = Arc::new(Cancel::new());
        self.lock().cancel = Some(cancel.clone());
        cancel
    }

    pub fn is_interrupted(&self) -> bool {
        self.lock().is_interrupted
    }

    fn interrupt(&self) {
        let cancel = {
            let mut state = self.lock();
            state.is_interrupted = true;
            state.cancel.clone()
        };
        if let Some(cancel) = cancel {
            cancel.cancel(Reason::Superseded);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
