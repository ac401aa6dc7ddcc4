//! `.ci/release`: with which flags it builds, what it puts beside the binaries, and what it says is in them. Cargo is asked for
//! everything but the build itself, which takes minutes.
#![cfg(target_os = "linux")]

mod support;

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use support::pages::root;
use support::programs::executable;
use support::{Folder, needs};

/// The script in a copy of the project, after it has run.
struct Release {
    folder: Folder,
    /// A line for each build: the flags of Rust, those of C, the arguments.
    builds: Vec<String>,
}

impl Release {
    /// `None` where it cannot run.
    fn build() -> Option<Release> {
        if !needs::has(&["jq", "sha256sum"]) {
            return None;
        }
        let offline = [
            "metadata",
            "--offline",
            "--locked",
            "--all-features",
            "--format-version=1",
        ];
        let platform = format!(
            "--filter-platform={}-unknown-linux-gnu",
            std::env::consts::ARCH
        );
        let mut metadata = Command::new(env!("CARGO"));
        metadata.args(offline).arg(platform).current_dir(root());
        if !metadata.output().unwrap().status.success() {
            needs::leave_out("crates of the features missing");
            return None;
        }

        let folder = Folder::new();
        let at = |name: &str| folder.path().join(name);
        for name in ["bin", ".ci"] {
            fs::create_dir(at(name)).unwrap();
        }
        for name in ["Cargo.toml", "Cargo.lock", ".ci/release"] {
            fs::copy(root().join(name), at(name)).unwrap();
        }
        for name in ["src", "benches"] {
            symlink(root().join(name), at(name)).unwrap();
        }
        let log = at("builds");
        let cargo = format!(
            "#!/bin/sh\n[ $1 != fetch ] || exit 0\n[ $1 = build ] || exec '{}' \"$@\"\n\
             echo \"$CARGO_ENCODED_RUSTFLAGS|$CFLAGS|$*\" >>'{}'\n\
             built=target/$(uname -m)-unknown-linux-gnu/release\n\
             mkdir -p $built && ln -sf '{}' $built/brokerlet\n",
            env!("CARGO"),
            log.display(),
            env!("CARGO_BIN_EXE_brokerlet"),
        );
        executable(&folder, "bin/cargo", &cargo);
        executable(&folder, "bin/git", "#!/bin/sh\necho 1700000000\n");
        let path = std::env::var("PATH").unwrap();
        let output = Command::new("sh")
            .arg(".ci/release")
            .current_dir(folder.path())
            .env("PATH", format!("{}:{path}", at("bin").display()))
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("RUSTFLAGS")
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{printed}{complaints}");
        let builds = fs::read_to_string(log).unwrap();
        let builds = builds.lines().map(str::to_owned).collect();
        Some(Release { folder, builds })
    }

    fn file(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.path().join("dist/release").join(name)).unwrap()
    }
}

/// What a release is called, without and with all features.
fn names() -> [String; 2] {
    let (version, machine) = (env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    let name = format!("brokerlet-{version}-{machine}-unknown-linux-gnu");
    [name.clone(), name + "-full"]
}

/// Names of the components of an SBOM, whose entries are all complete.
fn components(sbom: &Value) -> BTreeSet<String> {
    let components = sbom["components"].as_array().unwrap();
    let mut referred: Vec<&Value> = Vec::new();
    for component in components {
        let (name, version) = (&component["name"], component["version"].as_str().unwrap());
        assert!(!version.is_empty(), "{component}");
        referred.push(&component["bom-ref"]);
        // SQLite comes within a crate, which has the checksum.
        let hash = component["hashes"][0]["content"].as_str();
        let is_whole = hash.is_some_and(|hash| hash.len() == 64);
        assert!(is_whole || name == "sqlite", "{component}");
    }
    let linked = sbom["dependencies"][0]["dependsOn"].as_array().unwrap();
    assert_eq!(linked.iter().collect::<Vec<_>>(), referred);
    let names = components
        .iter()
        .map(|component| component["name"].as_str().unwrap());
    names.map(str::to_owned).collect()
}

#[test]
fn a_release_has_binaries_their_parts_and_their_checksums() {
    let Some(release) = Release::build() else {
        return;
    };
    let folder = release.folder.path().join("dist/release");
    let found = fs::read_dir(&folder).unwrap();
    let found: BTreeSet<String> = found
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let [plain, full] = names();
    let sboms = [format!("{plain}.cdx.json"), format!("{full}.cdx.json")];
    let mut wanted = BTreeSet::from([plain, full, "SHA256SUMS".to_owned()]);
    wanted.extend(sboms.clone());
    assert_eq!(found, wanted);

    let check = |folder: &Path| {
        let mut command = Command::new("sha256sum");
        command.args(["--check", "--status", "SHA256SUMS"]);
        command.current_dir(folder).status().unwrap().success()
    };
    assert!(check(&folder));
    let sums = String::from_utf8(release.file("SHA256SUMS")).unwrap();
    assert_eq!(sums.lines().count(), 4, "{sums}");
    fs::write(folder.join(&sboms[0]), "{}").unwrap();
    assert!(!check(&folder));
}

#[test]
fn the_sbom_has_what_is_linked_in_and_nothing_else() {
    let Some(release) = Release::build() else {
        return;
    };
    let [plain, full] = names().map(|name| {
        let text = release.file(&format!("{name}.cdx.json"));
        let sbom: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(sbom["bomFormat"], "CycloneDX");
        assert_eq!(sbom["metadata"]["timestamp"], "2023-11-14T22:13:20Z");
        let built_with = &sbom["metadata"]["properties"][0];
        assert!(
            built_with["value"]
                .as_str()
                .unwrap()
                .starts_with("rustc 1.")
        );
        components(&sbom)
    });
    assert!(plain.is_subset(&full));
    for linked in ["rusqlite", "sqlite", "tiny_http", "serde_json"] {
        assert!(plain.contains(linked), "{linked}");
    }
    for (feature, linked) in [("tls", "rustls"), ("schemas", "jsonschema")] {
        assert!(
            full.contains(linked) && !plain.contains(linked),
            "{feature}"
        );
    }
    for other in ["brokerlet", "rcgen", "serde_derive", "cc"] {
        assert!(!full.contains(other), "{other} is not in the binary");
    }
}

#[test]
fn no_path_of_the_machine_gets_into_a_binary() {
    let Some(release) = Release::build() else {
        return;
    };
    let folder = release.folder.path().canonicalize().unwrap();
    let arguments = ["--no-default-features", "--all-features"];
    assert_eq!(release.builds.len(), arguments.len());
    for (build, argument) in release.builds.iter().zip(arguments) {
        let parts: Vec<&str> = build.split('|').collect();
        let [rust, c, cargo] = parts[..] else {
            panic!("{build}");
        };
        let folder = folder.display();
        for wanted in [
            format!("{folder}=/brokerlet"),
            "=/rust".to_owned(),
            "=/registry".to_owned(),
        ] {
            let is_hidden = |flags: &str, flag: &str, end: char| {
                let mut flags = flags.split(end);
                flags.any(|found| found.starts_with(flag) && found.ends_with(&wanted))
            };
            assert!(is_hidden(rust, "--remap-path-prefix=", '\u{1f}'), "{rust}");
            assert!(is_hidden(c, "-ffile-prefix-map=", ' '), "{c}");
        }
        assert!(
            rust.starts_with("-Ctarget-feature=+crt-static\u{1f}"),
            "{rust}"
        );
        assert!(cargo.contains("--release --locked --target ") && cargo.ends_with(argument));
    }
}
