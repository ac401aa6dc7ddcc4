//! The adapter `http`, end to end: what a web service is told, what becomes of what it answers, and what a hostile one can do.

mod adapter_test;
mod answers;
mod check;
mod connections;
mod crash;
#[path = "../tls/material.rs"]
mod material;
mod polling;
mod recipe;
mod service;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod told;

use serde_json::{Value, json};
use service::Service;
use support::{Setup, merged, programs};

/// The usual catalog, its plans fulfilled by a web service.
fn catalog(url: &str, settings: &Value) -> Value {
    let adapter = merged(&json!({ "kind": "http", "url": url }), settings.clone());
    let mut catalog = programs::catalog(json!({}));
    for plan in catalog["services"][0]["plans"].as_array_mut().unwrap() {
        plan["adapter"] = adapter.clone();
    }
    catalog
}

/// How to start a broker whose plans this service fulfils.
fn setup(service: &Service, settings: Value) -> Setup {
    Setup::new()
        .env("BROKER_STORE", "memory")
        .catalog(&catalog(&service.url(), &settings))
}

/// `target`, asynchronously.
fn incomplete(target: &str) -> String {
    format!("{target}?accepts_incomplete=true")
}
