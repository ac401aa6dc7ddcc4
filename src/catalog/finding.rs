//! What a check has to say: one finding a place, errors and warnings alike.

use std::fmt;

/// Whether a finding stops the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The catalog cannot be served: `check` exits 1, the broker does not start.
    Error,
    /// Works, but somebody will be unhappy; the broker starts.
    Warning,
}

/// One thing that is wrong with the catalog file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// The place in the file, as in `services[0].plans[2].id`; empty for the whole file.
    pub place: String,
    /// What was found and what is wanted. Never the value of a secret.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        if self.place.is_empty() {
            write!(f, "{severity}: {}", self.text)
        } else {
            write!(f, "{severity}: {}: {}", self.place, self.text)
        }
    }
}

/// All findings of one check, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings(pub Vec<Finding>);

impl Findings {
    pub fn error(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.add(Severity::Error, place, text);
    }

    pub fn warning(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.add(Severity::Warning, place, text);
    }

    /// Adds an error or a warning.
    pub fn add(&mut self, severity: Severity, place: impl Into<String>, text: impl Into<String>) {
        self.0.push(Finding {
            severity,
            place: place.into(),
            text: text.into(),
        });
    }

    /// Puts what several passes over the file have found into the order of the file: service by service, and within a
    /// service plan by plan, after what concerns the whole service. Within a plan the passes stay in their order.
    pub fn sort(&mut self) {
        self.0.sort_by_key(|finding| position(&finding.place));
    }

    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|f| f.severity == Severity::Error)
    }

    pub fn count(&self, severity: Severity) -> usize {
        self.0.iter().filter(|f| f.severity == severity).count()
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.0 {
            writeln!(f, "{finding}")?;
        }
        Ok(())
    }
}

/// The numbers of service and plan in `services[0].plans[2].id`.
fn position(place: &str) -> (Option<usize>, Option<usize>) {
    fn index<'p>(place: &'p str, list: &str) -> Option<(usize, &'p str)> {
        let (number, rest) = place
            .strip_prefix(list)?
            .strip_prefix('[')?
            .split_once(']')?;
        Some((number.parse().ok()?, rest))
    }
    match index(place, "services") {
        Some((service, rest)) => (Some(service), index(rest, ".plans").map(|(plan, _)| plan)),
        None => (None, None),
    }
}

/// The one of `known` that `found` is very probably meant to be: the same but for case, underscores and a plural, or
/// one slip of the finger (two in a long name). Tighter than [`suggestion`], for objects that may have fields of any
/// name. `found` must not be one of `known` itself.
pub fn misspelling<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    fn letters(key: &str) -> String {
        let letters: String = key
            .chars()
            .filter(|c| c.is_alphanumeric())
            .flat_map(char::to_lowercase)
            .collect();
        letters.trim_end_matches('s').to_owned()
    }
    let letters_found = letters(found);
    known
        .into_iter()
        .filter_map(|name| {
            let wanted = letters(name);
            let tolerance = match wanted.len() {
                // "tree" is not "free".
                0..6 => 0,
                6..12 => 1,
                _ => 2,
            };
            let distance = strsim::damerau_levenshtein(&letters_found, &wanted);
            (distance <= tolerance).then_some((distance, name))
        })
        .min()
        .map(|(_, name)| name)
}

/// `, did you mean "x"?` for the one of `known` that is nearest to `found`, or nothing.
pub fn suggestion<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(found, name), name))
        .filter(|(distance, name)| *distance <= name.len().max(found.len()) / 3 + 1)
        .min()
        .map(|(_, name)| format!(", did you mean \"{name}\"?"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_sorted_by_service_and_plan_and_else_stay_in_their_order() {
        let mut findings = Findings::default();
        for place in [
            "services[10].id",
            "services[2].plans[10].id",
            "services[2].plans[9].name",
            "services[2].plans[9].id",
            "services[2].tags[30]",
            "services[2].name",
            "services[0].plans[0].adapter.kind",
            "services",
            "",
        ] {
            findings.error(place, "x");
        }
        findings.sort();
        let places: Vec<_> = findings.0.iter().map(|f| f.place.as_str()).collect();
        assert_eq!(
            places,
            [
                "services",
                "",
                "services[0].plans[0].adapter.kind",
                "services[2].tags[30]",
                "services[2].name",
                "services[2].plans[9].name",
                "services[2].plans[9].id",
                "services[2].plans[10].id",
                "services[10].id",
            ]
        );
    }

    #[test]
    fn findings_are_shown_one_a_line_with_severity_and_place() {
        let mut findings = Findings::default();
        findings.warning("services[0].name", "odd");
        findings.error("", "not valid JSON");
        assert_eq!(
            findings.to_string(),
            "warning: services[0].name: odd\nerror: not valid JSON\n"
        );
        assert!(findings.has_errors());
        assert_eq!(findings.count(Severity::Warning), 1);
    }

    #[test]
    fn misspellings_are_found_and_other_words_left_alone() {
        let known = ["id", "free", "tags", "bindable", "maintenance_info"];
        for (found, meant) in [
            ("ID", Some("id")),
            ("_id", Some("id")),
            ("Tag", Some("tags")),
            ("bindabel", Some("bindable")),
            ("bindabl", Some("bindable")),
            ("maintainance_info", Some("maintenance_info")),
            ("maintenanceInfos", Some("maintenance_info")),
            ("ip", None),
            ("tree", None),
            ("fee", None),
            ("unbindables", None),
            ("maintenance", None),
            ("", None),
        ] {
            assert_eq!(misspelling(found, known), meant, "{found}");
        }
    }

    #[test]
    fn the_nearest_name_is_suggested() {
        assert_eq!(
            suggestion("knid", ["kind", "king"]),
            ", did you mean \"kind\"?"
        );
        assert_eq!(suggestion("colour", ["kind", "timeout"]), "");
    }
}
