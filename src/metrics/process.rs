//! What the system knows of this process, under the names that Prometheus' own libraries use. On Linux only; elsewhere
//! there is nothing to tell.

use super::Text;

use std::fs;

/// Clock ticks a second in `/proc/self/stat`. The kernel tells every program so, whatever its own rate is.
const TICKS: f64 = 100.0;

/// What the files of `/proc/self` say.
#[derive(Debug, PartialEq)]
struct Process {
    cpu_seconds: f64,
    threads: u64,
    /// Since the epoch, in seconds.
    started: f64,
    virtual_bytes: u64,
    resident_bytes: u64,
}

/// Writes what is known. Nothing of it changes while the text is written but the numbers themselves.
pub fn write(text: &mut Text) {
    let read = |name: &str| fs::read_to_string(format!("/proc/{name}")).unwrap_or_default();
    let page = rustix::param::page_size() as u64;
    if let Some(process) = parse(&read("self/stat"), &read("stat"), page) {
        text.counter(
            "process_cpu_seconds_total",
            "Processor time that was used, in seconds.",
        )
        .sample(&[], process.cpu_seconds);
        text.gauge("process_resident_memory_bytes", "Memory in use, in bytes.")
            .sample(&[], process.resident_bytes);
        text.gauge(
            "process_virtual_memory_bytes",
            "Addresses in use, in bytes.",
        )
        .sample(&[], process.virtual_bytes);
        text.gauge("process_threads", "Threads.")
            .sample(&[], process.threads);
        text.gauge(
            "process_start_time_seconds",
            "When the process was started, in seconds since 1970.",
        )
        .sample(&[], process.started);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them is the folder that is being read.
        text.gauge("process_open_fds", "Open file descriptors.")
            .sample(&[], open.count().saturating_sub(1));
        let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let mut limit = text.gauge("process_max_fds", "Most file descriptors that may be open.");
        match most {
            Some(most) => limit.sample(&[], most),
            None => limit.sample(&[], "+Inf"),
        }
    }
}

/// proc_pid_stat(5), proc_stat(5).
fn parse(own: &str, system: &str, page: u64) -> Option<Process> {
    // The name of the program is in brackets and may hold anything.
    let (_, fields) = own.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    // The first of these is number 3.
    let number = |n: usize| fields.get(n - 3)?.parse::<u64>().ok();
    let booted = system
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse::<u64>()
        .ok()?;
    Some(Process {
        cpu_seconds: (number(14)? + number(15)?) as f64 / TICKS,
        threads: number(20)?,
        started: booted as f64 + number(22)? as f64 / TICKS,
        virtual_bytes: number(23)?,
        resident_bytes: number(24)? * page,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_numbers_are_found_whatever_the_program_is_called() {
        let own = "7 (a) (b) R 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 5 0 1000 2048000 300 18446744073709551615";
        let process = parse(own, "cpu 1 2\nbtime 1700000000\n", 4096);
        let wanted = Process {
            cpu_seconds: 2.0,
            threads: 5,
            started: 1_700_000_010.0,
            virtual_bytes: 2_048_000,
            resident_bytes: 1_228_800,
        };
        assert_eq!(process, Some(wanted));
        assert_eq!(parse("", "", 4096), None);
    }
}
