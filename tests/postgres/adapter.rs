//! The adapter `postgres`: a database for each instance, a login for each binding.

use super::Server;
use super::support::{Broker, Folder, Setup, binding, instance, merged, needs};

use serde_json::{Value, json};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// The rights that the docs ask for, and no more.
const ROLE: &str = "CREATE ROLE pgadmin LOGIN CREATEDB CREATEROLE PASSWORD 'operators-password'";
const PASSWORD: &str = "operators-password";
const QUERY: &str = "?service_id=database&plan_id=small";
const UUID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

fn server() -> Option<Server> {
    let server = Server::start()?;
    server.psql(ROLE);
    Some(server)
}

fn url(server: &Server) -> String {
    format!(
        "postgres://pgadmin:{PASSWORD}@127.0.0.1:{}/postgres",
        server.port
    )
}

fn catalog(plans: &[(&str, Value)]) -> Value {
    let plans: Vec<Value> = plans
        .iter()
        .map(|(name, settings)| {
            let adapter = merged(
                &json!({ "kind": "postgres", "url": "${env:PG_ADMIN_URL}" }),
                settings.clone(),
            );
            json!({ "id": name, "name": name, "description": name, "free": true, "adapter": adapter })
        })
        .collect();
    json!({ "services": [{
        "id": "database", "name": "database", "description": "A database", "bindable": true,
        "plan_updateable": true, "plans": plans,
    }] })
}

fn setup(server: &Server, plans: &[(&str, Value)]) -> Setup {
    in_folder(Arc::new(Folder::new()), server, plans)
}

fn in_folder(folder: Arc<Folder>, server: &Server, plans: &[(&str, Value)]) -> Setup {
    Setup::in_folder(folder)
        .catalog(&catalog(plans))
        .env("PG_ADMIN_URL", url(server))
}

fn broker(server: &Server, plans: &[(&str, Value)]) -> Broker {
    setup(server, plans).start()
}

fn request(plan: &str) -> Value {
    json!({
        "service_id": "database", "plan_id": plan, "organization_guid": "org", "space_guid": "space",
    })
}

fn bind(broker: &Broker, id: &str, binding_id: &str) -> Value {
    let request = json!({ "service_id": "database", "plan_id": "small" });
    let bound = broker.put(&binding(id, binding_id), &request);
    bound.expect(201).json()["credentials"].clone()
}

/// What an application with these credentials reads; or the complaint.
fn query(credentials: &Value, sql: &str) -> Result<String, String> {
    client(credentials["uri"].as_str().unwrap(), sql)
}

fn client(uri: &str, sql: &str) -> Result<String, String> {
    let output = psql(uri).args(["-c", sql]).output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn psql(uri: &str) -> Command {
    let mut command = Command::new(needs::installed("psql").unwrap());
    command.args(["-XqAt", "-v", "ON_ERROR_STOP=1", uri]);
    command
}

/// An application that holds a session open, and has answered once.
fn session(credentials: &Value) -> Child {
    use std::io::{BufRead, BufReader, Write};
    let mut child = psql(credentials["uri"].as_str().unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let input = child.stdin.as_mut().unwrap();
    input.write_all(b"SELECT 'here';\n").unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.as_mut().unwrap());
    output.read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "here");
    child
}

/// Whether it can still ask something.
fn is_alive(child: &mut Child) -> bool {
    use std::io::Write;
    let mut input = child.stdin.take().unwrap();
    let _ = input.write_all(b"SELECT 1;\n");
    drop(input);
    child.wait().unwrap().success()
}

/// Databases and roles that are not the server's own.
fn left(server: &Server) -> String {
    server.psql(
        "SELECT datname FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1') \
         UNION ALL SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' AND rolname NOT IN ('admin', 'pgadmin')",
    )
}

#[test]
fn what_one_binding_makes_the_next_can_use_and_nothing_is_left() {
    let Some(server) = server() else { return };
    let broker = broker(&server, &[("small", json!({}))]);
    broker.put(&instance(UUID), &request("small")).expect(201);
    broker.put(&instance(UUID), &request("small")).expect(200);
    let one = bind(&broker, UUID, "one");
    let name = format!("cf_{}", UUID.replace('-', "_"));
    assert_eq!(one["name"], json!(name));
    assert_eq!(one["host"], "127.0.0.1");
    assert_eq!(one["port"], server.port);
    assert_eq!(one["sslmode"], "prefer");
    let (user, password) = (
        one["username"].as_str().unwrap(),
        one["password"].as_str().unwrap(),
    );
    assert_eq!(
        one["jdbcUrl"],
        format!(
            "jdbc:postgresql://127.0.0.1:{}/{name}?user={user}&password={password}&sslmode=prefer",
            server.port
        )
    );
    query(
        &one,
        "CREATE TABLE notes (text text); INSERT INTO notes VALUES ('kept')",
    )
    .unwrap();
    // Also what it makes as itself, not as the group.
    query(
        &one,
        "SET ROLE NONE; CREATE TABLE own (n int); CREATE SCHEMA own",
    )
    .unwrap();
    let two = bind(&broker, UUID, "two");
    query(&two, "ALTER TABLE notes ADD more int").unwrap();
    let (mut first, mut second) = (session(&one), session(&two));
    broker
        .delete(&format!("{}{QUERY}", binding(UUID, "one")))
        .expect(200);
    assert!(!is_alive(&mut first), "its sessions end with it");
    assert!(is_alive(&mut second), "those of others go on");
    assert!(query(&one, "SELECT 1").is_err());
    assert_eq!(query(&two, "SELECT text FROM notes").unwrap(), "kept");
    query(&two, "DROP TABLE own; DROP SCHEMA own").unwrap();
    let mut second = session(&two);
    broker
        .delete(&format!("{}{QUERY}", binding(UUID, "two")))
        .expect(200);
    broker
        .delete(&format!("{}{QUERY}", instance(UUID)))
        .expect(200);
    assert!(!is_alive(&mut second));
    assert_eq!(left(&server), "");
}

#[test]
fn one_instance_cannot_reach_another() {
    let Some(server) = server() else { return };
    let broker = broker(&server, &[("small", json!({}))]);
    for id in ["a", "b"] {
        broker.put(&instance(id), &request("small")).expect(201);
    }
    // The same id of a binding, twice.
    let (a, b) = (bind(&broker, "a", "x"), bind(&broker, "b", "x"));
    assert_ne!(a["username"], b["username"]);
    query(&b, "CREATE TABLE secrets (text text)").unwrap();
    let text = |of: &Value, key: &str| of[key].as_str().unwrap().to_owned();
    let elsewhere = text(&a, "uri").replace(&text(&a, "name"), &text(&b, "name"));
    let refused = client(&elsewhere, "SELECT 1").unwrap_err();
    assert!(
        refused.contains("permission denied for database"),
        "{refused}"
    );
    for attempt in [
        format!("SET ROLE \"{}\"", text(&b, "name")),
        format!("SET ROLE \"{}\"", text(&b, "username")),
        format!(
            "GRANT \"{}\" TO \"{}\"",
            text(&b, "name"),
            text(&a, "username")
        ),
        format!("ALTER ROLE \"{}\" PASSWORD 'mine'", text(&b, "username")),
        format!("ALTER DATABASE \"{}\" CONNECTION LIMIT 0", text(&b, "name")),
        format!("DROP DATABASE \"{}\"", text(&b, "name")),
        "SET ROLE pgadmin".to_owned(),
        "CREATE ROLE mine".to_owned(),
        "CREATE DATABASE mine".to_owned(),
        "SELECT pg_read_file('/etc/passwd')".to_owned(),
        "COPY (SELECT 1) TO PROGRAM 'true'".to_owned(),
    ] {
        let refused = query(&a, &attempt).unwrap_err();
        assert!(
            refused.contains("permission denied") || refused.contains("must "),
            "{attempt}: {refused}"
        );
    }
    // Rights that one gives to the other are no anchor that keeps it.
    query(&a, "CREATE TABLE bait (n int)").unwrap();
    query(
        &a,
        &format!(
            "GRANT ALL ON bait TO \"{}\", \"{}\"",
            text(&b, "username"),
            text(&b, "name")
        ),
    )
    .unwrap();
    query(
        &a,
        &format!(
            "GRANT CONNECT ON DATABASE \"{}\" TO \"{}\"",
            text(&a, "name"),
            text(&b, "username")
        ),
    )
    .unwrap();
    // Nor is what the owner sets for its database.
    let name = text(&a, "name");
    query(
        &a,
        &format!(
            "ALTER DATABASE \"{name}\" SET default_transaction_read_only = on; ALTER DATABASE \"{name}\" SET \
             statement_timeout = 1; ALTER DATABASE \"{name}\" SET search_path = nowhere"
        ),
    )
    .unwrap();
    for id in ["b", "a"] {
        let bound = format!("{}{QUERY}", binding(id, "x"));
        broker.delete(&bound).expect(200);
        broker
            .delete(&format!("{}{QUERY}", instance(id)))
            .expect(200);
    }
    assert_eq!(left(&server), "");
}

#[test]
fn ids_are_no_statements() {
    let Some(server) = server() else { return };
    let broker = broker(&server, &[("small", json!({}))]);
    let ids = [
        "%22%3B%20DROP%20ROLE%20pgadmin%3B--",
        "%27%29%3B%20SELECT%20pg_sleep%281%29%3B--",
        "%5C%27%5C",
        "template1",
        "postgres",
        "..%2F..%2F%24%7Benv%3APG_ADMIN_URL%7D",
        "%C3%A9%E2%80%8B%F0%9F%90%98",
        &"long".repeat(50),
    ];
    for id in ids {
        broker.put(&instance(id), &request("small")).expect(201);
        let credentials = bind(&broker, id, id);
        assert_eq!(query(&credentials, "SELECT 1").unwrap(), "1");
    }
    let databases = server.psql("SELECT count(*) FROM pg_database WHERE datname LIKE 'cf\\_%'");
    assert_eq!(databases, ids.len().to_string());
    for id in ids {
        broker
            .delete(&format!("{}{QUERY}", binding(id, id)))
            .expect(200);
        broker
            .delete(&format!("{}{QUERY}", instance(id)))
            .expect(200);
    }
    assert_eq!(left(&server), "");
}

#[test]
fn a_plan_limits_and_an_update_moves_between_limits() {
    let Some(server) = server() else { return };
    let plans = [
        (
            "small",
            json!({ "connections": 1, "statement_timeout": "100ms" }),
        ),
        ("large", json!({ "extensions": ["pgcrypto", "uuid-ossp"] })),
        (
            "broken",
            json!({ "extensions": ["no_such_extension"], "retain": "1d" }),
        ),
    ];
    let broker = broker(&server, &plans);
    broker.put(&instance("i"), &request("small")).expect(201);
    let credentials = bind(&broker, "i", "b");
    let cancelled = query(&credentials, "SELECT pg_sleep(30)").unwrap_err();
    assert!(cancelled.contains("statement timeout"), "{cancelled}");
    let held = session(&credentials);
    let refused = query(&credentials, "SELECT 1").unwrap_err();
    assert!(refused.contains("too many connections"), "{refused}");
    assert!(is_alive(&mut { held }));
    let update = json!({ "service_id": "database", "plan_id": "large" });
    broker.patch(&instance("i"), &update).expect(200);
    let held = session(&credentials);
    query(
        &credentials,
        "SELECT pg_sleep(0.2), gen_random_uuid(), uuid_generate_v4()",
    )
    .unwrap();
    assert!(is_alive(&mut { held }));
    // A plan that cannot be had leaves the instance as it was.
    let update = json!({ "service_id": "database", "plan_id": "broken" });
    let failed = broker.patch(&instance("i"), &update).expect(500);
    assert!(
        failed.description().contains("no_such_extension"),
        "{}",
        failed.description()
    );
    assert_eq!(query(&credentials, "SELECT 1").unwrap(), "1");
    let failed = broker.put(&instance("j"), &request("broken")).expect(500);
    assert!(
        failed.description().contains("no_such_extension"),
        "{}",
        failed.description()
    );
    // Platforms delete what has failed.
    let query = "?service_id=database&plan_id=broken";
    let gone = broker.delete(&format!("{}{query}", instance("j"))).status;
    assert!(matches!(gone, 200 | 410), "{gone}");
    broker
        .delete(&format!(
            "{}?service_id=database&plan_id=large",
            binding("i", "b")
        ))
        .expect(200);
    broker
        .delete(&format!(
            "{}?service_id=database&plan_id=large",
            instance("i")
        ))
        .expect(200);
    assert_eq!(left(&server), "");
}

#[test]
fn a_deleted_database_is_kept_for_as_long_as_its_plan_says() {
    let Some(server) = server() else { return };
    let broker = broker(&server, &[("small", json!({ "retain": "1s" }))]);
    let make = |id: &str| {
        broker.put(&instance(id), &request("small")).expect(201);
        let credentials = bind(&broker, id, "b");
        query(&credentials, "CREATE TABLE notes (text text)").unwrap();
        query(&credentials, &format!("INSERT INTO notes VALUES ('{id}')")).unwrap();
        broker
            .delete(&format!("{}{QUERY}", binding(id, "b")))
            .expect(200);
        broker
            .delete(&format!("{}{QUERY}", instance(id)))
            .expect(200);
    };
    let kept = || server.psql("SELECT datname FROM pg_database WHERE datname LIKE '%_kept_%'");
    make(UUID);
    let first = kept();
    assert!(first.starts_with("cf_0f8fad5b"), "{first}");
    // An operator brings it back to look into it. Until then nobody gets in.
    server.psql(&format!(
        "ALTER DATABASE \"{first}\" ALLOW_CONNECTIONS true"
    ));
    let notes = server.psql_as(
        "admin",
        super::support::servers::ADMIN_PASSWORD,
        &first,
        "SELECT text FROM notes",
    );
    assert_eq!(notes.unwrap(), UUID);
    // The same instance again is another database; and what is over goes with the next one that is removed.
    let end = Instant::now() + Duration::from_secs(60);
    while kept().contains(&first) {
        make(UUID);
        assert!(Instant::now() < end);
    }
}

#[test]
fn what_cannot_be_done_is_told() {
    let Some(mut server) = server() else { return };
    let broker = broker(&server, &[("small", json!({}))]);
    let with = merged(&request("small"), json!({ "parameters": { "size": 3 } }));
    broker
        .put(&instance("i"), &with)
        .expect_naming(400, "parameters.size");
    broker.put(&instance("i"), &request("small")).expect(201);
    let with =
        json!({ "service_id": "database", "plan_id": "small", "parameters": { "role": "x" } });
    broker
        .put(&binding("i", "b"), &with)
        .expect_naming(400, "parameters.role");
    broker
        .patch(&instance("i"), &with)
        .expect_naming(400, "parameters.role");
    let credentials = bind(&broker, "i", "b");
    server.stop();
    let refused = broker.put(&instance("j"), &request("small")).expect(503);
    assert_eq!(
        refused.description(),
        "the database server cannot be reached at the moment"
    );
    broker
        .delete(&format!("{}{QUERY}", binding("i", "b")))
        .expect(503);
    server.go_on();
    assert_eq!(query(&credentials, "SELECT 1").unwrap(), "1");
    broker
        .delete(&format!("{}{QUERY}", binding("i", "b")))
        .expect(200);
    // Somebody has removed it by hand.
    server.psql(&format!(
        "DROP DATABASE \"{}\"",
        credentials["name"].as_str().unwrap()
    ));
    let request = json!({ "service_id": "database", "plan_id": "small" });
    let failed = broker.put(&binding("i", "c"), &request).expect(500);
    assert_eq!(
        failed.description(),
        "the database of this instance is gone from its server"
    );
    broker
        .delete(&format!("{}{QUERY}", instance("i")))
        .expect(200);
    assert_eq!(left(&server), "");
    // A role without rights, and a wrong password.
    server.psql("ALTER ROLE pgadmin NOCREATEDB");
    let failed = broker.put(&instance("k"), &request_with_plan()).expect(500);
    assert_eq!(
        failed.description(),
        "the broker lacks a right on the database server"
    );
    server.psql("ALTER ROLE pgadmin CREATEDB PASSWORD 'another'");
    let refused = broker.put(&instance("k"), &request_with_plan()).expect(503);
    assert_eq!(
        refused.description(),
        "the database server cannot be reached at the moment"
    );
    server.psql(&format!("ALTER ROLE pgadmin PASSWORD '{PASSWORD}'"));
    let gone = broker.delete(&format!("{}{QUERY}", instance("k"))).status;
    assert!(matches!(gone, 200 | 410), "{gone}");
    assert_eq!(left(&server), "");
    let printed = broker.stop().1;
    for secret in [PASSWORD, credentials["password"].as_str().unwrap()] {
        assert!(!printed.contains(secret), "{printed}");
    }
    assert!(printed.contains("SQLSTATE 28P01"), "{printed}");
}

fn request_with_plan() -> Value {
    request("small")
}

/// Killed in the middle of whatever it does: everything ends, and nothing is left over.
#[test]
fn a_broker_that_is_killed_leaves_nothing_behind() {
    let Some(server) = server() else { return };
    let plans = [("small", json!({ "concurrency": 8 }))];
    let folder = Arc::new(Folder::new());
    let mut reached = Vec::new();
    for round in 0..6 {
        let broker = in_folder(folder.clone(), &server, &plans).start();
        let address = broker.address;
        let clients: Vec<_> = (0..4)
            .map(|client| {
                thread::spawn(move || {
                    use super::support::Request;
                    for number in 0.. {
                        let id = format!("{round}-{client}-{number}");
                        let bound = json!({ "service_id": "database", "plan_id": "small" });
                        let requests = [
                            Request::new(address, "PUT", &instance(&id)).json(&request("small")),
                            Request::new(address, "PUT", &binding(&id, "b")).json(&bound),
                            Request::new(
                                address,
                                "DELETE",
                                &format!("{}{QUERY}", binding(&id, "b")),
                            ),
                            Request::new(address, "DELETE", &format!("{}{QUERY}", instance(&id))),
                        ];
                        for request in requests {
                            match request.try_send() {
                                Ok(answer) => assert!(answer.status < 300, "{answer:?}"),
                                Err(_) => return id,
                            }
                        }
                    }
                    unreachable!()
                })
            })
            .collect();
        // Somewhere in the middle: when the server has just seen something new.
        let seen = server.psql("SELECT max(oid) FROM pg_roles");
        let end = Instant::now() + Duration::from_secs(60);
        while server.psql("SELECT max(oid) FROM pg_roles") == seen {
            assert!(Instant::now() < end, "nothing happens");
        }
        broker.kill();
        reached.extend(clients.into_iter().map(|client| client.join().unwrap()));
    }
    let broker = in_folder(folder, &server, &plans).start();
    // Platforms delete what they have no answer for.
    for id in reached {
        let bound = format!("{}{QUERY}", binding(&id, "b"));
        for target in [bound, format!("{}{QUERY}", instance(&id))] {
            let gone = broker.delete(&target).status;
            assert!(matches!(gone, 200 | 410), "{gone}");
        }
    }
    assert_eq!(left(&server), "");
}

#[test]
fn it_passes_the_test_of_adapters() {
    let Some(server) = server() else { return };
    let mut setup = setup(&server, &[("small", json!({ "extensions": ["pgcrypto"] }))]);
    setup
        .command
        .args(["adapter-test", "catalog.json", "--plan", "small"]);
    let output = setup.run();
    let printed = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}");
    assert_eq!(left(&server), "", "{printed}");
}

#[test]
fn a_bound_service_names_the_server() {
    let Some(server) = server() else { return };
    let services = json!({ "elephants": [{
        "name": "shared-server", "tags": ["postgresql"],
        "credentials": {
            "hostname": "127.0.0.1", "port": server.port, "username": "pgadmin", "password": PASSWORD,
            "name": "postgres",
        },
    }] });
    let settings = json!({
        "url": null, "service": "shared-server", "host": "db.example.com", "port": 6432, "sslmode": "verify-full",
        "prefix": "mine",
    });
    let broker = setup(&server, &[("small", settings)])
        .env("VCAP_SERVICES", services.to_string())
        // Not the broker's own state.
        .env("BROKER_STORE", "memory")
        .start();
    broker.put(&instance(UUID), &request("small")).expect(201);
    let credentials = bind(&broker, UUID, "b");
    let uri = credentials["uri"].as_str().unwrap();
    assert!(
        uri.contains("@db.example.com:6432/mine_0f8fad5b_")
            && uri.ends_with("?sslmode=verify-full"),
        "{uri}"
    );
    let there = uri.replace("db.example.com:6432", &format!("127.0.0.1:{}", server.port));
    let there = there.replace("verify-full", "prefer");
    assert_eq!(client(&there, "SELECT 1").unwrap(), "1");
}

#[test]
fn wrong_settings_are_found_before_anybody_connects() {
    let socket = "postgres://u:secret-word@%2Frun%2Fpostgresql/d";
    for (settings, wanted) in [
        (
            json!({ "url": null }),
            "adapter.url: found nothing, wanted the address of a PostgreSQL server",
        ),
        (
            json!({ "url": "mysql://u:secret-word@h/d" }),
            "adapter.url: found no postgres://",
        ),
        (
            json!({ "url": "postgres://u:secret-word@h/d?nonsense=1" }),
            "adapter.url: ",
        ),
        (
            json!({ "url": socket }),
            "adapter.url: leads to a socket of this machine",
        ),
        (
            json!({ "service": "x" }),
            "adapter.service: found \"url\" as well",
        ),
        (
            json!({ "url": null, "service": "x" }),
            "adapter.service: found \"x\", which is no service in VCAP_SERVICES",
        ),
        (json!({ "connections": 0 }), "adapter.connections: "),
        (
            json!({ "connections": 4_000_000_000_u64 }),
            "adapter.connections: is too large",
        ),
        (
            json!({ "statement_timeout": "10" }),
            "adapter.statement_timeout: found \"10\"",
        ),
        (
            json!({ "statement_timeout": "90d" }),
            "adapter.statement_timeout: is too large",
        ),
        (
            json!({ "extensions": ["a", 1] }),
            "adapter.extensions[1]: found a number",
        ),
        (
            json!({ "prefix": "Upper" }),
            "adapter.prefix: wanted at most 10 small letters",
        ),
        (json!({ "prefix": "pg_x" }), "adapter.prefix: "),
        (json!({ "port": 70000 }), "adapter.port: found 70000"),
        (
            json!({ "sslmode": "always" }),
            "adapter.sslmode: wanted one of disable",
        ),
        (
            json!({ "retain": "soon" }),
            "adapter.retain: found \"soon\"",
        ),
        (
            json!({ "retian": "1d" }),
            "adapter.retian: unknown key, did you mean \"retain\"?",
        ),
    ] {
        let mut setup = Setup::new()
            .catalog(&catalog(&[("small", settings.clone())]))
            .env("PG_ADMIN_URL", "postgres://u:secret-word@h/d");
        setup.command.args(["check", "catalog.json"]);
        let output = setup.run();
        let printed =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{settings}: {printed}");
        assert!(printed.contains(wanted), "{settings}: {printed}");
        assert!(!printed.contains("secret-word"), "{settings}: {printed}");
    }
    // Where the variables are absent, nothing can be said of them.
    let mut setup = Setup::new().catalog(&catalog(&[("small", json!({}))]));
    setup
        .command
        .args(["check", "--without-secrets", "catalog.json"]);
    let output = setup.run();
    assert!(output.status.success(), "{output:?}");
}
