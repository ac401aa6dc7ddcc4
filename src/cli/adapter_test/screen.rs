//! What is shown: on a terminal one line that changes while a call goes on, elsewhere a line for each thing.

use super::tape::Recorded;

use std::io::{IsTerminal, Write, stdout};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How much of an output is shown, in lines from its end.
const SHOWN: usize = 20;

pub struct Screen {
    is_terminal: bool,
    /// The step that goes on.
    step: Mutex<Option<Step>>,
}

struct Step {
    name: String,
    begun: Instant,
}

impl Screen {
    pub fn new() -> Screen {
        Screen {
            is_terminal: stdout().is_terminal(),
            step: Mutex::default(),
        }
    }

    pub fn heading(&self, service: &str, plan: &str, kind: &str) {
        self.print(&format!("{service}, plan {plan} ({kind})\n"));
    }

    /// A call begins.
    pub fn begin(&self, name: &str) {
        let mut step = self.step();
        *step = Some(Step {
            name: name.to_owned(),
            begun: Instant::now(),
        });
        if self.is_terminal {
            self.print(&format!("  ....  {name}"));
        }
    }

    /// The program tells how far it is.
    pub fn progress(&self, text: &str) {
        let step = self.step();
        let Some(Step { name, begun }) = &*step else {
            return;
        };
        if self.is_terminal {
            let time = seconds(begun.elapsed());
            self.print(&format!("\r\x1b[K  ....  {name} ({time}): {text}"));
        } else {
            self.print(&format!("        {name}: {text}\n"));
        }
    }

    /// The call did what it must; with what is worth a look all the same.
    pub fn good(&self, note: Option<&str>) {
        let lines: Vec<String> = note.map(str::to_owned).into_iter().collect();
        self.end("ok", &lines);
    }

    /// The call could not be made, or says nothing about the contract.
    pub fn skipped(&self, why: &str) {
        self.end("skip", &[why.to_owned()]);
    }

    /// The call did not do what it must: what, and what shows it.
    pub fn bad(&self, mut lines: Vec<String>, output: &str, recorded: &Recorded) {
        lines.extend(tail(output, "> ", recorded.output.lines()));
        lines.extend(tail(
            "standard error:",
            "| ",
            recorded.messages.iter().map(String::as_str),
        ));
        self.end("FAIL", &lines);
    }

    /// What was not called, since something before it failed.
    pub fn left_out(&self, names: &[String]) {
        if !names.is_empty() {
            self.print(&format!(
                "  left out after a failure: {}\n",
                names.join("; ")
            ));
        }
    }

    pub fn summary(&self, plans: usize, broken: usize, is_whole: bool) {
        let plans = if plans == 1 {
            "1 plan".to_owned()
        } else {
            format!("{plans} plans")
        };
        let verdict = match broken {
            0 if is_whole => "every call did what it must".to_owned(),
            0 => "interrupted".to_owned(),
            1 => "1 call did not do what it must".to_owned(),
            n => format!("{n} calls did not do what they must"),
        };
        self.print(&format!("{plans}: {verdict}\n"));
    }

    fn end(&self, outcome: &str, lines: &[String]) {
        let mut step = self.step();
        let Some(Step { name, begun }) = step.take() else {
            return;
        };
        let mut text = String::new();
        if self.is_terminal {
            let time = seconds(begun.elapsed());
            text += &format!("\r\x1b[K  {outcome:4}  {name} ({time})\n");
        } else {
            text += &format!("  {outcome:4}  {name}\n");
        }
        for line in lines {
            text += &format!("        {line}\n");
        }
        self.print(&text);
    }

    fn step(&self) -> std::sync::MutexGuard<'_, Option<Step>> {
        self.step
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Whoever reads it may have gone away; the instances are still to be deleted.
    fn print(&self, text: &str) {
        let mut out = stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

fn tail<'t>(title: &str, mark: &str, lines: impl Iterator<Item = &'t str>) -> Vec<String> {
    let lines: Vec<&str> = lines.collect();
    if lines.is_empty() {
        return Vec::new();
    }
    let left_out = lines.len().saturating_sub(SHOWN);
    let mut shown = vec![title.to_owned()];
    if left_out > 0 {
        shown.push(format!("{mark}({left_out} lines before)"));
    }
    // Nothing that a terminal would take for a command.
    let plain = |line: &&str| format!("{mark}{}", line.replace(char::is_control, "\u{fffd}"));
    shown.extend(lines[left_out..].iter().map(plain));
    shown
}
