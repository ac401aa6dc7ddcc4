//! Reading the private `adapter` object of a plan: typed, with the place in every complaint.

mod platform;
mod secret;

use super::{Adapter, Kind, exec, shared};
use crate::catalog::environment::Environment;
use crate::catalog::expression::{Expression, unencoded};
use crate::catalog::file::Private;
use crate::catalog::finding::{Findings, suggestion};
use crate::catalog::{Plan, Service};
use crate::json;
pub use secret::Secret;
pub(super) use secret::unreadable;

use serde_json::{Map, Value};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// One object of the adapter settings. Whoever reads a key thereby knows it; keys that nobody asked for by the time the
/// settings are dropped are reported as errors, with a suggestion: so ask for every key before giving up on one, or say
/// [`Settings::leave_rest`].
pub struct Settings<'a> {
    place: String,
    object: &'a Map<String, Value>,
    context: Context<'a>,
    asked: RefCell<Vec<&'static str>>,
    rest_is_left: Cell<bool>,
}

#[derive(Clone, Copy)]
struct Context<'a> {
    service: &'a Service,
    plan: &'a Plan,
    environment: Environment<'a>,
    findings: &'a RefCell<Findings>,
    /// Where strings stand whose value is not known: see [`Environment::without_secrets`].
    unknown: &'a RefCell<HashSet<String>>,
    stands_at_service: bool,
}

impl<'a> Settings<'a> {
    /// The service offering whose plan is to be fulfilled.
    pub fn service(&self) -> &'a Service {
        self.context.service
    }

    /// The plan to be fulfilled.
    pub fn plan(&self) -> &'a Plan {
        self.context.plan
    }

    /// Where `${env:NAME}` and `${file:PATH}` are read from.
    pub fn environment(&self) -> Environment<'a> {
        self.context.environment
    }

    /// The folder of the catalog file, which relative paths in it start from.
    pub fn folder(&self) -> &'a Path {
        self.context.environment.folder()
    }

    /// Whether the settings stand at the service offering, for all of its plans that have none of their own.
    pub fn stands_at_service(&self) -> bool {
        self.context.stands_at_service
    }

    /// Where `key` stands in the file, as in `services[0].plans[1].adapter.binding.lifetime`.
    pub fn place(&self, key: &str) -> String {
        format!("{}.{key}", self.place)
    }

    /// The value as it stands in the file; `null` counts as absent.
    pub fn value(&self, key: &'static str) -> Option<&'a Value> {
        self.asked.borrow_mut().push(key);
        self.object.get(key).filter(|value| !value.is_null())
    }

    /// A string, with `${env:NAME}` and `${file:PATH}` filled in: files as they are now. [`Settings::secret`] reads them at
    /// each use.
    pub fn string(&self, key: &'static str) -> Option<String> {
        let text = self.literal(key)?;
        let refuse = |expression: &Expression<'_>| expression.refuse_public();
        match self.context.environment.fill(text, refuse) {
            Ok(filled) => {
                if !filled.is_known {
                    self.is_unknown(key);
                }
                self.warn_of_unencoded(text, key);
                Some(filled.text.into_owned())
            }
            Err(error) => {
                self.error(key, error);
                None
            }
        }
    }

    /// A string whose `${file:PATH}` are read anew at each use, so that a changed password needs no restart.
    pub fn secret(&self, key: &'static str) -> Option<Secret> {
        self.secret_at(self.literal(key)?, key)
    }

    /// [`Settings::secret`], of a text that stands at `key`, which may lead further down.
    pub(super) fn secret_at(&self, text: &str, key: &str) -> Option<Secret> {
        match Secret::parse(text, self.context.environment) {
            Ok(secret) => {
                self.warn_of_unencoded(text, key);
                Some(secret)
            }
            Err(error) => {
                self.error(key, error);
                None
            }
        }
    }

    fn warn_of_unencoded(&self, text: &str, key: &str) {
        for warning in unencoded(text, |found| !found.is_outside()) {
            self.warning(key, warning);
        }
    }

    /// Says that the value of `key` can be anything, so that nothing which is said of it counts.
    fn is_unknown(&self, key: &str) {
        self.context.unknown.borrow_mut().insert(self.place(key));
    }

    /// A string as it stands in the file. What a message may quote: it holds nothing of the environment.
    fn literal(&self, key: &'static str) -> Option<&'a str> {
        self.typed(key, Value::as_str, "a string")
    }

    /// An array as it stands in the file.
    pub fn array(&self, key: &'static str) -> Option<&'a Vec<Value>> {
        self.typed(key, Value::as_array, "an array")
    }

    /// An object as it stands in the file, with keys that the operator chooses.
    pub fn object(&self, key: &'static str) -> Option<&'a Map<String, Value>> {
        self.typed(key, Value::as_object, "an object")
    }

    pub fn boolean(&self, key: &'static str) -> Option<bool> {
        self.typed(key, Value::as_bool, "true or false")
    }

    /// A string that must be there.
    pub fn required_string(&self, key: &'static str) -> Option<String> {
        if self.value(key).is_none() {
            self.error(key, "found nothing, wanted a string");
            return None;
        }
        self.string(key)
    }

    /// A whole number of at least 1.
    pub fn count(&self, key: &'static str) -> Option<usize> {
        let read = |value: &Value| usize::try_from(value.as_u64()?).ok().filter(|n| *n > 0);
        self.typed(key, read, "a whole number of at least 1")
    }

    /// A duration such as `"30d"`, `"10m"` or `"1h 30m"`; never zero.
    pub fn duration(&self, key: &'static str) -> Option<Duration> {
        let text = self.string(key)?;
        let duration = parse_duration(&text);
        if duration.is_none() {
            let found = self.literal(key).unwrap_or_default();
            self.error(
                key,
                format!("found {found:?}, wanted a duration such as \"30d\", \"12h\" or \"10m\""),
            );
        }
        duration
    }

    /// An object within the settings, read by the same rules.
    pub fn section(&self, key: &'static str) -> Option<Settings<'a>> {
        let object = self.object(key)?;
        Some(Settings::new(self.place(key), object, self.context))
    }

    /// Says that the keys which nobody asked for are nobody's business, as when it is unknown who should ask.
    pub fn leave_rest(&self) {
        self.rest_is_left.set(true);
    }

    /// Reports that the value of `key` will not do. `key` may lead further down, as in `endpoints[0].host`.
    pub fn error(&self, key: &str, text: impl Into<String>) {
        self.error_at(self.place(key), text);
    }

    /// Reports something about the settings as a whole.
    fn error_here(&self, text: impl Into<String>) {
        self.error_at(self.place.clone(), text);
    }

    /// Reports something at a full place, as [`Settings::place`] returns it.
    pub fn error_at(&self, place: String, text: impl Into<String>) {
        self.context.findings.borrow_mut().error(place, text);
    }

    /// Reports something that works, but that somebody will be unhappy with.
    pub fn warning(&self, key: &str, text: impl Into<String>) {
        let place = self.place(key);
        self.context.findings.borrow_mut().warning(place, text);
    }

    fn new(place: String, object: &'a Map<String, Value>, context: Context<'a>) -> Settings<'a> {
        Settings {
            place,
            object,
            context,
            asked: RefCell::default(),
            rest_is_left: Cell::new(false),
        }
    }

    fn typed<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
        wanted: &str,
    ) -> Option<T> {
        let value = self.value(key)?;
        let typed = read(value);
        if typed.is_none() {
            self.error(key, format!("found {}, wanted {wanted}", json::kind(value)));
        }
        typed
    }
}

/// `None` also for what no calendar needs: humantime 2.4 panics on some sums of about `u64::MAX` seconds, which takes
/// more than ten digits.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    if text.bytes().filter(u8::is_ascii_digit).count() > 10 {
        return None;
    }
    humantime::parse_duration(text)
        .ok()
        .filter(|duration| !duration.is_zero())
}

impl Drop for Settings<'_> {
    fn drop(&mut self) {
        if self.rest_is_left.get() {
            return;
        }
        let asked = self.asked.borrow();
        for key in self.object.keys() {
            if !asked.contains(&key.as_str()) {
                let hint = suggestion(key, asked.iter().copied());
                self.error(key, format!("unknown key{hint}"));
            }
        }
    }
}

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

/// Kinds that are there only with the cargo feature of the same name.
const OPTIONAL: &[&str] = &["postgres"];

impl Kinds {
    /// The kinds that brokerlet brings.
    pub fn standard() -> Kinds {
        let kinds = Kinds(BTreeMap::new())
            .with("shared", shared::Shared::from_settings)
            .with("exec", exec::Exec::from_settings);
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
        if OPTIONAL.contains(&found) {
            settings.error(
                "kind",
                format!(
                    "found {found:?}, and this brokerlet was built without the feature {found}: cargo build --features {found}"
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
