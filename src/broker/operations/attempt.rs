//! One attempt at an operation: the calls of the adapter.

use crate::adapter::{Failure, Run, UpdateCall};
use crate::broker::plans::{Offer, Plans};
use crate::broker::protocol::binding::record::Binding;
use crate::broker::protocol::error::Error;
use crate::broker::protocol::instance::record::Instance;
use crate::broker::protocol::named;
use crate::broker::protocol::operation::Kind;
use crate::broker::protocol::subject::{AttemptError, Outcome, Subject, Success};
use crate::broker::state::{State, lost};
use crate::json::Object;
use crate::log;
use crate::store::Key;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// What an attempt works with.
pub struct Attempt<'a> {
    pub plans: &'a Plans,
    pub state: &'a State,
    pub run: Run<'a>,
}

impl Attempt<'_> {
    /// One call of the adapter, or for a deprovision as many as there are things to remove.
    pub fn make(&self, key: &Key, subject: &Subject) -> Outcome {
        let outcome = match (key, subject) {
            (Key::Instance(id), Subject::Instance(instance)) => match instance.operation.kind {
                Kind::Update => self.update(id, instance),
                Kind::Deprovision => self.deprovision_with_bindings(id, instance),
                _ => self.provision(id, instance),
            },
            (Key::Binding(instance_id, id), Subject::Binding(instance, binding)) => {
                match binding.operation.kind {
                    Kind::Unbind => self
                        .unbind(instance_id, instance, id, binding)
                        .map(|()| Success::Removed),
                    _ => self.bind(instance_id, instance, id, binding),
                }
            }
            _ => Err(AttemptError::unchanged(lost(key))),
        };
        outcome.map_err(|failed| AttemptError {
            error: failed.error.unquoted(&subject.parameters()),
            ..failed
        })
    }

    /// Removes what a creation may have made, or does what a removal was to do.
    pub fn take_back(&self, key: &Key, subject: &Subject) -> Outcome {
        match (key, subject) {
            (Key::Instance(id), Subject::Instance(instance))
                if instance.operation.kind == Kind::Provision =>
            {
                self.deprovision(id, instance).map(|()| Success::Removed)
            }
            (Key::Binding(instance_id, id), Subject::Binding(instance, binding)) => self
                .unbind(instance_id, instance, id, binding)
                .map(|()| Success::Removed),
            _ => self.make(key, subject),
        }
    }

    fn provision(&self, id: &str, instance: &Instance) -> Outcome {
        let offer = self
            .plans
            .lookup(&instance.service_id, &instance.plan_id)
            .map_err(|_| left_catalog(&Key::instance(id), &instance.plan_id))?;
        let origin = instance.operation.origin();
        let call = instance.call(id, offer.service, offer.plan, origin, self.run);
        let outcome = self.call(Kind::Provision, offer, || {
            offer.fulfilment().adapter.provision(&call)
        })?;
        Ok(Success::Instance(instance.provisioned(outcome)))
    }

    fn update(&self, id: &str, before: &Instance) -> Outcome {
        let plan_id = before.next_plan_id();
        let offer = self
            .plans
            .lookup(&before.service_id, plan_id)
            .map_err(|_| left_catalog(&Key::instance(id), plan_id))?;
        let adapter = &offer.fulfilment().adapter;
        let mut after = before.updated(offer.plan, adapter.has_effects());
        let changes = before.update.as_ref().and_then(|u| u.parameters.as_deref());
        let call = UpdateCall {
            instance: after.call(
                id,
                offer.service,
                offer.plan,
                before.operation.origin(),
                self.run,
            ),
            changes: Object::new(changes),
            previous_parameters: Object::new(before.parameters.as_deref()),
            previous_plan_id: &before.plan_id,
        };
        let outcome = self.call(Kind::Update, offer, || adapter.update(&call))?;
        after.apply(outcome);
        Ok(Success::Instance(after))
    }

    /// Removes what adapters have made for the bindings of an instance that is being deprovisioned, then the instance. Where
    /// the plan says that it is kept, that is done later.
    fn deprovision_with_bindings(&self, id: &str, instance: &Instance) -> Outcome {
        // Read again: from here on no binding can be added.
        let bindings = self.state.idle_bindings(id).map_err(|error| AttemptError {
            // One came in between; when it is done, it goes too.
            retry: error.status == 422,
            ..AttemptError::half_way(error)
        })?;
        for binding in bindings.iter().filter(|binding| binding.record.effects) {
            let part = part_id(self.run.id, &binding.id);
            let unbind = Attempt {
                run: Run {
                    id: &part,
                    ..self.run
                },
                ..*self
            };
            unbind.unbind(id, instance, &binding.id, &binding.record)?;
            self.state
                .delete_binding(id, instance, binding)
                .map_err(AttemptError::half_way)?;
        }
        if !bindings.is_empty() {
            let line = log::warn("bindings_removed");
            self.plans
                .line(line, &Key::instance(id), &instance.plan_id)
                .with("count", bindings.len())
                .with(
                    "reason",
                    "the platform deprovisioned the service instance without deleting its bindings first",
                )
                .send();
        }
        match self.retain(instance) {
            Some(time) => Ok(Success::Instance(instance.kept_for(time))),
            None => self.deprovision(id, instance).map(|()| Success::Removed),
        }
    }

    /// How long an instance that is being deprovisioned is to be kept. What was never made in full is not, and nothing twice.
    fn retain(&self, instance: &Instance) -> Option<Duration> {
        if instance.kept.is_some() || instance.operation.unmade {
            return None;
        }
        let offer = self.plans.lookup(&instance.service_id, &instance.plan_id);
        offer.ok()?.plan.rules.retain
    }

    /// Has the adapter remove the instance.
    fn deprovision(&self, id: &str, instance: &Instance) -> Result<(), AttemptError> {
        let ids = [instance.plan_id.as_str()];
        let offer = self
            .plans
            .remover(
                &Key::instance(id),
                &instance.service_id,
                &ids,
                instance.effects,
            )
            .map_err(AttemptError::half_way)?;
        let Some(offer) = offer else { return Ok(()) };
        let origin = instance.operation.origin();
        let call = instance.call(id, offer.service, offer.plan, origin, self.run);
        self.call(Kind::Deprovision, offer, || {
            offer.fulfilment().adapter.deprovision(&call)
        })
    }

    fn bind(&self, instance_id: &str, instance: &Instance, id: &str, binding: &Binding) -> Outcome {
        let offer = self
            .plans
            .lookup(&binding.service_id, &binding.plan_id)
            .map_err(|_| left_catalog(&Key::binding(instance_id, id), &binding.plan_id))?;
        let origin = binding.operation.origin();
        let told = instance.call(instance_id, offer.service, offer.plan, origin, self.run);
        let bound = self.call(Kind::Bind, offer, || {
            offer.fulfilment().adapter.bind(&binding.call(id, told))
        })?;
        let mut after = binding.clone();
        after.apply(bound);
        Ok(Success::Binding(after))
    }

    /// Has the adapter that made the binding remove it.
    fn unbind(
        &self,
        instance_id: &str,
        instance: &Instance,
        id: &str,
        binding: &Binding,
    ) -> Result<(), AttemptError> {
        // If the plan that the binding was made with has left the catalog, that of the instance does, whose adapter is of
        // the same kind.
        let ids = [binding.plan_id.as_str(), instance.plan_id.as_str()];
        let offer = self
            .plans
            .remover(
                &Key::binding(instance_id, id),
                &binding.service_id,
                &ids,
                binding.effects,
            )
            .map_err(AttemptError::half_way)?;
        let Some(offer) = offer else { return Ok(()) };
        // The one who asked for the deprovision, if it is one.
        let origin = if instance.operation.kind == Kind::Deprovision {
            instance.operation.origin()
        } else {
            binding.operation.origin()
        };
        let told = instance.call(instance_id, offer.service, offer.plan, origin, self.run);
        self.call(Kind::Unbind, offer, || {
            offer.fulfilment().adapter.unbind(&binding.call(id, told))
        })
    }

    /// One call of an adapter, which is counted.
    fn call<T>(
        &self,
        kind: Kind,
        offer: Offer<'_>,
        call: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, AttemptError> {
        let began = Instant::now();
        let result = guarded(call);
        let failure = result.as_ref().err().map(|failure| failure.kind);
        let ended = Instant::now();
        let late = ended >= self.run.deadline;
        offer.counts().called(kind, failure, late, ended - began);
        result.map_err(|failure| AttemptError::of(kind, failure))
    }
}

/// The id of a piece of an operation, the same in every attempt: what does not do the same work twice knows it by its id.
fn part_id(operation_id: &str, binding_id: &str) -> String {
    let binding_id = utf8_percent_encode(binding_id, NON_ALPHANUMERIC);
    format!("{operation_id}.{binding_id}")
}

/// Calls an adapter; a panic there is a failure like any other.
fn guarded<T>(call: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        Err(Failure::failed(
            "The service broker failed unexpectedly; the operator finds the cause in the broker's log.",
        )
        .with_detail("the adapter panicked"))
    })
}

/// The plan of an operation that was in progress when the catalog file lost it.
fn left_catalog(key: &Key, plan_id: &str) -> AttemptError {
    AttemptError::half_way(Error::internal(
        format!(
            "{} cannot be worked on: its plan {plan_id:?} has left the broker's catalog. The operator has to put the plan \
             back into the catalog file.",
            named(key)
        ),
        "the plan has left the catalog",
    ))
}
