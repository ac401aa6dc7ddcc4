//! What others see while an adapter works.

use super::*;

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
