use super::*;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

type Then = Box<dyn FnMut(&[u8])>;

#[derive(Default)]
struct Heard {
    output: Vec<u8>,
    messages: Vec<u8>,
    /// Has enough after so many bytes.
    most: Option<usize>,
    /// Called with each piece of output.
    then: Option<Then>,
}

impl Sink for Heard {
    fn output(&mut self, bytes: &[u8]) -> ControlFlow<()> {
        self.output.extend_from_slice(bytes);
        if let Some(then) = &mut self.then {
            then(bytes);
        }
        match self.most {
            Some(most) if self.output.len() > most => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }

    fn messages(&mut self, bytes: &[u8]) {
        self.messages.extend_from_slice(bytes);
    }
}

/// Runs a script in a shell.
fn shell(script: &str, input: &[u8], until: Duration, heard: &mut Heard) -> Ended {
    shell_with(script, input, until, None, &|| false, heard)
}

fn shell_with(
    script: &str,
    input: &[u8],
    until: Duration,
    dies_at: Option<Instant>,
    is_cancelled: &dyn Fn() -> bool,
    heard: &mut Heard,
) -> Ended {
    let program = Program {
        file: Path::new("/bin/sh"),
        arguments: &["-c", script],
        folder: Path::new("/"),
        environment: &[(OsStr::new("PATH"), std::env::var_os("PATH").unwrap())],
        deadline: Instant::now() + until,
        grace: Duration::from_secs(1),
        dies_at,
    };
    let cancelled = || is_cancelled().then_some(PATIENCE);
    run(&program, input, &cancelled, heard).unwrap()
}

/// Whether a process is there and not a zombie.
fn lives(pid: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    status.is_ok_and(|status| !status.contains(") Z "))
}

fn wait_for_end(pid: &str) {
    let started = Instant::now();
    while lives(pid) {
        assert!(started.elapsed() < PATIENCE, "process {pid} lives on");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn much_goes_in_and_out_at_the_same_time() {
    let input = vec![b'x'; 4 * 1024 * 1024];
    let mut heard = Heard::default();
    let ended = shell("tee /dev/stderr", &input, PATIENCE, &mut heard);
    assert!(ended.status.unwrap().success() && ended.stopped.is_none() && !ended.held_open);
    assert_eq!(heard.output.len(), input.len());
    assert_eq!(heard.messages.len(), input.len());
}

#[test]
fn a_program_need_not_read_its_input() {
    for script in [
        "exec <&-; echo done",
        "echo done",
        "head -c 1 >/dev/null; echo done",
    ] {
        let mut heard = Heard::default();
        let ended = shell(script, &vec![b'x'; 1024 * 1024], PATIENCE, &mut heard);
        assert!(ended.status.unwrap().success(), "{script}");
        assert_eq!(heard.output, b"done\n", "{script}");
    }
}

#[test]
fn a_program_may_close_its_output_and_go_on() {
    let mut heard = Heard::default();
    let ended = shell(
        "echo done; exec >&- 2>&-; sleep 0.2; exit 3",
        b"",
        PATIENCE,
        &mut heard,
    );
    assert_eq!(ended.status.unwrap().code(), Some(3));
    assert_eq!(heard.output, b"done\n");
}

#[test]
fn what_a_program_leaves_behind_does_not_hold_the_call() {
    let mut heard = Heard::default();
    let ended = shell("sleep 60 & echo $!", b"", PATIENCE, &mut heard);
    let left = String::from_utf8(heard.output).unwrap();
    assert!(ended.status.unwrap().success() && ended.held_open && ended.stopped.is_none());
    assert!(lives(&left), "a service that a program starts must stay");
    let left = rustix::process::Pid::from_raw(left.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(left, rustix::process::Signal::TERM).unwrap();
}

#[test]
fn at_the_deadline_the_whole_group_is_asked_to_end() {
    let mut heard = Heard::default();
    let script = "trap 'echo bye; exit 7' TERM; sleep 60 & echo $!; wait";
    let ended = shell(script, b"", Duration::from_millis(300), &mut heard);
    assert_eq!(ended.stopped, Some(Stopped::Deadline));
    assert_eq!(ended.status.unwrap().code(), Some(7));
    let output = String::from_utf8(heard.output).unwrap();
    let (child, rest) = output.split_once('\n').unwrap();
    assert_eq!(rest, "bye\n");
    wait_for_end(child);
}

#[test]
fn who_ignores_sigterm_is_killed_with_all_its_children() {
    let mut heard = Heard::default();
    let script = "trap '' TERM; sleep 60 & echo $!; wait; sleep 60";
    let ended = shell(script, b"", Duration::from_millis(100), &mut heard);
    assert_eq!(ended.stopped, Some(Stopped::Deadline));
    assert_eq!(ended.status.unwrap().to_string(), "signal: 9 (SIGKILL)");
    wait_for_end(std::str::from_utf8(&heard.output).unwrap());
}

#[test]
fn children_of_one_that_ended_at_sigterm_are_killed() {
    let mut heard = Heard::default();
    let script = "(trap '' TERM; echo ready; sleep 60) & echo $!; wait";
    let ended = shell(script, b"", Duration::from_millis(300), &mut heard);
    assert_eq!(ended.status.unwrap().to_string(), "signal: 15 (SIGTERM)");
    let output = String::from_utf8(heard.output).unwrap();
    let child = output.lines().find(|line| *line != "ready").unwrap();
    wait_for_end(child);
}

#[test]
fn who_is_cancelled_is_asked_to_end() {
    let cancelled = Rc::new(Cell::new(false));
    let mut heard = Heard {
        then: Some({
            let cancelled = cancelled.clone();
            Box::new(move |_| cancelled.set(true))
        }),
        ..Heard::default()
    };
    let script = "echo started; sleep 60";
    let ended = shell_with(script, b"", PATIENCE, None, &|| cancelled.get(), &mut heard);
    assert_eq!(ended.stopped, Some(Stopped::Cancelled));
    assert_eq!(ended.status.unwrap().to_string(), "signal: 15 (SIGTERM)");
}

#[test]
fn who_is_to_die_gets_no_word() {
    let mut heard = Heard::default();
    let script = "trap 'echo bye' TERM; sleep 60 & wait";
    let soon = Some(Instant::now() + Duration::from_millis(300));
    let ended = shell_with(script, b"", PATIENCE, soon, &|| false, &mut heard);
    assert_eq!(ended.stopped, Some(Stopped::Killed));
    assert_eq!(ended.status.unwrap().to_string(), "signal: 9 (SIGKILL)");
    assert_eq!(heard.output, b"");
}

#[test]
fn who_prints_without_end_is_stopped() {
    let mut heard = Heard {
        most: Some(100_000),
        ..Heard::default()
    };
    let ended = shell("yes", b"", PATIENCE, &mut heard);
    assert_eq!(ended.stopped, Some(Stopped::Output));
    assert!(heard.output.len() <= 100_000 + CHUNK);
}

#[test]
fn a_panic_of_the_caller_leaves_no_program_behind() {
    let pid = Arc::new(Mutex::new(String::new()));
    let mut heard = Heard {
        then: Some({
            let pid = pid.clone();
            Box::new(move |bytes| {
                pid.lock()
                    .unwrap()
                    .push_str(std::str::from_utf8(bytes).unwrap());
                // Not a panic that the hook prints.
                std::panic::resume_unwind(Box::new("as it was told"));
            })
        }),
        ..Heard::default()
    };
    let run = AssertUnwindSafe(|| shell("echo $$; sleep 60", b"", PATIENCE, &mut heard));
    assert!(catch_unwind(run).is_err());
    let pid = pid.lock().unwrap().clone();
    assert!(!pid.is_empty());
    wait_for_end(&pid);
}

#[test]
fn what_cannot_be_started_says_why() {
    let program = Program {
        file: Path::new("/no/such/program"),
        arguments: &[],
        folder: Path::new("/"),
        environment: &[],
        deadline: Instant::now() + PATIENCE,
        grace: Duration::from_secs(1),
        dies_at: None,
    };
    let error = run(&program, b"", &|| None, &mut Heard::default());
    assert_eq!(error.unwrap_err().kind(), io::ErrorKind::NotFound);
}
