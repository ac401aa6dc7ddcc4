//! The operator's file. Splits the private adapter settings off the catalog, so that they cannot be served.

mod duplicates;
mod mistakes;
mod rules;

use super::environment::Environment;
use super::expression::{Expression, unencoded};
use super::finding::Findings;
use super::{Catalog, Plan, Service, check};

pub use mistakes::decode;
use rules::Rules;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::SystemTime;

/// The `adapter` object of a plan, or of a service offering for the plans that have none of their own. Deliberately
/// neither `Serialize` nor printable: it holds secrets.
#[derive(Clone)]
pub struct Private {
    place: String,
    object: Map<String, Value>,
}

impl Private {
    /// Where it stands in the file.
    pub fn place(&self) -> &str {
        &self.place
    }

    pub fn object(&self) -> &Map<String, Value> {
        &self.object
    }
}

impl fmt::Debug for Private {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Private({}, …)", self.place)
    }
}

/// What a catalog file says.
#[derive(Debug)]
pub struct Loaded {
    pub catalog: Catalog,
    /// (index of the service offering, index of the plan in it) -> settings; plans without any are absent.
    pub adapters: HashMap<(usize, usize), Private>,
}

/// Parses and checks the catalog in a file in full; the adapters are left to be checked. What was loaded may be offered
/// only if the findings have no errors; with errors, it is there as far as it can be read, to check its adapters too.
pub fn parse(
    text: &str,
    modified: SystemTime,
    environment: Environment<'_>,
) -> (Option<Loaded>, Findings) {
    let mut findings = Findings::default();
    // Editors on Windows put a byte order mark before the text.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut document: Value = match serde_json::from_str(text) {
        Ok(document) => document,
        Err(error) => {
            findings.error("", mistakes::explain(text, &error));
            return (None, findings);
        }
    };
    duplicates::find(text, &mut findings);
    let adapters = split(&mut document, &mut findings);
    let rules = Rules::take(&mut document, &mut findings);
    let mut fill = Fill {
        environment,
        findings: &mut findings,
        unknown: HashSet::new(),
    };
    fill.value(&mut document, "");
    let unknown = fill.unknown;
    check::check(&document, &unknown, &mut findings);
    findings.sort();
    let services = take(&mut document, "services").unwrap_or_default();
    let mut services = Vec::<Service>::deserialize(&services).unwrap_or_else(|error| {
        // `check` has found whatever the types refuse, and says it better.
        if !findings.has_errors() {
            findings.error("services", error.to_string());
        }
        readable(services)
    });
    rules.give(&mut services);
    if !services.is_empty() && !services.iter().any(Service::is_offered) {
        findings.warning(
            "services",
            "every plan is retired: the catalog is served without a service offering, and Cloud Controller keeps the one \
             that it has",
        );
        findings.sort();
    }
    let catalog = Catalog::new(services, modified);
    (Some(Loaded { catalog, adapters }), findings)
}

/// What can be read of service offerings that cannot be offered as they are, each in its place: so much that their
/// adapters are checked in the same run.
fn readable(services: Value) -> Vec<Service> {
    let Value::Array(services) = services else {
        return Vec::new();
    };
    let read = services.into_iter().map(|mut service| {
        let plans = take(&mut service, "plans");
        let plans = plans.as_ref().and_then(Value::as_array);
        let least = json!({ "id": "", "name": "", "description": "" });
        let plans = plans.into_iter().flatten();
        let plans: Vec<Value> = plans.map(|plan| members::<Plan>(plan, &least)).collect();
        let least =
            json!({ "id": "", "name": "", "description": "", "bindable": true, "plans": plans });
        serde_json::from_value(members::<Service>(&service, &least))
    });
    read.flatten().collect()
}

/// `least`, and beside it each member of an object with which it can still be read.
fn members<T: DeserializeOwned>(object: &Value, least: &Value) -> Value {
    let mut readable = least.clone();
    for (key, value) in object.as_object().into_iter().flatten() {
        let mut more = readable.clone();
        more[key] = value.clone();
        if T::deserialize(&more).is_ok() {
            readable = more;
        }
    }
    readable
}

/// Takes every `adapter` out of the document: (service index, plan index) -> settings.
fn split(document: &mut Value, findings: &mut Findings) -> HashMap<(usize, usize), Private> {
    let mut adapters = HashMap::new();
    if take(document, "adapter").is_some() {
        findings.error(
            "adapter",
            "found at the top of the file, wanted in a service offering or in a plan",
        );
    }
    let services = document.get_mut("services").and_then(Value::as_array_mut);
    for (s, service) in services.into_iter().flatten().enumerate() {
        let place = format!("services[{s}]");
        let default = take_adapter(service, &place, findings);
        let plans = service.get_mut("plans").and_then(Value::as_array_mut);
        for (p, plan) in plans.into_iter().flatten().enumerate() {
            let place = format!("{place}.plans[{p}]");
            if let Some(private) = take_adapter(plan, &place, findings).or_else(|| default.clone())
            {
                adapters.insert((s, p), private);
            }
        }
    }
    adapters
}

fn take(holder: &mut Value, key: &str) -> Option<Value> {
    holder.as_object_mut()?.remove(key)
}

fn take_adapter(holder: &mut Value, place: &str, findings: &mut Findings) -> Option<Private> {
    let adapter = take(holder, "adapter");
    let place = format!("{place}.adapter");
    match adapter? {
        Value::Null => None,
        Value::Object(object) => Some(Private { place, object }),
        other => {
            let kind = crate::json::kind(&other);
            findings.error(
                place,
                format!("found {kind}, wanted an object with a \"kind\""),
            );
            None
        }
    }
}

/// Fills `${env:NAME}` and `${file:PATH}` in every string of the public part; anything else that looks like an expression
/// is kept. `unknown` gets the places of the strings whose value is not known.
struct Fill<'e, 'f> {
    environment: Environment<'e>,
    findings: &'f mut Findings,
    unknown: HashSet<String>,
}

impl Fill<'_, '_> {
    fn value(&mut self, value: &mut Value, place: &str) {
        match value {
            Value::String(text) => self.text(text, place),
            Value::Array(items) => {
                for (i, item) in items.iter_mut().enumerate() {
                    self.value(item, &format!("{place}[{i}]"));
                }
            }
            Value::Object(object) => {
                for (key, item) in object {
                    let dot = if place.is_empty() { "" } else { "." };
                    self.value(item, &format!("{place}{dot}{key}"));
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &mut String, place: &str) {
        let refuse = |expression: &Expression<'_>| {
            let is_fine = expression.is_public || is_meant_for_secrets(place);
            (!is_fine).then(|| {
                let name = expression.name;
                format!(
                    "${{{name}}} would be served to everybody who may read the catalog; wanted it under \"adapter\", or \
                     ${{{name}|public}} if it is no secret"
                )
            })
        };
        match self.environment.fill(text, refuse) {
            Ok(filled) => {
                for warning in unencoded(text, |found| !found.is_outside()) {
                    self.findings.warning(place, warning);
                }
                if !filled.is_known {
                    self.unknown.insert(place.to_owned());
                }
                if let Cow::Owned(filled) = filled.text {
                    *text = filled;
                }
            }
            Err(error) => {
                self.findings.error(place, error);
                self.unknown.insert(place.to_owned());
            }
        }
    }
}

/// spec: profile, Dashboard Client Object: "A secret for the dashboard client".
fn is_meant_for_secrets(place: &str) -> bool {
    let mut parts = place.split('.');
    let service = parts
        .next()
        .is_some_and(|part| part.starts_with("services["));
    service && parts.eq(["dashboard_client", "secret"])
}

#[cfg(test)]
mod tests;
