//! Several brokers on one state.

use super::support::servers::ADMIN_PASSWORD;
use super::support::{Broker, Folder, Setup, bind, binding, instance, programs, provision};
use super::{Server, broker};

use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

const DELETE: &str = "?service_id=example_service&plan_id=plan_one";

#[test]
fn what_one_does_the_other_knows() {
    let Some(server) = Server::start() else {
        return;
    };
    let url = server.database("shared");
    let (one, two) = (broker(&url), broker(&url));
    let request = provision("example_service", "plan_one");
    one.put(&instance("i"), &request).expect(201);
    two.put(&instance("i"), &request).expect(200);
    let bound = bind("example_service", "plan_one");
    two.put(&binding("i", "b"), &bound).expect(201);
    one.put(&binding("i", "b"), &bound).expect(200);
    one.delete(&format!("{}{DELETE}", instance("i")))
        .expect(200);
    two.delete(&format!("{}{DELETE}", instance("i")))
        .expect(410);
    two.put(&binding("i", "b"), &bound).expect(404);
    // And whoever comes later.
    drop((one, two));
    broker(&url)
        .delete(&format!("{}{DELETE}", instance("i")))
        .expect(410);
}

#[test]
fn what_another_one_deletes_makes_room_soon() {
    let Some(server) = Server::start() else {
        return;
    };
    let url = server.database("limits");
    let folder = Arc::new(Folder::new());
    let mut catalog = programs::catalog(json!({}));
    let plan = &mut catalog["services"][0]["plans"][0];
    plan["adapter"] = json!({ "kind": "shared" });
    plan["limits"] = json!({ "instances": 1 });
    catalog["services"][0]["plans"][1]["adapter"] = json!({ "kind": "shared" });
    let start = || {
        let setup = Setup::in_folder(folder.clone()).catalog(&catalog);
        setup.env("BROKER_STORE", &url).start()
    };
    let one = start();
    one.put(&instance("1"), &programs::provision()).expect(201);
    let two = start();
    let put = || two.put(&instance("2"), &programs::provision());
    put().expect_error(422, "LimitReached");
    one.delete(&(instance("1") + programs::IDS)).expect(200);
    // Nobody has told it: it counts anew because somebody was refused.
    let end = Instant::now() + Duration::from_secs(40);
    while put().status == 422 {
        assert!(Instant::now() < end, "{}", two.printed());
        std::thread::sleep(Duration::from_millis(50));
    }
    put().expect(200);
}

/// The program writes down each call, and waits for a file `go`.
const SCRIPT: &str = r#"
cat >/dev/null
echo "$1" >>calls
[ "$1" = provision ] && until [ -e go ]; do sleep 0.05; done
echo '{}'
"#;

fn asynchronous(folder: &Arc<Folder>, url: &str) -> Broker {
    programs::executable(folder, "program", &format!("#!/bin/sh\n{SCRIPT}"));
    let catalog = programs::catalog(json!({
        "kind": "exec", "command": ["./program"], "async": ["provision", "deprovision"],
    }));
    Setup::in_folder(folder.clone())
        .catalog(&catalog)
        .env("BROKER_STORE", url)
        .start()
}

fn poll(broker: &Broker, id: &str) -> serde_json::Value {
    let response = broker.get(&format!("{}/last_operation", instance(id)));
    response.expect(200).json()
}

fn ended(broker: &Broker, id: &str) -> serde_json::Value {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let polled = poll(broker, id);
        if polled["state"] != "in progress" {
            return polled;
        }
        assert!(Instant::now() < end, "{polled}");
    }
}

#[test]
fn the_work_of_a_broker_that_is_killed_goes_on_in_another() {
    let Some(server) = Server::start() else {
        return;
    };
    let url = server.database("taken");
    let folder = Arc::new(Folder::new());
    let (one, two) = (asynchronous(&folder, &url), asynchronous(&folder, &url));
    let target = format!("{}?accepts_incomplete=true", instance("i"));
    let accepted = one.put(&target, &programs::provision()).expect(202).json();
    one.wait_for_file("calls");
    // The same request is the same operation, wherever it comes.
    assert_eq!(
        two.put(&target, &programs::provision()).expect(202).json(),
        accepted
    );
    let told = poll(&two, "i");
    assert_eq!(told["description"], "Another broker works on it.", "{told}");
    // Only the one that works on it could cut it off.
    let delete = format!(
        "{}?accepts_incomplete=true&{}",
        instance("i"),
        &programs_query()
    );
    two.delete(&delete).expect_error(422, "ConcurrencyError");
    one.kill();
    folder.file("go", "");
    assert_eq!(ended(&two, "i")["state"], "succeeded");
    let calls = std::fs::read_to_string(folder.path().join("calls")).unwrap();
    assert!((1..=2).contains(&calls.lines().count()), "{calls}");
    two.put(&target, &programs::provision()).expect(200);
    two.delete(&delete).expect(202);
    let end = Instant::now() + Duration::from_secs(60);
    while two.get(&format!("{}/last_operation", instance("i"))).status != 410 {
        assert!(Instant::now() < end);
    }
}

fn programs_query() -> String {
    let request = programs::provision();
    let field = |name: &str| request[name].as_str().unwrap().to_owned();
    format!(
        "service_id={}&plan_id={}",
        field("service_id"),
        field("plan_id")
    )
}

/// As the platform starts them: no disk, a database that is bound, two at once.
#[test]
fn a_pushed_broker_finds_the_database_that_is_bound_to_it() {
    let Some(server) = Server::start() else {
        return;
    };
    server.database("bound");
    let services = json!({
        "p-redis": [{ "name": "cache", "tags": ["redis"], "credentials": { "host": "nowhere" } }],
        "elephants": [{
            "name": "brokerlet-db", "tags": ["postgresql", "relational"],
            "credentials": {
                "hostname": "127.0.0.1", "port": server.port, "username": "admin",
                "password": ADMIN_PASSWORD, "name": "bound",
            },
        }],
    });
    let pushed = || {
        Setup::new()
            .env("VCAP_APPLICATION", "{}")
            .env("VCAP_SERVICES", services.to_string())
            .start()
    };
    let (one, two) = (pushed(), pushed());
    let request = provision("example_service", "plan_one");
    one.put(&instance("i"), &request).expect(201);
    two.put(&instance("i"), &request).expect(200);
    for broker in [&one, &two] {
        let printed = broker.printed();
        assert!(!printed.contains("does not survive"), "{printed}");
        assert!(!printed.contains(ADMIN_PASSWORD), "{printed}");
        let place = format!("store=postgres://admin@127.0.0.1:{}/bound", server.port);
        assert!(printed.contains(&place), "{printed}");
    }
}

#[test]
fn what_is_wrong_with_the_database_stops_the_start() {
    for (name, value, code, wanted) in [
        (
            "BROKER_STORE",
            "postgres://alex:secret@",
            74,
            "postgres://alex@localhost:5432/alex",
        ),
        (
            "BROKER_STORE",
            "postgres://alex:secret@h/d?colour=red",
            78,
            "BROKER_STORE: there is no parameter \"colour\"",
        ),
        (
            "BROKER_STORE",
            "mysql://alex:secret@h/d",
            78,
            "BROKER_STORE: found something else, wanted file:PATH, postgres://… or memory",
        ),
        ("VCAP_SERVICES", "{", 78, "VCAP_SERVICES: found no JSON"),
        (
            "BROKER_STORE_SERVICE",
            "db",
            78,
            "BROKER_STORE_SERVICE: found \"db\", which is no service in VCAP_SERVICES",
        ),
        (
            "VCAP_SERVICES",
            r#"{"a":[{"name":"x","tags":["postgres"],"credentials":{}}]}"#,
            78,
            "the credentials of x have no uri",
        ),
        (
            "VCAP_SERVICES",
            r#"{"a":[{"tags":["postgres"]},{"tags":["postgresql"]}]}"#,
            78,
            "found 2 services tagged postgresql",
        ),
    ] {
        let output = Setup::new().env(name, value).run();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{value}: {told}");
        assert!(told.contains(wanted), "{value}: {told}");
        assert!(!told.contains("secret"), "{told}");
    }
}
