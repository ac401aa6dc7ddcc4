//! What was in progress when the broker was killed.

use super::*;

use super::support::Folder;
use brokerlet::store::sqlite::Sqlite;

/// After kill -9 the same operation goes on, as its next attempt.
#[test]
fn what_was_in_progress_is_taken_up_after_a_crash() {
    for (operation, request, poll, status) in OPERATIONS {
        let (fake, shelf, broker) = ready_for(operation);
        let held = fake.hold(operation);
        let id = accepted(request(&broker));
        held.entered();
        broker.kill();
        let after = Fake::default();
        after.set_async(&Kind::ALL);
        let resumed = after.hold(operation);
        let broker = shelf.broker(&after);
        resumed.entered();
        assert_eq!(
            poll(&broker).expect(200)["state"],
            "in progress",
            "{operation}"
        );
        assert_eq!(accepted(request(&broker)), id, "{operation}");
        // What the first call still does is not written any more.
        held.release();
        resumed.release();
        broker.ended(|| poll(&broker)).expect(status);
        let calls = after.calls();
        let run = |n: u32| (operation, (id.clone(), n));
        let found: Vec<_> = calls.iter().map(|c| (c.operation, c.run.clone())).collect();
        assert_eq!(found, [run(2)]);
    }
}

/// Whatever is killed in between, each start is another attempt.
#[test]
fn attempts_are_counted_over_restarts() {
    let (fake, shelf, broker) = asynchronous();
    let held = fake.hold("provision");
    let id = accepted(broker.provision("i", &small()));
    held.entered();
    broker.kill();
    for attempt in 2..5 {
        let again = Fake::default();
        let held = again.hold("provision");
        let broker = shelf.broker(&again);
        held.entered();
        assert_eq!(again.calls()[0].run, (id.clone(), attempt));
        broker.kill();
    }
}

#[test]
fn a_delete_that_cut_a_creation_off_goes_on_after_a_crash() {
    let (fake, shelf, broker) = asynchronous();
    let held = fake.hold_stubbornly("provision");
    accepted(broker.provision("i", &small()));
    held.entered();
    let operation = accepted(broker.deprovision("i", "small"));
    broker.kill();
    let after = Fake::default();
    let broker = shelf.broker(&after);
    broker
        .ended(|| broker.poll_operation("i", &operation))
        .expect(410);
    assert_eq!(after.told(), ["deprovision:i"]);
}

/// Those that were queued, too, in the order in which they came.
#[test]
fn queued_operations_keep_their_order_over_a_restart() {
    let (fake, shelf, broker) = asynchronous();
    fake.set_concurrency(1);
    let held = fake.hold("provision");
    let ids = ["z", "m", "a", "k"];
    for id in ids {
        accepted(broker.provision(id, &small()));
        // They come at different times, as far as a record can tell.
        let now = Instant::now();
        while now.elapsed() < Duration::from_millis(2) {
            thread::yield_now();
        }
    }
    held.entered();
    broker.kill();
    let after = Fake::default();
    after.set_concurrency(1);
    let broker = shelf.broker(&after);
    for id in ids {
        succeeds(broker.ended(|| broker.poll(id)));
    }
    let wanted = ids.map(|id| format!("provision:{id}"));
    assert_eq!(after.told(), wanted);
}

#[test]
fn an_operation_of_a_plan_that_has_left_the_catalog_fails() {
    let (fake, shelf, broker) = bound();
    let held = fake.hold("unbind");
    accepted(broker.unbind("i", "b", "small"));
    held.entered();
    broker.kill();
    let after = Fake::default();
    after.set_async(&Kind::ALL);
    let broker = shelf.broker_offering(&["large"], &after);
    let description = fails(broker.ended(|| broker.poll_binding("i", "b")));
    assert!(description.contains("\"small\""), "{description}");
    assert_eq!(after.calls(), []);
    drop(broker);
    let broker = shelf.broker(&after);
    accepted(broker.unbind("i", "b", "small"));
    broker.ended(|| broker.poll_binding("i", "b")).expect(410);
}

/// The same on a disk: what was in progress, and what is remembered of what was deleted.
#[test]
fn operations_and_tombstones_survive_in_a_file() {
    let folder = Folder::new();
    let path = folder.path().join("state.db");
    let open = || Box::new(Sqlite::open(&path, 1 << 20).unwrap());
    let fake = Fake::default();
    fake.set_async(&Kind::ALL);
    let broker = Api::on(open(), &fake);
    accepted(broker.provision("gone", &small()));
    succeeds(broker.ended(|| broker.poll("gone")));
    let deprovision = accepted(broker.deprovision("gone", "small"));
    broker.ended(|| broker.poll("gone")).expect(410);
    fake.calls();
    let held = fake.hold("provision");
    let provision = accepted(broker.provision("i", &small()));
    held.entered();
    let now = Instant::now();
    broker.close(now, now + Duration::from_secs(20));

    let broker = Api::on(open(), &fake);
    broker.poll_operation("gone", &deprovision).expect(410);
    broker.poll("gone").expect(410);
    succeeds(broker.ended(|| broker.poll_operation("i", &provision)));
    let runs: Vec<_> = fake.calls().into_iter().map(|call| call.run).collect();
    assert_eq!(runs, [(provision.clone(), 1), (provision, 2)]);
    let now = Instant::now();
    broker.close(now, now + Duration::from_secs(20));
}
