use super::*;

fn read(variables: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let lookup = |name: &str| {
        variables
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| (*value).to_owned())
    };
    Config::read(&lookup, variables.iter().map(|(name, _)| *name))
}

fn with(more: &[(&'static str, &'static str)]) -> Result<Config, Vec<String>> {
    let mut all = vec![
        ("BROKER_USERNAME", "alex"),
        ("BROKER_PASSWORD", "bigsecret"),
    ];
    all.extend_from_slice(more);
    read(&all)
}

#[test]
fn two_credentials_are_enough() {
    let config = with(&[]).unwrap();
    assert_eq!(config.address.to_string(), "0.0.0.0:5000");
    assert_eq!(config.workers, 16);
    assert_eq!(
        config.store,
        StoreConfig::File {
            path: "brokerlet.db".into(),
            cache: 1 << 20
        }
    );
    assert_eq!(config.base_path, BasePath::default());
    assert_eq!(config.reload_every, Some(Duration::from_secs(60)));
    assert!(
        config.warnings.len() == 1 && config.warnings[0].contains("BROKER_CATALOG is not set"),
        "{:?}",
        config.warnings
    );
}

#[test]
fn without_credentials_the_variables_are_named() {
    for (variables, wanted) in [
        (vec![], "BROKER_USERNAME and BROKER_PASSWORD are not set"),
        (
            vec![("BROKER_USERNAME", "alex")],
            "BROKER_PASSWORD is not set",
        ),
        (
            vec![("BROKER_PASSWORD", "x"), ("BROKER_USERNAME", "")],
            "BROKER_USERNAME is not set",
        ),
    ] {
        let errors = read(&variables).unwrap_err();
        assert!(
            errors.len() == 1 && errors[0].starts_with(wanted),
            "{errors:?}"
        );
    }
}

#[test]
fn other_brokers_names_for_the_credentials_work() {
    for (user, password) in [
        ("SECURITY_USER_NAME", "SECURITY_USER_PASSWORD"),
        ("AUTH_USER", "AUTH_PASSWORD"),
    ] {
        assert!(read(&[(user, "alex"), (password, "bigsecret")]).is_ok());
    }
}

#[test]
fn the_port_is_port_then_vcap_app_port() {
    assert_eq!(
        with(&[("VCAP_APP_PORT", "8080")]).unwrap().address.port(),
        8080
    );
    assert_eq!(
        with(&[("VCAP_APP_PORT", "8080"), ("PORT", "81")])
            .unwrap()
            .address
            .port(),
        81
    );
}

#[test]
fn everything_wrong_is_told_at_once_without_the_secrets() {
    let errors = with(&[
        ("PORT", "http"),
        ("BROKER_ADDRESS", "localhost"),
        ("BROKER_WORKERS", "0"),
        ("BROKER_CACHE", "1 parsec"),
        ("BROKER_STORE", "redis"),
        ("BROKER_LOG", "xml"),
        ("BROKER_BASE_PATH", "/a/../b"),
        ("BROKER_PASSWORD_FILE", "/x"),
        ("BROKER_USERNAME_2", "eve"),
    ])
    .unwrap_err();
    let text = errors.join("\n");
    for name in [
        "PORT",
        "BROKER_ADDRESS",
        "BROKER_WORKERS",
        "BROKER_CACHE",
        "BROKER_STORE",
        "BROKER_LOG",
        "BROKER_BASE_PATH",
        "BROKER_PASSWORD_FILE",
    ] {
        assert!(text.contains(name), "{name} in {text}");
    }
    assert!(!text.contains("bigsecret"));
    assert!(with(&[("BROKER_USERNAME_2", "eve")]).unwrap_err()[0].contains("BROKER_PASSWORD_2"));
    assert!(
        read(&[("BROKER_USERNAME", "a:b"), ("BROKER_PASSWORD", "x")]).unwrap_err()[0]
            .contains("colon")
    );
}

fn with_catalog(more: &[(&'static str, &'static str)]) -> Result<Config, Vec<String>> {
    with(&[&[("BROKER_CATALOG", "catalog.json")], more].concat())
}

#[test]
fn a_variable_that_looks_like_one_that_matters_stops_the_start() {
    for (found, meant) in [
        ("BROKER_CATALOGUE", "BROKER_CATALOG"),
        ("BROKER_CATALGO", "BROKER_CATALOG"),
        ("BROKER_CATALOGS", "BROKER_CATALOG"),
        ("broker_catalog", "BROKER_CATALOG"),
        ("BROKR_CATALOG", "BROKER_CATALOG"),
        ("BROKERLET_CATALOG", "BROKER_CATALOG"),
        ("BROKER_CATALOG_FILE", "BROKER_CATALOG"),
        ("BROKER_STOER", "BROKER_STORE"),
        ("BROKER_STORES", "BROKER_STORE"),
        ("BROKER_DB", "BROKER_STORE"),
        ("BROKER_DATABASE_URL", "BROKER_STORE"),
        ("BROKER_PASSWD", "BROKER_PASSWORD"),
        ("BROKER_PASSWORD2", "BROKER_PASSWORD_2"),
        ("BROKER_USER_NAME_2", "BROKER_USERNAME_2"),
        ("BROKER_PASSWORDFILE", "BROKER_PASSWORD_FILE"),
        ("BROKER_TOKENS", "BROKER_TOKEN"),
        ("BROKER_BEARER_TOKEN", "BROKER_TOKEN"),
    ] {
        let errors = with(&[(found, "x")]).unwrap_err();
        let wanted = format!("{found}: unknown variable, did you mean \"{meant}\"?");
        assert_eq!(errors, [wanted]);
    }
}

#[test]
fn other_misspelt_variables_are_warned_about() {
    for (found, meant) in [
        ("BROKER_PORT", "PORT"),
        ("BROKER_HOST", "BROKER_ADDRESS"),
        ("BROKER_LISTEN", "BROKER_ADDRESS"),
        ("BROKER_LOG_LEVEL", "BROKER_LOG"),
        ("BROKER_CERT", "BROKER_TLS_CERT"),
        ("BROKER_MAX_CONECTIONS", "BROKER_MAX_CONNECTIONS"),
        ("BROKER_WORKER", "BROKER_WORKERS"),
        ("BROKER_BASEPATH", "BROKER_BASE_PATH"),
        // The right ones are set as well.
        ("BROKER_USER", "BROKER_USERNAME"),
        ("BROKER_PASS", "BROKER_PASSWORD"),
        ("BROKER_CONFIG", "BROKER_CATALOG"),
    ] {
        let config = with_catalog(&[(found, "x")]).unwrap();
        let wanted = format!("{found}: unknown variable, did you mean \"{meant}\"?");
        assert_eq!(config.warnings, [wanted]);
    }
    // Of Kubernetes, for a service that is called broker; and of others.
    for name in [
        "BROKER_SERVICE_HOST",
        "BROKER_PORT_5000_TCP_ADDR",
        "BROKER_URL",
    ] {
        let config = with_catalog(&[(name, "x")]).unwrap();
        assert_eq!(config.warnings, [format!("{name}: unknown variable")]);
    }
    for name in ["BROKEN_THING", "MY_BROKER_CATALOG", "CATALOG", "BROKERS"] {
        assert!(with_catalog(&[(name, "x")]).unwrap().warnings.is_empty());
    }
}

#[test]
fn what_was_misspelt_is_told_when_the_start_fails() {
    let user = ("BROKER_USER", "alex");
    let errors = read(&[user, ("BROKER_PASS", "x"), ("BROKER_PORT", "80")]).unwrap_err();
    assert!(errors[0].contains("BROKER_USERNAME and BROKER_PASSWORD are not set"));
    assert_eq!(
        errors[1..],
        [
            "BROKER_PASS: unknown variable, did you mean \"BROKER_PASSWORD\"?",
            "BROKER_USER: unknown variable, did you mean \"BROKER_USERNAME\"?",
            "BROKER_PORT: unknown variable, did you mean \"PORT\"?",
        ]
    );
    assert!(errors.iter().all(|line| !line.contains("alex")));
}

#[test]
fn everything_that_people_write_leads_to_a_variable_that_is_there() {
    for (meant, written) in hints::WRITTEN {
        let known = || VARIABLES.iter().map(|variable| variable.name);
        assert!(known().any(|known| known == *meant), "{meant}");
        for word in *written {
            let letters = hints::letters(word);
            assert_eq!(letters, *word);
            let own = known().any(|known| known == format!("BROKER_{word}"));
            assert!(!own, "{word}");
        }
    }
}

#[test]
fn a_token_is_enough_and_so_is_one_beside_a_password() {
    for good in [
        vec![("BROKER_TOKEN", "ab.c-d_~+/=")],
        vec![("BROKER_TOKEN", "a"), ("BROKER_TOKEN_2", "b")],
        vec![
            ("BROKER_TOKEN", "a"),
            ("BROKER_USERNAME", "u"),
            ("BROKER_PASSWORD", "p"),
        ],
    ] {
        assert!(read(&good).is_ok(), "{good:?}");
    }
    for (bad, wanted) in [
        (vec![("BROKER_TOKEN", "two words")], "BROKER_TOKEN or"),
        (vec![("BROKER_TOKEN", "grün")], "BROKER_TOKEN or"),
        (vec![("BROKER_TOKEN", "line\nend")], "BROKER_TOKEN or"),
        (
            vec![("BROKER_TOKEN", "a"), ("BROKER_TOKEN_2", "b\t")],
            "BROKER_TOKEN_2 or",
        ),
        (vec![("BROKER_TOKEN_2", "b")], "BROKER_TOKEN_2 is set"),
        (
            vec![("BROKER_TOKEN", "a"), ("BROKER_TOKEN_FILE", "/x")],
            "both set",
        ),
        (vec![("BROKER_TOKEN_FILE", "/nowhere/x")], "/nowhere/x"),
        (
            vec![("BROKER_TOKEN", "a"), ("BROKER_USERNAME", "u")],
            "BROKER_PASSWORD is not set",
        ),
        (
            vec![("BROKER_TOKEN", "a"), ("BROKER_PASSWORD_2", "p")],
            "wanted the first pair too",
        ),
    ] {
        let errors = read(&bad).unwrap_err();
        assert!(
            errors.len() == 1 && errors[0].contains(wanted),
            "{errors:?}"
        );
        assert!(!errors[0].contains("two words") && !errors[0].contains("grün"));
    }
}

#[test]
fn how_often_to_look_at_the_files_is_a_duration_or_never() {
    let every = |text| with(&[("BROKER_RELOAD_EVERY", text)]).map(|config| config.reload_every);
    assert_eq!(every("30s").unwrap(), Some(Duration::from_secs(30)));
    assert_eq!(every("0").unwrap(), None);
    let told = every("often").unwrap_err();
    assert!(told[0].contains("or 0 for never"), "{told:?}");
}

#[test]
fn on_cloud_foundry_the_disk_is_warned_about() {
    let config = with_catalog(&[("VCAP_APPLICATION", "{}")]).unwrap();
    assert!(config.warnings[0].contains("does not survive a restart"));
}

#[test]
fn sizes_have_units() {
    for (text, bytes) in [
        ("65536", 65536),
        ("64K", 65536),
        ("1 MiB", 1 << 20),
        ("2GB", 2 << 30),
    ] {
        assert_eq!(size(text), Some(bytes));
    }
    for bad in ["", "MiB", "1X", "99999999999999999999", "-1"] {
        assert_eq!(size(bad), None);
    }
}

#[test]
fn the_limits_are_those_of_the_table_unless_something_else_is_said() {
    let default = with(&[]).unwrap();
    assert_eq!(default.limits, Limits::default());
    for variable in VARIABLES {
        let given = [(variable.name, variable.default)];
        let is_limit = ["BROKER_MAX_", "BROKER_BODY_", "BROKER_LOGIN_"]
            .iter()
            .any(|prefix| variable.name.starts_with(prefix))
            || variable.name.ends_with("_TIMEOUT");
        if is_limit {
            assert_eq!(with(&given).unwrap().limits, Limits::default(), "{given:?}");
        }
    }
    let limits = with(&[
        ("BROKER_MAX_CONNECTIONS", "7"),
        ("BROKER_MAX_HEAD", "8KiB"),
        ("BROKER_MAX_FIELDS", "20"),
        ("BROKER_MAX_BODY", "8MiB"),
        ("BROKER_REQUEST_TIMEOUT", "1m 30s"),
        ("BROKER_LOGIN_RATE", "0"),
    ])
    .unwrap()
    .limits;
    assert_eq!(
        (limits.connections, limits.head, limits.fields),
        (7, 8 << 10, 20)
    );
    // There is always memory for one body.
    assert_eq!((limits.body, limits.body_memory), (8 << 20, 8 << 20));
    assert_eq!((limits.request.as_secs(), limits.logins), (90, 0));
}

#[test]
fn limits_that_will_not_do_are_told_with_what_would() {
    for (name, value, wanted) in [
        ("BROKER_MAX_CONNECTIONS", "0", "a number from 1 to 65536"),
        ("BROKER_MAX_HEAD", "1KiB", "a size from 4KiB to 1MiB"),
        ("BROKER_MAX_FIELDS", "1000", "a number from 16 to 256"),
        ("BROKER_MAX_BODY", "1GiB", "a size from 4KiB to 64MiB"),
        ("BROKER_BODY_MEMORY", "1KiB", "a size from 1MiB to 1GiB"),
        (
            "BROKER_IDLE_TIMEOUT",
            "0s",
            "a duration such as 10s or 500ms",
        ),
        (
            "BROKER_TRUSTED_PROXIES",
            "router",
            "addresses and networks such as 10.0.0.0/8, separated by commas",
        ),
    ] {
        let errors = with(&[(name, value)]).unwrap_err();
        assert_eq!(
            errors,
            [format!("{name}: found {value:?}, wanted {wanted}")]
        );
    }
}

#[test]
fn tls_needs_its_files_and_a_build_that_has_it() {
    let errors = with(&[("BROKER_TLS_CERT", "cert.pem")]).unwrap_err();
    let wanted = if cfg!(feature = "tls") {
        "TLS needs both"
    } else {
        "built without TLS"
    };
    assert!(
        errors.len() == 1 && errors[0].contains(wanted),
        "{errors:?}"
    );
    assert_eq!(with(&[("BROKER_TLS_KEY", "")]).unwrap().tls, None);
}
