//! What people look at, and what Prometheus reads: the admin address, and the pages of the broker's own address.

use super::{Access, Dispatcher, Note, method_not_allowed};
use crate::broker::Broker;
use crate::broker::error::Error;
use crate::features;
use crate::http::counts::{self, METRICS};
use crate::http::page::{self, DASHBOARD, Page, Viewer};
use crate::http::reply::{Body, Reply};
use crate::http::target::{fields, segments};
use crate::log;
use crate::metrics::{Text, process};
use crate::store::counted;

use std::net::{Ipv4Addr, Ipv6Addr};

impl Dispatcher {
    /// Whether a client may name us so. Where no credentials are needed, a name that belongs to somebody else is refused: a
    /// site could lead its own name here, and have a browser read to it what is meant for this machine.
    pub fn check_host(&self, host: &str) -> Result<(), Error> {
        if self.access != (Access::Admin { open: true }) || is_own_name(host) {
            return Ok(());
        }
        Err(Error::new(
            421,
            "Host: found a name that is not this machine's; wanted localhost or an IP address.",
        ))
    }

    /// What is at a path of the admin address.
    pub(super) fn admin<'a>(
        &self,
        method: &str,
        path: &'a str,
        query: &str,
        note: &mut Note<'a>,
    ) -> Result<Reply, Error> {
        if path == METRICS {
            note.route = METRICS;
            if !matches!(method, "GET" | "HEAD") {
                return Ok(method_not_allowed("GET, HEAD"));
            }
            let text = metrics(&self.broker);
            let reply = Reply::new(200, Body::Owned(text.into_bytes()), "served");
            return Ok(reply.with_header("Content-Type", Text::MEDIA_TYPE));
        }
        let segments = segments(path)?;
        let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
        match Page::of(&segments) {
            Some(page) => self.page(method, page, query, Viewer::Operator(""), note),
            None => {
                note.path = Some(path);
                Err(Error::not_found(
                    "There is nothing at this path; wanted / or /metrics.",
                ))
            }
        }
    }

    /// The page of an instance, if the client has a link to it.
    pub(super) fn guest_page(
        &self,
        method: &str,
        path: &str,
        query: &str,
        note: &mut Note<'_>,
    ) -> Option<Result<Reply, Error>> {
        let links = self.links.as_ref()?;
        let segments = segments(path).ok()?;
        let [first, rest @ ..] = self.base_path.strip(&segments)? else {
            return None;
        };
        let rest: Vec<&str> = rest.iter().map(AsRef::as_ref).collect();
        let Page::Instance(id) = Page::of(&rest).filter(|_| first == DASHBOARD)? else {
            return None;
        };
        let fields = fields(query).ok()?;
        let (_, key) = fields.iter().find(|(name, _)| name == "key")?;
        let admitted = links.admits(id, key);
        admitted.then(|| self.page(method, Page::Instance(id), "", Viewer::Guest, note))
    }

    /// A page for people.
    pub(super) fn page(
        &self,
        method: &str,
        page: Page<'_>,
        query: &str,
        viewer: Viewer<'_>,
        note: &mut Note<'_>,
    ) -> Result<Reply, Error> {
        note.route = page.template();
        if let Page::Instance(id) = page {
            note.instance_id = Some(id.to_owned());
        }
        if !matches!(method, "GET" | "HEAD") {
            return Ok(method_not_allowed("GET, HEAD"));
        }
        Ok(page::answer(&self.broker, page, query, viewer).unwrap_or_else(page::failed))
    }
}

/// All metrics of the program.
fn metrics(broker: &Broker) -> Text {
    let mut text = Text::default();
    let features = features::built_in().join(",");
    let version = env!("CARGO_PKG_VERSION");
    text.gauge("brokerlet_build_info", "The version that runs; always 1.")
        .sample(&[("version", version), ("features", &features)], 1);
    counts::write(&mut text);
    broker.write_metrics(&mut text);
    counted::write(&mut text);
    text.counter(
        "brokerlet_log_lines_dropped_total",
        "Lines of the log that were dropped, since nobody took them in time.",
    )
    .sample(&[], log::DROPPED.get());
    process::write(&mut text);
    text
}

/// Whether a host is `localhost` or an address, with or without a port.
fn is_own_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        // Behind the last colon of an address in brackets is no port, but the bracket's end.
        Some((name, port)) if !port.ends_with(']') => name,
        _ => host,
    };
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    name.is_empty()
        || name.eq_ignore_ascii_case("localhost")
        || name.parse::<Ipv4Addr>().is_ok()
        || bare.is_some_and(|bare| bare.parse::<Ipv6Addr>().is_ok())
}
