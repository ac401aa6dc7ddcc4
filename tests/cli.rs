//! The commands as their users meet them: what is printed where, and the exit codes.

mod support;

use brokerlet::config::VARIABLES;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Read;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use support::{Folder, Setup, brokerlet};

const USAGE: &str = "\
Usage:
  brokerlet               serve the Open Service Broker API until SIGTERM or SIGINT
  brokerlet check [--without-secrets] [FILE]...
                          check catalog files (- for standard input), else that of BROKER_CATALOG, and print the cf
                          commands that register them; --without-secrets where variables and files are absent
  brokerlet adapter-test FILE [--service NAME] [--plan NAME]
                         [--parameters JSON] [--update-parameters JSON] [--bind-parameters JSON]
                          make, use and delete instances of each plan, to see whether its adapter does what it must
  brokerlet import-env [--output FILE]
                          print or write the catalog file of a worlds-simplest-service-broker with the same environment
  brokerlet state COMMAND
                          look into the state, export, import, copy, back up and repair it: list, show, export,
                          import, adopt, copy, backup, check, compact, protect, unprotect, undelete, forget
  brokerlet audit [--instance ID] [--user ID] [--since TIME] [--json]
                          print who had what done, when, from where, and how it ended
  brokerlet health [URL]  ask a running broker whether it is healthy
  brokerlet help [COMMAND], --help, -h
                          print this help, or that of a command
  brokerlet version, --version, -V
                          print the version and the features that are built in
";

/// How a command ended: its exit code, standard output and standard error.
type Ended = (Option<i32>, String, String);

fn ended(output: Output) -> Ended {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn run(arguments: &[&str]) -> Ended {
    ended(brokerlet().args(arguments).output().unwrap())
}

/// `brokerlet check catalog.json` in a folder with that file.
fn check(text: &str, environment: &[(&str, &str)]) -> Ended {
    let folder = Folder::new();
    folder.file("catalog.json", text);
    let mut command = brokerlet();
    command.args(["check", "catalog.json"]);
    command.current_dir(folder.path());
    command.envs(environment.iter().copied());
    ended(command.output().unwrap())
}

/// A catalog with one service offering and these plans.
fn catalog(service: &str, plans: Value) -> String {
    json!({"services": [{
        "name": service, "id": "service-id", "description": "A service", "bindable": true, "plans": plans
    }]})
    .to_string()
}

fn plan(name: &str) -> Value {
    json!({"name": name, "id": format!("{name}-id"), "description": "A plan"})
}

#[test]
fn check_ends_with_the_commands_that_register_the_catalog() {
    let text = catalog("mail", json!([plan("small"), plan("large")]));
    let wanted = "\
catalog.json: 0 errors, 0 warnings; offers 1 service with 2 plans

To register this catalog, with the broker's own user name, password and URL:

  cf create-service-broker brokerlet \"$BROKER_USERNAME\" \"$BROKER_PASSWORD\" https://brokerlet.example.com
  cf enable-service-access mail -b brokerlet
  cf marketplace
  cf create-service mail small my-mail-small
  cf create-service mail large my-mail-large
";
    assert_eq!(
        check(&text, &[]),
        (Some(0), wanted.to_owned(), String::new())
    );
}

#[test]
fn check_tells_everything_at_once_in_the_order_of_the_file_each_with_its_place() {
    let text = json!({"services": [
        {
            "name": "mail relay", "id": "mail", "description": "Sends mail", "bindable": true, "plan_updatable": true,
            "plans": [
                {
                    "name": "small", "id": "small", "description": "A plan",
                    "adapter": {
                        "kind": "shared",
                        "binding": {"credentials": {
                            "password": "${env:MAIL_PASSWORD}", "from": "${parameter.sender}"
                        }}
                    }
                },
                {"name": "large", "id": "small", "description": "", "adapter": {"knid": "shared"}}
            ]
        },
        {"name": "disk", "id": "disk", "description": "For ${env:OWNER|public}", "bindable": true, "plans": []}
    ]});
    let wanted = "\
warning: services[0].name: found \"mail relay\", hard to type on a command line; wanted letters, digits, periods and hyphens
warning: services[0].plan_updatable: unknown key, served to everybody who may read the catalog, did you mean \"plan_updateable\"?
error: services[0].plans[0].adapter.binding.credentials.from: at character 1: ${parameter.sender}: unknown, did you mean \"parameters.sender\"?
error: services[0].plans[0].adapter.binding.credentials.password: at character 1: ${env:MAIL_PASSWORD}: the environment variable MAIL_PASSWORD is not set
error: services[0].plans[1].id: repeats \"small\" of services[0].plans[0]
error: services[0].plans[1].description: found an empty string, wanted one that is not blank
error: services[0].plans[1].adapter.knid: unknown key, did you mean \"kind\"?
error: services[0].plans[1].adapter.kind: found nothing, wanted a string
error: services[1].description: ${env:OWNER}: the environment variable OWNER is not set
error: services[1].plans: found none, wanted at least one service plan
catalog.json: 8 errors, 2 warnings
";
    assert_eq!(
        check(&text.to_string(), &[]),
        (Some(1), wanted.to_owned(), String::new())
    );
}

#[test]
fn a_value_of_the_wrong_type_hides_no_fault_of_an_adapter() {
    let mut plan = plan("small");
    plan["free"] = json!("no");
    plan["adapter"] = json!({"kind": "shared", "bindng": {}});
    let mut catalog: Value = serde_json::from_str(&catalog("mail", json!([plan]))).unwrap();
    catalog["services"][0]["bindable"] = json!("yes");
    let wanted = "\
error: services[0].bindable: found a string, wanted true or false
error: services[0].plans[0].free: found a string, wanted true or false
error: services[0].plans[0].adapter.bindng: unknown key, did you mean \"binding\"?
catalog.json: 3 errors, 0 warnings
";
    assert_eq!(
        check(&catalog.to_string(), &[]),
        (Some(1), wanted.to_owned(), String::new())
    );
}

#[test]
fn a_key_that_stands_twice_is_found_where_it_stands() {
    let text = catalog("mail", json!([plan("small")]));
    let text = text.replace("\"id\":\"small-id\"", "\"id\":\"old\",\"id\":\"small-id\"");
    let wanted = "\
error: services[0].plans[0].id: found more than once in the same object, wanted once
catalog.json: 1 error, 0 warnings
";
    assert_eq!(
        check(&text, &[]),
        (Some(1), wanted.to_owned(), String::new())
    );
}

#[test]
fn warnings_alone_are_no_failure() {
    let (code, printed, _) = check(&catalog("mail relay", json!([plan("small")])), &[]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(
        printed.starts_with("warning: services[0].name: found \"mail relay\", "),
        "{printed}"
    );
    assert!(
        printed.contains("\ncatalog.json: 0 errors, 1 warning; offers 1 service with 1 plan\n"),
        "{printed}"
    );
}

#[test]
fn variables_that_a_catalog_names_are_wanted_and_their_values_never_printed() {
    let mut private = plan("small");
    private["adapter"] = json!({
        "kind": "shared", "binding": {"credentials": {"password": "${env:MAIL_PASSWORD}", "port": true}}
    });
    private["description"] = json!("Run by ${env:OWNER|public}");
    private["naem"] = json!("geheimnis");
    let text = catalog("mail", json!([private]));

    let set = [("MAIL_PASSWORD", "geheim"), ("OWNER", "the post room")];
    let (code, printed, error) = check(&text, &set);
    assert_eq!(code, Some(0), "{printed}{error}");
    assert!(!printed.contains("geheim"), "{printed}");

    for (missing, others) in [("OWNER", &set[..1]), ("MAIL_PASSWORD", &set[1..])] {
        let (code, printed, error) = check(&text, others);
        assert_eq!(code, Some(1), "{printed}{error}");
        let wanted = format!("${{env:{missing}}}: the environment variable {missing} is not set\n");
        assert!(printed.contains(&wanted), "{printed}");
        assert!(!printed.contains("geheim"), "{printed}");
        assert!(!printed.contains("cf create-service-broker"), "{printed}");
    }
}

/// Names are for a shell to read: the commands are run by one, with a `cf` that shows what it gets.
#[test]
fn the_commands_of_check_mean_the_same_to_a_shell() {
    let service = "mail relay; rm -rf $HOME";
    let plans = ["it's", "\"quoted\"", "a\\b `id`", "*", "größe", "v1.0_x"];
    let text = catalog(service, plans.iter().copied().map(plan).collect());
    let (code, printed, _) = check(&text, &[]);
    assert_eq!(code, Some(0), "{printed}");

    let commands: Vec<&str> = printed
        .lines()
        .filter(|line| line.starts_with("  "))
        .collect();
    let script = format!(
        "cf() {{ for word in \"$@\"; do printf '%s\\n' \"$word\"; done; echo; }}\n{}",
        commands.join("\n")
    );
    let shell = Command::new("sh")
        .args(["-euc", &script])
        .env("BROKER_USERNAME", "alex smith")
        .env("BROKER_PASSWORD", "big $secret")
        .output()
        .unwrap();
    let (code, got, error) = ended(shell);
    assert_eq!((code, error.as_str()), (Some(0), ""), "{script}");
    let got: Vec<Vec<&str>> = got
        .trim_end()
        .split("\n\n")
        .map(|command| command.lines().collect())
        .collect();

    let mut wanted = vec![
        vec![
            "create-service-broker",
            "brokerlet",
            "alex smith",
            "big $secret",
            "https://brokerlet.example.com",
        ],
        vec!["enable-service-access", service, "-b", "brokerlet"],
        vec!["marketplace"],
    ];
    let instances = plans.map(|plan| format!("my-{service}-{plan}"));
    for (plan, instance) in plans.iter().zip(&instances) {
        wanted.push(vec!["create-service", service, plan, instance]);
    }
    assert_eq!(got, wanted);
}

#[test]
fn what_is_no_catalog_is_an_error_that_says_why() {
    for (text, wanted) in [
        (
            "",
            "error: the file is empty; wanted JSON, as in {\"services\": [...]}\n",
        ),
        (
            "{\n  \"services\": [,]\n}",
            "error: not valid JSON: expected value at line 2 column 16\n",
        ),
        (
            "[]",
            "error: found an array, wanted an object with \"services\"\n",
        ),
        ("{}", "error: services: found nothing, wanted "),
    ] {
        let (code, printed, error) = check(text, &[]);
        assert_eq!((code, error.as_str()), (Some(1), ""), "{text}");
        assert!(printed.starts_with(wanted), "{text}: {printed}");
        assert!(
            printed.ends_with("catalog.json: 1 error, 0 warnings\n"),
            "{text}: {printed}"
        );
    }
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_that_names_it() {
    let folder = Folder::new();
    let path = folder.path().join("missing.json");
    let (code, printed, _) = run(&["check", path.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    let wanted = "error: cannot read the catalog file: No such file or directory";
    assert!(printed.starts_with(wanted), "{printed}");
    let wanted = format!("{}: 1 error, 0 warnings\n", path.display());
    assert!(printed.ends_with(&wanted), "{printed}");
}

#[test]
fn check_needs_no_configuration_and_starts_nothing() {
    let folder = Folder::new();
    folder.file("catalog.json", catalog("mail", json!([plan("small")])));
    let mut command = brokerlet();
    command.args(["check", "catalog.json"]);
    command.current_dir(folder.path()).env("PORT", "nonsense");
    let (code, printed, error) = ended(command.output().unwrap());
    assert_eq!((code, error.as_str()), (Some(0), ""), "{printed}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn the_help_names_every_command_variable_and_exit_code() {
    let (code, help, error) = run(&["--help"]);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    let first = concat!("brokerlet ", env!("CARGO_PKG_VERSION"), ": ");
    assert!(help.starts_with(first), "{help}");
    assert!(help.contains(USAGE), "{help}");
    for variable in VARIABLES {
        let line = help
            .lines()
            .find(|line| line.split_whitespace().next() == Some(variable.name))
            .unwrap_or_else(|| panic!("{} is not in {help}", variable.name));
        assert!(line.contains(variable.meaning), "{line}");
        let default = format!(" [{}]", variable.default);
        assert_eq!(
            line.ends_with(&default),
            !variable.default.is_empty(),
            "{line}"
        );
    }
    assert!(help.contains("adapter-test"));
    let codes = |text: &str| -> BTreeSet<u8> {
        text.split(|c: char| !c.is_ascii_digit())
            .filter_map(|number| number.parse().ok())
            .collect()
    };
    let (_, named) = help.split_once("Exit codes: ").unwrap();
    assert_eq!(codes(named), BTreeSet::from([0, 1, 64, 74, 78]));
    for same in ["-h", "help"] {
        assert_eq!(run(&[same]).1, help);
    }
}

#[test]
fn every_command_has_a_help_however_one_asks_for_it() {
    for (command, named) in [
        (
            "check",
            &["FILE", "--without-secrets", "BROKER_CATALOG", "cf"][..],
        ),
        (
            "adapter-test",
            &[
                "FILE",
                "--service",
                "--plan",
                "--parameters",
                "--update-parameters",
                "--bind-parameters",
            ],
        ),
        (
            "import-env",
            &[
                "--output",
                "BASE_GUID",
                "SERVICE_NAME",
                "SERVICE_PLAN_NAME",
                "CREDENTIALS",
                "TAGS",
            ],
        ),
        (
            "health",
            &["URL", "/healthz", "5 seconds", "BROKER_TLS_CERT"],
        ),
    ] {
        let (code, help, error) = run(&[command, "--help"]);
        assert_eq!((code, error.as_str()), (Some(0), ""));
        assert!(
            help.starts_with(&format!("Usage:\n  brokerlet {command} ")),
            "{help}"
        );
        assert!(help.contains("\nExit codes: 0 "), "{help}");
        for name in named {
            assert!(help.contains(name), "{name} is not in {help}");
        }
        for line in help.lines() {
            assert!(line.len() <= 120, "{line}");
        }
        for arguments in [
            &[command, "-h"][..],
            &["help", command],
            &["--help", command],
            &["-h", command],
            &[command, "catalog.json", "--help"],
            &[command, "--no-such-option", "-h"],
        ] {
            assert_eq!(run(arguments), (Some(0), help.clone(), String::new()));
        }
    }
    let general = run(&["--help"]);
    for arguments in [
        &["help", "help"][..],
        &["help", "--help"],
        &["help", "version"],
        &["version", "-h"],
    ] {
        assert_eq!(run(arguments), general);
    }
}

#[test]
fn the_version_is_one_line_and_names_what_is_built_in() {
    let built = [
        ("http-adapter", cfg!(feature = "http-adapter")),
        ("postgres", cfg!(feature = "postgres")),
        ("schemas", cfg!(feature = "schemas")),
        ("tls", cfg!(feature = "tls")),
    ];
    let names: Vec<&str> = built.iter().filter(|it| it.1).map(|it| it.0).collect();
    let features = match names.is_empty() {
        true => "no features".to_owned(),
        false => format!("features: {}", names.join(", ")),
    };
    let wanted = format!("brokerlet {} ({features})\n", env!("CARGO_PKG_VERSION"));
    for argument in ["version", "--version", "-V"] {
        assert_eq!(run(&[argument]), (Some(0), wanted.clone(), String::new()));
    }
}

#[test]
fn a_misspelt_command_is_hinted_at() {
    for (arguments, wanted) in [
        (&["chekc", "catalog.json"][..], "check"),
        (&["test-adapter"], ""),
        (&["adapter_test", "catalog.json"], "adapter-test"),
        (&["healthz"], "health"),
        (&["help", "chek"], "check"),
        (&["--verison"], "--version"),
        (&["hepl"], "help"),
    ] {
        let (code, printed, told) = run(arguments);
        assert_eq!((code, printed.as_str()), (Some(64), ""), "{told}");
        let hint = match wanted {
            "" => String::new(),
            wanted => format!(", did you mean \"{wanted}\"?"),
        };
        let line = format!(
            "brokerlet: cannot understand the arguments: {}{hint}\n\nUsage:",
            arguments.join(" ")
        );
        assert!(told.starts_with(&line), "{told}");
    }
}

#[test]
fn wrong_arguments_are_repeated_and_the_usage_follows() {
    for arguments in [
        &["serve"][..],
        &["--version", "--help"],
        &["--port", "80"],
        &[""],
    ] {
        let told = format!(
            "brokerlet: cannot understand the arguments: {}\n\n{USAGE}",
            arguments.join(" ")
        );
        assert_eq!(run(arguments), (Some(64), String::new(), told));
    }
}

#[test]
fn a_reader_that_goes_away_is_no_reason_to_fail() {
    // More than fits into a pipe, so that the reader is gone before all is written.
    let plans: Vec<Value> = (0..4000).map(|n| plan(&format!("plan-{n}"))).collect();
    let folder = Folder::new();
    let path = folder.file("catalog.json", catalog("mail", Value::Array(plans)));
    let mut child = brokerlet()
        .arg("check")
        .arg(path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut start = [0; 10];
    let mut reader = child.stdout.take().unwrap();
    reader.read_exact(&mut start).unwrap();
    drop(reader);
    let output = child.wait_with_output().unwrap();
    assert_eq!(ended(output), (Some(0), String::new(), String::new()));
}

/// Refused starts: nothing on standard output, every reason on standard error, one a line.
fn refused(setup: Setup, code: i32) -> Vec<String> {
    let (found, printed, told) = ended(setup.run());
    assert_eq!((found, printed.as_str()), (Some(code), ""), "{told}");
    let lines: Vec<String> = told.lines().map(str::to_owned).collect();
    assert!(!lines.is_empty());
    for line in &lines {
        assert!(line.starts_with("brokerlet: "), "{told}");
    }
    lines
}

#[test]
fn without_credentials_the_start_is_refused() {
    let folder = Folder::new();
    let mut command = brokerlet();
    command.current_dir(folder.path());
    let (code, printed, told) = ended(command.output().unwrap());
    assert_eq!((code, printed.as_str()), (Some(78), ""));
    let wanted =
        "brokerlet: BROKER_USERNAME and BROKER_PASSWORD are not set, nor is BROKER_TOKEN: ";
    assert!(told.starts_with(wanted), "{told}");
    // Not even the file for the state was made.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn everything_wrong_with_the_environment_is_told_at_once() {
    let setup = Setup::new()
        .env("PORT", "http")
        .env("BROKER_WORKERS", "none")
        .env("BROKER_STORE", "disk")
        .env("BROKER_LOG", "xml");
    let mut lines = refused(setup, 78);
    lines.sort();
    assert_eq!(
        lines,
        [
            "brokerlet: BROKER_LOG: found \"xml\", wanted logfmt or json",
            "brokerlet: BROKER_STORE: found \"disk\", wanted file:PATH, postgres://… or memory",
            "brokerlet: BROKER_WORKERS: found \"none\", wanted a number from 1 to 1024",
            "brokerlet: PORT: found \"http\", wanted a port from 0 to 65535",
        ]
    );
}

#[test]
fn a_catalog_with_errors_is_refused_with_the_findings_of_check() {
    let text = catalog("mail", json!([plan("small"), plan("small")]));
    let (_, printed, _) = check(&text, &[]);
    let (findings, _) = printed.split_once("catalog.json: ").unwrap();
    let wanted: Vec<String> = findings
        .lines()
        .map(|finding| format!("brokerlet: catalog.json: {finding}"))
        .collect();
    assert_eq!(wanted.len(), 2, "{printed}");

    let setup = Setup::new();
    setup.folder.file("catalog.json", text);
    assert_eq!(
        refused(setup.env("BROKER_CATALOG", "catalog.json"), 78),
        wanted
    );

    let missing = refused(Setup::new().env("BROKER_CATALOG", "missing.json"), 78);
    assert!(
        missing[0].starts_with("brokerlet: missing.json: error: cannot read the catalog file: "),
        "{missing:?}"
    );
}

/// Without a catalog of its own a broker says so first.
fn with_catalog() -> Setup {
    let tutorial = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/tutorial.json");
    Setup::new().env("BROKER_CATALOG", tutorial)
}

#[test]
fn state_or_network_that_cannot_be_used_are_another_code() {
    let setup = with_catalog().env("BROKER_STORE", "file:none/state.db");
    let none = setup.folder.path().join("none");
    let wanted = format!(
        "brokerlet: none/state.db: cannot be created: there is no folder {}",
        none.display()
    );
    assert_eq!(refused(setup, 74), [wanted]);

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let setup = with_catalog()
        .env("BROKER_STORE", "memory")
        .env("PORT", address.port().to_string());
    let told = refused(setup, 74);
    let wanted = format!("brokerlet: cannot listen on {address}: ");
    assert!(told[0].starts_with(&wanted), "{told:?}");
}
