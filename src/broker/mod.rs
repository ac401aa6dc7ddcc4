//! The rules of the Open Service Broker API. No sockets, no SQL, no processes: requests come in as values, answers go
//! out as values, records are in the [`Store`], and the work is done by the [`Adapter`](crate::adapter::Adapter) of the
//! plan.
//!
//! Four floors, and each knows only those below it: [`protocol`] says what the specification says; [`state`] keeps the
//! records, and [`plans`] what is offered; [`operations`] has adapters do the work; the endpoints, [`instance`] and
//! [`binding`], read records, judge requests and answer.
//!
//! **The record is the lock.** A change by an adapter with outside effects is committed twice: first the record that says
//! which operation is in progress, compare-and-set on the revision that was read; then, after the work, its outcome.
//! The work is done by the thread of the request, or, if the operation is asynchronous, by one of the broker's own after
//! 202 was answered; it is the same work either way, and the record says all that is needed for it. Whoever meets a
//! record with an operation in progress answers ConcurrencyError, or 202 again to the same request, and
//! [`Broker::recover`] takes up what a crash has cut off. An adapter without outside effects needs the second commit
//! only.

mod binding;
mod census;
mod counts;
pub mod due;
mod endpoint;
mod instance;
pub mod look;
mod metrics;
mod operations;
pub mod plans;
pub mod protocol;
mod state;

use crate::current::Current;
use crate::log;
use crate::metrics::Text;
use crate::store::{self, Key, Store};
use census::{Census, Numbers};
use due::Due;
use endpoint::Endpoint;
use look::{BindingView, Filter, InstanceView, LastOperation, Look, Page};
use operations::Operations;
use plans::Plans;
pub use protocol::answer::Answer;
pub use protocol::caller::{Caller, Names};
pub use protocol::error;
use protocol::error::Error;
use state::State;
use state::alarm::Alarm;
pub use state::missing::Missing;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// The broker: what it offers, what it knows, and what it is doing.
pub struct Broker {
    plans: Arc<Current<Plans>>,
    state: Arc<State>,
    operations: Arc<Operations>,
    census: Arc<Census>,
}

impl Broker {
    /// Shared by the threads that serve requests.
    pub fn new(plans: Plans, store: Box<dyn Store>) -> Arc<Broker> {
        let plans = Arc::new(Current::new(plans));
        let state = Arc::new(State::new(store));
        Arc::new(Broker {
            operations: Operations::new(plans.clone(), state.clone()),
            plans,
            state,
            census: Arc::default(),
        })
    }

    /// The audit trail is kept for so long. Without this there is none. To be called once.
    pub fn keep_audit_for(&self, time: Duration) {
        self.state.keep_audit_for(time);
    }

    /// Goes on with what was in progress when the broker stopped. To be called before the first request.
    pub fn recover(&self) -> Result<(), store::Error> {
        self.count_places(&self.plans())?;
        self.operations.recover()
    }

    /// Whether other brokers work on the same state, so that [`Broker::take_over`] has to be called.
    pub fn is_shared(&self) -> bool {
        self.state.is_shared()
    }

    /// Goes on with what was in progress in brokers that are gone, and with what this one could not write down. To be called
    /// every few seconds where the state is shared.
    pub fn take_over(&self) -> Result<(), store::Error> {
        self.operations.take_over()
    }

    /// Rings when [`Broker::do_what_is_due`] has to be called.
    pub fn alarm(&self) -> &Arc<Alarm> {
        self.state.alarm()
    }

    /// Does what has come due and nobody asks for. To be called when the alarm has rung, and now and then. `rang` says which.
    pub fn do_what_is_due(self: &Arc<Self>, due: &mut Due, rang: bool) {
        for work in due.work(&self.endpoint(Caller::itself()), rang) {
            let broker = self.clone();
            let spawned = thread::Builder::new()
                .name("due".to_owned())
                .spawn(move || work.carry_out(|| broker.endpoint(Caller::itself())));
            if let Err(error) = spawned {
                log::error("no_thread")
                    .with("error", &error.to_string())
                    .send();
            }
        }
    }

    /// Begins no asynchronous operation any more: what is asked for from now on is carried out after the next start.
    pub fn finish(&self) {
        self.operations.finish();
    }

    /// Lets the operations that are being worked on end up to `finish`, then tells adapters to come back, and waits for that
    /// up to `end`. Returns whether all have. What has not ended is settled or resumed at the next start.
    pub fn stop(&self, finish: Instant, end: Instant) -> bool {
        self.operations.stop(finish, end)
    }

    /// Leaves the state in order, when nothing goes on any more.
    pub fn close(&self) {
        self.state.close();
    }

    /// Whether the state can be read, for the health check.
    pub fn check_store(&self) -> Result<(), store::Error> {
        self.state.check()
    }

    /// What is offered now. Whoever works with it goes on with what it was then.
    pub fn plans(&self) -> Arc<Plans> {
        self.plans.get()
    }

    /// From now on this is offered. What has begun with the plans of before ends with them, a call of an adapter at the
    /// latest; what is queued is worked on as the new ones say.
    pub fn replace_plans(&self, plans: Plans) {
        self.plans.set(plans);
        self.operations.take_limits();
        self.state.alarm().at(SystemTime::now());
    }

    /// The plans that service instances have and that are not among `plans`. Goes through all of the state; with a million
    /// instances it takes seconds. `None` if the broker is being stopped.
    pub fn missing(&self, plans: &Plans) -> Result<Option<Vec<Missing>>, store::Error> {
        let known = |service_id: &str, plan_id: &str| plans.lookup(service_id, plan_id).is_ok();
        let stop = || self.operations.is_stopping();
        self.state.missing_plans(known, stop)
    }

    /// Counts the instances of those of `plans` that have limits, if any has. To be called before they are offered. Goes through
    /// all of the state. False if the broker is being stopped.
    pub fn count_places(&self, plans: &Plans) -> Result<bool, store::Error> {
        let stop = || self.operations.is_stopping();
        self.state.count_places(plans.limited(), stop)
    }

    /// Writes what is counted of operations, plans and the state.
    pub fn write_metrics(&self, text: &mut Text) {
        let plans = self.plans();
        metrics::write(&plans, &self.operations, || self.numbers(), text);
    }

    /// How many instances and bindings there are, as new as it can be had soon.
    pub fn numbers(&self) -> Option<Arc<Numbers>> {
        let operations = self.operations.clone();
        self.census
            .numbers(&self.state, &self.plans(), move || operations.is_stopping())
    }

    /// The next instances behind this id that pass the filter, for operators.
    pub fn look_at_instances(
        &self,
        filter: &Filter,
        after: &str,
        most: usize,
    ) -> Result<Page, store::Error> {
        self.look(&self.plans()).instances(filter, after, most)
    }

    /// One instance with its bindings, for operators.
    pub fn look_at_instance(
        &self,
        id: &str,
    ) -> Result<Option<(InstanceView, Vec<BindingView>)>, store::Error> {
        self.look(&self.plans()).instance(id)
    }

    /// The oldest operations in progress.
    pub fn look_at_operations(
        &self,
        most: usize,
    ) -> Result<Vec<(Key, LastOperation)>, store::Error> {
        self.look(&self.plans()).in_progress(most)
    }

    fn look<'a>(&'a self, plans: &'a Plans) -> Look<'a> {
        Look {
            plans,
            state: &self.state,
            operations: &self.operations,
        }
    }

    fn endpoint<'a>(&'a self, caller: Caller<'a>) -> Endpoint<'a> {
        Endpoint {
            state: &self.state,
            operations: &self.operations,
            plans: self.plans(),
            caller,
        }
    }

    /// `PUT /v2/service_instances/:instance_id`
    pub fn provision(&self, id: &str, body: &[u8], caller: Caller<'_>) -> Result<Answer, Error> {
        instance::provision(&self.endpoint(caller), id, body)
    }

    /// `GET /v2/service_instances/:instance_id`
    pub fn fetch_instance(
        &self,
        id: &str,
        service_id: Option<&str>,
        plan_id: Option<&str>,
        caller: Caller<'_>,
    ) -> Result<Answer, Error> {
        instance::fetch(&self.endpoint(caller), id, service_id, plan_id)
    }

    /// `GET /v2/service_instances/:instance_id/last_operation`
    pub fn poll_instance(
        &self,
        id: &str,
        service_id: Option<&str>,
        plan_id: Option<&str>,
        operation: Option<&str>,
        caller: Caller<'_>,
    ) -> Result<Answer, Error> {
        let endpoint = self.endpoint(caller);
        instance::poll(&endpoint, id, service_id, plan_id, operation)
    }

    /// `PATCH /v2/service_instances/:instance_id`
    pub fn update(&self, id: &str, body: &[u8], caller: Caller<'_>) -> Result<Answer, Error> {
        instance::update(&self.endpoint(caller), id, body)
    }

    /// `DELETE /v2/service_instances/:instance_id`
    pub fn deprovision(
        &self,
        id: &str,
        service_id: &str,
        plan_id: &str,
        caller: Caller<'_>,
    ) -> Result<Answer, Error> {
        instance::deprovision(&self.endpoint(caller), id, service_id, plan_id)
    }

    /// `PUT /v2/service_instances/:instance_id/service_bindings/:binding_id`
    pub fn bind(
        &self,
        instance_id: &str,
        id: &str,
        body: &[u8],
        caller: Caller<'_>,
    ) -> Result<Answer, Error> {
        binding::bind(&self.endpoint(caller), instance_id, id, body)
    }

    /// `GET /v2/service_instances/:instance_id/service_bindings/:binding_id`
    pub fn fetch_binding(
        &self,
        instance_id: &str,
        id: &str,
        service_id: Option<&str>,
        plan_id: Option<&str>,
        caller: Caller<'_>,
    ) -> Result<Answer, Error> {
        let endpoint = self.endpoint(caller);
        binding::fetch(&endpoint, instance_id, id, service_id, plan_id)
    }

    /// `GET /v2/service_instances/:instance_id/service_bindings/:binding_id/last_operation`
    pub fn poll_binding(
        &self,
        instance_id: &str,
        id: &str,
        service_id: Option<&str>,
        plan_id: Option<&str>,
        operation: Option<&str>,
        caller: Caller<'_>,
    ) -> Result<Answer, Error> {
        let endpoint = self.endpoint(caller);
        binding::poll(&endpoint, instance_id, id, service_id, plan_id, operation)
    }

    /// `DELETE /v2/service_instances/:instance_id/service_bindings/:binding_id`
    pub fn unbind(
        &self,
        instance_id: &str,
        id: &str,
        service_id: &str,
        plan_id: &str,
        caller: Caller<'_>,
    ) -> Result<Answer, Error> {
        let endpoint = self.endpoint(caller);
        binding::unbind(&endpoint, instance_id, id, service_id, plan_id, |_| true)
    }
}
