//! What all connections of the gate share.

use super::body_memory::BodyMemory;
use super::connection_limit::ConnectionLimit;
use super::limits::Limits;
use super::rate_limit::RateLimit;
use super::refusal_log::RefusalLog;
#[cfg(feature = "tls")]
use super::tls::Tls;
use super::trusted_proxies::TrustedProxies;
use super::upstream::Upstream;
use crate::http::counts;
use crate::http::dispatch::Dispatcher;

use std::sync::Arc;

pub struct Shared {
    pub dispatcher: Arc<Dispatcher>,
    pub limits: Limits,
    pub connection_limit: ConnectionLimit,
    pub upstream: Upstream,
    pub body_memory: BodyMemory,
    pub rate_limit: RateLimit,
    pub proxies: TrustedProxies,
    pub refusal_log: RefusalLog,
    pub counts: &'static counts::Gate,
    #[cfg(feature = "tls")]
    pub tls: Option<Arc<Tls>>,
}
