//! The head of a request, checked strictly: what two programs could read in two ways is refused.
//!
//! spec: RFC 9110 and RFC 9112. `httparse` splits the head into its parts. It is lenient in places, so we check line
//! ends, NUL and everything about the length of the body ourselves.

use super::limits::{Limits, MAX_FIELDS};
use crate::broker::error::Error;
use crate::http::request::FORWARDED;

/// A complete and well-formed head.
#[derive(Debug)]
pub struct Head<'b> {
    /// A token, as in `GET`.
    pub method: &'b str,
    /// Path and query: visible ASCII that begins with a slash. Of a target in absolute form, what follows the host.
    pub target: &'b str,
    /// What the client takes us for; empty if it does not say.
    pub host: &'b str,
    /// Only the fields in [`FORWARDED`], with the names as they are written there.
    pub fields: Vec<(&'static str, &'b str)>,
    pub body: Framing,
    /// Whether another request may follow on the connection.
    pub keep_alive: bool,
    /// The client speaks HTTP/1.0: it has to be told that the connection stays open, and knows no `100 Continue`.
    pub http10: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// `X-Forwarded-For` and `X-Forwarded-Proto`. Not to be trusted without a look at who sent them.
    pub forwarded_for: Vec<&'b str>,
    pub forwarded_proto: Option<&'b str>,
}

/// How long the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// The declared number of bytes.
    Length(u64),
    Chunked,
}

impl<'b> Head<'b> {
    /// The value of the first field with this name, which must be one of [`FORWARDED`].
    pub fn field(&self, name: &str) -> Option<&'b str> {
        self.fields
            .iter()
            .find(|(field, _)| *field == name)
            .map(|(_, value)| *value)
    }

    /// The target without its query.
    pub fn path(&self) -> &'b str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// Finds the end of the head, if it is in `bytes`. `from` is how far earlier calls have looked. Refuses line ends other than CR LF, NUL, and what cannot be the first byte of a request.
pub fn find_end(bytes: &[u8], from: &mut usize) -> Result<Option<usize>, Error> {
    if bytes.first().is_some_and(|first| !is_token(*first)) {
        return Err(refused(if is_handshake(bytes) {
            "This is a TLS handshake: the client speaks https, and this port http."
        } else {
            "This is no HTTP request: it does not begin with a method."
        }));
    }
    // Whether a line feed is allowed depends on the byte before it.
    let mut at = from.saturating_sub(1);
    while at < bytes.len() {
        match bytes[at] {
            0 => return Err(refused("The head of the request has a NUL byte.")),
            b'\n' if at == 0 || bytes[at - 1] != b'\r' => {
                return Err(refused(
                    "The head of the request has a line that ends in LF alone, wanted CR LF.",
                ));
            }
            b'\r' if at + 1 < bytes.len() && bytes[at + 1] != b'\n' => {
                return Err(refused(
                    "The head of the request has a CR that no LF follows.",
                ));
            }
            b'\n' if bytes[..at].ends_with(b"\r\n\r") => {
                *from = at + 1;
                return Ok(Some(at + 1));
            }
            _ => {}
        }
        at += 1;
    }
    *from = bytes.len();
    Ok(None)
}

/// Parses a head whose end was found by [`find_end`].
pub fn parse<'b>(bytes: &'b [u8], limits: &Limits) -> Result<Head<'b>, Error> {
    let mut space = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let allowed = limits.fields.min(MAX_FIELDS);
    let mut request = httparse::Request::new(&mut space[..allowed]);
    let complete = request
        .parse(bytes)
        .map_err(|error| malformed(error, allowed))?;
    // Two readers that find different ends read the head in two ways.
    if complete != httparse::Status::Complete(bytes.len()) {
        return Err(refused("The head of the request is malformed."));
    }
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err(refused("The head of the request is malformed."));
    };
    let target = origin_form(target)?;
    let http10 = version == 0;
    let mut head = Head {
        method,
        target,
        fields: Vec::with_capacity(FORWARDED.len()),
        body: Framing::None,
        keep_alive: !http10,
        http10,
        expects_continue: false,
        host: "",
        forwarded_for: Vec::new(),
        forwarded_proto: None,
    };
    let mut hosts = 0;
    for field in request.headers.iter() {
        if let Some(known) = FORWARDED
            .iter()
            .find(|known| known.eq_ignore_ascii_case(field.name))
        {
            let value = text(known, field.value)?;
            match head.field(known) {
                None => head.fields.push((known, value)),
                Some(first) if first == value || is(known, "If-None-Match") => {}
                // A program that reads the other one sees another user, or another version.
                Some(_) => {
                    return Err(refused(format!(
                        "{known}: found two values that differ, wanted one."
                    )));
                }
            }
        } else if is(field.name, "Host") {
            hosts += 1;
            head.host = text("Host", field.value)?;
            if !is_host(head.host) {
                return Err(refused(NO_HOST));
            }
        } else {
            head.connection_field(field.name, field.value)?;
        }
    }
    if hosts > 1 || (hosts == 0 && !http10) {
        return Err(refused(format!(
            "Host: found {hosts} of these header fields, wanted one."
        )));
    }
    if head.body == Framing::Chunked && http10 {
        return Err(refused(
            "Transfer-Encoding: HTTP/1.0 has no such header field.",
        ));
    }
    Ok(head)
}

impl<'b> Head<'b> {
    /// Reads a field about the connection or the length of the body.
    fn connection_field(&mut self, name: &str, value: &'b [u8]) -> Result<(), Error> {
        if is(name, "Content-Length") {
            let length = content_length(value)?;
            self.body = match self.body {
                Framing::None => Framing::Length(length),
                Framing::Length(other) if other == length => Framing::Length(length),
                Framing::Length(_) => {
                    return Err(refused(
                        "Content-Length: found two values that differ, wanted one.",
                    ));
                }
                Framing::Chunked => return Err(both_framings()),
            };
        } else if is(name, "Transfer-Encoding") {
            if self.body == Framing::Chunked || !is(text("Transfer-Encoding", value)?, "chunked") {
                return Err(refused(
                    "Transfer-Encoding: wanted \"chunked\", once, and nothing else.",
                ));
            }
            if self.body != Framing::None {
                return Err(both_framings());
            }
            self.body = Framing::Chunked;
        } else if is(name, "Connection") {
            for option in text("Connection", value)?.split(',').map(str::trim) {
                if is(option, "close") {
                    self.keep_alive = false;
                } else if is(option, "keep-alive") && self.http10 {
                    self.keep_alive = true;
                }
            }
        } else if is(name, "Expect") {
            if !is(text("Expect", value)?, "100-continue") {
                return Err(Error::new(
                    417,
                    "Expect: wanted \"100-continue\" or nothing.",
                ));
            }
            self.expects_continue = !self.http10;
        } else if is(name, "X-Forwarded-For") {
            self.forwarded_for.extend(std::str::from_utf8(value).ok());
        } else if is(name, "X-Forwarded-Proto") {
            self.forwarded_proto = std::str::from_utf8(value).ok();
        }
        Ok(())
    }
}

fn is(text: &str, wanted: &str) -> bool {
    text.eq_ignore_ascii_case(wanted)
}

/// RFC 9110, 5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Path and query of a target. There may be a scheme and a host before them. RFC 9112, 3.2.1 and 3.2.2.
fn origin_form(target: &str) -> Result<&str, Error> {
    if target
        .bytes()
        .any(|byte| !byte.is_ascii_graphic() || byte == b'#')
    {
        return Err(refused(
            "The target of the request has a character that must be percent-encoded in a path.",
        ));
    }
    if target.starts_with('/') {
        return Ok(target);
    }
    let Some((scheme, rest)) = target.split_once("://") else {
        return Err(refused(
            "The target of the request is not a path: it does not begin with a slash.",
        ));
    };
    if !is(scheme, "http") && !is(scheme, "https") {
        return Err(refused(
            "The target of the request has a scheme that is neither http nor https.",
        ));
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    if host.is_empty() || !is_host(host) {
        return Err(refused(NO_HOST));
    }
    // A target without a path. There is nothing at the root, so the query does not matter.
    Ok(if path.starts_with('/') { path } else { "/" })
}

const NO_HOST: &str =
    "Host: found a character that no host has, wanted a name or address, and a port or none.";

/// Whether this is a host, which may be empty, with or without a port. RFC 9110, 7.2; RFC 3986, 3.2.2.
fn is_host(value: &str) -> bool {
    let (host, port) = match value.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("", port),
            _ => return false,
        },
        None => value.split_at(value.find(':').unwrap_or(value.len())),
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte);
    let is_port = port
        .strip_prefix(':')
        .is_none_or(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    host.bytes().all(is_name) && is_port && (port.is_empty() || port.starts_with(':'))
}

/// Whether this is the beginning of a ClientHello of TLS 1 or SSL 3. RFC 8446, 5.1.
fn is_handshake(bytes: &[u8]) -> bool {
    bytes[0] == 0x16 && bytes.get(1).is_none_or(|major| *major == 3)
}

fn content_length(value: &[u8]) -> Result<u64, Error> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(refused(
            "Content-Length: wanted a number of bytes in decimal digits.",
        ));
    }
    // A number that does not fit is larger than every limit.
    Ok(value.iter().fold(0u64, |length, digit| {
        length
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    }))
}

/// The value of a field that the broker reads: visible ASCII, spaces and tabs.
fn text<'b>(name: &str, value: &'b [u8]) -> Result<&'b str, Error> {
    let plain = |byte: &u8| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t');
    match std::str::from_utf8(value) {
        Ok(text) if value.iter().all(plain) => Ok(text.trim_matches([' ', '\t'])),
        _ => Err(refused(format!(
            "{name}: the header field has a character that is not visible ASCII."
        ))),
    }
}

fn both_framings() -> Error {
    refused("Content-Length and Transfer-Encoding: found both, wanted one of them.")
}

fn malformed(error: httparse::Error, fields: usize) -> Error {
    match error {
        httparse::Error::TooManyHeaders => Error::new(
            431,
            format!("The request has more than {fields} header fields."),
        ),
        httparse::Error::HeaderName => {
            refused("A header field of the request has a malformed name.")
        }
        httparse::Error::HeaderValue => {
            refused("A header field of the request has a malformed value.")
        }
        httparse::Error::Version => {
            refused("The version of the request's protocol is not HTTP/1.1 or HTTP/1.0.")
        }
        _ => refused("The request line is malformed, wanted METHOD PATH HTTP/1.1."),
    }
}

fn refused(description: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::bad_request(description)
}

#[cfg(test)]
mod tests;
