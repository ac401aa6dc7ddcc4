//! What worlds-simplest-service-broker makes of its environment, as a catalog file.
//!
//! Its versions differ: 1.0 reads the name of the plan in `SERVICE_PLAN`, and serves `TAGS` and `SYSLOG_DRAIN_URL`. Those
//! from 1.1.0 on read `SERVICE_PLAN_NAME`, and do nothing with the other two. Ids are those of the newest version, since
//! platforms know them; tags and log drain are served, as its pages promise to this day.

use crate::json;

use serde::Serialize;
use serde_json::{Map, Value};
use std::ffi::OsString;

/// The catalog file, and what its operator has to know of it.
pub struct Imported {
    pub file: String,
    pub notes: Vec<String>,
}

type Environment<'e> = &'e dyn Fn(&str) -> Option<OsString>;

/// What the original takes for a variable that is not set or empty.
const DEFAULTS: [(&str, &str); 4] = [
    ("BASE_GUID", "29140B3F-0E69-4C7E-8A35"),
    ("SERVICE_NAME", "some-service-name"),
    ("SERVICE_PLAN_NAME", "shared"),
    ("CREDENTIALS", "{\"port\": \"4000\"}"),
];

/// Which variables are behind a place of the file.
const SOURCES: [(&str, &str); 11] = [
    (
        "services[0].plans[0].adapter.binding.credentials",
        "CREDENTIALS",
    ),
    (
        "services[0].plans[0].adapter.binding.syslog_drain_url",
        "SYSLOG_DRAIN_URL",
    ),
    ("services[0].plans[0].id", "BASE_GUID, SERVICE_PLAN_NAME"),
    ("services[0].plans[0].name", "SERVICE_PLAN_NAME"),
    ("services[0].plans[0].description", "SERVICE_NAME"),
    ("services[0].id", "BASE_GUID, SERVICE_NAME"),
    ("services[0].tags", "TAGS"),
    ("services[0].metadata.imageUrl", "IMAGE_URL"),
    ("services[0].name", "SERVICE_NAME"),
    ("services[0].description", "SERVICE_NAME"),
    ("services[0].metadata.displayName", "SERVICE_NAME"),
];

/// The variables that a finding of `check` comes from.
pub fn source(place: &str) -> Option<&'static str> {
    let found = SOURCES.iter().find(|(prefix, _)| place.starts_with(prefix));
    found.map(|(_, variables)| *variables)
}

/// In this order they stand in the file.
#[derive(Serialize)]
struct Catalog {
    services: [Service; 1],
}

#[derive(Serialize)]
struct Service {
    id: String,
    name: String,
    description: String,
    bindable: bool,
    instances_retrievable: bool,
    bindings_retrievable: bool,
    plan_updateable: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    requires: &'static [&'static str],
    metadata: Metadata,
    plans: [Plan; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    display_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_url: Option<String>,
}

#[derive(Serialize)]
struct Plan {
    id: String,
    name: String,
    description: String,
    free: bool,
    adapter: Adapter,
}

#[derive(Serialize)]
struct Adapter {
    kind: &'static str,
    binding: Binding,
}

#[derive(Serialize)]
struct Binding {
    credentials: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    syslog_drain_url: Option<String>,
}

/// The error has a line for everything that is wrong.
pub fn import(environment: Environment<'_>) -> Result<Imported, Vec<String>> {
    let mut reader = Reader {
        environment,
        notes: Vec::new(),
        errors: Vec::new(),
    };
    let found = reader.catalog();
    reader.tell_of_the_rest();
    if !reader.errors.is_empty() {
        return Err(reader.errors);
    }
    // Maps and strings alone: nothing that JSON cannot say.
    let text = found.and_then(|catalog| serde_json::to_string_pretty(&catalog).ok());
    let text = text.ok_or_else(|| vec!["CREDENTIALS: cannot be written as JSON".to_owned()])?;
    Ok(Imported {
        file: text + "\n",
        notes: reader.notes,
    })
}

struct Reader<'e> {
    environment: Environment<'e>,
    notes: Vec<String>,
    errors: Vec<String>,
}

impl Reader<'_> {
    fn note(&mut self, text: impl std::fmt::Display) {
        self.notes.push(format!("note: {text}"));
    }

    /// An empty variable is as unset.
    fn get(&mut self, name: &str) -> Option<String> {
        let value = (self.environment)(name).filter(|value| !value.is_empty())?;
        let text = value.into_string();
        if text.is_err() {
            self.errors.push(format!(
                "{name}: found bytes that are not UTF-8, wanted text"
            ));
        }
        text.ok()
    }

    fn is(&mut self, name: &str) -> bool {
        self.get(name).as_deref() == Some("true")
    }

    fn catalog(&mut self) -> Option<Catalog> {
        let values = DEFAULTS.map(|(name, _)| self.get(name));
        if values.iter().all(Option::is_none) && self.errors.is_empty() {
            let names = DEFAULTS.map(|(name, _)| name).join(", ");
            self.errors.push(format!(
                "found none of {names}; wanted the environment of a worlds-simplest-service-broker"
            ));
        }
        for ((name, default), value) in DEFAULTS.iter().zip(&values) {
            if value.is_none() {
                self.note(format_args!(
                    "{name}: not set; took {default}, as the original does"
                ));
            }
        }
        let or_default = |(value, (_, default)): (Option<String>, (_, &str))| {
            value.unwrap_or_else(|| default.to_owned())
        };
        let mut values = values.into_iter().zip(DEFAULTS).map(or_default);
        let [guid, name, plan, credentials] =
            std::array::from_fn(|_| values.next().unwrap_or_default());
        let credentials = self.credentials(&credentials);
        let tags = self.tags();
        let drain = self.drain();
        let is_retrievable = self.is("FAKE_STATEFUL");
        let description = format!("Shared service for {name}");
        Some(Catalog {
            services: [Service {
                id: public(&format!("{guid}-service-{name}")),
                name: public(&name),
                description: public(&description),
                bindable: true,
                instances_retrievable: is_retrievable,
                bindings_retrievable: is_retrievable,
                plan_updateable: false,
                tags,
                requires: drain.as_ref().map_or(&[], |_| &["syslog_drain"]),
                metadata: Metadata {
                    display_name: public(&name),
                    image_url: self.get("IMAGE_URL").map(|url| public(&url)),
                },
                plans: [Plan {
                    id: public(&format!("{guid}-plan-{plan}")),
                    name: public(&plan),
                    description: public(&description),
                    free: true,
                    adapter: Adapter {
                        kind: "shared",
                        binding: Binding {
                            credentials: credentials?,
                            syslog_drain_url: drain,
                        },
                    },
                }],
            }],
        })
    }

    /// Never with their content.
    fn credentials(&mut self, text: &str) -> Option<Map<String, Value>> {
        let wanted = "wanted a JSON object, as in {\"uri\": \"…\"}";
        match serde_json::from_str(text) {
            Ok(Value::Object(mut credentials)) => {
                credentials.values_mut().for_each(escape);
                return Some(credentials);
            }
            Ok(other) => {
                let found = json::kind(&other);
                self.errors
                    .push(format!("CREDENTIALS: found {found}, {wanted}"));
            }
            Err(error) => self.errors.push(format!(
                "CREDENTIALS: not valid JSON (line {}, column {}), {wanted}",
                error.line(),
                error.column()
            )),
        }
        None
    }

    fn tags(&mut self) -> Vec<String> {
        let Some(text) = self.get("TAGS") else {
            return Vec::new();
        };
        self.note(
            "TAGS: served as tags, as the original's pages say; its versions from 1.1.0 on serve none. Unset it to serve none",
        );
        let tags = text.split(',').map(str::trim).filter(|tag| !tag.is_empty());
        tags.map(public).collect()
    }

    fn drain(&mut self) -> Option<String> {
        let mut url = Value::String(self.get("SYSLOG_DRAIN_URL")?);
        self.note(
            "SYSLOG_DRAIN_URL: new bindings send the logs of their app there, as the original's pages say; its versions from \
             1.1.0 on do not. Unset it to leave it out",
        );
        escape(&mut url);
        url.as_str().map(str::to_owned)
    }

    /// What a catalog file has no place for.
    fn tell_of_the_rest(&mut self) {
        if let Some(plan) = self.get("SERVICE_PLAN")
            && self.get("SERVICE_PLAN_NAME").as_ref() != Some(&plan)
        {
            self.notes.push(format!(
                "warning: SERVICE_PLAN: found {plan:?}, and took SERVICE_PLAN_NAME, as the versions from 1.1.0 on do; if yours \
                 is 1.0, set SERVICE_PLAN_NAME to it, or the plan has another id"
            ));
        }
        if self.is("FAKE_ASYNC") {
            self.note(
                "FAKE_ASYNC: there is nothing to wait for; the adapter \"shared\" answers at once",
            );
        }
        match (self.get("AUTH_USER"), self.get("AUTH_PASSWORD")) {
            (Some(_), Some(_)) => self.note(
                "AUTH_USER, AUTH_PASSWORD: not of the catalog; brokerlet reads both, or BROKER_USERNAME and BROKER_PASSWORD",
            ),
            _ => self.note(
                "AUTH_USER, AUTH_PASSWORD: not both set, so the original has no password; brokerlet wants BROKER_USERNAME and \
                 BROKER_PASSWORD, and the platform has to be told",
            ),
        }
        match self.get("PORT") {
            Some(_) => self.note("PORT: not of the catalog; brokerlet reads it"),
            None => self.note("PORT: not set; the original listens on 3000, brokerlet on 5000"),
        }
    }
}

/// A string that is filled in at each call: `${` begins an expression.
fn escape(value: &mut Value) {
    match value {
        Value::String(text) => *text = text.replace("${", "$${"),
        Value::Array(items) => items.iter_mut().for_each(escape),
        Value::Object(members) => members.values_mut().for_each(escape),
        _ => {}
    }
}

/// A string that is served: only these two mean something in it.
fn public(text: &str) -> String {
    text.replace("${env:", "$${env:")
        .replace("${file:", "$${file:")
}
