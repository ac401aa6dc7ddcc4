//! What is left when an adapter fails.

use super::*;

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
