//! Reading the private `adapter` object of a plan: typed, with the place in every complaint.

mod secret;

use crate::catalog::environment::Environment;
use crate::catalog::expression::{Expression, unencoded};
use crate::catalog::finding::{Findings, suggestion};
use crate::catalog::{Plan, Service};
use crate::{duration, json};
pub use secret::Secret;
pub(super) use secret::unreadable;

use serde_json::{Map, Value};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

/// One object of the adapter settings. Whoever reads a key thereby knows it; keys that nobody asked for by the time the
/// settings are dropped are reported as errors, with a suggestion: so ask for every key before giving up on one, or say
/// [`Settings::leave_rest`].
pub struct Settings<'a> {
    place: String,
    pub(super) object: &'a Map<String, Value>,
    context: Context<'a>,
    asked: RefCell<Vec<&'static str>>,
    rest_is_left: Cell<bool>,
}

#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) service: &'a Service,
    pub(super) plan: &'a Plan,
    pub(super) environment: Environment<'a>,
    pub(super) findings: &'a RefCell<Findings>,
    /// Where strings stand whose value is not known: see [`Environment::without_secrets`].
    pub(super) unknown: &'a RefCell<HashSet<String>>,
    pub(super) stands_at_service: bool,
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
    pub(super) fn literal(&self, key: &'static str) -> Option<&'a str> {
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
        let duration = duration::parse(&text);
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
    pub(super) fn error_here(&self, text: impl Into<String>) {
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

    pub(super) fn new(
        place: String,
        object: &'a Map<String, Value>,
        context: Context<'a>,
    ) -> Settings<'a> {
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

#[cfg(test)]
pub(super) mod tests;
