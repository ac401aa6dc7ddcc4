//! What is counted for each plan: operations, and calls of its adapter.

use super::protocol::operation::Kind;
use crate::adapter::FailureKind;
use crate::metrics::{Counter, Histogram, LONG, Metric, Text};

use std::time::Duration;

const KINDS: [Kind; 5] = Kind::ALL;

/// How an operation has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Succeeded,
    Failed,
    /// A removal has cut it off.
    CutOff,
    /// A crash has cut it off, and it was taken back or brought to its end.
    Recovered,
}

const ENDS: [(End, &str); 4] = [
    (End::Succeeded, "succeeded"),
    (End::Failed, "failed"),
    (End::CutOff, "cut_off"),
    (End::Recovered, "recovered"),
];

/// How calls of an adapter end. The last is a failure when the time of the operation was over.
const RESULTS: [&str; 6] = [
    "succeeded",
    "refused",
    "failed",
    "unavailable",
    "again",
    "timeout",
];

/// One plan, in numbers.
#[derive(Debug, Default)]
pub struct PlanCounts([KindCounts; KINDS.len()]);

#[derive(Debug)]
struct KindCounts {
    ended: [Counter; ENDS.len()],
    durations: Histogram<{ LONG.len() }>,
    calls: [Counter; RESULTS.len()],
    call_durations: Histogram<{ LONG.len() }>,
    retries: Counter,
}

impl Default for KindCounts {
    fn default() -> KindCounts {
        KindCounts {
            ended: Default::default(),
            durations: Histogram::new(&LONG),
            calls: Default::default(),
            call_durations: Histogram::new(&LONG),
            retries: Counter::new(),
        }
    }
}

impl PlanCounts {
    /// An operation has ended, so long after it was asked for.
    pub fn ended(&self, kind: Kind, end: End, took: Duration) {
        let counts = &self.0[kind as usize];
        counts.ended[end as usize].add();
        counts.durations.add(took);
    }

    /// The adapter was called. `failure`: why it failed, if it did; `late`: the time of the operation was over then.
    pub fn called(&self, kind: Kind, failure: Option<FailureKind>, late: bool, took: Duration) {
        let counts = &self.0[kind as usize];
        let result = match failure {
            None => 0,
            Some(_) if late => 5,
            Some(FailureKind::Invalid | FailureKind::Unsupported) => 1,
            Some(FailureKind::Failed) => 2,
            Some(FailureKind::Unavailable) => 3,
            Some(FailureKind::Again) => 4,
        };
        counts.calls[result].add();
        counts.call_durations.add(took);
    }

    /// The adapter is to be called once more for an operation.
    pub fn retried(&self, kind: Kind) {
        self.0[kind as usize].retries.add();
    }
}

/// Writes the numbers of plans, each with the names of its service offering and its own.
pub fn write(plans: &[(&str, &str, &PlanCounts)], text: &mut Text) {
    let each = |mut metric: Metric<'_>,
                write: &dyn Fn(&mut Metric<'_>, Labels<'_>, &KindCounts)| {
        for (service, plan, counts) in plans {
            for (kind, counts) in KINDS.iter().zip(&counts.0) {
                let labels = [
                    ("operation", kind.name()),
                    ("service", service),
                    ("plan", plan),
                ];
                write(&mut metric, labels, counts);
            }
        }
    };
    let ended = text.counter("brokerlet_operations_total", "Operations that have ended.");
    each(ended, &|metric, [a, b, c], counts| {
        for ((_, end), counter) in ENDS.iter().zip(&counts.ended) {
            metric.counted(&[a, b, c, ("outcome", end)], counter);
        }
    });
    let durations = text.histogram(
        "brokerlet_operation_duration_seconds",
        "How long operations took, from the request to their end.",
    );
    each(durations, &|metric, labels, counts| {
        metric.durations(&labels, &counts.durations);
    });
    let calls = text.counter("brokerlet_adapter_calls_total", "Calls of adapters.");
    each(calls, &|metric, [a, b, c], counts| {
        for (result, counter) in RESULTS.iter().zip(&counts.calls) {
            metric.counted(&[a, b, c, ("outcome", result)], counter);
        }
    });
    let durations = text.histogram(
        "brokerlet_adapter_call_duration_seconds",
        "How long calls of adapters took.",
    );
    each(durations, &|metric, labels, counts| {
        metric.durations(&labels, &counts.call_durations);
    });
    let retries = text.counter(
        "brokerlet_adapter_retries_total",
        "Calls of adapters that are to be made once more for the same operation.",
    );
    each(retries, &|metric, labels, counts| {
        metric.counted(&labels, &counts.retries);
    });
}

type Labels<'a> = [(&'static str, &'a str); 3];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_in_its_place() {
        for (place, kind) in KINDS.iter().enumerate() {
            assert_eq!(*kind as usize, place);
        }
        for (place, (end, _)) in ENDS.iter().enumerate() {
            assert_eq!(*end as usize, place);
        }
    }

    #[test]
    fn a_failure_after_the_time_is_a_timeout() {
        let counts = PlanCounts::default();
        for (failure, late) in [
            (None, true),
            (Some(FailureKind::Invalid), false),
            (Some(FailureKind::Again), true),
        ] {
            counts.called(Kind::Bind, failure, late, Duration::ZERO);
        }
        let mut text = Text::default();
        write(&[("s", "p", &counts)], &mut text);
        let text = String::from_utf8(text.into_bytes()).unwrap();
        for outcome in ["succeeded", "refused", "timeout"] {
            let line = format!(
                "brokerlet_adapter_calls_total{{operation=\"bind\",service=\"s\",plan=\"p\",outcome=\"{outcome}\"}} 1\n"
            );
            assert!(text.contains(&line), "{text}");
        }
    }
}
