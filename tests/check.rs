//! `brokerlet check` as its users meet it, and that what it refuses is not served either.

mod support;

use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use support::{Broker, Folder, Setup, brokerlet};

/// Exit code, standard output and standard error of `brokerlet check` in a folder.
fn check(folder: &Folder, arguments: &[&str]) -> (Option<i32>, String, String) {
    ended(command(folder, arguments).output().unwrap())
}

fn command(folder: &Folder, arguments: &[&str]) -> Command {
    let mut command = brokerlet();
    command.arg("check").args(arguments);
    command.current_dir(folder.path());
    command
}

fn ended(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// A catalog with one plan, into which `more` is merged.
fn catalog(more: Value) -> Value {
    let mut plan =
        json!({ "id": "relay-small", "name": "small", "description": "1,000 mails a day" });
    let more = more.as_object().unwrap().clone();
    plan.as_object_mut().unwrap().extend(more);
    json!({ "services": [
        { "id": "relay", "name": "relay", "description": "Mail relay", "bindable": true, "plans": [plan] }
    ]})
}

fn good() -> String {
    catalog(json!({})).to_string()
}

/// What is found in a catalog whose plan has `more`: by `check`, and by a start, which has to agree.
fn found(more: Value) -> Vec<String> {
    let folder = Folder::new();
    let catalog = catalog(more);
    folder.file("catalog.json", catalog.to_string());
    let mut command = command(&folder, &["catalog.json"]);
    let (code, printed, _) = ended(command.env("MAIL_PASSWORD", "p@ss/w:rd").output().unwrap());
    let findings = printed.split("catalog.json: ").next().unwrap();
    let findings: Vec<String> = findings.lines().map(str::to_owned).collect();
    let has_errors = findings.iter().any(|line| line.starts_with("error: "));
    assert_eq!(code, Some(i32::from(has_errors)), "{printed}");
    assert!(!printed.contains("p@ss"), "{printed}");
    if has_errors {
        let setup = Setup::new().env("MAIL_PASSWORD", "p@ss/w:rd");
        let output = setup.catalog(&catalog).run();
        assert_eq!(output.status.code(), Some(78));
        assert!(!String::from_utf8(output.stderr).unwrap().contains("p@ss"));
    }
    findings
}

// Line by line: what must not be served

#[test]
fn no_secret_slips_into_the_catalog() {
    let uri = "smtp://relay:${env:MAIL_PASSWORD|url}@smtp.example.com:587";
    let adapter = json!({ "kind": "shared", "binding": { "credentials": { "uri": uri } } });
    for (more, place) in [
        (json!({ "credentials": { "uri": uri } }), "credentials"),
        (
            json!({ "metadata": { "displayName": "Small", "adapter": adapter } }),
            "metadata.adapter",
        ),
        (json!({ "broker_adapter": adapter }), "broker_adapter"),
        (json!({ "Adapter": adapter }), "Adapter"),
        (json!({ "how": adapter }), "how"),
        (
            json!({ "binding": { "credentials": { "uri": uri } } }),
            "binding",
        ),
        (json!({ "env": { "A": uri } }), "env"),
    ] {
        let found = found(more);
        let settings =
            format!("error: services[0].plans[0].{place}: looks like settings of an adapter, ");
        assert!(
            found.iter().any(|line| line.starts_with(&settings)),
            "{found:?}"
        );
        let expression =
            ": ${env:MAIL_PASSWORD} would be served to everybody who may read the catalog; ";
        assert!(
            found.iter().any(|line| line.contains(expression)),
            "{found:?}"
        );
    }
    assert_eq!(
        found(json!({ "region": "eu", "adapter": adapter })),
        [
            "warning: services[0].plans[0].region: unknown key, served to everybody who may read the catalog"
        ]
    );
}

#[test]
fn what_is_public_by_its_own_words_and_the_secret_of_a_dashboard_client_are_served() {
    let mut catalog = catalog(json!({ "metadata": { "displayName": "In ${env:REGION|public}" } }));
    catalog["services"][0]["dashboard_client"] = json!({ "id": "client", "secret": "${file:client-secret}", "redirect_uri": "https://example.com" });
    let setup = Setup::new().env("REGION", "Vienna");
    setup.folder.file("client-secret", "of the client\n");
    let broker = setup.catalog(&catalog).start();
    let served = broker.get("/v2/catalog").expect(200).json();
    let service = &served["services"][0];
    assert_eq!(service["dashboard_client"]["secret"], "of the client");
    assert_eq!(service["plans"][0]["metadata"]["displayName"], "In Vienna");
}

// What Cloud Controller and Kubernetes would say

#[test]
fn schemas_that_cloud_controller_would_refuse_are_errors() {
    let schema = |uri: &str, size: Value| {
        json!({ "schemas": { "service_instance": { "create": { "parameters": {
            "$schema": uri, "type": "object", "properties": { "size": size },
        }}}}})
    };
    let (four, six) = (
        "http://json-schema.org/draft-04/schema#",
        "http://json-schema.org/draft-06/schema#",
    );
    for (uri, size, place) in [
        (
            six,
            json!({ "type": "integer", "exclusiveMinimum": 0 }),
            "properties.size.exclusiveMinimum: ",
        ),
        (six, json!(true), "properties.size: "),
        (six, json!({ "required": [] }), "properties.size.required: "),
        (four, json!({ "enum": [] }), "properties.size.enum: "),
        (
            four,
            json!({ "required": true }),
            "properties.size.required: ",
        ),
        (four, json!({ "type": "int" }), "properties.size.type: "),
        (
            "https://json-schema.org/draft-04/schema#",
            json!({}),
            "$schema: ",
        ),
        (
            "https://json-schema.org/draft-06/schema#",
            json!({}),
            "$schema: ",
        ),
    ] {
        let found = found(schema(uri, size));
        let wanted = format!(
            "error: services[0].plans[0].schemas.service_instance.create.parameters.{place}"
        );
        let errors: Vec<_> = found
            .iter()
            .filter(|line| line.starts_with("error: "))
            .collect();
        assert!(
            errors.len() == 1 && errors[0].starts_with(&wanted),
            "{found:?}"
        );
        assert!(errors[0].contains("; Cloud Controller takes "), "{found:?}");
    }
    // What it takes is no error, in whatever build.
    for size in [
        json!({ "$ref": "#/definitions/gone" }),
        json!({ "pattern": "^(?=.*[0-9]).{8,64}$" }),
        json!({ "pattern": "(" }),
    ] {
        let found = found(schema(six, size));
        assert!(
            found.iter().all(|line| line.starts_with("warning: ")),
            "{found:?}"
        );
    }
}

#[test]
fn names_that_kubernetes_cannot_put_into_a_label_are_warned_about() {
    for name in ["small_", "_small", "small.", &"n".repeat(64)] {
        let found = found(json!({ "name": name }));
        let begin = "warning: services[0].plans[0].name: found ";
        assert!(
            found.len() == 1
                && found[0].starts_with(begin)
                && found[0].contains("Kubernetes cannot put "),
            "{found:?}"
        );
    }
}

#[test]
fn a_value_within_a_uri_that_is_not_encoded_is_warned_about() {
    let credentials = |uri: &str| json!({ "adapter": { "kind": "shared", "binding": { "credentials": { "uri": uri } } } });
    let found_in = found(credentials(
        "smtp://relay:${env:MAIL_PASSWORD}@smtp.example.com:587",
    ));
    assert_eq!(
        found_in,
        [
            "warning: services[0].plans[0].adapter.binding.credentials.uri: at character 14: ${env:MAIL_PASSWORD} stands in \
          the user or password of a URI, where some characters mean something else; wanted ${env:MAIL_PASSWORD|url}, which \
          percent-encodes them"
        ]
    );
    assert_eq!(
        found(credentials(
            "smtp://relay:${env:MAIL_PASSWORD|url}@smtp.example.com:587"
        )),
        Vec::<String>::new()
    );
}

// How it is called

#[test]
fn without_secrets_variables_and_files_may_be_absent() {
    let folder = Folder::new();
    let secret = json!({
        "maintenance_info": { "version": "${env:VERSION|public}" },
        "adapter": { "kind": "shared", "binding": {
            "credentials": { "a": "${env:MAIL_PASSWORD}", "b": "${file:/gone/away}" }, "lifetime": "${env:LIFETIME}",
        }},
    });
    folder.file("catalog.json", catalog(secret).to_string());
    let (code, printed, _) = check(&folder, &["catalog.json"]);
    assert_eq!(code, Some(1));
    assert!(
        printed.ends_with("catalog.json: 4 errors, 0 warnings\n"),
        "{printed}"
    );
    let wanted = "catalog.json: 0 errors, 0 warnings; offers 1 service with 1 plan\n";
    for arguments in [
        ["--without-secrets", "catalog.json"],
        ["catalog.json", "--without-secrets"],
    ] {
        assert_eq!(
            check(&folder, &arguments),
            (Some(0), wanted.to_owned(), String::new())
        );
    }
    // What is wrong whatever they hold is told all the same.
    let wrong = catalog(
        json!({ "name": "", "adapter": { "kind": "shared", "binding": { "credentials": { "a": "${env:A}${nosuch}" } } } }),
    );
    folder.file("catalog.json", wrong.to_string());
    let (code, printed, _) = check(&folder, &["--without-secrets", "catalog.json"]);
    assert_eq!(code, Some(1));
    assert!(
        printed.ends_with("catalog.json: 2 errors, 0 warnings\n"),
        "{printed}"
    );
}

#[test]
fn several_files_are_checked_and_each_finding_says_in_which() {
    let folder = Folder::new();
    folder.file("good.json", good());
    folder.file("bad.json", catalog(json!({ "name": "" })).to_string());
    folder.file(
        "warned.json",
        catalog(json!({ "region": "eu" })).to_string(),
    );
    let (code, printed, error) = check(
        &folder,
        &["good.json", "bad.json", "gone.json", "warned.json"],
    );
    assert_eq!((code, error.as_str()), (Some(1), ""));
    let lines: Vec<&str> = printed
        .lines()
        .filter(|line| line.contains(".json: "))
        .collect();
    let begins = [
        "good.json: 0 errors, 0 warnings; offers 1 service with 1 plan",
        "bad.json: error: services[0].plans[0].name: ",
        "bad.json: 1 error, 0 warnings",
        "gone.json: error: cannot read the catalog file: ",
        "gone.json: 1 error, 0 warnings",
        "warned.json: warning: services[0].plans[0].region: ",
        "warned.json: 0 errors, 1 warning; offers 1 service with 1 plan",
    ];
    assert_eq!(lines.len(), begins.len(), "{printed}");
    for (line, begin) in lines.iter().zip(begins) {
        assert!(line.starts_with(begin), "{line}");
    }
    let (code, ..) = check(&folder, &["good.json", "warned.json"]);
    assert_eq!(code, Some(0));
}

#[test]
fn a_minus_is_standard_input() {
    let folder = Folder::new();
    let say = |text: &str, arguments: &[&str]| {
        let mut command = command(&folder, arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may have ended by then, where the arguments are wrong.
        _ = child.stdin.take().unwrap().write_all(text.as_bytes());
        ended(child.wait_with_output().unwrap())
    };
    let (code, printed, _) = say(&good(), &["-"]);
    assert_eq!(code, Some(0));
    assert!(
        printed.starts_with("-: 0 errors, 0 warnings; offers 1 service with 1 plan\n"),
        "{printed}"
    );
    let (code, printed, _) = say("services: []\n", &["-"]);
    assert_eq!(
        (code, printed.as_str()),
        (
            Some(1),
            "error: this looks like YAML; JSON is wanted\n-: 1 error, 0 warnings\n"
        )
    );
    let (code, _, error) = say(&good(), &["-", "-"]);
    assert_eq!(code, Some(64));
    assert!(
        error.starts_with("brokerlet: check: found - more than once"),
        "{error}"
    );
}

#[test]
fn the_catalog_that_would_be_served_is_checked_where_no_file_is_named() {
    let folder = Folder::new();
    folder.file("mine.json", good());
    let mut named = command(&folder, &[]);
    let (code, printed, _) = ended(named.env("BROKER_CATALOG", "mine.json").output().unwrap());
    assert_eq!(code, Some(0));
    assert!(printed.starts_with("mine.json: 0 errors, "), "{printed}");
    for empty in [None, Some("")] {
        let mut command = command(&folder, &[]);
        command.envs(empty.map(|value| ("BROKER_CATALOG", value)));
        let (code, printed, error) = ended(command.output().unwrap());
        assert_eq!((code, printed.as_str()), (Some(64), ""));
        let wanted =
            "brokerlet: check: no catalog file is named, and BROKER_CATALOG is not set\n\nUsage:";
        assert!(error.starts_with(wanted), "{error}");
    }
    let (code, _, error) = check(&folder, &["--with-secrets", "mine.json"]);
    assert_eq!(code, Some(64));
    assert!(
        error.starts_with("brokerlet: check: unknown option --with-secrets\n"),
        "{error}"
    );
    let named_so = folder.file("--with-secrets", good());
    assert_eq!(
        check(&folder, &["--", "--with-secrets"]).0,
        Some(0),
        "{}",
        named_so.display()
    );
}

// Files that are no catalogs

#[test]
fn what_is_no_json_is_named_in_plain_words_by_check_and_by_the_start() {
    let utf16: Vec<u8> = "\u{feff}{}"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for (content, wanted) in [
        (
            &b"services:\n  - name: mail\n"[..],
            "this looks like YAML; JSON is wanted",
        ),
        (
            b"{\n  // The catalog\n  \"services\": []\n}",
            "not valid JSON: JSON has no comments; ",
        ),
        (
            b"{'services': []}",
            "not valid JSON: JSON has double quotes, not single ones; ",
        ),
        (
            b"{\"services\": [],}",
            "not valid JSON: JSON has no comma after the last element; ",
        ),
        (
            b"",
            "the file is empty; wanted JSON, as in {\"services\": [...]}",
        ),
        (&utf16, "this looks like UTF-16; save it as UTF-8"),
        (
            b"{\"a\": \"\xff\"}",
            "not UTF-8 at line 1; save it as UTF-8",
        ),
    ] {
        let setup = Setup::new();
        fs::write(setup.folder.path().join("catalog.json"), content).unwrap();
        let (code, printed, _) = check(&setup.folder, &["catalog.json"]);
        assert_eq!(code, Some(1), "{printed}");
        assert!(
            printed.starts_with(&format!("error: {wanted}")),
            "{wanted}: {printed}"
        );
        let output = setup.env("BROKER_CATALOG", "catalog.json").run();
        let (code, _, error) = ended(output);
        assert_eq!(code, Some(78), "{error}");
        assert!(
            error.starts_with(&format!("brokerlet: catalog.json: error: {wanted}")),
            "{wanted}: {error}"
        );
    }
    let folder = Folder::new();
    fs::create_dir(folder.path().join("catalogs")).unwrap();
    let (code, printed, _) = check(&folder, &["catalogs"]);
    assert_eq!(code, Some(1));
    assert!(
        printed.starts_with("error: found a directory, wanted a catalog file (JSON)\n"),
        "{printed}"
    );
}

#[test]
fn a_byte_order_mark_is_no_fault() {
    let setup = Setup::new();
    setup
        .folder
        .file("catalog.json", format!("\u{feff}{}", good()));
    let broker: Broker = setup.env("BROKER_CATALOG", "catalog.json").start();
    broker.get("/v2/catalog").expect(200);
}

#[test]
fn an_adapter_that_is_not_built_in_says_so() {
    for (kind, feature, is_built_in) in [
        ("http", "http-adapter", cfg!(feature = "http-adapter")),
        ("postgres", "postgres", cfg!(feature = "postgres")),
    ] {
        if is_built_in {
            continue;
        }
        let folder = Folder::new();
        let catalog = json!({ "services": [{
            "id": "s", "name": "s", "description": "s", "bindable": true,
            "plans": [{ "id": "p", "name": "p", "description": "p", "adapter": { "kind": kind, "url": "x://u@h" } }],
        }] });
        folder.file("catalog.json", catalog.to_string());
        let output = support::brokerlet()
            .current_dir(folder.path())
            .args(["check", "catalog.json"])
            .output()
            .unwrap();
        let printed =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{printed}");
        let wanted = format!("cargo build --features {feature}");
        assert!(printed.contains(&wanted), "{printed}");
    }
}
