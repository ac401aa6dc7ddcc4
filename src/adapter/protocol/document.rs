//! What a program is told: one JSON document on its standard input.
//!
//! What has no prefix belongs to what the operation is about. So in `bind` and `unbind`, `parameters`, `context` and
//! `state` are those of the binding, and those of its instance are within `instance`.

use crate::adapter::{BindingCall, Identity, InstanceCall, Kind, UpdateCall};
use crate::catalog::{Plan, Service};
use crate::json::Object;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

/// What a call is about.
pub enum Call<'c> {
    Instance(Kind, &'c InstanceCall<'c>),
    Update(&'c UpdateCall<'c>),
    Binding(Kind, &'c BindingCall<'c>),
    /// Whether what another broker has made is there.
    Verify(&'c InstanceCall<'c>),
    VerifyBinding(&'c BindingCall<'c>),
}

impl<'c> Call<'c> {
    /// The operation, or the one whose work is looked at.
    pub fn kind(&self) -> Kind {
        match self {
            Call::Instance(kind, _) | Call::Binding(kind, _) => *kind,
            Call::Update(_) => Kind::Update,
            Call::Verify(_) => Kind::Provision,
            Call::VerifyBinding(_) => Kind::Bind,
        }
    }

    /// What is to be done.
    pub fn name(&self) -> &'static str {
        match self {
            Call::Verify(_) | Call::VerifyBinding(_) => "verify",
            _ => self.kind().name(),
        }
    }

    pub fn instance(&self) -> &'c InstanceCall<'c> {
        match self {
            Call::Instance(_, instance) | Call::Verify(instance) => instance,
            Call::Update(update) => &update.instance,
            Call::Binding(_, binding) | Call::VerifyBinding(binding) => &binding.instance,
        }
    }

    pub fn binding_id(&self) -> Option<&'c str> {
        match self {
            Call::Instance(..) | Call::Update(_) | Call::Verify(_) => None,
            Call::Binding(_, binding) | Call::VerifyBinding(binding) => Some(binding.binding_id),
        }
    }

    /// The document, on one line. An error cannot happen with what a store has kept as JSON.
    pub fn document(&self) -> serde_json::Result<Vec<u8>> {
        let instance = self.instance();
        let (update, binding) = match self {
            Call::Instance(..) | Call::Verify(_) => (None, None),
            Call::Update(update) => (Some(*update), None),
            Call::Binding(_, binding) | Call::VerifyBinding(binding) => (None, Some(*binding)),
        };
        let about = binding.map_or(About::of(instance), |binding| About {
            parameters: Given(binding.parameters),
            context: Given(binding.context),
            state: Given(binding.state),
        });
        let mut document = serde_json::to_vec(&Document {
            operation: self.name(),
            operation_id: instance.run.id,
            attempt: instance.run.attempt,
            instance_id: instance.instance_id,
            binding_id: self.binding_id(),
            service: Named::service(instance.service),
            plan: Named::plan(instance.plan),
            organization_guid: instance.organization_guid,
            space_guid: instance.space_guid,
            about,
            instance: binding.map(|_| About::of(instance)),
            bind_resource: binding.map(|binding| Given(binding.bind_resource)),
            app_guid: binding.and_then(|binding| binding.app_guid),
            predecessor_binding_id: binding.and_then(|binding| binding.predecessor_binding_id),
            changes: update.map(|update| Given(update.changes)),
            previous: update.map(|update| Previous {
                plan: previous_plan(update),
                parameters: Given(update.previous_parameters),
            }),
            originating_identity: instance.origin.identity,
            request_identity: instance.origin.request_id,
        })?;
        // JSON that a platform sent with line ends keeps them: a shell reads one line.
        for byte in &mut document {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        document.push(b'\n');
        Ok(document)
    }
}

#[derive(Serialize)]
struct Document<'c> {
    operation: &'static str,
    operation_id: &'c str,
    attempt: u32,
    instance_id: &'c str,
    #[serde(skip_serializing_if = "Option::is_none")]
    binding_id: Option<&'c str>,
    service: Named<'c>,
    plan: Named<'c>,
    organization_guid: &'c str,
    space_guid: &'c str,
    #[serde(flatten)]
    about: About<'c>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<About<'c>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bind_resource: Option<Given<'c>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_guid: Option<&'c str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    predecessor_binding_id: Option<&'c str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Given<'c>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<Previous<'c>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    originating_identity: Option<&'c Identity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_identity: Option<&'c str>,
}

#[derive(Serialize)]
struct About<'c> {
    parameters: Given<'c>,
    context: Given<'c>,
    state: Given<'c>,
}

impl<'c> About<'c> {
    fn of(instance: &InstanceCall<'c>) -> About<'c> {
        About {
            parameters: Given(instance.parameters),
            context: Given(instance.context),
            state: Given(instance.state),
        }
    }
}

#[derive(Serialize)]
struct Previous<'c> {
    plan: Named<'c>,
    parameters: Given<'c>,
}

/// A service offering or plan.
#[derive(Serialize)]
struct Named<'c> {
    id: &'c str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'c str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'c Map<String, Value>>,
}

impl<'c> Named<'c> {
    fn service(service: &'c Service) -> Named<'c> {
        Named {
            id: &service.id,
            name: Some(&service.name),
            metadata: service.metadata.as_ref(),
        }
    }

    fn plan(plan: &'c Plan) -> Named<'c> {
        Named {
            id: &plan.id,
            name: Some(&plan.name),
            metadata: plan.metadata.as_ref(),
        }
    }
}

/// The old plan may have left the catalog; then its id is all that is known.
fn previous_plan<'c>(update: &UpdateCall<'c>) -> Named<'c> {
    let id = update.previous_plan_id;
    let mut plans = update.instance.service.plans.iter();
    match plans.find(|plan| plan.id == id) {
        Some(plan) => Named::plan(plan),
        None => Named {
            id,
            name: None,
            metadata: None,
        },
    }
}

/// An object as the platform gave it, in its own words; `{}` where there is none.
struct Given<'c>(Object<'c>);

impl Serialize for Given<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.raw() {
            Some(raw) => raw.serialize(serializer),
            None => Map::new().serialize(serializer),
        }
    }
}
