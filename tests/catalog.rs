//! spec: Catalog Management; RFC 9110 for the conditions.

mod support;

use serde_json::{Value, json};
use std::fs::File;
use std::time::{Duration, SystemTime};
use support::*;

const CATALOG: &str = "/v2/catalog";
/// 2001-09-09, the change of the catalog file in these tests.
const MODIFIED: &str = "Sun, 09 Sep 2001 01:46:40 GMT";
const SECOND_BEFORE: &str = "Sun, 09 Sep 2001 01:46:39 GMT";
const SECOND_AFTER: &str = "Sun, 09 Sep 2001 01:46:41 GMT";

/// Every field of the specification, the defaults of the plans written out, and some of a vendor.
fn full() -> Value {
    let schema = json!({
        "$schema": "http://json-schema.org/draft-06/schema#",
        "type": "object",
        "properties": { "size": { "type": "integer", "x-acme-unit": "GB" } },
    });
    json!({ "services": [
        {
            "id": "6d1a3a1c-0d6f-4b0e-8f7c-1f0b7f8b6e01",
            "name": "acme-db",
            "description": "A database: größer, schneller ☃",
            "tags": ["sql", "relational"],
            "requires": ["syslog_drain"],
            "bindable": true,
            "instances_retrievable": true,
            "bindings_retrievable": true,
            "allow_context_updates": true,
            "metadata": { "displayName": "Acme DB", "shareable": true, "acme": { "any": [1, 2.5, null] } },
            "dashboard_client": {
                "id": "acme-dashboard",
                "secret": "public-by-specification",
                "redirect_uri": "https://dashboard.acme.example",
            },
            "plan_updateable": true,
            "x-acme-region": "eu",
            "plans": [
                {
                    "id": "b1a1b1a1-0000-4000-8000-000000000001",
                    "name": "small",
                    "description": "Small",
                    "metadata": { "bullets": ["1 GB"] },
                    "free": false,
                    "bindable": true,
                    "binding_rotatable": true,
                    "plan_updateable": false,
                    "schemas": {
                        "service_instance": { "create": { "parameters": schema }, "update": { "parameters": schema } },
                        "service_binding": { "create": { "parameters": schema } },
                    },
                    "maximum_polling_duration": 3600,
                    "maintenance_info": { "version": "2.1.1+abcdef", "description": "New OS" },
                    "x-acme-cost": { "amount": 5 },
                },
            ],
        },
        {
            "id": "6d1a3a1c-0d6f-4b0e-8f7c-1f0b7f8b6e02",
            "name": "acme-cache",
            "description": "A cache",
            "bindable": false,
            "plans": [
                {
                    "id": "b1a1b1a1-0000-4000-8000-000000000002",
                    "name": "small",
                    "description": "Small, too",
                    "free": true,
                    "bindable": false,
                    "plan_updateable": false,
                },
            ],
        },
    ]})
}

/// A broker whose catalog file was changed at [`MODIFIED`].
fn broker_modified_then(catalog: &Value) -> Broker {
    let setup = Setup::new().env("BROKER_STORE", "memory").catalog(catalog);
    let file = File::options()
        .write(true)
        .open(setup.folder.path().join("catalog.json"))
        .unwrap();
    // Within a second: HTTP dates do not tell.
    let then = Duration::from_secs(1_000_000_000) + Duration::from_millis(700);
    file.set_modified(SystemTime::UNIX_EPOCH + then).unwrap();
    setup.start()
}

/// Asserts that a request for the catalog with these header fields is 304 without a body, or 200 with one.
#[track_caller]
fn conditional(broker: &Broker, fields: &[(&str, &str)], status: u16) {
    let whole = broker.get(CATALOG).expect(200);
    let mut request = broker.request("GET", CATALOG);
    for (name, value) in fields {
        request = request.header(name, *value);
    }
    let answer = request.send();
    assert_eq!(answer.status, status, "{fields:?}");
    let wanted = if status == 304 { &[] } else { &whole.body[..] };
    assert_eq!(answer.body, wanted, "{fields:?}");
    // Both tell the validators, and the length of what a 200 would carry or does.
    for name in ["ETag", "Last-Modified", "Content-Length"] {
        assert!(answer.header(name).is_some(), "{name}");
        assert_eq!(answer.header(name), whole.header(name), "{name}");
    }
}

fn etag(broker: &Broker) -> String {
    broker.get(CATALOG).header("ETag").unwrap().to_owned()
}

// Body

#[test]
fn the_built_in_catalog_is_the_tutorials() {
    let answer = Broker::in_memory().get(CATALOG).expect(200);
    let services = json!({ "services": [{
        "id": "example_service", "name": "example_service", "description": "Simple service example", "bindable": true,
        "plans": [{
            "id": "plan_one", "name": "plan_one", "description": "Simple free plan",
            "free": true, "bindable": true, "plan_updateable": false,
        }],
    }]});
    assert_eq!(answer.json(), services);
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
}

#[test]
fn every_field_is_served_as_the_file_has_it() {
    assert_eq!(
        Broker::with(&full()).get(CATALOG).expect(200).json(),
        full()
    );
}

#[test]
fn a_plan_takes_its_defaults_from_the_service() {
    let (yes, no, absent) = (Some(true), Some(false), None);
    let mut services = Vec::new();
    let mut wanted = Vec::new();
    for (s, (service_bindable, service_updateable)) in [
        (true, yes),
        (true, no),
        (true, absent),
        (false, yes),
        (false, absent),
    ]
    .into_iter()
    .enumerate()
    {
        let mut plans = Vec::new();
        for (p, (free, bindable, updateable)) in
            [(absent, absent, absent), (yes, yes, yes), (no, no, no)]
                .into_iter()
                .enumerate()
        {
            let id = format!("plan-{s}-{p}");
            let mut plan = json!({ "id": id, "name": id, "description": "A plan" });
            for (name, value) in [
                ("free", free),
                ("bindable", bindable),
                ("plan_updateable", updateable),
            ] {
                if let Some(value) = value {
                    plan[name] = json!(value);
                }
            }
            plans.push(plan);
            wanted.push((
                free.unwrap_or(true),
                bindable.unwrap_or(service_bindable),
                updateable.or(service_updateable).unwrap_or(false),
            ));
        }
        let id = format!("service-{s}");
        let mut service = json!({
            "id": id, "name": id, "description": "A service", "bindable": service_bindable, "plans": plans,
        });
        if let Some(updateable) = service_updateable {
            service["plan_updateable"] = json!(updateable);
        }
        services.push(service);
    }
    let served = Broker::with(&json!({ "services": services }))
        .get(CATALOG)
        .expect(200)
        .json();
    let served: Vec<_> = served["services"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|service| service["plans"].as_array().unwrap())
        .map(|plan| {
            let boolean = |name: &str| plan[name].as_bool().unwrap();
            (
                boolean("free"),
                boolean("bindable"),
                boolean("plan_updateable"),
            )
        })
        .collect();
    assert_eq!(served, wanted);
}

#[test]
fn absent_fields_are_not_served_as_null() {
    let body = Broker::in_memory().get(CATALOG).expect(200).body;
    let text = String::from_utf8(body).unwrap();
    assert!(!text.contains("null"), "{text}");
}

#[test]
fn adapter_settings_are_never_served() {
    let mut catalog = full();
    catalog["services"][0]["adapter"] = json!({
        "kind": "shared",
        "binding": { "credentials": { "password": "5ecret-of-the-service" } },
    });
    catalog["services"][1]["plans"][0]["adapter"] = json!({
        "kind": "shared",
        "instance": { "dashboard_url": "https://acme.example/5ecret-of-the-plan" },
    });
    let broker = Broker::with(&catalog);
    let answer = broker.get(CATALOG).expect(200);
    assert_eq!(answer.json(), full());
    for (_, value) in &answer.headers {
        assert!(!value.contains("5ecret"), "{value}");
    }
    let (_, printed) = broker.stop();
    assert!(!printed.contains("5ecret"), "{printed}");
}

// Request

#[test]
fn a_broker_url_with_a_slash_at_its_end_works() {
    let broker = Broker::in_memory();
    let served = broker.get(CATALOG).expect(200).body;
    assert_eq!(broker.get("//v2/catalog").expect(200).body, served);
    assert_eq!(broker.get("///v2/catalog").expect(200).body, served);
    assert_eq!(
        broker.get("/v2/catalog?some=query").expect(200).body,
        served
    );
    assert_eq!(broker.get("/v2/%63atalog").expect(200).body, served);
}

#[test]
fn head_answers_like_get_but_for_the_body() {
    let broker = Broker::in_memory();
    let get = broker.get(CATALOG).expect(200);
    let head = broker.request("HEAD", CATALOG).send();
    assert_eq!((head.status, head.body.as_slice()), (200, &b""[..]));
    for name in ["Content-Type", "Content-Length", "ETag", "Last-Modified"] {
        assert!(get.header(name).is_some(), "{name}");
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
    let request = broker.request("HEAD", CATALOG);
    let head = request
        .header("If-None-Match", get.header("ETag").unwrap())
        .send();
    assert_eq!(head.status, 304);
}

#[test]
fn other_methods_are_405_and_told_which_are_allowed() {
    let broker = Broker::in_memory();
    let last = |path: String| path + "/last_operation";
    for (path, methods, allowed) in [
        (
            CATALOG.to_owned(),
            &["PUT", "PATCH", "DELETE", "POST", "OPTIONS"][..],
            "GET, HEAD",
        ),
        (
            last(instance("i")),
            &["PUT", "PATCH", "DELETE", "POST"],
            "GET, HEAD",
        ),
        (
            last(binding("i", "b")),
            &["PUT", "PATCH", "DELETE", "POST"],
            "GET, HEAD",
        ),
        (
            instance("i"),
            &["POST", "OPTIONS"],
            "GET, HEAD, PUT, PATCH, DELETE",
        ),
        (
            binding("i", "b"),
            &["PATCH", "POST", "OPTIONS"],
            "GET, HEAD, PUT, DELETE",
        ),
    ] {
        for method in methods {
            let answer = broker.request(method, &path).send().expect(405);
            assert_eq!(answer.header("Allow"), Some(allowed), "{method} {path}");
        }
    }
}

#[test]
fn other_paths_are_404() {
    let broker = Broker::in_memory();
    for path in [
        "/",
        "/v2",
        "/v2/",
        "/V2/catalog",
        "/v1/catalog",
        "/v2/catalogs",
        "/v2/catalog/x",
        "/v2/service_instances",
        "/v2/service_instances/i/nothing",
        "/v2/service_instances/i/service_bindings",
        "/v2/service_instances/i/service_bindings/b/nothing",
        "/v2/service_instances/i/last_operation/x",
        "/healthz/x",
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            broker.request(method, path).send().expect(404);
        }
    }
}

// Caching

#[test]
fn the_etag_is_of_the_content() {
    let mut other = full();
    other["services"][0]["description"] = json!("Another");
    let (one, same, other) = (
        Broker::with(&full()),
        Broker::with(&full()),
        Broker::with(&other),
    );
    assert_eq!(etag(&one), etag(&same));
    assert_ne!(etag(&one), etag(&other));
    let tag = etag(&one);
    assert!(
        tag.starts_with('"') && tag.ends_with('"') && tag.len() > 2,
        "{tag}"
    );
}

#[test]
fn last_modified_is_when_the_file_was_changed() {
    let broker = broker_modified_then(&full());
    let answer = broker.get(CATALOG).expect(200);
    assert_eq!(answer.header("Last-Modified"), Some(MODIFIED));
}

#[test]
fn if_none_match_with_the_etag_is_304() {
    let broker = Broker::with(&full());
    let tag = etag(&broker);
    for tags in [
        tag.clone(),
        format!("W/{tag}"),
        format!("\"x\", {tag}"),
        format!("{tag},\"x\""),
        format!("\"x\",W/{tag} , \"y\""),
        "*".to_owned(),
    ] {
        conditional(&broker, &[("If-None-Match", &tags)], 304);
    }
}

#[test]
fn if_none_match_with_other_tags_is_200() {
    let broker = Broker::with(&full());
    let bare = etag(&broker).replace('"', "");
    for tags in [
        "\"x\"",
        "\"x\", \"y\"",
        "W/\"x\"",
        "\"*\"",
        "",
        bare.as_str(),
    ] {
        conditional(&broker, &[("If-None-Match", tags)], 200);
    }
}

#[test]
fn if_modified_since_is_304_unless_the_file_was_changed_since() {
    let broker = broker_modified_then(&full());
    conditional(&broker, &[("If-Modified-Since", MODIFIED)], 304);
    conditional(&broker, &[("If-Modified-Since", SECOND_AFTER)], 304);
    conditional(&broker, &[("If-Modified-Since", SECOND_BEFORE)], 200);
    // The two obsolete forms of dates.
    conditional(
        &broker,
        &[("If-Modified-Since", "Sunday, 09-Sep-01 01:46:40 GMT")],
        304,
    );
    conditional(
        &broker,
        &[("If-Modified-Since", "Sun Sep  9 01:46:40 2001")],
        304,
    );
    // What is no date is ignored.
    conditional(&broker, &[("If-Modified-Since", "yesterday")], 200);
    conditional(
        &broker,
        &[("If-Modified-Since", "2001-09-09T01:46:40Z")],
        200,
    );
}

#[test]
fn if_none_match_comes_before_if_modified_since() {
    let broker = broker_modified_then(&full());
    let tag = etag(&broker);
    let fields = |tag, date| [("If-None-Match", tag), ("If-Modified-Since", date)];
    conditional(&broker, &fields("\"x\"", MODIFIED), 200);
    conditional(&broker, &fields(&tag, SECOND_BEFORE), 304);
}
