//! What a platform can ask about a service instance.

use super::record::{Instance, PendingUpdate, merged};
use crate::adapter::Origin;
use crate::adapter::kinds::Fulfilment;
use crate::broker::protocol::body::{self, Field};
use crate::broker::protocol::error::Error;
use crate::broker::protocol::operation::{Operation, Stamp};
use crate::catalog::Plan;
use crate::json::{self, Object};

use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// `PUT /v2/service_instances/:instance_id`. spec: Provisioning, Body.
#[derive(Debug)]
pub struct ProvisionRequest<'a> {
    pub service_id: Cow<'a, str>,
    pub plan_id: Cow<'a, str>,
    pub organization_guid: Cow<'a, str>,
    pub space_guid: Cow<'a, str>,
    pub context: Field<'a>,
    pub parameters: Field<'a>,
    pub maintenance_version: Option<Cow<'a, str>>,
}

impl<'a> ProvisionRequest<'a> {
    pub fn parse(text: &'a [u8]) -> Result<ProvisionRequest<'a>, Error> {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Fields<'a> {
            #[serde(borrow)]
            service_id: Field<'a>,
            #[serde(borrow)]
            plan_id: Field<'a>,
            #[serde(borrow)]
            organization_guid: Field<'a>,
            #[serde(borrow)]
            space_guid: Field<'a>,
            #[serde(borrow)]
            context: Field<'a>,
            #[serde(borrow)]
            parameters: Field<'a>,
            #[serde(borrow)]
            maintenance_info: Field<'a>,
        }
        let fields: Fields<'a> = body::read(text)?;
        Ok(ProvisionRequest {
            service_id: body::required_string("service_id", fields.service_id)?,
            plan_id: body::required_string("plan_id", fields.plan_id)?,
            organization_guid: body::required_string(
                "organization_guid",
                fields.organization_guid,
            )?,
            space_guid: body::required_string("space_guid", fields.space_guid)?,
            context: body::optional_object("context", fields.context)?,
            parameters: body::optional_object("parameters", fields.parameters)?,
            maintenance_version: body::maintenance_version(fields.maintenance_info)?,
        })
    }

    /// The instance that this request asks for, its provision in progress.
    pub fn instance(
        &self,
        plan: &Plan,
        fulfilment: &Fulfilment,
        operation: Operation,
        origin: Origin<'_>,
    ) -> Instance {
        let created = operation.requested().cloned();
        Instance {
            service_id: self.service_id.to_string(),
            plan_id: self.plan_id.to_string(),
            previous_plan_id: None,
            organization_guid: self.organization_guid.to_string(),
            space_guid: self.space_guid.to_string(),
            context: self.context.map(RawValue::to_owned),
            parameters: self.parameters.map(RawValue::to_owned),
            maintenance_version: plan.maintenance_info.as_ref().map(|m| m.version.clone()),
            dashboard_url: None,
            metadata: None,
            adapter: fulfilment.kind.clone(),
            effects: fulfilment.adapter.has_effects(),
            state: None,
            created: created.unwrap_or_else(|| Stamp::now(origin)),
            updated: None,
            operation,
            update: None,
            protected: None,
            kept: None,
        }
    }

    /// Whether the instance is of the plan that this request asks for.
    pub fn is_of_plan(&self, found: &Instance) -> bool {
        self.service_id == found.service_id && self.plan_id == found.plan_id
    }

    /// The first attribute in which the instance is another one than this request asks for. A context says where and for
    /// whom, and what is in it changes with time; the maintenance information is the plan's. Neither makes another
    /// instance. spec: Provisioning, 200 and 409.
    pub fn difference(&self, found: &Instance) -> Option<&'static str> {
        if self.service_id != found.service_id {
            Some("service_id")
        } else if self.plan_id != found.plan_id {
            Some("plan_id")
        } else if self.organization_guid != found.organization_guid {
            Some("organization_guid")
        } else if self.space_guid != found.space_guid {
            Some("space_guid")
        } else if !json::same_object(self.parameters, found.parameters.as_deref()) {
            Some("parameters")
        } else {
            None
        }
    }
}

/// `PATCH /v2/service_instances/:instance_id`. spec: Updating a Service Instance, Body. `previous_values` is what the
/// platform believes; the record knows better, so it is only checked for its form.
#[derive(Debug)]
pub struct UpdateRequest<'a> {
    pub service_id: Cow<'a, str>,
    pub plan_id: Option<Cow<'a, str>>,
    pub context: Field<'a>,
    /// Absent where there are none, and where they are `{}`: that must not wipe what is set.
    pub parameters: Field<'a>,
    pub maintenance_version: Option<Cow<'a, str>>,
}

impl<'a> UpdateRequest<'a> {
    pub fn parse(text: &'a [u8]) -> Result<UpdateRequest<'a>, Error> {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Fields<'a> {
            #[serde(borrow)]
            service_id: Field<'a>,
            #[serde(borrow)]
            plan_id: Field<'a>,
            #[serde(borrow)]
            context: Field<'a>,
            #[serde(borrow)]
            parameters: Field<'a>,
            #[serde(borrow)]
            previous_values: Field<'a>,
            #[serde(borrow)]
            maintenance_info: Field<'a>,
        }
        let fields: Fields<'a> = body::read(text)?;
        body::optional_object("previous_values", fields.previous_values)?;
        Ok(UpdateRequest {
            service_id: body::required_string("service_id", fields.service_id)?,
            plan_id: body::optional_string("plan_id", fields.plan_id)?,
            context: body::optional_object("context", fields.context)?,
            parameters: body::optional_object("parameters", fields.parameters)?
                .filter(|raw| !Object::new(Some(raw)).is_empty()),
            maintenance_version: body::maintenance_version(fields.maintenance_info)?,
        })
    }

    /// This request, to be kept until it is carried out.
    pub fn pending(&self) -> PendingUpdate {
        PendingUpdate {
            plan_id: self.plan_id.as_deref().map(str::to_owned),
            context: self.context.map(RawValue::to_owned),
            parameters: self.parameters.map(RawValue::to_owned),
            maintenance_version: self.maintenance_version.as_deref().map(str::to_owned),
        }
    }

    /// Whether this is the request whose update of the instance is in progress, sent again.
    pub fn is_under_way(&self, found: &Instance) -> bool {
        let Some(pending) = &found.update else {
            return false;
        };
        self.plan_id.as_deref().unwrap_or(&found.plan_id) == found.next_plan_id()
            && json::same_object(self.parameters, pending.parameters.as_deref())
            && json::same_object(self.context, pending.context.as_deref())
            && self.maintenance_version.as_deref() == pending.maintenance_version.as_deref()
    }

    /// What of the instance this request changes.
    pub fn changes(&self, found: &Instance) -> Changes {
        let parameters = merged(found.parameters.as_deref(), self.parameters);
        Changes {
            plan: self
                .plan_id
                .as_deref()
                .is_some_and(|id| id != found.plan_id),
            parameters: !json::same_object(parameters.as_deref(), found.parameters.as_deref()),
            maintenance: self
                .maintenance_version
                .as_deref()
                .is_some_and(|version| Some(version) != found.maintenance_version.as_deref()),
            context: self.context.is_some()
                && !json::same_object(self.context, found.context.as_deref()),
        }
    }
}

/// What of an instance an update changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changes {
    pub plan: bool,
    pub parameters: bool,
    pub maintenance: bool,
    pub context: bool,
}

impl Changes {
    pub const NONE: Changes = Changes {
        plan: false,
        parameters: false,
        maintenance: false,
        context: false,
    };
    pub const CONTEXT_ONLY: Changes = Changes {
        context: true,
        ..Changes::NONE
    };
}
