//! The commands: serve, `check`, `adapter-test`, `--help`, `--version`.

mod adapter_test;
mod check;
mod load;

use crate::adapter::Kinds;
use crate::config::VARIABLES;
use crate::memory;
use crate::serve;
pub(crate) use load::load;

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

/// The arguments are wrong (sysexits.h).
const EX_USAGE: u8 = 64;

/// Runs the program with the adapters that a catalog file may name: reads the arguments and the environment, serves
/// until SIGTERM or SIGINT, and returns the exit code. A program that brings its own adapters calls this.
pub fn main(kinds: Kinds) -> ExitCode {
    memory::give_back_large_pieces();
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => serve::serve(&kinds),
        ["check", ref rest @ ..] => match check::Options::parse(rest) {
            Ok(options) => check::run(&options, &kinds),
            Err(complaint) => usage(&complaint),
        },
        ["adapter-test", ref rest @ ..] => match adapter_test::Options::parse(rest) {
            Ok(options) => adapter_test::run(&options, kinds),
            Err(complaint) => usage(&complaint),
        },
        ["-h" | "--help" | "help"] => {
            print(&help());
            ExitCode::SUCCESS
        }
        ["-V" | "--version"] => {
            print(concat!("brokerlet ", env!("CARGO_PKG_VERSION"), "\n"));
            ExitCode::SUCCESS
        }
        _ => {
            let found = arguments.join(" ");
            usage(&format!("cannot understand the arguments: {found}"))
        }
    }
}

fn usage(complaint: &str) -> ExitCode {
    eprint!("brokerlet: {complaint}\n\n{USAGE}");
    ExitCode::from(EX_USAGE)
}

/// To standard output. A reader that has seen enough, as `head`, is no error.
fn print(text: &str) {
    _ = std::io::stdout().lock().write_all(text.as_bytes());
}

const USAGE: &str = "\
Usage:
  brokerlet               serve the Open Service Broker API until SIGTERM or SIGINT
  brokerlet check [--without-secrets] [FILE]...
                          check catalog files (- for standard input), else that of BROKER_CATALOG, and print the cf
                          commands that register them; --without-secrets where variables and files are absent
  brokerlet adapter-test FILE [--service NAME] [--plan NAME]
                         [--parameters JSON] [--update-parameters JSON] [--bind-parameters JSON]
                          make, use and delete instances of each plan, to see whether its adapter does what it must
  brokerlet --help        print this help
  brokerlet --version     print the version
";

fn help() -> String {
    let mut text = format!(
        "brokerlet {}: {}\n\n{USAGE}\nEnvironment:\n",
        env!("CARGO_PKG_VERSION"),
        env!("CARGO_PKG_DESCRIPTION"),
    );
    for variable in VARIABLES {
        _ = write!(text, "  {:24}{}", variable.name, variable.meaning);
        if !variable.default.is_empty() {
            _ = write!(text, " [{}]", variable.default);
        }
        text.push('\n');
    }
    text.push_str(
        "\nExit codes: 0 stopped as asked, 1 check or adapter-test found errors, 64 wrong arguments, 74 the state or the network cannot be\n\
         used, 78 the environment or the catalog file is wrong.\n",
    );
    text
}
