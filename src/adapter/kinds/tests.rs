use super::*;
use crate::adapter::settings::tests::{AT, environment, offering};
use crate::adapter::{BindingCall, Bound, Failure, InstanceCall, Provisioned};
use crate::catalog::file;

use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// What [`Kinds::build`] makes of the settings of one plan.
pub fn build(adapter: Value) -> (Option<Fulfilment>, Vec<String>) {
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
