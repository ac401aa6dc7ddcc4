mod schemas;
mod values;

use super::check;
use crate::catalog::Service;
use crate::catalog::finding::{Finding, Findings, Severity};

use serde_json::{Value, json};
use std::collections::HashSet;

/// A catalog with every field that the specification and the profile know, and nothing to complain about.
fn full() -> Value {
    let schema = json!({
        "$schema": "http://json-schema.org/draft-04/schema#",
        "type": "object",
        "properties": {"size": {"type": "integer", "maximum": 10}}
    });
    let plan = json!({
        "id": "22222222-bbbb",
        "name": "plan_one",
        "description": "The first plan",
        "metadata": {
            "bullets": ["20 GB", "20 connections"],
            "costs": [{"amount": {"usd": 99.0}, "unit": "MONTHLY"}],
            "displayName": "Plan One"
        },
        "free": false,
        "bindable": true,
        "binding_rotatable": true,
        "plan_updateable": true,
        "schemas": {
            "service_instance": {
                "create": {"parameters": schema},
                "update": {"parameters": schema}
            },
            "service_binding": {"create": {"parameters": schema}}
        },
        "maximum_polling_duration": 3600,
        "maintenance_info": {
            "version": "2.1.1+abcdef",
            "description": "OS image update."
        }
    });
    json!({"services": [
        {
            "name": "example_service",
            "id": "11111111-aaaa",
            "description": "An example service",
            "tags": ["sql", "relational"],
            "requires": ["syslog_drain"],
            "bindable": true,
            "instances_retrievable": true,
            "bindings_retrievable": true,
            "allow_context_updates": false,
            "metadata": {
                "displayName": "Example",
                "imageUrl": "https://example.com/cat.gif",
                "longDescription": "A long time ago",
                "providerDisplayName": "Example Ltd",
                "documentationUrl": "https://example.com/docs",
                "supportUrl": "https://example.com/help",
                "shareable": true,
                "listing": {"blurb": "Add a blurb here"}
            },
            "dashboard_client": {
                "id": "client",
                "secret": "geheim",
                "redirect_uri": "https://example.com/auth"
            },
            "plan_updateable": true,
            "plans": [
                plan,
                {"id": "33333333-cccc", "name": "plan.two", "description": "The second plan"}
            ]
        },
        {
            "name": "Second-Service",
            "id": "44444444-dddd",
            "description": "Another service",
            "bindable": false,
            "plans": [{"id": "55555555-eeee", "name": "plan_one", "description": "A plan"}]
        }
    ]})
}

const SCHEMA: &str = "/services/0/plans/0/schemas/service_instance/create/parameters";

/// What is found, but for the one warning a plan that a build without the feature `schemas` adds.
fn findings(document: &Value) -> Vec<Finding> {
    let mut findings = Findings::default();
    check(document, &HashSet::new(), &mut findings);
    findings.0.retain(|f| !f.text.contains("built without"));
    findings.0
}

fn lines(document: &Value) -> Vec<String> {
    findings(document).iter().map(Finding::to_string).collect()
}

/// Sets or removes the value at a JSON pointer.
fn edit(document: &mut Value, pointer: &str, value: Option<Value>) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match (document.pointer_mut(parent).unwrap(), value) {
        (Value::Object(object), Some(value)) => {
            object.insert(key.to_owned(), value);
        }
        (Value::Object(object), None) => {
            object.remove(key).unwrap();
        }
        (Value::Array(items), Some(value)) => match key.parse::<usize>().unwrap() {
            index if index == items.len() => items.push(value),
            index => items[index] = value,
        },
        (Value::Array(items), None) => {
            items.remove(key.parse().unwrap());
        }
        (other, _) => panic!("{parent} is {other}"),
    }
}

/// The full catalog with one value set, and all that is then found.
fn with(pointer: &str, value: Value) -> Vec<String> {
    let mut document = full();
    edit(&mut document, pointer, Some(value));
    lines(&document)
}

/// The pointers of all nodes but the root.
fn nodes(value: &Value, pointer: &str, into: &mut Vec<String>) {
    if !pointer.is_empty() {
        into.push(pointer.to_owned());
    }
    match value {
        Value::Object(object) => {
            for (key, item) in object {
                nodes(item, &format!("{pointer}/{key}"), into);
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                nodes(item, &format!("{pointer}/{i}"), into);
            }
        }
        _ => {}
    }
}

#[test]
fn a_full_catalog_has_nothing_to_complain_about() {
    assert_eq!(lines(&full()), Vec::<String>::new());
}

/// `services[0].plans[2].id` for `/services/0/plans/2/id`.
fn place(pointer: &str) -> String {
    let mut place = String::new();
    for segment in pointer.split('/').skip(1) {
        match segment.parse::<usize>() {
            Ok(index) => place += &format!("[{index}]"),
            Err(_) if place.is_empty() => place += segment,
            Err(_) => place += &format!(".{segment}"),
        }
    }
    place
}

#[test]
fn any_other_field_may_be_absent_or_null() {
    let mut pointers = Vec::new();
    nodes(&full(), "", &mut pointers);
    let required = [
        "name",
        "id",
        "description",
        "bindable",
        "plans",
        "services",
        "version",
        "secret",
        "redirect_uri",
        "$schema",
    ];
    let mut tried = 0;
    for pointer in pointers {
        let key = pointer.rsplit('/').next().unwrap();
        let optional_here = pointer.ends_with("maintenance_info/description")
            || pointer.contains("/plans/") && key == "bindable";
        if key.parse::<usize>().is_ok() || required.contains(&key) && !optional_here {
            continue;
        }
        let mut document = full();
        edit(&mut document, &pointer, None);
        assert_eq!(lines(&document), Vec::<String>::new(), "{pointer} absent");
        // Within a schema and in an opaque object, null is a value like any other.
        if !pointer.contains("/parameters/") && key != "documentationUrl" {
            edit(&mut document, &pointer, Some(Value::Null));
            assert_eq!(lines(&document), Vec::<String>::new(), "{pointer} null");
        }
        tried += 1;
    }
    assert!(tried > 40, "only {tried} fields were tried");
}

#[test]
fn a_document_that_is_no_object_is_an_error() {
    for (document, kind) in [
        (json!([]), "an array"),
        (json!("x"), "a string"),
        (json!(null), "null"),
        (json!(1), "a number"),
    ] {
        let wanted = format!("error: found {kind}, wanted an object with \"services\"");
        assert_eq!(lines(&document), [wanted]);
    }
}

#[test]
fn everything_wrong_is_found_at_once_and_in_order() {
    let found = findings(&json!({
        "services": [
            {"name": "a", "id": "1", "description": "d", "bindable": 1, "plans": [
                {"id": "p", "name": "p", "description": ""},
                null,
                {"id": "p", "name": "p", "description": "d", "maintenance_info": {"version": "x", "extra": 1}}
            ]},
            {"name": "a", "id": "1", "plans": {}}
        ]
    }));
    let places: Vec<_> = found.iter().map(|f| f.place.as_str()).collect();
    assert_eq!(
        places,
        [
            "services[0].bindable",
            "services[0].plans[0].description",
            "services[0].plans[1]",
            "services[0].plans[2].id",
            "services[0].plans[2].name",
            "services[0].plans[2].maintenance_info.version",
            "services[0].plans[2].maintenance_info.extra",
            "services[1].name",
            "services[1].id",
            "services[1].description",
            "services[1].bindable",
            "services[1].plans",
        ]
    );
    assert!(found.iter().all(|f| f.severity == Severity::Error));
}

#[test]
fn plan_names_may_repeat_in_another_service_and_names_are_case_sensitive() {
    assert_eq!(
        with("/services/1/plans/0/name", json!("plan.two")),
        Vec::<String>::new()
    );
    assert_eq!(
        with("/services/0/plans/1/name", json!("Plan_One")),
        Vec::<String>::new()
    );
    assert_eq!(
        with("/services/1/name", json!("EXAMPLE_SERVICE")),
        Vec::<String>::new()
    );
    // An id of a plan is not an id of a service offering.
    assert_eq!(
        with("/services/1/plans/0/id", json!("11111111-aaaa")),
        Vec::<String>::new()
    );
}

#[test]
fn every_repetition_names_the_first() {
    let plan = json!({"id": "x", "name": "n", "description": "d"});
    let document = json!({"services": [
        {"name": "a", "id": "1", "description": "d", "bindable": true, "plans": [plan, plan, plan]}
    ]});
    assert_eq!(
        lines(&document),
        [
            "error: services[0].plans[1].id: repeats \"x\" of services[0].plans[0]",
            "error: services[0].plans[1].name: repeats \"n\" of services[0].plans[0]",
            "error: services[0].plans[2].id: repeats \"x\" of services[0].plans[0]",
            "error: services[0].plans[2].name: repeats \"n\" of services[0].plans[0]",
        ]
    );
}

#[test]
fn misspelt_and_misplaced_keys_are_warned_about() {
    for (pointer, wanted) in [
        (
            "/services/0/plan_updatable",
            "did you mean \"plan_updateable\"?",
        ),
        ("/services/0/bindabel", "did you mean \"bindable\"?"),
        (
            "/services/0/instancesRetrievable",
            "did you mean \"instances_retrievable\"?",
        ),
        ("/services/0/tag", "did you mean \"tags\"?"),
        ("/services/0/limit", "did you mean \"limits\"?"),
        ("/services/0/plans/0/retian", "did you mean \"retain\"?"),
        ("/services/0/Requires", "did you mean \"requires\"?"),
        (
            "/services/0/dashbord_client",
            "did you mean \"dashboard_client\"?",
        ),
        (
            "/services/0/metadata/sharable",
            "did you mean \"shareable\"?",
        ),
        (
            "/services/0/metadata/documentationURL",
            "did you mean \"documentationUrl\"?",
        ),
        (
            "/services/0/plans/0/plan_updatable",
            "did you mean \"plan_updateable\"?",
        ),
        (
            "/services/0/plans/0/maintenance-info",
            "did you mean \"maintenance_info\"?",
        ),
        ("/services/0/plans/0/schema", "did you mean \"schemas\"?"),
        (
            "/services/0/free",
            "a field of service plans, which no platform reads here",
        ),
        (
            "/services/0/maintenance_info",
            "a field of service plans, which no platform reads here",
        ),
        (
            "/services/0/plans/0/tags",
            "a field of service offerings, which no platform reads here",
        ),
        ("/service", "is not served, did you mean \"services\"?"),
    ] {
        let found = with(pointer, json!(true));
        assert_eq!(found.len(), 1, "{pointer}: {found:?}");
        assert!(found[0].starts_with("warning: "), "{found:?}");
        assert!(found[0].ends_with(wanted), "{pointer}: {found:?}");
    }
}

#[test]
fn extension_fields_are_accepted_and_told_of() {
    for key in [
        "x-vendor",
        "tree",
        "fee",
        "names",
        "ids",
        "uid",
        "label",
        "costs",
        "planet",
        "version",
        "active",
        "public",
        "provider",
        "documentation_url",
        "extra",
        "unique_id",
        "quota",
        "region",
        "adapters_note",
        "chapter",
        "adopted",
        "adapter_docs_url",
        "credentials_url",
        "comment",
        "distance",
        "mankind",
        "kinder",
        "environment_name",
        "retired_since",
    ] {
        // "names" is "name" in the plural, and so looks like it.
        let hint = match key {
            "names" => ", did you mean \"name\"?",
            "ids" => ", did you mean \"id\"?",
            _ => "",
        };
        for holder in ["/services/0", "/services/0/plans/0"] {
            let found = with(&format!("{holder}/{key}"), json!({"any": "thing"}));
            let place = place(&format!("{holder}/{key}"));
            assert_eq!(
                found,
                [format!(
                    "warning: {place}: unknown key, served to everybody who may read the catalog{hint}"
                )]
            );
        }
    }
}

/// Otherwise everybody who may read the catalog would be served the secrets in it.
#[test]
fn settings_of_an_adapter_in_a_served_place_are_errors() {
    let secret = json!({"password": "geheim"});
    let adapter = json!({"kind": "shared", "binding": {"credentials": {"password": "geheim"}}});
    let (within, beside) = (
        "wanted it under \"adapter\"",
        "wanted it in a service offering or plan, called \"adapter\"",
    );
    let mut cases = Vec::new();
    for holder in ["/services/0", "/services/0/plans/0"] {
        for key in [
            "credentials",
            "Credentials",
            "credential",
            "credentails",
            "dbCredentials",
            "my-credentials",
            "binding",
            "bindings",
            "Binding",
            "instance",
            "_instance",
            "instances",
            "kind",
            "Kind",
            "command",
            "comand",
            "env",
            "ENV",
        ] {
            cases.push((format!("{holder}/{key}"), secret.clone(), within));
            cases.push((format!("{holder}/{key}"), json!("geheim"), within));
        }
        for key in [
            "Adapter",
            "adaptor",
            "adpater",
            "adapters",
            "_adapter",
            "ADAPTER",
            "adaptr",
            "broker_adapter",
            "brokerAdapter",
            "x-adapter",
            "adapter2",
            "adapter_",
        ] {
            cases.push((format!("{holder}/{key}"), adapter.clone(), beside));
        }
        // Whatever it is called, it reads like one.
        cases.push((format!("{holder}/adapter.bak"), adapter.clone(), beside));
        cases.push((
            format!("{holder}/settings"),
            json!({"kind": "exec", "command": ["./x"]}),
            beside,
        ));
        for (key, value, wanted) in [
            ("adapter", &adapter, beside),
            ("Adaptor", &secret, beside),
            ("old_adapter", &json!("geheim"), beside),
            ("credentials", &secret, within),
            ("Credentials", &json!("geheim"), within),
            ("note", &adapter, beside),
        ] {
            cases.push((format!("{holder}/metadata/{key}"), value.clone(), wanted));
        }
    }
    for (pointer, value, wanted) in cases {
        let place = place(&pointer);
        assert_eq!(
            with(&pointer, value),
            [format!(
                "error: {place}: looks like settings of an adapter, and would be served to everybody who may read the \
                 catalog; {wanted}"
            )]
        );
    }
    let deep = json!([{"amount": {"eur": 1}, "x": [[{"credentials": {"a": "geheim"}}]]}]);
    let found = with("/services/0/plans/0/metadata/costs", deep);
    let place = "services[0].plans[0].metadata.costs[0].x[0][0].credentials";
    assert!(
        found.len() == 1 && found[0].starts_with(&format!("error: {place}: ")),
        "{found:?}"
    );
    let found = with("/services/0/x-vendor", json!({"a": {"adapter": 1}}));
    assert_eq!(found.len(), 2, "{found:?}");
    let found = with("/services/0/dashboard_client/adapter", json!({}));
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn words_that_only_look_like_settings_pass() {
    let words = json!({
        "instance": "m5.large", "kind": "database", "command": "psql", "env": {"region": "eu"}, "binding": ["app"],
        "adapter_count": 3, "credentials_expire": true,
    });
    assert_eq!(
        with("/services/0/plans/0/metadata", words.clone()),
        Vec::<String>::new()
    );
    assert_eq!(with("/services/0/metadata", words), Vec::<String>::new());
    let names = json!({"$schema": "http://json-schema.org/draft-04/schema#", "properties": {
        "credentials": {"type": "object"}, "adapter": {"type": "string"}, "kind": {"type": "string"}, "env": {}, "binding": {},
    }});
    assert_eq!(with(SCHEMA, names), Vec::<String>::new());
}

#[test]
fn a_value_that_is_not_known_can_be_anything() {
    let mut document = full();
    for pointer in [
        "/services/0/name",
        "/services/1/name",
        "/services/0/tags/0",
        "/services/0/plans/0/maintenance_info/version",
        "/services/0/requires/0",
    ] {
        edit(&mut document, pointer, Some(json!("")));
    }
    edit(&mut document, &format!("{SCHEMA}/type"), Some(json!("")));
    edit(&mut document, "/services/0/credentials", Some(json!("")));
    let unknown = [
        "services[0].name",
        "services[1].name",
        "services[0].tags[0]",
        "services[0].plans[0].maintenance_info.version",
        "services[0].requires[0]",
        "services[0].plans[0].schemas.service_instance.create.parameters.type",
        "services[0].credentials",
    ];
    let unknown = unknown.into_iter().map(str::to_owned).collect();
    let mut findings = Findings::default();
    check(&document, &unknown, &mut findings);
    findings.0.retain(|f| !f.text.contains("built without"));
    // What is said of a key holds whatever its value is.
    let places: Vec<_> = findings.0.iter().map(|f| f.place.as_str()).collect();
    assert_eq!(places, ["services[0].credentials"]);
}

/// Whatever single node of a full catalog is replaced or left out: what passes the check, the types take.
#[test]
fn what_passes_the_check_can_be_read_as_services() {
    let others = [
        json!(null),
        json!(true),
        json!(0),
        json!(7),
        json!(-1),
        json!(1.5),
        json!(u64::MAX),
        json!(1e300),
        json!(""),
        json!("text"),
        json!([]),
        json!(["text"]),
        json!([1]),
        json!([{}]),
        json!([[]]),
        json!({}),
        json!({"a": 1}),
    ];
    let mut pointers = Vec::new();
    nodes(&full(), "", &mut pointers);
    let (mut passed, mut refused) = (0, 0);
    for pointer in &pointers {
        for value in others.iter().cloned().map(Some).chain([None]) {
            let mut document = full();
            edit(&mut document, pointer, value.clone());
            let mut findings = Findings::default();
            check(&document, &HashSet::new(), &mut findings);
            if findings.has_errors() {
                refused += 1;
                continue;
            }
            passed += 1;
            let read = serde_json::from_value::<Vec<Service>>(document["services"].take());
            assert!(read.is_ok(), "{pointer} = {value:?}: {read:?}");
        }
    }
    assert!(
        passed > 100 && refused > 100,
        "{passed} passed, {refused} refused"
    );
}
