//! HTTP: the only rooms that know tiny_http are [`server`] and, before it, the front door.
//!
//! [`dispatch`] takes a plain [`Request`] and returns a plain [`reply::Reply`], so that it can be called without a socket.

pub mod auth;
pub mod dispatch;
pub mod gate;
pub mod identity;
pub mod reply;
mod reply_slot;
pub mod server;
pub mod target;
pub mod version;

use std::io::Read;

/// The header fields that are read behind the gate; it passes on no others.
pub const FORWARDED: [&str; 7] = [
    "Authorization",
    version::HEADER,
    identity::ORIGINATING,
    identity::REQUEST,
    identity::VCAP_REQUEST,
    "If-None-Match",
    "If-Modified-Since",
];

/// A request as the dispatcher sees it.
pub struct Request<'a> {
    /// In capitals, as in `GET`.
    pub method: &'a str,
    /// Path and query, as they came.
    pub target: &'a str,
    pub headers: Headers<'a>,
    /// The declared length of the body, where there is one.
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
            name == server::GATE || FORWARDED.contains(&name),
            "the gate does not pass {name} on"
        );
        self.0
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim_matches([' ', '\t']))
    }
}
