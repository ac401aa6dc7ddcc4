//! How a program begins and ends, and what is left of it.

use super::{lives, wait_for_end};
use crate::support::programs::{IDS, bind, executable, provision, shell};
use crate::support::{Folder, Setup, binding, brokerlet, instance};
use serde_json::json;

#[test]
fn a_process_left_behind_holds_nothing_up() {
    let script = "sleep 300 & echo $! >daemon; echo '{}'";
    let broker = shell(script, json!({ "timeout": "50s" })).start();
    broker.put(&instance("i-1"), &provision()).expect(201);
    broker.wait_for_print("left behind keeps its output open");
    let daemon = broker.written("daemon");
    assert!(lives(&daemon), "what a program starts as its service stays");
    crate::support::needs::kill("TERM", &daemon);
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
        let catalog = crate::support::programs::catalog(json!({ "command": [command] }));
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
