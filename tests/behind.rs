//! Which instances are behind `maintenance_info` of their plan: `brokerlet state list --behind`, the page, the metrics.

mod support;

use serde_json::{Value, json};
use std::net::SocketAddr;

use support::programs::{IDS, executable, provision};
use support::{Broker, Request, Setup, brokerlet, instance, programs, wait_until};

/// The catalog of `programs`, whose first plan is at this version and keeps what was deleted.
fn catalog(version: Option<&str>) -> Value {
    let mut catalog = programs::catalog(json!({}));
    let plan = &mut catalog["services"][0]["plans"][0];
    plan["retain"] = json!("1h");
    if let Some(version) = version {
        plan["maintenance_info"] = json!({ "version": version });
    }
    catalog
}

/// Raises the version while the broker runs.
fn raise(broker: &Broker, version: &str, n: usize) {
    let new = broker
        .folder
        .file("new", catalog(Some(version)).to_string());
    std::fs::rename(new, broker.folder.path().join("catalog.json")).unwrap();
    broker.signal("HUP");
    broker.wait_for_prints("event=reloaded", n);
}

/// A broker with instances from before the plan had a version, of its first one and of its second one.
fn broker() -> Broker {
    let setup = Setup::new()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("BROKER_STORE", "file:state.db")
        .env("BROKER_RELOAD_EVERY", "0")
        .env("BROKER_ADMIN_ADDRESS", "127.0.0.1:0");
    let script = "#!/bin/sh\ncat >/dev/null\n[ ! -e fail ] || { echo '{\"error\":\"x\",\"description\":\"No.\"}'; exit 1; }\necho '{}'\n";
    executable(&setup.folder, "program", script);
    let broker = setup.catalog(&catalog(None)).start();
    broker.put(&instance("none"), &provision()).expect(201);
    raise(&broker, "1.0.0", 1);
    broker.put(&instance("one"), &provision()).expect(201);
    broker.folder.file("fail", "");
    broker.put(&instance("failed"), &provision()).expect(500);
    std::fs::remove_file(broker.folder.path().join("fail")).unwrap();
    raise(&broker, "2.0.0", 2);
    broker.put(&instance("two"), &provision()).expect(201);
    broker
}

fn list(broker: &Broker, options: &[&str]) -> (Option<i32>, String) {
    let output = brokerlet()
        .current_dir(broker.folder.path())
        .env("BROKER_STORE", "file:state.db")
        .args(["state", "list"])
        .args(options)
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    (
        output.status.code(),
        printed + &String::from_utf8(output.stderr).unwrap(),
    )
}

/// The ids and both versions of those that are behind.
fn behind(broker: &Broker) -> Vec<[Value; 3]> {
    let options = ["--behind", "--json", "--catalog", "catalog.json"];
    let (code, printed) = list(broker, &options);
    assert_eq!(code, Some(0), "{printed}");
    let lines = printed.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        [
            "instance_id",
            "maintenance_version",
            "plan_maintenance_version",
        ]
        .map(|field| line[field].clone())
    });
    lines.collect()
}

fn look(broker: &Broker, target: &str) -> support::Response {
    let printed = broker.printed();
    let (_, rest) = printed.split_once(" admin=").unwrap();
    let address: SocketAddr = rest.split_whitespace().next().unwrap().parse().unwrap();
    Request::new(address, "GET", target).send()
}

fn page(broker: &Broker, target: &str) -> String {
    String::from_utf8(look(broker, target).expect(200).body).unwrap()
}

/// Waits until there are so many instances, so many of them behind, and so many kept: they are counted now and then.
#[track_caller]
fn counts(broker: &Broker, wanted: [u64; 3]) {
    let wanted = wanted.map(|number| Some(number.to_string()));
    let names = "{service=\"database\",plan=\"small\"} ";
    let counted = || {
        let text = page(broker, "/metrics");
        ["", "_behind", "_kept"].map(|suffix| {
            let metric = format!("brokerlet_instances{suffix}{names}");
            let line = text.lines().find_map(|line| line.strip_prefix(&*metric));
            line.map(str::to_owned)
        })
    };
    wait_until(|| format!("{:?}", counted()), || counted() == wanted);
}

#[test]
fn the_list_names_those_behind_and_both_versions() {
    let broker = broker();
    assert_eq!(
        behind(&broker),
        [
            [json!("none"), json!(null), json!("2.0.0")],
            [json!("one"), json!("1.0.0"), json!("2.0.0")],
        ]
    );
    let (code, table) = list(&broker, &["--behind", "--catalog", "catalog.json"]);
    assert_eq!(code, Some(0), "{table}");
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    assert!(lines[0].ends_with("  VERSION"), "{table}");
    assert!(lines[1].ends_with("  -, plan 2.0.0"), "{table}");
    assert!(lines[2].ends_with("  1.0.0, plan 2.0.0"), "{table}");
    assert_eq!(lines[3], "2 service instances");
    let (code, told) = list(&broker, &["--behind"]);
    assert_eq!(code, Some(64), "{told}");
    assert!(
        told.contains("--behind compares with a catalog file"),
        "{told}"
    );
    // Others have their columns, and with a catalog both versions too.
    let (_, table) = list(&broker, &[]);
    assert!(!table.contains("VERSION"), "{table}");
    let (_, all) = list(&broker, &["--json", "--catalog", "catalog.json"]);
    let last: Value = serde_json::from_str(all.lines().last().unwrap()).unwrap();
    assert_eq!(
        [
            &last["instance_id"],
            &last["maintenance_version"],
            &last["plan_maintenance_version"]
        ],
        ["two", "2.0.0", "2.0.0"]
    );
}

#[test]
fn who_is_upgraded_or_deleted_is_behind_no_more() {
    let broker = broker();
    counts(&broker, [4, 2, 0]);
    let upgrade = json!({ "service_id": "service-1", "plan_id": "plan-1",
        "maintenance_info": { "version": "2.0.0" }});
    broker.patch(&instance("one"), &upgrade).expect(200);
    counts(&broker, [4, 1, 0]);
    broker.delete(&(instance("none") + IDS)).expect(200);
    assert_eq!(behind(&broker), Vec::<[Value; 3]>::new());
    counts(&broker, [3, 0, 1]);
    assert!(!page(&broker, "/").contains("behind"));
    let (_, kept) = list(&broker, &["--kept"]);
    assert!(kept.contains("1 service instance\n"), "{kept}");
}

#[test]
fn the_page_marks_them_and_can_show_them_alone() {
    let broker = broker();
    let all = page(&broker, "/instances");
    for id in ["none", "one", "two", "failed"] {
        assert!(all.contains(&format!("/instances/{id}\"")), "{all}");
    }
    assert!(all.contains("<br>version 1.0.0, behind 2.0.0"), "{all}");
    assert!(all.contains("<br>no version, behind 2.0.0"), "{all}");
    assert_eq!(all.matches(", behind ").count(), 2, "{all}");
    let some = page(&broker, "/instances?version=behind&state=ready");
    assert!(some.contains("/instances/none\"") && some.contains("/instances/one\""));
    assert!(!some.contains("/instances/two\"") && !some.contains("/instances/failed\""));
    assert!(
        some.contains("<option value=\"behind\" selected>"),
        "{some}"
    );
    let wrong = look(&broker, "/instances?version=2");
    let told = String::from_utf8(wrong.body).unwrap();
    assert_eq!(wrong.status, 400, "{told}");
    assert!(
        told.contains("version: found &quot;2&quot;, wanted behind."),
        "{told}"
    );
    let one = page(&broker, "/instances/one");
    assert!(
        one.contains("<dt>Maintenance</dt><dd>version 1.0.0, behind 2.0.0</dd>"),
        "{one}"
    );
    let two = page(&broker, "/instances/two");
    assert!(
        two.contains("<dt>Maintenance</dt><dd>version 2.0.0</dd>"),
        "{two}"
    );
    // The first page counts them, and leads there.
    let first = page(&broker, "/");
    let link = "/instances?service=database&amp;plan=small&amp;version=behind";
    assert!(
        first.contains(link) && first.contains("2 behind"),
        "{first}"
    );
}
