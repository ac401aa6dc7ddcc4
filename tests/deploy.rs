//! What docs/operating.md says about running brokerlet holds: the static binary needs nothing beside it, and the files for
//! Cloud Foundry, systemd and containers agree with the program. Those for Kubernetes are in `kubernetes.rs`.
#![cfg(target_os = "linux")]

mod support;

use brokerlet::config::VARIABLES;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};
use support::pages::pages;
use support::programs::{catalog, executable};
use support::{Folder, IDS, Request, Setup, bind, binding, instance, needs, program, provision};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Mounts the folder read-only over itself, seen by this process alone, makes sure that it is, and becomes the broker.
const IN_READ_ONLY_FOLDER: &str = r#"
mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" || exit 1
if touch "$1/probe" 2>/dev/null; then echo "$1 can be written" >&2; exit 1; fi
exec chroot "$1" /brokerlet
"#;

/// `unshare` with the rights to mount and chroot; as root it needs no user namespace for them.
fn unshare() -> Command {
    let mut command = program("unshare");
    command.env("PATH", PATH).arg("--mount");
    if !needs::is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
}

/// Whether namespaces can be made here, and a static binary be linked. Root can make them.
fn can_run_alone() -> bool {
    if !needs::has(&["unshare", "mount", "chroot"]) {
        return false;
    }
    let output = unshare().arg("true").output().unwrap();
    if !output.status.success() {
        let refused = String::from_utf8_lossy(&output.stderr);
        let refused = refused.trim();
        assert!(
            !needs::is_root(),
            "root cannot make a mount namespace: {refused}"
        );
        needs::leave_out(&format!("unshare makes no mount namespace ({refused})"));
        return false;
    }
    let library = Command::new("cc").arg("-print-file-name=libc.a").output();
    // Who has no such file is told its bare name.
    let is_there = library.is_ok_and(|output| output.stdout.starts_with(b"/"));
    if !is_there {
        needs::leave_out("a static C library (libc.a) missing");
    }
    is_there
}

fn host() -> String {
    let output = Command::new(env!("CARGO")).arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.unwrap().to_owned()
}

/// Builds as docs/operating.md says, but for the profile: what is linked in is the same. Once for all tests.
fn static_binary() -> &'static Path {
    static BINARY: LazyLock<PathBuf> = LazyLock::new(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("static");
        let host = host();
        let output = Command::new(env!("CARGO"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["build", "--frozen", "--bin", "brokerlet", "--target", &host])
            .args(cfg!(feature = "http-adapter").then_some("--features=http-adapter"))
            .args(cfg!(feature = "postgres").then_some("--features=postgres"))
            .arg("--target-dir")
            .arg(&target)
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env("CARGO_PROFILE_DEV_DEBUG", "false")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        target.join(host).join("debug/brokerlet")
    });
    &BINARY
}

/// A folder that cannot be written while this lives.
struct ReadOnly(PathBuf);

impl ReadOnly {
    fn new(path: PathBuf) -> ReadOnly {
        std::fs::set_permissions(&path, Permissions::from_mode(0o555)).unwrap();
        ReadOnly(path)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = std::fs::set_permissions(&self.0, Permissions::from_mode(0o755));
    }
}

/// The static binary in a read-only folder of its own, about to be started there.
fn alone() -> Option<(Setup, ReadOnly)> {
    if !can_run_alone() {
        return None;
    }
    let folder = Arc::new(Folder::new());
    let root = folder.path().join("root");
    std::fs::create_dir(&root).unwrap();
    // Not copied: a process that another test starts meanwhile would hold the copy open for writing, and what is open
    // for writing cannot be executed.
    std::fs::hard_link(static_binary(), root.join("brokerlet")).unwrap();
    let root = ReadOnly::new(root);
    let mut command = unshare();
    command.args(["sh", "-c", IN_READ_ONLY_FOLDER, "sh"]);
    command.arg(&root.0);
    Some((Setup::of(command, folder), root))
}

#[test]
fn the_static_binary_runs_in_a_read_only_folder_with_nothing_else_in_it() {
    let Some((setup, _root)) = alone() else {
        return;
    };
    let broker = setup.env("BROKER_STORE", "memory").start();

    let health = Request::new(broker.address, "GET", "/healthz").without("Authorization");
    assert_eq!(health.send().expect(200).json(), json!({"status": "ok"}));
    let asked = unshare()
        .args([
            "chroot",
            broker.folder.path().join("root").to_str().unwrap(),
        ])
        .args(["/brokerlet", "health"])
        .env("PORT", broker.address.port().to_string())
        .output()
        .unwrap();
    assert!(asked.status.success(), "{asked:?}");
    broker.get("/v2/catalog").expect(200);
    let (service, plan) = ("example_service", "plan_one");
    broker
        .put(&instance("i"), &provision(service, plan))
        .expect(201);
    let bound = broker.put(&binding("i", "b"), &bind(service, plan));
    assert_eq!(bound.expect(201).json(), json!({"credentials": {}}));
    broker.delete(&(binding("i", "b") + IDS)).expect(200);
    broker.delete(&(instance("i") + IDS)).expect(200);
    let (status, printed) = broker.stop();
    assert_eq!(status.code(), Some(0), "{printed}");
    assert!(printed.contains("event=stopped"), "{printed}");
}

#[test]
fn the_file_store_in_a_read_only_folder_is_refused_with_its_name() {
    let Some((setup, _root)) = alone() else {
        return;
    };
    let refused = setup.run();
    let told = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(74), "{refused:?}");
    assert!(told.contains("brokerlet.db"), "{told}");
}

/// A name of /etc/hosts is found without the libraries that nsswitch.conf may name. What a login needs beyond that is told.
#[cfg(feature = "postgres")]
#[test]
fn the_static_binary_finds_a_database_by_its_name() {
    if !can_run_alone() {
        return;
    }
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    for switch in [
        "",
        "passwd: files\nhosts: files dns\n",
        "passwd: files systemd\nhosts: files mdns4_minimal [NOTFOUND=return] dns\n",
    ] {
        let root = Folder::new();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        root.file("etc/hosts", "127.0.0.1 db.internal\n");
        root.file("etc/nsswitch.conf", switch);
        std::fs::hard_link(static_binary(), root.path().join("brokerlet")).unwrap();
        let mut command = unshare();
        command.arg("chroot").arg(root.path()).arg("/brokerlet");
        let url = format!("postgres://user:password@db.internal:{port}/d?sslmode=disable");
        let refused = Setup::of(command, Arc::new(Folder::new()))
            .env("BROKER_STORE", url)
            .run();
        let told = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(74), "{refused:?}");
        assert!(
            told.contains(&format!(
                "db.internal:{port}: no random values for the login: /dev/urandom"
            )),
            "{told}"
        );
    }
}

fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The lines of a file that count, without what YAML, the shell and systemd take for comments.
fn lines(text: &str) -> Vec<&str> {
    text.lines()
        .map(|line| line.split(" #").next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

#[test]
fn the_manifest_is_for_the_binary_buildpack_and_holds_no_secret() {
    let manifest = file("manifest.yml");
    let lines = lines(&manifest);
    for wanted in [
        "- name: brokerlet",
        "path: dist",
        "buildpacks:",
        "- binary_buildpack",
        "memory: 32M",
        "disk_quota: 64M",
        "instances: 2",
        "services:",
        "- brokerlet-db",
        "health-check-type: http",
        "health-check-http-endpoint: /healthz",
        "BROKER_CATALOG: catalog.json",
    ] {
        assert!(
            lines.contains(&wanted),
            "{wanted:?} is not in manifest.yml: {lines:#?}"
        );
    }
    for secret in ["USERNAME", "PASSWORD", "AUTH_", "SECURITY_USER"] {
        assert!(
            !lines.iter().any(|line| line.contains(secret)),
            "manifest.yml sets {secret}; credentials belong to cf set-env"
        );
    }
}

#[test]
fn the_script_for_dist_is_sound_and_makes_what_the_manifest_wants() {
    let script = "examples/cloudfoundry/dist.sh";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let checked = Command::new("sh").arg("-n").arg(&path).output().unwrap();
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stderr)
    );
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111, "{script} is not executable");
    let text = file(script);
    for wanted in [
        "RUSTFLAGS='-C target-feature=+crt-static' cargo build --release",
        "target=x86_64-unknown-linux-gnu",
        "dist/brokerlet",
        "dist/catalog.json",
        "echo 'web: ./brokerlet' > dist/Procfile",
    ] {
        assert!(text.contains(wanted), "{wanted:?} is not in {script}");
    }
}

/// A copy of the project with nothing but the script in it, whose `cargo` has this very binary built already.
struct Project(Folder);

impl Project {
    fn new() -> Project {
        let folder = Folder::new();
        let at = |path: &str| folder.path().join(path);
        std::fs::create_dir_all(at("examples/cloudfoundry")).unwrap();
        std::fs::create_dir(at("bin")).unwrap();
        let script = "examples/cloudfoundry/dist.sh";
        folder.file("examples/tutorial.json", file("examples/tutorial.json"));
        executable(&folder, script, &file(script));
        let release = "target/x86_64-unknown-linux-gnu/release";
        let binary = env!("CARGO_BIN_EXE_brokerlet");
        let cargo =
            format!("#!/bin/sh\nmkdir -p {release} && ln -sf {binary} {release}/brokerlet\n");
        executable(&folder, "bin/cargo", &cargo);
        Project(folder)
    }

    /// A folder with a catalog of this adapter, a program, and what is not to be taken along.
    fn catalog(&self, folder: &str, adapter: Value) {
        let mut catalog = catalog(json!({}));
        for plan in catalog["services"][0]["plans"].as_array_mut().unwrap() {
            plan["adapter"] = adapter.clone();
        }
        for name in ["lib", ".git", "lib/.cache"] {
            std::fs::create_dir_all(self.0.path().join(folder).join(name)).unwrap();
        }
        let at = |name: &str| format!("{folder}/{name}");
        self.0.file(&at("mine.json"), catalog.to_string());
        executable(&self.0, &at("program"), "#!/bin/sh\n");
        for name in [
            "lib/words",
            ".env",
            ".git/config",
            "lib/.cache/x",
            "brokerlet.db",
            "brokerlet.db-wal",
        ] {
            self.0.file(&at(name), "content\n");
        }
    }

    /// Runs the script: its exit code and what it printed.
    fn dist(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", self.0.path().join("bin").display());
        let mut command = program("/bin/sh");
        command.arg("examples/cloudfoundry/dist.sh").args(arguments);
        command.current_dir(self.0.path()).env("PATH", path);
        let output = command
            .env("HOME", self.0.path().join("home"))
            .output()
            .unwrap();
        let printed = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(printed).unwrap())
    }

    fn has(&self, path: &str) -> bool {
        self.0.path().join("dist").join(path).exists()
    }
}

#[test]
fn the_script_for_dist_takes_the_programs_of_the_catalog_along() {
    if !needs::has(&["find", "grep", "sed"]) {
        return;
    }
    let project = Project::new();
    let adapter = json!({ "kind": "exec", "command": ["./program"] });
    project.catalog("mine", adapter);
    let (code, printed) = project.dist(&["mine/mine.json"]);
    assert_eq!(code, Some(0), "{printed}");
    let taken = "dist/ holds:\n  dist/Procfile\n  dist/brokerlet\n  dist/catalog.json\n  dist/lib/words\n  dist/program\n";
    assert!(printed.contains(taken), "{printed}");
    let program = std::fs::metadata(project.0.path().join("dist/program")).unwrap();
    assert_eq!(program.permissions().mode() & 0o111, 0o111);
    for left in [
        ".git",
        ".env",
        "lib/.cache",
        "brokerlet.db",
        "brokerlet.db-wal",
    ] {
        assert!(!project.has(left), "{left}");
    }
    // Nothing of it is left for a catalog that needs no programs.
    let (code, printed) = project.dist(&[]);
    assert_eq!(code, Some(0), "{printed}");
    let taken = "dist/ holds:\n  dist/Procfile\n  dist/brokerlet\n  dist/catalog.json\n";
    assert!(
        printed.contains(taken) && !project.has("program"),
        "{printed}"
    );
}

#[test]
fn the_script_for_dist_fails_where_the_broker_would_not_start() {
    if !needs::has(&["find", "grep", "sed"]) {
        return;
    }
    let project = Project::new();
    let adapter = json!({ "kind": "exec", "command": ["./no-such-program"] });
    project.catalog("mine", adapter);
    let (code, printed) = project.dist(&["mine/mine.json"]);
    assert_eq!(code, Some(78), "{printed}");
    assert!(
        printed.contains("no-such-program does not exist"),
        "{printed}"
    );
    assert!(printed.ends_with("dist.sh: the broker would not start with this catalog\n"));

    // Variables are the app's.
    let adapter = json!({
        "kind": "exec", "command": ["./program"], "env": { "A": "${env:ONLY_THE_APP_HAS_IT}" }
    });
    project.catalog("mine", adapter);
    let (code, printed) = project.dist(&["mine/mine.json"]);
    assert_eq!(code, Some(0), "{printed}");
}

#[test]
fn the_script_for_dist_takes_no_folder_that_holds_more_than_programs() {
    let project = Project::new();
    let adapter = json!({ "kind": "exec", "command": ["./program"] });
    project.catalog(".", adapter.clone());
    project.catalog("home", adapter);
    for catalog in ["mine.json", "home/mine.json"] {
        let (code, printed) = project.dist(&[catalog]);
        assert_eq!(code, Some(66), "{printed}");
        assert!(
            printed.contains("put them into a folder of their own"),
            "{printed}"
        );
        assert!(!project.has("catalog.json"));
    }
}

#[test]
fn the_script_for_dist_names_a_catalog_that_is_not_there() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/cloudfoundry/dist.sh");
    let refused = Command::new(script).arg("no/such.json").output().unwrap();
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success(), "{told}");
    assert!(told.contains("no/such.json"), "{told}");
}

#[test]
fn every_variable_in_the_files_for_operators_exists() {
    let known: BTreeSet<_> = VARIABLES.iter().map(|variable| variable.name).collect();
    let files = [
        "manifest.yml",
        "examples/cloudfoundry/dist.sh",
        "examples/systemd/brokerlet.service",
        "examples/docker/Dockerfile",
        "examples/kubernetes/brokerlet.yaml",
        "examples/kubernetes/brokerlet-postgres.yaml",
        "examples/kubernetes/restore.yaml",
    ];
    let files = files.map(|path| (PathBuf::from(path), file(path)));
    let pages = pages().into_iter().map(|page| (page.path, page.text));
    for (path, text) in files.into_iter().chain(pages) {
        let is_of_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let words = text.split(|c| !is_of_name(c));
        for name in words.filter(|word| word.starts_with("BROKER_") && *word != "BROKER_") {
            assert!(
                known.contains(name),
                "{}: there is no {name}",
                path.display()
            );
        }
    }
}

#[test]
fn the_service_unit_keeps_state_and_secrets_where_they_belong() {
    let unit = file("examples/systemd/brokerlet.service");
    let lines = lines(&unit);
    for wanted in [
        "DynamicUser=yes",
        "StateDirectory=brokerlet",
        "Environment=BROKER_STORE=file:%S/brokerlet/brokerlet.db",
        "LoadCredential=password:/etc/brokerlet/password",
        "Environment=BROKER_PASSWORD_FILE=%d/password",
        "Environment=BROKER_CATALOG=%d/catalog.json",
        "EnvironmentFile=-/etc/brokerlet/environment",
        "Restart=on-failure",
        "ProtectSystem=strict",
    ] {
        assert!(lines.contains(&wanted), "{wanted:?} is not in the unit");
    }
    // Where the catalog lies, so that ${file:mail-password} finds it.
    let secret = "#LoadCredential=mail-password:/etc/brokerlet/mail-password";
    assert!(unit.lines().any(|line| line == secret), "{unit}");
    assert!(
        !unit.contains("BROKER_PASSWORD="),
        "the password is in the unit"
    );
}

#[test]
fn the_image_is_empty_but_for_the_broker() {
    let dockerfile = file("examples/docker/Dockerfile");
    let lines = lines(&dockerfile);
    let at = |line: &str| lines.iter().position(|found| *found == line);
    let scratch = at("FROM scratch").expect("FROM scratch");
    for wanted in [
        "COPY --from=build /brokerlet /brokerlet",
        "USER 10001:10001",
        "EXPOSE 5000",
        "HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD [\"/brokerlet\", \"health\"]",
        "ENTRYPOINT [\"/brokerlet\"]",
    ] {
        assert!(
            at(wanted).is_some_and(|line| line > scratch),
            "{wanted:?} is not in the second stage"
        );
    }
    assert!(
        !lines[scratch..].iter().any(|line| line.starts_with("RUN ")),
        "nothing can run in the second stage while it is built"
    );
}
