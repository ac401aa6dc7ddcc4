//! A disk that is full or cannot be written: what was acknowledged stays, and nothing else changes.
#![cfg(target_os = "linux")]

mod support;

use serde_json::{Value, json};
use std::process::Command;
use std::sync::Arc;
use support::{Folder, IDS, Setup, brokerlet, instance, merged, needs, program, provision};

/// Mounts a small disk over the folder `state`, seen by this process alone, with a file on it that takes a part, and becomes
/// the broker.
const ON_SMALL_DISK: &str = r#"
mkdir state && mount -t tmpfs -o size=512k,mode=700 tmpfs state && head -c 200000 /dev/zero >state/filler || exit 1
exec "$@"
"#;
/// The same with a disk that can only be read.
const ON_READ_ONLY_DISK: &str = r#"
mount --bind state state && mount -o remount,ro,bind state || exit 1
exec "$@"
"#;

/// A broker in a mount namespace of its own, after this script; `None` where there can be none.
fn after(script: &str, setup: impl FnOnce(Command) -> Setup) -> Option<Setup> {
    if !needs::has(&["unshare", "mount", "head"]) {
        return None;
    }
    let unshare = || {
        let mut command = program("unshare");
        command
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .arg("--mount");
        if !needs::is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command
    };
    if !unshare().arg("true").status().unwrap().success() {
        needs::leave_out("unshare makes no mount namespace");
        return None;
    }
    let mut command = unshare();
    command
        .args(["sh", "-c", script, "sh"])
        .arg(brokerlet().get_program());
    Some(setup(command).env("BROKER_STORE", "file:state/brokerlet.db"))
}

fn with_parameters(bytes: usize) -> Value {
    let parameters = json!({ "parameters": { "text": "x".repeat(bytes) } });
    merged(&provision("example_service", "plan_one"), parameters)
}

#[test]
fn a_full_disk_changes_nothing_and_is_over_when_there_is_room() {
    let Some(setup) = after(ON_SMALL_DISK, |command| {
        Setup::of(command, Arc::new(Folder::new()))
    }) else {
        return;
    };
    let broker = setup.start();
    let body = with_parameters(10_000);
    let mut acknowledged = Vec::new();
    let refused = loop {
        let id = format!("i-{}", acknowledged.len());
        let answer = broker.put(&instance(&id), &body);
        if answer.status != 201 {
            break answer;
        }
        acknowledged.push(id);
        assert!(acknowledged.len() < 100, "the disk is never full");
    };
    let refused = refused.expect(503);
    assert!(refused.header("Retry-After").is_some(), "{refused:?}");
    broker.wait_for_print("cannot be written");
    let last = format!("i-{}", acknowledged.len());
    broker.put(&instance(&last), &body).expect(503);
    // What is there can be read.
    for id in &acknowledged {
        broker.put(&instance(id), &body).expect(200);
    }
    broker
        .delete(&format!("{}{IDS}", instance(&last)))
        .expect(410);

    let filler = broker.folder.path().join("state/filler");
    let filler = format!("/proc/{}/root{}", broker.pid(), filler.display());
    std::fs::remove_file(filler).unwrap();
    broker.put(&instance(&last), &body).expect(201);
    for id in acknowledged.iter().chain([&last]) {
        broker.put(&instance(id), &body).expect(200);
    }
}

#[test]
fn a_disk_that_cannot_be_written_is_told_at_the_start() {
    let first = Setup::new();
    std::fs::create_dir(first.folder.path().join("state")).unwrap();
    let folder = first.folder.clone();
    let broker = first.env("BROKER_STORE", "file:state/brokerlet.db").start();
    broker.put(&instance("i"), &with_parameters(1)).expect(201);
    broker.stop();
    let Some(setup) = after(ON_READ_ONLY_DISK, |command| {
        Setup::of(command, folder.clone())
    }) else {
        return;
    };
    let output = setup.run();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(74), "{told}");
    assert!(
        told.starts_with("brokerlet: state/brokerlet.db: "),
        "{told}"
    );
    assert!(told.contains("Read-only file system"), "{told}");
    // And nothing has become of the state.
    let broker = Setup::in_folder(folder)
        .env("BROKER_STORE", "file:state/brokerlet.db")
        .start();
    broker.put(&instance("i"), &with_parameters(1)).expect(200);
}
