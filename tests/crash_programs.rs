//! kill -9 in the middle of what programs do asynchronously: every operation comes to its end, and what is there is what
//! the platform was told of.

mod support;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use support::programs::{IDS, bind, executable, provision};
use support::{Broker, Folder, Request, Response, Setup, binding, instance};

const ROUNDS: usize = 20;

/// Makes a folder for each instance and a file in it for each binding. On a first attempt it stops for ever before or
/// after its work, as the file `stage` says, once it has written down its process group.
const PROGRAM: &str = r#"#!/bin/sh
input=$(cat)
[ "$(printf '%s' "$input" | jq '.operation_id | length')" ] || exit 1
get() { printf '%s' "$input" | jq -r "$1"; }
attempt=$(get .attempt)
thing=things/$(get .instance_id)
stay() {
  if [ "$attempt$(cat stage)" = "1$1" ]; then
    echo $$ >at.new; mv at.new at
    sleep 300 & wait
    exit 1
  fi
}
stay before
case $1 in
  provision) mkdir -p "$thing"; get .plan.id >"$thing/plan" ;;
  update) get .plan.id >"$thing/plan" ;;
  bind) touch "$thing/$(get .binding_id)" ;;
  unbind) rm -f "$thing/$(get .binding_id)" ;;
  deprovision) rm -rf "$thing" ;;
esac
stay after
echo '{}'
"#;

/// A broker that is killed and started again over the same things.
struct Life {
    folder: Arc<Folder>,
    broker: Broker,
}

impl Life {
    /// `None` where what the program needs is missing.
    fn begin() -> Option<Life> {
        if !support::needs::has(&["jq"]) {
            return None;
        }
        let folder = Arc::new(Folder::new());
        executable(&folder, "program", PROGRAM);
        folder.file("stage", "never");
        let catalog = support::programs::catalog(json!({ "async": true, "timeout": "5m" }));
        folder.file("catalog.json", catalog.to_string());
        let broker = start(&folder);
        Some(Life { folder, broker })
    }

    /// Sends a request that is to be accepted, and returns the query that polls its operation.
    fn accepted(&self, method: &str, target: &str, query: &str, body: Option<&Value>) -> String {
        let target = format!("{target}?accepts_incomplete=true{query}");
        let request = self.broker.request(method, &target);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = request.send().expect(202).json();
        format!("?operation={}", answer["operation"].as_str().unwrap())
    }

    /// The same, and waits for its end.
    fn done(&self, method: &str, target: &str, query: &str, body: Option<&Value>) {
        let operation = self.accepted(method, target, query, body);
        self.ended(target, &operation);
    }

    /// Waits until an operation is not in progress any more. What was deleted is gone; everything else has succeeded.
    fn ended(&self, target: &str, operation: &str) {
        let target = format!("{target}/last_operation{operation}");
        loop {
            let answer = self.broker.get(&target);
            match (answer.status, answer.json()["state"].as_str()) {
                (200, Some("in progress")) => thread::sleep(Duration::from_millis(5)),
                (200, Some("succeeded")) | (410, _) => return,
                other => panic!("{other:?} {}", self.broker.printed()),
            }
        }
    }

    /// Begins an operation, kills the broker in the middle of it, and starts another, which brings it to its end.
    fn cut_off(
        mut self,
        round: usize,
        method: &str,
        target: &str,
        query: &str,
        body: Option<&Value>,
    ) -> Life {
        let stage = ["at once", "before", "after"][round % 3];
        let at = self.folder.path().join("at");
        let _ = std::fs::remove_file(&at);
        self.folder.file("stage", stage);
        let operation = self.accepted(method, target, query, body);
        while stage != "at once" && !at.exists() {
            thread::sleep(Duration::from_millis(2));
        }
        let folder = self.broker.kill();
        kill_all(&folder);
        self.broker = start(&folder);
        self.ended(target, &operation);
        folder.file("stage", "never");
        self
    }

    fn get(&self, target: &str) -> Response {
        self.broker.get(target)
    }

    /// What is there, as the program made it.
    fn things(&self) -> BTreeSet<String> {
        let Ok(things) = self.folder.path().join("things").read_dir() else {
            return BTreeSet::new();
        };
        things
            .map(|thing| thing.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    fn plan(&self, id: &str) -> String {
        let file = self.folder.path().join("things").join(id).join("plan");
        std::fs::read_to_string(file).unwrap().trim().to_owned()
    }

    fn is_bound(&self, id: &str) -> bool {
        self.folder
            .path()
            .join("things")
            .join(id)
            .join("b")
            .exists()
    }
}

/// Kills everything that works in a folder, as when the whole machine goes down.
fn kill_all(folder: &Folder) {
    let folder = folder.path().canonicalize().unwrap();
    let processes = || {
        let processes = Path::new("/proc").read_dir().unwrap().flatten();
        let working_there = processes.filter(|process| {
            process
                .path()
                .join("cwd")
                .read_link()
                .is_ok_and(|cwd| cwd == folder)
        });
        let ids = working_there.filter_map(|process| process.file_name().to_str()?.parse().ok());
        ids.filter_map(Pid::from_raw).collect::<Vec<_>>()
    };
    loop {
        let found = processes();
        if found.is_empty() {
            return;
        }
        for process in found {
            // It may have ended by itself.
            let _ = kill_process(process, Signal::KILL);
        }
    }
}

fn start(folder: &Arc<Folder>) -> Broker {
    Setup::in_folder(folder.clone())
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("BROKER_STORE", "file:state.db")
        .env("BROKER_CATALOG", folder.path().join("catalog.json"))
        .start()
}

fn deletes() -> String {
    IDS.replace('?', "&")
}

#[test]
fn a_provision_that_was_cut_off_makes_one_instance() {
    let Some(mut life) = Life::begin() else {
        return;
    };
    let mut told = BTreeSet::new();
    for round in 0..ROUNDS {
        let id = format!("i-{round}");
        life = life.cut_off(round, "PUT", &instance(&id), "", Some(&provision()));
        life.get(&instance(&id)).expect(200);
        told.insert(id);
        assert_eq!(life.things(), told);
    }
}

#[test]
fn an_update_that_was_cut_off_is_brought_to_its_end() {
    let Some(mut life) = Life::begin() else {
        return;
    };
    let target = instance("i");
    life.done("PUT", &target, "", Some(&provision()));
    for round in 0..ROUNDS {
        let plan = ["plan-2", "plan-1"][round % 2];
        let update = json!({ "service_id": "service-1", "plan_id": plan });
        life = life.cut_off(round, "PATCH", &target, "", Some(&update));
        assert_eq!(life.get(&target).expect(200).json()["plan_id"], plan);
        assert_eq!(life.plan("i"), plan);
    }
}

#[test]
fn a_bind_that_was_cut_off_makes_one_binding() {
    let Some(mut life) = Life::begin() else {
        return;
    };
    life.done("PUT", &instance("i"), "", Some(&provision()));
    let target = binding("i", "b");
    for round in 0..ROUNDS {
        life = life.cut_off(round, "PUT", &target, "", Some(&bind()));
        life.get(&target).expect(200);
        assert!(life.is_bound("i"));
        life.done("DELETE", &target, &deletes(), None);
        assert!(!life.is_bound("i"));
    }
}

#[test]
fn an_unbind_that_was_cut_off_removes_the_binding() {
    let Some(mut life) = Life::begin() else {
        return;
    };
    life.done("PUT", &instance("i"), "", Some(&provision()));
    let target = binding("i", "b");
    for round in 0..ROUNDS {
        life.done("PUT", &target, "", Some(&bind()));
        assert!(life.is_bound("i"));
        life = life.cut_off(round, "DELETE", &target, &deletes(), None);
        life.get(&target).expect(404);
        assert!(!life.is_bound("i"));
    }
}

#[test]
fn a_deprovision_that_was_cut_off_removes_the_instance() {
    let Some(mut life) = Life::begin() else {
        return;
    };
    let target = instance("i");
    for round in 0..ROUNDS {
        life.done("PUT", &target, "", Some(&provision()));
        life.done("PUT", &binding("i", "b"), "", Some(&bind()));
        assert!(life.is_bound("i"));
        life = life.cut_off(round, "DELETE", &target, &deletes(), None);
        life.get(&target).expect(404);
        assert_eq!(life.things(), BTreeSet::new());
        let target = format!("{target}{IDS}");
        let again = Request::new(life.broker.address, "DELETE", &target);
        again.send().expect(410);
    }
}
