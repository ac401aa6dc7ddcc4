//! The record of a service instance.

use crate::adapter::{InstanceCall, Origin, Provisioned, Run};
use crate::broker::protocol::body::Field;
use crate::broker::protocol::operation::{FOREVER, Kind, Moment, Operation, Stamp, State};
use crate::catalog::{Plan, Service};
use crate::json::{self, Object};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The record of a service instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Instance {
    pub service_id: String,
    pub plan_id: String,
    /// The plan before the last change of plan. A platform that did not hear of the change still names this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_plan_id: Option<String>,
    pub organization_guid: String,
    pub space_guid: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Box<RawValue>>,
    /// `maintenance_info.version` of the plan when the instance was made or last maintained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dashboard_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Box<RawValue>>,
    /// The kind of adapter that made it, and whether it left something behind that only the adapter can remove.
    pub adapter: String,
    pub effects: bool,
    /// What the adapter wants back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Box<RawValue>>,
    pub created: Arc<Stamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated: Option<Arc<Stamp>>,
    pub operation: Operation,
    /// What is to be changed, while an update is in progress. All else is as it was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<Box<PendingUpdate>>,
    /// An operator does not want it deprovisioned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protected: Option<Box<Protection>>,
    /// It was deprovisioned, and is kept for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
}

/// Why an instance is not to be deprovisioned.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Protection {
    pub since: Moment,
    /// In words for users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// For how long an instance is kept that was deprovisioned.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Kept {
    pub since: Moment,
    /// When the adapter removes it.
    pub until: Moment,
}

/// An update that is in progress, as the platform asked for it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PendingUpdate {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_version: Option<String>,
}

impl Instance {
    /// The same instance while another operation is in progress.
    pub fn during(&self, operation: Operation) -> Instance {
        // One by one: all of it but the operation.
        Instance {
            service_id: self.service_id.clone(),
            plan_id: self.plan_id.clone(),
            previous_plan_id: self.previous_plan_id.clone(),
            organization_guid: self.organization_guid.clone(),
            space_guid: self.space_guid.clone(),
            context: self.context.clone(),
            parameters: self.parameters.clone(),
            maintenance_version: self.maintenance_version.clone(),
            dashboard_url: self.dashboard_url.clone(),
            metadata: self.metadata.clone(),
            adapter: self.adapter.clone(),
            effects: self.effects,
            state: self.state.clone(),
            created: self.created.clone(),
            updated: self.updated.clone(),
            operation,
            update: self.update.clone(),
            protected: self.protected.clone(),
            kept: self.kept,
        }
    }

    /// The instance once it is deprovisioned, and kept for so long.
    pub fn kept_for(&self, time: Duration) -> Instance {
        let since = SystemTime::now();
        Instance {
            kept: Some(Kept {
                since: Moment(since),
                until: Moment(since + time.min(FOREVER)),
            }),
            ..self.during(self.operation.ended(State::Succeeded))
        }
    }

    /// Whether it was deprovisioned, and is kept until its time is over: to platforms it is gone.
    pub fn is_hidden(&self) -> bool {
        self.kept.is_some()
    }

    /// The deprovision that platforms may still ask about, of one that is hidden.
    pub fn hidden_by(&self) -> Operation {
        let last = match self.operation.in_progress() {
            true => self.operation.before(),
            false => Some(&self.operation),
        };
        match last {
            Some(last) if last.state == State::Succeeded => last.clone(),
            _ => Operation::new(Kind::Deprovision, State::Succeeded),
        }
    }

    /// The instance once the provision that is in progress has succeeded.
    pub fn provisioned(&self, outcome: Provisioned) -> Instance {
        let mut after = self.during(self.operation.ended(State::Succeeded));
        after.take_over(outcome);
        after
    }

    /// The instance as it will be after the update that is in progress. What the request leaves out stays as it is.
    pub fn updated(&self, plan: &Plan, effects: bool) -> Instance {
        let mut after = self.clone();
        let asked = after.update.take().unwrap_or_default();
        if plan.id != self.plan_id {
            after.previous_plan_id = Some(std::mem::replace(&mut after.plan_id, plan.id.clone()));
            after.maintenance_version = plan.maintenance_info.as_ref().map(|m| m.version.clone());
        }
        if asked.maintenance_version.is_some() {
            after.maintenance_version = asked.maintenance_version;
        }
        after.parameters = merged(self.parameters.as_deref(), asked.parameters.as_deref());
        if asked.context.is_some() {
            after.context = asked.context;
        }
        after.effects |= effects;
        after.updated = self.operation.requested().cloned();
        after
    }

    /// Ends the update that is in progress, and takes over what the adapter returned.
    pub fn apply(&mut self, outcome: Provisioned) {
        self.operation = self.operation.ended(State::Succeeded);
        self.take_over(outcome);
    }

    /// What the adapter left out stays as it was.
    fn take_over(&mut self, outcome: Provisioned) {
        if outcome.dashboard_url.is_some() {
            self.dashboard_url = outcome.dashboard_url;
        }
        keep(&mut self.metadata, outcome.metadata);
        keep(&mut self.state, outcome.state);
    }

    /// What the adapter is told.
    pub fn call<'a>(
        &'a self,
        instance_id: &'a str,
        service: &'a Service,
        plan: &'a Plan,
        origin: Origin<'a>,
        run: Run<'a>,
    ) -> InstanceCall<'a> {
        InstanceCall {
            instance_id,
            service,
            plan,
            organization_guid: &self.organization_guid,
            space_guid: &self.space_guid,
            parameters: Object::new(self.parameters.as_deref()),
            context: Object::new(self.context.as_deref()),
            state: Object::new(self.state.as_deref()),
            origin,
            run,
        }
    }

    /// Whether the platform may name this plan for the instance when it deletes it or polls.
    pub fn is_or_was_of_plan(&self, plan_id: &str) -> bool {
        self.plan_id == plan_id
            || self.previous_plan_id.as_deref() == Some(plan_id)
            || self.next_plan_id() == plan_id
    }

    /// The plan of the instance once what is in progress has succeeded: its adapter is at work.
    pub fn next_plan_id(&self) -> &str {
        let next = self.update.as_ref().and_then(|u| u.plan_id.as_deref());
        next.unwrap_or(&self.plan_id)
    }

    /// The body of 200 and 201. spec: Provisioning, Body; Updating, Body.
    pub fn answer(&self) -> impl Serialize + use<'_> {
        #[derive(Serialize)]
        struct Answer<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            dashboard_url: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            metadata: Option<&'a RawValue>,
        }
        Answer {
            dashboard_url: self.dashboard_url.as_deref(),
            metadata: self.metadata.as_deref(),
        }
    }

    /// The body of a fetch. spec: Fetching a Service Instance, Body.
    pub fn fetched(&self) -> impl Serialize + use<'_> {
        #[derive(Serialize)]
        struct Fetched<'a, A: Serialize> {
            service_id: &'a str,
            plan_id: &'a str,
            #[serde(flatten)]
            answer: A,
            #[serde(skip_serializing_if = "Option::is_none")]
            parameters: Option<&'a RawValue>,
            #[serde(skip_serializing_if = "Option::is_none")]
            maintenance_info: Option<Version<'a>>,
        }
        #[derive(Serialize)]
        struct Version<'a> {
            version: &'a str,
        }
        Fetched {
            service_id: &self.service_id,
            plan_id: &self.plan_id,
            answer: self.answer(),
            parameters: self.parameters.as_deref(),
            maintenance_info: self
                .maintenance_version
                .as_deref()
                .map(|version| Version { version }),
        }
    }
}

/// The parameters after an update: those given replace those of the same name, `null` removes one, the others stay.
pub fn merged(old: Field<'_>, given: Field<'_>) -> Option<Box<RawValue>> {
    let Some(given) = given else {
        return old.map(RawValue::to_owned);
    };
    let mut parameters = Object::new(old).to_map();
    for (name, value) in Object::new(Some(given)).to_map() {
        if value.is_null() {
            parameters.remove(&name);
        } else {
            parameters.insert(name, value);
        }
    }
    json::to_raw(&Value::Object(parameters))
}

fn keep(kept: &mut Option<Box<RawValue>>, new: Option<Map<String, Value>>) {
    if let Some(new) = new {
        *kept = json::to_raw(&Value::Object(new));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Adapters of one kind may differ in it, and a plan may get other settings.
    #[test]
    fn what_had_effects_once_has_some_after_an_update() {
        let plan = json!({ "id": "p", "name": "p", "description": "P" });
        let plan: Plan = serde_json::from_value(plan).unwrap();
        for (before, now) in [(false, false), (false, true), (true, false), (true, true)] {
            let instance: Instance = serde_json::from_value(json!({
                "service_id": "s", "plan_id": "p", "organization_guid": "o", "space_guid": "sp",
                "adapter": "fake", "effects": before,
                "created": { "at": "2026-01-01T00:00:00Z" },
                "operation": { "kind": "update", "state": "in progress" },
            }))
            .unwrap();
            assert_eq!(instance.updated(&plan, now).effects, before || now);
        }
    }
}
