//! Programs that the platform does not wait for.

use super::{read, wait_for_end};
use crate::support::programs::{IDS, bind, provision, shell};
use crate::support::{Broker, Folder, Setup, binding, instance};
use serde_json::{Value, json};

/// `target`, asynchronously.
fn incomplete(target: &str) -> String {
    format!("{target}?accepts_incomplete=true")
}

fn poll(broker: &Broker, target: &str) -> Value {
    broker
        .get(&format!("{target}/last_operation"))
        .expect(200)
        .json()
}

#[test]
fn try_again_later_is_tried_again_with_the_same_operation() {
    if !crate::support::needs::has(&["jq"]) {
        return;
    }
    // Also where it says so in words.
    let script = r#"
printf '%s' "$input" | jq -c '[.operation_id, .attempt]' >>attempts
attempt=$(printf '%s' "$input" | jq .attempt)
[ "$attempt" != 1 ] || exit 75
[ "$attempt" != 2 ] || { echo '{"error":"busy","description":"Busy."}'; exit 75; }
echo '{}'"#;
    for is_async in [false, true] {
        let broker = shell(script, json!({ "async": is_async, "timeout": "50s" })).start();
        let target = instance("i-1");
        let answer = broker.put(&incomplete(&target), &provision());
        if is_async {
            answer.expect(202);
            let ended = broker.poll_until(&target, |answer| answer["state"] != "in progress");
            assert_eq!(ended["state"], "succeeded");
        } else {
            answer.expect(201);
        }
        let attempts = broker.written("attempts");
        let attempts: Vec<Value> = attempts
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let id = &attempts[0][0];
        assert_eq!(attempts, [json!([id, 1]), json!([id, 2]), json!([id, 3])]);
    }
}

#[test]
fn try_again_later_ends_with_the_timeout() {
    let script = r#"case $1 in
provision) echo '{"error":"busy","description":"All servers are busy."}'; exit 75 ;;
*) echo '{}' ;;
esac"#;
    let broker = shell(script, json!({ "timeout": "1500ms" })).start();
    broker
        .put(&instance("i-1"), &provision())
        .expect_naming(503, "All servers are busy.");
    let broker = shell(script, json!({ "timeout": "1500ms", "async": true })).start();
    let target = instance("i-1");
    broker.put(&incomplete(&target), &provision()).expect(202);
    let ended = broker.poll_until(&target, |answer| answer["state"] != "in progress");
    assert_eq!(ended["state"], "failed");
    assert!(
        ended["description"]
            .as_str()
            .unwrap()
            .contains("All servers are busy."),
        "{ended}"
    );
}

#[test]
fn progress_is_what_a_poller_reads() {
    // Goes on when the test says so.
    let script = r#"
echo '{"progress": "Creating VM (40%)"}'
until [ -e go ]; do sleep 0.02; done
echo '{"progress": "Starting"}'
until [ -e on ]; do sleep 0.02; done
echo '{"dashboard_url": "https://x.example.com", "credentials": {"a": 1}}'"#;
    let broker = shell(script, json!({ "async": true })).start();
    let target = instance("i-1");
    broker.put(&incomplete(&target), &provision()).expect(202);
    let is = |wanted: &'static str| move |answer: &Value| answer["description"] == wanted;
    assert_eq!(
        broker.poll_until(&target, is("Creating VM (40%)"))["state"],
        "in progress"
    );
    broker.folder.file("go", "");
    assert_eq!(
        broker.poll_until(&target, is("Starting"))["state"],
        "in progress"
    );
    broker.folder.file("on", "");
    broker.poll_until(&target, |answer| answer["state"] == "succeeded");
    let shown = broker.get(&target).expect(200).json();
    assert_eq!(shown["dashboard_url"], "https://x.example.com");

    let bound = binding("i-1", "b-1");
    broker.put(&incomplete(&bound), &bind()).expect(202);
    broker.poll_until(&bound, |answer| answer["state"] == "succeeded");
    assert_eq!(
        broker.get(&bound).expect(200).json()["credentials"],
        json!({ "a": 1 })
    );
}

#[test]
fn a_delete_ends_the_program_that_still_provisions() {
    let script = r#"case $1 in
provision) trap 'echo taken back >&2; exit 1' TERM; echo $$ >self; sleep 300 & wait ;;
*) printf '%s' "$input" >"$1.json"; echo '{}' ;;
esac"#;
    let broker = shell(script, json!({ "async": true })).start();
    let target = instance("i-1");
    broker.put(&incomplete(&target), &provision()).expect(202);
    broker.wait_for_file("self");
    broker
        .delete(&format!("{target}{IDS}&accepts_incomplete=true"))
        .expect(202);
    broker.wait_for_print("message=\"taken back\"");
    wait_for_end(&broker.written("self"));
    for _ in 0..4000 {
        if broker.get(&format!("{target}/last_operation")).status == 410 {
            assert_eq!(read(&broker, "deprovision")["state"], json!({}));
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("not deleted: {}", poll(&broker, &target));
}

#[test]
fn an_asynchronous_program_that_takes_too_long_has_failed() {
    let script = "case $1 in provision) sleep 300 & echo $! >child; wait ;; *) echo '{}' ;; esac";
    let broker = shell(script, json!({ "async": true, "timeout": "300ms" })).start();
    let target = instance("i-1");
    broker.put(&incomplete(&target), &provision()).expect(202);
    let ended = broker.poll_until(&target, |answer| answer["state"] != "in progress");
    assert_eq!(ended["state"], "failed");
    assert!(
        ended["description"]
            .as_str()
            .unwrap()
            .contains("did not finish within 300ms"),
        "{ended}"
    );
    wait_for_end(&broker.written("child"));
}

#[test]
fn a_secret_that_is_being_replaced_is_waited_for() {
    let folder = Folder::new();
    let secret = folder.file("secret", "first-secret");
    let settings =
        json!({ "env": { "S": format!("${{file:{}}}", secret.display()) }, "async": true });
    let broker = shell(r#"printf '%s' "$S" >seen; echo '{}'"#, settings).start();
    std::fs::remove_file(&secret).unwrap();
    let target = instance("i-1");
    broker.put(&incomplete(&target), &provision()).expect(202);
    assert_eq!(poll(&broker, &target)["state"], "in progress");
    folder.file("secret", "second-secret");
    broker.poll_until(&target, |answer| answer["state"] == "succeeded");
    assert_eq!(broker.written("seen"), "second-secret");
}

#[test]
fn programs_that_hang_starve_nobody() {
    let script =
        "case $1 in provision) sleep 30 & echo $! >>children; wait ;; *) echo '{}' ;; esac";
    let mut offered = crate::support::programs::catalog(json!({ "async": true, "concurrency": 2 }));
    let free = json!({ "id": "plan-3", "name": "free", "description": "Free", "adapter": { "kind": "shared" } });
    offered["services"][0]["plans"]
        .as_array_mut()
        .unwrap()
        .push(free);
    let broker = shell(script, json!({})).catalog(&offered).start();
    for n in 0..20 {
        broker
            .put(&incomplete(&instance(&format!("i-{n}"))), &provision())
            .expect(202);
    }
    broker.get("/healthz").expect(200);
    broker.get("/v2/catalog").expect(200);
    broker
        .put(
            &instance("s-1"),
            &crate::support::provision("service-1", "plan-3"),
        )
        .expect(201);
    for n in 0..20 {
        assert_eq!(
            poll(&broker, &instance(&format!("i-{n}")))["state"],
            "in progress"
        );
    }
    broker.wait_for_file("children");
    assert!(
        broker.written("children").lines().count() <= 2,
        "no more than the plan's concurrency"
    );
}

#[test]
fn after_a_kill_of_the_broker_the_program_is_called_again() {
    if !crate::support::needs::has(&["jq"]) {
        return;
    }
    let script = r#"
printf '%s' "$input" | jq -c '[.operation_id, .attempt]' >>attempts
if [ "$(printf '%s' "$input" | jq .attempt)" = 1 ]; then
  echo $$ >self; sleep 30 & wait
fi
echo '{"dashboard_url": "https://x.example.com"}'"#;
    let broker = shell(script, json!({ "async": true }))
        .env("BROKER_STORE", "file:state.db")
        .start();
    let target = instance("i-1");
    broker.put(&incomplete(&target), &provision()).expect(202);
    broker.wait_for_file("self");
    let folder = broker.kill();
    let catalog = folder.path().join("catalog.json");
    let broker = Setup::in_folder(folder)
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("BROKER_STORE", "file:state.db")
        .env("BROKER_CATALOG", catalog)
        .start();
    // What the first broker started goes on: its program has to bear that.
    let first = broker.written("self");
    // It may have ended by itself.
    let _ = std::process::Command::new("sh")
        .args(["-c", &format!("kill -9 {}", first.trim())])
        .status();
    broker.poll_until(&target, |answer| answer["state"] == "succeeded");
    assert_eq!(
        broker.get(&target).expect(200).json()["dashboard_url"],
        "https://x.example.com"
    );
    let attempts = broker.written("attempts");
    let attempts: Vec<Value> = attempts
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        attempts,
        [json!([attempts[0][0], 1]), json!([attempts[0][0], 2])]
    );
}

#[test]
fn a_stop_of_the_broker_leaves_an_asynchronous_program_to_the_next_one() {
    if !crate::support::needs::has(&["jq"]) {
        return;
    }
    let script = r#"
printf '%s' "$input" | jq -c '[.operation_id, .attempt]' >>attempts
if [ "$(printf '%s' "$input" | jq .attempt)" = 1 ]; then
  trap 'echo "told to stop" >&2; exit 1' TERM
  echo $$ >self; sleep 30 & wait
fi
echo '{}'"#;
    let broker = shell(script, json!({ "async": true }))
        .env("BROKER_STORE", "file:state.db")
        .start();
    let target = instance("i-1");
    broker.put(&incomplete(&target), &provision()).expect(202);
    broker.wait_for_file("self");
    let (folder, first) = (broker.folder.clone(), broker.written("self"));
    let (status, printed) = broker.stop();
    assert!(status.success(), "{printed}");
    wait_for_end(&first);
    let catalog = folder.path().join("catalog.json");
    let broker = Setup::in_folder(folder)
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("BROKER_STORE", "file:state.db")
        .env("BROKER_CATALOG", catalog)
        .start();
    broker.poll_until(&target, |answer| answer["state"] == "succeeded");
    assert_eq!(broker.written("attempts").lines().count(), 2);
}

/// Else it would meet its own next attempt, which the next broker starts.
#[test]
fn no_program_outlives_a_broker_that_stops() {
    let script = "trap '' TERM; echo $$ >self; while :; do sleep 0.1; done";
    let broker = shell(script, json!({ "async": true }))
        .env("BROKER_STORE", "file:state.db")
        .start();
    broker
        .put(&incomplete(&instance("i-1")), &provision())
        .expect(202);
    broker.wait_for_file("self");
    let program = broker.written("self");
    let (status, printed) = broker.stop();
    assert!(status.success(), "{printed}");
    let proc = std::path::Path::new("/proc").join(program.trim());
    assert!(!proc.exists(), "{printed}");
}
