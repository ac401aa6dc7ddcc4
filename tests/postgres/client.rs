//! The client: logins, TLS, several hosts, deadlines.

use super::Server;
use super::support::servers::ADMIN_PASSWORD;

use brokerlet::postgres::{Config, Connection, Error, Kind, Pool, Statement, Value};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn pool(url: &str) -> Pool {
    Pool::new(Config::parse(url).unwrap(), 4).unwrap()
}

/// What a query returns, in its first column.
fn ask(url: &str, sql: &str) -> Result<String, Error> {
    let done = pool(url).run(&[Statement::new(sql, [])], soon())?;
    Ok(done[0].rows[0].text(0)?.to_owned())
}

/// A server with TLS, for `localhost`, whose authority is in `ca.pem` of its folder. `visitor.pem` is a certificate for a user
/// `visitor`.
pub fn with_tls() -> Option<Server> {
    Server::start_with(|folder| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL takes a certificate for self-signed if it has the name of its authority.
        params
            .distinguished_name
            .push(DnType::CommonName, "authority");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        write(&folder.join("ca.pem"), &authority.pem(), 0o644);
        write(&folder.join("cert.pem"), &certificate.pem(), 0o644);
        write(&folder.join("key.pem"), &key.serialize_pem(), 0o600);
        let visitor = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "visitor");
        let certificate = params.signed_by(&visitor, &authority).unwrap();
        write(&folder.join("visitor.pem"), &certificate.pem(), 0o644);
        write(
            &folder.join("visitor-key.pem"),
            &visitor.serialize_pem(),
            0o600,
        );
        let path = |name: &str| folder.join(name).display().to_string();
        vec![
            "ssl=on".to_owned(),
            format!("ssl_ca_file={}", path("ca.pem")),
            format!("ssl_cert_file={}", path("cert.pem")),
            format!("ssl_key_file={}", path("key.pem")),
        ]
    })
}

fn write(path: &Path, text: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

const IS_SECURE: &str =
    "SELECT (ssl AND version LIKE 'TLSv1%')::TEXT FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

#[test]
fn every_mode_of_tls_does_what_libpq_does() {
    let Some(server) = with_tls() else {
        return;
    };
    let url = |host: &str, query: &str| {
        let port = server.port;
        format!("postgres://admin:{ADMIN_PASSWORD}@{host}:{port}/postgres?{query}")
    };
    let ca = server.folder().join("ca.pem").display().to_string();
    let other = server.folder().join("cert.pem").display().to_string();
    for (host, query, wanted) in [
        ("127.0.0.1", "sslmode=disable".to_owned(), Ok("false")),
        ("127.0.0.1", "sslmode=prefer".to_owned(), Ok("true")),
        ("127.0.0.1", "sslmode=require".to_owned(), Ok("true")),
        (
            "127.0.0.1",
            format!("sslmode=verify-ca&sslrootcert={ca}"),
            Ok("true"),
        ),
        (
            "127.0.0.1",
            format!("sslmode=verify-ca&sslrootcert={other}"),
            Err("invalid peer certificate"),
        ),
        (
            "127.0.0.1",
            format!("sslmode=verify-full&sslrootcert={ca}"),
            Err("not valid for"),
        ),
        (
            "localhost",
            format!("sslmode=verify-full&sslrootcert={ca}"),
            Ok("true"),
        ),
    ] {
        let found = ask(&url(host, &query), IS_SECURE);
        match (found, wanted) {
            (Ok(found), Ok(wanted)) => assert_eq!(found, wanted, "{query}"),
            (Err(error), Err(wanted)) => {
                assert!(error.message.contains(wanted), "{query}: {error}");
                assert!(!error.message.contains(ADMIN_PASSWORD));
            }
            (found, wanted) => panic!("{host} {query}: {found:?}, wanted {wanted:?}"),
        }
    }
    for (query, wanted) in [
        ("sslmode=verify-full", "need sslrootcert"),
        (
            "sslmode=verify-ca&sslrootcert=/no/such",
            "sslrootcert /no/such",
        ),
    ] {
        let config = Config::parse(&url("localhost", query)).unwrap();
        let error = Pool::new(config, 1).err().unwrap();
        assert!(error.contains(wanted), "{error}");
    }
}

/// The login says so itself: `SCRAM-SHA-256-PLUS` is bound to the certificate, and a server that is asked for another one
/// refuses it.
#[test]
fn logins_by_scram_and_md5_and_without_a_password() {
    let Some(server) = with_tls() else {
        return;
    };
    server
        .psql("SET password_encryption = 'md5'; CREATE ROLE old LOGIN PASSWORD 'an old password'");
    server.psql("CREATE ROLE new LOGIN PASSWORD 'pässword ''quoted'''");
    let rules = "host all old 127.0.0.1/32 md5\nhost all nobody 127.0.0.1/32 trust\nhost all all all scram-sha-256\n";
    fs::write(server.folder().join("data/pg_hba.conf"), rules).unwrap();
    server.psql("CREATE ROLE nobody LOGIN");
    server.psql("SELECT pg_reload_conf()");
    let url = |login: &str, query: &str| {
        format!(
            "postgres://{login}@127.0.0.1:{}/postgres?{query}",
            server.port
        )
    };
    for login in [
        "old:an%20old%20password",
        "new:p%C3%A4ssword%20'quoted'",
        "nobody",
    ] {
        for query in ["sslmode=disable", "sslmode=require"] {
            let user = ask(&url(login, query), "SELECT current_user::TEXT").unwrap();
            assert!(login.starts_with(&user), "{login}");
        }
    }
    for login in ["new:wrong", "old:wrong", "new", "missing:x"] {
        let error = ask(&url(login, "sslmode=require"), "SELECT 'x'").unwrap_err();
        assert_eq!(error.kind, Kind::Connect, "{error}");
        assert!(!error.message.contains("wrong"), "{error}");
    }
}

#[test]
fn a_certificate_is_a_login_and_so_is_none() {
    let Some(server) = with_tls() else {
        return;
    };
    server.psql("CREATE ROLE visitor LOGIN");
    let rules = "hostssl all visitor 127.0.0.1/32 cert\nhost all all all scram-sha-256\n";
    fs::write(server.folder().join("data/pg_hba.conf"), rules).unwrap();
    server.psql("SELECT pg_reload_conf()");
    let path = |name: &str| server.folder().join(name).display().to_string();
    let url = |query: &str| {
        let port = server.port;
        format!("postgres://visitor@127.0.0.1:{port}/postgres?sslmode=require{query}")
    };
    let (certificate, key) = (path("visitor.pem"), path("visitor-key.pem"));
    let shown = format!("&sslcert={certificate}&sslkey={key}");
    let user = ask(&url(&shown), "SELECT current_user::TEXT").unwrap();
    assert_eq!(user, "visitor");
    let error = ask(&url(""), "SELECT 'x'").unwrap_err();
    assert_eq!(error.kind, Kind::Connect, "{error}");
    // What it names has to be there.
    let config = Config::parse(&url(&format!("&sslcert={certificate}&sslkey=/no/such"))).unwrap();
    let error = Pool::new(config, 1).err().unwrap();
    assert!(error.contains("/no/such"), "{error}");
}

#[test]
fn a_socket_of_the_machine_leads_to_the_server() {
    let here = |folder: &Path| vec![format!("unix_socket_directories={}", folder.display())];
    let Some(server) = Server::start_with(here) else {
        return;
    };
    let folder = server.folder().display().to_string();
    for url in [
        format!(
            "postgres://admin:{ADMIN_PASSWORD}@{}:{}/postgres",
            folder.replace('/', "%2F"),
            server.port
        ),
        format!(
            "host={folder} port={} user=admin password={ADMIN_PASSWORD} dbname=postgres",
            server.port
        ),
    ] {
        let from = "SELECT coalesce(client_addr::TEXT, 'a socket') FROM pg_stat_activity WHERE pid = pg_backend_pid()";
        assert_eq!(ask(&url, from).unwrap(), "a socket");
    }
}

#[test]
fn statements_of_one_round_trip_are_one_transaction() {
    let Some(server) = Server::start() else {
        return;
    };
    let pool = pool(&server.database("pipeline"));
    let run = |statements: &[Statement<'_>]| pool.run(statements, soon());
    run(&[Statement::new(
        "CREATE TABLE t (n BIGINT PRIMARY KEY, text TEXT, bytes BYTEA, yes BOOLEAN)",
        [],
    )])
    .unwrap();
    const INSERT: &str = "INSERT INTO t VALUES ($1, $2, $3, $4)";
    let row = |n| {
        Statement::new(
            INSERT,
            [
                Value::Int(n),
                Value::Text("é'\\"),
                Value::Bytes(&[0, 255]),
                Value::Bool(true),
            ],
        )
    };
    let done = run(&[
        row(i64::MIN),
        row(2),
        Statement::new("SELECT n, text, bytes, yes, NULL FROM t ORDER BY n", []),
    ])
    .unwrap();
    assert_eq!((done[0].count, done[2].rows.len()), (1, 2));
    let first = &done[2].rows[0];
    assert_eq!(
        (first.int(0).unwrap(), first.text(1).unwrap()),
        (i64::MIN, "é'\\")
    );
    assert!(first.bool(3).unwrap() && first.is_null(4));
    // The second one fails, and takes the first one with it; the connection goes on.
    let error = run(&[row(3), row(2)]).unwrap_err();
    assert_eq!(error.code(), Some("23505"), "{error}");
    assert!(
        !error.message.contains("(2)"),
        "a parameter is quoted: {error}"
    );
    let count = run(&[Statement::new("SELECT count(*) FROM t", [])]).unwrap();
    assert_eq!(count[0].rows[0].int(0).unwrap(), 2);
    // Nothing that was prepared is lost by a statement that cannot be.
    assert_eq!(
        run(&[Statement::new("SELEC 1", [])]).unwrap_err().code(),
        Some("42601")
    );
    run(&[row(4)]).unwrap();
}

#[test]
fn the_time_is_over_for_whoever_does_not_answer() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let config = Config::parse(&format!(
        "postgres://a:b@127.0.0.1:{port}/d?connect_timeout=1"
    ))
    .unwrap();
    let begun = Instant::now();
    let error = Connection::open(&config, None, soon()).err().unwrap();
    assert_eq!(error.kind, Kind::Connect);
    assert!(error.message.contains("no answer in time"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10));

    let Some(server) = Server::start() else {
        return;
    };
    let pool = pool(&server.database("slow"));
    let sleep = [Statement::new("SELECT pg_sleep(60)::TEXT", [])];
    let error = pool
        .run(&sleep, Instant::now() + Duration::from_secs(1))
        .unwrap_err();
    assert_eq!(error.kind, Kind::Lost, "{error}");
    // It was cancelled, too.
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active' AND pid <> pg_backend_pid()";
    let end = soon();
    while server.psql(running) != "0" {
        assert!(Instant::now() < end, "it still sleeps");
    }
    pool.run(&[Statement::new("SELECT 1", [])], soon()).unwrap();
}

#[test]
fn the_first_host_that_can_be_written_to_is_taken() {
    let (Some(standby), Some(primary)) = (Server::start(), Server::start()) else {
        return;
    };
    standby.psql("ALTER SYSTEM SET default_transaction_read_only = on");
    standby.psql("SELECT pg_reload_conf()");
    let dead = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let hosts = [dead, standby.port, primary.port].map(|port| format!("127.0.0.1:{port}"));
    let url = |query: &str| {
        format!(
            "postgres://admin:{ADMIN_PASSWORD}@{}/postgres{query}",
            hosts.join(",")
        )
    };
    let port = "SELECT current_setting('port')";
    assert_eq!(ask(&url(""), port).unwrap(), primary.port.to_string());
    let none = format!(
        "postgres://admin:{ADMIN_PASSWORD}@{}/postgres?target_session_attrs=read-write",
        hosts[1]
    );
    assert!(
        ask(&none, port)
            .unwrap_err()
            .message
            .contains("is read only")
    );
}

#[test]
fn a_connection_that_broke_while_nobody_used_it_is_replaced() {
    let Some(server) = Server::start() else {
        return;
    };
    let pool = pool(&server.database("broken"));
    let one = [Statement::new("SELECT 1", [])];
    pool.run(&one, soon()).unwrap();
    server.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'broken'");
    pool.run(&one, soon()).unwrap();
}
