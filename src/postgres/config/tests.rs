use super::*;

fn parsed(text: &str) -> Config {
    Config::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn hosts(text: &str) -> Vec<String> {
    parsed(text).hosts.iter().map(Host::to_string).collect()
}

#[test]
fn uris_and_pairs_say_the_same() {
    let uri = parsed(
        "postgresql://alex:p%40ss%2Fw%3Ard@db.example.com:6432/broker%20db?sslmode=verify-full&sslrootcert=/ca.pem\
         &connect_timeout=3&application_name=a%26b&options=-c%20search_path%3Dx",
    );
    let pairs = parsed(
        "user = alex password='p@ss/w:rd' host=db.example.com port=6432 dbname='broker db' sslmode=verify-full \
         sslrootcert=/ca.pem connect_timeout=3 application_name=a&b options='-c search_path=x'",
    );
    assert_eq!(uri, pairs);
    assert_eq!(uri.password.as_deref(), Some("p@ss/w:rd"));
    assert_eq!(uri.tls, TlsMode::VerifyFull);
    assert_eq!(uri.options.as_deref(), Some("-c search_path=x"));
    assert_eq!(uri.connect_timeout, Duration::from_secs(3));
    assert_eq!(
        format!("{uri} {uri:?}")
            .matches("postgres://alex@db.example.com:6432/broker db")
            .count(),
        2
    );
}

#[test]
fn what_is_left_out_has_a_default() {
    let config = parsed("postgres://alex@");
    assert_eq!(hosts("postgres://alex@"), ["localhost:5432"]);
    assert_eq!((config.database.as_str(), config.password), ("alex", None));
    assert_eq!((config.tls, config.writable), (TlsMode::Prefer, false));
    assert_eq!(config.application_name, "brokerlet");
}

#[test]
fn several_hosts_ports_addresses_and_sockets() {
    assert_eq!(
        hosts("postgres://a@one,two:6000,[::1]:7000,[2001:db8::1]/d"),
        ["one:5432", "two:6000", "[::1]:7000", "[2001:db8::1]:5432"]
    );
    assert!(parsed("postgres://a@one,two/d").writable);
    assert_eq!(hosts("user=a host=one,two port=7"), ["one:7", "two:7"]);
    assert_eq!(
        hosts("postgres://a@%2Frun%2Fpg:7/d"),
        ["/run/pg/.s.PGSQL.7"]
    );
    assert_eq!(hosts("user=a host=/tmp"), ["/tmp/.s.PGSQL.5432"]);
    assert_eq!(
        parsed("user=a host=name hostaddr=10.0.0.1").hosts,
        [Host::Tcp {
            name: "name".into(),
            address: Some("10.0.0.1".into()),
            port: 5432
        }]
    );
    assert_eq!(hosts("postgres://a@/d?host=x&port=9"), ["x:9"]);
}

#[test]
fn roots_strengthen_the_mode_as_with_libpq() {
    for (query, wanted) in [
        ("sslmode=require", TlsMode::Require),
        ("sslmode=require&sslrootcert=/ca", TlsMode::VerifyCa),
        ("sslrootcert=system", TlsMode::VerifyFull),
        ("ssl=true", TlsMode::Require),
    ] {
        assert_eq!(
            parsed(&format!("postgres://a@h/d?{query}")).tls,
            wanted,
            "{query}"
        );
    }
}

#[test]
fn what_is_wrong_is_named_and_no_password_is_shown() {
    for (text, wanted) in [
        ("postgres://h/d", "the user name is missing"),
        (
            "postgres://a:secret%FF@h/d",
            "the password is not percent-encoded UTF-8",
        ),
        ("postgres://a:secret@h:x/d", "port: found \"x\""),
        ("postgres://a:secret@h:0/d", "port: found \"0\""),
        ("postgres://a:secret@[::1/d", "has no \"]\""),
        (
            "postgres://a:secret@h/d?sslmode=maybe",
            "sslmode: found \"maybe\"",
        ),
        (
            "postgres://a:secret@h/d?x",
            "the parameter \"x\" has no \"=\"",
        ),
        (
            "postgres://a:secret@h/d?colour=red",
            "there is no parameter \"colour\"",
        ),
        (
            "postgres://a:secret@h/d?sslcert=c",
            "sslcert and sslkey go together",
        ),
        (
            "postgres://a:secret@h/d?connect_timeout=soon",
            "connect_timeout: found \"soon\"",
        ),
        (
            "postgres://a:secret@h/d?target_session_attrs=standby",
            "target_session_attrs",
        ),
        (
            "postgres://a:secret@h1,h2/d?port=1,2,3",
            "found 2 hosts and 3 ports",
        ),
        (
            "user=a password='secret",
            "the value of password has no closing quote",
        ),
        ("nonsense", "found no postgres://"),
        ("user=a%00 =", "found no postgres://"),
    ] {
        let error = Config::parse(text).unwrap_err();
        assert!(error.contains(wanted), "{text}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
