//! What is found out when a catalog is read.

use super::*;

#[test]
fn wrong_types_are_reported_with_their_place() {
    let (_, findings) = read(&json!({"instance": 1, "binding": "x"}), &permitted());
    let at = "error: services[0].plans[0].adapter";
    assert_eq!(
        findings,
        [
            format!("{at}.instance: found a number, wanted an object"),
            format!("{at}.binding: found a string, wanted an object"),
        ]
    );
    let instance =
        json!({"dashboard_url": 1, "metadata": {"labels": [], "attributes": "x"}, "dashbord": 1});
    let (_, findings) = read(&json!({"instance": instance}), &permitted());
    assert_eq!(
        findings,
        [
            format!("{at}.instance.dashboard_url: found a number, wanted a string"),
            format!("{at}.instance.metadata.attributes: found a string, wanted an object"),
            format!("{at}.instance.metadata.labels: found an array, wanted an object"),
            format!("{at}.instance.dashbord: unknown key, did you mean \"dashboard_url\"?"),
        ]
    );
    for (key, value, wanted) in [
        (
            "credentials",
            json!("${parameters.x}"),
            "found a string, wanted an object",
        ),
        ("credentials", json!([]), "found an array, wanted an object"),
        (
            "syslog_drain_url",
            json!({}),
            "found an object, wanted a string",
        ),
        (
            "route_service_url",
            json!(["x"]),
            "found an array, wanted an https URL",
        ),
        (
            "volume_mounts",
            json!({}),
            "found an object, wanted an array",
        ),
        ("endpoints", json!("x"), "found a string, wanted an array"),
        ("metadata", json!(true), "found a boolean, wanted an object"),
        ("lifetime", json!(30), "found a number, wanted a string"),
    ] {
        assert_eq!(
            findings_of(json!({key: value})),
            [format!("error: binding.{key}: {wanted}")]
        );
    }
}

#[test]
fn unknown_keys_are_reported() {
    assert_eq!(
        findings_of(json!({"credential": {}, "life_time": "1d"})),
        [
            "error: binding.credential: unknown key, did you mean \"credentials\"?",
            "error: binding.life_time: unknown key, did you mean \"lifetime\"?",
        ]
    );
    assert_eq!(
        findings_of(json!({
            "endpoints": [{"host": "h", "ports": ["1"], "protocl": "udp"}],
            "metadata": {"expires": "x"},
            "volume_mounts": [mount(json!({"device": {"volume_id": "v", "mount_confg": {}}}))],
        })),
        [
            "warning: binding.volume_mounts[0].device.mount_confg: the specification has no such field, \
             did you mean \"mount_config\"?",
            "warning: binding.endpoints[0].protocl: the specification has no such field, did you mean \"protocol\"?",
            "warning: binding.metadata.expires: the specification has no such field, did you mean \"expires_at\"?",
        ]
    );
}

#[test]
fn special_bindings_need_their_permission() {
    for (key, value, permission) in [
        ("syslog_drain_url", json!("syslog://x"), "syslog_drain"),
        ("route_service_url", json!("https://x"), "route_forwarding"),
        ("volume_mounts", json!([mount(json!({}))]), "volume_mount"),
    ] {
        let adapter = json!({"binding": {key: value}});
        for service in [
            json!({}),
            json!({"requires": []}),
            json!({"requires": ["other"]}),
        ] {
            let (_, findings) = read(&adapter, &offering(service, json!({})));
            let wanted = format!(
                "error: services[0].plans[0].adapter.binding.{key}: needs \"{permission}\" in \"requires\" of service \
                 offering \"mail\""
            );
            assert_eq!(findings, [wanted]);
        }
        let service = offering(json!({"requires": [permission]}), json!({}));
        assert_eq!(read(&adapter, &service).1, [""; 0]);
    }
}

#[test]
fn settings_of_bindings_need_a_bindable_plan() {
    let adapter = json!({"binding": {}});
    let unbindable = [
        offering(json!({"bindable": false}), json!({})),
        offering(json!({}), json!({"bindable": false})),
    ];
    for service in unbindable {
        let warning =
            "warning: services[0].plans[0].adapter.binding: never used: the plan is not bindable";
        assert_eq!(read(&adapter, &service).1, [warning]);
    }
    let bindable = offering(json!({"bindable": false}), json!({"bindable": true}));
    assert_eq!(read(&adapter, &bindable).1, [""; 0]);
    let service = offering(json!({"bindable": false}), json!({}));
    assert_eq!(read(&json!({"instance": {}}), &service).1, [""; 0]);
}

#[test]
fn volume_mounts_are_checked_at_load() {
    for (changes, place, text) in [
        (
            json!({"driver": ""}),
            "driver",
            "found an empty string, wanted a string that is not empty",
        ),
        (
            json!({"driver": " "}),
            "driver",
            "found another string, wanted a string that is not empty",
        ),
        (
            json!({"driver": null}),
            "driver",
            "found nothing, wanted a string that is not empty",
        ),
        (
            json!({"container_dir": 7}),
            "container_dir",
            "found a number, wanted a string that is not empty",
        ),
        (
            json!({"mode": "x"}),
            "mode",
            "found another string, wanted \"r\" or \"rw\"",
        ),
        (
            json!({"mode": ["r"]}),
            "mode",
            "found an array, wanted \"r\" or \"rw\"",
        ),
        (
            json!({"device_type": "own"}),
            "device_type",
            "found another string, wanted \"shared\"",
        ),
        (
            json!({"device": null}),
            "device",
            "found nothing, wanted an object",
        ),
        (
            json!({"device": "${parameters.x}"}),
            "device",
            "found a string, wanted an object",
        ),
        (
            json!({"device": {}}),
            "device.volume_id",
            "found nothing, wanted a string that is not empty",
        ),
        (
            json!({"device": {"volume_id": "v", "mount_config": "x"}}),
            "device.mount_config",
            "found a string, wanted an object",
        ),
        (
            json!({"device": {"volume_id": "v", "mount_config": "x${binding_id}"}}),
            "device.mount_config",
            "found a string, wanted an object",
        ),
    ] {
        let mounts = json!([mount(json!({"mode": "r"})), mount(changes)]);
        let wanted = format!("error: binding.volume_mounts[1].{place}: {text}");
        assert_eq!(findings_of(json!({"volume_mounts": mounts})), [wanted]);
    }
    assert_eq!(
        findings_of(json!({"volume_mounts": ["x"]})),
        ["error: binding.volume_mounts[0]: found a string, wanted an object"]
    );
}

#[test]
fn endpoints_are_checked_at_load() {
    let ports = "found another string, wanted a port or a range of ports within 1 to 65535, as a string: \
                 \"443\", \"9000-9010\"";
    for (endpoint, place, text) in [
        (
            json!({"ports": ["1"]}),
            "host",
            "found nothing, wanted a string that is not empty",
        ),
        (
            json!({"host": "", "ports": ["1"]}),
            "host",
            "found an empty string, wanted a string that is not empty",
        ),
        (
            json!({"host": "h"}),
            "ports",
            "found nothing, wanted an array",
        ),
        (
            json!({"host": "h", "ports": []}),
            "ports",
            "found an empty array, wanted at least one element",
        ),
        (
            json!({"host": "h", "ports": "1"}),
            "ports",
            "found a string, wanted an array",
        ),
        (json!({"host": "h", "ports": ["1", "0"]}), "ports[1]", ports),
        (
            json!({"host": "h", "ports": ["1"], "protocol": "icmp"}),
            "protocol",
            "found another string, wanted \"tcp\", \"udp\" or \"all\"",
        ),
    ] {
        let wanted = format!("error: binding.endpoints[0].{place}: {text}");
        assert_eq!(findings_of(json!({"endpoints": [endpoint]})), [wanted]);
    }
    let of_ports =
        |ports: Value| findings_of(json!({"endpoints": [{"host": "h", "ports": [ports]}]}));
    for good in [
        "1",
        "443",
        "65535",
        "9000-9010",
        "1-65535",
        "5-5",
        "${context.port}-${parameters.x}",
    ] {
        assert_eq!(of_ports(json!(good)), [""; 0], "{good}");
    }
    for bad in [
        "", "0", "65536", "-1", "1-", "-", "2-1", "1-65536", "0-5", "+1", "01", " 1", "1,2",
        "1-2-3", "http", "١",
    ] {
        assert_eq!(of_ports(json!(bad)).len(), 1, "{bad}");
    }
    assert_eq!(of_ports(json!(443)).len(), 1);
    for protocol in ["tcp", "udp", "all", "${parameters.x}"] {
        let endpoint = json!({"host": "h", "ports": ["1"], "protocol": protocol});
        assert_eq!(findings_of(json!({"endpoints": [endpoint]})), [""; 0]);
    }
}

#[test]
fn route_services_are_https() {
    for good in [
        "https://x",
        "HTTPS://x",
        "https://${instance_id}.example.com",
        "${env:HOST}",
        "${parameters.url}",
        "http${parameters.rest}",
    ] {
        let found = findings_of(json!({"route_service_url": good}));
        // The variable is known at load.
        assert_eq!(found.is_empty(), good != "${env:HOST}", "{good} {found:?}");
    }
    for bad in ["http://x", "https://", "x", "", "ftp"] {
        let found = findings_of(json!({"route_service_url": bad}));
        assert!(found[0].ends_with(", wanted an https URL"), "{found:?}");
    }
    for bad in ["http://${instance_id}", "x${instance_id}"] {
        assert_eq!(
            findings_of(json!({"route_service_url": bad})),
            ["error: binding.route_service_url: found another beginning, wanted \"https://\""]
        );
    }
}

#[test]
fn lengths_are_checked_at_load_where_they_are_known() {
    let longest = |beginning: &str, length: usize| {
        format!("{beginning}{}", "é".repeat(length - beginning.len()))
    };
    for (key, beginning, length) in [
        ("syslog_drain_url", "syslog://", 10_000),
        ("route_service_url", "https://", 255),
    ] {
        assert_eq!(
            findings_of(json!({key: longest(beginning, length)})),
            [""; 0]
        );
        let found = findings_of(json!({key: longest(beginning, length + 1)}));
        let text = format!("found {} characters, wanted at most {length}", length + 1);
        assert_eq!(found, [format!("error: binding.{key}: {text}")]);
    }
    let dashboard = |length| json!({"instance": {"dashboard_url": longest("https://", length)}});
    assert_eq!(read(&dashboard(16_000), &permitted()).1, [""; 0]);
    assert!(
        read(&dashboard(16_001), &permitted()).1[0]
            .ends_with("found 16001 characters, wanted at most 16000")
    );

    let mounts = |length| json!([mount(json!({"container_dir": "x".repeat(length)}))]);
    let rest = mounts(0).to_string().len();
    assert_eq!(
        findings_of(json!({"volume_mounts": mounts(65_535 - rest)})),
        [""; 0]
    );
    assert_eq!(
        findings_of(json!({"volume_mounts": mounts(65_536 - rest)})),
        ["error: binding.volume_mounts: found 65536 bytes as JSON, wanted at most 65535"]
    );
    let credentials = |length: usize| json!({"credentials": {"a": "x".repeat(length - 8)}});
    assert_eq!(findings_of(credentials(49_152)), [""; 0]);
    assert_eq!(
        findings_of(credentials(49_153)),
        [
            "warning: binding.credentials: found 49153 bytes as JSON; Cloud Foundry can keep about 49152"
        ]
    );
}

#[test]
fn expressions_are_checked_in_their_scope_with_their_place() {
    let adapter = json!({
        "instance": {"dashboard_url": "https://x/${binding_id}"},
        "binding": {"credentials": {"uri": "smtp://${binding_id}:${rndom:32}@x"}}
    });
    assert_eq!(
        read(&adapter, &permitted()).1,
        [
            "error: services[0].plans[0].adapter.instance.dashboard_url: at character 11: ${binding_id}: \
             an instance has none; use it under \"binding\"",
            "error: services[0].plans[0].adapter.binding.credentials.uri: at character 22: ${rndom:32}: unknown, \
             did you mean \"random:32\"?",
        ]
    );
}

#[test]
fn secrets_of_the_environment_are_in_no_finding() {
    let secret = "${env:SECRET}";
    let found = findings_of(json!({
        "credentials": {"a": secret, "b": format!("{secret}${{x}}")},
        "syslog_drain_url": [secret],
        "route_service_url": format!("http://{secret}"),
        "volume_mounts": [mount(json!({"mode": secret, "device_type": secret}))],
        "endpoints": [{"host": "h", "ports": [secret], "protocol": secret}],
        "metadata": {"expires_at": secret},
        "lifetime": secret,
    }));
    assert_eq!(found.len(), 10, "{found:?}");
    assert!(
        !found.iter().any(|finding| finding.contains("hunter2")),
        "{found:?}"
    );
}
