use super::{Loaded, decode, parse};
use crate::catalog::environment::Environment;
use crate::catalog::finding::{Finding, Findings};

use serde_json::{Value, json};
use std::path::Path;
use std::time::SystemTime;

fn variables(name: &str) -> Option<String> {
    match name {
        "SET" => Some("value".to_owned()),
        "EMPTY" => Some(String::new()),
        "NESTED" => Some("${env:SET}".to_owned()),
        _ => None,
    }
}

fn environment() -> Environment<'static> {
    Environment::new(&variables, Path::new(""))
}

fn load(text: &str) -> (Option<Loaded>, Vec<String>) {
    let (loaded, findings) = parse(text, SystemTime::UNIX_EPOCH, environment());
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
    for (text, wanted) in [
        (
            "{\n  \"services\": [\n    {,}\n  ]\n}",
            "key must be a string at line 3 column 6",
        ),
        ("{} x", "trailing characters at line 1 column 4"),
        ("{", "EOF while parsing an object at line 1 column 1"),
    ] {
        let (_, found) = load(text);
        assert_eq!(found, [format!("error: not valid JSON: {wanted}")]);
    }
}

#[test]
fn what_looks_like_something_else_is_told_in_plain_words() {
    const YAML: &str = "this looks like YAML; JSON is wanted";
    const EMPTY: &str = "the file is empty; wanted JSON, as in {\"services\": [...]}";
    const COMMENT: &str = "not valid JSON: JSON has no comments; ";
    const SINGLE: &str = "not valid JSON: JSON has double quotes, not single ones; ";
    const STRAIGHT: &str = "not valid JSON: JSON has straight double quotes; ";
    const COMMA: &str = "not valid JSON: JSON has no comma after the last element; ";
    const KEY: &str = "not valid JSON: keys are in double quotes; ";
    for (text, wanted) in [
        ("", EMPTY),
        (" \n\t\n", EMPTY),
        ("\u{feff}", EMPTY),
        ("services:\n- name: mail\n", YAML),
        ("---\nservices: []\n", YAML),
        ("%YAML 1.2\n---\n", YAML),
        ("# The catalog\n\nservices:\n", YAML),
        ("- name: mail\n", YAML),
        ("services: [{id: a}]", YAML),
        ("// The catalog\n{}", COMMENT),
        ("# The catalog\n{}", COMMENT),
        ("/* The catalog */ {}", COMMENT),
        ("{ // The catalog\n \"services\": [] }", COMMENT),
        ("{ \"services\": [] // The catalog\n }", COMMENT),
        ("{\n  # all\n \"services\": [] }", COMMENT),
        ("{ \"services\": [], /* all */ \"a\": 1 }", COMMENT),
        ("{ \"services\": /* all */ [] }", COMMENT),
        ("{}\n// The end", COMMENT),
        ("{'services': []}", SINGLE),
        ("{\"services\": 'x'}", SINGLE),
        ("{\"services\": ['x']}", SINGLE),
        ("{\u{201c}services\u{201d}: []}", STRAIGHT),
        ("{\"services\": [\u{201c}x\u{201d}]}", STRAIGHT),
        ("{\"services\": [],}", COMMA),
        ("{\"services\": [1,]}", COMMA),
        ("{\"services\": [1,\n\n  ]}", COMMA),
        ("{\"services\": [],\n}\n", COMMA),
        ("{services: []}", KEY),
    ] {
        let (_, found) = load(text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        let said = found[0].strip_prefix("error: ").unwrap();
        if let Some(hint) = said.strip_prefix(wanted)
            && wanted.starts_with("not")
        {
            assert!(hint.contains(" at line "), "{text}: {said}");
        } else {
            assert_eq!(said, wanted, "{text}");
        }
    }
}

#[test]
fn a_file_in_another_encoding_is_told_so() {
    let utf16 = |text: &str, bytes: fn(u16) -> [u8; 2]| {
        text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>()
    };
    for bytes in [
        utf16("\u{feff}{}", u16::to_le_bytes),
        utf16("\u{feff}{}", u16::to_be_bytes),
        utf16("{}", u16::to_le_bytes),
        utf16("{}", u16::to_be_bytes),
    ] {
        assert_eq!(
            decode(bytes).unwrap_err(),
            "this looks like UTF-16; save it as UTF-8"
        );
    }
    let latin = b"{\n\"description\": \"gr\xf6\xdfer\"}".to_vec();
    assert_eq!(
        decode(latin).unwrap_err(),
        "not UTF-8 at line 2; save it as UTF-8"
    );
    for text in ["", "{", "{}", "\u{feff}{\"a\": \"ä\"}"] {
        assert_eq!(decode(text.as_bytes().to_vec()).as_deref(), Ok(text));
    }
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
    let (_, found) = load(&edited(|service| {
        service["Adapter"] = json!({"kind": "shared", "password": "geheim"});
        service["plans"][1]["adaptor"] = json!({"kind": "shared", "password": "geheim"});
        service["adapter"] = json!({"kind": "shared"});
    }));
    let text = "looks like settings of an adapter, and would be served to everybody who may read the catalog; wanted it in a \
                service offering or plan, called \"adapter\"";
    assert_eq!(
        found,
        [
            format!("error: services[0].Adapter: {text}"),
            format!("error: services[0].plans[1].adaptor: {text}"),
        ]
    );
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
fn variables_that_may_be_public_are_filled_in_everywhere_in_the_public_part() {
    let (loaded, found) = load(&edited(|service| {
        service["name"] = json!("s-${env:SET|public}");
        service["tags"] = json!(["a", "${env:SET|public}${env:EMPTY|public}"]);
        service["metadata"] =
            json!({"deep": [{"er": "${env:SET|public|url}"}], "other": "${random:3}"});
        service["dashboard_client"] =
            json!({"id": "c", "secret": "${env:SET}", "redirect_uri": "https://example.com"});
        service["plans"][1]["id"] = json!("q-${env:SET|public}");
        service["plans"][1]["adapter"] = json!({"kind": "shared", "password": "${env:SET}"});
    }));
    assert!(found.is_empty(), "{found:?}");
    let loaded = loaded.unwrap();
    let service = &loaded.catalog.services()[0];
    assert_eq!(service.name, "s-value");
    assert_eq!(
        service.tags.as_deref(),
        Some(&["a".to_owned(), "value".to_owned()][..])
    );
    assert_eq!(
        json!(service.metadata),
        json!({"deep": [{"er": "value"}], "other": "${random:3}"})
    );
    assert_eq!(
        service.dashboard_client.as_ref().unwrap()["secret"],
        "value"
    );
    assert_eq!(service.plans[1].id, "q-value");
    // Settings fill themselves in.
    assert_eq!(loaded.adapters[&(0, 1)].object()["password"], "${env:SET}");
}

#[test]
fn a_secret_in_a_served_place_is_an_error_and_not_filled_in() {
    let (loaded, found) = load(&edited(|service| {
        service["description"] = json!("by ${env:SET}");
        service["dashboard_client"] =
            json!({"id": "${env:SET}", "secret": "x", "redirect_uri": "${env:SET|url}"});
        service["plans"][0]["metadata"] =
            json!({"dashboard_client": {"secret": "${file:/etc/hostname}"}});
        service["plans"][1]["id"] = json!("${env:GONE}");
        service["plans"][1]["description"] = json!("$${env:SET}");
    }));
    let line = |place: &str, name: &str| {
        format!(
            "error: services[0]{place}: ${{{name}}} would be served to everybody who may read the catalog; wanted it under \
             \"adapter\", or ${{{name}|public}} if it is no secret"
        )
    };
    assert_eq!(
        found,
        [
            line(".dashboard_client.id", "env:SET"),
            line(".dashboard_client.redirect_uri", "env:SET"),
            line(".description", "env:SET"),
            line(
                ".plans[0].metadata.dashboard_client.secret",
                "file:/etc/hostname"
            ),
            line(".plans[1].id", "env:GONE"),
        ]
    );
    let rendered = loaded.unwrap().catalog.rendered().to_vec();
    assert!(!String::from_utf8(rendered).unwrap().contains("value"));
}

#[test]
fn the_check_sees_what_variables_hold() {
    let (_, found) = load(&edited(|service| {
        service["name"] = json!("${env:EMPTY|public}");
        service["plans"][0]["id"] = json!("${env:SET|public}");
        service["plans"][1]["id"] = json!("value");
        service["plans"][1]["metadata"] = json!({"docs": "https://example.com/${env:SET|public}"});
    }));
    assert_eq!(
        found,
        [
            "error: services[0].name: found an empty string, wanted one that is not blank",
            "warning: services[0].plans[1].metadata.docs: at character 21: ${env:SET|public} stands in the path of a URI, \
             where some characters mean something else; wanted ${env:SET|public|url}, which percent-encodes them",
            "error: services[0].plans[1].id: repeats \"value\" of services[0].plans[0]",
        ]
    );
}

#[test]
fn variables_that_are_not_set_are_errors_at_their_place_in_the_order_of_the_file() {
    let (_, found) = load(&edited(|service| {
        service["tags"] = json!([
            "a",
            "${env:GONE|public}",
            "${env:SET|private}",
            "${file:/gone/away|public}"
        ]);
        service["plans"][0]["free"] = json!("no");
        service["plans"][0]["description"] = json!("${env:LOST");
        service["bindable"] = json!(1);
    }));
    let wanted = [
        "error: services[0].tags[1]: ${env:GONE}: the environment variable GONE is not set",
        "error: services[0].tags[2]: unknown word behind \"|\", wanted \"url\" (or \"public\", in what is served)",
        "error: services[0].tags[3]: cannot read the file /gone/away: ",
        "error: services[0].bindable: found a number, wanted true or false",
        "error: services[0].plans[0].description: \"${env:\" has no closing \"}\"",
        "error: services[0].plans[0].free: found a string, wanted true or false",
    ];
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    for (found, wanted) in found.iter().zip(wanted) {
        assert!(found.starts_with(wanted), "{found}");
    }
}

#[test]
fn without_secrets_nothing_is_said_of_what_is_absent() {
    let text = edited(|service| {
        service["name"] = json!("${env:GONE|public}");
        service["tags"] = json!(["${file:/gone/away|public}"]);
        service["plans"][0]["id"] = json!("${env:GONE|public}");
        service["plans"][1]["id"] = json!("${env:LOST|public}");
        service["plans"][1]["maintenance_info"] = json!({"version": "${env:GONE|public}"});
        service["plans"][1]["name"] = json!("");
    });
    let (_, findings) = parse(
        &text,
        SystemTime::UNIX_EPOCH,
        environment().without_secrets(),
    );
    assert_eq!(
        lines(&findings),
        ["error: services[0].plans[1].name: found an empty string, wanted one that is not blank"]
    );
}

#[test]
fn warnings_alone_do_not_stop_the_start() {
    let (loaded, found) = load(&edited(|service| service["bindabel"] = json!(true)));
    assert!(loaded.is_some());
    assert_eq!(
        found,
        [
            "warning: services[0].bindabel: unknown key, served to everybody who may read the catalog, did you mean \
             \"bindable\"?"
        ]
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
        let (_, findings) = parse(text, SystemTime::UNIX_EPOCH, environment());
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
