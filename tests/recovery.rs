//! What a crash or a failing store has cut off in the middle: taken back, or brought to its end.

#[path = "support/fake.rs"]
#[allow(dead_code, reason = "every test file uses a part of it")]
mod fake;
mod support;

use brokerlet::adapter::Failure;
use brokerlet::store::{Change, Key, Outcome, Revision, Store};
use fake::{Api, Fake, SERVICE, Shelf};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

fn small() -> Value {
    support::provision(SERVICE, "small")
}

fn bind() -> Value {
    support::bind(SERVICE, "small")
}

fn large() -> Value {
    json!({ "plan_id": "large", "parameters": { "a": 1 } })
}

/// A broker with the instance `i` and its binding `b`.
fn bound() -> (Fake, Shelf, Api) {
    let (fake, shelf) = (Fake::default(), Shelf::new());
    let broker = shelf.broker(&fake);
    broker.provision("i", &small()).expect(201);
    broker.bind("i", "b", &bind()).expect(201);
    fake.calls();
    (fake, shelf, broker)
}

/// Ends a broker while a call of its adapter is under way, as kill -9 does: the call may still do its work, but the
/// broker writes nothing any more. Returns another one on the same store, which has recovered, and its adapter.
fn crash_during(
    operation: &'static str,
    request: impl FnOnce(&Api) + Send,
    (fake, shelf, broker): (Fake, Shelf, Api),
) -> (Fake, Shelf, Api) {
    let held = fake.hold(operation);
    thread::scope(|scope| {
        let request = scope.spawn(|| request(&broker));
        held.entered();
        shelf.fail(0, usize::MAX);
        held.release();
        request.join().unwrap();
    });
    drop(broker);
    shelf.heal();
    assert_eq!(shelf.open_operations().unwrap().len(), 1, "{operation}");
    let fake = Fake::default();
    let broker = shelf.broker(&fake);
    assert_eq!(shelf.open_operations().unwrap(), [], "{operation}");
    (fake, shelf, broker)
}

#[test]
fn an_interrupted_provision_is_taken_back() {
    let request = |broker: &Api| {
        broker.provision("new", &small()).expect(503);
    };
    let (fake, _, broker) = crash_during("provision", request, bound());
    let calls = fake.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!((calls[0].operation, &*calls[0].id), ("deprovision", "new"));
    assert_eq!(
        calls[0].state,
        json!({}),
        "nobody knows what it had returned"
    );
    broker.poll("new").expect(404);
    broker.deprovision("new", "small").expect(410);
    broker.provision("new", &small()).expect(201);
    // What was not in progress is as it was.
    broker.provision("i", &small()).expect(200);
    broker.bind("i", "b", &bind()).expect(200);
}

#[test]
fn an_interrupted_bind_is_taken_back() {
    let request = |broker: &Api| {
        broker.bind("i", "new", &bind()).expect(503);
    };
    let (fake, _, broker) = crash_during("bind", request, bound());
    let calls = fake.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!((calls[0].operation, &*calls[0].id), ("unbind", "new"));
    assert_eq!(calls[0].state, json!({}));
    assert_eq!(calls[0].instance_state, json!({ "made": "i" }));
    broker.unbind("i", "new", "small").expect(410);
    broker.bind("i", "new", &bind()).expect(201);
    broker.bind("i", "b", &bind()).expect(200);
}

#[test]
fn an_interrupted_update_counts_as_failed_and_may_be_sent_again() {
    let before = bound();
    let fetched = before.2.fetch("i").expect(200);
    let request = |broker: &Api| {
        broker.update("i", &large()).expect(503);
    };
    let (fake, _, broker) = crash_during("update", request, before);
    assert_eq!(fake.calls(), []);
    assert_eq!(broker.fetch("i").expect(200), fetched);
    let polled = broker.poll("i").expect(200);
    assert_eq!(polled["state"], "failed");
    assert!(polled["description"].as_str().unwrap().contains("stopped"));
    broker.update("i", &large()).expect(200);
    assert_eq!(fake.told(), ["update:i"]);
}

#[test]
fn an_interrupted_unbind_is_brought_to_its_end() {
    let request = |broker: &Api| {
        broker.unbind("i", "b", "small").expect(503);
    };
    let (fake, _, broker) = crash_during("unbind", request, bound());
    let calls = fake.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!((calls[0].operation, &*calls[0].id), ("unbind", "b"));
    assert_eq!(calls[0].state, json!({ "granted": "b" }));
    broker.unbind("i", "b", "small").expect(410);
    broker.provision("i", &small()).expect(200);
}

#[test]
fn an_interrupted_deprovision_is_brought_to_its_end() {
    let request = |broker: &Api| {
        broker.deprovision("i", "small").expect(503);
    };
    let (fake, ..) = crash_during("deprovision", request, bound());
    // Its binding was gone already.
    assert_eq!(fake.told(), ["deprovision:i"]);
}

#[test]
fn an_interrupted_deprovision_takes_the_bindings_that_are_left_with_it() {
    let request = |broker: &Api| {
        broker.deprovision("i", "small").expect(503);
    };
    let (fake, _, broker) = crash_during("unbind", request, bound());
    assert_eq!(fake.told(), ["unbind:b", "deprovision:i"]);
    broker.deprovision("i", "small").expect(410);
    broker.unbind("i", "b", "small").expect(410);
}

#[test]
fn without_anything_in_progress_a_restart_calls_no_adapter() {
    let (_, shelf, broker) = bound();
    drop(broker);
    let fake = Fake::default();
    let broker = shelf.broker(&fake);
    assert_eq!(fake.calls(), []);
    broker.bind("i", "b", &bind()).expect(200);
}

/// What cannot be recovered at the start does not stop it, and is tried again when a request comes about it.
#[test]
fn a_recovery_that_fails_is_tried_again_with_the_next_request() {
    let (fake, shelf, broker) = bound();
    shelf.fail(1, usize::MAX);
    broker.bind("i", "new", &bind()).expect(503);
    drop(broker);
    shelf.heal();
    fake.calls();
    fake.fail("unbind", Failure::unavailable("not now"));
    fake.fail("unbind", Failure::failed("broken"));
    let broker = shelf.broker(&fake);
    assert_eq!(fake.told(), ["unbind:new"]);
    let polled = broker.poll_binding("i", "new").expect(200);
    assert_eq!(polled["state"], "in progress");
    // Others are none the worse.
    broker.provision("other", &small()).expect(201);
    fake.calls();

    let answer = broker.bind("i", "new", &bind());
    assert_eq!((answer.status, answer.description()), (500, "broken"));
    broker.bind("i", "new", &bind()).expect(201);
    assert_eq!(fake.told(), ["unbind:new", "unbind:new", "bind:new"]);
}

/// A deprovision waits for what is in progress on its bindings, so these come first: whenever, and whatever the order
/// in which a hash set has them.
#[test]
fn bindings_are_recovered_before_their_instance() {
    for n in 0..16 {
        let (fake, shelf) = (Fake::default(), Shelf::new());
        let broker = shelf.broker(&fake);
        let id = format!("i{n}");
        broker.provision(&id, &small()).expect(201);
        shelf.fail(1, usize::MAX);
        broker.bind(&id, "b", &bind()).expect(503);
        shelf.heal();
        drop(broker);
        // As if the deprovision had begun after the bind, and the broker had been killed then.
        let key = Key::instance(&id);
        let record = shelf
            .read(std::slice::from_ref(&key))
            .unwrap()
            .remove(0)
            .unwrap();
        let mut body: Value = serde_json::from_slice(&record.body).unwrap();
        body["operation"] = json!({ "kind": "deprovision", "state": "in progress" });
        let changes = vec![Change::Put {
            key,
            revision: record.revision,
            body: body.to_string().into_bytes(),
            open: true,
        }];
        assert_ne!(shelf.commit(changes).unwrap(), Outcome::Conflict);
        fake.calls();

        fake.fail("unbind", Failure::unavailable("not at the start"));
        let broker = shelf.broker(&fake);
        broker.deprovision(&id, "small").expect(410);
        assert_eq!(
            fake.told(),
            [
                "unbind:b".to_owned(),
                "unbind:b".into(),
                format!("deprovision:{id}")
            ]
        );
        assert_eq!(shelf.open_operations().unwrap(), []);
    }
}

/// The adapter that could remove it has left with the plan: the record must not be forgotten.
#[test]
fn what_only_a_plan_that_has_left_could_remove_is_kept() {
    let (fake, shelf, broker) = bound();
    drop(broker);
    let broker = shelf.broker_offering(&["large"], &fake);
    let answer = broker.deprovision("i", "small");
    assert_eq!(answer.status, 500);
    assert!(answer.description().contains("\"small\""), "{answer:?}");
    broker.unbind("i", "b", "small").expect(500);
    assert_eq!(fake.calls(), []);
    drop(broker);

    let broker = shelf.broker(&fake);
    broker.unbind("i", "b", "small").expect(200);
    broker.deprovision("i", "small").expect(200);
    assert_eq!(fake.told(), ["unbind:b", "deprovision:i"]);
}

#[test]
fn an_interrupted_operation_of_a_plan_that_has_left_stops_neither_the_start_nor_others() {
    let (fake, shelf, broker) = bound();
    shelf.fail(1, usize::MAX);
    broker.deprovision("i", "small").expect(503);
    drop(broker);
    shelf.heal();
    fake.calls();
    let broker = shelf.broker_offering(&["large"], &fake);
    let body = support::provision(SERVICE, "large");
    broker.provision("other", &body).expect(201);
    assert_eq!(fake.told(), ["provision:other"]);
    drop(broker);

    let broker = shelf.broker(&fake);
    assert_eq!(fake.told(), ["unbind:b", "deprovision:i"]);
    broker.deprovision("i", "small").expect(410);
}

/// After a change of plan a binding can be unbound by the adapter of the new plan, which is of the same kind.
#[test]
fn a_binding_whose_plan_has_left_is_unbound_by_the_plan_of_the_instance() {
    let (fake, shelf, broker) = bound();
    broker.update("i", &large()).expect(200);
    drop(broker);
    fake.calls();
    let broker = shelf.broker_offering(&["large"], &fake);
    broker.unbind("i", "b", "large").expect(200);
    assert_eq!(fake.calls()[0].plan, "large");
}

#[test]
fn a_store_that_fails_at_the_first_commit_stops_the_adapter_from_being_called() {
    let (fake, shelf, broker) = bound();
    let attempts: [&dyn Fn() -> fake::Answered; 5] = [
        &|| broker.provision("new", &small()),
        &|| broker.update("i", &large()),
        &|| broker.bind("i", "new", &bind()),
        &|| broker.unbind("i", "b", "small"),
        &|| broker.deprovision("i", "small"),
    ];
    for attempt in attempts {
        shelf.fail(0, 1);
        let answer = attempt();
        assert_eq!(answer.status, 503);
        // The store's own words, which name files, are for the operator.
        assert!(!answer.description().contains("disk"), "{answer:?}");
        assert!(
            answer.description().contains("nothing was changed"),
            "{answer:?}"
        );
    }
    assert_eq!(fake.calls(), []);
    let body = small().to_string();
    shelf.fail(0, 1);
    let refused = broker
        .0
        .provision("new", body.as_bytes(), Default::default())
        .unwrap_err();
    assert_eq!(refused.retry_after, Some(10));
    assert_eq!(refused.detail.as_deref(), Some("the disk is full"));
}

#[test]
fn what_a_failing_store_has_left_in_progress_is_settled_by_the_next_request() {
    let (fake, shelf, broker) = bound();

    shelf.fail(1, 1);
    let answer = broker.provision("new", &small());
    assert_eq!(answer.status, 503);
    assert!(
        !answer.description().contains("nothing was changed"),
        "{answer:?}"
    );
    broker.provision("new", &small()).expect(201);
    assert_eq!(
        fake.told(),
        ["provision:new", "deprovision:new", "provision:new"]
    );

    shelf.fail(1, 1);
    broker.bind("i", "new", &bind()).expect(503);
    broker.bind("i", "new", &bind()).expect(201);
    assert_eq!(fake.told(), ["bind:new", "unbind:new", "bind:new"]);

    shelf.fail(1, 1);
    broker.update("i", &large()).expect(503);
    broker.update("i", &large()).expect(200);
    assert_eq!(fake.told(), ["update:i", "update:i"]);

    shelf.fail(1, 1);
    broker.unbind("i", "new", "small").expect(503);
    // It was settled by whoever came first: it is gone.
    broker
        .bind("i", "another", &support::bind(SERVICE, "large"))
        .expect(201);
    broker.unbind("i", "new", "small").expect(410);
    assert_eq!(fake.told(), ["unbind:new", "unbind:new", "bind:another"]);

    shelf.fail(1, 2);
    broker.deprovision("i", "large").expect(503);
    broker.deprovision("i", "large").expect(410);
    assert_eq!(shelf.open_operations().unwrap(), []);
}

#[test]
fn a_store_that_goes_on_failing_loses_nothing() {
    let (fake, shelf, broker) = bound();
    shelf.fail(1, 4);
    broker.bind("i", "new", &bind()).expect(503);
    for _ in 0..3 {
        broker.bind("i", "new", &bind()).expect(503);
        assert_eq!(shelf.open_operations().unwrap().len(), 1);
    }
    broker.bind("i", "new", &bind()).expect(201);
    assert_eq!(shelf.open_operations().unwrap(), []);
    let told = fake.told();
    assert_eq!(told.first().map(String::as_str), Some("bind:new"));
    assert_eq!(told.last().map(String::as_str), Some("bind:new"));
    assert_eq!(told.len(), 6, "one unbind for each attempt: {told:?}");
}

/// An id that is used again is another record: what was read of the old one changes nothing of the new one.
#[test]
fn a_record_that_was_made_anew_is_not_taken_for_the_old_one() {
    let (_, shelf, broker) = bound();
    let key = Key::instance("i");
    let revision = |shelf: &Shelf| -> Revision {
        let found = shelf.read(std::slice::from_ref(&key)).unwrap().remove(0);
        found.unwrap().revision
    };
    let old = revision(&shelf);
    broker.deprovision("i", "small").expect(200);
    broker.provision("i", &small()).expect(201);
    assert_ne!(revision(&shelf), old);
}

/// What could not be written is settled by itself, too: but a request that begins just then keeps what it makes.
#[test]
fn what_is_settled_by_itself_leaves_a_new_operation_alone() {
    let (fake, shelf) = (Fake::default(), Shelf::new());
    let broker = Arc::new(shelf.broker(&fake));
    shelf.fail(1, 1);
    broker.provision("i", &small()).expect(503);
    // Another broker on the same state has settled it meanwhile.
    let key = Key::instance("i");
    let found = shelf.read(std::slice::from_ref(&key)).unwrap().remove(0);
    let revision = found.unwrap().revision;
    let gone = shelf.commit(vec![Change::Delete { key, revision }]);
    assert!(matches!(gone, Ok(Outcome::Committed(_))));
    fake.calls();

    let held = fake.hold("provision");
    let (began, begun) = channel();
    let requests = broker.clone();
    shelf.before_next_read(move || {
        let request = thread::spawn(move || requests.provision("i", &small()));
        held.entered();
        began.send((request, held)).unwrap();
    });
    let settling = broker.clone();
    let settling = thread::spawn(move || settling.0.take_over().unwrap());
    let (request, held) = begun.recv().unwrap();
    held.release();
    request.join().unwrap().expect(201);
    settling.join().unwrap();
    assert_eq!(fake.told(), ["provision:i"]);
    broker.provision("i", &small()).expect(200);
}
