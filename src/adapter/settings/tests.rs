use super::*;
use crate::adapter::kinds::tests::build;
use crate::catalog::Catalog;

use serde_json::json;
use std::path::Path;
use std::time::SystemTime;

/// A service offering with one plan, as a catalog resolves it; `service` and `plan` are merged in.
pub fn offering(service: Value, plan: Value) -> Service {
    let mut whole = json!({"id": "s1", "name": "mail", "description": "Mail", "bindable": true});
    let mut small = json!({"id": "p1", "name": "small", "description": "Small"});
    for (target, extra) in [(&mut small, plan), (&mut whole, service)] {
        let extra = extra.as_object().unwrap().clone();
        target.as_object_mut().unwrap().extend(extra);
    }
    whole["plans"] = json!([small]);
    let service = serde_json::from_value(whole).unwrap();
    let catalog = Catalog::new(vec![service], SystemTime::UNIX_EPOCH);
    catalog.services()[0].clone()
}

pub fn environment(name: &str) -> Option<String> {
    match name {
        "HOST" => Some("relay.example.com".to_owned()),
        "SECRET" => Some("hunter2".to_owned()),
        "TRICKY" => Some("a${binding_id}$${b".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

/// Reads settings of the offering's first plan; returns what `read` returned, and the findings as they are printed.
pub fn probe<T>(
    object: &Value,
    service: &Service,
    read: impl FnOnce(&Settings<'_>) -> T,
) -> (T, Vec<String>) {
    probe_in(Path::new(""), object, service, read)
}

/// The same, in another environment.
pub fn probe_with<T>(
    variables: &dyn Fn(&str) -> Option<String>,
    object: &Value,
    service: &Service,
    read: impl FnOnce(&Settings<'_>) -> T,
) -> (T, Vec<String>) {
    let environment = Environment::new(variables, Path::new(""));
    probe_of(environment, object, service, read)
}

/// The same, of a catalog file in this folder.
pub fn probe_in<T>(
    folder: &Path,
    object: &Value,
    service: &Service,
    read: impl FnOnce(&Settings<'_>) -> T,
) -> (T, Vec<String>) {
    probe_of(
        Environment::new(&environment, folder),
        object,
        service,
        read,
    )
}

fn probe_of<T>(
    environment: Environment<'_>,
    object: &Value,
    service: &Service,
    read: impl FnOnce(&Settings<'_>) -> T,
) -> (T, Vec<String>) {
    let findings = RefCell::new(Findings::default());
    let unknown = RefCell::default();
    let place = "services[0].plans[0].adapter".to_owned();
    let context = Context {
        service,
        plan: &service.plans[0],
        environment,
        findings: &findings,
        unknown: &unknown,
        stands_at_service: false,
    };
    let read = read(&Settings::new(place, object.as_object().unwrap(), context));
    let findings = findings.into_inner().0;
    (read, findings.iter().map(ToString::to_string).collect())
}

pub fn read<T>(object: Value, read: impl FnOnce(&Settings<'_>) -> T) -> (T, Vec<String>) {
    probe(&object, &offering(json!({}), json!({})), read)
}

pub const AT: &str = "error: services[0].plans[0].adapter";

#[test]
fn every_kind_of_value_is_read() {
    let object = json!({
        "s": "smtp://${env:HOST}", "b": true, "d": "1h 30m", "o": {"any": 1}, "a": [1], "inner": {"x": "y"}, "v": 7
    });
    let (_, findings) = read(object, |settings| {
        assert_eq!(settings.string("s").unwrap(), "smtp://relay.example.com");
        assert_eq!(
            settings.required_string("s").unwrap(),
            "smtp://relay.example.com"
        );
        assert_eq!(settings.boolean("b"), Some(true));
        assert_eq!(settings.duration("d"), Some(Duration::from_secs(5400)));
        assert_eq!(settings.object("o").unwrap()["any"], 1);
        assert_eq!(settings.array("a").unwrap().len(), 1);
        assert_eq!(settings.section("inner").unwrap().string("x").unwrap(), "y");
        assert_eq!(settings.value("v"), Some(&json!(7)));
        assert_eq!(settings.plan().name, "small");
        assert_eq!(settings.service().name, "mail");
        assert_eq!(settings.place("x"), "services[0].plans[0].adapter.x");
    });
    assert_eq!(findings, [""; 0]);
}

#[test]
fn absent_and_null_are_the_same() {
    for object in [json!({}), json!({"k": null})] {
        let (_, findings) = read(object, |settings| {
            assert_eq!(settings.string("k"), None);
            assert_eq!(settings.boolean("k"), None);
            assert_eq!(settings.duration("k"), None);
            assert!(settings.section("k").is_none());
            assert_eq!(settings.array("k"), None);
            assert_eq!(settings.required_string("k"), None);
        });
        assert_eq!(
            findings,
            [format!("{AT}.k: found nothing, wanted a string")]
        );
    }
}

#[test]
fn wrong_types_are_named() {
    let object = json!({"s": 1, "r": [], "b": "true", "d": 30, "o": "x", "a": {}, "inner": false});
    let (_, findings) = read(object, |settings| {
        assert_eq!(settings.string("s"), None);
        assert_eq!(settings.required_string("r"), None);
        assert_eq!(settings.boolean("b"), None);
        assert_eq!(settings.duration("d"), None);
        assert_eq!(settings.object("o"), None);
        assert_eq!(settings.array("a"), None);
        assert!(settings.section("inner").is_none());
    });
    let wanted = [
        "s: found a number, wanted a string",
        "r: found an array, wanted a string",
        "b: found a string, wanted true or false",
        "d: found a number, wanted a string",
        "o: found a string, wanted an object",
        "a: found an object, wanted an array",
        "inner: found a boolean, wanted an object",
    ];
    assert_eq!(findings, wanted.map(|text| format!("{AT}.{text}")));
}

#[test]
fn durations_are_positive_and_never_panic() {
    for (text, wanted) in [
        ("30d", Some(30 * 86_400)),
        ("10m", Some(600)),
        ("9999999999s", Some(9_999_999_999)),
        ("", None),
        ("0s", None),
        ("30", None),
        ("-1d", None),
        ("1 fortnight", None),
        // humantime panics on this sum, and overflows on the next.
        ("18446744073709551615s 1000ms", None),
        ("99999999999999999999y", None),
    ] {
        let (found, findings) = read(json!({"d": text}), |settings| settings.duration("d"));
        assert_eq!(found, wanted.map(Duration::from_secs), "{text}");
        assert_eq!(findings.is_empty(), wanted.is_some(), "{text}");
    }
}

#[test]
fn what_comes_from_the_environment_is_in_no_finding() {
    let (_, findings) = read(json!({"d": "${env:SECRET}"}), |s| s.duration("d"));
    assert_eq!(
        findings,
        [format!(
            "{AT}.d: found \"${{env:SECRET}}\", wanted a duration such as \"30d\", \"12h\" or \"10m\""
        )]
    );
    let (_, findings) = build(json!({"kind": "${env:SECRET}"}));
    assert_eq!(findings.len(), 1);
    assert!(!findings[0].contains("hunter2"), "{findings:?}");
}

#[test]
fn a_missing_variable_is_named() {
    let (found, findings) = read(json!({"s": "${env:NO_SUCH}"}), |s| s.string("s"));
    assert_eq!(found, None);
    assert_eq!(
        findings,
        [format!(
            "{AT}.s: ${{env:NO_SUCH}}: the environment variable NO_SUCH is not set"
        )]
    );
}

#[test]
fn unknown_keys_are_reported_when_dropped_at_every_level() {
    let object = json!({"lifetme": "30d", "inner": {"zzzzzzzz": 1}});
    let (_, findings) = read(object, |settings| {
        settings.string("lifetime");
        settings.section("inner").unwrap().string("x");
    });
    assert_eq!(
        findings,
        [
            format!("{AT}.inner.zzzzzzzz: unknown key"),
            format!("{AT}.lifetme: unknown key, did you mean \"lifetime\"?"),
        ]
    );
    let (_, findings) = read(json!({"anything": 1}), |settings| settings.leave_rest());
    assert_eq!(findings, [""; 0]);
}

#[test]
fn findings_of_an_adapter_have_their_place_and_severity() {
    let (_, findings) = read(json!({}), |settings| {
        settings.error("a[0].b", "bad");
        settings.error_at(settings.place("c"), "worse");
        settings.warning("d", "odd");
    });
    let warning = "warning: services[0].plans[0].adapter.d: odd".to_owned();
    assert_eq!(
        findings,
        [
            format!("{AT}.a[0].b: bad"),
            format!("{AT}.c: worse"),
            warning
        ]
    );
}
