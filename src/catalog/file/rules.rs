//! What stands beside `adapter` and is not served: what the broker does by itself with a plan's instances and bindings.

use super::take;
use crate::catalog::finding::{Findings, suggestion};
use crate::catalog::{Limits, PlanRules, Service};
use crate::{duration, json};

use serde_json::{Map, Value};
use std::collections::HashMap;
use std::time::Duration;

/// What is kept longer is kept for ever.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The rules that are written down, of plans by (service index, plan index).
pub struct Rules(HashMap<(usize, usize), PlanRules>);

impl Rules {
    /// Takes every rule out of the document. What a service offering says holds for its plans that do not say otherwise.
    pub fn take(document: &mut Value, findings: &mut Findings) -> Rules {
        let mut rules = HashMap::new();
        let services = document.get_mut("services").and_then(Value::as_array_mut);
        for (s, service) in services.into_iter().flatten().enumerate() {
            let place = format!("services[{s}]");
            let default = take_rules(service, &place, &PlanRules::default(), findings);
            let plans = service.get_mut("plans").and_then(Value::as_array_mut);
            for (p, plan) in plans.into_iter().flatten().enumerate() {
                let place = format!("{place}.plans[{p}]");
                rules.insert((s, p), take_rules(plan, &place, &default, findings));
            }
        }
        Rules(rules)
    }

    /// Gives the plans of the catalog theirs.
    pub fn give(mut self, services: &mut [Service]) {
        for (s, service) in services.iter_mut().enumerate() {
            for (p, plan) in service.plans.iter_mut().enumerate() {
                plan.rules = self.0.remove(&(s, p)).unwrap_or_default();
            }
        }
    }
}

fn take_rules(
    holder: &mut Value,
    place: &str,
    default: &PlanRules,
    findings: &mut Findings,
) -> PlanRules {
    let mut complain = |key: &str, found: &Value, wanted: &str| {
        let found = match found {
            Value::String(text) => format!("{text:?}"),
            other => json::kind(other).to_owned(),
        };
        let place = format!("{place}.{key}");
        findings.error(place, format!("found {found}, wanted {wanted}"));
    };
    let mut given = |key: &str| take(holder, key).filter(|value| !value.is_null());
    let mut is = |key: &str| {
        let value = given(key)?;
        if !value.is_boolean() {
            complain(key, &value, "true or false");
        }
        value.as_bool()
    };
    let (retired, unbind_expired) = (is("retired"), is("unbind_expired"));
    let retain = given("retain").and_then(|value| {
        let time = value
            .as_str()
            .and_then(duration::parse)
            .filter(|time| *time <= LONGEST);
        if time.is_none() {
            complain(
                "retain",
                &value,
                "a duration such as \"14d\" or \"12h\", of 100 years at most",
            );
        }
        time
    });
    let limits = given("limits").and_then(|value| match value {
        Value::Object(object) => Some(object),
        other => {
            complain("limits", &other, "an object, as in {\"instances\": 100}");
            None
        }
    });
    let limits = limits.map(|object| read_limits(&object, &format!("{place}.limits"), findings));
    PlanRules {
        retired: retired.unwrap_or(default.retired),
        unbind_expired: unbind_expired.unwrap_or(default.unbind_expired),
        retain: retain.or(default.retain),
        limits: limits.unwrap_or(default.limits),
    }
}

const LIMITS: [&str; 3] = [
    "instances",
    "instances_per_organization",
    "instances_per_space",
];

fn read_limits(object: &Map<String, Value>, place: &str, findings: &mut Findings) -> Limits {
    for key in object.keys().filter(|key| !LIMITS.contains(&key.as_str())) {
        let hint = suggestion(key, LIMITS);
        findings.error(format!("{place}.{key}"), format!("unknown key{hint}"));
    }
    let [instances, instances_per_organization, instances_per_space] = LIMITS.map(|key| {
        let value = object.get(key).filter(|value| !value.is_null())?;
        let number = value.as_u64().filter(|number| *number > 0);
        if number.is_none() {
            let found = match value {
                Value::Number(number) => number.to_string(),
                other => json::kind(other).to_owned(),
            };
            let text = format!("found {found}, wanted a whole number of at least 1");
            findings.error(format!("{place}.{key}"), text);
        }
        number
    });
    Limits {
        instances,
        instances_per_organization,
        instances_per_space,
    }
}
