//! The metrics of a broker: what is in progress, what there is, and what was counted for each plan.

use super::census::{BEHIND, BINDINGS, INSTANCES, KEPT, Numbers};
use super::counts;
use super::operations::Operations;
use super::plans::Plans;
use crate::metrics::Text;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Writes all of it.
pub fn write(
    plans: &Plans,
    operations: &Operations,
    numbers: impl FnOnce() -> Option<Arc<Numbers>>,
    text: &mut Text,
) {
    counts::write(&plans.all_counts(), text);
    let now = SystemTime::now();
    let overview = operations.overview();
    text.gauge(
        "brokerlet_operations_in_progress",
        "Operations that have not ended.",
    )
    .sample(&[], overview.in_progress);
    let age = overview.oldest.and_then(|at| now.duration_since(at).ok());
    text.gauge(
        "brokerlet_oldest_operation_age_seconds",
        "How long ago the oldest operation in progress was asked for; 0 if there is none.",
    )
    .sample(&[], age.unwrap_or_default().as_secs_f64());
    let mut queued = text.gauge(
        "brokerlet_operations_queued",
        "Asynchronous operations that wait for their turn.",
    );
    let by_name = overview.queued.iter();
    for ((service, plan), count) in named(plans, by_name.map(|(plan, n)| (&**plan, [*n as u64]))) {
        queued.sample(&[("service", service), ("plan", plan)], count[0]);
    }

    let Some(numbers) = numbers() else {
        return;
    };
    let numbers_of = numbers.plans.iter();
    let numbers_of = named(plans, numbers_of.map(|((_, plan), n)| (&**plan, *n)));
    for (which, name, help) in [
        (INSTANCES, "brokerlet_instances", "Service instances."),
        (BINDINGS, "brokerlet_bindings", "Service bindings."),
        (
            BEHIND,
            "brokerlet_instances_behind",
            "Service instances of another version than the maintenance information of their plan.",
        ),
        (
            KEPT,
            "brokerlet_instances_kept",
            "Service instances that were deleted, and are kept for a while.",
        ),
    ] {
        let mut gauge = text.gauge(name, help);
        for ((service, plan), count) in &numbers_of {
            gauge.sample(&[("service", *service), ("plan", *plan)], count[which]);
        }
    }
    let at = numbers.at.duration_since(SystemTime::UNIX_EPOCH);
    text.gauge(
        "brokerlet_census_timestamp_seconds",
        "When instances and bindings were counted, in seconds since 1970.",
    )
    .sample(&[], at.unwrap_or(Duration::ZERO).as_secs_f64());
}

/// Numbers by the names of service offering and plan, 0 where there is none. Of plans that have left the catalog, both
/// names are empty.
fn named<'a, const N: usize>(
    plans: &'a Plans,
    numbers: impl Iterator<Item = (&'a str, [u64; N])>,
) -> BTreeMap<(&'a str, &'a str), [u64; N]> {
    let all = plans.all_counts().into_iter();
    let mut by_name: BTreeMap<_, _> = all
        .map(|(service, plan, _)| ((service, plan), [0; N]))
        .collect();
    for (plan_id, numbers) in numbers {
        let names = plans.names(plan_id);
        let names = names.map_or(("", ""), |names| (&names.service, &names.plan));
        let sums = by_name.entry(names).or_insert([0; N]);
        for (sum, number) in sums.iter_mut().zip(numbers) {
            *sum += number;
        }
    }
    by_name
}
