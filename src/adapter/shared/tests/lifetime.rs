//! How long a binding is valid.

use super::*;

#[test]
fn lifetimes_are_checked_at_load() {
    let times = |lifetime: Value, renew_before: Value| {
        findings_of(json!({"lifetime": lifetime, "renew_before": renew_before}))
    };
    assert_eq!(times(json!("30d"), json!("3d")), [""; 0]);
    assert_eq!(times(json!("30d"), json!("30d")), [""; 0]);
    assert_eq!(
        times(json!("30d"), json!("31d")),
        ["error: binding.renew_before: longer than \"lifetime\", wanted at most as long"]
    );
    assert_eq!(
        times(json!(null), json!("3d")),
        ["error: binding.renew_before: counts back from the end of \"lifetime\", which is missing"]
    );
    // Only what is wrong is complained about.
    assert_eq!(times(json!("x"), json!("3d")).len(), 1);
    assert_eq!(times(json!("30d"), json!("x")).len(), 1);
    for endless in ["8000y", "9999999999y"] {
        let found = times(json!(endless), json!(null));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("error: binding.lifetime: a binding made now would expire"),
            "{found:?}"
        );
    }
}

#[test]
fn a_binding_is_dated_when_it_is_made() {
    let adapter = json!({"binding": {"lifetime": "1h", "renew_before": "10m"}});
    let (shared, findings) = read(&adapter, &permitted());
    assert_eq!(findings, [""; 0]);
    let bind = |now| Given::default().bind_at(&shared, now);
    let metadata = bind(UNIX_EPOCH).unwrap().metadata.unwrap();
    let wanted =
        json!({"expires_at": "1970-01-01T01:00:00.0Z", "renew_before": "1970-01-01T00:50:00.0Z"});
    assert_eq!(Value::Object(metadata), wanted);
    for bad_clock in [
        UNIX_EPOCH - Duration::from_secs(7_200),
        UNIX_EPOCH + Duration::from_secs(253_402_300_799),
    ] {
        let failure = bind(bad_clock).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Unavailable);
        assert!(failure.detail.unwrap().contains("clock"));
    }
    // What the adapter itself calls "now".
    let before = SystemTime::now() + Duration::from_secs(3_600 - 1);
    let expires_at = Given::default().call(&permitted(), |instance| {
        let call = BindingCall {
            instance: *instance,
            binding_id: "b-1",
            app_guid: None,
            bind_resource: Object::default(),
            parameters: Object::default(),
            context: Object::default(),
            predecessor_binding_id: Some("b-0"),
            state: Object::default(),
        };
        let bound = shared.bind(&call).unwrap();
        shared.unbind(&call).unwrap();
        bound.metadata.unwrap()["expires_at"]
            .as_str()
            .unwrap()
            .to_owned()
    });
    let expires_at = humantime::parse_rfc3339(&expires_at).unwrap();
    assert!(expires_at > before && expires_at <= SystemTime::now() + Duration::from_secs(3_600));
}

#[test]
fn times_are_given_in_one_way_only() {
    let time = "2019-12-31T23:59:59.0Z";
    assert_eq!(
        findings_of(
            json!({"lifetime": "1d", "metadata": {"expires_at": time, "renew_before": time}})
        ),
        [
            "error: binding.metadata.expires_at: found beside \"lifetime\", which already says expires_at; \
             wanted one of the two",
            "error: binding.metadata.renew_before: found beside \"lifetime\", which already says renew_before; \
             wanted one of the two",
        ]
    );
    let nothing = json!({"lifetime": "1d", "metadata": {"expires_at": null}});
    assert_eq!(findings_of(nothing), [""; 0]);
}

#[test]
fn times_that_are_given_are_checked() {
    let at = |expires_at: &str| findings_of(json!({"metadata": {"expires_at": expires_at}}));
    assert_eq!(at("2024-02-29T00:00:00.0Z"), [""; 0]);
    for bad in [
        "",
        "2019-12-31T23:59:59Z",
        "2019-12-31T23:59:59.00Z",
        "2019-12-31T23:59:59.0z",
        "2019-12-31 23:59:59.0Z",
        "2019-02-29T23:59:59.0Z",
        "2019-12-31T24:59:59.0Z",
        "2019-12-31T23:59:59.ZZ",
        "2019-12-31T23:59:59+0Z",
        "ééééééééééé",
        "2019-12-31T23:59:59.é",
    ] {
        assert_eq!(at(bad).len(), 1, "{bad}");
    }
    let (early, late) = ("2019-12-31T23:59:59.0Z", "2019-12-31T23:59:59.1Z");
    let both = |expires_at: &str, renew_before: &str| json!({"metadata": {"expires_at": expires_at, "renew_before": renew_before}});
    assert_eq!(findings_of(both(late, early)), [""; 0]);
    assert_eq!(findings_of(both(early, early)), [""; 0]);
    let text = "metadata.renew_before is later than metadata.expires_at, wanted at most as late";
    assert_eq!(
        findings_of(both(early, late)),
        [format!("error: binding.metadata.renew_before: {text}")]
    );
    let open = both(early, "${parameters.x}");
    assert!(
        Given::parameters(json!({"x": early}))
            .bind(open.clone())
            .is_ok()
    );
    assert_eq!(refused(json!({"x": late}), open), Failure::invalid(text));
}
