use super::*;

use std::fs;

fn variables(name: &str) -> Option<String> {
    match name {
        "SET" => Some("value".to_owned()),
        "EMPTY" => Some(String::new()),
        "NESTED" => Some("${env:SET}".to_owned()),
        "HARD" => Some("p@ss/w:rd".to_owned()),
        _ => None,
    }
}

fn environment(folder: &Path) -> Environment<'_> {
    Environment::new(&variables, folder)
}

fn fill(text: &str) -> Result<Filled<'_>, String> {
    environment(Path::new("")).fill(text, |_| None)
}

#[test]
fn expressions_are_filled_in_escaped_and_left_alone() {
    for (text, wanted) in [
        ("plain", Ok("plain")),
        ("${env:SET}", Ok("value")),
        ("a ${env:SET} b ${env:SET}", Ok("a value b value")),
        ("${env:EMPTY}", Ok("")),
        ("ä${env:SET}ä", Ok("ävalueä")),
        // What comes from the environment is not looked at again.
        ("${env:NESTED}", Ok("${env:SET}")),
        ("$${env:SET}", Ok("${env:SET}")),
        ("$${env:GONE} ${env:SET}", Ok("${env:GONE} value")),
        ("$${env:", Ok("${env:")),
        ("${env:SET}${env:SET}", Ok("valuevalue")),
        (
            "$$ ${SET} ${random:16} $env:SET {env:SET}",
            Ok("$$ ${SET} ${random:16} $env:SET {env:SET}"),
        ),
        (
            "${env:GONE}",
            Err("${env:GONE}: the environment variable GONE is not set"),
        ),
        ("${env:}", Err("${env:} names no environment variable")),
        ("${env:SET", Err("\"${env:\" has no closing \"}\"")),
        ("${env:SET} ${env:", Err("\"${env:\" has no closing \"}\"")),
    ] {
        let expanded = fill(text);
        assert_eq!(
            expanded
                .as_ref()
                .map(|filled| &*filled.text)
                .map_err(String::as_str),
            wanted,
            "{text}"
        );
    }
    let untouched = fill("nothing to do").unwrap().text;
    assert!(matches!(untouched, Cow::Borrowed(_)));
}

#[test]
fn files_are_filled_in_from_the_folder_of_the_catalog_without_their_last_line_end() {
    let folder = std::env::temp_dir().join(format!("brokerlet-environment-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let fill = |text: &str| {
        let filled = environment(&folder).fill(text, |_| None);
        filled.map(|filled| filled.text.into_owned())
    };
    for (content, wanted) in [
        ("a b", "a b"),
        ("a b\n", "a b"),
        ("a b\r\n", "a b"),
        ("a b\n\n", "a b\n"),
        ("", ""),
    ] {
        fs::write(folder.join("secret"), content).unwrap();
        assert_eq!(fill("<${file:secret}>").unwrap(), format!("<{wanted}>"));
        let absolute = folder.join("secret");
        let absolute = fill(&format!("${{file:{}}}", absolute.display()));
        assert_eq!(absolute.unwrap(), wanted);
    }
    fs::write(folder.join("secret"), "${env:SET}/").unwrap();
    assert_eq!(fill("${file:secret|url}").unwrap(), "%24%7Benv%3ASET%7D%2F");
    assert_eq!(fill("$${file:secret}").unwrap(), "${file:secret}");
    let error = |content: &[u8]| {
        fs::write(folder.join("secret"), content).unwrap();
        fill("${file:secret}").unwrap_err()
    };
    assert!(error(b"hunter2\xff").ends_with("secret is not UTF-8"));
    assert!(error(b"hunter2\0").ends_with("secret holds a zero byte, which no value can"));
    assert!(error(&[b'a'; 128 * 1024 + 1]).ends_with("secret has more than 131072 bytes"));
    let gone = fill("${file:gone}").unwrap_err();
    assert!(
        gone.starts_with("cannot read the file ") && gone.contains("gone: "),
        "{gone}"
    );
    assert_eq!(fill("${file:}").unwrap_err(), "${file:} names no file");
    assert_eq!(
        fill("${file:x").unwrap_err(),
        "\"${file:\" has no closing \"}\""
    );
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_value_is_percent_encoded_where_the_expression_says_so() {
    let filled = fill("smtp://u:${env:HARD|url}@h ${env:HARD|public}").unwrap();
    assert_eq!(filled.text, "smtp://u:p%40ss%2Fw%3Ard@h p@ss/w:rd");
}

#[test]
fn what_is_absent_is_unknown_where_that_is_fine() {
    let environment = environment(Path::new("")).without_secrets();
    let fill = |text| {
        environment
            .fill(text, |_| None)
            .map(|filled| filled.is_known)
    };
    assert_eq!(fill("${env:GONE}"), Ok(false));
    assert_eq!(fill("a ${env:SET} ${file:gone/away|url}"), Ok(false));
    assert_eq!(fill("${env:SET}"), Ok(true));
    // What is wrong without its value stays wrong.
    assert!(fill("${env:}").is_err() && fill("${file:}").is_err() && fill("${env:GONE").is_err());
}
