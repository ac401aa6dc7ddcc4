//! What belongs under `adapter` and stands where everybody who may read the catalog is served it.

use super::Checker;
use crate::catalog::finding::{Severity, misspelling};

use serde_json::{Map, Value};

/// Whatever ends in one of these holds secrets, at any depth: `broker_adapter`, `dbCredentials`.
const SECRET: [&str; 2] = ["adapter", "credentials"];
/// Settings that belong beside or below `adapter.kind`. Further down, in `metadata`, they are words like any other.
const SETTINGS: [&str; 5] = ["binding", "instance", "kind", "command", "env"];
/// What stands beside `adapter` and is not served. It is taken out before anything is checked.
pub(super) const RULES: [&str; 4] = ["retired", "unbind_expired", "retain", "limits"];
/// Fields of a service offering or plan that hold objects of another kind: plans are looked at one by one, and the
/// parameters of a schema can have any name.
const OTHERS: [&str; 2] = ["plans", "schemas"];

/// Whether a key of a service offering or plan that the specification does not know belongs under `adapter`.
pub(super) fn is_private(key: &str, value: &Value) -> bool {
    is_setting(key) || is_secret(key) || is_adapter(value)
}

fn is_setting(key: &str) -> bool {
    SETTINGS.contains(&key) || misspelling(key, SETTINGS).is_some()
}

fn is_secret(key: &str) -> bool {
    let word = last_word(key);
    SECRET.contains(&word) || misspelling(word, SECRET).is_some()
}

/// Whether an object reads like the settings of an adapter, whatever it is called.
fn is_adapter(value: &Value) -> bool {
    let object = |key: &str| value.get(key).is_some_and(Value::is_object);
    value.get("kind").is_some_and(Value::is_string)
        && (["binding", "credentials"].into_iter().any(object)
            || value.get("command").is_some_and(Value::is_array))
}

/// `adapter` of `broker_adapter`, `brokerAdapter` and `//adapter`.
fn last_word(key: &str) -> &str {
    let key = key.trim_end_matches(|c: char| !c.is_alphabetic());
    let mut start = 0;
    let mut before = ' ';
    for (at, c) in key.char_indices() {
        if !before.is_alphabetic() || before.is_lowercase() && c.is_uppercase() {
            start = at;
        }
        before = c;
    }
    &key[start..]
}

impl<'d> Checker<'d, '_> {
    /// Reports what would be served of a service offering or plan, although it belongs under `adapter`.
    pub(super) fn private_keys(&mut self, holder: &'d Map<String, Value>) {
        for (key, value) in holder {
            if OTHERS.contains(&key.as_str()) {
                continue;
            }
            self.within_key(key, |this| {
                if is_private(key, value) {
                    this.is_private(key);
                } else {
                    this.private_members(value);
                }
            });
        }
    }

    fn private_members(&mut self, value: &'d Value) {
        match value {
            Value::Array(items) => self.each(items, Self::private_members),
            Value::Object(members) => {
                for (key, value) in members {
                    self.within_key(key, |this| {
                        if is_secret(key) || is_adapter(value) {
                            this.is_private(key);
                        } else {
                            this.private_members(value);
                        }
                    });
                }
            }
            _ => {}
        }
    }

    fn is_private(&mut self, key: &str) {
        let is_within = is_setting(key) || last_word(key).to_lowercase().starts_with("cred");
        let wanted = if is_within {
            "wanted it under \"adapter\""
        } else {
            "wanted it in a service offering or plan, called \"adapter\""
        };
        let text = format!(
            "looks like settings of an adapter, and would be served to everybody who may read the catalog; {wanted}"
        );
        self.always(Severity::Error, text);
    }

    /// A key of a service offering or plan that neither the specification nor the profile knows.
    pub(super) fn key_is_served(&mut self, hint: &str) {
        let text = format!("unknown key, served to everybody who may read the catalog{hint}");
        self.always(Severity::Warning, text);
    }

    /// What is said of a key holds whatever its value is.
    fn always(&mut self, severity: Severity, text: String) {
        self.findings.add(severity, self.place.as_str(), text);
    }
}
