//! An instance from its provision to its end, and who gets at it.

use super::*;

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
fn a_rotation_leaves_the_old_login_until_it_is_unbound() {
    let Some(server) = server() else { return };
    let mut catalog = catalog(&[("small", json!({}))]);
    catalog["services"][0]["plans"][0]["binding_rotatable"] = json!(true);
    let broker = Setup::new()
        .catalog(&catalog)
        .env("PG_ADMIN_URL", url(&server))
        .start();
    broker.put(&instance("i"), &request("small")).expect(201);
    let old = bind(&broker, "i", "old");
    query(&old, "CREATE TABLE notes (n int)").unwrap();
    let rotation = json!({
        "service_id": "database", "plan_id": "small", "predecessor_binding_id": "old",
    });
    let rotated = broker.put(&binding("i", "new"), &rotation).expect(201);
    let new = rotated.json()["credentials"].clone();
    assert_ne!(old["username"], new["username"]);
    for login in [&old, &new] {
        query(login, "INSERT INTO notes VALUES (1)").unwrap();
    }
    broker
        .delete(&format!("{}{QUERY}", binding("i", "old")))
        .expect(200);
    assert!(query(&old, "SELECT 1").is_err());
    assert_eq!(query(&new, "SELECT count(*) FROM notes").unwrap(), "2");
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
