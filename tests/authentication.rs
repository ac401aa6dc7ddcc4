//! spec: Platform to Service Broker Authentication; RFC 7617.

mod support;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use support::*;

const METHODS: &[&str] = &["GET", "HEAD", "PUT", "PATCH", "DELETE", "POST", "OPTIONS"];

fn setup() -> Setup {
    Setup::new().env("BROKER_STORE", "memory")
}

/// Without the credentials that the harness sets.
fn without_credentials() -> Setup {
    let mut setup = setup();
    setup.command.env_remove("BROKER_USERNAME");
    setup.command.env_remove("BROKER_PASSWORD");
    setup
}

/// The status of the catalog for these credentials.
fn login(broker: &Broker, username: &str, password: &str) -> u16 {
    let request = broker.request("GET", "/v2/catalog");
    request.login(username, password).send().status
}

fn authorized(broker: &Broker, authorization: impl Into<String>) -> u16 {
    let request = broker.request("GET", "/v2/catalog");
    request.header("Authorization", authorization).send().status
}

/// Asserts that the broker does not start, and says why: exit code 78 and every one of these words.
#[track_caller]
fn refuses(setup: Setup, wanted: &[&str]) {
    let output = setup.run();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{told}");
    for word in wanted {
        assert!(told.contains(word), "{word:?} is not in {told:?}");
    }
    assert!(!told.contains(PASSWORD), "{told}");
}

// 401

#[test]
fn every_path_and_method_is_401_without_credentials() {
    let broker = Broker::in_memory();
    let (instance, binding) = (instance("i"), binding("i", "b"));
    for path in [
        "/v2/catalog",
        "//v2/catalog",
        &instance,
        &format!("{instance}/last_operation"),
        &binding,
        &format!("{binding}/last_operation"),
        "/",
        "/v2",
        "/v2/service_instances",
        "/v2/service_instances/",
        "/v2/service_instances/%ff",
        "/nowhere",
        "/healthz/",
        "//healthz",
        "/HEALTHZ",
        "/healthz%20",
        "/v2/catalog?accepts_incomplete=nonsense",
    ] {
        for method in METHODS {
            let request = || broker.request(method, path);
            for request in [
                request().without("Authorization"),
                request().login(USERNAME, "wrong"),
            ] {
                let answer = request.send();
                assert_eq!(answer.status, 401, "{method} {path}");
                let challenge = answer.header("WWW-Authenticate").unwrap_or_default();
                assert!(
                    challenge.starts_with("Basic realm=\""),
                    "{method} {path}: {challenge:?}"
                );
            }
        }
    }
}

#[test]
fn a_401_asks_for_basic_authentication_in_utf_8() {
    let broker = Broker::in_memory();
    let request = broker
        .request("GET", "/v2/catalog")
        .without("Authorization");
    let answer = request.send().expect(401);
    let challenge = "Basic realm=\"brokerlet\", charset=\"UTF-8\"";
    assert_eq!(answer.header("WWW-Authenticate"), Some(challenge));
}

#[test]
fn a_request_that_is_401_is_not_carried_out() {
    let broker = Broker::in_memory();
    let body = provision("example_service", "plan_one");
    let request = broker.request("PUT", &instance("i")).json(&body);
    request.login(USERNAME, "wrong").send().expect(401);
    let poll = instance("i") + "/last_operation";
    broker.get(&poll).expect(404);

    broker.put(&instance("i"), &body).expect(201);
    let request = broker.request("DELETE", &(instance("i") + IDS));
    request.without("Authorization").send().expect(401);
    broker.get(&poll).expect(200);
}

#[test]
fn a_wrong_password_locks_nobody_out() {
    let broker = Broker::in_memory();
    for _ in 0..20 {
        assert_eq!(login(&broker, USERNAME, "wrong"), 401);
    }
    assert_eq!(login(&broker, USERNAME, PASSWORD), 200);
    assert_eq!(login(&broker, USERNAME, "wrong"), 401);
}

#[test]
fn the_health_check_needs_neither_credentials_nor_version() {
    let broker = Broker::in_memory();
    let request = |method| {
        broker
            .request(method, "/healthz")
            .without("X-Broker-API-Version")
    };
    request("GET").without("Authorization").send().expect(200);
    request("GET").login("nobody", "wrong").send().expect(200);
    assert_eq!(request("HEAD").without("Authorization").send().status, 200);
    let answer = request("POST").without("Authorization").send().expect(405);
    assert_eq!(answer.header("Allow"), Some("GET, HEAD"));
}

// Order

#[test]
fn credentials_come_before_everything_else() {
    let broker = Broker::in_memory();
    let wrong = |method, target| broker.request(method, target).login(USERNAME, "wrong");
    let catalog = || wrong("GET", "/v2/catalog");
    for request in [
        catalog().without("X-Broker-API-Version"),
        catalog().header("X-Broker-API-Version", "nonsense"),
        catalog().header("X-Broker-API-Version", "1.0"),
        catalog().header("X-Broker-API-Originating-Identity", "nonsense"),
        wrong("GET", "/nowhere"),
        wrong("POST", "/v2/catalog"),
        wrong("PUT", &instance("i")).body("{"),
        wrong("DELETE", &instance("i")),
    ] {
        request.send().expect(401);
    }
}

#[test]
fn the_version_comes_before_path_and_method() {
    let broker = Broker::in_memory();
    for (method, path, otherwise) in [
        ("GET", "/nowhere", 404),
        ("POST", "/v2/catalog", 405),
        ("PUT", "/v2/service_instances/i", 400),
        (
            "DELETE",
            "/v2/service_instances/i?service_id=x&plan_id=y",
            410,
        ),
    ] {
        let request = || broker.request(method, path);
        let header = "X-Broker-API-Version";
        request().without(header).send().expect_naming(400, header);
        request().header(header, "2.9").send().expect(412);
        request().send().expect(otherwise);
    }
}

// RFC 7617

#[test]
fn the_scheme_is_read_in_any_case_and_with_more_than_one_space() {
    let broker = Broker::in_memory();
    let token = BASE64_STANDARD.encode("alex:bigsecret");
    for scheme in ["Basic", "basic", "BASIC", "bAsIc", "Basic  "] {
        assert_eq!(
            authorized(&broker, format!("{scheme} {token}")),
            200,
            "{scheme:?}"
        );
    }
    for other in ["Bearer", "Digest", "BasicX", ""] {
        assert_eq!(
            authorized(&broker, format!("{other} {token}")),
            401,
            "{other:?}"
        );
    }
}

#[test]
fn the_token_is_read_with_and_without_padding() {
    let broker = setup().env("BROKER_PASSWORD", "bigsecret1").start();
    let pair = "alex:bigsecret1";
    let (padded, bare) = (
        BASE64_STANDARD.encode(pair),
        BASE64_STANDARD_NO_PAD.encode(pair),
    );
    assert_eq!(padded, bare, "this pair needs no padding");
    assert_eq!(authorized(&broker, format!("Basic {padded}")), 200);

    let broker = Broker::in_memory();
    let pair = "alex:bigsecret";
    let (padded, bare) = (
        BASE64_STANDARD.encode(pair),
        BASE64_STANDARD_NO_PAD.encode(pair),
    );
    assert_ne!(padded, bare, "this pair needs padding");
    for token in [padded, bare] {
        assert_eq!(
            authorized(&broker, format!("Basic {token}")),
            200,
            "{token}"
        );
    }
}

#[test]
fn a_malformed_authorization_is_401() {
    let broker = Broker::in_memory();
    let encoded = |text: &[u8]| format!("Basic {}", BASE64_STANDARD.encode(text));
    for authorization in [
        String::new(),
        "Basic".to_owned(),
        "Basic %%%".to_owned(),
        "Basic alex:bigsecret".to_owned(),
        encoded(b""),
        encoded(b":"),
        encoded(b"alex"),
        encoded(b"\xff\xfe:\xff"),
        BASE64_STANDARD.encode("alex:bigsecret"),
    ] {
        assert_eq!(
            authorized(&broker, &authorization),
            401,
            "{authorization:?}"
        );
    }
}

#[test]
fn nothing_but_the_exact_pair_is_accepted() {
    let broker = Broker::in_memory();
    assert_eq!(login(&broker, USERNAME, PASSWORD), 200);
    for (username, password) in [
        ("alex", ""),
        ("", "bigsecret"),
        ("alex", "bigsecre"),
        ("alex", "bigsecretX"),
        ("alex", "Bigsecret"),
        ("Alex", "bigsecret"),
        ("alex", "bigsecret "),
        ("alex", " bigsecret"),
        ("alex", "bigsecret\0"),
        ("alex:bigsecret", ""),
        ("alex:bigsecretalex", "bigsecret"),
        ("bigsecret", "alex"),
    ] {
        assert_eq!(
            login(&broker, username, password),
            401,
            "{username:?} {password:?}"
        );
    }
}

#[test]
fn a_password_may_have_colons_and_any_character() {
    for password in [
        "pass:word",
        ":",
        "::x::",
        "grüße ☃",
        " spaces ",
        "quo\"te\\",
    ] {
        let broker = setup().env("BROKER_PASSWORD", password).start();
        assert_eq!(login(&broker, USERNAME, password), 200, "{password:?}");
        assert_eq!(login(&broker, USERNAME, PASSWORD), 401, "{password:?}");
    }
    let broker = setup().env("BROKER_USERNAME", "jürgen").start();
    assert_eq!(login(&broker, "jürgen", PASSWORD), 200);
    assert_eq!(login(&broker, "jurgen", PASSWORD), 401);
}

// Where the credentials come from

#[test]
fn there_is_no_start_without_credentials() {
    let wanted = [
        "BROKER_USERNAME",
        "BROKER_PASSWORD",
        "BROKER_PASSWORD_FILE",
        "BROKER_TOKEN",
        "BROKER_TOKEN_FILE",
    ];
    refuses(without_credentials(), &wanted);
    refuses(
        without_credentials().env("BROKER_USERNAME", USERNAME),
        &["BROKER_PASSWORD is not set"],
    );
    refuses(
        without_credentials().env("BROKER_PASSWORD", PASSWORD),
        &["BROKER_USERNAME is not set"],
    );
    // Empty ones are no credentials either.
    refuses(
        setup().env("BROKER_PASSWORD", ""),
        &["BROKER_PASSWORD is not set"],
    );
    refuses(
        setup().env("BROKER_USERNAME", ""),
        &["BROKER_USERNAME is not set"],
    );
}

#[test]
fn a_user_name_with_a_colon_is_refused() {
    refuses(
        setup().env("BROKER_USERNAME", "al:ex"),
        &["BROKER_USERNAME", "al:ex", "colon"],
    );
}

#[test]
fn the_names_that_other_brokers_use_for_the_credentials_work() {
    for (username, password) in [
        ("SECURITY_USER_NAME", "SECURITY_USER_PASSWORD"),
        ("AUTH_USER", "AUTH_PASSWORD"),
    ] {
        let broker = without_credentials()
            .env(username, "eve")
            .env(password, "hush")
            .start();
        assert_eq!(login(&broker, "eve", "hush"), 200, "{username}");
        // The broker's own names come first.
        let broker = setup().env(username, "eve").env(password, "hush").start();
        assert_eq!(login(&broker, USERNAME, PASSWORD), 200, "{username}");
        assert_eq!(login(&broker, "eve", "hush"), 401, "{username}");
    }
}

#[test]
fn the_password_can_come_from_a_file() {
    for content in ["from file", "from file\n", "from file\r\n"] {
        let mut setup = without_credentials().env("BROKER_USERNAME", USERNAME);
        let path = setup.folder.file("password", content);
        setup = setup.env("BROKER_PASSWORD_FILE", path);
        let broker = setup.start();
        assert_eq!(login(&broker, USERNAME, "from file"), 200, "{content:?}");
        assert_eq!(
            login(&broker, USERNAME, content.trim_end_matches("le")),
            401,
            "{content:?}"
        );
    }
}

#[test]
fn a_password_file_that_cannot_be_used_is_refused() {
    let with_file = |setup: Setup, content: &str| {
        let path = setup.folder.file("password", content);
        setup.env("BROKER_PASSWORD_FILE", path)
    };
    let named = || without_credentials().env("BROKER_USERNAME", USERNAME);
    refuses(with_file(named(), ""), &["BROKER_PASSWORD_FILE", "empty"]);
    refuses(with_file(named(), "\n"), &["BROKER_PASSWORD_FILE", "empty"]);
    let missing = named().env("BROKER_PASSWORD_FILE", "missing/file");
    refuses(missing, &["BROKER_PASSWORD_FILE", "missing/file"]);
    refuses(
        with_file(setup(), "x"),
        &["BROKER_PASSWORD and BROKER_PASSWORD_FILE"],
    );
}

#[test]
fn a_second_pair_is_accepted_beside_the_first_but_not_mixed_with_it() {
    let broker = setup()
        .env("BROKER_USERNAME_2", "eve")
        .env("BROKER_PASSWORD_2", "hush")
        .start();
    assert_eq!(login(&broker, USERNAME, PASSWORD), 200);
    assert_eq!(login(&broker, "eve", "hush"), 200);
    assert_eq!(login(&broker, USERNAME, "hush"), 401);
    assert_eq!(login(&broker, "eve", PASSWORD), 401);
}

#[test]
fn a_second_password_alone_is_for_the_same_user() {
    let broker = setup().env("BROKER_PASSWORD_2", "hush").start();
    assert_eq!(login(&broker, USERNAME, PASSWORD), 200);
    assert_eq!(login(&broker, USERNAME, "hush"), 200);
    assert_eq!(login(&broker, "eve", "hush"), 401);

    let setup = setup();
    let path = setup.folder.file("password", "from file\n");
    let broker = setup.env("BROKER_PASSWORD_2_FILE", path).start();
    assert_eq!(login(&broker, USERNAME, "from file"), 200);
}

#[test]
fn a_second_user_without_a_password_is_refused() {
    refuses(
        setup().env("BROKER_USERNAME_2", "eve"),
        &["BROKER_USERNAME_2", "BROKER_PASSWORD_2"],
    );
}

// Bearer tokens

#[test]
fn a_token_is_accepted_instead_of_user_name_and_password() {
    let broker = without_credentials()
        .env("BROKER_TOKEN", "to.ken-1==")
        .env("BROKER_TOKEN_2", "second")
        .start();
    for scheme in ["Bearer", "bearer", "BEARER "] {
        for token in ["to.ken-1==", "second"] {
            assert_eq!(authorized(&broker, format!("{scheme} {token}")), 200);
        }
    }
    for wrong in [
        "Bearer to.ken-1",
        "Bearer",
        "Bearer ",
        "Bearer Second",
        "Basic second",
    ] {
        assert_eq!(authorized(&broker, wrong), 401, "{wrong}");
    }
    assert_eq!(login(&broker, USERNAME, PASSWORD), 401);
    assert_eq!(login(&broker, "", "second"), 401);
    let request = broker
        .request("GET", "/v2/catalog")
        .without("Authorization");
    let answer = request.send().expect_naming(401, "bearer token");
    assert_eq!(challenges(&answer), ["Bearer realm=\"brokerlet\""]);
    // The gate passes a body on for a token, too.
    let body = provision("example_service", "plan_one");
    broker
        .request("PUT", &instance("i"))
        .json(&body)
        .header("Authorization", "Bearer second")
        .send()
        .expect(201);
    let printed = broker.stop().1;
    assert!(
        !printed.contains("to.ken") && !printed.contains("second"),
        "{printed}"
    );
}

#[test]
fn a_token_is_accepted_beside_user_name_and_password() {
    let setup = setup();
    let file = setup.folder.file("token", "from-file\n");
    let broker = setup.env("BROKER_TOKEN_FILE", file).start();
    assert_eq!(login(&broker, USERNAME, PASSWORD), 200);
    assert_eq!(authorized(&broker, "Bearer from-file"), 200);
    assert_eq!(authorized(&broker, format!("Bearer {PASSWORD}")), 401);
    let request = broker
        .request("GET", "/v2/catalog")
        .without("Authorization");
    let answer = request.send().expect(401);
    assert_eq!(
        challenges(&answer),
        [
            "Basic realm=\"brokerlet\", charset=\"UTF-8\"",
            "Bearer realm=\"brokerlet\""
        ]
    );
}

fn challenges(answer: &Response) -> Vec<&str> {
    let fields = answer.headers.iter();
    let challenges = fields.filter(|(name, _)| name.eq_ignore_ascii_case("WWW-Authenticate"));
    challenges.map(|(_, value)| value.as_str()).collect()
}

#[test]
fn a_token_that_a_header_cannot_carry_is_refused() {
    for token in ["two words", "grün", "tab\tbed"] {
        let setup = without_credentials();
        refuses(
            setup.env("BROKER_TOKEN", token),
            &["BROKER_TOKEN", "header"],
        );
    }
    let setup = without_credentials();
    let file = setup.folder.file("token", "a\nb\n");
    refuses(setup.env("BROKER_TOKEN_FILE", file), &["BROKER_TOKEN_FILE"]);
    let second = without_credentials().env("BROKER_TOKEN_2", "x");
    refuses(second, &["BROKER_TOKEN_2", "BROKER_TOKEN is not"]);
}

// Secrets

#[test]
fn no_credentials_reach_the_log() {
    let broker = setup().env("BROKER_PASSWORD_2", "anotherone").start();
    assert_eq!(login(&broker, USERNAME, PASSWORD), 200);
    assert_eq!(login(&broker, USERNAME, "guessed"), 401);
    let (status, printed) = broker.stop();
    assert_eq!(status.code(), Some(0));
    assert!(printed.contains("status=401"), "{printed}");
    for secret in [PASSWORD, "anotherone", "guessed", "Basic"] {
        assert!(!printed.contains(secret), "{secret} in {printed}");
        let token = BASE64_STANDARD.encode(format!("{USERNAME}:{secret}"));
        assert!(!printed.contains(&token), "{secret} in {printed}");
    }
}
