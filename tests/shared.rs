//! The adapter `shared`, end to end: what a catalog file says of instances and bindings, and what platforms get.

mod support;

use serde_json::{Value, json};
use std::time::{Duration, SystemTime};
use support::{Broker, Setup, binding, instance, merged};

/// A service with one plan `small`, fulfilled by `shared` with these sections.
fn catalog(sections: Value) -> Value {
    let adapter = merged(&json!({ "kind": "shared" }), sections);
    json!({ "services": [{
        "id": "service-1",
        "name": "mail",
        "description": "Mail",
        "bindable": true,
        "bindings_retrievable": true,
        "instances_retrievable": true,
        "plan_updateable": true,
        "requires": ["syslog_drain", "route_forwarding", "volume_mount"],
        "plans": [{
            "id": "plan-1",
            "name": "small",
            "description": "Small",
            "binding_rotatable": true,
            "adapter": adapter
        }]
    }]})
}

fn provision() -> Value {
    support::provision("service-1", "plan-1")
}

fn bind() -> Value {
    support::bind("service-1", "plan-1")
}

fn with_parameters(body: &Value, parameters: Value) -> Value {
    merged(body, json!({ "parameters": parameters }))
}

/// What an instance shows with this section `instance`.
fn shown(section: Value, request: &Value) -> Value {
    let broker = Broker::with(&catalog(json!({ "instance": section })));
    broker.put(&instance("i"), request).expect(201).json()
}

/// A broker with this section `binding`, and an instance `i`.
fn broker(section: Value) -> Broker {
    let broker = Broker::with(&catalog(json!({ "binding": section })));
    broker.put(&instance("i"), &provision()).expect(201);
    broker
}

/// What a binding gets with this section `binding`.
fn bound(section: Value, request: &Value) -> Value {
    let broker = broker(section);
    broker.put(&binding("i", "b"), request).expect(201).json()
}

/// The credentials that a binding gets from this template.
fn credentials(template: Value, request: &Value) -> Value {
    bound(json!({ "credentials": template }), request)["credentials"].clone()
}

/// The seconds since 1970 of a time as the specification wants it; exactly of its form.
#[track_caller]
fn seconds(time: &Value) -> f64 {
    let text = time.as_str().unwrap();
    let form: String = text
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    // spec: Binding Metadata Object: yyyy-mm-ddThh:mm:ss.sZ.
    assert_eq!(form, "0000-00-00T00:00:00.0Z", "{text}");
    since_1970(humantime::parse_rfc3339(text).unwrap())
}

fn since_1970(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
}

#[test]
fn an_instance_shows_its_dashboard_and_metadata() {
    let metadata = json!({
        "labels": { "team": "mail", "size": 3 },
        "attributes": { "nested": { "deep": [1, null, true] } }
    });
    let section = json!({ "dashboard_url": "https://mail.example.com/i", "metadata": metadata });
    let broker = Broker::with(&catalog(json!({ "instance": section })));
    let answer = broker.put(&instance("i"), &provision()).expect(201).json();
    assert_eq!(answer, section);
    let again = broker.put(&instance("i"), &provision()).expect(200).json();
    assert_eq!(again, section);
    let fetched = broker.get(&instance("i")).expect(200).json();
    assert_eq!(fetched["dashboard_url"], section["dashboard_url"]);
    assert_eq!(fetched["metadata"], metadata);
}

#[test]
fn what_the_file_does_not_say_is_absent() {
    assert_eq!(shown(json!({}), &provision()), json!({}));
    assert_eq!(
        bound(json!({}), &bind()),
        json!({ "credentials": {} }),
        "platforms want credentials of a plan that has nothing else"
    );
    let drain = bound(json!({ "syslog_drain_url": "syslog://logs:514" }), &bind());
    assert_eq!(drain, json!({ "syslog_drain_url": "syslog://logs:514" }));
}

#[test]
fn a_binding_gets_all_that_the_file_says() {
    let section = json!({
        "credentials": {
            "uri": "smtp://user:pass@mail.example.com:25",
            "port": 25,
            "tls": true,
            "none": null,
            "hosts": ["a", "b"],
            "nested": { "deep": { "x": 1.5 } }
        },
        "syslog_drain_url": "syslog-tls://logs.example.com:6514",
        "route_service_url": "https://route.example.com",
        "volume_mounts": [{
            "driver": "cephdriver",
            "container_dir": "/data/images",
            "mode": "r",
            "device_type": "shared",
            "device": { "volume_id": "v-1", "mount_config": { "key": "value" } }
        }],
        "endpoints": [
            { "host": "mail.example.com", "ports": ["25", "9000-9010"] },
            { "host": "10.0.0.1", "ports": ["53"], "protocol": "udp" }
        ],
        "metadata": {
            "expires_at": "2999-12-31T23:59:59.0Z",
            "renew_before": "2999-12-01T00:00:00.0Z"
        }
    });
    let broker = broker(section.clone());
    let answer = broker.put(&binding("i", "b"), &bind()).expect(201).json();
    assert_eq!(answer, section);
    let again = broker.put(&binding("i", "b"), &bind()).expect(200).json();
    assert_eq!(again, section);
    let fetched = broker.get(&binding("i", "b")).expect(200).json();
    assert_eq!(fetched, section);
    // Nothing of it is in the catalog.
    let served = broker.get("/v2/catalog").expect(200).json().to_string();
    assert!(!served.contains("smtp") && !served.contains("adapter"));
}

/// spec: Binding Metadata Object.
#[test]
fn a_lifetime_says_when_a_binding_expires_and_when_it_should_be_renewed() {
    let section = json!({ "lifetime": "30d", "renew_before": "1h 30m" });
    let broker = broker(section);
    let before = since_1970(SystemTime::now());
    let answer = broker.put(&binding("i", "b"), &bind()).expect(201).json();
    let after = since_1970(SystemTime::now());
    let expires_at = seconds(&answer["metadata"]["expires_at"]);
    // Rounded down to tenths of a second.
    let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60).as_secs_f64();
    assert!(expires_at > before + days(30) - 0.11, "{answer}");
    assert!(expires_at <= after + days(30), "{answer}");
    let renew_before = seconds(&answer["metadata"]["renew_before"]);
    assert!(
        (expires_at - renew_before - 5400.0).abs() < 0.01,
        "{answer}"
    );
    // It does not begin anew with a repeat.
    let again = broker.put(&binding("i", "b"), &bind()).expect(200).json();
    assert_eq!(again, answer);
    let fetched = broker.get(&binding("i", "b")).expect(200).json();
    assert_eq!(fetched["metadata"], answer["metadata"]);
    assert_eq!(answer["credentials"], json!({}));
}

#[test]
fn a_lifetime_without_renewal_says_only_when_it_ends() {
    let answer = bound(json!({ "lifetime": "1h" }), &bind());
    seconds(&answer["metadata"]["expires_at"]);
    assert_eq!(answer["metadata"].as_object().unwrap().len(), 1, "{answer}");
}

#[test]
fn names_and_ids_are_filled_in_everywhere() {
    const ALL: &str =
        "${instance_id} ${binding_id} ${plan.name} ${plan.id} ${service.name} ${service.id}";
    let all = "i b small plan-1 mail service-1";
    let section = json!({
        "credentials": { "all": ALL, "list": [ALL, { "deep": ALL }] },
        "syslog_drain_url": "syslog://${service.name}.example.com/${binding_id}",
        "route_service_url": "https://${plan.name}.example.com/${instance_id}",
        "volume_mounts": [{
            "driver": "${service.name}",
            "container_dir": "/${binding_id}",
            "mode": "rw",
            "device_type": "shared",
            "device": { "volume_id": "${instance_id}", "mount_config": { "all": ALL } }
        }],
        "endpoints": [{ "host": "${instance_id}.example.com", "ports": ["25"] }]
    });
    let expected = json!({
        "credentials": { "all": all, "list": [all, { "deep": all }] },
        "syslog_drain_url": "syslog://mail.example.com/b",
        "route_service_url": "https://small.example.com/i",
        "volume_mounts": [{
            "driver": "mail",
            "container_dir": "/b",
            "mode": "rw",
            "device_type": "shared",
            "device": { "volume_id": "i", "mount_config": { "all": all } }
        }],
        "endpoints": [{ "host": "i.example.com", "ports": ["25"] }]
    });
    assert_eq!(bound(section, &bind()), expected);

    let section = json!({
        "dashboard_url": "https://${service.name}.example.com/${plan.id}/${instance_id}",
        "metadata": { "labels": { "plan": "${plan.name}" }, "attributes": { "s": "${service.id}" } }
    });
    let expected = json!({
        "dashboard_url": "https://mail.example.com/plan-1/i",
        "metadata": { "labels": { "plan": "small" }, "attributes": { "s": "service-1" } }
    });
    assert_eq!(shown(section, &provision()), expected);
}

#[test]
fn a_value_alone_in_its_string_keeps_its_type() {
    let parameters = json!({
        "number": 5432, "float": 1.5, "flag": true, "text": "t", "list": [1, "a"], "map": { "a": { "b": 7 } }
    });
    let request = with_parameters(&bind(), parameters);
    let template = json!({
        "number": "${parameters.number}",
        "float": "${parameters.float}",
        "flag": "${parameters.flag}",
        "list": "${parameters.list}",
        "map": "${parameters.map}",
        "deep": "${parameters.map.a.b}",
        "within": "n=${parameters.number} f=${parameters.flag} t=${parameters.text}"
    });
    let expected = json!({
        "number": 5432,
        "float": 1.5,
        "flag": true,
        "list": [1, "a"],
        "map": { "a": { "b": 7 } },
        "deep": 7,
        "within": "n=5432 f=true t=t"
    });
    assert_eq!(credentials(template, &request), expected);
}

#[test]
fn what_is_no_text_is_not_put_into_text() {
    let broker = broker(json!({ "credentials": { "x": "a ${parameters.list}" } }));
    let request = with_parameters(&bind(), json!({ "list": [1] }));
    broker
        .put(&binding("i", "b"), &request)
        .expect_naming(400, "parameters.list");
    broker.get(&binding("i", "b")).expect(404);
}

#[test]
fn parameters_of_a_binding_come_before_those_of_its_instance() {
    let template = json!({ "credentials": {
        "color": "${parameters.color}", "size": "${parameters.size}"
    }});
    let broker = Broker::with(&catalog(json!({ "binding": template })));
    let request = with_parameters(&provision(), json!({ "color": "red", "size": 1 }));
    broker.put(&instance("i"), &request).expect(201);
    let credentials = |id: &str, request: &Value| {
        let answer = broker.put(&binding("i", id), request).expect(201);
        answer.json()["credentials"].clone()
    };
    assert_eq!(
        credentials("b1", &bind()),
        json!({ "color": "red", "size": 1 })
    );
    let blue = with_parameters(&bind(), json!({ "color": "blue" }));
    assert_eq!(
        credentials("b2", &blue),
        json!({ "color": "blue", "size": 1 })
    );
}

/// spec: profile, Context Object.
#[test]
fn the_context_is_filled_in() {
    let section = json!({ "dashboard_url": "https://${context.organization_name}.example.com" });
    assert_eq!(
        shown(section, &provision())["dashboard_url"],
        "https://acme.example.com"
    );
    let template =
        json!({ "space": "${context.space_name}", "org": "${context.organization_name}" });
    let request = merged(
        &bind(),
        json!({ "context": { "platform": "cloudfoundry", "space_name": "prod" } }),
    );
    // What the binding's own context lacks, that of the instance has.
    assert_eq!(
        credentials(template, &request),
        json!({ "space": "prod", "org": "acme" })
    );
}

#[test]
fn what_is_filled_in_is_not_looked_at_again() {
    let request = with_parameters(&bind(), json!({ "x": "${instance_id}$${y}" }));
    assert_eq!(
        credentials(
            json!({ "alone": "${parameters.x}", "within": "<${parameters.x}>" }),
            &request
        ),
        json!({ "alone": "${instance_id}$${y}", "within": "<${instance_id}$${y}>" })
    );
}

#[test]
fn two_dollars_are_one_that_means_nothing() {
    assert_eq!(
        credentials(
            json!({ "a": "$${instance_id}", "b": "$5 and $$ and $${x}${binding_id}$" }),
            &bind()
        ),
        json!({ "a": "${instance_id}", "b": "$5 and $$ and ${x}b$" })
    );
}

#[test]
fn a_missing_parameter_is_named_and_leaves_nothing_behind() {
    let broker = Broker::with(&catalog(json!({
        "instance": { "dashboard_url": "https://${parameters.host}/" },
        "binding": { "credentials": { "mailbox": "${parameters.mail.box}" } }
    })));
    let ids = "?service_id=service-1&plan_id=plan-1";
    for request in [
        provision(),
        with_parameters(&provision(), json!({ "Host": "x" })),
    ] {
        broker
            .put(&instance("i"), &request)
            .expect_naming(400, "parameters.host");
        broker.get(&instance("i")).expect(404);
        broker
            .delete(&format!("{}{ids}", instance("i")))
            .expect(410);
    }
    let request = with_parameters(&provision(), json!({ "host": "h.example.com" }));
    broker.put(&instance("i"), &request).expect(201);
    for request in [
        bind(),
        with_parameters(&bind(), json!({ "mail": "x" })),
        with_parameters(&bind(), json!({ "mail": { "Box": 1 } })),
    ] {
        broker
            .put(&binding("i", "b"), &request)
            .expect_naming(400, "parameters.mail.box");
        broker.get(&binding("i", "b")).expect(404);
        broker
            .delete(&format!("{}{ids}", binding("i", "b")))
            .expect(410);
    }
    let request = with_parameters(&bind(), json!({ "mail": { "box": 1 } }));
    broker.put(&binding("i", "b"), &request).expect(201);
}

#[test]
fn a_missing_property_of_the_context_is_named() {
    let broker = broker(json!({ "credentials": { "cluster": "${context.clusterid}" } }));
    broker
        .put(&binding("i", "b"), &bind())
        .expect_naming(400, "context.clusterid");
    broker.get(&binding("i", "b")).expect(404);
}

#[test]
fn random_values_are_one_per_binding_and_stay_the_same() {
    let broker = broker(json!({
        "credentials": {
            "password": "${random:24}",
            "uri": "smtp://${binding_id}:${random:24}@mail.example.com",
            "other": "${random:12}"
        },
        "syslog_drain_url": "syslog://logs.example.com/${random:24}"
    }));
    let make = |id: &str| broker.put(&binding("i", id), &bind()).expect(201).json();
    let (first, second) = (make("b1"), make("b2"));
    for answer in [&first, &second] {
        let text = |name: &str| answer["credentials"][name].as_str().unwrap();
        let password = text("password");
        assert_eq!((password.len(), text("other").len()), (24, 12), "{answer}");
        assert!(password.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert!(text("uri").contains(&format!(":{password}@")), "{answer}");
        let drain = answer["syslog_drain_url"].as_str().unwrap();
        assert!(drain.ends_with(password), "{answer}");
        assert!(!password.starts_with(text("other")), "{answer}");
    }
    assert_ne!(
        first["credentials"]["password"],
        second["credentials"]["password"]
    );
    assert_ne!(
        first["credentials"]["other"],
        second["credentials"]["other"]
    );
    let again = broker.put(&binding("i", "b1"), &bind()).expect(200).json();
    assert_eq!(again, first);
    let fetched = broker.get(&binding("i", "b1")).expect(200).json();
    assert_eq!(fetched, first);
    // The id used again is another binding.
    let target = format!("{}?service_id=service-1&plan_id=plan-1", binding("i", "b1"));
    broker.delete(&target).expect(200);
    assert_ne!(make("b1"), first);
}

#[test]
fn the_environment_is_filled_in_when_the_broker_starts() {
    let catalog = catalog(json!({
        "instance": { "dashboard_url": "https://${env:DOMAIN}/" },
        "binding": { "credentials": {
            "password": "${env:MAIL_PASSWORD}",
            "uri": "smtp://u:${env:MAIL_PASSWORD}@${env:DOMAIN}",
            "escaped": "$${env:MAIL_PASSWORD}"
        }}
    }));
    let broker = Setup::new()
        .env("BROKER_STORE", "memory")
        .env("DOMAIN", "mail.example.com")
        // Looks like an expression, but is a value.
        .env("MAIL_PASSWORD", "p${instance_id}$${x}")
        .catalog(&catalog)
        .start();
    let answer = broker.put(&instance("i"), &provision()).expect(201).json();
    assert_eq!(answer["dashboard_url"], "https://mail.example.com/");
    let answer = broker.put(&binding("i", "b"), &bind()).expect(201).json();
    assert_eq!(
        answer["credentials"],
        json!({
            "password": "p${instance_id}$${x}",
            "uri": "smtp://u:p${instance_id}$${x}@mail.example.com",
            "escaped": "${env:MAIL_PASSWORD}"
        })
    );
}

#[test]
fn an_update_shows_the_dashboard_of_the_new_parameters_with_the_same_random_value() {
    let section = json!({
        "dashboard_url": "https://${parameters.host}/${random:16}",
        "metadata": { "labels": { "host": "${parameters.host}" } }
    });
    let broker = Broker::with(&catalog(json!({ "instance": section })));
    let request = with_parameters(&provision(), json!({ "host": "old" }));
    let before = broker.put(&instance("i"), &request).expect(201).json();
    let random = before["dashboard_url"]
        .as_str()
        .and_then(|url| url.strip_prefix("https://old/"))
        .unwrap();
    assert_eq!(random.len(), 16);

    let update = json!({ "service_id": "service-1", "parameters": { "host": "new" } });
    let expected = json!({
        "dashboard_url": format!("https://new/{random}"),
        "metadata": { "labels": { "host": "new" } }
    });
    let after = broker.patch(&instance("i"), &update).expect(200).json();
    assert_eq!(after, expected);
    let fetched = broker.get(&instance("i")).expect(200).json();
    assert_eq!(fetched["dashboard_url"], expected["dashboard_url"]);
    assert_eq!(fetched["metadata"], expected["metadata"]);

    // A parameter that the dashboard needs cannot be taken away.
    let update = json!({ "service_id": "service-1", "parameters": { "host": null } });
    broker
        .patch(&instance("i"), &update)
        .expect_naming(400, "parameters.host");
    let fetched = broker.get(&instance("i")).expect(200).json();
    assert_eq!(fetched["dashboard_url"], expected["dashboard_url"]);
    assert_eq!(fetched["parameters"], json!({ "host": "new" }));

    let another = with_parameters(&provision(), json!({ "host": "old" }));
    let another = broker.put(&instance("j"), &another).expect(201).json();
    assert_ne!(another["dashboard_url"], before["dashboard_url"]);
}

#[test]
fn a_service_may_say_it_once_for_all_plans_that_say_nothing_themselves() {
    let mut catalog = catalog(json!({ "binding": { "credentials": { "from": "plan" } } }));
    let service = &mut catalog["services"][0];
    service["adapter"] = json!({
        "kind": "shared",
        "binding": { "credentials": { "from": "service", "plan": "${plan.name}" } }
    });
    let plan = json!({ "id": "plan-2", "name": "large", "description": "Large" });
    service["plans"].as_array_mut().unwrap().push(plan);
    let broker = Broker::with(&catalog);
    for (plan, expected) in [
        ("plan-1", json!({ "from": "plan" })),
        ("plan-2", json!({ "from": "service", "plan": "large" })),
    ] {
        let body = support::provision("service-1", plan);
        broker.put(&instance(plan), &body).expect(201);
        let body = support::bind("service-1", plan);
        let answer = broker.put(&binding(plan, "b"), &body).expect(201).json();
        assert_eq!(answer["credentials"], expected);
    }
}

/// Credentials outlive the broker: drawn once, kept in the store. Needs the file store.
#[test]
fn random_values_survive_a_restart() {
    let catalog = catalog(json!({
        "instance": { "dashboard_url": "https://${parameters.host}/${random:16}" },
        "binding": { "credentials": { "password": "${random:24}" } }
    }));
    let request = with_parameters(&provision(), json!({ "host": "old" }));
    let broker = Setup::new().catalog(&catalog).start();
    let shown = broker.put(&instance("i"), &request).expect(201).json();
    let bound = broker.put(&binding("i", "b"), &bind()).expect(201).json();

    let broker = Setup::in_folder(broker.kill()).catalog(&catalog).start();
    let again = broker.put(&instance("i"), &request).expect(200).json();
    assert_eq!(again, shown);
    let again = broker.put(&binding("i", "b"), &bind()).expect(200).json();
    assert_eq!(again, bound);
    let update = json!({ "service_id": "service-1", "parameters": { "host": "new" } });
    let updated = broker.patch(&instance("i"), &update).expect(200).json();
    let random = |answer: &Value| {
        let url = answer["dashboard_url"].as_str().unwrap();
        url.rsplit('/').next().unwrap().to_owned()
    };
    assert_eq!(random(&updated), random(&shown));
}

#[test]
fn a_file_is_read_anew_for_each_binding() {
    let setup = Setup::new();
    let path = setup.folder.file("password", "p@ss/w:rd\r\n");
    let catalog = catalog(json!({
        "binding": { "credentials": {
            "password": "${file:password}",
            "uri": "smtp://relay:${file:password|url}@mail.example.com",
            "note": "user ${parameters.user|url}, ${binding_id|url}",
        }},
    }));
    let broker = setup.catalog(&catalog).start();
    broker.put(&instance("i"), &provision()).expect(201);
    let bind_as = |id: &str| {
        let body = with_parameters(&bind(), json!({ "user": "a b" }));
        broker.put(&binding("i", id), &body)
    };
    let credentials = bind_as("b-1").expect(201).json()["credentials"].take();
    assert_eq!(
        credentials,
        json!({
            "password": "p@ss/w:rd",
            "uri": "smtp://relay:p%40ss%2Fw%3Ard@mail.example.com",
            "note": "user a%20b, b-1",
        })
    );
    std::fs::write(&path, "changed").unwrap();
    let credentials = bind_as("b-2").expect(201).json()["credentials"].take();
    assert_eq!(credentials["uri"], "smtp://relay:changed@mail.example.com");

    std::fs::remove_file(&path).unwrap();
    let answer = bind_as("b-3").expect(503);
    let description = answer.json()["description"].to_string();
    assert!(
        description.contains("a secret of this service cannot be read at the moment"),
        "{description}"
    );
    assert!(!description.contains("password"), "{description}");
    broker.wait_for_print("cannot read the file ");
    // Nothing was changed, so it works as soon as the file is there.
    std::fs::write(&path, "back").unwrap();
    bind_as("b-3").expect(201);
    let (_, printed) = broker.stop();
    for secret in ["p@ss", "changed"] {
        assert!(!printed.contains(secret), "{printed}");
    }
}

#[test]
fn a_file_that_is_not_there_is_found_at_the_start() {
    let catalog = catalog(json!({ "binding": { "credentials": { "a": "${file:gone}" } } }));
    let output = Setup::new().catalog(&catalog).run();
    assert_eq!(output.status.code(), Some(78));
    let told = String::from_utf8(output.stderr).unwrap();
    let wanted = "error: services[0].plans[0].adapter.binding.credentials.a: at character 1: cannot read the file ";
    assert!(told.contains(wanted), "{told}");
}
