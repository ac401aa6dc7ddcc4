//! The rules for the JSON schemas of a plan. spec: Input Parameters Schema Object.

use super::tables::Object;
use super::{Checker, length_as_json, quoted};
use crate::catalog::finding::Severity;

use serde_json::{Map, Value};

/// What Cloud Controller takes, in characters of JSON text. spec: "MUST NOT be larger than 64kB".
const LONGEST_SCHEMA: usize = 65_536;

struct Draft {
    /// `$schema`, without the scheme and an empty fragment.
    uri: &'static str,
    name: &'static str,
    /// Whether Cloud Controller can read it. Later drafts are for platforms that can.
    old_enough: bool,
}

const fn draft(uri: &'static str, name: &'static str, old_enough: bool) -> Draft {
    Draft {
        uri,
        name,
        old_enough,
    }
}

const DRAFTS: [Draft; 5] = [
    draft("json-schema.org/draft-04/schema", "draft-04", true),
    draft("json-schema.org/draft-06/schema", "draft-06", true),
    draft("json-schema.org/draft-07/schema", "draft-07", false),
    draft("json-schema.org/draft/2019-09/schema", "2019-09", false),
    draft("json-schema.org/draft/2020-12/schema", "2020-12", false),
];

impl Draft {
    fn of(uri: &str) -> Option<&'static Draft> {
        let uri = uri
            .strip_prefix("http://")
            .or_else(|| uri.strip_prefix("https://"))?;
        let uri = uri.strip_suffix('#').unwrap_or(uri);
        DRAFTS.iter().find(|draft| draft.uri == uri)
    }
}

impl<'d> Checker<'d, '_> {
    pub(super) fn schemas(&mut self, schemas: &'d Map<String, Value>, table: &'static Object) {
        self.object(schemas, table);
        let has_parameters = |uses: &Value| {
            let mut uses = uses.as_object().into_iter().flat_map(Map::values);
            uses.any(|input| input.get("parameters").is_some_and(Value::is_object))
        };
        if cfg!(not(feature = "schemas")) && schemas.values().any(has_parameters) {
            self.warning(
                "parameters are not checked against these schemas, since this brokerlet was built without the \
                 feature \"schemas\"",
            );
        }
    }

    pub(super) fn json_schema(&mut self, schema: &'d Value, keywords: &'d Map<String, Value>) {
        let errors_before = self.findings.count(Severity::Error);
        let length = length_as_json(schema);
        if length > LONGEST_SCHEMA {
            self.error(format!(
                "found {length} characters as JSON; Cloud Controller refuses more than {LONGEST_SCHEMA}"
            ));
        }
        let declared = keywords.get("$schema");
        self.within_key("$schema", |this| this.draft(declared));
        self.references(schema);
        // A catalog with a later draft is not for Cloud Controller, as a warning says.
        let draft = declared.and_then(Value::as_str).and_then(Draft::of);
        if draft.is_none_or(|draft| draft.old_enough) {
            self.draft04(keywords);
        }
        let is_known = !self
            .unknown
            .iter()
            .any(|place| place.starts_with(&self.place));
        if is_known && self.findings.count(Severity::Error) == errors_before {
            self.usable_schema(schema);
        }
    }

    fn draft(&mut self, declared: Option<&Value>) {
        const WANTED: &str =
            "the version of JSON Schema, as in \"http://json-schema.org/draft-04/schema#\"";
        match declared {
            None => self.error(format!("found nothing, wanted {WANTED}")),
            Some(Value::String(uri)) => match Draft::of(uri) {
                Some(draft) if draft.old_enough && uri.starts_with("https:") => self.error(format!(
                    "found {}, wanted \"http://{}#\"; Cloud Controller takes any other for a custom meta schema, which it \
                     refuses",
                    quoted(uri),
                    draft.uri
                )),
                Some(draft) if draft.old_enough => {}
                Some(draft) => self.warning(format!(
                    "Cloud Controller refuses JSON Schema {}, wanted draft-04 or draft-06",
                    draft.name
                )),
                None => {
                    let names = DRAFTS.map(|draft| draft.name).join(", ");
                    let found = quoted(uri);
                    self.error(format!("found {found}, wanted {WANTED} (one of {names})"));
                }
            },
            Some(other) => self.wrong_kind(other, WANTED),
        }
    }

    /// spec: "Schemas MUST NOT contain any external references". Looks for them where a schema can stand, not in data.
    fn references(&mut self, schema: &'d Value) {
        match schema {
            Value::Array(schemas) => self.each(schemas, Self::references),
            Value::Object(schema) => {
                for (keyword, value) in schema {
                    self.within_key(keyword, |this| this.keyword(keyword, value));
                }
            }
            _ => {}
        }
    }

    fn keyword(&mut self, keyword: &str, value: &'d Value) {
        match keyword {
            "$ref" | "$dynamicRef" | "$recursiveRef" => match value.as_str() {
                Some(uri) if uri.starts_with('#') => {}
                Some(uri) => self.error(format!(
                    "found {}, wanted a reference within the schema, beginning with \"#\"",
                    quoted(uri)
                )),
                None => self.wrong_kind(value, "a string"),
            },
            // Data, not schemas.
            "enum" | "const" | "default" | "example" | "examples" => {}
            // Here the keys are names of properties, one of which may well be `$ref`.
            "properties" | "patternProperties" | "definitions" | "$defs" | "dependencies"
            | "dependentSchemas" => {
                for (name, schema) in value.as_object().into_iter().flat_map(Map::iter) {
                    self.within_key(name, |this| this.references(schema));
                }
            }
            _ => self.references(value),
        }
    }

    /// Warns where parameters cannot be checked: what a build without the feature `schemas` serves, one with it serves too.
    #[cfg(feature = "schemas")]
    fn usable_schema(&mut self, schema: &Value) {
        if let Err(error) = crate::catalog::schema::Validator::compile(schema) {
            self.warning(format!(
                "parameters are not checked against this schema: {error}"
            ));
        }
    }

    #[cfg(not(feature = "schemas"))]
    fn usable_schema(&mut self, _: &Value) {}
}
