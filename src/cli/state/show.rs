//! `brokerlet state show`: one service instance with its bindings.

use super::names::Names;
use super::records::{Found, Shown, record_of};
use super::{Failed, print, printable};
use crate::config;
use crate::store::Key;
use crate::store::inspect::Inspect;
use crate::store::sealed;

use serde_json::{Value, json};
use std::cell::Cell;
use std::fmt::Write as _;
use std::path::Path;

/// What may be secret is shown only if that was asked for.
pub(super) fn show(
    store: &dyn Inspect,
    catalog: Option<&Path>,
    id: &str,
    credentials: bool,
    json: bool,
) -> Result<(), Failed> {
    let names = Names::load(catalog)?;
    let keys = match credentials {
        true => config::seal_keys(&|name| std::env::var(name).ok()).map_err(Failed::Config)?,
        false => None,
    };
    let is_closed = Cell::new(false);
    let opened = |key: &Key, body: Vec<u8>| match &keys {
        Some(keys) => keys.open(key, body),
        None => {
            is_closed.set(is_closed.get() || sealed::sealed_with(&body).is_some());
            Ok(body)
        }
    };
    let key = Key::instance(id);
    let record = record_of(store, &key)?;
    let body = opened(&key, record.body)?;
    let instance = described(&key, &body, &names, credentials);
    let bindings: Vec<Value> = store
        .bindings(id)?
        .into_iter()
        .map(|(binding, record)| {
            let key = Key::binding(id, &binding);
            let body = opened(&key, record.body)?;
            Ok(described(&key, &body, &names, credentials))
        })
        .collect::<Result<_, Failed>>()?;
    if credentials && is_closed.get() {
        eprintln!("brokerlet: what is sealed cannot be shown without BROKER_SEAL_KEYS");
    }
    if json {
        let mut all = instance;
        all["bindings"] = bindings.into();
        print(&format!("{all}\n"));
        return Ok(());
    }
    let mut text = String::new();
    for (level, described) in
        std::iter::once((0, &instance)).chain(bindings.iter().map(|binding| (1, binding)))
    {
        lines(&mut text, described, level);
    }
    if !credentials && text.contains("(hidden)") {
        text.push_str(
            "(hidden): credentials, parameters and what adapters keep; --credentials shows them (with BROKER_SEAL_KEYS, if \
             they are sealed)\n",
        );
    }
    print(&text);
    Ok(())
}

/// What is known of a record, and the record itself.
fn described(key: &Key, body: &[u8], names: &Names, credentials: bool) -> Value {
    let described = |shown: Shown| {
        let mut summary = shown.summary(key, names);
        let record = if credentials {
            shown.whole()
        } else {
            shown.hide()
        };
        summary.insert("record".to_owned(), record);
        Value::Object(summary)
    };
    let (instance_id, binding_id) = super::records::ids(key);
    let bare = |field: &str, text: String| {
        let mut bare = json!({ "instance_id": instance_id });
        if let Some(binding_id) = binding_id {
            bare["binding_id"] = binding_id.into();
        }
        bare[field] = text.into();
        bare
    };
    match Found::parse(body) {
        Found::Record(shown) => described(shown),
        Found::Tombstone(since) => bare("deleted", since),
        Found::Unreadable(why) => bare("unreadable", why),
    }
}

/// For people: a line for each field that they may want.
fn lines(text: &mut String, described: &Value, level: usize) {
    let indent = "  ".repeat(level);
    for (field, value) in described.as_object().into_iter().flatten() {
        if field == "record" {
            continue;
        }
        let value = value.as_str().map_or_else(|| value.to_string(), printable);
        _ = writeln!(text, "{indent}{field:18} {value}");
    }
    let record = &described["record"];
    let kept = [
        ("dashboard_url", "/dashboard_url"),
        ("parameters", "/parameters"),
        ("adapter state", "/state"),
        ("credentials", "/answer/credentials"),
        ("syslog_drain_url", "/answer/syslog_drain_url"),
        ("route_service_url", "/answer/route_service_url"),
        ("volume_mounts", "/answer/volume_mounts"),
        ("sealed", "/sealed"),
    ];
    for (field, place) in kept {
        if let Some(value) = record.pointer(place).filter(|value| !value.is_null()) {
            let value = value.as_str().map_or_else(|| value.to_string(), printable);
            _ = writeln!(text, "{indent}{field:18} {value}");
        }
    }
    text.push('\n');
}
