//! What a platform can ask about a service binding.

use super::record::{Answer, Binding};
use crate::adapter::Origin;
use crate::broker::protocol::body::{self, Field};
use crate::broker::protocol::error::Error;
use crate::broker::protocol::instance::record::Instance;
use crate::broker::protocol::operation::{Operation, Stamp};
use crate::json::{self, Object};

use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// `PUT /v2/service_instances/:instance_id/service_bindings/:binding_id`. spec: Binding, Body; Rotating, Body.
#[derive(Debug)]
pub struct BindRequest<'a> {
    /// Present unless the request is a rotation, which takes them from the instance.
    pub service_id: Option<Cow<'a, str>>,
    pub plan_id: Option<Cow<'a, str>>,
    /// `bind_resource.app_guid`, else the deprecated `app_guid`.
    pub app_guid: Option<Cow<'a, str>>,
    pub bind_resource: Field<'a>,
    pub context: Field<'a>,
    pub parameters: Field<'a>,
    pub predecessor_binding_id: Option<Cow<'a, str>>,
}

impl<'a> BindRequest<'a> {
    pub fn parse(text: &'a [u8]) -> Result<BindRequest<'a>, Error> {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Fields<'a> {
            #[serde(borrow)]
            service_id: Field<'a>,
            #[serde(borrow)]
            plan_id: Field<'a>,
            #[serde(borrow)]
            app_guid: Field<'a>,
            #[serde(borrow)]
            bind_resource: Field<'a>,
            #[serde(borrow)]
            context: Field<'a>,
            #[serde(borrow)]
            parameters: Field<'a>,
            #[serde(borrow)]
            predecessor_binding_id: Field<'a>,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Resource<'a> {
            #[serde(borrow)]
            app_guid: Field<'a>,
            #[serde(borrow)]
            route: Field<'a>,
        }
        let fields: Fields<'a> = body::read(text)?;
        let predecessor_binding_id =
            body::optional_string("predecessor_binding_id", fields.predecessor_binding_id)?;
        let id = |name, field| match predecessor_binding_id {
            Some(_) => body::optional_string(name, field),
            None => body::required_string(name, field).map(Some),
        };
        let bind_resource = body::optional_object("bind_resource", fields.bind_resource)?;
        let resource: Resource<'a> = match bind_resource {
            Some(raw) => body::read(raw.get().as_bytes())?,
            None => Resource::default(),
        };
        body::optional_string("bind_resource.route", resource.route)?;
        let app_guid = body::optional_string("bind_resource.app_guid", resource.app_guid)?;
        let deprecated = body::optional_string("app_guid", fields.app_guid)?;
        Ok(BindRequest {
            service_id: id("service_id", fields.service_id)?,
            plan_id: id("plan_id", fields.plan_id)?,
            app_guid: app_guid.or(deprecated),
            bind_resource,
            context: body::optional_object("context", fields.context)?,
            parameters: body::optional_object("parameters", fields.parameters)?,
            predecessor_binding_id,
        })
    }

    /// The binding that this request asks for, its creation in progress. A rotation takes over from the predecessor what
    /// the request leaves out. spec: Binding Rotation.
    pub fn binding(
        &self,
        instance: &Instance,
        predecessor: Option<&Binding>,
        effects: bool,
        operation: Operation,
        origin: Origin<'_>,
    ) -> Binding {
        let own = |field: Field<'_>, inherited: fn(&Binding) -> Option<&RawValue>| {
            field
                .or_else(|| predecessor.and_then(inherited))
                .map(RawValue::to_owned)
        };
        let app_guid = self
            .app_guid
            .as_deref()
            .or_else(|| predecessor.and_then(|p| p.app_guid.as_deref()));
        let created = operation.requested().cloned();
        Binding {
            service_id: instance.service_id.clone(),
            plan_id: instance.plan_id.clone(),
            app_guid: app_guid.map(str::to_owned),
            bind_resource: own(self.bind_resource, |p| p.bind_resource.as_deref()),
            context: own(self.context, |p| p.context.as_deref()),
            parameters: own(self.parameters, |p| p.parameters.as_deref()),
            predecessor_binding_id: self.predecessor_binding_id.as_deref().map(str::to_owned),
            answer: Answer::default(),
            effects,
            state: None,
            created: created.unwrap_or_else(|| Stamp::now(origin)),
            operation,
        }
    }

    /// The first attribute in which the binding is another one than this request asks for. Its context is none: it says
    /// where and for whom, and what is in it changes with time. spec: Binding, 200 and 409.
    pub fn difference(&self, found: &Binding) -> Option<&'static str> {
        let rotation = self.predecessor_binding_id.is_some();
        let other = |asked: Option<&str>, found: Option<&str>| match asked {
            // A rotation inherits what it leaves out.
            None => !rotation && found.is_some(),
            Some(asked) => Some(asked) != found,
        };
        let inherited = |field: Field<'_>| rotation && field.is_none();
        if other(self.service_id.as_deref(), Some(&found.service_id)) {
            Some("service_id")
        } else if other(self.plan_id.as_deref(), Some(&found.plan_id)) {
            Some("plan_id")
        } else if self.predecessor_binding_id.as_deref() != found.predecessor_binding_id.as_deref()
        {
            Some("predecessor_binding_id")
        } else if other(self.app_guid.as_deref(), found.app_guid.as_deref()) {
            Some("app_guid")
        } else if !inherited(self.bind_resource)
            && !same_resource(self.bind_resource, found.bind_resource.as_deref())
        {
            Some("bind_resource")
        } else if !inherited(self.parameters)
            && !json::same_object(self.parameters, found.parameters.as_deref())
        {
            Some("parameters")
        } else {
            None
        }
    }
}

/// Whether two `bind_resource` objects are equal, but for annotations and for the app, which is compared by itself.
fn same_resource(a: Field<'_>, b: Field<'_>) -> bool {
    if a.map(RawValue::get) == b.map(RawValue::get) {
        return true;
    }
    let lasting = |field| {
        let mut map = Object::new(field).to_map();
        map.retain(|key, value| {
            let empty = value.is_null() || value.as_str() == Some("");
            !(empty || key == "app_guid" || key.ends_with("_annotations"))
        });
        map
    };
    json::same_map(&lasting(a), &lasting(b))
}
