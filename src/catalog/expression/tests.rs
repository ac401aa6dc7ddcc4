use super::*;

#[test]
fn strings_are_cut_up_at_their_expressions() {
    use Token::{Expression as E, Literal as L};
    for (text, wanted) in [
        ("", vec![]),
        ("a", vec![L("a")]),
        ("${a}", vec![E("a")]),
        ("${}", vec![E("")]),
        ("x${a}y", vec![L("x"), E("a"), L("y")]),
        ("${a}${b}", vec![E("a"), E("b")]),
        ("$", vec![L("$")]),
        ("$$", vec![L("$$")]),
        ("{}", vec![L("{}")]),
        ("a}b", vec![L("a}b")]),
        ("$a{b}", vec![L("$a{b}")]),
        ("$ {a}", vec![L("$ {a}")]),
        ("$${", vec![L("${")]),
        ("$${a}", vec![L("${"), L("a}")]),
        ("x$${a}", vec![L("x"), L("${"), L("a}")]),
        ("$$${a}", vec![L("$"), L("${"), L("a}")]),
        ("$$$${a}", vec![L("$$"), L("${"), L("a}")]),
        ("$${${a}", vec![L("${"), E("a")]),
        ("${a}$${b}", vec![E("a"), L("${"), L("b}")]),
        ("${a}$", vec![E("a"), L("$")]),
        ("${a}}", vec![E("a"), L("}")]),
        ("é${ü}漢", vec![L("é"), E("ü"), L("漢")]),
        ("${a\n}", vec![E("a\n")]),
    ] {
        let found: Vec<_> = tokens_of(text).map(|(_, token)| token.unwrap()).collect();
        assert_eq!(found, wanted, "{text}");
    }
}

/// Strings over an alphabet that makes the most of `$`, `{` and `}`: every one up to six characters.
fn every_string() -> impl Iterator<Item = String> {
    const ALPHABET: [char; 5] = ['$', '{', '}', 'a', 'é'];
    (0..=6).flat_map(|length| {
        (0..5usize.pow(length)).map(move |mut n| {
            let letter = |_| {
                let letter = ALPHABET[n % 5];
                n /= 5;
                letter
            };
            (0..length).map(letter).collect()
        })
    })
}

#[test]
fn text_without_expressions_is_unchanged_and_escaping_round_trips() {
    let join = |text: &str| {
        let tokens = tokens_of(text).map(|(_, token)| match token {
            Ok(Token::Literal(text)) => text.to_owned(),
            other => panic!("{text}: {other:?}"),
        });
        tokens.collect::<String>()
    };
    let (mut plain, mut escaped) = (0, 0);
    for text in every_string() {
        if !text.contains("${") {
            assert_eq!(join(&text), text);
            plain += 1;
        }
        assert_eq!(join(&text.replace("${", "$${")), text);
        escaped += 1;
    }
    assert_eq!(escaped, (0..=6).map(|n| 5usize.pow(n)).sum::<usize>());
    assert!(plain > escaped / 2 && plain < escaped);
}

fn parts(text: &str) -> Result<(&str, bool, bool), String> {
    Expression::parse(text).map(|found| (found.name, found.is_url, found.is_public))
}

#[test]
fn words_behind_a_bar_say_what_is_done_with_the_value() {
    assert_eq!(parts("env:A"), Ok(("env:A", false, false)));
    assert_eq!(parts("env:A|url"), Ok(("env:A", true, false)));
    assert_eq!(parts("env:A|public"), Ok(("env:A", false, true)));
    assert_eq!(parts("file:/a b|public|url"), Ok(("file:/a b", true, true)));
    for wrong in ["env:A|", "env:A|URL", "env:A|geheim", "env:A| url", "|"] {
        let error = parts(wrong).unwrap_err();
        assert_eq!(
            error, "unknown word behind \"|\", wanted \"url\" (or \"public\", in what is served)",
            "{wrong}"
        );
    }
}

#[test]
fn all_but_unreserved_characters_are_encoded() {
    let value = "p@ss/w:rd?#[]!$&'()*+,;=%\" <>\\^`{|}ä-._~aZ9";
    let encoded = encode(value.as_bytes());
    assert_eq!(
        encoded,
        "p%40ss%2Fw%3Ard%3F%23%5B%5D%21%24%26%27%28%29%2A%2B%2C%3B%3D%25%22%20%3C%3E%5C%5E%60%7B%7C%7D%C3%A4-._~aZ9"
    );
    let decoded = percent_encoding::percent_decode_str(&encoded).decode_utf8();
    assert_eq!(decoded.unwrap(), value);
}

#[test]
fn a_value_within_a_uri_wants_to_be_encoded() {
    let warning = |position: usize, inner: &str, part: &str| {
        format!(
            "at character {position}: ${{{inner}}} stands in the {part} of a URI, where some characters mean something else; \
             wanted ${{{inner}|url}}, which percent-encodes them"
        )
    };
    let user = "user or password";
    for (text, wanted) in [
        (
            "smtp://relay:${env:P}@smtp.example.com:587",
            vec![(14, "env:P", user)],
        ),
        (
            "smtp://${env:U}:${env:P}@${env:HOST}:${env:PORT}/",
            vec![(8, "env:U", user), (17, "env:P", user)],
        ),
        ("smtp://${env:U|url}:${env:P}@h", vec![(21, "env:P", user)]),
        (
            "https://h/${a}/x?key=${b}#${c}",
            vec![(11, "a", "path"), (22, "b", "query"), (27, "c", "query")],
        ),
        ("https://h?key=${b}", vec![(15, "b", "query")]),
        (
            "jdbc:postgresql://h/d?password=${b}",
            vec![(32, "b", "query")],
        ),
        ("ä://h/${a}", vec![]),
        ("https://${a}", vec![]),
        ("https://${a}:${b}", vec![]),
        ("https://${a}:${b}/x", vec![]),
        ("https://${a|url}/${b|url}", vec![]),
        ("https://h/${harmless}", vec![]),
        ("https://h/$${a}", vec![]),
        ("${a}", vec![]),
        ("${a}/b", vec![]),
        ("a ${a} b", vec![]),
        ("see https://h/${a}", vec![]),
        ("", vec![]),
    ] {
        let wanted: Vec<_> = wanted
            .into_iter()
            .map(|(at, inner, part)| warning(at, inner, part))
            .collect();
        assert_eq!(
            unencoded(text, |found| found.name == "harmless"),
            wanted,
            "{text}"
        );
    }
}
