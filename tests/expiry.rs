//! Bindings whose lifetime is over: `"unbind_expired": true`.

mod support;

use serde_json::{Value, json};
use support::programs::shell;
use support::{Broker, Folder, Setup, bind, binding, instance, programs, provision, wait_until};

/// A service with two plans, whose bindings live for so long; those of the first one are unbound then.
fn catalog(lifetime: &str) -> Value {
    let adapter = json!({ "kind": "shared", "binding": { "lifetime": lifetime } });
    json!({ "services": [{
        "id": "mail", "name": "mail", "description": "Mail", "bindable": true,
        "bindings_retrievable": true, "adapter": adapter,
        "plans": [
            { "id": "strict", "name": "strict", "description": "Strict", "unbind_expired": true },
            { "id": "lax", "name": "lax", "description": "Lax" }
        ]
    }]})
}

/// A program that makes bindings whose time has long been over, and does this at an unbind.
fn expiring(unbind: &str, settings: Value) -> Setup {
    let script = format!(
        r#"case $1 in
bind) echo '{{"credentials":{{}},"metadata":{{"expires_at":"2020-01-01T00:00:00.0Z"}}}}' ;;
unbind) {unbind} ;;
*) echo '{{}}' ;;
esac"#
    );
    let setup = shell(&script, settings.clone());
    let mut catalog = programs::catalog(settings);
    catalog["services"][0]["plans"][0]["unbind_expired"] = json!(true);
    setup.catalog(&catalog)
}

/// Waits until the binding is no more.
fn wait_until_gone(broker: &Broker, target: &str) {
    let told = || format!("{target} is still there\n{}", broker.printed());
    wait_until(told, || broker.get(target).status == 404);
}

#[test]
fn an_expired_binding_is_unbound_where_the_plan_says_so() {
    let broker = Broker::with(&catalog("500ms"));
    for plan in ["lax", "strict"] {
        broker
            .put(&instance(plan), &provision("mail", plan))
            .expect(201);
        let target = binding(plan, "b");
        let bound = broker.put(&target, &bind("mail", plan)).expect(201);
        assert!(bound.json()["metadata"]["expires_at"].is_string());
    }
    broker.wait_for_print("event=binding_expired");
    wait_until_gone(&broker, &binding("strict", "b"));
    broker.get(&binding("lax", "b")).expect(200);
    let printed = broker.printed();
    let mut lines = printed
        .lines()
        .filter(|line| line.contains("event=binding_expired"));
    let line = lines.next().unwrap();
    assert!(
        line.contains("instance_id=strict binding_id=b service=mail plan=strict outcome=deleted"),
        "{line}"
    );
    assert_eq!(lines.next(), None);
    // The platform deletes it later, and learns that it is no more.
    let ids = "?service_id=mail&plan_id=strict";
    broker.delete(&(binding("strict", "b") + ids)).expect(410);
    broker.delete(&(instance("strict") + ids)).expect(200);
    // Nobody is served what is between the operator and the broker.
    let served = broker.get("/v2/catalog").expect(200).json().to_string();
    assert!(!served.contains("unbind_expired"), "{served}");
}

#[test]
fn what_expired_while_the_broker_was_down_goes_at_the_next_start() {
    let folder = std::sync::Arc::new(Folder::new());
    // Not yet: the plan does not say so.
    let mut before = catalog("1ms");
    before["services"][0]["plans"][0]["unbind_expired"] = json!(false);
    let broker = Setup::in_folder(folder.clone()).catalog(&before).start();
    let ids = 0..70;
    for n in ids.clone() {
        let id = n.to_string();
        broker
            .put(&instance(&id), &provision("mail", "strict"))
            .expect(201);
        broker
            .put(&binding(&id, "b"), &bind("mail", "strict"))
            .expect(201);
    }
    broker.kill();
    let broker = Setup::in_folder(folder).catalog(&catalog("1h")).start();
    for n in ids {
        wait_until_gone(&broker, &binding(&n.to_string(), "b"));
    }
    // One that lives on.
    broker
        .put(&binding("1", "c"), &bind("mail", "strict"))
        .expect(201);
    broker.get(&binding("1", "c")).expect(200);
}

#[test]
fn a_reload_is_heard() {
    let mut before = catalog("1ms");
    before["services"][0]["plans"][0]["unbind_expired"] = json!(false);
    let broker = Broker::with(&before);
    broker
        .put(&instance("i"), &provision("mail", "strict"))
        .expect(201);
    broker
        .put(&binding("i", "b"), &bind("mail", "strict"))
        .expect(201);
    broker
        .folder
        .file("catalog.json", catalog("1h").to_string());
    broker.signal("HUP");
    broker.wait_for_print("event=reloaded");
    wait_until_gone(&broker, &binding("i", "b"));
}

#[test]
fn the_adapter_revokes_what_it_has_made() {
    for is_async in [false, true] {
        let settings = json!({ "async": is_async });
        let broker = expiring("echo gone >>unbound; echo '{}'", settings).start();
        let query = format!("?accepts_incomplete={is_async}");
        broker.put(&(instance("i") + &query), &programs::provision());
        broker.settled(&instance("i"));
        let target = binding("i", "b");
        let bound = broker.put(&(target.clone() + &query), &programs::bind());
        assert!(matches!(bound.status, 201 | 202));
        broker.settled(&target);
        broker.wait_for_file("unbound");
        wait_until_gone(&broker, &target);
        assert_eq!(broker.written("unbound"), "gone\n");
        let line = if is_async {
            "outcome=accepted"
        } else {
            "outcome=deleted"
        };
        broker.wait_for_print(line);
    }
}

#[test]
fn what_cannot_be_revoked_stays_and_is_tried_again() {
    let unbind = r#"echo x >>tries; [ -e mended ] && echo '{}' || { echo '{"error":"busy","description":"Not now."}'; exit 1; }"#;
    let setup = expiring(unbind, json!({})).env("BROKER_STORE", "file:state.db");
    let broker = setup.start();
    broker
        .put(&instance("i"), &programs::provision())
        .expect(201);
    let target = binding("i", "b");
    broker.put(&target, &programs::bind()).expect(201);
    broker.wait_for_print("event=binding_expired");
    let printed = broker.printed();
    assert!(
        printed.contains("level=warn event=binding_expired"),
        "{printed}"
    );
    assert!(printed.contains("error=\"Not now.\""), "{printed}");
    broker.get(&target).expect(200);
    // Not at once: what has failed may fail for long.
    assert_eq!(broker.written("tries"), "x\n");
    let folder = broker.kill();
    folder.file("mended", "");
    let broker = Setup::in_folder(folder.clone())
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("BROKER_STORE", "file:state.db")
        .env("BROKER_CATALOG", folder.path().join("catalog.json"))
        .start();
    wait_until_gone(&broker, &target);
    assert_eq!(broker.written("tries"), "x\nx\n");
}

/// A binding that was made anew while the one before it waited for its turn.
#[test]
fn a_new_binding_of_the_same_id_is_left_alone() {
    let slow =
        "[ -e fast ] || { echo here >working; until [ -e fast ]; do sleep 0.01; done; }; echo '{}'";
    let script = format!(
        r#"case $1 in
bind) case $input in *lasting*) at=2099 ;; *) at=2020 ;; esac
  echo '{{"credentials":{{}},"metadata":{{"expires_at":"'$at'-01-01T00:00:00.0Z"}}}}' ;;
unbind) case $input in *'"binding_id":"a"'*) {slow} ;; *) echo '{{}}' ;; esac ;;
*) echo '{{}}' ;;
esac"#
    );
    let setup = shell(&script, json!({ "concurrency": 4 }));
    let mut catalog = programs::catalog(json!({ "concurrency": 4 }));
    let broker = setup.catalog(&catalog).start();
    for (id, b) in [("i", "a"), ("j", "b")] {
        broker
            .put(&instance(id), &programs::provision())
            .expect(201);
        broker.put(&binding(id, b), &programs::bind()).expect(201);
    }
    catalog["services"][0]["unbind_expired"] = json!(true);
    broker.folder.file("catalog.json", catalog.to_string());
    broker.signal("HUP");
    broker.wait_for_file("working");
    broker
        .delete(&(binding("j", "b") + programs::IDS))
        .expect(200);
    let mut lasting = programs::bind();
    lasting["parameters"] = json!({ "how": "lasting" });
    broker.put(&binding("j", "b"), &lasting).expect(201);
    broker.folder.file("fast", "");
    wait_until_gone(&broker, &binding("i", "a"));
    broker.wait_for_print("event=binding_expired instance_id=i");
    broker.get(&binding("j", "b")).expect(200);
}

#[test]
fn check_wants_true_or_false() {
    let folder = Folder::new();
    let mut wrong = catalog("1h");
    wrong["services"][0]["unbind_expired"] = json!("yes");
    wrong["services"][0]["plans"][1]["unbind_expired"] = json!(1);
    let file = folder.file("catalog.json", wrong.to_string());
    let output = support::brokerlet()
        .arg("check")
        .arg(file)
        .output()
        .unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    for place in [
        "services[0].unbind_expired",
        "services[0].plans[1].unbind_expired",
    ] {
        assert!(told.contains(&format!(" {place}: found ")), "{told}");
    }
}
