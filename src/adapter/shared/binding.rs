//! The section `binding`.

use super::lifetime::Lifetime;
use crate::adapter::shape;
use crate::adapter::template::{
    Members, Parser, Piece, Random, Scope, Template, Values, render_list, render_object,
};
use crate::adapter::{BindingCall, Bound, Failure, Settings};

use serde_json::{Map, Value};
use std::time::SystemTime;

/// What Cloud Controller's database takes, in bytes of JSON.
const LONGEST_VOLUME_MOUNTS: usize = 65_535;
/// About what Cloud Controller's database takes once the credentials are encrypted, in bytes of JSON.
const LONG_CREDENTIALS: usize = 48 * 1024;

/// What an application gets.
#[derive(Default)]
pub struct Binding {
    credentials: Option<Members>,
    syslog_drain_url: Option<Template>,
    route_service_url: Option<Template>,
    volume_mounts: Option<Vec<Template>>,
    endpoints: Option<Vec<Template>>,
    metadata: Option<Members>,
    lifetime: Option<Lifetime>,
    randoms: Vec<Random>,
}

impl Binding {
    /// Credentials are `{}`.
    pub fn empty() -> Binding {
        Binding {
            credentials: Some(Members::new()),
            ..Binding::default()
        }
    }

    /// Reads the section. `now` tells whether there is a date at the end of the lifetime.
    pub fn read(settings: &Settings<'_>, now: SystemTime) -> Binding {
        let mut parser = Parser::new(Scope::Binding, settings);
        let mut binding = Binding {
            credentials: parser.object("credentials"),
            syslog_drain_url: parser.template("syslog_drain_url"),
            route_service_url: parser.template("route_service_url"),
            volume_mounts: parser.list("volume_mounts"),
            endpoints: parser.list("endpoints"),
            metadata: parser.object("metadata"),
            lifetime: Lifetime::read(settings, now),
            randoms: parser.into_randoms(),
        };
        binding.fit(settings);
        // spec: Binding, Types of Binding: the other types do without credentials.
        let is_of_other_type = binding.syslog_drain_url.is_some()
            || binding.route_service_url.is_some()
            || binding.volume_mounts.is_some();
        if !is_of_other_type {
            binding.credentials.get_or_insert_default();
        }
        binding
    }

    /// Whether a binding gets the same whenever it is made.
    pub fn is_the_same_again(&self) -> bool {
        self.randoms.is_empty() && self.lifetime.is_none()
    }

    /// What one binding gets. `now` is when it begins.
    pub fn render(&self, call: &BindingCall<'_>, now: SystemTime) -> Result<Bound, Failure> {
        let random = self.randoms.iter().map(|random| random.take_or_draw(None));
        let values = Values::of_binding(call, random.collect::<Result<_, _>>()?);
        let object = |members: &Members| render_object(members, &values);
        let list = |items: &Vec<Template>| render_list(items, &values);
        let string = |template: &Template| template.render_string(&values);

        let volume_mounts = self.volume_mounts.as_ref().map(list).transpose()?;
        check_volume_mounts(volume_mounts.as_deref(), &call.instance.plan.name)?;
        let metadata = self.metadata.as_ref().map(object).transpose()?;
        Ok(Bound {
            credentials: self.credentials.as_ref().map(object).transpose()?,
            syslog_drain_url: self.syslog_drain_url.as_ref().map(string).transpose()?,
            route_service_url: self.route_service_url.as_ref().map(string).transpose()?,
            volume_mounts,
            endpoints: self.endpoints.as_ref().map(list).transpose()?,
            metadata: self.with_times(metadata, now)?,
            // Nothing to revoke, and the broker keeps the answer itself.
            state: None,
        })
    }

    fn with_times(
        &self,
        metadata: Option<Map<String, Value>>,
        now: SystemTime,
    ) -> Result<Option<Map<String, Value>>, Failure> {
        let Some(lifetime) = &self.lifetime else {
            if metadata.as_ref().is_some_and(is_renewed_too_late) {
                return Err(Failure::invalid(RENEWED_TOO_LATE));
            }
            return Ok(metadata);
        };
        let times = lifetime.times(now).ok_or_else(|| {
            Failure::unavailable("bindings cannot be made now, since their expiry cannot be told")
                .with_detail(
                    "is the system clock right? `lifetime` leads out of the years 1970 to 9999",
                )
        })?;
        let mut metadata = metadata.unwrap_or_default();
        metadata.insert("expires_at".to_owned(), Value::String(times.expires_at));
        if let Some(renew_before) = times.renew_before {
            metadata.insert("renew_before".to_owned(), Value::String(renew_before));
        }
        Ok(Some(metadata))
    }

    /// Checks what is known by now, and has the rest checked when it is rendered.
    fn fit(&mut self, settings: &Settings<'_>) {
        if let Some(url) = &mut self.syslog_drain_url {
            check_requires(settings, "syslog_drain_url", "syslog_drain");
            shape::fit_value(shape::SYSLOG_DRAIN_URL, url, "syslog_drain_url", settings);
        }
        if let Some(url) = &mut self.route_service_url {
            check_requires(settings, "route_service_url", "route_forwarding");
            check_beginning(settings, url);
            shape::fit_value(shape::ROUTE_SERVICE_URL, url, "route_service_url", settings);
        }
        if let Some(mounts) = &mut self.volume_mounts {
            check_requires(settings, "volume_mounts", "volume_mount");
            shape::fit_items(shape::VOLUME_MOUNT, mounts, "volume_mounts", settings);
            check_literal_length(settings, "volume_mounts");
        }
        if let Some(endpoints) = &mut self.endpoints {
            shape::fit_items(shape::ENDPOINT, endpoints, "endpoints", settings);
        }
        if let Some(members) = &mut self.metadata {
            shape::fit_members(shape::BINDING_METADATA, members, "metadata", settings);
            check_metadata(settings, members);
        }
        check_literal_length(settings, "credentials");
    }
}

/// spec: Binding, Body: the platform can consider the response invalid without it, and Cloud Controller does.
fn check_requires(settings: &Settings<'_>, key: &str, permission: &str) {
    let service = settings.service();
    let mut required = service.requires.iter().flatten();
    if !required.any(|required| required == permission) {
        let text = format!(
            "needs {permission:?} in \"requires\" of service offering {:?}",
            service.name
        );
        settings.error(key, text);
    }
}

fn check_beginning(settings: &Settings<'_>, url: &Template) {
    if let Template::Text(pieces) = url
        && let Some(Piece::Literal(beginning)) = pieces.first()
        && !shape::can_be_https(beginning)
    {
        settings.error(
            "route_service_url",
            "found another beginning, wanted \"https://\"",
        );
    }
}

fn check_metadata(settings: &Settings<'_>, members: &Members) {
    let given = |name: &str| {
        members
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    };
    if settings.value("lifetime").is_some() {
        for key in ["expires_at", "renew_before"] {
            if given(key).is_some() {
                let text = format!(
                    "found beside \"lifetime\", which already says {key}; wanted one of the two"
                );
                settings.error(&format!("metadata.{key}"), text);
            }
        }
    }
    let literals = members.iter().filter_map(|(key, value)| match value {
        Template::Literal(value) => Some((key.clone(), value.clone())),
        _ => None,
    });
    if is_renewed_too_late(&literals.collect()) {
        settings.error("metadata.renew_before", RENEWED_TOO_LATE);
    }
}

const RENEWED_TOO_LATE: &str =
    "metadata.renew_before is later than metadata.expires_at, wanted at most as late";

/// spec: Binding, Binding Metadata Object. The one pattern of both times sorts as text.
fn is_renewed_too_late(metadata: &Map<String, Value>) -> bool {
    let time = |key| metadata.get(key).and_then(Value::as_str);
    matches!((time("renew_before"), time("expires_at")), (Some(renew), Some(expires)) if renew > expires)
}

/// Checks the length of what holds no expressions.
fn check_literal_length(settings: &Settings<'_>, key: &'static str) {
    let Some(text) = settings.value(key).map(Value::to_string) else {
        return;
    };
    let length = text.len();
    if text.contains("${") {
        return;
    }
    if key == "volume_mounts" && length > LONGEST_VOLUME_MOUNTS {
        settings.error(key, too_long(length));
    }
    if key == "credentials" && length > LONG_CREDENTIALS {
        let text = format!(
            "found {length} bytes as JSON; Cloud Foundry can keep about {LONG_CREDENTIALS}"
        );
        settings.warning(key, text);
    }
}

fn check_volume_mounts(mounts: Option<&[Value]>, plan: &str) -> Result<(), Failure> {
    let Some(mounts) = mounts else {
        return Ok(());
    };
    let commas_and_brackets = mounts.len() + 1;
    let length = mounts
        .iter()
        .map(|mount| mount.to_string().len())
        .sum::<usize>()
        + commas_and_brackets;
    if length > LONGEST_VOLUME_MOUNTS {
        return Err(Failure::failed(format!(
            "volume_mounts: {} (plan {plan:?})",
            too_long(length)
        )));
    }
    Ok(())
}

fn too_long(length: usize) -> String {
    format!("found {length} bytes as JSON, wanted at most {LONGEST_VOLUME_MOUNTS}")
}
