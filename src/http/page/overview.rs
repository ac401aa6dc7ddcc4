//! The first page.

use super::Maker;
use super::html::{age, condition, link, number, text};
use crate::broker::error::Error;
use crate::broker::look::{self, BEHIND, BINDINGS, Condition, INSTANCES};
use crate::http::recent::{FAILURES, REQUESTS, Recent};
use crate::store::Key;

/// How many operations in progress are shown.
const OPERATIONS: usize = 25;

pub fn make(maker: &Maker<'_>) -> Result<Vec<u8>, Error> {
    let mut html = maker.html("Service broker");
    let broker = maker.broker;

    html.heading("Offerings and plans");
    let (plans, numbers) = (broker.plans(), broker.numbers());
    let columns = &["Offering", "Plan", "Instances", "Bindings"];
    let mut table = html.table("Offerings and plans", columns);
    for plan in look::plans(&plans, numbers.as_deref()) {
        let address = format!(
            "{}/instances?service={}&plan={}",
            maker.prefix,
            super::html::encoded(plan.service),
            super::html::encoded(plan.plan)
        );
        let retired = if plan.retired { " (retired)" } else { "" };
        let count = |which: usize| number(plan.numbers.map(|numbers| numbers[which]));
        let behind = plan.numbers.map_or(0, |numbers| numbers[BEHIND]);
        let behind = match behind {
            0 => String::new(),
            _ => format!(
                " ({})",
                link(
                    &format!("{address}&version=behind"),
                    &format!("{behind} behind")
                )
            ),
        };
        table.row(&[
            text(plan.service),
            link(&address, plan.plan) + retired,
            count(INSTANCES) + &behind,
            count(BINDINGS),
        ]);
    }
    table.end();
    if let Some(numbers) = numbers {
        html.put(format_args!(
            "<p class=\"note\">Counted {}.</p>\n",
            age(numbers.at)
        ));
    }

    html.heading("Operations in progress");
    let operations = broker.look_at_operations(OPERATIONS)?;
    if operations.is_empty() {
        html.note("None.");
    } else {
        let columns = &["Of", "State"];
        let mut table = html.table("Operations in progress, the oldest first", columns);
        for (key, operation) in &operations {
            let (id, binding) = match key {
                Key::Instance(id) => (id, None),
                Key::Binding(id, binding) => (id, Some(binding)),
            };
            let mut of = format!("instance {}", link(&maker.instance(id), id));
            if let Some(binding) = binding {
                of = format!("binding {} of {of}", text(binding));
            }
            table.row(&[of, condition(operation)]);
        }
        table.end();
        if operations.len() == OPERATIONS {
            html.note("These are the oldest of them.");
        }
    }

    html.heading("Recent failures");
    let address = format!(
        "{}/instances?state={}",
        maker.prefix,
        super::html::encoded(Condition::Failed.name())
    );
    html.put(format_args!(
        "<p>{}</p>\n",
        link(
            &address,
            "Service instances whose last operation has failed"
        )
    ));
    requests(maker, &mut html, "Requests that failed", &FAILURES.all());

    html.heading("Recent requests");
    requests(maker, &mut html, "Recent requests", &REQUESTS.all());
    Ok(html.finish())
}

fn requests(
    maker: &Maker<'_>,
    html: &mut super::html::Html,
    caption: &'static str,
    requests: &[Recent],
) {
    if requests.is_empty() {
        return html.note("None since the start.");
    }
    let columns = &["When", "Request", "Instance", "Answer", "Took"];
    let mut table = html.table(caption, columns);
    for request in requests {
        let instance = request.instance_id.as_deref();
        let answer = match &request.reason {
            Some(reason) => format!("{}: {}", request.status, text(reason)),
            None => request.status.to_string(),
        };
        let millis = request.took.as_micros() as f64 / 1000.0;
        table.row(&[
            age(request.at),
            format!("{} {}", request.method, text(request.route)),
            instance.map_or("–".to_owned(), |id| link(&maker.instance(id), id)),
            answer,
            format!("{millis:.1} ms"),
        ]);
    }
    table.end();
}
