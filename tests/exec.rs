//! The adapter `exec`, end to end: what a program is told, what becomes of what it answers, and what it cannot do.

mod support;

use serde_json::{Value, json};
use std::path::Path;
use support::programs::{IDS, bind, executable, program, provision, shell};
use support::{Broker, Folder, Request, Setup, binding, brokerlet, instance, merged};

/// Writes down what it is told, and says who it is.
const SCRIBE: &str = r#"printf '%s' "$input" >"$1.json"; echo "$# $*" >"$1.arguments"; echo '{"state":{"of":"'$1'"}}'"#;

fn read(broker: &Broker, operation: &str) -> Value {
    serde_json::from_str(&broker.written(&format!("{operation}.json"))).unwrap()
}

/// The lines of the log that are a program's.
fn lines_of_program(broker: &Broker) -> Vec<String> {
    let printed = broker.printed();
    let lines = printed
        .lines()
        .filter(|line| line.contains(" event=program "));
    lines.map(str::to_owned).collect()
}

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
fn what_a_program_returns_reaches_the_platform() {
    let bound = json!({
        "credentials": { "uri": "db://x", "n": 1.0 },
        "endpoints": [{ "host": "db.example.com", "ports": ["5432"] }],
        "syslog_drain_url": "syslog://logs.example.com",
        "route_service_url": "https://route.example.com",
        "volume_mounts": [{
            "driver": "nfs", "container_dir": "/data", "mode": "rw", "device_type": "shared",
            "device": { "volume_id": "v-1" }
        }],
        "metadata": { "expires_at": "2030-12-31T23:59:59.0Z" }
    });
    let made = json!({
        "dashboard_url": "https://db.example.com/i-1",
        "metadata": { "labels": { "a": "b" }, "attributes": { "c": "d" } }
    });
    let script = format!("case $1 in bind) echo '{bound}' ;; *) echo '{made}' ;; esac");
    let broker = shell(&script, json!({})).start();
    let answer = broker
        .put(&instance("i-1"), &provision())
        .expect(201)
        .json();
    assert_eq!(answer, made);
    let answer = broker
        .put(&binding("i-1", "b-1"), &bind())
        .expect(201)
        .json();
    assert_eq!(answer, bound);
    let answer = broker.get(&binding("i-1", "b-1")).expect(200).json();
    assert_eq!(answer["credentials"], bound["credentials"]);
}

#[test]
fn a_result_may_be_printed_over_several_lines() {
    // As `jq -n '{credentials: {a: 1}}'` prints it.
    let script = "printf '{\n  \"credentials\": {\n    \"a\": 1\n  }\n}\n'";
    let broker = shell(script, json!({})).start();
    broker.put(&instance("i-1"), &provision()).expect(201);
    let answer = broker.put(&binding("i-1", "b-1"), &bind()).expect(201);
    assert_eq!(answer.json()["credentials"], json!({ "a": 1 }));
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
    let catalog = support::programs::catalog(json!({}));
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
    let mut command = support::program("/bin/sh");
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

#[test]
fn what_is_wrong_with_an_answer_is_told_and_its_cause_logged() {
    let large = "head -c 1100000 /dev/zero | tr '\\0' x";
    for (script, described, logged) in [
        (
            "echo oops",
            "did not answer as it should: line 1 of its output is not JSON",
            "line 1 of its output is not JSON from column 1 on",
        ),
        (
            "true",
            "did not answer as it should: printed no result",
            "printed no result",
        ),
        (
            "echo '{}'; echo '{}'",
            "did not answer as it should: line 2 of its output is a second result",
            "a second result",
        ),
        (
            r"printf '\177ELF\377\000\001'",
            "did not answer as it should: line 1 of its output is not text in UTF-8",
            "not text",
        ),
        (
            "echo '{\"credentials\": [\"hunter22\"]}'",
            "has \"credentials\": found an array, wanted an object",
            "found an array",
        ),
        (
            "echo '{\"dashbord_url\": \"hunter22\"}'",
            "did not answer as it should: line 1 of its output has an unknown key. The operator",
            "has the unknown key \\\"dashbord_url\\\", did you mean \\\"dashboard_url\\\"?",
        ),
        (
            "printf '{\n  \"dashboard_url\": 7\n}\n'",
            "the object in lines 1 to 3 of its output has \"dashboard_url\": found a number, wanted a string",
            "lines 1 to 3",
        ),
        (
            "echo '{\"metadata\": {\"labels\": 7}}'",
            "did not answer as it should: metadata.labels: found a number, wanted an object",
            "metadata.labels",
        ),
        (
            "echo '{\"progress\": \"half\"}'",
            "printed no result",
            "printed no result",
        ),
        (
            large,
            "printed more than 1048576 bytes",
            "more than 1048576 bytes",
        ),
        (
            "echo '{}'; echo why >&2; exit 3",
            "failed (exit status: 3)",
            "the program ended with exit status: 3; last message: why",
        ),
        (
            "echo why >&2; kill -9 $$",
            "failed (signal: 9 (SIGKILL))",
            "signal: 9 (SIGKILL); last message: why",
        ),
        (
            "echo '{\"error\":\"full\",\"description\":\"No room left.\"}'; exit 1",
            "No room left.",
            "exit status: 1; error \\\"full\\\"",
        ),
        // It says that it failed: the exit code does not make a success of it.
        (
            "echo '{\"error\":\"full\",\"description\":\"No room left.\"}'",
            "No room left.",
            "full",
        ),
    ] {
        let broker = shell(script, json!({})).start();
        broker
            .put(&instance("i-1"), &provision())
            .expect_naming(500, described);
        // Something may have been left behind: the platform can have it removed.
        broker.get(&instance("i-1")).expect(404);
        let (_, printed) = broker.stop();
        assert!(printed.contains(logged), "{script}\n{printed}");
        assert!(!printed.contains("hunter22"), "{printed}");
    }
}

#[test]
fn a_program_can_refuse_a_request() {
    let script = r#"case $1 in
deprovision | unbind) echo '{}' ;;
*) echo '{"error":"invalid","description":"size: wanted 1 to 9."}' ;;
esac"#;
    let broker = shell(script, json!({})).start();
    broker
        .put(&instance("i-1"), &provision())
        .expect_naming(400, "size: wanted 1 to 9.");
    // Nothing was made, so there is nothing to delete.
    broker
        .delete(&format!("{}{IDS}", instance("i-1")))
        .expect(410);

    let script = r#"case $1 in
update) echo '{"error":"unsupported","description":"It cannot grow."}' ;;
*) echo '{}' ;;
esac"#;
    let broker = shell(script, json!({})).start();
    broker.put(&instance("i-1"), &provision()).expect(201);
    let update = json!({ "service_id": "service-1", "parameters": { "size": 2 } });
    broker
        .patch(&instance("i-1"), &update)
        .expect_naming(422, "It cannot grow.");
}

#[test]
fn a_program_that_fails_says_how_usable_the_instance_is() {
    let script = r#"case $1 in
update) echo '{"error":"x","description":"Half grown.","instance_usable":false,"update_repeatable":true}'; exit 1 ;;
*) echo '{}' ;;
esac"#;
    let broker = shell(script, json!({})).start();
    broker.put(&instance("i-1"), &provision()).expect(201);
    let update = json!({ "service_id": "service-1", "parameters": { "size": 2 } });
    let answer = broker
        .patch(&instance("i-1"), &update)
        .expect_naming(500, "Half grown.")
        .json();
    assert_eq!(answer["instance_usable"], false);
    assert_eq!(answer["update_repeatable"], true);
}

#[test]
fn a_program_need_not_read_what_it_is_told() {
    let parameters = json!({ "text": "x".repeat(900_000) });
    let body = merged(&provision(), json!({ "parameters": parameters }));
    for script in [
        "echo '{}'",
        "exec <&-; echo '{}'",
        "head -c 10 >/dev/null; echo '{}'",
    ] {
        let broker = program(&format!("#!/bin/sh\n{script}\n"), json!({})).start();
        broker.put(&instance("i-1"), &body).expect(201);
    }
}

#[test]
fn a_process_left_behind_holds_nothing_up() {
    let script = "sleep 300 & echo $! >daemon; echo '{}'";
    let broker = shell(script, json!({ "timeout": "50s" })).start();
    broker.put(&instance("i-1"), &provision()).expect(201);
    broker.wait_for_print("left behind keeps its output open");
    let daemon = broker.written("daemon");
    assert!(lives(&daemon), "what a program starts as its service stays");
    support::needs::kill("TERM", &daemon);
}

/// Whether a process is there, and not a zombie.
fn lives(pid: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    status.is_ok_and(|status| !status.contains(") Z "))
}

/// Waits until a process is gone.
fn wait_for_end(pid: &str) {
    for _ in 0..4000 {
        if !lives(pid) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("process {pid} lives on");
}

#[test]
fn a_program_that_takes_too_long_is_ended_with_its_children() {
    for trap in ["", "trap '' TERM"] {
        let script = format!("{trap}\nsleep 300 & echo $! >child; echo $$ >self; wait; sleep 300");
        let broker = shell(&script, json!({ "timeout": "300ms" })).start();
        broker
            .put(&instance("i-1"), &provision())
            .expect_naming(500, "did not finish within 300ms");
        wait_for_end(&broker.written("child"));
        wait_for_end(&broker.written("self"));
    }
}

#[test]
fn what_is_done_within_the_grace_time_counts() {
    let script = "trap 'echo \"{}\"; exit 0' TERM; sleep 300 & wait";
    let broker = shell(script, json!({ "timeout": "300ms" })).start();
    broker.put(&instance("i-1"), &provision()).expect(201);
}

#[test]
fn lines_of_a_program_are_log_lines_with_the_ids() {
    let script = "printf 'one\\ntwo \"quoted\"\\n\\nlast' >&2; echo '{}'";
    let broker = shell(script, json!({})).start();
    broker.put(&instance("i-1"), &provision()).expect(201);
    broker.put(&binding("i-1", "b-1"), &bind()).expect(201);
    broker.wait_for_print("binding_id=b-1 message=last");
    let lines = lines_of_program(&broker);
    assert_eq!(lines.len(), 6, "{lines:?}");
    for (line, (operation, message)) in lines.iter().zip([
        ("provision", "message=one"),
        ("provision", "message=\"two \\\"quoted\\\"\""),
        ("provision", "message=last"),
        ("bind", "message=one"),
        ("bind", "message=\"two \\\"quoted\\\"\""),
        ("bind", "message=last"),
    ]) {
        assert!(
            line.contains(&format!(" operation={operation} operation_id=")),
            "{line}"
        );
        assert!(
            line.contains(" instance_id=i-1 ") && line.ends_with(message),
            "{line}"
        );
        assert_eq!(
            line.contains(" binding_id=b-1 "),
            operation == "bind",
            "{line}"
        );
    }
}

#[test]
fn secrets_are_masked_in_all_that_a_program_writes() {
    let folder = Folder::new();
    let secret = folder.file("secret", "file-secret\n");
    let settings = json!({ "env": {
        "A": "${env:ADMIN}", "F": format!("${{file:{}}}", secret.display()), "U": "db://admin:${env:ADMIN}@db.example.com",
        "H": "db.example.com"
    }});
    // Before the result is known, across writes, and after it.
    let script = r#"
echo "admin $A, file $F, $U, $H" >&2
printf 'new: bind' >&2; printf -- '-secret; ' >&2; printf 'x%sy\n' 'uri%20secret%2F' >&2
echo '{"progress": "at '"$A"'"}'
echo '{"credentials": {"password": "bind-secret", "deep": [{"uri": "uri secret/"}]}, "state": {}}'
echo 'again bind-secret' >&2"#;
    let broker = shell(script, settings.clone())
        .env("ADMIN", "env-secret")
        .start();
    broker.put(&instance("i-1"), &provision()).expect(201);
    let answer = broker.put(&binding("i-1", "b-1"), &bind()).expect(201);
    assert_eq!(answer.json()["credentials"]["password"], "bind-secret");
    broker.wait_for_print("binding_id=b-1 message=\"again ***\"");
    let of_bind: Vec<_> = lines_of_program(&broker);
    let of_bind: Vec<_> = of_bind
        .iter()
        .filter(|line| line.contains("=bind "))
        .collect();
    assert!(
        of_bind[0].ends_with("message=\"admin ***, file ***, ***, db.example.com\""),
        "{of_bind:?}"
    );
    assert!(
        of_bind[1].ends_with("message=\"new: ***; x***y\""),
        "{of_bind:?}"
    );
    let (_, printed) = broker.stop();
    for secret in ["env-secret", "file-secret", "db://admin"] {
        assert!(!printed.contains(secret), "{printed}");
    }

    // Not in an error either: neither the user's nor the operator's.
    let script = r#"echo "cannot log in as $A" >&2; echo '{"error":"x","description":"'"$A"' refused"}'; exit 1"#;
    let broker = shell(script, settings).env("ADMIN", "env-secret").start();
    let answer = broker.put(&instance("i-1"), &provision()).expect(500);
    assert_eq!(answer.description(), "*** refused");
    let (_, printed) = broker.stop();
    assert!(
        printed.contains("last message: cannot log in as ***"),
        "{printed}"
    );
    assert!(!printed.contains("env-secret"), "{printed}");
}

#[test]
fn a_flood_of_lines_is_dammed() {
    let script =
        "yes 'a line of a program that never stops talking' | head -n 200000 >&2; echo '{}'";
    let broker = shell(script, json!({})).start();
    broker.put(&instance("i-1"), &provision()).expect(201);
    broker.wait_for_print("lines left out: ");
    assert!(lines_of_program(&broker).len() < 10_000);
}

#[test]
fn nothing_is_left_of_a_call() {
    let script = r#"case $1 in
bind) exec >&-; exit 1 ;;
unbind) kill -9 $$ ;;
*) sh -c 'exit 3' & echo '{}' ;;
esac"#;
    let broker = shell(script, json!({})).start();
    // Connections come and go beside: only pipes are counted.
    let pipes = || {
        let links = std::fs::read_dir(format!("/proc/{}/fd", broker.pid())).unwrap();
        let links = links.filter_map(|link| std::fs::read_link(link.ok()?.path()).ok());
        links
            .filter(|link| link.to_string_lossy().starts_with("pipe:"))
            .count()
    };
    let round = |n: usize| {
        let i = format!("i-{n}");
        broker.put(&instance(&i), &provision()).expect(201);
        broker.put(&binding(&i, "b-1"), &bind()).expect(500);
        broker
            .delete(&format!("{}{IDS}", binding(&i, "b-1")))
            .expect(500);
    };
    let before = pipes();
    (0..10).for_each(round);
    assert_eq!(pipes(), before);
    assert_eq!(children(broker.pid()), [""; 0]);
}

/// The children of a process that the system still knows, zombies included.
fn children(pid: u32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok())
        .flat_map(|children| {
            children
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn a_program_that_cannot_be_run_is_found_before_anybody_meets_it() {
    let folder = Folder::new();
    folder.file("plain", "#!/bin/sh\n");
    for (command, wanted) in [
        ("./nothing", "does not exist"),
        ("./plain", "is not executable for the user of the broker"),
        ("plain", "no such program in PATH; did you mean \"./plain\""),
    ] {
        let catalog = support::programs::catalog(json!({ "command": [command] }));
        let file = folder.file("catalog.json", catalog.to_string());
        let output = brokerlet().arg("check").arg(&file).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1));
        let line = printed
            .lines()
            .find(|line| line.contains(wanted))
            .expect(&printed);
        assert!(
            line.starts_with("error: services[0].plans[0].adapter.command[0]: "),
            "{line}"
        );

        let output = Setup::new().env("BROKER_CATALOG", &file).run();
        assert_eq!(output.status.code(), Some(78));
        assert!(String::from_utf8(output.stderr).unwrap().contains(wanted));
    }
}

#[test]
fn a_program_that_goes_away_later_is_a_failure_that_names_no_path_to_the_user() {
    let broker = shell("echo '{}'", json!({ "timeout": "300ms" })).start();
    std::fs::remove_file(broker.folder.path().join("program")).unwrap();
    let answer = broker.put(&instance("i-1"), &provision()).expect(503);
    assert!(
        answer.description().contains("cannot be started"),
        "{}",
        answer.description()
    );
    assert!(!answer.description().contains("/program"));
    broker.wait_for_print("No such file or directory");
    // It comes back, and so does the service.
    executable(&broker.folder, "program", "#!/bin/sh\necho '{}'\n");
    broker.put(&instance("i-1"), &provision()).expect(201);
}

/// `target`, asynchronously.
fn incomplete(target: &str) -> String {
    format!("{target}?accepts_incomplete=true")
}

fn poll(broker: &Broker, target: &str) -> Value {
    broker
        .get(&format!("{target}/last_operation"))
        .expect(200)
        .json()
}

/// Polls until `wanted` is so, and returns the answer.
fn poll_until(broker: &Broker, target: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..4000 {
        let answer = poll(broker, target);
        if wanted(&answer) {
            return answer;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("{}\n{}", poll(broker, target), broker.printed());
}

#[test]
fn try_again_later_is_tried_again_with_the_same_operation() {
    if !support::needs::has(&["jq"]) {
        return;
    }
    // Also where it says so in words.
    let script = r#"
printf '%s' "$input" | jq -c '[.operation_id, .attempt]' >>attempts
attempt=$(printf '%s' "$input" | jq .attempt)
[ "$attempt" != 1 ] || exit 75
[ "$attempt" != 2 ] || { echo '{"error":"busy","description":"Busy."}'; exit 75; }
echo '{}'"#;
    for is_async in [false, true] {
        let broker = shell(script, json!({ "async": is_async, "timeout": "50s" })).start();
        let target = instance("i-1");
        let answer = broker.put(&incomplete(&target), &provision());
        if is_async {
            answer.expect(202);
            let ended = poll_until(&broker, &target, |answer| answer["state"] != "in progress");
            assert_eq!(ended["state"], "succeeded");
        } else {
            answer.expect(201);
        }
        let attempts = broker.written("attempts");
        let attempts: Vec<Value> = attempts
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let id = &attempts[0][0];
        assert_eq!(attempts, [json!([id, 1]), json!([id, 2]), json!([id, 3])]);
    }
}

#[test]
fn try_again_later_ends_with_the_timeout() {
    let script = r#"case $1 in
provision) echo '{"error":"busy","description":"All servers are busy."}'; exit 75 ;;
*) echo '{}' ;;
esac"#;
    let broker = shell(script, json!({ "timeout": "1500ms" })).start();
    broker
        .put(&instance("i-1"), &provision())
        .expect_naming(503, "All servers are busy.");
    let broker = shell(script, json!({ "timeout": "1500ms", "async": true })).start();
    let target = instance("i-1");
    broker.put(&incomplete(&target), &provision()).expect(202);
    let ended = poll_until(&broker, &target, |answer| answer["state"] != "in progress");
    assert_eq!(ended["state"], "failed");
    assert!(
        ended["description"]
            .as_str()
            .unwrap()
            .contains("All servers are busy."),
        "{ended}"
    );
}

#[test]
fn progress_is_what_a_poller_reads() {
    // Goes on when the test says so.
    let script = r#"
echo '{"progress": "Creating VM (40%)"}'
until [ -e go ]; do sleep 0.02; done
echo '{"progress": "Starting"}'
until [ -e on ]; do sleep 0.02; done
echo '{"dashboard_url": "https://x.example.com", "credentials": {"a": 1}}'"#;
    let broker = shell(script, json!({ "async": true })).start();
    let target = instance("i-1");
    broker.put(&incomplete(&target), &provision()).expect(202);
    let is = |wanted: &'static str| move |answer: &Value| answer["description"] == wanted;
    assert_eq!(
        poll_until(&broker, &target, is("Creating VM (40%)"))["state"],
        "in progress"
    );
    broker.folder.file("go", "");
    assert_eq!(
        poll_until(&broker, &target, is("Starting"))["state"],
        "in progress"
    );
    broker.folder.file("on", "");
    poll_until(&broker, &target, |answer| answer["state"] == "succeeded");
    let shown = broker.get(&target).expect(200).json();
    assert_eq!(shown["dashboard_url"], "https://x.example.com");

    let bound = binding("i-1", "b-1");
    broker.put(&incomplete(&bound), &bind()).expect(202);
    poll_until(&broker, &bound, |answer| answer["state"] == "succeeded");
    assert_eq!(
        broker.get(&bound).expect(200).json()["credentials"],
        json!({ "a": 1 })
    );
}

#[test]
fn a_delete_ends_the_program_that_still_provisions() {
    let script = r#"case $1 in
provision) trap 'echo taken back >&2; exit 1' TERM; echo $$ >self; sleep 300 & wait ;;
*) printf '%s' "$input" >"$1.json"; echo '{}' ;;
esac"#;
    let broker = shell(script, json!({ "async": true })).start();
    let target = instance("i-1");
    broker.put(&incomplete(&target), &provision()).expect(202);
    broker.wait_for_file("self");
    broker
        .delete(&format!("{target}{IDS}&accepts_incomplete=true"))
        .expect(202);
    broker.wait_for_print("message=\"taken back\"");
    wait_for_end(&broker.written("self"));
    for _ in 0..4000 {
        if broker.get(&format!("{target}/last_operation")).status == 410 {
            assert_eq!(read(&broker, "deprovision")["state"], json!({}));
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("not deleted: {}", poll(&broker, &target));
}

#[test]
fn an_asynchronous_program_that_takes_too_long_has_failed() {
    let script = "case $1 in provision) sleep 300 & echo $! >child; wait ;; *) echo '{}' ;; esac";
    let broker = shell(script, json!({ "async": true, "timeout": "300ms" })).start();
    let target = instance("i-1");
    broker.put(&incomplete(&target), &provision()).expect(202);
    let ended = poll_until(&broker, &target, |answer| answer["state"] != "in progress");
    assert_eq!(ended["state"], "failed");
    assert!(
        ended["description"]
            .as_str()
            .unwrap()
            .contains("did not finish within 300ms"),
        "{ended}"
    );
    wait_for_end(&broker.written("child"));
}

#[test]
fn a_secret_that_is_being_replaced_is_waited_for() {
    let folder = Folder::new();
    let secret = folder.file("secret", "first-secret");
    let settings =
        json!({ "env": { "S": format!("${{file:{}}}", secret.display()) }, "async": true });
    let broker = shell(r#"printf '%s' "$S" >seen; echo '{}'"#, settings).start();
    std::fs::remove_file(&secret).unwrap();
    let target = instance("i-1");
    broker.put(&incomplete(&target), &provision()).expect(202);
    assert_eq!(poll(&broker, &target)["state"], "in progress");
    folder.file("secret", "second-secret");
    poll_until(&broker, &target, |answer| answer["state"] == "succeeded");
    assert_eq!(broker.written("seen"), "second-secret");
}

#[test]
fn programs_that_hang_starve_nobody() {
    let script =
        "case $1 in provision) sleep 30 & echo $! >>children; wait ;; *) echo '{}' ;; esac";
    let mut offered = support::programs::catalog(json!({ "async": true, "concurrency": 2 }));
    let free = json!({ "id": "plan-3", "name": "free", "description": "Free", "adapter": { "kind": "shared" } });
    offered["services"][0]["plans"]
        .as_array_mut()
        .unwrap()
        .push(free);
    let broker = shell(script, json!({})).catalog(&offered).start();
    for n in 0..20 {
        broker
            .put(&incomplete(&instance(&format!("i-{n}"))), &provision())
            .expect(202);
    }
    broker.get("/healthz").expect(200);
    broker.get("/v2/catalog").expect(200);
    broker
        .put(&instance("s-1"), &support::provision("service-1", "plan-3"))
        .expect(201);
    for n in 0..20 {
        assert_eq!(
            poll(&broker, &instance(&format!("i-{n}")))["state"],
            "in progress"
        );
    }
    broker.wait_for_file("children");
    assert!(
        broker.written("children").lines().count() <= 2,
        "no more than the plan's concurrency"
    );
}

#[test]
fn after_a_kill_of_the_broker_the_program_is_called_again() {
    if !support::needs::has(&["jq"]) {
        return;
    }
    let script = r#"
printf '%s' "$input" | jq -c '[.operation_id, .attempt]' >>attempts
if [ "$(printf '%s' "$input" | jq .attempt)" = 1 ]; then
  echo $$ >self; sleep 30 & wait
fi
echo '{"dashboard_url": "https://x.example.com"}'"#;
    let broker = shell(script, json!({ "async": true }))
        .env("BROKER_STORE", "file:state.db")
        .start();
    let target = instance("i-1");
    broker.put(&incomplete(&target), &provision()).expect(202);
    broker.wait_for_file("self");
    let folder = broker.kill();
    let catalog = folder.path().join("catalog.json");
    let broker = Setup::in_folder(folder)
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("BROKER_STORE", "file:state.db")
        .env("BROKER_CATALOG", catalog)
        .start();
    // What the first broker started goes on: its program has to bear that.
    let first = broker.written("self");
    // It may have ended by itself.
    let _ = std::process::Command::new("sh")
        .args(["-c", &format!("kill -9 {}", first.trim())])
        .status();
    poll_until(&broker, &target, |answer| answer["state"] == "succeeded");
    assert_eq!(
        broker.get(&target).expect(200).json()["dashboard_url"],
        "https://x.example.com"
    );
    let attempts = broker.written("attempts");
    let attempts: Vec<Value> = attempts
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        attempts,
        [json!([attempts[0][0], 1]), json!([attempts[0][0], 2])]
    );
}

#[test]
fn a_stop_of_the_broker_leaves_an_asynchronous_program_to_the_next_one() {
    if !support::needs::has(&["jq"]) {
        return;
    }
    let script = r#"
printf '%s' "$input" | jq -c '[.operation_id, .attempt]' >>attempts
if [ "$(printf '%s' "$input" | jq .attempt)" = 1 ]; then
  trap 'echo "told to stop" >&2; exit 1' TERM
  echo $$ >self; sleep 30 & wait
fi
echo '{}'"#;
    let broker = shell(script, json!({ "async": true }))
        .env("BROKER_STORE", "file:state.db")
        .start();
    let target = instance("i-1");
    broker.put(&incomplete(&target), &provision()).expect(202);
    broker.wait_for_file("self");
    let (folder, first) = (broker.folder.clone(), broker.written("self"));
    let (status, printed) = broker.stop();
    assert!(status.success(), "{printed}");
    wait_for_end(&first);
    let catalog = folder.path().join("catalog.json");
    let broker = Setup::in_folder(folder)
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("BROKER_STORE", "file:state.db")
        .env("BROKER_CATALOG", catalog)
        .start();
    poll_until(&broker, &target, |answer| answer["state"] == "succeeded");
    assert_eq!(broker.written("attempts").lines().count(), 2);
}

/// Else it would meet its own next attempt, which the next broker starts.
#[test]
fn no_program_outlives_a_broker_that_stops() {
    let script = "trap '' TERM; echo $$ >self; while :; do sleep 0.1; done";
    let broker = shell(script, json!({ "async": true }))
        .env("BROKER_STORE", "file:state.db")
        .start();
    broker
        .put(&incomplete(&instance("i-1")), &provision())
        .expect(202);
    broker.wait_for_file("self");
    let program = broker.written("self");
    let (status, printed) = broker.stop();
    assert!(status.success(), "{printed}");
    let proc = std::path::Path::new("/proc").join(program.trim());
    assert!(!proc.exists(), "{printed}");
}
