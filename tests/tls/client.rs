//! A platform that speaks TLS.

use crate::material::{Authority, Pair};
use crate::support::{Request, Response};

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, ProtocolVersion, StreamOwned, SupportedProtocolVersion,
};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// Longer than anything takes that is not broken.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const TLS_1_2: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
pub const TLS_1_3: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

pub struct Client(StreamOwned<ClientConnection, TcpStream>);

/// How a client connects: whom it trusts, what it speaks and who it is.
pub struct Connector<'a> {
    pub authority: &'a Authority,
    pub versions: &'a [&'static SupportedProtocolVersion],
    pub own: Option<&'a Pair>,
    pub alpn: &'a [&'a str],
}

impl<'a> Connector<'a> {
    /// All versions, and no certificate of its own.
    pub fn trusting(authority: &'a Authority) -> Connector<'a> {
        Connector {
            authority,
            versions: rustls::ALL_VERSIONS,
            own: None,
            alpn: &[],
        }
    }

    /// Connects, and completes the handshake, as far as the client can see.
    pub fn connect(&self, address: SocketAddr) -> io::Result<Client> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_root_certificates(self.authority.roots());
        let mut config = match self.own {
            None => builder.with_no_client_auth(),
            Some(pair) => builder
                .with_client_auth_cert(vec![pair.der()], pair.key_der())
                .unwrap(),
        };
        config.alpn_protocols = self
            .alpn
            .iter()
            .map(|name| name.as_bytes().into())
            .collect();
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut client = Client(StreamOwned::new(connection, stream));
        while client.0.conn.is_handshaking() {
            client.0.conn.complete_io(&mut client.0.sock)?;
        }
        Ok(client)
    }
}

impl Client {
    pub fn open(address: SocketAddr, authority: &Authority) -> Client {
        Connector::trusting(authority).connect(address).unwrap()
    }

    pub fn version(&self) -> ProtocolVersion {
        self.0.conn.protocol_version().unwrap()
    }

    pub fn alpn(&self) -> Option<&[u8]> {
        self.0.conn.alpn_protocol()
    }

    /// The broker's certificate.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.0.conn.peer_certificates().unwrap()[0]
            .clone()
            .into_owned()
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.0.write_all(bytes.as_ref())?;
        self.0.flush()
    }

    /// The catalog, as a platform asks for it.
    pub fn get_catalog(&mut self) -> Response {
        self.try_get_catalog().unwrap()
    }

    pub fn try_get_catalog(&mut self) -> io::Result<Response> {
        let address = self.0.sock.peer_addr()?;
        let request = Request::new(address, "GET", "/v2/catalog");
        self.try_send(request.bytes("keep-alive"))?;
        self.answer()
    }

    /// The next answer.
    pub fn answer(&mut self) -> io::Result<Response> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap()[9..12].parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut answer = Response {
            status,
            headers,
            body: Vec::new(),
        };
        let length = answer.header("Content-Length").map(str::parse);
        answer.body = vec![0; length.unwrap().unwrap()];
        self.0.read_exact(&mut answer.body)?;
        Ok(answer)
    }

    /// Waits until the broker ends the connection as TLS wants it: with a word.
    #[track_caller]
    pub fn is_closed(&mut self) {
        let mut left = Vec::new();
        self.0.read_to_end(&mut left).unwrap();
        assert!(left.is_empty(), "{:?}", String::from_utf8_lossy(&left));
    }
}

/// What comes on a connection in the clear until it is closed.
pub fn rest_of(mut stream: &TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => all,
    }
}
