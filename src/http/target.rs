//! The request target: the segments of the path, and the query. spec: URL Properties.

use crate::broker::error::Error;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::borrow::Cow;
use std::fmt;

/// Longest id that is accepted, in bytes. Cloud Controller's have up to 255 characters.
const MAX_ID: usize = 1024;

/// The segments of a path, percent-decoded. A path may begin with several slashes: if the broker's URL was registered with a
/// slash at its end, platforms ask for `//v2/catalog`.
pub fn segments(path: &str) -> Result<Vec<Cow<'_, str>>, Error> {
    path.trim_start_matches('/')
        .split('/')
        .map(|segment| decode("the path", segment))
        .collect()
}

/// The path that all endpoints are below, for a proxy that does not remove it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BasePath(Vec<String>);

/// Where one asks whether the broker is well.
pub const HEALTH: &str = "/healthz";
/// Where one asks whether the broker can answer requests now.
pub const READINESS: &str = "/readyz";

/// A question about the broker itself, which needs no credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    Health,
    Readiness,
}

impl BasePath {
    /// Reads `/brokers/mail`, with or without slashes at its ends. The error says what was found and what is wanted.
    pub fn parse(text: &str) -> Result<BasePath, String> {
        let wrong = || format!("found {text:?}, wanted a path such as /brokers/mail");
        let path = text.trim_matches('/');
        if path.is_empty() {
            return Ok(BasePath::default());
        }
        let plain = |c: char| c.is_ascii_graphic() && !"?#\\\"<>^`{|}".contains(c);
        if path.contains("://") || !path.chars().all(plain) {
            return Err(wrong());
        }
        let segments = segments(path).map_err(|_| wrong())?;
        let none = |segment: &Cow<'_, str>| matches!(&**segment, "" | "." | "..");
        match segments.iter().any(none) {
            true => Err(wrong()),
            false => Ok(BasePath(
                segments.into_iter().map(Cow::into_owned).collect(),
            )),
        }
    }

    /// The segments of a path that follow the base path. `None` if it is not below that. Between the two there may be
    /// several slashes, as at the beginning of a path.
    pub fn strip<'s, 'a>(&self, segments: &'s [Cow<'a, str>]) -> Option<&'s [Cow<'a, str>]> {
        let (base, below) = segments.split_at_checked(self.0.len())?;
        if self.0.is_empty() {
            return Some(below);
        }
        let slashes = below.iter().take_while(|segment| segment.is_empty());
        (base == self.0).then(|| &below[slashes.count()..])
    }

    /// Which health check a path asks for, if it does. They are at the root and below the base path.
    pub fn probe(&self, path: &str) -> Option<Probe> {
        let (probe, name) = [(Probe::Health, HEALTH), (Probe::Readiness, READINESS)]
            .into_iter()
            .find(|(_, name)| path.ends_with(name))?;
        let below = || {
            let base = segments(path.strip_suffix(name)?).ok()?;
            Some(base == self.0)
        };
        let is_it = path == name || (!self.0.is_empty() && below() == Some(true));
        is_it.then_some(probe)
    }

    /// The 404 for a path that is not below the base path.
    pub fn elsewhere(&self) -> Error {
        let base = self.to_string();
        Error::not_found(format!(
            "There is nothing at this path: this broker is below {base}, as in {base}/v2/catalog."
        ))
    }
}

impl fmt::Display for BasePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const KEPT: &AsciiSet = &NON_ALPHANUMERIC
            .remove(b'-')
            .remove(b'.')
            .remove(b'_')
            .remove(b'~');
        self.0
            .iter()
            .try_for_each(|segment| write!(f, "/{}", utf8_percent_encode(segment, KEPT)))
    }
}

/// Refuses what cannot be an id. `name` is what the specification calls it.
pub fn check_id(name: &str, id: &str) -> Result<(), Error> {
    if id.is_empty() {
        return Err(Error::bad_request(format!("{name} in the path is empty.")));
    }
    if id.len() > MAX_ID {
        return Err(Error::bad_request(format!(
            "{name}: found {} bytes, wanted at most {MAX_ID}.",
            id.len()
        )));
    }
    if id.chars().any(char::is_control) {
        return Err(Error::bad_request(format!(
            "{name}: found {id:?}, wanted no control characters."
        )));
    }
    Ok(())
}

/// The fields of a query that the specification knows. Empty ones count as absent.
#[derive(Debug, Default)]
pub struct Query<'a> {
    pub service_id: Option<Cow<'a, str>>,
    pub plan_id: Option<Cow<'a, str>>,
    pub operation: Option<Cow<'a, str>>,
    pub accepts_incomplete: bool,
}

impl<'a> Query<'a> {
    pub fn parse(query: &'a str) -> Result<Query<'a>, Error> {
        let mut parsed = Query::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let field = match name {
                "service_id" => &mut parsed.service_id,
                "plan_id" => &mut parsed.plan_id,
                "operation" => &mut parsed.operation,
                "accepts_incomplete" => {
                    parsed.accepts_incomplete = match value {
                        "true" => true,
                        "false" | "" => false,
                        _ => {
                            return Err(Error::bad_request(format!(
                                "accepts_incomplete: found {value:?}, wanted true or false."
                            )));
                        }
                    };
                    continue;
                }
                _ => continue,
            };
            let value = plus_decoded(name, value)?;
            *field = Some(value).filter(|value| !value.is_empty());
        }
        Ok(parsed)
    }

    /// The two ids that a delete must have. spec: Unbinding and Deprovisioning, Parameters.
    pub fn required_ids(&self) -> Result<(&str, &str), Error> {
        let missing = |name: &str| {
            Error::bad_request(format!("{name} is missing in the query of the request."))
        };
        Ok((
            self.service_id
                .as_deref()
                .ok_or_else(|| missing("service_id"))?,
            self.plan_id.as_deref().ok_or_else(|| missing("plan_id"))?,
        ))
    }
}

/// A name and its value.
type Field<'a> = (Cow<'a, str>, Cow<'a, str>);

/// All fields of a query, decoded, in their order.
pub fn fields(query: &str) -> Result<Vec<Field<'_>>, Error> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((plus_decoded("the query", name)?, plus_decoded(name, value)?))
        })
        .collect()
}

/// Decodes a value of the query, in which a plus is a space: most HTTP clients write it so.
fn plus_decoded<'a>(name: &str, value: &'a str) -> Result<Cow<'a, str>, Error> {
    if !value.contains('+') {
        return decode(name, value);
    }
    let spaced = value.replace('+', " ");
    Ok(Cow::Owned(decode(name, &spaced)?.into_owned()))
}

fn decode<'a>(name: &str, text: &'a str) -> Result<Cow<'a, str>, Error> {
    percent_decode_str(text).decode_utf8().map_err(|_| {
        Error::bad_request(format!(
            "{name}: the percent-encoded text is not valid UTF-8."
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_decoded_one_by_one() {
        assert_eq!(segments("/v2/catalog").unwrap(), ["v2", "catalog"]);
        assert_eq!(segments("//v2/catalog").unwrap(), ["v2", "catalog"]);
        assert_eq!(
            segments("/v2/a%2Fb%20c%C3%A9/d").unwrap(),
            ["v2", "a/b cé", "d"]
        );
        assert_eq!(segments("/v2/x/").unwrap(), ["v2", "x", ""]);
        assert_eq!(segments("/%zz").unwrap(), ["%zz"]);
        assert_eq!(segments("/%ff").unwrap_err().status, 400);
    }

    #[test]
    fn a_base_path_is_read_with_and_without_slashes_and_compared_decoded() {
        for text in ["/brokers/m%61il", "brokers/mail/", "//brokers/mail"] {
            let base = BasePath::parse(text).unwrap();
            assert_eq!(base.to_string(), "/brokers/mail");
            for (path, below) in [
                ("/brokers/mail/v2/catalog", Some(&["v2", "catalog"][..])),
                ("//%62rokers/mail//v2/catalog", Some(&["v2", "catalog"])),
                ("/brokers/mail/", Some(&[])),
                ("/brokers/mail", Some(&[])),
                ("/brokers", None),
                ("/brokers%2Fmail/v2/catalog", None),
                ("/brokers/mails/v2/catalog", None),
                ("/v2/catalog", None),
            ] {
                let segments = segments(path).unwrap();
                let found = base.strip(&segments);
                assert_eq!(found.is_some(), below.is_some(), "{path}");
                assert!(
                    found.unwrap_or_default() == below.unwrap_or_default(),
                    "{path}"
                );
            }
            for (path, is_it) in [
                ("/healthz", true),
                ("/brokers/mail/healthz", true),
                ("/%62rokers/mail/healthz", true),
                ("/brokers/mail//healthz", false),
                ("/brokers/healthz", false),
                ("//healthz", false),
            ] {
                assert_eq!(base.probe(path), is_it.then_some(Probe::Health), "{path}");
                let path = path.replace("healthz", "readyz");
                assert_eq!(
                    base.probe(&path),
                    is_it.then_some(Probe::Readiness),
                    "{path}"
                );
            }
        }
        for none in ["", "/", "//"] {
            assert_eq!(BasePath::parse(none), Ok(BasePath::default()));
        }
        assert_eq!(BasePath::default().probe("//healthz"), None);
    }

    #[test]
    fn what_cannot_be_a_base_path_is_refused() {
        for bad in [
            "/a//b",
            "/a/../b",
            "/a/./b",
            "/%2e%2e/b",
            "/a?b",
            "/a#b",
            "/a b",
            "/ä",
            "/%ff",
            "https://broker.example.com/a",
        ] {
            let error = BasePath::parse(bad).unwrap_err();
            assert!(error.contains(&format!("{bad:?}")), "{error}");
        }
    }

    #[test]
    fn queries_are_decoded_and_unknown_fields_ignored() {
        let query =
            Query::parse("plan_id=a%26b&x=1&service_id=s+1&&operation=&accepts_incomplete=true")
                .unwrap();
        assert_eq!(query.plan_id.as_deref(), Some("a&b"));
        assert_eq!(query.service_id.as_deref(), Some("s 1"));
        assert_eq!(query.operation, None);
        assert!(query.accepts_incomplete);
        assert_eq!(query.required_ids().unwrap(), ("s 1", "a&b"));
        assert!(
            Query::parse("accepts_incomplete=yes")
                .unwrap_err()
                .description
                .contains("yes")
        );
        assert!(
            Query::parse("plan_id=%ff")
                .unwrap_err()
                .description
                .contains("plan_id")
        );
    }

    #[test]
    fn deletes_must_name_both_ids() {
        for (query, missing) in [
            ("", "service_id"),
            ("plan_id=p", "service_id"),
            ("service_id=s&plan_id=", "plan_id"),
        ] {
            let error = Query::parse(query).unwrap().required_ids().unwrap_err();
            assert_eq!(error.status, 400);
            assert!(error.description.contains(missing), "{error:?}");
        }
    }

    #[test]
    fn ids_are_opaque_but_not_everything() {
        for good in ["x", "a/b", "ümlaut", "50%", "..", " "] {
            assert!(check_id("instance_id", good).is_ok(), "{good:?}");
        }
        for bad in ["", "a\nb", "a\0", &"x".repeat(1025)] {
            assert_eq!(
                check_id("instance_id", bad).unwrap_err().status,
                400,
                "{bad:?}"
            );
        }
    }
}
