//! SIGTERM, seen from the broker.

use super::*;

use brokerlet::store::Key;

/// SIGTERM: what finishes in time has finished.
#[test]
fn a_stop_lets_running_calls_finish_and_begins_no_others() {
    let (fake, shelf, broker) = asynchronous();
    fake.set_concurrency(1);
    let held = fake.hold("provision");
    accepted(broker.provision("running", &small()));
    held.entered();
    accepted(broker.provision("queued", &small()));
    broker.0.finish();
    let end = Instant::now() + Duration::from_secs(20);
    thread::scope(|scope| {
        let stop = scope.spawn(|| broker.0.stop(end, end));
        held.release();
        assert!(stop.join().unwrap());
    });
    succeeds(broker.poll("running"));
    assert_eq!(broker.poll("queued").expect(200)["state"], "in progress");
    assert_eq!(fake.told(), ["provision:running"]);
    drop(broker);
    let broker = shelf.broker(&fake);
    succeeds(broker.ended(|| broker.poll("queued")));
}

/// While the last requests are answered nothing is taken up any more: what they ask for is on record.
#[test]
fn what_is_asked_for_during_a_stop_is_left_to_the_next_start() {
    let (fake, shelf, broker) = asynchronous();
    broker.0.finish();
    accepted(broker.provision("late", &small()));
    broker.wait_for_threads();
    assert_eq!(fake.calls(), []);
    drop(broker);
    let broker = shelf.broker(&fake);
    succeeds(broker.ended(|| broker.poll("late")));
}

/// SIGTERM: what does not is told to come back, stays in progress, and goes on after the next start.
#[test]
fn a_stop_leaves_what_does_not_finish_to_the_next_start() {
    for (operation, request, poll, status) in OPERATIONS {
        let (fake, shelf, broker) = ready_for(operation);
        let held = fake.hold(operation);
        let id = accepted(request(&broker));
        held.entered();
        let now = Instant::now();
        assert!(
            broker.0.stop(now, now + Duration::from_secs(20)),
            "{operation}"
        );
        assert_eq!(
            poll(&broker).expect(200)["state"],
            "in progress",
            "{operation}"
        );
        drop(broker);
        fake.calls();
        let broker = shelf.broker(&fake);
        broker.ended(|| poll(&broker)).expect(status);
        assert_eq!(fake.calls()[0].run, (id, 2), "{operation}");
    }
}

/// A synchronous request that a stop cuts off is taken back at the next start: the platform got an error.
#[test]
fn a_stop_takes_back_a_synchronous_request_that_does_not_finish() {
    let (fake, shelf) = (Fake::default(), Shelf::new());
    let broker = shelf.broker(&fake);
    let held = fake.hold("provision");
    thread::scope(|scope| {
        let request = scope.spawn(|| broker.provision("i", &small()));
        held.entered();
        let now = Instant::now();
        assert!(broker.0.stop(now, now + Duration::from_secs(20)));
        let answer = request.join().unwrap();
        assert!(answer.description().contains("stopped"), "{answer:?}");
        answer.expect(503);
    });
    drop(broker);
    let broker = shelf.broker(&fake);
    broker.poll("i").expect(404);
    assert_eq!(fake.told(), ["provision:i", "deprovision:i"]);
}

/// What has not even begun is as if it had not been asked for.
#[test]
fn a_stop_leaves_nothing_of_a_request_that_waits_for_its_turn() {
    let (fake, shelf) = (Fake::default(), Shelf::new());
    fake.set_concurrency(1);
    let broker = shelf.broker(&fake);
    let held = fake.hold("provision");
    thread::scope(|scope| {
        let first = scope.spawn(|| broker.provision("first", &small()));
        held.entered();
        let second = scope.spawn(|| broker.provision("second", &small()));
        while broker.poll("second").status != 200 {
            thread::yield_now();
        }
        let now = Instant::now();
        assert!(broker.0.stop(now, now + Duration::from_secs(20)));
        first.join().unwrap().expect(503);
        second.join().unwrap().expect(503);
    });
    broker.poll("second").expect(404);
    assert_eq!(fake.told(), ["provision:first"]);
    assert_eq!(shelf.open_operations().unwrap(), [Key::instance("first")]);
}

/// What was cut off before, and is being settled when the stop comes, comes back, too.
#[test]
fn a_stop_reaches_what_is_being_settled() {
    let (fake, shelf) = (Fake::default(), Shelf::new());
    let broker = shelf.broker(&fake);
    shelf.fail(1, 1);
    broker.provision("i", &small()).expect(503);
    let held = fake.hold("deprovision");
    thread::scope(|scope| {
        let request = scope.spawn(|| broker.provision("i", &small()));
        held.entered();
        let now = Instant::now();
        assert!(broker.0.stop(now, now + Duration::from_secs(20)));
        request.join().unwrap().expect(500);
    });
    drop(broker);
    let broker = shelf.broker(&fake);
    broker.poll("i").expect(404);
    assert_eq!(
        fake.told(),
        ["provision:i", "deprovision:i", "deprovision:i"]
    );
}

#[test]
fn a_stop_that_an_adapter_ignores_says_so() {
    let (fake, _, broker) = asynchronous();
    let held = fake.hold_stubbornly("provision");
    accepted(broker.provision("i", &small()));
    held.entered();
    let now = Instant::now();
    assert!(!broker.0.stop(now, now));
    held.release();
}
