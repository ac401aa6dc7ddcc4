//! How much disk, memory and time the broker takes, measured on the static binary that docs/operating.md tells to deploy: built
//! here by its own command, started as a platform starts it.
//!
//! ```text
//! cargo bench --bench footprint                                 # a few minutes, 900 MB of disk
//! cargo bench --bench footprint -- --instances 100000 --starts 5 --dir /var/lib/brokerlet
//! ```

mod support;

use brokerlet::store::sqlite::Sqlite;
use brokerlet::store::{Change, Key, Outcome, Revision, Store};
use support::load::{self, Connection, Template, id};
use support::{Fallible, Folder, Running, broker, quartiles};

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

const CONNECTIONS: usize = 16;
/// How long each load lasts.
const LOAD: Duration = Duration::from_secs(5);

fn main() -> Fallible {
    let (mut instances, mut starts) = (1_000_000, 11);
    let mut dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    support::options(|name, value| {
        match name {
            "--instances" => instances = value.parse()?,
            "--starts" => starts = value.parse()?,
            "--dir" => dir = value.into(),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if instances == 0 || starts == 0 {
        return Err("--instances, --starts: at least 1 is wanted".into());
    }
    let program = static_binary()?;
    let size = fs::metadata(&program)?.len();
    println!("static binary: {}; wanted: less than 4 MB", megabytes(size));

    let folder = Folder::new(&dir)?;
    let bench = Bench {
        program,
        starts,
        log: folder.file("log"),
        folder,
    };
    bench.in_memory()?;
    bench.empty()?;
    bench.filled(instances)
}

/// The binary, and where it works.
struct Bench {
    program: PathBuf,
    /// How often a start is measured.
    starts: usize,
    log: PathBuf,
    folder: Folder,
}

impl Bench {
    fn start(&self, store: &str) -> Fallible<Running> {
        Running::start(broker(&self.program, store), &self.log)
    }

    /// Starts the broker, and has it answer this. Returns how many milliseconds that took since just before there was a
    /// process.
    fn first_answer(&self, store: &str, request: Template) -> Fallible<(Running, f64)> {
        let running = self.start(store)?;
        Connection::open(running.address)?.ask_for(request, 0)?;
        let took = running.started.elapsed().as_secs_f64() * 1000.0;
        Ok((running, took))
    }

    fn in_memory(&self) -> Fallible {
        let running = self.start("memory")?;
        let next = AtomicU64::new(0);
        let answers = load::run(running.address, CONNECTIONS, LOAD, &Template::life(), &next)?;
        let peak = running.memory_kb("VmHWM")? * 1024;
        println!(
            "store in memory, provision, bind, unbind and deprovision on {CONNECTIONS} connections, {:.0} requests per \
             second: {} resident at most; wanted: less than 16 MiB",
            answers.rate(),
            megabytes(peak)
        );
        running.stop()?;
        Ok(())
    }

    fn empty(&self) -> Fallible {
        let path = self.folder.file("empty.db");
        let store = format!("file:{}", path.display());
        let mut took = Vec::new();
        let mut resident = 0;
        for _ in 0..self.starts {
            let (running, ms) = self.first_answer(&store, Template::catalog())?;
            took.push(ms);
            resident = running.memory_kb("VmRSS")? * 1024;
            running.stop()?;
            fs::remove_file(&path)?;
        }
        println!(
            "new file store: {} to the first answer; wanted: less than 10 ms",
            milliseconds(&took)
        );
        println!(
            "idle after that: {} resident; wanted: less than 4 MB",
            megabytes(resident)
        );
        Ok(())
    }

    fn filled(&self, instances: u64) -> Fallible {
        let path = self.folder.file("filled.db");
        let store = format!("file:{}", path.display());
        self.fill(&path, &store, instances)?;
        println!(
            "file store with {instances} instances, {} of disk:",
            megabytes(fs::metadata(&path)?.len())
        );

        let (mut took, mut idle) = (Vec::new(), 0);
        for _ in 0..self.starts {
            // Of one of the instances.
            let (running, ms) = self.first_answer(&store, Template::last_operation())?;
            took.push(ms);
            idle = running.memory_kb("VmRSS")? * 1024;
            running.stop()?;
        }
        println!(
            "  {} to the first answer; wanted: less than 10 ms",
            milliseconds(&took)
        );
        println!(
            "  {} resident idle; wanted: less than 8 MB",
            megabytes(idle)
        );

        let mut took = Vec::new();
        for _ in 0..self.starts {
            // Killed in the middle of changes, so that the file is not closed in order.
            let running = self.start(&store)?;
            let next = AtomicU64::new(2 * instances);
            let load = Duration::from_millis(100);
            load::run(running.address, CONNECTIONS, load, &Template::life(), &next)?;
            running.kill()?;
            let (running, ms) = self.first_answer(&store, Template::last_operation())?;
            took.push(ms);
            running.stop()?;
        }
        println!(
            "  {} to the first answer after kill -9; wanted: less than 100 ms",
            milliseconds(&took)
        );

        let running = self.start(&store)?;
        let next = AtomicU64::new(0);
        let mut connection = Connection::open(running.address)?;
        for number in 0..instances.min(20_000) {
            // All over the file.
            let number = number * (instances / instances.min(20_000));
            connection.ask_for(Template::last_operation(), number)?;
        }
        let read = running.memory_kb("VmRSS")? * 1024;
        next.store(4 * instances, std::sync::atomic::Ordering::Relaxed);
        load::run(running.address, CONNECTIONS, LOAD, &Template::life(), &next)?;
        let peak = running.memory_kb("VmHWM")? * 1024;
        println!(
            "  {} resident after reading all over the file, {} at most after provision, bind, unbind and deprovision \
             on {CONNECTIONS} connections; wanted: less than 8 MB",
            megabytes(read),
            megabytes(peak)
        );
        running.stop()?;
        Ok(())
    }

    /// Fills the store with as many copies of an instance that the broker itself has made.
    fn fill(&self, path: &Path, store: &str, instances: u64) -> Fallible {
        let running = self.start(store)?;
        Connection::open(running.address)?.ask_for(Template::provision(), 0)?;
        running.stop()?;

        let store = Sqlite::open(path, 64 << 20)?;
        let made = store.read(&[Key::instance(&id(0))])?;
        let made = made.into_iter().next().flatten();
        let body = made.ok_or("the broker's own record is not there")?.body;
        let mut next = 1;
        while next < instances {
            let up_to = instances.min(next + 5000);
            let puts = (next..up_to).map(|number| Change::Put {
                key: Key::instance(&id(number)),
                revision: Revision::ABSENT,
                body: body.clone(),
                open: false,
            });
            if store.commit(puts.collect())? == Outcome::Conflict {
                return Err("an id was given twice".into());
            }
            next = up_to;
        }
        Ok(())
    }
}

/// Builds as docs/operating.md says. Where cargo puts it, beside this bench's own profile.
fn static_binary() -> Fallible<PathBuf> {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operating.md");
    let command = format!(
        "RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --locked --target {TARGET}"
    );
    if !fs::read_to_string(page)?.contains(&command) {
        return Err(format!("{page} has another command than {command}").into());
    }
    println!("{command}");
    let built = Command::new("sh")
        .args(["-c", &command])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()?;
    if !built.success() {
        return Err(format!("the build failed: {built}").into());
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let target = target.ok_or("cargo's folder for the target is not to be found")?;
    Ok(target.join(TARGET).join("release/brokerlet"))
}

fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}

fn milliseconds(numbers: &[f64]) -> String {
    let [_, median, _] = quartiles(numbers.iter().copied());
    let most = numbers.iter().copied().fold(0.0, f64::max);
    format!("{median:.1} ms (at most {most:.1})")
}
