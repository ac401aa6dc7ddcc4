//! What is offered: the catalog of the specification, exactly as it is served.
//!
//! Adapter settings are not part of these types (see [`mod@file`]), so nothing private can be rendered.

pub mod check;
pub mod environment;
pub mod expression;
pub mod file;
pub mod finding;
#[cfg(feature = "schemas")]
pub mod schema;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A service offering. spec: Catalog Management, Service Offering Object.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Service {
    pub name: String,
    pub id: String,
    pub description: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires: Option<Vec<String>>,
    pub bindable: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances_retrievable: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bindings_retrievable: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_context_updates: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dashboard_client: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_updateable: Option<bool>,
    #[serde(serialize_with = "serialize_offered")]
    pub plans: Vec<Plan>,
    /// Fields that the specification does not know; kept and served.
    #[serde(flatten)]
    pub extensions: Map<String, Value>,
}

/// A service plan. spec: Catalog Management, Service Plan Object.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    pub id: String,
    pub name: String,
    pub description: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
    /// Always served: Korifi reads an absent one as false.
    pub free: Option<bool>,
    /// Always served, resolved from the service offering.
    pub bindable: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding_rotatable: Option<bool>,
    /// Always served, resolved from the service offering.
    pub plan_updateable: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schemas: Option<Schemas>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_polling_duration: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_info: Option<MaintenanceInfo>,
    /// What the broker does by itself with its instances and bindings.
    #[serde(skip)]
    pub rules: PlanRules,
    /// Fields that the specification does not know; kept and served.
    #[serde(flatten)]
    pub extensions: Map<String, Value>,
}

/// What the broker does by itself with the instances and bindings of a plan. Nobody is served it.
#[derive(Debug, Clone, Default)]
pub struct PlanRules {
    /// The plan is hidden from platforms, while its service instances go on.
    pub retired: bool,
    /// A binding is unbound when its lifetime is over.
    pub unbind_expired: bool,
    /// How long an instance that was deprovisioned is kept, hidden, before the adapter removes it.
    pub retain: Option<Duration>,
    /// How many instances there may be.
    pub limits: Limits,
}

/// How many instances of a plan there may be. What is absent has no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    pub instances: Option<u64>,
    pub instances_per_organization: Option<u64>,
    pub instances_per_space: Option<u64>,
}

impl Limits {
    pub fn is_empty(&self) -> bool {
        *self == Limits::default()
    }
}

/// spec: Catalog Management, Maintenance Info Object.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MaintenanceInfo {
    pub version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// spec: Catalog Management, Schemas Object.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Schemas {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_instance: Option<InstanceSchemas>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_binding: Option<BindingSchemas>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct InstanceSchemas {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<InputParameters>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<InputParameters>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct BindingSchemas {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<InputParameters>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct InputParameters {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
}

/// Retired plans are not served.
fn serialize_offered<S: Serializer>(plans: &[Plan], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(plans.iter().filter(|plan| !plan.rules.retired))
}

/// Times in HTTP have whole seconds.
const HTTP_SECOND: Duration = Duration::from_secs(1);

/// What a schema of a plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SchemaUse {
    Provision,
    Update,
    Bind,
}

impl Service {
    /// The plans that a platform may see.
    pub fn offered(&self) -> impl Iterator<Item = &Plan> {
        self.plans.iter().filter(|plan| !plan.rules.retired)
    }

    /// Whether a platform may see it: one whose plans are all retired is not served.
    pub fn is_offered(&self) -> bool {
        self.plans.is_empty() || self.offered().next().is_some()
    }
}

impl Plan {
    /// The schema for the `parameters` of one kind of request, if the plan declares one.
    pub fn schema(&self, wanted: SchemaUse) -> Option<&Value> {
        let schemas = self.schemas.as_ref()?;
        let input = match wanted {
            SchemaUse::Provision => schemas.service_instance.as_ref()?.create.as_ref()?,
            SchemaUse::Update => schemas.service_instance.as_ref()?.update.as_ref()?,
            SchemaUse::Bind => schemas.service_binding.as_ref()?.create.as_ref()?,
        };
        input.parameters.as_ref()
    }

    /// The version of the plan's maintenance information, if an instance that has this one is behind it.
    pub fn ahead_of(&self, version: Option<&str>) -> Option<&str> {
        let current = self.maintenance_info.as_ref()?.version.as_str();
        (version != Some(current)).then_some(current)
    }

    pub fn is_bindable(&self) -> bool {
        self.bindable.unwrap_or(false)
    }

    pub fn is_updateable(&self) -> bool {
        self.plan_updateable.unwrap_or(false)
    }

    pub fn is_rotatable(&self) -> bool {
        self.binding_rotatable.unwrap_or(false)
    }
}

/// The catalog: services and plans with their defaults resolved, rendered once.
#[derive(Debug)]
pub struct Catalog {
    services: Vec<Service>,
    /// plan id -> (service, plan); plan ids are unique over the whole catalog.
    plans: HashMap<String, (usize, usize)>,
    rendered: Arc<[u8]>,
    etag: String,
    modified: SystemTime,
}

/// Why a pair of ids is not in the catalog.
#[derive(Debug, PartialEq, Eq)]
pub enum Unknown {
    Service,
    /// The service offering is there, the plan is not one of its plans.
    Plan,
}

impl Catalog {
    /// Resolves the defaults of the plans and renders the catalog. `modified` is served as Last-Modified.
    pub fn new(mut services: Vec<Service>, modified: SystemTime) -> Catalog {
        let mut plans = HashMap::new();
        for (s, service) in services.iter_mut().enumerate() {
            for (p, plan) in service.plans.iter_mut().enumerate() {
                plan.free = Some(plan.free.unwrap_or(true));
                plan.bindable = Some(plan.bindable.unwrap_or(service.bindable));
                let updateable = service.plan_updateable.unwrap_or(false);
                plan.plan_updateable = Some(plan.plan_updateable.unwrap_or(updateable));
                plans.insert(plan.id.clone(), (s, p));
            }
        }
        #[derive(Serialize)]
        struct Served<'a> {
            services: Vec<&'a Service>,
        }
        // Strings, numbers, booleans and maps with string keys: rendering them cannot fail.
        let rendered: Arc<[u8]> = serde_json::to_vec(&Served {
            services: services
                .iter()
                .filter(|service| service.is_offered())
                .collect(),
        })
        .unwrap_or_default()
        .into();
        let etag = format!("\"{:016x}\"", fnv1a(&rendered));
        Catalog {
            services,
            plans,
            rendered,
            etag,
            modified,
        }
    }

    /// Takes the place of another catalog: what is not served otherwise has not been modified, and what is was modified
    /// later, whatever the times of the files are. So neither validator tells a platform that it has what it has not.
    pub fn replacing(mut self, before: &Catalog) -> Catalog {
        self.modified = match self.etag == before.etag {
            true => before.modified,
            false => self.modified.max(before.modified + HTTP_SECOND),
        };
        self
    }

    /// All of them, retired ones included.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// The service offering and plan of a pair of ids: the one place where ids are looked up.
    pub fn plan(&self, service_id: &str, plan_id: &str) -> Result<(&Service, &Plan), Unknown> {
        match self.plans.get(plan_id) {
            Some(&(s, p)) if self.services[s].id == service_id => {
                Ok((&self.services[s], &self.services[s].plans[p]))
            }
            _ if self.service(service_id).is_some() => Err(Unknown::Plan),
            _ => Err(Unknown::Service),
        }
    }

    pub fn service(&self, service_id: &str) -> Option<&Service> {
        self.services.iter().find(|s| s.id == service_id)
    }

    /// The body of `GET /v2/catalog`.
    pub fn rendered(&self) -> &Arc<[u8]> {
        &self.rendered
    }

    /// A strong validator of the rendered catalog, quotes included.
    pub fn etag(&self) -> &str {
        &self.etag
    }

    pub fn modified(&self) -> SystemTime {
        self.modified
    }
}

/// FNV-1a, 64 bits: equal catalogs have equal tags on every instance of the broker.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
