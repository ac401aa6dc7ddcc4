//! `brokerlet state` on a database, and from store to store.

use super::Server;
use super::support::servers::ADMIN_PASSWORD;
use super::support::{Broker, Folder, Setup, bind, binding, brokerlet, instance, programs};
use super::support::{merged, provision};

use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SECRET: &str = "a-secret-of-the-mail";
const OLD: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const NEW: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
const IDS: &str = "?service_id=s&plan_id=p";

/// A folder, and what the commands in it find in their environment.
struct Operator {
    folder: Arc<Folder>,
    variables: Vec<(&'static str, String)>,
}

/// What a command printed, and how it ended.
struct Output {
    code: Option<i32>,
    printed: String,
    told: String,
}

impl Operator {
    fn new(store: &str) -> Operator {
        Operator {
            folder: Arc::new(Folder::new()),
            variables: vec![("BROKER_STORE", store.to_owned())],
        }
    }

    /// The same folder with other variables beside.
    fn with(&self, variables: &[(&'static str, &str)]) -> Operator {
        let mut all = self.variables.clone();
        all.extend(
            variables
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned())),
        );
        Operator {
            folder: self.folder.clone(),
            variables: all,
        }
    }

    /// A broker with the same environment, whose bindings have a secret.
    fn broker(&self) -> Broker {
        let plan = json!({ "id": "p", "name": "small", "description": "Small",
            "adapter": { "kind": "shared", "binding": { "credentials": { "password": SECRET } } } });
        let catalog = json!({ "services": [{ "id": "s", "name": "mail", "description": "Mail", "bindable": true,
            "bindings_retrievable": true, "plans": [plan] }] });
        let setup = Setup::in_folder(self.folder.clone()).catalog(&catalog);
        self.starts(setup)
    }

    fn starts(&self, setup: Setup) -> Broker {
        let variables = self.variables.iter();
        variables
            .fold(setup, |setup, (name, value)| setup.env(name, value))
            .start()
    }

    fn state(&self, arguments: &[&str]) -> Output {
        self.run(&[&["state"], arguments].concat())
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = brokerlet();
        command.current_dir(self.folder.path()).args(arguments);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let output = Output {
            code: output.status.code(),
            printed: text(output.stdout),
            told: text(output.stderr),
        };
        assert!(!output.told.contains(ADMIN_PASSWORD), "{}", output.told);
        output
    }

    #[track_caller]
    fn does(&self, arguments: &[&str]) -> Output {
        let output = self.state(arguments);
        assert_eq!(
            output.code,
            Some(0),
            "{arguments:?}: {}{}",
            output.printed,
            output.told
        );
        output
    }

    #[track_caller]
    fn fails(&self, code: i32, arguments: &[&str], why: &str) {
        let output = self.state(arguments);
        let all = output.printed + &output.told;
        assert_eq!(output.code, Some(code), "{arguments:?}: {all}");
        assert!(all.contains(why), "{arguments:?}: {all}");
        assert!(!all.contains(SECRET), "{all}");
    }

    fn ids(&self, arguments: &[&str]) -> Vec<String> {
        let printed = self
            .does(&[&["list", "--json"], arguments].concat())
            .printed;
        let id = |line| serde_json::from_str::<Value>(line).unwrap()["instance_id"].to_string();
        printed
            .lines()
            .map(id)
            .map(|id| id.trim_matches('"').to_owned())
            .collect()
    }

    /// The records of a state, without the line with the time.
    fn exported(&self, arguments: &[&str]) -> Vec<String> {
        let printed = self.does(&[&["export"], arguments].concat()).printed;
        printed.lines().skip(1).map(str::to_owned).collect()
    }
}

fn made(broker: &Broker, id: &str) {
    let parameters = json!({ "parameters": { "hint": SECRET } });
    let request = merged(&provision("s", "p"), parameters);
    broker.put(&instance(id), &request).expect(201);
    broker.put(&binding(id, "b"), &bind("s", "p")).expect(201);
}

#[test]
fn every_command_works_beside_brokers_or_says_what_does() {
    let Some(server) = Server::start() else {
        return;
    };
    let operator = Operator::new(&server.database("looked"));
    let sql = |sql: &str| {
        server
            .psql_as("admin", ADMIN_PASSWORD, "looked", sql)
            .unwrap()
    };
    // Whoever only looks makes nothing.
    operator.fails(74, &["list"], "has no tables of brokerlet");
    assert_eq!(
        sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"),
        "0"
    );
    let (one, two) = (operator.broker(), operator.broker());
    made(&one, "i-1");
    made(&two, "i-2");

    sql(
        "CREATE ROLE looker LOGIN PASSWORD 'look'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO looker",
    );
    let address = format!("postgres://looker:look@127.0.0.1:{}/looked", server.port);
    let looker = operator.with(&[("LOOKER", address.as_str())]);
    let rights = ["--store", "env:LOOKER"];
    assert_eq!(looker.ids(&rights), ["i-1", "i-2"]);
    let shown = looker
        .does(&[&["show", "i-2"], &rights[..]].concat())
        .printed;
    assert!(
        shown.contains("(hidden)") && !shown.contains(SECRET),
        "{shown}"
    );
    let shown = looker.does(&[&["show", "i-2", "--credentials"], &rights[..]].concat());
    assert_eq!(
        shown.printed.matches(SECRET).count(),
        2,
        "{}",
        shown.printed
    );
    let checked = looker.does(&[&["check"], &rights[..]].concat()).printed;
    assert_eq!(checked, "2 service instances, 2 bindings: no faults\n");
    let exported = looker.does(&[&["export", "all.jsonl"], &rights[..]].concat());
    assert!(
        exported
            .told
            .contains("4 records with all credentials in plain text")
    );
    let file = operator.folder.path().join("all.jsonl");
    let mode = std::fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(operator.ids(&["--plan", "p"]).len(), 2);
    looker.fails(
        74,
        &[&["forget", "i-1", "--yes"], &rights[..]].concat(),
        "permission denied",
    );

    // Instead of brokers only, or with the database's own means.
    operator.fails(74, &["import", "all.jsonl"], "in use by 2 brokers");
    operator.fails(
        74,
        &["copy", "env:BROKER_STORE", "file:copy.db"],
        "in use by 2 brokers",
    );
    assert!(!operator.folder.path().join("copy.db").exists());
    operator.fails(64, &["backup", "copy.db"], "pg_dump");
    operator.fails(64, &["compact"], "VACUUM");

    operator.does(&["protect", "i-1", "--reason", "Payroll"]);
    for broker in [&one, &two] {
        broker
            .delete(&format!("{}{IDS}", instance("i-1")))
            .expect_naming(422, "Payroll");
    }
    operator.does(&["unprotect", "i-1"]);
    looker.fails(
        74,
        &[&["protect", "i-1"], &rights[..]].concat(),
        "permission denied",
    );

    operator.fails(64, &["forget", "i-1"], "--yes");
    operator.fails(1, &["forget", "nobody", "--yes"], "not in the state");
    operator.does(&["forget", "i-1", "--yes"]);
    for broker in [&one, &two] {
        broker
            .delete(&format!("{}{IDS}", instance("i-1")))
            .expect(410);
    }
    let audit = operator.run(&["audit", "--instance", "i-1", "--json"]);
    let told: Vec<String> = audit
        .printed
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| {
            format!(
                "{} {}",
                line["operation"].as_str().unwrap(),
                line["from"].as_str().unwrap()
            )
        })
        .filter(|line| line.ends_with("operator"))
        .collect();
    assert_eq!(
        told,
        ["protect operator", "unprotect operator", "forget operator"]
    );
    made(&two, "i-1");
    drop((one, two));

    for (store, code, why) in [
        (
            format!("postgres://admin:{SECRET}@127.0.0.1/x"),
            64,
            "found a password",
        ),
        (
            format!("postgres://admin@127.0.0.1/x?password={SECRET}"),
            64,
            "found a password",
        ),
        (
            "postgres://admin@127.0.0.1/x?colour=red".to_owned(),
            78,
            "--store: there is no parameter",
        ),
        ("env:NOBODY".to_owned(), 78, "no variable NOBODY"),
        (
            "env:VCAP_SERVICES".to_owned(),
            78,
            "no service tagged postgresql",
        ),
    ] {
        operator.fails(code, &["list", "--store", &store], why);
    }
    let services = json!({ "a": [{ "name": "db", "tags": ["postgresql"], "credentials": { "uri":
        operator.variables[0].1 } }] });
    let bound = operator.with(&[
        ("VCAP_SERVICES", &services.to_string()),
        ("BROKER_STORE", ""),
    ]);
    assert_eq!(bound.ids(&[]), ["i-1", "i-2"]);
    assert_eq!(
        operator.ids(&[]),
        bound.ids(&["--store", "env:VCAP_SERVICES"])
    );
    sql("UPDATE store_format SET version = 99");
    operator.fails(74, &["list"], "its tables are of version 99");
}

/// The program writes down each call, and waits for a file `go`.
const SCRIPT: &str = r#"#!/bin/sh
cat >/dev/null
echo "$1" >>calls
[ "$1" = provision ] && until [ -e go ]; do sleep 0.05; done
echo '{}'
"#;

fn slow(operator: &Operator) -> Broker {
    let catalog = programs::catalog(json!({
        "kind": "exec", "command": ["./program"], "async": ["provision", "deprovision"],
    }));
    let setup = Setup::in_folder(operator.folder.clone())
        .env("PATH", std::env::var_os("PATH").unwrap())
        .catalog(&catalog);
    operator.starts(setup)
}

/// Asks until the answer is this.
fn polls(broker: &Broker, id: &str, is: impl Fn(u16, &str) -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let response = broker.get(&format!("{}/last_operation", instance(id)));
        let state = match response.status {
            200 => response.json()["state"].to_string(),
            _ => String::new(),
        };
        if is(response.status, &state) {
            return;
        }
        assert!(Instant::now() < end, "{} {state}", response.status);
    }
}

#[test]
fn a_state_moves_with_what_is_in_progress_and_what_was_deleted() {
    let Some(server) = Server::start() else {
        return;
    };
    let file = Operator::new("file:state.db");
    programs::executable(&file.folder, "program", SCRIPT);
    let url = server.database("moved");
    let database = file.with(&[("BROKER_STORE", &url)]);
    let broker = slow(&file);
    let accepts = |id: &str| format!("{}{}&accepts_incomplete=true", instance(id), programs::IDS);
    file.folder.file("go", "");
    broker
        .put(&accepts("deleted"), &programs::provision())
        .expect(202);
    polls(&broker, "deleted", |_, state| state == "\"succeeded\"");
    broker.delete(&accepts("deleted")).expect(202);
    polls(&broker, "deleted", |status, _| status == 410);
    std::fs::remove_file(file.folder.path().join("go")).unwrap();
    broker
        .put(&accepts("i"), &programs::provision())
        .expect(202);
    database.fails(
        74,
        &["copy", "file:state.db", "env:BROKER_STORE"],
        "in use by another process",
    );
    broker.kill();

    let all = file.exported(&[]);
    let copied = database.does(&["copy", "file:state.db", "env:BROKER_STORE"]);
    let told = format!(
        "2 records copied from file:state.db to postgres://admin@127.0.0.1:{}/moved",
        server.port
    );
    assert!(copied.told.contains(&told), "{}", copied.told);
    assert_eq!(database.exported(&[]), all);
    // Both have records now.
    database.fails(
        74,
        &["copy", "file:state.db", "env:BROKER_STORE"],
        "has records already",
    );
    database.fails(
        74,
        &["copy", "env:BROKER_STORE", "file:state.db"],
        "has records already",
    );
    database.fails(
        74,
        &["copy", "env:BROKER_STORE", "env:BROKER_STORE"],
        "in use by a broker",
    );
    database.fails(
        74,
        &["copy", "file:none.db", "file:new.db"],
        "none.db: cannot be opened",
    );

    // The broker that starts there works on it, and nobody forgets what it works on.
    let broker = slow(&database);
    polls(&broker, "i", |_, state| state == "\"in progress\"");
    broker
        .get(&format!("{}/last_operation", instance("deleted")))
        .expect(410);
    database.fails(74, &["forget", "i", "--yes"], "a broker is working on it");
    broker.stop();
    assert_eq!(database.ids(&["--in-progress"]), ["i"]);

    // From database to database, to a file, and from file to file.
    let other = server.database("other");
    let other = database.with(&[("OTHER", &other)]);
    let before = database.exported(&[]);
    other.does(&["copy", "env:BROKER_STORE", "env:OTHER"]);
    assert_eq!(other.exported(&["--store", "env:OTHER"]), before);
    other.does(&["copy", "env:OTHER", "file:back.db"]);
    other.does(&["copy", "file:back.db", "file:again.db"]);
    assert_eq!(other.exported(&["--store", "file:again.db"]), before);

    let again = database.with(&[("BROKER_STORE", "file:again.db")]);
    let broker = slow(&again);
    file.folder.file("go", "");
    polls(&broker, "i", |_, state| state == "\"succeeded\"");
    broker
        .get(&format!("{}/last_operation", instance("deleted")))
        .expect(410);
    // What no broker works on any more can be forgotten.
    database.does(&["forget", "i", "--yes"]);
    assert_eq!(database.ids(&[]), Vec::<String>::new());
}

#[test]
fn a_broker_does_not_start_while_records_are_moved() {
    let Some(server) = Server::start() else {
        return;
    };
    let url = server.database("taken");
    let operator = Operator::new(&url);
    operator.broker().stop();
    let sql = |sql: &str| {
        server
            .psql_as("admin", ADMIN_PASSWORD, "taken", sql)
            .unwrap()
    };
    sql("INSERT INTO brokers VALUES ('state:somebody', now() + INTERVAL '1 hour')");
    let output = Setup::new().env("BROKER_STORE", &url).run();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(74), "{told}");
    assert!(told.contains("state import or copy works on it"), "{told}");
    operator.fails(
        74,
        &["copy", "env:BROKER_STORE", "file:copy.db"],
        "in use by a broker",
    );
    sql("DELETE FROM brokers");
    operator.broker().stop();
}

#[test]
fn an_import_is_whole_or_not_at_all() {
    let Some(server) = Server::start() else {
        return;
    };
    let operator = Operator::new("file:state.db");
    let broker = operator.broker();
    made(&broker, "i-0");
    broker.stop();
    let exported = operator.does(&["export"]).printed;
    let lines: Vec<&str> = exported.lines().collect();
    // More than goes in one round trip.
    let mut many = lines[0].to_owned() + "\n";
    for n in 0..1000 {
        many += &lines[1].replace("\"i-0\"", &format!("\"i-{n}\""));
        many.push('\n');
    }
    let end = |count: usize| format!("{{\"records\":{count}}}\n");
    operator.folder.file("all.jsonl", many.clone() + &end(1000));
    operator
        .folder
        .file("lacks.jsonl", many.clone() + &end(1001));
    operator.folder.file("cut.jsonl", &many);
    operator
        .folder
        .file("twice.jsonl", format!("{many}{}\n{}", lines[1], end(1001)));
    let database = operator.with(&[("BROKER_STORE", &server.database("imported"))]);
    for (file, code, why) in [
        (
            "lacks.jsonl",
            1,
            "line 1002: found 1000 records, wanted 1001",
        ),
        ("cut.jsonl", 1, "the file ends"),
        ("twice.jsonl", 74, "a record came twice"),
    ] {
        database.fails(code, &["import", file], why);
        assert_eq!(database.ids(&[]).len(), 0, "{file}");
    }
    database.does(&["import", "all.jsonl"]);
    assert_eq!(database.ids(&[]).len(), 1000);
    database.fails(74, &["import", "all.jsonl"], "has records already");
    let broker = database.broker();
    broker
        .put(&binding("i-999", "b"), &bind("s", "p"))
        .expect(201);
    broker
        .delete(&format!("{}{IDS}", instance("i-999")))
        .expect(200);
    assert_eq!(database.ids(&[]).len(), 999);
}

#[test]
fn what_is_sealed_moves_sealed() {
    let Some(server) = Server::start() else {
        return;
    };
    let plain = Operator::new(&server.database("sealed"));
    let sealed = plain.with(&[("BROKER_SEAL_KEYS", OLD)]);
    let broker = sealed.broker();
    made(&broker, "i");
    broker.stop();
    let holds = |lines: &[String]| lines.iter().any(|line| line.contains(SECRET));
    assert!(!holds(&sealed.exported(&[])));
    let told = sealed.does(&["export", "sealed.jsonl"]).told;
    assert!(told.contains("3 records, 2 of them sealed"), "{told}");
    plain.fails(78, &["export", "--unsealed"], "wanted BROKER_SEAL_KEYS");
    assert!(holds(&sealed.exported(&["--unsealed"])));
    sealed.does(&["export", "--unsealed", "open.jsonl"]);

    // Who has which keys.
    let other = plain.with(&[("BROKER_SEAL_KEYS", NEW)]);
    other.fails(
        74,
        &["export", "--unsealed", "x.jsonl"],
        "which is not in BROKER_SEAL_KEYS",
    );
    assert!(!plain.folder.path().join("x.jsonl").exists());
    other.fails(1, &["check"], "2 faults");
    sealed.does(&["check"]);
    assert!(
        plain
            .does(&["check"])
            .told
            .contains("whether 2 records can be opened")
    );
    let shown = sealed.does(&["show", "i", "--credentials"]).printed;
    assert_eq!(shown.matches(SECRET).count(), 2, "{shown}");
    let shown = plain.does(&["show", "i", "--credentials"]);
    assert!(
        shown.told.contains("without BROKER_SEAL_KEYS"),
        "{}",
        shown.told
    );

    // A copy with other keys is sealed with them, or refused; without keys it stays as it is.
    other.fails(
        74,
        &["copy", "env:BROKER_STORE", "file:no.db"],
        "which is not in BROKER_SEAL_KEYS",
    );
    assert_eq!(plain.ids(&["--store", "file:no.db"]).len(), 0);
    plain.does(&["copy", "env:BROKER_STORE", "file:same.db"]);
    assert_eq!(
        plain.exported(&["--store", "file:same.db"]),
        plain.exported(&[])
    );
    let both = format!("{NEW},{OLD}");
    plain
        .with(&[("BROKER_SEAL_KEYS", &both)])
        .does(&["copy", "env:BROKER_STORE", "file:new.db"]);
    // An export in plain text is sealed on its way.
    other.does(&["import", "open.jsonl", "--store", "file:imported.db"]);
    for store in ["file:new.db", "file:imported.db"] {
        let moved = other.with(&[("BROKER_STORE", store)]);
        assert!(!holds(&moved.exported(&[])));
        let broker = moved.broker();
        let fetched = broker.get(&binding("i", "b")).expect(200).json();
        assert_eq!(fetched["credentials"]["password"], SECRET);
        broker.stop();
    }
    plain.does(&["import", "open.jsonl", "--store", "file:open.db"]);
    plain
        .with(&[("BROKER_STORE", "file:open.db")])
        .broker()
        .stop();
}
