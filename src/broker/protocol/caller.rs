//! Who sends a request.

use crate::adapter::Origin;

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Instant;

/// Who asks, and whether they would poll for the end of an asynchronous operation.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    pub origin: Origin<'a>,
    pub accepts_incomplete: bool,
    /// When the request came: a platform waits a minute for its answer, whatever has to be done before.
    pub since: Instant,
    /// Takes what the plan that the request is about is called, for the log.
    pub names: Option<&'a OnceCell<Arc<Names>>>,
}

/// What a plan and its service offering are called, for the log.
#[derive(Debug)]
pub struct Names {
    pub service: String,
    pub plan: String,
}

impl Default for Caller<'_> {
    /// Nobody that is known, right now.
    fn default() -> Self {
        Caller {
            origin: Origin::default(),
            accepts_incomplete: false,
            since: Instant::now(),
            names: None,
        }
    }
}

impl Caller<'_> {
    /// The broker itself, which waits for nothing.
    pub fn itself() -> Self {
        Caller {
            origin: Origin {
                from: Some("broker"),
                ..Origin::default()
            },
            accepts_incomplete: true,
            ..Caller::default()
        }
    }

    /// Says which plan the request is about. The first one counts.
    pub fn about(&self, names: Option<&Arc<Names>>) {
        if let (Some(cell), Some(names)) = (self.names, names) {
            cell.get_or_init(|| names.clone());
        }
    }
}
