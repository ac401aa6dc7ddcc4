//! `|url` and `|public`.

use super::*;

#[test]
fn whatever_can_be_put_in_can_be_percent_encoded() {
    let given = Given {
        context: raw(json!({"org": "a&b"})),
        ..with_parameters(json!({"x": "p@ss/w:rd", "n": 1.5, "y": {"z": "ä"}}))
    };
    for (text, wanted) in [
        ("${parameters.x|url}", "p%40ss%2Fw%3Ard"),
        ("${parameters.n|url}", "1.5"),
        (
            "<${parameters.y.z|url}>${parameters.x}",
            "<%C3%A4>p@ss/w:rd",
        ),
        (
            "https://${env:HOST}/?o=${context.org|url}",
            "https://relay.example.com/?o=a%26b",
        ),
        ("${env:TRICKY|url}", "a%24%7Bbinding_id%7D%24%24%7Bb"),
        (
            "${instance_id|url}/${binding_id|url}/${plan.name|url}/${service.id|url}",
            "i-1/b-1/small/s1",
        ),
    ] {
        assert_eq!(render(text, &given).unwrap(), wanted, "{text}");
    }
    let random = render("${random:16}${random:16|url}", &given).unwrap();
    let random = random.as_str().unwrap();
    assert_eq!(random[..16], random[16..]);
    let failure = render("${parameters.y|url}", &given).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Invalid);
    let failure = render("${parameters.none|url}", &given).unwrap_err();
    assert!(
        failure.description.starts_with("parameters.none: missing"),
        "{failure}"
    );
}

#[test]
fn a_value_that_needs_it_is_warned_about_within_a_uri() {
    let found = |text: &str| {
        let offering = offering(json!({}), json!({"name": "a plan"}));
        parse(Scope::Binding, &json!({"a": [text]}), &offering).1
    };
    for text in [
        "smtp://u:${env:SECRET}@h",
        "https://h/${parameters.x}",
        "https://h/?a=${context.x}",
        "https://h/${binding_id}",
        "https://h/${plan.name}",
    ] {
        let found = found(text);
        let begin = "warning: services[0].plans[0].adapter.k.a[0]: at character ";
        assert!(
            found.len() == 1 && found[0].starts_with(begin),
            "{text}: {found:?}"
        );
        assert!(!found[0].contains("hunter2"), "{found:?}");
    }
    for text in [
        "https://h/${random:32}",
        "https://h/${plan.id}",
        "https://h/${service.name}/$${x}",
    ] {
        assert_eq!(found(text), [""; 0], "{text}");
    }
}

#[test]
fn nothing_under_adapter_is_public() {
    for text in ["${env:HOST|public}", "${binding_id|url|public}"] {
        assert_eq!(
            findings(Scope::Binding, text, &plain()),
            [
                "at character 1: \"|public\" is for what the catalog serves, and nothing under \"adapter\" is"
            ]
        );
    }
    assert_eq!(
        findings(Scope::Binding, "${env:SECRET|hunter2}", &plain()),
        [
            "at character 1: unknown word behind \"|\", wanted \"url\" (or \"public\", in what is served)"
        ]
    );
}
