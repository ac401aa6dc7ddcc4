//! What a program prints: JSON lines, any number of `{"progress": "…"}` and one result.

use super::messages::one_line;
use crate::adapter::shape;
use crate::adapter::{Bound, Provisioned};
use crate::catalog::finding::suggestion;
use crate::json::{MAX_DEPTH, kind, too_deep};

use serde_json::{Map, Value};
use std::ops::ControlFlow;

/// The most that a program may print.
pub const MAX_OUTPUT: usize = 1024 * 1024;
/// Longest progress and description, in bytes; a platform shows them in a column of a table.
const LONGEST_TEXT: usize = 2048;

/// What is wrong with an output that has nothing wrong in it.
pub const NO_RESULT: &str = "printed no result";

/// The one result of a program.
pub enum Answer {
    Done(Done),
    Refused(Refused),
}

/// `{"credentials": …, "state": …}`: everything that any operation can return. It holds secrets.
#[derive(Default)]
pub struct Done {
    pub credentials: Option<Map<String, Value>>,
    pub dashboard_url: Option<String>,
    pub endpoints: Option<Vec<Value>>,
    pub metadata: Option<Map<String, Value>>,
    pub state: Option<Map<String, Value>>,
    pub syslog_drain_url: Option<String>,
    pub route_service_url: Option<String>,
    pub volume_mounts: Option<Vec<Value>>,
}

/// `{"error": …, "description": …}`.
#[derive(Debug)]
pub struct Refused {
    /// A word of the program's own; `invalid` and `unsupported` mean something to the broker.
    pub error: String,
    /// What the user reads.
    pub description: String,
    pub instance_usable: Option<bool>,
    pub update_repeatable: Option<bool>,
}

const RESULTS: [&str; 8] = [
    "credentials",
    "dashboard_url",
    "endpoints",
    "metadata",
    "route_service_url",
    "state",
    "syslog_drain_url",
    "volume_mounts",
];
const REFUSALS: [&str; 4] = [
    "description",
    "error",
    "instance_usable",
    "update_repeatable",
];

/// Reads the output as it comes. The first thing that is wrong counts; the program is left to finish its work.
#[derive(Default)]
pub struct Output {
    line: Vec<u8>,
    line_number: usize,
    size: usize,
    answer: Option<Answer>,
    fault: Option<String>,
}

impl Output {
    /// `Break` when the program has printed more than it may.
    pub fn feed(&mut self, bytes: &[u8], progress: &dyn Fn(&str)) -> ControlFlow<()> {
        self.size += bytes.len();
        if self.size > MAX_OUTPUT {
            self.line = Vec::new();
            self.fault = Some(format!("printed more than {MAX_OUTPUT} bytes"));
            return ControlFlow::Break(());
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.end_line(progress);
            }
        }
        ControlFlow::Continue(())
    }

    /// The end of the output: the result, and what is wrong with the output. Says what and where, and quotes none of it.
    pub fn close(mut self, progress: &dyn Fn(&str)) -> (Option<Answer>, Result<(), String>) {
        self.end_line(progress);
        let fault = match (self.fault, &self.answer) {
            (Some(fault), _) => Err(fault),
            (None, None) => Err(NO_RESULT.to_owned()),
            (None, Some(_)) => Ok(()),
        };
        (self.answer, fault)
    }

    fn end_line(&mut self, progress: &dyn Fn(&str)) {
        let line = std::mem::take(&mut self.line);
        self.line_number += 1;
        if line.trim_ascii().is_empty() {
            return;
        }
        let fault = match read(&line) {
            Ok(Line::Progress(text)) => return progress(&one_line(&text, LONGEST_TEXT)),
            Ok(Line::Answer(_)) if self.answer.is_some() => "is a second result".to_owned(),
            Ok(Line::Answer(answer)) => return self.answer = Some(answer),
            Err(fault) => fault,
        };
        let place = self.line_number;
        self.fault
            .get_or_insert_with(|| format!("line {place} of its output {fault}"));
    }
}

enum Line {
    Progress(String),
    Answer(Answer),
}

/// What one line says, or what is wrong with it: completes "line 1 of its output …".
fn read(line: &[u8]) -> Result<Line, String> {
    let Ok(text) = std::str::from_utf8(line) else {
        return Err("is not text in UTF-8".to_owned());
    };
    if too_deep(line) {
        return Err(format!("nests deeper than {MAX_DEPTH} levels"));
    }
    let value = serde_json::from_str::<Value>(text).map_err(|error| {
        let column = error.column();
        format!(
            "is not JSON from column {column} on; whatever is not JSON belongs on standard error"
        )
    })?;
    let Value::Object(mut object) = value else {
        return Err(format!("is {}, wanted an object", kind(&value)));
    };
    object.retain(|_, value| !value.is_null());
    let fields = Fields(object);
    if fields.0.contains_key("progress") {
        return fields.progress().map(Line::Progress);
    }
    if REFUSALS.iter().any(|key| fields.0.contains_key(*key)) {
        return fields.refused().map(|r| Line::Answer(Answer::Refused(r)));
    }
    fields.done().map(|done| Line::Answer(Answer::Done(done)))
}

/// The members of one line; null counts as absent.
struct Fields(Map<String, Value>);

impl Fields {
    fn progress(mut self) -> Result<String, String> {
        let text = self.take("progress", "a string", text)?;
        self.end()?;
        Ok(text.unwrap_or_default())
    }

    fn refused(mut self) -> Result<Refused, String> {
        let error = self.take("error", "a string", text)?;
        let description = self.take("description", "a string", text)?;
        let boolean = |value: Value| value.as_bool();
        let usable = self.take("instance_usable", "true or false", boolean)?;
        let repeatable = self.take("update_repeatable", "true or false", boolean)?;
        self.end()?;
        let told = [&description, &error].into_iter().flatten();
        let told = told
            .map(|text| one_line(text, LONGEST_TEXT))
            .find(|text| !text.is_empty());
        Ok(Refused {
            description: told
                .ok_or("has neither a \"description\" nor an \"error\" to tell")?
                .into_owned(),
            error: error.ok_or("has no \"error\" beside its other keys")?,
            instance_usable: usable,
            update_repeatable: repeatable,
        })
    }

    fn done(mut self) -> Result<Done, String> {
        let done = Done {
            credentials: self.take("credentials", "an object", object)?,
            dashboard_url: self.take("dashboard_url", "a string", text)?,
            endpoints: self.take("endpoints", "an array", array)?,
            metadata: self.take("metadata", "an object", object)?,
            state: self.take("state", "an object", object)?,
            syslog_drain_url: self.take("syslog_drain_url", "a string", text)?,
            route_service_url: self.take("route_service_url", "a string", text)?,
            volume_mounts: self.take("volume_mounts", "an array", array)?,
        };
        self.end()?;
        Ok(done)
    }

    fn take<T>(
        &mut self,
        key: &str,
        wanted: &str,
        read: impl FnOnce(Value) -> Option<T>,
    ) -> Result<Option<T>, String> {
        let Some(value) = self.0.remove(key) else {
            return Ok(None);
        };
        let found = kind(&value);
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => Err(format!("has {key:?}: found {found}, wanted {wanted}")),
        }
    }

    /// Nothing else may be there.
    fn end(self) -> Result<(), String> {
        let Some(key) = self.0.keys().next() else {
            return Ok(());
        };
        // A misspelt or misplaced key is the program's; what it holds is not told.
        let all = RESULTS.iter().chain(&REFUSALS).chain(&["progress"]);
        if all.clone().any(|other| other == key) {
            return Err(format!(
                "has {key:?}, which does not go with its other keys"
            ));
        }
        let hint = suggestion(key, all.copied());
        Err(format!("has the unknown key {:?}{hint}", one_line(key, 64)))
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn object(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(members) => Some(members),
        _ => None,
    }
}

fn array(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(items) => Some(items),
        _ => None,
    }
}

impl Done {
    /// What provision and update take of it; the rest is ignored. The error says what a platform would refuse.
    pub fn into_provisioned(mut self) -> Result<Provisioned, String> {
        if let Some(metadata) = &mut self.metadata {
            shape::accept_members(shape::INSTANCE_METADATA, metadata, "metadata")?;
        }
        Ok(Provisioned {
            dashboard_url: accept_text(self.dashboard_url, shape::DASHBOARD_URL, "dashboard_url")?,
            metadata: self.metadata,
            state: self.state,
        })
    }

    /// What bind takes of it; the rest is ignored. The error says what a platform would refuse.
    pub fn into_bound(mut self) -> Result<Bound, String> {
        if let Some(metadata) = &mut self.metadata {
            shape::accept_members(shape::BINDING_METADATA, metadata, "metadata")?;
        }
        let lists = [
            (&mut self.endpoints, shape::ENDPOINT, "endpoints"),
            (
                &mut self.volume_mounts,
                shape::VOLUME_MOUNT,
                "volume_mounts",
            ),
        ];
        for (items, shape, name) in lists {
            for (i, item) in items.iter_mut().flatten().enumerate() {
                shape.accept(item, &format!("{name}[{i}]"))?;
            }
        }
        Ok(Bound {
            credentials: self.credentials,
            syslog_drain_url: accept_text(
                self.syslog_drain_url,
                shape::SYSLOG_DRAIN_URL,
                "syslog_drain_url",
            )?,
            route_service_url: accept_text(
                self.route_service_url,
                shape::ROUTE_SERVICE_URL,
                "route_service_url",
            )?,
            volume_mounts: self.volume_mounts,
            endpoints: self.endpoints,
            metadata: self.metadata,
            state: self.state,
        })
    }
}

fn accept_text(
    text: Option<String>,
    rule: &'static crate::adapter::template::Rule,
    name: &str,
) -> Result<Option<String>, String> {
    if let Some(text) = &text {
        // Rules are about JSON values.
        rule.check(&Value::from(text.as_str()))
            .map_err(|complaint| format!("{name}: {}", complaint.text()))?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
