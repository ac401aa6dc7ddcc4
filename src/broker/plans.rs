//! What can be asked for: the catalog together with how each of its plans is fulfilled.

use super::counts::PlanCounts;
use super::protocol::body::Field;
use super::protocol::caller::Names;
use super::protocol::error::Error;
use super::protocol::named;
use super::protocol::subject::Subject;
use crate::adapter::kinds::Fulfilment;
#[cfg(feature = "schemas")]
use crate::catalog::schema::Validator;
use crate::catalog::{Catalog, Plan, SchemaUse, Service, Unknown};
#[cfg(feature = "schemas")]
use crate::json::Object;
use crate::log;
use crate::store::Key;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The catalog and how its plans are fulfilled.
pub struct Plans {
    catalog: Catalog,
    /// plan id -> how it is fulfilled; every plan of the catalog has one.
    entries: HashMap<String, Entry>,
    /// The numbers of plans that have left the catalog.
    others: Arc<PlanCounts>,
}

struct Entry {
    names: Arc<Names>,
    fulfilment: Fulfilment,
    counts: Arc<PlanCounts>,
    #[cfg(feature = "schemas")]
    validators: Vec<(SchemaUse, Validator)>,
}

/// One plan, found by its pair of ids.
#[derive(Clone, Copy)]
pub struct Offer<'a> {
    pub service: &'a Service,
    pub plan: &'a Plan,
    entry: &'a Entry,
}

impl Plans {
    /// `fulfilments` has one for every plan id of the catalog.
    pub fn new(catalog: Catalog, fulfilments: HashMap<String, Fulfilment>) -> Plans {
        let mut entries = HashMap::with_capacity(fulfilments.len());
        let services = catalog.services().iter();
        for (service, plan) in services.flat_map(|s| s.plans.iter().map(move |plan| (s, plan))) {
            if let Some(fulfilment) = fulfilments.get(&plan.id) {
                let entry = Entry {
                    names: Arc::new(Names {
                        service: service.name.clone(),
                        plan: plan.name.clone(),
                    }),
                    fulfilment: fulfilment.clone(),
                    counts: Arc::default(),
                    #[cfg(feature = "schemas")]
                    validators: compile(plan),
                };
                entries.insert(plan.id.clone(), entry);
            }
        }
        Plans {
            catalog,
            entries,
            others: Arc::default(),
        }
    }

    /// Takes the place of others.
    pub fn replacing(mut self, before: &Plans) -> Plans {
        for (plan_id, entry) in &mut self.entries {
            if let Some(before) = before.entries.get(plan_id) {
                entry.counts = before.counts.clone();
            }
        }
        Plans {
            catalog: self.catalog.replacing(&before.catalog),
            others: before.others.clone(),
            ..self
        }
    }

    /// The ids of every service offering and plan.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        let services = self.catalog.services().iter();
        services.flat_map(|service| {
            let plans = service.plans.iter();
            plans.map(|plan| (service.id.as_str(), plan.id.as_str()))
        })
    }

    /// The ids of the plans that limit how many instances there may be.
    pub fn limited(&self) -> HashSet<String> {
        let plans = self.catalog.services().iter().flat_map(|it| &it.plans);
        let limited = plans.filter(|plan| !plan.rules.limits.is_empty());
        limited.map(|plan| plan.id.clone()).collect()
    }

    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The plan of a pair of ids, or 400. spec: Provisioning, Body.
    pub fn find(&self, service_id: &str, plan_id: &str) -> Result<Offer<'_>, Error> {
        match self.lookup(service_id, plan_id) {
            Ok(offer) => Ok(offer),
            Err(Unknown::Service) => Err(Error::bad_request(format!(
                "service_id: found {service_id:?}, wanted the id of a service offering in this broker's catalog."
            ))),
            Err(Unknown::Plan) => Err(Error::bad_request(format!(
                "plan_id: found {plan_id:?}, wanted the id of a plan of service offering {service_id:?} in this \
                 broker's catalog."
            ))),
        }
    }

    /// The plan of a pair of ids that something new is to be made of, or 400. spec: Provisioning, Body.
    pub fn find_offered(&self, service_id: &str, plan_id: &str) -> Result<Offer<'_>, Error> {
        let offer = self.find(service_id, plan_id)?;
        match offer.plan.rules.retired {
            false => Ok(offer),
            true => Err(Error::bad_request(format!(
                "plan_id: plan {:?} is retired: its service instances go on, but there are no new ones of it.",
                offer.plan.name
            ))),
        }
    }

    /// The plan that an instance has, or a 400 that says what can be done if it has left the catalog.
    pub fn find_own(&self, service_id: &str, plan_id: &str) -> Result<Offer<'_>, Error> {
        self.lookup(service_id, plan_id).map_err(|_| {
            Error::bad_request(format!(
                "The plan {plan_id:?} of this service instance has left the broker's catalog: the instance can be \
                 deleted, but not updated or bound. The operator can put the plan back into the catalog file, with \
                 \"retired\": true to hide it from users."
            ))
        })
    }

    /// The plan whose adapter works on a record, if it is still in the catalog.
    pub fn of(&self, subject: &Subject) -> Option<Offer<'_>> {
        self.first(subject.service_id(), &subject.plan_ids())
    }

    /// Where it is counted what becomes of a record.
    pub fn counts(&self, subject: &Subject) -> &PlanCounts {
        self.of(subject)
            .map_or(&self.others, |offer| offer.counts())
    }

    /// Every plan's names and numbers, and at last those of plans that have left the catalog.
    pub fn all_counts(&self) -> Vec<(&str, &str, &PlanCounts)> {
        let entries = self.all().filter_map(|(_, id)| self.entries.get(id));
        let counts = entries.map(|entry| {
            let Names { service, plan } = &*entry.names;
            (service.as_str(), plan.as_str(), &*entry.counts)
        });
        counts.chain([("", "", &*self.others)]).collect()
    }

    fn first(&self, service_id: &str, plan_ids: &[&str]) -> Option<Offer<'_>> {
        let mut plan_ids = plan_ids.iter();
        plan_ids.find_map(|plan_id| self.lookup(service_id, plan_id).ok())
    }

    /// The plan whose adapter removes what was made for a record: the first of these that is still in the catalog. `None`
    /// if none is, and there is nothing outside the broker to remove.
    pub fn remover(
        &self,
        key: &Key,
        service_id: &str,
        plan_ids: &[&str],
        effects: bool,
    ) -> Result<Option<Offer<'_>>, Error> {
        let offer = self.first(service_id, plan_ids);
        if offer.is_none() && effects {
            let plan_id = plan_ids.first().copied().unwrap_or_default();
            return Err(Error::internal(
                format!(
                    "{} cannot be removed: its plan {plan_id:?} has left the broker's catalog, and with it the adapter \
                     that can. The operator has to put the plan back into the catalog file.",
                    named(key)
                ),
                "the plan has left the catalog",
            ));
        }
        Ok(offer)
    }

    /// A line of the log about a record, with what its plan is called, if that is in the catalog.
    pub fn line(&self, line: log::Entry, key: &Key, plan_id: &str) -> log::Entry {
        let (instance_id, binding_id) = match key {
            Key::Instance(id) => (id, None),
            Key::Binding(instance_id, id) => (instance_id, Some(id)),
        };
        let names = self.names(plan_id);
        line.with("instance_id", instance_id)
            .with("binding_id", binding_id)
            .with("service", names.map(|names| &names.service))
            .with("plan", names.map(|names| &names.plan))
    }

    /// What the plan of this id is called, if it is (still) in the catalog.
    pub fn names(&self, plan_id: &str) -> Option<&Arc<Names>> {
        self.entries.get(plan_id).map(|entry| &entry.names)
    }

    /// The plan of a pair of ids, if it is (still) in the catalog.
    pub fn lookup(&self, service_id: &str, plan_id: &str) -> Result<Offer<'_>, Unknown> {
        let (service, plan) = self.catalog.plan(service_id, plan_id)?;
        let entry = self.entries.get(plan_id).ok_or(Unknown::Plan)?;
        Ok(Offer {
            service,
            plan,
            entry,
        })
    }
}

impl<'a> Offer<'a> {
    pub fn names(&self) -> &'a Arc<Names> {
        &self.entry.names
    }

    pub fn counts(&self) -> &'a PlanCounts {
        &self.entry.counts
    }

    pub fn fulfilment(&self) -> &'a Fulfilment {
        &self.entry.fulfilment
    }

    /// 422 where the platform shows its users another version than the catalog has.
    /// spec: Provisioning and Updating, MaintenanceInfoConflict.
    pub fn check_maintenance(&self, version: Option<&str>) -> Result<(), Error> {
        let current = self
            .plan
            .maintenance_info
            .as_ref()
            .map(|m| m.version.as_str());
        match (version, current) {
            (None, _) => Ok(()),
            (Some(version), Some(current)) if version == current => Ok(()),
            (Some(version), Some(current)) => Err(Error::maintenance_conflict(format!(
                "maintenance_info.version: found {version:?}, but plan {:?} is at {current:?}. Refresh the platform's \
                 catalog of this broker and try again.",
                self.plan.name
            ))),
            (Some(version), None) => Err(Error::maintenance_conflict(format!(
                "maintenance_info.version: found {version:?}, but plan {:?} has no maintenance information. Refresh \
                 the platform's catalog of this broker and try again.",
                self.plan.name
            ))),
        }
    }

    /// 400 where `parameters` do not fit the plan's schema.
    #[cfg(feature = "schemas")]
    pub fn check_parameters(&self, wanted: SchemaUse, parameters: Field<'_>) -> Result<(), Error> {
        let mut validators = self.entry.validators.iter();
        let Some((_, validator)) = validators.find(|(r#use, _)| *r#use == wanted) else {
            return Ok(());
        };
        validator
            .validate(&Object::new(parameters).to_map().into())
            .map_err(|unfit| Error {
                logged: Some(format!("{}.", unfit.logged)),
                ..Error::bad_request(format!("{}.", unfit.told))
            })
    }

    /// Without the feature `schemas` every object fits.
    #[cfg(not(feature = "schemas"))]
    pub fn check_parameters(&self, _: SchemaUse, _: Field<'_>) -> Result<(), Error> {
        Ok(())
    }
}

/// Those of a plan's schemas that can be used; `check` warns of the others.
#[cfg(feature = "schemas")]
fn compile(plan: &Plan) -> Vec<(SchemaUse, Validator)> {
    [SchemaUse::Provision, SchemaUse::Update, SchemaUse::Bind]
        .into_iter()
        .filter_map(|wanted| Some((wanted, Validator::compile(plan.schema(wanted)?).ok()?)))
        .collect()
}
