//! JSON as the platform gave it: kept as text, read when somebody asks.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};
use std::fmt;
use std::str::FromStr;

/// How deep JSON may be nested in a request: far beyond any real one, far below what a stack holds.
pub const MAX_DEPTH: usize = 64;

/// A JSON object that may be absent. `null` counts as absent. Printed without what it holds.
#[derive(Clone, Copy, Default)]
pub struct Object<'a>(Option<&'a RawValue>);

impl<'a> Object<'a> {
    pub fn new(raw: Option<&'a RawValue>) -> Object<'a> {
        Object(raw.filter(|raw| raw.get() != "null"))
    }

    /// The object; empty where there is none. Text that nobody read yet may be well-formed and still not be readable:
    /// half a surrogate pair (`"\ud800"`), something else than an object.
    pub fn read(self) -> Result<Map<String, Value>, serde_json::Error> {
        self.0
            .map_or_else(|| Ok(Map::new()), |raw| serde_json::from_str(raw.get()))
    }

    /// The object; empty where there is none, and where [`Object::read`] fails.
    pub fn to_map(self) -> Map<String, Value> {
        self.read().unwrap_or_default()
    }

    /// The text of the object, as the platform gave it.
    pub fn raw(self) -> Option<&'a RawValue> {
        self.0
    }

    /// Absent, `null` and `{}` are the same.
    pub fn is_empty(self) -> bool {
        self.0.is_none_or(|raw| {
            raw.get()
                .bytes()
                .all(|b| b == b'{' || b == b'}' || b.is_ascii_whitespace())
        })
    }
}

impl fmt::Debug for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(raw) => write!(f, "Object({} bytes)", raw.get().len()),
            None => f.write_str("Object(absent)"),
        }
    }
}

/// Whether two objects are equal as parsed JSON, whatever their bytes. Absent, `null` and `{}` are equal. What cannot be
/// read equals only its own bytes.
pub fn same_object(a: Option<&RawValue>, b: Option<&RawValue>) -> bool {
    let (a, b) = (Object::new(a), Object::new(b));
    match (a.is_empty(), b.is_empty()) {
        (true, true) => true,
        (false, false) => {
            a.0.map(RawValue::get) == b.0.map(RawValue::get)
                || matches!((a.read(), b.read()), (Ok(a), Ok(b)) if same_map(&a, &b))
        }
        _ => false,
    }
}

/// Whether two JSON values are equal; numbers are compared as numbers, so that `1` is `1.0`.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => same_number(x, y),
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y))
        }
        (Value::Object(x), Value::Object(y)) => same_map(x, y),
        _ => a == b,
    }
}

/// Exact, whatever their size: numbers are kept as they were written, and nothing is rounded.
fn same_number(x: &Number, y: &Number) -> bool {
    let (x, y) = (x.as_str(), y.as_str());
    x == y || Decimal::of(x).is_some_and(|x| Some(x) == Decimal::of(y))
}

/// A number as its significant digits times a power of ten. Zero has no digits.
#[derive(PartialEq)]
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i128,
}

impl Decimal {
    /// `None` for a number whose exponent is beyond every range; it equals only its own text.
    fn of(text: &str) -> Option<Decimal> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(text) => (true, text),
            None => (false, text),
        };
        let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = [whole, fraction].concat();
        let digits = all.trim_end_matches('0');
        let shift = all.len() as i128 - digits.len() as i128 - fraction.len() as i128;
        let digits = digits.trim_start_matches('0');
        if digits.is_empty() {
            return Some(Decimal {
                negative: false,
                digits: String::new(),
                exponent: 0,
            });
        }
        Some(Decimal {
            negative,
            digits: digits.to_owned(),
            exponent: power.parse::<i128>().ok()?.checked_add(shift)?,
        })
    }
}

pub fn same_map(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    a.len() == b.len()
        && a.iter()
            .all(|(key, value)| b.get(key).is_some_and(|other| same(value, other)))
}

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

/// Reads a JSON text in full, as into a [`Value`], but builds none: halves of surrogate pairs are errors, which a parser
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

/// What kind of JSON a value is, for messages: `a string`, `an object`.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// `value` as text for storage or sending; what serde_json's own values hold can always be rendered.
pub fn to_raw(value: &Value) -> Option<Box<RawValue>> {
    serde_json::value::to_raw_value(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

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
    use serde_json::json;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
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
    fn equality_is_of_parsed_values() {
        for (a, b, equal) in [
            (r#"{"a":1,"b":[1,2]}"#, r#"{ "b": [1, 2], "a": 1 }"#, true),
            (r#"{"a":1}"#, r#"{"a":1.0}"#, true),
            (r#"{"a":"\u0041"}"#, r#"{"a":"A"}"#, true),
            (r#"{"a":[1,2]}"#, r#"{"a":[2,1]}"#, false),
            (r#"{"a":1}"#, r#"{"a":"1"}"#, false),
            (r#"{"a":null}"#, r#"{}"#, false),
            ("null", "{ }", true),
            (
                r#"{"a":18446744073709551615}"#,
                r#"{"a":18446744073709551614}"#,
                false,
            ),
            (
                r#"{"a":9007199254740993}"#,
                r#"{"a":9007199254740992.0}"#,
                false,
            ),
            (
                r#"{"a":9007199254740992}"#,
                r#"{"a":9007199254740992.0}"#,
                true,
            ),
            (r#"{"a":-0}"#, r#"{"a":0}"#, true),
            (r#"{"a":0.5}"#, r#"{"a":5e-1}"#, true),
            (r#"{"a":0.5}"#, r#"{"a":0}"#, false),
            (
                r#"{"a":18446744073709551615}"#,
                r#"{"a":1.8446744073709552e19}"#,
                false,
            ),
            (r#"{"a":true}"#, r#"{"a":1}"#, false),
            (r#"{"a":1}"#, r#"{"b":1}"#, false),
            (r#"{"a":1}"#, r#"{"a":1,"b":null}"#, false),
            (r#"{"a":1e400}"#, r#"{"a":1e400}"#, true),
            (r#"{"a":1e400}"#, r#"{"a":10E+399}"#, true),
            (r#"{"a":-1e400}"#, r#"{"a":1e400}"#, false),
            (r#"{"a":0.1000}"#, r#"{"a":0.1}"#, true),
            (r#"{"a":0.10000000000000000001}"#, r#"{"a":0.1}"#, false),
            (r#"{"a":120}"#, r#"{"a":1.2e2}"#, true),
            (r#"{"a":0e9}"#, r#"{"a":-0.00}"#, true),
            (
                r#"{"a":12345678901234567890123}"#,
                r#"{"a":12345678901234567890124}"#,
                false,
            ),
            (
                r#"{"a":1e999999999999999999999999999999999999999}"#,
                r#"{"a":10e999999999999999999999999999999999999998}"#,
                false,
            ),
            (r#"{"a":1e400}"#, r#"{"a":1e401}"#, false),
            (r#"{"a":"\ud800"}"#, r#"{"a":"\ud801"}"#, false),
        ] {
            assert_eq!(same_object(Some(&raw(a)), Some(&raw(b))), equal, "{a} {b}");
        }
        assert!(same_object(None, Some(&raw("{}"))));
        assert!(!same_object(None, Some(&raw(r#"{"a":1}"#))));
        assert!(same(&json!([1, {"a": 2.0}]), &json!([1.0, {"a": 2}])));
    }

    #[test]
    fn depth_is_counted_outside_strings() {
        let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(!too_deep(nested(MAX_DEPTH).as_bytes()));
        assert!(too_deep(nested(MAX_DEPTH + 1).as_bytes()));
        assert!(!too_deep(format!("\"{}\"", "[".repeat(500)).as_bytes()));
        assert!(!too_deep(format!(r#""\"{}""#, "[".repeat(500)).as_bytes()));
    }
    #[test]
    fn absent_and_null_and_empty_objects_are_empty() {
        let (null, empty, spaced) = (raw("null"), raw("{}"), raw(" {\n } "));
        for object in [None, Some(&null), Some(&empty), Some(&spaced)] {
            let object = Object::new(object.map(|raw| &**raw));
            assert!(object.is_empty());
            assert!(object.read().unwrap().is_empty());
        }
        assert!(Object::new(Some(&null)).raw().is_none());
        let (full, nested) = (raw(r#"{"a":{}}"#), raw(r#"{"":{}}"#));
        assert!(!Object::new(Some(&full)).is_empty());
        assert!(!Object::new(Some(&nested)).is_empty());
        assert_eq!(Object::new(Some(&full)).to_map()["a"], json!({}));
    }

    #[test]
    fn what_cannot_be_read_says_so() {
        for text in [r#"{"a":"\ud800"}"#, "[1]", "\"x\""] {
            let raw = raw(text);
            assert!(Object::new(Some(&raw)).read().is_err(), "{text}");
        }
    }

    #[test]
    fn debug_output_shows_nothing_of_the_values() {
        let raw = raw(r#"{"password":"secret"}"#);
        assert_eq!(format!("{:?}", Object::new(Some(&raw))), "Object(21 bytes)");
        assert_eq!(format!("{:?}", Object::new(None)), "Object(absent)");
    }

    #[test]
    fn the_text_is_kept_as_given() {
        let given = r#"{"b":1.0,"a":"\u0041"}"#;
        let raw = raw(given);
        assert_eq!(Object::new(Some(&raw)).raw().unwrap().get(), given);
        assert_eq!(
            to_raw(&json!({"a": [1, null]})).unwrap().get(),
            r#"{"a":[1,null]}"#
        );
    }
}
