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
            path: "brokerlet.redb".into(),
            cache: 1 << 20
        }
    );
    assert!(config.warnings.is_empty());
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

#[test]
fn misspelt_variables_are_warned_about() {
    let config = with(&[("BROKER_CATALOGUE", "x")]).unwrap();
    assert_eq!(
        config.warnings,
        ["BROKER_CATALOGUE: unknown variable, did you mean \"BROKER_CATALOG\"?"]
    );
    let config = with(&[("BROKER_PORT", "80")]).unwrap();
    assert_eq!(
        config.warnings,
        ["BROKER_PORT: unknown variable, did you mean \"PORT\"?"]
    );
}

#[test]
fn on_cloud_foundry_the_disk_is_warned_about() {
    let config = with(&[("VCAP_APPLICATION", "{}")]).unwrap();
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
