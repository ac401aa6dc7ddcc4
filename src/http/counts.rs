//! What is counted of requests, and at the gate.

use super::target::{HEALTH, READINESS};
use crate::metrics::{Counter, Histogram, SHORT, Text};

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The label of what is not in a list: what clients choose is not counted by its name.
const OTHER: &str = "other";

/// The templates of all paths that are answered, and what stands for all others.
const ROUTES: [&str; 12] = [
    "/v2/catalog",
    "/v2/service_instances/:instance_id",
    "/v2/service_instances/:instance_id/last_operation",
    "/v2/service_instances/:instance_id/service_bindings/:binding_id",
    "/v2/service_instances/:instance_id/service_bindings/:binding_id/last_operation",
    HEALTH,
    READINESS,
    METRICS,
    "/dashboard",
    "/dashboard/instances",
    "/dashboard/instances/:instance_id",
    OTHER,
];
const METHODS: [&str; 6] = ["GET", "HEAD", "PUT", "PATCH", "DELETE", OTHER];
const STATUSES: [u16; 19] = [
    200, 201, 202, 204, 304, 400, 401, 404, 405, 408, 409, 410, 412, 413, 422, 500, 501, 503, 0,
];

/// Where the metrics are.
pub const METRICS: &str = "/metrics";

/// Requests that a worker has answered.
pub static REQUESTS: Requests = Requests::new();

pub struct Requests {
    answered: [[[Counter; STATUSES.len()]; METHODS.len()]; ROUTES.len()],
    durations: [[Histogram<{ SHORT.len() }>; METHODS.len()]; ROUTES.len()],
}

impl Requests {
    const fn new() -> Requests {
        Requests {
            answered: [const { [const { [const { Counter::new() }; STATUSES.len()] }; METHODS.len()] };
                ROUTES.len()],
            durations: [const { [const { Histogram::new(&SHORT) }; METHODS.len()] }; ROUTES.len()],
        }
    }

    /// One request was answered. `route` is the template of its path.
    pub fn add(&self, method: &str, route: &str, status: u16, took: Duration) {
        let route = place(&ROUTES, &route);
        let method = place(&METHODS, &method);
        self.answered[route][method][place(&STATUSES, &status)].add();
        self.durations[route][method].add(took);
    }
}

/// Where something is in a list whose last one stands for all others.
fn place<T: PartialEq>(list: &[T], wanted: &T) -> usize {
    let place = list.iter().position(|one| one == wanted);
    place.unwrap_or(list.len() - 1)
}

/// Why the gate refuses a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A request that is malformed, or too large in its head.
    Malformed,
    /// A request that did not come whole in time.
    Slow,
    /// There was no place for the connection in time.
    Full,
    /// Another connection needed its place.
    Evicted,
    /// The handshake of TLS failed, or the client speaks http to a port for https.
    Tls,
    /// No worker took up the request, or none answered.
    Busy,
}

const REFUSALS: [(Refusal, &str); 6] = [
    (Refusal::Malformed, "malformed"),
    (Refusal::Slow, "slow"),
    (Refusal::Full, "full"),
    (Refusal::Evicted, "evicted"),
    (Refusal::Tls, "tls"),
    (Refusal::Busy, "busy"),
];

impl Refusal {
    /// Of a request that was not passed on, by the status of its answer.
    pub fn of(status: u16) -> Refusal {
        match status {
            408 => Refusal::Slow,
            500.. => Refusal::Busy,
            _ => Refusal::Malformed,
        }
    }
}

/// Which of the gates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Listener {
    #[default]
    Broker,
    Admin,
}

const LISTENERS: [(Listener, &str); 2] = [(Listener::Broker, "broker"), (Listener::Admin, "admin")];

/// One gate, in numbers.
pub struct Gate {
    pub accepted: Counter,
    pub delayed_logins: Counter,
    refused: [Counter; REFUSALS.len()],
    connections: AtomicUsize,
    waiting: AtomicUsize,
    most: AtomicUsize,
}

static GATES: [Gate; LISTENERS.len()] = [const { Gate::new() }; LISTENERS.len()];

impl Listener {
    /// The numbers of this gate.
    pub fn counts(self) -> &'static Gate {
        &GATES[self as usize]
    }
}

impl Gate {
    const fn new() -> Gate {
        Gate {
            accepted: Counter::new(),
            delayed_logins: Counter::new(),
            refused: [const { Counter::new() }; REFUSALS.len()],
            connections: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        }
    }

    pub fn refused(&self, why: Refusal) {
        self.refused[why as usize].add();
    }

    /// How many connections are served, and how many wait for a place.
    pub fn are(&self, connections: usize, waiting: usize) {
        self.connections.store(connections, Ordering::Relaxed);
        self.waiting.store(waiting, Ordering::Relaxed);
    }

    /// How many connections are served at most.
    pub fn set_most(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }
}

/// Writes all of it.
pub fn write(text: &mut Text) {
    let mut requests = text.counter(
        "brokerlet_http_requests_total",
        "Requests that were answered.",
    );
    let answered = &REQUESTS.answered;
    for (route, of_route) in ROUTES.iter().zip(answered) {
        for (method, of_method) in METHODS.iter().zip(of_route) {
            for (status, counter) in STATUSES.iter().zip(of_method) {
                let status = match status {
                    0 => OTHER.to_owned(),
                    status => status.to_string(),
                };
                let labels = [("method", *method), ("route", *route), ("status", &status)];
                requests.counted(&labels, counter);
            }
        }
    }
    let mut durations = text.histogram(
        "brokerlet_http_request_duration_seconds",
        "How long a worker took to answer a request.",
    );
    for (route, of_route) in ROUTES.iter().zip(&REQUESTS.durations) {
        for (method, histogram) in METHODS.iter().zip(of_route) {
            durations.durations(&[("method", *method), ("route", *route)], histogram);
        }
    }
    let gates = || {
        let gates = LISTENERS.iter();
        let gates = gates.map(|(listener, name)| (*name, listener.counts()));
        gates.filter(|(_, gate)| gate.most.load(Ordering::Relaxed) > 0)
    };
    let mut refused = text.counter(
        "brokerlet_gate_refusals_total",
        "Requests and connections that were refused before a worker had them.",
    );
    for (listener, gate) in gates() {
        for ((_, why), counter) in REFUSALS.iter().zip(&gate.refused) {
            refused.sample(&[("listener", listener), ("reason", *why)], counter.get());
        }
    }
    let mut accepted = text.counter(
        "brokerlet_gate_connections_total",
        "Connections that were accepted.",
    );
    for (listener, gate) in gates() {
        accepted.sample(&[("listener", listener)], gate.accepted.get());
    }
    let mut logins = text.counter(
        "brokerlet_gate_delayed_logins_total",
        "Wrong credentials whose answer was held back, since there were too many.",
    );
    for (listener, gate) in gates() {
        logins.sample(&[("listener", listener)], gate.delayed_logins.get());
    }
    type Read = fn(&Gate) -> &AtomicUsize;
    let gauges: [(&'static str, &str, Read); 3] = [
        (
            "brokerlet_gate_connections",
            "Connections that are served.",
            |gate| &gate.connections,
        ),
        (
            "brokerlet_gate_waiting_connections",
            "Connections that wait for a place.",
            |gate| &gate.waiting,
        ),
        (
            "brokerlet_gate_max_connections",
            "Most connections that are served at once.",
            |gate| &gate.most,
        ),
    ];
    for (name, help, read) in gauges {
        let mut gauge = text.gauge(name, help);
        for (listener, gate) in gates() {
            gauge.sample(
                &[("listener", listener)],
                read(gate).load(Ordering::Relaxed),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_in_its_place() {
        for (place, (why, _)) in REFUSALS.iter().enumerate() {
            assert_eq!(*why as usize, place);
        }
        for (place, (listener, _)) in LISTENERS.iter().enumerate() {
            assert_eq!(*listener as usize, place);
        }
    }

    #[test]
    fn what_clients_choose_is_not_a_label() {
        assert_eq!(ROUTES[place(&ROUTES, &"/v2/anything")], OTHER);
        assert_eq!(METHODS[place(&METHODS, &"BREW")], OTHER);
        assert_eq!(STATUSES[place(&STATUSES, &599)], 0);
    }
}
