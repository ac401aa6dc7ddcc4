use super::{Loaded, expand_env, parse};
use crate::catalog::finding::{Finding, Findings};

use serde_json::{Value, json};
use std::borrow::Cow;
use std::time::SystemTime;

fn environment(name: &str) -> Option<String> {
    match name {
        "SET" => Some("value".to_owned()),
        "EMPTY" => Some(String::new()),
        "NESTED" => Some("${env:SET}".to_owned()),
        _ => None,
    }
}

fn load(text: &str) -> (Option<Loaded>, Vec<String>) {
    let (loaded, findings) = parse(text, SystemTime::UNIX_EPOCH, &environment);
    assert!(loaded.is_some() || findings.has_errors(), "{findings}");
    (loaded, lines(&findings))
}

fn lines(findings: &Findings) -> Vec<String> {
    findings.0.iter().map(Finding::to_string).collect()
}

/// One service offering with two plans.
fn document() -> Value {
    json!({"services": [{
        "name": "s", "id": "s-id", "description": "d", "bindable": true,
        "plans": [
            {"name": "p", "id": "p-id", "description": "d"},
            {"name": "q", "id": "q-id", "description": "d"}
        ]
    }]})
}

fn edited(edit: impl FnOnce(&mut Value)) -> String {
    let mut document = document();
    edit(&mut document["services"][0]);
    document.to_string()
}

#[test]
fn a_syntax_error_gives_line_and_column() {
    let (_, found) = load("{\n  \"services\": [\n    {,}\n  ]\n}");
    assert_eq!(
        found,
        ["error: not valid JSON: key must be a string at line 3 column 6"]
    );
    let (_, found) = load("");
    assert_eq!(
        found,
        ["error: not valid JSON: EOF while parsing a value at line 1 column 0"]
    );
    let (_, found) = load("{} x");
    assert_eq!(
        found,
        ["error: not valid JSON: trailing characters at line 1 column 4"]
    );
}

#[test]
fn json_nested_without_end_is_an_error() {
    let (_, found) = load(&"[".repeat(1_000_000));
    assert_eq!(found.len(), 1);
    assert!(
        found[0].contains("recursion limit exceeded at line 1 column 128"),
        "{found:?}"
    );
}

#[test]
fn a_key_that_stands_twice_is_an_error_with_its_place() {
    let text = r#"{"services": [{
        "name": "s", "id": "s-id", "description": "d", "bindable": true, "id": "s-id",
        "plans": [
            {"name": "p", "id": "p-id", "description": "d", "free": true, "fre\u0065": false, "free": true,
             "metadata": {"bullets": [], "costs": [{"unit": "m", "amount": {"eur": 1, "eur": -1.5}, "unit": null}]}},
            {"name": "q", "id": "q-id", "description": "d",
             "adapter": {"kind": "shared", "binding": {"credentials": {"a": "x", "A": "y", "a": "geheim"}}}}
        ]
    }], "\"": [[], [{"": 1, "": 2}]]}"#;
    let (_, found) = load(text);
    let found: Vec<_> = found.iter().filter(|line| line.contains("once")).collect();
    let wanted = [
        "\"[1][0].",
        "services[0].id",
        "services[0].plans[0].free",
        "services[0].plans[0].metadata.costs[0].amount.eur",
        "services[0].plans[0].metadata.costs[0].unit",
        "services[0].plans[1].adapter.binding.credentials.a",
    ];
    let wanted = wanted.map(|place| {
        format!("error: {place}: found more than once in the same object, wanted once")
    });
    assert_eq!(found, wanted.iter().collect::<Vec<_>>());
}

#[test]
fn a_key_may_stand_in_as_many_objects_as_it_likes() {
    let (_, found) = load(&edited(|service| {
        service["metadata"] = json!({"id": [{"id": 1}, {"id": 2}], "name": {"name": "x"}});
    }));
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let (loaded, found) = load(&format!("\u{feff}{}", document()));
    assert!(loaded.is_some(), "{found:?}");
}

#[test]
fn adapter_settings_are_split_off_and_never_served() {
    let (loaded, found) = load(&edited(|service| {
        service["adapter"] = json!({"kind": "shared", "credentials": {"password": "bigsecret"}});
        service["plans"][1]["adapter"] = json!({"kind": "exec", "token": "geheim"});
    }));
    let loaded = loaded.unwrap();
    assert!(found.is_empty(), "{found:?}");
    // The first plan has those of its service offering, the second its own.
    let (first, second) = (&loaded.adapters[&(0, 0)], &loaded.adapters[&(0, 1)]);
    assert_eq!(first.place(), "services[0].adapter");
    assert_eq!(first.object()["kind"], "shared");
    assert_eq!(second.place(), "services[0].plans[1].adapter");
    assert_eq!(second.object()["token"], "geheim");
    assert_eq!(loaded.adapters.len(), 2);
    let served = String::from_utf8(loaded.catalog.rendered().to_vec()).unwrap();
    let debug = format!("{loaded:?}");
    for secret in ["adapter", "bigsecret", "geheim"] {
        assert!(!served.contains(secret), "{served}");
    }
    for secret in ["bigsecret", "geheim"] {
        assert!(!debug.contains(secret), "{debug}");
    }
}

#[test]
fn a_plan_without_settings_has_none() {
    let (loaded, _) = load(&edited(|service| {
        service["adapter"] = Value::Null;
        service["plans"][1]["adapter"] = json!({});
    }));
    let adapters = loaded.unwrap().adapters;
    assert_eq!(adapters.keys().collect::<Vec<_>>(), [&(0, 1)]);
}

#[test]
fn adapter_settings_of_a_wrong_kind_are_an_error_that_does_not_repeat_them() {
    let (_, found) = load(&edited(|service| {
        service["adapter"] = json!("geheim");
        service["plans"][1]["adapter"] = json!(["geheim"]);
    }));
    assert_eq!(
        found,
        [
            "error: services[0].adapter: found a string, wanted an object with a \"kind\"",
            "error: services[0].plans[1].adapter: found an array, wanted an object with a \"kind\"",
        ]
    );
}

#[test]
fn a_misspelt_adapter_is_an_error_since_it_would_be_served() {
    for key in [
        "Adapter",
        "adaptor",
        "adpater",
        "adapters",
        "_adapter",
        "ADAPTER",
        "adaptr",
        "//adapter",
    ] {
        for at_plan in [false, true] {
            let (_, found) = load(&edited(|service| {
                let holder = if at_plan {
                    &mut service["plans"][1]
                } else {
                    service
                };
                holder[key] = json!({"kind": "shared", "password": "geheim"});
                holder["adapter"] = json!({"kind": "shared"});
            }));
            let holder = if at_plan {
                "services[0].plans[1]"
            } else {
                "services[0]"
            };
            assert_eq!(
                found,
                [format!(
                    "error: {holder}.{key}: unknown key, did you mean \"adapter\"? It would be served in the catalog, \
                     with all it holds"
                )]
            );
        }
    }
    for key in ["chapter", "adopted", "data", "adapter_docs_url"] {
        let (loaded, found) = load(&edited(|service| service[key] = json!("x")));
        assert!(loaded.is_some() && found.is_empty(), "{key}: {found:?}");
    }
}

#[test]
fn adapter_settings_at_the_top_are_an_error() {
    let mut document = document();
    document["adapter"] = json!({"kind": "shared"});
    let (_, found) = load(&document.to_string());
    assert_eq!(
        found,
        ["error: adapter: found at the top of the file, wanted in a service offering or in a plan"]
    );
}

#[test]
fn variables_are_filled_in_everywhere_in_the_public_part() {
    let (loaded, found) = load(&edited(|service| {
        service["name"] = json!("s-${env:SET}");
        service["tags"] = json!(["a", "${env:SET}${env:EMPTY}"]);
        service["x-vendor"] = json!({"deep": [{"er": "${env:SET}"}]});
        service["plans"][1]["id"] = json!("q-${env:SET}");
        service["plans"][1]["adapter"] = json!({"kind": "shared", "password": "${env:SET}"});
    }));
    let loaded = loaded.unwrap_or_else(|| panic!("{found:?}"));
    let service = &loaded.catalog.services()[0];
    assert_eq!(service.name, "s-value");
    assert_eq!(
        service.tags.as_deref(),
        Some(&["a".to_owned(), "value".to_owned()][..])
    );
    assert_eq!(
        service.extensions["x-vendor"],
        json!({"deep": [{"er": "value"}]})
    );
    assert_eq!(service.plans[1].id, "q-value");
    // Settings fill themselves in.
    assert_eq!(loaded.adapters[&(0, 1)].object()["password"], "${env:SET}");
}

#[test]
fn the_check_sees_what_variables_hold() {
    let (_, found) = load(&edited(|service| {
        service["name"] = json!("${env:EMPTY}");
        service["plans"][0]["id"] = json!("${env:SET}");
        service["plans"][1]["id"] = json!("value");
    }));
    assert_eq!(
        found,
        [
            "error: services[0].name: found an empty string, wanted one that is not blank",
            "error: services[0].plans[1].id: repeats \"value\" of services[0].plans[0]",
        ]
    );
}

#[test]
fn variables_that_are_not_set_are_errors_at_their_place_in_the_order_of_the_file() {
    let (_, found) = load(&edited(|service| {
        service["tags"] = json!(["a", "${env:GONE}"]);
        service["plans"][0]["free"] = json!("no");
        service["plans"][0]["description"] = json!("${env:LOST");
        service["plans"][1]["adaptor"] = json!({"kind": "${env:NOT_LOOKED_AT_HERE}"});
        service["bindable"] = json!(1);
    }));
    let wanted = [
        "error: services[0].tags[1]: ${env:GONE}: the environment variable GONE is not set",
        "error: services[0].bindable: found a number, wanted true or false",
        "error: services[0].plans[0].description: \"${env:\" has no closing \"}\"",
        "error: services[0].plans[0].free: found a string, wanted true or false",
        "error: services[0].plans[1].adaptor: unknown key",
        "error: services[0].plans[1].adaptor.kind: ${env:NOT_LOOKED_AT_HERE}: the environment variable",
    ];
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    for (found, wanted) in found.iter().zip(wanted) {
        assert!(found.starts_with(wanted), "{found}");
    }
}

#[test]
fn expressions_are_filled_in_escaped_and_left_alone() {
    for (text, wanted) in [
        ("plain", Ok("plain")),
        ("${env:SET}", Ok("value")),
        ("a ${env:SET} b ${env:SET}", Ok("a value b value")),
        ("${env:EMPTY}", Ok("")),
        ("ä${env:SET}ä", Ok("ävalueä")),
        // What comes from the environment is not looked at again.
        ("${env:NESTED}", Ok("${env:SET}")),
        ("$${env:SET}", Ok("${env:SET}")),
        ("$${env:GONE} ${env:SET}", Ok("${env:GONE} value")),
        ("$${env:", Ok("${env:")),
        ("${env:SET}${env:SET}", Ok("valuevalue")),
        (
            "$$ ${SET} ${random:16} $env:SET {env:SET}",
            Ok("$$ ${SET} ${random:16} $env:SET {env:SET}"),
        ),
        (
            "${env:GONE}",
            Err("${env:GONE}: the environment variable GONE is not set"),
        ),
        ("${env:}", Err("${env:} names no environment variable")),
        ("${env:SET", Err("\"${env:\" has no closing \"}\"")),
        ("${env:SET} ${env:", Err("\"${env:\" has no closing \"}\"")),
    ] {
        let expanded = expand_env(text, &environment);
        assert_eq!(
            expanded.as_deref().map_err(String::as_str),
            wanted,
            "{text}"
        );
    }
    let untouched = expand_env("nothing to do", &environment).unwrap();
    assert!(matches!(untouched, Cow::Borrowed(_)));
}

#[test]
fn warnings_alone_do_not_stop_the_start() {
    let (loaded, found) = load(&edited(|service| service["bindabel"] = json!(true)));
    assert!(loaded.is_some());
    assert_eq!(
        found,
        ["warning: services[0].bindabel: unknown key, did you mean \"bindable\"?"]
    );
}

#[test]
fn whatever_is_in_the_file_is_reported_and_never_panics() {
    for text in [
        "null",
        "[]",
        "1",
        "\"x\"",
        "{}",
        r#"{"services": null}"#,
        r#"{"services": [null, 1, []]}"#,
        r#"{"services": {"adapter": 1}}"#,
        r#"{"services": [{"plans": [[], {"adapter": []}], "adapter": 7}]}"#,
        r#"{"services": [{"plans": {"adapter": {}}}]}"#,
    ] {
        let (_, findings) = parse(text, SystemTime::UNIX_EPOCH, &environment);
        assert!(findings.has_errors(), "{text}");
    }
}

/// One run tells everything: who has mended the one thing does not learn of the next only then.
#[test]
fn what_can_be_read_is_there_beside_what_is_of_the_wrong_type() {
    let text = edited(|service| {
        service["bindable"] = json!("yes");
        service["tags"] = json!(["a", 1]);
        service["plans"][0]["free"] = json!("no");
        service["plans"][0]["maximum_polling_duration"] = json!(600);
        service["plans"][1] = json!("not a plan");
        let third =
            json!({ "id": "r-id", "name": 7, "description": "d", "adapter": { "kind": "x" } });
        service["plans"].as_array_mut().unwrap().push(third);
    });
    let (loaded, found) = load(&text);
    assert!(found.len() >= 5, "{found:?}");
    let Loaded { catalog, adapters } = loaded.unwrap();
    let service = &catalog.services()[0];
    assert_eq!((&*service.id, &service.tags), ("s-id", &None));
    let plans: Vec<_> = service
        .plans
        .iter()
        .map(|plan| (&*plan.id, &*plan.name))
        .collect();
    assert_eq!(plans, [("p-id", "p"), ("", ""), ("r-id", "")]);
    assert_eq!(service.plans[0].maximum_polling_duration, Some(600));
    assert_eq!(adapters[&(0, 2)].place(), "services[0].plans[2].adapter");
}
