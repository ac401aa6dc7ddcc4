//! Every rule that the specification, Cloud Controller and Korifi apply to a catalog.
//!
//! The rules are tables (`tables`); here is what walks them. Nothing that passes may be refused by the types of
//! [`super`] afterwards.

mod draft04;
mod parameters;
mod private;
mod tables;
#[cfg(test)]
mod tests;
mod values;

use super::finding::{Findings, Severity, misspelling};
use crate::json::kind;
use tables::{CATALOG, Field, Object, Others, Presence, Rule, Unique};

use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fmt::{Display, Write};

/// How much of a wrong value a message repeats, in characters.
const ECHO: usize = 60;

/// Checks the public part of a catalog file: what will be served, adapter settings already taken out. Adds everything
/// that is wrong to `findings`, each with its place. Without errors, the services can be read as
/// [`Service`](super::Service)s. `unknown` are the places of strings whose value is not known, which can be anything.
pub fn check(document: &Value, unknown: &HashSet<String>, findings: &mut Findings) {
    let mut checker = Checker {
        findings,
        unknown,
        place: String::new(),
        seen: HashMap::new(),
    };
    match document {
        Value::Object(catalog) => checker.object(catalog, &CATALOG),
        other => checker.wrong_kind(other, "an object with \"services\""),
    }
}

struct Checker<'d, 'f> {
    findings: &'f mut Findings,
    unknown: &'f HashSet<String>,
    /// Where in the document the check is.
    place: String,
    /// Values that must be unique, with those they must differ from: -> the place of the first.
    seen: HashMap<(String, &'d str), String>,
}

impl<'d> Checker<'d, '_> {
    fn error(&mut self, text: impl Into<String>) {
        self.add(Severity::Error, text);
    }

    fn warning(&mut self, text: impl Into<String>) {
        self.add(Severity::Warning, text);
    }

    fn add(&mut self, severity: Severity, text: impl Into<String>) {
        if !self.unknown.contains(&self.place) {
            self.findings.add(severity, self.place.as_str(), text);
        }
    }

    /// Does `inner` at a place further down.
    fn within(&mut self, segment: impl Display, inner: impl FnOnce(&mut Self)) {
        let outer = self.place.len();
        // Writing to a String cannot fail.
        let _ = write!(self.place, "{segment}");
        inner(self);
        self.place.truncate(outer);
    }

    fn within_key(&mut self, key: &str, inner: impl FnOnce(&mut Self)) {
        let dot = if self.place.is_empty() { "" } else { "." };
        self.within(format_args!("{dot}{key}"), inner);
    }

    fn each(&mut self, items: &'d [Value], mut inner: impl FnMut(&mut Self, &'d Value)) {
        for (i, item) in items.iter().enumerate() {
            self.within(format_args!("[{i}]"), |this| inner(this, item));
        }
    }

    fn object(&mut self, object: &'d Map<String, Value>, table: &'static Object) {
        for field in table.fields {
            self.within_key(field.name, |this| this.field(object.get(field.name), field));
        }
        self.other_keys(object, table);
        if let Some(longest) = table.longest {
            let length = length_as_json(object);
            if length > longest {
                self.error(format!(
                    "found {length} characters as JSON; Cloud Controller refuses more than {longest}"
                ));
            }
        }
    }

    fn field(&mut self, value: Option<&'d Value>, field: &'static Field) {
        let value = match (value, field.presence) {
            (None | Some(Value::Null), Presence::Required) => {
                let found = if value.is_none() { "nothing" } else { "null" };
                let wanted = field.rule.wanted();
                return self.error(format!("found {found}, wanted {wanted}{}", field.note));
            }
            (Some(Value::Null), Presence::Optional) | (None, _) => return,
            (Some(value), _) => value,
        };
        self.rule(value, &field.rule, field);
        // Blank ones are wrong already.
        let text = value.as_str().filter(|text| !text.trim().is_empty());
        if let (Some(unique), Some(text)) = (field.unique, text) {
            self.unique(text, unique);
        }
    }

    fn rule(&mut self, value: &'d Value, rule: &'static Rule, field: &'static Field) {
        match (rule, value) {
            (Rule::Boolean, Value::Bool(_)) | (Rule::Text, Value::String(_)) => {}
            (Rule::Seconds, Value::Number(number)) => self.seconds(number),
            (Rule::NotBlank, Value::String(text)) => self.not_blank(text),
            (Rule::Id, Value::String(text)) => self.id(text),
            (Rule::Name, Value::String(text)) => self.name(text),
            (Rule::Description, Value::String(text)) => self.description(text),
            (Rule::Version, Value::String(text)) => self.version(text),
            (Rule::Tags, Value::Array(tags)) => self.tags(tags),
            (Rule::Permissions, Value::Array(items)) => self.each(items, Self::permission),
            (Rule::Object(table), Value::Object(object)) => self.object(object, table),
            (Rule::Schemas(table), Value::Object(object)) => self.schemas(object, table),
            (Rule::JsonSchema, Value::Object(schema)) => self.json_schema(value, schema),
            (Rule::Objects(table, item), Value::Array(items)) => {
                if items.is_empty() {
                    let note = field.note;
                    self.error(format!("found none, wanted at least one {item}{note}"));
                }
                self.each(items, |this, item| match item {
                    Value::Object(object) => this.object(object, table),
                    other => this.wrong_kind(other, "an object"),
                });
            }
            (Rule::List(rule), Value::Array(items)) => {
                self.each(items, |this, item| this.rule(item, rule, field));
            }
            (_, other) => {
                let (found, wanted) = (kind(other), rule.wanted());
                let text = format!("found {found}, wanted {wanted}{}", field.note);
                self.add(field.severity, text);
            }
        }
    }

    fn wrong_kind(&mut self, found: &Value, wanted: &str) {
        self.error(format!("found {}, wanted {wanted}", kind(found)));
    }

    /// The place is that of a field; its value must be the only one of its kind in the catalog, or in the list that
    /// its object is in.
    fn unique(&mut self, value: &'d str, unique: Unique) {
        if self.unknown.contains(&self.place) {
            return;
        }
        let place = self.place.as_str();
        let among = match (unique, place.rfind('[')) {
            (Unique::Siblings, Some(list)) => place[..list].to_owned(),
            // services[0].plans[2].id -> services[].plans[].id; no name of a field has digits.
            _ => place.replace(|c: char| c.is_ascii_digit(), ""),
        };
        let holder = place.rfind('.').map_or(place, |dot| &place[..dot]);
        match self.seen.entry((among, value)) {
            Entry::Vacant(first) => {
                first.insert(holder.to_owned());
            }
            Entry::Occupied(first) => {
                let text = format!("repeats {} of {}", quoted(value), first.get());
                self.error(text);
            }
        }
    }

    fn other_keys(&mut self, object: &'d Map<String, Value>, table: &'static Object) {
        let known = |name: &str| table.fields.iter().any(|field| field.name == name);
        for (key, value) in object.iter().filter(|(key, _)| !known(key)) {
            let rules = match table.others {
                Others::Served { .. } => &private::RULES[..],
                _ => &[],
            };
            let names = table.fields.iter().map(|field| field.name);
            let meant = misspelling(key, names.chain(rules.iter().copied()));
            let hint = meant.map_or(String::new(), |name| format!(", did you mean \"{name}\"?"));
            self.within_key(key, |this| match table.others {
                Others::CloudControllerRefuses => {
                    let names: Vec<_> = table.fields.iter().map(|field| field.name).collect();
                    let names = names.join(" and ");
                    this.error(format!(
                        "unknown key{hint}; Cloud Controller refuses all but {names}"
                    ));
                }
                Others::Dropped => this.warning(format!("unknown key, is not served{hint}")),
                Others::Extensions if meant.is_some() => {
                    this.warning(format!("unknown key{hint}"));
                }
                Others::Extensions => {}
                Others::Served { elsewhere, owner } => {
                    if private::is_private(key, value) {
                        // An error, wherever it stands.
                    } else if elsewhere.fields.iter().any(|field| field.name == key) {
                        this.warning(format!("a field of {owner}, which no platform reads here"));
                    } else {
                        this.key_is_served(&hint);
                    }
                }
            });
        }
        if let Others::Served { .. } = table.others {
            self.private_keys(object);
        }
    }
}

/// How many characters a value has as compact JSON text.
fn length_as_json(value: &impl Serialize) -> usize {
    // What serde_json's own values hold can always be rendered.
    serde_json::to_string(value).map_or(0, |text| text.chars().count())
}

/// A text for a message: in quotes, and not too long.
fn quoted(text: &str) -> String {
    match text.char_indices().nth(ECHO) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}
