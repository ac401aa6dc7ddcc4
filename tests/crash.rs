//! kill -9 in the middle: what was acknowledged is there, and nothing is half there.

mod support;

use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use support::*;

const WRITERS: usize = 8;
const ROUNDS: usize = 20;
/// How many acknowledged changes a round waits for before it kills.
const CHANGES: usize = 150;

fn catalog() -> Value {
    json!({ "services": [{
        "id": "s", "name": "mail", "description": "Mail", "bindable": true,
        "instances_retrievable": true, "bindings_retrievable": true,
        "plans": [{
            "id": "p", "name": "small", "description": "Small",
            "adapter": {
                "kind": "shared",
                "instance": { "dashboard_url": "https://example.com/${instance_id}/${random:16}" },
                "binding": { "credentials": { "user": "${binding_id}", "password": "${random:32}" } }
            }
        }]
    }]})
}

/// What the broker has acknowledged.
enum Acknowledged {
    Instance(String, Value),
    Binding(String, Value),
    Gone(String),
}

/// Creates instances and bindings and deletes every third again, until the broker goes away.
fn write(address: SocketAddr, writer: usize, round: usize, acknowledged: &Sender<Acknowledged>) {
    let send = |request: Request| request.try_send().ok();
    for n in 0.. {
        let id = format!("r{round}-w{writer}-{n}");
        let target = instance(&id);
        let put = Request::new(address, "PUT", &target).json(&provision("s", "p"));
        let Some(created) = send(put) else { return };
        assert_eq!(created.status, 201, "{}", created.description());
        acknowledged
            .send(Acknowledged::Instance(id.clone(), created.json()))
            .unwrap();

        let put = Request::new(address, "PUT", &binding(&id, "b")).json(&bind("s", "p"));
        let Some(bound) = send(put) else { return };
        assert_eq!(bound.status, 201, "{}", bound.description());
        acknowledged
            .send(Acknowledged::Binding(id.clone(), bound.json()))
            .unwrap();

        if n % 3 == 0 {
            let delete = Request::new(
                address,
                "DELETE",
                &format!("{target}?service_id=s&plan_id=p"),
            );
            let Some(deleted) = send(delete) else {
                // Not acknowledged: either way is right.
                acknowledged
                    .send(Acknowledged::Gone(format!("?{id}")))
                    .unwrap();
                return;
            };
            assert_eq!(deleted.status, 200, "{}", deleted.description());
            acknowledged.send(Acknowledged::Gone(id)).unwrap();
        }
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let setup = Setup::new().catalog(&catalog());
    let folder = setup.folder.clone();
    let mut broker = setup.start();
    let (mut instances, mut bindings) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let address = broker.address;
        let (sender, acknowledged) = channel();
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let sender = sender.clone();
                thread::spawn(move || write(address, writer, round, &sender))
            })
            .collect();
        drop(sender);
        let mut gone = Vec::new();
        let mut killed = Some(broker);
        for (n, change) in acknowledged.iter().enumerate() {
            match change {
                Acknowledged::Instance(id, answer) => instances.push((id, answer)),
                Acknowledged::Binding(id, answer) => bindings.push((id, answer)),
                Acknowledged::Gone(id) => gone.push(id),
            }
            if n == CHANGES {
                killed.take().unwrap().kill();
            }
        }
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());

        broker = Setup::in_folder(folder.clone()).catalog(&catalog()).start();
        let unsure = |id: &String| gone.contains(&format!("?{id}"));
        let deleted = |id: &String| gone.contains(id);
        for id in gone.iter().filter(|id| !id.starts_with('?')) {
            broker.get(&instance(id)).expect(404);
            broker.get(&binding(id, "b")).expect(404);
        }
        instances.retain(|(id, _)| !unsure(id) && !deleted(id));
        bindings.retain(|(id, _)| !unsure(id) && !deleted(id));
        for (id, answer) in &instances {
            let repeated = broker
                .put(&instance(id), &provision("s", "p"))
                .expect(200)
                .json();
            assert_eq!(&repeated, answer, "{id}");
        }
        for (id, answer) in &bindings {
            let repeated = broker
                .put(&binding(id, "b"), &bind("s", "p"))
                .expect(200)
                .json();
            assert_eq!(&repeated, answer, "{id}");
        }
        // What was on its way is there whole, or not at all.
        for writer in 0..WRITERS {
            let last = instances
                .iter()
                .filter(|(id, _)| id.starts_with(&format!("r{round}-w{writer}-")))
                .count();
            for n in 0..last * 2 + 3 {
                let id = format!("r{round}-w{writer}-{n}");
                let found = broker.get(&instance(&id));
                let bound = broker.get(&binding(&id, "b"));
                assert!(matches!(found.status, 200 | 404), "{id}: {}", found.status);
                assert!(matches!(bound.status, 200 | 404), "{id}: {}", bound.status);
                assert!(
                    bound.status == 404 || found.status == 200,
                    "{id}: a binding without its instance"
                );
                if found.status == 200 {
                    assert!(found.json()["dashboard_url"].is_string());
                }
                if bound.status == 200 {
                    assert_eq!(
                        bound.json()["credentials"]["password"]
                            .as_str()
                            .unwrap()
                            .len(),
                        32
                    );
                }
            }
        }
        // Older rounds were looked at often enough.
        instances.truncate(200);
        bindings.truncate(200);
    }
    assert!(!instances.is_empty() && !bindings.is_empty());
}

/// Many writers put the same instance at the same time, while the broker is killed and started again: the platform sends
/// a request again whose connection was closed unanswered.
#[test]
fn a_request_sent_again_after_a_crash_finds_what_it_made() {
    let broker = Setup::new().catalog(&catalog()).start();
    let address = broker.address;
    let sent = AtomicUsize::new(0);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let sent = &sent;
            scope.spawn(move || {
                for n in 0..20 {
                    let id = format!("{writer}-{n}");
                    let put =
                        Request::new(address, "PUT", &instance(&id)).json(&provision("s", "p"));
                    sent.fetch_add(1, Ordering::Relaxed);
                    if put.try_send().is_err() {
                        return;
                    }
                }
            });
        }
        while sent.load(Ordering::Relaxed) < WRITERS * 5 {
            thread::yield_now();
        }
        broker.signal("KILL");
    });
    let broker = Setup::in_folder(broker.folder.clone())
        .catalog(&catalog())
        .start();
    for writer in 0..WRITERS {
        for n in 0..20 {
            let target = instance(&format!("{writer}-{n}"));
            let again = broker.put(&target, &provision("s", "p"));
            assert!(matches!(again.status, 200 | 201), "{}", again.status);
            let once_more = broker.put(&target, &provision("s", "p")).expect(200);
            assert_eq!(once_more.json(), again.json());
        }
    }
}

/// A stop in order leaves one file; after kill -9 the log beside it has what was written last.
#[test]
fn without_its_log_a_store_that_was_killed_is_an_earlier_one() {
    let broker = Setup::new().catalog(&catalog()).start();
    let folder = broker.folder.clone();
    let again = || Setup::in_folder(folder.clone()).catalog(&catalog());
    let log = folder.path().join("brokerlet.db-wal");
    broker
        .put(&instance("one"), &provision("s", "p"))
        .expect(201);
    broker.stop();
    assert!(!log.exists(), "a stop in order leaves one file");

    let broker = again().start();
    broker
        .put(&instance("two"), &provision("s", "p"))
        .expect(201);
    broker.kill();
    std::fs::remove_file(&log).unwrap();
    let broker = again().start();
    broker
        .put(&instance("one"), &provision("s", "p"))
        .expect(200);
    broker
        .put(&instance("two"), &provision("s", "p"))
        .expect(201);
    let (status, _) = broker.stop();
    assert_eq!(status.code(), Some(0));
    assert!(!log.exists());
}
