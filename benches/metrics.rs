//! What metrics cost: the broker, and the same one while its metrics are read ten times a second, by turns. With `--before`,
//! a third one takes part, such as a build of the commit before metrics: what it costs to count. Load comes from this
//! process over 16 connections. Only brokers of one round are compared, and medians count. The rate of a busy machine is as
//! noisy as the machine; the processor time that the broker takes for a request is less so.
//!
//! ```text
//! cargo bench --bench metrics
//! cargo bench --bench metrics -- --before /tmp/brokerlet --rounds 40
//! ```

mod support;

use support::load::{self, Answers, Connection, Template};
use support::{Fallible, Folder, Running, broker, quartiles};

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const CONNECTIONS: usize = 16;
/// Prometheus asks every 15 seconds, or every minute.
const EVERY: Duration = Duration::from_millis(100);
const WANTED: f64 = 0.98;

struct Contestant {
    name: &'static str,
    program: PathBuf,
    read: bool,
}

fn main() -> Fallible {
    let (mut rounds, mut seconds, mut before) = (20, 0.5, None);
    support::options(|name, value| {
        match name {
            "--rounds" => rounds = value.parse()?,
            "--seconds" => seconds = value.parse()?,
            "--before" => before = Some(PathBuf::from(value)),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let duration = Duration::try_from_secs_f64(seconds)?;
    let own = PathBuf::from(env!("CARGO_BIN_EXE_brokerlet"));
    let mut contestants = vec![
        Contestant {
            name: "broker",
            program: own.clone(),
            read: false,
        },
        Contestant {
            name: "broker whose metrics are read",
            program: own,
            read: true,
        },
    ];
    contestants.extend(before.map(|program| Contestant {
        name: "broker of before",
        program,
        read: false,
    }));
    let folder = Folder::new(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
    let requests = [
        ("GET /v2/catalog", Template::catalog as fn() -> Template),
        ("PUT /v2/service_instances/:new", Template::provision),
    ];
    // For each round and contestant: the rate of each kind of request.
    let mut found: Vec<Vec<[f64; 2]>> = Vec::new();
    // For each contestant, and kind of request: processor time and answers, of all rounds.
    let mut spent = vec![[(0.0, 0.0); 2]; contestants.len()];
    for round in 0..rounds {
        let mut rates = vec![[0.0; 2]; contestants.len()];
        for turn in 0..contestants.len() {
            let which = (turn + round) % contestants.len();
            for (request, (_, template)) in requests.iter().enumerate() {
                let (rate, time) = measure(&contestants[which], &folder, duration, template())?;
                rates[which][request] = rate;
                let (all_time, answers) = &mut spent[which][request];
                *all_time += time;
                *answers += rate * seconds;
            }
        }
        found.push(rates);
    }
    println!("{CONNECTIONS} connections kept open, {rounds} rounds of {seconds} s each");
    for (request, (name, _)) in requests.iter().enumerate() {
        println!("\n{name}");
        for (which, contestant) in contestants.iter().enumerate() {
            let rates = found.iter().map(|round| round[which][request]);
            let [_, rate, _] = quartiles(rates);
            println!("  {}: {rate:.0} per second", contestant.name);
        }
        for (which, contestant) in contestants.iter().enumerate().skip(1) {
            // What is newer is held against what is older or does less.
            let ratios = found.iter().map(|round| match contestant.read {
                true => round[which][request] / round[0][request],
                false => round[0][request] / round[which][request],
            });
            let [low, ratio, high] = quartiles(ratios);
            let of = match contestant.read {
                true => "read, of not read",
                false => "now, of before",
            };
            println!(
                "  {of}: {ratio:.3} (quartiles {low:.3} to {high:.3}); wanted: {WANTED} or more"
            );
            let each = |which: usize| {
                let (time, answers) = spent[which][request];
                time / answers
            };
            let (new, old) = match contestant.read {
                true => (each(which), each(0)),
                false => (each(0), each(which)),
            };
            println!(
                "  processor time of a request, {of}: {:.3} ({:.1} µs); wanted: {:.2} or less",
                new / old,
                new * 1e6,
                1.0 / WANTED
            );
        }
    }
    Ok(())
}

fn measure(
    contestant: &Contestant,
    folder: &Folder,
    duration: Duration,
    template: Template,
) -> Fallible<(f64, f64)> {
    let mut command = broker(&contestant.program, "memory");
    // A port that is free now.
    let admin = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    if contestant.read {
        command.env("BROKER_ADMIN_ADDRESS", admin.to_string());
    }
    let server = Running::start(command, &folder.file("log"))?;
    let before = processor_time(server.pid())?;
    let (busy, next) = (AtomicBool::new(contestant.read), AtomicU64::new(0));
    let connect = || Connection::open(server.address);
    let answers: Answers = thread::scope(|scope| {
        let reader = scope.spawn(|| -> std::io::Result<u32> {
            let mut reads = 0;
            while busy.load(Ordering::SeqCst) {
                scrape(admin)?;
                reads += 1;
                thread::sleep(EVERY);
            }
            Ok(reads)
        });
        let answers = load::run_on(connect, CONNECTIONS, duration, &[template], &next);
        busy.store(false, Ordering::SeqCst);
        match reader.join() {
            Ok(Ok(0)) if contestant.read => Err("the metrics were never read".into()),
            Ok(Ok(_)) => answers.map_err(|error| error.to_string().into()),
            Ok(Err(error)) => Err(format!("the metrics could not be read: {error}").into()),
            Err(_) => Err("the reader failed".into()),
        }
    })
    .map_err(|error: Box<dyn std::error::Error>| error)?;
    let time = processor_time(server.pid())? - before;
    server.stop()?;
    Ok((answers.rate(), time))
}

/// In seconds, of all threads: proc(5), the fields 14 and 15 of /proc/PID/stat.
fn processor_time(pid: u32) -> Fallible<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name of the program may hold anything.
    let (_, fields) = stat.rsplit_once(") ").ok_or("no name in /proc/PID/stat")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = |at: usize| -> Fallible<f64> {
        let field = fields.get(at).ok_or("too few fields in /proc/PID/stat")?;
        Ok(field.parse()?)
    };
    // A hundred a second, on every Linux.
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

fn scrape(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    match answer.starts_with(b"HTTP/1.1 200 ") {
        true => Ok(()),
        false => Err(std::io::Error::other("it was not 200")),
    }
}
