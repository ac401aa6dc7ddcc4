//! `brokerlet state`: what an operator sees of the state and does with it, beside a broker and without one.

mod support;

use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use support::{Broker, Folder, Setup, binding, brokerlet, instance, merged};

const PASSWORD: &str = "a-secret-of-the-relay";

/// A broker on a file, with two plans whose bindings have a password.
struct House {
    folder: Arc<Folder>,
    broker: Option<Broker>,
}

/// What a command printed, and how it ended.
struct Output {
    code: Option<i32>,
    printed: String,
    told: String,
}

fn catalog(plans: &[&str]) -> Value {
    let plan = |id: &&str| {
        json!({
            "id": id, "name": format!("{id}-name"), "description": "A plan",
            "adapter": { "kind": "shared", "binding": { "credentials": { "password": PASSWORD } } }
        })
    };
    json!({ "services": [{
        "id": "relay", "name": "mail-relay", "description": "Mail", "bindable": true, "plan_updateable": true,
        "plans": plans.iter().map(plan).collect::<Value>()
    }]})
}

impl House {
    fn new() -> House {
        let folder = Arc::new(Folder::new());
        let mut house = House {
            folder,
            broker: None,
        };
        house.start(&["small", "large"]);
        house
    }

    fn start(&mut self, plans: &[&str]) {
        let setup = Setup::in_folder(self.folder.clone()).catalog(&catalog(plans));
        self.broker = Some(setup.env("BROKER_STORE", "file:state.db").start());
    }

    fn broker(&self) -> &Broker {
        self.broker.as_ref().unwrap()
    }

    fn stop(&mut self) {
        self.broker.take().unwrap().stop();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn provision(&self, id: &str, plan: &str, changes: Value) {
        let body = json!({ "service_id": "relay", "plan_id": plan, "organization_guid": "org", "space_guid": "space",
            "parameters": { "hint": PASSWORD } });
        self.broker()
            .put(&instance(id), &merged(&body, changes))
            .expect(201);
    }

    fn bind(&self, id: &str, binding_id: &str, plan: &str) {
        let body = json!({ "service_id": "relay", "plan_id": plan, "bind_resource": { "app_guid": "app" } });
        self.broker()
            .put(&binding(id, binding_id), &body)
            .expect(201);
    }

    fn state(&self, arguments: &[&str]) -> Output {
        let mut command = brokerlet();
        command
            .current_dir(self.folder.path())
            .env("BROKER_STORE", "file:state.db");
        let output = command.arg("state").args(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Output {
            code: output.status.code(),
            printed: text(output.stdout),
            told: text(output.stderr),
        }
    }

    #[track_caller]
    fn does(&self, arguments: &[&str]) -> String {
        let output = self.state(arguments);
        assert_eq!(output.code, Some(0), "{arguments:?}: {}", output.told);
        output.printed
    }

    #[track_caller]
    fn fails(&self, code: i32, arguments: &[&str], why: &str) {
        let output = self.state(arguments);
        assert_eq!(
            output.code,
            Some(code),
            "{arguments:?}: {}{}",
            output.printed,
            output.told
        );
        assert!(output.told.contains(why), "{arguments:?}: {}", output.told);
        assert!(!output.told.contains(PASSWORD), "{}", output.told);
    }

    /// The ids of a list.
    #[track_caller]
    fn listed(&self, filters: &[&str]) -> Vec<String> {
        let printed = self.does(&[&["list", "--json"], filters].concat());
        assert!(!printed.contains(PASSWORD), "{printed}");
        let id = |line: &str| {
            serde_json::from_str::<Value>(line).unwrap()["instance_id"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        printed.lines().map(id).collect()
    }

    fn sql(&self, sql: &str) {
        rusqlite::Connection::open(self.path("state.db"))
            .unwrap()
            .execute_batch(sql)
            .unwrap();
    }
}

#[test]
fn instances_are_listed_beside_a_running_broker() {
    let house = House::new();
    assert_eq!(
        house.does(&["list"]).lines().last(),
        Some("0 service instances")
    );
    let context = json!({ "context": { "platform": "cloudfoundry", "instance_name": "my-mail",
        "organization_name": "acme", "space_name": "dev" } });
    house.provision("i-2", "small", context);
    house.provision("i-1", "large", json!({ "space_guid": "other" }));
    house.provision(
        "i-3",
        "small",
        json!({ "organization_guid": "\u{1b}[2Jevil" }),
    );
    house.bind("i-1", "b-1", "large");

    let table = house.does(&["list", "--catalog", "catalog.json"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 5, "{table}");
    assert!(
        lines[0].starts_with("INSTANCE  SERVICE     PLAN        ORGANIZATION"),
        "{table}"
    );
    assert!(
        lines[1].starts_with("i-1       mail-relay  large-name  org "),
        "{table}"
    );
    assert!(lines[1].contains("provision succeeded"), "{table}");
    assert_eq!(lines[4], "3 service instances");
    // Nothing that a terminal would obey.
    assert!(
        !table.contains('\u{1b}') && table.contains("\\u{1b}[2Jevil"),
        "{table}"
    );

    let line: Value =
        serde_json::from_str(house.does(&["list", "--json"]).lines().nth(1).unwrap()).unwrap();
    assert_eq!(line["name"], "my-mail");
    assert_eq!(
        (&line["service_id"], &line["plan_id"]),
        (&json!("relay"), &json!("small"))
    );
    assert_eq!(
        (&line["last_operation"], &line["state"]),
        (&json!("provision"), &json!("succeeded"))
    );
    assert!(line["created"].is_string() && line["updated"].is_string());

    for (filters, wanted) in [
        (&["--plan", "small"][..], &["i-2", "i-3"][..]),
        (
            &["--plan", "large-name", "--catalog", "catalog.json"],
            &["i-1"],
        ),
        (
            &["--service=mail-relay", "--catalog=catalog.json"],
            &["i-1", "i-2", "i-3"],
        ),
        (&["--service", "other"], &[]),
        (&["--organization", "acme"], &["i-2"]),
        (&["--organization", "org", "--space", "space"], &["i-2"]),
        (&["--space", "dev"], &["i-2"]),
        (&["--failed"], &[]),
        (&["--in-progress"], &[]),
        (&["--orphaned", "--catalog", "catalog.json"], &[]),
    ] {
        assert_eq!(house.listed(filters), wanted, "{filters:?}");
    }
    house
        .folder
        .file("other.json", catalog(&["small"]).to_string());
    assert_eq!(
        house.listed(&["--orphaned", "--catalog", "other.json"]),
        ["i-1"]
    );
    house.fails(64, &["list", "--orphaned"], "--catalog");
}

#[test]
fn what_failed_and_what_goes_on_is_found() {
    let folder = Arc::new(Folder::new());
    let program = "#!/bin/sh\ncase $(cat) in *fails*) exit 1 ;; esac\nsleep 600\n";
    let path = folder.file("program", program);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut catalog = catalog(&["slow"]);
    catalog["services"][0]["plans"][0]["adapter"] =
        json!({ "kind": "exec", "command": ["./program"], "async": ["provision"] });
    let setup = Setup::in_folder(folder.clone()).catalog(&catalog);
    let broker = setup.env("BROKER_STORE", "file:state.db").start();
    let house = House {
        folder,
        broker: Some(broker),
    };
    for id in ["fails", "goes-on"] {
        let body = json!({ "service_id": "relay", "plan_id": "slow", "organization_guid": "org", "space_guid": "space" });
        let target = format!("{}?accepts_incomplete=true", instance(id));
        house.broker().put(&target, &body).expect(202);
    }
    house.broker().wait_for_print("state=failed");
    assert_eq!(house.listed(&["--failed"]), ["fails"]);
    assert_eq!(house.listed(&["--in-progress"]), ["goes-on"]);
    let shown = house.does(&["show", "fails"]);
    assert!(
        shown.contains("failed") && shown.contains("description"),
        "{shown}"
    );
}

#[test]
fn an_instance_is_shown_with_its_bindings_and_its_secrets_only_when_asked_for() {
    let house = House::new();
    house.provision("i", "small", json!({}));
    house.bind("i", "b-1", "small");
    house.bind("i", "b-2", "small");
    for arguments in [&["show", "i"][..], &["show", "i", "--json"]] {
        let hidden = house.does(arguments);
        assert!(!hidden.contains(PASSWORD), "{hidden}");
        assert!(
            hidden.contains("b-1") && hidden.contains("b-2") && hidden.contains("(hidden)"),
            "{hidden}"
        );
        let shown = house.does(&[arguments, &["--credentials"]].concat());
        assert_eq!(shown.matches(PASSWORD).count(), 3, "{shown}");
        assert!(!shown.contains("(hidden)"), "{shown}");
    }
    let shown: Value =
        serde_json::from_str(&house.does(&["show", "i", "--json", "--credentials"])).unwrap();
    assert_eq!(
        shown["bindings"][0]["record"]["answer"]["credentials"]["password"],
        PASSWORD
    );
    assert_eq!(shown["bindings"][1]["app_guid"], "app");
    house.fails(
        1,
        &["show", "nobody"],
        "service instance \"nobody\": not in the state",
    );
}

#[test]
fn an_export_is_the_whole_state_and_is_imported_whole_or_not_at_all() {
    let mut house = House::new();
    for n in 0..20 {
        house.provision(&format!("i-{n}"), "small", json!({}));
        house.bind(&format!("i-{n}"), "b", "small");
    }
    let output = house.state(&["export", "all.jsonl"]);
    assert_eq!(output.code, Some(0), "{}", output.told);
    assert!(
        output
            .told
            .contains("40 records with all credentials in plain text"),
        "{}",
        output.told
    );
    let mode = std::fs::metadata(house.path("all.jsonl"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    house.fails(74, &["export", "all.jsonl"], "cannot be created");
    let exported = std::fs::read_to_string(house.path("all.jsonl")).unwrap();
    assert_eq!(exported.lines().count(), 42);
    assert_eq!(house.does(&["export"]).lines().count(), 42);

    // A broker that runs keeps its file, and a store with records keeps them.
    house.fails(74, &["import", "all.jsonl"], "in use by another process");
    house.stop();
    house.fails(74, &["import", "all.jsonl"], "has records already");

    let lines: Vec<&str> = exported.lines().collect();
    let with = |name: &str, lines: &[&str]| {
        house.folder.file(name, lines.join("\n") + "\n");
    };
    with("cut", &lines[..30]);
    with("lacks-one", &[&lines[..5], &lines[6..]].concat());
    with(
        "twice",
        &[&lines[..41], &lines[40..41], &[r#"{"records":41}"#]].concat(),
    );
    with("no-header", &lines[1..]);
    with(
        "newer",
        &[
            &[r#"{"format":"brokerlet state","version":2,"exported":"x"}"#],
            &lines[1..],
        ]
        .concat(),
    );
    with("garbage", &[&lines[..7], &[PASSWORD], &lines[7..]].concat());
    for (file, code, why) in [
        ("cut", 1, "line 31: the file ends"),
        ("lacks-one", 1, "line 41: found 39 records, wanted 40"),
        ("twice", 74, "a record came twice"),
        ("no-header", 1, "line 1: this is no export"),
        ("newer", 1, "found version 2, wanted 1"),
        ("garbage", 1, "line 8: found no record"),
        ("missing", 74, "cannot be opened"),
    ] {
        house.fails(code, &["import", file, "--store", "file:new.db"], why);
        assert_eq!(
            house.does(&["list", "--json", "--store", "file:new.db"]),
            "",
            "{file}"
        );
    }
    house.does(&["import", "all.jsonl", "--store", "file:new.db"]);
    assert_eq!(house.listed(&["--store", "file:new.db"]).len(), 20);
    let again = house.does(&["export", "--store", "file:new.db"]);
    assert_eq!(again.lines().skip(1).collect::<Vec<_>>(), lines[1..]);

    // A broker goes on from there.
    std::fs::rename(house.path("new.db"), house.path("state.db")).unwrap();
    house.start(&["small", "large"]);
    let ids = "?service_id=relay&plan_id=small";
    house
        .broker()
        .delete(&format!("{}{ids}", binding("i-7", "b")))
        .expect(200);
    house
        .broker()
        .delete(&format!("{}{ids}", instance("i-7")))
        .expect(200);
    assert_eq!(house.listed(&[]).len(), 19);
}

#[test]
fn a_backup_of_a_running_store_is_a_store() {
    let mut house = House::new();
    house.provision("before", "small", json!({}));
    let output = house.state(&["backup", "copy.db"]);
    assert_eq!(output.code, Some(0), "{}", output.told);
    house.provision("after", "small", json!({}));
    assert_eq!(house.listed(&["--store", "file:copy.db"]), ["before"]);
    let mode = std::fs::metadata(house.path("copy.db"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    house.fails(74, &["backup", "copy.db"], "cannot be written");
    house.fails(74, &["backup", "none/copy.db"], "cannot be written");
    house.stop();
    std::fs::rename(house.path("copy.db"), house.path("state.db")).unwrap();
    house.start(&["small", "large"]);
    let ids = "?service_id=relay&plan_id=small";
    house
        .broker()
        .delete(&format!("{}{ids}", instance("before")))
        .expect(200);
    house
        .broker()
        .delete(&format!("{}{ids}", instance("after")))
        .expect(410);
}

#[test]
fn faults_are_named() {
    let mut house = House::new();
    house.provision("i", "small", json!({}));
    house.bind("i", "b", "small");
    let fine = "1 service instance, 1 binding: no faults\n";
    assert_eq!(house.does(&["check"]), fine);
    assert_eq!(house.does(&["check", "--catalog", "catalog.json"]), fine);
    house
        .folder
        .file("other.json", catalog(&["large"]).to_string());
    let output = house.state(&["check", "--catalog", "other.json"]);
    assert_eq!(output.code, Some(1));
    assert_eq!(
        output.printed,
        "service instance \"i\": its plan \"small\" is not in the catalog\n"
    );
    assert_eq!(output.told, "brokerlet: 1 fault\n");
    house.stop();
    house.sql(&format!(
        "INSERT INTO service_instances VALUES ('torn', 900, 0, '{{\"plan_id\": \"{PASSWORD}');
         INSERT INTO service_instances VALUES ('odd', 901, 0, '{{}}');
         INSERT INTO service_bindings SELECT 'gone', id, revision, open, record FROM service_bindings;
         UPDATE service_instances SET open = 1 WHERE id = 'i';"
    ));
    let output = house.state(&["check"]);
    assert_eq!(output.code, Some(1));
    for wanted in [
        "service instance \"torn\": the record cannot be read: no JSON",
        "service instance \"odd\": the record cannot be read: service_id: found no text",
        "service binding \"b\" of service instance \"gone\": there is no such service instance",
        "service instance \"i\": whether an operation is in progress is said in two ways",
    ] {
        assert!(
            output.printed.contains(wanted),
            "{wanted}: {}",
            output.printed
        );
    }
    assert_eq!(output.printed.lines().count(), 4, "{}", output.printed);
    assert!(!output.printed.contains(PASSWORD), "{}", output.printed);
    let json = house.state(&["check", "--json"]).printed;
    let all = json
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert!(all.clone().all(|fault| fault["fault"].is_string()));
    assert!(all.into_iter().any(|fault| fault["binding_id"] == "b"));
    let output = house.state(&["list"]);
    assert!(
        output.told.contains("2 records cannot be read"),
        "{}",
        output.told
    );
    house.fails(1, &["export", "x.jsonl"], "cannot be read");
    assert!(!house.path("x.jsonl").exists());
}

#[test]
fn an_instance_is_forgotten_only_without_a_broker_and_when_that_is_wanted() {
    let mut house = House::new();
    house.provision("i", "small", json!({}));
    house.provision("other", "small", json!({}));
    house.bind("i", "b", "small");
    house.fails(74, &["forget", "i", "--yes"], "in use by another process");
    house.fails(74, &["compact"], "in use by another process");
    house.stop();
    house.fails(64, &["forget", "i"], "--yes");
    house.fails(1, &["forget", "nobody", "--yes"], "not in the state");
    assert_eq!(house.listed(&[]), ["i", "other"]);
    let output = house.state(&["forget", "i", "--yes"]);
    assert_eq!(output.code, Some(0), "{}", output.told);
    assert!(
        output.told.contains("\"i\" and 1 binding are forgotten"),
        "{}",
        output.told
    );
    assert_eq!(house.listed(&[]), ["other"]);
    house.does(&["compact"]);
    assert_eq!(
        house.does(&["check"]),
        "1 service instance, 0 bindings: no faults\n"
    );
    house.start(&["small", "large"]);
    let ids = "?service_id=relay&plan_id=small";
    house
        .broker()
        .delete(&format!("{}{ids}", instance("i")))
        .expect(410);
    house.provision("i", "small", json!({}));
}

#[test]
fn a_compacted_file_is_smaller() {
    let mut house = House::new();
    let ids = "?service_id=relay&plan_id=small";
    for n in 0..300 {
        house.provision(
            &format!("i-{n}"),
            "small",
            json!({ "parameters": { "long": "x".repeat(2000) } }),
        );
    }
    for n in 0..300 {
        house
            .broker()
            .delete(&format!("{}{ids}", instance(&format!("i-{n}"))))
            .expect(200);
    }
    house.stop();
    let size = || std::fs::metadata(house.path("state.db")).unwrap().len();
    let before = size();
    house.does(&["compact"]);
    assert!(size() < before / 2, "{} of {before}", size());
}

#[test]
fn what_is_not_a_state_is_told() {
    let house = House::new();
    house.fails(
        74,
        &["list", "--store", "file:none.db"],
        "none.db: cannot be opened",
    );
    house.folder.file(
        "text.db",
        "this is no database, and was never one, however long it may be",
    );
    house.fails(
        74,
        &["list", "--store", "file:text.db"],
        "not a store of brokerlet",
    );
    house.fails(
        64,
        &["list", "--store", "memory"],
        "wanted --store file:PATH",
    );
    house.fails(78, &["list", "--store", "x"], "wanted file:PATH, postgres:");
    house.fails(78, &["list", "--catalog", "none.json"], "none.json");
    for (arguments, why) in [
        (&[][..], "wanted one of list, show"),
        (&["lst"], "found \"lst\""),
        (&["list", "x"], "wanted nothing more"),
        (&["list", "--credentials"], "unknown option --credentials"),
        (&["list", "--plan"], "wanted a value"),
        (&["list", "--json", "--json"], "found twice"),
        (&["list", "--json=1"], "takes no value"),
        (&["show"], "wanted the id of a service instance"),
        (&["backup"], "wanted the name of a file"),
    ] {
        house.fails(64, arguments, why);
    }
    assert!(house.does(&["--help"]).contains("brokerlet state list"));
}
