//! What comes back: JSON objects, each on lines of its own; any number of `{"progress": "…"}` and one result.

use super::line::{Answer, Fault, LONGEST_TEXT, Line, Wrong, read};
use super::messages::one_line;
use crate::json::too_deep;

use serde::de::IgnoredAny;
use std::ops::ControlFlow;

/// The most that may come back.
pub const MAX_OUTPUT: usize = 1024 * 1024;

/// Whose output it is, in words for people.
#[derive(Debug, PartialEq, Eq)]
pub struct Voice {
    /// Who.
    pub speaker: &'static str,
    /// What it did with its output.
    pub spoke: &'static str,
    /// What its output is called.
    pub speech: &'static str,
    /// Where to put what is no JSON.
    elsewhere: &'static str,
}

/// A program's.
pub const PROGRAM: Voice = Voice {
    speaker: "program",
    spoke: "printed",
    speech: "output",
    elsewhere: "; whatever is not JSON belongs on standard error",
};

/// A web service's.
#[cfg(feature = "http-adapter")]
pub const SERVICE: Voice = Voice {
    speaker: "web service",
    spoke: "answered",
    speech: "answer",
    elsewhere: "",
};

impl Voice {
    /// What is wrong with an output that has nothing wrong in it.
    pub fn no_result(&self) -> String {
        format!("{} no result", self.spoke)
    }

    pub fn too_much(&self) -> String {
        format!("{} more than {MAX_OUTPUT} bytes", self.spoke)
    }
}

/// Reads the output as it comes. The first thing that is wrong counts; the program is left to finish its work.
pub struct Output {
    voice: &'static Voice,
    /// A line, or the lines of an object that is not closed yet.
    text: Vec<u8>,
    /// How many lines of the output came before.
    lines_before: usize,
    /// How much of the text the brackets below are counted in.
    counted: usize,
    brackets: Brackets,
    size: usize,
    answer: Option<Answer>,
    fault: Option<Fault>,
}

impl Output {
    pub fn new(voice: &'static Voice) -> Output {
        Output {
            voice,
            text: Vec::new(),
            lines_before: 0,
            counted: 0,
            brackets: Brackets::default(),
            size: 0,
            answer: None,
            fault: None,
        }
    }

    /// `Break` when the program has printed more than it may.
    pub fn feed(&mut self, bytes: &[u8], progress: &dyn Fn(&str)) -> ControlFlow<()> {
        self.size += bytes.len();
        if self.size > MAX_OUTPUT {
            self.text = Vec::new();
            self.fault = Some(self.voice.too_much().into());
            return ControlFlow::Break(());
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.text.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.end_line(progress);
            }
        }
        ControlFlow::Continue(())
    }

    /// The end of the output: the result, and what is wrong with the output.
    pub fn close(mut self, progress: &dyn Fn(&str)) -> (Option<Answer>, Result<(), Fault>) {
        self.end_text(progress);
        let fault = match (self.fault, &self.answer) {
            (Some(fault), _) => Err(fault),
            (None, None) => Err(self.voice.no_result().into()),
            (None, Some(_)) => Ok(()),
        };
        (self.answer, fault)
    }

    /// `jq` without `-c`, and most libraries, print an object over several lines: it ends with its last bracket.
    fn end_line(&mut self, progress: &dyn Fn(&str)) {
        let is_first = self.counted == 0;
        self.brackets.count(&self.text[self.counted..]);
        self.counted = self.text.len();
        if self.brackets.are_open() && (!is_first || is_begun(&self.text)) {
            return;
        }
        self.end_text(progress);
    }

    fn end_text(&mut self, progress: &dyn Fn(&str)) {
        let text = std::mem::take(&mut self.text);
        let first = self.lines_before + 1;
        self.lines_before += text.split_inclusive(|byte| *byte == b'\n').count();
        (self.counted, self.brackets) = (0, Brackets::default());
        if text.trim_ascii().is_empty() {
            return;
        }
        let Voice {
            speech, elsewhere, ..
        } = self.voice;
        let place = match self.lines_before {
            last if last > first => {
                format!("the object in lines {first} to {last} of its {speech}")
            }
            _ => format!("line {first} of its {speech}"),
        };
        let fault = match read(&text) {
            Ok(Line::Progress(text)) => return progress(&one_line(&text, LONGEST_TEXT)),
            Ok(Line::Answer(_)) if self.answer.is_some() => "is a second result".to_owned().into(),
            Ok(Line::Answer(answer)) => return self.answer = Some(answer),
            Err(Wrong::Json { line, column }) => {
                let line = first + line - 1;
                let text = format!(
                    "line {line} of its {speech} is not JSON from column {column} on{elsewhere}"
                );
                self.fault.get_or_insert(text.into());
                return;
            }
            Err(Wrong::Content(fault)) => fault,
        };
        self.fault.get_or_insert_with(|| Fault {
            told: format!("{place} {}", fault.told),
            detail: format!("{place} {}", fault.detail),
        });
    }
}

/// How deep the end of a JSON text is nested.
#[derive(Default)]
struct Brackets {
    depth: usize,
    in_string: bool,
    after_backslash: bool,
}

impl Brackets {
    fn count(&mut self, text: &[u8]) {
        for byte in text {
            match byte {
                _ if self.after_backslash => self.after_backslash = false,
                b'\\' if self.in_string => self.after_backslash = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }

    /// Not within a string, which is no JSON if it goes over a line's end.
    fn are_open(&self) -> bool {
        self.depth > 0 && !self.in_string
    }
}

/// Whether a line is the beginning of an object.
fn is_begun(line: &[u8]) -> bool {
    let is_object = line.trim_ascii_start().starts_with(b"{");
    // The parser has a stack to lose.
    is_object
        && !too_deep(line)
        && serde_json::from_slice::<IgnoredAny>(line).is_err_and(|error| error.is_eof())
}

#[cfg(test)]
mod tests;
