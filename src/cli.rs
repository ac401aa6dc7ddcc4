//! The commands: serve, `check`, `adapter-test`, `import-env`, `state`, `audit`, `health`, `help`, `version`.

mod adapter_test;
mod check;
mod health;
mod help;
mod import_env;
mod options;
mod state;

use crate::adapter::Kinds;
use crate::memory;
use crate::serve;

use std::io::Write as _;
use std::process::ExitCode;

/// The arguments are wrong (sysexits.h).
const EX_USAGE: u8 = 64;
/// The environment or the catalog file is wrong (sysexits.h).
const EX_CONFIG: u8 = 78;

/// Runs the program with the adapters that a catalog file may name: reads the arguments and the environment, serves
/// until SIGTERM or SIGINT, and returns the exit code. A program that brings its own adapters calls this.
pub fn main(kinds: Kinds) -> ExitCode {
    memory::give_back_large_pieces();
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let Some(text) = help::asked_for(&arguments) {
        print(&text);
        return ExitCode::SUCCESS;
    }
    match arguments[..] {
        [] => serve::serve(kinds),
        ["check", ref rest @ ..] => match check::Options::parse(rest) {
            Ok(options) => check::run(&options, &kinds),
            Err(complaint) => usage(&complaint),
        },
        ["adapter-test", ref rest @ ..] => match adapter_test::Options::parse(rest) {
            Ok(options) => adapter_test::run(&options, kinds),
            Err(complaint) => usage(&complaint),
        },
        ["import-env", ref rest @ ..] => match import_env::Options::parse(rest) {
            Ok(options) => import_env::run(&options, &kinds),
            Err(complaint) => usage(&complaint),
        },
        ["state", ref rest @ ..] => match state::Options::parse(rest) {
            Ok(options) => state::run(&options, &kinds),
            Err(complaint) => usage(&complaint),
        },
        ["audit", ref rest @ ..] => match state::audit::Options::parse(rest) {
            Ok(options) => state::audit::run(&options),
            Err(complaint) => usage(&complaint),
        },
        ["health"] => health::run(None),
        ["health", url] => health::run(Some(url)),
        ["version" | "-V" | "--version"] => {
            print(&format!("brokerlet {}\n", help::version()));
            ExitCode::SUCCESS
        }
        _ => {
            let found = arguments.join(" ");
            let hint = help::hint(&arguments);
            usage(&format!("cannot understand the arguments: {found}{hint}"))
        }
    }
}

fn usage(complaint: &str) -> ExitCode {
    eprint!("brokerlet: {complaint}\n\n{}", help::USAGE);
    ExitCode::from(EX_USAGE)
}

/// To standard output. A reader that has seen enough, as `head`, is no error.
fn print(text: &str) {
    _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// `1 error`, `2 errors`.
fn counted(count: usize, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}
