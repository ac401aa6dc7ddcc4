//! Many at once: turns, queues, races.

use super::*;

use super::fake::Held;
use std::sync::Barrier;

/// No more calls of a plan at once than it allows, and in the order in which they came.
#[test]
fn queued_operations_run_in_their_order() {
    let (fake, _, broker) = asynchronous();
    fake.set_concurrency(2);
    let ids: Vec<String> = (0..20).map(|n| format!("i{n:02}")).collect();
    // Orders are obeyed in the order in which they were given.
    let helds: Vec<Held> = ids.iter().map(|_| fake.hold("provision")).collect();
    for id in &ids {
        accepted(broker.provision(id, &small()));
    }
    helds[0].entered();
    helds[1].entered();
    for n in 0..helds.len() {
        assert!(
            helds.get(n + 2).is_none_or(|held| !held.was_entered()),
            "{n}"
        );
        helds[n].release();
        if let Some(next) = helds.get(n + 2) {
            next.entered();
        }
    }
    for id in &ids {
        succeeds(broker.ended(|| broker.poll(id)));
    }
    let mut told = fake.told();
    // The first two begin at the same time.
    told[..2].sort();
    let wanted: Vec<_> = ids.iter().map(|id| format!("provision:{id}")).collect();
    assert_eq!(told, wanted);
}

/// While every call of one plan hangs, all else is answered.
#[test]
fn a_plan_that_hangs_holds_up_nobody_else() {
    let (fake, _, broker) = asynchronous();
    let helds: Vec<Held> = (0..32).map(|_| fake.hold("provision")).collect();
    for n in 0..40 {
        accepted(broker.provision(&format!("hangs-{n}"), &small()));
    }
    for held in &helds {
        held.entered();
    }
    for n in 0..40 {
        let polled = broker.poll(&format!("hangs-{n}")).expect(200);
        assert_eq!(polled["state"], "in progress");
    }
    broker.0.check_store().unwrap();
    let large = support::provision(SERVICE, "large");
    accepted(broker.provision("other", &large));
    succeeds(broker.ended(|| broker.poll("other")));
    accepted(broker.bind("other", "b", &support::bind(SERVICE, "large")));
    succeeds(broker.ended(|| broker.poll_binding("other", "b")));
    for held in &helds {
        held.release();
    }
    for n in 0..40 {
        succeeds(broker.ended(|| broker.poll(&format!("hangs-{n}"))));
    }
}

#[test]
fn a_synchronous_request_waits_for_its_turn_before_what_is_queued() {
    let (fake, _, broker) = asynchronous();
    fake.set_concurrency(1);
    let held = fake.hold("provision");
    accepted(broker.provision("first", &small()));
    held.entered();
    accepted(broker.provision("queued", &small()));
    fake.set_async(&[]);
    thread::scope(|scope| {
        let waits = scope.spawn(|| broker.provision("waits", &small()));
        // On record, but not begun.
        while broker.poll("waits").status != 200 {
            thread::yield_now();
        }
        broker
            .provision("waits", &small())
            .expect_busy("being provisioned");
        held.release();
        waits.join().unwrap().expect(201);
    });
    succeeds(broker.ended(|| broker.poll("queued")));
    let told = fake.told();
    assert_eq!(told[0], "provision:first");
    assert_eq!(told.len(), 3);
}

/// Nobody has to ask for it.
#[test]
fn what_is_queued_behind_a_synchronous_request_begins_after_it() {
    let (fake, shelf) = (Fake::default(), Shelf::new());
    fake.set_concurrency(1);
    let broker = shelf.broker(&fake);
    let (held, queued) = (fake.hold("provision"), fake.hold("provision"));
    thread::scope(|scope| {
        let request = scope.spawn(|| broker.provision("first", &small()));
        held.entered();
        fake.set_async(&Kind::ALL);
        accepted(broker.provision("queued", &small()));
        held.release();
        request.join().unwrap().expect(201);
    });
    queued.entered();
    queued.release();
    succeeds(broker.ended(|| broker.poll("queued")));
}

#[test]
fn whose_turn_does_not_come_in_time_leaves_nothing_behind() {
    let (fake, shelf, broker) = bound();
    fake.set_concurrency(1);
    let held = fake.hold("provision");
    accepted(broker.provision("first", &small()));
    held.entered();
    fake.calls();
    fake.set_async(&[]);
    fake.set_timeout(Duration::from_millis(20));
    let before = (broker.fetch("i"), broker.fetch_binding("i", "b"));
    for (operation, request, _, _) in OPERATIONS {
        if operation == "update" {
            // The other plan has turns of its own.
            continue;
        }
        let answer = request(&broker);
        assert_eq!(answer.status, 503, "{operation}");
        assert!(
            answer.description().contains("turn"),
            "{operation}: {answer:?}"
        );
        assert!(answer.retry_after.is_some());
    }
    assert_eq!(fake.calls(), []);
    assert_eq!((broker.fetch("i"), broker.fetch_binding("i", "b")), before);
    broker.poll("new").expect(404);
    broker.poll_binding("i", "new").expect(404);
    succeeds(broker.poll("i"));
    assert_eq!(shelf.open_operations().unwrap().len(), 1, "the first alone");
    held.release();
    succeeds(broker.ended(|| broker.poll("first")));
}

/// Many at once about the same thing: one operation, and the work is done once.
#[test]
fn requests_at_the_same_time_begin_one_operation() {
    let (fake, _, broker) = asynchronous();
    let held = fake.hold("provision");
    let (small, start) = (small(), Barrier::new(16));
    let operations: Vec<String> = thread::scope(|scope| {
        let requests: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    accepted(broker.provision("i", &small))
                })
            })
            .collect();
        requests.into_iter().map(|r| r.join().unwrap()).collect()
    });
    assert!(
        operations.iter().all(|id| *id == operations[0]),
        "{operations:?}"
    );
    held.release();
    succeeds(broker.ended(|| broker.poll("i")));
    assert_eq!(fake.told(), ["provision:i"]);
}

/// Everything at once about the same few instances, and about every fourth call of an adapter fails: each answer is one
/// that the specification allows, adapters are called one at a time about an id, what is on record is what is there, and
/// in the end nothing is in progress.
#[test]
fn everything_at_once_comes_to_an_end() {
    for (seed, asynchronous) in [(1, &Kind::ALL[..]), (2, &Kind::ALL[..2]), (3, &[][..])] {
        let (fake, shelf) = (Fake::default(), Shelf::new());
        fake.set_async(asynchronous);
        fake.set_concurrency(3);
        fake.set_chaos(seed);
        let broker = shelf.broker(&fake);
        let start = Barrier::new(12);
        thread::scope(|scope| {
            for n in 0..12 {
                let (broker, start) = (&broker, &start);
                scope.spawn(move || {
                    let mut state = seed * 100 + n;
                    start.wait();
                    for _ in 0..150 {
                        do_something(broker, &mut state);
                    }
                });
            }
        });
        fake.set_chaos(0);
        assert_eq!(fake.overlaps(), [""; 0]);
        for instance in ["i0", "i1", "i2"] {
            broker.ended(|| broker.poll(instance));
            let bindings = ["b0", "b1"].map(|id| format!("{instance}-{id}"));
            for binding in &bindings {
                broker.ended(|| broker.poll_binding(instance, binding));
                let is_there = fake.made().contains(binding);
                let fetched = broker.fetch_binding(instance, binding).status == 200;
                assert_eq!(is_there, fetched, "{binding}");
            }
            let is_there = fake.made().iter().any(|made| made == instance);
            assert_eq!(is_there, broker.fetch(instance).status == 200, "{instance}");
        }
        // The platform can have everything removed, whatever became of it.
        for instance in ["i0", "i1", "i2"] {
            let answer = broker.deprovision(instance, "small");
            assert!(matches!(answer.status, 200 | 202 | 410), "{answer:?}");
            broker.ended(|| broker.poll(instance));
            broker.deprovision(instance, "small").expect(410);
        }
        assert_eq!(fake.made(), [""; 0]);
    }
}

/// One request of any kind about one of three instances and their bindings, and what may be answered.
fn do_something(broker: &Api, state: &mut u64) {
    let mut pick = |n: u64| fake::random(state) % n;
    let instance = format!("i{}", pick(3));
    let binding = format!("{instance}-b{}", pick(2));
    let (answer, allowed): (Answered, &[u16]) = match pick(8) {
        0 | 1 => (
            broker.provision(&instance, &small()),
            &[200, 201, 202, 409, 422, 500],
        ),
        2 => {
            let body = json!({ "parameters": { "a": pick(3) } });
            (broker.update(&instance, &body), &[200, 202, 404, 422, 500])
        }
        3 => (
            broker.deprovision(&instance, "small"),
            &[200, 202, 410, 422, 500],
        ),
        4 => (
            broker.bind(&instance, &binding, &bind()),
            &[200, 201, 202, 404, 422, 500],
        ),
        5 => (
            broker.unbind(&instance, &binding, "small"),
            &[200, 202, 410, 422, 500],
        ),
        6 => (broker.poll(&instance), &[200, 404, 410]),
        _ => (broker.fetch(&instance), &[200, 404, 422]),
    };
    assert!(allowed.contains(&answer.status), "{answer:?}");
    if answer.status == 422 {
        assert_eq!(answer.body["error"], "ConcurrencyError");
    }
}

/// Thousands wait without a thread each.
#[test]
fn thousands_of_queued_operations_all_end() {
    let (fake, shelf, broker) = asynchronous();
    fake.set_concurrency(4);
    let ids: Vec<String> = (0..3000).map(|n| format!("i{n}")).collect();
    for id in &ids {
        accepted(broker.provision(id, &small()));
    }
    for id in &ids {
        succeeds(broker.ended(|| broker.poll(id)));
    }
    assert_eq!(fake.calls().len(), 3000);
    assert_eq!(shelf.open_operations().unwrap(), []);
}
