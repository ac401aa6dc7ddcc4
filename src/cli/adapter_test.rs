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

use super::{Offered, load};
use crate::adapter::Kinds;
use crate::adapter::exec::Exec;
use crate::catalog::finding::Severity;
use calls::Subject;
use interrupt::Interrupt;
use screen::Screen;
use tape::Tape;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// What the arguments say.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    catalog: PathBuf,
    service: Option<String>,
    plan: Option<String>,
}

impl Options {
    /// The arguments after `adapter-test`. The error says what is wrong with them.
    pub fn parse(arguments: &[&str]) -> Result<Options, String> {
        let (mut catalog, mut service, mut plan) = (None, None, None);
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let (place, what) = match *argument {
                "--service" => (&mut service, "--service"),
                "--plan" => (&mut plan, "--plan"),
                option if option.starts_with('-') => {
                    return Err(format!("adapter-test: unknown option {option}"));
                }
                file => {
                    if catalog.replace(PathBuf::from(file)).is_some() {
                        return Err(format!(
                            "adapter-test: one catalog file is wanted, found {file} as well"
                        ));
                    }
                    continue;
                }
            };
            let value = rest
                .next()
                .ok_or_else(|| format!("adapter-test: {what} wants a name"))?;
            if place.replace((*value).to_owned()).is_some() {
                return Err(format!("adapter-test: {what} is given twice"));
            }
        }
        Ok(Options {
            catalog: catalog.ok_or("adapter-test: which catalog file?")?,
            service,
            plan,
        })
    }

    fn means(&self, service: &str, plan: &str) -> bool {
        let is = |wanted: &Option<String>, name: &str| wanted.as_ref().is_none_or(|w| w == name);
        is(&self.service, service) && is(&self.plan, plan)
    }
}

/// Tries every plan that the options mean, one after the other. The exit code says whether all kept the contract.
pub fn run(options: &Options, kinds: Kinds) -> ExitCode {
    let tape = Arc::new(Tape::default());
    let kinds = kinds.with("exec", {
        let tape = tape.clone();
        move |settings| Some(Exec::from_settings(settings)?.watched_by(tape.clone()))
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
            let adapter = &*fulfilment.adapter;
            let subject = Subject::new(service, plan, adapter, (&tape, &screen, &interrupt));
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
        ] {
            let complaint = Options::parse(arguments).unwrap_err();
            assert_eq!(complaint, format!("adapter-test: {wanted}"));
        }
    }
}
