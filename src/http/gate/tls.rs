//! TLS at the gate (feature `tls`).

#[cfg(feature = "tls")]
mod acceptor;
#[cfg(feature = "tls")]
pub use acceptor::{Stream, Tls};

use std::path::PathBuf;

/// The files with certificates and keys, all in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The broker's certificate, and the intermediate ones up to a root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities, one of which must have signed a client's certificate. `None` if clients need no certificate.
    pub client_ca: Option<PathBuf>,
}
