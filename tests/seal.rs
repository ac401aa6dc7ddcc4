//! Secrets in the state are sealed: what is on the disk, wrong keys, and new keys.

mod support;

use serde_json::{Value, json};
use std::sync::Arc;
use support::{Broker, Folder, Setup, bind, binding, brokerlet, instance, merged, provision};

const OLD: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const NEW: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

fn catalog() -> Value {
    json!({ "services": [{
        "id": "s", "name": "mail", "description": "Mail", "bindable": true, "bindings_retrievable": true,
        "plans": [{ "id": "p", "name": "small", "description": "Small", "adapter": {
            "kind": "shared", "binding": { "credentials": { "password": "a-secret-password", "key": "${random:32}" } },
        }}],
    }]})
}

fn setup(folder: &Arc<Folder>, keys: &str) -> Setup {
    Setup::in_folder(folder.clone())
        .catalog(&catalog())
        .env("BROKER_SEAL_KEYS", keys)
}

fn on_disk(folder: &Folder) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.starts_with("brokerlet.db") {
            all.extend(std::fs::read(path).unwrap());
        }
    }
    all
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|found| found == text.as_bytes())
}

fn credentials(broker: &Broker) -> Value {
    broker.get(&binding("i", "b")).expect(200).json()
}

#[test]
fn what_is_sealed_is_nowhere_on_the_disk_and_opens_with_the_keys_alone() {
    let folder = Arc::new(Folder::new());
    let broker = setup(&folder, OLD).start();
    let parameters = json!({ "parameters": { "sender": "secret-sender" } });
    broker
        .put(&instance("i"), &merged(&provision("s", "p"), parameters))
        .expect(201);
    broker.put(&binding("i", "b"), &bind("s", "p")).expect(201);
    let given = credentials(&broker);
    assert_eq!(given["credentials"]["password"], "a-secret-password");
    broker.kill();
    let disk = on_disk(&folder);
    let random = given["credentials"]["key"].as_str().unwrap();
    for secret in ["a-secret-password", "secret-sender", random] {
        assert!(!holds(&disk, secret), "{secret} is on the disk");
    }
    assert!(holds(&disk, "organization_guid"), "the rest can be read");

    // Nothing is lost by a wrong key, or none.
    for (keys, wanted) in [
        ("", "which is not in BROKER_SEAL_KEYS"),
        (NEW, "which is not in BROKER_SEAL_KEYS"),
        (
            "c2hvcnQ=",
            "BROKER_SEAL_KEYS: key 1 is not 32 bytes in Base64",
        ),
    ] {
        let output = setup(&folder, keys).run();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{keys}: {told}");
        assert!(told.contains(wanted), "{keys}: {told}");
        assert!(!told.contains("c2hvcnQ") && !told.contains(OLD), "{told}");
    }

    // A new key, in front of the old one, and then alone.
    let broker = setup(&folder, &format!("{NEW},{OLD}")).start();
    broker.wait_for_print("event=sealed records=2");
    assert_eq!(credentials(&broker), given);
    broker.stop();
    let broker = setup(&folder, NEW).start();
    assert_eq!(credentials(&broker), given);
    broker.put(&binding("i", "b"), &bind("s", "p")).expect(200);
    broker.stop();

    let show = |keys: &str, credentials: bool| {
        let mut command = brokerlet();
        command.args(["state", "show", "i", "--json", "--store"]);
        command.arg(format!(
            "file:{}",
            folder.path().join("brokerlet.db").display()
        ));
        command.args(credentials.then_some("--credentials"));
        let output = command.env("BROKER_SEAL_KEYS", keys).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    assert!(show(NEW, true).contains("a-secret-password"));
    assert!(!show(NEW, false).contains("a-secret-password"));
    assert!(show(OLD, true).contains("which is not in BROKER_SEAL_KEYS"));
    let checked = brokerlet()
        .args(["state", "check", "--store"])
        .arg(format!(
            "file:{}",
            folder.path().join("brokerlet.db").display()
        ))
        .output()
        .unwrap();
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn a_state_that_was_there_before_is_sealed() {
    let folder = Arc::new(Folder::new());
    let broker = setup(&folder, "").start();
    broker.put(&instance("i"), &provision("s", "p")).expect(201);
    broker.put(&binding("i", "b"), &bind("s", "p")).expect(201);
    let given = credentials(&broker);
    broker.stop();
    assert!(holds(&on_disk(&folder), "a-secret-password"));
    let file = folder.file("keys", format!("{OLD}\n"));
    let broker = Setup::in_folder(folder.clone())
        .catalog(&catalog())
        .env("BROKER_SEAL_KEYS_FILE", file)
        .start();
    broker.wait_for_print("event=sealed records=1");
    assert_eq!(credentials(&broker), given);
}
