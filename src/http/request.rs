//! A request as the dispatcher sees it.

use super::{identity, version};

use std::io::Read;

/// The header fields that the broker reads. The gate passes on no others, and of these all but `Authorization`, which it
/// has the dispatcher check before.
pub const FORWARDED: [&str; 7] = [
    AUTHORIZATION,
    version::HEADER,
    identity::ORIGINATING,
    identity::REQUEST,
    identity::VCAP_REQUEST,
    "If-None-Match",
    "If-Modified-Since",
];

pub const AUTHORIZATION: &str = "Authorization";

pub struct Request<'a> {
    /// In capitals, as in `GET`.
    pub method: &'a str,
    /// Path and query, as they came.
    pub target: &'a str,
    pub headers: Headers<'a>,
    /// The address of the client, if it is known.
    pub client: Option<&'a str>,
    /// The declared length of the body, if there is one.
    pub content_length: Option<u64>,
    /// Not read before the request is authenticated.
    pub body: &'a mut dyn Read,
}

/// The header fields of a request, in their order.
pub struct Headers<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Headers<'a> {
    pub fn new(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Headers<'a> {
        Headers(fields.into_iter().collect())
    }

    /// The value of the first field of this name, without white space around it.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        debug_assert!(
            FORWARDED.contains(&name),
            "the gate does not pass {name} on"
        );
        self.0
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim_matches([' ', '\t']))
    }
}
