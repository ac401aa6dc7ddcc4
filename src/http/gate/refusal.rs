//! What the gate answers itself, and what the log says of it.

use crate::broker::error::Error;
use crate::http::reply::Reply;
use crate::log;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Lines about refused requests in the log each second; the next one counts those left out.
const LINES: u32 = 10;

/// A whole answer, after which the connection is closed.
pub fn answer(error: Error) -> Vec<u8> {
    let reply = Reply::from(error);
    let body = reply.body.as_ref();
    let mut head = format!(
        "HTTP/1.1 {} {}\r\nServer: brokerlet\r\nDate: {}\r\nContent-Type: application/json\r\n",
        reply.status,
        reason(reply.status),
        httpdate::fmt_http_date(SystemTime::now()),
    );
    for (name, value) in &reply.headers {
        _ = write!(head, "{name}: {value}\r\n");
    }
    _ = write!(
        head,
        "Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        408 => "Request Timeout",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Error",
    }
}

/// Logs refused requests, but no flood of them.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Refusals {
    /// One line about a client that was refused, if there have not been too many.
    pub fn log(&self, client: IpAddr, status: Option<u16>, reason: &str) {
        let Some(left_out) = self.admit(Instant::now()) else {
            return;
        };
        log::warn("request_refused")
            .with("client", &client.to_string())
            .with("status", status.map(u64::from))
            .with("reason", reason)
            .with("left_out", (left_out > 0).then_some(left_out))
            .send();
    }

    /// One line about something that there is too little of.
    pub fn shortage(&self, text: &str) {
        let Some(left_out) = self.admit(Instant::now()) else {
            return;
        };
        log::error("shortage")
            .with("error", text)
            .with("left_out", (left_out > 0).then_some(left_out))
            .send();
    }

    /// How many lines were left out since the last one, if there may be another.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let over = window
            .began
            .is_none_or(|began| now.duration_since(began) >= Duration::from_secs(1));
        if over {
            window.began = Some(now);
            window.lines = 0;
        }
        if window.lines == LINES {
            window.left_out += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_and_ends_the_connection() {
        let error = Error {
            retry_after: Some(1),
            ..Error::new(503, "Busy.")
        };
        let text = String::from_utf8(answer(error)).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, r#"{"description":"Busy."}"#);
        assert!(
            head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
            "{head}"
        );
        for field in ["Retry-After: 1", "Connection: close", "Content-Length: 23"] {
            assert!(head.lines().any(|line| line == field), "{head}");
        }
    }

    #[test]
    fn a_flood_gives_few_lines_and_a_count() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let admitted = |at| {
            (0..1000)
                .filter_map(|_| refusals.admit(at))
                .collect::<Vec<_>>()
        };
        assert_eq!(admitted(now), [0; LINES as usize]);
        let next = admitted(now + Duration::from_secs(1));
        assert_eq!(next.len(), LINES as usize);
        assert_eq!(next[0], 1000 - u64::from(LINES));
    }
}
