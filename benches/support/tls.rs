//! A broker's certificate, and load that comes through TLS.

#[path = "../../tests/tls/material.rs"]
mod material;

use super::load::{self, Connection, Wire};
use super::{Fallible, Folder};

use material::Authority;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// The host that the certificate is for.
const HOST: &str = "localhost";

/// Who the broker is, and how clients find that it is.
pub struct Identity {
    certificate: PathBuf,
    key: PathBuf,
    client: Arc<ClientConfig>,
}

impl Identity {
    /// Made for this run, its files in this folder.
    pub fn new(folder: &Folder) -> Fallible<Identity> {
        let authority = Authority::new("bench");
        let pair = authority.issue(HOST);
        let (certificate, key) = (folder.file("certificate.pem"), folder.file("key.pem"));
        fs::write(&certificate, pair.certificate)?;
        fs::write(&key, pair.key)?;
        let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(authority.roots())
            .with_no_client_auth();
        Ok(Identity {
            certificate,
            key,
            client: Arc::new(client),
        })
    }

    /// What has the broker serve through TLS.
    pub fn give_to(&self, broker: &mut Command) {
        broker
            .env("BROKER_TLS_CERT", &self.certificate)
            .env("BROKER_TLS_KEY", &self.key);
    }

    /// A connection whose handshake is done with the first request.
    pub fn connect(&self, address: SocketAddr) -> io::Result<Connection> {
        let name = ServerName::try_from(HOST).map_err(io::Error::other)?;
        let client =
            ClientConnection::new(Arc::clone(&self.client), name).map_err(io::Error::other)?;
        let stream = StreamOwned::new(client, load::connect(address)?);
        Ok(Connection::over(Box::new(stream)))
    }
}

impl Wire for StreamOwned<ClientConnection, TcpStream> {
    fn wait_at_most(&self, limit: Duration) -> io::Result<()> {
        self.sock.set_read_timeout(Some(limit))
    }
}
