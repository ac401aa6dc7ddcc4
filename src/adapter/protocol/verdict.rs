//! What users and operators are told of those who fulfil plans.

use super::line::Refused;
use super::mask::Mask;
use super::messages::one_line;
use super::output::Voice;
use crate::adapter::{Failure, Kind};

/// Longest piece of a detail that is not the broker's own, in bytes.
pub const LONGEST_PIECE: usize = 512;

/// Makes sentences. They name the plan, and nothing of the broker's machine.
#[derive(Clone, Copy)]
pub struct Teller<'a> {
    pub voice: &'static Voice,
    pub plan: &'a str,
}

impl Teller<'_> {
    /// A sentence for the user.
    pub fn sentence(&self, what: &str) -> String {
        format!(
            "The {} that fulfils plan {:?} {what}. The operator finds more in the log of the service broker.",
            self.voice.speaker, self.plan
        )
    }

    pub fn failed(&self, what: &str) -> Failure {
        Failure::failed(self.sentence(what))
    }

    pub fn damaged(&self) -> Failure {
        self.failed("cannot be told what to do, since the broker's record is damaged")
    }

    /// Who does not know the operation would do something else.
    pub fn never_asked(&self) -> Failure {
        Failure::unsupported(format!(
            "the settings of plan {:?} have no \"adopt\": true, which says that its {} knows the operation verify",
            self.plan, self.voice.speaker
        ))
    }

    /// A file of the settings cannot be read: most probably it is being replaced.
    pub fn no_secret(&self, what: &str, error: String) -> Failure {
        Failure::again(self.sentence(what)).with_detail(error)
    }

    /// An answer that cannot be used.
    pub fn unfit(&self, fault: &str) -> Failure {
        self.failed(&format!("did not answer as it should: {fault}"))
            .with_detail(fault)
    }

    /// What it says itself of its failure. `is_again`: it wants to be called once more. `mask`: what is secret in the settings.
    pub fn refused(&self, kind: Kind, refused: Refused, is_again: bool, mask: &Mask) -> Failure {
        let description = mask.apply(&refused.description).into_owned();
        // A request to remove something cannot be wrong.
        let is_request = matches!(kind, Kind::Provision | Kind::Update | Kind::Bind);
        let mut failure = match refused.error.as_str() {
            _ if is_again => Failure::again(description),
            "invalid" if is_request => Failure::invalid(description),
            "unsupported" if is_request => Failure::unsupported(description),
            _ => Failure::failed(description),
        };
        failure.instance_usable = refused.instance_usable;
        failure.update_repeatable = refused.update_repeatable;
        failure
    }
}

/// The word of a refusal, for the operator. Not masked yet.
pub fn word(refused: &Refused) -> String {
    format!("error {:?}", one_line(&refused.error, LONGEST_PIECE))
}
