//! The rules for single values.

use super::tables::Rule;
use super::{Checker, quoted};

use serde_json::{Number, Value};

/// What Cloud Controller holds of a name or an id, in characters.
const LONGEST_NAME: usize = 255;
/// What a label of Kubernetes holds, in characters.
const LONGEST_LABEL: usize = 63;
/// What Cloud Controller holds of a description, in characters.
const LONGEST_DESCRIPTION: usize = 10_000;
/// spec: Catalog Management: "It is RECOMMENDED that strings do not exceed 255 characters".
const COMFORTABLE_DESCRIPTION: usize = 255;
/// What Cloud Controller holds of the tags of a service offering, together, in characters.
const LONGEST_TAGS: usize = 2_048;

impl<'d> Checker<'d, '_> {
    pub(super) fn seconds(&mut self, number: &Number) {
        if number.as_u64().is_none_or(|seconds| seconds == 0) {
            self.error(format!("found {number}, wanted {}", Rule::Seconds.wanted()));
        }
    }

    pub(super) fn not_blank(&mut self, text: &str) {
        if text.is_empty() {
            self.error("found an empty string, wanted one that is not blank");
        } else if text.trim().is_empty() {
            self.error("found only blanks; Cloud Controller refuses a blank string");
        }
    }

    fn at_most(&mut self, text: &str, longest: usize) {
        let length = text.chars().count();
        if length > longest {
            self.error(format!(
                "found {length} characters; Cloud Controller refuses more than {longest}"
            ));
        }
    }

    pub(super) fn id(&mut self, text: &str) {
        self.not_blank(text);
        self.at_most(text, LONGEST_NAME);
        // spec: URL Properties, "Unreserved Characters".
        let unreserved = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        if !text.trim().is_empty() && !text.chars().all(unreserved) {
            self.warning(format!(
                "found {}; an id is part of URLs, where only letters, digits and \"-._~\" are safe",
                quoted(text)
            ));
        }
    }

    pub(super) fn name(&mut self, text: &str) {
        self.not_blank(text);
        self.at_most(text, LONGEST_NAME);
        // spec: Catalog Management, Body: "CLI-friendly" is alphanumerics, periods and hyphens. The underscore passes
        // without a warning as well: every cf CLI takes it, and the tutorial's own catalog has `plan_one`.
        let alphanumeric = |c: char| c.is_ascii_alphanumeric();
        let friendly = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let length = text.chars().count();
        if text.trim().is_empty() {
            // Is an error already.
        } else if !text.chars().all(friendly) || text.starts_with('-') {
            self.warning(format!(
                "found {}, hard to type on a command line; wanted letters, digits, periods and hyphens",
                quoted(text)
            ));
        } else if !text.starts_with(alphanumeric) || !text.ends_with(alphanumeric) {
            self.warning(format!(
                "found {}, which Kubernetes cannot put into a label; wanted a letter or digit at both ends",
                quoted(text)
            ));
        } else if (LONGEST_LABEL + 1..=LONGEST_NAME).contains(&length) {
            self.warning(format!(
                "found {length} characters; Kubernetes cannot put more than {LONGEST_LABEL} into a label"
            ));
        }
    }

    pub(super) fn description(&mut self, text: &str) {
        self.not_blank(text);
        self.at_most(text, LONGEST_DESCRIPTION);
        let length = text.chars().count();
        if (COMFORTABLE_DESCRIPTION + 1..=LONGEST_DESCRIPTION).contains(&length) {
            self.warning(format!(
                "found {length} characters; not every platform takes more than {COMFORTABLE_DESCRIPTION}"
            ));
        }
    }

    /// spec: Maintenance Info Object.
    pub(super) fn version(&mut self, text: &str) {
        if let Err(error) = semver::Version::parse(text) {
            let (found, wanted) = (quoted(text), Rule::Version.wanted());
            self.error(format!("found {found}, wanted {wanted}: {error}"));
        }
    }

    pub(super) fn tags(&mut self, tags: &'d [Value]) {
        self.each(tags, |this, tag| {
            if !tag.is_string() {
                this.wrong_kind(tag, "a string");
            }
        });
        let texts = tags.iter().filter_map(Value::as_str);
        let length: usize = texts.map(|tag| tag.chars().count()).sum();
        if length > LONGEST_TAGS {
            self.error(format!(
                "found {length} characters in all tags; Cloud Controller refuses more than {LONGEST_TAGS}"
            ));
        }
    }

    /// An item of `requires`.
    pub(super) fn permission(&mut self, permission: &Value) {
        let wanted = "\"syslog_drain\", \"route_forwarding\" or \"volume_mount\"";
        match permission.as_str() {
            Some("syslog_drain") => {}
            Some("route_forwarding") => self.switched_off("route services"),
            Some("volume_mount") => self.switched_off("volume services"),
            Some(other) => self.error(format!("found {}, wanted {wanted}", quoted(other))),
            None => self.wrong_kind(permission, wanted),
        }
    }

    fn switched_off(&mut self, what: &str) {
        self.warning(format!(
            "Cloud Controller refuses the catalog where {what} are switched off on the platform"
        ));
    }
}
