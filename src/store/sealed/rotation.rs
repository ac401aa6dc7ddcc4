//! Sealing anew, in the background, what is sealed with an old key, or not at all.

use super::keys::{Keys, is_stale};
use super::marker;
use crate::log;
use crate::store::{Change, Error, Key, Outcome, Store};

use serde::Deserialize;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

/// How many records are looked at in one step.
const STEP: usize = 32;
/// When what could not be sealed anew, since an operation was in progress, is looked at again.
const AGAIN: Duration = Duration::from_secs(60);

/// Seals with the current key whatever is not, until nothing is left, or nobody holds the other end of `over`
/// any more.
pub fn seal_all(store: &dyn Store, keys: &Keys, over: &Receiver<()>) {
    loop {
        let mut count = 0;
        let result = seal_once(store, keys, over, &mut count);
        if count > 0 {
            log::info("sealed")
                .with("records", count)
                .with("key", keys.current())
                .send();
        }
        match result {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => log::warn("store").with("message", &error.message).send(),
        }
        if over.recv_timeout(AGAIN) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

/// Whether nothing is left to do.
fn seal_once(
    store: &dyn Store,
    keys: &Keys,
    over: &Receiver<()>,
    count: &mut usize,
) -> Result<bool, Error> {
    let is_over = || over.try_recv() == Err(TryRecvError::Disconnected);
    let (mut after, mut whole) = (String::new(), true);
    loop {
        let step = store.instances(&after, STEP)?;
        let Some((last, _)) = step.last() else {
            break;
        };
        after.clone_from(last);
        for (id, record) in step {
            let bindings = store.bindings(&id)?;
            let bindings = bindings
                .into_iter()
                .map(|(binding, record)| (Key::binding(&id, &binding), record));
            for (key, record) in bindings.chain([(Key::instance(&id), record)]) {
                if is_over() {
                    return Ok(true);
                }
                if !is_stale(&record.body, keys.current()) {
                    continue;
                }
                // It is sealed when its operation has ended, by whoever writes that.
                if in_progress(&record.body) {
                    whole = false;
                    continue;
                }
                let body = keys.seal(&key, keys.open(&key, record.body)?)?;
                let put = Change::Put {
                    key,
                    revision: record.revision,
                    body,
                    open: false,
                };
                match store.commit(vec![put])? {
                    Outcome::Committed(_) => *count += 1,
                    Outcome::Conflict => whole = false,
                }
            }
        }
    }
    if !whole {
        return Ok(false);
    }
    let (revision, names) = marker::read(store)?;
    let current = vec![keys.current().to_owned()];
    Ok(names == current || marker::write(store, revision, current)?)
}

fn in_progress(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Operation {
        state: String,
    }
    #[derive(Deserialize)]
    struct Partly {
        operation: Operation,
    }
    serde_json::from_slice::<Partly>(body)
        .is_ok_and(|record| record.operation.state == "in progress")
}
