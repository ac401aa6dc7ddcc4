//! Plans without a resource of their own: every binding gets what the catalog file says, with `${…}` filled in.

mod binding;
mod instance;
mod lifetime;
#[cfg(test)]
mod tests;

use super::{
    Adapter, BindingCall, Bound, Failure, InstanceCall, Provisioned, Settings, UpdateCall,
};
use crate::catalog::Plan;
use binding::Binding;
use instance::Instance;

use std::time::SystemTime;

/// The adapter `shared`. Nothing happens outside the broker.
pub struct Shared {
    instance: Instance,
    binding: Binding,
}

impl Shared {
    /// The adapter of a plan without settings: accepts everything, and credentials are `{}`.
    pub fn empty() -> Shared {
        Shared {
            instance: Instance::default(),
            binding: Binding::empty(),
        }
    }

    /// Reads `instance` and `binding`. What is wrong is reported to the settings.
    pub fn from_settings(settings: &Settings<'_>) -> Option<Shared> {
        let instance = settings
            .section("instance")
            .map(|section| Instance::read(&section));
        let binding = settings.section("binding").map(|section| {
            warn_unless_bindable(settings);
            Binding::read(&section, SystemTime::now())
        });
        Some(Shared {
            instance: instance.unwrap_or_default(),
            binding: binding.unwrap_or_else(Binding::empty),
        })
    }
}

impl Adapter for Shared {
    fn has_effects(&self) -> bool {
        false
    }

    fn provision(&self, call: &InstanceCall<'_>) -> Result<Provisioned, Failure> {
        self.instance.render(call)
    }

    fn update(&self, call: &UpdateCall<'_>) -> Result<Provisioned, Failure> {
        self.instance.render(&call.instance)
    }

    fn deprovision(&self, _: &InstanceCall<'_>) -> Result<(), Failure> {
        Ok(())
    }

    fn bind(&self, call: &BindingCall<'_>) -> Result<Bound, Failure> {
        self.binding.render(call, SystemTime::now())
    }

    fn unbind(&self, _: &BindingCall<'_>) -> Result<(), Failure> {
        Ok(())
    }

    /// There is nothing but the answer.
    fn verify(&self, call: &InstanceCall<'_>) -> Result<Provisioned, Failure> {
        self.instance.render(call)
    }

    fn verify_binding(&self, call: &BindingCall<'_>) -> Result<Bound, Failure> {
        let bound = self.binding.render(call, SystemTime::now())?;
        // Others would be drawn than the application has, and its lifetime began earlier.
        match self.binding.is_the_same_again() {
            true => Ok(bound),
            false => Ok(Bound::default()),
        }
    }
}

fn warn_unless_bindable(settings: &Settings<'_>) {
    let (service, plan) = (settings.service(), settings.plan());
    if !settings.stands_at_service() && !plan.is_bindable() {
        settings.warning("binding", "never used: the plan is not bindable");
    }
    // Settings of the service offering are of use as long as one of its plans is.
    if settings.stands_at_service() && !service.plans.iter().any(Plan::is_bindable) {
        settings.warning("binding", "never used: no plan is bindable");
    }
}
