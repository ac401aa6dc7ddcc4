//! The record of a service binding.

use crate::adapter::{BindingCall, Bound, InstanceCall};
use crate::broker::protocol::operation::{Operation, Stamp, State};
use crate::json::{self, Object};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::SystemTime;

/// The record of a service binding.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Binding {
    pub service_id: String,
    /// The plan of the instance when the binding was made: its adapter removes the binding, too.
    pub plan_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_guid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind_resource: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predecessor_binding_id: Option<String>,
    /// What the platform was given.
    pub answer: Answer,
    /// Whether the adapter left something behind that only it can remove.
    pub effects: bool,
    /// What the adapter wants back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Box<RawValue>>,
    pub created: Arc<Stamp>,
    pub operation: Operation,
}

/// The body of 200 and 201, absent fields left out. spec: Binding, Body.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Answer {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syslog_drain_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_service_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_mounts: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Box<RawValue>>,
}

impl Binding {
    /// The same binding while another operation is in progress.
    pub fn during(&self, operation: Operation) -> Binding {
        Binding {
            operation,
            ..self.clone()
        }
    }

    /// Takes over what the adapter returned.
    pub fn apply(&mut self, bound: Bound) {
        let object = |map: Option<Map<String, Value>>| json::to_raw(&Value::Object(map?));
        let array = |items: Option<Vec<Value>>| json::to_raw(&Value::Array(items?));
        self.answer = Answer {
            metadata: bound.metadata,
            credentials: object(bound.credentials),
            syslog_drain_url: bound.syslog_drain_url,
            route_service_url: bound.route_service_url,
            volume_mounts: array(bound.volume_mounts),
            endpoints: array(bound.endpoints),
        };
        self.state = object(bound.state);
        self.operation = self.operation.ended(State::Succeeded);
    }

    /// What the adapter is told.
    pub fn call<'a>(&'a self, binding_id: &'a str, instance: InstanceCall<'a>) -> BindingCall<'a> {
        BindingCall {
            instance,
            binding_id,
            app_guid: self.app_guid.as_deref(),
            bind_resource: Object::new(self.bind_resource.as_deref()),
            parameters: Object::new(self.parameters.as_deref()),
            context: Object::new(self.context.as_deref()),
            predecessor_binding_id: self.predecessor_binding_id.as_deref(),
            state: Object::new(self.state.as_deref()),
        }
    }

    /// Until when the binding can be used, if not for ever. spec: Binding Metadata Object.
    pub fn expires_at(&self) -> Option<SystemTime> {
        let metadata = self.answer.metadata.as_ref()?;
        humantime::parse_rfc3339(metadata.get("expires_at")?.as_str()?).ok()
    }

    /// Whether the binding is past its `expires_at`.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expires_at().is_some_and(|time| time <= now)
    }

    /// The body of a fetch. spec: Fetching a Service Binding, Body.
    pub fn fetched(&self) -> impl Serialize + use<'_> {
        #[derive(Serialize)]
        struct Fetched<'a> {
            #[serde(flatten)]
            answer: &'a Answer,
            #[serde(skip_serializing_if = "Option::is_none")]
            parameters: Option<&'a RawValue>,
        }
        Fetched {
            answer: &self.answer,
            parameters: self.parameters.as_deref(),
        }
    }
}
