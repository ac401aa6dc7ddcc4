//! Serving: configuration, catalog, store, broker and server put together, from the start to the stop.

use crate::adapter::Kinds;
use crate::broker::Broker;
use crate::broker::plans::Plans;
use crate::catalog::Service;
use crate::cli;
use crate::config::{Config, StoreConfig};
use crate::http::dispatch::Dispatcher;
use crate::http::server::Server;
use crate::log;
use crate::store::{self, Store};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
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
/// How long the last log lines may take.
const FLUSH_LIMIT: Duration = Duration::from_millis(500);

/// Why the broker does not start: an exit code, and what to tell.
struct Refusal(u8, Vec<String>);

/// Serves until SIGTERM or SIGINT.
pub(crate) fn serve(kinds: &Kinds) -> ExitCode {
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

fn run(kinds: &Kinds) -> Result<ExitCode, Refusal> {
    let environment = |name: &str| std::env::var(name).ok();
    let names: Vec<String> = std::env::vars_os()
        .map(|(name, _)| name.to_string_lossy().into_owned())
        .collect();
    let config = Config::read(&environment, names.iter().map(String::as_str))
        .map_err(|errors| Refusal(EX_CONFIG, errors))?;
    log::start(config.log);
    log_panics();
    for warning in &config.warnings {
        log::warn("configuration").with("message", warning).send();
    }

    let plans = load_plans(&config, kinds)?;
    let offers = offers(plans.catalog().services());
    let store =
        open_store(&config.store).map_err(|error| Refusal(EX_IOERR, vec![error.message]))?;
    let place = store.describe();
    let broker = Broker::new(plans, store);
    broker
        .recover()
        .map_err(|error| Refusal(EX_IOERR, vec![error.message]))?;

    let cannot_listen = |error| {
        Refusal(
            EX_IOERR,
            vec![format!("cannot listen on {}: {error}", config.address)],
        )
    };
    let mut signals = Signals::new([SIGTERM, SIGINT])
        .map_err(|error| Refusal(EX_IOERR, vec![format!("cannot watch for signals: {error}")]))?;
    let listener = TcpListener::bind(config.address).map_err(cannot_listen)?;
    let dispatcher = Dispatcher::new(broker.clone(), config.credentials);
    let handle = signals.handle();
    let server = Server::start(listener, dispatcher, config.workers, move || handle.close())
        .map_err(cannot_listen)?;
    log::info("started")
        .with("version", env!("CARGO_PKG_VERSION"))
        .with("listen", &server.address().to_string())
        .with("offers", &offers)
        .with("store", &place)
        .send();

    // Ends with the first signal, or without one when the server is broken.
    let signal = signals.forever().next();
    log::info("stopping")
        .with(
            "signal",
            signal.and_then(signal_hook::low_level::signal_name),
        )
        .send();
    if !stop(server, broker) {
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
    log::info("stopped").send();
    Ok(match signal {
        Some(_) => ExitCode::SUCCESS,
        None => ExitCode::from(EX_IOERR),
    })
}

/// Stops server and broker together: requests wait for the broker, and it for adapters. Returns whether both are done.
fn stop(server: Server, broker: Arc<Broker>) -> bool {
    broker.finish();
    let end = Instant::now() + STOP_LIMIT;
    let stopping = thread::Builder::new()
        .name("stop".to_owned())
        .spawn(move || broker.stop(end - CANCEL_LIMIT, end));
    let served = server.stop(STOP_LIMIT);
    let worked = stopping.is_ok_and(|thread| thread.join().unwrap_or(false));
    served && worked
}

fn load_plans(config: &Config, kinds: &Kinds) -> Result<Plans, Refusal> {
    let path = config.catalog.as_deref();
    let environment = |name: &str| std::env::var(name).ok();
    let (offered, findings) = cli::load(path, kinds, &environment);
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
    Plans::new(catalog, fulfilments)
        .map_err(|error| Refusal(EX_CONFIG, vec![format!("{file}: {error}")]))
}

fn open_store(config: &StoreConfig) -> Result<Box<dyn Store>, store::Error> {
    Ok(match config {
        StoreConfig::Memory => Box::new(store::memory::Memory::new()),
        StoreConfig::File { path, cache } => {
            let store = store::file::File::open(path, *cache)?;
            for warning in store.warnings() {
                log::warn("store").with("message", &warning).send();
            }
            Box::new(store)
        }
    })
}

/// `example_service (plan_one), …`, for the start line.
fn offers(services: &[Service]) -> String {
    let service = |service: &Service| {
        let plans: Vec<_> = service
            .plans
            .iter()
            .map(|plan| plan.name.as_str())
            .collect();
        format!("{} ({})", service.name, plans.join(", "))
    };
    services.iter().map(service).collect::<Vec<_>>().join(", ")
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
