//! Whether honest clients notice hostile ones. Against the real program, on the loopback interface only: platforms that
//! send a request each few milliseconds, first alone and then beside hostile clients of every kind, and at the end what
//! is left of it all. It stops by itself, and fails if a promise was broken.
//!
//! ```text
//! cargo bench --bench soak                                       # two minutes
//! cargo bench --bench soak -- --seconds 1800 --hostile 200 --honest 16 --program target/…/brokerlet
//! ```

#[path = "../../tests/support/crowd.rs"]
mod crowd;
mod honest;
mod hostile;
#[path = "../support/mod.rs"]
mod support;

use crowd::Crowd;
use honest::{Latencies, Platform};
use support::{Fallible, Folder, Running, broker, quartiles};

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Stack of a client; there are hundreds.
const STACK: usize = 256 * 1024;
/// How many times as long the honest 99th percentile may be beside hostile clients.
const WANTED_RATIO: f64 = 3.0;
/// How long an honest request may take while 2,000 others without credentials crowd in.
const LONGEST_BESIDE_CROWD: Duration = Duration::from_secs(1);
const ROUNDS: u32 = 6;
/// How long the broker may take to get rid of those who have gone: the longest of its times that are not for idle ones.
const SETTLING: Duration = Duration::from_secs(20);
/// After which nothing will become less any more: longer than a thread is kept that has nothing to do.
const SETTLED: Duration = Duration::from_secs(8);
/// What its memory may have grown by in the end, in kB: what allocators keep for the next time.
const WANTED_GROWTH: u64 = 16 * 1024;

fn main() -> Fallible<ExitCode> {
    let (mut seconds, mut hostile, mut honest) = (120, 200, 16);
    let mut dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let mut program = PathBuf::from(env!("CARGO_BIN_EXE_brokerlet"));
    support::options(|name, value| {
        match name {
            "--seconds" => seconds = value.parse()?,
            "--hostile" => hostile = value.parse()?,
            "--honest" => honest = value.parse()?,
            "--dir" => dir = value.into(),
            "--program" => program = fs::canonicalize(value)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if seconds < 20 || hostile == 0 || honest == 0 {
        return Err("--seconds: at least 20 are wanted; --hostile, --honest: at least 1".into());
    }
    let folder = Folder::new(&dir)?;
    let broker = Running::start(broker(&program, "memory"), &folder.file("log"))?;
    let address = broker.address;

    // Everything that is made when it is needed first, is made before the measurement.
    let warming = Duration::from_secs(seconds) / 10;
    run(address, honest, hostile, warming)?;
    let before = settle(&broker, None)?;
    println!("before:             {before}");
    let (mut undisturbed, mut disturbed) = (Phase::default(), Phase::default());
    let round = (Duration::from_secs(seconds) - warming) / ROUNDS;
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        // Machines have bad moments, so only neighbours are compared.
        let alone = run(address, honest, 0, round / 4)?;
        let beside = run(address, honest, hostile, round - round / 4)?;
        ratios.push(beside.latencies.percentile(99.0) / alone.latencies.percentile(99.0));
        undisturbed.add(alone);
        disturbed.add(beside);
    }
    println!("honest alone:       {undisturbed}");
    println!("beside {hostile:>3} hostile: {disturbed}");
    for ((name, _), count) in hostile::KINDS.iter().zip(&disturbed.deeds) {
        println!("  {count:>8} times: {name}");
    }
    let mut crowded = Phase::default();
    for sources in [vec![Ipv4Addr::LOCALHOST], hostile::addresses()] {
        let words = b"GET /v2/catalog HTTP/1.1\r\nHost: broker\r\nX-Slow: ";
        let crowd = Crowd::gather(address, sources.clone(), words)?;
        let phase = run(address, honest, 0, round)?;
        println!(
            "beside a crowd from {} addresses, which had to leave {} times: {phase}",
            sources.len(),
            crowd.closed()
        );
        crowded.add(phase);
    }
    let longest = Duration::from_micros(crowded.latencies.percentile(100.0) as u64);
    let peak = broker.memory_kb("VmHWM")?;
    let after = settle(&broker, Some(&before))?;
    println!("after:              {after}, {peak} kB at the most");

    let [_, ratio, _] = quartiles(ratios);
    let failed = undisturbed.failed + disturbed.failed;
    let panics = fs::read_to_string(folder.file("log"))?
        .matches(" event=panic ")
        .count();
    broker.stop()?;
    let verdicts = [
        (
            failed == 0,
            format!("honest requests that failed: {failed}; wanted: none"),
        ),
        (
            crowded.failed == 0 && longest <= LONGEST_BESIDE_CROWD,
            format!(
                "honest requests that failed beside a crowd of slow connections: {}, the longest took {longest:?}; wanted: \
                 none, and {LONGEST_BESIDE_CROWD:?} at most",
                crowded.failed
            ),
        ),
        (
            ratio <= WANTED_RATIO,
            format!(
                "honest 99th percentile: {ratio:.2} times the undisturbed one; wanted: {WANTED_RATIO} at most"
            ),
        ),
        (
            after.threads <= before.threads + 2 && after.descriptors <= before.descriptors + 2,
            format!(
                "threads and descriptors left behind: {} and {}; wanted: none",
                after.threads as i64 - before.threads as i64,
                after.descriptors as i64 - before.descriptors as i64
            ),
        ),
        (
            after.resident <= before.resident + WANTED_GROWTH,
            format!(
                "memory left behind: {} kB; wanted: less than {WANTED_GROWTH}",
                after.resident as i64 - before.resident as i64
            ),
        ),
        (
            panics == 0,
            format!("panics in the log: {panics}; wanted: none"),
        ),
    ];
    for (kept, text) in &verdicts {
        println!("{} {text}", if *kept { "ok    " } else { "BROKEN" });
    }
    Ok(match verdicts.iter().all(|(kept, _)| *kept) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// What a phase has shown.
#[derive(Default)]
struct Phase {
    latencies: Latencies,
    failed: u64,
    /// Requests that were sent once more, since the broker had closed the idle connection.
    again: u64,
    /// How often each kind of hostile client has done its deed.
    deeds: Vec<u64>,
    /// What the processors did meanwhile, for whomever: a busy machine says little about times.
    processors: Processors,
}

impl Phase {
    fn add(&mut self, other: Phase) {
        self.latencies.add(other.latencies);
        self.failed += other.failed;
        self.again += other.again;
        self.processors.idle += other.processors.idle;
        self.processors.all += other.processors.all;
        self.deeds.resize(hostile::KINDS.len(), 0);
        for (sum, more) in self.deeds.iter_mut().zip(other.deeds) {
            *sum += more;
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}, {} failed, {} on a second connection, processors {:.0} % idle",
            self.latencies,
            self.failed,
            self.again,
            100.0 * self.processors.idle as f64 / self.processors.all as f64
        )
    }
}

/// Honest and hostile clients for so long.
fn run(address: SocketAddr, honest: usize, hostile: usize, time: Duration) -> Fallible<Phase> {
    static STARTED: AtomicU64 = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let deeds: Vec<AtomicU64> = hostile::KINDS.iter().map(|_| AtomicU64::new(0)).collect();
    let mut phase = Phase::default();
    let began = Processors::now()?;
    let complaints = thread::scope(|scope| -> std::io::Result<Vec<String>> {
        let mut platforms = Vec::new();
        for _ in 0..honest {
            let id = STARTED.fetch_add(1, Ordering::Relaxed);
            let stop = &stop;
            let work = move || {
                let mut platform = Platform::new(address, id);
                while !stop.load(Ordering::Relaxed) {
                    platform.cycle(stop);
                }
                platform
            };
            platforms.push(
                thread::Builder::new()
                    .stack_size(STACK)
                    .spawn_scoped(scope, work)?,
            );
        }
        for n in 0..hostile {
            let (stop, deeds) = (&stop, &deeds);
            let work = move || hostile::work(address, n, stop, deeds);
            thread::Builder::new()
                .stack_size(STACK)
                .spawn_scoped(scope, work)?;
        }
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            thread::sleep(left);
        }
        stop.store(true, Ordering::Relaxed);
        let mut complaints = Vec::new();
        for platform in platforms {
            let Ok(platform) = platform.join() else {
                complaints.push("a client panicked".to_owned());
                continue;
            };
            phase.latencies.add(platform.latencies);
            phase.again += platform.again;
            complaints.extend(platform.failures);
        }
        Ok(complaints)
    })?;
    let ended = Processors::now()?;
    phase.processors.idle = ended.idle - began.idle;
    phase.processors.all = ended.all - began.all;
    phase.failed = complaints.len() as u64;
    for complaint in complaints.iter().take(10) {
        println!("  failed: {complaint}");
    }
    phase.deeds = deeds
        .iter()
        .map(|deed| deed.load(Ordering::Relaxed))
        .collect();
    Ok(phase)
}

/// Time of all processors, in the system's ticks.
#[derive(Default)]
struct Processors {
    idle: u64,
    all: u64,
}

impl Processors {
    /// Since the machine was started. proc(5).
    fn now() -> Fallible<Processors> {
        let stat = fs::read_to_string("/proc/stat")?;
        let line = stat.lines().next().unwrap_or_default();
        let times = line
            .split_whitespace()
            .skip(1)
            .map(str::parse)
            .collect::<Result<Vec<u64>, _>>()?;
        Ok(Processors {
            idle: times.iter().skip(3).take(2).sum(),
            // What follows is part of the time of users already.
            all: times.iter().take(8).sum(),
        })
    }
}

/// What a process takes up.
struct Resources {
    /// kB.
    resident: u64,
    threads: u64,
    descriptors: u64,
}

impl Resources {
    fn of(broker: &Running) -> Fallible<Resources> {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", broker.pid()))?.count();
        Ok(Resources {
            resident: broker.memory_kb("VmRSS")?,
            threads: broker.memory_kb("Threads")?,
            descriptors: descriptors as u64,
        })
    }
}

impl std::fmt::Display for Resources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} kB resident, {} threads, {} descriptors",
            self.resident, self.threads, self.descriptors
        )
    }
}

/// Waits until threads and descriptors are as few as before, or do not become fewer any more.
fn settle(broker: &Running, before: Option<&Resources>) -> Fallible<Resources> {
    let end = Instant::now() + SETTLING;
    let mut last = Resources::of(broker)?;
    let mut since = Instant::now();
    loop {
        thread::sleep(Duration::from_millis(100));
        let now = Resources::of(broker)?;
        let enough = before.is_some_and(|before| {
            now.threads <= before.threads && now.descriptors <= before.descriptors
        });
        if now.threads < last.threads || now.descriptors < last.descriptors {
            since = Instant::now();
        }
        if enough || since.elapsed() > SETTLED || Instant::now() > end {
            return Ok(now);
        }
        last = now;
    }
}
