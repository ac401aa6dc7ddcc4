//! The settings of a plan: which program, with which environment, and how long it may take. What is wrong with them is
//! found at the start.

use crate::adapter::protocol::mask::Mask;
use crate::adapter::protocol::pace::Pace;
use crate::adapter::settings::Secret;
use crate::adapter::{Kind, Settings};
use crate::json;

use rustix::fs::{Access, access};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{self, Path, PathBuf};
use std::time::Duration;

/// Where programs are looked for if the broker has no `PATH` itself.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// How the programs of one plan are run. Deliberately not printable: it holds secrets.
pub struct Setup {
    pub file: PathBuf,
    pub arguments: Vec<String>,
    /// That of the catalog file, where programs find what lies beside them.
    pub folder: PathBuf,
    variables: Vec<(String, Variable)>,
    pub pace: Pace,
}

/// The value of a variable.
enum Variable {
    /// Taken over from the broker: not a secret.
    Inherited(OsString),
    Secret(Secret),
}

/// The environment of one call, and what is secret in it.
pub struct Environment {
    pub variables: Vec<(String, OsString)>,
    pub mask: Mask,
}

impl Setup {
    /// What is wrong is reported to the settings.
    pub fn read(settings: &Settings<'_>) -> Option<Setup> {
        let folder = path::absolute(folder_of(settings)).ok()?;
        let command = read_command(settings, &folder);
        let variables = read_variables(settings);
        let pace = Pace::read(settings);
        let (file, arguments) = command?;
        Some(Setup {
            file,
            arguments,
            folder,
            variables,
            pace,
        })
    }

    /// How long a program may go on after SIGTERM. What is synchronous must be over before the platform gives up.
    pub fn grace(&self, kind: Kind) -> Duration {
        Duration::from_secs(if self.pace.is_async(kind) { 10 } else { 2 })
    }

    /// The environment of the next call. The error names the file that cannot be read.
    pub fn environment(&self) -> Result<Environment, String> {
        let mut mask = Mask::default();
        let mut variables = Vec::with_capacity(self.variables.len());
        for (name, variable) in &self.variables {
            let value = match variable {
                Variable::Inherited(value) => value.clone(),
                Variable::Secret(secret) => OsString::from_vec(secret.masked(&mut mask)?),
            };
            variables.push((name.clone(), value));
        }
        Ok(Environment { variables, mask })
    }
}

fn folder_of<'s>(settings: &Settings<'s>) -> &'s Path {
    let folder = settings.folder();
    if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    }
}

fn read_command(settings: &Settings<'_>, folder: &Path) -> Option<(PathBuf, Vec<String>)> {
    let wanted = "wanted an array with the program and its arguments, such as [\"./database.sh\"]";
    if settings.value("command").is_none() {
        settings.error("command", format!("found nothing, {wanted}"));
        return None;
    }
    let items = settings.array("command")?;
    if items.is_empty() {
        settings.error("command", format!("found an empty array, {wanted}"));
        return None;
    }
    let mut words = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        let place = format!("command[{i}]");
        let complaint = match item {
            Value::String(word) if word.contains("${") => {
                "arguments can be seen by everybody on the machine, so they are taken as they are, without \"${\"; hand \
                 the value over in \"env\""
                    .to_owned()
            }
            Value::String(word) if word.contains('\0') => "holds a zero byte".to_owned(),
            Value::String(word) if i == 0 && word.is_empty() => {
                "found an empty string, wanted a program".to_owned()
            }
            Value::String(word) => {
                words.push(word.clone());
                continue;
            }
            other => format!("found {}, wanted a string", json::kind(other)),
        };
        settings.error(&place, complaint);
    }
    if words.len() < items.len() {
        return None;
    }
    let name = words.remove(0);
    match find_program(&name, folder, settings) {
        Ok(file) => Some((file, words)),
        Err(complaint) => {
            settings.error("command[0]", complaint);
            None
        }
    }
}

/// A name with a slash is a path from the catalog file's folder; one without is looked for in `PATH`.
fn find_program(name: &str, folder: &Path, settings: &Settings<'_>) -> Result<PathBuf, String> {
    if name.contains('/') {
        let file = folder.join(name);
        check_executable(&file).map_err(|problem| format!("{name:?}: {problem}"))?;
        return Ok(file);
    }
    let path = settings
        .environment()
        .variable("PATH")
        .unwrap_or_else(|| DEFAULT_PATH.to_owned());
    let found = std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|file| check_executable(file).is_ok());
    found.ok_or_else(|| {
        let hint = if folder.join(name).exists() {
            format!("; did you mean \"./{name}\", beside the catalog file?")
        } else {
            String::new()
        };
        format!("{name:?}: no such program in PATH{hint}")
    })
}

/// Says why a file cannot be run.
fn check_executable(file: &Path) -> Result<(), String> {
    let shown = file.display();
    let metadata = std::fs::metadata(file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("the file {shown} does not exist"),
        _ => format!("cannot look at the file {shown}: {error}"),
    })?;
    if !metadata.is_file() {
        return Err(format!("{shown} is not a file"));
    }
    access(file, Access::EXEC_OK).map_err(|_| {
        format!(
            "the file {shown} is not executable for the user of the broker; try: chmod +x {shown}"
        )
    })?;
    check_interpreter(file)
}

/// A script whose `#!` names nothing cannot be run, and the system's complaint ("No such file") seems to mean the script.
fn check_interpreter(file: &Path) -> Result<(), String> {
    let mut line = Vec::new();
    // A program may be executable without being readable: then there is nothing to look at.
    if let Ok(file) = File::open(file) {
        let _ = BufReader::new(file.take(256)).read_until(b'\n', &mut line);
    }
    let Some(rest) = line.strip_prefix(b"#!") else {
        return Ok(());
    };
    let rest = rest.strip_suffix(b"\n").unwrap_or(rest);
    let mut words = rest.split(|byte| matches!(byte, b' ' | b'\t'));
    let interpreter = words.find(|word| !word.is_empty()).unwrap_or_default();
    if interpreter.ends_with(b"\r") {
        return Err(
            "its lines end with CR LF, so its interpreter is not found; wanted LF".to_owned(),
        );
    }
    let interpreter = Path::new(OsStr::from_bytes(interpreter));
    if interpreter.is_absolute() && !interpreter.exists() {
        let interpreter = interpreter.display();
        return Err(format!("its interpreter {interpreter} does not exist"));
    }
    Ok(())
}

/// What the settings give, over `PATH` and `HOME` of the broker.
fn read_variables(settings: &Settings<'_>) -> Vec<(String, Variable)> {
    let inherited = ["PATH", "HOME"].into_iter().filter_map(|name| {
        let value = settings.environment().variable(name)?;
        Some((name.to_owned(), Variable::Inherited(value.into())))
    });
    let mut variables: Vec<_> = inherited.collect();
    for (name, value) in settings.object("env").into_iter().flatten() {
        let place = format!("env.{name}");
        if name.is_empty() || name.contains(['=', '\0']) {
            settings.error(&place, "wanted the name of an environment variable");
            continue;
        }
        let Value::String(text) = value else {
            settings.error(
                &place,
                format!("found {}, wanted a string", json::kind(value)),
            );
            continue;
        };
        match settings.secret_at(text, &place) {
            Some(secret) if secret.holds('\0') => {
                settings.error(&place, "holds a zero byte, which no variable can");
            }
            Some(secret) => {
                variables.retain(|(known, _)| known != name);
                variables.push((name.clone(), Variable::Secret(secret)));
            }
            None => {}
        }
    }
    variables
}

#[cfg(test)]
mod tests;
