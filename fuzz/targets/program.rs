//! What a program of the adapter `exec` prints: the input is its output, and once more its messages.
//!
//! The output either has the one result that it should have, as a second reading of it finds too, or says in which line
//! it is wrong; however it comes in pieces. What users and operators are told is on one line, and nothing that a program
//! returns is quoted. Messages show no secret, in whichever form.

use super::pieces;

use brokerlet::adapter::protocol::line::{Answer, Done, Fault};
use brokerlet::adapter::protocol::mask::Mask;
use brokerlet::adapter::protocol::messages::Messages;
use brokerlet::adapter::protocol::output::{MAX_OUTPUT, Output, PROGRAM};
use brokerlet::json::MAX_DEPTH;
use serde_json::Value;
use std::cell::RefCell;

/// In characters that JSON and URLs write in another way.
const SECRET: &str = "hunter2/\"pass\"";
const FORMS: [&str; 3] = [SECRET, "hunter2/\\\"pass\\\"", "hunter2%2F%22pass%22"];
/// What a program may print in one line of its messages, and a little for what stands in the place of secrets.
const LONGEST_MESSAGE: usize = 4096 + 3;
const LONGEST_TEXT: usize = 2048;

pub fn run(input: &[u8]) {
    output(input);
    messages(input);
}

/// What an output has come to.
#[derive(Debug, PartialEq)]
struct Reading {
    progress: Vec<String>,
    result: Option<&'static str>,
    fault: Option<Fault>,
}

fn output(input: &[u8]) {
    let whole = read(&[input]);
    for sizes in [&[1][..], &[2, 3], &[64, 1]] {
        let pieces: Vec<&[u8]> = pieces(input, sizes).collect();
        assert_eq!(read(&pieces), whole);
    }
    let fault = whole.fault.iter();
    let faults = fault.flat_map(|fault| [&fault.told, &fault.detail]);
    let texts = whole.progress.iter().chain(faults);
    texts.for_each(|text| for_people(text));
    match expected(input) {
        Some(result) => assert_eq!((whole.result, whole.fault), (Some(result), None)),
        None => {
            let fault = whole.fault.expect("taken for an output as it should be");
            for value in values(input) {
                assert!(!fault.detail.contains(&value), "{fault:?} quotes {value}");
            }
            for key in keys(input) {
                assert!(!fault.told.contains(&key), "{fault:?} quotes {key}");
            }
        }
    }
}

/// Reads an output in these pieces.
fn read(pieces: &[&[u8]]) -> Reading {
    let told = RefCell::new(Vec::new());
    let progress = |text: &str| told.borrow_mut().push(text.to_owned());
    let mut output = Output::new(&PROGRAM);
    for piece in pieces {
        if output.feed(piece, &progress).is_break() {
            break;
        }
    }
    let (answer, fault) = output.close(&progress);
    let result = answer.map(|answer| match answer {
        Answer::Done(done) => {
            used(done);
            "done"
        }
        Answer::Refused(refused) => {
            assert!(!refused.description.is_empty());
            for_people(&refused.description);
            "refused"
        }
    });
    Reading {
        progress: told.take(),
        result,
        fault: fault.err(),
    }
}

/// Whatever a result holds, an operation can take it or say what is wrong with it.
fn used(done: Done) {
    let has_state = done.state.is_some();
    let (credentials, bound) = (done.credentials.clone(), done.into_bound());
    match bound {
        Ok(bound) => {
            assert_eq!(bound.credentials, credentials);
            assert_eq!(bound.state.is_some(), has_state);
        }
        Err(fault) => assert!(!fault.is_empty()),
    }
}

fn for_people(text: &str) {
    assert!(!text.contains(char::is_control), "{text:?}");
    assert!(text.len() <= LONGEST_TEXT, "{text:?}");
}

/// The values of an output, each of which ends with a line; `None` at the first that is none.
fn values_of(input: &[u8]) -> impl Iterator<Item = Option<Value>> {
    let mut rest = Some(input);
    std::iter::from_fn(move || {
        let text = rest?.trim_ascii_start();
        if text.is_empty() {
            return None;
        }
        let ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let mut ends = ends.map(|(at, _)| at).chain([text.len()]);
        // What is an object is one from its first line on; everything else is on one line.
        let most = if text[0] == b'{' { usize::MAX } else { 1 };
        let read = |at: usize| Some((serde_json::from_slice(&text[..at]).ok()?, at));
        let found = ends.by_ref().take(most).find_map(read);
        rest = found.as_ref().map(|(_, at): &(Value, usize)| &text[*at..]);
        Some(found.map(|(value, _)| value))
    })
}

/// A second reading, of the output as a whole: its one result, if nothing is wrong with any of it.
fn expected(input: &[u8]) -> Option<&'static str> {
    if input.len() > MAX_OUTPUT {
        return None;
    }
    let mut result = None;
    for value in values_of(input) {
        let value = value?;
        if depth(&value) > MAX_DEPTH {
            return None;
        }
        let mut members = value.as_object()?.clone();
        members.retain(|_, value| !value.is_null());
        let all = |fits: fn(&str, &Value) -> bool| members.iter().all(|(key, v)| fits(key, v));
        if members.contains_key("progress") {
            let fits = all(|key, value| key == "progress" && value.is_string());
            fits.then_some(())?;
            continue;
        }
        let refusal = [
            "error",
            "description",
            "instance_usable",
            "update_repeatable",
        ];
        let is_refusal = refusal.iter().any(|key| members.contains_key(*key));
        let fits = if is_refusal {
            let told = ["error", "description"].iter().any(|key| {
                let text = members
                    .get(*key)
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                !text.trim().is_empty()
            });
            told && members.contains_key("error")
                && all(|key, value| match key {
                    "error" | "description" => value.is_string(),
                    "instance_usable" | "update_repeatable" => value.is_boolean(),
                    _ => false,
                })
        } else {
            all(|key, value| match key {
                "credentials" | "metadata" | "state" => value.is_object(),
                "dashboard_url" | "syslog_drain_url" | "route_service_url" => value.is_string(),
                "endpoints" | "volume_mounts" => value.is_array(),
                _ => false,
            })
        };
        if !fits || result.is_some() {
            return None;
        }
        result = Some(if is_refusal { "refused" } else { "done" });
    }
    result
}

fn depth(value: &Value) -> usize {
    let inner = match value {
        Value::Array(items) => items.iter().map(depth).max(),
        Value::Object(members) => members.values().map(depth).max(),
        _ => return 0,
    };
    1 + inner.unwrap_or(0)
}

/// The texts that an output returns as values, but for those that are keys of a line too, or too short to tell anything.
fn values(input: &[u8]) -> Vec<String> {
    fn collect(value: &Value, texts: &mut Vec<String>) {
        match value {
            Value::String(text) => texts.push(text.clone()),
            Value::Array(items) => items.iter().for_each(|item| collect(item, texts)),
            Value::Object(members) => members.values().for_each(|value| collect(value, texts)),
            _ => {}
        }
    }
    let mut texts = Vec::new();
    values_of(input)
        .flatten()
        .for_each(|value| collect(&value, &mut texts));
    let keys = keys(input).concat();
    texts.retain(|text| text.len() > 10 && !keys.contains(text.as_str()));
    // Words of the sentences themselves.
    texts.retain(|text| !WORDS.contains(text.as_str()));
    texts
}

/// The keys of the outermost objects that are none of the protocol's, and long enough to tell anything.
fn keys(input: &[u8]) -> Vec<String> {
    let objects = values_of(input).flatten();
    let keys = objects.filter_map(|value| Some(value.as_object()?.keys().cloned().collect()));
    let mut keys: Vec<String> = keys.collect::<Vec<Vec<String>>>().concat();
    keys.retain(|key| key.len() > 7 && !WORDS.contains(key.as_str()));
    keys
}

const WORDS: &str = "credentials metadata dashboard_url description endpoints route_service_url syslog_drain_url \
                     volume_mounts instance_usable update_repeatable progress";

fn messages(input: &[u8]) {
    for known_at_once in [true, false] {
        let whole = lines(&[input], known_at_once);
        for line in whole.iter().flatten() {
            for form in FORMS {
                assert!(!line.contains(form), "{line:?}");
                // Nor the beginning of one where a line was cut off.
                let begun = line.len() >= LONGEST_MESSAGE - 6 && line.ends_with(&form[..6]);
                assert!(!begun, "{line:?}");
            }
            assert!(line.len() <= LONGEST_MESSAGE, "{} bytes", line.len());
            assert!(!line.contains('\n'));
        }
        let pieces: Vec<&[u8]> = pieces(input, &[1, 7]).collect();
        assert_eq!(lines(&pieces, known_at_once), whole);
    }
}

/// The lines that a log gets of messages in these pieces, and the last one. The secret is known from the beginning, or is
/// what the program returns at its end.
fn lines(pieces: &[&[u8]], known_at_once: bool) -> [Vec<String>; 2] {
    let mut mask = Mask::default();
    mask.add(SECRET);
    let (at_once, later) = match known_at_once {
        true => (mask, Mask::default()),
        false => (Mask::default(), mask),
    };
    let mut said = Vec::new();
    let mut say = |line: &str| said.push(line.to_owned());
    let mut messages = Messages::new(at_once, !known_at_once, &mut say);
    for piece in pieces {
        messages.feed(piece);
    }
    let last = messages.close(&later);
    [said, last.into_iter().collect()]
}
