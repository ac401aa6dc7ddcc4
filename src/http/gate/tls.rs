//! TLS at the gate (feature `tls`).

#[cfg(feature = "tls")]
mod acceptor;
#[cfg(feature = "tls")]
pub use acceptor::{Stream, Tls};

use std::path::PathBuf;

/// Where certificates and keys are, all of them in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The broker's certificate, and those that lead from it to a root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities one of which must have signed a client's certificate; none where clients need no certificate.
    pub client_ca: Option<PathBuf>,
}
