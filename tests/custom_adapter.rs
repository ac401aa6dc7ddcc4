//! The example of a broker with an adapter of its own: runs, and is as short as docs/tutorial.md says.

mod support;

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use support::{Broker, Folder, Setup, bind, binding, instance, program, provision};

const IDS: &str = "?service_id=share&plan_id=folder";

/// `cargo test` builds the examples beside the tests: target/<profile>/examples, seen from target/<profile>/deps.
fn example() -> Command {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let path = profile.join("examples/custom_adapter");
    assert!(
        path.is_file(),
        "{} is not there; wanted the example, which `cargo build --examples` builds",
        path.display()
    );
    program(path.to_str().unwrap())
}

fn catalog(adapter: Value) -> Value {
    json!({"services": [{
        "id": "share", "name": "share", "description": "Shared folders", "bindable": true,
        "plans": [{"id": "folder", "name": "folder", "description": "One folder", "adapter": adapter}]
    }]})
}

/// The broker of the example, and the folder in which it makes its folders.
fn start() -> (Broker, PathBuf) {
    let folder = Arc::new(Folder::new());
    let root = folder.path().join("shares");
    std::fs::create_dir(&root).unwrap();
    let broker = Setup::of(example(), folder)
        .env("BROKER_STORE", "memory")
        .catalog(&catalog(json!({"kind": "folder", "root": root})))
        .start();
    (broker, root)
}

fn names_in(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn instances_are_folders_and_bindings_are_files_in_them() {
    let (broker, root) = start();
    let (request, bind) = (provision("share", "folder"), bind("share", "folder"));

    broker.put(&instance("i-1"), &request).expect(201);
    assert_eq!(names_in(&root), ["i-1"]);
    broker.put(&instance("i-1"), &request).expect(200);

    let bound = broker.put(&binding("i-1", "b-1"), &bind).expect(201);
    let token = root.join("i-1/b-1");
    assert_eq!(bound.json(), json!({"credentials": {"file": token}}));
    assert_eq!(std::fs::read_to_string(&token).unwrap(), "app-1");
    let repeated = broker.put(&binding("i-1", "b-1"), &bind).expect(200);
    assert_eq!(repeated.json(), bound.json());

    let unbind = binding("i-1", "b-1") + IDS;
    assert_eq!(broker.delete(&unbind).expect(200).json(), json!({}));
    assert_eq!(names_in(&root.join("i-1")), [""; 0]);
    broker.delete(&unbind).expect(410);

    let delete = instance("i-1") + IDS;
    assert_eq!(broker.delete(&delete).expect(200).json(), json!({}));
    assert_eq!(names_in(&root), [""; 0]);
    broker.delete(&delete).expect(410);

    let (status, _) = broker.stop();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn ids_do_not_lead_out_of_the_folder_nor_to_that_of_another() {
    let (broker, root) = start();
    let (request, bind) = (provision("share", "folder"), bind("share", "folder"));
    let ids = ["..%2F..%2Fi", "..", "a%2Fb", "a_b", "a%252Fb", "%C3%B6"];
    for id in ids {
        broker.put(&instance(id), &request).expect(201);
    }
    for id in ids {
        broker.put(&binding("a_b", id), &bind).expect(201);
    }
    let names = [
        "%2E%2E",
        "%2E%2E%2F%2E%2E%2Fi",
        "%C3%B6",
        "a%252Fb",
        "a%2Fb",
        "a_b",
    ];
    assert_eq!(names_in(&root), names);
    assert_eq!(names_in(&root.join("a_b")), names);
    assert_eq!(names_in(broker.folder.path()), ["catalog.json", "shares"]);

    broker.delete(&(instance("a%2Fb") + IDS)).expect(200);
    assert!(root.join("a_b").is_dir());
    assert!(!root.join("a%2Fb").exists());
}

#[test]
fn a_failure_of_the_adapter_is_the_users_to_read_and_the_operators_to_find() {
    let (broker, root) = start();
    std::fs::remove_dir(&root).unwrap();
    std::fs::write(&root, "a file in the way").unwrap();
    broker
        .put(&instance("i-1"), &provision("share", "folder"))
        .expect_naming(500, "The folder could not be changed.");
    let (_, printed) = broker.stop();
    assert!(
        printed.contains("outcome=failed") && printed.contains(" detail="),
        "{printed}"
    );
}

#[test]
fn settings_of_the_adapter_are_checked_like_those_of_every_other() {
    for (adapter, wanted) in [
        (
            json!({"kind": "folder"}),
            "services[0].plans[0].adapter.root: found nothing, wanted a string",
        ),
        (
            json!({"kind": "folder", "root": "/x", "rot": "/y"}),
            "services[0].plans[0].adapter.rot: unknown key, did you mean \"root\"?",
        ),
        (json!({"kind": "folders"}), "did you mean \"folder\"?"),
    ] {
        let refused = Setup::of(example(), Arc::new(Folder::new()))
            .env("BROKER_STORE", "memory")
            .catalog(&catalog(adapter))
            .run();
        let told = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(78), "{told}");
        assert!(told.contains(wanted), "{told}");
    }
}

#[test]
fn the_example_has_fewer_than_50_lines_of_code() {
    let source = include_str!("../examples/custom_adapter.rs");
    let code = source
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
        .count();
    assert!((20..50).contains(&code), "{code} lines of code");
}
