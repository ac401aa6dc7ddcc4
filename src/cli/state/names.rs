//! What the catalog calls the plans that records name by their ids.

use super::Failed;
use crate::adapter::load;
use crate::catalog::Plan;
use crate::catalog::file::{self, Loaded};

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Plan id -> names of the service offering, and the plan. Empty where no catalog is named.
pub(super) struct Names {
    plans: HashMap<String, (String, Plan)>,
    is_known: bool,
}

impl Names {
    /// Of the catalog file that `--catalog` or `BROKER_CATALOG` names. Its secrets are not needed.
    pub fn load(said: Option<&Path>) -> Result<Names, Failed> {
        let set = std::env::var_os("BROKER_CATALOG").filter(|name| !name.is_empty());
        let Some(path) = said.map(Path::to_owned).or(set.map(PathBuf::from)) else {
            return Ok(Names {
                plans: HashMap::new(),
                is_known: false,
            });
        };
        let variables = |name: &str| std::env::var(name).ok();
        let environment = load::environment_of(Some(&path), &variables).without_secrets();
        let unusable = |what: String| Failed::Config(vec![format!("{}: {what}", path.display())]);
        let (text, modified) = load::read(&path).map_err(unusable)?;
        let (loaded, findings) = file::parse(&text, modified, environment);
        let Some(Loaded { catalog, .. }) = loaded.filter(|_| !findings.has_errors()) else {
            return Err(unusable(
                "the catalog file has errors; brokerlet check names them".to_owned(),
            ));
        };
        let services = catalog.services().iter();
        let plans = services.flat_map(|service| {
            let named = |plan: &Plan| (plan.id.clone(), (service.name.clone(), plan.clone()));
            service.plans.iter().map(named)
        });
        Ok(Names {
            plans: plans.collect(),
            is_known: true,
        })
    }

    pub fn of(&self, plan_id: &str) -> Option<(&str, &str)> {
        let (service, plan) = self.plans.get(plan_id)?;
        Some((service, &plan.name))
    }

    /// The plan of this id.
    pub fn plan(&self, plan_id: &str) -> Option<&Plan> {
        self.plans.get(plan_id).map(|(_, plan)| plan)
    }

    /// Whether a catalog was named, so that a plan that is not here has left it.
    pub fn is_known(&self) -> bool {
        self.is_known
    }
}
