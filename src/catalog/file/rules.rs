//! What stands beside `adapter` and is not served: what the broker does by itself with a plan's instances and bindings.

use super::take;
use crate::catalog::finding::Findings;
use crate::catalog::{PlanRules, Service};
use crate::json;

use serde_json::Value;
use std::collections::HashMap;

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
    let mut complain = |key: &str, found: String, wanted: &str| {
        findings.error(
            format!("{place}.{key}"),
            format!("found {found}, wanted {wanted}"),
        );
    };
    let mut is = |key: &str| match take(holder, key)? {
        Value::Null => None,
        Value::Bool(is) => Some(is),
        other => {
            complain(key, json::kind(&other).to_owned(), "true or false");
            None
        }
    };
    PlanRules {
        retired: is("retired").unwrap_or(default.retired),
        unbind_expired: is("unbind_expired").unwrap_or(default.unbind_expired),
    }
}
