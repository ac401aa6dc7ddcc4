//! Adapters with outside effects: what the broker tells them, and what others see while they work and after they fail.

#[path = "support/fake.rs"]
#[allow(dead_code, reason = "every test file uses a part of it")]
mod fake;
mod support;

use brokerlet::adapter::{Failure, Identity, Origin};
use brokerlet::broker::Caller;
use brokerlet::store::{Key, Store};
use fake::{Answered, Api, Fake, Held, SERVICE, Shelf};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};
use support::merged;

fn small() -> Value {
    support::provision(SERVICE, "small")
}

fn large() -> Value {
    support::provision(SERVICE, "large")
}

fn bind() -> Value {
    support::bind(SERVICE, "small")
}

fn with_color(body: &Value, color: &str) -> Value {
    merged(body, json!({ "parameters": { "color": color } }))
}

/// A broker with the instance `i` and its binding `b`, of plan `small`.
fn bound() -> (Fake, Shelf, Api) {
    let (fake, shelf) = (Fake::default(), Shelf::new());
    let broker = shelf.broker(&fake);
    broker.provision("i", &small()).expect(201);
    broker.bind("i", "b", &bind()).expect(201);
    fake.calls();
    shelf.commits();
    (fake, shelf, broker)
}

/// Runs `request` into a held adapter, `meanwhile` while it is there, and returns the answer to the request.
fn during(
    held: &Held,
    request: impl FnOnce() -> Answered + Send,
    meanwhile: impl FnOnce(),
) -> Answered {
    thread::scope(|scope| {
        let request = scope.spawn(request);
        held.entered();
        meanwhile();
        held.release();
        request.join().unwrap()
    })
}

#[test]
fn what_is_about_to_be_done_is_on_record_before_the_adapter_is_called() {
    let (fake, shelf) = (Fake::default(), Shelf::new());
    let broker = shelf.broker(&fake);
    let (instance, binding) = (Key::instance("i"), Key::binding("i", "b"));
    type Request<'a> = Box<dyn Fn() -> Answered + Send + Sync + 'a>;
    let steps: [(&str, Key, u16, Request<'_>); 5] = [
        (
            "provision",
            instance.clone(),
            201,
            Box::new(|| broker.provision("i", &small())),
        ),
        (
            "update",
            instance.clone(),
            200,
            Box::new(|| broker.update("i", &json!({ "parameters": { "a": 1 } }))),
        ),
        (
            "bind",
            binding.clone(),
            201,
            Box::new(|| broker.bind("i", "b", &bind())),
        ),
        (
            "unbind",
            binding,
            200,
            Box::new(|| broker.unbind("i", "b", "small")),
        ),
        (
            "deprovision",
            instance,
            200,
            Box::new(|| broker.deprovision("i", "small")),
        ),
    ];
    for (operation, key, status, request) in steps {
        let held = fake.hold(operation);
        let answer = during(&held, request, || {
            assert_eq!(shelf.open_operations().unwrap(), [key], "{operation}");
            assert_eq!(shelf.commits(), 1, "{operation}");
        });
        answer.expect(status);
        assert_eq!(shelf.open_operations().unwrap(), [], "{operation}");
        assert_eq!(shelf.commits(), 1, "{operation}");
    }
}

/// spec: Blocking Operations; Provisioning, 409; Fetching a Service Instance, 404; Polling Last Operation.
#[test]
fn an_instance_that_is_being_provisioned_is_busy_and_cannot_be_fetched() {
    let (fake, shelf) = (Fake::default(), Shelf::new());
    let broker = shelf.broker(&fake);
    let held = fake.hold("provision");
    let answer = during(
        &held,
        || broker.provision("i", &small()),
        || {
            let busy = "Service instance \"i\" is being provisioned";
            broker.provision("i", &small()).expect_busy(busy);
            let other = broker.provision("i", &large()).expect(409);
            assert!(other["description"].as_str().unwrap().contains("plan_id"));
            broker
                .update("i", &json!({ "plan_id": "large" }))
                .expect_busy(busy);
            broker.deprovision("i", "small").expect_busy(busy);
            broker.bind("i", "b", &bind()).expect_busy(busy);
            broker.unbind("i", "b", "small").expect(410);
            broker.fetch("i").expect(404);
            assert_eq!(broker.poll("i").expect(200)["state"], "in progress");
            // Others are not held up.
            broker.provision("other", &small()).expect(201);
        },
    );
    answer.expect(201);
    broker.provision("i", &small()).expect(200);
    broker.fetch("i").expect(200);
    assert_eq!(broker.poll("i").expect(200)["state"], "succeeded");
    assert_eq!(fake.told(), ["provision:i", "provision:other"]);
}

/// spec: Updating a Service Instance and Fetching a Service Instance, 422.
#[test]
fn an_instance_that_is_being_updated_is_busy() {
    let (fake, _, broker) = bound();
    let held = fake.hold("update");
    let update = json!({ "plan_id": "large" });
    let answer = during(
        &held,
        || broker.update("i", &update),
        || {
            let busy = "Service instance \"i\" is being updated";
            broker.update("i", &update).expect_busy(busy);
            broker.provision("i", &small()).expect_busy(busy);
            broker
                .provision("i", &with_color(&small(), "red"))
                .expect(409);
            broker.deprovision("i", "small").expect_busy(busy);
            broker.bind("i", "b2", &bind()).expect_busy(busy);
            broker.fetch("i").expect_busy(busy);
            assert_eq!(broker.poll("i").expect(200)["state"], "in progress");
            // A binding that exists is not being changed.
            broker.bind("i", "b", &bind()).expect(200);
            broker.fetch_binding("i", "b").expect(200);
        },
    );
    answer.expect(200);
    assert_eq!(broker.fetch("i").expect(200)["plan_id"], "large");
}

/// spec: Deprovisioning, 422.
#[test]
fn an_instance_that_is_being_deprovisioned_is_busy() {
    let (fake, _, broker) = bound();
    broker.unbind("i", "b", "small").expect(200);
    let held = fake.hold("deprovision");
    let answer = during(
        &held,
        || broker.deprovision("i", "small"),
        || {
            let busy = "Service instance \"i\" is being deprovisioned";
            broker.deprovision("i", "small").expect_busy(busy);
            broker.provision("i", &small()).expect_busy(busy);
            broker
                .update("i", &json!({ "plan_id": "large" }))
                .expect_busy(busy);
            broker.bind("i", "b", &bind()).expect_busy(busy);
            broker.fetch("i").expect_busy(busy);
            assert_eq!(broker.poll("i").expect(200)["state"], "in progress");
        },
    );
    answer.expect(200);
    broker.fetch("i").expect(404);
    broker.deprovision("i", "small").expect(410);
}

/// spec: Binding, 409 and 422; Fetching a Service Binding, 404; Unbinding, 422.
#[test]
fn a_binding_that_is_being_created_is_busy_and_cannot_be_fetched() {
    let (fake, _, broker) = bound();
    let held = fake.hold("bind");
    let answer = during(
        &held,
        || broker.bind("i", "new", &bind()),
        || {
            let busy = "Service binding \"new\" is being created";
            broker.bind("i", "new", &bind()).expect_busy(busy);
            let other = broker
                .bind("i", "new", &with_color(&bind(), "red"))
                .expect(409);
            assert!(
                other["description"]
                    .as_str()
                    .unwrap()
                    .contains("parameters")
            );
            broker.unbind("i", "new", "small").expect_busy(busy);
            broker.deprovision("i", "small").expect_busy(busy);
            let rotation = json!({ "predecessor_binding_id": "new" });
            broker.bind("i", "next", &rotation).expect(400);
            broker.fetch_binding("i", "new").expect(404);
            let polled = broker.poll_binding("i", "new").expect(200);
            assert_eq!(polled["state"], "in progress");
            // spec: Blocking Operations, MAY: other bindings of the instance are not held up.
            broker.bind("i", "another", &bind()).expect(201);
            broker.unbind("i", "b", "small").expect(200);
            broker.fetch("i").expect(200);
        },
    );
    answer.expect(201);
    broker.fetch_binding("i", "new").expect(200);
    assert_eq!(
        broker.poll_binding("i", "new").expect(200)["state"],
        "succeeded"
    );
}

/// spec: Unbinding, 422.
#[test]
fn a_binding_that_is_being_deleted_is_busy() {
    let (fake, _, broker) = bound();
    let held = fake.hold("unbind");
    let answer = during(
        &held,
        || broker.unbind("i", "b", "small"),
        || {
            let busy = "Service binding \"b\" is being deleted";
            broker.unbind("i", "b", "small").expect_busy(busy);
            broker.bind("i", "b", &bind()).expect_busy(busy);
            broker.deprovision("i", "small").expect_busy(busy);
            let rotation = json!({ "predecessor_binding_id": "b" });
            broker.bind("i", "next", &rotation).expect_busy(busy);
            let polled = broker.poll_binding("i", "b").expect(200);
            assert_eq!(polled["state"], "in progress");
        },
    );
    answer.expect(200);
    broker.unbind("i", "b", "small").expect(410);
}

/// spec: Orphan Mitigation: the platform deletes what failed with 5xx.
#[test]
fn a_failed_provision_leaves_nothing_to_use_and_something_to_deprovision() {
    let (fake, shelf) = (Fake::default(), Shelf::new());
    let broker = shelf.broker(&fake);
    let failure = Failure::failed("no disk left")
        .with_detail("for the operator")
        .clone();
    fake.fail("provision", failure);
    let answer = broker.provision("i", &small()).expect(500);
    assert_eq!(answer, json!({ "description": "no disk left" }));
    broker.fetch("i").expect(404);
    broker.bind("i", "b", &bind()).expect(404);
    broker
        .update("i", &json!({ "plan_id": "large" }))
        .expect(404);
    let polled = broker.poll("i").expect(200);
    assert_eq!(
        polled,
        json!({ "state": "failed", "description": "no disk left" })
    );
    fake.calls();
    assert_eq!(broker.deprovision("i", "small").expect(200), json!({}));
    assert_eq!(fake.told(), ["deprovision:i"]);
    broker.deprovision("i", "small").expect(410);
    broker.poll("i").expect(404);
}

#[test]
fn a_failed_provision_may_be_sent_again() {
    let (fake, shelf) = (Fake::default(), Shelf::new());
    let broker = shelf.broker(&fake);
    fake.fail("provision", Failure::failed("no"));
    broker.provision("i", &small()).expect(500);
    broker.provision("i", &small()).expect(201);
    broker.provision("i", &small()).expect(200);
    assert_eq!(fake.told(), ["provision:i", "provision:i"]);
}

/// What one plan has left behind, the adapter of another cannot be expected to find.
#[test]
fn a_failed_provision_is_taken_back_before_another_plan_is_provisioned() {
    let (fake, shelf) = (Fake::default(), Shelf::new());
    let broker = shelf.broker(&fake);
    fake.fail("provision", Failure::failed("no"));
    broker.provision("i", &small()).expect(500);
    fake.calls();
    broker.provision("i", &large()).expect(201);
    let calls: Vec<_> = fake
        .calls()
        .iter()
        .map(|call| (call.operation, call.plan))
        .collect();
    assert_eq!(calls, [("deprovision", "small"), ("provision", "large")]);
}

/// spec: Service Broker Errors: 4xx leaves everything as it was.
#[test]
fn a_refused_provision_or_bind_leaves_nothing() {
    let (fake, shelf, broker) = bound();
    for (failure, status) in [
        (Failure::invalid("color: wanted red"), 400),
        (Failure::unsupported("not that"), 422),
        (Failure::unavailable("not now"), 503),
    ] {
        fake.fail("provision", failure.clone());
        let answer = broker.provision("new", &small()).expect(status);
        assert_eq!(answer["description"], failure.description);
        broker.poll("new").expect(404);
        broker.deprovision("new", "small").expect(410);

        fake.fail("bind", failure.clone());
        let answer = broker.bind("i", "new", &bind()).expect(status);
        assert_eq!(answer["description"], failure.description);
        broker.poll_binding("i", "new").expect(404);
        broker.unbind("i", "new", "small").expect(410);
    }
    assert_eq!(shelf.open_operations().unwrap(), []);
}

#[test]
fn a_failed_bind_leaves_nothing_to_use_and_something_to_unbind() {
    let (fake, _, broker) = bound();
    fake.fail("bind", Failure::failed("no user left"));
    let answer = broker.bind("i", "new", &bind()).expect(500);
    assert_eq!(answer, json!({ "description": "no user left" }));
    broker.fetch_binding("i", "new").expect(404);
    let polled = broker.poll_binding("i", "new").expect(200);
    assert_eq!(
        polled,
        json!({ "state": "failed", "description": "no user left" })
    );
    let rotation = json!({ "predecessor_binding_id": "new" });
    broker.bind("i", "next", &rotation).expect(400);
    fake.calls();
    assert_eq!(broker.unbind("i", "new", "small").expect(200), json!({}));
    assert_eq!(fake.told(), ["unbind:new"]);
    broker.unbind("i", "new", "small").expect(410);
}

/// spec: Service Broker Errors, instance_usable and update_repeatable; Polling Last Operation, Body.
#[test]
fn a_failed_update_leaves_the_old_values_and_tells_what_is_left() {
    let (fake, _, broker) = bound();
    let before = broker.fetch("i").expect(200);
    let update = json!({ "plan_id": "large", "parameters": { "color": "red" } });
    let failure = Failure {
        instance_usable: Some(false),
        update_repeatable: Some(false),
        ..Failure::failed("the disk broke")
    };
    fake.fail("update", failure);
    let answer = broker.update("i", &update).expect(500);
    let told = json!({
        "description": "the disk broke",
        "instance_usable": false,
        "update_repeatable": false,
    });
    assert_eq!(answer, told);
    assert_eq!(broker.fetch("i").expect(200), before);
    let polled = broker.poll("i").expect(200);
    assert_eq!(polled, merged(&told, json!({ "state": "failed" })));
    // The same values may repair it: they reach the adapter even where the record has them.
    fake.calls();
    broker
        .update("i", &json!({ "plan_id": "small" }))
        .expect(200);
    assert_eq!(fake.told(), ["update:i"]);
    assert_eq!(
        broker.poll("i").expect(200),
        json!({ "state": "succeeded" })
    );
}

#[test]
fn a_refused_update_leaves_everything_as_it_was() {
    let (fake, _, broker) = bound();
    let before = broker.fetch("i").expect(200);
    for (failure, status) in [
        (Failure::invalid("no"), 400),
        (Failure::unsupported("no"), 422),
        (Failure::unavailable("no"), 503),
    ] {
        fake.fail("update", failure);
        broker
            .update("i", &json!({ "plan_id": "large" }))
            .expect(status);
        assert_eq!(broker.fetch("i").expect(200), before);
        assert_eq!(
            broker.poll("i").expect(200),
            json!({ "state": "succeeded" })
        );
    }
}

/// spec: Deprovisioning: the platform remembers the instance, and instance_usable tells whether it can be used.
#[test]
fn a_failed_deprovision_keeps_the_instance() {
    let (fake, _, broker) = bound();
    broker.unbind("i", "b", "small").expect(200);
    let before = broker.fetch("i").expect(200);
    let failure = Failure {
        instance_usable: Some(false),
        // Not for this operation: must not be passed on.
        update_repeatable: Some(true),
        ..Failure::failed("still mounted")
    };
    fake.fail("deprovision", failure);
    let answer = broker.deprovision("i", "small").expect(500);
    let told = json!({ "description": "still mounted", "instance_usable": false });
    assert_eq!(answer, told);
    assert_eq!(broker.fetch("i").expect(200), before);
    let polled = broker.poll("i").expect(200);
    assert_eq!(polled, merged(&told, json!({ "state": "failed" })));
    broker.deprovision("i", "small").expect(200);
    broker.fetch("i").expect(404);
}

#[test]
fn a_failed_unbind_keeps_the_binding() {
    let (fake, _, broker) = bound();
    let before = broker.fetch_binding("i", "b").expect(200);
    fake.fail("unbind", Failure::failed("user is logged in"));
    let answer = broker.unbind("i", "b", "small").expect(500);
    assert_eq!(answer, json!({ "description": "user is logged in" }));
    assert_eq!(broker.fetch_binding("i", "b").expect(200), before);
    assert_eq!(
        broker.poll_binding("i", "b").expect(200),
        json!({ "state": "failed", "description": "user is logged in" })
    );
    broker.unbind("i", "b", "small").expect(200);
    broker.fetch_binding("i", "b").expect(404);
}

#[test]
fn a_panicking_adapter_costs_one_answer_and_leaves_nothing_in_progress() {
    let (fake, shelf, broker) = bound();
    fake.panic("provision");
    broker.provision("new", &small()).expect(500);
    fake.panic("bind");
    broker.bind("i", "new", &bind()).expect(500);
    fake.panic("update");
    broker
        .update("i", &json!({ "plan_id": "large" }))
        .expect(500);
    fake.panic("unbind");
    broker.unbind("i", "b", "small").expect(500);
    fake.panic("deprovision");
    let answer = broker.deprovision("i", "small").expect(500);
    // The panic's own words are for the operator.
    assert!(!answer.to_string().contains("as it was told"), "{answer}");
    assert_eq!(shelf.open_operations().unwrap(), []);

    broker.provision("new", &small()).expect(201);
    broker.bind("i", "new", &bind()).expect(201);
    broker
        .update("i", &json!({ "plan_id": "large" }))
        .expect(200);
    broker.deprovision("i", "large").expect(200);
}

#[test]
fn what_the_adapter_returned_as_state_comes_back_in_every_later_call() {
    let (fake, _, broker) = bound();
    let made = json!({ "made": "i" });
    broker
        .update("i", &json!({ "parameters": { "a": 1 } }))
        .expect(200);
    broker.bind("i", "b2", &bind()).expect(201);
    broker.unbind("i", "b", "small").expect(200);
    broker.unbind("i", "b2", "small").expect(200);
    broker.deprovision("i", "small").expect(200);
    let states: Vec<_> = fake
        .calls()
        .into_iter()
        .map(|call| (call.operation, call.instance_state, call.state))
        .collect();
    assert_eq!(
        states,
        [
            ("update", made.clone(), made.clone()),
            ("bind", made.clone(), json!({})),
            ("unbind", made.clone(), json!({ "granted": "b" })),
            ("unbind", made.clone(), json!({ "granted": "b2" })),
            ("deprovision", made.clone(), made),
        ]
    );
}

#[test]
fn an_update_tells_the_adapter_what_was_and_what_will_be() {
    let (fake, shelf) = (Fake::default(), Shelf::new());
    let broker = shelf.broker(&fake);
    let body = merged(&small(), json!({ "parameters": { "a": 1, "b": 2 } }));
    broker.provision("i", &body).expect(201);
    fake.calls();
    let changes = json!({ "b": null, "c": 3 });
    let update = json!({ "plan_id": "large", "parameters": changes });
    let answer = broker.update("i", &update).expect(200);
    assert_eq!(answer["dashboard_url"], "https://large.example.com");
    let calls = fake.calls();
    let [call] = &calls[..] else {
        panic!("{calls:?}")
    };
    assert_eq!((call.operation, call.plan), ("update", "large"));
    assert_eq!(call.parameters, json!({ "a": 1, "c": 3 }));
    let before = ("small".to_owned(), json!({ "a": 1, "b": 2 }), changes);
    assert_eq!(call.before.as_ref(), Some(&before));
}

/// A binding is removed by the adapter of the plan that it was made with.
#[test]
fn a_binding_is_unbound_by_the_adapter_that_made_it() {
    let (fake, _, broker) = bound();
    broker
        .update("i", &json!({ "plan_id": "large" }))
        .expect(200);
    broker
        .bind("i", "b2", &support::bind(SERVICE, "large"))
        .expect(201);
    fake.calls();
    broker.unbind("i", "b", "large").expect(200);
    broker.unbind("i", "b2", "large").expect(200);
    let plans: Vec<_> = fake
        .calls()
        .into_iter()
        .map(|call| (call.id, call.plan))
        .collect();
    assert_eq!(plans, [("b".into(), "small"), ("b2".into(), "large")]);
}

#[test]
fn a_deprovision_unbinds_what_is_bound_first() {
    let (fake, _, broker) = bound();
    broker.bind("i", "a", &bind()).expect(201);
    broker.provision("ii", &small()).expect(201);
    broker.bind("ii", "b", &bind()).expect(201);
    fake.calls();
    broker.deprovision("i", "small").expect(200);
    assert_eq!(fake.told(), ["unbind:a", "unbind:b", "deprovision:i"]);
    broker.fetch_binding("ii", "b").expect(200);
    // Made anew, it has none of the old bindings.
    broker.provision("i", &small()).expect(201);
    broker.bind("i", "b", &bind()).expect(201);
}

#[test]
fn a_deprovision_whose_unbind_fails_keeps_the_instance_and_what_is_left_of_its_bindings() {
    let (fake, _, broker) = bound();
    broker.bind("i", "a", &bind()).expect(201);
    fake.calls();
    fake.fail("unbind", Failure::failed("user is logged in"));
    broker.deprovision("i", "small").expect(500);
    assert_eq!(fake.told(), ["unbind:a"]);
    broker.fetch("i").expect(200);
    broker.fetch_binding("i", "a").expect(200);
    broker.deprovision("i", "small").expect(200);
    assert_eq!(fake.told(), ["unbind:a", "unbind:b", "deprovision:i"]);
}

/// spec: Binding Rotation: the successor is a binding of its own.
#[test]
fn a_rotation_tells_the_adapter_the_predecessor() {
    let (fake, _, broker) = bound();
    let rotation = json!({ "predecessor_binding_id": "b" });
    broker.bind("i", "b2", &rotation).expect(201);
    let calls = fake.calls();
    let [call] = &calls[..] else {
        panic!("{calls:?}")
    };
    assert_eq!((call.operation, &*call.id), ("bind", "b2"));
    assert_eq!(call.predecessor.as_deref(), Some("b"));
    assert_eq!(call.state, json!({}), "the predecessor's is not its own");
}

#[test]
fn the_adapter_is_told_on_whose_behalf_it_works() {
    let (fake, _, broker) = bound();
    let identity = Identity {
        platform: "cloudfoundry".into(),
        properties: json!({ "user_id": "u-1" }).as_object().unwrap().clone(),
    };
    let origin = Origin {
        identity: Some(&identity),
        request_id: Some("r-1"),
    };
    let body = bind().to_string();
    let caller = Caller {
        origin,
        ..Caller::default()
    };
    broker.0.bind("i", "b2", body.as_bytes(), caller).unwrap();
    assert_eq!(fake.calls()[0].user.as_deref(), Some("u-1"));
}

/// Whoever asked for it, the adapter learns of: also of bindings that go with their instance.
#[test]
fn a_removal_is_for_the_user_who_asked_for_it() {
    let (fake, _, broker) = bound();
    let identity = |user: &str| Identity {
        platform: "cloudfoundry".to_owned(),
        properties: json!({ "user_id": user }).as_object().unwrap().clone(),
    };
    let users = ["u-1", "u-2", "u-3"].map(identity);
    let caller = |n: usize| Caller {
        origin: Origin {
            identity: Some(&users[n]),
            request_id: None,
        },
        ..Caller::default()
    };
    let body = bind().to_string();
    for id in ["c", "d"] {
        let bind = broker.0.bind("i", id, body.as_bytes(), caller(0));
        assert_eq!(bind.unwrap().status, 201);
    }
    fake.calls();
    broker
        .0
        .unbind("i", "c", SERVICE, "small", caller(1))
        .unwrap();
    broker
        .0
        .deprovision("i", SERVICE, "small", caller(2))
        .unwrap();
    let calls = fake.calls();
    let told: Vec<_> = calls
        .iter()
        .map(|call| (call.operation, &*call.id, call.user.as_deref().unwrap()))
        .collect();
    let wanted = [
        ("unbind", "c", "u-2"),
        ("unbind", "b", "u-3"),
        ("unbind", "d", "u-3"),
        ("deprovision", "i", "u-3"),
    ];
    assert_eq!(told, wanted);
}

/// Between the look at the bindings and the first commit, one more may begin: the instance goes when that is done.
#[test]
fn a_binding_that_comes_while_its_instance_goes_is_removed_with_it() {
    let (fake, shelf, broker) = bound();
    let (broker, held) = (Arc::new(broker), fake.hold("bind"));
    let (binds, later) = (broker.clone(), shelf.clone());
    let (told, heard) = channel();
    shelf.before_next_commit(move || {
        let request = thread::spawn(move || binds.bind("i", "late", &bind()).status);
        held.entered();
        // The next commit is of a deprovision that has met the binding, and tries again.
        later.before_next_commit(move || {
            held.release();
            told.send(request.join().unwrap()).unwrap();
        });
    });
    broker.deprovision("i", "small").expect(200);
    assert_eq!(heard.recv().unwrap(), 201);
    assert_eq!(
        fake.told(),
        ["bind:late", "unbind:b", "unbind:late", "deprovision:i"]
    );
    assert_eq!(fake.made(), [""; 0]);
    broker.fetch("i").expect(404);
}

/// What had to be done before is of the minute that the platform waits.
#[test]
fn a_request_that_came_a_while_ago_has_less_time() {
    let (fake, shelf, broker) = bound();
    let body = bind().to_string();
    let since = |seconds| Caller {
        since: Instant::now() - Duration::from_secs(seconds),
        ..Caller::default()
    };
    let bind = |id: &str, caller| broker.0.bind("i", id, body.as_bytes(), caller);
    bind("at once", Caller::default()).unwrap();
    let longest = fake.left();
    bind("later", since(30)).unwrap();
    let less = longest - fake.left();
    assert!(less > Duration::from_secs(29), "{less:?} less");
    fake.calls();
    shelf.commits();
    for caller in [since(55), since(600)] {
        let refused = bind("too late", caller).unwrap_err();
        assert_eq!((refused.status, refused.retry_after), (503, Some(1)));
        let refused = broker
            .0
            .provision("too late", small().to_string().as_bytes(), caller);
        assert_eq!(refused.unwrap_err().status, 503);
    }
    assert_eq!((fake.calls(), shelf.commits()), (vec![], 0));
}

/// Many at once about the same thing: the work is done once.
#[test]
fn requests_at_the_same_time_do_the_work_once() {
    let (fake, _, broker) = bound();
    let bind = bind();
    let statuses: Vec<u16> = thread::scope(|scope| {
        let requests: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| broker.bind("i", "new", &bind).status))
            .collect();
        requests.into_iter().map(|r| r.join().unwrap()).collect()
    });
    let count = |status| statuses.iter().filter(|s| **s == status).count();
    assert_eq!(count(201), 1, "{statuses:?}");
    assert_eq!(count(200) + count(422), 15, "{statuses:?}");
    assert_eq!(fake.told(), ["bind:new"]);
}

#[test]
fn a_failed_bind_is_taken_back_before_the_instance_is_bound_with_another_plan() {
    let (fake, _, broker) = bound();
    fake.fail("bind", Failure::failed("no"));
    broker.bind("i", "new", &bind()).expect(500);
    broker
        .update("i", &json!({ "plan_id": "large" }))
        .expect(200);
    fake.calls();
    // Refused, and so it changes nothing.
    broker.bind("i", "new", &bind()).expect(400);
    assert_eq!(fake.calls(), []);
    let bind = support::bind(SERVICE, "large");
    broker.bind("i", "new", &bind).expect(201);
    let calls: Vec<_> = fake
        .calls()
        .iter()
        .map(|call| (call.operation, call.plan))
        .collect();
    assert_eq!(calls, [("unbind", "small"), ("bind", "large")]);
}
