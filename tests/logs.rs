//! The log: one line a request, no secrets in it, and no power over the broker.

mod support;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::Child;
use support::connection::Connection;
use support::{IDS, Request, Setup, USERNAME, binding, instance, merged, programs};

/// One worker: it writes the line about a request before it takes the next, so that their order is known.
fn setup() -> Setup {
    Setup::new()
        .env("BROKER_STORE", "memory")
        .env("BROKER_WORKERS", "1")
}

fn tutorial() -> Value {
    support::provision("example_service", "plan_one")
}

/// The fields of a line of logfmt; the test fails where it is none.
fn logfmt(line: &str) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut rest = line;
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').expect(line);
        assert!(!name.is_empty() && !name.contains([' ', '"']), "{line}");
        let (value, after) = if after.starts_with('"') {
            let mut values = serde_json::Deserializer::from_str(after).into_iter::<String>();
            let value = values.next().unwrap().expect(line);
            (value, &after[values.byte_offset()..])
        } else {
            let end = after.find(' ').unwrap_or(after.len());
            (after[..end].to_owned(), &after[end..])
        };
        let value = match value.parse::<u64>() {
            // An id of digits is not told from a number here; none of the tests has one.
            Ok(number) => json!(number),
            Err(_) => json!(value),
        };
        assert!(fields.insert(name.into(), value).is_none(), "{line}");
        rest = match after.strip_prefix(' ') {
            Some(rest) => rest,
            None => {
                assert_eq!(after, "", "{line}");
                ""
            }
        };
    }
    fields
}

/// The fields of a line in the form that BROKER_LOG names.
fn fields(form: &str, line: &str) -> Map<String, Value> {
    match form {
        "json" => serde_json::from_str(line).expect(line),
        _ => logfmt(line),
    }
}

/// The lines about requests, without what differs from run to run: those fields are checked here.
fn requests(form: &str, printed: &str) -> Vec<Value> {
    let mut requests = Vec::new();
    for line in printed.lines() {
        let mut fields = fields(form, line);
        if fields["event"] != "request" {
            continue;
        }
        let time = fields.remove("time").unwrap();
        let time = time.as_str().unwrap();
        assert!(
            time.ends_with('Z') && humantime::parse_rfc3339(time).is_ok(),
            "{line}"
        );
        assert!(fields.remove("duration_us").unwrap().is_u64(), "{line}");
        fields.remove("event");
        requests.push(Value::Object(fields));
    }
    requests
}

#[test]
fn every_request_is_one_line_in_either_form() {
    let instance_route = "/v2/service_instances/:instance_id";
    let binding_route = "/v2/service_instances/:instance_id/service_bindings/:binding_id";
    for form in ["logfmt", "json"] {
        let broker = setup().env("BROKER_LOG", form).start();
        let catalog = broker.request("GET", "/v2/catalog");
        catalog
            .header("X-Broker-API-Request-Identity", "identity-1")
            .send()
            .expect(200);
        let put = broker.request("PUT", &instance("i")).json(&tutorial());
        put.header("X-Broker-API-Request-Identity", "identity-2")
            .header("X-Vcap-Request-Id", "vcap-2")
            .user("user-2")
            .send()
            .expect(201);
        let bind = support::bind("example_service", "plan_one");
        broker.put(&binding("i", "b"), &bind).expect(201);
        broker.put(&binding("i", "b"), &bind).expect(200);
        let other = merged(&bind, json!({ "parameters": { "a": 1 } }));
        broker.put(&binding("i", "b"), &other).expect(409);
        let requires = support::bind("example_service", "nosuch");
        broker.put(&binding("i", "c"), &requires).expect(400);
        let last_operation = format!("{}/last_operation?plan_id=plan_one", instance("i"));
        broker.get(&last_operation).expect(200);
        let delete = format!("{}{IDS}", instance("i d"));
        broker.delete(&delete.replace(' ', "%20")).expect(410);
        broker.get("/nowhere").expect(404);
        let stranger = broker.request("GET", &instance("i"));
        stranger.login("eve", "guess").send().expect(401);
        let (_, printed) = broker.stop();

        let line = |level: &str, method: &str, route: &str, status: u16, outcome: &str| json!({ "level": level, "method": method, "route": route, "status": status, "outcome": outcome, "client": "127.0.0.1" });
        let info = |method: &str, route: &str, status: u16, outcome: &str| {
            line("info", method, route, status, outcome)
        };
        let of = |fields: Value, line: Value| merged(&line, fields);
        let named = |fields: Value| {
            merged(
                &fields,
                json!({ "service": "example_service", "plan": "plan_one" }),
            )
        };
        let bound = || named(json!({ "instance_id": "i", "binding_id": "b" }));
        let expected = [
            of(
                json!({ "request_id": "identity-1" }),
                info("GET", "/v2/catalog", 200, "served"),
            ),
            of(
                named(json!({ "request_id": "vcap-2", "user": "user-2", "instance_id": "i" })),
                info("PUT", instance_route, 201, "created"),
            ),
            of(bound(), info("PUT", binding_route, 201, "created")),
            of(bound(), info("PUT", binding_route, 200, "exists")),
            of(
                merged(
                    &bound(),
                    json!({ "reason": "Service binding \"b\" exists already, with another parameters." }),
                ),
                info("PUT", binding_route, 409, "conflict"),
            ),
            of(
                named(json!({
                    "instance_id": "i", "binding_id": "c",
                    "reason": "plan_id: found \"nosuch\", but the service instance has \"plan_one\".",
                })),
                info("PUT", binding_route, 400, "bad_request"),
            ),
            of(
                named(json!({ "instance_id": "i" })),
                info(
                    "GET",
                    &format!("{instance_route}/last_operation"),
                    200,
                    "polled",
                ),
            ),
            of(
                json!({ "instance_id": "i d", "reason": "Service instance \"i d\" does not exist." }),
                info("DELETE", instance_route, 410, "gone"),
            ),
            of(
                json!({ "path": "/nowhere", "reason": "There is nothing at this path." }),
                info("GET", "-", 404, "not_found"),
            ),
            // Who is not known is told nothing about.
            of(
                json!({
                    "reason": "The user name or password for this service broker is missing or wrong.",
                }),
                info("GET", "-", 401, "unauthorized"),
            ),
        ];
        let requests = requests(form, &printed);
        assert_eq!(requests, expected, "{form}\n{printed}");
    }
}

#[test]
fn a_failure_is_a_line_of_its_own_level_with_the_outcome_of_the_specification() {
    let catalog = json!({ "services": [{
        "id": "s", "name": "s", "description": "s", "bindable": true,
        "plans": [{
            "id": "p", "name": "p", "description": "p",
            "adapter": { "kind": "shared", "requires_app": true }
        }]
    }]});
    let broker = setup().catalog(&catalog).start();
    broker
        .put(&instance("i"), &support::provision("s", "p"))
        .expect(201);
    let key = json!({ "service_id": "s", "plan_id": "p" });
    broker
        .put(&binding("i", "b"), &key)
        .expect_error(422, "RequiresApp");
    let (_, printed) = broker.stop();
    let requests = requests("logfmt", &printed);
    assert_eq!(requests[1]["outcome"], "RequiresApp");
    assert_eq!(requests[1]["status"], 422);
}

#[test]
fn the_end_of_an_asynchronous_operation_is_a_line_of_its_own() {
    let script = r#"case $1 in
bind) echo '{"error":"full","description":"There is no room left."}'; exit 1 ;;
*) echo '{}' ;;
esac"#;
    let broker = programs::shell(script, json!({ "async": true }))
        .env("BROKER_LOG", "json")
        .start();
    let put = |target: String, body: Value, request_id: &str| {
        let target = format!("{target}?accepts_incomplete=true");
        let request = broker.request("PUT", &target).json(&body);
        let answer = request.header("X-Vcap-Request-Id", request_id).send();
        answer.expect(202).json()["operation"].clone()
    };
    let provision = put(instance("i"), programs::provision(), "vcap-1");
    broker.wait_for_print(r#""operation":"provision""#);
    let bind = put(binding("i", "b"), programs::bind(), "vcap-2");
    broker.wait_for_print(r#""operation":"bind""#);
    let (_, printed) = broker.stop();
    let mut ends = printed.lines().map(|line| fields("json", line));
    let mut next = || {
        let mut end = ends.find(|line| line["event"] == "operation").unwrap();
        end.remove("time");
        Value::Object(end)
    };
    let wanted = json!({
        "level": "info", "event": "operation", "operation": "provision",
        "operation_id": provision, "instance_id": "i", "state": "succeeded", "attempt": 1,
        "request_id": "vcap-1", "service": "database", "plan": "small",
    });
    assert_eq!(next(), wanted);
    let wanted = json!({
        "level": "error", "event": "operation", "operation": "bind",
        "operation_id": bind, "instance_id": "i", "binding_id": "b", "state": "failed",
        "attempt": 1, "request_id": "vcap-2", "service": "database", "plan": "small", "error": "There is no room left.",
        "detail": "the program ended with exit status: 1; error \"full\"",
    });
    assert_eq!(next(), wanted);
}

/// Whoever writes the request must not write the log.
#[test]
fn nothing_in_a_request_makes_a_line_of_its_own() {
    for form in ["logfmt", "json"] {
        let broker = setup().env("BROKER_LOG", form).start();
        let forged = "x\" level=error event=forged\u{2028}y=z\\";
        let id = "a%22%20level=error%20event=forged%5C%E2%80%A8=";
        broker
            .request("PUT", &instance(id))
            .json(&tutorial())
            .header("X-Vcap-Request-Id", "v\" event=forged \\\" x=\"y")
            .user(forged)
            .send()
            .expect(201);
        broker
            .request("GET", &instance("a%0Aevent=forged"))
            .user("line\nbreak\r\u{1b}[31m \u{7f}\u{9b}31m\u{85}\u{2029}")
            .send()
            .expect(400);
        broker.request("FORGED", "/v2/catalog").send();
        let (_, printed) = broker.stop();
        let requests = requests(form, &printed);
        assert_eq!(requests[0]["user"], forged, "{form}");
        assert_eq!(
            requests[0]["instance_id"],
            "a\" level=error event=forged\\\u{2028}="
        );
        assert_eq!(requests[0]["request_id"], "v\" event=forged \\\" x=\"y");
        assert_eq!(
            requests[1]["user"],
            "line\nbreak\r\u{1b}[31m \u{7f}\u{9b}31m\u{85}\u{2029}"
        );
        // Control characters are escaped: a terminal shows them, and obeys none.
        let obeyed = |c: char| c.is_control() && c != '\n' || matches!(c, '\u{2028}' | '\u{2029}');
        assert!(!printed.contains(obeyed), "{printed:?}");
        let lines = printed.lines().map(|line| fields(form, line));
        assert_eq!(lines.filter(|line| line["event"] == "forged").count(), 0);
    }
}

/// Everything secret that a broker can meet, in one long scenario, each of it recognisable. Needs the settings of the
/// adapter `shared`.
#[test]
fn no_secret_is_ever_printed() {
    const MARK: &str = "s3cr3t";
    let secret = |what: &str| format!("{MARK}-{what}");
    let catalog = json!({ "services": [{
        "id": "db",
        "name": "db",
        "description": "Databases",
        "bindable": true,
        "bindings_retrievable": true,
        "instances_retrievable": true,
        "plan_updateable": true,
        "requires": ["syslog_drain"],
        "dashboard_client": {
            "id": "client", "secret": secret("client"), "redirect_uri": "https://db.example.com"
        },
        "plans": [{
            "id": "small",
            "name": "small",
            "description": "Small",
            "binding_rotatable": true,
            "adapter": {
                "kind": "shared",
                "instance": {
                    "dashboard_url": format!("https://db/?token={MARK}-dashboard&h=${{parameters.host}}"),
                    "metadata": { "labels": { "l": secret("label") } }
                },
                "binding": {
                    "credentials": {
                        "literal": secret("literal"),
                        "environment": "${env:DB_PASSWORD}",
                        "parameter": "${parameters.password}",
                        "random": "${random:40}"
                    },
                    "syslog_drain_url": format!("syslog://u:{MARK}-drain@logs"),
                    "lifetime": "1h"
                }
            }
        }]
    }]});
    for form in ["logfmt", "json"] {
        let broker = setup()
            .env("BROKER_LOG", form)
            .env("BROKER_PASSWORD", secret("first"))
            .env("BROKER_PASSWORD_2", secret("second"))
            .env("BROKER_PASS", secret("misspelt"))
            .env("BROKER_TOKEN", secret("token"))
            .env("BROKER_DATABASE", secret("unknown"))
            .env("DB_PASSWORD", secret("environment"))
            .env("VCAP_APPLICATION", secret("application"))
            .env("VCAP_SERVICES", secret("services"))
            .catalog(&catalog)
            .start();
        let mut statuses = Vec::new();
        let mut drawn = Vec::new();
        let mut send = |request: Request, password: &str| {
            let answer = request.login(USERNAME, &secret(password)).send();
            statuses.push(answer.status);
            if let Ok(body) = serde_json::from_slice::<Value>(&answer.body)
                && let Some(random) = body["credentials"]["random"].as_str()
            {
                drawn.push(random.to_owned());
            }
            String::from_utf8(answer.body).unwrap()
        };
        let parameters = json!({ "host": "h", "password": secret("parameter") });
        let with = |body: Value, parameters: &Value| {
            merged(
                &body,
                json!({ "parameters": parameters, "extra": secret("extra") }),
            )
        };
        let context = json!({ "platform": "cloudfoundry", "instance_name": secret("name") });
        let provision = merged(
            &with(support::provision("db", "small"), &parameters),
            json!({ "context": context }),
        );
        let bind = with(support::bind("db", "small"), &parameters);
        let rotation = json!({ "predecessor_binding_id": "b" });
        let update = json!({ "service_id": "db", "parameters": { "password": secret("changed") } });
        let wrong =
            json!({ "parameters": secret("wrong type"), "plan_id": "small", "service_id": "db" });
        let other = with(
            support::bind("db", "small"),
            &json!({ "password": secret("other") }),
        );
        let identity = BASE64_STANDARD.encode(
            json!({ "user_id": "u-1", "email": secret("mail"), "token": secret("token") })
                .to_string(),
        );
        let (i, b, b2) = (instance("i"), binding("i", "b"), binding("i", "b2"));
        let query = "?service_id=db&plan_id=small";
        let request = |method: &str, target: &str| {
            broker
                .request(method, target)
                .header(
                    "X-Broker-API-Originating-Identity",
                    format!("cloudfoundry {identity}"),
                )
                .header("Cookie", secret("cookie"))
                .header("X-Api-Info-Location", secret("location"))
        };

        assert!(send(request("GET", "/v2/catalog"), "second").contains("s3cr3t-client"));
        send(request("GET", "/v2/catalog"), "guess");
        send(request("PUT", &i).json(&provision), "first");
        send(request("PUT", &i).json(&provision), "first");
        send(request("PUT", &i).json(&wrong), "first");
        send(request("PATCH", &i).json(&update), "first");
        let bound = send(request("PUT", &b).json(&bind), "first");
        for what in ["literal", "environment", "parameter", "drain"] {
            assert!(bound.contains(&secret(what)), "{what}: {bound}");
        }
        send(request("PUT", &b).json(&bind), "second");
        send(request("PUT", &b).json(&other), "first");
        send(request("PUT", &b).json(&wrong), "first");
        send(request("PUT", &b2).json(&rotation), "first");
        send(request("GET", &b2), "first");
        send(request("GET", &i), "first");
        send(
            request("PUT", &b).body(format!("{{\"a\": {MARK}-json")),
            "first",
        );
        send(request("PUT", &b).body(format!("\"{MARK}-text\"")), "first");
        send(request("GET", &format!("/v2/path?{MARK}-query")), "first");
        send(
            request("DELETE", &format!("{b}{query}&token={MARK}-query")),
            "first",
        );
        send(
            request(
                "DELETE",
                &format!("{i}?service_id=other&plan_id=x&token={MARK}-query"),
            ),
            "first",
        );
        let bearer =
            request("GET", "/v2/catalog").header("Authorization", format!("Bearer {MARK}-bearer"));
        assert_eq!(bearer.send().status, 401);
        // Neither version nor path nor ids are secrets: the log has them, as its reasons do.
        let garbage = request("GET", "/v2/catalog").header("X-Broker-API-Version", "two");
        send(garbage, "first");
        let garbage = request("GET", "/v2/catalog")
            .header("X-Broker-API-Originating-Identity", secret("identity"));
        send(garbage, "first");
        send(request("DELETE", &format!("{i}{query}")), "first");
        // Otherwise the scenario is not what it seems.
        let expected = [
            200, 401, 201, 200, 400, 200, 201, 200, 409, 400, 201, 200, 200, 400, 400, 404, 200,
            400, 400, 400, 200,
        ];
        assert_eq!(statuses, expected);
        assert_eq!(drawn.len(), 4, "{drawn:?}");

        let (_, printed) = broker.stop();
        let requests = requests(form, &printed);
        assert_eq!(requests.len(), statuses.len() + 1, "{printed}");
        assert_eq!(requests[2]["user"], "u-1");
        let lines = |what: &str| printed.lines().filter(|line| line.contains(what)).count();
        assert_eq!(lines(MARK), 0, "{printed}");
        // Nor in other clothes: as Base64 in a header, or percent-encoded.
        let tokens = ["first", "second", "guess"]
            .map(|what| BASE64_STANDARD.encode(format!("{USERNAME}:{}", secret(what))));
        for hidden in tokens.iter().chain(&drawn).chain([&identity]) {
            assert_eq!(lines(hidden), 0, "{hidden}: {printed}");
        }
        assert_eq!(lines("bindings_removed"), 1, "{printed}");
    }
}

/// Refused starts print messages of their own.
#[test]
fn no_secret_is_printed_by_a_start_that_is_refused() {
    let secret = "s3cr3t-";
    let catalog = json!({ "services": [{
        "id": "db", "name": "db", "description": 5, "bindable": true,
        "dashboard_client": { "id": 1, "secret": format!("{secret}client") },
        "plans": [{
            "id": "p", "name": "p", "description": "${env:SECRET}",
            "adapter": {
                "kind": "shared",
                "passwords": format!("{secret}key"),
                "binding": {
                    "credentials": { "a": format!("{secret}literal ${{nosuch}}"), "b": "${env:NOSUCH}" },
                    "lifetime": "${env:SECRET}",
                    "volume_mounts": [format!("{secret}mount")]
                }
            }
        }]
    }]});
    let setup = || {
        Setup::new()
            .env("SECRET", format!("{secret}environment"))
            .env("BROKER_PASSWORD", format!("{secret}password"))
            .env("BROKER_PASSWORD_2", format!("{secret}second\n"))
            .env("BROKER_PASSWORD_FILE", "nowhere")
            .env("BROKER_PASSWORT", format!("{secret}misspelt"))
            .env("BROKER_TOKEN", format!("{secret}token with spaces"))
    };
    let outputs = [
        setup().run(),
        Setup::new()
            .env("SECRET", format!("{secret}environment"))
            .catalog(&catalog)
            .run(),
    ];
    for output in outputs {
        assert_eq!(output.status.code(), Some(78));
        let printed = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8(printed).unwrap();
        assert!(!printed.is_empty());
        assert!(!printed.contains(secret), "{printed}");
    }
}

/// A broker whose stdout is in the hands of the test; it has started.
struct Piped {
    child: Child,
    stdout: Option<BufReader<std::process::ChildStdout>>,
    address: SocketAddr,
    // The state and the catalog are in it.
    _folder: std::sync::Arc<support::Folder>,
}

impl Piped {
    fn start() -> Piped {
        let tutorial = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/tutorial.json");
        let mut setup = setup().env("BROKER_CATALOG", tutorial);
        let mut child = setup.command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let started = logfmt(line.trim_end());
        Piped {
            child,
            stdout: Some(stdout),
            address: started["listen"].as_str().unwrap().parse().unwrap(),
            _folder: setup.folder,
        }
    }

    /// So many requests, whose lines are long.
    fn serve(&self, count: usize) {
        let mut connection = Connection::open(self.address);
        let request = Request::new(self.address, "GET", "/v2/catalog")
            .header("X-Vcap-Request-Id", "r".repeat(1000));
        for _ in 0..count {
            connection.send(&request).expect(200);
        }
    }

    fn stop(&mut self) -> Option<i32> {
        support::needs::kill("TERM", &self.child.id().to_string());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_log_that_nobody_listens_to_any_more_stops_nothing() {
    let mut broker = Piped::start();
    drop(broker.stdout.take());
    drop(broker.child.stderr.take());
    broker.serve(500);
    assert_eq!(broker.stop(), Some(0));
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let mut broker = Piped::start();
    // The pipe holds 64 KiB, and the broker keeps 256 KiB.
    broker.serve(1000);
    assert_eq!(broker.stop(), Some(0));
}

#[test]
fn a_log_that_is_read_again_tells_how_much_was_lost() {
    const BEFORE: usize = 1000;
    let mut broker = Piped::start();
    broker.serve(BEFORE);
    let mut stdout = broker.stdout.take().unwrap();
    let mut lines = Vec::new();
    let lost = loop {
        let mut line = String::new();
        assert!(
            stdout.read_line(&mut line).unwrap() > 0,
            "the log has ended"
        );
        let fields = logfmt(line.trim_end());
        if fields["event"] == "log_lines_dropped" {
            break fields["count"].as_u64().unwrap() as usize;
        }
        lines.push(fields);
    };
    let reader = std::thread::spawn(move || {
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        rest
    });
    broker.serve(1);
    assert_eq!(broker.stop(), Some(0));
    let rest = reader.join().unwrap();
    lines.extend(rest.lines().map(logfmt));
    let requests = lines.iter().filter(|line| line["event"] == "request");
    // Every line is whole, and each request was either told or counted.
    assert_eq!(requests.count() + lost, BEFORE + 1);
    assert!(lost > 0);
    assert_eq!(lines.last().unwrap()["event"], "stopped");
}
