//! What becomes of a line: the adapter is asked, unless the record is there already.

use super::listed::{Listed, gives, told};
use crate::adapter::{Failure, Origin, Provisioned, Run, SYNCHRONOUS_TIMEOUT};
use crate::broker::plans::{Offer, Plans};
use crate::broker::protocol::binding::record::Binding;
use crate::broker::protocol::binding::request::BindRequest;
use crate::broker::protocol::error::Error;
use crate::broker::protocol::instance::record::Instance;
use crate::broker::protocol::instance::request::ProvisionRequest;
use crate::broker::protocol::operation::{Kind, Operation, State, new_id};
use crate::catalog::SchemaUse;
use crate::cli::state::amend::line;
use crate::cli::state::records::Found;
use crate::json::same_object;
use crate::store::{self, AuditLine, Key, Revision, Store};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// Why a line goes no further.
pub enum Stop {
    Refused(String),
    /// The state cannot be read, and so nothing goes further.
    Unusable(store::Error),
}

impl From<String> for Stop {
    fn from(why: String) -> Stop {
        Stop::Refused(why)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Refused(told(error))
    }
}

impl From<store::Error> for Stop {
    fn from(error: store::Error) -> Stop {
        Stop::Unusable(error)
    }
}

/// A record that is to be written.
pub struct Verified {
    pub key: Key,
    /// Of what lies there: nothing, or what is left of a record that was deleted.
    pub revision: Revision,
    pub body: Vec<u8>,
    /// For the audit trail.
    pub line: Option<AuditLine>,
}

pub struct Judge<'j> {
    pub plans: &'j Plans,
    pub store: &'j dyn Store,
    /// Of the list, verified or there: with the revision of those that are there.
    instances: HashMap<String, (Instance, Option<Revision>)>,
    bindings: HashSet<Key>,
}

impl<'j> Judge<'j> {
    pub fn new(plans: &'j Plans, store: &'j dyn Store) -> Judge<'j> {
        Judge {
            plans,
            store,
            instances: HashMap::new(),
            bindings: HashSet::new(),
        }
    }

    /// `None` if it is there already.
    pub fn judge(&mut self, listed: &Listed<'_>) -> Result<Option<Verified>, Stop> {
        match &listed.binding_id {
            None => self.instance(listed),
            Some(id) => self.binding(listed, id),
        }
    }

    /// The revision that the instance of a binding had.
    pub fn revision_of(&self, instance_id: &str) -> Option<Revision> {
        self.instances.get(instance_id)?.1
    }

    fn instance(&mut self, listed: &Listed<'_>) -> Result<Option<Verified>, Stop> {
        let id = &listed.instance_id;
        if self.instances.contains_key(id) {
            return Err(twice());
        }
        let offer = self.named(listed)?;
        let request = ProvisionRequest {
            service_id: Cow::Borrowed(&offer.service.id),
            plan_id: Cow::Borrowed(&offer.plan.id),
            organization_guid: listed.required("organization_guid")?,
            space_guid: listed.required("space_guid")?,
            context: listed.object("context")?,
            parameters: listed.object("parameters")?,
            maintenance_version: None,
        };
        let version = listed.maintenance_version()?;
        let dashboard_url = listed.string("dashboard_url")?.map(Cow::into_owned);
        let metadata = listed.object("metadata")?.map(RawValue::to_owned);
        let state = listed.object("state")?.map(RawValue::to_owned);
        let key = Key::instance(id);
        let (revision, found) = self.find::<Instance>(&key)?;
        if let Some(found) = found {
            there(&found)?;
            let is_other_url = dashboard_url.is_some() && dashboard_url != found.dashboard_url;
            let other = is_other_url.then_some("dashboard_url");
            differs(request.difference(&found).or(other))?;
            self.instances.insert(id.clone(), (found, Some(revision)));
            return Ok(None);
        }
        offer.check_parameters(SchemaUse::Provision, request.parameters)?;
        let operation = Operation::new(Kind::Provision, State::Succeeded);
        let origin = Origin::default();
        let asked = Instance {
            // Another one than the plan has now may be what the platform knows.
            maintenance_version: version,
            dashboard_url,
            metadata,
            state,
            ..request.instance(offer.plan, offer.fulfilment(), operation, origin)
        };
        let run_id = new_id()?;
        let run = Run::alone(&run_id, SYNCHRONOUS_TIMEOUT);
        let call = asked.call(id, offer.service, offer.plan, origin, run);
        let made = offer.fulfilment().adapter.verify(&call);
        let made = made.map_err(|failure| refused(failure, request.parameters))?;
        let instance = asked.provisioned(Provisioned {
            dashboard_url: made.dashboard_url.filter(|_| asked.dashboard_url.is_none()),
            metadata: made.metadata.filter(|_| asked.metadata.is_none()),
            state: made.state,
        });
        let verified = verified(key, revision, &instance, &instance)?;
        self.instances.insert(id.clone(), (instance, None));
        Ok(Some(verified))
    }

    fn binding(&mut self, listed: &Listed<'_>, id: &str) -> Result<Option<Verified>, Stop> {
        let instance_id = &listed.instance_id;
        let key = Key::binding(instance_id, id);
        if self.bindings.contains(&key) {
            return Err(twice());
        }
        let instance = self.instance_of(instance_id)?.clone();
        let offer = self
            .plans
            .find_own(&instance.service_id, &instance.plan_id)?;
        let names_plan = ["service_id", "service", "plan_id", "plan"];
        if listed.has_any(&names_plan) && self.named(listed)?.plan.id != offer.plan.id {
            return Err(Stop::Refused(format!(
                "its service instance is of plan {:?}; wanted the same plan, or none",
                offer.plan.id
            )));
        }
        if !offer.plan.is_bindable() {
            let plan = &offer.plan.name;
            return Err(Stop::Refused(format!("plan {plan:?} has no bindings")));
        }
        let request = BindRequest {
            service_id: Some(Cow::Borrowed(&offer.service.id)),
            plan_id: Some(Cow::Borrowed(&offer.plan.id)),
            app_guid: listed.app_guid()?,
            bind_resource: listed.object("bind_resource")?,
            context: listed.object("context")?,
            parameters: listed.object("parameters")?,
            predecessor_binding_id: None,
        };
        let given = listed.answer()?;
        let state = listed.object("state")?.map(RawValue::to_owned);
        let (revision, found) = self.find::<Binding>(&key)?;
        if let Some(found) = found {
            settled(&found.operation)?;
            let answer = given
                .as_ref()
                .and_then(|given| given.credentials.as_deref());
            let is_other =
                answer.is_some() && !same_object(answer, found.answer.credentials.as_deref());
            differs(
                request
                    .difference(&found)
                    .or(is_other.then_some("credentials")),
            )?;
            self.bindings.insert(key);
            return Ok(None);
        }
        offer.check_parameters(SchemaUse::Bind, request.parameters)?;
        let origin = Origin::default();
        let effects = offer.fulfilment().adapter.has_effects();
        let operation = Operation::new(Kind::Bind, State::Succeeded);
        let mut binding = request.binding(&instance, None, effects, operation, origin);
        binding.state.clone_from(&state);
        let run_id = new_id()?;
        let run = Run::alone(&run_id, SYNCHRONOUS_TIMEOUT);
        let of_instance = instance.call(instance_id, offer.service, offer.plan, origin, run);
        let made = offer
            .fulfilment()
            .adapter
            .verify_binding(&binding.call(id, of_instance));
        let made = made.map_err(|failure| refused(failure, request.parameters))?;
        binding.apply(made);
        binding.state = binding.state.or(state);
        if let Some(given) = given {
            binding.answer = given;
        }
        if !gives(&binding.answer) {
            return Err(Stop::Refused(format!(
                "credentials: missing; wanted those that the app has, since the adapter of plan {:?} cannot tell",
                offer.plan.name
            )));
        }
        let verified = verified(key.clone(), revision, &binding, &instance)?;
        self.bindings.insert(key);
        Ok(Some(verified))
    }

    /// The instance of a binding: in the list before it, or in the state.
    fn instance_of(&mut self, id: &str) -> Result<&Instance, Stop> {
        if !self.instances.contains_key(id) {
            let (revision, found) = self.find::<Instance>(&Key::instance(id))?;
            let found = found.ok_or_else(|| {
                "there is no such service instance; wanted one in the state, or verified in an earlier line".to_owned()
            })?;
            there(&found)?;
            self.instances
                .insert(id.to_owned(), (found, Some(revision)));
        }
        let (instance, _) = &self.instances[id];
        Ok(instance)
    }

    /// What is there, and the revision of it or of what is left of it.
    fn find<T: DeserializeOwned>(&self, key: &Key) -> Result<(Revision, Option<T>), Stop> {
        let mut records = self.store.read(std::slice::from_ref(key))?.into_iter();
        let Some(record) = records.next().flatten() else {
            return Ok((Revision::ABSENT, None));
        };
        match (
            serde_json::from_slice(&record.body),
            Found::parse(&record.body),
        ) {
            (Ok(found), _) => Ok((record.revision, Some(found))),
            (Err(_), Found::Tombstone(_)) => Ok((record.revision, None)),
            _ => Err(Stop::Refused(
                "there is a record in the state that cannot be read".to_owned(),
            )),
        }
    }

    /// The plan that a line names, by ids or names.
    fn named(&self, listed: &Listed<'_>) -> Result<Offer<'j>, Stop> {
        let services = self.plans.catalog().services();
        let service = one(listed, "service", services, |s| (&s.id, &s.name))?;
        let plan = one(listed, "plan", &service.plans, |p| (&p.id, &p.name))?;
        Ok(self.plans.find(&service.id, &plan.id)?)
    }
}

/// The one that `what_id` or `what`, its name, says.
fn one<'t, T>(
    listed: &Listed<'_>,
    what: &str,
    all: &'t [T],
    names: impl Fn(&T) -> (&String, &String),
) -> Result<&'t T, String> {
    let by_id = format!("{what}_id");
    let (field, wanted) = match (listed.string(&by_id)?, listed.string(what)?) {
        (Some(id), None) => (by_id.as_str(), id),
        (None, Some(name)) => (what, name),
        (None, None) => {
            return Err(format!(
                "{by_id} is missing; wanted it, or {what:?}, its name"
            ));
        }
        (Some(_), Some(_)) => {
            return Err(format!(
                "{what}: found {by_id} as well, wanted one of the two"
            ));
        }
    };
    let is_it = |candidate: &&T| {
        let (id, name) = names(candidate);
        *wanted == **(if field == what { name } else { id })
    };
    let found = all.iter().find(is_it);
    found.ok_or_else(|| format!("{field}: found {wanted:?}, which is not in the catalog"))
}

fn twice() -> Stop {
    Stop::Refused("stands in an earlier line, too".to_owned())
}

/// An instance that platforms see, and nothing is in progress on it.
fn there(found: &Instance) -> Result<(), Stop> {
    match found.kept {
        None => settled(&found.operation),
        Some(_) => Err(Stop::Refused(
            "was deleted, and is kept; wanted brokerlet state undelete first".to_owned(),
        )),
    }
}

/// Nothing is in progress on it, and it was made.
fn settled(operation: &Operation) -> Result<(), Stop> {
    match operation.exists() && !operation.in_progress() {
        true => Ok(()),
        false => Err(Stop::Refused(format!(
            "is in the state, and its last operation, {}, has {}",
            operation.kind.name(),
            match operation.in_progress() {
                true => "not ended",
                false => "failed",
            }
        ))),
    }
}

fn differs(field: Option<&str>) -> Result<(), Stop> {
    match field {
        None => Ok(()),
        Some(field) => Err(Stop::Refused(format!(
            "is in the state already, with another {field}"
        ))),
    }
}

/// With what only the operator reads.
fn refused(failure: Failure, parameters: Option<&RawValue>) -> Stop {
    let detail = failure.detail.clone();
    let error = Error::from_failure(failure).unquoted(&[parameters]);
    let mut why = told(error);
    if let Some(detail) = detail.filter(|detail| !why.contains(detail.as_str())) {
        why = format!("{why} ({detail})");
    }
    Stop::Refused(why)
}

fn verified(
    key: Key,
    revision: Revision,
    record: &impl Serialize,
    instance: &Instance,
) -> Result<Verified, Stop> {
    let body = serde_json::to_vec(record).map_err(|_| "cannot be written as JSON".to_owned())?;
    Ok(Verified {
        line: line(&key, instance, "adopt"),
        key,
        revision,
        body,
    })
}
