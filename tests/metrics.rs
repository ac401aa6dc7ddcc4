//! `/metrics` on the admin address.

mod support;

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use support::pages::{chapter, root};
use support::programs::shell;
use support::{
    Broker, IDS, PASSWORD, Request, Response, Setup, USERNAME, bind, binding, instance, needs,
    programs, provision,
};

const ADMIN: &str = "BROKER_ADMIN_ADDRESS";

/// A broker and where its metrics are.
struct Watched {
    broker: Broker,
    admin: SocketAddr,
}

/// A sample's name with its labels, as it is printed.
type Samples = BTreeMap<String, f64>;

impl Watched {
    fn start(setup: Setup) -> Watched {
        let broker = setup.start();
        let printed = broker.printed();
        let (_, rest) = printed.split_once(" admin=").unwrap();
        let admin: SocketAddr = rest.split_whitespace().next().unwrap().parse().unwrap();
        Watched { broker, admin }
    }

    fn ask(&self, target: &str) -> Response {
        let request = Request::new(self.admin, "GET", target);
        request.without("Authorization").send()
    }

    fn text(&self) -> String {
        let answer = self.ask("/metrics").expect(200);
        let media = answer.header("Content-Type");
        assert_eq!(media, Some("text/plain; version=0.0.4; charset=utf-8"));
        String::from_utf8(answer.body).unwrap()
    }

    fn samples(&self) -> Samples {
        let text = self.text();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples: Vec<(String, f64)> = lines
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').unwrap();
                (name.to_owned(), value.parse().unwrap())
            })
            .collect();
        let map: Samples = samples.iter().cloned().collect();
        assert_eq!(map.len(), samples.len(), "a sample stands twice: {text}");
        map
    }

    /// Waits until a sample has this value: an operation is counted a moment after its end can be seen.
    fn wait_for(&self, name: &str, value: f64) {
        for _ in 0..2000 {
            if self.samples().get(name) == Some(&value) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("{name} is not {value}: {:#?}", self.samples());
    }

    #[track_caller]
    fn expect(&self, wanted: &[(&str, f64)]) {
        let samples = self.samples();
        for (name, value) in wanted {
            assert_eq!(samples.get(*name), Some(value), "{name}: {samples:#?}");
        }
    }
}

fn in_memory() -> Setup {
    let setup = Setup::new().env("BROKER_STORE", "memory");
    setup.env(ADMIN, "127.0.0.1:0")
}

/// What a program says to a text on its standard input.
fn told(command: &mut Command, text: &str) -> Output {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = piped.stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

#[track_caller]
fn good(output: &Output) {
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, error) = (said(&output.stdout), said(&output.stderr));
    assert!(output.status.success(), "{out}{error}");
    // Warnings do not fail it.
    assert_eq!((out.as_str(), error.as_str()), ("", ""));
}

/// Uses the tutorial's plan in all ways.
fn use_it(broker: &Broker) {
    let (service, plan) = ("example_service", "plan_one");
    broker.get("/v2/catalog").expect(200);
    broker
        .put(&instance("i-1"), &provision(service, plan))
        .expect(201);
    broker
        .put(&binding("i-1", "b-1"), &bind(service, plan))
        .expect(201);
    broker
        .put(&binding("i-1", "b-2"), &bind(service, plan))
        .expect(201);
    broker.delete(&(binding("i-1", "b-2") + IDS)).expect(200);
    broker.get("/v2/secret-path").expect(404);
    let wrong = broker
        .request("GET", "/v2/catalog")
        .login(USERNAME, "guess");
    wrong.send().expect(401);
    // Not HTTP.
    let mut stream = TcpStream::connect(broker.address).unwrap();
    stream.write_all(b"secret \r\n\r\n").unwrap();
    let mut answer = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 400 "));
}

#[test]
fn what_happens_is_counted() {
    let watched = Watched::start(in_memory());
    use_it(&watched.broker);
    let requests = "brokerlet_http_requests_total";
    let route = "/v2/service_instances/:instance_id/service_bindings/:binding_id";
    let names = "service=\"example_service\",plan=\"plan_one\"";
    watched.expect(&[
        (
            &format!("{requests}{{method=\"GET\",route=\"/v2/catalog\",status=\"200\"}}"),
            1.0,
        ),
        (
            &format!("{requests}{{method=\"PUT\",route=\"{route}\",status=\"201\"}}"),
            2.0,
        ),
        (
            &format!("{requests}{{method=\"GET\",route=\"other\",status=\"404\"}}"),
            1.0,
        ),
        (
            &format!("{requests}{{method=\"GET\",route=\"other\",status=\"401\"}}"),
            1.0,
        ),
        (
            &format!(
                "brokerlet_http_request_duration_seconds_count{{method=\"PUT\",route=\"{route}\"}}"
            ),
            2.0,
        ),
        (
            "brokerlet_gate_refusals_total{listener=\"broker\",reason=\"malformed\"}",
            1.0,
        ),
        (
            &format!(
                "brokerlet_operations_total{{operation=\"bind\",{names},outcome=\"succeeded\"}}"
            ),
            2.0,
        ),
        (
            &format!(
                "brokerlet_adapter_calls_total{{operation=\"bind\",{names},outcome=\"succeeded\"}}"
            ),
            2.0,
        ),
        ("brokerlet_store_commits_total{outcome=\"committed\"}", 4.0),
        ("brokerlet_store_commit_duration_seconds_count", 4.0),
        ("brokerlet_operations_in_progress", 0.0),
        ("brokerlet_oldest_operation_age_seconds", 0.0),
        (&format!("brokerlet_instances{{{names}}}"), 1.0),
        (&format!("brokerlet_bindings{{{names}}}"), 1.0),
        ("brokerlet_gate_max_connections{listener=\"broker\"}", 256.0),
    ]);
}

#[test]
fn nothing_that_a_client_chooses_is_in_it_and_no_secret() {
    let watched = Watched::start(in_memory());
    use_it(&watched.broker);
    let text = watched.text();
    for chosen in ["i-1", "b-1", "secret", "org-1", "space-1", PASSWORD, "alex"] {
        assert!(!text.contains(chosen), "{chosen}: {text}");
    }
}

#[test]
fn promtool_finds_nothing_to_say() {
    if !needs::has(&["promtool"]) {
        return;
    }
    let watched = Watched::start(in_memory());
    let check = |text: &str| told(Command::new("promtool").args(["check", "metrics"]), text);
    good(&check(&watched.text()));
    use_it(&watched.broker);
    good(&check(&watched.text()));
    // It would say something.
    let named = watched.text().replace("_requests_total", "_requests");
    assert!(!check(&named).status.success());
}

#[test]
fn operations_in_progress_are_there_until_their_end() {
    let script = r#"
case $1 in
provision) echo begun >begun; while [ ! -e go ]; do sleep 0.05; done ;;
esac
echo '{}'"#;
    let settings = json!({ "async": ["provision"], "timeout": "1m", "concurrency": 1 });
    let setup = shell(script, settings).env(ADMIN, "127.0.0.1:0");
    let watched = Watched::start(setup);
    let broker = &watched.broker;
    let asked = |id: &str| {
        let target = instance(id) + "?accepts_incomplete=true";
        broker.put(&target, &programs::provision()).expect(202);
    };
    asked("i-1");
    broker.wait_for_file("begun");
    asked("i-2");
    let names = "service=\"database\",plan=\"small\"";
    watched.expect(&[
        ("brokerlet_operations_in_progress", 2.0),
        (&format!("brokerlet_operations_queued{{{names}}}"), 1.0),
        (&format!("brokerlet_instances{{{names}}}"), 2.0),
    ]);
    let age = watched.samples()["brokerlet_oldest_operation_age_seconds"];
    assert!(age > 0.0, "{age}");
    broker.folder.file("go", "");
    for id in ["i-1", "i-2"] {
        let target = instance(id) + "/last_operation";
        while broker.get(&target).json()["state"] == "in progress" {
            thread::yield_now();
        }
    }
    watched.wait_for("brokerlet_operations_in_progress", 0.0);
    watched.expect(&[
        ("brokerlet_operations_in_progress", 0.0),
        (&format!("brokerlet_operations_queued{{{names}}}"), 0.0),
        (
            &format!("brokerlet_operations_total{{operation=\"provision\",{names},outcome=\"succeeded\"}}"),
            2.0,
        ),
    ]);
}

#[test]
fn what_takes_too_long_is_a_timeout() {
    let script = "[ \"$1\" != provision ] || exec sleep 60; echo '{}'";
    let setup = shell(script, json!({ "timeout": "200ms" })).env(ADMIN, "127.0.0.1:0");
    let watched = Watched::start(setup);
    let target = instance("i-1");
    let answer = watched.broker.put(&target, &programs::provision());
    assert!(answer.status >= 500, "{answer:?}");
    let name = "brokerlet_adapter_calls_total{operation=\"provision\",service=\"database\",plan=\"small\",outcome=\"timeout\"}";
    watched.expect(&[(name, 1.0)]);
}

#[test]
fn what_is_tried_again_is_counted_each_time() {
    let script =
        r#"[ "$1" != provision ] || { echo '{"error":"busy","description":"Busy."}'; exit 75; }"#;
    // Half a second to the next attempt; then there is no time for another one.
    let setup = shell(script, json!({ "timeout": "1200ms" })).env(ADMIN, "127.0.0.1:0");
    let watched = Watched::start(setup);
    let target = instance("i-1");
    watched
        .broker
        .put(&target, &programs::provision())
        .expect(503);
    let names = "operation=\"provision\",service=\"database\",plan=\"small\"";
    watched.expect(&[
        (
            &format!("brokerlet_operations_total{{{names},outcome=\"failed\"}}"),
            1.0,
        ),
        (
            &format!("brokerlet_adapter_calls_total{{{names},outcome=\"again\"}}"),
            2.0,
        ),
        (&format!("brokerlet_adapter_retries_total{{{names}}}"), 1.0),
    ]);
}

#[test]
fn only_a_loopback_address_needs_no_credentials() {
    let watched = Watched::start(in_memory());
    watched.ask("/metrics").expect(200);
    watched.ask("/healthz").expect(200);
    watched.ask("/readyz").expect(200);
    watched.ask("/v2/catalog").expect(404);
    let put = Request::new(watched.admin, "PUT", "/metrics").body("x");
    let refused = put.send().expect(405);
    assert_eq!(refused.header("Allow"), Some("GET, HEAD"));
    // What the platform reaches has no metrics.
    watched.broker.get("/metrics").expect(404);

    let setup = in_memory().env(ADMIN, "0.0.0.0:0");
    let watched = Watched::start(setup);
    let admin = SocketAddr::from(([127, 0, 0, 1], watched.admin.port()));
    let ask = |target: &str| Request::new(admin, "GET", target);
    let refused = ask("/metrics").without("Authorization").send().expect(401);
    assert!(refused.header("WWW-Authenticate").is_some());
    ask("/metrics").login(USERNAME, "guess").send().expect(401);
    ask("/metrics").send().expect(200);
    ask("/healthz").without("Authorization").send().expect(200);
}

#[test]
fn no_site_can_lead_its_own_name_here() {
    let watched = Watched::start(in_memory());
    let ask = |host: &str| {
        let mut stream = TcpStream::connect(watched.admin).unwrap();
        let head = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        answer
    };
    for own in [
        "localhost",
        "LOCALHOST:9100",
        "127.0.0.1",
        "10.1.2.3:9100",
        "[::1]",
        "[::1]:9100",
        "",
    ] {
        let answer = ask(own);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{own}: {answer}");
    }
    for other in [
        "example.com",
        "localhost.example.com:9100",
        "127.0.0.1.example.com",
        "1::2.example",
    ] {
        let answer = ask(other);
        assert!(
            answer.starts_with("HTTP/1.1 421 ") || answer.starts_with("HTTP/1.1 400 "),
            "{other}: {answer}"
        );
        assert!(
            answer.contains("Host: ") && !answer.contains("brokerlet_"),
            "{answer}"
        );
    }
}

#[test]
fn without_an_address_there_is_none_and_a_wrong_one_is_told() {
    let broker = Broker::in_memory();
    assert!(!broker.printed().contains("admin="), "{}", broker.printed());
    for wrong in ["9100", "localhost:9100", "127.0.0.1", ":9100"] {
        let output = in_memory().env(ADMIN, wrong).run();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{told}");
        let line = format!("{ADMIN}: found {wrong:?}, wanted an IP address and a port");
        assert!(told.contains(&line), "{told}");
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = in_memory().env(ADMIN, &address).run();
    assert_eq!(output.status.code(), Some(74));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.contains(&format!("cannot listen on {address}")),
        "{told}"
    );
}

#[test]
fn a_scrape_under_load_costs_no_request() {
    const CLIENTS: usize = 6;
    const EACH: usize = 100;
    let watched = Watched::start(in_memory());
    let busy = AtomicBool::new(true);
    let scrapes = thread::scope(|scope| {
        let scraper = scope.spawn(|| {
            let mut scrapes = 0;
            let mut last = 0.0;
            while busy.load(Ordering::SeqCst) {
                let samples = watched.samples();
                let now: f64 = samples
                    .iter()
                    .filter(|(name, _)| name.starts_with("brokerlet_operations_total"))
                    .map(|(_, value)| value)
                    .sum();
                assert!(now >= last, "{now} after {last}");
                (scrapes, last) = (scrapes + 1, now);
            }
            scrapes
        });
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let broker = &watched.broker;
                scope.spawn(move || {
                    for n in 0..EACH {
                        let target = instance(&format!("i-{client}-{n}"));
                        let body = provision("example_service", "plan_one");
                        broker.put(&target, &body).expect(201);
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        busy.store(false, Ordering::SeqCst);
        scraper.join().unwrap()
    });
    assert!(scrapes > 0);
    let total = (CLIENTS * EACH) as f64;
    let route = "/v2/service_instances/:instance_id";
    watched.expect(&[
        (
            &format!(
                "brokerlet_http_requests_total{{method=\"PUT\",route=\"{route}\",status=\"201\"}}"
            ),
            total,
        ),
        (
            "brokerlet_store_commits_total{outcome=\"committed\"}",
            total,
        ),
    ]);
}

#[test]
fn the_numbers_of_a_plan_go_on_after_a_reload() {
    let settings = json!({ "timeout": "10s" });
    let setup = shell("echo '{}'", settings.clone()).env(ADMIN, "127.0.0.1:0");
    let watched = Watched::start(setup);
    let broker = &watched.broker;
    let made = |id: &str, plan: &str| {
        let body = support::provision("service-1", plan);
        broker.put(&instance(id), &body).expect(201);
    };
    made("i-1", "plan-1");
    made("i-2", "plan-2");
    let mut catalog = programs::catalog(settings);
    catalog["services"][0]["name"] = json!("store");
    broker.folder.file("catalog.json", catalog.to_string());
    broker.signal("HUP");
    broker.wait_for_print("event=reloaded");
    made("i-3", "plan-1");
    watched.expect(&[
        (
            "brokerlet_operations_total{operation=\"provision\",service=\"store\",plan=\"small\",outcome=\"succeeded\"}",
            2.0,
        ),
        ("brokerlet_instances{service=\"store\",plan=\"small\"}", 2.0),
        ("brokerlet_instances{service=\"store\",plan=\"large\"}", 1.0),
    ]);
}

/// The names of all metrics that the program has, with what it says of each.
fn metrics() -> BTreeMap<String, String> {
    let text = Watched::start(in_memory()).text();
    let helps = text.lines().filter_map(|line| line.strip_prefix("# HELP "));
    let helps = helps.map(|line| line.split_once(' ').unwrap());
    helps
        .map(|(name, help)| (name.to_owned(), help.to_owned()))
        .collect()
}

#[test]
fn the_table_in_the_pages_is_the_programs() {
    let page = fs::read_to_string(root().join("docs/monitoring.md")).unwrap();
    let table = chapter(&page, "## The metrics");
    let rows = table.lines().filter_map(|row| row.strip_prefix("| `"));
    let told: BTreeSet<String> = rows
        .map(|row| row.split('`').next().unwrap().to_owned())
        .collect();
    let has: BTreeSet<String> = metrics().into_keys().collect();
    assert_eq!(told, has);
}

fn example(name: &str) -> String {
    fs::read_to_string(root().join("examples/monitoring").join(name)).unwrap()
}

/// Every metric of the broker that a text names, without the suffixes of histograms.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let named = words.filter(|word| word.starts_with("brokerlet_") || word.starts_with("process_"));
    let base = |word: &str| {
        let suffixes = ["_seconds_bucket", "_seconds_sum", "_seconds_count"];
        let base = suffixes.iter().find_map(|suffix| word.strip_suffix(suffix));
        base.map_or(word.to_owned(), |base| format!("{base}_seconds"))
    };
    named.map(base).collect()
}

#[test]
fn what_the_examples_show_and_watch_is_there() {
    let has: BTreeSet<String> = metrics().into_keys().collect();
    for file in ["dashboard.json", "rules.yaml"] {
        let named = named(&example(file));
        assert!(named.len() > 5, "{file}");
        let missing: Vec<_> = named.difference(&has).collect();
        assert!(missing.is_empty(), "{file}: {missing:?}");
    }
    let dashboard: Value = serde_json::from_str(&example("dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|p| p["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    for panel in panels {
        assert!(panel["title"].is_string() && panel["gridPos"]["w"].is_u64());
        assert!(!panel["targets"].as_array().unwrap().is_empty(), "{panel}");
    }
}

#[test]
fn promtool_takes_the_rules_and_they_fire_when_they_should() {
    if !needs::has(&["promtool"]) {
        return;
    }
    let folder = root().join("examples/monitoring");
    let run = |arguments: &[&str]| {
        let mut command = Command::new("promtool");
        let output = command.args(arguments).current_dir(&folder).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let checked = run(&["check", "rules", "rules.yaml"]);
    let rules = example("rules.yaml").matches("- alert: ").count();
    assert!(
        checked.contains(&format!("SUCCESS: {rules} rules found")),
        "{checked}"
    );
    run(&["test", "rules", "rules_test.yaml"]);
    let prometheus = folder.join("prometheus.yaml");
    run(&["check", "config", "--syntax-only", path(&prometheus)]);
    // Every rule is tried.
    let tests = example("rules_test.yaml");
    for line in example("rules.yaml").lines() {
        if let Some((_, name)) = line.split_once("- alert: ") {
            assert!(tests.contains(&format!("alertname: {name}\n")), "{name}");
        }
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
