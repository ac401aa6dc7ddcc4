//! What adapters do for service instances.

use super::named;
use super::record::Instance;
use crate::adapter::{Run, UpdateCall};
use crate::broker::binding::record::Binding;
use crate::broker::error::Error;
use crate::broker::operation::{self, Kind};
use crate::broker::stored::Found;
use crate::broker::work::subject::{Done, Setback};
use crate::broker::{Broker, guarded};
use crate::json::Object;
use crate::log;
use crate::store::{Change, Key, Revision};

impl Broker {
    /// One attempt at the operation that is in progress on an instance.
    pub(in crate::broker) fn attempt_instance(
        &self,
        id: &str,
        instance: &Instance,
        run: Run<'_>,
    ) -> Result<Done, Setback> {
        match instance.operation.kind {
            Kind::Update => self.attempt_update(id, instance, run),
            Kind::Deprovision => {
                self.remove_with_bindings(id, instance, run)?;
                Ok(Done::Removed)
            }
            _ => self.attempt_provision(id, instance, run),
        }
    }

    fn attempt_provision(
        &self,
        id: &str,
        instance: &Instance,
        run: Run<'_>,
    ) -> Result<Done, Setback> {
        let plans = self.plans();
        let offer = plans
            .lookup(&instance.service_id, &instance.plan_id)
            .map_err(|_| left(&named(id), &instance.plan_id))?;
        let origin = instance.operation.origin();
        let call = instance.call(id, offer.service, offer.plan, origin, run);
        let outcome = guarded(|| offer.fulfilment().adapter.provision(&call))
            .map_err(|failure| Setback::of(Kind::Provision, failure))?;
        Ok(Done::Instance(instance.provisioned(outcome)))
    }

    fn attempt_update(&self, id: &str, before: &Instance, run: Run<'_>) -> Result<Done, Setback> {
        let plan_id = before.next_plan_id();
        let plans = self.plans();
        let offer = plans
            .lookup(&before.service_id, plan_id)
            .map_err(|_| left(&named(id), plan_id))?;
        let adapter = &offer.fulfilment().adapter;
        let mut after = before.updated(offer.plan, adapter.has_effects());
        let changes = before.update.as_ref().and_then(|u| u.parameters.as_deref());
        let call = UpdateCall {
            instance: after.call(
                id,
                offer.service,
                offer.plan,
                before.operation.origin(),
                run,
            ),
            changes: Object::new(changes),
            previous_parameters: Object::new(before.parameters.as_deref()),
            previous_plan_id: &before.plan_id,
        };
        let outcome = guarded(|| adapter.update(&call))
            .map_err(|failure| Setback::of(Kind::Update, failure))?;
        after.apply(outcome);
        Ok(Done::Instance(after))
    }

    /// Removes what adapters have made for the bindings of an instance that is being deprovisioned, then the instance.
    fn remove_with_bindings(
        &self,
        id: &str,
        instance: &Instance,
        run: Run<'_>,
    ) -> Result<(), Setback> {
        // Read again: from here on no binding can be added.
        let bindings = self.idle_bindings(id).map_err(|error| Setback {
            // One came in between; when it is done, it goes too.
            again: error.status == 422,
            ..Setback::half_way(error)
        })?;
        for binding in bindings.iter().filter(|binding| binding.record.effects) {
            self.call_unbind(id, instance, &binding.id, &binding.record, run)?;
            let change = Change::Delete {
                key: Key::binding(id, &binding.id),
                revision: binding.revision,
            };
            self.commit(vec![change]).map_err(Setback::half_way)?;
        }
        self.log_removed_bindings(id, instance, bindings.len());
        self.call_deprovision(id, instance, run)
    }

    fn log_removed_bindings(&self, id: &str, instance: &Instance, count: usize) {
        if count == 0 {
            return;
        }
        self.line(
            log::warn("bindings_removed"),
            &Key::instance(id),
            &instance.plan_id,
        )
        .with("count", count)
        .with(
            "reason",
            "the platform deprovisioned the service instance without deleting its bindings first",
        )
        .send();
    }

    /// The bindings of an instance, or 422 if one of them is busy.
    pub(super) fn idle_bindings(&self, instance_id: &str) -> Result<Vec<IdleBinding>, Error> {
        let mut bindings = Vec::new();
        for (id, found) in self.store.bindings(instance_id)? {
            let revision = found.revision;
            let Some(record) = Found::<Binding>::new(Some(found))?.record else {
                continue;
            };
            if record.operation.in_progress() {
                let what = crate::broker::binding::named(&id);
                return Err(operation::busy(&what, record.operation.kind));
            }
            bindings.push(IdleBinding {
                id,
                revision,
                record,
            });
        }
        Ok(bindings)
    }

    /// Has the adapter remove the instance.
    pub(in crate::broker) fn call_deprovision(
        &self,
        id: &str,
        instance: &Instance,
        run: Run<'_>,
    ) -> Result<(), Setback> {
        let ids = [instance.plan_id.as_str()];
        let plans = self.plans();
        let offer = Broker::remover(
            &plans,
            &named(id),
            &instance.service_id,
            &ids,
            instance.effects,
        )
        .map_err(Setback::half_way)?;
        let Some(offer) = offer else { return Ok(()) };
        let origin = instance.operation.origin();
        let call = instance.call(id, offer.service, offer.plan, origin, run);
        guarded(|| offer.fulfilment().adapter.deprovision(&call))
            .map_err(|failure| Setback::of(Kind::Deprovision, failure))
    }
}

/// A binding that nothing is in progress on.
pub(super) struct IdleBinding {
    pub id: String,
    pub revision: Revision,
    pub record: Binding,
}

/// The plan of an operation that was in progress when the catalog file lost it.
pub(in crate::broker) fn left(what: &str, plan_id: &str) -> Setback {
    Setback::half_way(Error::internal(
        format!(
            "{what} cannot be worked on: its plan {plan_id:?} has left the broker's catalog. The operator has to put the \
             plan back into the catalog file."
        ),
        "the plan has left the catalog",
    ))
}
