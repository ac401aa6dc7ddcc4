//! What the file store costs, in the library and behind the whole broker, against the cheapest durable write there is on the same disk: one thread that appends
//! 300 bytes to a file and calls `fdatasync`, again and again. All run by turns, a tenth of a second each (half a second
//! for the broker), many times: disks and machines are noisy, so only neighbours are compared, and the median of what
//! they give is what counts.
//!
//! ```text
//! cargo bench --bench store                          # about two minutes, 700 MB of disk
//! cargo bench --bench store -- --records 100000 --rounds 20 --dir /var/lib/brokerlet
//! ```

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use brokerlet::store::sqlite::Sqlite;
use brokerlet::store::{Change, Key, Outcome, Revision, Store};
use support::load::{self, Template, id};
use support::{Fallible, Folder, Running, broker, memory_kb, quartiles};

/// What the broker is started with where memory is scarce.
const CACHE_BYTES: usize = 1 << 20;
const RAW_BYTES: usize = 300;
const PHASE: Duration = Duration::from_millis(100);
const WRITERS: usize = 16;
/// Long enough for the load to be more than the opening of its connections.
const HTTP_PHASE: Duration = Duration::from_millis(500);

fn main() -> Fallible {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, path] = arguments.as_slice()
        && role == "--child-open"
    {
        return child_open(Path::new(path));
    }
    let (mut records, mut rounds) = (1_000_000, 60);
    let mut dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    support::options(|name, value| {
        match name {
            "--records" => records = value.parse()?,
            "--rounds" => rounds = value.parse()?,
            "--dir" => dir = value.into(),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if rounds == 0 {
        return Err("--rounds: at least 1 is wanted".into());
    }
    let folder = Folder::new(&dir)?;
    commits(&folder, rounds)?;
    provisions(&folder, rounds.div_ceil(3))?;
    opening(&folder, records)
}

/// A body of 300 to 400 bytes, like the record of an instance.
fn body(number: u64) -> Vec<u8> {
    let length = 300 + (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % 101;
    (0..length)
        .map(|at| b' ' + ((number + at * at) % 90) as u8)
        .collect()
}

fn put(number: u64) -> Change {
    Change::Put {
        key: Key::instance(&id(number)),
        revision: Revision::ABSENT,
        body: body(number),
        open: false,
    }
}

fn commit(store: &Sqlite, changes: Vec<Change>) -> Fallible {
    match store.commit(changes)? {
        Outcome::Committed(_) => Ok(()),
        Outcome::Conflict => Err("a put of a new key was refused".into()),
    }
}

fn commits(folder: &Folder, rounds: usize) -> Fallible {
    let store = Sqlite::open(&folder.file("commits.db"), CACHE_BYTES)?;
    let next = AtomicU64::new(0);
    let mut rates = Vec::new();
    for _ in 0..rounds {
        rates.push([
            raw_rate(folder)?,
            rate(&store, &next, 1)?,
            rate(&store, &next, WRITERS)?,
        ]);
    }
    let [low, raw, high] = quartiles(rates.iter().map(|[raw, ..]| *raw));
    println!(
        "one thread, append of {RAW_BYTES} bytes and fdatasync: {raw:.0} per second (quartiles {low:.0} to {high:.0})"
    );
    let one = rates.iter().map(|[raw, one, _]| [*raw, *one]);
    show("file store, one writer", one, 0.8);
    let many = rates.iter().map(|[raw, _, many]| [*raw, *many]);
    show(&format!("file store, {WRITERS} writers"), many, 3.5);
    Ok(())
}

/// The same disk behind the whole broker: new service instances, each acknowledged when it is durable.
fn provisions(folder: &Folder, rounds: usize) -> Fallible {
    let program = Path::new(env!("CARGO_BIN_EXE_brokerlet"));
    let store = format!("file:{}", folder.file("provisions.db").display());
    let running = Running::start(broker(program, &store), &folder.file("log"))?;
    let next = AtomicU64::new(0);
    let mut rates = Vec::new();
    for _ in 0..rounds {
        let raw = raw_rate(folder)?;
        let round = [Template::provision()];
        let answers = load::run(running.address, WRITERS, HTTP_PHASE, &round, &next)?;
        rates.push([raw, answers.rate()]);
    }
    running.stop()?;
    let what = format!("provisions over HTTP on {WRITERS} connections");
    show(&what, rates.into_iter(), 1.8);
    Ok(())
}

/// One rate against another, each measured beside the other.
fn show(what: &str, rates: impl Iterator<Item = [f64; 2]> + Clone, wanted: f64) {
    let [_, rate, _] = quartiles(rates.clone().map(|[_, rate]| rate));
    let [low, ratio, high] = quartiles(rates.map(|[raw, rate]| rate / raw));
    println!(
        "{what}: {rate:.0} per second, {ratio:.2} times that (quartiles {low:.2} to {high:.2}); \
         wanted: {wanted:.1} or more"
    );
}

fn raw_rate(folder: &Folder) -> Fallible<f64> {
    let path = folder.file("raw");
    let mut file = fs::File::create(&path)?;
    let started = Instant::now();
    let mut done = 0;
    while started.elapsed() < PHASE {
        file.write_all(&[b'x'; RAW_BYTES])?;
        file.sync_data()?;
        done += 1;
    }
    let rate = f64::from(done) / started.elapsed().as_secs_f64();
    fs::remove_file(path)?;
    Ok(rate)
}

fn rate(store: &Sqlite, next: &AtomicU64, writers: usize) -> Fallible<f64> {
    let start = Barrier::new(writers + 1);
    let running = AtomicBool::new(true);
    let write = || -> Result<u64, String> {
        start.wait();
        let mut done = 0;
        while running.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            commit(store, vec![put(number)]).map_err(|error| error.to_string())?;
            done += 1;
        }
        Ok(done)
    };
    thread::scope(|threads| {
        let handles: Vec<_> = (0..writers).map(|_| threads.spawn(write)).collect();
        start.wait();
        let started = Instant::now();
        thread::sleep(PHASE);
        running.store(false, Ordering::Relaxed);
        let mut done = 0;
        for handle in handles {
            done += handle.join().map_err(|_| "a writer panicked")??;
        }
        Ok(done as f64 / started.elapsed().as_secs_f64())
    })
}

fn opening(folder: &Folder, records: u64) -> Fallible {
    let path = folder.file("opening.db");
    let store = Sqlite::open(&path, 64 << 20)?;
    let mut next = 0;
    while next < records {
        let up_to = records.min(next + 5000);
        commit(&store, (next..up_to).map(put).collect())?;
        next = up_to;
    }
    drop(store);
    let file = fs::metadata(&path)?;
    let used = file.blocks() * 512 / 1_000_000;
    println!(
        "{records} instances of about 350 bytes, {} MB of disk, cache of {} MiB",
        used,
        CACHE_BYTES >> 20
    );

    let clean = opened(&path, |child| child.finish())?;
    println!(
        "opened after a clean close: {}; wanted: about 1 ms, 4 MB",
        clean.shown()
    );
    // The first child leaves it unclean, the second finds it so.
    opened(&path, Opener::kill)?;
    let unclean = opened(&path, |child| child.finish())?;
    println!(
        "opened after kill -9: {}; wanted: less than 100 ms, 4 MB",
        unclean.shown()
    );
    Ok(())
}

/// A process that has the store open until it is ended.
struct Opener {
    child: Child,
}

struct Opened {
    took: Duration,
    resident_kb: u64,
    peak_kb: u64,
}

impl Opened {
    fn shown(&self) -> String {
        let ms = self.took.as_secs_f64() * 1000.0;
        let megabytes = |kb: u64| kb as f64 * 1024.0 / 1e6;
        format!(
            "{ms:.1} ms, {:.1} MB resident, {:.1} MB at most",
            megabytes(self.resident_kb),
            megabytes(self.peak_kb)
        )
    }
}

impl Opener {
    /// Closes the store in order.
    fn finish(mut self) -> Fallible {
        drop(self.child.stdin.take());
        match self.child.wait()?.success() {
            true => Ok(()),
            false => Err("the child that opened the store failed".into()),
        }
    }

    /// SIGKILL.
    fn kill(mut self) -> Fallible {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

/// Opens the store in a new process, and ends that process with `end`.
fn opened(path: &Path, end: impl FnOnce(Opener) -> Fallible) -> Fallible<Opened> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("--child-open")
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().ok_or("the child has no output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    end(Opener { child })?;
    let numbers: Vec<u64> = line
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let [micros, resident_kb, peak_kb] = numbers[..] else {
        return Err(format!("the child that opened the store said {line:?}").into());
    };
    let took = Duration::from_micros(micros);
    Ok(Opened {
        took,
        resident_kb,
        peak_kb,
    })
}

/// In the child: opens, says how long that took and how much memory there is now, and waits to be ended.
fn child_open(path: &Path) -> Fallible {
    let started = Instant::now();
    let store = Sqlite::open(path, CACHE_BYTES)?;
    let took = started.elapsed();
    let (resident, peak) = (memory_kb("self", "VmRSS")?, memory_kb("self", "VmHWM")?);
    // So that a process that is killed leaves a file that was in use. An id that does not come from `id`.
    let key = Key::instance("child");
    let found = store.read(std::slice::from_ref(&key))?;
    let revision = found
        .first()
        .and_then(Option::as_ref)
        .map_or(Revision::ABSENT, |record| record.revision);
    commit(
        &store,
        vec![Change::Put {
            key,
            revision,
            body: body(0),
            open: false,
        }],
    )?;
    println!("{} {resident} {peak}", took.as_micros());
    std::io::stdin().read_line(&mut String::new())?;
    drop(store);
    Ok(())
}
