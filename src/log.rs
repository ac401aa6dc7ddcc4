//! One line an event, to stdout: `logfmt`, or JSON with `BROKER_LOG=json`.
//!
//! Lines are handed to one thread that writes them. A log pipe that is full or closed never stops the broker: what does
//! not fit is dropped, and counted in the next line that does. Secrets never come here: callers pass names, ids and
//! texts made for users or operators.

use crate::metrics::Counter;

use serde_json::Value;
use std::fmt::Write as _;
use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// How lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Logfmt,
    Json,
}

/// How much may wait for the writer before lines are dropped.
const MAX_WAITING: usize = 256 * 1024;
/// How long a busy writer lets lines gather, so that it is not woken for each of them.
const GATHER: Duration = Duration::from_millis(2);
/// Longest value in a line; Cloud Foundry cuts lines at 60 KiB.
const MAX_VALUE: usize = 4096;

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    dropped: u64,
    /// The writer sleeps and must be woken.
    idle: bool,
    /// The writer has taken lines that it has not written yet.
    writing: bool,
}

struct Logger {
    format: Format,
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    written: Condvar,
}

/// Lines that were dropped.
pub static DROPPED: Counter = Counter::new();

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Starts the writer. The first call wins; before it, lines are discarded.
pub fn start(format: Format) {
    let logger = Logger {
        format,
        waiting: Mutex::default(),
        arrived: Condvar::new(),
        written: Condvar::new(),
    };
    if LOGGER.set(logger).is_ok() {
        // Without a thread to write them, lines are dropped when the buffer is full; the broker works.
        let _ = std::thread::Builder::new()
            .name("log".into())
            .stack_size(128 * 1024)
            .spawn(write_lines);
    }
}

fn lock(mutex: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_lines() {
    let Some(logger) = LOGGER.get() else { return };
    let mut batch = Vec::new();
    loop {
        {
            let mut waiting = lock(&logger.waiting);
            waiting.writing = false;
            logger.written.notify_all();
            while waiting.lines.is_empty() {
                waiting.idle = true;
                waiting = logger
                    .arrived
                    .wait(waiting)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            waiting.idle = false;
            waiting.writing = true;
            std::mem::swap(&mut waiting.lines, &mut batch);
            if waiting.dropped > 0 {
                let dropped = std::mem::take(&mut waiting.dropped);
                let mut line = Line::new(logger.format, "warn", "log_lines_dropped");
                line.field("count", dropped);
                batch.extend_from_slice(&line.finish());
            }
        }
        let mut out = std::io::stdout().lock();
        // A closed pipe: nobody reads, nothing to do about it.
        let _ = out.write_all(&batch).and_then(|()| out.flush());
        drop(out);
        let busy = batch.len() > 1024;
        batch.clear();
        batch.shrink_to(16 * 1024);
        if busy {
            std::thread::sleep(GATHER);
        }
    }
}

/// Waits until everything logged so far is written, or `limit` has passed.
pub fn flush(limit: Duration) {
    let Some(logger) = LOGGER.get() else { return };
    let end = Instant::now() + limit;
    let mut waiting = lock(&logger.waiting);
    while !waiting.lines.is_empty() || waiting.writing {
        let Some(left) = end.checked_duration_since(Instant::now()) else {
            return;
        };
        logger.arrived.notify_one();
        waiting = logger
            .written
            .wait_timeout(waiting, left)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
}

/// Begins a line about something that works as it should.
pub fn info(event: &str) -> Entry {
    Entry::new("info", event)
}

/// Begins a line about something an operator should look at.
pub fn warn(event: &str) -> Entry {
    Entry::new("warn", event)
}

/// Begins a line about something that failed.
pub fn error(event: &str) -> Entry {
    Entry::new("error", event)
}

/// No line: what is added to it is dropped.
pub fn none() -> Entry {
    Entry(None)
}

/// A line in the making; [`Entry::send`] hands it to the writer.
#[must_use]
pub struct Entry(Option<Line>);

impl Entry {
    fn new(level: &'static str, event: &str) -> Entry {
        Entry(
            LOGGER
                .get()
                .map(|logger| Line::new(logger.format, level, event)),
        )
    }

    /// Adds a field; an absent value adds none.
    pub fn with<'v>(mut self, name: &str, value: impl Into<Field<'v>>) -> Entry {
        if let Some(line) = &mut self.0 {
            line.field(name, value);
        }
        self
    }

    pub fn send(self) {
        let (Some(line), Some(logger)) = (self.0, LOGGER.get()) else {
            return;
        };
        let line = line.finish();
        let mut waiting = lock(&logger.waiting);
        if waiting.lines.len() + line.len() > MAX_WAITING {
            waiting.dropped += 1;
            DROPPED.add();
            return;
        }
        waiting.lines.extend_from_slice(&line);
        if std::mem::take(&mut waiting.idle) {
            drop(waiting);
            logger.arrived.notify_one();
        }
    }
}

/// A value in a line.
pub enum Field<'v> {
    Text(&'v str),
    Number(u64),
    Absent,
}

impl<'v> From<&'v str> for Field<'v> {
    fn from(text: &'v str) -> Self {
        Field::Text(text)
    }
}

impl<'v> From<&'v String> for Field<'v> {
    fn from(text: &'v String) -> Self {
        Field::Text(text)
    }
}

impl From<u64> for Field<'_> {
    fn from(number: u64) -> Self {
        Field::Number(number)
    }
}

impl From<u16> for Field<'_> {
    fn from(number: u16) -> Self {
        Field::Number(number.into())
    }
}

impl From<usize> for Field<'_> {
    fn from(number: usize) -> Self {
        Field::Number(number as u64)
    }
}

impl<'v, T: Into<Field<'v>>> From<Option<T>> for Field<'v> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Field::Absent, Into::into)
    }
}

struct Line {
    format: Format,
    text: String,
}

impl Line {
    fn new(format: Format, level: &str, event: &str) -> Line {
        let mut text = String::with_capacity(384);
        if format == Format::Json {
            text.push('{');
        }
        let mut line = Line { format, text };
        let time = humantime::format_rfc3339_millis(SystemTime::now());
        line.name("time");
        match format {
            Format::Logfmt => _ = write!(line.text, "{time}"),
            Format::Json => _ = write!(line.text, "\"{time}\""),
        }
        line.field("level", level);
        line.field("event", event);
        line
    }

    fn name(&mut self, name: &str) {
        match self.format {
            Format::Logfmt => {
                if !self.text.is_empty() {
                    self.text.push(' ');
                }
                self.text.push_str(name);
                self.text.push('=');
            }
            Format::Json => {
                if self.text.len() > 1 {
                    self.text.push(',');
                }
                _ = write!(self.text, "\"{name}\":");
            }
        }
    }

    fn field<'v>(&mut self, name: &str, value: impl Into<Field<'v>>) {
        match value.into() {
            Field::Absent => {}
            Field::Number(number) => {
                self.name(name);
                _ = write!(self.text, "{number}");
            }
            Field::Text(text) => {
                self.name(name);
                let text = shortened(text);
                let bare = self.format == Format::Logfmt
                    && !text.is_empty()
                    && text
                        .bytes()
                        .all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'=' | b'\\'));
                if bare {
                    self.text.push_str(text);
                } else {
                    // JSON's quoting is logfmt's, too. What it leaves alone, but a terminal or a log viewer takes for a
                    // control or a line break, is escaped as well.
                    for c in Value::from(text).to_string().chars() {
                        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
                            _ = write!(self.text, "\\u{:04x}", u32::from(c));
                        } else {
                            self.text.push(c);
                        }
                    }
                }
            }
        }
    }

    fn finish(mut self) -> Vec<u8> {
        if self.format == Format::Json {
            self.text.push('}');
        }
        self.text.push('\n');
        self.text.into_bytes()
    }
}

fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_VALUE)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: Format) -> String {
        let mut line = Line::new(format, "info", "request");
        line.field("route", "/v2/catalog");
        line.field("status", 200u16);
        line.field("user", None::<&str>);
        line.field("outcome", "a \"b\"\nc=d");
        line.field("empty", "");
        String::from_utf8(line.finish()).unwrap()
    }

    #[test]
    fn logfmt_is_one_line_and_quotes_what_needs_it() {
        let line = line(Format::Logfmt);
        assert!(line.starts_with("time=20"), "{line}");
        assert!(line.ends_with(
            " level=info event=request route=/v2/catalog status=200 outcome=\"a \\\"b\\\"\\nc=d\" empty=\"\"\n"
        ));
        assert_eq!(line.matches('\n').count(), 1);
    }

    #[test]
    fn json_lines_are_json_objects() {
        let line = line(Format::Json);
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["status"], 200);
        assert_eq!(value["outcome"], "a \"b\"\nc=d");
        assert_eq!(value.get("user"), None);
    }

    #[test]
    fn endless_values_are_cut() {
        let long = "é".repeat(MAX_VALUE);
        assert!(shortened(&long).len() <= MAX_VALUE);
        assert_eq!(shortened("short"), "short");
    }
}
