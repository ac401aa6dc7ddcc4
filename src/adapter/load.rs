//! Reads a catalog file, and everything that hangs on it.

use super::kinds::{Fulfilment, Kinds};
use crate::catalog::Catalog;
use crate::catalog::environment::Environment;
use crate::catalog::file::{self, Loaded};
use crate::catalog::finding::Findings;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

/// What is offered when no catalog file is named: the tutorial's service.
const TUTORIAL: &str = include_str!("../../examples/tutorial.json");

/// Everything that a catalog file says: what is offered, and how it is fulfilled.
pub(crate) type Offered = (Catalog, HashMap<String, Fulfilment>);

/// Reads and checks a catalog file in full, adapters included: all findings at once. `None` stands for the built-in
/// catalog. The catalog is absent exactly if the findings have errors.
pub(crate) fn load(
    path: Option<&Path>,
    kinds: &Kinds,
    variables: &dyn Fn(&str) -> Option<String>,
) -> (Option<Offered>, Findings) {
    let environment = environment_of(path, variables);
    let Some(path) = path else {
        return examine(TUTORIAL, SystemTime::now(), kinds, environment);
    };
    match read(path) {
        Ok((text, modified)) => examine(&text, modified, kinds, environment),
        Err(error) => (None, unreadable(error)),
    }
}

/// Where the expressions in a catalog file get their values from.
pub(crate) fn environment_of<'a>(
    path: Option<&'a Path>,
    variables: &'a dyn Fn(&str) -> Option<String>,
) -> Environment<'a> {
    let folder = path.and_then(Path::parent).unwrap_or(Path::new(""));
    Environment::new(variables, folder)
}

pub(crate) fn unreadable(error: String) -> Findings {
    let mut findings = Findings::default();
    findings.error("", error);
    findings
}

/// [`load`], of the text of a file.
pub(crate) fn examine(
    text: &str,
    modified: SystemTime,
    kinds: &Kinds,
    environment: Environment<'_>,
) -> (Option<Offered>, Findings) {
    let (loaded, mut findings) = file::parse(text, modified, environment);
    let Some(Loaded { catalog, adapters }) = loaded else {
        return (None, findings);
    };
    let mut fulfilments = HashMap::new();
    for (s, service) in catalog.services().iter().enumerate() {
        for (p, plan) in service.plans.iter().enumerate() {
            let private = adapters.get(&(s, p));
            if let Some(built) = kinds.build(private, service, plan, environment, &mut findings) {
                fulfilments.insert(plan.id.clone(), built);
            }
        }
    }
    findings.sort();
    let offered = (!findings.has_errors()).then_some((catalog, fulfilments));
    (offered, findings)
}

/// The text of a catalog file, and when it was changed.
pub(crate) fn read(path: &Path) -> Result<(String, SystemTime), String> {
    let failed = |error| format!("cannot read the catalog file: {error}");
    let metadata = fs::metadata(path).map_err(failed)?;
    if metadata.is_dir() {
        return Err("found a directory, wanted a catalog file (JSON)".to_owned());
    }
    let text = file::decode(fs::read(path).map_err(failed)?)?;
    let modified = metadata.modified();
    Ok((text, modified.unwrap_or_else(|_| SystemTime::now())))
}
