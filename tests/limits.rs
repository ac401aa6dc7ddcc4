//! How many instances a plan allows: `"limits"` beside `adapter`.

mod support;

use serde_json::{Value, json};
use std::sync::Arc;
use std::thread;
use support::programs::{IDS, executable, shell};
use support::{Broker, Folder, Response, Setup, brokerlet, instance, merged, programs};

/// The catalog of `programs`, with these rules in both of its plans.
fn catalog(settings: Value, rules: Value) -> Value {
    let mut catalog = programs::catalog(settings);
    for plan in catalog["services"][0]["plans"].as_array_mut().unwrap() {
        *plan = merged(plan, rules.clone());
    }
    catalog
}

/// A broker whose state is in a file, and whose program does this.
fn start(folder: &Arc<Folder>, script: &str, settings: Value, rules: Value) -> Broker {
    executable(folder, "program", &format!("#!/bin/sh\n{script}\n"));
    Setup::in_folder(folder.clone())
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("BROKER_STORE", "file:state.db")
        .catalog(&catalog(settings, rules))
        .start()
}

fn limited(rules: Value) -> Broker {
    let rules = json!({ "limits": rules });
    start(&Arc::new(Folder::new()), "echo '{}'", json!({}), rules)
}

/// A request for an instance of a plan, in a space of an organization.
fn request(plan: &str, organization: &str, space: &str) -> Value {
    merged(
        &support::provision("service-1", plan),
        json!({ "organization_guid": organization, "space_guid": space }),
    )
}

fn small() -> Value {
    request("plan-1", "o", "s")
}

#[track_caller]
fn is_full(answer: Response, words: &str) {
    let answer = answer.expect_error(422, "LimitReached");
    answer.expect_naming(422, words);
}

#[test]
fn what_would_go_over_a_limit_is_refused_and_leaves_nothing() {
    let limits =
        json!({ "instances": 4, "instances_per_organization": 3, "instances_per_space": 2 });
    let broker = limited(limits);
    let make = |id: &str, organization: &str, space: &str| {
        broker.put(&instance(id), &request("plan-1", organization, space))
    };
    make("1", "o1", "s1").expect(201);
    make("2", "o1", "s1").expect(201);
    is_full(
        make("3", "o1", "s1"),
        "Plan \"small\" allows at most 2 service instances in one space, and there are 2 already. Delete one that is no \
         longer needed, or ask the operator of this service.",
    );
    broker.get(&instance("3")).expect(404);
    broker.delete(&(instance("3") + IDS)).expect(410);
    make("3", "o1", "s2").expect(201);
    is_full(
        make("4", "o1", "s2"),
        "at most 3 service instances in one organization, and there are 3",
    );
    make("4", "o2", "s3").expect(201);
    is_full(
        make("5", "o3", "s4"),
        "at most 4 service instances, and there are 4",
    );
    // The other plan has room of its own.
    let large = request("plan-2", "o1", "s1");
    broker.put(&instance("5"), &large).expect(201);
    // What is there already is never refused by a limit.
    make("1", "o1", "s1").expect(200);
    make("1", "o1", "s2").expect(409);
    let update =
        json!({ "service_id": "service-1", "plan_id": "plan-1", "parameters": { "a": 1 } });
    broker.patch(&instance("1"), &update).expect(200);
    // A deletion makes room.
    broker.delete(&(instance("4") + IDS)).expect(200);
    make("6", "o3", "s4").expect(201);
    is_full(make("7", "o3", "s4"), "and there are 4 already");
}

#[test]
fn an_update_to_another_plan_needs_room_there_and_leaves_some() {
    let broker = limited(json!({ "instances_per_space": 1 }));
    broker.put(&instance("1"), &small()).expect(201);
    broker
        .put(&instance("2"), &request("plan-2", "o", "s"))
        .expect(201);
    let to = |plan: &str| json!({ "service_id": "service-1", "plan_id": plan });
    let before = broker.get(&instance("1")).expect(200).json();
    is_full(
        broker.patch(&instance("1"), &to("plan-2")),
        "Plan \"large\" allows at most 1 service instance in one space, and there is 1 already.",
    );
    assert_eq!(broker.get(&instance("1")).expect(200).json(), before);
    let large = "?service_id=service-1&plan_id=plan-2";
    broker.delete(&(instance("2") + large)).expect(200);
    broker.patch(&instance("1"), &to("plan-2")).expect(200);
    broker.put(&instance("3"), &small()).expect(201);
    is_full(
        broker.patch(&instance("3"), &to("plan-2")),
        "Plan \"large\"",
    );
    is_full(
        broker.patch(&instance("1"), &to("plan-1")),
        "Plan \"small\"",
    );
}

#[test]
fn of_fifty_at_once_there_are_as_many_as_the_limit() {
    let rules = json!({ "limits": { "instances": 10 } });
    let broker = start(&Arc::new(Folder::new()), "echo '{}'", json!({}), rules);
    let all = |from: usize| -> Vec<u16> {
        thread::scope(|scope| {
            let broker = &broker;
            let put = |n: usize| move || broker.put(&instance(&n.to_string()), &small()).status;
            let threads: Vec<_> = (from..from + 50).map(|n| scope.spawn(put(n))).collect();
            threads.into_iter().map(|it| it.join().unwrap()).collect()
        })
    };
    let of = |answers: &[u16], status| answers.iter().filter(|it| **it == status).count();
    let answers = all(0);
    assert_eq!(
        (of(&answers, 201), of(&answers, 422)),
        (10, 40),
        "{answers:?}"
    );
    let answers = all(50);
    assert_eq!(of(&answers, 422), 50, "{answers:?}");
}

#[test]
fn the_same_request_many_times_at_once_has_one_place() {
    let broker = shell("sleep 0.2; echo '{}'", json!({}));
    let rules = json!({ "limits": { "instances": 1 } });
    let broker = broker.catalog(&catalog(json!({}), rules)).start();
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let answer = broker.put(&instance("i"), &small());
                // It is there, or being made.
                if !matches!(answer.status, 200 | 201) {
                    answer.expect_error(422, "ConcurrencyError");
                }
            });
        }
    });
    broker.put(&instance("i"), &small()).expect(200);
    is_full(broker.put(&instance("j"), &small()), "there is 1");
}

#[test]
fn what_fails_gives_its_place_back_and_what_is_to_be_cleaned_up_keeps_it() {
    let script = "cat >/dev/null\n[ \"$1\" != provision ] || { cat answer; exit \"$(cat code)\"; }\necho '{}'";
    let folder = Arc::new(Folder::new());
    let rules = json!({ "limits": { "instances": 1 } });
    let broker = start(&folder, script, json!({}), rules);
    let answers = |answer: &str, code: &str| {
        folder.file("answer", answer);
        folder.file("code", code);
    };
    answers("{\"error\":\"invalid\",\"description\":\"No.\"}", "1");
    for id in ["1", "2", "3"] {
        broker.put(&instance(id), &small()).expect(400);
    }
    answers("{\"error\":\"broken\",\"description\":\"Half made.\"}", "1");
    broker.put(&instance("4"), &small()).expect(500);
    is_full(broker.put(&instance("5"), &small()), "there is 1");
    // Once more the same: it has its place.
    broker.put(&instance("4"), &small()).expect(500);
    // What is left of it would go, so the limit of the other plan is asked first: that has room.
    answers("{}", "0");
    broker
        .put(&instance("4"), &request("plan-2", "o", "s"))
        .expect(201);
    broker.put(&instance("5"), &small()).expect(201);
}

#[test]
fn what_is_being_made_or_removed_has_its_place() {
    let script = "cat >/dev/null\nuntil [ -e \"$1\" ]; do sleep 0.01; done\necho '{}'";
    let folder = Arc::new(Folder::new());
    let rules = json!({ "limits": { "instances": 1 } });
    let settings = json!({ "async": ["provision", "deprovision"] });
    let broker = start(&folder, script, settings.clone(), rules.clone());
    let query = "?accepts_incomplete=true";
    let put = |broker: &Broker, id: &str| broker.put(&(instance(id) + query), &small());
    let polled = |broker: &Broker, id: &str| broker.settled(&instance(id));
    put(&broker, "1").expect(202);
    is_full(put(&broker, "2"), "there is 1");
    put(&broker, "1").expect(202);
    // A start counts anew, also what is in progress.
    broker.kill();
    let broker = start(&folder, script, settings, rules);
    is_full(put(&broker, "2"), "there is 1");
    folder.file("provision", "");
    assert_eq!(
        polled(&broker, "1").expect(200).json()["state"],
        "succeeded"
    );
    let delete = instance("1") + IDS + "&accepts_incomplete=true";
    broker.delete(&delete).expect(202);
    is_full(put(&broker, "2"), "there is 1");
    folder.file("deprovision", "");
    polled(&broker, "1").expect(410);
    put(&broker, "2").expect(202);
    polled(&broker, "2").expect(200);
}

#[test]
fn what_is_kept_after_its_deletion_takes_no_place() {
    let folder = Arc::new(Folder::new());
    let rules = json!({ "retain": "1h", "limits": { "instances": 1 } });
    let broker = start(&folder, "echo '{}'", json!({}), rules.clone());
    broker.put(&instance("1"), &small()).expect(201);
    broker.delete(&(instance("1") + IDS)).expect(200);
    broker.put(&instance("2"), &small()).expect(201);
    is_full(broker.put(&instance("3"), &small()), "there is 1");
    // That its id is taken goes before the limit.
    broker.put(&instance("1"), &small()).expect(409);
    broker.stop();
    let broker = start(&folder, "echo '{}'", json!({}), rules);
    is_full(broker.put(&instance("3"), &small()), "there is 1");
    broker.delete(&(instance("2") + IDS)).expect(200);
    broker.put(&instance("3"), &small()).expect(201);
}

#[test]
fn a_reload_counts_what_is_there_and_takes_the_new_limits() {
    let folder = Arc::new(Folder::new());
    let broker = start(&folder, "echo '{}'", json!({}), json!({}));
    let reload = |rules: Value, n: usize| {
        let new = folder.file("new", catalog(json!({}), rules).to_string());
        std::fs::rename(new, folder.path().join("catalog.json")).unwrap();
        broker.signal("HUP");
        broker.wait_for_prints("event=reloaded", n);
    };
    for id in ["1", "2", "3"] {
        broker.put(&instance(id), &small()).expect(201);
    }
    reload(json!({ "limits": { "instances": 2 } }), 1);
    is_full(
        broker.put(&instance("4"), &small()),
        "at most 2 service instances, and there are 3 already",
    );
    let text = broker.get("/v2/catalog").expect(200).json().to_string();
    assert!(!text.contains("limits"), "{text}");
    reload(json!({ "limits": { "instances": 4 } }), 2);
    broker.put(&instance("4"), &small()).expect(201);
    is_full(broker.put(&instance("5"), &small()), "there are 4");
    reload(json!({}), 3);
    broker.put(&instance("5"), &small()).expect(201);
}

#[test]
fn check_tells_what_is_no_limit_and_where() {
    let folder = Folder::new();
    executable(&folder, "program", "#!/bin/sh\n");
    let mut catalog = programs::catalog(json!({}));
    let service = &mut catalog["services"][0];
    service["limits"] = json!({ "instances": 0, "instance_per_space": 2 });
    service["plans"][0]["limits"] = json!({
        "instances": 1.5, "instances_per_space": "2", "instances_per_organization": -1
    });
    service["plans"][1]["limits"] = json!(5);
    let file = folder.file("catalog.json", catalog.to_string());
    let output = brokerlet().arg("check").arg(file).output().unwrap();
    let told =
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    for line in [
        "error: services[0].limits.instances: found 0, wanted a whole number of at least 1\n",
        "error: services[0].limits.instance_per_space: unknown key, did you mean \"instances_per_space\"?\n",
        "error: services[0].plans[0].limits.instances: found 1.5, wanted a whole number of at least 1\n",
        "error: services[0].plans[0].limits.instances_per_space: found a string, wanted a whole number of at least 1\n",
        "error: services[0].plans[0].limits.instances_per_organization: found -1, wanted a whole number of at least 1\n",
        "error: services[0].plans[1].limits: found a number, wanted an object, as in {\"instances\": 100}\n",
    ] {
        assert!(told.contains(line), "{line}{told}");
    }
    assert_eq!(told.matches("error: ").count(), 6, "{told}");
}

#[test]
fn what_a_service_offering_says_holds_for_plans_that_say_nothing() {
    let mut catalog = programs::catalog(json!({}));
    let service = &mut catalog["services"][0];
    service["limits"] = json!({ "instances": 1 });
    service["plans"][1]["limits"] = json!({ "instances_per_space": 2 });
    let broker = shell("echo '{}'", json!({})).catalog(&catalog).start();
    broker.put(&instance("1"), &small()).expect(201);
    is_full(
        broker.put(&instance("2"), &small()),
        "at most 1 service instance,",
    );
    let large = request("plan-2", "o", "s");
    broker.put(&instance("3"), &large).expect(201);
    broker.put(&instance("4"), &large).expect(201);
    is_full(broker.put(&instance("5"), &large), "in one space");
}
