//! What is answered, and what the polls find: from 202 to the end, good or bad.

use super::support::{PASSWORD, Request, USERNAME};
use super::*;

use brokerlet::broker::Caller;
use brokerlet::broker::due::Due;
use brokerlet::http::auth::Credentials;
use brokerlet::http::dispatch::Dispatcher;
use brokerlet::http::gate::{Gate, Settings};
use brokerlet::store::{Change, Key, Outcome};
use std::net::TcpListener;
use std::time::SystemTime;

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
        let words =
            "This service plan requires client support for asynchronous service operations.";
        assert_eq!(body["description"], words);
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
            .poll_instance("i", Some(SERVICE), Some(plan), operation, Caller::default())
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

/// spec: Asynchronous Operations; Polling Last Operation: Retry-After, in seconds.
#[test]
fn over_http_the_platform_is_told_when_to_poll_again() {
    let (fake, shelf) = (Fake::default(), Shelf::new());
    fake.set_async(&Kind::ALL);
    let credentials = Credentials::new([(USERNAME, PASSWORD)]);
    let dispatcher = Dispatcher::new(shelf.broker(&fake).0, credentials);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gate = Gate::start(listener, dispatcher, Settings::default(), || {}).unwrap();
    let send = |method, target: &str| Request::new(gate.address(), method, target);
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

/// Platforms poll for a week at most; what is left of a deletion is forgotten then, also by a broker that starts later.
#[test]
fn what_was_deleted_long_ago_is_forgotten() {
    let (fake, shelf, broker) = bound();
    let deprovision = accepted(broker.deprovision("i", "small"));
    broker.ended(|| broker.poll("i")).expect(410);
    drop(broker);
    let age = |date: &str| {
        let key = Key::instance("i");
        let found = shelf.read(std::slice::from_ref(&key)).unwrap();
        let found = found[0].as_ref().unwrap();
        let mut tombstone: Value = serde_json::from_slice(&found.body).unwrap();
        tombstone["gone"] = json!(date);
        let put = Change::Put {
            key,
            revision: found.revision,
            body: tombstone.to_string().into(),
            open: true,
        };
        assert!(matches!(shelf.commit(vec![put]), Ok(Outcome::Committed(_))));
    };
    let recent = SystemTime::now() - Duration::from_secs(7 * 24 * 3600);
    age(&humantime::format_rfc3339(recent).to_string());
    let broker = shelf.broker(&fake);
    broker.poll_operation("i", &deprovision).expect(410);
    drop(broker);
    age("2020-01-01T00:00:00Z");
    let broker = shelf.broker(&fake);
    broker.0.do_what_is_due(&mut Due::default(), true);
    broker.poll_operation("i", &deprovision).expect(404);
    assert_eq!(shelf.open_operations().unwrap(), []);
}
