//! JSON Schema: whether `parameters` are what a plan declares. Only with the feature `schemas`.
//!
//! Drafts 4, 6, 7, 2019-09 and 2020-12, as `$schema` says. Nothing outside the schema is ever fetched.

use crate::json::kind;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, ValidationError, meta};
use serde_json::Value;
use std::fmt;

/// How many violations one error text names.
const MOST_VIOLATIONS: usize = 5;
/// The longest violation in an error text, in characters; a schema may hold long patterns and lists.
const LONGEST_VIOLATION: usize = 300;
/// The longest value or name from the parameters that an error text repeats, in characters.
const LONGEST_ECHO: usize = 60;
/// How much memory one compiled `pattern` may take, in bytes.
const LARGEST_PATTERN: usize = 1 << 20;

/// How often the search for one match of a `pattern` may go back and try another way. Look-ahead over a password needs a few.
const MOST_BACKTRACKS: usize = 5_000;
/// The largest `parameters` that a pattern which backtracks is applied to, in bytes of JSON. With the limit above, the
/// worst parameters cost a second at most.
const LARGEST_TO_BACKTRACK: usize = 16 * 1024;

/// A JSON schema, ready for use by many threads.
pub struct Validator {
    compiled: jsonschema::Validator,
    backtracks: bool,
}

/// Which fields of the parameters are wrong, and how.
#[derive(Debug, PartialEq)]
pub struct Unfit {
    /// For the user: `parameters.size: 11 is greater than the maximum of 10`.
    pub told: String,
    /// For the log, without what the user gave: `parameters.size: a number is greater than the maximum of 10`.
    pub logged: String,
}

impl fmt::Debug for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Validator")
    }
}

impl Validator {
    /// Compiles a schema. The error says where in the schema it is wrong, or why it cannot be used.
    ///
    /// A `pattern` is ECMA-262, and runs in time linear in the text that it is applied to, if it can. Look-around and
    /// back-references, which only a backtracking engine can do, have a limit instead.
    pub fn compile(schema: &Value) -> Result<Validator, String> {
        let draft = draft(schema)?;
        check_metaschema(schema)?;
        let options = || jsonschema::options().with_draft(draft).offline();
        let linear = PatternOptions::regex()
            .size_limit(LARGEST_PATTERN)
            .dfa_size_limit(LARGEST_PATTERN);
        let linear = options().with_pattern_options(linear).build(schema);
        if let Ok(compiled) = linear {
            return Ok(Validator {
                compiled,
                backtracks: false,
            });
        }
        let backtracking = PatternOptions::fancy_regex()
            .backtrack_limit(MOST_BACKTRACKS)
            .size_limit(LARGEST_PATTERN)
            .dfa_size_limit(LARGEST_PATTERN);
        let compiled = options().with_pattern_options(backtracking).build(schema);
        Ok(Validator {
            compiled: compiled.map_err(|error| join(violations("", schema, &error, echo)))?,
            backtracks: true,
        })
    }

    /// Checks the `parameters` of a request: `{}` where there are none.
    pub fn validate(&self, parameters: &Value) -> Result<(), Unfit> {
        if self.backtracks {
            let length = parameters.to_string().len();
            if length > LARGEST_TO_BACKTRACK {
                let told = format!(
                    "parameters: found {length} bytes, wanted at most {LARGEST_TO_BACKTRACK} for the patterns of this plan"
                );
                let logged = told.clone();
                return Err(Unfit { told, logged });
            }
        }
        // The common case is valid, and costs less so.
        if self.compiled.is_valid(parameters) {
            return Ok(());
        }
        let text = |echo: Echo| {
            let errors = self.compiled.iter_errors(parameters);
            join(errors.flat_map(|error| violations("parameters", parameters, &error, echo)))
        };
        Err(Unfit {
            told: text(echo),
            logged: text(|value| kind(value).to_owned()),
        })
    }
}

/// Whether a schema is what its `$schema` says. The error says all that is wrong, and where.
fn check_metaschema(schema: &Value) -> Result<(), String> {
    let metaschema = meta::validator_for(schema).map_err(|error| error.to_string())?;
    if metaschema.is_valid(schema) {
        return Ok(());
    }
    let errors = metaschema.iter_errors(schema);
    Err(join(
        errors.flat_map(|error| violations("", schema, &error, echo)),
    ))
}

/// The draft that `$schema` names.
fn draft(schema: &Value) -> Result<Draft, String> {
    let Some(uri) = schema.get("$schema").and_then(Value::as_str) else {
        return Err("$schema: wanted the version of JSON Schema".to_owned());
    };
    match Draft::default().detect(schema) {
        Draft::Unknown => Err(format!("$schema: {} is not known", echo_text(uri))),
        draft => Ok(draft),
    }
}

fn join(violations: impl IntoIterator<Item = String>) -> String {
    let mut violations = violations.into_iter();
    let mut texts: Vec<String> = violations.by_ref().take(MOST_VIOLATIONS).collect();
    if violations.next().is_some() {
        texts.push("and more".to_owned());
    }
    texts.join("; ")
}

/// How a message repeats the value that is wrong.
type Echo = fn(&Value) -> String;

/// What one error says, and at which fields of `document`, which is called `root`.
fn violations(
    root: &str,
    document: &Value,
    error: &ValidationError<'_>,
    wrong: Echo,
) -> Vec<String> {
    let place = place(root, document, error.instance_path().as_str());
    let at_field = |name: &str, text: &str| {
        let field = field(&place, name);
        cut(format!("{field}: {text}"))
    };
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            vec![at_field(name, "is required")]
        }
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => unexpected
            .iter()
            .map(|name| at_field(name, "is not known"))
            .collect(),
        // `additionalProperties: false` where no property is declared at all.
        ValidationErrorKind::FalseSchema
            if error
                .schema_path()
                .as_str()
                .ends_with("/additionalProperties") =>
        {
            let object = document.pointer(error.instance_path().as_str());
            let object = object.and_then(Value::as_object);
            let names = object.into_iter().flat_map(|object| object.keys());
            names.map(|name| at_field(name, "is not known")).collect()
        }
        _ if place.is_empty() => vec![cut(reason(error, wrong))],
        _ => vec![cut(format!("{place}: {}", reason(error, wrong)))],
    }
}

fn reason(error: &ValidationError<'_>, wrong: Echo) -> String {
    let value = wrong(error.instance());
    match error.kind() {
        ValidationErrorKind::FalseSchema => "is not allowed".to_owned(),
        ValidationErrorKind::Enum { options } => {
            let options = options.as_array().into_iter().flatten();
            let options: Vec<_> = options.map(echo).collect();
            format!("{value} is not one of {}", options.join(", "))
        }
        ValidationErrorKind::BacktrackLimitExceeded { .. } => {
            format!("{value} takes too long to compare with the pattern that is wanted")
        }
        ValidationErrorKind::PropertyNames { error } => format!("name {}", reason(error, wrong)),
        _ => error.masked_with(value).to_string(),
    }
}

/// A value for a message: itself if it is short, else what kind it is.
fn echo(value: &Value) -> String {
    match value {
        Value::String(text) => echo_text(text),
        Value::Array(_) | Value::Object(_) => kind(value).to_owned(),
        scalar => scalar.to_string(),
    }
}

fn echo_text(text: &str) -> String {
    match text.chars().count() {
        0..=LONGEST_ECHO => format!("{text:?}"),
        length => format!("a string of {length} characters"),
    }
}

/// `parameters.disks[2].size` for the JSON pointer `/disks/2/size`.
fn place(root: &str, document: &Value, pointer: &str) -> String {
    let (mut place, mut value) = (root.to_owned(), Some(document));
    for segment in pointer.split('/').skip(1) {
        let name = segment.replace("~1", "/").replace("~0", "~");
        value = match value {
            Some(Value::Array(items)) => {
                place.push_str(&format!("[{name}]"));
                name.parse().ok().and_then(|index: usize| items.get(index))
            }
            other => {
                place = field(&place, &name);
                other.and_then(|object| object.get(&name))
            }
        };
    }
    place
}

fn field(place: &str, name: &str) -> String {
    let dot = if place.is_empty() { "" } else { "." };
    match name.char_indices().nth(LONGEST_ECHO) {
        Some((end, _)) => format!("{place}{dot}{}…", &name[..end]),
        None => format!("{place}{dot}{name}"),
    }
}

fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(LONGEST_VIOLATION) {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests;
