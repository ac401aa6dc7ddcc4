//! Numbers are kept as they were written, wherever JSON passes through: none is rounded.

mod support;

use serde_json::{Value, json};
use support::*;

/// What a double cannot hold, or would write in another way.
const NUMBERS: [&str; 7] = [
    "12345678901234567890123",
    "18446744073709551617",
    "-9223372036854775809",
    "0.1000",
    "1.10",
    "3.141592653589793238462643383279",
    "1e+400",
];

/// `{"n0": …, "n1": …}`, as text: building it as a value would be what is tested here.
fn members() -> String {
    let members = NUMBERS.iter().enumerate();
    let members: Vec<_> = members
        .map(|(n, number)| format!("\"n{n}\":{number}"))
        .collect();
    members.join(",")
}

fn object() -> String {
    format!("{{{}}}", members())
}

/// Asserts that an answer holds the object, digit by digit.
#[track_caller]
fn holds(answer: &Response, member: &str) {
    let text = std::str::from_utf8(&answer.body).unwrap();
    let wanted = format!("\"{member}\":{}", object());
    assert!(text.contains(&wanted), "{wanted}\n{text}");
}

/// A request whose body has one more member, as text.
fn with(body: &Value, name: &str, text: &str) -> String {
    let body = body.to_string();
    format!("{{\"{name}\":{text},{}", &body[1..])
}

#[test]
fn a_program_gets_and_gives_numbers_as_they_were_written() {
    let script = r#"echo "$input" >> told
case $1 in
provision) printf '{"state":NUMBERS,"metadata":{"attributes":NUMBERS}}\n' ;;
update) echo '{}' ;;
bind) printf '{"credentials":NUMBERS,"state":NUMBERS,"endpoints":[{"host":"h","ports":["1"],"x-acme":NUMBERS}]}\n' ;;
*) echo '{}' ;;
esac"#;
    let broker = programs::shell(&script.replace("NUMBERS", &object()), json!({})).start();
    let send =
        |method: &str, target: &str, body: String| broker.request(method, target).body(body).send();
    let mut told = 0;
    let mut is_told = |members: &[&str]| {
        let written = broker.written("told");
        let line = written.lines().nth(told).unwrap();
        told += 1;
        for member in members {
            let wanted = format!("\"{member}\":{}", object());
            assert!(line.contains(&wanted), "{wanted}\n{line}");
        }
    };

    let provision = with(&programs::provision(), "parameters", &object());
    let provision = provision.replace("\"context\":{", &format!("\"context\":{{{},", members()));
    let created = send("PUT", &instance("i"), provision.clone()).expect(201);
    holds(&created, "attributes");
    is_told(&["parameters"]);
    send("PUT", &instance("i"), provision.replace("0.1000", "0.1")).expect(200);
    let other = provision.replace("12345678901234567890123", "12345678901234567890124");
    send("PUT", &instance("i"), other).expect(409);

    let update = r#"{"service_id":"service-1","parameters":{"more":1e-7}}"#;
    send("PATCH", &instance("i"), update.to_owned()).expect(200);
    is_told(&["state"]);
    let fetched = broker.get(&instance("i")).expect(200);
    let text = String::from_utf8(fetched.body).unwrap();
    let merged = format!("\"more\":1e-7,{}", members());
    assert!(text.contains(&merged), "{text}");
    // The same once more changes nothing, and no program is run.
    send("PATCH", &instance("i"), update.to_owned()).expect(200);
    let same = with(
        &json!({ "service_id": "service-1" }),
        "parameters",
        r#"{"n3":0.10}"#,
    );
    send("PATCH", &instance("i"), same).expect(200);

    let bind = with(&programs::bind(), "parameters", &object());
    let bound = send("PUT", &binding("i", "b"), bind).expect(201);
    holds(&bound, "credentials");
    holds(&bound, "x-acme");
    is_told(&["parameters"]);
    holds(&broker.get(&binding("i", "b")).expect(200), "credentials");
    let target = binding("i", "b") + programs::IDS;
    broker.delete(&target).expect(200);
    is_told(&["state", "parameters"]);
}

#[test]
fn the_adapter_shared_renders_numbers_as_they_were_written() {
    let each = |start: &str, end: &str| {
        let members = NUMBERS.iter().enumerate();
        let members = members.map(|(n, _)| (format!("n{n}"), json!(format!("{start}n{n}{end}"))));
        Value::Object(members.collect())
    };
    let catalog = json!({ "services": [{
        "id": "s", "name": "s", "description": "s", "bindable": true,
        "plans": [{ "id": "p", "name": "p", "description": "p", "adapter": {
            "kind": "shared",
            "binding": { "credentials": {
                "given": each("${parameters.", "}"),
                "place": each("${context.", "}"),
                "text": each("<${parameters.", "}>"),
                "literal": "LITERAL"
            } }
        } }]
    }]});
    let folder = std::sync::Arc::new(Folder::new());
    let text = catalog.to_string().replace("\"LITERAL\"", &object());
    let text = text.replacen(
        "\"description\":\"s\"",
        &format!(
            "\"description\":\"s\",\"metadata\":{{\"costs\":{}}}",
            object()
        ),
        1,
    );
    let file = folder.file("catalog.json", &text);
    let broker = Setup::in_folder(folder)
        .env("BROKER_STORE", "memory")
        .env("BROKER_CATALOG", file)
        .start();
    holds(&broker.get("/v2/catalog").expect(200), "costs");

    broker.put(&instance("i"), &provision("s", "p")).expect(201);
    let bind = with(&bind("s", "p"), "parameters", &object());
    let bind = format!("{{\"context\":{},{}", object(), &bind[1..]);
    let target = binding("i", "b");
    let bound = broker.request("PUT", &target).body(bind).send().expect(201);
    for member in ["given", "place", "literal"] {
        holds(&bound, member);
    }
    let body = bound.json();
    for (n, number) in NUMBERS.iter().enumerate() {
        let text = &body["credentials"]["text"][format!("n{n}")];
        assert_eq!(*text, format!("<{number}>"));
    }
}
