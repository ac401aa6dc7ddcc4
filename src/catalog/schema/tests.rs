use super::{Unfit, Validator};

use serde_json::{Value, json};
use std::time::{Duration, Instant};

const DRAFTS: [&str; 5] = [
    "http://json-schema.org/draft-04/schema#",
    "http://json-schema.org/draft-06/schema#",
    "http://json-schema.org/draft-07/schema#",
    "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
];

fn schema(draft: &str, mut keywords: Value) -> Value {
    keywords["$schema"] = json!(draft);
    keywords
}

/// What is said of these parameters under a draft-07 schema with these keywords.
fn refusal(keywords: Value, parameters: Value) -> String {
    let validator = Validator::compile(&schema(DRAFTS[2], keywords)).unwrap();
    validator.validate(&parameters).unwrap_err().told
}

#[test]
fn every_draft_is_known_by_its_schema_uri() {
    for draft in DRAFTS {
        let schema = schema(
            draft,
            json!({"type": "object", "properties": {"size": {"type": "integer", "maximum": 10}}}),
        );
        let validator = Validator::compile(&schema).unwrap();
        assert_eq!(validator.validate(&json!({"size": 10})), Ok(()), "{draft}");
        assert_eq!(validator.validate(&json!({})), Ok(()), "{draft}");
        assert_eq!(
            validator.validate(&json!({"size": 11})),
            Err(Unfit {
                told: "parameters.size: 11 is greater than the maximum of 10".to_owned(),
                logged: "parameters.size: a number is greater than the maximum of 10".to_owned(),
            }),
            "{draft}"
        );
    }
}

/// `exclusiveMaximum` is a boolean in draft 4, and a number from draft 6 on.
#[test]
fn each_draft_has_its_own_rules() {
    for (draft, limit) in [
        (DRAFTS[0], json!(true)),
        (DRAFTS[1], json!(10)),
        (DRAFTS[4], json!(10)),
    ] {
        let good = schema(draft, json!({"maximum": 10, "exclusiveMaximum": limit}));
        assert!(
            Validator::compile(&good)
                .unwrap()
                .validate(&json!(10))
                .is_err()
        );
        let other = if limit.is_boolean() {
            json!(10)
        } else {
            json!(true)
        };
        let bad = schema(draft, json!({"maximum": 10, "exclusiveMaximum": other}));
        let error = Validator::compile(&bad).unwrap_err();
        assert!(error.starts_with("exclusiveMaximum: "), "{error}");
    }
}

#[test]
fn errors_name_the_field_for_the_user() {
    let object = |name: &str, rule: Value| json!({"properties": {name: rule}});
    for (keywords, parameters, wanted) in [
        (
            json!({"required": ["size"]}),
            json!({}),
            "parameters.size: is required",
        ),
        (
            json!({"additionalProperties": false, "properties": {"size": {}}}),
            json!({"sise": 1, "colour": 2}),
            "parameters.colour: is not known; parameters.sise: is not known",
        ),
        (
            object(
                "disks",
                json!({"items": {"properties": {"size": {"type": "integer"}}}}),
            ),
            json!({"disks": [{"size": 1}, {"size": "big"}]}),
            "parameters.disks[1].size: \"big\" is not of type \"integer\"",
        ),
        (
            object("0", json!({"type": "string"})),
            json!({"0": 1}),
            "parameters.0: 1 is not of type \"string\"",
        ),
        (
            object("a/b~c", json!({"type": "string"})),
            json!({"a/b~c": 1}),
            "parameters.a/b~c: 1 is not of type \"string\"",
        ),
        (
            object("color", json!({"enum": ["red", "green", "blue", "black"]})),
            json!({"color": "pink"}),
            "parameters.color: \"pink\" is not one of \"red\", \"green\", \"blue\", \"black\"",
        ),
        (
            object("name", json!({"pattern": "^[a-z]+$"})),
            json!({"name": "A1"}),
            "parameters.name: \"A1\" does not match \"^[a-z]+$\"",
        ),
        (
            object("old", json!(false)),
            json!({"old": 1}),
            "parameters.old: is not allowed",
        ),
        (
            json!({"propertyNames": {"maxLength": 3}}),
            json!({"abcd": 1}),
            "parameters: name \"abcd\" is longer than 3 characters",
        ),
        (
            json!({"type": "object"}),
            json!([1]),
            "parameters: an array is not of type \"object\"",
        ),
        (
            json!({"minProperties": 1}),
            json!({}),
            "parameters: an object has less than 1 property",
        ),
    ] {
        assert_eq!(refusal(keywords.clone(), parameters), wanted, "{keywords}");
    }
}

#[test]
fn all_violations_are_named_but_at_most_five() {
    let keywords = json!({"additionalProperties": {"type": "integer"}});
    let parameters = |n: usize| -> Value {
        (0..n)
            .map(|i| (format!("p{i}"), json!(true)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let five = refusal(keywords.clone(), parameters(5));
    assert_eq!(five.matches("is not of type").count(), 5, "{five}");
    assert!(!five.contains("and more"), "{five}");
    let many = refusal(keywords, parameters(500));
    assert_eq!(many.matches("is not of type").count(), 5, "{many}");
    assert!(many.ends_with("; and more"), "{many}");
    let unknown = refusal(json!({"additionalProperties": false}), parameters(500));
    assert_eq!(unknown.matches("is not known").count(), 5, "{unknown}");
}

#[test]
fn long_values_names_and_rules_are_not_repeated_in_full() {
    let long = "ä".repeat(100_000);
    let keywords = json!({"properties": {"name": {"maxLength": 3}}});
    assert_eq!(
        refusal(keywords, json!({"name": long})),
        "parameters.name: a string of 100000 characters is longer than 3 characters"
    );
    let keywords = json!({
        "additionalProperties": false,
        "properties": {
            "e": {"enum": [long]},
            "p": {"pattern": format!("^{}$", "ä".repeat(5_000))},
            "c": {"const": long}
        }
    });
    for parameters in [
        json!({long.as_str(): 1}),
        json!({"e": 1}),
        json!({"p": "x"}),
        json!({"c": 1}),
    ] {
        let error = refusal(keywords.clone(), parameters);
        assert!(
            error.chars().count() <= 310,
            "{} characters",
            error.chars().count()
        );
    }
    let error = refusal(
        json!({"propertyNames": {"maxLength": 3}}),
        json!({long.as_str(): 1}),
    );
    assert!(error.len() < 200, "{error}");
}

#[test]
fn references_out_of_the_schema_are_refused_and_never_fetched() {
    // A listener that nobody may connect to.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let file = format!("file://{}/Cargo.toml", env!("CARGO_MANIFEST_DIR"));
    for draft in DRAFTS {
        for reference in [
            format!("http://{address}/schema"),
            file.clone(),
            "other.json".to_owned(),
        ] {
            let schema = schema(draft, json!({"properties": {"a": {"$ref": reference}}}));
            let error = Validator::compile(&schema).unwrap_err();
            assert!(error.contains(&reference), "{draft}: {error}");
        }
        let metaschema = json!({"$schema": format!("http://{address}/schema")});
        assert!(Validator::compile(&metaschema).is_err());
    }
    let connection = listener.accept().map(|(_, from)| from);
    assert_eq!(
        connection.unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
}

#[test]
fn a_schema_without_a_known_version_is_refused() {
    for (schema, wanted) in [
        (json!({}), "$schema: wanted the version of JSON Schema"),
        (json!(true), "$schema: wanted the version of JSON Schema"),
        (
            json!({"$schema": 4}),
            "$schema: wanted the version of JSON Schema",
        ),
        (
            json!({"$schema": "https://example.com"}),
            "$schema: \"https://example.com\" is not known",
        ),
    ] {
        assert_eq!(Validator::compile(&schema).unwrap_err(), wanted);
    }
}

#[test]
fn everything_wrong_with_a_schema_is_named() {
    let schema = schema(
        DRAFTS[0],
        json!({"type": "objekt", "properties": {"size": {"minimum": "1", "required": []}}}),
    );
    let error = Validator::compile(&schema).unwrap_err();
    for place in [
        "type: ",
        "properties.size.minimum: ",
        "properties.size.required: ",
    ] {
        assert!(error.contains(place), "{error}");
    }
}

/// A schema for parameters whose `name` has this pattern.
fn with_pattern(draft: &str, pattern: &str) -> Result<Validator, String> {
    let keywords = json!({"properties": {"name": {"pattern": pattern}}});
    Validator::compile(&schema(draft, keywords))
}

#[test]
fn look_around_and_back_references_are_applied() {
    for draft in DRAFTS {
        for (pattern, good, bad) in [
            ("^(?=.*[0-9])(?=.*[a-z]).{8,64}$", "passw0rd", "password"),
            ("^(?!admin$)[a-z]+$", "alex", "admin"),
            ("(?<=-)x", "a-x", "ax"),
            ("^(a|b)\\1$", "bb", "ab"),
        ] {
            let validator = with_pattern(draft, pattern).unwrap();
            assert_eq!(
                validator.validate(&json!({"name": good})),
                Ok(()),
                "{draft} {pattern}"
            );
            let error = validator.validate(&json!({"name": bad})).unwrap_err().told;
            assert!(
                error.starts_with(&format!("parameters.name: {bad:?} does not match ")),
                "{draft} {error}"
            );
        }
    }
    let keywords = json!({"patternProperties": {"^(?!x)": {"type": "integer"}}});
    let validator = Validator::compile(&schema(DRAFTS[1], keywords)).unwrap();
    assert_eq!(validator.validate(&json!({"x": "text", "y": 1})), Ok(()));
    assert!(validator.validate(&json!({"y": "text"})).is_err());
}

/// With an engine that backtracks without a limit, most of these need longer than the universe has existed.
#[test]
fn no_parameter_makes_a_pattern_run_for_long() {
    let started = Instant::now();
    for pattern in ["^(a+)+$", "^(a|a)*$", "^(.*a){20}$"] {
        let validator = with_pattern(DRAFTS[2], pattern).unwrap();
        let evil = json!({"name": format!("{}!", "a".repeat(50_000))});
        assert!(validator.validate(&evil).is_err());
    }
    for pattern in ["^(?=(a+)+$)b", "^(?!x)(a|a)*\\1b", "^(?:(?=.*!)a)*$"] {
        let validator = with_pattern(DRAFTS[2], pattern).unwrap();
        for length in [30, 15_000] {
            let evil = json!({"name": format!("{}!", "a".repeat(length))});
            assert!(validator.validate(&evil).is_err(), "{pattern}");
        }
        let keywords = json!({"items": {"pattern": pattern}});
        let validator = Validator::compile(&schema(DRAFTS[2], keywords)).unwrap();
        let evil = vec![format!("{}!", "a".repeat(30)); 100];
        assert!(validator.validate(&json!(evil)).is_err(), "{pattern}");
    }
    assert!(
        started.elapsed() < Duration::from_secs(60),
        "{:?}",
        started.elapsed()
    );
    let validator = with_pattern(DRAFTS[2], "^(?!x)(a|a)*\\1b").unwrap();
    let error = validator.validate(&json!({"name": format!("{}!", "a".repeat(30))}));
    assert_eq!(
        error.unwrap_err().told,
        format!(
            "parameters.name: \"{}!\" takes too long to compare with the pattern that is wanted",
            "a".repeat(30)
        )
    );
    let error = validator.validate(&json!({"other": "a".repeat(70_000)}));
    assert_eq!(
        error.unwrap_err().told,
        "parameters: found 70012 bytes, wanted at most 16384 for the patterns of this plan"
    );
}

#[test]
fn a_pattern_that_no_engine_takes_is_an_error() {
    for pattern in ["(", "a{1000}{1000}{1000}", "(?=a{1000}{1000}{1000})"] {
        let error = with_pattern(DRAFTS[2], pattern).unwrap_err();
        assert!(error.starts_with("properties.name.pattern: "), "{error}");
    }
}

#[test]
fn recursive_schemas_end() {
    let tree = json!({"properties": {"child": {"$ref": "#"}, "size": {"type": "integer"}}});
    let mut parameters = json!({"size": "x"});
    for _ in 0..crate::json::MAX_DEPTH {
        parameters = json!({"child": parameters});
    }
    let error = refusal(tree, parameters);
    assert!(error.starts_with("parameters.child.child."), "{error}");
    for draft in DRAFTS {
        for endless in [
            json!({"$ref": "#"}),
            json!({"allOf": [{"$ref": "#"}]}),
            json!({"anyOf": [{"$ref": "#"}, {"type": "string"}]}),
            json!({"definitions": {"a": {"$ref": "#/definitions/b"}, "b": {"$ref": "#/definitions/a"}},
                   "allOf": [{"$ref": "#/definitions/a"}]}),
        ] {
            if let Ok(validator) = Validator::compile(&schema(draft, endless)) {
                let _ = validator.validate(&json!({"a": 1}));
            }
        }
    }
}

#[test]
fn a_validator_serves_many_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    let validator = Validator::compile(&schema(DRAFTS[0], json!({"maximum": 1}))).unwrap();
    shared(&validator);
    assert_eq!(format!("{validator:?}"), "Validator");
}

/// Numbers come as they were written, of any size.
#[test]
fn numbers_that_no_machine_has_are_judged_as_well() {
    let size = json!({ "properties": { "size": { "type": "integer", "maximum": 10 } } });
    let validator = Validator::compile(&schema(DRAFTS[2], size)).unwrap();
    for (number, fits) in [
        ("10", true),
        ("1e1", true),
        ("10.0", true),
        ("0.10", false),
        ("12345678901234567890123", false),
        ("1e+400", false),
        ("-12345678901234567890123", true),
    ] {
        let parameters = serde_json::from_str(&format!("{{\"size\":{number}}}")).unwrap();
        assert_eq!(validator.validate(&parameters).is_ok(), fits, "{number}");
    }
}
