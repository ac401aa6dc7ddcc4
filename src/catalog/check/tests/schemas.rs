//! The rules for the JSON schemas of a plan.

use super::{SCHEMA, edit, full, lines, with};
use crate::catalog::check::check;
use crate::catalog::finding::{Finding, Findings};

use serde_json::{Value, json};
use std::collections::HashSet;

const SCHEMA_PLACE: &str = "services[0].plans[0].schemas.service_instance.create.parameters";

#[test]
fn schemas_must_declare_a_version() {
    let place = format!("{SCHEMA_PLACE}.$schema");
    let found = |value: Option<Value>| {
        let mut document = full();
        edit(&mut document, &format!("{SCHEMA}/$schema"), value);
        lines(&document)
    };
    let wanted = "the version of JSON Schema, as in \"http://json-schema.org/draft-04/schema#\"";
    assert_eq!(
        found(None),
        [format!("error: {place}: found nothing, wanted {wanted}")]
    );
    assert_eq!(
        found(Some(json!(4))),
        [format!("error: {place}: found a number, wanted {wanted}")]
    );
    for unknown in [
        "draft-04",
        "https://example.com/schema",
        "http://json-schema.org/schema#",
        "",
    ] {
        let found = found(Some(json!(unknown)));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with(&format!("error: {place}: found {unknown:?}, wanted ")),
            "{found:?}"
        );
    }
}

#[test]
fn drafts_that_cloud_controller_refuses_are_warned_about() {
    for (uri, refused) in [
        ("http://json-schema.org/draft-04/schema#", None),
        ("http://json-schema.org/draft-04/schema", None),
        ("http://json-schema.org/draft-06/schema#", None),
        ("http://json-schema.org/draft-07/schema#", Some("draft-07")),
        (
            "https://json-schema.org/draft/2019-09/schema",
            Some("2019-09"),
        ),
        (
            "https://json-schema.org/draft/2020-12/schema",
            Some("2020-12"),
        ),
    ] {
        let wanted: Vec<_> = refused
            .map(|name| {
                format!(
                    "warning: {SCHEMA_PLACE}.$schema: Cloud Controller refuses JSON Schema {name}, wanted draft-04 or \
                     draft-06"
                )
            })
            .into_iter()
            .collect();
        assert_eq!(with(&format!("{SCHEMA}/$schema"), json!(uri)), wanted);
    }
}

/// A schema with these keywords beside `$schema`.
fn with_schema(mut schema: Value) -> Vec<String> {
    schema["$schema"] = json!("http://json-schema.org/draft-04/schema#");
    with(SCHEMA, schema)
}

#[test]
fn references_out_of_a_schema_are_refused() {
    for (schema, place) in [
        (json!({"$ref": "http://example.com/schema"}), "$ref"),
        (json!({"$ref": "file:///etc/passwd"}), "$ref"),
        (json!({"$ref": "other.json#/definitions/a"}), "$ref"),
        (
            json!({"$ref": "http://json-schema.org/draft-04/schema#"}),
            "$ref",
        ),
        (json!({"$ref": ""}), "$ref"),
        (
            json!({"properties": {"a": {"$ref": "x"}}}),
            "properties.a.$ref",
        ),
        (
            json!({"properties": {"properties": {"$ref": "x"}}}),
            "properties.properties.$ref",
        ),
        (
            json!({"properties": {"enum": {"$ref": "x"}}}),
            "properties.enum.$ref",
        ),
        (
            json!({"definitions": {"a": {"items": {"$ref": "x"}}}}),
            "definitions.a.items.$ref",
        ),
        (
            json!({"anyOf": [{}, {"not": {"$ref": "x"}}]}),
            "anyOf[1].not.$ref",
        ),
        (
            json!({"dependencies": {"a": {"$ref": "x"}}}),
            "dependencies.a.$ref",
        ),
        (
            json!({"patternProperties": {"^a": {"$ref": "x"}}}),
            "patternProperties.^a.$ref",
        ),
        (
            json!({"additionalProperties": {"$ref": "x"}}),
            "additionalProperties.$ref",
        ),
        (json!({"$dynamicRef": "http://x#y"}), "$dynamicRef"),
        (json!({"$recursiveRef": "x"}), "$recursiveRef"),
    ] {
        let found = with_schema(schema.clone());
        assert_eq!(found.len(), 1, "{schema}: {found:?}");
        assert!(
            found[0].starts_with(&format!("error: {SCHEMA_PLACE}.{place}: found "))
                && found[0].ends_with("wanted a reference within the schema, beginning with \"#\""),
            "{schema}: {found:?}"
        );
    }
    let found = with_schema(json!({"$ref": 7}));
    assert_eq!(
        found,
        [format!(
            "error: {SCHEMA_PLACE}.$ref: found a number, wanted a string"
        )]
    );
}

#[test]
fn references_within_a_schema_and_data_that_look_like_references_pass() {
    for schema in [
        json!({"definitions": {"a": {"type": "string"}}, "properties": {"a": {"$ref": "#/definitions/a"}}}),
        json!({"properties": {"child": {"$ref": "#"}}}),
        // Parameters that are called so.
        json!({"properties": {"$ref": {"type": "string"}, "$dynamicRef": {"type": "string"}}}),
        json!({"definitions": {"$ref": {"type": "string"}}}),
        json!({"$defs": {"$ref": {"type": "string"}}}),
        json!({"patternProperties": {"$ref": {"type": "string"}}}),
        json!({"dependentSchemas": {"$ref": {"type": "object"}}}),
        json!({"dependencies": {"$ref": ["a"]}}),
        // Data.
        json!({"enum": [{"$ref": "http://example.com"}]}),
        json!({"default": {"$ref": "http://example.com"}}),
    ] {
        assert_eq!(
            with_schema(schema.clone()),
            Vec::<String>::new(),
            "{schema}"
        );
    }
}

#[test]
fn a_schema_has_a_largest_size() {
    let empty = serde_json::to_string(&json!({
        "$schema": "http://json-schema.org/draft-04/schema#",
        "description": ""
    }));
    let room = 65_536 - empty.unwrap().len();
    let fits = json!({"description": "ä".repeat(room)});
    assert_eq!(with_schema(fits), Vec::<String>::new());
    let found = with_schema(json!({"description": "ä".repeat(room + 1)}));
    assert_eq!(
        found,
        [format!(
            "error: {SCHEMA_PLACE}: found 65537 characters as JSON; Cloud Controller refuses more than 65536"
        )]
    );
}

#[test]
fn the_old_drafts_are_named_by_http_only() {
    for draft in ["draft-04", "draft-06"] {
        for end in ["", "#"] {
            let uri = format!("https://json-schema.org/{draft}/schema{end}");
            assert_eq!(
                with(&format!("{SCHEMA}/$schema"), json!(uri)),
                [format!(
                    "error: {SCHEMA_PLACE}.$schema: found {uri:?}, wanted \"http://json-schema.org/{draft}/schema#\"; \
                     Cloud Controller takes any other for a custom meta schema, which it refuses"
                )]
            );
        }
    }
}

/// What is found in a schema that says it is of one of the drafts 4 and 6: the same for both.
fn refusals(schema: &Value) -> Vec<String> {
    let [four, six] = ["draft-04", "draft-06"].map(|draft| {
        let mut schema = schema.clone();
        schema["$schema"] = json!(format!("http://json-schema.org/{draft}/schema#"));
        let mut found = with(SCHEMA, schema);
        // Draft-06 has other rules, by which a build with the feature `schemas` may be unable to check parameters.
        found.retain(|line| line.starts_with("error: "));
        found
    });
    assert_eq!(four, six, "{schema}");
    four
}

#[test]
fn what_the_metaschema_of_draft_04_does_not_allow_is_an_error() {
    let within = |schema: Value| json!({"properties": {"a": schema}});
    let named = |found: &str, wanted: &str| format!("found {found}, wanted {wanted}");
    let types = "one of array, boolean, integer, null, number, object, string";
    let (text, boolean) = ("a string", "true or false");
    let (length, number) = ("a whole number of at least 0", "a number");
    let (schema, some) = ("a schema, which is an object", "at least one element");
    for (keywords, place, wanted) in [
        (json!({"id": 1}), "id", named("a number", text)),
        (json!({"title": null}), "title", named("null", text)),
        (
            json!({"description": []}),
            "description",
            named("an array", text),
        ),
        (json!({"pattern": 1}), "pattern", named("a number", text)),
        (json!({"format": true}), "format", named("a boolean", text)),
        (
            json!({"multipleOf": 0}),
            "multipleOf",
            named("0", "a number above 0"),
        ),
        (
            json!({"multipleOf": "2"}),
            "multipleOf",
            named("a string", "a number above 0"),
        ),
        (
            json!({"maximum": "1"}),
            "maximum",
            named("a string", number),
        ),
        (json!({"minimum": null}), "minimum", named("null", number)),
        (
            json!({"minimum": 0, "exclusiveMinimum": 0}),
            "exclusiveMinimum",
            named("a number", boolean),
        ),
        (
            json!({"maximum": 0, "exclusiveMaximum": 9}),
            "exclusiveMaximum",
            named("a number", boolean),
        ),
        (
            json!({"exclusiveMinimum": true}),
            "exclusiveMinimum",
            "found without \"minimum\"".to_owned(),
        ),
        (
            json!({"exclusiveMaximum": true}),
            "exclusiveMaximum",
            "found without \"maximum\"".to_owned(),
        ),
        (json!({"maxLength": -1}), "maxLength", named("-1", length)),
        (json!({"minLength": 1.5}), "minLength", named("1.5", length)),
        (
            json!({"maxItems": "1"}),
            "maxItems",
            named("a string", length),
        ),
        (
            json!({"minItems": true}),
            "minItems",
            named("a boolean", length),
        ),
        (
            json!({"maxProperties": null}),
            "maxProperties",
            named("null", length),
        ),
        (
            json!({"minProperties": -2}),
            "minProperties",
            named("-2", length),
        ),
        (
            json!({"uniqueItems": 1}),
            "uniqueItems",
            named("a number", boolean),
        ),
        (
            json!({"additionalItems": 1}),
            "additionalItems",
            named("a number", "true, false or a schema, which is an object"),
        ),
        (
            json!({"additionalProperties": "no"}),
            "additionalProperties",
            named("a string", "true, false or a schema, which is an object"),
        ),
        (
            json!({"items": true}),
            "items",
            named(
                "a boolean",
                "a schema, which is an object, or an array of schemas",
            ),
        ),
        (json!({"items": []}), "items", named("an empty array", some)),
        (
            json!({"items": [{}, false]}),
            "items[1]",
            named("a boolean", schema),
        ),
        (
            json!({"required": []}),
            "required",
            named("an empty array", some),
        ),
        (
            json!({"required": true}),
            "required",
            named("a boolean", "an array of strings"),
        ),
        (
            json!({"required": [1]}),
            "required[0]",
            named("a number", text),
        ),
        (
            json!({"required": ["a", "a"]}),
            "required",
            "found an element more than once".to_owned(),
        ),
        (
            json!({"definitions": {"x": true}}),
            "definitions.x",
            named("a boolean", schema),
        ),
        (
            json!({"properties": {"any": true}}),
            "properties.any",
            named("a boolean", schema),
        ),
        (
            json!({"properties": []}),
            "properties",
            named("an array", "an object"),
        ),
        (
            json!({"patternProperties": {"^a": 1}}),
            "patternProperties.^a",
            named("a number", schema),
        ),
        (
            json!({"dependencies": {"x": "a"}}),
            "dependencies.x",
            named("a string", schema),
        ),
        (
            json!({"dependencies": {"x": []}}),
            "dependencies.x",
            named("an empty array", some),
        ),
        (
            json!({"dependencies": {"x": {"type": 1}}}),
            "dependencies.x.type",
            named("a number", "the name of a type, or an array of such names"),
        ),
        (json!({"enum": []}), "enum", named("an empty array", some)),
        (
            json!({"enum": [1, 1]}),
            "enum",
            "found an element more than once".to_owned(),
        ),
        (json!({"enum": "a"}), "enum", named("a string", "an array")),
        (json!({"type": "int"}), "type", named("\"int\"", types)),
        (json!({"type": []}), "type", named("an empty array", some)),
        (
            json!({"type": ["string", "file"]}),
            "type[1]",
            named("\"file\"", types),
        ),
        (json!({"type": [{}]}), "type[0]", named("an object", text)),
        (json!({"allOf": []}), "allOf", named("an empty array", some)),
        (
            json!({"anyOf": {}}),
            "anyOf",
            named("an object", "an array of schemas"),
        ),
        (
            json!({"oneOf": [true]}),
            "oneOf[0]",
            named("a boolean", schema),
        ),
        (json!({"not": false}), "not", named("a boolean", schema)),
    ] {
        let note = "; Cloud Controller takes what the metaschema of draft-04 allows, whatever $schema says";
        let at_top = [format!("error: {SCHEMA_PLACE}.{place}: {wanted}{note}")];
        assert_eq!(refusals(&keywords), at_top, "{keywords}");
        let deeper = [format!(
            "error: {SCHEMA_PLACE}.properties.a.{place}: {wanted}{note}"
        )];
        assert_eq!(refusals(&within(keywords.clone())), deeper, "{keywords}");
    }
}

#[test]
fn what_the_metaschema_of_draft_04_allows_passes() {
    for schema in [
        json!({"id": "#a", "title": "t", "description": "d", "default": null, "format": "any", "x-vendor": []}),
        json!({"minimum": -1.5, "exclusiveMinimum": true, "maximum": 3, "exclusiveMaximum": false, "multipleOf": 0.1}),
        json!({"items": [{}], "additionalItems": false, "uniqueItems": true, "minItems": 0, "maxItems": 5}),
        json!({"items": {"type": ["string", "null"]}, "additionalProperties": {"type": "string"}}),
        json!({"dependencies": {"a": ["b"], "c": {"required": ["d"]}}, "definitions": {}, "not": {}}),
        json!({"enum": [1, "1", null, [], {}], "allOf": [{}], "anyOf": [{}], "oneOf": [{}]}),
        // Keywords of later drafts are nothing to draft-04.
        json!({"const": 1, "examples": true, "contains": false, "propertyNames": true}),
        // Parameters that are called like keywords, and data that look like schemas.
        json!({"properties": {"type": {}, "required": {"type": "boolean"}, "enum": {"enum": [{"type": "int"}]}}}),
        json!({"default": {"type": "int", "required": true}}),
    ] {
        assert_eq!(refusals(&schema), Vec::<String>::new(), "{schema}");
    }
}

/// They are for other platforms: a warning says already that Cloud Controller refuses them.
#[test]
fn later_drafts_keep_to_their_own_rules() {
    for uri in [
        "http://json-schema.org/draft-07/schema#",
        "https://json-schema.org/draft/2020-12/schema",
    ] {
        let found = with(
            SCHEMA,
            json!({"$schema": uri, "exclusiveMinimum": 0, "properties": {"any": true}, "required": []}),
        );
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains("Cloud Controller refuses JSON Schema"),
            "{found:?}"
        );
    }
}

/// No catalog starts without the feature `schemas` and fails with it.
#[test]
fn a_schema_that_cannot_be_used_is_served_and_not_checked() {
    let refers = json!({"properties": {"a": {"$ref": "#/definitions/missing"}}});
    for schema in [
        refers,
        json!({"pattern": "("}),
        json!({"pattern": "a{1000}{1000}{1000}"}),
    ] {
        let found = with_schema(schema.clone());
        if cfg!(feature = "schemas") {
            assert_eq!(found.len(), 1, "{schema}: {found:?}");
            let wanted = format!(
                "warning: {SCHEMA_PLACE}: parameters are not checked against this schema: "
            );
            assert!(found[0].starts_with(&wanted), "{schema}: {found:?}");
        } else {
            assert_eq!(found, Vec::<String>::new(), "{schema}");
        }
    }
    let password = json!({"properties": {"password": {"pattern": "^(?=.*[0-9]).{8,64}$"}}});
    assert_eq!(with_schema(password), Vec::<String>::new());
}

#[test]
fn a_build_that_does_not_check_parameters_says_so_once_a_plan() {
    let mut findings = Findings::default();
    check(&full(), &HashSet::new(), &mut findings);
    let lines: Vec<_> = findings.0.iter().map(Finding::to_string).collect();
    if cfg!(feature = "schemas") {
        assert!(lines.is_empty(), "{lines:?}");
    } else {
        assert_eq!(
            lines,
            [
                "warning: services[0].plans[0].schemas: parameters are not checked against these schemas, since this \
                 brokerlet was built without the feature \"schemas\""
            ]
        );
    }
}
