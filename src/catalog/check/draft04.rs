//! The metaschema of JSON Schema draft-04. Cloud Controller validates every schema against it, whatever its `$schema`
//! says: so it refuses draft-06's `"exclusiveMinimum": 0` and `true` as a schema.

use super::{Checker, quoted};
use crate::json::kind;

use serde_json::{Map, Value};

/// What the value of a keyword must be.
#[derive(Clone, Copy)]
enum Shape {
    Text,
    Boolean,
    Number,
    PositiveNumber,
    /// A whole number of at least 0.
    Length,
    Schema,
    BooleanOrSchema,
    Schemas,
    SchemaOrSchemas,
    /// An object whose members are schemas.
    Named,
    /// An object whose members are schemas or lists of names.
    Dependencies,
    Names,
    Type,
    /// A list of any values.
    Values,
}

/// Keywords that the metaschema does not have can be anything. `$schema` has a rule of its own.
const KEYWORDS: [(&str, Shape); 31] = [
    ("id", Shape::Text),
    ("title", Shape::Text),
    ("description", Shape::Text),
    ("multipleOf", Shape::PositiveNumber),
    ("maximum", Shape::Number),
    ("exclusiveMaximum", Shape::Boolean),
    ("minimum", Shape::Number),
    ("exclusiveMinimum", Shape::Boolean),
    ("maxLength", Shape::Length),
    ("minLength", Shape::Length),
    ("pattern", Shape::Text),
    ("additionalItems", Shape::BooleanOrSchema),
    ("items", Shape::SchemaOrSchemas),
    ("maxItems", Shape::Length),
    ("minItems", Shape::Length),
    ("uniqueItems", Shape::Boolean),
    ("maxProperties", Shape::Length),
    ("minProperties", Shape::Length),
    ("required", Shape::Names),
    ("additionalProperties", Shape::BooleanOrSchema),
    ("definitions", Shape::Named),
    ("properties", Shape::Named),
    ("patternProperties", Shape::Named),
    ("dependencies", Shape::Dependencies),
    ("enum", Shape::Values),
    ("type", Shape::Type),
    ("format", Shape::Text),
    ("allOf", Shape::Schemas),
    ("anyOf", Shape::Schemas),
    ("oneOf", Shape::Schemas),
    ("not", Shape::Schema),
];

/// The first has no meaning without the second.
const COMPANIONS: [(&str, &str); 2] = [
    ("exclusiveMaximum", "maximum"),
    ("exclusiveMinimum", "minimum"),
];

const TYPES: [&str; 7] = [
    "array", "boolean", "integer", "null", "number", "object", "string",
];

impl Shape {
    /// Completes "wanted …".
    fn wanted(self) -> &'static str {
        match self {
            Shape::Text => "a string",
            Shape::Boolean => "true or false",
            Shape::Number => "a number",
            Shape::PositiveNumber => "a number above 0",
            Shape::Length => "a whole number of at least 0",
            Shape::Schema => "a schema, which is an object",
            Shape::BooleanOrSchema => "true, false or a schema, which is an object",
            Shape::Schemas => "an array of schemas",
            Shape::SchemaOrSchemas => "a schema, which is an object, or an array of schemas",
            Shape::Named | Shape::Dependencies => "an object",
            Shape::Names => "an array of strings",
            Shape::Type => "the name of a type, or an array of such names",
            Shape::Values => "an array",
        }
    }
}

impl<'d> Checker<'d, '_> {
    /// Whether a schema, which stands at the current place, is valid against the metaschema.
    pub(super) fn draft04(&mut self, schema: &'d Map<String, Value>) {
        for (keyword, value) in schema {
            if let Some((_, shape)) = KEYWORDS.iter().find(|(name, _)| name == keyword) {
                self.within_key(keyword, |this| this.shape(value, *shape));
            }
        }
        for (keyword, companion) in COMPANIONS {
            let is_given = schema.get(keyword).is_some_and(Value::is_boolean);
            if is_given && !schema.contains_key(companion) {
                let text = format!("found without {companion:?}");
                self.within_key(keyword, |this| this.refused(text));
            }
        }
    }

    fn refused(&mut self, text: impl std::fmt::Display) {
        self.error(format!(
            "{text}; Cloud Controller takes what the metaschema of draft-04 allows, whatever $schema says"
        ));
    }

    fn shape(&mut self, value: &'d Value, shape: Shape) {
        match (shape, value) {
            (Shape::Text, Value::String(_))
            | (Shape::Boolean | Shape::BooleanOrSchema, Value::Bool(_))
            | (Shape::Number, Value::Number(_)) => {}
            (Shape::PositiveNumber, Value::Number(n)) if n.as_f64().is_none_or(|n| n > 0.0) => {}
            (Shape::Length, Value::Number(n)) if n.is_u64() => {}
            (Shape::PositiveNumber | Shape::Length, Value::Number(n)) => {
                self.refused(format_args!("found {n}, wanted {}", shape.wanted()));
            }
            (
                Shape::Schema | Shape::BooleanOrSchema | Shape::SchemaOrSchemas,
                Value::Object(schema),
            ) => self.draft04(schema),
            (Shape::Schemas | Shape::SchemaOrSchemas, Value::Array(schemas)) => {
                self.not_empty(schemas);
                self.each(schemas, |this, schema| this.shape(schema, Shape::Schema));
            }
            (Shape::Named, Value::Object(schemas)) => {
                for (name, schema) in schemas {
                    self.within_key(name, |this| this.shape(schema, Shape::Schema));
                }
            }
            (Shape::Dependencies, Value::Object(dependencies)) => {
                for (name, dependency) in dependencies {
                    let is_list = dependency.is_array();
                    let shape = if is_list { Shape::Names } else { Shape::Schema };
                    self.within_key(name, |this| this.shape(dependency, shape));
                }
            }
            (Shape::Names, Value::Array(names)) => {
                self.not_empty(names);
                self.distinct(names);
                self.each(names, |this, name| this.shape(name, Shape::Text));
            }
            (Shape::Values, Value::Array(values)) => {
                self.not_empty(values);
                self.distinct(values);
            }
            (Shape::Type, Value::String(name)) => self.type_name(name),
            (Shape::Type, Value::Array(names)) => {
                self.not_empty(names);
                self.distinct(names);
                self.each(names, |this, name| match name {
                    Value::String(name) => this.type_name(name),
                    other => this.refused(format_args!("found {}, wanted a string", kind(other))),
                });
            }
            (shape, other) => {
                let (found, wanted) = (kind(other), shape.wanted());
                self.refused(format_args!("found {found}, wanted {wanted}"));
            }
        }
    }

    fn type_name(&mut self, name: &str) {
        if !TYPES.contains(&name) {
            let (found, types) = (quoted(name), TYPES.join(", "));
            self.refused(format_args!("found {found}, wanted one of {types}"));
        }
    }

    fn not_empty(&mut self, items: &[Value]) {
        if items.is_empty() {
            self.refused("found an empty array, wanted at least one element");
        }
    }

    fn distinct(&mut self, items: &'d [Value]) {
        let mut seen = std::collections::HashSet::new();
        if items.iter().any(|item| !seen.insert(item)) {
            self.refused("found an element more than once");
        }
    }
}
