//! What a web service answers: the lines of the protocol, or where to ask for them later.

use crate::adapter::protocol::line::{Answer, Fault, LONGEST_TEXT};
use crate::adapter::protocol::messages::one_line;
use crate::adapter::protocol::output::{MAX_OUTPUT, Output, SERVICE};

use serde::Deserialize;
use std::io::Read;
use std::time::{Duration, SystemTime};
use ureq::Error;
use ureq::http::header::{CONTENT_LENGTH, RETRY_AFTER, TRANSFER_ENCODING};
use ureq::http::response::Parts;

/// "Accepted": the result comes later.
const ACCEPTED: u16 = 202;
const CHUNK: usize = 16 * 1024;

pub struct Reply {
    pub status: u16,
    pub retry_after: Option<Duration>,
    pub answer: Option<Answer>,
    /// What is wrong with what was said.
    pub fault: Option<Fault>,
    /// With 202: where the result will be.
    pub poll: Option<String>,
    /// Whether nothing says where the answer ends, so that one which broke off looks like a whole one.
    pub is_endless: bool,
}

/// What comes with 202; the rest is ignored.
#[derive(Deserialize, Default)]
struct Accepted {
    poll: Option<String>,
    progress: Option<String>,
}

/// Reads an answer as it comes. `copy`: of the whole, for a witness.
pub fn hear(
    head: &Parts,
    body: &mut dyn Read,
    progress: &dyn Fn(&str),
    copy: &mut Option<Vec<u8>>,
) -> Result<Reply, Error> {
    let status = head.status.as_u16();
    let mut reply = Reply {
        status,
        retry_after: head
            .headers
            .get(RETRY_AFTER)
            .and_then(|value| wait(value.to_str().ok()?)),
        answer: None,
        fault: None,
        poll: None,
        is_endless: ![CONTENT_LENGTH, TRANSFER_ENCODING]
            .iter()
            .any(|name| head.headers.contains_key(name)),
    };
    let mut output = Output::new(&SERVICE);
    let (mut accepted, mut size) = (Vec::new(), 0);
    let mut chunk = vec![0; CHUNK];
    loop {
        let amount = body.read(&mut chunk)?;
        let bytes = &chunk[..amount];
        if amount == 0 {
            break;
        }
        if let Some(copy) = copy {
            copy.extend_from_slice(bytes);
        }
        size += amount;
        let is_too_much = match status {
            ACCEPTED => {
                accepted.extend_from_slice(bytes);
                size > MAX_OUTPUT
            }
            _ => output.feed(bytes, progress).is_break(),
        };
        if is_too_much {
            reply.fault = Some(SERVICE.too_much().into());
            reply.is_endless = false;
            return Ok(reply);
        }
    }
    if status != ACCEPTED {
        let (answer, fault) = output.close(progress);
        reply.answer = answer;
        reply.fault = fault.err();
        return Ok(reply);
    }
    let said = match accepted.trim_ascii() {
        [] => Ok(Accepted::default()),
        text => serde_json::from_slice::<Accepted>(text),
    };
    match said {
        Ok(said) => {
            if let Some(text) = said.progress {
                progress(&one_line(&text, LONGEST_TEXT));
            }
            reply.poll = said.poll;
        }
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            let text = format!(
                "line {line} of its answer is no object with \"poll\", seen at column {column}"
            );
            reply.fault = Some(text.into());
        }
    }
    Ok(reply)
}

/// Seconds, or a date.
fn wait(value: &str) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_in_seconds_or_until_a_date() {
        assert_eq!(wait(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(wait("Thu, 01 Jan 1970 00:00:00 GMT"), Some(Duration::ZERO));
        let later = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        assert!(wait(&later).is_some_and(|wait| wait > Duration::from_secs(50)));
        for text in ["", "-1", "soon", "1.5"] {
            assert_eq!(wait(text), None, "{text}");
        }
    }
}
