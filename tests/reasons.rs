//! What the log says of requests and attempts that did not succeed: why, about which plan, and no value of a parameter.

mod support;

use serde_json::{Value, json};
use support::*;

/// The lines of this event, each as an object.
fn lines(printed: &str, event: &str) -> Vec<Value> {
    printed
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect(line))
        .filter(|line| line["event"] == event)
        .collect()
}

/// The one line about a request of this status.
#[track_caller]
fn refusal(printed: &str, status: u16) -> Value {
    let mut found = lines(printed, "request");
    found.retain(|line| line["status"] == status);
    assert_eq!(found.len(), 1, "{status}\n{printed}");
    found.remove(0)
}

/// spec: Service Broker Errors: what the client reads in `description` is what the operator reads in `reason`.
#[test]
fn every_refusal_has_the_reason_that_the_client_got() {
    let broker = Setup::new()
        .env("BROKER_STORE", "memory")
        .env("BROKER_LOG", "json")
        .start();
    let tutorial = provision("example_service", "plan_one");
    broker.put(&instance("i"), &tutorial).expect(201);
    let mut told = Vec::new();
    let mut refused = |request: Request| {
        let answer = request.send();
        assert!(answer.status >= 400, "{}", answer.status);
        told.push((answer.status, answer.json()["description"].clone()));
    };
    let request = |method, target: &str| broker.request(method, target);
    refused(request("GET", "/v2/catalog").login("eve", "guess"));
    refused(request("GET", "/v2/catalog").header("X-Broker-API-Version", "1.0"));
    refused(request("GET", "/v2/catalog").header("X-Broker-API-Version", "two"));
    refused(request("GET", "/v2/catalog").header("X-Broker-API-Originating-Identity", "x"));
    refused(request("GET", "/v2/nowhere"));
    refused(request("POST", "/v2/catalog"));
    refused(request("PUT", "/healthz"));
    refused(request("PUT", &instance("i")).json(&merged(&tutorial, json!({ "space_guid": "x" }))));
    refused(request("PUT", &instance("i")).body("{"));
    refused(request("PATCH", &instance("j")).json(&json!({ "service_id": "s" })));
    refused(request("DELETE", &instance("i")));
    refused(request("DELETE", &(instance("j") + IDS)));
    refused(request(
        "GET",
        &(instance("i") + "/last_operation?operation=x"),
    ));
    let (_, printed) = broker.stop();
    let found: Vec<_> = lines(&printed, "request")
        .into_iter()
        .filter(|line| line["status"].as_u64() >= Some(400))
        .map(|line| {
            (
                line["status"].as_u64().unwrap() as u16,
                line["reason"].clone(),
            )
        })
        .collect();
    assert_eq!(found, told);
}

#[test]
fn a_path_where_there_is_nothing_says_what_is_wanted_and_is_in_the_log() {
    let broker = Setup::new()
        .env("BROKER_STORE", "memory")
        .env("BROKER_LOG", "json")
        .start();
    let of_instance = "/v2/service_instances/:instance_id";
    for (path, told) in [
        (
            "/v2/catalog/",
            "it ends with a slash; wanted /v2/catalog.".to_owned(),
        ),
        (
            "//v2/catalog//",
            "it ends with a slash; wanted /v2/catalog.".to_owned(),
        ),
        (
            "/catalog",
            "it does not begin with /v2; wanted /v2/catalog.".to_owned(),
        ),
        (
            "/catalog/",
            "it does not begin with /v2, and ends with a slash; wanted /v2/catalog.".to_owned(),
        ),
        (
            "/v2/service_instances/i/",
            format!("it ends with a slash; wanted {of_instance}."),
        ),
        (
            "/service_instances/i/last_operation",
            format!("it does not begin with /v2; wanted {of_instance}/last_operation."),
        ),
        (
            "/v2/service_instances/i/service_bindings/b/",
            format!("it ends with a slash; wanted {of_instance}/service_bindings/:binding_id."),
        ),
        ("/v2", String::new()),
        ("/", String::new()),
        ("/v2/v2/catalog", String::new()),
    ] {
        let answer = broker.get(path).expect(404).json();
        let wanted = match told.as_str() {
            "" => "There is nothing at this path.".to_owned(),
            told => format!("There is nothing at this path: {told}"),
        };
        assert_eq!(answer["description"], wanted, "{path}");
    }
    broker.get("//v2/catalog").expect(200);
    let long = format!("/{}", "x".repeat(2000));
    broker.get(&format!("{long}?token=s3cr3t")).expect(404);
    broker.get("/a%0Ab%1B\"?s3cr3t").expect(404);
    let (_, printed) = broker.stop();
    assert!(!printed.contains("s3cr3t"), "{printed}");
    let mut found = lines(&printed, "request");
    found.retain(|line| line["status"] == 404);
    let paths: Vec<_> = found
        .iter()
        .map(|line| line["path"].as_str().unwrap())
        .collect();
    // An answer is sent before its line is written, so the next line may be written first.
    for path in [
        "/v2/catalog/",
        "//v2/catalog//",
        "/catalog",
        &long[..256],
        "/a%0Ab%1B\"",
    ] {
        assert!(paths.contains(&path), "{path:?} is not in {paths:?}");
    }
}

/// What a program says of its failure is for the user, who knows the value.
#[test]
fn a_value_of_a_parameter_reaches_the_user_and_not_the_log() {
    let script = r#"case $1 in
bind) : ;;
deprovision|unbind) echo '{}'; exit ;;
esac
echo '{"error":"invalid","description":"size 4711: the password hunter2 is too short."}'; exit 1"#;
    for settings in [json!({}), json!({ "async": ["provision"] })] {
        let broker = programs::shell(script, settings.clone())
            .env("BROKER_LOG", "json")
            .start();
        let parameters = json!({ "size": 4711, "more": { "password": "hunter2" } });
        let body = merged(&programs::provision(), json!({ "parameters": parameters }));
        let target = instance("i") + "?accepts_incomplete=true";
        let answer = broker.put(&target, &body);
        let words = "size 4711: the password hunter2 is too short.";
        let hidden = "size ***: the password *** is too short.";
        if settings == json!({}) {
            answer.expect_naming(400, words);
            let (_, printed) = broker.stop();
            let line = refusal(&printed, 400);
            assert_eq!(line["reason"], hidden);
            assert_eq!(
                (&line["service"], &line["plan"]),
                (&json!("database"), &json!("small"))
            );
            assert!(!printed.contains("hunter2"), "{printed}");
        } else {
            answer.expect(202);
            broker.wait_for_print(r#""event":"operation""#);
            let poll = broker
                .get(&(instance("i") + "/last_operation"))
                .expect(200)
                .json();
            assert_eq!(poll["description"], words);
            let (_, printed) = broker.stop();
            let ends = lines(&printed, "operation");
            assert_eq!(ends[0]["error"], hidden);
            assert!(!printed.contains("hunter2"), "{printed}");
        }
    }
}

#[cfg(feature = "schemas")]
#[test]
fn a_value_that_fits_no_schema_reaches_the_user_and_not_the_log() {
    let input = json!({ "parameters": {
        "$schema": "http://json-schema.org/draft-06/schema#",
        "type": "object",
        "properties": {
            "size": { "type": "integer", "maximum": 10 },
            "colour": { "enum": ["red", "green"] }
        },
        "additionalProperties": false
    }});
    let catalog = json!({ "services": [{
        "id": "s", "name": "mail", "description": "s", "bindable": true,
        "plans": [{
            "id": "p", "name": "small", "description": "p",
            "schemas": { "service_instance": { "create": input } },
        }]
    }]});
    let broker = Setup::new()
        .env("BROKER_STORE", "memory")
        .env("BROKER_LOG", "json")
        .catalog(&catalog)
        .start();
    let parameters = json!({ "size": 4711, "colour": "hunter2", "other": "hunter3" });
    let body = merged(&provision("s", "p"), json!({ "parameters": parameters }));
    let answer = broker.put(&instance("i"), &body).expect(400).json();
    let told = answer["description"].as_str().unwrap();
    for words in ["4711 is greater", "\"hunter2\" is not one of"] {
        assert!(told.contains(words), "{told}");
    }
    let (_, printed) = broker.stop();
    let line = refusal(&printed, 400);
    let reason = line["reason"].as_str().unwrap();
    for words in [
        "parameters.size: a number is greater than the maximum of 10",
        "parameters.colour: a string is not one of \"red\", \"green\"",
        "parameters.other: is not known",
    ] {
        assert!(reason.contains(words), "{reason}");
    }
    assert_eq!(
        (&line["service"], &line["plan"]),
        (&json!("mail"), &json!("small"))
    );
    assert!(
        !printed.contains("4711") && !printed.contains("hunter"),
        "{printed}"
    );
}

#[test]
fn each_attempt_that_is_tried_again_is_a_line() {
    let script = r#"case $1 in
provision) [ -e go ] || { echo '{"error":"busy","description":"All servers are busy."}'; echo oops >&2; exit 75; } ;;
esac
echo '{}'"#;
    let broker = programs::shell(script, json!({ "async": ["provision"] }))
        .env("BROKER_LOG", "json")
        .start();
    let target = instance("i") + "?accepts_incomplete=true";
    let request = broker.request("PUT", &target).json(&programs::provision());
    let accepted = request
        .header("X-Vcap-Request-Id", "vcap-1")
        .send()
        .expect(202);
    broker.wait_for_print(r#""attempt":2"#);
    broker.folder.file("go", "");
    broker.wait_for_print(r#""event":"operation","#);
    let (_, printed) = broker.stop();
    let retried = lines(&printed, "operation_retried");
    assert!(retried.len() >= 2, "{printed}");
    for (n, line) in retried.iter().enumerate() {
        let next = line["next_attempt"].as_str().unwrap();
        let time = line["time"].as_str().unwrap();
        let [next, time] = [next, time].map(|time| humantime::parse_rfc3339(time).unwrap());
        assert!(next > time, "{line}");
        let detail = line["detail"].as_str().unwrap();
        assert!(detail.contains("75"), "{line}");
        let mut line = line.clone();
        for field in ["time", "next_attempt", "detail"] {
            line.as_object_mut().unwrap().remove(field);
        }
        let wanted = json!({
            "level": "warn", "event": "operation_retried", "operation": "provision",
            "operation_id": accepted.json()["operation"], "instance_id": "i", "service": "database",
            "plan": "small", "attempt": n + 1, "request_id": "vcap-1", "reason": "All servers are busy.",
        });
        assert_eq!(line, wanted);
    }
    let end = &lines(&printed, "operation")[0];
    assert_eq!(
        (&end["state"], &end["attempt"]),
        (&json!("succeeded"), &json!(retried.len() + 1))
    );
}

#[test]
fn whatever_is_asked_about_an_instance_names_its_plan() {
    let broker = programs::shell("echo '{}'", json!({}))
        .env("BROKER_LOG", "json")
        .start();
    let large = json!({ "service_id": "service-1", "plan_id": "plan-2" });
    let empty = json!({ "service_id": "service-1" });
    broker
        .put(&instance("i"), &programs::provision())
        .expect(201);
    broker
        .put(&instance("i"), &programs::provision())
        .expect(200);
    broker.get(&instance("i")).expect(200);
    broker.get(&(instance("i") + "/last_operation")).expect(200);
    broker.patch(&instance("i"), &empty).expect(200);
    broker
        .put(&binding("i", "b"), &programs::bind())
        .expect(201);
    broker
        .put(&binding("i", "b"), &programs::bind())
        .expect(200);
    broker.get(&binding("i", "b")).expect(200);
    broker
        .get(&(binding("i", "b") + "/last_operation"))
        .expect(200);
    broker
        .delete(&(binding("i", "c") + programs::IDS))
        .expect(410);
    broker
        .delete(&(binding("i", "b") + programs::IDS))
        .expect(200);
    broker.patch(&instance("i"), &large).expect(200);
    broker.patch(&instance("i"), &large).expect(200);
    let ids = "?service_id=service-1&plan_id=plan-2";
    broker.delete(&(instance("i") + ids)).expect(200);
    broker.delete(&(instance("i") + ids)).expect(410);
    let (_, printed) = broker.stop();
    let mut plans = lines(&printed, "request");
    assert_eq!(plans.len(), 15, "{printed}");
    // Of what is no more, nothing is known.
    assert_eq!(plans.pop().unwrap().get("plan"), None);
    for (n, line) in plans.iter().enumerate() {
        let plan = if n < 11 { "small" } else { "large" };
        assert_eq!(
            (&line["service"], &line["plan"]),
            (&json!("database"), &json!(plan)),
            "{line}"
        );
    }
}

#[test]
fn a_healthy_health_check_is_no_line() {
    let broker = Setup::new()
        .env("BROKER_STORE", "memory")
        .env("BROKER_LOG", "json")
        .start();
    for _ in 0..3 {
        broker.get("/healthz").expect(200);
    }
    broker.request("HEAD", "/healthz").send().expect(200);
    broker.request("POST", "/healthz").send().expect(405);
    broker.get("/v2/catalog").expect(200);
    let (_, printed) = broker.stop();
    let routes: Vec<_> = lines(&printed, "request")
        .iter()
        .map(|line| (line["route"].clone(), line["status"].clone()))
        .collect();
    let wanted = [("/healthz", 405), ("/v2/catalog", 200)];
    assert_eq!(
        routes,
        wanted.map(|(route, status)| (json!(route), json!(status)))
    );
}
