//! Asynchronous operations: 202, polling, deletes that cut creations off, temporary failures, turns, restarts.

#[path = "support/fake.rs"]
#[allow(dead_code, reason = "every test file uses a part of it")]
mod fake;
mod support;

use brokerlet::adapter::{Failure, Kind};
use brokerlet::broker::Caller;
use brokerlet::http::auth::Credentials;
use brokerlet::http::dispatch::Dispatcher;
use brokerlet::http::gate::{Gate, Settings};
use brokerlet::store::file::File;
use brokerlet::store::{Key, Store};
use fake::{Answered, Api, Fake, Held, SERVICE, Shelf};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};
use support::{Folder, PASSWORD, Request as HttpRequest, USERNAME, merged};

fn small() -> Value {
    support::provision(SERVICE, "small")
}

fn bind() -> Value {
    support::bind(SERVICE, "small")
}

fn to_large() -> Value {
    json!({ "plan_id": "large", "parameters": { "a": 1 } })
}

fn asynchronous() -> (Fake, Shelf, Api) {
    let (fake, shelf) = (Fake::default(), Shelf::new());
    fake.set_async(&Kind::ALL);
    let broker = shelf.broker(&fake);
    (fake, shelf, broker)
}

/// A broker whose operations are all asynchronous, with the instance `i` and its binding `b`.
fn bound() -> (Fake, Shelf, Api) {
    let (fake, shelf, broker) = asynchronous();
    accepted(broker.provision("i", &small()));
    succeeds(broker.ended(|| broker.poll("i")));
    accepted(broker.bind("i", "b", &bind()));
    succeeds(broker.ended(|| broker.poll_binding("i", "b")));
    fake.calls();
    (fake, shelf, broker)
}

/// Asserts 202, and returns the operation.
#[track_caller]
fn accepted(answered: Answered) -> String {
    let body = answered.expect(202);
    let operation = body["operation"].as_str().unwrap();
    assert!(!operation.is_empty());
    operation.to_owned()
}

#[track_caller]
fn succeeds(answered: Answered) {
    assert_eq!(answered.expect(200), json!({ "state": "succeeded" }));
}

#[track_caller]
fn fails(answered: Answered) -> String {
    let body = answered.expect(200);
    assert_eq!(body["state"], "failed", "{body}");
    body["description"].as_str().unwrap().to_owned()
}

type Request = fn(&Api) -> Answered;
type Poll = fn(&Api) -> Answered;

/// Each operation on what [`bound`] made, how it is polled, and what it ends with.
const OPERATIONS: [(&str, Request, Poll, u16); 5] = [
    (
        "provision",
        |broker| broker.provision("new", &small()),
        |broker| broker.poll("new"),
        200,
    ),
    (
        "update",
        |broker| broker.update("i", &to_large()),
        |broker| broker.poll("i"),
        200,
    ),
    (
        "bind",
        |broker| broker.bind("i", "new", &bind()),
        |broker| broker.poll_binding("i", "new"),
        200,
    ),
    (
        "unbind",
        |broker| broker.unbind("i", "b", "small"),
        |broker| broker.poll_binding("i", "b"),
        410,
    ),
    (
        "deprovision",
        |broker| broker.deprovision("i", "small"),
        |broker| broker.poll("i"),
        410,
    ),
];

/// [`bound`], ready for one of [`OPERATIONS`].
fn ready_for(operation: &str) -> (Fake, Shelf, Api) {
    let (fake, shelf, broker) = bound();
    if operation == "deprovision" {
        accepted(broker.unbind("i", "b", "small"));
        broker.ended(|| broker.poll_binding("i", "b")).expect(410);
        fake.calls();
    }
    (fake, shelf, broker)
}

/// spec: Asynchronous Operations: AsyncRequired, and nothing is done.
#[test]
fn without_accepts_incomplete_nothing_is_begun() {
    let (fake, shelf, broker) = bound();
    let before = (broker.poll("i"), broker.fetch("i"));
    shelf.commits();
    let caller = Caller::default();
    let (provision, update, bind) = (
        small().to_string(),
        merged(&to_large(), json!({ "service_id": SERVICE })).to_string(),
        bind().to_string(),
    );
    let answers: [Answered; 5] = [
        broker
            .0
            .provision("new", provision.as_bytes(), caller)
            .into(),
        broker.0.update("i", update.as_bytes(), caller).into(),
        broker.0.bind("i", "new", bind.as_bytes(), caller).into(),
        broker.0.unbind("i", "b", SERVICE, "small", caller).into(),
        broker.0.deprovision("i", SERVICE, "small", caller).into(),
    ];
    for answer in answers {
        let body = answer.expect(422);
        assert_eq!(body["error"], "AsyncRequired");
        let description = body["description"].as_str().unwrap();
        assert!(
            description.contains("accepts_incomplete=true"),
            "{description}"
        );
    }
    assert_eq!(fake.calls(), []);
    assert_eq!(shelf.commits(), 0);
    assert_eq!((broker.poll("i"), broker.fetch("i")), before);
    // What is there already need not be made: that is no asynchronous answer.
    let again: Answered = broker.0.provision("i", provision.as_bytes(), caller).into();
    again.expect(200);
}

/// The same while an operation is in progress: whoever does not poll is not told to.
#[test]
fn a_repeat_must_accept_incomplete_answers_too() {
    let (fake, _, broker) = asynchronous();
    let held = fake.hold("provision");
    accepted(broker.provision("i", &small()));
    held.entered();
    let body = small().to_string();
    let answer: Answered = broker
        .0
        .provision("i", body.as_bytes(), Caller::default())
        .into();
    assert_eq!(answer.expect(422)["error"], "AsyncRequired");
    held.release();
    succeeds(broker.ended(|| broker.poll("i")));
}

/// spec: Provisioning and Fetching a Service Instance, Response.
#[test]
fn an_asynchronous_provision_is_polled_to_its_end() {
    let (fake, shelf, broker) = asynchronous();
    let held = fake.hold("provision");
    let answer = broker.provision("i", &small());
    let operation = accepted(answer.clone());
    assert_eq!(answer.body, json!({ "operation": operation }));
    assert_eq!(shelf.commits(), 1, "the record comes first");
    held.entered();

    for poll in [broker.poll("i"), broker.poll_operation("i", &operation)] {
        assert!(poll.retry_after.is_some_and(|seconds| seconds > 0));
        assert_eq!(poll.expect(200)["state"], "in progress");
    }
    held.progress("Creating VM (40%)");
    let progress = json!({ "state": "in progress", "description": "Creating VM (40%)" });
    assert_eq!(broker.poll("i").expect(200), progress);
    held.progress("  ");
    held.progress("Starting VM (90%)\n");
    assert_eq!(broker.poll("i").body["description"], "Starting VM (90%)");
    assert_eq!(shelf.commits(), 0, "progress is not committed");

    assert_eq!(accepted(broker.provision("i", &small())), operation);
    let other = merged(&small(), json!({ "parameters": { "a": 1 } }));
    broker.provision("i", &other).expect(409);
    let busy = "Service instance \"i\" is being provisioned";
    broker.update("i", &to_large()).expect_busy(busy);
    broker.bind("i", "b", &bind()).expect_busy(busy);
    broker.unbind("i", "b", "small").expect(410);
    broker.fetch("i").expect(404);
    broker.poll_operation("i", "another").expect(400);

    held.release();
    let ended = broker.ended(|| broker.poll("i"));
    assert_eq!(ended.retry_after, None);
    succeeds(ended);
    // spec: Polling: not forgotten after it was told.
    succeeds(broker.poll_operation("i", &operation));
    broker.poll_operation("i", "another").expect(400);
    let dashboard = json!("https://small.example.com");
    assert_eq!(
        broker.provision("i", &small()).expect(200)["dashboard_url"],
        dashboard
    );
    assert_eq!(broker.fetch("i").expect(200)["dashboard_url"], dashboard);
    let calls = fake.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].run, (operation, 1));
    assert_eq!(shelf.commits(), 1);
    assert_eq!(shelf.open_operations().unwrap(), []);
}

/// spec: Updating a Service Instance, 202; Polling, plan_id; Fetching a Service Instance, 422.
#[test]
fn an_asynchronous_change_of_plan_is_polled_with_the_old_plan() {
    let (fake, _, broker) = bound();
    let held = fake.hold("update");
    let answer = broker.update("i", &to_large());
    assert_eq!(answer.body["dashboard_url"], "https://small.example.com");
    let operation = accepted(answer);
    held.entered();
    assert_eq!(accepted(broker.update("i", &to_large())), operation);
    let busy = "Service instance \"i\" is being updated";
    broker
        .update("i", &json!({ "plan_id": "large" }))
        .expect_busy(busy);
    broker.deprovision("i", "small").expect_busy(busy);
    broker.provision("i", &small()).expect_busy(busy);
    broker.fetch("i").expect_busy(busy);
    let polls = |plan| -> Answered {
        let operation = Some(&*operation);
        broker
            .0
            .poll_instance("i", Some(SERVICE), Some(plan), operation)
            .into()
    };
    assert_eq!(polls("small").expect(200)["state"], "in progress");
    polls("medium").expect(400);
    held.release();
    succeeds(broker.ended(|| polls("small")));
    succeeds(polls("large"));
    let fetched = broker.fetch("i").expect(200);
    assert_eq!(fetched["plan_id"], "large");
    assert_eq!(fetched["parameters"], json!({ "a": 1 }));
    let calls = fake.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].plan, "large");
    let before = Some(("small".to_owned(), json!({}), json!({ "a": 1 })));
    assert_eq!(calls[0].before, before);
    // A new operation makes the one before it stale.
    let next = accepted(broker.update("i", &json!({ "parameters": { "a": 2 } })));
    assert_ne!(next, operation);
    broker.poll_operation("i", &operation).expect(400);
    succeeds(broker.ended(|| broker.poll_operation("i", &next)));
}

/// spec: Binding, 202; Fetching a Service Binding. Korifi takes the credentials from the repeated PUT.
#[test]
fn the_credentials_of_an_asynchronous_bind_are_fetched() {
    let (fake, _, broker) = bound();
    let held = fake.hold("bind");
    let answer = broker.bind("i", "new", &bind());
    let operation = accepted(answer.clone());
    assert_eq!(answer.body, json!({ "operation": operation }));
    held.entered();
    held.progress("Granting");
    let progress = json!({ "state": "in progress", "description": "Granting" });
    assert_eq!(broker.poll_binding("i", "new").expect(200), progress);
    assert_eq!(accepted(broker.bind("i", "new", &bind())), operation);
    let other = merged(&bind(), json!({ "parameters": { "a": 1 } }));
    broker.bind("i", "new", &other).expect(409);
    broker.fetch_binding("i", "new").expect(404);
    let busy = "Service binding \"new\" is being created";
    broker.deprovision("i", "small").expect_busy(busy);
    let rotation = json!({ "predecessor_binding_id": "new" });
    broker.bind("i", "next", &rotation).expect(400);
    held.release();
    succeeds(broker.ended(|| broker.poll_binding_operation("i", "new", &operation)));
    broker
        .poll_binding_operation("i", "new", "another")
        .expect(400);
    for answer in [
        broker.fetch_binding("i", "new"),
        broker.bind("i", "new", &bind()),
    ] {
        assert_eq!(answer.expect(200)["credentials"], json!({ "user": "new" }));
    }
    assert_eq!(fake.told(), ["bind:new"]);
}

/// spec: Deprovisioning and Unbinding, 202; Polling, 404 and 410.
#[test]
fn what_was_deleted_is_gone_and_what_never_was_is_not_found() {
    let (fake, shelf, broker) = bound();
    let held = fake.hold("unbind");
    let unbind = accepted(broker.unbind("i", "b", "small"));
    held.entered();
    assert_eq!(accepted(broker.unbind("i", "b", "small")), unbind);
    broker
        .bind("i", "b", &bind())
        .expect_busy("Service binding \"b\" is being deleted");
    held.release();
    broker.ended(|| broker.poll_binding("i", "b")).expect(410);
    broker.poll_binding_operation("i", "b", &unbind).expect(410);
    broker.unbind("i", "b", "small").expect(410);
    broker.fetch_binding("i", "b").expect(404);
    broker.poll_binding("i", "never").expect(404);

    let held = fake.hold("deprovision");
    let deprovision = accepted(broker.deprovision("i", "small"));
    held.entered();
    assert_eq!(accepted(broker.deprovision("i", "small")), deprovision);
    let busy = "Service instance \"i\" is being deprovisioned";
    broker.provision("i", &small()).expect_busy(busy);
    broker.update("i", &to_large()).expect_busy(busy);
    held.release();
    broker.ended(|| broker.poll("i")).expect(410);
    broker.deprovision("i", "small").expect(410);
    broker.provision("other", &small()).expect(202);
    broker.ended(|| broker.poll("other")).expect(200);
    drop(broker);

    // Also after a restart, and until there is a new record of the same id.
    let broker = shelf.broker(&fake);
    broker.poll_operation("i", &deprovision).expect(410);
    broker.poll("i").expect(410);
    broker.poll("never").expect(404);
    broker.poll_operation("never", &deprovision).expect(404);
    broker.deprovision("i", "small").expect(410);
    broker.fetch("i").expect(404);
    broker.bind("i", "b", &bind()).expect(404);
    let again = accepted(broker.provision("i", &small()));
    succeeds(broker.ended(|| broker.poll_operation("i", &again)));
    broker.poll_operation("i", &deprovision).expect(400);
    assert_eq!(shelf.open_operations().unwrap(), []);
}

/// Each plan says for itself what is asynchronous.
#[test]
fn a_plan_may_be_asynchronous_in_some_operations_only() {
    let (fake, shelf) = (Fake::default(), Shelf::new());
    fake.set_async(&[Kind::Provision, Kind::Deprovision]);
    let broker = shelf.broker(&fake);
    accepted(broker.provision("i", &small()));
    succeeds(broker.ended(|| broker.poll("i")));
    broker.bind("i", "b", &bind()).expect(201);
    broker.update("i", &to_large()).expect(200);
    broker.unbind("i", "b", "small").expect(200);
    broker.poll_binding("i", "b").expect(404);
    accepted(broker.deprovision("i", "large"));
    broker.ended(|| broker.poll("i")).expect(410);
}

/// spec: Orphan Mitigation: state failed, and the platform may clean up.
#[test]
fn a_failed_provision_can_be_deprovisioned_and_never_looks_ready() {
    let (fake, _, broker) = asynchronous();
    // Also what says that nothing was changed: the platform is to learn of it by polling.
    for failure in [
        Failure::failed("no disk left"),
        Failure::invalid("no disk left"),
    ] {
        fake.fail("provision", failure);
        let operation = accepted(broker.provision("i", &small()));
        let description = fails(broker.ended(|| broker.poll_operation("i", &operation)));
        assert_eq!(description, "no disk left");
        broker.fetch("i").expect(404);
        broker.bind("i", "b", &bind()).expect(404);
        broker.update("i", &to_large()).expect(404);
        fake.calls();

        fake.fail("deprovision", Failure::failed("still mounted"));
        accepted(broker.deprovision("i", "small"));
        assert_eq!(fails(broker.ended(|| broker.poll("i"))), "still mounted");
        broker.fetch("i").expect(404);
        broker.bind("i", "b", &bind()).expect(404);
        broker.update("i", &to_large()).expect(404);
        accepted(broker.deprovision("i", "small"));
        broker.ended(|| broker.poll("i")).expect(410);
        let calls = fake.calls();
        assert_eq!(calls.len(), 2);
        assert_eq!(
            (calls[1].operation, &calls[1].state),
            ("deprovision", &json!({}))
        );
    }
}

#[test]
fn a_failed_provision_may_be_sent_again() {
    let (fake, _, broker) = asynchronous();
    fake.fail("provision", Failure::failed("no"));
    let first = accepted(broker.provision("i", &small()));
    fails(broker.ended(|| broker.poll("i")));
    let second = accepted(broker.provision("i", &small()));
    assert_ne!(first, second);
    succeeds(broker.ended(|| broker.poll("i")));
    broker.poll_operation("i", &first).expect(400);
    // Of another plan it is another instance: what may be left of the first has to go before.
    fake.fail("provision", Failure::failed("no"));
    accepted(broker.provision("j", &small()));
    fails(broker.ended(|| broker.poll("j")));
    let large = support::provision(SERVICE, "large");
    let answer = broker.provision("j", &large);
    assert!(
        answer.description().contains("Deprovision it first"),
        "{answer:?}"
    );
    answer.expect(409);
}

/// spec: Service Broker Errors, instance_usable and update_repeatable.
#[test]
fn after_a_failure_the_poll_tells_what_is_left() {
    let (fake, _, broker) = bound();
    let before = broker.fetch("i").expect(200);
    let failure = Failure {
        instance_usable: Some(false),
        update_repeatable: Some(true),
        ..Failure::failed("the disk broke")
    };
    fake.fail("update", failure.clone());
    accepted(broker.update("i", &to_large()));
    let told = json!({
        "state": "failed",
        "description": "the disk broke",
        "instance_usable": false,
        "update_repeatable": true,
    });
    assert_eq!(broker.ended(|| broker.poll("i")).expect(200), told);
    assert_eq!(broker.fetch("i").expect(200), before);
    fake.fail("update", Failure::unsupported("not from small to large"));
    accepted(broker.update("i", &to_large()));
    let told = json!({
        "state": "failed",
        "description": "not from small to large",
        "instance_usable": true,
        "update_repeatable": false,
    });
    assert_eq!(broker.ended(|| broker.poll("i")).expect(200), told);

    fake.fail("unbind", failure.clone());
    accepted(broker.unbind("i", "b", "small"));
    let told = json!({ "state": "failed", "description": "the disk broke" });
    let polled = broker.ended(|| broker.poll_binding("i", "b"));
    assert_eq!(polled.expect(200), told);
    broker.fetch_binding("i", "b").expect(200);
    broker.unbind("i", "b", "small").expect(202);
    broker.ended(|| broker.poll_binding("i", "b")).expect(410);

    fake.fail("deprovision", failure);
    accepted(broker.deprovision("i", "small"));
    let told = json!({
        "state": "failed", "description": "the disk broke", "instance_usable": false,
    });
    assert_eq!(broker.ended(|| broker.poll("i")).expect(200), told);
    assert_eq!(broker.fetch("i").expect(200), before);
}

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
        while broker.0.poll_instance("j", None, None, None).is_ok() && shelf.commits() == 0 {
            thread::yield_now();
        }
        provision.release();
        delete.join().unwrap().expect(200);
    });
    let calls = fake.calls();
    assert_eq!(calls.last().unwrap().operation, "deprovision");
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
    accepted(broker.deprovision("second", "small"));
    fails(broker.poll_operation("second", &second));
    held.release();
    broker.ended(|| broker.poll("second")).expect(410);
    succeeds(broker.ended(|| broker.poll("first")));
    assert_eq!(fake.told(), ["provision:first", "deprovision:second"]);
}

/// EX_TEMPFAIL and its like: the same operation, the next attempt.
#[test]
fn a_temporary_failure_is_tried_again() {
    for (operation, request, poll, status) in OPERATIONS {
        let (fake, _, broker) = ready_for(operation);
        fake.fail(operation, Failure::again("the lock is held"));
        let id = accepted(request(&broker));
        let held = fake.hold(operation);
        held.entered();
        let told = poll(&broker).expect(200);
        assert_eq!(
            told,
            json!({ "state": "in progress", "description": "the lock is held" })
        );
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

/// The same on a disk: what was in progress, and what is remembered of what was deleted.
#[test]
fn operations_and_tombstones_survive_in_a_file() {
    let folder = Folder::new();
    let path = folder.path().join("state.redb");
    let open = || Box::new(File::open(&path, 1 << 20).unwrap());
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

/// spec: Asynchronous Operations; Polling Last Operation: Retry-After, in seconds.
#[test]
fn over_http_the_platform_is_told_when_to_poll_again() {
    let (fake, shelf) = (Fake::default(), Shelf::new());
    fake.set_async(&Kind::ALL);
    let credentials = Credentials::new([(USERNAME, PASSWORD)]);
    let dispatcher = Dispatcher::new(shelf.broker(&fake).0, credentials);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gate = Gate::start(listener, dispatcher, Settings::default(), || {}).unwrap();
    let send = |method, target: &str| HttpRequest::new(gate.address(), method, target);
    let target = support::instance("i");
    let held = fake.hold("provision");

    for query in ["", "?accepts_incomplete=false"] {
        let refused = send("PUT", &format!("{target}{query}"))
            .json(&small())
            .send();
        refused.expect_error(422, "AsyncRequired");
    }
    assert_eq!(fake.calls(), []);
    let accepted = send("PUT", &format!("{target}?accepts_incomplete=true"))
        .json(&small())
        .send()
        .expect(202);
    assert_eq!(accepted.header("Retry-After"), None);
    let operation = accepted.json()["operation"].as_str().unwrap().to_owned();
    held.entered();
    let query = format!("?service_id={SERVICE}&plan_id=small&operation={operation}");
    let poll = || send("GET", &format!("{target}/last_operation{query}")).send();
    let polled = poll().expect(200);
    assert_eq!(polled.json()["state"], "in progress");
    let seconds: u32 = polled.header("Retry-After").unwrap().parse().unwrap();
    assert!(seconds > 0);
    held.release();
    let ended = loop {
        let polled = poll().expect(200);
        if polled.json()["state"] != "in progress" {
            break polled;
        }
    };
    assert_eq!(ended.json(), json!({ "state": "succeeded" }));
    assert_eq!(ended.header("Retry-After"), None);
    let delete = format!("{target}?accepts_incomplete=true&service_id={SERVICE}&plan_id=small");
    let operation = send("DELETE", &delete).send().expect(202).json()["operation"].clone();
    let query = format!("?operation={}", operation.as_str().unwrap());
    let poll = || send("GET", &format!("{target}/last_operation{query}")).send();
    while poll().status == 200 {}
    poll().expect(410);
    assert!(gate.stop(Duration::from_secs(20)));
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
