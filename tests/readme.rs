//! README is true: its walk-through is run against the real binary, its table is the program's, its catalogs pass.

mod support;

use brokerlet::config::VARIABLES;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use support::{
    Broker, Folder, Setup, bind, binding, brokerlet, instance, merged, needs, provision,
};

const README: &str = include_str!("../README.md");

/// A fenced block: its language, its text, and whether it follows the block before it directly.
struct Block<'t> {
    language: &'t str,
    text: &'t str,
    follows: bool,
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let (mut blocks, mut rest, mut follows) = (Vec::new(), text, false);
    while let Some((before, after)) = rest.split_once("```") {
        assert!(
            before.is_empty() || before.ends_with('\n'),
            "a fence within a line: {before}"
        );
        follows &= before.trim().is_empty();
        let (language, after) = after.split_once('\n').unwrap();
        let (text, after) = after
            .split_once("```")
            .unwrap_or_else(|| panic!("a block of {language} is not closed"));
        blocks.push(Block {
            language,
            text,
            follows,
        });
        (rest, follows) = (after, true);
    }
    blocks
}

/// The text below a heading, up to the next one of the same level.
fn chapter<'t>(text: &'t str, heading: &str) -> &'t str {
    let (_, rest) = text
        .split_once(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("README has no chapter {heading:?}"));
    let level = heading.split_inclusive(' ').next().unwrap();
    let next = format!("\n{level}");
    rest.split_once(&next).map_or(rest, |(chapter, _)| chapter)
}

/// One call of the walk-through and the answer that README promises.
#[derive(Debug)]
struct Call<'t> {
    curl: &'t str,
    answer: Answer,
}

#[derive(Debug)]
struct Answer {
    status: String,
    headers: Vec<(String, String)>,
    /// `None` where the body is empty.
    body: Option<Value>,
}

impl Answer {
    fn parse(text: &str) -> Answer {
        let text = text.replace("\r\n", "\n");
        let (head, body) = text
            .split_once("\n\n")
            .unwrap_or_else(|| panic!("no empty line after the head: {text}"));
        let mut lines = head.lines();
        let status = lines.next().unwrap().to_owned();
        assert!(status.starts_with("HTTP/1.1 "), "no status line: {text}");
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        });
        let body = body.trim();
        Answer {
            status,
            headers: headers.collect(),
            body: (!body.is_empty()).then(|| {
                serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
            }),
        }
    }
}

fn calls(text: &str) -> Vec<Call<'_>> {
    let blocks = blocks(text);
    let mut calls = Vec::new();
    for (i, block) in blocks.iter().enumerate() {
        match block.language {
            "sh" => {
                let answer = blocks
                    .get(i + 1)
                    .filter(|answer| answer.language == "http" && answer.follows);
                let answer = answer
                    .unwrap_or_else(|| panic!("no answer directly after the call: {}", block.text));
                assert!(block.text.starts_with("curl -si "), "{}", block.text);
                assert_eq!(block.text.matches("curl ").count(), 1, "{}", block.text);
                calls.push(Call {
                    curl: block.text,
                    answer: Answer::parse(answer.text),
                });
            }
            "http" => assert!(
                i > 0 && blocks[i - 1].language == "sh" && block.follows,
                "an answer without a call: {}",
                block.text
            ),
            other => panic!("the walk-through has a block of {other:?}"),
        }
    }
    calls
}

/// Runs a call as it stands in README, but for the address.
fn run(call: &Call<'_>, broker: &Broker) -> Answer {
    let placeholder = "http://localhost:5000/";
    assert!(call.curl.contains(placeholder), "{}", call.curl);
    let address = format!("http://{}/", broker.address);
    let output = Command::new("sh")
        .arg("-c")
        .arg(call.curl.replace(placeholder, &address))
        .env("NO_PROXY", "*")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "curl failed, {}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
        call.curl
    );
    Answer::parse(&String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_walk_through_is_what_happens() {
    if !needs::has(&["curl"]) {
        return;
    }
    let broker = Setup::new().env("BROKER_STORE", "memory").start();
    for call in calls(chapter(README, "## Walk-through")) {
        let found = run(&call, &broker);
        let wanted = &call.answer;
        assert_eq!(found.status, wanted.status, "{}{found:#?}", call.curl);
        for header in &wanted.headers {
            assert!(
                found.headers.contains(header),
                "{header:?} is not in the answer to {}{found:#?}",
                call.curl
            );
        }
        assert_eq!(found.body, wanted.body, "{}", call.curl);
    }
}

#[test]
fn the_walk_through_has_every_chapter_of_the_tutorial() {
    let walk_through = chapter(README, "## Walk-through");
    let chapters: Vec<&str> = walk_through
        .lines()
        .filter(|line| line.starts_with("### "))
        .collect();
    for heading in &chapters {
        let calls = calls(chapter(walk_through, heading));
        assert!(!calls.is_empty(), "{heading:?} has no call");
    }
    // In this order: what is asked, and how it is answered.
    let tutorial = [
        ("/v2/catalog", "", 200),
        ("/v2/service_instances/i-1", "-X PUT", 201),
        ("/v2/service_instances/i-1", "-X PATCH", 200),
        ("/service_bindings/b-1", "-X PUT", 201),
        ("/service_bindings/b-1?", "-X DELETE", 200),
        ("/v2/service_instances/i-1?", "-X DELETE", 200),
        ("/v2/catalog", "", 400),
        ("/v2/catalog", "X-Broker-API-Version: 2.9", 412),
        ("/v2/catalog", "alex:wrong", 401),
    ];
    let calls = calls(walk_through);
    assert!(calls.len() >= tutorial.len());
    let mut rest = calls.iter();
    for (path, with, status) in tutorial {
        let status = format!("HTTP/1.1 {status} ");
        assert!(
            rest.any(|call| {
                let Call { curl, answer } = call;
                curl.contains(path) && curl.contains(with) && answer.status.starts_with(&status)
            }),
            "the walk-through has no {with:?} of {path} with {status}, or not in its place"
        );
    }
    for command in [
        "cf create-service-broker",
        "cf enable-service-access",
        "cf marketplace",
        "cf create-service ",
        "cf update-service ",
        "cf bind-service",
        "cf unbind-service",
        "cf delete-service ",
    ] {
        assert!(walk_through.contains(command), "{command} is missing");
    }
}

/// From an empty folder, as the reader does it: what stands in a shell block is run there, what follows it is wanted.
#[test]
fn a_service_of_ones_own_takes_ten_minutes() {
    if !needs::has(&["curl", "git", "jq"]) {
        return;
    }
    let folder = Arc::new(Folder::new());
    let binaries = Path::new(env!("CARGO_BIN_EXE_brokerlet")).parent().unwrap();
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap());
    let blocks = blocks(chapter(README, "## Offer your own service in ten minutes"));
    let mut broker = None;
    for (i, block) in blocks.iter().enumerate() {
        let next = blocks.get(i + 1).filter(|next| next.follows);
        match (block.language, &broker) {
            ("sh", None) if block.text.trim_end().ends_with(" brokerlet") => {
                let mut setup = Setup::of(brokerlet(), folder.clone()).env("PATH", &path);
                for word in block
                    .text
                    .split_whitespace()
                    .filter(|word| *word != "brokerlet")
                {
                    let (name, value) = word.split_once('=').expect(word);
                    setup = setup.env(name, value);
                }
                broker = Some(setup.start());
            }
            ("sh", None) => {
                let mut command = support::program("/bin/sh");
                command
                    .args(["-euc", block.text])
                    .current_dir(folder.path());
                let output = command.env("PATH", &path).output().unwrap();
                let printed = String::from_utf8(output.stdout).unwrap();
                let complaints = String::from_utf8_lossy(&output.stderr);
                assert!(
                    output.status.success(),
                    "{}{printed}{complaints}",
                    block.text
                );
                assert_eq!(printed, next.map_or("", |next| next.text));
            }
            ("sh", Some(broker)) => {
                let answer = Answer::parse(next.expect("no answer to the call").text);
                let call = Call {
                    curl: block.text,
                    answer,
                };
                let found = run(&call, broker);
                assert_eq!(
                    (found.status, found.body),
                    (call.answer.status, call.answer.body)
                );
            }
            ("text" | "http", _) => assert!(block.follows),
            (other, _) => panic!("the chapter has a block of {other:?}"),
        }
    }
    assert!(broker.is_some());
    let made = std::fs::read_dir(folder.path().join("repositories")).unwrap();
    let made: Vec<_> = made.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(made.len(), 1);
    assert!(made[0].join("HEAD").is_file());
}

#[test]
fn the_quick_start_is_two_commands() {
    let commands: Vec<&str> = chapter(README, "## Quick start")
        .lines()
        .filter(|line| line.starts_with("    "))
        .collect();
    assert_eq!(
        commands,
        [
            "    BROKER_USERNAME=alex BROKER_PASSWORD=bigsecret cargo run --release      # the main job",
            "    tests/run                                                               # the tests",
        ]
    );
}

#[test]
fn the_table_of_the_configuration_is_the_programs() {
    let rows = chapter(README, "## Configuration")
        .lines()
        .filter(|line| line.starts_with("| `"));
    let table: Vec<(String, String)> = rows
        .map(|row| {
            let cells: Vec<String> = row
                .trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().replace('`', ""))
                .collect();
            assert_eq!(cells.len(), 3, "{row}");
            assert!(!cells[2].is_empty(), "{row}");
            (cells[0].clone(), cells[1].clone())
        })
        .collect();
    let variables: Vec<(String, String)> = VARIABLES
        .iter()
        .map(|variable| (variable.name.to_owned(), variable.default.to_owned()))
        .collect();
    assert_eq!(table, variables);
}

/// `brokerlet check`, with every variable set that the catalog names. Returns what it printed.
fn check(catalog: &Path) -> String {
    let text = std::fs::read_to_string(catalog).unwrap();
    let names = text
        .split("${env:")
        .skip(1)
        .filter_map(|rest| rest.split(['}', '|']).next());
    let output = brokerlet()
        .envs(names.map(|name| (name, "a-value")))
        .arg("check")
        .arg(catalog)
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{printed}{text}");
    printed
}

#[test]
fn the_catalogs_in_readme_pass_the_check() {
    let blocks = blocks(README);
    let catalogs: Vec<_> = blocks
        .iter()
        .filter(|block| block.language == "json" && block.text.contains("\"services\""))
        .collect();
    assert!(catalogs.len() >= 2);
    let folder = Folder::new();
    for catalog in catalogs {
        check(&folder.file("catalog.json", catalog.text));
    }
}

#[test]
fn the_catalogs_in_examples_pass_the_check_without_a_warning() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let entries = |folder: &Path| {
        let entries = std::fs::read_dir(folder).unwrap();
        entries
            .map(|entry| entry.unwrap().path())
            .collect::<Vec<_>>()
    };
    let folders = entries(&folder).into_iter().filter(|path| path.is_dir());
    // The password of a server is not in an example.
    let recipes = folders.filter(|folder| !folder.ends_with("redis"));
    let files = recipes.flat_map(|folder| entries(&folder));
    let catalogs: Vec<_> = files
        .chain(entries(&folder))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .collect();
    assert!(catalogs.len() >= 5, "{catalogs:?}");
    for catalog in catalogs {
        let printed = check(&catalog);
        assert!(printed.contains(": 0 errors, 0 warnings"), "{printed}");
    }
}

#[test]
fn the_code_in_readme_is_that_of_the_example() {
    let example = include_str!("../examples/custom_adapter.rs");
    let blocks = blocks(README);
    let code: Vec<_> = blocks
        .iter()
        .filter(|block| block.language == "rust")
        .collect();
    assert!(!code.is_empty());
    for block in code {
        assert!(example.contains(block.text), "{}", block.text);
    }
}

#[test]
fn every_link_of_readme_leads_somewhere() {
    let headings: Vec<String> = README
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let words = line.trim_start_matches('#').trim().to_lowercase();
            let kept = words.chars().filter(|c| !matches!(c, '`' | ',' | '.'));
            kept.collect::<String>().replace(' ', "-")
        })
        .collect();
    let targets = README
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    let mut kinds = BTreeMap::from([("heading", 0), ("file", 0)]);
    for target in targets {
        if let Some(heading) = target.strip_prefix('#') {
            assert!(headings.iter().any(|found| found == heading), "#{heading}");
            *kinds.entry("heading").or_default() += 1;
        } else if !target.starts_with("https://") {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(target);
            assert!(path.exists(), "{target}");
            *kinds.entry("file").or_default() += 1;
        }
    }
    assert!(kinds.values().all(|count| *count > 3), "{kinds:?}");
}

/// What README says of the adapter `shared`, on the catalog that it recommends to copy.
#[test]
fn the_shared_example_does_what_readme_says() {
    let catalog = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/shared.json");
    let broker = Setup::new()
        .env("BROKER_STORE", "memory")
        .env("BROKER_CATALOG", catalog)
        .start();
    let request = provision("mail-relay", "mail-relay-small");
    broker
        .put(&instance("i"), &request)
        .expect_naming(400, "parameters.sender");
    let parameters = json!({"parameters": {"sender": "shop@example.com"}});
    let provisioned = broker.put(&instance("i"), &merged(&request, parameters));
    let provisioned = provisioned.expect(201).json();
    assert_eq!(
        provisioned,
        json!({
            "dashboard_url": "https://mail.example.com/senders/i",
            "metadata": {
                "labels": {"mail.example.com/plan": "small"},
                "attributes": {"sender": "shop@example.com"},
            },
        })
    );

    let request = bind("mail-relay", "mail-relay-small");
    let first = broker.put(&binding("i", "b"), &request).expect(201).json();
    let repeated = broker.put(&binding("i", "b"), &request).expect(200).json();
    assert_eq!(repeated, first);
    assert_eq!(first["credentials"]["from"], "shop@example.com");
    assert_eq!(first["endpoints"][0]["ports"], json!(["587"]));
    let secret = |binding: &Value| {
        let secret = binding["credentials"]["webhook_secret"].as_str().unwrap();
        assert_eq!(secret.len(), 32);
        secret.to_owned()
    };
    let time = |binding: &Value, name: &str| {
        humantime::parse_rfc3339(binding["metadata"][name].as_str().unwrap()).unwrap()
    };
    let left = time(&first, "expires_at").duration_since(time(&first, "renew_before"));
    assert_eq!(left.unwrap().as_secs(), 14 * 24 * 60 * 60);

    let rotation = json!({"predecessor_binding_id": "b"});
    let second = broker.put(&binding("i", "c"), &rotation).expect(201).json();
    assert_ne!(secret(&second), secret(&first));

    let change = json!({
        "service_id": "mail-relay", "plan_id": "mail-relay-large",
        "parameters": {"sender": "news@example.com"},
    });
    let updated = broker.patch(&instance("i"), &change).expect(200).json();
    assert_eq!(
        updated["metadata"],
        json!({
            "labels": {"mail.example.com/plan": "large"},
            "attributes": {"sender": "news@example.com"},
        })
    );
    assert_eq!(broker.get(&binding("i", "b")).expect(200).json(), first);

    let request = provision("report-licence", "report-licence-standard");
    broker.put(&instance("l"), &request).expect(201);
    let request = bind("report-licence", "report-licence-standard");
    let key = json!({"bind_resource": {}, "app_guid": null});
    broker
        .put(&binding("l", "k"), &merged(&request, key))
        .expect_error(422, "RequiresApp");
    let seats = json!({"parameters": {"seats": 25}});
    let bound = broker.put(&binding("l", "b"), &merged(&request, seats));
    assert_eq!(
        bound.expect(201).json(),
        json!({
            "credentials": {"key": "0000-0000-0000-0000", "licensee": "acme", "seats": 25},
            "metadata": {"expires_at": "2030-12-31T23:59:59.0Z"},
        })
    );
}
