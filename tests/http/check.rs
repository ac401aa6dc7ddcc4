//! What `brokerlet check` finds in the settings.

use super::catalog;
use crate::support::{Folder, brokerlet};
use serde_json::{Value, json};

fn check(url: &str, settings: Value, arguments: &[&str]) -> (Option<i32>, String) {
    let folder = Folder::new();
    folder.file("plain", "no certificate");
    let file = folder.file("catalog.json", catalog(url, &settings).to_string());
    let mut command = brokerlet();
    command
        .arg("check")
        .args(arguments)
        .arg(&file)
        .env("EMPTY_KEY", "whsec_!");
    let output = command.output().unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

#[test]
fn what_is_wrong_with_the_settings_is_found_before_anybody_meets_it() {
    let https = "https://x.example.com/";
    for (url, settings, place, wanted) in [
        (
            "http://x.apps.internal:8080/",
            json!({}),
            "url",
            "in the clear; wanted https://, or \"plaintext\": true",
        ),
        (
            "x.example.com",
            json!({}),
            "url",
            "\"x.example.com\" has no scheme",
        ),
        ("${env:NOT_THERE}", json!({}), "url", "NOT_THERE"),
        (
            https,
            json!({ "headers": { "Autho rization": "x" } }),
            "headers.Autho rization",
            "wanted the name of a header",
        ),
        (
            https,
            json!({ "headers": { "content-LENGTH": "x" } }),
            "headers.content-LENGTH",
            "the broker sets itself",
        ),
        (
            https,
            json!({ "headers": { "X": 7 } }),
            "headers.X",
            "found a number, wanted a string",
        ),
        (
            https,
            json!({ "headers": { "X": "a\nb" } }),
            "headers.X",
            "holds a line end",
        ),
        (
            https,
            json!({ "headers": { "X": "${file:/no/such/file}" } }),
            "headers.X",
            "/no/such/file",
        ),
        (
            https,
            json!({ "headers": [] }),
            "headers",
            "found an array, wanted an object",
        ),
        (
            https,
            json!({ "sign_with": "${env:EMPTY_KEY}" }),
            "sign_with",
            "no base64",
        ),
        (
            https,
            json!({ "sign_with": "${file:/no/such/file}" }),
            "sign_with",
            "/no/such/file",
        ),
        (https, json!({ "ca": "missing.pem" }), "ca", "missing.pem"),
        (
            https,
            json!({ "ca": "plain" }),
            "ca",
            "found no certificate of an authority",
        ),
        (
            https,
            json!({ "certificate": "plain" }),
            "key",
            "found nothing beside \"certificate\"",
        ),
        (
            https,
            json!({ "certificate": "plain", "key": "plain" }),
            "key",
            "plain",
        ),
        (
            "http://localhost/",
            json!({ "ca": "plain" }),
            "ca",
            "is for TLS, and \"url\" is http://",
        ),
        (
            https,
            json!({ "timeout": "10m" }),
            "timeout",
            "wanted at most 55s",
        ),
        (
            https,
            json!({ "first_byte_timeout": "x" }),
            "first_byte_timeout",
            "wanted a duration",
        ),
        (
            https,
            json!({ "asinc": true }),
            "asinc",
            "unknown key, did you mean \"async\"?",
        ),
        (
            https,
            json!({ "plaintext": "yes" }),
            "plaintext",
            "wanted true or false",
        ),
    ] {
        let (code, printed) = check(url, settings.clone(), &[]);
        assert_eq!(code, Some(1), "{url} {settings}\n{printed}");
        let line = format!("error: services[0].plans[0].adapter.{place}: ");
        let line = printed
            .lines()
            .find(|found| found.starts_with(&line))
            .expect(&printed);
        assert!(line.contains(wanted), "{line}");
    }
}

#[test]
fn good_settings_have_nothing_wrong() {
    let settings = json!({
        "headers": { "Authorization": "Bearer token" }, "sign_with": "whsec_YWJj",
        "async": ["provision", "deprovision"], "timeout": "10m", "concurrency": 8,
        "connect_timeout": "3s", "first_byte_timeout": "2m", "plaintext": true
    });
    let (code, printed) = check("http://x.apps.internal:8080/brokerlet", settings, &[]);
    assert_eq!(code, Some(0), "{printed}");
    // Somewhere else the variables may be there.
    let settings =
        json!({ "headers": { "X": "${env:NOT_THERE}" }, "sign_with": "${env:NOT_THERE}" });
    let (code, printed) = check("${env:NOT_THERE}", settings, &["--without-secrets"]);
    assert_eq!(code, Some(0), "{printed}");
}
