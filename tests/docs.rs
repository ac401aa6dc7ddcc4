//! README and docs/ are true: their commands are run against the real binary, their tables are the program's, their catalogs
//! pass, and what they name in the source is there.

mod support;

use brokerlet::config::VARIABLES;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use support::{
    Broker, Folder, Setup, bind, binding, brokerlet, instance, merged, needs, provision,
};

const README: &str = include_str!("../README.md");
const TUTORIAL: &str = include_str!("../docs/tutorial.md");
const CONFIGURATION: &str = include_str!("../docs/configuration.md");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page for people, with its path from the top.
fn pages() -> Vec<(PathBuf, String)> {
    let mut pages = Vec::new();
    for folder in ["", "docs", "examples"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&path).unwrap();
                pages.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    assert!(pages.len() > 10);
    pages
}

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
        .unwrap_or_else(|| panic!("there is no chapter {heading:?}"));
    let level = heading.split_inclusive(' ').next().unwrap();
    let next = format!("\n{level}");
    rest.split_once(&next).map_or(rest, |(chapter, _)| chapter)
}

/// One call of the tutorial and the answer that it promises.
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
            other => panic!("the chapter has a block of {other:?}"),
        }
    }
    calls
}

/// Runs a call as it stands there, but for the address.
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
fn what_a_platform_asks_is_answered_so() {
    if !needs::has(&["curl"]) {
        return;
    }
    let broker = Setup::new().env("BROKER_STORE", "memory").start();
    for call in calls(chapter(TUTORIAL, "## What a platform asks")) {
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
fn what_a_platform_asks_has_every_chapter_of_the_first_broker() {
    let walk_through = chapter(TUTORIAL, "## What a platform asks");
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
        ("/v2/catalog", "", 400),
        ("/v2/catalog", "X-Broker-API-Version: 2.9", 412),
        ("/v2/catalog", "alex:wrong", 401),
        ("/service_bindings/b-1", "-X PUT", 201),
        ("/service_bindings/b-1?", "-X DELETE", 200),
        ("/v2/service_instances/i-1?", "-X DELETE", 200),
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

/// Follows a chapter in this folder, as its reader does: what stands in a shell block is run there, and what follows it is
/// wanted. Returns the broker that it starts.
fn follow(chapter: &str, folder: &Arc<Folder>) -> Broker {
    let binaries = Path::new(env!("CARGO_BIN_EXE_brokerlet")).parent().unwrap();
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap());
    let blocks = blocks(chapter);
    let mut exported: BTreeMap<String, String> = BTreeMap::new();
    let mut broker: Option<Broker> = None;
    for (i, block) in blocks.iter().enumerate() {
        let next = blocks.get(i + 1).filter(|next| next.follows);
        match (block.language, &broker) {
            ("sh", None) if block.text.trim_end().ends_with(" brokerlet") => {
                let mut setup = Setup::of(brokerlet(), folder.clone()).env("PATH", &path);
                for word in block.text.split_whitespace() {
                    if let Some((name, value)) = word.split_once('=') {
                        setup = setup.env(name, value);
                    }
                }
                for (name, value) in &exported {
                    setup = setup.env(name, value);
                }
                broker = Some(setup.start());
            }
            ("sh", broker) => {
                for line in block.text.lines() {
                    if let Some((name, value)) = line
                        .strip_prefix("export ")
                        .and_then(|line| line.split_once('='))
                    {
                        exported.insert(name.to_owned(), value.trim_matches('\'').to_owned());
                    }
                }
                let address = match broker {
                    Some(broker) => format!("http://{}/", broker.address),
                    None => "http://no.broker.yet.invalid/".to_owned(),
                };
                let text = block.text.replace("http://localhost:5000/", &address);
                let output = support::program("/bin/sh")
                    .args(["-euc", &text])
                    .current_dir(folder.path())
                    .env("PATH", &path)
                    .env("NO_PROXY", "*")
                    .output()
                    .unwrap();
                let printed = String::from_utf8(output.stdout).unwrap();
                let complaints = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{text}{printed}{complaints}");
                match next.map(|next| (next.language, next.text)) {
                    Some(("http", wanted)) => {
                        let (found, wanted) = (Answer::parse(&printed), Answer::parse(wanted));
                        assert_eq!((found.status, found.body), (wanted.status, wanted.body));
                    }
                    Some(("text", wanted)) => assert_eq!(printed, wanted, "{text}"),
                    // `check` prints what to do next, and its text has tests of its own.
                    _ => assert!(
                        printed.is_empty() || text.contains("brokerlet check "),
                        "{printed}"
                    ),
                }
            }
            ("json", _) => drop(folder.file("catalog.json", block.text)),
            ("text" | "http", _) => assert!(block.follows),
            (other, _) => panic!("the chapter has a block of {other:?}"),
        }
    }
    broker.expect("the chapter starts no broker")
}

#[test]
fn the_mail_relay_of_readme_is_in_the_marketplace() {
    if !needs::has(&["curl"]) {
        return;
    }
    let text = chapter(README, "## A mail relay in the marketplace");
    for command in [
        "cf create-service-broker mail alex bigsecret https://brokerlet.example.com\n",
        "--space-scoped\n",
        "cf enable-service-access mail-relay -b mail\n",
        "cf create-service mail-relay small my-mail\n",
        "cf bind-service my-app my-mail\n",
    ] {
        assert!(text.contains(command), "{command}");
    }
    drop(follow(text, &Arc::new(Folder::new())));
}

#[test]
fn a_service_of_ones_own_takes_ten_minutes() {
    if !needs::has(&["curl", "git", "jq"]) {
        return;
    }
    let folder = Arc::new(Folder::new());
    let text = chapter(TUTORIAL, "## Offer your own service in ten minutes");
    let _broker = follow(text, &folder);
    let made = fs::read_dir(folder.path().join("repositories")).unwrap();
    let made: Vec<_> = made.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(made.len(), 1);
    assert!(made[0].join("HEAD").is_file());
}

#[test]
fn work_that_takes_long_is_polled() {
    if !needs::has(&["curl", "jq"]) {
        return;
    }
    let folder = Arc::new(Folder::new());
    let _broker = follow(chapter(TUTORIAL, "## Work that takes long"), &folder);
    let made = fs::read_dir(folder.path().join("machines"))
        .unwrap()
        .count();
    assert_eq!(made, 1);
}

/// As in: *In the source:* `provision` in [src/broker/instance.rs](../src/broker/instance.rs).
#[test]
fn what_the_tutorial_names_in_the_source_is_there() {
    let mut named = 0;
    for line in TUTORIAL.lines() {
        let Some(places) = line.strip_prefix("*In the source:* ") else {
            continue;
        };
        for place in places.split("](../").skip(1) {
            let path = place.split(')').next().unwrap();
            assert!(root().join(path).is_file(), "{path}");
        }
        for pair in places.split(" in [").collect::<Vec<_>>().windows(2) {
            let function = pair[0].rsplit('`').nth(1).unwrap();
            let path = pair[1].split(']').next().unwrap();
            let code = fs::read_to_string(root().join(path)).unwrap();
            let found = ["(", "<"].map(|next| code.contains(&format!("fn {function}{next}")));
            assert!(found.contains(&true), "{path} has no {function}");
            named += 1;
        }
    }
    let chapters = TUTORIAL.matches("\n### ").count() + TUTORIAL.matches("\n## ").count() - 1;
    assert!(named >= chapters, "{named} of {chapters}");
}

#[test]
fn the_front_page_is_short() {
    let lines = README.lines().count();
    assert!(lines <= 200, "README has {lines} lines");
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
    let rows = CONFIGURATION.lines().filter(|line| line.starts_with("| `"));
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
fn the_catalogs_in_the_pages_pass_the_check() {
    let folder = Folder::new();
    let mut checked = 0;
    for (_, page) in pages() {
        for block in blocks(&page) {
            if block.language == "json" && block.text.contains("\"services\"") {
                check(&folder.file("catalog.json", block.text));
                checked += 1;
            }
        }
    }
    assert!(checked >= 2, "{checked}");
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
fn the_code_in_the_tutorial_is_that_of_the_example() {
    let example = include_str!("../examples/custom_adapter.rs");
    let blocks = blocks(TUTORIAL);
    let code: Vec<_> = blocks
        .iter()
        .filter(|block| block.language == "rust")
        .collect();
    assert!(!code.is_empty());
    for block in code {
        assert!(example.contains(block.text), "{}", block.text);
    }
}

/// What a code host makes of a page's headings.
fn anchors(page: &str) -> Vec<String> {
    let mut fenced = false;
    let headings = page.lines().filter(|line| {
        fenced ^= line.starts_with("```");
        !fenced && line.starts_with('#')
    });
    headings
        .map(|line| {
            let words = line.trim_start_matches('#').trim().to_lowercase();
            let kept = words
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.collect::<String>().replace(' ', "-")
        })
        .collect()
}

#[test]
fn every_link_of_the_pages_leads_somewhere() {
    let pages = pages();
    let mut links = 0;
    for (page, text) in &pages {
        let here = root().join(page);
        let targets = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.starts_with("https://")) {
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = match path {
                "" => here.clone(),
                path => here.parent().unwrap().join(path),
            };
            assert!(file.exists(), "{}: {target}", page.display());
            if !anchor.is_empty() {
                let text = fs::read_to_string(&file).unwrap();
                let found = anchors(&text).iter().any(|found| found == anchor);
                assert!(found, "{}: {target}", page.display());
            }
            links += 1;
        }
    }
    assert!(links > 60, "{links}");
}

#[test]
fn every_page_is_linked_from_the_front_page() {
    for (page, _) in pages() {
        let path = page.to_str().unwrap();
        assert!(
            path == "README.md" || README.contains(&format!("]({path}")),
            "{path}"
        );
    }
}

/// What docs/shared.md says, on the catalog that it recommends to copy.
#[test]
fn the_shared_example_does_what_its_page_says() {
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
