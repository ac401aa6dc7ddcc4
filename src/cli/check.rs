//! `brokerlet check [FILE]...`: whether catalog files can be served, and how to register them.

use super::{counted, print};
use crate::adapter::Kinds;
use crate::adapter::load::{environment_of, examine, read, unreadable};
use crate::catalog::Service;
use crate::catalog::file::decode;
use crate::catalog::finding::Severity;

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

/// What the arguments say.
pub(super) struct Options {
    files: Vec<Source>,
    without_secrets: bool,
}

enum Source {
    Input,
    File(PathBuf),
}

impl Options {
    /// The error is a complaint for the user.
    pub fn parse(arguments: &[&str]) -> Result<Options, String> {
        let (mut files, mut without_secrets, mut are_options) = (Vec::new(), false, true);
        for argument in arguments {
            match *argument {
                "--" if are_options => are_options = false,
                "--without-secrets" if are_options => without_secrets = true,
                "-" => files.push(Source::Input),
                option if are_options && option.starts_with('-') => {
                    return Err(format!("check: unknown option {option}"));
                }
                file => files.push(Source::File(file.into())),
            }
        }
        if files
            .iter()
            .filter(|file| matches!(file, Source::Input))
            .count()
            > 1
        {
            return Err(
                "check: found - more than once, but standard input is read once".to_owned(),
            );
        }
        if files.is_empty() {
            let named = std::env::var_os("BROKER_CATALOG").filter(|name| !name.is_empty());
            let file =
                named.ok_or("check: no catalog file is named, and BROKER_CATALOG is not set")?;
            files.push(Source::File(file.into()));
        }
        Ok(Options {
            files,
            without_secrets,
        })
    }
}

/// Prints the findings and, without errors, the commands. The exit code says whether there were errors in any file.
pub(super) fn run(options: &Options, kinds: &Kinds) -> ExitCode {
    let mut is_sound = true;
    for source in &options.files {
        is_sound &= check(source, options, kinds);
    }
    if is_sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Checks one file. Returns whether it can be served.
fn check(source: &Source, options: &Options, kinds: &Kinds) -> bool {
    let path = match source {
        Source::Input => None,
        Source::File(path) => Some(path.as_path()),
    };
    let variables = |name: &str| std::env::var(name).ok();
    let mut environment = environment_of(path, &variables);
    if options.without_secrets {
        environment = environment.without_secrets();
    }
    let (offered, findings) = match path.map_or_else(read_input, read) {
        Ok((text, modified)) => examine(&text, modified, kinds, environment),
        Err(error) => (None, unreadable(error)),
    };
    let file = path.unwrap_or(Path::new("-")).display();
    let mut text = String::new();
    for finding in &findings.0 {
        if options.files.len() > 1 {
            _ = write!(text, "{file}: ");
        }
        _ = writeln!(text, "{finding}");
    }
    let counts = format!(
        "{}, {}",
        counted(findings.count(Severity::Error), "error"),
        counted(findings.count(Severity::Warning), "warning")
    );
    _ = write!(text, "{file}: {counts}");
    let Some((catalog, _)) = offered else {
        print(&format!("{text}\n"));
        return false;
    };
    let offered = || {
        catalog
            .services()
            .iter()
            .filter(|service| service.is_offered())
    };
    let plans = offered().map(|service| service.offered().count()).sum();
    print(&format!(
        "{text}; offers {} with {}\n",
        counted(offered().count(), "service"),
        counted(plans, "plan"),
    ));
    // Names that are filled in later would be wrong in a command.
    if !options.without_secrets {
        print(&register(&offered().collect::<Vec<_>>()));
    }
    true
}

fn read_input() -> Result<(String, SystemTime), String> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut bytes);
    read.map_err(|error| format!("cannot read standard input: {error}"))?;
    Ok((decode(bytes)?, SystemTime::now()))
}

/// The `cf` commands that register a catalog and use its first plan.
fn register(services: &[&Service]) -> String {
    let mut text = String::from(
        "\nTo register this catalog, with the broker's own user name, password and URL:\n\n  \
         cf create-service-broker brokerlet \"$BROKER_USERNAME\" \"$BROKER_PASSWORD\" https://brokerlet.example.com\n",
    );
    for service in services {
        _ = writeln!(
            text,
            "  cf enable-service-access {} -b brokerlet",
            shell(&service.name)
        );
    }
    text.push_str("  cf marketplace\n");
    for service in services {
        for plan in service.offered() {
            let (service, plan) = (&service.name, &plan.name);
            let instance = shell(&format!("my-{service}-{plan}"));
            _ = writeln!(
                text,
                "  cf create-service {} {} {instance}",
                shell(service),
                shell(plan)
            );
        }
    }
    text
}

/// A word for a shell, quoted where it must be.
fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
