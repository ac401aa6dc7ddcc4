//! The kinds of adapter that a catalog file can name, and the adapter that each plan gets.

mod platform;

use super::settings::{Context, Settings};
use super::{Adapter, Kind, exec, shared};
use crate::catalog::environment::Environment;
use crate::catalog::file::Private;
use crate::catalog::finding::{Findings, suggestion};
use crate::catalog::{Plan, Service};

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

type Build = Box<dyn Fn(&Settings<'_>) -> Option<Box<dyn Adapter>> + Send + Sync>;

/// The kinds of adapter that a catalog file can name.
pub struct Kinds(BTreeMap<&'static str, Build>);

/// How one plan is fulfilled.
#[derive(Clone)]
pub struct Fulfilment {
    /// The `kind` in the catalog file.
    pub kind: String,
    pub adapter: Arc<dyn Adapter>,
    /// Whether a bind must name an app. spec: Binding, RequiresApp.
    pub requires_app: bool,
}

impl Fulfilment {
    /// Whether the platform polls for the end of this operation. Without outside effects there is nothing to wait for.
    pub fn is_async(&self, operation: Kind) -> bool {
        self.adapter.has_effects() && self.adapter.is_async(operation)
    }
}

/// Kinds that are there only with a cargo feature.
const OPTIONAL: &[(&str, &str)] = &[("http", "http-adapter"), ("postgres", "postgres")];

impl Kinds {
    /// The kinds that brokerlet brings.
    pub fn standard() -> Kinds {
        let kinds = Kinds(BTreeMap::new())
            .with("shared", shared::Shared::from_settings)
            .with("exec", exec::Exec::from_settings);
        #[cfg(feature = "http-adapter")]
        let kinds = kinds.with("http", super::http::Http::from_settings);
        #[cfg(feature = "postgres")]
        let kinds = kinds.with("postgres", super::postgres::Postgres::from_settings);
        kinds
    }

    /// Adds a kind of adapter. `build` reads its settings and returns the adapter of one plan, or `None` after it has
    /// reported what is wrong with [`Settings::error`].
    pub fn with<A, F>(mut self, kind: &'static str, build: F) -> Kinds
    where
        A: Adapter + 'static,
        F: Fn(&Settings<'_>) -> Option<A> + Send + Sync + 'static,
    {
        self.0.insert(
            kind,
            Box::new(move |settings| Some(Box::new(build(settings)?) as Box<dyn Adapter>)),
        );
        self
    }

    /// The adapter of one plan. A plan without settings accepts everything, and its
    /// credentials are `{}`.
    pub fn build(
        &self,
        private: Option<&Private>,
        service: &Service,
        plan: &Plan,
        environment: Environment<'_>,
        findings: &mut Findings,
    ) -> Option<Fulfilment> {
        let Some(private) = private else {
            return Some(Fulfilment {
                kind: "shared".to_owned(),
                adapter: Arc::new(shared::Shared::empty()),
                requires_app: false,
            });
        };
        let collected = RefCell::new(Findings::default());
        let unknown = RefCell::default();
        let built = {
            let place = private.place().to_owned();
            let context = Context {
                service,
                plan,
                environment,
                findings: &collected,
                unknown: &unknown,
                stands_at_service: !place.contains(".plans["),
            };
            self.build_kind(&Settings::new(place, private.object(), context))
        };
        let (mut collected, unknown) = (collected.into_inner(), unknown.into_inner());
        collected
            .0
            .retain(|finding| !unknown.contains(&finding.place));
        let failed = collected.has_errors();
        // Settings that several plans take over from their service offering are complained about once.
        for finding in collected.0 {
            if !findings.0.contains(&finding) {
                findings.0.push(finding);
            }
        }
        built.filter(|_| !failed)
    }

    fn build_kind(&self, settings: &Settings<'_>) -> Option<Fulfilment> {
        let requires_app = settings.boolean("requires_app").unwrap_or(false);
        let Some((kind, build)) = self.find(settings) else {
            // Which other keys there may be depends on the kind.
            settings.leave_rest();
            return None;
        };
        let fulfilment = Fulfilment {
            adapter: build(settings)?.into(),
            kind,
            requires_app,
        };
        platform::check(settings, &fulfilment);
        Some(fulfilment)
    }

    fn find(&self, settings: &Settings<'_>) -> Option<(String, &Build)> {
        if settings.value("kind").is_none() {
            for key in settings.object.keys() {
                if strsim::damerau_levenshtein(&key.to_lowercase(), "kind") <= 1 && key != "kind" {
                    settings.error(key, "unknown key, did you mean \"kind\"?");
                }
            }
        }
        let kind = settings.required_string("kind")?;
        if let Some(build) = self.0.get(kind.as_str()) {
            return Some((kind, build));
        }
        let found = settings.literal("kind")?;
        if let Some((_, feature)) = OPTIONAL.iter().find(|(kind, _)| *kind == found) {
            settings.error(
                "kind",
                format!(
                    "found {found:?}, and this brokerlet was built without the feature {feature}: cargo build --features \
                     {feature}"
                ),
            );
            return None;
        }
        let known = self.0.keys().copied();
        let names: Vec<_> = known.clone().map(|name| format!("{name:?}")).collect();
        let names = names.join(" or ");
        let hint = suggestion(found, known);
        settings.error("kind", format!("found {found:?}, wanted {names}{hint}"));
        None
    }
}

#[cfg(test)]
pub(super) mod tests;
