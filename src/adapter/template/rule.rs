//! What a value must keep to, for whoever reads the answer.

use crate::json;

use serde_json::Value;

/// What a rendered value must be.
pub enum Rule {
    Text {
        /// Completes "wanted …".
        wanted: &'static str,
        holds: fn(&str) -> bool,
        /// In characters.
        longest: usize,
    },
    Object,
}

/// Why a value will not do. Never quotes the value.
#[derive(Debug, PartialEq, Eq)]
pub enum Complaint {
    Wrong(String),
    TooLong(String),
}

impl Complaint {
    pub fn text(self) -> String {
        match self {
            Complaint::Wrong(text) | Complaint::TooLong(text) => text,
        }
    }
}

impl Rule {
    pub fn wanted(&self) -> &'static str {
        match self {
            Rule::Text { wanted, .. } => wanted,
            Rule::Object => "an object",
        }
    }

    pub fn check(&self, value: &Value) -> Result<(), Complaint> {
        let found = match (self, value) {
            (Rule::Object, Value::Object(_)) => return Ok(()),
            (Rule::Text { holds, longest, .. }, Value::String(text)) => {
                let is_short = text.len() <= *longest || text.chars().count() <= *longest;
                match (is_short, holds(text)) {
                    (true, true) => return Ok(()),
                    (false, _) => {
                        return Err(Complaint::TooLong(format!(
                            "found {} characters, wanted at most {longest}",
                            text.chars().count()
                        )));
                    }
                    _ if text.is_empty() => "an empty string",
                    _ => "another string",
                }
            }
            _ => json::kind(value),
        };
        let wanted = self.wanted();
        Err(Complaint::Wrong(format!("found {found}, wanted {wanted}")))
    }
}
