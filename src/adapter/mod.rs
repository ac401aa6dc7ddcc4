//! How a plan is fulfilled: the [`Adapter`] trait, and the kinds of adapter that a catalog file can name.

pub mod exec;
#[cfg(feature = "http-adapter")]
pub mod http;
pub mod kinds;
pub(crate) mod load;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod protocol;
pub(crate) mod run;
pub mod settings;
mod shape;
pub mod shared;
pub mod template;

use crate::catalog::{Plan, Service};
use crate::json::Object;
pub use kinds::Kinds;
pub use run::{Cancel, Kind, OnCancel, Reason, Run};
pub use settings::{Secret, Settings};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;
use std::time::Duration;

/// How long a synchronous operation may take: the platform gives up after 60 seconds.
pub const SYNCHRONOUS_TIMEOUT: Duration = Duration::from_secs(55);

/// Fulfils the plans that name it in their `adapter` object.
///
/// The broker calls an adapter with everything it needs and keeps the records itself. Calls for different instances
/// come at the same time from many threads; for one instance there is one change at a time, and bindings of one
/// instance may be made and removed at the same time.
///
/// **Every call may be repeated**: after a crash, or when the platform did not hear the answer. A repeat carries the
/// same ids, and must lead to the same end without doing the work twice; removing what is not there is a success.
///
/// A call blocks its thread. It must come back by the deadline of its [`Run`], and soon after it is cancelled. A panic
/// counts as [`Failure::failed`].
pub trait Adapter: Send + Sync {
    /// Whether calls change anything outside the broker. The broker then writes down what it is about to do before it
    /// calls, and takes interrupted work back after a crash. An adapter that only computes its answer returns false,
    /// which saves one commit per change, and may be asked again for an answer that was never used.
    fn has_effects(&self) -> bool {
        true
    }

    /// Whether the operation is asynchronous: the platform gets 202 at once and polls until it is done. Only an adapter
    /// that [`has_effects`](Adapter::has_effects) can be. spec: Synchronous and Asynchronous Operations.
    fn is_async(&self, _operation: Kind) -> bool {
        false
    }

    /// How long the whole operation may take, with its waiting for a turn and all of its attempts. It has failed then.
    /// A synchronous one gets [`SYNCHRONOUS_TIMEOUT`] at most.
    fn timeout(&self, _operation: Kind) -> Duration {
        SYNCHRONOUS_TIMEOUT
    }

    /// How many calls there may be at once for this plan; `None` for as many as come. Others wait for their turn.
    fn concurrency(&self) -> Option<usize> {
        None
    }

    /// `PUT /v2/service_instances/:instance_id`: create the resource.
    ///
    /// Gets the request. Returns what the platform shows of the instance, and the `state` that later calls get back.
    /// A repeat finds the resource there and returns the same.
    fn provision(&self, call: &InstanceCall<'_>) -> Result<Provisioned, Failure>;

    /// `PATCH /v2/service_instances/:instance_id`: change plan, parameters or context.
    ///
    /// Gets the instance as it will be after the update, and what it was before. Returns what [`Adapter::provision`]
    /// returns; what is absent stays as it was. After a failure the instance must be as before, unless the failure says
    /// that it is no longer usable. A repeat applies the same values again.
    ///
    /// An adapter that does not implement it refuses every change that reaches it.
    fn update(&self, call: &UpdateCall<'_>) -> Result<Provisioned, Failure> {
        let plan = &call.instance.plan.name;
        Err(Failure::unsupported(format!(
            "instances of plan \"{plan}\" cannot be updated"
        )))
    }

    /// `DELETE /v2/service_instances/:instance_id`: remove the resource.
    ///
    /// Gets the instance with its state, its bindings already removed. Is also called to take back a provision that
    /// failed, was cancelled or was cut off, then without state. A repeat finds nothing and succeeds.
    fn deprovision(&self, call: &InstanceCall<'_>) -> Result<(), Failure>;

    /// `PUT /v2/service_instances/:instance_id/service_bindings/:binding_id`: create credentials.
    ///
    /// Gets the instance, the request, and for a rotation the id of the predecessor, which stays valid. Returns what
    /// the application needs. The broker keeps it, and answers repeats and fetches itself.
    fn bind(&self, call: &BindingCall<'_>) -> Result<Bound, Failure>;

    /// `DELETE /v2/service_instances/:instance_id/service_bindings/:binding_id`: revoke the credentials.
    ///
    /// Gets the binding with its state. Is also called to take back a bind that failed, was cancelled or was cut off, then
    /// without state. A repeat finds nothing and succeeds.
    fn unbind(&self, call: &BindingCall<'_>) -> Result<(), Failure>;

    /// `brokerlet state adopt`: look whether what another broker has made for an instance is there, and is what
    /// [`Adapter::provision`] would have made, so that every other call can go on with it. Changes nothing.
    ///
    /// Gets the instance as its operator describes it. Returns what [`Adapter::provision`] returns; what the operator says
    /// of it stands above that. A failure says what is not as it must be.
    ///
    /// An adapter that does not implement it takes nothing over.
    fn verify(&self, call: &InstanceCall<'_>) -> Result<Provisioned, Failure> {
        Err(cannot_verify(&call.plan.name))
    }

    /// The same for a binding. Returns what [`Adapter::bind`] returns; credentials only where they are surely those that the
    /// application has.
    fn verify_binding(&self, call: &BindingCall<'_>) -> Result<Bound, Failure> {
        Err(cannot_verify(&call.instance.plan.name))
    }
}

fn cannot_verify(plan: &str) -> Failure {
    Failure::unsupported(format!(
        "the adapter of plan {plan:?} cannot tell whether what another broker has made is there"
    ))
}

/// What an adapter is told of an instance.
#[derive(Clone, Copy)]
pub struct InstanceCall<'a> {
    pub instance_id: &'a str,
    pub service: &'a Service,
    pub plan: &'a Plan,
    pub organization_guid: &'a str,
    pub space_guid: &'a str,
    /// The parameters of the instance, as the user gave them.
    pub parameters: Object<'a>,
    /// Where and for whom, in the platform's words. spec: profile, Context Object.
    pub context: Object<'a>,
    /// What the adapter returned as `state` before.
    pub state: Object<'a>,
    pub origin: Origin<'a>,
    /// The operation that this call is a part of.
    pub run: Run<'a>,
}

/// What an adapter is told of an update.
#[derive(Clone, Copy)]
pub struct UpdateCall<'a> {
    /// The instance as it will be: its new plan, its parameters with the changes merged in, its new context.
    pub instance: InstanceCall<'a>,
    /// The parameters of this request alone.
    pub changes: Object<'a>,
    pub previous_parameters: Object<'a>,
    pub previous_plan_id: &'a str,
}

/// What an adapter is told of a binding.
#[derive(Clone, Copy)]
pub struct BindingCall<'a> {
    pub instance: InstanceCall<'a>,
    pub binding_id: &'a str,
    pub app_guid: Option<&'a str>,
    pub bind_resource: Object<'a>,
    /// The parameters of the binding; those of the instance are in `instance`.
    pub parameters: Object<'a>,
    pub context: Object<'a>,
    /// The binding that this one is to replace. spec: Binding Rotation.
    pub predecessor_binding_id: Option<&'a str>,
    /// What the adapter returned as `state` when it made the binding.
    pub state: Object<'a>,
}

/// Who asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Origin<'a> {
    pub identity: Option<&'a Identity>,
    /// `X-Vcap-Request-Id`, else `X-Broker-API-Request-Identity`.
    pub request_id: Option<&'a str>,
    /// The address of the platform, or that nobody outside has asked.
    pub from: Option<&'a str>,
}

/// The user on whose behalf the platform calls. spec: Headers, Originating Identity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// `cloudfoundry`, `kubernetes`, …
    pub platform: String,
    /// The platform's own properties, such as `user_id` or `username`.
    pub properties: Map<String, Value>,
}

impl Identity {
    /// The user's id, by the name that the platform has for it.
    pub fn user(&self) -> Option<&str> {
        ["user_id", "uid", "username"]
            .iter()
            .find_map(|name| self.properties.get(*name)?.as_str())
    }
}

/// What the platform shows of an instance. It may hold secrets.
#[derive(Clone, Default)]
pub struct Provisioned {
    pub dashboard_url: Option<String>,
    /// `labels` and `attributes`. spec: Service Instance Metadata.
    pub metadata: Option<Map<String, Value>>,
    /// Kept by the broker and handed to every later call; never shown to anybody.
    pub state: Option<Map<String, Value>>,
}

/// What an application gets to use the service. spec: Binding, Body. It holds secrets.
#[derive(Clone, Default)]
pub struct Bound {
    pub credentials: Option<Map<String, Value>>,
    pub syslog_drain_url: Option<String>,
    pub route_service_url: Option<String>,
    pub volume_mounts: Option<Vec<Value>>,
    pub endpoints: Option<Vec<Value>>,
    /// `expires_at`, `renew_before`. spec: Binding Metadata Object.
    pub metadata: Option<Map<String, Value>>,
    /// Kept by the broker and handed to `unbind`; never shown to anybody.
    pub state: Option<Map<String, Value>>,
}

impl fmt::Debug for Provisioned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provisioned").finish_non_exhaustive()
    }
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bound").finish_non_exhaustive()
    }
}

impl Bound {
    /// A binding that is credentials only.
    pub fn credentials<V: Into<Value>>(
        fields: impl IntoIterator<Item = (&'static str, V)>,
    ) -> Bound {
        let fields = fields.into_iter();
        Bound {
            credentials: Some(
                fields
                    .map(|(name, value)| (name.to_owned(), value.into()))
                    .collect(),
            ),
            ..Bound::default()
        }
    }
}

/// Why an adapter did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    /// What the user reads, word for word. No secrets.
    pub description: String,
    /// What the operator reads in the log beside it. No secrets.
    pub detail: Option<String>,
    /// After a failed update or deprovision: whether the instance can still be used.
    pub instance_usable: Option<bool>,
    /// After a failed update: whether the same update can succeed later.
    pub update_repeatable: Option<bool>,
    /// With [`FailureKind::Again`]: how long to wait at least.
    pub retry_after: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// 400: the request is wrong, and nothing was changed.
    Invalid,
    /// 422: the change is not supported, and nothing was changed.
    Unsupported,
    /// 500: it went wrong, and something may have been left behind.
    Failed,
    /// 503: not now, and nothing was changed.
    Unavailable,
    /// Not yet: the same call is made again, with growing pauses and the next attempt number, until it succeeds or the
    /// operation's time is over. Then 503, and something may have been left behind.
    Again,
}

impl Failure {
    /// The request is wrong, as with a missing parameter. Nothing was changed.
    pub fn invalid(description: impl Into<String>) -> Failure {
        Failure::new(FailureKind::Invalid, description)
    }

    /// The change is not possible for this plan. Nothing was changed.
    pub fn unsupported(description: impl Into<String>) -> Failure {
        Failure::new(FailureKind::Unsupported, description)
    }

    /// It went wrong, and something may have been left behind.
    pub fn failed(description: impl Into<String>) -> Failure {
        Failure::new(FailureKind::Failed, description)
    }

    /// Cannot be done now, may succeed later. Nothing was changed.
    pub fn unavailable(description: impl Into<String>) -> Failure {
        Failure::new(FailureKind::Unavailable, description)
    }

    /// Not yet: to be called again a little later, as with a lock that somebody else holds. `description` is what the user
    /// reads when there is no time left.
    pub fn again(description: impl Into<String>) -> Failure {
        Failure::new(FailureKind::Again, description)
    }

    fn new(kind: FailureKind, description: impl Into<String>) -> Failure {
        Failure {
            kind,
            description: description.into(),
            detail: None,
            instance_usable: None,
            update_repeatable: None,
            retry_after: None,
        }
    }

    /// Adds what only the operator should read.
    pub fn with_detail(mut self, detail: impl Into<String>) -> Failure {
        self.detail = Some(detail.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.description)
    }
}

impl std::error::Error for Failure {}

/// What an adapter returned as `state` of an instance or a binding (`of`). Going on without it would lose what it leads to.
fn read_state(state: Object<'_>, of: &str) -> Result<Map<String, Value>, Failure> {
    state.read().map_err(|_| {
        Failure::failed(format!(
            "the record of the {of} is damaged: its state cannot be read"
        ))
    })
}
