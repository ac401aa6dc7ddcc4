//! `brokerlet adapter-test FILE`: drives the adapter of a plan through its whole life without a platform, to see whether
//! it keeps the contract of [`Adapter`](crate::adapter::Adapter).
//!
//! [`life`] is what is done and what is wanted of it, [`calls`] how a call is made, [`tape`] what the program did
//! meanwhile, [`screen`] what of it is shown, [`interrupt`] how it ends early.

mod calls;
mod interrupt;
mod life;
mod screen;
mod tape;

use crate::adapter::Kinds;
use crate::adapter::exec::Exec;
#[cfg(feature = "http-adapter")]
use crate::adapter::http::Http;
use crate::adapter::load::{Offered, load};
use crate::catalog::finding::Severity;
use crate::json;
use calls::{Cut, Subject};
use interrupt::Interrupt;
use screen::Screen;
use tape::Tape;

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// What the arguments say.
#[derive(Debug)]
pub struct Options {
    catalog: PathBuf,
    service: Option<String>,
    plan: Option<String>,
    parameters: Parameters,
}

/// What users give to `cf create-service`, `update-service` and `bind-service` with `-c`.
#[derive(Debug, Default)]
pub struct Parameters {
    pub provision: Option<Box<RawValue>>,
    pub update: Option<Box<RawValue>>,
    pub bind: Option<Box<RawValue>>,
}

impl Options {
    /// The arguments after `adapter-test`. The error says what is wrong with them.
    pub fn parse(arguments: &[&str]) -> Result<Options, String> {
        let (mut catalog, mut service, mut plan) = (None, None, None);
        let mut parameters = Parameters::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if !argument.starts_with('-') {
                if catalog.replace(PathBuf::from(argument)).is_some() {
                    return Err(format!(
                        "adapter-test: one catalog file is wanted, found {argument} as well"
                    ));
                }
                continue;
            }
            let mut value = |wanted: &str| {
                let value = rest.next().copied();
                value.ok_or_else(|| format!("adapter-test: {argument} wants {wanted}"))
            };
            let mut json = || {
                object(value(JSON_OR_FILE)?)
                    .map_err(|wrong| format!("adapter-test: {argument}: {wrong}"))
            };
            let is_second = match *argument {
                "--parameters" => parameters.provision.replace(json()?).is_some(),
                "--update-parameters" => parameters.update.replace(json()?).is_some(),
                "--bind-parameters" => parameters.bind.replace(json()?).is_some(),
                "--service" => service.replace(value("a name")?.to_owned()).is_some(),
                "--plan" => plan.replace(value("a name")?.to_owned()).is_some(),
                _ => return Err(format!("adapter-test: unknown option {argument}")),
            };
            if is_second {
                return Err(format!("adapter-test: {argument} is given twice"));
            }
        }
        Ok(Options {
            catalog: catalog.ok_or("adapter-test: which catalog file?")?,
            service,
            plan,
            parameters,
        })
    }

    fn means(&self, service: &str, plan: &str) -> bool {
        let is = |wanted: &Option<String>, name: &str| wanted.as_ref().is_none_or(|w| w == name);
        is(&self.service, service) && is(&self.plan, plan)
    }
}

const JSON_OR_FILE: &str = "a JSON object, or the path of a file with one";

/// A JSON object as `cf` takes it with `-c`: as it is, or the path of a file.
fn object(given: &str) -> Result<Box<RawValue>, String> {
    let text = match given.trim_start().starts_with('{') {
        true => given.to_owned(),
        false => std::fs::read_to_string(given)
            .map_err(|error| format!("found {given:?} ({error}), wanted {JSON_OR_FILE}"))?,
    };
    let members: Map<String, Value> = serde_json::from_str(&text)
        .map_err(|error| format!("not a JSON object ({error}), wanted {JSON_OR_FILE}"))?;
    json::to_raw(&Value::Object(members)).ok_or_else(|| format!("wanted {JSON_OR_FILE}"))
}

/// Tries every plan that the options mean, one after the other. The exit code says whether all kept the contract.
pub fn run(options: &Options, kinds: Kinds) -> ExitCode {
    let tape = Arc::new(Tape::default());
    let kinds = kinds.with("exec", {
        let tape = tape.clone();
        move |settings| Some(Exec::from_settings(settings)?.watched_by(tape.clone()))
    });
    #[cfg(feature = "http-adapter")]
    let kinds = kinds.with("http", {
        let tape = tape.clone();
        move |settings| Some(Http::from_settings(settings)?.watched_by(tape.clone()))
    });
    let Some((catalog, fulfilments)) = offered(&options.catalog, &kinds) else {
        return ExitCode::FAILURE;
    };
    let interrupt = match Interrupt::watch() {
        Ok(interrupt) => interrupt,
        Err(error) => {
            eprintln!("brokerlet: cannot watch for signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    let screen = Screen::new();
    let (mut plans, mut broken) = (0, 0);
    for service in catalog.services() {
        for plan in &service.plans {
            let Some(fulfilment) = fulfilments.get(&plan.id) else {
                continue;
            };
            if !options.means(&service.name, &plan.name) || interrupt.is_interrupted() {
                continue;
            }
            plans += 1;
            screen.heading(&service.name, &plan.name, &fulfilment.kind);
            let adapter = (&*fulfilment.adapter, Cut::of(&fulfilment.kind));
            let parameters = &options.parameters;
            let subject = Subject::new(
                service,
                plan,
                adapter,
                parameters,
                (&tape, &screen, &interrupt),
            );
            broken += life::live(&subject);
        }
    }
    if plans == 0 {
        let mut known = Vec::new();
        for service in catalog.services() {
            for plan in &service.plans {
                known.push(format!("--service {} --plan {}", service.name, plan.name));
            }
        }
        eprintln!(
            "brokerlet: no such plan; there are:\n  {}",
            known.join("\n  ")
        );
        return ExitCode::FAILURE;
    }
    let is_whole = !interrupt.is_interrupted();
    screen.summary(plans, broken, is_whole);
    if broken == 0 && is_whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn offered(path: &Path, kinds: &Kinds) -> Option<Offered> {
    let environment = |name: &str| std::env::var(name).ok();
    let (offered, findings) = load(Some(path), kinds, &environment);
    let errors = findings.0.iter().filter(|f| f.severity == Severity::Error);
    for finding in errors {
        eprintln!("brokerlet: {}: {finding}", path.display());
    }
    offered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_in_any_order() {
        let options = Options::parse(&["--plan", "p", "c.json", "--service", "s"]).unwrap();
        assert!(options.means("s", "p") && !options.means("s", "q") && !options.means("t", "p"));
        assert!(Options::parse(&["c.json"]).unwrap().means("any", "plan"));
        for (arguments, wanted) in [
            (&[][..], "which catalog file?"),
            (&["a", "b"], "one catalog file is wanted, found b as well"),
            (&["a", "--plan"], "--plan wants a name"),
            (
                &["a", "--plan", "x", "--plan", "y"],
                "--plan is given twice",
            ),
            (&["a", "--verbose"], "unknown option --verbose"),
            (
                &["a", "--bind-parameters"],
                "--bind-parameters wants a JSON object, or the path of a file with one",
            ),
            (
                &["a", "--parameters", "{}", "--parameters", "{}"],
                "--parameters is given twice",
            ),
            (
                &["a", "--parameters", "/no/such/file"],
                "--parameters: found \"/no/such/file\" (No such file or directory (os error 2)), wanted a JSON object, \
                 or the path of a file with one",
            ),
            (
                &["a", "--update-parameters", "{\"a\":}"],
                "--update-parameters: not a JSON object (expected value at line 1 column 6), wanted a JSON object, or the \
                 path of a file with one",
            ),
        ] {
            let complaint = Options::parse(arguments).unwrap_err();
            assert_eq!(complaint, format!("adapter-test: {wanted}"));
        }
    }
}
