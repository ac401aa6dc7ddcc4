//! One line of the list: what its operator says of an instance or a binding. Complaints name fields, and no value.

use crate::broker::protocol::binding::record::Answer;
use crate::broker::protocol::body::{self, Field};
use crate::broker::protocol::error::Error;
use crate::catalog::finding::suggestion;
use crate::http::target::check_id;
use crate::json::{self, Object};

use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

const OF_BOTH: [&str; 9] = [
    "instance_id",
    "service_id",
    "service",
    "plan_id",
    "plan",
    "context",
    "parameters",
    "metadata",
    "state",
];
const OF_INSTANCES: [&str; 4] = [
    "organization_guid",
    "space_guid",
    "dashboard_url",
    "maintenance_info",
];
const OF_BINDINGS: [&str; 8] = [
    "binding_id",
    "app_guid",
    "bind_resource",
    "credentials",
    "syslog_drain_url",
    "route_service_url",
    "volume_mounts",
    "endpoints",
];

pub struct Listed<'a> {
    fields: BTreeMap<String, &'a RawValue>,
    pub instance_id: String,
    pub binding_id: Option<String>,
}

impl<'a> Listed<'a> {
    pub fn parse(text: &'a [u8]) -> Result<Listed<'a>, String> {
        let text = std::str::from_utf8(text).map_err(|_| "found bytes that are not UTF-8")?;
        if json::too_deep(text.as_bytes()) {
            return Err(format!("nests deeper than {} levels", json::MAX_DEPTH));
        }
        if !text.trim_start().starts_with('{') {
            return Err("wanted a JSON object".to_owned());
        }
        // The parser's words may repeat the text.
        let fields: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(|error| {
            format!(
                "not a JSON object on one line: see column {}",
                error.column()
            )
        })?;
        let mut listed = Listed {
            fields,
            instance_id: String::new(),
            binding_id: None,
        };
        listed.instance_id = listed.id("instance_id")?;
        if listed.fields.contains_key("binding_id") {
            listed.binding_id = Some(listed.id("binding_id")?);
        }
        listed.refuse_unknown()?;
        Ok(listed)
    }

    fn id(&self, name: &str) -> Result<String, String> {
        let id = self.required(name)?;
        check_id(name, &id).map_err(told)?;
        Ok(id.into_owned())
    }

    fn refuse_unknown(&self) -> Result<(), String> {
        let own = match self.binding_id {
            Some(_) => &OF_BINDINGS[..],
            None => &OF_INSTANCES[..],
        };
        let known = || OF_BOTH.iter().chain(own).copied();
        for name in self.fields.keys() {
            if !known().any(|known| known == name) {
                let what = match self.binding_id {
                    Some(_) => "a binding",
                    None => "a service instance",
                };
                let hint = suggestion(name, known());
                return Err(format!("{name}: unknown field of {what}{hint}"));
            }
        }
        Ok(())
    }

    fn field(&self, name: &str) -> Field<'a> {
        self.fields.get(name).copied()
    }

    pub fn has_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.fields.contains_key(*name))
    }

    pub fn required(&self, name: &str) -> Result<Cow<'a, str>, String> {
        body::required_string(name, self.field(name)).map_err(told)
    }

    pub fn string(&self, name: &str) -> Result<Option<Cow<'a, str>>, String> {
        body::optional_string(name, self.field(name)).map_err(told)
    }

    pub fn object(&self, name: &str) -> Result<Field<'a>, String> {
        body::optional_object(name, self.field(name)).map_err(told)
    }

    fn array(&self, name: &str) -> Result<Option<Box<RawValue>>, String> {
        let Some(raw) = self.field(name).filter(|raw| raw.get() != "null") else {
            return Ok(None);
        };
        match raw.get().starts_with('[') && json::check(raw.get()).is_ok() {
            true => Ok(Some(raw.to_owned())),
            false => Err(format!("{name}: wanted an array")),
        }
    }

    pub fn maintenance_version(&self) -> Result<Option<String>, String> {
        let version = body::maintenance_version(self.field("maintenance_info"));
        Ok(version.map_err(told)?.map(Cow::into_owned))
    }

    /// `bind_resource.app_guid`, else `app_guid`, as in a request.
    pub fn app_guid(&self) -> Result<Option<Cow<'a, str>>, String> {
        let resource = Object::new(self.object("bind_resource")?).to_map();
        match resource.get("app_guid").and_then(Value::as_str) {
            Some(app) if !app.is_empty() => Ok(Some(Cow::Owned(app.to_owned()))),
            _ => self.string("app_guid"),
        }
    }

    /// What the app was given, if the line says anything of it.
    pub fn answer(&self) -> Result<Option<Answer>, String> {
        let answer = Answer {
            metadata: self
                .object("metadata")?
                .map(|raw| Object::new(Some(raw)).to_map()),
            credentials: self.object("credentials")?.map(RawValue::to_owned),
            syslog_drain_url: self.string("syslog_drain_url")?.map(Cow::into_owned),
            route_service_url: self.string("route_service_url")?.map(Cow::into_owned),
            volume_mounts: self.array("volume_mounts")?,
            endpoints: self.array("endpoints")?,
        };
        Ok(Some(answer).filter(gives))
    }
}

/// Whether an app can do anything with it.
pub fn gives(answer: &Answer) -> bool {
    answer.credentials.is_some()
        || answer.syslog_drain_url.is_some()
        || answer.route_service_url.is_some()
        || answer.volume_mounts.is_some()
}

/// A complaint, without the period at its end and without what users gave.
pub fn told(error: Error) -> String {
    error.for_log().trim_end_matches('.').to_owned()
}
