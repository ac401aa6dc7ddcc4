//! What can be checked only when the expressions are filled in.

use super::*;

#[test]
fn lengths_are_checked_at_rendering_where_they_are_open() {
    let given = |length: usize| Given::parameters(json!({"x": "x".repeat(length)}));
    for (key, beginning, length) in [
        ("syslog_drain_url", "syslog://", 10_000),
        ("route_service_url", "https://", 255),
    ] {
        let binding = json!({key: format!("{beginning}${{parameters.x}}")});
        let free = length - beginning.len();
        assert!(given(free).bind(binding.clone()).is_ok());
        let failure = given(free + 1).bind(binding).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Failed);
        let text = format!(
            "{key}: found {} characters, wanted at most {length} (plan \"small\")",
            length + 1
        );
        assert_eq!(failure.description, text);
    }
    let instance = json!({"dashboard_url": "${parameters.x}"});
    assert!(given(16_000).provision(instance.clone()).is_ok());
    assert_eq!(
        given(16_001).provision(instance).unwrap_err().kind,
        FailureKind::Failed
    );

    let mounts = |dir: &str| json!([mount(json!({"container_dir": dir}))]);
    let free = 65_535 - mounts("").to_string().len();
    let binding = json!({"volume_mounts": mounts("${parameters.x}")});
    assert!(given(free).bind(binding.clone()).is_ok());
    let failure = given(free + 1).bind(binding).unwrap_err();
    let text = "volume_mounts: found 65536 bytes as JSON, wanted at most 65535 (plan \"small\")";
    assert_eq!(failure, Failure::failed(text));
    let two =
        json!({"volume_mounts": [mounts("${parameters.x}")[0], mounts("${parameters.x}")[0]]});
    let two_free = (65_535 - json!([mounts("")[0], mounts("")[0]]).to_string().len()) / 2;
    assert!(given(two_free).bind(two.clone()).is_ok());
    assert!(given(two_free + 1).bind(two).is_err());
}

#[test]
fn what_is_open_at_load_is_checked_at_rendering() {
    let x = "${parameters.x}";
    let endpoint = |changes: Value| {
        let mut endpoint = json!({"host": "h", "ports": ["1"]});
        let changes = changes.as_object().unwrap().clone();
        endpoint.as_object_mut().unwrap().extend(changes);
        json!({"endpoints": [endpoint]})
    };
    let mounts = |changes: Value| json!({"volume_mounts": [mount(changes)]});
    for (binding, name, good, bad) in [
        (
            mounts(json!({"driver": x})),
            "volume_mounts[0].driver",
            json!("nfs"),
            json!(""),
        ),
        (
            mounts(json!({"mode": x})),
            "volume_mounts[0].mode",
            json!("r"),
            json!("secret"),
        ),
        (
            mounts(json!({"device_type": x})),
            "volume_mounts[0].device_type",
            json!("shared"),
            json!("secret"),
        ),
        (
            mounts(json!({"device": {"volume_id": x}})),
            "volume_mounts[0].device.volume_id",
            json!("v"),
            json!(" "),
        ),
        (
            mounts(json!({"device": {"volume_id": "v", "mount_config": x}})),
            "volume_mounts[0].device.mount_config",
            json!({"a": "secret"}),
            json!("secret"),
        ),
        (
            endpoint(json!({"host": x})),
            "endpoints[0].host",
            json!("h"),
            json!(""),
        ),
        (
            endpoint(json!({"ports": ["1", x]})),
            "endpoints[0].ports[1]",
            json!(65535),
            json!(65536),
        ),
        (
            endpoint(json!({"ports": [format!("1-{x}")]})),
            "endpoints[0].ports[0]",
            json!(2),
            json!("secret"),
        ),
        (
            endpoint(json!({"protocol": x})),
            "endpoints[0].protocol",
            json!("udp"),
            json!("secret"),
        ),
        (
            json!({"route_service_url": x}),
            "route_service_url",
            json!("https://x"),
            json!("http://secret"),
        ),
        (
            json!({"metadata": {"expires_at": x}}),
            "metadata.expires_at",
            json!("2019-12-31T23:59:59.0Z"),
            json!("secret"),
        ),
    ] {
        assert!(
            Given::parameters(json!({"x": good}))
                .bind(binding.clone())
                .is_ok(),
            "{name}"
        );
        let failure = refused(json!({"x": bad}), binding);
        assert_eq!(failure.kind, FailureKind::Invalid, "{name}");
        assert!(
            failure.description.starts_with(&format!("{name}: found ")),
            "{failure}"
        );
        assert!(
            failure.description.ends_with(" (plan \"small\")"),
            "{failure}"
        );
        assert!(!failure.description.contains("secret"), "{failure}");
    }
    let failure = refused(json!({"x": {"secret": 1}}), mounts(json!({"mode": x})));
    assert!(
        failure
            .description
            .starts_with("parameters.x: found an object, "),
        "{failure}"
    );
}

#[test]
fn a_missing_parameter_refuses_the_request() {
    let wanted = Failure::invalid("parameters.size: missing; plan \"small\" needs it");
    let credentials = json!({"credentials": {"a": "x${parameters.size}"}});
    assert_eq!(refused(json!({}), credentials), wanted);
    let instance = json!({"dashboard_url": "${parameters.size}"});
    assert_eq!(Given::default().provision(instance).unwrap_err(), wanted);
    let context = Given {
        context: json!({"space_name": "dev"}),
        ..Given::default()
    };
    let instance = json!({"metadata": {"labels": {"space": "${context.space_name}"}}});
    assert_eq!(
        context.provision(instance).unwrap().metadata.unwrap()["labels"]["space"],
        "dev"
    );
}
