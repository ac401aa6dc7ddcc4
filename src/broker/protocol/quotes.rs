//! Keeps what users gave as parameters out of the log. Adapters write for users, and may quote what these have sent; the
//! user reads that, the log does not.

use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// What stands in the log in the place of a value.
const HIDDEN: &str = "***";

/// `text` without the strings and numbers of these objects, wherever one stands as a word of its own. Booleans say nothing.
/// Objects that cannot be read have no values that anybody could quote.
pub fn without<'t>(text: &'t str, objects: &[Option<&RawValue>]) -> Cow<'t, str> {
    let mut values = Vec::new();
    for object in objects.iter().copied().flatten() {
        if let Ok(value) = serde_json::from_str(object.get()) {
            collect(&value, &mut values);
        }
    }
    // One value may be a part of another.
    values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    values.iter().fold(Cow::Borrowed(text), |text, value| {
        match hidden(&text, value) {
            Some(hidden) => Cow::Owned(hidden),
            None => text,
        }
    })
}

fn collect(value: &Value, values: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            values.push(text.trim().to_owned());
            let quoted = Value::from(text.as_str()).to_string();
            values.push(quoted[1..quoted.len() - 1].to_owned());
        }
        Value::Number(number) => values.push(number.to_string()),
        Value::Array(items) => items.iter().for_each(|item| collect(item, values)),
        Value::Object(members) => members.values().for_each(|item| collect(item, values)),
        Value::Null | Value::Bool(_) => {}
    }
}

/// `None` where the value does not stand in the text.
fn hidden(text: &str, value: &str) -> Option<String> {
    let inner = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let (mut shown, mut rest) = (String::new(), text);
    let mut found = false;
    while let Some(at) = rest.find(value).filter(|_| !value.is_empty()) {
        let (before, after) = (&rest[..at], &rest[at + value.len()..]);
        let last = before
            .chars()
            .next_back()
            .or_else(|| shown.chars().next_back());
        // `5` is not quoted where `25` stands.
        let part = inner(last) && inner(value.chars().next())
            || inner(value.chars().next_back()) && inner(after.chars().next());
        if part {
            let first = value.chars().next().map_or(1, char::len_utf8);
            shown.push_str(&rest[..at + first]);
            rest = &rest[at + first..];
        } else {
            shown.push_str(before);
            shown.push_str(HIDDEN);
            (rest, found) = (after, true);
        }
    }
    shown.push_str(rest);
    found.then_some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_parameters_are_hidden_and_words_that_hold_them_are_not() {
        let given = r#"{"a":"hunter2","b":{"c":[5,"é\"x",1.10]},"d":true,"e":"","f":"hunter2-too","g":"of"}"#;
        let given = RawValue::from_string(given.to_owned()).unwrap();
        for (text, wanted) in [
            (
                "The password hunter2 is too short.",
                "The password *** is too short.",
            ),
            ("hunter2hunter2, hunter2", "hunter2hunter2, ***"),
            ("hunter2-too is longer", "*** is longer"),
            ("5 of 25, 0.5, 1.10", "*** *** 25, 0.***, ***"),
            (r#"found "é\"x", true"#, r#"found "***", true"#),
            ("There is no room left.", "There is no room left."),
        ] {
            assert_eq!(without(text, &[None, Some(&given)]), wanted);
        }
    }
}
