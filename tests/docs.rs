//! README and docs/ are true: their tables are the program's, their catalogs pass, their links lead somewhere, and what they
//! name in the source is there. `commands.rs` runs their commands.

mod support;

use brokerlet::config::VARIABLES;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use support::pages::{Page, blocks, chapter, pages, prose, root};
use support::{Folder, Setup, bind, binding, brokerlet, instance, merged, provision};

const README: &str = include_str!("../README.md");
const TUTORIAL: &str = include_str!("../docs/tutorial.md");
const CONFIGURATION: &str = include_str!("../docs/configuration.md");

#[test]
fn what_a_platform_asks_has_every_chapter_of_the_first_broker() {
    let walk_through = chapter(TUTORIAL, "## What a platform asks");
    let chapters: Vec<&str> = walk_through
        .lines()
        .filter(|line| line.starts_with("### "))
        .collect();
    for heading in &chapters {
        let chapter = chapter(walk_through, heading);
        assert!(chapter.contains("```sh\ncurl "), "{heading:?} has no call");
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
    let blocks = blocks(walk_through);
    let answers = blocks.windows(2).filter(|pair| pair[1].language == "http");
    let mut rest = answers.map(|pair| (pair[0].text, pair[1].text));
    for (path, with, status) in tutorial {
        let status = format!("HTTP/1.1 {status} ");
        assert!(
            rest.any(|(call, answer)| {
                call.contains(path) && call.contains(with) && answer.starts_with(&status)
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

/// As in: *In the source:* `provision` in [src/broker/instance.rs](../src/broker/instance.rs).
#[test]
fn what_the_tutorial_names_in_the_source_is_there() {
    let chapters = TUTORIAL.split("\n## ").skip(1).flat_map(|part| {
        let smaller = part.split("\n### ");
        let has_smaller = part.contains("\n### ");
        smaller.skip(usize::from(has_smaller))
    });
    let mut named = 0;
    for chapter in chapters {
        let places = chapter
            .lines()
            .find_map(|line| line.strip_prefix("*In the source:* "));
        let title = chapter.lines().next().unwrap();
        let places = places.unwrap_or_else(|| panic!("{title}: where is it in the source?"));
        for pair in places.split(" in [").collect::<Vec<_>>().windows(2) {
            let function = pair[0].rsplit('`').nth(1).unwrap();
            let path = pair[1].split(']').next().unwrap();
            let code = fs::read_to_string(root().join(path));
            let code = code.unwrap_or_else(|error| panic!("{title}: {path}: {error}"));
            let found = ["(", "<"].map(|next| code.contains(&format!("fn {function}{next}")));
            assert!(found.contains(&true), "{title}: {path} has no {function}");
            named += 1;
        }
    }
    assert!(named > 15, "{named}");
}

#[test]
fn the_front_page_is_short() {
    let lines = README.lines().count();
    assert!(lines <= 200, "README has {lines} lines");
}

#[test]
fn the_quick_start_is_two_commands() {
    let blocks = blocks(chapter(README, "## Quick start"));
    let commands: Vec<&str> = blocks.iter().flat_map(|block| block.text.lines()).collect();
    let wanted = [
        "BROKER_USERNAME=alex BROKER_PASSWORD=bigsecret cargo run --release      # the main job",
        "tests/run                                                               # the tests",
    ];
    assert_eq!(commands, wanted);
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

/// Every file of the source, below a folder.
fn sources(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let code = |path: PathBuf| match path.is_dir() {
        true => sources(&path),
        false => vec![fs::read_to_string(path).unwrap()],
    };
    entries.flat_map(code).collect()
}

#[test]
fn the_events_of_the_log_are_the_programs() {
    let operating = fs::read_to_string(root().join("docs/operating.md")).unwrap();
    let table = chapter(&operating, "## Logs");
    let (_, table) = table.split_once("| Other events |").unwrap();
    let first_cells = table
        .lines()
        .filter_map(|row| row.strip_prefix("| `")?.split(" | ").next());
    let mut told: BTreeSet<String> = first_cells
        .flat_map(|cell| cell.split(", "))
        .map(|name| name.replace('`', ""))
        .collect();
    // They have paragraphs of their own.
    told.extend(["request".to_owned(), "request_refused".to_owned()]);
    let mut sent = BTreeSet::from(["log_lines_dropped".to_owned()]);
    for code in sources(&root().join("src")) {
        for start in ["log::info(\"", "log::warn(\"", "log::error(\""] {
            let names = code
                .split(start)
                .skip(1)
                .map(|rest| rest.split('"').next().unwrap());
            sent.extend(names.map(str::to_owned));
        }
    }
    assert!(sent.len() > 20);
    assert_eq!(told, sent);
}

/// The words of the help, so that lines may be broken elsewhere.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_usage_in_the_pages_is_that_of_the_help() {
    let mut compared = 0;
    for page in pages() {
        for block in blocks(&page.text) {
            if block.language != "text" || block.follows || !block.text.starts_with("brokerlet ") {
                continue;
            }
            let command = block.text.split(' ').nth(1).unwrap();
            let help = brokerlet().args(["help", command]).output().unwrap();
            let help = words(&String::from_utf8(help.stdout).unwrap());
            assert!(help.contains(&words(block.text)), "{}", block.text);
            compared += 1;
        }
    }
    assert!(compared > 0);
}

#[test]
fn the_exit_codes_are_those_of_the_help() {
    let operating = fs::read_to_string(root().join("docs/operating.md")).unwrap();
    let rows = chapter(&operating, "## Exit codes").lines();
    let cells = rows.filter_map(|row| row.strip_prefix("| ")?.split(" |").next());
    let told: Vec<&str> = cells.filter(|cell| cell.parse::<u8>().is_ok()).collect();
    let help = brokerlet().arg("help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, codes) = help.split_once("Exit codes: ").unwrap();
    let codes = codes
        .split(';')
        .map(|code| code.split_whitespace().next().unwrap());
    assert_eq!(told, codes.collect::<Vec<_>>());
}

#[test]
fn the_settings_of_exec_are_read_and_the_example_passes() {
    let exec = fs::read_to_string(root().join("docs/exec.md")).unwrap();
    let blocks = blocks(&exec);
    let settings = blocks
        .iter()
        .find(|block| block.language == "json")
        .unwrap();
    let settings: Value = serde_json::from_str(settings.text).unwrap();
    let rows = exec
        .lines()
        .skip_while(|line| !line.starts_with("| Setting "));
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    let names: BTreeSet<&str> = rows.map(|row| row.split('`').nth(1).unwrap()).collect();
    let mut wanted: BTreeSet<&str> = settings
        .as_object()
        .unwrap()
        .keys()
        .map(|key| &**key)
        .collect();
    assert!(wanted.remove("kind"));
    assert_eq!(names, wanted);

    let folder = Folder::new();
    support::programs::executable(&folder, "database.sh", "#!/bin/sh\n");
    passes(&folder, &settings);
}

#[cfg(feature = "http-adapter")]
#[test]
fn the_settings_of_http_are_read_and_the_example_passes() {
    let page = fs::read_to_string(root().join("docs/http.md")).unwrap();
    let blocks = blocks(&page);
    let example = blocks.iter().find(|block| block.language == "json");
    let example: Value = serde_json::from_str(example.unwrap().text).unwrap();
    let rows = page
        .lines()
        .skip_while(|line| !line.starts_with("| Setting "));
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    let names = rows.flat_map(|row| {
        let cell = row.split('|').nth(1).unwrap();
        cell.split('`').skip(1).step_by(2).collect::<Vec<_>>()
    });
    // What is null is absent, but known.
    let mut settings = json!({});
    names.for_each(|name| settings[name] = Value::Null);
    let known = settings.as_object().unwrap().len();
    settings = support::merged(&settings, example);
    assert_eq!(
        settings.as_object().unwrap().len(),
        known + 1,
        "with \"kind\""
    );

    passes(&Folder::new(), &settings);
}

/// The check has nothing against plans with this adapter.
fn passes(folder: &Folder, settings: &Value) {
    let mut catalog = support::programs::catalog(json!({}));
    for plan in catalog["services"][0]["plans"].as_array_mut().unwrap() {
        plan["adapter"] = settings.clone();
    }
    let file = folder.file("catalog.json", catalog.to_string());
    let output = brokerlet()
        .args(["check", "--without-secrets"])
        .arg(file)
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}");
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
    for page in pages() {
        for block in blocks(&page.text) {
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
    // The password of a server is not in an example, and a dashboard is no catalog.
    let mut others = vec!["redis", "monitoring"];
    if !cfg!(feature = "http-adapter") {
        others.push("http");
    }
    let recipes = folders.filter(|folder| !others.iter().any(|other| folder.ends_with(other)));
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
    for Page { path: page, text } in &pages {
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

/// As `src/http/dispatch.rs`.
#[test]
fn every_file_of_the_project_that_a_page_names_is_there() {
    let folders = [".ci/", "benches/", "docs/", "examples/", "src/", "tests/"];
    let mut named = 0;
    for Page { path: page, text } in pages() {
        let text = prose(&text);
        let quoted = text.split('`').skip(1).step_by(2);
        for path in quoted.filter(|path| folders.iter().any(|folder| path.starts_with(folder))) {
            // A module may be named without the end of its file.
            let is_there = ["", ".rs"].map(|end| root().join(format!("{path}{end}")).exists());
            assert!(is_there.contains(&true), "{}: {path}", page.display());
            named += 1;
        }
    }
    assert!(named > 20, "{named}");
}

#[test]
fn every_page_is_linked_from_the_front_page() {
    for page in pages() {
        let path = page.path.to_str().unwrap();
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
