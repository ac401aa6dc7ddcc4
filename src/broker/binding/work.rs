//! What adapters do for service bindings.

use super::named;
use super::record::Binding;
use crate::adapter::Run;
use crate::broker::instance::record::Instance;
use crate::broker::instance::work::left;
use crate::broker::operation::Kind;
use crate::broker::work::subject::{Done, Setback};
use crate::broker::{Broker, guarded};

impl Broker {
    /// One attempt at the operation that is in progress on a binding.
    pub(in crate::broker) fn attempt_binding(
        &self,
        instance_id: &str,
        instance: &Instance,
        id: &str,
        binding: &Binding,
        run: Run<'_>,
    ) -> Result<Done, Setback> {
        if binding.operation.kind == Kind::Unbind {
            self.call_unbind(instance_id, instance, id, binding, run)?;
            return Ok(Done::Removed);
        }
        let plans = self.plans();
        let offer = plans
            .lookup(&binding.service_id, &binding.plan_id)
            .map_err(|_| left(&named(id), &binding.plan_id))?;
        let origin = binding.operation.origin();
        let told = instance.call(instance_id, offer.service, offer.plan, origin, run);
        let bound = guarded(|| offer.fulfilment().adapter.bind(&binding.call(id, told)))
            .map_err(|failure| Setback::of(Kind::Bind, failure))?;
        let mut after = binding.clone();
        after.apply(bound);
        Ok(Done::Binding(after))
    }

    /// Has the adapter that made the binding remove it.
    pub(in crate::broker) fn call_unbind(
        &self,
        instance_id: &str,
        instance: &Instance,
        id: &str,
        binding: &Binding,
        run: Run<'_>,
    ) -> Result<(), Setback> {
        // If the plan that the binding was made with has left the catalog, that of the instance does, whose adapter is of
        // the same kind.
        let ids = [binding.plan_id.as_str(), instance.plan_id.as_str()];
        let plans = self.plans();
        let offer = Broker::remover(
            &plans,
            &named(id),
            &binding.service_id,
            &ids,
            binding.effects,
        )
        .map_err(Setback::half_way)?;
        let Some(offer) = offer else { return Ok(()) };
        // The one who asked for the deprovision, if it is one.
        let origin = if instance.operation.kind == Kind::Deprovision {
            instance.operation.origin()
        } else {
            binding.operation.origin()
        };
        let told = instance.call(instance_id, offer.service, offer.plan, origin, run);
        guarded(|| offer.fulfilment().adapter.unbind(&binding.call(id, told)))
            .map_err(|failure| Setback::of(Kind::Unbind, failure))
    }
}
