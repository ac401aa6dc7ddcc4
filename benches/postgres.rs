//! What the store on PostgreSQL costs, in the library and behind two brokers, against `pgbench` on the same server: one insert
//! of a record, one select of a row. All run by turns, and the medians of what neighbours give are what counts.
//!
//! ```text
//! createdb bench
//! cargo bench --features postgres --bench postgres -- --url postgres://USER:PASSWORD@HOST/bench    # about a minute
//! ```
//!
//! It makes its tables in that database. `pgbench` is looked for in PATH, or named by `--pgbench`.

mod support;

use brokerlet::postgres::Config;
use brokerlet::store::postgres::Postgres;
use brokerlet::store::{Change, Key, Outcome, Revision, Store};
use support::load::{self, Template, id};
use support::{Fallible, Folder, Running, broker, quartiles};

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const CLIENTS: usize = 32;
const WRITERS: usize = 16;
/// As long as the record of an instance.
const BODY: &str = "repeat('x', 350)";

struct Stage {
    url: String,
    pgbench: PathBuf,
    folder: Folder,
    seconds: u64,
    next: AtomicU64,
}

fn main() -> Fallible {
    let (mut url, mut pgbench) = (String::new(), PathBuf::from("pgbench"));
    let (mut rounds, mut seconds) = (5, 2);
    support::options(|name, value| {
        match name {
            "--url" => url = value.to_owned(),
            "--pgbench" => pgbench = value.into(),
            "--rounds" => rounds = value.parse()?,
            "--seconds" => seconds = value.parse()?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if url.is_empty() || rounds == 0 || seconds == 0 {
        // `cargo bench` runs every bench.
        println!("left out: wanted --url postgres://…, and --rounds and --seconds of at least 1");
        return Ok(());
    }
    // Of what an earlier run has made, nothing is made again.
    let started = u64::from(std::process::id());
    let stage = Stage {
        url,
        pgbench,
        folder: Folder::new(Path::new(env!("CARGO_TARGET_TMPDIR")))?,
        seconds,
        next: AtomicU64::new(started << 32),
    };
    stage.script(
        "setup",
        "DROP TABLE IF EXISTS bench; CREATE TABLE bench (id text PRIMARY KEY, body text);\n",
    )?;
    stage.script(
        "insert",
        &format!("INSERT INTO bench VALUES (gen_random_uuid()::text, {BODY});\n"),
    )?;
    stage.script(
        "row",
        &format!("INSERT INTO bench VALUES ('row', {BODY});\n"),
    )?;
    stage.script("select", "SELECT body FROM bench WHERE id = 'row';\n")?;
    stage.pgbench("setup", 1, &["-t", "1", "-M", "simple"])?;
    stage.pgbench("row", 1, &["-t", "1"])?;
    let mut found = Vec::new();
    for _ in 0..rounds {
        found.push(stage.round()?);
    }
    println!(
        "{rounds} rounds of {seconds} s each; {CLIENTS} clients on two brokers, {WRITERS} writers in the library"
    );
    let show = |name: &str, of: usize, against: usize, wanted: f64| {
        let ratio = found
            .iter()
            .map(|round: &[f64; 6]| round[of] / round[against]);
        let [low, ratio, high] = quartiles(ratio);
        let [_, rate, _] = quartiles(found.iter().map(|round| round[of]));
        println!(
            "{name}: {rate:.0} per second, {ratio:.2} of pgbench (quartiles {low:.2} to {high:.2}); wanted: {wanted:.1} or more"
        );
    };
    show("provisions over HTTP", 1, 0, 0.8);
    show("commits in the library", 3, 2, 1.1);
    show("reads of an instance over HTTP", 5, 4, 0.6);
    Ok(())
}

impl Stage {
    fn script(&self, name: &str, sql: &str) -> Fallible {
        Ok(fs::write(self.folder.file(name), sql)?)
    }

    /// Transactions per second.
    fn pgbench(&self, script: &str, clients: usize, options: &[&str]) -> Fallible<f64> {
        let mut command = Command::new(&self.pgbench);
        command
            .args(["-n", "-M", "prepared"])
            .args([
                "-c",
                &clients.to_string(),
                "-j",
                &clients.min(2).to_string(),
            ])
            .args(options)
            .arg("-f")
            .arg(self.folder.file(script))
            .arg(&self.url);
        let output = command.output()?;
        let printed = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            return Err(format!("pgbench: {complaint}").into());
        }
        let rate = printed
            .lines()
            .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        Ok(rate.ok_or("pgbench told no tps")?)
    }

    /// Inserts and provisions, inserts and commits, selects and reads.
    fn round(&self) -> Fallible<[f64; 6]> {
        let time = self.seconds.to_string();
        let time = ["-T", time.as_str()];
        let mut brokers = Vec::new();
        for name in ["one", "two"] {
            let command = broker(Path::new(env!("CARGO_BIN_EXE_brokerlet")), &self.url);
            brokers.push(Running::start(command, &self.folder.file(name))?);
        }
        let inserts = self.pgbench("insert", CLIENTS, &time)?;
        let provisions = self.load(&brokers, &Template::provision())?;
        let selects = self.pgbench("select", CLIENTS, &time)?;
        let number = self.next.load(Ordering::Relaxed) - 1;
        let path = format!("/v2/service_instances/{}/last_operation", id(number));
        let reads = self.load(&brokers, &Template::new("GET", &path, "", b"200"))?;
        for broker in brokers {
            broker.stop()?;
        }
        let fewer = self.pgbench("insert", WRITERS, &time)?;
        Ok([inserts, provisions, fewer, self.commits()?, selects, reads])
    }

    /// Answers per second of both brokers.
    fn load(&self, brokers: &[Running], template: &Template) -> Fallible<f64> {
        let duration = Duration::from_secs(self.seconds);
        thread::scope(|scope| {
            let loads: Vec<_> = brokers
                .iter()
                .map(|broker| {
                    scope.spawn(|| {
                        let round = [template.clone()];
                        let clients = CLIENTS / 2;
                        load::run(broker.address, clients, duration, &round, &self.next)
                            .map(|answers| answers.rate())
                            .map_err(|error| error.to_string())
                    })
                })
                .collect();
            let mut sum = 0.0;
            for load in loads {
                sum += load.join().map_err(|_| "a load panicked")??;
            }
            Ok(sum)
        })
    }

    /// Commits per second of the store alone.
    fn commits(&self) -> Fallible<f64> {
        let store = Postgres::open(Config::parse(&self.url)?)?;
        let count = AtomicU64::new(0);
        let started = Instant::now();
        let end = started + Duration::from_secs(self.seconds);
        let write = || -> Result<(), String> {
            while Instant::now() < end {
                let number = self.next.fetch_add(1, Ordering::Relaxed);
                let change = Change::Put {
                    key: Key::instance(&id(number)),
                    revision: Revision::ABSENT,
                    body: vec![b'x'; 350],
                    open: false,
                };
                match store.commit(vec![change]) {
                    Ok(Outcome::Committed(_)) => count.fetch_add(1, Ordering::Relaxed),
                    Ok(Outcome::Conflict) => return Err("a new key was refused".to_owned()),
                    Err(error) => return Err(error.to_string()),
                };
            }
            Ok(())
        };
        thread::scope(|scope| -> Fallible {
            let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(write)).collect();
            for writer in writers {
                writer.join().map_err(|_| "a writer panicked")??;
            }
            Ok(())
        })?;
        let rate = count.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
        store.close();
        Ok(rate)
    }
}
