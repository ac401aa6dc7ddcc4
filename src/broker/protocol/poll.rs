//! What the specification says to a poll: (last operation found, operation asked for) -> verdict.

use super::error::Error;
use super::operation::{Operation, State};

/// What a poll is about. spec: Polling Last Operation, Response.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Poll<'r> {
    /// 404: there is no such record, and there was none that was deleted asynchronously.
    Absent,
    /// 410: it was deleted.
    Gone,
    /// 400: an operation that this broker did not answer with, or that another one has followed.
    Unknown,
    /// 200.
    Known(&'r Operation),
}

/// `last` is that of the record, `gone` that of a record which is no more; `asked` is what the platform names, if it does.
pub fn judge_poll<'r>(
    last: Option<&'r Operation>,
    gone: Option<&'r Operation>,
    asked: Option<&str>,
) -> Poll<'r> {
    let is_meant =
        |operation: &Operation| asked.is_none_or(|id| !id.is_empty() && id == operation.id);
    match (last, gone) {
        (Some(last), _) if is_meant(last) => Poll::Known(last),
        // What a delete has cut off: it has failed.
        (Some(last), _) => match last.before().filter(|before| is_meant(before)) {
            Some(before) if last.unmade => Poll::Known(before),
            _ => Poll::Unknown,
        },
        (None, Some(gone)) if !is_meant(gone) => Poll::Absent,
        (None, Some(gone)) if gone.state == State::Succeeded => Poll::Gone,
        (None, Some(gone)) => Poll::Known(gone),
        (None, None) => Poll::Absent,
    }
}

/// 400 for an `operation` that is not the last one of the record.
pub fn unknown(operation: Option<&str>) -> Error {
    Error::bad_request(format!(
        "operation: found {:?}, which is no operation that this broker has answered with, or not the last one.",
        operation.unwrap_or_default()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::protocol::operation::{Kind, Moment, Stamp, Underway};

    fn operation(kind: Kind, state: State, id: &str) -> Operation {
        Operation {
            id: id.to_owned(),
            asynchronous: !id.is_empty(),
            ..Operation::new(kind, state)
        }
    }

    fn judge(last: Option<&Operation>, gone: Option<&Operation>, asked: &str) -> String {
        let asked = Some(asked).filter(|asked| !asked.is_empty());
        match judge_poll(last, gone, asked) {
            Poll::Absent => "404".into(),
            Poll::Gone => "410".into(),
            Poll::Unknown => "400".into(),
            Poll::Known(operation) => {
                format!("{} {}", operation.kind.name(), operation.state.name())
            }
        }
    }

    /// spec: Polling Last Operation, Response: whoever names no operation means the last one.
    #[test]
    fn only_the_last_operation_is_known() {
        for (state, name) in [
            (State::InProgress, "in progress"),
            (State::Succeeded, "succeeded"),
            (State::Failed, "failed"),
        ] {
            let last = operation(Kind::Update, state, "op");
            let known = format!("update {name}");
            assert_eq!(judge(Some(&last), None, ""), known);
            assert_eq!(judge(Some(&last), None, "op"), known);
            assert_eq!(judge(Some(&last), None, "stale"), "400");
            // A synchronous operation has no id that anybody was told.
            let last = operation(Kind::Update, state, "");
            assert_eq!(judge(Some(&last), None, ""), known);
            assert_eq!(judge(Some(&last), None, "op"), "400");
        }
    }

    /// spec: Deprovisioning: the poll for a provision that was cut off learns that it has failed.
    #[test]
    fn what_was_cut_off_has_failed() {
        let cut_off = operation(Kind::Provision, State::InProgress, "first").cut_off();
        let mut last = operation(Kind::Deprovision, State::InProgress, "second");
        last.unmade = true;
        last.underway = Some(Box::new(Underway {
            attempt: 1,
            deadline: Moment(std::time::SystemTime::now()),
            requested: Stamp::now(Default::default()),
            before: Some(cut_off.clone()),
        }));
        assert_eq!(judge(Some(&last), None, "first"), "provision failed");
        assert_eq!(
            judge(Some(&last), None, "second"),
            "deprovision in progress"
        );
        assert_eq!(judge(Some(&last), None, ""), "deprovision in progress");
        assert_eq!(judge(Some(&last), None, "third"), "400");
        // Of what was made in full, only the last operation counts.
        last.unmade = false;
        assert_eq!(judge(Some(&last), None, "first"), "400");
        // Deleted in the meantime, without anybody polling for that.
        assert_eq!(judge(None, Some(&cut_off), ""), "provision failed");
        assert_eq!(judge(None, Some(&cut_off), "first"), "provision failed");
        assert_eq!(judge(None, Some(&cut_off), "other"), "404");
    }

    /// spec: Polling Last Operation, 404 and 410.
    #[test]
    fn what_was_deleted_is_gone_and_what_never_was_is_absent() {
        assert_eq!(judge(None, None, ""), "404");
        assert_eq!(judge(None, None, "op"), "404");
        let gone = operation(Kind::Unbind, State::Succeeded, "op");
        assert_eq!(judge(None, Some(&gone), ""), "410");
        assert_eq!(judge(None, Some(&gone), "op"), "410");
        assert_eq!(judge(None, Some(&gone), "other"), "404");
    }
}
