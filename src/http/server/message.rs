//! Requests and responses of tiny_http, and ours.

use crate::http::reply::{Body, Reply};

use std::io::Cursor;

/// An answer as tiny_http sends it. Behind the gate it is not used.
pub fn response(reply: Reply) -> tiny_http::Response<Cursor<Body>> {
    let mut headers = Vec::with_capacity(reply.headers.len() + 1);
    let fields = reply
        .headers
        .iter()
        .map(|(name, value)| (*name, value.as_ref()));
    for (name, value) in fields.chain([("Server", "brokerlet")]) {
        // Values that are not ASCII cannot be sent. The dispatcher sets none.
        headers.extend(tiny_http::Header::from_bytes(name, value));
    }
    let length = reply.body.as_ref().len();
    tiny_http::Response::new(
        reply.status.into(),
        headers,
        Cursor::new(reply.body),
        Some(length),
        None,
    )
    .with_chunked_threshold(usize::MAX)
}

/// The head of a request, copied into a buffer that a worker uses again and again: tiny_http lends either the head or the
/// body, not both.
#[derive(Default)]
pub struct Head {
    text: String,
    method: usize,
    target: usize,
    /// Where name and value of each header field end in `text`. Each begins where the one before ends.
    ends: Vec<(usize, usize)>,
}

impl Head {
    pub fn copy(&mut self, request: &tiny_http::Request) {
        self.text.clear();
        self.ends.clear();
        self.text.push_str(request.method().as_str());
        self.method = self.text.len();
        self.text.push_str(request.url());
        self.target = self.text.len();
        for header in request.headers() {
            self.text.push_str(header.field.as_str().as_str());
            let name = self.text.len();
            self.text.push_str(header.value.as_str());
            self.ends.push((name, self.text.len()));
        }
    }

    pub fn method(&self) -> &str {
        &self.text[..self.method]
    }

    pub fn target(&self) -> &str {
        &self.text[self.method..self.target]
    }

    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut start = self.target;
        self.ends.iter().map(move |&(name, value)| {
            let field = (&self.text[start..name], &self.text[name..value]);
            start = value;
            field
        })
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}
