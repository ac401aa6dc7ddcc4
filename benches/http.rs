//! What the protocol costs, against a bare tiny_http that compares the two headers, reads the body and answers a
//! constant with as many workers. Bare server, brokerlet's server without its gate, and the whole broker (the
//! real program; with the feature `tls` also through TLS) run by turns, each in a process of its own, each with its
//! request log written to a file; load comes from this process over 16 connections that are kept open. Only servers of
//! one round are compared, and medians count.
//!
//! ```text
//! cargo bench --bench http                                      # about two minutes
//! cargo bench --bench http --features tls
//! cargo bench --bench http -- --rounds 5 --seconds 2 --connections 64
//! ```

mod support;

use brokerlet::adapter::Kinds;
use brokerlet::broker::Broker;
use brokerlet::broker::plans::Plans;
use brokerlet::catalog::environment::Environment;
use brokerlet::catalog::file::{self, Loaded};
use brokerlet::http::auth::Credentials;
use brokerlet::http::dispatch::Dispatcher;
use brokerlet::http::server::Server;
use brokerlet::log;
use brokerlet::store::memory::Memory;
use support::load::{self, Answers, Connection, Template};
#[cfg(feature = "tls")]
use support::tls::Identity;
use support::{Fallible, Folder, PASSWORD, Running, USERNAME, broker, myself, quartiles};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Duration, SystemTime};

/// The broker's own default.
const WORKERS: usize = 16;

/// A server, what it is compared for, and the least share of the bare server's rate that is wanted of it.
struct Contestant {
    name: &'static str,
    start: fn(&Stage) -> Fallible<Command>,
    connect: fn(&Stage, SocketAddr) -> io::Result<Connection>,
    wanted: [f64; 2],
    /// How many times as long as with the bare server the 99th percentile may be.
    wanted_p99: f64,
}

/// What the contestants share.
struct Stage {
    #[cfg(feature = "tls")]
    identity: Identity,
    folder: Folder,
}

impl Stage {
    fn new() -> Fallible<Stage> {
        let folder = Folder::new(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
        Ok(Stage {
            #[cfg(feature = "tls")]
            identity: Identity::new(&folder)?,
            folder,
        })
    }
}

const CONTESTANTS: &[Contestant] = &[
    Contestant {
        name: "bare tiny_http",
        start: |_| myself("--bare"),
        connect: in_plain_text,
        wanted: [1.0, 1.0],
        wanted_p99: 1.0,
    },
    Contestant {
        name: "server alone",
        start: |_| myself("--server"),
        connect: in_plain_text,
        wanted: [0.85, 0.75],
        wanted_p99: f64::INFINITY,
    },
    Contestant {
        name: "whole broker",
        start: |_| Ok(whole_broker()),
        connect: in_plain_text,
        wanted: [0.50, 0.50],
        wanted_p99: 1.5,
    },
    #[cfg(feature = "tls")]
    Contestant {
        name: "whole broker, through TLS",
        start: |stage| {
            let mut broker = whole_broker();
            stage.identity.give_to(&mut broker);
            Ok(broker)
        },
        connect: |stage, address| stage.identity.connect(address),
        wanted: [0.35, 0.35],
        wanted_p99: f64::INFINITY,
    },
];

fn whole_broker() -> Command {
    broker(Path::new(env!("CARGO_BIN_EXE_brokerlet")), "memory")
}

fn in_plain_text(_: &Stage, address: SocketAddr) -> io::Result<Connection> {
    Connection::open(address)
}

struct Request {
    name: &'static str,
    template: fn() -> Template,
}

const REQUESTS: [Request; 2] = [
    Request {
        name: "GET /v2/catalog",
        template: Template::catalog,
    },
    Request {
        name: "PUT /v2/service_instances/:new",
        template: Template::provision,
    },
];

fn main() -> Fallible {
    match std::env::args().nth(1).as_deref() {
        Some("--bare") => return bare(),
        Some("--server") => return server(),
        _ => {}
    }
    let (mut rounds, mut seconds, mut connections) = (30, 0.5, 16);
    support::options(|name, value| {
        match name {
            "--rounds" => rounds = value.parse()?,
            "--seconds" => seconds = value.parse()?,
            "--connections" => connections = value.parse()?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if rounds == 0 || connections == 0 {
        return Err("--rounds, --connections: at least 1 is wanted".into());
    }
    let duration = Duration::try_from_secs_f64(seconds)?;
    let stage = Stage::new()?;
    println!(
        "{connections} connections kept open, {WORKERS} workers, {rounds} rounds of {seconds} s each; \
         request logs into a file"
    );

    // For each round, contestant and kind of request: the rate and the 99th percentile.
    let mut found: Vec<Vec<[[f64; 2]; 2]>> = Vec::new();
    let (mut dropped, mut forgotten) = (0, vec![0; CONTESTANTS.len()]);
    for round in 0..rounds {
        let mut results = vec![[[0.0; 2]; 2]; CONTESTANTS.len()];
        for turn in 0..CONTESTANTS.len() {
            // Nobody always comes first.
            let which = (turn + round) % CONTESTANTS.len();
            let measured = measure(&CONTESTANTS[which], &stage, connections, duration)?;
            results[which] = measured.results;
            dropped += measured.dropped;
            forgotten[which] += measured.forgotten;
        }
        found.push(results);
    }

    for (request, Request { name, .. }) in REQUESTS.iter().enumerate() {
        println!("\n{name}");
        for (which, contestant) in CONTESTANTS.iter().enumerate() {
            let of = |number: usize| found.iter().map(move |round| round[which][request][number]);
            let [_, rate, _] = quartiles(of(0));
            let [_, p99, _] = quartiles(of(1));
            let line = format!(
                "  {}: {rate:6.0} per second, 99th percentile {:.2} ms",
                contestant.name,
                p99 / 1000.0
            );
            if which == 0 {
                println!("{line}");
                continue;
            }
            let ratio = |number: usize| {
                quartiles(
                    found
                        .iter()
                        .map(|round| round[which][request][number] / round[0][request][number]),
                )
            };
            let ([low, rate, high], [_, p99, _]) = (ratio(0), ratio(1));
            let wanted = contestant.wanted[request];
            println!("{line}");
            println!(
                "    rate {rate:.2} of the bare one (quartiles {low:.2} to {high:.2}); wanted: {wanted:.2} or more"
            );
            let wanted = match contestant.wanted_p99 {
                f64::INFINITY => String::new(),
                times => format!("; wanted: less than {times:.1}"),
            };
            println!("    99th percentile {p99:.2} times the bare one's{wanted}");
        }
    }
    println!("\nlog lines dropped: {dropped}");
    for (contestant, forgotten) in CONTESTANTS.iter().zip(forgotten) {
        println!("{}: forgot {forgotten} connections", contestant.name);
    }
    Ok(())
}

struct Measured {
    results: [[f64; 2]; 2],
    dropped: u64,
    forgotten: usize,
}

fn measure(
    contestant: &Contestant,
    stage: &Stage,
    connections: usize,
    duration: Duration,
) -> Fallible<Measured> {
    let log = stage.folder.file("log");
    let server = Running::start((contestant.start)(stage)?, &log)?;
    let connect = || (contestant.connect)(stage, server.address);
    let next = AtomicU64::new(0);
    let (mut asked, mut forgotten) = (0, 0);
    let mut results = [[0.0; 2]; 2];
    for (result, Request { name, template }) in results.iter_mut().zip(REQUESTS) {
        let answers: Answers = load::run_on(connect, connections, duration, &[template()], &next)
            .map_err(|error| format!("{}, {name}: {error}", contestant.name))?;
        asked += answers.asked;
        forgotten += answers.forgotten;
        *result = [answers.rate(), answers.p99()];
    }
    let logged = server.stop()?;
    // What was answered is in the log, and perhaps what came too late. The bare server has no log.
    let in_log = asked..=asked + forgotten as u64;
    if contestant.name != CONTESTANTS[0].name
        && !in_log.contains(&(logged.requests + logged.dropped))
    {
        return Err(format!(
            "{}: {asked} requests were answered, and {} are in the log",
            contestant.name, logged.requests
        )
        .into());
    }
    Ok(Measured {
        results,
        dropped: logged.dropped,
        forgotten,
    })
}

/// In a process of its own: what tiny_http does at least.
fn bare() -> Fallible {
    let token = BASE64_STANDARD.encode(format!("{USERNAME}:{PASSWORD}"));
    let credentials = Arc::new(format!("Basic {token}"));
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let http = Arc::new(
        tiny_http::Server::from_listener(listener, None).map_err(|error| error.to_string())?,
    );
    for _ in 0..WORKERS {
        let (http, credentials) = (http.clone(), credentials.clone());
        thread::spawn(move || {
            while let Ok(request) = http.recv() {
                hello(request, &credentials);
            }
        });
    }
    println!("bare listen={address}");
    wait_for_sigterm()
}

fn hello(mut request: tiny_http::Request, credentials: &str) {
    let is = |name: &'static str, value: &str| {
        let mut headers = request.headers().iter();
        headers.any(|header| header.field.equiv(name) && header.value == value)
    };
    let accepted = is("Authorization", credentials) && is("X-Broker-API-Version", "2.17");
    let mut body = Vec::new();
    let read = request.as_reader().read_to_end(&mut body);
    let status = match (accepted, read, request.method()) {
        (true, Ok(_), tiny_http::Method::Put) => 201,
        (true, Ok(_), _) => 200,
        _ => 400,
    };
    let json = tiny_http::Header::from_bytes("Content-Type", "application/json");
    let mut response = tiny_http::Response::from_string("{}").with_status_code(status);
    if let Ok(json) = json {
        response.add_header(json);
    }
    let _ = request.respond(response);
}

/// In a process of its own: the broker behind its server, without configuration and gate.
fn server() -> Fallible {
    let text = include_str!("../examples/tutorial.json");
    let environment = Environment::new(&|_| None, Path::new(""));
    let (loaded, mut findings) = file::parse(text, SystemTime::now(), environment);
    let Loaded { catalog, .. } = loaded.ok_or("the tutorial's catalog is wrong")?;
    let kinds = Kinds::standard();
    let mut fulfilments = HashMap::new();
    for service in catalog.services() {
        for plan in &service.plans {
            let built = kinds.build(None, service, plan, environment, &mut findings);
            fulfilments.insert(plan.id.clone(), built.ok_or("a plan cannot be fulfilled")?);
        }
    }
    let broker = Broker::new(Plans::new(catalog, fulfilments), Box::new(Memory::new()));
    let dispatcher = Dispatcher::new(broker, Credentials::new([(USERNAME, PASSWORD)]));
    let listener = TcpListener::bind("127.0.0.1:0")?;
    log::start(log::Format::Logfmt);
    let address = listener.local_addr()?;
    let server = Server::start(listener, Arc::new(dispatcher), None, || ())?;
    for _ in 0..WORKERS {
        server.add_worker()?;
    }
    log::info("started")
        .with("listen", &address.to_string())
        .send();
    wait_for_sigterm()?;
    server.stop(Duration::from_secs(8));
    log::flush(Duration::from_secs(1));
    Ok(())
}

fn wait_for_sigterm() -> Fallible {
    let mut signals = Signals::new([SIGTERM])?;
    signals.forever().next();
    Ok(())
}
