//! `brokerlet import-env`: the catalog file that offers what worlds-simplest-service-broker offers with the same environment.

mod original;

use super::print;
use crate::adapter::Kinds;
use crate::adapter::load::{environment_of, examine};
use original::Imported;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

/// What the arguments say.
pub(super) struct Options {
    output: Option<PathBuf>,
}

impl Options {
    /// The error is a complaint for the user.
    pub fn parse(arguments: &[&str]) -> Result<Options, String> {
        let mut output = None;
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let file = match argument.split_once('=') {
                Some(("--output", file)) => Some(file),
                None if *argument == "--output" => rest.next().copied(),
                _ if argument.starts_with('-') => {
                    return Err(format!("import-env: unknown option {argument}"));
                }
                _ => {
                    return Err(format!(
                        "import-env: found {argument:?}, wanted no argument"
                    ));
                }
            };
            let file = file.filter(|file| !file.is_empty());
            let file =
                file.ok_or("import-env: --output: found nothing, wanted the name of a file")?;
            if output.replace(PathBuf::from(file)).is_some() {
                return Err("import-env: --output: found twice, wanted once".to_owned());
            }
        }
        Ok(Options { output })
    }
}

/// The catalog file goes to standard output or a new file, and what there is to say about it to standard error.
pub(super) fn run(options: &Options, kinds: &Kinds) -> ExitCode {
    match carry_out(options, kinds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(complaints) => {
            for complaint in complaints {
                eprintln!("brokerlet: {complaint}");
            }
            ExitCode::FAILURE
        }
    }
}

fn carry_out(options: &Options, kinds: &Kinds) -> Result<(), Vec<String>> {
    let Imported { file, notes } = original::import(&|name| std::env::var_os(name))?;
    let warnings = checked(&file, kinds)?;
    let place = match &options.output {
        Some(path) => {
            write(path, &file).map_err(|complaint| vec![complaint])?;
            format!("{}, which only its owner can read", path.display())
        }
        None => {
            print(&file);
            "what was printed".to_owned()
        }
    };
    for line in warnings.into_iter().chain(notes) {
        eprintln!("brokerlet: {line}");
    }
    eprintln!(
        "brokerlet: warning: CREDENTIALS: they are in plain text in {place}; to keep a secret elsewhere, write ${{env:NAME}} \
         or ${{file:PATH}} in its place"
    );
    Ok(())
}

/// What `brokerlet check` says of the file, with the variables that are behind it. With errors there is no file.
fn checked(file: &str, kinds: &Kinds) -> Result<Vec<String>, Vec<String>> {
    let nothing = |_: &str| None;
    let (offered, findings) = examine(
        file,
        SystemTime::now(),
        kinds,
        environment_of(None, &nothing),
    );
    let told = findings
        .0
        .iter()
        .map(|finding| match original::source(&finding.place) {
            Some(variables) => format!("{variables}: {finding}"),
            None => finding.to_string(),
        });
    let told = told.collect();
    match offered {
        Some(_) => Ok(told),
        None => Err(told),
    }
}

/// To a new file: what is there already is somebody's work.
fn write(path: &Path, text: &str) -> Result<(), String> {
    let cannot = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => format!(
            "--output: {} is there already; wanted the name of a new file",
            path.display()
        ),
        _ => format!("--output: {}: cannot be written: {error}", path.display()),
    };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file: File = options.open(path).map_err(cannot)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    written.map_err(|error| {
        // Half a catalog is none.
        let _ = fs::remove_file(path);
        cannot(error)
    })
}
