//! What the broker tells adapters.

use super::*;

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
        from: None,
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
            from: None,
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
