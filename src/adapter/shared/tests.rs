use super::*;
use crate::adapter::settings::tests::{offering, probe};
use crate::adapter::{FailureKind, Origin, Run};
use crate::catalog::Service;
use crate::json::{Object, to_raw};

use serde_json::{Map, Value, json};
use std::time::{Duration, UNIX_EPOCH};

/// A service offering that may do everything.
fn permitted() -> Service {
    let requires = json!({"requires": ["syslog_drain", "route_forwarding", "volume_mount"]});
    offering(requires, json!({}))
}

fn read(adapter: &Value, service: &Service) -> (Shared, Vec<String>) {
    let (shared, findings) = probe(adapter, service, Shared::from_settings);
    (shared.unwrap(), findings)
}

/// The findings for the section `binding`, without the beginning of their place.
fn findings_of(binding: Value) -> Vec<String> {
    let findings = read(&json!({"binding": binding}), &permitted()).1;
    let short = |line: &String| line.replace("services[0].plans[0].adapter.", "");
    findings.iter().map(short).collect()
}

#[derive(Default)]
struct Given {
    parameters: Value,
    context: Value,
    state: Value,
}

impl Given {
    fn parameters(parameters: Value) -> Given {
        Given {
            parameters,
            ..Given::default()
        }
    }

    /// Calls `f` for an instance of the offering's first plan.
    fn call<T>(&self, service: &Service, f: impl FnOnce(&InstanceCall<'_>) -> T) -> T {
        let raws =
            [&self.parameters, &self.context, &self.state].map(|value| to_raw(value).unwrap());
        f(&InstanceCall {
            instance_id: "i-1",
            service,
            plan: &service.plans[0],
            organization_guid: "",
            space_guid: "",
            parameters: Object::new(Some(&raws[0])),
            context: Object::new(Some(&raws[1])),
            state: Object::new(Some(&raws[2])),
            origin: Origin::default(),
            run: Run::alone("op", Duration::from_secs(1)),
        })
    }

    fn bind_at(&self, shared: &Shared, now: SystemTime) -> Result<Bound, Failure> {
        self.call(&permitted(), |instance| {
            let call = BindingCall {
                instance: *instance,
                binding_id: "b-1",
                app_guid: None,
                bind_resource: Object::default(),
                parameters: Object::default(),
                context: Object::default(),
                predecessor_binding_id: None,
                state: Object::default(),
            };
            shared.binding.render(&call, now)
        })
    }

    fn bind(&self, binding: Value) -> Result<Bound, Failure> {
        let (shared, findings) = read(&json!({"binding": binding}), &permitted());
        assert_eq!(findings, [""; 0]);
        self.bind_at(&shared, SystemTime::now())
    }

    fn provision(&self, instance: Value) -> Result<Provisioned, Failure> {
        let service = permitted();
        let (shared, findings) = read(&json!({"instance": instance}), &service);
        assert_eq!(findings, [""; 0]);
        self.call(&service, |call| shared.provision(call))
    }

    fn update(&self, instance: Value) -> Result<Provisioned, Failure> {
        let service = permitted();
        let (shared, findings) = read(&json!({"instance": instance}), &service);
        assert_eq!(findings, [""; 0]);
        self.call(&service, |instance| {
            shared.update(&UpdateCall {
                instance: *instance,
                changes: Object::default(),
                previous_parameters: Object::default(),
                previous_plan_id: "p0",
            })
        })
    }
}

fn bound(binding: Value) -> Bound {
    Given::default().bind(binding).unwrap()
}

fn refused(given: Value, binding: Value) -> Failure {
    Given::parameters(given).bind(binding).unwrap_err()
}

fn mount(changes: Value) -> Value {
    let mut mount = json!({
        "driver": "nfs", "container_dir": "/data", "mode": "rw", "device_type": "shared", "device": {"volume_id": "v"}
    });
    let changes = changes.as_object().unwrap().clone();
    mount.as_object_mut().unwrap().extend(changes);
    mount
}

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

#[test]
fn an_instance_keeps_its_random_values_over_updates() {
    let instance = json!({
        "dashboard_url": "https://x/${random:32}?size=${parameters.size|url}",
        "metadata": {"attributes": {"key": "${random:8:key}", "again": "${random:32}"}}
    });
    let mut given = Given::parameters(json!({"size": "S"}));
    let first = given.provision(instance.clone()).unwrap();
    let state = first.state.unwrap();
    let kept = state["random"].clone();
    assert_eq!(kept.as_object().unwrap().len(), 2);
    let random = kept["32"].as_str().unwrap();
    assert_eq!(random.len(), 32);
    assert_eq!(
        first.dashboard_url.unwrap(),
        format!("https://x/{random}?size=S")
    );
    let attributes = first.metadata.unwrap()["attributes"].clone();
    assert_eq!(attributes, json!({"key": kept["8:key"], "again": random}));

    given.state = Value::Object(state.clone());
    given.parameters = json!({"size": "XL"});
    let second = given.update(instance).unwrap();
    assert_eq!(
        second.dashboard_url.unwrap(),
        format!("https://x/{random}?size=XL")
    );
    assert_eq!(second.metadata.unwrap()["attributes"], attributes);
    assert_eq!(second.state.unwrap(), state);

    // Another plan draws only what it needs beside, and forgets nothing.
    let other = given
        .update(json!({"dashboard_url": "${random:32}${random:4}"}))
        .unwrap();
    let kept = other.state.unwrap()["random"].clone();
    assert_eq!(kept["32"], random);
    assert_eq!(kept["8:key"], state["random"]["8:key"]);
    let four = kept["4"].as_str().unwrap();
    assert_eq!(other.dashboard_url.unwrap(), format!("{random}{four}"));
    let none = given.update(json!({"dashboard_url": "x"})).unwrap();
    assert_eq!(none.state, None);
}

#[test]
fn the_state_of_another_adapter_is_kept() {
    let given = Given {
        state: json!({"database": "db1", "random": "not ours"}),
        ..Given::default()
    };
    let state = given
        .update(json!({"dashboard_url": "${random:4}"}))
        .unwrap()
        .state
        .unwrap();
    assert_eq!(state["database"], "db1");
    assert_eq!(state["random"]["4"].as_str().unwrap().len(), 4);
}

#[test]
fn a_damaged_state_is_not_drawn_anew() {
    let given = Given {
        state: json!("secret"),
        ..Given::default()
    };
    let failure = given
        .update(json!({"dashboard_url": "${random:4}"}))
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Failed);
    assert!(!failure.description.contains("secret"));
}

#[test]
fn random_values_of_bindings_differ_and_are_their_own() {
    let (shared, _) = read(
        &json!({
            "instance": {"dashboard_url": "${random:32}"},
            "binding": {"credentials": {"p": "${random:32}", "u": "x:${random:32}"}}
        }),
        &permitted(),
    );
    let given = Given {
        state: json!({"random": {"32": "of-the-instance"}}),
        ..Given::default()
    };
    let passwords: Vec<_> = (0..2)
        .map(|_| {
            let bound = given.bind_at(&shared, SystemTime::now()).unwrap();
            assert_eq!(bound.state, None);
            let credentials = bound.credentials.unwrap();
            let password = credentials["p"].as_str().unwrap().to_owned();
            assert_eq!(credentials["u"], format!("x:{password}"));
            password
        })
        .collect();
    assert_ne!(passwords[0], passwords[1]);
    assert!(!passwords.contains(&"of-the-instance".to_owned()));
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
