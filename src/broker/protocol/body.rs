//! Reading request bodies field by field, so that every complaint names the field, what was found and what is wanted.
//!
//! Unknown fields are ignored (spec: Vendor Extension Fields). For optional fields `null`, and for strings `""`, count
//! as absent (Korifi sends them so).

use super::error::Error;
use crate::json;

use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A field as it came; `null` and absent are both `None`.
pub type Field<'a> = Option<&'a RawValue>;

/// Reads a request body into a struct of [`Field`]s.
pub fn read<'a, T: Deserialize<'a> + Default>(body: &'a [u8]) -> Result<T, Error> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::bad_request(
            "The request body is empty; wanted a JSON object.",
        ));
    }
    if json::too_deep(body) {
        return Err(Error::bad_request(format!(
            "The request body nests deeper than {} levels.",
            json::MAX_DEPTH
        )));
    }
    let text = std::str::from_utf8(body)
        .map_err(|_| Error::bad_request("The request body is not valid UTF-8."))?;
    if !text.trim_start().starts_with('{') {
        // Arrays too would be read into the fields, by position.
        return Err(match serde_json::from_str::<&RawValue>(text) {
            Ok(raw) => Error::bad_request(format!(
                "The request body is {}; wanted a JSON object.",
                kind(raw)
            )),
            Err(error) => malformed(&error),
        });
    }
    serde_json::from_str(text).map_err(|error| malformed(&error))
}

fn malformed(error: &serde_json::Error) -> Error {
    Error::bad_request(format!("The request body is not valid JSON: {error}."))
}

fn kind(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

fn wrong_type(name: &str, raw: &RawValue, wanted: &str) -> Error {
    Error::bad_request(format!("{name}: found {}, wanted {wanted}.", kind(raw)))
}

/// A string that must be there and not be empty.
pub fn required_string<'a>(name: &str, field: Field<'a>) -> Result<Cow<'a, str>, Error> {
    let raw = field.ok_or_else(|| {
        Error::bad_request(format!("{name} is missing; wanted a non-empty string."))
    })?;
    optional_string(name, Some(raw))?
        .ok_or_else(|| Error::bad_request(format!("{name} is empty; wanted a non-empty string.")))
}

/// A string; `null` and `""` count as absent.
pub fn optional_string<'a>(name: &str, field: Field<'a>) -> Result<Option<Cow<'a, str>>, Error> {
    let Some(raw) = field.filter(|raw| raw.get() != "null") else {
        return Ok(None);
    };
    let text = raw.get();
    // Without an escape the string stands in the body as it is.
    if let Some(plain) = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .filter(|text| !text.contains('\\'))
    {
        return Ok(Some(plain).filter(|s| !s.is_empty()).map(Cow::Borrowed));
    }
    match serde_json::from_str::<String>(text) {
        Ok(string) => Ok(Some(string).filter(|s| !s.is_empty()).map(Cow::Owned)),
        Err(_) if text.starts_with('"') => Err(Error::bad_request(format!(
            "{name}: found half of a surrogate pair, wanted a string of whole characters."
        ))),
        Err(_) => Err(wrong_type(name, raw, "a string")),
    }
}

/// An object, kept as text; `null` counts as absent.
pub fn optional_object<'a>(name: &str, field: Field<'a>) -> Result<Field<'a>, Error> {
    match field.filter(|raw| raw.get() != "null") {
        Some(raw) if !raw.get().starts_with('{') => Err(wrong_type(name, raw, "an object")),
        // What is kept as text must be readable later: lone surrogates are found here.
        Some(raw) => match json::check(raw.get()) {
            Ok(()) => Ok(Some(raw)),
            Err(error) => Err(Error::bad_request(format!("{name}: {error}."))),
        },
        None => Ok(None),
    }
}

/// `maintenance_info.version`, if there is one. spec: Maintenance Info Object; other fields are ignored.
pub fn maintenance_version<'a>(field: Field<'a>) -> Result<Option<Cow<'a, str>>, Error> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Info<'a> {
        #[serde(borrow)]
        version: Field<'a>,
    }
    let Some(raw) = optional_object("maintenance_info", field)? else {
        return Ok(None);
    };
    let info: Info<'a> = read(raw.get().as_bytes())?;
    optional_string("maintenance_info.version", info.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize, Default, Debug)]
    #[serde(default)]
    struct Body<'a> {
        #[serde(borrow)]
        name: Field<'a>,
        #[serde(borrow)]
        object: Field<'a>,
    }

    fn description<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
        let error = result.unwrap_err();
        assert_eq!(error.status, 400);
        error.description.into_owned()
    }

    #[test]
    fn what_is_not_an_object_is_refused_with_what_was_found() {
        for (body, wanted) in [
            ("", "The request body is empty; wanted a JSON object."),
            (" \n", "The request body is empty; wanted a JSON object."),
            ("[]", "The request body is an array; wanted a JSON object."),
            ("5", "The request body is a number; wanted a JSON object."),
            ("null", "The request body is null; wanted a JSON object."),
        ] {
            assert_eq!(
                description(read::<Body>(body.as_bytes())),
                wanted,
                "{body:?}"
            );
        }
        assert!(description(read::<Body>(b"{\"name\":")).contains("line 1 column 8"));
        assert!(description(read::<Body>(b"{} {}")).contains("trailing"));
        assert!(description(read::<Body>(b"{\"name\":\"\xff\"}")).contains("UTF-8"));
        let deep = format!("{{\"object\":{}{}}}", "[".repeat(70), "]".repeat(70));
        assert!(description(read::<Body>(deep.as_bytes())).contains("deeper than 64"));
    }

    #[test]
    fn strings_are_read_with_and_without_escapes() {
        let body: Body = read(br#"{"name":"a\u0062\"c"}"#).unwrap();
        assert_eq!(required_string("name", body.name).unwrap(), "ab\"c");
        let body: Body = read(br#"{"name":"plain","more":[1]}"#).unwrap();
        assert!(matches!(
            required_string("name", body.name).unwrap(),
            Cow::Borrowed("plain")
        ));
    }

    #[test]
    fn null_and_empty_count_as_absent() {
        for body in [r#"{"name":null}"#, r#"{"name":""}"#, "{}"] {
            let body: Body = read(body.as_bytes()).unwrap();
            assert_eq!(optional_string("name", body.name).unwrap(), None);
            assert!(description(required_string("name", body.name)).starts_with("name is "));
        }
    }

    #[test]
    fn wrong_types_name_the_field() {
        let body: Body = read(br#"{"name":5,"object":"x"}"#).unwrap();
        assert_eq!(
            description(required_string("name", body.name)),
            "name: found a number, wanted a string."
        );
        assert_eq!(
            description(optional_object("object", body.object)),
            "object: found a string, wanted an object."
        );
        let body: Body = read(br#"{"name":"a\ud800"}"#).unwrap();
        assert!(description(required_string("name", body.name)).contains("surrogate"));
        let body: Body = read(br#"{"object":{"x":"\ud800"}}"#).unwrap();
        assert!(description(optional_object("object", body.object)).starts_with("object: "));
        let body: Body = read(br#"{"object":{"x":1e999}}"#).unwrap();
        assert!(optional_object("object", body.object).is_ok());
    }
}
