//! What a file that is no JSON looks like, in plain words.

/// The text of a file. The error says what else it looks like.
pub fn decode(bytes: Vec<u8>) -> Result<String, String> {
    let is_utf16 = bytes.starts_with(b"\xff\xfe")
        || bytes.starts_with(b"\xfe\xff")
        || bytes.len() > 1 && bytes.iter().take(2).filter(|byte| **byte == 0).count() == 1;
    if is_utf16 {
        return Err("this looks like UTF-16; save it as UTF-8".to_owned());
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("not UTF-8 at line {line}; save it as UTF-8")
    })
}

/// Why a text is not valid JSON: what it looks like, and what the parser says.
pub(super) fn explain(text: &str, error: &serde_json::Error) -> String {
    if text.trim().is_empty() {
        return "the file is empty; wanted JSON, as in {\"services\": [...]}".to_owned();
    }
    if is_yaml(text) {
        return "this looks like YAML; JSON is wanted".to_owned();
    }
    let hint = hint(text, error).map_or(String::new(), |hint| format!("{hint}; "));
    format!("not valid JSON: {hint}{error}")
}

/// Whether the first line that says something is the beginning of a document, a list or a mapping without quotes.
fn is_yaml(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    let Some(line) = first else { return false };
    let key = line.split_once(':').map(|(key, value)| {
        let is_word = |c: char| c.is_alphanumeric() || "_-".contains(c);
        !key.is_empty()
            && key.chars().all(is_word)
            && (value.is_empty() || value.starts_with(char::is_whitespace))
    });
    line.starts_with("---")
        || line.starts_with("%YAML")
        || line.starts_with("- ")
        || key == Some(true)
}

/// What stands where the parser stopped, if it is known from other languages.
fn hint(text: &str, error: &serde_json::Error) -> Option<&'static str> {
    // The parser counts bytes, and stops at what it does not understand or right behind it.
    let line = text.lines().nth(error.line().checked_sub(1)?)?;
    let column = error.column();
    let from = |column: usize| line.get(column..).map(str::trim_start);
    let found = [column.checked_sub(1).and_then(from), from(column)];
    let begins = |what: &str| found.iter().flatten().any(|rest| rest.starts_with(what));
    let before = line.get(..column.saturating_sub(1)).unwrap_or_default();
    Some(if begins("//") || begins("/*") || begins("#") {
        "JSON has no comments"
    } else if begins("'") {
        "JSON has double quotes, not single ones"
    } else if begins("\u{201c}") || begins("\u{201d}") || begins("\u{2018}") || begins("\u{2019}") {
        "JSON has straight double quotes"
    } else if error.to_string().starts_with("trailing comma")
        || (begins("}") || begins("]")) && is_behind_comma(text, error.line(), before)
    {
        "JSON has no comma after the last element"
    } else if error.to_string().starts_with("key must be a string")
        && found
            .iter()
            .flatten()
            .any(|rest| rest.starts_with(char::is_alphabetic))
    {
        "keys are in double quotes"
    } else {
        return None;
    })
}

/// Whether the last that stands before a place in the text is a comma.
fn is_behind_comma(text: &str, line: usize, before: &str) -> bool {
    let lines = text.lines().take(line.saturating_sub(1)).chain([before]);
    let last = lines
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .last();
    last.is_some_and(|line| line.ends_with(','))
}
