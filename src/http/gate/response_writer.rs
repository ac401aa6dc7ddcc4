//! Answers as the bytes that are sent. spec: RFC 9112, 4.

use crate::broker::error::Error;
use crate::http::reply::Reply;

use std::io::Write;
use std::time::SystemTime;

/// What the form of an answer depends on, besides the answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Format {
    /// The client speaks HTTP/1.0.
    pub http10: bool,
    /// To a HEAD: the length of the body is sent, but not the body.
    pub no_body: bool,
}

/// What the client is told of the connection. RFC 9112, 9.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// Nothing. It stays open, as the client assumes.
    Assumed,
    /// It stays open, which a client of HTTP/1.0 does not assume.
    Kept,
    /// It is closed after this answer.
    Closed,
}

impl Persistence {
    pub fn of(stays: bool, format: Format) -> Persistence {
        match (stays, format.http10) {
            (true, false) => Persistence::Assumed,
            (true, true) => Persistence::Kept,
            (false, _) => Persistence::Closed,
        }
    }
}

/// Bodies up to this size are copied behind the head, so that both go out in one packet.
const COPIED: usize = 8 * 1024;
/// Space for most heads.
const HEAD: usize = 512;

/// Renders an answer into `out`. Returns the body if it has to be sent behind that.
pub fn render<'r>(
    reply: &'r Reply,
    connection: Persistence,
    format: Format,
    out: &mut Vec<u8>,
) -> &'r [u8] {
    let body = reply.sent_body(format.no_body);
    let copied = if body.len() > COPIED { &[] } else { body };
    out.clear();
    out.reserve(HEAD + copied.len());
    head(reply, connection, out);
    out.extend_from_slice(copied);
    &body[copied.len()..]
}

/// Appends the head of an answer, its empty line included.
fn head(reply: &Reply, connection: Persistence, out: &mut Vec<u8>) {
    let date = httpdate::HttpDate::from(SystemTime::now());
    let status = reply.status;
    // Writing to a vector does not fail.
    let _ = write!(
        out,
        "HTTP/1.1 {status} {}\r\nServer: brokerlet\r\nDate: {date}\r\n",
        reason(status)
    );
    for (name, value) in &reply.headers {
        // A value may come from the request. This is the last place that can stop a line end in it.
        if value
            .bytes()
            .all(|byte| matches!(byte, b' '..=b'~' | b'\t'))
        {
            let _ = write!(out, "{name}: {value}\r\n");
        }
    }
    if status != 204 {
        let _ = write!(out, "Content-Length: {}\r\n", reply.body.as_ref().len());
    }
    out.extend_from_slice(match connection {
        Persistence::Assumed => b"\r\n",
        Persistence::Kept => b"Connection: keep-alive\r\n\r\n",
        Persistence::Closed => b"Connection: close\r\n\r\n",
    });
}

/// The answer to a request that does not get to the dispatcher.
pub fn refusal(error: Error) -> Reply {
    Reply::from(error).with_header("Content-Type", "application/json")
}

/// Head and body of an answer after which the connection is closed.
pub fn whole(reply: &Reply) -> Vec<u8> {
    let mut bytes = Vec::new();
    head(reply, Persistence::Closed, &mut bytes);
    bytes.extend_from_slice(reply.body.as_ref());
    bytes
}

/// RFC 9110, 15.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(reply: &Reply, connection: Persistence) -> String {
        let mut bytes = Vec::new();
        head(reply, connection, &mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_answer_is_complete_and_ends_the_connection() {
        let error = Error {
            retry_after: Some(1),
            ..Error::new(503, "Busy.")
        };
        let text = String::from_utf8(whole(&refusal(error))).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, r#"{"description":"Busy."}"#);
        assert!(
            head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
            "{head}"
        );
        for field in [
            "Retry-After: 1",
            "Connection: close",
            "Content-Length: 23",
            "Content-Type: application/json",
        ] {
            assert!(head.lines().any(|line| line == field), "{head}");
        }
    }

    #[test]
    fn the_connection_field_says_what_the_client_does_not_assume() {
        let reply = Reply::from(Error::gone("x"));
        assert!(!text(&reply, Persistence::Assumed).contains("Connection"));
        assert!(text(&reply, Persistence::Kept).contains("\r\nConnection: keep-alive\r\n"));
        assert!(text(&reply, Persistence::Closed).contains("\r\nConnection: close\r\n"));
    }

    #[test]
    fn a_line_end_in_a_value_makes_no_second_field() {
        let reply = Reply::from(Error::gone("x"))
            .with_header("X-One", "a\r\nX-Two: b")
            .with_header("X-Three", "a\0")
            .with_header("X-Four", "a b");
        let text = text(&reply, Persistence::Assumed);
        assert!(!text.contains("X-One") && !text.contains("X-Two") && !text.contains("X-Three"));
        assert!(text.contains("\r\nX-Four: a b\r\n"), "{text}");
    }
}
