//! `X-Broker-API-Originating-Identity` and the request's identity. spec: Originating Identity; Request Identity.

use super::auth::BASE64;
use crate::adapter::Identity;
use crate::broker::error::Error;
use crate::json;

use base64::Engine;
use serde_json::{Map, Value};

pub const ORIGINATING: &str = "X-Broker-API-Originating-Identity";
pub const REQUEST: &str = "X-Broker-API-Request-Identity";
pub const VCAP_REQUEST: &str = "X-Vcap-Request-Id";

/// Longest request identity that is sent back. Most are GUIDs.
const MAX_REQUEST_IDENTITY: usize = 1024;

/// Parses `PLATFORM VALUE`, where the value is a JSON object in Base64. Anything else is a 400.
pub fn parse(header: &str) -> Result<Identity, Error> {
    let wrong = |what: &str| {
        Error::bad_request(format!(
            "{ORIGINATING}: {what}; wanted a platform's name, a space and a JSON object in Base64."
        ))
    };
    let (platform, value) = header
        .split_once(' ')
        .filter(|(platform, value)| !platform.is_empty() && !value.is_empty())
        .ok_or_else(|| wrong("found only one word"))?;
    let bytes = BASE64
        .decode(value.trim_matches(' '))
        .map_err(|_| wrong("the value is not Base64"))?;
    if json::too_deep(&bytes) {
        return Err(wrong("the value nests too deeply"));
    }
    let properties: Map<String, Value> =
        serde_json::from_slice(&bytes).map_err(|_| wrong("the value holds no JSON object"))?;
    Ok(Identity {
        platform: platform.to_owned(),
        properties,
    })
}

/// The request identity, if it is safe to send it back in a header field.
pub fn echoed(header: &str) -> Option<&str> {
    let safe = !header.is_empty()
        && header.len() <= MAX_REQUEST_IDENTITY
        && header.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    safe.then_some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(platform: &str, value: &str) -> String {
        format!("{platform} {}", BASE64.encode(value))
    }

    #[test]
    fn identities_of_both_platforms_are_understood() {
        let cf = parse(&header("cloudfoundry", r#"{"user_id":"683ea748"}"#)).unwrap();
        assert_eq!(
            (cf.platform.as_str(), cf.user()),
            ("cloudfoundry", Some("683ea748"))
        );
        let unpadded = header("cloudfoundry", r#"{"user_id":"683ea748"}"#);
        assert!(unpadded.ends_with('='));
        assert_eq!(parse(unpadded.trim_end_matches('=')).unwrap(), cf);
        let k8s = parse(&header("kubernetes", r#"{"username":"duke","uid":"c2dd"}"#)).unwrap();
        assert_eq!(k8s.user(), Some("c2dd"));
        // The example of the specification.
        let example = "cloudfoundry eyANCiAgInVzZXJfaWQiOiAiNjgzZWE3NDgtMzA5Mi00ZmY0LWI2NTYtMzljYWNjNGQ1MzYwIg0KfQ==";
        assert_eq!(
            parse(example).unwrap().user(),
            Some("683ea748-3092-4ff4-b656-39cacc4d5360")
        );
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for bad in [
            "",
            "cloudfoundry",
            " eyJ9",
            "cloudfoundry ",
            "cloudfoundry %%%",
            &header("cloudfoundry", "no json"),
            &header("cloudfoundry", "[1]"),
            &header("cloudfoundry", "\"text\""),
            &header("cloudfoundry", "null"),
            &header(
                "cloudfoundry",
                &format!("{{\"a\":{}{}}}", "[".repeat(99), "]".repeat(99)),
            ),
        ] {
            assert_eq!(parse(bad).unwrap_err().status, 400, "{bad}");
        }
    }

    #[test]
    fn only_harmless_request_identities_are_echoed() {
        assert_eq!(
            echoed("e26cee84-6b38-4456-b34e"),
            Some("e26cee84-6b38-4456-b34e")
        );
        for bad in ["", "a\nb", "a\rb", "é", "a\0", &"x".repeat(2000)] {
            assert_eq!(echoed(bad), None, "{bad:?}");
        }
    }
}
