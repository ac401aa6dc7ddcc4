//! The rules for single values, each with the text of its message.

use super::{SCHEMA, edit, full, lines, place, with};

use serde_json::{Value, json};

/// Each row is a place, a value, and all that is then found: at this place, and nothing elsewhere.
fn assert_findings(severity: &str, rows: &[(&str, Value, &str)]) {
    for (pointer, value, text) in rows {
        let wanted = format!("{severity}: {}: {text}", place(pointer));
        assert_eq!(with(pointer, value.clone()), [wanted], "{pointer}: {value}");
    }
}

const NOT_BOOLEAN: &str = "found a number, wanted true or false";
const NO_NAME: &str = "found a number, wanted a string that is not blank";
const EMPTY: &str = "found an empty string, wanted one that is not blank";
const BLANK: &str = "found only blanks; Cloud Controller refuses a blank string";
const OVER_255: &str = "found 256 characters; Cloud Controller refuses more than 255";
const OVER_10000: &str = "found 10001 characters; Cloud Controller refuses more than 10000";

#[test]
fn wrong_services_are_errors_at_their_place() {
    const NO_SERVICE: &str =
        "wanted at least one service offering; Cloud Controller refuses a catalog without one";
    assert_findings(
        "error",
        &[
            (
                "/services",
                json!({}),
                "found an object, wanted an array of objects; Cloud Controller refuses a catalog without one",
            ),
            ("/services", json!([]), &format!("found none, {NO_SERVICE}")),
            ("/services/1", json!(7), "found a number, wanted an object"),
            ("/services/1/name", json!(1), NO_NAME),
            ("/services/1/name", json!(""), EMPTY),
            ("/services/1/name", json!(" \t"), BLANK),
            ("/services/1/name", json!("n".repeat(256)), OVER_255),
            (
                "/services/1/name",
                json!("example_service"),
                "repeats \"example_service\" of services[0]",
            ),
            ("/services/1/id", json!(1), NO_NAME),
            ("/services/1/id", json!(""), EMPTY),
            ("/services/1/id", json!("i".repeat(256)), OVER_255),
            (
                "/services/1/id",
                json!("11111111-aaaa"),
                "repeats \"11111111-aaaa\" of services[0]",
            ),
            ("/services/1/description", json!(1), NO_NAME),
            ("/services/1/description", json!("\n"), BLANK),
            (
                "/services/1/description",
                json!("ä".repeat(10_001)),
                OVER_10000,
            ),
            ("/services/0/bindable", json!(1), NOT_BOOLEAN),
            (
                "/services/0/bindable",
                json!("true"),
                "found a string, wanted true or false",
            ),
            (
                "/services/0/bindable",
                json!(null),
                "found null, wanted true or false",
            ),
            ("/services/0/instances_retrievable", json!(1), NOT_BOOLEAN),
            ("/services/0/bindings_retrievable", json!(1), NOT_BOOLEAN),
            ("/services/0/allow_context_updates", json!(1), NOT_BOOLEAN),
            ("/services/0/plan_updateable", json!(1), NOT_BOOLEAN),
            (
                "/services/1/plans",
                json!([]),
                "found none, wanted at least one service plan",
            ),
            (
                "/services/1/plans",
                json!(1),
                "found a number, wanted an array of objects",
            ),
            (
                "/services/1/plans/0",
                json!(1),
                "found a number, wanted an object",
            ),
        ],
    );
}

#[test]
fn wrong_tags_and_permissions_are_errors_at_their_place() {
    const PERMISSIONS: &str = "\"syslog_drain\", \"route_forwarding\" or \"volume_mount\"";
    assert_findings(
        "error",
        &[
            (
                "/services/0/tags",
                json!("sql"),
                "found a string, wanted an array of strings",
            ),
            (
                "/services/0/tags/1",
                json!(true),
                "found a boolean, wanted a string",
            ),
            (
                "/services/0/tags",
                json!(["a".repeat(2_000), "b".repeat(49)]),
                "found 2049 characters in all tags; Cloud Controller refuses more than 2048",
            ),
            (
                "/services/0/requires",
                json!({}),
                &format!("found an object, wanted an array of {PERMISSIONS}"),
            ),
            (
                "/services/0/requires/0",
                json!("syslog"),
                &format!("found \"syslog\", wanted {PERMISSIONS}"),
            ),
            (
                "/services/0/requires/0",
                json!(null),
                &format!("found null, wanted {PERMISSIONS}"),
            ),
        ],
    );
}

#[test]
fn wrong_metadata_and_dashboard_clients_are_errors_at_their_place() {
    const KORIFI: &str = "wanted a string; Korifi panics on anything else";
    assert_findings(
        "error",
        &[
            (
                "/services/0/metadata",
                json!([]),
                "found an array, wanted an object",
            ),
            ("/services/0/metadata/shareable", json!(1), NOT_BOOLEAN),
            (
                "/services/0/metadata/documentationUrl",
                json!({}),
                &format!("found an object, {KORIFI}"),
            ),
            (
                "/services/0/metadata/documentationUrl",
                json!(null),
                &format!("found null, {KORIFI}"),
            ),
            (
                "/services/0/dashboard_client",
                json!("x"),
                "found a string, wanted an object",
            ),
            ("/services/0/dashboard_client/id", json!(" "), BLANK),
            ("/services/0/dashboard_client/secret", json!(5), NO_NAME),
            ("/services/0/dashboard_client/secret", json!(""), EMPTY),
            (
                "/services/0/dashboard_client/redirect_uri",
                json!(null),
                "found null, wanted a string that is not blank; Cloud Controller refuses a dashboard_client without it",
            ),
        ],
    );
    let client = json!({"id": "client", "secret": "s", "redirect_uri": "https://x"});
    let repeats = "error: services[1].dashboard_client.id: repeats \"client\" of services[0].dashboard_client";
    assert_eq!(with("/services/1/dashboard_client", client), [repeats]);
}

#[test]
fn wrong_plans_are_errors_at_their_place() {
    const SECONDS: &str = "wanted a whole number of seconds, at least 1";
    const REPEATED: &str = "repeats \"22222222-bbbb\" of services[0].plans[0]";
    assert_findings(
        "error",
        &[
            ("/services/0/plans/1/id", json!(1), NO_NAME),
            ("/services/0/plans/1/id", json!(""), EMPTY),
            ("/services/0/plans/1/id", json!("i".repeat(256)), OVER_255),
            ("/services/0/plans/1/id", json!("22222222-bbbb"), REPEATED),
            ("/services/1/plans/0/id", json!("22222222-bbbb"), REPEATED),
            ("/services/0/plans/1/name", json!(1), NO_NAME),
            ("/services/0/plans/1/name", json!(" "), BLANK),
            ("/services/0/plans/1/name", json!("n".repeat(256)), OVER_255),
            (
                "/services/0/plans/1/name",
                json!("plan_one"),
                "repeats \"plan_one\" of services[0].plans[0]",
            ),
            ("/services/0/plans/1/description", json!(1), NO_NAME),
            ("/services/0/plans/1/description", json!(""), EMPTY),
            (
                "/services/0/plans/1/description",
                json!("ä".repeat(10_001)),
                OVER_10000,
            ),
            (
                "/services/0/plans/0/metadata",
                json!("x"),
                "found a string, wanted an object",
            ),
            ("/services/0/plans/0/free", json!(0), NOT_BOOLEAN),
            ("/services/0/plans/0/bindable", json!(0), NOT_BOOLEAN),
            (
                "/services/0/plans/0/binding_rotatable",
                json!(0),
                NOT_BOOLEAN,
            ),
            ("/services/0/plans/0/plan_updateable", json!(0), NOT_BOOLEAN),
            (
                "/services/0/plans/0/maximum_polling_duration",
                json!(0),
                &format!("found 0, {SECONDS}"),
            ),
            (
                "/services/0/plans/0/maximum_polling_duration",
                json!(-5),
                &format!("found -5, {SECONDS}"),
            ),
            (
                "/services/0/plans/0/maximum_polling_duration",
                json!(60.0),
                &format!("found 60.0, {SECONDS}"),
            ),
            (
                "/services/0/plans/0/maximum_polling_duration",
                json!("60"),
                &format!("found a string, {SECONDS}"),
            ),
        ],
    );
}

#[test]
fn wrong_maintenance_info_is_an_error_at_its_place() {
    const INFO: &str = "/services/0/plans/0/maintenance_info";
    const VERSION: &str = "/services/0/plans/0/maintenance_info/version";
    assert_findings(
        "error",
        &[
            (INFO, json!("1.0.0"), "found a string, wanted an object"),
            (
                VERSION,
                json!(1),
                "found a number, wanted a semantic version such as \"1.2.0\"",
            ),
            (
                "/services/0/plans/0/maintenance_info/description",
                json!(1),
                "found a number, wanted a string",
            ),
            (
                "/services/0/plans/0/maintenance_info/public",
                json!(true),
                "unknown key; Cloud Controller refuses all but version and description",
            ),
            (
                INFO,
                json!({"version": "1.0.0", "description": "d".repeat(1_965)}),
                "found 2001 characters as JSON; Cloud Controller refuses more than 2000",
            ),
        ],
    );
}

#[test]
fn schemas_of_a_wrong_kind_are_errors_at_their_place() {
    const NO_OBJECT: &str = "found a number, wanted an object";
    assert_findings(
        "error",
        &[
            (
                "/services/0/plans/0/schemas",
                json!([]),
                "found an array, wanted an object",
            ),
            (
                "/services/0/plans/0/schemas/service_instance",
                json!(1),
                NO_OBJECT,
            ),
            (
                "/services/0/plans/0/schemas/service_instance/create",
                json!(1),
                NO_OBJECT,
            ),
            (
                "/services/0/plans/0/schemas/service_instance/update",
                json!(1),
                NO_OBJECT,
            ),
            (
                "/services/0/plans/0/schemas/service_binding",
                json!(1),
                NO_OBJECT,
            ),
            (
                "/services/0/plans/0/schemas/service_binding/create",
                json!(1),
                NO_OBJECT,
            ),
            (
                SCHEMA,
                json!(true),
                "found a boolean, wanted a JSON schema object",
            ),
        ],
    );
}

#[test]
fn what_works_but_makes_somebody_unhappy_is_a_warning() {
    const UNFRIENDLY: &str =
        "hard to type on a command line; wanted letters, digits, periods and hyphens";
    const NO_LABEL: &str =
        "which Kubernetes cannot put into a label; wanted a letter or digit at both ends";
    const SWITCHED_OFF: &str = "switched off on the platform";
    const NO_TEXT: &str = "found a number, wanted a string";
    assert_findings(
        "warning",
        &[
            (
                "/services/1/name",
                json!("my service"),
                &format!("found \"my service\", {UNFRIENDLY}"),
            ),
            (
                "/services/1/name",
                json!("-"),
                &format!("found \"-\", {UNFRIENDLY}"),
            ),
            (
                "/services/0/plans/1/name",
                json!("größer"),
                &format!("found \"größer\", {UNFRIENDLY}"),
            ),
            (
                "/services/1/name",
                json!("mail_"),
                &format!("found \"mail_\", {NO_LABEL}"),
            ),
            (
                "/services/0/plans/1/name",
                json!("mail-"),
                &format!("found \"mail-\", {NO_LABEL}"),
            ),
            (
                "/services/0/plans/1/name",
                json!(".mail"),
                &format!("found \".mail\", {NO_LABEL}"),
            ),
            (
                "/services/0/plans/1/name",
                json!("n".repeat(64)),
                "found 64 characters; Kubernetes cannot put more than 63 into a label",
            ),
            (
                "/services/1/name",
                json!("n".repeat(255)),
                "found 255 characters; Kubernetes cannot put more than 63 into a label",
            ),
            (
                "/services/1/id",
                json!("a/b"),
                "found \"a/b\"; an id is part of URLs, where only letters, digits and \"-._~\" are safe",
            ),
            (
                "/services/1/description",
                json!("ä".repeat(256)),
                "found 256 characters; not every platform takes more than 255",
            ),
            (
                "/services/0/plans/1/description",
                json!("ä".repeat(10_000)),
                "found 10000 characters; not every platform takes more than 255",
            ),
            (
                "/services/0/requires/1",
                json!("route_forwarding"),
                &format!(
                    "Cloud Controller refuses the catalog where route services are {SWITCHED_OFF}"
                ),
            ),
            (
                "/services/0/requires/1",
                json!("volume_mount"),
                &format!(
                    "Cloud Controller refuses the catalog where volume services are {SWITCHED_OFF}"
                ),
            ),
            ("/services/0/metadata/displayName", json!(1), NO_TEXT),
            (
                "/services/0/plans/0/metadata/bullets",
                json!("x"),
                "found a string, wanted an array of strings",
            ),
            ("/services/0/plans/0/metadata/bullets/1", json!(1), NO_TEXT),
            (
                "/services/0/plans/0/metadata/costs",
                json!({}),
                "found an object, wanted an array of objects",
            ),
            (
                "/services/0/plans/0/metadata/costs/0",
                json!(9),
                "found a number, wanted an object",
            ),
            (
                "/services/0/plans/0/metadata/costs/0/amount",
                json!(9),
                "found a number, wanted an object",
            ),
            (
                "/services/0/plans/0/schemas/service_instances",
                json!({}),
                "unknown key, is not served, did you mean \"service_instance\"?",
            ),
        ],
    );
}

#[test]
fn what_is_at_the_limit_passes() {
    for (pointer, value) in [
        ("/services/1/name", Value::from("n".repeat(63))),
        ("/services/0/plans/1/name", Value::from("1_2.3-4")),
        ("/services/1/id", Value::from("i".repeat(255))),
        ("/services/1/description", Value::from("ä".repeat(255))),
        (
            "/services/0/tags",
            json!(["ä".repeat(2_000), "b".repeat(48)]),
        ),
        ("/services/0/tags", json!([])),
        ("/services/0/requires", json!([])),
        ("/services/0/plans/0/maximum_polling_duration", json!(1)),
        (
            "/services/0/plans/0/maintenance_info",
            json!({"version": "1.0.0", "description": "ä".repeat(1_964)}),
        ),
        (
            "/services/0/plans/0/maintenance_info/version",
            json!("0.0.0-rc.1+build.5"),
        ),
        ("/services/0/plans/0/schemas", json!({})),
    ] {
        assert_eq!(
            with(pointer, value.clone()),
            Vec::<String>::new(),
            "{pointer}: {value}"
        );
    }
}

#[test]
fn versions_are_strictly_semantic() {
    for version in [
        "", "1", "1.0", "v1.0.0", "01.0.0", "1.0.0 ", "1.0.0-", "1.0.0-01", "1.0.0.0", "latest",
    ] {
        let found = with(
            "/services/0/plans/0/maintenance_info/version",
            json!(version),
        );
        assert_eq!(found.len(), 1, "{version}: {found:?}");
        assert!(
            found[0].contains(&format!("found {version:?}, wanted a semantic version")),
            "{found:?}"
        );
    }
}

#[test]
fn a_required_field_that_is_missing_is_an_error() {
    for pointer in [
        "/services",
        "/services/0/name",
        "/services/0/id",
        "/services/0/description",
        "/services/0/bindable",
        "/services/0/plans",
        "/services/0/plans/0/id",
        "/services/0/plans/0/name",
        "/services/0/plans/0/description",
        "/services/0/plans/0/maintenance_info/version",
        "/services/0/dashboard_client/id",
        "/services/0/dashboard_client/secret",
        "/services/0/dashboard_client/redirect_uri",
    ] {
        let mut document = full();
        edit(&mut document, pointer, None);
        let place = place(pointer);
        let found = lines(&document);
        assert_eq!(found.len(), 1, "{pointer}: {found:?}");
        assert!(
            found[0].starts_with(&format!("error: {place}: found nothing, wanted ")),
            "{pointer}: {found:?}"
        );
    }
}

#[test]
fn no_message_repeats_a_secret() {
    for value in [json!("geheim"), json!(["geheim"]), json!({"k": "geheim"})] {
        let mut document = full();
        edit(
            &mut document,
            "/services/0/dashboard_client/secret",
            Some(value.clone()),
        );
        let client = document.pointer("/services/0/dashboard_client").cloned();
        edit(&mut document, "/services/1/dashboard_client", client);
        let found = lines(&document);
        assert!(!found.is_empty());
        assert!(
            found.iter().all(|line| !line.contains("geheim")),
            "{found:?}"
        );
    }
}

#[test]
fn long_values_are_not_repeated_in_full() {
    let found = with("/services/0/requires/0", Value::from("ä".repeat(5_000)));
    assert!(found[0].len() < 400, "{} bytes", found[0].len());
    assert!(found[0].contains("ää\"…"), "{}", found[0]);
}
