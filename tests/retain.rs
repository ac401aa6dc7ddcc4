//! Second thoughts about deletions: `"retain"` of a plan, `brokerlet state undelete` and `brokerlet state protect`.

mod support;

use serde_json::{Value, json};
use std::process::Output;
use std::sync::Arc;
use support::programs::{IDS, bind, executable, provision};
use support::{Broker, Folder, Setup, binding, brokerlet, instance, merged, programs, wait_until};

/// Writes down what it is asked to do.
const SCRIPT: &str = r#"#!/bin/sh
cat >/dev/null
echo "$1" >>calls
[ "$1" != deprovision ] || [ ! -e broken ] || { echo '{"error":"busy","description":"Not now."}'; exit 1; }
echo '{"credentials":{}}'
"#;

/// A broker whose state is in a file, with these rules beside the adapter of its first plan.
fn start(folder: &Arc<Folder>, rules: Value, settings: Value) -> Broker {
    executable(folder, "program", SCRIPT);
    let mut catalog = programs::catalog(settings);
    let plan = &mut catalog["services"][0]["plans"][0];
    *plan = merged(plan, rules);
    Setup::in_folder(folder.clone())
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("BROKER_STORE", "file:state.db")
        .catalog(&catalog)
        .start()
}

fn calls(folder: &Folder) -> Vec<String> {
    let text = std::fs::read_to_string(folder.path().join("calls")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// `brokerlet state …` on that file.
fn state(folder: &Folder, arguments: &[&str]) -> Output {
    brokerlet()
        .current_dir(folder.path())
        .env("BROKER_STORE", "file:state.db")
        .arg("state")
        .args(arguments)
        .output()
        .unwrap()
}

#[track_caller]
fn does(folder: &Folder, arguments: &[&str]) -> String {
    let output = state(folder, arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {told}");
    told + &String::from_utf8_lossy(&output.stdout)
}

#[track_caller]
fn fails(folder: &Folder, code: i32, arguments: &[&str], words: &str) {
    let output = state(folder, arguments);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
    assert!(told.contains(words), "{arguments:?}: {told}");
}

/// A broker with an instance `i` and its binding `b`.
fn bound(folder: &Arc<Folder>, rules: Value) -> Broker {
    let broker = start(folder, rules, json!({}));
    broker.put(&instance("i"), &provision()).expect(201);
    broker.put(&binding("i", "b"), &bind()).expect(201);
    broker
}

#[test]
fn a_deleted_instance_is_kept_hidden_and_removed_when_its_time_is_over() {
    let folder = Arc::new(Folder::new());
    let broker = bound(&folder, json!({ "retain": "1s" }));
    let deleted = broker.delete(&(instance("i") + IDS)).expect(200);
    assert_eq!(deleted.json(), json!({}));
    // Its bindings are revoked at once.
    assert_eq!(calls(&folder), ["provision", "bind", "unbind"]);
    broker.get(&instance("i")).expect(404);
    broker.get(&binding("i", "b")).expect(404);
    broker.wait_for_print("event=kept_removed");
    assert_eq!(
        calls(&folder),
        ["provision", "bind", "unbind", "deprovision"]
    );
    // Nothing is left of it.
    assert!(does(&folder, &["list"]).contains("0 service instances"));
    broker.put(&instance("i"), &provision()).expect(201);
}

#[test]
fn to_a_platform_what_is_kept_is_gone() {
    let folder = Arc::new(Folder::new());
    let broker = bound(&folder, json!({ "retain": "1h" }));
    broker.delete(&(instance("i") + IDS)).expect(200);
    broker.delete(&(instance("i") + IDS)).expect(410);
    broker.get(&instance("i")).expect(404);
    broker.get(&(instance("i") + "/last_operation")).expect(404);
    let update = json!({ "service_id": "service-1", "parameters": { "a": 1 } });
    broker.patch(&instance("i"), &update).expect(404);
    broker.put(&binding("i", "c"), &bind()).expect(404);
    broker.delete(&(binding("i", "b") + IDS)).expect(410);
    // What is there must not be lost to another one.
    let refused = broker.put(&instance("i"), &provision());
    refused.expect_naming(409, "is kept until 20");
    let served = broker.get("/v2/catalog").expect(200).json().to_string();
    assert!(!served.contains("retain"), "{served}");
    let page = broker.get("/dashboard/instances").expect(200);
    let page = String::from_utf8(page.body).unwrap();
    assert!(page.contains(">kept</strong>"), "{page}");
    assert_eq!(calls(&folder), ["provision", "bind", "unbind"]);
}

#[test]
fn an_asynchronous_deletion_ends_for_who_polls() {
    let folder = Arc::new(Folder::new());
    let broker = start(
        &folder,
        json!({ "retain": "1h" }),
        json!({ "async": ["deprovision"] }),
    );
    broker.put(&instance("i"), &provision()).expect(201);
    let query = format!("{IDS}&accepts_incomplete=true");
    broker.delete(&(instance("i") + &query)).expect(202);
    broker.settled(&instance("i")).expect(410);
    assert_eq!(calls(&folder), ["provision"]);
    assert!(does(&folder, &["list", "--kept"]).contains("kept until 20"));
}

#[test]
fn an_operator_brings_it_back_while_the_broker_runs_and_not_twice() {
    let folder = Arc::new(Folder::new());
    let broker = bound(&folder, json!({ "retain": "1h" }));
    fails(&folder, 1, &["undelete", "i"], "is not deleted");
    fails(&folder, 1, &["undelete", "nobody"], "not in the state");
    broker.delete(&(instance("i") + IDS)).expect(200);
    let listed = does(&folder, &["list", "--kept", "--json"]);
    let listed: Value = serde_json::from_str(listed.trim()).unwrap();
    assert!(listed["kept_until"].is_string(), "{listed}");
    fails(
        &folder,
        1,
        &["protect", "i"],
        "brokerlet state undelete brings it back",
    );
    assert!(does(&folder, &["undelete", "i"]).contains("\"i\" is back"));
    fails(&folder, 1, &["undelete", "i"], "is not deleted");
    broker.get(&instance("i")).expect(200);
    broker.get(&binding("i", "b")).expect(404);
    broker.put(&instance("i"), &provision()).expect(200);
    broker.put(&binding("i", "c"), &bind()).expect(201);
    assert_eq!(calls(&folder), ["provision", "bind", "unbind", "bind"]);
    // And it can be deleted, and kept, again.
    broker.delete(&(instance("i") + IDS)).expect(200);
    broker.get(&instance("i")).expect(404);
    assert!(does(&folder, &["list"]).contains("kept until 20"));
}

#[test]
fn it_is_kept_over_a_crash_and_without_the_rule() {
    let folder = Arc::new(Folder::new());
    let broker = bound(&folder, json!({ "retain": "2s" }));
    broker.delete(&(instance("i") + IDS)).expect(200);
    broker.kill();
    let broker = start(&folder, json!({}), json!({}));
    broker.get(&instance("i")).expect(404);
    broker.wait_for_print("event=kept_removed");
    assert_eq!(
        calls(&folder),
        ["provision", "bind", "unbind", "deprovision"]
    );
    broker.put(&instance("i"), &provision()).expect(201);
    broker.delete(&(instance("i") + IDS)).expect(200);
    assert_eq!(calls(&folder).last().unwrap(), "deprovision");
}

#[test]
fn a_deletion_that_a_crash_cuts_off_ends_with_what_is_kept() {
    let folder = Arc::new(Folder::new());
    let broker = bound(&folder, json!({ "retain": "1h" }));
    executable(
        &folder,
        "program",
        "#!/bin/sh\necho \"$1\" >>calls\necho here >working\nexec sleep 60\n",
    );
    std::thread::scope(|scope| {
        let request = broker.request("DELETE", &(instance("i") + IDS));
        let cut_off = scope.spawn(|| request.try_send());
        broker.wait_for_file("working");
        support::needs::kill("KILL", &broker.pid().to_string());
        assert!(cut_off.join().unwrap().is_err());
    });
    drop(broker);
    let broker = start(&folder, json!({ "retain": "1h" }), json!({}));
    broker.get(&instance("i")).expect(404);
    let told = broker.printed();
    assert!(told.contains("event=operation_recovered"), "{told}");
    assert_eq!(calls(&folder), ["provision", "bind", "unbind", "unbind"]);
    does(&folder, &["undelete", "i"]);
    broker.get(&instance("i")).expect(200);
    assert!(does(&folder, &["check"]).contains("1 service instance, 0 bindings"));
}

#[test]
fn what_cannot_be_removed_yet_stays_kept() {
    let folder = Arc::new(Folder::new());
    let broker = bound(&folder, json!({ "retain": "1ms" }));
    folder.file("broken", "");
    broker.delete(&(instance("i") + IDS)).expect(200);
    broker.wait_for_print("level=warn event=kept_removed");
    broker.get(&instance("i")).expect(404);
    assert!(does(&folder, &["list", "--kept"]).contains("deprovision failed"));
    // A part of it may be gone.
    fails(&folder, 1, &["undelete", "i"], "has failed");
    broker.kill();
    std::fs::remove_file(folder.path().join("broken")).unwrap();
    let broker = start(&folder, json!({ "retain": "1ms" }), json!({}));
    broker.wait_for_print("level=info event=kept_removed");
    assert!(does(&folder, &["list"]).contains("0 service instances"));
}

/// Nobody asks about it any more, so nobody but the broker itself can settle it.
#[test]
fn a_removal_that_a_crash_cuts_off_is_settled_though_nobody_asks() {
    let folder = Arc::new(Folder::new());
    let broker = start(&folder, json!({ "retain": "1ms" }), json!({}));
    broker.put(&instance("i"), &provision()).expect(201);
    executable(
        &folder,
        "program",
        "#!/bin/sh\necho here >working\nexec sleep 60\n",
    );
    broker.delete(&(instance("i") + IDS)).expect(200);
    broker.wait_for_file("working");
    broker.kill();
    // The start cannot settle it.
    folder.file("broken", "");
    let broker = start(&folder, json!({ "retain": "1ms" }), json!({}));
    assert!(
        broker.printed().contains("event=recovery_failed"),
        "{}",
        broker.printed()
    );
    std::fs::remove_file(folder.path().join("broken")).unwrap();
    // Once a minute, and when the catalog is read anew.
    broker.signal("HUP");
    broker.wait_for_print("event=operation_recovered");
    assert!(does(&folder, &["list"]).contains("0 service instances"));
}

#[test]
fn while_it_is_removed_it_stays_gone() {
    let folder = Arc::new(Folder::new());
    let broker = start(
        &folder,
        json!({ "retain": "100ms" }),
        json!({ "async": ["deprovision"] }),
    );
    broker.put(&instance("i"), &provision()).expect(201);
    executable(
        &folder,
        "program",
        "#!/bin/sh\necho \"$1\" >>calls\necho here >working\nuntil [ -e go ]; do sleep 0.01; done\necho '{}'\n",
    );
    let query = format!("{}{IDS}&accepts_incomplete=true", instance("i"));
    broker.delete(&query).expect(202);
    broker.wait_for_file("working");
    broker.get(&(instance("i") + "/last_operation")).expect(410);
    broker.get(&instance("i")).expect(404);
    broker.delete(&query).expect(410);
    broker.put(&instance("i"), &provision()).expect(409);
    fails(&folder, 74, &["undelete", "i"], "in progress");
    folder.file("go", "");
    wait_until(
        || broker.printed(),
        || does(&folder, &["list"]).contains("0 service instances"),
    );
}

/// One plan whose adapter hangs holds up no other.
#[test]
fn what_hangs_holds_up_nothing_of_other_plans() {
    let folder = Arc::new(Folder::new());
    let hangs =
        "#!/bin/sh\ncat >/dev/null\n[ \"$1\" != deprovision ] || exec sleep 50\necho '{}'\n";
    executable(&folder, "hangs", hangs);
    executable(&folder, "program", SCRIPT);
    let mut catalog = programs::catalog(json!({}));
    catalog["services"][0]["retain"] = json!("1ms");
    catalog["services"][0]["plans"][1]["adapter"]["command"] = json!(["./hangs"]);
    let broker = Setup::in_folder(folder.clone())
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("BROKER_STORE", "file:state.db")
        .catalog(&catalog)
        .start();
    let large = merged(&provision(), json!({ "plan_id": "plan-2" }));
    for n in 0..3 {
        let target = instance(&format!("large-{n}"));
        broker.put(&target, &large).expect(201);
        broker
            .delete(&format!("{target}?service_id=service-1&plan_id=plan-2"))
            .expect(200);
    }
    broker.put(&instance("small"), &provision()).expect(201);
    broker.delete(&(instance("small") + IDS)).expect(200);
    broker.wait_for_print("event=kept_removed instance_id=small");
}

#[test]
fn what_never_was_is_not_kept() {
    let folder = Arc::new(Folder::new());
    executable(
        &folder,
        "program",
        "#!/bin/sh\necho \"$1\" >>calls\n[ \"$1\" != provision ] || exit 1\necho '{}'\n",
    );
    let mut catalog = programs::catalog(json!({}));
    catalog["services"][0]["retain"] = json!("1h");
    let broker = Setup::in_folder(folder.clone())
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("BROKER_STORE", "file:state.db")
        .catalog(&catalog)
        .start();
    broker.put(&instance("i"), &provision()).expect(500);
    broker.delete(&(instance("i") + IDS)).expect(200);
    assert_eq!(calls(&folder).last().unwrap(), "deprovision");
    assert!(does(&folder, &["list"]).contains("0 service instances"));
}

#[test]
fn a_protected_instance_is_not_deleted_and_the_reason_is_told() {
    let folder = Arc::new(Folder::new());
    let broker = bound(&folder, json!({}));
    let reason = "Payroll runs on it.";
    does(&folder, &["protect", "i", "--reason", reason]);
    let before = broker.get(&instance("i")).expect(200).json();
    let refused = broker.delete(&(instance("i") + IDS));
    let refused = refused.expect_error(422, "InstanceProtected");
    assert!(
        refused.description().contains("Payroll runs on it."),
        "{}",
        refused.description()
    );
    assert_eq!(refused.json()["instance_usable"], true);
    assert_eq!(broker.get(&instance("i")).expect(200).json(), before);
    // All else goes on.
    broker.put(&binding("i", "c"), &bind()).expect(201);
    let update = json!({ "service_id": "service-1", "parameters": { "a": 1 } });
    broker.patch(&instance("i"), &update).expect(200);
    broker.delete(&(instance("i") + IDS)).expect(422);
    // Also after a restart.
    broker.kill();
    let broker = start(&folder, json!({}), json!({}));
    broker.delete(&(instance("i") + IDS)).expect(422);
    assert!(!calls(&folder).contains(&"deprovision".to_owned()));
    let listed = does(&folder, &["list", "--protected", "--json"]);
    let listed: Value = serde_json::from_str(listed.trim()).unwrap();
    assert_eq!(listed["protected_reason"], reason);
    does(&folder, &["unprotect", "i"]);
    fails(&folder, 1, &["unprotect", "i"], "is not protected");
    assert!(does(&folder, &["list", "--protected"]).contains("0 service instances"));
    broker.delete(&(instance("i") + IDS)).expect(200);
    fails(&folder, 1, &["protect", "i"], "not in the state");
}

#[test]
fn what_is_being_worked_on_is_left_alone() {
    let folder = Arc::new(Folder::new());
    let broker = start(&folder, json!({}), json!({}));
    broker.put(&instance("i"), &provision()).expect(201);
    executable(
        &folder,
        "program",
        "#!/bin/sh\necho here >working\nuntil [ -e go ]; do sleep 0.01; done\necho '{}'\n",
    );
    let update = json!({ "service_id": "service-1", "parameters": { "a": 1 } });
    std::thread::scope(|scope| {
        let updated = scope.spawn(|| broker.patch(&instance("i"), &update).status);
        broker.wait_for_file("working");
        fails(&folder, 74, &["protect", "i"], "update is in progress");
        folder.file("go", "");
        assert_eq!(updated.join().unwrap(), 200);
    });
    does(&folder, &["protect", "i"]);
    broker.delete(&(instance("i") + IDS)).expect(422);
}

#[test]
fn many_hands_beside_the_broker_lose_nothing() {
    let folder = Arc::new(Folder::new());
    let broker = start(&folder, json!({}), json!({}));
    broker.put(&instance("i"), &provision()).expect(201);
    std::thread::scope(|scope| {
        let hands = scope.spawn(|| {
            for _ in 0..20 {
                does(&folder, &["protect", "i"]);
                does(&folder, &["unprotect", "i"]);
            }
        });
        for n in 0..200 {
            let id = format!("other-{n}");
            broker.put(&instance(&id), &provision()).expect(201);
        }
        hands.join().unwrap();
    });
    assert!(does(&folder, &["list"]).contains("201 service instances"));
    assert!(does(&folder, &["check"]).contains("no faults"));
}

#[test]
fn check_wants_a_duration() {
    let folder = Folder::new();
    let mut wrong = programs::catalog(json!({}));
    wrong["services"][0]["plans"][0]["retain"] = json!("two weeks");
    wrong["services"][0]["plans"][1]["retain"] = json!("9000y");
    wrong["services"][0]["retain"] = json!(14);
    let file = folder.file("catalog.json", wrong.to_string());
    let output = brokerlet().arg("check").arg(file).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    for found in [
        "services[0].plans[0].retain: found \"two weeks\", wanted a duration",
        "services[0].plans[1].retain: found \"9000y\", wanted a duration",
        "services[0].retain: found a number, wanted a duration",
    ] {
        assert!(told.contains(found), "{told}");
    }
}
