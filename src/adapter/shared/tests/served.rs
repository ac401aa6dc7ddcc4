//! What is served of the settings.

use super::*;

#[test]
fn a_plan_without_settings_accepts_everything() {
    let service = permitted();
    let (configured, findings) = read(&json!({}), &service);
    assert_eq!(findings, [""; 0]);
    for shared in [Shared::empty(), configured] {
        assert!(!shared.has_effects());
        let given = Given::parameters(json!({"any": 1}));
        given.call(&service, |instance| {
            let update = UpdateCall {
                instance: *instance,
                changes: Object::default(),
                previous_parameters: Object::default(),
                previous_plan_id: "p0",
            };
            for provisioned in [shared.provision(instance), shared.update(&update)] {
                let provisioned = provisioned.unwrap();
                assert_eq!(provisioned.dashboard_url, None);
                assert_eq!(provisioned.metadata, None);
                assert_eq!(provisioned.state, None);
            }
            shared.deprovision(instance).unwrap();
        });
        let bound = given.bind_at(&shared, SystemTime::now()).unwrap();
        assert_eq!(bound.credentials, Some(Map::new()));
        assert!(bound.metadata.is_none() && bound.endpoints.is_none() && bound.state.is_none());
    }
}

#[test]
fn the_reference_is_served_as_written() {
    let service = permitted();
    let adapter = json!({
        "instance": {"dashboard_url": "https://admin.example.com/${instance_id|url}"},
        "binding": {
            "credentials": {"uri": "smtp://${binding_id|url}:${random:32}@relay.example.com:587"},
            "lifetime": "30d"
        }
    });
    let (shared, findings) = read(&adapter, &service);
    assert_eq!(findings, [""; 0]);
    let provisioned = Given::default()
        .call(&service, |call| shared.provision(call))
        .unwrap();
    assert_eq!(
        provisioned.dashboard_url.unwrap(),
        "https://admin.example.com/i-1"
    );
    assert_eq!(provisioned.state, None);
    let now = UNIX_EPOCH + Duration::from_millis(1_574_985_599_050);
    let bound = Given::default().bind_at(&shared, now).unwrap();
    let credentials = bound.credentials.unwrap();
    let uri = credentials["uri"].as_str().unwrap();
    let password = uri.strip_prefix("smtp://b-1:").unwrap();
    let password = password.strip_suffix("@relay.example.com:587").unwrap();
    assert_eq!(password.len(), 32);
    let metadata = Value::Object(bound.metadata.unwrap());
    assert_eq!(metadata, json!({"expires_at": "2019-12-28T23:59:59.0Z"}));
}

#[test]
fn everything_a_binding_can_have_is_served() {
    let given = Given::parameters(json!({"port": 5432, "config": {"a": 1}}));
    let bound = given
        .bind(json!({
            "credentials": {"port": "${parameters.port}", "nothing": null},
            "syslog_drain_url": "syslog://${binding_id}",
            "route_service_url": "https://${instance_id}.example.com",
            "volume_mounts": [mount(json!({"device": {"volume_id": "${instance_id}", "mount_config": "${parameters.config}"}}))],
            "endpoints": [{"host": "h", "ports": ["${parameters.port}", "9000-9010"], "protocol": null}],
            "metadata": {"expires_at": "2019-12-31T23:59:59.0Z"},
        }))
        .unwrap();
    assert_eq!(
        Value::Object(bound.credentials.unwrap()),
        json!({"port": 5432, "nothing": null})
    );
    assert_eq!(bound.syslog_drain_url.unwrap(), "syslog://b-1");
    assert_eq!(bound.route_service_url.unwrap(), "https://i-1.example.com");
    let device = json!({"volume_id": "i-1", "mount_config": {"a": 1}});
    assert_eq!(
        bound.volume_mounts.unwrap(),
        [mount(json!({"device": device}))]
    );
    // The specification wants ports as strings, and an optional null is left out.
    assert_eq!(
        bound.endpoints.unwrap(),
        [json!({"host": "h", "ports": ["5432", "9000-9010"]})]
    );
    assert_eq!(
        bound.metadata.unwrap()["expires_at"],
        "2019-12-31T23:59:59.0Z"
    );
    assert_eq!(bound.state, None);
}

#[test]
fn sections_and_keys_that_are_null_are_absent() {
    let (shared, findings) = read(&json!({"instance": null, "binding": null}), &permitted());
    assert_eq!(findings, [""; 0]);
    let bound_without = Given::default()
        .bind_at(&shared, SystemTime::now())
        .unwrap();
    assert_eq!(bound_without.credentials, Some(Map::new()));
    let keys = [
        "credentials",
        "syslog_drain_url",
        "route_service_url",
        "volume_mounts",
        "endpoints",
        "metadata",
    ];
    let keys = keys.iter().chain(&["lifetime", "renew_before"]);
    let nulls = keys.map(|key| ((*key).to_owned(), Value::Null)).collect();
    let bound = bound(Value::Object(nulls));
    assert_eq!(bound.credentials, Some(Map::new()));
    assert!(bound.syslog_drain_url.is_none() && bound.route_service_url.is_none());
    assert!(bound.volume_mounts.is_none() && bound.endpoints.is_none() && bound.metadata.is_none());
}

#[test]
fn bindings_of_another_type_alone_have_no_credentials() {
    for (key, value) in [
        ("syslog_drain_url", json!("syslog://x")),
        ("route_service_url", json!("https://x")),
        ("volume_mounts", json!([mount(json!({}))])),
    ] {
        assert_eq!(bound(json!({key: value})).credentials, None, "{key}");
        let both = bound(json!({key: value, "credentials": {"a": 1}}));
        assert_eq!(both.credentials.unwrap()["a"], 1, "{key}");
    }
    let endpoints = json!([{"host": "h", "ports": ["1"]}]);
    assert_eq!(
        bound(json!({"endpoints": endpoints})).credentials,
        Some(Map::new())
    );
    assert_eq!(
        bound(json!({"lifetime": "1d"})).credentials,
        Some(Map::new())
    );
}
