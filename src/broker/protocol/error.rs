//! The specification's errors: status, error code, description.

use super::quotes;
use crate::adapter::{Failure, FailureKind};
use crate::store;

use serde::Serialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// An answer that is not a success. Its body is the JSON of spec: Service Broker Errors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Error {
    #[serde(skip)]
    pub status: u16,
    /// A single word in camel case; absent where the specification defines none.
    #[serde(rename = "error", skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// What the user of `cf` reads, word for word.
    pub description: Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_usable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_repeatable: Option<bool>,
    /// What the operator reads in the log, and nobody else.
    #[serde(skip)]
    pub detail: Option<String>,
    /// What the log has in the place of the description, where that quotes what a user gave.
    #[serde(skip)]
    pub logged: Option<String>,
    /// `Retry-After`, in seconds.
    #[serde(skip)]
    pub retry_after: Option<u32>,
}

impl Error {
    pub fn new(status: u16, description: impl Into<Cow<'static, str>>) -> Error {
        Error {
            status,
            code: None,
            description: description.into(),
            instance_usable: None,
            update_repeatable: None,
            detail: None,
            logged: None,
            retry_after: None,
        }
    }

    /// Why, in words that may stand in the log.
    pub fn for_log(&self) -> &str {
        self.logged.as_deref().unwrap_or(&self.description)
    }

    /// Keeps values of these parameters out of the log, should the description quote one.
    pub fn unquoted(self, parameters: &[Option<&RawValue>]) -> Error {
        match quotes::without(self.for_log(), parameters) {
            Cow::Owned(logged) => Error {
                logged: Some(logged),
                ..self
            },
            Cow::Borrowed(_) => self,
        }
    }

    fn coded(status: u16, code: &'static str, description: impl Into<Cow<'static, str>>) -> Error {
        Error {
            code: Some(code),
            ..Error::new(status, description)
        }
    }

    /// 400: malformed, incomplete or invalid.
    pub fn bad_request(description: impl Into<Cow<'static, str>>) -> Error {
        Error::new(400, description)
    }

    /// 404: what the request is about does not exist, and the request is not to delete it.
    pub fn not_found(description: impl Into<Cow<'static, str>>) -> Error {
        Error::new(404, description)
    }

    /// 409: it exists, but with other attributes.
    pub fn conflict(description: impl Into<Cow<'static, str>>) -> Error {
        Error::new(409, description)
    }

    /// 410: what is to be deleted does not exist.
    pub fn gone(description: impl Into<Cow<'static, str>>) -> Error {
        Error::new(410, description)
    }

    /// 422 ConcurrencyError: another operation is in progress. spec: Blocking Operations.
    pub fn concurrency(description: impl Into<Cow<'static, str>>) -> Error {
        Error::coded(422, "ConcurrencyError", description)
    }

    /// 422 AsyncRequired. spec: Service Broker Errors, whose very words clients compare.
    pub fn async_required() -> Error {
        Error::coded(
            422,
            "AsyncRequired",
            "This service plan requires client support for asynchronous service operations.",
        )
    }

    /// 422 MaintenanceInfoConflict. spec: Provisioning, Updating.
    pub fn maintenance_conflict(description: impl Into<Cow<'static, str>>) -> Error {
        Error::coded(422, "MaintenanceInfoConflict", description)
    }

    /// 422 RequiresApp. spec: Service Broker Errors, whose very words clients compare.
    pub fn requires_app() -> Error {
        Error::coded(
            422,
            "RequiresApp",
            "This service supports generation of credentials through binding an application only.",
        )
    }

    /// 422: a change that this plan or service offering does not support. spec: Updating, 422.
    pub fn unsupported_update(
        code: &'static str,
        description: impl Into<Cow<'static, str>>,
    ) -> Error {
        Error {
            instance_usable: Some(true),
            update_repeatable: Some(false),
            ..Error::coded(422, code, description)
        }
    }

    /// 422: an operator has said that it must not be deleted. spec: Deprovisioning, Body of errors.
    pub fn protected(description: impl Into<Cow<'static, str>>) -> Error {
        Error {
            instance_usable: Some(true),
            ..Error::coded(422, "InstanceProtected", description)
        }
    }

    /// 422: the plan allows no more instances. spec: Service Broker Errors, whose error code is the broker's own here.
    pub fn limit_reached(description: impl Into<Cow<'static, str>>) -> Error {
        Error::coded(422, "LimitReached", description)
    }

    /// 500, with the cause for the operator alone.
    pub fn internal(description: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Error {
        Error {
            detail: Some(detail.into()),
            ..Error::new(500, description)
        }
    }

    /// 500: JSON that the broker itself wrote, or is to write. `error` tells line, column and kind, never the content.
    pub fn unreadable(what: &str, error: &serde_json::Error) -> Error {
        Error::internal(
            "The service broker failed; the operator finds the cause in the broker's log.",
            format!(
                "{what} is not readable JSON ({:?} at line {}, column {})",
                error.classify(),
                error.line(),
                error.column()
            ),
        )
    }

    /// What an adapter answered, for an operation other than update or deprovision.
    pub fn from_failure(failure: Failure) -> Error {
        let (status, code) = match failure.kind {
            FailureKind::Invalid => (400, None),
            FailureKind::Unsupported => (422, Some("NotSupported")),
            FailureKind::Failed => (500, None),
            FailureKind::Unavailable | FailureKind::Again => (503, None),
        };
        Error {
            code,
            detail: failure.detail,
            ..Error::new(status, failure.description)
        }
    }

    /// What an adapter answered to a deprovision: `instance_usable` may be told.
    pub fn from_deprovision_failure(failure: Failure) -> Error {
        Error {
            instance_usable: failure.instance_usable,
            ..Error::from_failure(failure)
        }
    }

    /// What an adapter answered to an update: `instance_usable` and `update_repeatable` may be told. A change that is not
    /// supported today is not supported tomorrow either. spec: Updating, 422.
    pub fn from_update_failure(failure: Failure) -> Error {
        let unsupported = failure.kind == FailureKind::Unsupported;
        Error {
            instance_usable: failure.instance_usable.or(unsupported.then_some(true)),
            update_repeatable: failure.update_repeatable.or(unsupported.then_some(false)),
            ..Error::from_failure(failure)
        }
    }
}

impl From<store::Error> for Error {
    /// The state cannot be read or written: nothing was acknowledged, the platform may try again.
    fn from(error: store::Error) -> Error {
        let description = match error.unknown {
            false => {
                "The broker cannot read or write its state right now, and nothing was changed. Try again later; the \
                 operator finds the cause in the broker's log."
            }
            true => {
                "The broker could not find out whether this request was written down, and settles that before it answers \
                 the next one about it. Try again later; the operator finds the cause in the broker's log."
            }
        };
        Error {
            retry_after: Some(10),
            detail: Some(error.message),
            ..Error::new(503, description)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// spec: Service Broker Errors.
    #[test]
    fn each_kind_of_failure_has_its_status_and_its_error_code() {
        for (failure, wanted) in [
            (Failure::invalid("no"), (400, None)),
            (Failure::unsupported("no"), (422, Some("NotSupported"))),
            (Failure::failed("no"), (500, None)),
            (Failure::unavailable("no"), (503, None)),
            (Failure::again("no"), (503, None)),
        ] {
            let of = |error: Error| (error.status, error.code);
            assert_eq!(of(Error::from_failure(failure.clone())), wanted);
            assert_eq!(of(Error::from_update_failure(failure.clone())), wanted);
            assert_eq!(of(Error::from_deprovision_failure(failure)), wanted);
        }
    }

    #[test]
    fn the_cause_is_for_the_operator_and_for_nobody_else() {
        let failure = || Failure::failed("for the user").with_detail("the cause");
        for error in [
            Error::internal("for the user", "the cause"),
            Error::from_failure(failure()),
            Error::from_update_failure(failure()),
            Error::from_deprovision_failure(failure()),
        ] {
            assert_eq!(error.detail.as_deref(), Some("the cause"));
            let body = serde_json::to_string(&error).unwrap();
            assert_eq!(body, r#"{"description":"for the user"}"#);
        }
    }

    #[test]
    fn an_unsupported_update_need_not_be_repeated() {
        let flags = |failure| {
            let error = Error::from_update_failure(failure);
            (error.instance_usable, error.update_repeatable)
        };
        assert_eq!(flags(Failure::unsupported("no")), (Some(true), Some(false)));
        assert_eq!(flags(Failure::failed("no")), (None, None));
        let told = Failure {
            instance_usable: Some(false),
            update_repeatable: Some(true),
            ..Failure::unsupported("no")
        };
        assert_eq!(flags(told), (Some(false), Some(true)));
        let other = Error::from_failure(Failure::unsupported("no"));
        assert_eq!(
            (other.instance_usable, other.update_repeatable),
            (None, None)
        );
    }
}
