//! The operator's catalog file. The input is its text.
//!
//! Whatever is in it, either errors say where and what, or it can be offered: then what is served is JSON that holds
//! nothing of the private parts, and is itself a catalog without errors that is served in the same way.

use brokerlet::adapter::Kinds;
use brokerlet::catalog::environment::Environment;
use brokerlet::catalog::file::{self, Loaded};
use serde_json::Value;
use std::path::Path;
use std::time::SystemTime;

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let variables = |name: &str| (name == "SET").then(|| "from the environment".to_owned());
    let environment = Environment::new(&variables, Path::new(""));
    let (loaded, mut findings) = file::parse(text, SystemTime::UNIX_EPOCH, environment);
    let mut unbuilt = 0;
    if let Some(Loaded { catalog, adapters }) = &loaded {
        let kinds = Kinds::standard();
        for (s, service) in catalog.services().iter().enumerate() {
            for (p, plan) in service.plans.iter().enumerate() {
                let private = adapters.get(&(s, p));
                let built = kinds.build(private, service, plan, environment, &mut findings);
                unbuilt += usize::from(built.is_none());
            }
        }
    }
    for finding in &findings.0 {
        assert!(!finding.text.is_empty(), "{finding:?}");
    }
    assert!(
        unbuilt == 0 || findings.has_errors(),
        "refused without a word"
    );
    let Some(loaded) = loaded else {
        assert!(findings.has_errors(), "refused without a word");
        return;
    };
    if findings.has_errors() {
        return;
    }
    let rendered = String::from_utf8(loaded.catalog.rendered().to_vec()).unwrap();
    let served: Value = serde_json::from_str(&rendered).unwrap();
    let services = served["services"].as_array().unwrap();
    let document: Value =
        serde_json::from_str(text.strip_prefix('\u{feff}').unwrap_or(text)).unwrap();
    nothing_private(&document, services);
    for service in services {
        for plan in service["plans"].as_array().unwrap() {
            for key in ["id", "name", "description"] {
                assert!(
                    service[key].is_string() && plan[key].is_string(),
                    "{key}: {served}"
                );
            }
        }
    }
    // An expression that was escaped in the file is one when it is read again.
    if !rendered.contains("${") {
        let (again, findings) = file::parse(&rendered, SystemTime::UNIX_EPOCH, environment);
        assert!(!findings.has_errors(), "{findings:?} in {rendered}");
        assert_eq!(again.unwrap().catalog.rendered(), loaded.catalog.rendered());
    }
}

/// No service offering and no plan has an adapter, and no text that stands in adapters alone is served.
fn nothing_private(document: &Value, services: &[Value]) {
    let mut private = Vec::new();
    let mut public = document.clone();
    for service in public["services"].as_array_mut().into_iter().flatten() {
        private.extend(take_adapter(service));
        for plan in service
            .get_mut("plans")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            private.extend(take_adapter(plan));
        }
    }
    for service in services {
        assert!(service.get("adapter").is_none());
        for plan in service["plans"].as_array().into_iter().flatten() {
            assert!(plan.get("adapter").is_none());
        }
    }
    let (public, served) = (public.to_string(), Value::from(services).to_string());
    for text in private {
        let text = Value::from(text).to_string();
        // Short texts are in anything.
        if text.len() > 10 && !public.contains(&text) {
            assert!(!served.contains(&text), "{text} is served");
        }
    }
}

/// Every text in the adapter of a service offering or plan, which is taken out.
fn take_adapter(holder: &mut Value) -> Vec<String> {
    let mut texts = Vec::new();
    if let Some(adapter) = holder
        .as_object_mut()
        .and_then(|holder| holder.remove("adapter"))
    {
        collect(&adapter, &mut texts);
    }
    texts
}

fn collect(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => texts.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| collect(item, texts)),
        Value::Object(fields) => fields.values().for_each(|field| collect(field, texts)),
        _ => {}
    }
}
