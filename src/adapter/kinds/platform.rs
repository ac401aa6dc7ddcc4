//! What the catalog has to promise for an asynchronous plan to work on a platform: rules that need both the catalog and
//! the adapter that was built.

use super::{Fulfilment, Settings};
use crate::adapter::Kind;

use std::time::Duration;

/// Reports what will not work.
pub(super) fn check(settings: &Settings<'_>, fulfilment: &Fulfilment) {
    let (service, plan) = (settings.service(), settings.plan());
    let used =
        |operation: &Kind| plan.is_bindable() || !matches!(operation, Kind::Bind | Kind::Unbind);
    let asynchronous: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(used)
        .filter(|operation| fulfilment.is_async(*operation))
        .collect();
    if asynchronous.contains(&Kind::Bind) && service.bindings_retrievable != Some(true) {
        settings.error_here(format!(
            "plan {:?} is bound asynchronously, so that platforms have to fetch the credentials: wanted \
             \"bindings_retrievable\": true in the service offering",
            plan.name
        ));
    }
    let Some(limit) = plan.maximum_polling_duration.map(Duration::from_secs) else {
        return;
    };
    let timeouts = asynchronous
        .iter()
        .map(|kind| (kind, fulfilment.adapter.timeout(*kind)));
    let too_long = timeouts.filter(|(_, timeout)| *timeout >= limit);
    if let Some((kind, timeout)) = too_long.max_by_key(|(_, timeout)| *timeout) {
        settings.error_here(format!(
            "plan {:?}: found a timeout of {} for {}, wanted less than its maximum_polling_duration of {}, after which \
             platforms take an operation for failed",
            plan.name,
            humantime::format_duration(timeout),
            kind.name(),
            humantime::format_duration(limit),
        ));
    }
}
