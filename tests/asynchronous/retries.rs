//! Failures that pass, and failures that do not: of adapters, of time, of the store.

use super::*;

#[test]
fn a_panicking_adapter_fails_the_operation_and_nothing_else() {
    for (operation, request, poll, _) in OPERATIONS {
        let (fake, shelf, broker) = ready_for(operation);
        fake.panic(operation);
        accepted(request(&broker));
        let description = fails(broker.ended(|| poll(&broker)));
        assert!(!description.contains("as it was told"), "{description}");
        accepted(broker.provision("other", &small()));
        succeeds(broker.ended(|| broker.poll("other")));
        let open = shelf.open_operations().unwrap();
        assert!(!open.iter().any(|key| format!("{key:?}").contains("new")));
    }
}

/// EX_TEMPFAIL and its like: the same operation, the next attempt.
#[test]
fn a_temporary_failure_is_tried_again() {
    for (operation, request, poll, status) in OPERATIONS {
        let (fake, _, broker) = ready_for(operation);
        fake.fail(operation, Failure::again("the lock is held"));
        let begun = Instant::now();
        let id = accepted(request(&broker));
        let held = fake.hold(operation);
        held.entered();
        assert!(begun.elapsed() >= Duration::from_millis(500), "{operation}");
        let told = poll(&broker).expect(200);
        assert_eq!(told["state"], "in progress");
        let description = told["description"].as_str().unwrap();
        let since = description
            .strip_prefix("Attempt 2 has been running since ")
            .and_then(|rest| rest.strip_suffix('.'))
            .unwrap_or_else(|| panic!("{description}"));
        assert!(humantime::parse_rfc3339(since).is_ok(), "{since}");
        held.progress("half");
        assert_eq!(poll(&broker).body["description"], "half");
        held.release();
        broker.ended(|| poll(&broker)).expect(status);
        let runs: Vec<_> = fake.calls().into_iter().map(|call| call.run).collect();
        assert_eq!(runs, [(id.clone(), 1), (id, 2)], "{operation}");
    }
}

#[test]
fn a_temporary_failure_of_a_synchronous_operation_is_tried_again_while_the_platform_waits() {
    for (operation, request, _, _) in OPERATIONS {
        let (fake, _, broker) = ready_for(operation);
        fake.set_async(&[]);
        fake.fail(operation, Failure::again("the lock is held"));
        let answer = request(&broker);
        assert!(
            matches!(answer.status, 200 | 201),
            "{operation}: {answer:?}"
        );
        let runs: Vec<_> = fake.calls().into_iter().map(|call| call.run.1).collect();
        assert_eq!(runs, [1, 2], "{operation}");
    }
}

#[test]
fn a_failure_that_does_not_pass_in_time_is_one() {
    let (fake, shelf, broker) = asynchronous();
    fake.set_timeout(Duration::from_millis(400));
    fake.fail("provision", Failure::again("the lock is held"));
    accepted(broker.provision("i", &small()));
    assert_eq!(fails(broker.ended(|| broker.poll("i"))), "the lock is held");
    fake.set_async(&[]);
    fake.fail("provision", Failure::again("the lock is held"));
    let answer = broker.provision("j", &small());
    assert_eq!(
        (answer.status, answer.description()),
        (503, "the lock is held")
    );
    // Something may be left behind: it is removed as after any other failure.
    assert_eq!(fails(broker.poll("j")), "the lock is held");
    fake.calls();
    broker.deprovision("j", "small").expect(200);
    assert_eq!(fake.told(), ["deprovision:j"]);
    assert_eq!(shelf.open_operations().unwrap(), []);
}

#[test]
fn an_operation_whose_time_is_over_before_its_turn_has_failed() {
    let (fake, _, broker) = bound();
    fake.set_timeout(Duration::ZERO);
    accepted(broker.update("i", &to_large()));
    let description = fails(broker.ended(|| broker.poll("i")));
    assert!(description.contains("updated in the time"), "{description}");
    assert_eq!(fake.calls(), []);
    broker.fetch("i").expect(200);
}

/// The outcome could not be written: the adapter is called again, and then it is.
#[test]
fn an_outcome_that_could_not_be_written_is_found_again() {
    let (fake, shelf, broker) = asynchronous();
    shelf.fail(1, 1);
    let id = accepted(broker.provision("i", &small()));
    succeeds(broker.ended(|| broker.poll("i")));
    let runs: Vec<_> = fake.calls().into_iter().map(|call| call.run).collect();
    assert_eq!(runs, [(id.clone(), 1), (id, 2)]);
    assert_eq!(shelf.open_operations().unwrap(), []);
}
