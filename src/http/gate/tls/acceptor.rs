//! Reading certificates, and the handshake.

use super::Files;
use crate::current::Current;
use crate::http::gate::socket::Socket;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, Error, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

/// A connection through TLS.
pub type Stream<'s> = StreamOwned<ServerConnection, Socket<'s>>;

/// The certificates in use. A reload replaces them.
pub struct Tls {
    files: Files,
    config: Current<ServerConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tls({:?})", self.files)
    }
}

impl Tls {
    /// Reads the files. The error says which of them is wrong, and why.
    pub fn load(files: Files) -> Result<Tls, String> {
        let config = Current::new(read(&files)?);
        Ok(Tls { files, config })
    }

    /// Reads the files again, for [`Tls::replace`]. The error says which of them is wrong, and why.
    pub fn read(&self) -> Result<ServerConfig, String> {
        read(&self.files)
    }

    /// Uses this for new connections from now on.
    pub fn replace(&self, config: ServerConfig) {
        self.config.set(config);
    }

    /// Performs the handshake, within the deadline of the socket.
    pub fn accept<'s>(&self, mut socket: Socket<'s>) -> io::Result<Stream<'s>> {
        let mut connection = ServerConnection::new(self.config.get()).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            let (read, written) = connection.complete_io(&mut socket)?;
            if read + written == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(StreamOwned::new(connection, socket))
    }
}

fn read(files: &Files) -> Result<ServerConfig, String> {
    let certificates = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| {
        let path = files.key.display();
        format!("{path}: cannot read a private key in PEM: {error}")
    })?;
    check_validity(&files.certificate, &certificates)?;
    let provider = Arc::new(ring::default_provider());
    let versions = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let clients = match &files.client_ca {
        None => versions.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in self::certificates(path)? {
                roots.add(certificate).map_err(|error| {
                    format!(
                        "{}: not a certificate of an authority: {error}",
                        path.display()
                    )
                })?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| format!("{}: {error}", path.display()))?;
            versions.with_client_cert_verifier(verifier)
        }
    };
    let mut config = clients
        .with_single_cert(certificates, key)
        .map_err(|error| {
            let what = match error {
                Error::InconsistentKeys(_) => {
                    "the certificate and the private key do not go together"
                }
                _ => "the certificate or the private key cannot be used",
            };
            let (certificate, key) = (files.certificate.display(), files.key.display());
            format!("{certificate} and {key}: {what}: {error}")
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Refuses a certificate that is not valid today: no platform would connect. A server does not check
/// that itself, so we ask the verifier that clients use. What else that complains of does not matter: platforms know other
/// authorities than we do.
fn check_validity(path: &Path, chain: &[CertificateDer<'static>]) -> Result<(), String> {
    let (Some(leaf), Some(last)) = (chain.first(), chain.last()) else {
        return Ok(());
    };
    let wrong = |what: String| Err(format!("{}: {what}", path.display()));
    let mut roots = RootCertStore::empty();
    if let Err(error) = roots.add(last.clone()) {
        return wrong(format!("not a certificate: {error}"));
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let (Ok(verifier), Ok(name)) = (verifier, ServerName::try_from("broker")) else {
        return Ok(());
    };
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    match verifier.verify_server_cert(leaf, &chain[1..], &name, &[], UnixTime::now()) {
        Err(Error::InvalidCertificate(Expired | ExpiredContext { .. })) => {
            wrong("the certificate has expired".into())
        }
        Err(Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. })) => {
            wrong("the certificate is not valid yet".into())
        }
        _ => Ok(()),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |what: &dyn fmt::Display| {
        format!(
            "{}: cannot read certificates in PEM: {what}",
            path.display()
        )
    };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(&error))?;
    if certificates.is_empty() {
        return Err(wrong(&"there are none"));
    }
    Ok(certificates)
}
