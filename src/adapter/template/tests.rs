mod encoded;

use super::*;
use crate::adapter::settings::tests::{offering, probe};
use crate::adapter::{BindingCall, Failure, FailureKind, InstanceCall, Origin, Run};
use crate::catalog::Service;
use crate::json::Object;

use serde_json::json;
use serde_json::value::RawValue;
use std::time::Duration;

/// What a test says of a call; absent objects are absent.
#[derive(Default, Clone)]
struct Given {
    parameters: Option<Box<RawValue>>,
    context: Option<Box<RawValue>>,
    instance_parameters: Option<Box<RawValue>>,
    instance_context: Option<Box<RawValue>>,
}

fn raw(value: Value) -> Option<Box<RawValue>> {
    crate::json::to_raw(&value)
}

fn plain() -> Service {
    offering(json!({}), json!({}))
}

/// Parses `value` in a scope and renders it for a call.
fn render_in(scope: Scope, value: &Value, given: &Given) -> Result<Value, Failure> {
    let service = plain();
    let ((template, randoms), findings) = parse(scope, value, &service);
    assert_eq!(findings, [""; 0], "{value}");
    let instance = InstanceCall {
        instance_id: "i-1",
        service: &service,
        plan: &service.plans[0],
        organization_guid: "",
        space_guid: "",
        parameters: Object::new(given.instance_parameters.as_deref()),
        context: Object::new(given.instance_context.as_deref()),
        state: Object::default(),
        origin: Origin::default(),
        run: Run::alone("op", Duration::from_secs(1)),
    };
    let random = randoms
        .iter()
        .map(|random| random.take_or_draw(None).unwrap());
    let random = random.collect();
    match scope {
        Scope::Instance => template.render(&Values::of_instance(&instance, random)),
        Scope::Binding => {
            let call = BindingCall {
                instance,
                binding_id: "b-1",
                app_guid: None,
                bind_resource: Object::default(),
                parameters: Object::new(given.parameters.as_deref()),
                context: Object::new(given.context.as_deref()),
                predecessor_binding_id: None,
                state: Object::default(),
            };
            template.render(&Values::of_binding(&call, random))
        }
    }
}

fn parse(scope: Scope, value: &Value, service: &Service) -> ((Template, Vec<Random>), Vec<String>) {
    probe(&json!({"k": value}), service, |settings| {
        let mut parser = Parser::new(scope, settings);
        let template = parser.template("k").unwrap();
        (template, parser.into_randoms())
    })
}

/// The findings for one string, without their common beginning.
fn findings(scope: Scope, text: &str, service: &Service) -> Vec<String> {
    let lines = parse(scope, &json!(text), service).1;
    let begin = "error: services[0].plans[0].adapter.k: ";
    lines
        .iter()
        .map(|line| line.strip_prefix(begin).unwrap().to_owned())
        .collect()
}

fn render(text: &str, given: &Given) -> Result<Value, Failure> {
    render_in(Scope::Binding, &json!(text), given)
}

fn rendered(text: &str) -> Value {
    render(text, &Given::default()).unwrap()
}

fn with_parameters(parameters: Value) -> Given {
    Given {
        parameters: raw(parameters),
        ..Given::default()
    }
}

#[test]
fn unclosed_expressions_are_found_where_they_begin() {
    for (text, positions) in [
        ("${", vec![1]),
        ("${a", vec![1]),
        ("é${a", vec![2]),
        ("${instance_id}${", vec![15]),
        ("$${}${x", vec![5]),
        ("smtp://${binding_id:${instance_id}@x", vec![8]),
        ("${a${b${c", vec![1]),
        ("${a${b${c}", vec![1, 4, 7]),
    ] {
        let found = findings(Scope::Binding, text, &plain());
        assert_eq!(found.len(), positions.len(), "{text} {found:?}");
        for (found, position) in found.iter().zip(positions) {
            assert!(
                found.starts_with(&format!("at character {position}: ")),
                "{text} {found}"
            );
        }
    }
    let found = findings(Scope::Binding, "${x", &plain());
    assert_eq!(
        found,
        ["at character 1: \"${\" has no closing \"}\"; a literal \"${\" is written \"$${\""]
    );
}

#[test]
fn what_is_escaped_or_no_expression_is_text() {
    assert_eq!(rendered("$${binding_id}"), "${binding_id}");
    assert_eq!(rendered("pa$$word{1}"), "pa$$word{1}");
    assert_eq!(rendered(""), "");
}

#[test]
fn every_name_is_filled_in() {
    let given = Given {
        parameters: raw(json!({"size": "XL", "a": {"b": {"c": 7}}})),
        context: raw(json!({"platform": "cloudfoundry"})),
        ..Given::default()
    };
    for (text, wanted) in [
        ("${instance_id}", "i-1"),
        ("${binding_id}", "b-1"),
        ("${plan.name}", "small"),
        ("${plan.id}", "p1"),
        ("${service.name}", "mail"),
        ("${service.id}", "s1"),
        ("${parameters.size}", "XL"),
        ("<${parameters.a.b.c}>", "<7>"),
        ("${context.platform}", "cloudfoundry"),
        ("${env:HOST}", "relay.example.com"),
        ("${env:EMPTY}", ""),
        (
            "smtp://${binding_id|url}:${plan.name}@${env:HOST}:587",
            "smtp://b-1:small@relay.example.com:587",
        ),
    ] {
        assert_eq!(render(text, &given).unwrap(), wanted, "{text}");
    }
}

#[test]
fn strings_are_filled_at_every_depth_and_keys_are_not() {
    let value = json!({"${instance_id}": ["${binding_id}", {"x": ["<${plan.name}>"]}], "n": 1, "z": null, "t": true});
    let wanted =
        json!({"${instance_id}": ["b-1", {"x": ["<small>"]}], "n": 1, "z": null, "t": true});
    let found = render_in(Scope::Binding, &value, &Given::default()).unwrap();
    assert_eq!(found, wanted);
}

#[test]
fn an_expression_alone_keeps_the_type() {
    for value in [
        json!(5432),
        json!(1.5),
        json!(true),
        json!(null),
        json!("x"),
        json!([1, "2"]),
        json!({"a": {"b": null}}),
        json!(u64::MAX),
    ] {
        let given = with_parameters(json!({"x": value}));
        assert_eq!(render("${parameters.x}", &given).unwrap(), value);
    }
}

#[test]
fn within_text_only_scalars_are_put_in() {
    for (value, wanted) in [
        (json!("x"), "<x>"),
        (json!(5432), "<5432>"),
        (json!(-1.5), "<-1.5>"),
        (json!(u64::MAX), "<18446744073709551615>"),
        (json!(false), "<false>"),
        (json!(""), "<>"),
    ] {
        let given = with_parameters(json!({"x": value}));
        assert_eq!(render("<${parameters.x}>", &given).unwrap(), wanted);
    }
    for (value, kind) in [
        (json!({"secret": 1}), "an object"),
        (json!(["secret"]), "an array"),
        (json!(null), "null"),
    ] {
        // Beside an empty literal it is still not alone.
        for text in ["<${parameters.x.y}>", "${env:EMPTY}${parameters.x.y}"] {
            let given = with_parameters(json!({"x": {"y": value}}));
            let failure = render(text, &given).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Invalid);
            assert_eq!(
                failure.description,
                format!(
                    "parameters.x.y: found {kind}, but plan \"small\" puts it into text and needs a string, \
                     a number or a boolean"
                )
            );
        }
    }
}

#[test]
fn what_is_missing_is_named() {
    let given = with_parameters(json!({"a": {"b": 1}, "s": "text"}));
    for (text, name) in [
        ("${parameters.size}", "parameters.size"),
        ("x${parameters.a.c}", "parameters.a.c"),
        ("x${parameters.a.b.c}", "parameters.a.b.c"),
        ("x${parameters.s.t}", "parameters.s.t"),
        ("${context.platform}", "context.platform"),
    ] {
        let failure = render(text, &given).unwrap_err();
        let wanted = format!("{name}: missing; plan \"small\" needs it");
        assert_eq!(failure, Failure::invalid(wanted));
        assert!(render_in(Scope::Instance, &json!(text), &Given::default()).is_err());
    }
}

#[test]
fn parameters_and_context_of_the_binding_come_before_those_of_the_instance() {
    let given = Given {
        parameters: raw(json!({"both": "binding", "nothing": null, "deep": {"a": 1}})),
        context: raw(json!({"both": "binding"})),
        instance_parameters: raw(
            json!({"both": "instance", "one": "instance", "nothing": 1, "deep": {"b": 2}}),
        ),
        instance_context: raw(json!({"both": "instance", "one": "instance"})),
    };
    for (text, of_binding, of_instance) in [
        ("${parameters.both}", json!("binding"), json!("instance")),
        ("${parameters.one}", json!("instance"), json!("instance")),
        ("${parameters.nothing}", json!(null), json!(1)),
        ("${parameters.deep.b}", json!(2), json!(2)),
        ("${context.both}", json!("binding"), json!("instance")),
        ("${context.one}", json!("instance"), json!("instance")),
    ] {
        assert_eq!(
            render_in(Scope::Binding, &json!(text), &given).unwrap(),
            of_binding,
            "{text}"
        );
        assert_eq!(
            render_in(Scope::Instance, &json!(text), &given).unwrap(),
            of_instance,
            "{text}"
        );
    }
}

#[test]
fn parameters_that_cannot_be_read_are_refused_without_a_quote() {
    for text in [r#"{"a":"\ud800secret"}"#, r#""secret""#] {
        let given = Given {
            parameters: Some(RawValue::from_string(text.to_owned()).unwrap()),
            ..Given::default()
        };
        let failure = render("${parameters.b}", &given).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Invalid);
        assert!(failure.description.starts_with("parameters: "), "{failure}");
        assert!(!failure.description.contains("secret"), "{failure}");
        // Who does not ask for parameters is not disturbed by them.
        assert_eq!(render("${binding_id}", &given).unwrap(), "b-1");
    }
}

#[test]
fn what_is_put_in_is_never_interpreted() {
    assert_eq!(rendered("${env:TRICKY}"), "a${binding_id}$${b");
    assert_eq!(rendered("$${env:TRICKY}"), "${env:TRICKY}");
    assert_eq!(rendered("<${env:TRICKY}>"), "<a${binding_id}$${b>");
    let given = with_parameters(json!({"x": "${env:SECRET}$${y"}));
    assert_eq!(
        render("<${parameters.x}>", &given).unwrap(),
        "<${env:SECRET}$${y>"
    );
    assert_eq!(
        render("${parameters.x}", &given).unwrap(),
        "${env:SECRET}$${y"
    );
}

#[test]
fn random_values_are_shared_by_name() {
    let value = json!({
        "password": "${random:32}",
        "uri": "smtp://u:${random:32}@host",
        "admin": "${random:32:admin}",
        "admin_again": "${random:32:admin}",
        "short": "${random:8}",
        "one": "${random:1}",
        "longest": "${random:256}",
    });
    let one = render_in(Scope::Binding, &value, &Given::default()).unwrap();
    let text = |key: &str| one[key].as_str().unwrap();
    assert_eq!(text("uri"), format!("smtp://u:{}@host", text("password")));
    assert_eq!(text("admin"), text("admin_again"));
    assert_ne!(text("admin"), text("password"));
    for (key, length) in [
        ("password", 32),
        ("admin", 32),
        ("short", 8),
        ("one", 1),
        ("longest", 256),
    ] {
        assert_eq!(text(key).len(), length);
        assert!(text(key).bytes().all(|b| b.is_ascii_alphanumeric()));
    }
    let another = render_in(Scope::Binding, &value, &Given::default()).unwrap();
    assert_ne!(one["password"], another["password"]);
}

#[test]
fn random_characters_are_equally_likely() {
    let random = Random::parse("256").unwrap();
    let mut counts = std::collections::BTreeMap::<char, usize>::new();
    let draws = 1_000;
    for _ in 0..draws {
        for c in random.take_or_draw(None).unwrap().chars() {
            *counts.entry(c).or_default() += 1;
        }
    }
    assert_eq!(counts.len(), 62);
    // About 4,129 each, with a standard deviation of 64. Taking bytes modulo 62 would give the first eight a quarter
    // more. Eight deviations happen by chance once in 10^13 runs.
    let mean = 256 * draws / 62;
    for (c, count) in counts {
        assert!(count.abs_diff(mean) < 8 * 64, "{c}: {count}");
    }
}

#[test]
fn random_values_that_were_kept_are_taken() {
    let random = Random::parse("8:x").unwrap();
    assert_eq!(random.key(), "8:x");
    let kept = json!({"8:x": "abcdefgh", "8": "other"});
    assert_eq!(random.take_or_draw(kept.as_object()).unwrap(), "abcdefgh");
    for kept in [json!({}), json!({"8:x": 5}), json!({"8": "abcdefgh"})] {
        assert_ne!(random.take_or_draw(kept.as_object()).unwrap(), "abcdefgh");
    }
}

#[test]
fn random_lengths_and_labels_are_checked() {
    for asked in ["1", "32", "256", "32:a", "32:Admin_2-x"] {
        assert!(Random::parse(asked).is_ok(), "{asked}");
    }
    let lengths = [
        "",
        "0",
        "x",
        "257",
        "-1",
        "+5",
        "032",
        "1e2",
        " 8",
        "99999999999999999999",
        ":a",
        "x:a",
    ];
    for asked in lengths {
        let text = format!("<${{random:{asked}}}>");
        let wanted = format!(
            "at character 2: ${{random:{asked}}}: wanted a length from 1 to 256, as in ${{random:32}}"
        );
        assert_eq!(findings(Scope::Binding, &text, &plain()), [wanted]);
    }
    for asked in ["32:", "32:a:b", "32:a b", "32:é"] {
        let found = findings(Scope::Binding, &format!("${{random:{asked}}}"), &plain());
        assert!(found[0].contains("wanted a label of letters"), "{found:?}");
    }
}

#[test]
fn unknown_names_are_reported_with_a_suggestion() {
    for (name, meant) in [
        ("instanceid", "instance_id"),
        (" binding_id ", "binding_id"),
        ("bindingid", "binding_id"),
        ("plan.nam", "plan.name"),
        ("plan_id", "plan.id"),
        ("service.ids", "service.id"),
        ("parameter.size", "parameters.size"),
        ("parameters:size", "parameters.size"),
        ("parameters", "parameters.NAME"),
        ("contxt.platform", "context.platform"),
        ("env.HOST", "env:HOST"),
        ("ENV:HOST", "env:HOST"),
        ("random.32", "random:32"),
        ("random", "random:32"),
        ("rand:16:x", "random:16:x"),
    ] {
        let found = findings(Scope::Binding, &format!("x${{{name}}}"), &plain());
        let wanted = format!("at character 2: ${{{name}}}: unknown, did you mean \"{meant}\"?");
        assert_eq!(found, [wanted], "{name}");
    }
}

#[test]
fn what_may_be_a_password_is_not_quoted() {
    let found = findings(Scope::Binding, "pa${Tr0ub4dor&3}ss", &plain());
    assert_eq!(
        found,
        [
            "at character 3: unknown expression, wanted instance_id, binding_id, page, plan.name, plan.id, service.name, \
             service.id, parameters.NAME, context.NAME, env:NAME, file:PATH or random:32; a literal \"${\" is written \"$${\""
        ]
    );
    for text in ["${hunter2", "${hunter2${instance_id}"] {
        let found = findings(Scope::Binding, text, &plain()).join("\n");
        assert!(!found.is_empty() && !found.contains("hunter2"), "{found}");
    }
}

#[test]
fn paths_have_no_empty_names() {
    for name in [
        "parameters.",
        "parameters..a",
        "parameters.a.",
        "context.",
        "context.a..b",
    ] {
        let found = findings(Scope::Binding, &format!("${{{name}}}"), &plain());
        let wanted =
            format!("at character 1: ${{{name}}}: a name is missing before or after a dot");
        assert_eq!(found, [wanted]);
    }
    let given = with_parameters(json!({"a:b c-d": 1}));
    assert_eq!(render("${parameters.a:b c-d}", &given).unwrap(), 1);
}

#[test]
fn an_instance_has_no_binding_id() {
    assert_eq!(
        findings(Scope::Instance, "${binding_id}", &plain()),
        ["at character 1: ${binding_id}: an instance has none; use it under \"binding\""]
    );
    assert_eq!(rendered("${binding_id}"), "b-1");
}

#[test]
fn missing_variables_are_named_and_their_values_never_shown() {
    for (name, complaint) in [
        (
            "NO_SUCH",
            "${env:NO_SUCH}: the environment variable NO_SUCH is not set",
        ),
        ("", "${env:} names no environment variable"),
    ] {
        let text = format!("${{env:SECRET}}${{env:{name}}}");
        let found = findings(Scope::Binding, &text, &plain());
        assert_eq!(found, [format!("at character 14: {complaint}")]);
    }
}

#[test]
fn every_error_has_its_exact_place() {
    let value = json!({"list": ["ok", {"uri": "${x}${env:NO}"}], "other": "${"});
    let (_, found) = parse(Scope::Binding, &value, &plain());
    let at = "error: services[0].plans[0].adapter.k";
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(
        found[0].starts_with(&format!("{at}.list[1].uri: at character 1: ")),
        "{found:?}"
    );
    assert!(
        found[1].starts_with(&format!("{at}.list[1].uri: at character 5: ")),
        "{found:?}"
    );
    assert!(
        found[2].starts_with(&format!("{at}.other: at character 1: ")),
        "{found:?}"
    );
}

fn with_schemas(create: Value, update: Value, bind: Value) -> Service {
    let input = |schema: Value| match schema {
        Value::Null => json!({}),
        schema => json!({"parameters": schema}),
    };
    let schemas = json!({
        "service_instance": {"create": input(create), "update": input(update)},
        "service_binding": {"create": input(bind)},
    });
    offering(json!({}), json!({"schemas": schemas}))
}

#[test]
fn parameters_that_no_schema_allows_are_reported() {
    let none = || json!(null);
    let closed = || json!({"additionalProperties": false, "properties": {"size": {}}});
    let with_x = || json!({"additionalProperties": false, "properties": {"x": {}}});
    let pattern = || json!({"additionalProperties": false, "patternProperties": {"^x": {}}});
    let reference = || json!({"additionalProperties": false, "$ref": "#/definitions/x"});
    let open = || json!({"properties": {"size": {}}});
    let typed = || json!({"additionalProperties": {"type": "string"}});
    let instance_refuses = |create, update| {
        let service = with_schemas(create, update, none());
        !findings(Scope::Instance, "${parameters.x}", &service).is_empty()
    };
    let binding_refuses = |create, update, bind| {
        let service = with_schemas(create, update, bind);
        !findings(Scope::Binding, "${parameters.x.y}", &service).is_empty()
    };
    assert!(instance_refuses(closed(), closed()));
    assert!(binding_refuses(closed(), none(), closed()));
    assert!(binding_refuses(closed(), closed(), closed()));
    for accepts in [none, with_x, pattern, reference, open, typed] {
        assert!(!instance_refuses(accepts(), closed()));
        assert!(!instance_refuses(closed(), accepts()));
        assert!(!binding_refuses(accepts(), closed(), closed()));
        assert!(!binding_refuses(closed(), closed(), accepts()));
    }
    // An update may bring it to the instance, and with that to the binding.
    assert!(!binding_refuses(closed(), with_x(), closed()));
    assert!(!binding_refuses(closed(), open(), closed()));

    let service = with_schemas(closed(), closed(), none());
    assert_eq!(
        findings(Scope::Instance, "${parameters.sise.a}", &service),
        [
            "at character 1: ${parameters.sise.a}: nothing can fill it, since the schemas of plan \"small\" allow no \
             \"sise\", did you mean \"size\"?"
        ]
    );
    assert!(findings(Scope::Instance, "${parameters.size.a}", &service).is_empty());
    assert!(findings(Scope::Instance, "${context.x}", &service).is_empty());
}

#[test]
fn rules_never_quote_what_they_refuse() {
    let rule = Rule::Text {
        wanted: "a or b",
        holds: |text| matches!(text, "a" | "b" | "ééé"),
        longest: 3,
    };
    for (value, wanted) in [
        (json!("a"), Ok(())),
        (json!("ééé"), Ok(())),
        (
            json!("x"),
            Err(Complaint::Wrong(
                "found another string, wanted a or b".to_owned(),
            )),
        ),
        (
            json!(""),
            Err(Complaint::Wrong(
                "found an empty string, wanted a or b".to_owned(),
            )),
        ),
        (
            json!(7),
            Err(Complaint::Wrong("found a number, wanted a or b".to_owned())),
        ),
        (
            json!("éééé"),
            Err(Complaint::TooLong(
                "found 4 characters, wanted at most 3".to_owned(),
            )),
        ),
    ] {
        assert_eq!(rule.check(&value), wanted, "{value}");
    }
    assert_eq!(Rule::Object.check(&json!({})), Ok(()));
    let wrong = Complaint::Wrong("found a string, wanted an object".to_owned());
    assert_eq!(Rule::Object.check(&json!("secret")), Err(wrong));
}
