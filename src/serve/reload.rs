//! Reading everything again while the broker serves: the catalog, the credentials and the certificates.
//!
//! It is done in a thread of its own, when SIGHUP asks for it or the content of a file has changed. Everything is read and
//! checked first. If anything is wrong, all of it stays as it was; else all of it is replaced.

use super::load_plans;
use super::notify::Notify;
use crate::adapter::Kinds;
use crate::broker::Broker;
use crate::broker::plans::Plans;
use crate::config::credentials;
use crate::http::auth::Credentials;
use crate::http::dispatch::Dispatcher;
#[cfg(feature = "tls")]
use crate::http::gate::tls::Tls;
use crate::log;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// What is replaced, and what it is read from.
pub(super) struct Reload {
    pub kinds: Kinds,
    pub catalog: Option<PathBuf>,
    pub seen: Seen,
    pub broker: Arc<Broker>,
    pub dispatcher: Arc<Dispatcher>,
    pub notify: Notify,
    #[cfg(feature = "tls")]
    pub tls: Option<Arc<Tls>>,
}

/// Everything that was read anew, and is in order.
struct Loaded {
    plans: Plans,
    credentials: Credentials,
    #[cfg(feature = "tls")]
    certificates: Option<rustls::ServerConfig>,
}

impl Reload {
    /// The life of the thread: tells what is missing, then reloads when it is asked to, or looks at the files every so
    /// often. Ends with the sender.
    pub fn run(mut self, asked: &Receiver<()>, every: Option<Duration>, address: &SocketAddr) {
        self.tell_missing();
        loop {
            let asked_for = match every {
                Some(every) => asked.recv_timeout(every),
                None => asked.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match asked_for {
                Ok(()) => {
                    // Who asks several times gets what is there after the last time.
                    while asked.try_recv().is_ok() {}
                }
                Err(RecvTimeoutError::Timeout) if self.seen.is_current() => continue,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.notify.reloading();
            // An adapter's own code may run.
            if catch_unwind(AssertUnwindSafe(|| self.reload())).is_err() {
                refused().with("message", "a panic, told above").send();
            }
            self.notify.ready(address);
        }
    }

    fn reload(&mut self) {
        // Before they are read: what changes from now on is seen the next time. What was refused is not tried again before
        // it has changed.
        let changed = self.seen.look_again();
        let Some(loaded) = self.load() else {
            return;
        };
        let Loaded { plans, .. } = &loaded;
        let before = self.broker.plans();
        let leaves = before
            .all()
            .any(|(service, plan)| plans.lookup(service, plan).is_err());
        if leaves && !self.may_leave(&before, plans) {
            return;
        }
        match self.broker.count_places(plans) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return refused().with("message", &error.message).send(),
        }
        let offers = super::offers(plans.catalog().services());
        self.broker.replace_plans(loaded.plans.replacing(&before));
        self.dispatcher.replace_credentials(loaded.credentials);
        #[cfg(feature = "tls")]
        if let (Some(tls), Some(certificates)) = (&self.tls, loaded.certificates) {
            tls.replace(certificates);
        }
        log::info("reloaded")
            .with("changed", changed.as_ref())
            .with("offers", &offers)
            .send();
        if leaves {
            // An instance may have been made of a plan that has just left.
            self.tell_missing();
        }
    }

    /// Reads everything. `None` after it has told what is wrong.
    fn load(&self) -> Option<Loaded> {
        let environment = |name: &str| std::env::var(name).ok();
        let plans = load_plans(self.catalog.as_deref(), &self.kinds);
        let plans = tell(plans.map_err(|refusal| refusal.1));
        let credentials = tell(credentials::read(&environment));
        #[cfg(feature = "tls")]
        let certificates = tell(
            self.tls
                .as_ref()
                .map(|tls| tls.read())
                .transpose()
                .map_err(|error| vec![error]),
        );
        Some(Loaded {
            plans: plans?,
            credentials: credentials?,
            #[cfg(feature = "tls")]
            certificates: certificates?,
        })
    }

    /// Whether no service instance has one of the plans that would leave the catalog. Tells those that have.
    fn may_leave(&self, before: &Plans, after: &Plans) -> bool {
        let missing = match self.broker.missing(after) {
            Ok(Some(missing)) => missing,
            Ok(None) => return false,
            Err(error) => {
                refused().with("message", &error.message).send();
                return false;
            }
        };
        let mut may = true;
        for found in missing {
            // What was missing before is no reason.
            let Ok(offer) = before.lookup(&found.service_id, &found.plan_id) else {
                continue;
            };
            may = false;
            refused()
                .with("service", &offer.service.name)
                .with("plan", &offer.plan.name)
                .with("plan_id", &found.plan_id)
                .with("instances", found.instances)
                .with(
                    "message",
                    "the catalog file has lost this plan, which service instances have; put it back, with \"retired\": \
                     true beside \"adapter\" to hide it from users",
                )
                .send();
        }
        may
    }

    /// Tells which plans service instances have that are not in the catalog.
    fn tell_missing(&self) {
        match self.broker.missing(&self.broker.plans()) {
            Ok(missing) => {
                for found in missing.into_iter().flatten() {
                    log::warn("plan_missing")
                        .with("service_id", &found.service_id)
                        .with("plan_id", &found.plan_id)
                        .with("instances", found.instances)
                        .with(
                            "message",
                            "service instances have this plan, which is not in the catalog: they can be neither updated \
                             nor bound. Put the plan back, with \"retired\": true to hide it from users",
                        )
                        .send();
                }
            }
            Err(error) => log::error("plan_missing")
                .with("error", &error.message)
                .send(),
        }
    }
}

/// Begins a line that says why everything stays as it was.
pub(super) fn refused() -> log::Entry {
    log::error("reload_refused")
}

/// Tells each error.
fn tell<T>(read: Result<T, Vec<String>>) -> Option<T> {
    let errors = match read {
        Ok(value) => return Some(value),
        Err(errors) => errors,
    };
    for error in errors {
        refused().with("message", &error).send();
    }
    None
}

/// Files, and what their content was when it was looked at last: as much as it takes to see that it is another one.
pub(super) struct Seen(Vec<(PathBuf, Option<u64>)>);

impl Seen {
    pub fn of(files: Vec<PathBuf>) -> Seen {
        let mut seen = Seen(files.into_iter().map(|file| (file, None)).collect());
        seen.look_again();
        seen
    }

    /// The files whose content has changed, in words.
    fn look_again(&mut self) -> Option<String> {
        let mut changed = Vec::new();
        for (file, seen) in &mut self.0 {
            let found = content(file);
            if *seen != found {
                *seen = found;
                changed.push(file.display().to_string());
            }
        }
        (!changed.is_empty()).then(|| changed.join(", "))
    }

    fn is_current(&self) -> bool {
        self.0.iter().all(|(file, seen)| *seen == content(file))
    }
}

/// `None` for what is not there, or is a pipe, which can be read only once.
fn content(file: &PathBuf) -> Option<u64> {
    let is_file = std::fs::metadata(file).is_ok_and(|metadata| metadata.is_file());
    let bytes = is_file.then(|| std::fs::read(file).ok())??;
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    Some(hasher.finish())
}
