//! JSON as the platform gave it: kept as text, read when somebody asks.

mod check;

pub use check::{MAX_DEPTH, check, too_deep};

use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};
use std::fmt;

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

    use serde_json::json;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
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
