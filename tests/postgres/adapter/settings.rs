//! What the settings of a plan make of its databases and credentials.

use super::*;

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
        super::super::support::servers::ADMIN_PASSWORD,
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
fn applications_get_every_host_and_what_they_check_them_with() {
    let Some(server) = super::super::client::with_tls() else {
        return;
    };
    server.psql(ROLE);
    let (port, ca) = (server.port, server.folder().join("ca.pem"));
    let url = format!(
        "postgres://pgadmin:{PASSWORD}@localhost:{port},127.0.0.1:{port}/postgres?sslmode=verify-ca&sslrootcert={}",
        ca.display()
    );
    let broker = Setup::new()
        .catalog(&catalog(&[("small", json!({}))]))
        .env("PG_ADMIN_URL", url)
        .start();
    broker.put(&instance("i"), &request("small")).expect(201);
    let credentials = bind(&broker, "i", "b");
    let text = |key: &str| credentials[key].as_str().unwrap();
    let hosts = format!("localhost:{port},127.0.0.1:{port}/{}", text("name"));
    let uri = format!(
        "postgres://{}:{}@{hosts}?sslmode=verify-ca&target_session_attrs=read-write",
        text("username"),
        text("password")
    );
    assert_eq!(text("uri"), uri);
    assert!(
        text("jdbcUrl").starts_with(&format!("jdbc:postgresql://{hosts}?"))
            && text("jdbcUrl").ends_with("&sslmode=verify-ca&targetServerType=primary"),
        "{}",
        text("jdbcUrl")
    );
    assert_eq!(
        text("ca_certificate"),
        std::fs::read_to_string(&ca).unwrap()
    );
    let with_ca = format!("{uri}&sslrootcert={}", ca.display());
    assert_eq!(client(&with_ca, "SELECT 1").unwrap(), "1");
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
