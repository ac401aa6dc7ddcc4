//! What a program is told, and where it runs.

use super::{SCRIBE, read};
use crate::support::programs::{IDS, bind, executable, program, provision, shell};
use crate::support::{Folder, Request, Setup, binding, instance, merged};
use serde_json::{Value, json};
use std::path::Path;

#[test]
fn a_program_is_told_everything_about_an_instance() {
    let broker = shell(SCRIBE, json!({})).start();
    let identity = json!({ "platform": "cloudfoundry", "properties": { "user_id": "user-1" } });
    let parameters = json!({ "size": 1.0, "name": "a\"b\n'c$(d)" });
    let body = merged(&provision(), json!({ "parameters": parameters }));
    let send = |request: Request, body: &Value| {
        let request = request.json(body).user("user-1");
        request
            .header("X-Broker-API-Request-Identity", "request-1")
            .send()
    };
    send(broker.request("PUT", &instance("i-1")), &body).expect(201);
    let document = read(&broker, "provision");
    assert!(!document["operation_id"].as_str().unwrap().is_empty());
    let wanted = json!({
        "operation": "provision",
        "operation_id": document["operation_id"],
        "attempt": 1,
        "instance_id": "i-1",
        "service": { "id": "service-1", "name": "database", "metadata": { "displayName": "Database" } },
        "plan": { "id": "plan-1", "name": "small", "metadata": { "size": 1 } },
        "organization_guid": "org-1",
        "space_guid": "space-1",
        "parameters": parameters,
        "context": body["context"],
        "state": {},
        "originating_identity": identity,
        "request_identity": "request-1"
    });
    assert_eq!(document, wanted);
    assert_eq!(broker.written("provision.arguments"), "1 provision\n");

    let update = json!({
        "service_id": "service-1", "plan_id": "plan-2",
        "previous_values": { "plan_id": "plan-1" }, "parameters": { "size": 2 }
    });
    send(broker.request("PATCH", &instance("i-1")), &update).expect(200);
    let document = read(&broker, "update");
    let wanted = merged(
        &wanted,
        json!({
            "operation": "update",
            "operation_id": document["operation_id"],
            "plan": { "id": "plan-2", "name": "large" },
            "parameters": { "size": 2, "name": "a\"b\n'c$(d)" },
            "changes": { "size": 2 },
            "previous": {
                "plan": { "id": "plan-1", "name": "small", "metadata": { "size": 1 } },
                "parameters": parameters
            },
            "state": { "of": "provision" }
        }),
    );
    assert_eq!(document, wanted);

    broker
        .delete(&format!(
            "{}?service_id=service-1&plan_id=plan-2",
            instance("i-1")
        ))
        .expect(200);
    let document = read(&broker, "deprovision");
    assert_eq!(document["operation"], "deprovision");
    assert_eq!(document["state"], json!({ "of": "update" }));
    assert_eq!(
        document["parameters"],
        json!({ "size": 2, "name": "a\"b\n'c$(d)" })
    );
    assert_eq!(document.get("originating_identity"), None);
    assert_eq!(broker.written("deprovision.arguments"), "1 deprovision\n");
}

#[test]
fn a_program_is_told_everything_about_a_binding_and_its_instance() {
    let broker = shell(SCRIBE, json!({})).start();
    let body = merged(&provision(), json!({ "parameters": { "of": "instance" } }));
    broker.put(&instance("i-1"), &body).expect(201);
    let request = merged(
        &bind(),
        json!({ "parameters": { "of": "binding" }, "context": { "platform": "cloudfoundry" } }),
    );
    broker.put(&binding("i-1", "b-1"), &request).expect(201);
    let document = read(&broker, "bind");
    let wanted = json!({
        "operation": "bind",
        "operation_id": document["operation_id"],
        "attempt": 1,
        "instance_id": "i-1",
        "binding_id": "b-1",
        "service": { "id": "service-1", "name": "database", "metadata": { "displayName": "Database" } },
        "plan": { "id": "plan-1", "name": "small", "metadata": { "size": 1 } },
        "organization_guid": "org-1",
        "space_guid": "space-1",
        "parameters": { "of": "binding" },
        "context": { "platform": "cloudfoundry" },
        "state": {},
        "instance": {
            "parameters": { "of": "instance" }, "context": body["context"], "state": { "of": "provision" }
        },
        "app_guid": "app-1",
        "bind_resource": { "app_guid": "app-1", "space_guid": "space-1" }
    });
    assert_eq!(document, wanted);

    let successor = merged(&request, json!({ "predecessor_binding_id": "b-1" }));
    broker.put(&binding("i-1", "b-2"), &successor).expect(201);
    assert_eq!(read(&broker, "bind")["predecessor_binding_id"], "b-1");

    broker
        .delete(&format!("{}{IDS}", binding("i-1", "b-1")))
        .expect(200);
    let document = read(&broker, "unbind");
    assert_eq!(document["binding_id"], "b-1");
    assert_eq!(document["state"], json!({ "of": "bind" }));
    assert_eq!(document["instance"]["state"], json!({ "of": "provision" }));
    assert_eq!(broker.written("unbind.arguments"), "1 unbind\n");
}

#[test]
fn the_document_is_one_line_whatever_the_platform_sent() {
    let broker = program(
        "#!/bin/sh\nread -r line; printf '%s' \"$line\" >first; cat >rest; echo '{}'\n",
        json!({}),
    )
    .start();
    let pretty = serde_json::to_string_pretty(&merged(
        &provision(),
        json!({ "parameters": { "text": "a\nb\r" } }),
    ));
    let request = broker.request("PUT", &instance("i-1"));
    request
        .body(pretty.unwrap().replace('\n', "\r\n"))
        .send()
        .expect(201);
    let document: Value = serde_json::from_str(&broker.written("first")).unwrap();
    assert_eq!(document["parameters"], json!({ "text": "a\nb\r" }));
    assert_eq!(broker.written("rest"), "");
}

#[test]
fn no_shell_reads_the_command_and_it_runs_beside_the_catalog() {
    let script = r#"printf '%s\n' "$@" >arguments; pwd >folder; echo '{}'"#;
    let command = json!(["./program", "$HOME; echo `id`", "*", "", "a\nb"]);
    let broker = shell(script, json!({ "command": command })).start();
    broker.put(&instance("i-1"), &provision()).expect(201);
    assert_eq!(
        broker.written("arguments"),
        "$HOME; echo `id`\n*\n\na\nb\nprovision\n"
    );
    assert_eq!(
        Path::new(broker.written("folder").trim()),
        broker.folder.path()
    );
}

#[test]
fn the_catalog_may_be_named_from_elsewhere() {
    let folder = std::sync::Arc::new(Folder::new());
    std::fs::create_dir(folder.path().join("catalogs")).unwrap();
    let catalog = crate::support::programs::catalog(json!({}));
    folder.file("catalogs/catalog.json", catalog.to_string());
    executable(
        &folder,
        "catalogs/program",
        "#!/bin/sh\npwd >folder; echo '{}'\n",
    );
    let broker = Setup::in_folder(folder)
        .env("BROKER_STORE", "memory")
        .env("BROKER_CATALOG", "catalogs/catalog.json")
        .start();
    broker.put(&instance("i-1"), &provision()).expect(201);
    assert!(broker.written("catalogs/folder").ends_with("/catalogs\n"));
}

#[test]
fn the_environment_is_what_the_settings_say() {
    let script = r#"tr '\0' '\n' </proc/$$/environ >environment; echo '{}'"#;
    let folder = Folder::new();
    let secret = folder.file("secret", "first-secret\n");
    let settings = json!({ "env": {
        "FROM_ENV": "<${env:WORD}>", "FROM_FILE": format!("${{file:{}}}", secret.display()), "EMPTY": "",
        "LITERAL": "a=b $${env:X}"
    }});
    let setup = shell(script, settings)
        .env("WORD", "word")
        .env("HOME", "/home/of/broker");
    let broker = setup.env("OTHER", "other").start();
    broker.put(&instance("i-1"), &provision()).expect(201);
    let environment = broker.written("environment");
    let mut lines: Vec<_> = environment
        .lines()
        .filter(|line| !line.starts_with("PATH="))
        .collect();
    lines.sort_unstable();
    assert_eq!(lines.len() + 1, environment.lines().count(), "PATH once");
    let wanted = [
        "EMPTY=",
        "FROM_ENV=<word>",
        "FROM_FILE=first-secret",
        "HOME=/home/of/broker",
        "LITERAL=a=b ${env:X}",
    ];
    assert_eq!(lines, wanted);
    // A new secret needs no restart.
    folder.file("secret", "second-secret");
    broker.put(&instance("i-2"), &provision()).expect(201);
    assert!(
        broker
            .written("environment")
            .contains("FROM_FILE=second-secret\n")
    );
}

#[test]
fn a_program_has_a_group_of_its_own_and_three_descriptors() {
    let script = r#"
for fd in /proc/$$/fd/*; do readlink "$fd"; done >descriptors
read -r _ _ _ _ group _ </proc/$$/stat; echo "$(($$ == group))" >group; echo '{}'"#;
    let mut setup = shell(script, json!({}));
    // The broker itself is started with more than it needs.
    let inner = format!(
        "exec 7</etc/passwd 9</etc/hosts; exec {}",
        env!("CARGO_BIN_EXE_brokerlet")
    );
    let mut command = crate::support::program("/bin/sh");
    command.args(["-c", &inner]);
    for (name, value) in setup.command.get_envs() {
        command.env(name, value.unwrap());
    }
    command.current_dir(setup.folder.path());
    setup.command = command;
    let broker = setup.start();
    let opened = std::fs::read_link(format!("/proc/{}/fd/7", broker.pid())).unwrap();
    assert_eq!(opened, Path::new("/etc/passwd"), "this test tests nothing");
    broker.put(&instance("i-1"), &provision()).expect(201);
    assert_eq!(broker.written("group"), "1\n");
    let descriptors = broker.written("descriptors");
    let own = |link: &&str| !link.ends_with("/program") && !link.ends_with("/descriptors");
    let links: Vec<_> = descriptors.lines().filter(own).collect();
    // The standard output is the list itself while it is written.
    assert!(
        links.len() <= 3 && links.iter().all(|link| link.starts_with("pipe:")),
        "{descriptors}"
    );
}
