//! The dispatcher with any method, path, query, header fields and body. The input is a request without its framing: method
//! and target in the first line, then header fields, an empty line, and the body. Requests in one input are separated by a
//! line of `----`, and meet the same broker.
//!
//! Whatever comes, the answer is one that the specification knows, errors can be acted on, nothing in a head is unsafe,
//! and what was refused has changed nothing.

use brokerlet::adapter::Kinds;
use brokerlet::broker::Broker;
use brokerlet::broker::plans::Plans;
use brokerlet::catalog::environment::Environment;
use brokerlet::catalog::file;
use brokerlet::http::auth::Credentials;
use brokerlet::http::dispatch::Dispatcher;
use brokerlet::http::reply::Reply;
use brokerlet::http::{FORWARDED, Headers, Request};
use brokerlet::store::memory::Memory;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use std::time::SystemTime;

/// `alex:bigsecret`.
const AUTHORIZATION: &str = "Basic YWxleDpiaWdzZWNyZXQ=";
const VERSION: &str = "X-Broker-API-Version";

const CATALOG: &str = r#"{ "services": [{
    "id": "s", "name": "s", "description": "A service", "bindable": true, "plan_updateable": true,
    "instances_retrievable": true, "bindings_retrievable": true, "allow_context_updates": true,
    "plans": [
        { "id": "p", "name": "p", "description": "A plan", "binding_rotatable": true,
          "maintenance_info": { "version": "1.0.0" },
          "adapter": { "kind": "shared", "binding": { "credentials": { "password": "fuzz-secret-1" } } } },
        { "id": "q", "name": "q", "description": "Another" }
    ]
}]}"#;

pub fn run(input: &[u8]) {
    let dispatcher = dispatcher();
    let catalog = ask(&dispatcher, &Asked::catalog());
    for part in split(input, b"\n----\n") {
        let Some(asked) = Asked::read(part) else {
            continue;
        };
        let first = ask(&dispatcher, &asked);
        is_proper(&asked, &first);
        let second = ask(&dispatcher, &asked);
        is_proper(&asked, &second);
        again(&asked, &first, &second);
    }
    assert_eq!(ask(&dispatcher, &Asked::catalog()).body, catalog.body);
    assert!(!String::from_utf8_lossy(&catalog.body).contains("fuzz-secret"));
}

fn dispatcher() -> Dispatcher {
    let environment = Environment::new(&|_| None, Path::new(""));
    let (loaded, mut findings) = file::parse(CATALOG, SystemTime::UNIX_EPOCH, environment);
    let loaded = loaded.unwrap();
    let kinds = Kinds::standard();
    let mut fulfilments = HashMap::new();
    for (s, service) in loaded.catalog.services().iter().enumerate() {
        for (p, plan) in service.plans.iter().enumerate() {
            let private = loaded.adapters.get(&(s, p));
            let built = kinds.build(private, service, plan, environment, &mut findings);
            fulfilments.insert(plan.id.clone(), built.unwrap());
        }
    }
    assert!(!findings.has_errors(), "{findings:?}");
    let plans = Plans::new(loaded.catalog, fulfilments);
    let broker = Broker::new(plans, Box::new(Memory::new()));
    Dispatcher::new(broker, Credentials::new([("alex", "bigsecret")]))
}

struct Asked<'a> {
    method: &'a str,
    target: &'a str,
    fields: Vec<(&'a str, &'a str)>,
    body: &'a [u8],
}

/// What is compared of a reply.
struct Answer {
    status: u16,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl<'a> Asked<'a> {
    fn catalog() -> Asked<'a> {
        Asked {
            method: "GET",
            target: "/v2/catalog",
            fields: vec![("Authorization", AUTHORIZATION), (VERSION, "2.17")],
            body: b"",
        }
    }

    /// Credentials and version are those of a platform unless the input says otherwise.
    fn read(part: &'a [u8]) -> Option<Asked<'a>> {
        let end = part.windows(2).position(|two| two == b"\n\n");
        let (head, body) = match end {
            Some(end) => (&part[..end], &part[end + 2..]),
            None => (part, &[][..]),
        };
        let mut lines = std::str::from_utf8(head).ok()?.split('\n');
        let (method, target) = lines.next()?.split_once(' ')?;
        let mut fields: Vec<(&str, &str)> =
            lines.filter_map(|line| line.split_once(": ")).collect();
        // The gate passes on no others.
        fields.retain(|(name, _)| {
            FORWARDED
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name))
        });
        for (name, usual) in [("Authorization", AUTHORIZATION), (VERSION, "2.17")] {
            if !fields
                .iter()
                .any(|(field, _)| field.eq_ignore_ascii_case(name))
            {
                fields.push((name, usual));
            }
        }
        Some(Asked {
            method,
            target,
            fields,
            body,
        })
    }

    fn field(&self, wanted: &str) -> Option<&'a str> {
        let mut fields = self.fields.iter();
        fields
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| *value)
    }

    fn path(&self) -> &'a str {
        self.target.split('?').next().unwrap_or_default()
    }
}

fn ask(dispatcher: &Dispatcher, asked: &Asked<'_>) -> Answer {
    let mut body = asked.body;
    let (reply, _) = dispatcher.handle(&mut Request {
        client: None,
        method: asked.method,
        target: asked.target,
        headers: Headers::new(asked.fields.iter().copied()),
        content_length: Some(asked.body.len() as u64),
        body: &mut body,
    });
    let Reply {
        status,
        headers,
        body,
        ..
    } = reply;
    Answer {
        status,
        fields: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.to_string()))
            .collect(),
        body: body.as_ref().to_vec(),
    }
}

fn is_proper(asked: &Asked<'_>, answer: &Answer) {
    let Answer {
        status,
        fields,
        body,
    } = answer;
    let known = [
        200, 201, 202, 304, 400, 401, 404, 405, 409, 410, 412, 413, 422,
    ];
    assert!(known.contains(status), "{status}");
    for (name, value) in fields {
        let safe = |byte| matches!(byte, b' '..=b'~');
        assert!(value.bytes().all(safe), "{name}: {value:?}");
    }
    let json: Value = serde_json::from_slice(body).unwrap();
    assert!(json.is_object(), "{json}");
    if *status >= 400 && *status != 410 {
        let description = json["description"].as_str().unwrap_or_default();
        assert!(!description.is_empty(), "{status}: {json}");
        assert!(json.get("error").is_none_or(Value::is_string), "{json}");
    }
    let given = asked.field("Authorization");
    let text = String::from_utf8_lossy(body);
    assert!(!text.contains("bigsecret"), "{text}");
    if asked.path() == "/healthz" {
        assert!(matches!(status, 200 | 405), "{status}");
    } else if given.is_none_or(|given| !given.contains("YWxleDpiaWdzZWNyZXQ")) {
        assert_eq!(*status, 401, "{given:?}");
        assert!(!text.contains("fuzz-secret"), "{text}");
    }
}

/// What a second request with nothing in between has to be answered.
fn again(asked: &Asked<'_>, first: &Answer, second: &Answer) {
    match (asked.method, first.status) {
        ("PUT", 201) => {
            assert_eq!(second.status, 200);
            assert_eq!(second.body, first.body);
        }
        ("DELETE", 200) => assert_eq!(second.status, 410),
        // The second update may find what it wants already there, and say so in other words.
        ("PATCH", 200) => assert_eq!(second.status, 200),
        // Everything else has changed nothing.
        _ => {
            assert_eq!(second.status, first.status);
            assert_eq!(second.body, first.body);
            assert_eq!(second.fields, first.fields);
        }
    }
}

fn split<'a>(input: &'a [u8], separator: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    let mut left = input;
    while let Some(at) = left
        .windows(separator.len())
        .position(|window| window == separator)
    {
        parts.push(&left[..at]);
        left = &left[at + separator.len()..];
    }
    parts.push(left);
    parts
}
