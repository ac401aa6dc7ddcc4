//! What is kept of a request besides its answer: a line in the log, numbers, and the page's list of the last requests.

use crate::broker::Names;
use crate::http::counts::{self, METRICS};
use crate::http::page::{INSTANCE, INSTANCES, OVERVIEW};
use crate::http::recent::{self, Recent};
use crate::http::reply::Reply;
use crate::http::target::{HEALTH, READINESS};
use crate::log;

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Longest path in the log, in bytes.
const MAX_PATH: usize = 256;

/// What the log says of a request, besides its answer. Nothing in it is secret.
#[derive(Debug, Default)]
pub struct Note<'a> {
    /// The template, not the path itself.
    pub route: &'static str,
    pub request_id: Option<&'a str>,
    pub user: Option<String>,
    pub instance_id: Option<String>,
    pub binding_id: Option<String>,
    /// The names of the service offering and the plan.
    pub names: OnceCell<Arc<Names>>,
    /// The path as it came, without its query. Only if there is no endpoint at it.
    pub path: Option<&'a str>,
}

impl Note<'_> {
    /// Counts the request, and keeps it for the page, unless it was about that.
    pub fn keep(&self, method: &str, reply: &Reply, took: Duration) {
        counts::REQUESTS.add(method, self.route, reply.status, took);
        if !matches!(
            self.route,
            HEALTH | READINESS | METRICS | OVERVIEW | INSTANCES | INSTANCE
        ) {
            let recent = || Recent {
                at: SystemTime::now(),
                method: method_for_log(method),
                route: self.route,
                instance_id: self.instance_id.clone(),
                status: reply.status,
                reason: reply.reason.as_deref().map(str::to_owned),
                took,
            };
            if reply.status >= 400 {
                recent::FAILURES.add(recent);
            }
            recent::REQUESTS.add(recent);
        }
    }

    /// The line of the log.
    pub fn line(&self, method: &str, reply: &Reply) -> log::Entry {
        let line = match reply.status {
            // No line: platforms ask every few seconds.
            200 if matches!(self.route, HEALTH | READINESS | METRICS) => {
                return log::none();
            }
            500.. => log::error("request"),
            _ => log::info("request"),
        };
        let names = self.names.get();
        line.with("method", method_for_log(method))
            .with("route", self.route)
            .with("path", self.path.map(shortened))
            .with("status", reply.status)
            .with("outcome", &*reply.outcome)
            .with("reason", reply.reason.as_deref())
            .with("request_id", self.request_id)
            .with("user", self.user.as_ref())
            .with("instance_id", self.instance_id.as_ref())
            .with("binding_id", self.binding_id.as_ref())
            .with("service", names.map(|names| &names.service))
            .with("plan", names.map(|names| &names.plan))
            .with("detail", reply.detail.as_ref())
    }
}

/// Clients choose their paths: a log line that repeats one stays short.
fn shortened(path: &str) -> &str {
    &path[..path.floor_char_boundary(MAX_PATH)]
}

/// Clients choose their methods: unknown ones do not reach the log.
fn method_for_log(method: &str) -> &'static str {
    const METHODS: [&str; 7] = ["GET", "HEAD", "PUT", "PATCH", "DELETE", "POST", "OPTIONS"];
    let known = METHODS.into_iter().find(|known| *known == method);
    known.unwrap_or("other")
}
