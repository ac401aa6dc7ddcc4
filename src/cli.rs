//! The commands: serve, `check`, `adapter-test`, `--help`, `--version`.

mod adapter_test;
mod check;

use crate::adapter::Kinds;
use crate::adapter::settings::Fulfilment;
use crate::catalog::Catalog;
use crate::catalog::file::{self, Environment, Loaded};
use crate::catalog::finding::Findings;
use crate::config::VARIABLES;
use crate::memory;
use crate::serve;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

/// The arguments are wrong (sysexits.h).
const EX_USAGE: u8 = 64;

/// What is offered when no catalog file is named: the tutorial's service.
const TUTORIAL: &str = include_str!("../examples/tutorial.json");

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
        [] => serve::serve(kinds),
        ["check", file] if !file.starts_with('-') => check::run(Path::new(file), &kinds),
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
  brokerlet check FILE    check a catalog file and print the cf commands that register it
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

/// Everything that a catalog file says: what is offered, and how it is fulfilled.
pub(crate) type Offered = (Catalog, HashMap<String, Fulfilment>);

/// Reads and checks a catalog file in full, adapters included: all findings at once. `None` stands for the built-in catalog. The catalog is
/// absent exactly if the findings have errors.
pub(crate) fn load(
    path: Option<&Path>,
    kinds: &Kinds,
    environment: Environment<'_>,
) -> (Option<Offered>, Findings) {
    let (text, modified) = match path.map(read) {
        None => (TUTORIAL.to_owned(), SystemTime::now()),
        Some(Ok(read)) => read,
        Some(Err(error)) => {
            let mut findings = Findings::default();
            findings.error("", error);
            return (None, findings);
        }
    };
    let (loaded, mut findings) = file::parse(&text, modified, environment);
    let Some(Loaded { catalog, adapters }) = loaded else {
        return (None, findings);
    };
    let folder = path.and_then(Path::parent).unwrap_or(Path::new(""));
    let mut fulfilments = HashMap::new();
    for (s, service) in catalog.services().iter().enumerate() {
        for (p, plan) in service.plans.iter().enumerate() {
            let private = adapters.get(&(s, p));
            if let Some(built) =
                kinds.build(private, service, plan, environment, folder, &mut findings)
            {
                fulfilments.insert(plan.id.clone(), built);
            }
        }
    }
    findings.sort();
    let offered = (!findings.has_errors()).then_some((catalog, fulfilments));
    (offered, findings)
}

fn read(path: &Path) -> Result<(String, SystemTime), String> {
    let failed = |error| format!("cannot read the catalog file: {error}");
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    Ok((text, modified.unwrap_or_else(|_| SystemTime::now())))
}
