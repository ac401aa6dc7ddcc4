//! Deletes of what is still being created.

use super::*;

use std::sync::mpsc::channel;

/// spec: Deprovisioning: a delete during the creation halts it and deletes.
#[test]
fn a_delete_during_the_creation_cuts_it_off() {
    let (fake, shelf, broker) = asynchronous();
    let provision = fake.hold("provision");
    let first = accepted(broker.provision("i", &small()));
    provision.entered();
    let deprovision = fake.hold("deprovision");
    let second = accepted(broker.deprovision("i", "small"));
    deprovision.entered();
    assert_eq!(accepted(broker.deprovision("i", "small")), second);
    let cut_off = fails(broker.poll_operation("i", &first));
    assert!(cut_off.contains("stopped"), "{cut_off}");
    assert_eq!(broker.poll("i").expect(200)["state"], "in progress");
    broker.fetch("i").expect(404);
    broker
        .provision("i", &small())
        .expect_busy("being deprovisioned");
    deprovision.release();
    broker
        .ended(|| broker.poll_operation("i", &second))
        .expect(410);
    assert_eq!(fake.told(), ["provision:i", "deprovision:i"]);
    broker.provision("other", &small()).expect(202);
    broker.ended(|| broker.poll("other")).expect(200);
    drop(broker);
    shelf.broker(&fake).poll("i").expect(410);
}

/// spec: Deprovisioning: if that is synchronous, the poll for the provision says that it has failed.
#[test]
fn a_synchronous_delete_cuts_an_asynchronous_creation_off() {
    let (fake, shelf) = (Fake::default(), Shelf::new());
    fake.set_async(&[Kind::Provision, Kind::Bind]);
    let broker = shelf.broker(&fake);
    let held = fake.hold("provision");
    let operation = accepted(broker.provision("i", &small()));
    held.entered();
    assert_eq!(broker.deprovision("i", "small").expect(200), json!({}));
    assert_eq!(fake.told(), ["provision:i", "deprovision:i"]);
    fails(broker.poll_operation("i", &operation));
    fails(broker.poll("i"));
    broker.deprovision("i", "small").expect(410);
    broker.fetch("i").expect(404);

    accepted(broker.provision("j", &small()));
    succeeds(broker.ended(|| broker.poll("j")));
    fake.calls();
    let held = fake.hold("bind");
    let operation = accepted(broker.bind("j", "b", &bind()));
    held.entered();
    assert_eq!(broker.unbind("j", "b", "small").expect(200), json!({}));
    assert_eq!(fake.told(), ["bind:b", "unbind:b"]);
    fails(broker.poll_binding_operation("j", "b", &operation));
    broker.unbind("j", "b", "small").expect(410);
}

/// spec: Unbinding, the same for bindings.
#[test]
fn an_unbind_during_the_creation_cuts_it_off() {
    let (fake, _, broker) = bound();
    let held = fake.hold("bind");
    let first = accepted(broker.bind("i", "new", &bind()));
    held.entered();
    let unbind = fake.hold("unbind");
    let second = accepted(broker.unbind("i", "new", "small"));
    unbind.entered();
    fails(broker.poll_binding_operation("i", "new", &first));
    broker.fetch_binding("i", "new").expect(404);
    unbind.release();
    broker
        .ended(|| broker.poll_binding_operation("i", "new", &second))
        .expect(410);
    assert_eq!(fake.told(), ["bind:new", "unbind:new"]);
}

/// Nothing is deleted while the adapter is still creating; what it has told by then is known to the removal.
#[test]
fn a_creation_that_cannot_be_stopped_is_waited_for() {
    let (fake, shelf, broker) = asynchronous();
    let provision = fake.hold_stubbornly("provision");
    accepted(broker.provision("i", &small()));
    provision.entered();
    let deprovision = fake.hold("deprovision");
    let operation = accepted(broker.deprovision("i", "small"));
    assert_eq!(broker.poll("i").expect(200)["state"], "in progress");
    assert!(!deprovision.was_entered());
    provision.release();
    deprovision.entered();
    deprovision.release();
    broker
        .ended(|| broker.poll_operation("i", &operation))
        .expect(410);
    let calls = fake.calls();
    assert_eq!(
        (calls[1].operation, &calls[1].state),
        ("deprovision", &json!({ "made": "i" }))
    );
    drop(broker);

    // The same where the delete is synchronous, and where there is one turn for both.
    fake.set_async(&[Kind::Provision]);
    fake.set_concurrency(1);
    let broker = shelf.broker(&fake);
    let provision = fake.hold_stubbornly("provision");
    accepted(broker.provision("j", &small()));
    provision.entered();
    thread::scope(|scope| {
        let delete = scope.spawn(|| broker.deprovision("j", "small"));
        // It is on record before it waits.
        while broker
            .0
            .poll_instance("j", None, None, None, Default::default())
            .is_ok()
            && shelf.commits() == 0
        {
            thread::yield_now();
        }
        provision.release();
        delete.join().unwrap().expect(200);
    });
    let calls = fake.calls();
    assert_eq!(calls.last().unwrap().operation, "deprovision");
}

#[test]
fn a_bind_that_cannot_be_stopped_tells_the_unbind_its_state() {
    let (fake, _, broker) = bound();
    let held = fake.hold_stubbornly("bind");
    accepted(broker.bind("i", "new", &bind()));
    held.entered();
    let operation = accepted(broker.unbind("i", "new", "small"));
    held.release();
    broker
        .ended(|| broker.poll_binding_operation("i", "new", &operation))
        .expect(410);
    let calls = fake.calls();
    assert_eq!(
        (calls[1].operation, &calls[1].state),
        ("unbind", &json!({ "granted": "new" }))
    );
}

#[test]
fn a_creation_that_waits_for_its_turn_is_deleted_without_having_begun() {
    let (fake, _, broker) = asynchronous();
    fake.set_concurrency(1);
    let held = fake.hold("provision");
    accepted(broker.provision("first", &small()));
    held.entered();
    let second = accepted(broker.provision("second", &small()));
    let waiting = broker.poll("second").expect(200);
    assert_eq!(waiting["state"], "in progress");
    assert!(
        waiting["description"].as_str().unwrap().contains("turn"),
        "{waiting}"
    );
    let delete = accepted(broker.deprovision("second", "small"));
    fails(broker.poll_operation("second", &second));
    held.release();
    broker.ended(|| broker.poll("second")).expect(410);
    succeeds(broker.ended(|| broker.poll("first")));
    let calls = fake.calls();
    let [_, call] = &calls[..] else {
        panic!("{calls:?}")
    };
    assert_eq!((call.operation, &*call.id), ("deprovision", "second"));
    assert_eq!(call.run, (delete, 1));
}

/// A creation whose turn comes when it was cut off already makes room for the delete, which waits for that turn.
#[test]
fn a_creation_that_was_cut_off_keeps_no_turn() {
    let (fake, shelf) = (Fake::default(), Shelf::new());
    fake.set_async(&[Kind::Provision]);
    fake.set_concurrency(1);
    fake.set_timeout(Duration::from_secs(20));
    let broker = shelf.broker(&fake);
    let held = fake.hold("provision");
    accepted(broker.provision("first", &small()));
    held.entered();
    let second = accepted(broker.provision("second", &small()));
    let (reading, read) = channel();
    let later = shelf.clone();
    shelf.before_next_commit(move || {
        // The delete is on record and reads that, but has no turn yet.
        later.clone().before_next_read(move || {
            later.before_next_read(move || reading.send(()).unwrap());
            held.release();
            read.recv_timeout(Duration::from_secs(20)).unwrap();
        });
    });
    broker.deprovision("second", "small").expect(200);
    fails(broker.poll_operation("second", &second));
    assert_eq!(fake.told(), ["provision:first", "deprovision:second"]);
}

/// What takes time to remove is not removed on the way: the user is told what to do.
#[test]
fn what_another_plan_has_left_behind_is_removed_by_the_user_if_that_takes_time() {
    let (fake, shelf) = (Fake::default(), Shelf::new());
    let broker = shelf.broker(&fake);
    fake.fail("provision", Failure::failed("no"));
    broker.provision("i", &small()).expect(500);
    fake.set_async(&[Kind::Deprovision, Kind::Unbind]);
    let large = support::provision(SERVICE, "large");
    let refused = broker.provision("i", &large).expect(409);
    let told = refused["description"].as_str().unwrap();
    assert!(
        told.contains("could not be provisioned before") && told.ends_with("Deprovision it first."),
        "{told}"
    );

    broker.provision("j", &small()).expect(201);
    fake.fail("bind", Failure::failed("no"));
    broker.bind("j", "b", &bind()).expect(500);
    broker
        .update("j", &json!({ "plan_id": "large" }))
        .expect(200);
    let bound_to_large = merged(&bind(), json!({ "plan_id": "large" }));
    let refused = broker.bind("j", "b", &bound_to_large).expect(409);
    let told = refused["description"].as_str().unwrap();
    assert!(
        told.contains("could not be created before") && told.ends_with("Unbind it first."),
        "{told}"
    );
}
