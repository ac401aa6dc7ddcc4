//! The objects of the specification that an operator can spell out, or a program return, as tables.

use crate::adapter::Settings;
use crate::adapter::template::{Checked, Members, Piece, Rule, Template};
use crate::catalog::finding::suggestion;
use crate::json;

use serde_json::{Map, Value};
use std::mem;

/// What a value must look like: for people who write catalogs, and for platforms that read answers.
pub enum Shape {
    Value(&'static Rule),
    NonEmptyList(&'static Shape),
    Object(&'static [Member]),
}

pub struct Member {
    name: &'static str,
    is_required: bool,
    shape: Shape,
}

const fn required(name: &'static str, shape: Shape) -> Member {
    Member {
        name,
        is_required: true,
        shape,
    }
}

const fn optional(name: &'static str, shape: Shape) -> Member {
    Member {
        name,
        is_required: false,
        shape,
    }
}

/// spec: Service Instance Metadata.
pub const INSTANCE_METADATA: &[Member] = &[
    optional("labels", Shape::Value(&Rule::Object)),
    optional("attributes", Shape::Value(&Rule::Object)),
];

/// spec: Binding, Binding Metadata Object.
pub const BINDING_METADATA: &[Member] = &[
    optional("expires_at", Shape::Value(TIME)),
    optional("renew_before", Shape::Value(TIME)),
];

/// spec: Binding, Volume Mount Object. Cloud Controller refuses empty strings here.
pub const VOLUME_MOUNT: &Shape = &Shape::Object(&[
    required("driver", Shape::Value(NOT_BLANK)),
    required("container_dir", Shape::Value(NOT_BLANK)),
    required("mode", Shape::Value(MODE)),
    required("device_type", Shape::Value(DEVICE_TYPE)),
    required("device", DEVICE),
]);

/// spec: Binding, Device Object.
const DEVICE: Shape = Shape::Object(&[
    required("volume_id", Shape::Value(NOT_BLANK)),
    optional("mount_config", Shape::Value(&Rule::Object)),
]);

/// spec: Binding, Endpoint Object.
pub const ENDPOINT: &Shape = &Shape::Object(&[
    required("host", Shape::Value(NOT_BLANK)),
    required("ports", Shape::NonEmptyList(&Shape::Value(PORTS))),
    optional("protocol", Shape::Value(PROTOCOL)),
]);

// The lengths are what Cloud Controller's database takes.
pub const DASHBOARD_URL: &Rule = &text("a string", |_| true, 16_000);
pub const SYSLOG_DRAIN_URL: &Rule = &text("a string", |_| true, 10_000);
pub const ROUTE_SERVICE_URL: &Rule = &text("an https URL", is_https, 255);

const NOT_BLANK: &Rule = &text(
    "a string that is not empty",
    |text| !text.trim().is_empty(),
    usize::MAX,
);
const MODE: &Rule = &text(
    "\"r\" or \"rw\"",
    |text| matches!(text, "r" | "rw"),
    usize::MAX,
);
const DEVICE_TYPE: &Rule = &text("\"shared\"", |text| text == "shared", usize::MAX);
const PROTOCOL: &Rule = &text(
    "\"tcp\", \"udp\" or \"all\"",
    |text| matches!(text, "tcp" | "udp" | "all"),
    usize::MAX,
);
const PORTS: &Rule = &text(
    "a port or a range of ports within 1 to 65535, as a string: \"443\", \"9000-9010\"",
    is_port_or_range,
    usize::MAX,
);
const TIME: &Rule = &text(
    "a time such as \"2019-12-31T23:59:59.0Z\"",
    is_time,
    usize::MAX,
);

const fn text(wanted: &'static str, holds: fn(&str) -> bool, longest: usize) -> Rule {
    Rule::Text {
        wanted,
        holds,
        longest,
    }
}

const HTTPS: &str = "https://";

fn is_https(url: &str) -> bool {
    url.len() > HTTPS.len() && can_be_https(url)
}

/// Whether a URL that begins like this can be an https URL.
pub fn can_be_https(beginning: &str) -> bool {
    let mut pairs = beginning.bytes().zip(HTTPS.bytes());
    pairs.all(|(found, wanted)| found.eq_ignore_ascii_case(&wanted))
}

fn is_port_or_range(text: &str) -> bool {
    match text.split_once('-') {
        None => port(text).is_some(),
        Some((first, last)) => {
            matches!((port(first), port(last)), (Some(first), Some(last)) if first <= last)
        }
    }
}

fn port(text: &str) -> Option<u16> {
    let is_canonical = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| is_canonical)
}

/// `yyyy-mm-ddThh:mm:ss.sZ`: one fractional digit.
fn is_time(text: &str) -> bool {
    text.len() == "2019-12-31T23:59:59.0Z".len()
        && text.as_bytes().get(19) == Some(&b'.')
        && text.ends_with('Z')
        && humantime::parse_rfc3339(text).is_ok()
}

impl Shape {
    /// Reports what is wrong in the template, and makes it check what is open until it is rendered. `name` is the
    /// template's place within the settings.
    pub fn fit(&self, template: &mut Template, name: &str, settings: &Settings<'_>) {
        match (self, &mut *template) {
            (Shape::Value(rule), _) => fit_value(rule, template, name, settings),
            (Shape::Object(known), Template::Object(members)) => {
                fit_members(known, members, name, settings);
            }
            (Shape::NonEmptyList(_), Template::Array(items)) if items.is_empty() => {
                settings.error(name, "found an empty array, wanted at least one element");
            }
            (Shape::NonEmptyList(shape), Template::Array(items)) => {
                fit_items(shape, items, name, settings);
            }
            (Shape::Object(_), found) => report_kind(found, "an object", name, settings),
            (Shape::NonEmptyList(_), found) => report_kind(found, "an array", name, settings),
        }
    }
}

/// As [`Shape::fit`], for each element of an array.
pub fn fit_items(shape: &Shape, items: &mut [Template], name: &str, settings: &Settings<'_>) {
    for (i, item) in items.iter_mut().enumerate() {
        shape.fit(item, &format!("{name}[{i}]"), settings);
    }
}

/// As [`Shape::fit`], for the members of an object. Null counts as absent and is left out of the answer, since Cloud
/// Controller takes an optional null for a wrong type.
pub fn fit_members(known: &[Member], members: &mut Members, name: &str, settings: &Settings<'_>) {
    members.retain(|(key, template)| {
        let is_null = matches!(template, Template::Literal(Value::Null));
        !(is_null && known.iter().any(|member| member.name == key))
    });
    for member in known.iter().filter(|member| member.is_required) {
        if !members.iter().any(|(key, _)| key == member.name) {
            let place = format!("{name}.{}", member.name);
            settings.error(
                &place,
                format!("found nothing, wanted {}", member.shape.wanted()),
            );
        }
    }
    for (key, template) in members {
        let place = format!("{name}.{key}");
        match known.iter().find(|member| member.name == key) {
            Some(member) => member.shape.fit(template, &place, settings),
            None => {
                let hint = suggestion(key, known.iter().map(|member| member.name));
                settings.warning(&place, format!("the specification has no such field{hint}"));
            }
        }
    }
}

impl Shape {
    /// What is wrong with a value that is known, with its place. Null counts as absent, as in [`fit_members`].
    pub fn accept(&self, value: &mut Value, name: &str) -> Result<(), String> {
        match (self, &mut *value) {
            (Shape::Value(rule), value) => rule
                .check(value)
                .map_err(|complaint| format!("{name}: {}", complaint.text())),
            (Shape::Object(known), Value::Object(members)) => accept_members(known, members, name),
            (Shape::NonEmptyList(_), Value::Array(items)) if items.is_empty() => Err(format!(
                "{name}: found an empty array, wanted at least one element"
            )),
            (Shape::NonEmptyList(shape), Value::Array(items)) => {
                let items = items.iter_mut().enumerate();
                items
                    .into_iter()
                    .try_for_each(|(i, item)| shape.accept(item, &format!("{name}[{i}]")))
            }
            (shape, found) => Err(format!(
                "{name}: found {}, wanted {}",
                json::kind(found),
                shape.wanted()
            )),
        }
    }
}

/// As [`Shape::accept`], for the members of an object.
pub fn accept_members(
    known: &[Member],
    members: &mut Map<String, Value>,
    name: &str,
) -> Result<(), String> {
    for member in known {
        if members.get(member.name).is_some_and(Value::is_null) {
            members.remove(member.name);
        }
        match members.get_mut(member.name) {
            Some(value) => member
                .shape
                .accept(value, &format!("{name}.{}", member.name))?,
            None if member.is_required => {
                return Err(format!(
                    "{name}.{}: found nothing, wanted {}",
                    member.name,
                    member.shape.wanted()
                ));
            }
            None => {}
        }
    }
    Ok(())
}

impl Shape {
    fn wanted(&self) -> &'static str {
        match self {
            Shape::Value(rule) => rule.wanted(),
            Shape::NonEmptyList(_) => "an array",
            Shape::Object(_) => "an object",
        }
    }
}

/// Checks a value that is known, and sends the rule along with one that is not.
pub fn fit_value(
    rule: &'static Rule,
    template: &mut Template,
    name: &str,
    settings: &Settings<'_>,
) {
    let open = match mem::replace(template, Template::Literal(Value::Null)) {
        Template::Literal(value) => {
            if let Err(complaint) = rule.check(&value) {
                settings.error(name, complaint.text());
            }
            *template = Template::Literal(value);
            return;
        }
        // A port may be given as a number and becomes a string; an object must stay one.
        Template::Expression(expression) if matches!(rule, Rule::Text { .. }) => {
            Template::Text(vec![Piece::Expression(expression)])
        }
        open => open,
    };
    let is_possible = match (rule, &open) {
        (Rule::Text { .. }, Template::Text(_)) => true,
        (Rule::Object, Template::Object(_) | Template::Expression(_)) => true,
        (Rule::Object | Rule::Text { .. }, _) => false,
    };
    if !is_possible {
        report_kind(&open, rule.wanted(), name, settings);
    }
    *template = Template::Checked(Box::new(Checked {
        template: open,
        rule,
        name: name.to_owned(),
    }));
}

fn report_kind(found: &Template, wanted: &str, name: &str, settings: &Settings<'_>) {
    let kind = match found {
        Template::Literal(value) => json::kind(value),
        Template::Array(_) => "an array",
        Template::Object(_) => "an object",
        Template::Expression(_) | Template::Text(_) | Template::Checked(_) => "a string",
    };
    settings.error(name, format!("found {kind}, wanted {wanted}"));
}
