//! What operators look at: offerings, instances, bindings and what is being done to them. Never credentials, parameters,
//! or what adapters keep.

pub use super::census::{BEHIND, BINDINGS, INSTANCES};
use super::census::{Counts, Numbers};
use super::operations::Operations;
use super::plans::Plans;
use super::protocol::binding::record::Binding;
use super::protocol::instance::record::Instance;
use super::protocol::operation::{Kind, Operation, Stamp, State as Progress};
use super::state::{State, read};
use crate::json::Object;
use crate::store::{self, Key};

use humantime::format_rfc3339_seconds;
use std::time::SystemTime;

/// How many records are read at once.
const STEP: usize = 32;
/// How many records are looked at for one page.
const MOST_LOOKED_AT: usize = 4096;

/// Whether something can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    Ready,
    InProgress,
    /// The last operation has failed.
    Failed,
    /// It was deprovisioned, and is kept for a while.
    Kept,
}

impl Condition {
    pub const ALL: [Condition; 4] = [
        Condition::Ready,
        Condition::InProgress,
        Condition::Failed,
        Condition::Kept,
    ];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Condition::Ready => "ready",
            Condition::InProgress => "in progress",
            Condition::Failed => "failed",
            Condition::Kept => "kept",
        }
    }
}

/// What was done last, or is being done.
pub struct LastOperation {
    pub kind: Kind,
    pub condition: Condition,
    /// Since when it is in progress.
    pub since: Option<SystemTime>,
    /// Its progress, or why it has failed, in the words that users read.
    pub text: Option<String>,
}

pub struct InstanceView {
    pub id: String,
    /// What the platform calls it, if it says so.
    pub name: Option<String>,
    /// Of the offering and the plan: the names, or ids if they have left the catalog.
    pub service: String,
    pub plan: String,
    pub organization: String,
    pub space: String,
    pub adapter: String,
    pub created: SystemTime,
    pub created_by: Option<String>,
    pub updated: Option<SystemTime>,
    pub operation: LastOperation,
    /// An operator does not want it deprovisioned.
    pub protected: bool,
    /// It was deprovisioned, and is kept.
    pub hidden: bool,
    /// Of the maintenance information: the version that it has.
    pub version: Option<String>,
    /// That of its plan, if it is behind.
    pub behind: Option<String>,
}

pub struct BindingView {
    pub id: String,
    pub app: Option<String>,
    pub created: SystemTime,
    pub expired: bool,
    pub operation: LastOperation,
}

/// Which instances. What is empty or absent leaves out none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub service: String,
    pub plan: String,
    /// Of organisation and space: the id or the name.
    pub organization: String,
    pub space: String,
    pub condition: Option<Condition>,
    /// Those that are behind the maintenance information of their plan.
    pub behind: bool,
}

/// Some of the instances.
pub struct Page {
    pub instances: Vec<InstanceView>,
    /// Behind this id there may be more.
    pub next: Option<String>,
}

/// A plan of the catalog, and how many instances and bindings it has, if they were counted.
pub struct PlanView<'a> {
    pub service: &'a str,
    pub plan: &'a str,
    pub retired: bool,
    pub numbers: Option<Counts>,
}

/// What one looks through.
pub(super) struct Look<'a> {
    pub(super) plans: &'a Plans,
    pub(super) state: &'a State,
    pub(super) operations: &'a Operations,
}

/// The plans of the catalog, in its order.
pub fn plans<'a>(plans: &'a Plans, numbers: Option<&Numbers>) -> Vec<PlanView<'a>> {
    let services = plans.catalog().services().iter();
    let all = services.flat_map(|service| service.plans.iter().map(move |plan| (service, plan)));
    all.map(|(service, plan)| PlanView {
        service: &service.name,
        plan: &plan.name,
        retired: plan.rules.retired,
        numbers: numbers.map(|numbers| {
            let ids = (service.id.clone(), plan.id.clone());
            numbers.plans.get(&ids).copied().unwrap_or_default()
        }),
    })
    .collect()
}

impl Look<'_> {
    /// The next instances behind this id that pass the filter. Looks at a bounded number of records, so there may be more
    /// behind an empty page.
    pub fn instances(
        &self,
        filter: &Filter,
        after: &str,
        most: usize,
    ) -> Result<Page, store::Error> {
        let mut after = after.to_owned();
        let mut instances = Vec::new();
        let mut looked_at = 0;
        loop {
            let step = self.state.instances(&after, STEP)?;
            if step.is_empty() {
                return Ok(Page {
                    instances,
                    next: None,
                });
            }
            for (id, record) in step {
                if instances.len() == most || looked_at == MOST_LOOKED_AT {
                    return Ok(Page {
                        instances,
                        next: Some(after),
                    });
                }
                looked_at += 1;
                after.clone_from(&id);
                // What is left of a deleted one is no instance.
                if let Some(instance) = read::<Instance>(&record)
                    && self.passes(&instance, filter)
                {
                    instances.push(self.view(id, &instance));
                }
            }
        }
    }

    fn passes(&self, instance: &Instance, filter: &Filter) -> bool {
        let is = |wanted: &str, found: &[Option<&str>]| {
            wanted.is_empty() || found.contains(&Some(wanted))
        };
        let names = self.plans.names(&instance.plan_id);
        let context = Object::new(instance.context.as_deref()).to_map();
        let named = |name: &str| context.get(name).and_then(|value| value.as_str());
        let condition = condition_of(instance);
        is(
            &filter.service,
            &[Some(&instance.service_id), names.map(|n| &*n.service)],
        ) && is(
            &filter.plan,
            &[Some(&instance.plan_id), names.map(|n| &*n.plan)],
        ) && is(
            &filter.organization,
            &[
                Some(&instance.organization_guid),
                named("organization_name"),
            ],
        ) && is(
            &filter.space,
            &[Some(&instance.space_guid), named("space_name")],
        ) && filter.condition.is_none_or(|wanted| wanted == condition)
            && (!filter.behind || self.behind(instance).is_some())
    }

    /// The version of its plan, if an instance is behind that.
    fn behind(&self, instance: &Instance) -> Option<&str> {
        if !instance.operation.exists() || instance.kept.is_some() {
            return None;
        }
        let offer = self.plans.lookup(&instance.service_id, &instance.plan_id);
        let version = instance.maintenance_version.as_deref();
        offer.ok()?.plan.ahead_of(version)
    }

    /// One instance with its bindings.
    pub fn instance(
        &self,
        id: &str,
    ) -> Result<Option<(InstanceView, Vec<BindingView>)>, store::Error> {
        let Some(instance) = self
            .state
            .record(&Key::instance(id))?
            .as_ref()
            .and_then(read)
        else {
            return Ok(None);
        };
        let bindings = self.state.bindings(id)?.into_iter();
        let bindings = bindings.filter_map(|(binding_id, record)| {
            let binding: Binding = read(&record)?;
            Some(BindingView {
                app: binding.app_guid.clone(),
                created: binding.created.at.0,
                expired: binding.is_expired(SystemTime::now()),
                operation: self.last(&Key::binding(id, &binding_id), &binding.operation),
                id: binding_id,
            })
        });
        let bindings = bindings.collect();
        Ok(Some((self.view(id.to_owned(), &instance), bindings)))
    }

    /// The oldest operations in progress, each with its instance.
    pub fn in_progress(&self, most: usize) -> Result<Vec<(Key, LastOperation)>, store::Error> {
        let mut found = Vec::new();
        for key in self.operations.in_progress(most) {
            let record = self.state.record(&key)?;
            let operation = match &key {
                Key::Instance(_) => record.and_then(|it| Some(read::<Instance>(&it)?.operation)),
                Key::Binding(..) => record.and_then(|it| Some(read::<Binding>(&it)?.operation)),
            };
            // It may have ended meanwhile.
            if let Some(operation) = operation.filter(Operation::in_progress) {
                let last = self.last(&key, &operation);
                found.push((key, last));
            }
        }
        Ok(found)
    }

    fn view(&self, id: String, instance: &Instance) -> InstanceView {
        let names = self.plans.names(&instance.plan_id);
        let (service, plan) = names.map_or((&instance.service_id, &instance.plan_id), |names| {
            (&names.service, &names.plan)
        });
        let context = Object::new(instance.context.as_deref()).to_map();
        // With the id, which stays the same.
        let place = |name: &str, guid: &str| match context.get(name).and_then(|v| v.as_str()) {
            Some(name) => format!("{name} ({guid})"),
            None => guid.to_owned(),
        };
        let by = |stamp: &Stamp| stamp.by.as_ref()?.user().map(str::to_owned);
        InstanceView {
            name: context
                .get("instance_name")
                .and_then(|name| name.as_str())
                .map(str::to_owned),
            service: service.clone(),
            plan: plan.clone(),
            organization: place("organization_name", &instance.organization_guid),
            space: place("space_name", &instance.space_guid),
            adapter: instance.adapter.clone(),
            created: instance.created.at.0,
            created_by: by(&instance.created),
            updated: instance.updated.as_ref().map(|stamp| stamp.at.0),
            operation: match instance.kept.filter(|_| is_settled(instance)) {
                None => self.last(&Key::instance(&id), &instance.operation),
                Some(kept) => LastOperation {
                    kind: Kind::Deprovision,
                    condition: Condition::Kept,
                    since: None,
                    text: Some(format!("until {}", format_rfc3339_seconds(kept.until.0))),
                },
            },
            protected: instance.protected.is_some(),
            hidden: instance.is_hidden(),
            version: instance.maintenance_version.clone(),
            behind: self.behind(instance).map(str::to_owned),
            id,
        }
    }

    fn last(&self, key: &Key, operation: &Operation) -> LastOperation {
        let progress = self.operations.progress(key, operation);
        LastOperation {
            kind: operation.kind,
            condition: condition(operation),
            since: operation.requested().map(|requested| requested.at.0),
            text: progress.or_else(|| operation.description.clone()),
        }
    }
}

/// Its removal has neither begun nor failed.
fn is_settled(instance: &Instance) -> bool {
    instance.operation.state == Progress::Succeeded
}

fn condition_of(instance: &Instance) -> Condition {
    match instance.is_hidden() && is_settled(instance) {
        true => Condition::Kept,
        false => condition(&instance.operation),
    }
}

fn condition(operation: &Operation) -> Condition {
    match operation.state {
        Progress::InProgress => Condition::InProgress,
        Progress::Failed => Condition::Failed,
        Progress::Succeeded => Condition::Ready,
    }
}
