//! Records as the commands look at them: JSON, of which they want a few fields.

use super::Failed;
use super::names::Names;
use crate::store::inspect::Inspect;
use crate::store::{Key, Record};

use serde_json::{Map, Value, json};

/// A record that is there.
pub(super) enum Found {
    Record(Shown),
    /// What is left of a record that was deleted: since when.
    Tombstone(String),
    /// What is wrong with it.
    Unreadable(String),
}

/// A service instance or binding.
pub(super) struct Shown(Value);

impl Found {
    pub fn parse(body: &[u8]) -> Found {
        match serde_json::from_slice::<Value>(body) {
            // The parser's words name a place, and no content.
            Err(error) => Found::Unreadable(format!(
                "no JSON: {:?} in column {}",
                error.classify(),
                error.column()
            )),
            Ok(value) if value.get("gone").is_some() => {
                Found::Tombstone(value["gone"].as_str().unwrap_or_default().to_owned())
            }
            Ok(value) => {
                let shown = Shown(value);
                let wanted = [
                    "/service_id",
                    "/plan_id",
                    "/operation/kind",
                    "/operation/state",
                ];
                match wanted.iter().find(|place| shown.text(place).is_none()) {
                    Some(place) => {
                        let place = place[1..].replace('/', ".");
                        Found::Unreadable(format!("{place}: found no text"))
                    }
                    None => Found::Record(shown),
                }
            }
        }
    }
}

/// What may be secret in a record: what users and adapters give.
const SECRET: [&str; 9] = [
    "/answer/credentials",
    "/answer/syslog_drain_url",
    "/answer/route_service_url",
    "/answer/volume_mounts",
    "/dashboard_url",
    "/parameters",
    "/state",
    "/update/parameters",
    "/sealed",
];
const HIDDEN: &str = "(hidden)";

impl Shown {
    pub fn text(&self, place: &str) -> Option<&str> {
        self.0.pointer(place)?.as_str()
    }

    /// As in `update succeeded`.
    pub fn operation(&self) -> String {
        let part = |place| self.text(place).unwrap_or("-");
        let mut text = format!("{} {}", part("/operation/kind"), part("/operation/state"));
        if let Some(until) = self.text("/kept/until") {
            text += &format!(", kept until {until}");
        }
        if self.text("/protected/since").is_some() {
            text += ", protected";
        }
        text
    }

    /// The version of its plan's maintenance information, if an instance is there and behind it.
    pub fn behind<'n>(&self, names: &'n Names) -> Option<&'n str> {
        let operation = |place| self.text(place).unwrap_or_default();
        let is_made = operation("/operation/kind") != "provision"
            || operation("/operation/state") == "succeeded";
        let is_unmade = self
            .0
            .pointer("/operation/unmade")
            .is_some_and(|it| *it == true);
        if !is_made || is_unmade || self.text("/kept/until").is_some() {
            return None;
        }
        let plan = names.plan(self.text("/plan_id")?)?;
        plan.ahead_of(self.text("/maintenance_version"))
    }

    pub fn updated(&self) -> Option<&str> {
        self.text("/updated/at")
            .or_else(|| self.text("/created/at"))
    }

    /// The whole record, without what may be secret.
    pub fn hide(mut self) -> Value {
        for place in SECRET {
            if let Some(secret) = self.0.pointer_mut(place)
                && !secret.is_null()
            {
                *secret = HIDDEN.into();
            }
        }
        self.0
    }

    pub fn whole(self) -> Value {
        self.0
    }

    /// What a list says of it: ids, names where the catalog has them, and what was done last.
    pub fn summary(&self, key: &Key, names: &Names) -> Map<String, Value> {
        let mut summary = Map::new();
        let (instance_id, binding_id) = ids(key);
        let service_id = self.text("/service_id").unwrap_or_default();
        let plan_id = self.text("/plan_id").unwrap_or_default();
        let name = names.of(plan_id);
        let of_plan = names.plan(plan_id).filter(|_| binding_id.is_none());
        let of_plan = of_plan.and_then(|plan| plan.maintenance_info.as_ref());
        let of_plan = of_plan.map(|info| info.version.as_str());
        let fields = [
            ("instance_id", Some(instance_id)),
            ("binding_id", binding_id),
            ("name", self.text("/context/instance_name")),
            ("service_id", Some(service_id)),
            ("service", name.map(|(service, _)| service)),
            ("plan_id", Some(plan_id)),
            ("plan", name.map(|(_, plan)| plan)),
            ("maintenance_version", self.text("/maintenance_version")),
            ("plan_maintenance_version", of_plan),
            ("organization_guid", self.text("/organization_guid")),
            ("space_guid", self.text("/space_guid")),
            ("app_guid", self.text("/app_guid")),
            ("last_operation", self.text("/operation/kind")),
            ("state", self.text("/operation/state")),
            ("description", self.text("/operation/description")),
            ("kept_until", self.text("/kept/until")),
            ("protected_since", self.text("/protected/since")),
            ("protected_reason", self.text("/protected/reason")),
            ("created", self.text("/created/at")),
            ("updated", self.updated()),
        ];
        for (field, value) in fields {
            if let Some(value) = value {
                summary.insert(field.to_owned(), json!(value));
            }
        }
        summary
    }
}

/// The record of an instance; without one, the command has nothing to do.
pub(super) fn record_of(store: &dyn Inspect, key: &Key) -> Result<Record, Failed> {
    let mut found = store.read(std::slice::from_ref(key))?.into_iter();
    found.next().flatten().ok_or_else(|| {
        let (id, _) = ids(key);
        Failed::No(format!("service instance {id:?}: not in the state"))
    })
}

/// The id of the instance, and that of the binding.
pub(super) fn ids(key: &Key) -> (&str, Option<&str>) {
    match key {
        Key::Instance(id) => (id, None),
        Key::Binding(instance_id, id) => (instance_id, Some(id)),
    }
}
