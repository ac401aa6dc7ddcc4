//! What is looked at before a JSON text is read: how deep it nests, and whether it can be read at all.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use std::fmt;
use std::str::FromStr;

/// How deep JSON may be nested in a request: far beyond any real one, far below what a stack holds.
pub const MAX_DEPTH: usize = 64;

/// How many `{` and `[` there are, eight bytes at a time. The two differ in one bit.
fn opening_brackets(text: &[u8]) -> usize {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let (words, rest) = text.as_chunks::<8>();
    let mut count = 0;
    for word in words {
        // A byte is zero where there is one of them; then its highest bit stays clear.
        let other = (u64::from_ne_bytes(*word) | (EACH * 0x20)) ^ (EACH * u64::from(b'{'));
        let marked = (((other & (EACH * 0x7F)) + EACH * 0x7F) | other) & (EACH * 0x80);
        count += 8 - marked.count_ones() as usize;
    }
    count
        + rest
            .iter()
            .filter(|byte| matches!(byte, b'{' | b'['))
            .count()
}

/// Whether a JSON text nests deeper than [`MAX_DEPTH`]. Needs no valid JSON, so it can come before parsing.
pub fn too_deep(text: &[u8]) -> bool {
    // Hardly any text has so many brackets at all, and counting them is quick.
    if opening_brackets(text) <= MAX_DEPTH {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// Reads a JSON text in full, as into a [`serde_json::Value`], but builds none: halves of surrogate pairs are errors, which a parser
/// that skips over them does not see.
pub fn check(text: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<Checked>(text).map(|Checked| ())
}

struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Checked, D::Error> {
        deserializer.deserialize_any(Checked)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = Checked;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Checked, A::Error> {
        while let Some(Key { is_number }) = map.next_key()? {
            if !is_number {
                map.next_value::<Checked>()?;
            } else if Number::from_str(&map.next_value::<String>()?).is_err() {
                // An object that only looks like the parser's own form of a number would not be readable later.
                return Err(A::Error::custom("invalid number"));
            }
        }
        Ok(Checked)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Checked, A::Error> {
        while items.next_element::<Checked>()?.is_some() {}
        Ok(Checked)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_str<E>(self, _: &str) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_unit<E>(self) -> Result<Checked, E> {
        Ok(Checked)
    }
}

/// The key of a member. serde_json hands a number over as an object with one such member.
struct Key {
    is_number: bool,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E>(self, name: &str) -> Result<Key, E> {
                Ok(Key {
                    is_number: name == "$serde_json::private::Number",
                })
            }
        }
        deserializer.deserialize_str(Name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use serde_json::Value;

    #[test]
    fn opening_brackets_are_counted_wherever_they_are() {
        for byte in 0..=255u8 {
            let opens = usize::from(matches!(byte, b'{' | b'['));
            for length in [1, 7, 8, 9, 31] {
                assert_eq!(
                    opening_brackets(&vec![byte; length]),
                    opens * length,
                    "{byte}"
                );
            }
            let mixed = [b'{', byte, b'[', byte, 0, b'}', 0xFF, byte, b'[', byte];
            assert_eq!(opening_brackets(&mixed), 3 + 4 * opens, "{byte}");
        }
    }

    #[test]
    fn a_text_is_checked_as_if_it_were_read() {
        for text in [
            r#"{"a":[1,-2,2.5e3,true,false,null,"x",{}],"":{"b":"\ud83d\ude00"}}"#,
            "18446744073709551615",
            "-1e308",
            r#"{"a":1e400}"#,
            r#"{"a":[-1e999]}"#,
            r#"["\ud800"]"#,
            r#"{"\udc00":1}"#,
            r#"{"a":{"b":"\ud83dx"}}"#,
            r#"{"a":1,}"#,
            r#"{"a":01}"#,
            "{\"a\":\"\n\"}",
            "{} {}",
            "",
        ] {
            let read = serde_json::from_str::<Value>(text).map(|_| ());
            assert_eq!(
                check(text).map_err(|error| error.to_string()),
                read.map_err(|error| error.to_string()),
                "{text}"
            );
        }
        assert!(check(r#"{"a":1e400}"#).is_ok());
        let private = r#"{"a":{"$serde_json::private::Number":"x"}}"#;
        assert!(serde_json::from_str::<Value>(private).is_err() && check(private).is_err());
        assert!(check(r#"{"\udc00":1}"#).is_err());
        assert!(check(r#"{"a":[1]}"#).is_ok());
    }

    #[test]
    fn depth_is_counted_outside_strings() {
        let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(!too_deep(nested(MAX_DEPTH).as_bytes()));
        assert!(too_deep(nested(MAX_DEPTH + 1).as_bytes()));
        assert!(!too_deep(format!("\"{}\"", "[".repeat(500)).as_bytes()));
        assert!(!too_deep(format!(r#""\"{}""#, "[".repeat(500)).as_bytes()));
    }
}
