use super::*;
use crate::adapter::settings::tests::{offering, probe_in};

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// A folder that is gone when the test is.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder =
            std::env::temp_dir().join(format!("brokerlet-setup-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn file(&self, name: &str, content: &str, mode: u32) -> PathBuf {
        let file = self.0.join(name);
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    /// The setup of an adapter with these settings, and the findings.
    fn read(&self, settings: &Value) -> (Option<Setup>, Vec<String>) {
        self.read_with(settings, json!({}))
    }

    fn read_with(&self, settings: &Value, plan: Value) -> (Option<Setup>, Vec<String>) {
        {
            let service = offering(json!({}), plan);
            probe_in(&self.0, settings, &service, Setup::read)
        }
    }

    fn errors(&self, settings: &Value) -> Vec<String> {
        let short = |finding: String| finding.replace("services[0].plans[0].adapter.", "");
        self.read(settings).1.into_iter().map(short).collect()
    }

    fn shown(&self) -> std::path::Display<'_> {
        self.0.display()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn what_is_left_out_has_a_default() {
    let folder = Folder::new("defaults");
    folder.file("run.sh", "#!/bin/sh\n", 0o755);
    let (setup, findings) = folder.read(&json!({"command": ["./run.sh", "-v"]}));
    let setup = setup.unwrap();
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!(setup.file, folder.0.join("./run.sh"));
    assert_eq!(setup.arguments, ["-v"]);
    assert_eq!(setup.pace.concurrency, 4);
    for kind in Kind::ALL {
        assert!(!setup.pace.is_async(kind));
        assert_eq!(setup.pace.timeout(kind), Duration::from_secs(55));
    }
}

#[test]
fn a_synchronous_operation_never_gets_more_than_the_platform_waits() {
    let folder = Folder::new("timeouts");
    folder.file("run.sh", "#!/bin/sh\n", 0o755);
    let read = |settings: Value, plan: Value| {
        let mut whole = json!({"command": ["./run.sh"]});
        whole
            .as_object_mut()
            .unwrap()
            .extend(settings.as_object().unwrap().clone());
        let (setup, findings) = folder.read_with(&whole, plan);
        let setup = setup.unwrap();
        let seconds = Kind::ALL.map(|kind| setup.pace.timeout(kind).as_secs());
        (seconds, findings)
    };
    for (settings, plan, wanted) in [
        (json!({"timeout": "10s"}), json!({}), [10; 5]),
        (
            json!({"async": false, "timeout": "55s"}),
            json!({}),
            [55; 5],
        ),
        (json!({"async": true}), json!({}), [3600; 5]),
        (
            json!({"async": true, "timeout": "10m"}),
            json!({}),
            [600; 5],
        ),
        (
            json!({"async": ["provision", "deprovision"], "timeout": "10m"}),
            json!({}),
            [600, 55, 600, 55, 55],
        ),
        (
            json!({"async": ["update"]}),
            json!({"maximum_polling_duration": 1000}),
            [55, 900, 55, 55, 55],
        ),
    ] {
        assert_eq!(read(settings.clone(), plan), (wanted, vec![]), "{settings}");
    }
    let (_, findings) = read(json!({"timeout": "1m"}), json!({}));
    assert!(
        findings[0].contains("adapter.timeout: found 1m, wanted at most 55s"),
        "{findings:?}"
    );
}

#[test]
fn wrong_settings_are_named() {
    let folder = Folder::new("wrong");
    folder.file("run.sh", "#!/bin/sh\n", 0o755);
    folder.file("plain.sh", "#!/bin/sh\n", 0o644);
    folder.file("windows.sh", "#!/bin/sh\r\n", 0o755);
    folder.file("odd.sh", "#! /no/such/shell -e\n", 0o755);
    fs::create_dir(folder.0.join("folder")).unwrap();
    let at = folder.shown();
    let wanted = "wanted an array with the program and its arguments, such as [\"./database.sh\"]";
    for (settings, error) in [
        (json!({}), format!("command: found nothing, {wanted}")),
        (json!({"command": []}), format!("command: found an empty array, {wanted}")),
        (json!({"command": "./run.sh"}), "command: found a string, wanted an array".into()),
        (json!({"command": ["./run.sh", 7]}), "command[1]: found a number, wanted a string".into()),
        (json!({"command": [""]}), "command[0]: found an empty string, wanted a program".into()),
        (
            json!({"command": ["./nothing.sh"]}),
            format!("command[0]: \"./nothing.sh\": the file {at}/./nothing.sh does not exist"),
        ),
        (json!({"command": ["./folder"]}), format!("command[0]: \"./folder\": {at}/./folder is not a file")),
        (
            json!({"command": ["./plain.sh"]}),
            format!(
                "command[0]: \"./plain.sh\": the file {at}/./plain.sh is not executable for the user of the broker; try: \
                 chmod +x {at}/./plain.sh"
            ),
        ),
        (
            json!({"command": ["./windows.sh"]}),
            "command[0]: \"./windows.sh\": its lines end with CR LF, so its interpreter is not found; wanted LF".into(),
        ),
        (
            json!({"command": ["./odd.sh"]}),
            "command[0]: \"./odd.sh\": its interpreter /no/such/shell does not exist".into(),
        ),
        (
            json!({"command": ["run.sh"]}),
            "command[0]: \"run.sh\": no such program in PATH; did you mean \"./run.sh\", beside the catalog file?".into(),
        ),
        (
            json!({"command": ["./run.sh", "--password=${env:SECRET}"]}),
            "command[1]: arguments can be seen by everybody on the machine, so they are taken as they are, without \"${\"; \
             hand the value over in \"env\""
                .into(),
        ),
        (
            json!({"command": ["./run.sh"], "async": "yes"}),
            "async: found a string, wanted true, false or a list of operations".into(),
        ),
        (
            json!({"command": ["./run.sh"], "async": ["provison"]}),
            "async[0]: found \"provison\", wanted one of provision, update, deprovision, bind, unbind, did you mean \
             \"provision\"?"
                .into(),
        ),
        (
            json!({"command": ["./run.sh"], "concurrency": 0}),
            "concurrency: found a number, wanted a whole number of at least 1".into(),
        ),
        (
            json!({"command": ["./run.sh"], "env": {"A": 7}}),
            "env.A: found a number, wanted a string".into(),
        ),
        (
            json!({"command": ["./run.sh"], "env": {"A=B": "x"}}),
            "env.A=B: wanted the name of an environment variable".into(),
        ),
        (
            json!({"command": ["./run.sh"], "env": {"A": "hunter2${env:NONE}"}}),
            "env.A: ${env:NONE}: the environment variable NONE is not set".into(),
        ),
        (
            json!({"command": ["./run.sh"], "env": {"A": "hunter2${file:none}"}}),
            format!("env.A: cannot read the file {at}/none: No such file or directory (os error 2)"),
        ),
        (
            json!({"command": ["./run.sh"], "env": {"A": "${hunter2}"}}),
            "env.A: unknown expression, wanted ${env:NAME} or ${file:PATH}; a literal \"${\" is written \"$${\"".into(),
        ),
        (
            json!({"command": ["./run.sh"], "enviroment": {}}),
            "enviroment: unknown key".into(),
        ),
    ] {
        assert_eq!(folder.errors(&settings), [format!("error: {error}")], "{settings}");
    }
}

#[test]
fn a_program_without_a_path_is_looked_for() {
    let folder = Folder::new("path");
    folder.file("tool", "#!/bin/sh\n", 0o755);
    folder.file("locked", "#!/bin/sh\n", 0o644);
    let path = format!("relative:{}", folder.shown());
    let environment = |name: &str| (name == "PATH").then(|| path.clone());
    let find = |name: &str| {
        let service = offering(json!({}), json!({}));
        let look = |settings: &Settings<'_>| find_program(name, Path::new("/"), settings);
        crate::adapter::settings::tests::probe_with(&environment, &json!({}), &service, look).0
    };
    assert_eq!(find("tool").unwrap(), folder.0.join("tool"));
    assert_eq!(
        find("locked").unwrap_err(),
        "\"locked\": no such program in PATH"
    );
}

#[test]
fn files_are_read_anew_and_their_content_is_secret() {
    let folder = Folder::new("files");
    folder.file("run.sh", "#!/bin/sh\n", 0o755);
    let secret = folder.file("secret", "first-password\n", 0o600);
    let settings = json!({
        "command": ["./run.sh"],
        "env": {"URL": "db://u:${file:secret|url}@${env:HOST}/$${x}", "HOME": "/nowhere/else"}
    });
    let (setup, findings) = folder.read(&settings);
    assert_eq!(findings, [""; 0]);
    let setup = setup.unwrap();
    let value = |environment: &Environment, wanted: &str| {
        let found = environment
            .variables
            .iter()
            .find(|(name, _)| name == wanted);
        found.unwrap().1.clone().into_string().unwrap()
    };
    let environment = setup.environment().unwrap();
    assert_eq!(
        value(&environment, "URL"),
        "db://u:first-password@relay.example.com/${x}"
    );
    assert_eq!(value(&environment, "HOME"), "/nowhere/else");
    let told = "got first-password, relay.example.com of db://u:first-password@relay.example.com/${x} in /nowhere/else";
    assert_eq!(
        environment.mask.apply(told),
        "got ***, *** of *** in /nowhere/else"
    );

    fs::write(&secret, "second-password\r\n").unwrap();
    let environment = setup.environment().unwrap();
    assert_eq!(
        value(&environment, "URL"),
        "db://u:second-password@relay.example.com/${x}"
    );
    assert_eq!(environment.mask.apply("got second-password"), "got ***");

    for content in [b"a\0b".to_vec(), vec![b'x'; 128 * 1024 + 1]] {
        fs::write(&secret, content).unwrap();
        let error = setup.environment().err().unwrap();
        assert!(error.contains(&secret.display().to_string()), "{error}");
    }
    fs::remove_file(&secret).unwrap();
    let error = setup.environment().err().unwrap();
    assert_eq!(
        error,
        format!(
            "cannot read the file {}: No such file or directory (os error 2)",
            secret.display()
        )
    );
}
