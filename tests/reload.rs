//! Reading everything again while the broker serves, after SIGHUP or when the content of a file has changed.

mod support;

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};
use support::connection::Connection;
use support::programs;
use support::*;

fn plan(id: &str) -> Value {
    json!({ "id": id, "name": id, "description": "A plan", "adapter": {
        "kind": "shared", "binding": { "credentials": { "plan": id } } } })
}

fn catalog_of(plans: Value) -> Value {
    json!({ "services": [{
        "id": "s", "name": "s", "description": "A service", "bindable": true, "instances_retrievable": true,
        "plan_updateable": true, "plans": plans
    }]})
}

fn catalog(ids: &[&str]) -> Value {
    catalog_of(ids.iter().map(|id| plan(id)).collect())
}

/// A catalog in which this plan is retired.
fn retiring(retired: &str, ids: &[&str]) -> Value {
    let plans = ids.iter().map(|id| {
        let retired = json!({ "retired": *id == retired });
        merged(&plan(id), retired)
    });
    catalog_of(plans.collect())
}

fn setup(catalog: &Value) -> Setup {
    Setup::new()
        .env("BROKER_STORE", "memory")
        .env("BROKER_RELOAD_EVERY", "0")
        .catalog(catalog)
}

/// Another content of the catalog file, whole from one moment to the next.
fn write(broker: &Broker, content: impl AsRef<[u8]>) {
    let new = broker.folder.file("new", content);
    fs::rename(new, broker.folder.path().join("catalog.json")).unwrap();
}

fn count(broker: &Broker, event: &str) -> usize {
    let wanted = format!("event={event} ");
    broker
        .printed()
        .lines()
        .filter(|line| line.contains(&wanted))
        .count()
}

/// Waits until there are so many lines of an event.
#[track_caller]
fn wait_for(broker: &Broker, event: &str, n: usize) {
    let told = || format!("{n} {event}: {}", broker.printed());
    wait_until(told, || count(broker, event) >= n);
}

/// SIGHUP, and the one more line of this event that follows from it.
#[track_caller]
fn hup(broker: &Broker, event: &str) {
    let before = count(broker, event);
    broker.signal("HUP");
    wait_for(broker, event, before + 1);
}

/// The names of the plans that are served.
fn served(broker: &Broker) -> Vec<String> {
    let catalog = broker.get("/v2/catalog").expect(200).json();
    let services = catalog["services"].as_array().unwrap().clone();
    let plans = services
        .iter()
        .flat_map(|service| service["plans"].as_array().unwrap());
    plans
        .map(|plan| plan["name"].as_str().unwrap().to_owned())
        .collect()
}

fn line_of(broker: &Broker, event: &str) -> String {
    let printed = broker.printed();
    let wanted = format!("event={event} ");
    let line = printed.lines().rfind(|line| line.contains(&wanted));
    line.unwrap_or_default().to_owned()
}

// The catalog

#[test]
fn a_changed_catalog_is_served_with_another_etag_and_a_later_date() {
    let broker = setup(&catalog(&["a"])).start();
    let before = broker.get("/v2/catalog").expect(200);
    let etag = before.header("ETag").unwrap().to_owned();
    write(&broker, catalog(&["a", "b"]).to_string());
    // Even where the file is older than the one before, as after a step back.
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    let file = fs::File::options()
        .write(true)
        .open(broker.folder.path().join("catalog.json"))
        .unwrap();
    file.set_modified(long_ago).unwrap();
    hup(&broker, "reloaded");
    assert_eq!(served(&broker), ["a", "b"]);
    assert!(line_of(&broker, "reloaded").contains("offers=\"s (a, b)\""));
    assert!(line_of(&broker, "reloaded").contains("catalog.json"));
    let after = broker
        .request("GET", "/v2/catalog")
        .header("If-None-Match", &*etag)
        .send()
        .expect(200);
    assert_ne!(after.header("ETag"), Some(&*etag));
    let date = |answer: &Response| {
        let text = answer.header("Last-Modified").unwrap();
        httpdate::parse_http_date(text).unwrap()
    };
    assert!(date(&after) > date(&before));
    let since = before.header("Last-Modified").unwrap();
    broker
        .request("GET", "/v2/catalog")
        .header("If-Modified-Since", since)
        .send()
        .expect(200);
    // The same content again is the same.
    write(&broker, catalog(&["a", "b"]).to_string());
    hup(&broker, "reloaded");
    let again = broker.get("/v2/catalog").expect(200);
    for field in ["ETag", "Last-Modified"] {
        assert_eq!(again.header(field), after.header(field));
    }
    broker.put(&instance("i"), &provision("s", "b")).expect(201);
}

#[test]
fn what_is_wrong_is_told_and_everything_stays_as_it_was() {
    let broker = setup(&catalog(&["a"])).start();
    let mut wrong = catalog(&["a", "b"]);
    wrong["services"][0]["plans"][1]["free"] = json!("yes");
    wrong["services"][0]["plans"][1]["adapter"]["kind"] = json!("shred");
    for (content, told) in [
        (
            wrong.to_string(),
            &["plans[1].free", "plans[1].adapter.kind"][..],
        ),
        ("{".to_owned(), &["catalog.json"]),
        (String::new(), &["catalog.json"]),
    ] {
        let before = count(&broker, "reload_refused");
        write(&broker, content);
        broker.signal("HUP");
        wait_for(&broker, "reload_refused", before + told.len());
        for place in told {
            assert!(broker.printed().contains(place), "{}", broker.printed());
        }
        assert_eq!(served(&broker), ["a"]);
    }
    fs::remove_file(broker.folder.path().join("catalog.json")).unwrap();
    hup(&broker, "reload_refused");
    assert_eq!(served(&broker), ["a"]);
    assert_eq!(count(&broker, "reloaded"), 0);
    write(&broker, catalog(&["b"]).to_string());
    hup(&broker, "reloaded");
    assert_eq!(served(&broker), ["b"]);
}

#[test]
fn a_plan_that_instances_have_cannot_vanish_but_can_be_retired() {
    for store in ["memory", "file:state.db"] {
        let broker = setup(&catalog(&["a", "b"]))
            .env("BROKER_STORE", store)
            .start();
        for id in ["i", "j"] {
            broker.put(&instance(id), &provision("s", "a")).expect(201);
        }
        broker.put(&instance("k"), &provision("s", "b")).expect(201);
        write(&broker, catalog(&["b", "c"]).to_string());
        hup(&broker, "reload_refused");
        let line = line_of(&broker, "reload_refused");
        for word in ["service=s", "plan=a", "instances=2", "retired"] {
            assert!(line.contains(word), "{word}: {line}");
        }
        assert_eq!(count(&broker, "reload_refused"), 1, "plan b stays");
        assert_eq!(served(&broker), ["a", "b"]);

        write(&broker, retiring("a", &["a", "b", "c"]).to_string());
        hup(&broker, "reloaded");
        assert_eq!(served(&broker), ["b", "c"]);

        // Once they are gone, so may the plan be.
        for id in ["i", "j"] {
            broker
                .delete(&format!("{}?service_id=s&plan_id=a", instance(id)))
                .expect(200);
        }
        write(&broker, catalog(&["b", "c"]).to_string());
        hup(&broker, "reloaded");
        broker
            .put(&instance("i"), &provision("s", "a"))
            .expect_naming(400, "plan_id: found \"a\"");
    }
}

#[test]
fn a_plan_that_instances_are_being_updated_to_cannot_vanish() {
    let script = "[ \"$1\" != update ] || until [ -e go ]; do sleep 0.02; done; echo '{}'";
    let settings = json!({ "async": ["update"] });
    let broker = programs::shell(script, settings.clone())
        .env("BROKER_RELOAD_EVERY", "0")
        .start();
    broker
        .put(&instance("i"), &programs::provision())
        .expect(201);
    let update = json!({ "service_id": "service-1", "plan_id": "plan-2" });
    let target = instance("i") + "?accepts_incomplete=true";
    broker.patch(&target, &update).expect(202);
    let whole = programs::catalog(settings);
    for left in [0, 1] {
        let mut less = whole.clone();
        let plans = less["services"][0]["plans"].as_array_mut().unwrap();
        plans.remove(left);
        write(&broker, less.to_string());
        hup(&broker, "reload_refused");
        let plan = format!("plan_id=plan-{}", left + 1);
        assert!(line_of(&broker, "reload_refused").contains(&plan));
    }
    broker.folder.file("go", "");
    wait_for(&broker, "operation", 1);
    // Now it has the other one.
    let mut less = whole;
    less["services"][0]["plans"]
        .as_array_mut()
        .unwrap()
        .remove(0);
    write(&broker, less.to_string());
    hup(&broker, "reloaded");
}

// Retired plans

#[test]
fn instances_of_a_retired_plan_go_on_and_there_are_no_new_ones() {
    let broker = setup(&catalog(&["a", "b"])).start();
    broker.put(&instance("i"), &provision("s", "a")).expect(201);
    broker
        .put(&instance("other"), &provision("s", "b"))
        .expect(201);
    write(&broker, retiring("a", &["a", "b"]).to_string());
    hup(&broker, "reloaded");

    broker
        .put(&instance("new"), &provision("s", "a"))
        .expect_naming(400, "\"a\" is retired");
    broker.get(&instance("new")).expect(404);
    let onto = json!({ "service_id": "s", "plan_id": "a" });
    broker
        .patch(&instance("other"), &onto)
        .expect_naming(400, "\"a\" is retired");

    broker.put(&instance("i"), &provision("s", "a")).expect(200);
    let update = json!({ "service_id": "s", "plan_id": "a", "parameters": { "color": "blue" } });
    broker.patch(&instance("i"), &update).expect(200);
    let fetched = broker.get(&instance("i")).expect(200).json();
    assert_eq!(fetched["parameters"], json!({ "color": "blue" }));
    let bound = broker.put(&binding("i", "b"), &bind("s", "a")).expect(201);
    assert_eq!(bound.json()["credentials"], json!({ "plan": "a" }));
    let ids = "?service_id=s&plan_id=a";
    broker.delete(&(binding("i", "b") + ids)).expect(200);
    // It may move away, too.
    let away = json!({ "service_id": "s", "plan_id": "b" });
    broker.patch(&instance("i"), &away).expect(200);
    broker
        .delete(&format!("{}?service_id=s&plan_id=b", instance("i")))
        .expect(200);
}

#[test]
fn an_offering_whose_plans_are_all_retired_is_not_served() {
    let service = |id: &str| {
        json!({ "id": id, "name": id, "description": "A service", "bindable": true,
            "plans": [{ "id": format!("{id}-plan"), "name": "p", "description": "A plan" }] })
    };
    let retired = merged(&service("old"), json!({ "retired": true }));
    let both = json!({ "services": [retired, service("new")] });
    let broker = setup(&both).start();
    let catalog = broker.get("/v2/catalog").expect(200);
    let names: Vec<Value> = catalog.json()["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(|service| service["name"].clone())
        .collect();
    assert_eq!(names, ["new"]);
    assert!(!String::from_utf8_lossy(&catalog.body).contains("retired"));
    assert!(line_of(&broker, "started").contains("offers=\"new (p)\""));
    // A plan of its own mind is served all the same.
    let mut kept = both.clone();
    kept["services"][0]["plans"][0]["retired"] = json!(false);
    write(&broker, kept.to_string());
    hup(&broker, "reloaded");
    assert_eq!(served(&broker).len(), 2);
    // With none left, the catalog is empty, and the log says so.
    let none = json!({ "services": [both["services"][0]] });
    write(&broker, none.to_string());
    hup(&broker, "reloaded");
    assert!(served(&broker).is_empty());
    assert!(line_of(&broker, "catalog").contains("every plan is retired"));
}

// Undisturbed

#[test]
fn a_request_in_flight_and_what_is_queued_go_on() {
    let script = "echo $$ >>begun; until [ -e go ]; do sleep 0.02; done; echo '{}'";
    let settings = |concurrency: u32| json!({ "async": ["provision"], "concurrency": concurrency, "timeout": "1m" });
    let broker = programs::shell(script, settings(1))
        .env("BROKER_RELOAD_EVERY", "0")
        .start();
    let ids = ["1", "2", "3", "4"];
    for id in ids {
        let target = instance(id) + "?accepts_incomplete=true";
        broker.put(&target, &programs::provision()).expect(202);
    }
    let begun = || {
        let written = fs::read_to_string(broker.folder.path().join("begun"));
        written.unwrap_or_default().lines().count()
    };
    let wait_until_begun = |n: usize| {
        let end = Instant::now() + Duration::from_secs(20);
        while begun() < n {
            assert!(Instant::now() < end, "{} of {n}", begun());
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    wait_until_begun(1);
    // More at once from now on: those that are queued already, too.
    write(&broker, programs::catalog(settings(3)).to_string());
    hup(&broker, "reloaded");
    wait_until_begun(3);
    assert_eq!(begun(), 3);
    broker.folder.file("go", "");
    wait_for(&broker, "operation", 4);
    for id in ids {
        let poll = broker.get(&(instance(id) + "/last_operation")).expect(200);
        assert_eq!(poll.json()["state"], "succeeded");
    }
}

#[test]
fn connections_stay_open() {
    let broker = setup(&catalog(&["a"])).start();
    let mut connection = Connection::open(broker.address);
    let ask = || broker.request("GET", "/v2/catalog");
    connection.send(&ask()).expect(200);
    write(&broker, catalog(&["b"]).to_string());
    hup(&broker, "reloaded");
    let answer = connection.send(&ask()).expect(200);
    assert_eq!(answer.json()["services"][0]["plans"][0]["id"], "b");
}

#[test]
fn a_signal_without_anything_to_read_changes_nothing() {
    let broker = Setup::new().env("BROKER_STORE", "memory").start();
    let etag = |broker: &Broker| broker.get("/v2/catalog").header("ETag").map(str::to_owned);
    let date = |broker: &Broker| {
        broker
            .get("/v2/catalog")
            .header("Last-Modified")
            .map(str::to_owned)
    };
    let before = (etag(&broker), date(&broker));
    hup(&broker, "reloaded");
    assert_eq!((etag(&broker), date(&broker)), before);
}

// Credentials

fn login(broker: &Broker, password: &str) -> u16 {
    let request = broker.request("GET", "/v2/catalog");
    request.login(USERNAME, password).send().status
}

#[test]
fn passwords_and_tokens_in_files_are_read_again() {
    let mut setup = setup(&catalog(&["a"]));
    setup.command.env_remove("BROKER_PASSWORD");
    let password = setup.folder.file("password", "first\n");
    let token = setup.folder.file("token", "one\n");
    let broker = setup
        .env("BROKER_PASSWORD_FILE", &password)
        .env("BROKER_TOKEN_FILE", &token)
        .start();
    let bearer = |token: &str| {
        let request = broker.request("GET", "/v2/catalog");
        let header = format!("Bearer {token}");
        request.header("Authorization", header).send().status
    };
    assert_eq!((login(&broker, "first"), bearer("one")), (200, 200));
    fs::write(&password, "second\n").unwrap();
    fs::write(&token, "two\n").unwrap();
    hup(&broker, "reloaded");
    assert_eq!((login(&broker, "first"), bearer("one")), (401, 401));
    assert_eq!((login(&broker, "second"), bearer("two")), (200, 200));
    // An empty file takes nobody's access away; nor is anything else taken over then.
    fs::write(&password, "\n").unwrap();
    fs::write(&token, "three\n").unwrap();
    write(&broker, catalog(&["b"]).to_string());
    hup(&broker, "reload_refused");
    assert!(line_of(&broker, "reload_refused").contains("BROKER_PASSWORD_FILE"));
    assert_eq!((login(&broker, "second"), bearer("two")), (200, 200));
    assert_eq!(bearer("three"), 401);
    let catalog = broker
        .request("GET", "/v2/catalog")
        .login(USERNAME, "second");
    assert_eq!(catalog.send().json()["services"][0]["plans"][0]["id"], "a");
    let printed = broker.printed();
    for secret in ["first", "second", "three"] {
        assert!(!printed.contains(secret), "{printed}");
    }
}

// Without a signal

/// As Kubernetes lays files down: a link to a folder, which is swapped.
fn swap(folder: &Path, to: &str) {
    let new = folder.join("..data_tmp");
    symlink(to, &new).unwrap();
    fs::rename(new, folder.join("..data")).unwrap();
}

#[test]
fn a_swapped_link_is_noticed_without_a_signal_and_bad_content_told_once() {
    let mut setup = Setup::new()
        .env("BROKER_STORE", "memory")
        .env("BROKER_RELOAD_EVERY", "50ms");
    setup.command.env_remove("BROKER_PASSWORD");
    let folder = setup.folder.path().to_owned();
    let lay = |version: &str, password: &str, catalog: &str| {
        let place = folder.join(version);
        fs::create_dir(&place).unwrap();
        fs::write(place.join("password"), password).unwrap();
        fs::write(place.join("catalog.json"), catalog).unwrap();
        swap(&folder, version);
    };
    lay("..1", "first", &catalog(&["a"]).to_string());
    for name in ["password", "catalog.json"] {
        symlink(format!("..data/{name}"), folder.join(name)).unwrap();
    }
    let broker = setup
        .env("BROKER_PASSWORD_FILE", folder.join("password"))
        .env("BROKER_CATALOG", folder.join("catalog.json"))
        .start();
    assert_eq!(login(&broker, "first"), 200);
    lay("..2", "second", &catalog(&["b"]).to_string());
    wait_for(&broker, "reloaded", 1);
    let changed = line_of(&broker, "reloaded");
    assert!(
        changed.contains("password") && changed.contains("catalog.json"),
        "{changed}"
    );
    assert_eq!(
        (login(&broker, "first"), login(&broker, "second")),
        (401, 200)
    );
    lay("..3", "third", "{");
    wait_for(&broker, "reload_refused", 1);
    assert_eq!(login(&broker, "second"), 200);
    // Another look and another: what was refused is not told again. What comes then shows that it goes on.
    lay("..4", "fourth", &catalog(&["c"]).to_string());
    wait_for(&broker, "reloaded", 2);
    assert_eq!(login(&broker, "fourth"), 200);
    assert_eq!(count(&broker, "reload_refused"), 1);
}

/// A look may not be due yet when it is asked for, so the time for several is given.
#[test]
fn bad_content_is_not_complained_about_again_and_again() {
    let broker = setup(&catalog(&["a"]))
        .env("BROKER_RELOAD_EVERY", "1ms")
        .start();
    write(&broker, "{");
    wait_for(&broker, "reload_refused", 1);
    for _ in 0..50 {
        broker.get("/v2/catalog").expect(200);
    }
    assert_eq!(count(&broker, "reload_refused"), 1);
    // Who asks is told.
    hup(&broker, "reload_refused");
}

#[test]
fn a_broker_that_looks_all_the_time_stops_at_once() {
    let broker = setup(&catalog(&["a"]))
        .env("BROKER_RELOAD_EVERY", "1ms")
        .start();
    broker.signal("HUP");
    let begun = Instant::now();
    let (status, _) = broker.stop();
    assert_eq!(status.code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5));
}
