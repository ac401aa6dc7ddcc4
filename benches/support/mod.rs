//! What the benches share: servers in processes of their own, load over HTTP, and medians.
#![allow(dead_code, reason = "every bench uses a part of it")]

pub mod load;
#[cfg(feature = "tls")]
pub mod tls;

use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

pub type Fallible<T = ()> = Result<T, Box<dyn Error>>;

pub const USERNAME: &str = "alex";
pub const PASSWORD: &str = "bigsecret";

/// How long a server may take to start, and to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// The tutorial's broker on a free port, its state wherever `store` says (`BROKER_STORE`).
pub fn broker(program: &Path, store: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("BROKER_USERNAME", USERNAME)
        .env("BROKER_PASSWORD", PASSWORD)
        .env("BROKER_ADDRESS", "127.0.0.1")
        .env("PORT", "0")
        .env("BROKER_STORE", store);
    command
}

/// This very program, started again to play another role.
pub fn myself(role: &str) -> Fallible<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(role);
    Ok(command)
}

/// A server in a process of its own, whose log goes into a file. Killed when dropped.
pub struct Running {
    child: Child,
    log: PathBuf,
    pub address: SocketAddr,
    /// Just before the process was made.
    pub started: Instant,
}

impl Running {
    /// Starts it, and waits until its log says ` listen=` and where.
    pub fn start(mut command: Command, log: &Path) -> Fallible<Running> {
        command.stdin(Stdio::null());
        command.stdout(fs::File::create(log)?);
        let started = Instant::now();
        let mut running = Running {
            child: command.spawn()?,
            log: log.to_owned(),
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            started,
        };
        loop {
            let log = fs::read_to_string(log)?;
            let address = log.split_once(" listen=").map(|(_, rest)| rest);
            // Not before the line is there as a whole.
            if let Some((line, _)) = address.and_then(|rest| rest.split_once('\n')) {
                running.address = line.split(' ').next().unwrap_or(line).parse()?;
                return Ok(running);
            }
            if let Some(status) = running.child.try_wait()? {
                return Err(format!("{command:?} did not start: {status}; {log}").into());
            }
            if started.elapsed() > PATIENCE {
                return Err(format!("{command:?} does not start; {log}").into());
            }
            thread::sleep(Duration::from_micros(100));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What /proc says of its memory, in kB: `VmRSS`, `VmHWM`.
    pub fn memory_kb(&self, field: &str) -> Fallible<u64> {
        memory_kb(&self.child.id().to_string(), field)
    }

    /// SIGTERM. Returns the number of requests in its log, and how many lines the log has lost.
    pub fn stop(mut self) -> Fallible<Logged> {
        let pid = self.child.id().to_string();
        if !Command::new("kill").arg(&pid).status()?.success() {
            return Err(format!("the process {pid} cannot be stopped").into());
        }
        let stopping = Instant::now();
        while self.child.try_wait()?.is_none() {
            if stopping.elapsed() > PATIENCE {
                return Err(format!("the process {pid} does not stop").into());
            }
            thread::sleep(Duration::from_millis(1));
        }
        let mut logged = Logged::default();
        for line in fs::read_to_string(&self.log)?.lines() {
            if line.contains(" event=request ") {
                logged.requests += 1;
            } else if let Some((_, count)) = line.split_once(" event=log_lines_dropped count=") {
                logged.dropped += count.parse::<u64>()?;
            }
        }
        Ok(logged)
    }

    /// SIGKILL.
    pub fn kill(mut self) -> Fallible {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What was found in a log.
#[derive(Default)]
pub struct Logged {
    pub requests: u64,
    pub dropped: u64,
}

/// A field of /proc/PID/status, in kB. `process` may be `self`.
pub fn memory_kb(process: &str, field: &str) -> Fallible<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number
        .ok_or(format!("no {field} in /proc/{process}/status"))?
        .parse()?)
}

/// A folder in cargo's place for such things, gone when dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(within: &Path) -> Fallible<Folder> {
        let path = within.join(format!("bench-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Folder(path))
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// First quartile, median and third quartile. There must be a number at least.
pub fn quartiles(numbers: impl IntoIterator<Item = f64>) -> [f64; 3] {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_unstable_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| numbers[(numbers.len() - 1) * quarter / 4])
}

/// The options `--name value` of a bench, beside what cargo itself passes to every bench.
pub fn options(mut take: impl FnMut(&str, &str) -> Fallible<bool>) -> Fallible {
    let mut arguments = std::env::args().skip(1).filter(|name| name != "--bench");
    while let Some(name) = arguments.next() {
        let value = arguments
            .next()
            .ok_or(format!("{name}: a value is missing"))?;
        if !take(&name, &value)? {
            return Err(format!("{name}: unknown; the first lines of the bench name them").into());
        }
    }
    Ok(())
}
