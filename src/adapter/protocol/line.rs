//! What one line says, or one object over several: a progress, or the one result.

use super::messages::one_line;
use crate::adapter::shape;
use crate::adapter::{Bound, Provisioned};
use crate::catalog::finding::suggestion;
use crate::json::{MAX_DEPTH, kind, too_deep};

use serde_json::{Map, Value};

/// Longest progress and description, in bytes; a platform shows them in a column of a table.
pub const LONGEST_TEXT: usize = 2048;

/// The one result.
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

/// What is wrong with an output: says what and where, and quotes no value of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// In words of the broker's own.
    pub told: String,
    /// For the operator: with the names that the program made up.
    pub detail: String,
}

impl From<String> for Fault {
    fn from(text: String) -> Fault {
        Fault {
            told: text.clone(),
            detail: text,
        }
    }
}

pub enum Line {
    Progress(String),
    Answer(Answer),
}

pub enum Wrong {
    /// Where, counted from 1, with the lines of the text.
    Json { line: usize, column: usize },
    /// Completes "line 1 of its output …".
    Content(Fault),
}

impl<F: Into<Fault>> From<F> for Wrong {
    fn from(fault: F) -> Wrong {
        Wrong::Content(fault.into())
    }
}

/// What one line, or one object over several, says.
pub fn read(text: &[u8]) -> Result<Line, Wrong> {
    let Ok(text) = std::str::from_utf8(text) else {
        return Err("is not text in UTF-8".to_owned().into());
    };
    if too_deep(text.as_bytes()) {
        return Err(format!("nests deeper than {MAX_DEPTH} levels").into());
    }
    let value = serde_json::from_str::<Value>(text.trim_end()).map_err(|error| Wrong::Json {
        line: error.line(),
        column: error.column(),
    })?;
    let Value::Object(mut object) = value else {
        return Err(format!("is {}, wanted an object", kind(&value)).into());
    };
    object.retain(|_, value| !value.is_null());
    let fields = Fields(object);
    if fields.0.contains_key("progress") {
        return Ok(Line::Progress(fields.progress()?));
    }
    if REFUSALS.iter().any(|key| fields.0.contains_key(*key)) {
        return Ok(Line::Answer(Answer::Refused(fields.refused()?)));
    }
    Ok(Line::Answer(Answer::Done(fields.done()?)))
}

/// The members of one line; null counts as absent.
struct Fields(Map<String, Value>);

impl Fields {
    fn progress(mut self) -> Result<String, Fault> {
        let text = self.take("progress", "a string", text)?;
        self.end()?;
        Ok(text.unwrap_or_default())
    }

    fn refused(mut self) -> Result<Refused, Fault> {
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
                .ok_or_else(|| "has neither a \"description\" nor an \"error\" to tell".to_owned())?
                .into_owned(),
            error: error.ok_or_else(|| "has no \"error\" beside its other keys".to_owned())?,
            instance_usable: usable,
            update_repeatable: repeatable,
        })
    }

    fn done(mut self) -> Result<Done, Fault> {
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
    fn end(self) -> Result<(), Fault> {
        let Some(key) = self.0.keys().next() else {
            return Ok(());
        };
        // A misspelt or misplaced key is the program's; what it holds is not told.
        let all = RESULTS.iter().chain(&REFUSALS).chain(&["progress"]);
        if all.clone().any(|other| other == key) {
            return Err(format!("has {key:?}, which does not go with its other keys").into());
        }
        let hint = suggestion(key, all.copied());
        Err(Fault {
            told: "has an unknown key".to_owned(),
            detail: format!("has the unknown key {:?}{hint}", one_line(key, 64)),
        })
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
