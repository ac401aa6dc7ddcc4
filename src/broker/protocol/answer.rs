//! Answers that are successes.

use super::error::Error;
use super::operation::Operation;

use serde::Serialize;

/// A success. Every body is a JSON object.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    /// For the log: `created`, `exists`, `updated`, `deleted`, …
    pub outcome: &'static str,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u32>,
}

/// How often a platform should poll, in seconds: a promptly polling user sees progress. Cloud Foundry polls no more often
/// than once a minute, whatever it is told.
const POLL_AGAIN: u32 = 5;

impl Answer {
    pub fn new(status: u16, outcome: &'static str, body: &impl Serialize) -> Result<Answer, Error> {
        let body =
            serde_json::to_vec(body).map_err(|error| Error::unreadable("an answer", &error))?;
        Ok(Answer {
            status,
            body,
            outcome,
            retry_after: None,
        })
    }

    /// 202 with the operation's id, and what is known of the record already. spec: Provisioning, 202, and its like.
    pub fn accepted(operation: &Operation, known: &impl Serialize) -> Result<Answer, Error> {
        #[derive(Serialize)]
        struct Accepted<'a, K: Serialize> {
            operation: &'a str,
            #[serde(flatten)]
            known: &'a K,
        }
        let operation = &operation.id;
        Answer::new(202, "accepted", &Accepted { operation, known })
    }

    /// The answer to a poll. spec: Polling Last Operation, Body. `progress` is what is being done right now.
    pub fn polled(operation: &Operation, progress: Option<&str>) -> Result<Answer, Error> {
        let answer = Answer::new(200, "polled", &operation.answer(progress))?;
        Ok(Answer {
            retry_after: operation.in_progress().then_some(POLL_AGAIN),
            ..answer
        })
    }

    /// 200 `{}`.
    pub fn empty(outcome: &'static str) -> Answer {
        Answer {
            status: 200,
            body: b"{}".to_vec(),
            outcome,
            retry_after: None,
        }
    }
}
