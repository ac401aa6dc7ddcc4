//! Serving: configuration, catalog, store, broker and server put together, from the start to the stop.

mod admin;
mod listen;
mod notify;
mod reload;

use crate::adapter::Kinds;
use crate::adapter::load;
use crate::broker::Broker;
use crate::broker::due::Due;
use crate::broker::plans::Plans;
use crate::catalog::Service;
use crate::config::{self, Config, StoreConfig};
use crate::http::counts::Listener;
use crate::http::dispatch::Dispatcher;
use crate::http::gate::limits::Limits;
#[cfg(feature = "tls")]
use crate::http::gate::tls::Tls;
use crate::http::gate::{self, Gate};
use crate::log;
use crate::store::counted::Counted;
use crate::store::sealed;
use crate::store::{self, Store};
use notify::Notify;
use reload::{Reload, Seen};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// The configuration or the catalog is wrong (sysexits.h).
const EX_CONFIG: u8 = 78;
/// The state or the network cannot be used (sysexits.h).
const EX_IOERR: u8 = 74;

/// How long requests in flight and asynchronous operations may take to finish; Cloud Foundry kills 10 seconds after
/// SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(8);
/// How much of that is for adapters to come back early that have not finished by then.
const CANCEL_LIMIT: Duration = Duration::from_secs(2);
/// Descriptors for files, the state, programs and connections that wait.
const RESERVED_DESCRIPTORS: usize = 192;
/// How long the last log lines may take.
const FLUSH_LIMIT: Duration = Duration::from_millis(500);

/// Why the broker does not start: an exit code, and what to tell.
struct Refusal(u8, Vec<String>);

fn cannot_listen(address: SocketAddr, error: &io::Error) -> Refusal {
    Refusal(
        EX_IOERR,
        vec![format!("cannot listen on {address}: {error}")],
    )
}

/// Serves until SIGTERM or SIGINT.
pub(crate) fn serve(kinds: Kinds) -> ExitCode {
    let code = match run(kinds) {
        Ok(code) => code,
        Err(Refusal(code, messages)) => {
            for message in messages {
                eprintln!("brokerlet: {message}");
            }
            ExitCode::from(code)
        }
    };
    log::flush(FLUSH_LIMIT);
    code
}

fn run(kinds: Kinds) -> Result<ExitCode, Refusal> {
    let environment = |name: &str| std::env::var(name).ok();
    let names: Vec<String> = std::env::vars_os()
        .map(|(name, _)| name.to_string_lossy().into_owned())
        .collect();
    // Looked at before they are read: a change in between is seen later.
    let seen = Seen::of(config::files(&environment));
    let config = Config::read(&environment, names.iter().map(String::as_str))
        .map_err(|errors| Refusal(EX_CONFIG, errors))?;
    log::start(config.log);
    log_panics();
    for warning in &config.warnings {
        log::warn("configuration").with("message", warning).send();
    }

    let notify = Notify::from_environment(&environment);
    let plans = load_plans(config.catalog.as_deref(), &kinds)?;
    let offers = offers(plans.catalog().services());
    let store =
        open_store(&config.store).map_err(|error| Refusal(EX_IOERR, vec![error.message]))?;
    let store = Box::new(Counted(store));
    let store = sealed::with_keys(store, config.seal_keys)
        .map_err(|error| Refusal(EX_CONFIG, vec![error.message]))?;
    let place = store.describe();
    let broker = Broker::new(plans, store);
    if let Some(time) = config.audit_for {
        broker.keep_audit_for(time);
    }
    broker
        .recover()
        .map_err(|error| Refusal(EX_IOERR, vec![error.message]))?;

    #[cfg(feature = "tls")]
    let tls = match config.tls {
        Some(files) => Some(Arc::new(
            Tls::load(files).map_err(|error| Refusal(EX_CONFIG, vec![error]))?,
        )),
        None => None,
    };
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error| Refusal(EX_IOERR, vec![format!("cannot watch for signals: {error}")]))?;
    let refused = |error| cannot_listen(config.address, &error);
    let (listener, handed_over) = listen::listen(config.address).map_err(refused)?;
    let admin = admin::Setup::listen(config.admin_address)?;
    let dispatcher = Arc::new(
        Dispatcher::new(broker.clone(), config.credentials)
            .with_max_body(config.limits.body as u64)
            .below(config.base_path)
            .with_links(config.links),
    );
    let reload = Reload {
        kinds,
        catalog: config.catalog,
        seen,
        broker: broker.clone(),
        dispatcher: dispatcher.clone(),
        notify: notify.clone(),
        #[cfg(feature = "tls")]
        tls: tls.clone(),
    };
    let settings = gate::Settings {
        limits: within_descriptors(config.limits, admin.is_some()),
        workers: config.workers,
        proxies: config.proxies,
        listener: Listener::Broker,
        handed_over,
        #[cfg(feature = "tls")]
        tls: tls.clone(),
    };
    let admin = match admin {
        Some(admin) => Some(admin.start(&dispatcher, &settings)?),
        None => None,
    };
    let handle = signals.handle();
    let gate =
        Gate::start(listener, dispatcher, settings, move || handle.close()).map_err(refused)?;
    let admin_address = admin.as_ref().map(|gate| gate.address().to_string());
    log::info("started")
        .with("version", env!("CARGO_PKG_VERSION"))
        .with("listen", &gate.address().to_string())
        .with("admin", admin_address.as_ref())
        .with("offers", &offers)
        .with("store", &place)
        .send();

    // Not before: whatever it finds in a large state, requests are answered already.
    let (ask, asked) = channel();
    let reloads = thread::Builder::new().name("reload".to_owned()).spawn({
        let address = gate.address();
        move || reload.run(&asked, config.reload_every, &address)
    });
    if let Err(error) = reloads {
        log::error("no_thread")
            .with("error", &error.to_string())
            .send();
    }
    do_what_is_due(&broker);
    notify.watch(&environment, gate.pulse());
    if broker.is_shared() {
        watch_over_others(&broker);
    }
    notify.ready(&gate.address());
    // Ends with the first signal to stop, or without one when the gate is broken.
    let signal = signals.forever().find(|signal| {
        if *signal == SIGHUP && ask.send(()).is_err() {
            reload::refused()
                .with("message", "there is no thread to do it")
                .send();
        }
        *signal != SIGHUP
    });
    log::info("stopping")
        .with(
            "signal",
            signal.and_then(signal_hook::low_level::signal_name),
        )
        .send();
    notify.stopping();
    let stopped = stop(gate, &broker);
    if let Some(admin) = admin {
        // Not before: a stop is worth watching.
        admin.stop(admin::STOP_LIMIT);
    }
    if !stopped {
        log::warn("stopped")
            .with(
                "message",
                "some requests or operations did not finish in time",
            )
            .send();
        log::flush(FLUSH_LIMIT);
        // Workers still hold the store: end without waiting for them. What was acknowledged is on disk.
        std::process::exit(0);
    }
    // Threads that are about to end may hold the store longer than this one.
    broker.close();
    log::info("stopped").send();
    Ok(match signal {
        Some(_) => ExitCode::SUCCESS,
        None => ExitCode::from(EX_IOERR),
    })
}

/// How often to look whether another broker on the same state is gone.
const TAKE_OVER_EVERY: Duration = Duration::from_secs(5);

/// Goes on with the operations of brokers that are gone, as long as this one lives.
fn watch_over_others(broker: &Arc<Broker>) {
    let broker = Arc::downgrade(broker);
    background("takeover", move || {
        loop {
            thread::sleep(TAKE_OVER_EVERY);
            let Some(broker) = broker.upgrade() else {
                return;
            };
            // That the database cannot be reached is told by who renews the lease.
            let _ = broker.take_over();
        }
    });
}

/// The longest pause in which clocks may be set and catalogs replaced before it is seen.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Does what is due, as long as the broker lives.
fn do_what_is_due(broker: &Arc<Broker>) {
    let (alarm, broker) = (broker.alarm().clone(), Arc::downgrade(broker));
    background("due", move || {
        let mut due = Due::default();
        let mut rang = true;
        while let Some(broker) = broker.upgrade() {
            let work = AssertUnwindSafe(|| broker.do_what_is_due(&mut due, rang));
            // What has panicked is told in the log; the rest is to be done all the same.
            let _ = catch_unwind(work);
            drop(broker);
            rang = alarm.wait(LOOK_EVERY);
        }
    });
}

/// Does this in a thread of its own, if there is one to be had.
fn background(name: &str, work: impl FnOnce() + Send + 'static) {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(work);
    if let Err(error) = spawned {
        log::error("no_thread")
            .with("error", &error.to_string())
            .send();
    }
}

/// Stops the gate, whose requests wait for the broker, and the broker, which waits for adapters: these are told to come
/// back early when most of the time is over. Returns whether all are done.
fn stop(gate: Gate, broker: &Broker) -> bool {
    broker.finish();
    let end = Instant::now() + STOP_LIMIT;
    let finish = end - CANCEL_LIMIT;
    let left = |until: Instant| until.saturating_duration_since(Instant::now());
    let (stopping, stopped) = channel();
    background("stop", move || {
        // Nobody listens any more if that took too long.
        let _ = stopping.send(gate.stop(STOP_LIMIT));
    });
    // As long as there are requests, more can begin.
    let early = stopped.recv_timeout(left(finish));
    let worked = broker.stop(finish, end);
    let served = early.or_else(|_| stopped.recv_timeout(left(end)));
    served.unwrap_or(false) && worked
}

/// Raises the limit of descriptors as far as it goes, and keeps the number of connections below it: each may take one for
/// its socket and two for its line to a worker, and something must be left for the rest of the program.
fn within_descriptors(mut limits: Limits, admin: bool) -> Limits {
    let mut descriptors = getrlimit(Resource::Nofile);
    if descriptors.current < descriptors.maximum || descriptors.maximum.is_none() {
        let raised = Rlimit {
            current: descriptors.maximum,
            maximum: descriptors.maximum,
        };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            descriptors = raised;
        }
    }
    let Some(most) = descriptors.current else {
        return limits;
    };
    let fit = usize::try_from(most)
        .unwrap_or(usize::MAX)
        .saturating_sub(RESERVED_DESCRIPTORS)
        / 3;
    let fit = fit.saturating_sub(if admin { admin::CONNECTIONS } else { 0 });
    let fit = fit.max(1);
    if fit < limits.connections {
        log::warn("configuration")
            .with(
                "message",
                &format!(
                    "BROKER_MAX_CONNECTIONS: {} connections do not fit into the limit of {most} file descriptors; {fit} \
                     are served at once",
                    limits.connections
                ),
            )
            .send();
        limits.connections = fit;
    }
    limits
}

/// Reads the catalog file, and logs its warnings. The refusal has its errors.
fn load_plans(path: Option<&Path>, kinds: &Kinds) -> Result<Plans, Refusal> {
    let environment = |name: &str| std::env::var(name).ok();
    let (offered, findings) = load::load(path, kinds, &environment);
    let file = path.map_or("the built-in catalog".into(), |path| {
        path.display().to_string()
    });
    let Some((catalog, fulfilments)) = offered else {
        let messages = findings
            .0
            .iter()
            .map(|finding| format!("{file}: {finding}"));
        return Err(Refusal(EX_CONFIG, messages.collect()));
    };
    for finding in &findings.0 {
        log::warn("catalog")
            .with("file", &file)
            .with("place", &finding.place)
            .with("message", &finding.text)
            .send();
    }
    Ok(Plans::new(catalog, fulfilments))
}

fn open_store(config: &StoreConfig) -> Result<Box<dyn Store>, store::Error> {
    Ok(match config {
        StoreConfig::Memory => Box::new(store::memory::Memory::new()),
        StoreConfig::File { path, cache } => {
            let store = store::sqlite::Sqlite::open(path, *cache)?;
            for warning in store.warnings() {
                log::warn("store").with("message", warning).send();
            }
            Box::new(store)
        }
        #[cfg(feature = "postgres")]
        StoreConfig::Postgres(config) => {
            Box::new(store::postgres::Postgres::open(config.as_ref().clone())?)
        }
    })
}

/// `example_service (plan_one), …`, for the start line.
fn offers(services: &[Service]) -> String {
    let service = |service: &Service| {
        let plans: Vec<_> = service.offered().map(|plan| plan.name.as_str()).collect();
        format!("{} ({})", service.name, plans.join(", "))
    };
    let offered = services.iter().filter(|service| service.is_offered());
    offered.map(service).collect::<Vec<_>>().join(", ")
}

/// Logs panics as one line each. Only messages that stand in the source are logged: a formatted one can hold anything.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        log::error("panic")
            .with("thread", std::thread::current().name())
            .with("place", place.as_ref())
            .with(
                "message",
                panic.payload().downcast_ref::<&'static str>().copied(),
            )
            .send();
    }));
}
