//! `brokerlet state adopt`: instances and bindings of another broker, which platforms go on with.

mod support;

use serde_json::{Value, json};
use std::io::Write;
use std::process::{Output, Stdio};
use std::sync::Arc;
use support::programs::{self, executable};
use support::{
    Broker, Folder, Setup, bind, binding, brokerlet, instance, merged, provision, without,
};

const SECRET: &str = "geheim-1";

/// Two plans that need nothing, one whose bindings have random values, and one that has no bindings.
fn shared() -> Value {
    let plan = |name: &str, credentials: Value| {
        json!({
            "id": format!("{name}-id"), "name": name, "description": "A plan",
            "adapter": { "kind": "shared", "binding": { "credentials": credentials },
                "instance": { "dashboard_url": "https://example.com/${instance_id}" } }
        })
    };
    let mut closed = plan("closed", json!({}));
    closed["bindable"] = json!(false);
    closed["adapter"].as_object_mut().unwrap().remove("binding");
    json!({ "services": [{
        "id": "mail-id", "name": "mail", "description": "Mail", "bindable": true, "plan_updateable": true,
        "instances_retrievable": true, "bindings_retrievable": true,
        "plans": [
            plan("small", json!({ "password": SECRET, "sender": "${parameters.sender}" })),
            plan("large", json!({ "password": SECRET })),
            plan("random", json!({ "password": "${random:8}" })),
            closed,
        ]
    }]})
}

struct House {
    folder: Arc<Folder>,
    catalog: Value,
}

struct Ended {
    code: Option<i32>,
    printed: String,
    told: String,
}

impl House {
    fn new(catalog: Value) -> House {
        let folder = Arc::new(Folder::new());
        folder.file("catalog.json", catalog.to_string());
        House { folder, catalog }
    }

    fn run(&self, arguments: &[&str], input: &str) -> Ended {
        let mut command = brokerlet();
        command
            .arg("state")
            .args(arguments)
            .args(["--store", "file:brokerlet.db"]);
        command
            .current_dir(self.folder.path())
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("BROKER_CATALOG", "catalog.json")
            .stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Whoever refuses the arguments reads nothing.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let Output {
            status,
            stdout,
            stderr,
        } = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let ended = Ended {
            code: status.code(),
            printed: text(stdout),
            told: text(stderr),
        };
        // An export holds it, and nothing else may.
        if arguments[0] == "adopt" {
            let all = format!("{}{}", ended.printed, ended.told);
            assert!(!all.contains(SECRET), "{all}");
        }
        ended
    }

    /// From standard input, with these options.
    fn adopt(&self, list: &[Value], options: &[&str]) -> Ended {
        let lines: Vec<String> = list.iter().map(Value::to_string).collect();
        self.run(&[&["adopt", "-"], options].concat(), &lines.join("\n"))
    }

    /// Everything is there then.
    #[track_caller]
    fn adopted(&self, list: &[Value]) -> String {
        let ended = self.adopt(list, &[]);
        assert_eq!(ended.code, Some(0), "{}{}", ended.printed, ended.told);
        ended.printed
    }

    /// The reason of the only line, after which nothing has changed.
    #[track_caller]
    fn refused(&self, line: Value) -> String {
        let before = self.exported();
        let ended = self.adopt(&[line], &[]);
        assert_eq!(ended.code, Some(1), "{}{}", ended.printed, ended.told);
        assert!(
            ended.told.contains("1 refused; nothing was changed"),
            "{}",
            ended.told
        );
        assert_eq!(self.exported(), before);
        ended.printed
    }

    /// The records, without the line that says when.
    fn exported(&self) -> Vec<String> {
        let ended = self.run(&["export"], "");
        ended.printed.lines().skip(1).map(str::to_owned).collect()
    }

    fn start(&self) -> Broker {
        let setup = Setup::in_folder(self.folder.clone()).catalog(&self.catalog);
        setup.env("PATH", std::env::var_os("PATH").unwrap()).start()
    }
}

/// As the platform has made it at the other broker.
fn listed(id: &str, plan: &str) -> Value {
    merged(
        &provision("mail-id", &format!("{plan}-id")),
        json!({ "instance_id": id }),
    )
}

fn listed_binding(instance: &str, id: &str) -> Value {
    json!({
        "instance_id": instance, "binding_id": id,
        "app_guid": "app-1", "bind_resource": { "app_guid": "app-1", "space_guid": "space-1" }
    })
}

#[test]
fn what_was_adopted_is_as_if_it_had_been_made_here() {
    let house = House::new(shared());
    let credentials = json!({ "password": SECRET, "sender": "me" });
    let list = [
        merged(
            &listed("i-1", "small"),
            json!({ "parameters": { "sender": "me" }, "dashboard_url": "https://old.example.com/1" }),
        ),
        merged(
            &listed_binding("i-1", "b-1"),
            json!({ "credentials": { "user": "old" } }),
        ),
        listed_binding("i-1", "b-2"),
        // By names, and without anything that need not be there.
        json!({ "instance_id": "i-2", "service": "mail", "plan": "closed",
            "organization_guid": "org-1", "space_guid": "space-1" }),
    ];
    let printed = house.adopted(&list);
    let wanted = "\
line 1: service instance \"i-1\": verified
line 2: service binding \"b-1\" of service instance \"i-1\": verified
line 3: service binding \"b-2\" of service instance \"i-1\": verified
line 4: service instance \"i-2\": verified
";
    assert_eq!(printed, wanted);

    let broker = house.start();
    let fetched = broker.get(&instance("i-1")).expect(200).json();
    let wanted = json!({
        "service_id": "mail-id", "plan_id": "small-id", "parameters": { "sender": "me" },
        "dashboard_url": "https://old.example.com/1"
    });
    assert_eq!(fetched, wanted);
    // A repeat of the platform's own requests.
    let same = merged(
        &provision("mail-id", "small-id"),
        json!({ "parameters": { "sender": "me" } }),
    );
    let again = broker.put(&instance("i-1"), &same).expect(200).json();
    assert_eq!(
        again,
        json!({ "dashboard_url": "https://old.example.com/1" })
    );
    let bound = bind("mail-id", "small-id");
    let again = broker
        .put(&binding("i-1", "b-1"), &bound)
        .expect(200)
        .json();
    assert_eq!(again, json!({ "credentials": { "user": "old" } }));
    let again = broker
        .put(&binding("i-1", "b-2"), &bound)
        .expect(200)
        .json();
    assert_eq!(again, json!({ "credentials": credentials }));
    broker
        .put(&instance("i-1"), &provision("mail-id", "small-id"))
        .expect(409);
    let fetched = broker.get(&instance("i-2")).expect(200).json();
    assert_eq!(fetched["dashboard_url"], "https://example.com/i-2");

    // And its life goes on.
    broker.put(&binding("i-1", "b-3"), &bound).expect(201);
    broker
        .patch(
            &instance("i-1"),
            &json!({ "service_id": "mail-id", "plan_id": "large-id" }),
        )
        .expect(200);
    let query = "?service_id=mail-id&plan_id=";
    for id in ["b-1", "b-2", "b-3"] {
        broker
            .delete(&format!("{}{query}small-id", binding("i-1", id)))
            .expect(200);
    }
    broker
        .delete(&format!("{}{query}large-id", instance("i-1")))
        .expect(200);
    broker.get(&instance("i-1")).expect(404);
}

#[test]
fn the_same_list_again_changes_nothing_and_another_one_is_refused() {
    let house = House::new(shared());
    let (one, two) = (listed("i-1", "large"), listed_binding("i-1", "b-1"));
    house.adopted(&[one.clone(), two.clone()]);
    let before = house.exported();
    let ended = house.adopt(&[one.clone(), two.clone()], &[]);
    assert_eq!(ended.code, Some(0));
    assert_eq!(
        ended.printed.matches(": there already\n").count(),
        2,
        "{}",
        ended.printed
    );
    assert!(
        ended
            .told
            .contains("0 records taken over, 2 there already, 0 refused"),
        "{}",
        ended.told
    );
    assert_eq!(house.exported(), before);
    // A list may go on with what an earlier one has begun.
    house.adopted(&[one.clone(), two.clone(), listed_binding("i-1", "b-2")]);
    house.adopted(&[listed_binding("i-1", "b-3")]);
    for (line, changes, field) in [
        (&one, json!({ "plan_id": "closed-id" }), "plan_id"),
        (&one, json!({ "space_guid": "other" }), "space_guid"),
        (&one, json!({ "parameters": { "a": SECRET } }), "parameters"),
        (
            &one,
            json!({ "dashboard_url": "https://example.com/other" }),
            "dashboard_url",
        ),
        (
            &two,
            json!({ "bind_resource": {}, "app_guid": "other" }),
            "app_guid",
        ),
        (
            &two,
            json!({ "credentials": { "password": "other" } }),
            "credentials",
        ),
    ] {
        let printed = house.refused(merged(line, changes));
        let wanted = format!(": refused: is in the state already, with another {field}\n");
        assert!(printed.ends_with(&wanted), "{printed}");
    }
}

#[test]
fn nothing_is_written_unless_all_is_verified_or_it_was_asked_for() {
    let house = House::new(shared());
    let list = [
        listed("i-1", "large"),
        listed("i-2", "small"),
        listed_binding("i-2", "b-1"),
        listed("i-3", "none"),
        listed_binding("i-3", "b-1"),
        listed_binding("i-1", "b-1"),
    ];
    // A file that is there, without records.
    house.adopted(&[]);
    for options in [&[][..], &["--dry-run"]] {
        let ended = house.adopt(&list, options);
        assert_eq!(ended.code, Some(1));
        let wanted =
            "brokerlet: 3 records verified, 0 there already, 3 refused; nothing was changed\n";
        assert_eq!(ended.told, wanted, "{}", ended.printed);
        assert_eq!(house.exported(), ["{\"records\":0}"]);
    }
    let ended = house.adopt(&list[..1], &["--dry-run"]);
    assert_eq!(ended.code, Some(0), "{}", ended.told);
    assert_eq!(house.exported(), ["{\"records\":0}"]);

    let ended = house.adopt(&list, &["--skip-failed", "--json"]);
    assert_eq!(ended.code, Some(1));
    let wanted = "brokerlet: 3 records taken over, 0 there already, 3 refused\n";
    assert_eq!(ended.told, wanted);
    let told: Vec<Value> = ended
        .printed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let outcomes: Vec<&str> = told
        .iter()
        .map(|line| line["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(
        outcomes,
        [
            "verified", "verified", "refused", "refused", "refused", "verified"
        ]
    );
    assert_eq!(
        told[0],
        json!({ "line": 1, "instance_id": "i-1", "outcome": "verified" })
    );
    let reason = "parameters.sender: missing; plan \"small\" needs it";
    assert_eq!(told[2]["binding_id"], "b-1");
    assert!(
        told[2]["reason"].as_str().unwrap().starts_with(reason),
        "{}",
        told[2]
    );
    assert_eq!(house.exported().len(), 4);
}

#[test]
fn a_line_that_cannot_be_taken_over_says_why() {
    let house = House::new(shared());
    house.adopted(&[
        listed("i-1", "large"),
        listed("i-2", "random"),
        listed("i-3", "closed"),
    ]);
    let new = listed("i-9", "large");
    let bound = listed_binding("i-1", "b-9");
    for (line, wanted) in [
        (json!([SECRET]), "wanted a JSON object"),
        (
            json!({ "plan": SECRET }),
            "instance_id is missing; wanted a non-empty string",
        ),
        (
            merged(&new, json!({ "instance_id": "a\nb" })),
            "instance_id: found \"a\\nb\", wanted no control characters",
        ),
        (
            merged(&new, json!({ "credentails": SECRET })),
            "credentails: unknown field of a service instance",
        ),
        (
            merged(&bound, json!({ "credentails": SECRET })),
            "credentails: unknown field of a binding, did you mean \"credentials\"?",
        ),
        (
            without(&new, "organization_guid"),
            "organization_guid is missing; wanted a non-empty string",
        ),
        (
            without(&new, "plan_id"),
            "plan_id is missing; wanted it, or \"plan\", its name",
        ),
        (
            merged(&new, json!({ "plan": "large" })),
            "plan: found plan_id as well, wanted one of the two",
        ),
        (
            merged(&new, json!({ "service_id": "x" })),
            "service_id: found \"x\", which is not in the catalog",
        ),
        (
            merged(&new, json!({ "parameters": SECRET })),
            "parameters: found a string, wanted an object",
        ),
        (
            listed_binding("i-8", "b-9"),
            "there is no such service instance; wanted one in the state, or verified in an earlier line",
        ),
        (
            listed_binding("i-2", "b-9"),
            "credentials: missing; wanted those that the app has, since the adapter of plan \"random\" cannot tell",
        ),
        (
            listed_binding("i-3", "b-9"),
            "plan \"closed\" has no bindings",
        ),
        (
            merged(&bound, json!({ "service": "mail", "plan": "small" })),
            "its service instance is of plan \"large-id\"; wanted the same plan, or none",
        ),
        (
            merged(&bound, json!({ "credentials": [SECRET] })),
            "credentials: found an array, wanted an object",
        ),
        (
            merged(&bound, json!({ "endpoints": SECRET })),
            "endpoints: wanted an array",
        ),
    ] {
        let printed = house.refused(line);
        assert!(
            printed.contains(&format!("refused: {wanted}")),
            "{wanted}: {printed}"
        );
    }
    let ended = house.run(&["adopt", "-"], &format!("{{\"instance_id\": \"{SECRET}"));
    assert_eq!(
        ended.printed,
        "line 1: refused: not a JSON object on one line: see column 25\n"
    );
    let ended = house.adopt(&[new.clone(), new], &[]);
    assert!(
        ended.printed.ends_with(
            "line 2: service instance \"i-9\": refused: stands in an earlier line, too\n"
        )
    );
    let given = merged(
        &listed_binding("i-2", "b-1"),
        json!({ "credentials": { "password": SECRET } }),
    );
    house.adopted(&[given]);
}

#[test]
fn a_broker_on_the_file_and_wrong_arguments_are_other_codes() {
    let house = House::new(shared());
    let broker = house.start();
    let ended = house.adopt(&[listed("i-1", "large")], &[]);
    assert_eq!(ended.code, Some(74), "{}", ended.told);
    // It may look, meanwhile.
    assert_eq!(
        house.adopt(&[listed("i-1", "large")], &["--dry-run"]).code,
        Some(0)
    );
    broker.get(&instance("i-1")).expect(404);
    broker.stop();
    for (arguments, code, wanted) in [
        (&["adopt"][..], 64, "state adopt: wanted the name of a file"),
        (
            &["adopt", "a", "b"],
            64,
            "state adopt: found \"b\", wanted nothing more",
        ),
        (
            &["adopt", "-", "--yes"],
            64,
            "state adopt: unknown option --yes",
        ),
        (&["adopt", "none.jsonl"], 74, "none.jsonl: cannot be read: "),
        (
            &["adopt", "-", "--catalog", "none.json"],
            78,
            "none.json: error: cannot read the catalog file",
        ),
        (&["adopt", "-", "--catalog="], 78, ": "),
    ] {
        let ended = house.run(arguments, "");
        assert_eq!(ended.code, Some(code), "{}", ended.told);
        assert!(ended.told.contains(wanted), "{}", ended.told);
    }
}

#[test]
fn what_is_adopted_is_sealed() {
    let house = House::new(shared());
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let list = house.folder.file(
        "list.jsonl",
        format!(
            "{}\n\n{}\n",
            merged(
                &listed("i-1", "large"),
                json!({ "parameters": { "hint": SECRET } })
            ),
            listed_binding("i-1", "b-1")
        ),
    );
    let run = |keys: Option<&str>, more: &[&str]| {
        let mut command = brokerlet();
        command
            .args(["state", "adopt", "--store", "file:brokerlet.db"])
            .arg(&list)
            .args(more);
        command
            .current_dir(house.folder.path())
            .env("BROKER_CATALOG", "catalog.json");
        command.envs(keys.map(|keys| ("BROKER_SEAL_KEYS", keys)));
        command.output().unwrap()
    };
    assert_eq!(run(Some(key), &[]).status.code(), Some(0));
    let exported = house.exported().join("\n");
    assert_eq!(exported.matches("\"sealed\":").count(), 2, "{exported}");
    assert!(!exported.contains(SECRET));
    for more in [&[][..], &["--dry-run"]] {
        let again = run(Some(key), more);
        assert_eq!(again.status.code(), Some(0));
        let printed = String::from_utf8(again.stdout).unwrap();
        assert_eq!(printed.matches("there already").count(), 2, "{printed}");
        // Line 2 is empty.
        assert!(
            printed.contains("line 3: service binding \"b-1\""),
            "{printed}"
        );
        assert_eq!(run(None, more).status.code(), Some(74));
    }
}

/// More records than go into one transaction, and bindings far from their instance.
#[test]
fn a_long_list_is_written_piece_by_piece() {
    let house = House::new(shared());
    let instances = (0..300).map(|n| listed(&format!("i-{n}"), "large"));
    let bindings = (0..300).map(|n| listed_binding(&format!("i-{}", n % 10), &format!("b-{n}")));
    let list: Vec<Value> = instances.chain(bindings).collect();
    house.adopted(&list);
    assert_eq!(house.exported().len(), 601);
    let ended = house.run(&["check"], "");
    assert_eq!(
        ended.printed, "300 service instances, 300 bindings: no faults\n",
        "{}",
        ended.told
    );
}

#[test]
fn a_program_is_asked_if_its_plan_says_so() {
    let script = r#"#!/bin/sh
input=$(cat)
echo "$1 $input" >>calls
case "$1$input" in
    verify*'"instance_id":"i-2"'*) echo '{"error": "invalid", "description": "no machine of this name"}'; exit 1 ;;
    verify*'"binding_id"'*) echo '{"state": {"user": "u-1"}}' ;;
    verify*) echo '{"state": {"machine": "m-1"}, "dashboard_url": "https://example.com/m-1"}' ;;
    bind*) echo '{"credentials": {"password": "new"}}' ;;
    *) echo '{}' ;;
esac
"#;
    let make = |settings: Value| {
        let house = House::new(programs::catalog(settings));
        executable(&house.folder, "program", script);
        house
    };
    let line = |id: &str| {
        merged(
            &programs::provision(),
            json!({ "instance_id": id, "state": { "hint": "h-1" } }),
        )
    };
    let given = merged(
        &listed_binding("i-1", "b-1"),
        json!({ "credentials": { "password": SECRET } }),
    );

    let house = make(json!({}));
    house.run(&["adopt", "-"], "");
    let printed = house.refused(line("i-1"));
    let wanted = "refused: the settings of plan \"small\" have no \"adopt\": true, which says that its program knows the operation verify";
    assert!(printed.contains(wanted), "{printed}");
    assert!(!house.folder.path().join("calls").exists());

    let house = make(json!({ "adopt": true, "async": true }));
    house.run(&["adopt", "-"], "");
    let printed = house.refused(line("i-2"));
    assert!(
        printed.contains("refused: no machine of this name"),
        "{printed}"
    );
    house.adopted(&[line("i-1")]);
    let printed = house.refused(listed_binding("i-1", "b-1"));
    assert!(printed.contains("credentials: missing; "), "{printed}");
    house.adopted(&[given]);
    let calls = std::fs::read_to_string(house.folder.path().join("calls")).unwrap();
    assert!(
        calls
            .lines()
            .all(|call| call.starts_with("verify {\"operation\":\"verify\",")),
        "{calls}"
    );
    assert!(
        calls.contains("\"state\":{\"hint\":\"h-1\"}") && !calls.contains(SECRET),
        "{calls}"
    );

    let broker = house.start();
    let fetched = broker.get(&instance("i-1")).expect(200).json();
    assert_eq!(fetched["dashboard_url"], "https://example.com/m-1");
    broker
        .put(&instance("i-1"), &programs::provision())
        .expect(200);
    let again = broker
        .put(&binding("i-1", "b-1"), &programs::bind())
        .expect(200)
        .json();
    assert_eq!(again["credentials"]["password"], SECRET);
    let query = format!("{}&accepts_incomplete=true", programs::IDS);
    broker.delete(&(binding("i-1", "b-1") + &query)).expect(202);
    broker.wait_for_print("event=operation operation=unbind");
    broker.delete(&(instance("i-1") + &query)).expect(202);
    broker.wait_for_print("event=operation operation=deprovision");
    let calls = std::fs::read_to_string(house.folder.path().join("calls")).unwrap();
    let call = |name: &str| calls.lines().find(|call| call.starts_with(name)).unwrap();
    assert!(
        call("unbind ").contains("\"state\":{\"user\":\"u-1\"}"),
        "{calls}"
    );
    assert!(
        call("deprovision ").contains("\"state\":{\"machine\":\"m-1\"}"),
        "{calls}"
    );
}

#[test]
fn what_was_deleted_and_is_kept_is_not_there_already() {
    let mut catalog = shared();
    catalog["services"][0]["retain"] = json!("1h");
    let house = House::new(catalog.clone());
    let broker = Setup::in_folder(house.folder.clone())
        .catalog(&catalog)
        .start();
    broker
        .put(&instance("i"), &provision("mail-id", "small-id"))
        .expect(201);
    broker
        .delete(&(instance("i") + "?service_id=mail-id&plan_id=small-id"))
        .expect(200);
    broker.stop();
    let line = json!({ "instance_id": "i", "service": "mail", "plan": "small",
        "organization_guid": "org-1", "space_guid": "space-1" });
    let told = house.refused(line);
    assert!(told.contains("brokerlet state undelete"), "{told}");
}
