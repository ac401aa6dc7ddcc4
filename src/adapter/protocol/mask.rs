//! Keeps what is secret out of texts that a program wrote.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::borrow::Cow;

/// What stands in the place of a secret.
pub const MASKED: &str = "***";
/// Shorter values are words, ports and flags rather than secrets: masking "true" or "5432" would make texts unreadable
/// and hide nothing.
pub const SHORTEST: usize = 6;

/// What most programs encode: everything but the unreserved characters (RFC 3986, 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Values that must not be seen. Deliberately not printable.
#[derive(Clone, Default)]
pub struct Mask(Vec<String>);

impl Mask {
    /// Adds a value, also in the forms that it takes within JSON and within a URL. Texts come line by line, so each line
    /// of it is a secret of its own.
    pub fn add(&mut self, secret: &str) {
        for line in secret.lines().map(str::trim) {
            if line.len() < SHORTEST {
                continue;
            }
            self.push(line.to_owned());
            let quoted = Value::from(line).to_string();
            self.push(quoted[1..quoted.len() - 1].to_owned());
            for encoded in [NON_ALPHANUMERIC, RESERVED] {
                self.push(utf8_percent_encode(line, encoded).to_string());
            }
        }
    }

    /// Adds every string within a value, at any depth.
    pub fn add_within(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.add(text),
            Value::Array(items) => items.iter().for_each(|item| self.add_within(item)),
            Value::Object(members) => members.values().for_each(|item| self.add_within(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Adds what another mask hides.
    pub fn extend(&mut self, other: &Mask) {
        other.0.iter().for_each(|form| self.push(form.clone()));
    }

    fn push(&mut self, form: String) {
        if !self.0.contains(&form) {
            self.0.push(form);
        }
    }

    /// The text without the secrets; those that overlap or touch are masked as one.
    pub fn apply<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut spans: Vec<(usize, usize)> = self
            .0
            .iter()
            .flat_map(|secret| occurrences(text, secret))
            .collect();
        if spans.is_empty() {
            return Cow::Borrowed(text);
        }
        spans.sort_unstable();
        let (mut masked, mut shown) = (String::with_capacity(text.len()), 0);
        for (start, end) in spans {
            if start > shown || masked.is_empty() {
                masked.push_str(&text[shown..start]);
                masked.push_str(MASKED);
            }
            shown = shown.max(end);
        }
        masked.push_str(&text[shown..]);
        Cow::Owned(masked)
    }

    /// How much of a text that was cut off can be shown: without the beginning of a secret at its end.
    pub fn shown_of_cut(&self, text: &str) -> usize {
        let begun = |secret: &String| {
            let longest = secret.len().min(text.len());
            (1..=longest)
                .rev()
                .find(|n| secret.as_bytes()[..*n] == text.as_bytes()[text.len() - n..])
        };
        let cut = self.0.iter().filter_map(begun).max().unwrap_or(0);
        text.floor_char_boundary(text.len() - cut)
    }
}

/// Where a secret stands in a text, overlapping itself or not.
fn occurrences(text: &str, secret: &str) -> impl Iterator<Item = (usize, usize)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let start = from + text[from..].find(secret)?;
        from = text.ceil_char_boundary(start + 1);
        Some((start, start + secret.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn mask(secrets: &[&str]) -> Mask {
        let mut mask = Mask::default();
        secrets.iter().for_each(|secret| mask.add(secret));
        mask
    }

    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        let mask = mask(&["hunter2", "tr0ub4dor", "hunter22"]);
        for (text, wanted) in [
            ("", ""),
            ("nothing here", "nothing here"),
            ("hunter2", "***"),
            ("a hunter2 b hunter2", "a *** b ***"),
            ("xhunter22y", "x***y"),
            ("hunter2tr0ub4dor", "***"),
            ("éhunter2é", "é***é"),
        ] {
            assert_eq!(mask.apply(text), wanted);
        }
    }

    #[test]
    fn secrets_that_overlap_leave_nothing() {
        assert_eq!(mask(&["abcabc"]).apply("xabcabcabcx"), "x***x");
        assert_eq!(mask(&["abcdef", "defghi"]).apply("abcdefghi."), "***.");
        assert_eq!(mask(&["abcdef", "abcdefghi"]).apply("abcdefghi."), "***.");
        assert_eq!(mask(&["ééé"]).apply("éééé"), "***");
    }

    #[test]
    fn a_secret_is_known_within_json_and_within_a_url() {
        let mask = mask(&["p\"a/ss-w\u{7}rd"]);
        for text in [
            "p\"a/ss-w\u{7}rd",
            r#"p\"a/ss-w\u0007rd"#,
            "p%22a%2Fss%2Dw%07rd",
            "p%22a%2Fss-w%07rd",
        ] {
            assert_eq!(mask.apply(&format!("<{text}>")), "<***>");
        }
    }

    #[test]
    fn every_line_of_a_secret_is_one() {
        let mask = mask(&["-----BEGIN KEY-----\nMIIEvQIBADAN\r\nab\n"]);
        assert_eq!(mask.apply("MIIEvQIBADAN ab"), "*** ab");
    }

    #[test]
    fn short_values_are_no_secrets() {
        assert_eq!(
            mask(&["", "5432", "false"]).apply("false 5432"),
            "false 5432"
        );
    }

    #[test]
    fn strings_are_found_at_any_depth_and_keys_are_not_secret() {
        let mut mask = Mask::default();
        mask.add_within(&json!({"password": [{"value": "hunter2"}, 12345678, null, true]}));
        assert_eq!(
            mask.apply("password hunter2 12345678"),
            "password *** 12345678"
        );
    }

    #[test]
    fn the_beginning_of_a_secret_at_a_cut_is_not_shown() {
        let mask = mask(&["hunter2"]);
        for (text, shown) in [
            ("", ""),
            ("password: hunt", "password: "),
            ("password: hunter2", "password: "),
            ("ah", "a"),
            ("hx", "hx"),
            ("hunter", ""),
        ] {
            assert_eq!(&text[..mask.shown_of_cut(text)], shown);
        }
    }
}
