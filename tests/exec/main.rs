//! The adapter `exec`, end to end: what a program is told, what becomes of what it answers, and what it cannot do.

mod answers;
mod asynchronous;
mod lines;
mod process;
#[path = "../support/mod.rs"]
mod support;
mod told;

use serde_json::Value;
use support::Broker;

/// Writes down what it is told, and says who it is.
const SCRIBE: &str = r#"printf '%s' "$input" >"$1.json"; echo "$# $*" >"$1.arguments"; echo '{"state":{"of":"'$1'"}}'"#;

fn read(broker: &Broker, operation: &str) -> Value {
    serde_json::from_str(&broker.written(&format!("{operation}.json"))).unwrap()
}

/// The lines of the log that are a program's.
fn lines_of_program(broker: &Broker) -> Vec<String> {
    let printed = broker.printed();
    let lines = printed
        .lines()
        .filter(|line| line.contains(" event=program "));
    lines.map(str::to_owned).collect()
}

/// Whether a process is there, and not a zombie.
fn lives(pid: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    status.is_ok_and(|status| !status.contains(") Z "))
}

/// Waits until a process is gone.
fn wait_for_end(pid: &str) {
    for _ in 0..4000 {
        if !lives(pid) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("process {pid} lives on");
}
