//! Plans that a web service fulfils: it gets the document that a program gets, and answers in the same lines.
//!
//! docs/http.md has the service's side of it. [`talk`] is one call, from the document to the result.

mod address;
mod answer;
mod client;
mod setup;
mod sign;
mod talk;
mod tls;
mod verdict;
mod wire;

use super::protocol::document::Call;
use super::protocol::line::Done;
use super::protocol::output::SERVICE;
use super::protocol::pace::Pace;
use super::protocol::verdict::Teller;
use super::protocol::{Speaker, Witness};
use super::{Failure, Settings};
use setup::Setup;
use talk::Talk;

use std::sync::Arc;

/// The adapter `http`: one web service for a plan, called once for each operation.
pub struct Http {
    setup: Setup,
    plan: String,
    adopts: bool,
    witness: Option<Arc<dyn Witness>>,
}

impl Http {
    /// Reads `url`, `plaintext`, `headers`, `sign_with`, `ca`, `certificate`, `key`, `connect_timeout`, `first_byte_timeout`,
    /// `async`, `timeout`, `concurrency` and `adopt`. What is wrong is reported to the settings.
    pub fn from_settings(settings: &Settings<'_>) -> Option<Http> {
        let adopts = settings.boolean("adopt").unwrap_or(false);
        Some(Http {
            setup: Setup::read(settings)?,
            plan: settings.plan().name.clone(),
            adopts,
            witness: None,
        })
    }

    /// The same, watched.
    pub(crate) fn watched_by(mut self, witness: Arc<dyn Witness>) -> Http {
        self.witness = Some(witness);
        self
    }
}

impl Speaker for Http {
    fn pace(&self) -> &Pace {
        &self.setup.pace
    }

    fn teller(&self) -> Teller<'_> {
        Teller {
            voice: &SERVICE,
            plan: &self.plan,
        }
    }

    fn adopts(&self) -> bool {
        self.adopts
    }

    fn call(&self, call: &Call<'_>) -> Result<Done, Failure> {
        let body = call.document().map_err(|_| self.teller().damaged())?;
        let dies_after = self.witness.as_ref().and_then(|witness| witness.starts());
        let mut talk = Talk::new(&self.setup, self.teller(), call, body);
        match &self.witness {
            None => talk.hold(),
            Some(witness) => {
                let result = talk.hold_watched(dies_after);
                witness.ended(&talk.heard(), talk.is_cut_off());
                result
            }
        }
    }
}
