use super::*;
use crate::adapter::Kinds;
use crate::adapter::settings::tests::{AT, environment, offering, probe_in, read};
use crate::catalog::file;

use serde_json::{Value, json};
use std::path::Path;
use std::time::SystemTime;

#[test]
fn a_secret_is_read_anew_at_each_use() {
    let folder = std::env::temp_dir().join(format!("brokerlet-settings-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let write = |text: &str| std::fs::write(folder.join("secret"), text).unwrap();
    write("first/\n");
    let object = json!({"s": "db://u:${file:secret|url}@${env:HOST}", "once": "${file:secret}"});
    let service = offering(json!({}), json!({}));
    let (read, findings) = probe_in(&folder, &object, &service, |s| {
        (s.secret("s"), s.string("once"))
    });
    assert_eq!(findings, [""; 0]);
    let (secret, once) = (read.0.unwrap(), read.1.unwrap());
    assert_eq!(once, "first/");
    assert_eq!(secret.read().unwrap(), "db://u:first%2F@relay.example.com");
    write("second");
    assert_eq!(secret.read().unwrap(), "db://u:second@relay.example.com");
    std::fs::remove_dir_all(&folder).unwrap();
    let failure = secret.read().unwrap_err();
    assert_eq!(
        failure,
        Failure::unavailable("a secret of this service cannot be read at the moment")
            .with_detail(failure.detail.clone().unwrap())
    );
    assert!(failure.detail.unwrap().starts_with("cannot read the file "));

    for (text, wanted) in [
        ("${file:secret}", "cannot read the file "),
        (
            "${env:NO_SUCH}",
            "${env:NO_SUCH}: the environment variable NO_SUCH is not set",
        ),
        (
            "hunter2${geheim}",
            "unknown expression, wanted ${env:NAME} or ${file:PATH}",
        ),
        (
            "${env:HOST|public}",
            "\"|public\" is for what the catalog serves",
        ),
    ] {
        let (_, findings) = read_secret(text);
        let wanted = format!("{AT}.s: {wanted}");
        assert!(
            findings.len() == 1 && findings[0].starts_with(&wanted),
            "{findings:?}"
        );
    }
    let (_, findings) = read_secret("db://u:${env:SECRET}@h");
    assert!(
        findings[0].starts_with("warning: ") && findings[0].contains("${env:SECRET|url}"),
        "{findings:?}"
    );
}

fn read_secret(text: &str) -> (Option<Secret>, Vec<String>) {
    read(json!({"s": text}), |s| s.secret("s"))
}

#[test]
fn without_secrets_nothing_is_said_of_what_hangs_on_them() {
    let service = offering(json!({"requires": ["route_forwarding"]}), json!({}));
    let build = |object: Value| {
        let mut whole = json!({"services": [service.clone()]});
        whole["services"][0]["plans"][0]["adapter"] = object;
        let environment = Environment::new(&environment, Path::new("")).without_secrets();
        let (loaded, mut findings) =
            file::parse(&whole.to_string(), SystemTime::UNIX_EPOCH, environment);
        let file::Loaded { catalog, adapters } = loaded.unwrap();
        let service = &catalog.services()[0];
        let private = adapters.get(&(0, 0));
        Kinds::standard().build(
            private,
            service,
            &service.plans[0],
            environment,
            &mut findings,
        );
        let errors = findings.0.iter().map(ToString::to_string);
        errors
            .filter(|line| !line.contains("Cloud Controller"))
            .collect::<Vec<_>>()
    };
    let absent = json!({"kind": "shared", "binding": {
        "credentials": {"a": "${env:GONE}", "b": "<${file:gone/away|url}>", "c": "${env:HOST}"},
        "route_service_url": "${env:GONE}", "lifetime": "${env:GONE}",
    }});
    assert_eq!(build(absent), [""; 0]);
    assert_eq!(build(json!({"kind": "${env:GONE}", "any": 1})), [""; 0]);
    let env = json!({"kind": "exec", "command": ["sh"], "env": {"A": "${env:GONE}", "B": "${file:gone/away}"}, "timeout": "${env:GONE}"});
    assert_eq!(build(env), [""; 0]);
    // What is wrong without their values is told all the same.
    let wrong = json!({"kind": "shared", "binding": {
        "credentials": {"a": "${env:GONE}${nosuch}", "b": "${env:}"}, "lifetime": "${env:GONE", "nosuch": "${env:GONE}",
    }});
    assert_eq!(build(wrong).len(), 4);
}
