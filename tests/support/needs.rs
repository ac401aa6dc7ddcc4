//! What a test needs beside Rust and a C compiler. Where it is missing, the test is left out and says so; `tests/run` installs
//! it and lets nothing be left out.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set by `tests/run`: what would be left out fails.
pub const NEED_ALL: &str = "BROKERLET_TESTS_NEED_ALL";

/// Whether these programs are here. If not, the test that asks is left out: it returns.
#[track_caller]
pub fn has(programs: &[&str]) -> bool {
    let missing: Vec<&str> = programs
        .iter()
        .copied()
        .filter(|name| installed(name).is_none())
        .collect();
    if !missing.is_empty() {
        leave_out(&format!("{} missing", missing.join(", ")));
    }
    missing.is_empty()
}

/// Says that the test of this thread is left out, and why; fails where nothing may be.
#[track_caller]
pub fn leave_out(why: &str) {
    assert!(
        std::env::var_os(NEED_ALL).is_none(),
        "{why}, and {NEED_ALL} is set; tests/run installs what is needed"
    );
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Not with a macro of the standard library, which libtest would capture and keep to itself.
    let line = format!("LEFT OUT: {test}: {why}; tests/run installs it\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Where a program is.
pub fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    // Debian keeps the programs of the server out of PATH.
    let versions = std::fs::read_dir("/usr/lib/postgresql");
    let versions = versions.into_iter().flatten().flatten();
    folders.extend(versions.map(|version| version.path().join("bin")));
    // Some systems call the browser so.
    let names: &[&str] = match program {
        "chromium" => &["chromium", "chromium-browser"],
        program => &[program],
    };
    let found = |name: &&str| {
        let files = folders.iter().map(|folder| folder.join(name));
        files.into_iter().find(|file| file.is_file())
    };
    names.iter().find_map(found)
}

/// A file of a package of Python that `tests/run` installs. `None` if it is not here: the test is left out.
#[track_caller]
pub fn python(file: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("BROKERLET_TESTS_PYTHON").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tests-python"),
        PathBuf::from,
    );
    let found = Some(folder.join(file)).filter(|path| path.exists());
    if found.is_none() {
        leave_out(&format!("{file} missing"));
    }
    found
}

/// Sends a signal, such as `TERM`, to a process. The shell does it: not every machine has a program `kill`.
pub fn kill(signal: &str, pid: &str) {
    let command = format!("kill -{signal} {}", pid.trim());
    let status = Command::new("sh").args(["-c", &command]).status().unwrap();
    assert!(status.success(), "{command}");
}

pub fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout.trim_ascii() == b"0"
}
