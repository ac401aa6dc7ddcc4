use super::*;
use crate::adapter::{BindingCall, Bound, Failure, InstanceCall, Kind, Provisioned};
use crate::catalog::{Catalog, file};

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

/// What [`Kinds::build`] makes of the settings of one plan.
fn build(adapter: Value) -> (Option<Fulfilment>, Vec<String>) {
    build_all(&Kinds::standard(), json!({"adapter": adapter}), json!({}))
        .pop()
        .unwrap()
}

/// For each plan of a service offering, what is built from its settings and the findings up to then.
fn build_all(kinds: &Kinds, plan: Value, service: Value) -> Vec<(Option<Fulfilment>, Vec<String>)> {
    let mut plan = plan;
    plan["id"] = json!("p1");
    plan["name"] = json!("small");
    plan["description"] = json!("Small");
    let mut other = plan.clone();
    other["id"] = json!("p2");
    other["name"] = json!("large");
    let mut whole = json!({
        "id": "s1", "name": "mail", "description": "Mail", "bindable": true, "plans": [plan, other]
    });
    whole
        .as_object_mut()
        .unwrap()
        .extend(service.as_object().unwrap().clone());
    let text = json!({"services": [whole]}).to_string();
    let (loaded, findings) = file::parse(
        &text,
        SystemTime::UNIX_EPOCH,
        Environment::new(&environment, Path::new("")),
    );
    assert!(!findings.has_errors(), "{findings}");
    let loaded = loaded.unwrap();
    let service = &loaded.catalog.services()[0];
    let mut findings = Findings::default();
    let mut built = Vec::new();
    for (p, plan) in service.plans.iter().enumerate() {
        let private = loaded.adapters.get(&(0, p));
        let fulfilment = kinds.build(
            private,
            service,
            plan,
            Environment::new(&environment, Path::new("")),
            &mut findings,
        );
        let lines = findings.0.iter().map(ToString::to_string).collect();
        built.push((fulfilment, lines));
        if private.is_some_and(|private| private.place().contains(".plans[")) {
            break;
        }
    }
    built
}

#[test]
fn a_missing_or_unknown_kind_is_the_only_finding() {
    for (adapter, text) in [
        (json!({"bindng": {}}), "found nothing, wanted a string"),
        (
            json!({"kind": null, "x": 1}),
            "found nothing, wanted a string",
        ),
        (
            json!({"kind": 7, "x": 1}),
            "found a number, wanted a string",
        ),
        (
            json!({"kind": "sharde", "x": 1}),
            "found \"sharde\", wanted \"shared\", did you mean \"shared\"?",
        ),
    ] {
        let (built, findings) = build(adapter.clone());
        assert!(built.is_none());
        // Other kinds may be known by now, so only the beginning and the end are fixed.
        let (begin, end) = text.split_once(", ").unwrap();
        assert_eq!(findings.len(), 1, "{adapter} {findings:?}");
        assert!(
            findings[0].starts_with(&format!("{AT}.kind: {begin}")),
            "{findings:?}"
        );
        assert!(
            findings[0].ends_with(end.rsplit(", ").next().unwrap()),
            "{findings:?}"
        );
    }
}

#[test]
fn a_known_kind_reports_its_unknown_keys() {
    let (built, findings) = build(json!({"kind": "shared", "bindng": {}}));
    assert!(built.is_none());
    assert_eq!(
        findings,
        [format!(
            "{AT}.bindng: unknown key, did you mean \"binding\"?"
        )]
    );
}

#[test]
fn a_plan_without_settings_is_shared_and_empty() {
    let built = build_all(&Kinds::standard(), json!({}), json!({}));
    assert_eq!(built.len(), 2);
    for (fulfilment, findings) in built {
        let fulfilment = fulfilment.unwrap();
        assert_eq!(fulfilment.kind, "shared");
        assert!(!fulfilment.requires_app && !fulfilment.adapter.has_effects());
        assert_eq!(findings, [""; 0]);
    }
}

#[test]
fn requires_app_belongs_to_every_kind() {
    let (built, findings) = build(json!({"kind": "shared", "requires_app": true}));
    assert!(built.unwrap().requires_app);
    assert_eq!(findings, [""; 0]);
    let (built, findings) = build(json!({"kind": "shared", "requires_app": "yes"}));
    assert!(built.is_none());
    assert_eq!(
        findings,
        [format!(
            "{AT}.requires_app: found a string, wanted true or false"
        )]
    );
}

#[test]
fn settings_of_the_service_are_complained_about_once() {
    let adapter = json!({"adapter": {"kind": "shared", "x": 1}});
    let built = build_all(&Kinds::standard(), json!({}), adapter);
    assert_eq!(built.len(), 2);
    for (fulfilment, findings) in built {
        assert!(fulfilment.is_none());
        assert_eq!(findings, ["error: services[0].adapter.x: unknown key"]);
    }
}

#[test]
fn warnings_alone_do_not_refuse_an_adapter() {
    let adapter = json!({"adapter": {"kind": "shared", "binding": {}}, "bindable": false});
    let (built, findings) = build_all(&Kinds::standard(), adapter, json!({}))
        .pop()
        .unwrap();
    assert!(built.is_some());
    let warning =
        "warning: services[0].plans[0].adapter.binding: never used: the plan is not bindable";
    assert_eq!(findings, [warning]);
}

#[test]
fn other_kinds_can_be_added() {
    struct Own(String);
    impl Adapter for Own {
        fn provision(&self, _: &InstanceCall<'_>) -> Result<Provisioned, Failure> {
            Ok(Provisioned::default())
        }
        fn deprovision(&self, _: &InstanceCall<'_>) -> Result<(), Failure> {
            Ok(())
        }
        fn bind(&self, _: &BindingCall<'_>) -> Result<Bound, Failure> {
            Err(Failure::failed(self.0.clone()))
        }
        fn unbind(&self, _: &BindingCall<'_>) -> Result<(), Failure> {
            Ok(())
        }
    }
    let kinds = Kinds::standard().with("own", |settings| {
        Some(Own(settings.required_string("text")?))
    });
    let of = |adapter| {
        build_all(&kinds, json!({"adapter": adapter}), json!({}))
            .pop()
            .unwrap()
    };
    let (built, findings) = of(json!({"kind": "own", "text": "x"}));
    assert_eq!(built.unwrap().kind, "own");
    assert_eq!(findings, [""; 0]);
    let (built, findings) = of(json!({"kind": "own"}));
    assert!(built.is_none());
    assert_eq!(
        findings,
        [format!("{AT}.text: found nothing, wanted a string")]
    );
}

#[test]
fn settings_of_the_service_are_of_use_as_long_as_one_plan_is_bindable() {
    for (bindable, wanted) in [
        ([true, false], vec![]),
        ([false, true], vec![]),
        (
            [false, false],
            vec!["warning: services[0].adapter.binding: never used: no plan is bindable"],
        ),
    ] {
        let mut service = offering(json!({}), json!({"bindable": bindable[0]}));
        let mut other = service.plans[0].clone();
        other.bindable = Some(bindable[1]);
        service.plans.push(other);
        let object = json!({"services": [{
            "id": "s1", "name": "mail", "description": "Mail", "bindable": true,
            "adapter": {"kind": "shared", "binding": {}},
            "plans": [{"id": "p1", "name": "small", "description": "Small"}]
        }]});
        let parsed = file::parse(
            &object.to_string(),
            SystemTime::UNIX_EPOCH,
            Environment::new(&environment, Path::new("")),
        )
        .0;
        let private = parsed.unwrap().adapters.remove(&(0, 0));
        let mut findings = Findings::default();
        for plan in &service.plans {
            let kinds = Kinds::standard();
            kinds
                .build(
                    private.as_ref(),
                    &service,
                    plan,
                    Environment::new(&environment, Path::new("")),
                    &mut findings,
                )
                .unwrap();
        }
        let found: Vec<_> = findings.0.iter().map(ToString::to_string).collect();
        assert_eq!(found, wanted);
    }
}

/// A kind of adapter with outside effects that is asynchronous in what its settings list, each with this timeout.
fn slow() -> Kinds {
    struct Slow(Vec<String>, Duration);
    impl Adapter for Slow {
        fn is_async(&self, operation: Kind) -> bool {
            self.0.iter().any(|name| name == operation.name())
        }
        fn timeout(&self, _: Kind) -> Duration {
            self.1
        }
        fn provision(&self, _: &InstanceCall<'_>) -> Result<Provisioned, Failure> {
            Ok(Provisioned::default())
        }
        fn deprovision(&self, _: &InstanceCall<'_>) -> Result<(), Failure> {
            Ok(())
        }
        fn bind(&self, _: &BindingCall<'_>) -> Result<Bound, Failure> {
            Ok(Bound::default())
        }
        fn unbind(&self, _: &BindingCall<'_>) -> Result<(), Failure> {
            Ok(())
        }
    }
    Kinds::standard().with("slow", |settings| {
        let names = settings.array("async")?.iter();
        let names = names.filter_map(|name| name.as_str().map(str::to_owned));
        Some(Slow(names.collect(), settings.duration("timeout")?))
    })
}

/// What [`slow`] settings of the one plan are told, given more of the plan and of the service offering.
fn slowly(asynchronous: Value, plan: Value, service: Value) -> (bool, Vec<String>) {
    let mut whole = json!({"adapter": {"kind": "slow", "async": asynchronous, "timeout": "10m"}});
    whole
        .as_object_mut()
        .unwrap()
        .extend(plan.as_object().unwrap().clone());
    let (built, findings) = build_all(&slow(), whole, service).pop().unwrap();
    (built.is_some(), findings)
}

#[test]
fn an_asynchronous_bind_needs_retrievable_bindings() {
    let wanted = format!(
        "{AT}: plan \"small\" is bound asynchronously, so that platforms have to fetch the credentials: wanted \
         \"bindings_retrievable\": true in the service offering"
    );
    for retrievable in [json!(false), Value::Null] {
        let service = json!({"bindings_retrievable": retrievable});
        let refused = slowly(json!(["bind"]), json!({}), service.clone());
        assert_eq!(refused, (false, vec![wanted.clone()]));
        // What is not bound, or is bound synchronously, needs none.
        let fine = (true, vec![]);
        assert_eq!(
            slowly(json!(["bind"]), json!({"bindable": false}), service.clone()),
            fine
        );
        assert_eq!(
            slowly(json!(["provision", "unbind"]), json!({}), service),
            fine
        );
    }
    let service = json!({"bindings_retrievable": true});
    assert_eq!(slowly(json!(["bind"]), json!({}), service), (true, vec![]));
}

#[test]
fn an_asynchronous_timeout_ends_before_platforms_stop_to_poll() {
    let fine = (true, vec![]);
    let polled = |seconds: u64| json!({"maximum_polling_duration": seconds});
    assert_eq!(slowly(json!(["provision"]), json!({}), json!({})), fine);
    assert_eq!(slowly(json!(["provision"]), polled(601), json!({})), fine);
    assert_eq!(slowly(json!([]), polled(60), json!({})), fine);
    for seconds in [600, 60] {
        let (built, findings) = slowly(json!(["update"]), polled(seconds), json!({}));
        assert!(!built);
        let limit = format!(
            "less than its maximum_polling_duration of {}m",
            seconds / 60
        );
        assert_eq!(findings.len(), 1, "{findings:?}");
        let text = "plan \"small\": found a timeout of 10m for update, wanted ";
        assert!(
            findings[0].starts_with(&format!("{AT}: {text}{limit}")),
            "{findings:?}"
        );
    }
    // Of what is never asked for, no timeout matters.
    let mut plan = polled(60);
    plan["bindable"] = json!(false);
    assert_eq!(slowly(json!(["unbind"]), plan, json!({})), fine);
}
