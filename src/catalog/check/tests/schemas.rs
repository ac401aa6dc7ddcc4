//! The rules for the JSON schemas of a plan.

use super::{SCHEMA, edit, full, lines, with};
use crate::catalog::check::check;
use crate::catalog::finding::{Finding, Findings};

use serde_json::{Value, json};

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
        ("https://json-schema.org/draft-04/schema#", None),
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
#[cfg(feature = "schemas")]
fn a_schema_must_be_valid_against_its_metaschema() {
    for (schema, wanted) in [
        (json!({"type": "integr"}), "type: "),
        (
            json!({"properties": {"size": {"minimum": "1"}}}),
            "properties.size.minimum: ",
        ),
        (json!({"required": []}), "required: "),
        (json!({"$ref": "#/definitions/missing"}), ""),
        (
            json!({"properties": {"a": {"pattern": "("}}}),
            "properties.a.pattern: ",
        ),
    ] {
        let found = with_schema(schema.clone());
        assert_eq!(found.len(), 1, "{schema}: {found:?}");
        assert!(
            found[0].starts_with(&format!("error: {SCHEMA_PLACE}: {wanted}")),
            "{schema}: {found:?}"
        );
    }
}

#[test]
fn a_build_that_does_not_check_parameters_says_so_once_a_plan() {
    let mut findings = Findings::default();
    check(&full(), &mut findings);
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
