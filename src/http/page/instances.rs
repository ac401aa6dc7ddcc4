//! The pages of instances: many, and one.

use super::Maker;
use super::html::{Escaped, Html, age, condition, encoded, link, text};
use crate::broker::Broker;
use crate::broker::error::Error;
use crate::broker::look::{Condition, Filter, InstanceView};
use crate::http::target::fields;

/// How many are on a page.
const MOST: usize = 50;
/// The versions that can be chosen: those that are behind that of their plan.
const BEHIND: &str = "behind";

/// What the address asks for: the filter, and behind which id to begin.
fn asked(query: &str) -> Result<(Filter, String), Error> {
    let (mut filter, mut after) = (Filter::default(), String::new());
    for (name, value) in fields(query)? {
        let trimmed = value.trim().to_owned();
        match &*name {
            "service" => filter.service = trimmed,
            "plan" => filter.plan = trimmed,
            "organization" => filter.organization = trimmed,
            "space" => filter.space = trimmed,
            "state" if !trimmed.is_empty() => {
                filter.condition = Condition::ALL.into_iter().find(|it| it.name() == trimmed);
                if filter.condition.is_none() {
                    return Err(Error::bad_request(format!(
                        "state: found {trimmed:?}, wanted ready, in progress, failed or kept."
                    )));
                }
            }
            "version" if !trimmed.is_empty() => {
                if trimmed != BEHIND {
                    return Err(Error::bad_request(format!(
                        "version: found {trimmed:?}, wanted {BEHIND}."
                    )));
                }
                filter.behind = true;
            }
            // An id is taken as it is.
            "after" => after = value.into_owned(),
            _ => {}
        }
    }
    Ok((filter, after))
}

/// The query that asks for it.
fn query_of(filter: &Filter, after: &str) -> String {
    let condition = filter.condition.map_or("", Condition::name);
    let fields = [
        ("service", &*filter.service),
        ("plan", &filter.plan),
        ("organization", &filter.organization),
        ("space", &filter.space),
        ("state", condition),
        ("version", if filter.behind { BEHIND } else { "" }),
        ("after", after),
    ];
    let fields = fields.iter().filter(|(_, value)| !value.is_empty());
    let fields = fields.map(|(name, value)| format!("{name}={}", encoded(value)));
    fields.collect::<Vec<_>>().join("&")
}

pub fn list(maker: &Maker<'_>, query: &str) -> Result<Vec<u8>, Error> {
    let (filter, after) = asked(query)?;
    let page = maker.broker.look_at_instances(&filter, &after, MOST)?;
    let mut html = maker.html("Service instances");
    form(maker, &mut html, &filter);
    if page.instances.is_empty() {
        html.note(match page.next {
            Some(_) => "None so far; there are more to look at.",
            None => "None.",
        });
    } else {
        let columns = &[
            "Instance",
            "Offering, plan",
            "Organisation, space",
            "State",
            "Created",
        ];
        let mut table = html.table("Service instances", columns);
        for instance in &page.instances {
            let mut name = link(&maker.instance(&instance.id), &instance.id);
            if let Some(called) = &instance.name {
                name = format!("{}<br>{name}", text(called));
            }
            let pair = |one: &str, other: &str| format!("{}<br>{}", text(one), text(other));
            table.row(&[
                name,
                pair(&instance.service, &instance.plan),
                pair(&instance.organization, &instance.space),
                state(instance),
                age(instance.created),
            ]);
        }
        table.end();
    }
    let address = |after: &str| format!("{}/instances?{}", maker.prefix, query_of(&filter, after));
    html.put("<p>");
    if !after.is_empty() {
        html.put(format_args!("{} ", link(&address(""), "First page")));
    }
    if let Some(next) = &page.next {
        html.put(link(&address(next), "Next page"));
    }
    html.put("</p>\n");
    Ok(html.finish())
}

/// Whether it can be used, and whether it is behind its plan.
fn state(instance: &InstanceView) -> String {
    let mut cell = condition(&instance.operation);
    if instance.behind.is_some() {
        cell += &format!("<br>{}", text(&version(instance)));
    }
    cell
}

/// As in `version 1.0.0, behind 2.0.0`.
fn version(instance: &InstanceView) -> String {
    let own = instance.version.as_deref();
    let own = own.map_or("no version".to_owned(), |own| format!("version {own}"));
    match &instance.behind {
        Some(plan) => format!("{own}, {BEHIND} {plan}"),
        None => own,
    }
}

fn form(maker: &Maker<'_>, html: &mut Html, filter: &Filter) {
    html.put(format_args!(
        "<form method=\"get\" action=\"{}/instances\">\n",
        Escaped(maker.prefix)
    ));
    let plans = maker.broker.plans();
    let services = plans.catalog().services();
    let offered = services.iter().map(|service| service.name.as_str());
    let plan_names = services.iter().flat_map(|service| &service.plans);
    let mut plan_names: Vec<&str> = plan_names.map(|plan| plan.name.as_str()).collect();
    plan_names.sort_unstable();
    plan_names.dedup();
    let conditions = Condition::ALL.map(Condition::name);
    let chosen = filter.condition.map_or("", Condition::name);
    select(html, "service", "Offering", offered, &filter.service);
    select(html, "plan", "Plan", plan_names.into_iter(), &filter.plan);
    for (name, label, value) in [
        ("organization", "Organisation", &filter.organization),
        ("space", "Space", &filter.space),
    ] {
        html.put(format_args!(
            "<div><label for=\"{name}\">{label}</label>\
             <input id=\"{name}\" name=\"{name}\" value=\"{}\" autocomplete=\"off\"></div>\n",
            Escaped(value)
        ));
    }
    select(html, "state", "State", conditions.into_iter(), chosen);
    let chosen = if filter.behind { BEHIND } else { "" };
    select(html, "version", "Version", [BEHIND].into_iter(), chosen);
    html.put("<div><button>Show</button></div>\n</form>\n");
}

fn select<'a>(
    html: &mut Html,
    name: &'static str,
    label: &'static str,
    values: impl Iterator<Item = &'a str>,
    chosen: &str,
) {
    html.put(format_args!(
        "<div><label for=\"{name}\">{label}</label><select id=\"{name}\" name=\"{name}\">\
         <option value=\"\">any</option>"
    ));
    let mut known = chosen.is_empty();
    let mut option = |value: &str, selected: bool| {
        let value = Escaped(value);
        let selected = if selected { " selected" } else { "" };
        html.put(format_args!(
            "<option value=\"{value}\"{selected}>{value}</option>"
        ));
    };
    for value in values {
        known |= value == chosen;
        option(value, value == chosen);
    }
    if !known {
        option(chosen, true);
    }
    html.put("</select></div>\n");
}

fn nowhere(id: &str) -> Error {
    Error::not_found(format!("There is no service instance {id:?}."))
}

/// `prefix`: for an operator. Others see neither where it is nor who made it.
pub fn one(broker: &Broker, id: &str, nonce: &str, prefix: Option<&str>) -> Result<Vec<u8>, Error> {
    let Some((instance, bindings)) = broker.look_at_instance(id)? else {
        return Err(nowhere(id));
    };
    // To users it is gone.
    if prefix.is_none() && instance.hidden {
        return Err(nowhere(id));
    }
    let title = instance.name.as_deref().unwrap_or(&instance.id);
    let mut html = Html::new(title, nonce, prefix);
    html.put("<dl>\n");
    let mut line = |name: &'static str, value: String| {
        html.put(format_args!("<dt>{name}</dt><dd>{value}</dd>\n"));
    };
    line("Id", text(&instance.id));
    line("State", condition(&instance.operation));
    line("Offering", text(&instance.service));
    line("Plan", text(&instance.plan));
    line("Created", age(instance.created));
    if let Some(updated) = instance.updated {
        line("Updated", age(updated));
    }
    if prefix.is_some() {
        line(
            "Created by",
            text(instance.created_by.as_deref().unwrap_or_default()),
        );
        line("Organisation", text(&instance.organization));
        line("Space", text(&instance.space));
        line("Adapter", text(&instance.adapter));
        if instance.version.is_some() || instance.behind.is_some() {
            line("Maintenance", text(&version(&instance)));
        }
        line(
            "Protected",
            text(if instance.protected { "yes" } else { "no" }),
        );
    }
    html.put("</dl>\n");
    html.heading("Bindings");
    if bindings.is_empty() {
        html.note("None.");
    } else {
        let columns = &["Binding", "App", "State", "Created"];
        let mut table = html.table("Bindings", columns);
        for binding in &bindings {
            let mut state = condition(&binding.operation);
            if binding.expired {
                state += "<br>expired";
            }
            table.row(&[
                text(&binding.id),
                text(binding.app.as_deref().unwrap_or_default()),
                state,
                age(binding.created),
            ]);
        }
        table.end();
    }
    Ok(html.finish())
}
