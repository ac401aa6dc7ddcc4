//! `brokerlet adapter-test`: what it finds in programs that keep the contract, and in those that do not.

mod support;

use serde_json::{Value, json};
use std::process::{Command, Output};
use support::programs::{catalog, executable};
use support::{Folder, brokerlet, merged, needs};

/// A program that does everything right. Each instance and binding is a file beside it.
const GOOD: &str = r#"
instance=$(printf '%s' "$input" | sed 's/.*"instance_id":"\([^"]*\)".*/\1/')
binding=$(printf '%s' "$input" | sed -n 's/.*"binding_id":"\([^"]*\)".*/\1/p')
mkdir -p made
case $1 in
provision) echo '{"progress":"Making it"}'; sleep 0.4; : >"made/$instance"; echo '{"state":{"name":"'"$instance"'"}}' ;;
update) echo '{}' ;;
deprovision) rm -f "made/$instance" "made/$instance".*; echo '{}' ;;
bind) : >"made/$instance.$binding"; echo '{"credentials":{"password":"hunter22"}}' ;;
unbind) rm -f "made/$instance.$binding"; echo '{}' ;;
esac"#;

struct Tried {
    folder: Folder,
    output: Output,
}

impl Tried {
    fn printed(&self) -> String {
        String::from_utf8(self.output.stdout.clone()).unwrap()
    }

    /// What is left of the program's work.
    fn left(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("made"))
            .unwrap()
            .count()
    }

    /// Asserts that this step failed, and that these lines below it say why.
    #[track_caller]
    fn expect_failed(&self, step: &str, why: &[&str]) {
        assert_eq!(self.output.status.code(), Some(1));
        let printed = self.printed();
        let (_, rest) = printed
            .split_once(&format!("  FAIL  {step}\n"))
            .unwrap_or_else(|| panic!("{step:?} did not fail:\n{printed}"));
        let below: Vec<&str> = rest
            .lines()
            .take_while(|line| line.starts_with("        "))
            .collect();
        for why in why {
            assert!(
                below.iter().any(|line| line.contains(why)),
                "{why:?} is not below:\n{printed}"
            );
        }
    }
}

/// Tries the plan `small`, fulfilled by this program in a shell, of a catalog with these settings.
fn try_script(script: &str, settings: Value) -> Tried {
    try_catalog(script, catalog(settings))
}

fn try_catalog(script: &str, catalog: Value) -> Tried {
    let folder = Folder::new();
    executable(
        &folder,
        "program",
        &format!("#!/bin/sh\ninput=$(cat)\n{script}\n"),
    );
    let file = folder.file("catalog.json", catalog.to_string());
    let mut command = brokerlet();
    command
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("ADMIN", "admin-secret");
    let output = command
        .arg("adapter-test")
        .arg(file)
        .args(["--plan", "small"])
        .output()
        .unwrap();
    Tried { folder, output }
}

#[test]
fn a_program_that_keeps_the_contract_passes() {
    let tried = try_script(GOOD, json!({}));
    assert_eq!(
        tried.printed(),
        "\
database, plan small (exec)
        provision: Making it
  ok    provision
        provision again: Making it
  ok    provision again
  ok    bind
  ok    bind again
  ok    unbind
  ok    unbind again
  ok    unbind of a binding that was never made
  ok    update
  ok    update again
  ok    deprovision
  ok    deprovision again
        provision, killed in the middle: Making it
  ok    provision, killed in the middle
        provision again after the kill: Making it
  ok    provision again after the kill
  ok    deprovision
        provision, killed in the middle: Making it
  ok    provision, killed in the middle
  ok    deprovision after a kill, without state
  ok    deprovision of an instance that was never made
1 plan: every call did what it must
"
    );
    assert_eq!(tried.output.status.code(), Some(0));
    assert_eq!(tried.left(), 0);
}

#[test]
fn every_breach_is_found_and_shown() {
    let with = |cases: &str| format!("case $1 in\n{cases}\nesac{GOOD}");
    for (script, step, why) in [
        (
            with("provision) mkdir once || { echo 'it is there' >&2; exit 1; } ;;"),
            "provision again",
            &[
                "the user reads: The program",
                "exit status: 1",
                "| it is there",
            ][..],
        ),
        (
            with("provision) echo '{\"dashboard_url\":\"https://x/'$$'\"}'; exit ;;"),
            "provision again",
            &[
                "another \"dashboard_url\"",
                "> {\"dashboard_url\":\"https://x/",
            ],
        ),
        (
            with("bind) echo CREATE ROLE ;;"),
            "bind",
            &["line 1 of its output is not JSON", "> CREATE ROLE"],
        ),
        (
            with("bind) echo '{\"syslog_drain_url\":\"syslog://x\"}'; exit ;;"),
            "bind",
            &["\"requires\": [\"syslog_drain\"]"],
        ),
        (
            with("unbind) mkdir once || exit 1 ;;"),
            "unbind again",
            &["exit status: 1"],
        ),
        (with("update) exit 3 ;;"), "update", &["exit status: 3"]),
        (
            with("deprovision) mkdir once || exit 1 ;;"),
            "deprovision again",
            &["exit status: 1"],
        ),
        (
            // A lock that nobody removes after a crash.
            with("provision) mkdir lock || exit 1; trap 'rmdir lock' EXIT ;;"),
            "provision again after the kill",
            &["exit status: 1"],
        ),
        (
            with("deprovision) case $input in *'\"state\":{}'*) exit 4 ;; esac ;;"),
            "deprovision after a kill, without state",
            &["exit status: 4"],
        ),
        (
            with("deprovision) case $input in *'\"state\":{}'*) exit 4 ;; esac ;;"),
            "deprovision of an instance that was never made",
            &["exit status: 4"],
        ),
    ] {
        try_script(&script, json!({})).expect_failed(step, why);
    }
}

#[test]
fn what_was_made_is_deleted_even_after_a_failure() {
    let script = format!("case $1 in bind | update) exit 1 ;; esac{GOOD}");
    let tried = try_script(&script, json!({}));
    tried.expect_failed("bind", &["exit status: 1"]);
    tried.expect_failed("update", &["exit status: 1"]);
    assert!(
        tried
            .printed()
            .ends_with("1 plan: 2 calls did not do what they must\n")
    );
    assert_eq!(tried.left(), 0);
}

#[test]
fn what_is_left_out_after_a_failure_is_named() {
    for (operation, wanted) in [
        (
            "provision",
            "provision again; bind; unbind; update; provision, killed in the middle",
        ),
        ("bind", "bind again"),
        ("update", "update again"),
        ("unbind", "unbind again"),
        ("deprovision", "deprovision again"),
    ] {
        let tried = try_script(
            &format!("case $1 in {operation}) exit 1 ;; esac{GOOD}"),
            json!({}),
        );
        let printed = tried.printed();
        let line = format!("\n  left out after a failure: {wanted}\n1 plan: ");
        assert!(printed.contains(&line), "{line:?}\n{printed}");
    }
}

#[test]
fn wrong_or_missing_parameters_are_hinted_at() {
    let refusal = r#"echo '{"error":"invalid","description":"size: found nothing"}'; exit 1"#;
    for (operation, command, option) in [
        ("provision", "create-service", "--parameters"),
        ("update", "update-service", "--update-parameters"),
        ("bind", "bind-service", "--bind-parameters"),
    ] {
        let tried = try_script(
            &format!("case $1 in {operation}) {refusal} ;; esac{GOOD}"),
            json!({}),
        );
        let hint =
            format!("hint: what users give with cf {command} -c is given here with {option} JSON");
        tried.expect_failed(operation, &["the user reads: size: found nothing", &hint]);
    }
    // The broker knows itself what is missing.
    let mut offered = catalog(json!({}));
    let adapter = |binding: Value| json!({ "kind": "shared", "instance": { "dashboard_url": "https://x.example.com" }, "binding": binding });
    offered["services"][0]["plans"][0]["adapter"] =
        adapter(json!({ "credentials": { "from": "${parameters.mail.sender}" } }));
    let tried = try_catalog(GOOD, offered.clone());
    let hint = r#"bind-service -c is given here with --bind-parameters '{"mail": {"sender": …}}'"#;
    tried.expect_failed("bind", &["parameters.mail.sender: missing", hint]);
    // A place that adapter-test does not have is no parameter, and a failure is no wrong request.
    offered["services"][0]["plans"][0]["adapter"] =
        adapter(json!({ "credentials": { "from": "${context.cluster}" } }));
    for tried in [try_catalog(GOOD, offered), try_script("exit 1", json!({}))] {
        assert!(!tried.printed().contains("hint: "), "{}", tried.printed());
    }
}

#[test]
fn a_binding_that_gives_nothing_is_noted() {
    let note =
        "  ok    bind\n        note: it returned no credentials, so the app learns nothing\n";
    for (result, is_noted) in [
        ("{}", true),
        (r#"{"credentials":{}}"#, true),
        (r#"{"credentials":{"a":1}}"#, false),
    ] {
        let tried = try_script(
            &format!("case $1 in bind) echo '{result}'; exit ;; esac{GOOD}"),
            json!({}),
        );
        assert_eq!(tried.output.status.code(), Some(0));
        assert_eq!(tried.printed().contains(note), is_noted, "{result}");
    }
    let mut drain = catalog(json!({}));
    drain["services"][0]["requires"] = json!(["syslog_drain"]);
    let bind = r#"{"syslog_drain_url":"syslog://logs.example.com"}"#;
    let tried = try_catalog(
        &format!("case $1 in bind) echo '{bind}'; exit ;; esac{GOOD}"),
        drain,
    );
    assert!(!tried.printed().contains("note: "), "{}", tried.printed());
}

#[test]
fn a_plan_may_do_less() {
    let unsupported = r#"case $1 in update) echo '{"error":"unsupported","description":"It cannot grow."}'; exit ;; esac"#;
    let mut catalog = catalog(json!({}));
    catalog["services"][0]["plans"][0]["bindable"] = json!(false);
    let tried = try_catalog(&format!("{unsupported}{GOOD}"), catalog);
    let printed = tried.printed();
    assert_eq!(tried.output.status.code(), Some(0), "{printed}");
    assert!(
        printed.contains("  skip  update\n        It cannot grow.\n"),
        "{printed}"
    );
    assert!(!printed.contains("bind"), "{printed}");
}

#[test]
fn a_program_that_asks_for_it_is_called_again() {
    let script =
        format!("case $1 in bind) mkdir once && {{ echo busy >&2; exit 75; }} ;; esac{GOOD}");
    let tried = try_script(&script, json!({}));
    assert_eq!(tried.output.status.code(), Some(0), "{}", tried.printed());
    assert!(
        tried
            .printed()
            .contains("        bind: asks to be called again, in 1s: busy\n  ok    bind\n")
    );
}

#[test]
fn secrets_of_the_environment_are_not_shown() {
    let script = r#"echo "{\"error\":\"x\",\"description\":\"$A\"}"; echo "as $A" >&2; exit 1"#;
    let tried = try_script(script, json!({ "env": { "A": "${env:ADMIN}" } }));
    tried.expect_failed(
        "provision",
        &["the user reads: ***", "| as ***", "\"description\":\"***\""],
    );
    assert!(!tried.printed().contains("admin-secret"));
}

#[test]
fn plans_are_chosen_by_name() {
    let folder = Folder::new();
    executable(
        &folder,
        "program",
        &format!("#!/bin/sh\ninput=$(cat)\n{GOOD}\n"),
    );
    let mut offered = catalog(json!({}));
    let other = merged(
        &offered["services"][0],
        json!({ "id": "service-2", "name": "other", "plans": [{ "id": "plan-3", "name": "small", "description": "Small" }] }),
    );
    offered["services"].as_array_mut().unwrap().push(other);
    let file = folder.file("catalog.json", offered.to_string());
    let run = |arguments: &[&str]| {
        let mut command = brokerlet();
        command.env("PATH", std::env::var_os("PATH").unwrap());
        let output = command
            .arg("adapter-test")
            .arg(&file)
            .args(arguments)
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let plans = printed.lines().filter(|line| line.contains(", plan "));
        let plans: Vec<String> = plans.map(str::to_owned).collect();
        (
            output.status.code().unwrap(),
            plans,
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let other = "other, plan small (shared)";
    let small = "database, plan small (exec)";
    assert_eq!(run(&["--service", "other"]).1, [other]);
    assert_eq!(run(&["--plan", "small"]).1, [small, other]);
    assert_eq!(
        run(&["--plan", "small", "--service", "database"]).1,
        [small]
    );
    let (code, plans, complaint) = run(&["--plan", "medium"]);
    assert_eq!((code, plans.len()), (1, 0));
    assert!(
        complaint.contains("--service database --plan small\n"),
        "{complaint}"
    );
    let (code, _, complaint) = run(&["--plans", "small"]);
    assert_eq!(code, 64);
    assert!(
        complaint.contains("unknown option --plans") && complaint.contains("Usage:"),
        "{complaint}"
    );
}

/// Each call gets what a platform would send with it: an update what changes, and beside it how things were and will be.
#[test]
fn parameters_are_given_as_users_give_them() {
    if !needs::has(&["jq"]) {
        return;
    }
    let folder = Folder::new();
    let script = r#"printf '%s' "$input" | jq -c "[\"$1\", .parameters, .changes, .previous.parameters]" >>seen"#;
    executable(
        &folder,
        "program",
        &format!("#!/bin/sh\ninput=$(cat)\n{script}\n{GOOD}\n"),
    );
    let file = folder.file("catalog.json", catalog(json!({})).to_string());
    let update = folder.file("update.json", r#"{ "size": 2, "colour": null }"#);
    let mut command = brokerlet();
    command.env("PATH", std::env::var_os("PATH").unwrap());
    let output = command
        .arg("adapter-test")
        .arg(&file)
        .args(["--plan", "small", "--parameters"])
        .arg(r#"{"size":1,"colour":"red"}"#)
        .args(["--bind-parameters", r#"{"role":"reader"}"#])
        .arg("--update-parameters")
        .arg(&update)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let seen = std::fs::read_to_string(folder.path().join("seen")).unwrap();
    let seen: Vec<Value> = seen
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let made = json!({ "size": 1, "colour": "red" });
    for wanted in [
        json!(["provision", made, null, null]),
        json!(["bind", { "role": "reader" }, null, null]),
        json!(["update", { "size": 2 }, { "size": 2, "colour": null }, made]),
        json!(["deprovision", { "size": 2 }, null, null]),
    ] {
        assert!(seen.contains(&wanted), "{wanted} is not in {seen:?}");
    }
}

#[test]
fn a_catalog_that_is_wrong_is_not_tried() {
    let tried = try_script(GOOD, json!({ "timeot": "5s" }));
    assert_eq!(tried.output.status.code(), Some(1));
    assert_eq!(tried.printed(), "");
    let complaint = String::from_utf8(tried.output.stderr).unwrap();
    assert!(
        complaint.contains("plans[0].adapter.timeot: unknown key, did you mean \"timeout\"?"),
        "{complaint}"
    );
}

/// `script` of other systems takes other arguments.
#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_the_progress_is_live() {
    if !needs::has(&["script"]) {
        return;
    }
    let folder = Folder::new();
    executable(
        &folder,
        "program",
        &format!("#!/bin/sh\ninput=$(cat)\n{GOOD}\n"),
    );
    folder.file("catalog.json", catalog(json!({})).to_string());
    let tried = format!(
        "{} adapter-test catalog.json --plan small",
        env!("CARGO_BIN_EXE_brokerlet")
    );
    // util-linux: runs a command in a terminal of its own.
    let output = Command::new("script")
        .args(["-qec", &tried, "/dev/null"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}");
    let live = printed
        .split_once("\r\x1b[K  ....  provision (")
        .expect(&printed)
        .1;
    assert!(
        live.split_once("): Making it").unwrap().0.ends_with(" s"),
        "{printed}"
    );
    assert!(printed.contains("\r\x1b[K  ok    provision ("), "{printed}");
}

#[test]
fn who_interrupts_it_leaves_nothing_behind() {
    let folder = Folder::new();
    let script = format!("case $1 in bind) echo $$ >self; sleep 300 & wait ;; esac{GOOD}");
    executable(
        &folder,
        "program",
        &format!("#!/bin/sh\ninput=$(cat)\n{script}\n"),
    );
    let file = folder.file("catalog.json", catalog(json!({})).to_string());
    let mut command = brokerlet();
    command.env("PATH", std::env::var_os("PATH").unwrap());
    let tried = command
        .arg("adapter-test")
        .arg(file)
        .args(["--plan", "small"])
        .spawn()
        .unwrap();
    let own = folder.path().join("self");
    let pid = loop {
        match std::fs::read_to_string(&own) {
            Ok(pid) if pid.ends_with('\n') => break pid,
            _ => std::thread::sleep(std::time::Duration::from_millis(5)),
        }
    };
    needs::kill("INT", &tried.id().to_string());
    let output = tried.wait_with_output().unwrap();
    let tried = Tried { folder, output };
    let printed = tried.printed();
    assert_eq!(tried.output.status.code(), Some(1), "{printed}");
    assert!(
        printed.contains("  skip  bind\n        interrupted\n"),
        "{printed}"
    );
    assert!(
        printed.ends_with("  ok    deprovision\n1 plan: interrupted\n"),
        "{printed}"
    );
    assert_eq!(tried.left(), 0);
    assert!(!std::path::Path::new("/proc").join(pid.trim()).exists());
}
