//! What is said between the broker and whatever fulfils a plan outside of it, be it a program or a web service: one
//! document goes there, lines of JSON come back.
//!
//! docs/exec.md has both. How they get there is the business of `exec` and `http`.

pub mod document;
pub mod line;
pub mod mask;
pub mod messages;
pub mod output;
pub mod pace;
pub mod verdict;

use super::{Adapter, BindingCall, Bound, Failure, InstanceCall, Kind, Provisioned, UpdateCall};
use document::Call;
use line::Done;
use pace::Pace;
use verdict::Teller;

use std::time::Duration;

/// Sees what fulfils the plan of an adapter do its work: for whoever develops one.
pub(crate) trait Witness: Send + Sync {
    /// A call begins. Returns how soon it is to be cut off, as if a machine went down.
    fn starts(&self) -> Option<Duration>;
    /// A line on standard error, masked.
    fn says(&self, line: &str);
    /// The whole output, without the secrets of the settings; and whether the call was cut off as wanted.
    fn ended(&self, output: &str, is_cut_off: bool);
}

/// An adapter that has its work done by somebody who speaks this protocol.
pub trait Speaker: Send + Sync {
    fn pace(&self) -> &Pace;
    fn teller(&self) -> Teller<'_>;
    /// Whether it can be asked for what another broker has made.
    fn adopts(&self) -> bool {
        false
    }
    /// Brings the document there, and the result back.
    fn call(&self, call: &Call<'_>) -> Result<Done, Failure>;
}

impl<S: Speaker> Adapter for S {
    fn is_async(&self, kind: Kind) -> bool {
        self.pace().is_async(kind)
    }

    fn timeout(&self, kind: Kind) -> Duration {
        self.pace().timeout(kind)
    }

    fn concurrency(&self) -> Option<usize> {
        Some(self.pace().concurrency)
    }

    fn provision(&self, call: &InstanceCall<'_>) -> Result<Provisioned, Failure> {
        let done = self.call(&Call::Instance(Kind::Provision, call))?;
        done.into_provisioned()
            .map_err(|fault| self.teller().unfit(&fault))
    }

    fn update(&self, call: &UpdateCall<'_>) -> Result<Provisioned, Failure> {
        let done = self.call(&Call::Update(call))?;
        done.into_provisioned()
            .map_err(|fault| self.teller().unfit(&fault))
    }

    fn deprovision(&self, call: &InstanceCall<'_>) -> Result<(), Failure> {
        self.call(&Call::Instance(Kind::Deprovision, call))?;
        Ok(())
    }

    fn bind(&self, call: &BindingCall<'_>) -> Result<Bound, Failure> {
        let done = self.call(&Call::Binding(Kind::Bind, call))?;
        done.into_bound()
            .map_err(|fault| self.teller().unfit(&fault))
    }

    fn unbind(&self, call: &BindingCall<'_>) -> Result<(), Failure> {
        self.call(&Call::Binding(Kind::Unbind, call))?;
        Ok(())
    }

    fn verify(&self, call: &InstanceCall<'_>) -> Result<Provisioned, Failure> {
        if !self.adopts() {
            return Err(self.teller().never_asked());
        }
        let done = self.call(&Call::Verify(call))?;
        done.into_provisioned()
            .map_err(|fault| self.teller().unfit(&fault))
    }

    fn verify_binding(&self, call: &BindingCall<'_>) -> Result<Bound, Failure> {
        if !self.adopts() {
            return Err(self.teller().never_asked());
        }
        let done = self.call(&Call::VerifyBinding(call))?;
        done.into_bound()
            .map_err(|fault| self.teller().unfit(&fault))
    }
}
