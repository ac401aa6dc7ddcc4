//! The audit trail: `brokerlet audit`.

mod support;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::programs::{IDS, bind, executable, provision};
use support::{Broker, Folder, Setup, binding, brokerlet, instance, merged, programs, wait_until};

const SECRET: &str = "geheim-1";

/// Fails where the user asks for it.
const SCRIPT: &str = r#"#!/bin/sh
input=$(cat)
case $input in
*refuse-$1*quoting*) echo '{"error":"refused","description":"The value geheim-1 is taken."}'; exit 1 ;;
*refuse-$1*) echo '{"error":"refused","description":"No."}'; exit 1 ;;
esac
echo '{"credentials":{"password":"geheim-1"}}'
"#;

fn start(folder: &Arc<Folder>, settings: Value, variables: &[(&str, &str)]) -> Broker {
    executable(folder, "program", SCRIPT);
    let setup = Setup::in_folder(folder.clone())
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("BROKER_STORE", "file:state.db")
        .catalog(&programs::catalog(settings));
    let with = |setup: Setup, (name, value): &(&str, &str)| setup.env(name, value);
    variables.iter().fold(setup, with).start()
}

fn run(folder: &Folder, arguments: &[&str]) -> Output {
    brokerlet()
        .current_dir(folder.path())
        .env("BROKER_STORE", "file:state.db")
        .env("BROKER_CATALOG", "catalog.json")
        .args(arguments)
        .output()
        .unwrap()
}

#[track_caller]
fn printed(folder: &Folder, arguments: &[&str]) -> String {
    let output = run(folder, &[&["audit"], arguments].concat());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.is_empty(), "{told}");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(!printed.contains(SECRET), "{printed}");
    printed
}

#[track_caller]
fn lines(folder: &Folder, arguments: &[&str]) -> Vec<Value> {
    let printed = printed(folder, &[&["--json"], arguments].concat());
    let parsed = printed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    parsed.collect()
}

/// `operation outcome instance[/binding] user` of each line.
fn short(lines: &[Value]) -> Vec<String> {
    let part = |line: &Value, place: &str| {
        line.pointer(place)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let short = lines.iter().map(|line| {
        let binding = part(line, "/binding_id").map_or(String::new(), |id| format!("/{id}"));
        format!(
            "{} {} {}{binding} {}",
            line["operation"].as_str().unwrap(),
            line["outcome"].as_str().unwrap(),
            line["instance_id"].as_str().unwrap(),
            part(line, "/by/properties/user_id").unwrap_or_else(|| "-".to_owned()),
        )
    });
    short.collect()
}

#[test]
fn who_had_what_done_to_what_from_where_and_how_it_ended() {
    let folder = Arc::new(Folder::new());
    let broker = start(&folder, json!({}), &[]);
    let asked = |user: &str, method: &str, target: &str, body: &Value| {
        let request = broker.request(method, target).user(user);
        let request = request.header("X-Vcap-Request-Id", format!("r-{user}"));
        match method {
            "DELETE" => request.send().status,
            _ => request.json(body).send().status,
        }
    };
    let secret = json!({ "parameters": { "word": SECRET } });
    let refused = json!({ "parameters": { "word": SECRET, "why": "refuse-update, quoting" } });
    let update =
        |parameters: &Value| merged(&json!({ "service_id": "service-1" }), parameters.clone());
    let i = instance("i");
    assert_eq!(
        asked("ann", "PUT", &i, &merged(&provision(), secret.clone())),
        201
    );
    // Nothing changes: no line.
    assert_eq!(
        asked("ann", "PUT", &i, &merged(&provision(), secret.clone())),
        200
    );
    assert_eq!(asked("ann", "PUT", &i, &provision()), 409);
    assert_eq!(
        asked("ben", "PUT", &binding("i", "b"), &merged(&bind(), secret)),
        201
    );
    assert_eq!(asked("eve", "PATCH", &i, &update(&refused)), 500);
    let renamed = json!({ "context": { "platform": "cloudfoundry", "instance_name": "new" } });
    assert_eq!(asked("ann", "PATCH", &i, &update(&renamed)), 200);
    assert_eq!(asked("dan", "DELETE", &(i.clone() + IDS), &json!({})), 200);
    assert_eq!(asked("dan", "DELETE", &(i + IDS), &json!({})), 410);
    let all = lines(&folder, &[]);
    assert_eq!(
        short(&all),
        [
            "provision succeeded i ann",
            "bind succeeded i/b ben",
            "update failed i eve",
            "update succeeded i ann",
            "unbind succeeded i/b dan",
            "deprovision succeeded i dan",
        ]
    );
    for line in &all {
        assert_eq!(line["from"], "127.0.0.1", "{line}");
        assert_eq!(line["service_id"], "service-1");
        assert_eq!(line["plan_id"], "plan-1");
        assert_eq!(line["organization_guid"], "org-1");
        assert_eq!(line["space_guid"], "space-1");
        let user = line["by"]["properties"]["user_id"].as_str().unwrap();
        assert_eq!(line["request_id"], format!("r-{user}"));
        let at = |field: &str| humantime::parse_rfc3339(line[field].as_str().unwrap()).unwrap();
        assert!(at("requested") <= at("at"), "{line}");
    }
    let why = all[2]["description"].as_str().unwrap();
    assert!(!why.is_empty(), "{why}");

    // For people, with the names of the catalog, also after a kill -9.
    broker.kill();
    let text = printed(&folder, &[]);
    assert_eq!(text.lines().count(), 6, "{text}");
    let line = text.lines().nth(1).unwrap();
    let (time, rest) = line.split_once("  ").unwrap();
    assert!(humantime::parse_rfc3339(time).is_ok(), "{line}");
    assert_eq!(
        rest,
        "bind        succeeded  i binding b (database, small) by ben from 127.0.0.1"
    );
    assert_eq!(short(&lines(&folder, &["--user", "dan"])).len(), 2);
    assert_eq!(
        lines(&folder, &["--user=dan", "--instance", "j"]),
        [json!(null); 0]
    );
    assert_eq!(
        lines(&folder, &["--instance", "i", "--since", "1h"]).len(),
        6
    );
    let last = all[5]["at"].as_str().unwrap();
    assert!(!lines(&folder, &["--since", last]).is_empty());
    assert!(lines(&folder, &["--since", "2100-01-01T00:00:00Z"]).is_empty());
}

#[test]
fn an_asynchronous_operation_has_a_line_at_its_begin_and_one_at_its_end() {
    let folder = Arc::new(Folder::new());
    let broker = start(
        &folder,
        json!({ "async": ["provision", "deprovision"] }),
        &[],
    );
    let put = |id: &str, changes: Value| {
        let target = instance(id) + "?accepts_incomplete=true";
        let request = broker.request("PUT", &target).user("ann");
        let answer = request.json(&merged(&provision(), changes)).send();
        assert_eq!(answer.expect(202).status, 202);
        broker.settled(&instance(id));
    };
    put("i", json!({}));
    put("j", json!({ "parameters": { "why": "refuse-provision" } }));
    let target = format!("{}{IDS}&accepts_incomplete=true", instance("i"));
    broker
        .request("DELETE", &target)
        .user("ben")
        .send()
        .expect(202);
    broker.settled(&instance("i"));
    let all = lines(&folder, &[]);
    assert_eq!(
        short(&all),
        [
            "provision accepted i ann",
            "provision succeeded i ann",
            "provision accepted j ann",
            "provision failed j ann",
            "deprovision accepted i ben",
            "deprovision succeeded i ben",
        ]
    );
    for pair in all.chunks(2) {
        assert!(pair[0]["operation_id"].is_string());
        assert_eq!(pair[0]["operation_id"], pair[1]["operation_id"]);
        assert_eq!(pair[0]["requested"], pair[1]["requested"]);
    }
}

#[test]
fn what_a_crash_cuts_off_has_its_end_and_what_a_deletion_cuts_off_too() {
    let folder = Arc::new(Folder::new());
    let settings = json!({ "async": ["provision"], "timeout": "50s" });
    let broker = start(&folder, settings.clone(), &[]);
    let hang = "#!/bin/sh\necho here >working\nexec sleep 60\n";
    broker
        .put(&(instance("k") + "?accepts_incomplete=true"), &provision())
        .expect(202);
    broker.settled(&instance("k"));
    executable(&folder, "program", hang);
    let put = |id: &str| {
        let target = instance(id) + "?accepts_incomplete=true";
        broker
            .request("PUT", &target)
            .user("ann")
            .json(&provision())
            .send()
            .expect(202)
    };
    put("gone");
    broker.wait_for_file("working");
    executable(&folder, "program", SCRIPT);
    let target = format!("{}{IDS}", instance("gone"));
    broker
        .request("DELETE", &target)
        .user("ben")
        .send()
        .expect(200);
    executable(&folder, "program", hang);
    std::fs::remove_file(folder.path().join("working")).unwrap();
    put("cut");
    std::thread::scope(|scope| {
        let request = broker
            .request("PUT", &binding("k", "b"))
            .user("eve")
            .json(&bind());
        let bound = scope.spawn(|| request.try_send());
        broker.wait_for_file("working");
        // Both are begun when both have written: the second one says so by its record.
        let shown = || run(&folder, &["state", "show", "k"]).stdout;
        let shown = || String::from_utf8_lossy(&shown()).into_owned();
        wait_until(shown, || shown().contains("bind"));
        support::needs::kill("KILL", &broker.pid().to_string());
        assert!(bound.join().unwrap().is_err());
    });
    drop(broker);
    let broker = start(&folder, settings, &[]);
    broker.settled(&instance("cut"));
    let of = |id: &str| short(&lines(&folder, &["--instance", id]));
    assert_eq!(
        of("gone"),
        [
            "provision accepted gone ann",
            "provision cut_off gone ben",
            "deprovision succeeded gone ben",
        ]
    );
    assert_eq!(
        of("cut"),
        ["provision accepted cut ann", "provision succeeded cut ann"]
    );
    assert_eq!(of("k")[2..], ["bind taken_back k/b eve"]);
}

#[test]
fn what_the_broker_and_the_operator_do_by_themselves_is_there_too() {
    let folder = Arc::new(Folder::new());
    executable(&folder, "program", SCRIPT);
    let mut catalog = programs::catalog(json!({}));
    catalog["services"][0]["retain"] = json!("1h");
    let broker = Setup::in_folder(folder.clone())
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("BROKER_STORE", "file:state.db")
        .catalog(&catalog)
        .start();
    broker.put(&instance("i"), &provision()).expect(201);
    for command in [&["protect", "i"][..], &["unprotect", "i"]] {
        assert!(
            run(&folder, &[&["state"], command].concat())
                .status
                .success()
        );
    }
    broker.delete(&(instance("i") + IDS)).expect(200);
    assert!(run(&folder, &["state", "undelete", "i"]).status.success());
    // What is hidden is removed when its time is over.
    catalog["services"][0]["retain"] = json!("1ms");
    folder.file("catalog.json", catalog.to_string());
    broker.signal("HUP");
    broker.wait_for_print("event=reloaded");
    broker.delete(&(instance("i") + IDS)).expect(200);
    broker.wait_for_print("event=kept_removed");
    broker.put(&instance("j"), &provision()).expect(201);
    broker.stop();
    assert!(
        run(&folder, &["state", "forget", "j", "--yes"])
            .status
            .success()
    );
    let all = lines(&folder, &[]);
    let told: Vec<(String, String)> = short(&all)
        .into_iter()
        .zip(&all)
        .map(|(short, line)| (short, line["from"].as_str().unwrap().to_owned()))
        .collect();
    let wanted = [
        ("provision succeeded i -", "127.0.0.1"),
        ("protect succeeded i -", "operator"),
        ("unprotect succeeded i -", "operator"),
        ("deprovision kept i -", "127.0.0.1"),
        ("undelete succeeded i -", "operator"),
        ("deprovision kept i -", "127.0.0.1"),
        ("deprovision succeeded i -", "broker"),
        ("provision succeeded j -", "127.0.0.1"),
        ("forget succeeded j -", "operator"),
    ];
    assert_eq!(
        told,
        wanted.map(|(short, from)| (short.to_owned(), from.to_owned()))
    );
    // The trail goes with the records to another store.
    let copy = ["state", "copy", "file:state.db", "file:copy.db"];
    let copied = run(&folder, &copy);
    assert!(
        copied.status.success(),
        "{}",
        String::from_utf8_lossy(&copied.stderr)
    );
    assert_eq!(lines(&folder, &["--store", "file:copy.db"]), all);
}

#[test]
fn old_lines_are_forgotten_while_the_broker_runs() {
    let folder = Arc::new(Folder::new());
    let broker = start(&folder, json!({}), &[]);
    for n in 0..1200 {
        let id = n.to_string();
        broker
            .put(
                &instance(&id),
                &json!({ "service_id": "service-1", "plan_id": "plan-1",
            "organization_guid": "o", "space_guid": "s" }),
            )
            .expect(201);
    }
    broker.stop();
    assert_eq!(lines(&folder, &[]).len(), 1200);
    let broker = start(&folder, json!({}), &[("BROKER_AUDIT_FOR", "1ms")]);
    let are_gone = || lines(&folder, &[]).is_empty();
    wait_until(|| printed(&folder, &[]), are_gone);
    broker.stop();
    let broker = start(&folder, json!({}), &[]);
    broker.delete(&(instance("1") + IDS)).expect(200);
    broker.stop();
    assert_eq!(lines(&folder, &[]).len(), 1);
    // Without a trail, what there was goes too.
    let broker = start(&folder, json!({}), &[("BROKER_AUDIT_FOR", "0")]);
    broker.delete(&(instance("0") + IDS)).expect(200);
    wait_until(|| printed(&folder, &[]), are_gone);
    broker.stop();
    assert_eq!(lines(&folder, &[]), [json!(null); 0]);
}

/// Random requests by several users at once, with a kill -9 in the middle of them: each change has its line, and nothing else
/// has. Of a request without an answer, it may have one.
#[test]
fn the_trail_equals_what_clients_saw() {
    let folder = Arc::new(Folder::new());
    let mut expected: BTreeMap<String, Vec<(String, Seen)>> = BTreeMap::new();
    for round in 0..4_u64 {
        let broker = start(&folder, json!({}), &[]);
        let answers = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..4_u64)
                .map(|client| {
                    let (broker, answers) = (&broker, &answers);
                    scope.spawn(move || {
                        let user = format!("user-{client}");
                        let mut seed = round * 7919 + client * 104_729 + 1;
                        let mut seen = Vec::new();
                        for _ in 0..1000 {
                            // Knuth's MMIX.
                            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                            let draw = (seed >> 33) % 100;
                            let id = format!("{client}-{}", (seed >> 50) % 3);
                            let (target, b) = (instance(&id), binding(&id, "b"));
                            let failing = if draw % 7 == 0 { "refuse" } else { "fine" };
                            let parameters = |what: &str| json!({ "parameters": { "n": seed, "why": format!("{failing}-{what}") } });
                            let update = merged(&json!({ "service_id": "service-1" }), parameters("update"));
                            let (what, request) = match draw {
                                0..30 => ("provision", broker.request("PUT", &target).json(&merged(&provision(), parameters("provision")))),
                                30..50 => ("update", broker.request("PATCH", &target).json(&update)),
                                50..70 => ("bind", broker.request("PUT", &b).json(&merged(&bind(), parameters("bind")))),
                                70..85 => ("unbind", broker.request("DELETE", &(b.clone() + IDS))),
                                _ => ("deprovision", broker.request("DELETE", &(target + IDS))),
                            };
                            let request = request.header("X-Vcap-Request-Id", seed.to_string());
                            let answer = request.user(&user).try_send();
                            let place = match what {
                                "bind" | "unbind" => format!("{id}/b"),
                                _ => id.clone(),
                            };
                            let Ok(answer) = answer else {
                                seen.push((id, (seed.to_string(), Seen::Perhaps(what, format!("{place} {user}")))));
                                break;
                            };
                            answers.fetch_add(1, Ordering::SeqCst);
                            let outcome = match (answer.status, what) {
                                (201, _) | (200, "update" | "unbind" | "deprovision") => "succeeded",
                                (500, _) => "failed",
                                _ => continue,
                            };
                            seen.push((id, (seed.to_string(), Seen::Surely(format!("{what} {outcome} {place} {user}")))));
                        }
                        seen
                    })
                })
                .collect();
            while answers.load(Ordering::SeqCst) < 150 + 10 * round as usize {
                std::thread::yield_now();
            }
            support::needs::kill("KILL", &broker.pid().to_string());
            for client in clients {
                for (id, line) in client.join().unwrap() {
                    expected.entry(id).or_default().push(line);
                }
            }
        });
        drop(broker);
    }
    // What the last crash has cut off is settled at the start.
    start(&folder, json!({}), &[]).stop();
    let all = lines(&folder, &[]);
    let mut found: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let shorts = short(&all);
    for (n, line) in all.iter().enumerate() {
        let later = all[n + 1..]
            .iter()
            .find(|it| it["instance_id"] == line["instance_id"]);
        // With an instance its binding goes first, for the same request.
        let implied = line["operation"] == "unbind"
            && later.is_some_and(|it| {
                it["operation"] == "deprovision"
                    && it["requested"] == line["requested"]
                    && it["request_id"] == line["request_id"]
            });
        if !implied {
            let id = line["instance_id"].as_str().unwrap().to_owned();
            let request_id = line["request_id"].as_str().unwrap().to_owned();
            found
                .entry(id)
                .or_default()
                .push((request_id, shorts[n].clone()));
        }
    }
    for (id, wanted) in expected {
        let mut found = found.remove(&id).unwrap_or_default().into_iter().peekable();
        for (request_id, seen) in wanted {
            match seen {
                Seen::Surely(line) => assert_eq!(found.next(), Some((request_id, line)), "{id}"),
                Seen::Perhaps(what, rest) => {
                    let Some((_, line)) = found.next_if(|(found, _)| *found == request_id) else {
                        continue;
                    };
                    let ends = ["succeeded", "failed", "taken_back"];
                    assert!(
                        ends.iter()
                            .any(|end| line == format!("{what} {end} {rest}")),
                        "{line}"
                    );
                }
            }
        }
        assert_eq!(found.next(), None, "{id}");
    }
    assert!(found.is_empty(), "{found:?}");
}

/// What a client knows of a change.
enum Seen {
    Surely(String),
    /// What was asked for, on what and by whom.
    Perhaps(&'static str, String),
}

#[test]
fn a_trail_that_is_cut_short_is_no_success() {
    let folder = Arc::new(Folder::new());
    let broker = start(&folder, json!({}), &[]);
    broker.put(&instance("i"), &provision()).expect(201);
    let full = std::fs::File::options().write(true).open("/dev/full");
    let Ok(full) = full else { return };
    let mut command = brokerlet();
    command
        .current_dir(folder.path())
        .env("BROKER_STORE", "file:state.db");
    let output = command
        .args(["audit", "--json"])
        .stdout(full)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(74), "{told}");
    assert!(
        told.contains("standard output: cannot be written"),
        "{told}"
    );
}

#[test]
fn what_cannot_be_printed_is_told() {
    let folder = Folder::new();
    for (arguments, code, words) in [
        (
            &["audit", "--since", "yesterday"][..],
            64,
            "--since: found \"yesterday\"",
        ),
        (&["audit", "--instance"], 64, "--instance: found nothing"),
        (&["audit", "--json", "--json"], 64, "found twice"),
        (
            &["audit", "everything"],
            64,
            "cannot understand \"everything\"",
        ),
        (
            &["audit", "--store", "memory"],
            64,
            "in the memory of the broker",
        ),
        (&["audit"], 74, "state.db"),
    ] {
        let output = brokerlet()
            .current_dir(folder.path())
            .env("BROKER_STORE", "file:state.db")
            .args(arguments)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(told.contains(words), "{arguments:?}: {told}");
    }
}
