//! What is fuzzed, over the corpus, so that it is looked at without a fuzzer too; and over what is near the corpus.

#[path = "../fuzz/targets/mod.rs"]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Every file in the corpus of a target.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    assert!(
        files.len() >= 10,
        "the corpus of {target} has {} files",
        files.len()
    );
    files
}

/// Runs the target; a failure says with which input.
#[track_caller]
fn check(run: fn(&[u8]), name: &str, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| run(input))).is_err() {
        panic!("{name}: {:?}", String::from_utf8_lossy(input));
    }
}

/// Runs it over the corpus and its neighbours: cut short, a byte left out, doubled or replaced. At most so many of each
/// file, spread over it.
#[track_caller]
fn check_all(target: &str, run: fn(&[u8]), most: usize) {
    for (name, input) in corpus(target) {
        check(run, &name, &input);
        let step = input.len().div_ceil(most).max(1);
        for at in (0..input.len()).step_by(step) {
            check(run, &name, &input[..at]);
            let (before, behind) = (&input[..at], &input[at + 1..]);
            for instead in [
                &[][..],
                &[input[at]; 2],
                b"\0",
                b"\n",
                b"\r",
                b" ",
                b"0",
                b":",
                b"\xff",
            ] {
                check(run, &name, &[before, instead, behind].concat());
            }
        }
    }
}

#[test]
fn framing() {
    check_all("framing", targets::framing::run, 100);
}

/// Two requests in, two answers out, whichever they are.
#[test]
fn framing_of_any_two_one_after_the_other() {
    let files = corpus("framing");
    for (first, one) in &files {
        for (second, two) in &files {
            let name = format!("{first} and {second}");
            check(targets::framing::run, &name, &[&one[..], two].concat());
        }
    }
}

#[test]
fn chunked() {
    check_all("chunked", targets::chunked::run, 100);
}

#[test]
fn dispatch() {
    check_all("dispatch", targets::dispatch::run, 30);
}

#[test]
fn catalog() {
    check_all("catalog", targets::catalog::run, 30);
}

#[test]
fn program() {
    check_all("program", targets::program::run, 40);
}

#[cfg(feature = "postgres")]
#[test]
fn address() {
    check_all("address", targets::address::run, 60);
}

#[cfg(feature = "postgres")]
#[test]
fn server() {
    check_all("server", targets::server::run, 20);
}
