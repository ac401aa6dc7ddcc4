//! What the benches of adapters do alike: synchronous operations by turns with a bare loop, and a queue of asynchronous ones.

#[path = "../../tests/support/mod.rs"]
pub mod support;

use serde_json::{Value, json};
use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::connection::Connection;
use support::{Broker, Request, Setup, instance, merged};

pub type Fallible<T = ()> = Result<T, Box<dyn Error>>;

/// Threads, connections, and calls at the same time.
pub const CONCURRENCY: usize = 16;
/// The default.
pub const FILE: &str = "file:brokerlet.db";
const PHASE: Duration = Duration::from_secs(1);
/// Polls for one percentile.
const POLLS: usize = 4000;

/// How many rounds, and how many operations are queued.
pub fn options() -> Fallible<(usize, usize)> {
    let (mut rounds, mut queued) = (15, 10_000);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut rest = arguments.iter();
    while let Some(name) = rest.next() {
        let mut value = || rest.next().ok_or(format!("{name}: a value is missing"));
        match name.as_str() {
            // What cargo itself passes to every bench.
            "--bench" => {}
            "--rounds" => rounds = value()?.parse()?,
            "--queued" => queued = value()?.parse()?,
            _ => {
                return Err(format!("{name}: unknown; there are --rounds N and --queued N").into());
            }
        }
    }
    Ok((rounds, queued))
}

/// A broker with a plan `sync` and a plan `async`, of this adapter.
pub fn start(setup: Setup, store: &str, adapter: &Value) -> Broker {
    let plan = |name: &str, is_async: bool| {
        let pace = json!({ "async": is_async, "concurrency": CONCURRENCY, "timeout": if is_async { "1h" } else { "55s" } });
        json!({ "id": name, "name": name, "description": "Nothing", "adapter": merged(adapter, pace) })
    };
    let catalog = json!({ "services": [{
        "id": "nothing", "name": "nothing", "description": "Nothing", "bindable": false,
        "plans": [plan("sync", false), plan("async", true)]
    }]});
    setup
        .env("BROKER_STORE", store)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .catalog(&catalog)
        .start()
}

/// Runs `work` from [`CONCURRENCY`] threads for so long, and returns how often a second it was done.
pub fn rate(work: impl Fn(usize, &AtomicBool) -> usize + Sync) -> f64 {
    let stop = AtomicBool::new(false);
    let begun = Instant::now();
    let done: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..CONCURRENCY)
            .map(|n| {
                scope.spawn({
                    let (work, stop) = (&work, &stop);
                    move || work(n, stop)
                })
            })
            .collect();
        thread::sleep(PHASE);
        stop.store(true, Ordering::Relaxed);
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    done as f64 / begun.elapsed().as_secs_f64()
}

fn provision(plan: &str) -> Value {
    json!({ "service_id": "nothing", "plan_id": plan, "organization_guid": "o", "space_guid": "s" })
}

/// `bare`: what a second of the bare loop comes to, which is called `name`.
pub fn synchronous(
    broker: &Broker,
    store: &str,
    rounds: usize,
    name: &str,
    bare: impl Fn() -> f64,
) {
    let next = AtomicUsize::new(0);
    let through_broker = || {
        rate(|_, stop| {
            let mut connection = Connection::warm(broker.address);
            let mut done = 0;
            while !stop.load(Ordering::Relaxed) {
                let id = format!("s-{}", next.fetch_add(1, Ordering::Relaxed));
                let request =
                    Request::new(broker.address, "PUT", &instance(&id)).json(&provision("sync"));
                connection.send(&request).expect(201);
                done += 1;
            }
            done
        })
    };
    let mut pairs: Vec<(f64, f64)> = (0..rounds).map(|_| (bare(), through_broker())).collect();
    pairs.sort_by(|a, b| (a.1 / a.0).total_cmp(&(b.1 / b.0)));
    let (bare, broker) = pairs[rounds / 2];
    let ratio = |pair: (f64, f64)| pair.1 / pair.0;
    println!(
        "synchronous provisions, {CONCURRENCY} at a time, store {store}: {broker:.0}/s; {name}: {bare:.0}/s; ratio {:.2} \
         (median of {rounds}, {:.2} to {:.2})",
        ratio(pairs[rounds / 2]),
        ratio(pairs[0]),
        ratio(pairs[rounds - 1])
    );
}

pub fn asynchronous(broker: &Broker, queued: usize) -> Fallible {
    let target = |n: usize| format!("{}/last_operation", instance(&format!("a-{n}")));
    let put = |connection: &mut Connection, n: usize| {
        let target = format!("{}?accepts_incomplete=true", instance(&format!("a-{n}")));
        let request = Request::new(broker.address, "PUT", &target).json(&provision("async"));
        connection.send(&request).expect(202);
    };
    let mut connection = Connection::warm(broker.address);
    put(&mut connection, 0);
    while !has_ended(&mut connection, broker, &target(0)) {
        thread::sleep(Duration::from_millis(20));
    }
    let idle = polls(broker, |_| target(0));
    let before = memory(broker.pid(), "VmRSS")?;

    let begun = Instant::now();
    thread::scope(|scope| {
        for thread in 0..CONCURRENCY {
            scope.spawn(move || {
                let mut connection = Connection::warm(broker.address);
                (1..=queued)
                    .skip(thread)
                    .step_by(CONCURRENCY)
                    .for_each(|n| put(&mut connection, n));
            });
        }
    });
    let accepted = begun.elapsed();
    let busy = polls(broker, |n| target(1 + n % queued));
    let still_busy = !has_ended(&mut connection, broker, &target(queued));
    for n in 1..=queued {
        while !has_ended(&mut connection, broker, &target(n)) {
            thread::sleep(Duration::from_millis(20));
        }
    }
    let done = begun.elapsed();
    println!(
        "{queued} asynchronous provisions: accepted in {:.1} s, all succeeded after {:.1} s ({:.0}/s); resident at most {:.1} \
         MB ({:.1} MB before)",
        accepted.as_secs_f64(),
        done.as_secs_f64(),
        queued as f64 / done.as_secs_f64(),
        memory(broker.pid(), "VmHWM")?,
        before,
    );
    println!(
        "last_operation, 99th percentile of {POLLS}: {:.2} ms idle, {:.2} ms {}",
        idle.as_secs_f64() * 1e3,
        busy.as_secs_f64() * 1e3,
        if still_busy {
            "while they run"
        } else {
            "while they ran, in part: queue more"
        },
    );
    Ok(())
}

/// Whether an operation has succeeded; one that failed ends the bench.
fn has_ended(connection: &mut Connection, broker: &Broker, target: &str) -> bool {
    let answer = connection
        .send(&Request::new(broker.address, "GET", target))
        .expect(200)
        .json();
    match answer["state"].as_str() {
        Some("succeeded") => true,
        Some("in progress") => false,
        _ => panic!("{target}: {answer}"),
    }
}

/// The 99th percentile of how long a poll takes, of one client after the other.
fn polls(broker: &Broker, target: impl Fn(usize) -> String) -> Duration {
    let mut connection = Connection::warm(broker.address);
    let mut took: Vec<Duration> = (0..POLLS)
        .map(|n| {
            let request = Request::new(broker.address, "GET", &target(n));
            let begun = Instant::now();
            connection.send(&request).expect(200);
            begun.elapsed()
        })
        .collect();
    took.sort_unstable();
    took[POLLS * 99 / 100]
}

/// A line of `/proc/PID/status`, in MB.
fn memory(pid: u32, name: &str) -> Fallible<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kilobytes = line
        .and_then(|line| line.split_whitespace().next())
        .ok_or("no such line")?;
    Ok(kilobytes.parse::<f64>()? / 1000.0)
}
