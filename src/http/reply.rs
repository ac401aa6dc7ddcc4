//! An answer as a plain value.

use crate::broker::Answer;
use crate::broker::error::Error;

use std::borrow::Cow;
use std::sync::Arc;

/// An answer to a request.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    pub body: Body,
    /// For the log: the result in one word.
    pub outcome: Cow<'static, str>,
    /// For the log: why the request did not succeed.
    pub reason: Option<Cow<'static, str>>,
    /// For the log: what the operator should know, and the user should not.
    pub detail: Option<String>,
}

/// The body of an answer: JSON. With 304, and to HEAD, it is not sent, but its length is.
#[derive(Debug, Clone)]
pub enum Body {
    Owned(Vec<u8>),
    /// Rendered once, and sent many times.
    Shared(Arc<[u8]>),
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        match self {
            Body::Owned(bytes) => bytes,
            Body::Shared(bytes) => bytes,
        }
    }
}

impl Reply {
    pub fn new(status: u16, body: Body, outcome: &'static str) -> Reply {
        Reply {
            status,
            headers: Vec::with_capacity(4),
            body,
            outcome: Cow::Borrowed(outcome),
            reason: None,
            detail: None,
        }
    }

    pub fn with_header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Reply {
        self.headers.push((name, value.into()));
        self
    }

    /// The body as it is sent. To a HEAD there is none.
    pub fn sent_body(&self, is_head: bool) -> &[u8] {
        match self.status {
            204 | 304 => &[],
            _ if is_head => &[],
            _ => self.body.as_ref(),
        }
    }

    /// The value of a header field of the answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_ref())
    }
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Reply {
        let reply = Reply::new(answer.status, Body::Owned(answer.body), answer.outcome);
        match answer.retry_after {
            Some(seconds) => reply.with_header("Retry-After", seconds.to_string()),
            None => reply,
        }
    }
}

impl From<Error> for Reply {
    fn from(mut error: Error) -> Reply {
        let outcome = error.code.unwrap_or(match error.status {
            400 => "bad_request",
            401 => "unauthorized",
            404 => "not_found",
            405 => "method_not_allowed",
            409 => "conflict",
            410 => "gone",
            412 => "version_refused",
            413 => "too_large",
            503 => "unavailable",
            _ => "failed",
        });
        // A struct of strings and booleans: rendering it cannot fail.
        let body = serde_json::to_vec(&error).unwrap_or_else(|_| b"{}".to_vec());
        let mut reply = Reply::new(error.status, Body::Owned(body), outcome);
        if let Some(seconds) = error.retry_after {
            reply = reply.with_header("Retry-After", seconds.to_string());
        }
        reply.reason = Some(error.logged.take().map_or(error.description, Cow::Owned));
        reply.detail = error.detail;
        reply
    }
}
