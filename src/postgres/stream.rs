//! The socket of a connection: TCP or Unix, with TLS or without. Whatever is read or written has a deadline.

use super::config::{Host, TlsMode};

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

pub enum Stream {
    Plain(Socket),
    Tls(Box<StreamOwned<ClientConnection, Socket>>),
}

impl Socket {
    /// Tries each address of the host in turn.
    fn connect(host: &Host, deadline: Instant) -> io::Result<Socket> {
        match host {
            Host::Unix(folder, port) => {
                let path = folder.join(format!(".s.PGSQL.{port}"));
                UnixStream::connect(path).map(Socket::Unix)
            }
            Host::Tcp {
                name,
                address,
                port,
            } => {
                let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                for address in resolve(address.as_deref().unwrap_or(name), *port)? {
                    match TcpStream::connect_timeout(&address, left(deadline)?) {
                        Ok(socket) => {
                            socket.set_nodelay(true)?;
                            return Ok(Socket::Tcp(socket));
                        }
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }

    fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Socket::Tcp(socket) => {
                socket.set_read_timeout(Some(timeout))?;
                socket.set_write_timeout(Some(timeout))
            }
            Socket::Unix(socket) => {
                socket.set_read_timeout(Some(timeout))?;
                socket.set_write_timeout(Some(timeout))
            }
        }
    }
}

fn resolve(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    match name.parse::<IpAddr>() {
        Ok(address) => Ok(vec![SocketAddr::new(address, port)]),
        Err(_) => Ok((name, port).to_socket_addrs()?.collect()),
    }
}

/// The time that is left, or an error if there is none.
fn left(deadline: Instant) -> io::Result<Duration> {
    deadline
        .checked_duration_since(Instant::now())
        .filter(|left| !left.is_zero())
        .ok_or_else(|| io::Error::new(io::ErrorKind::TimedOut, "the time is over"))
}

impl Stream {
    /// Limits the next reads and writes.
    pub fn set_deadline(&self, deadline: Instant) -> io::Result<()> {
        let timeout = left(deadline)?;
        match self {
            Stream::Plain(socket) => socket.set_timeout(timeout),
            Stream::Tls(tls) => tls.sock.set_timeout(timeout),
        }
    }

    /// Begins TLS. The handshake comes with the first bytes.
    fn secure(socket: Socket, host: &Host, client: &Arc<ClientConfig>) -> io::Result<Stream> {
        let name = match host {
            Host::Tcp { name, .. } => name.clone(),
            Host::Unix(..) => "localhost".to_owned(),
        };
        let name = ServerName::try_from(name).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, "the host is no name for TLS")
        })?;
        let connection = ClientConnection::new(client.clone(), name).map_err(io::Error::other)?;
        Ok(Stream::Tls(Box::new(StreamOwned::new(connection, socket))))
    }

    /// The server's certificate, once the handshake is over.
    pub fn certificate(&self) -> Option<&[u8]> {
        match self {
            Stream::Plain(_) => None,
            Stream::Tls(tls) => tls.conn.peer_certificates()?.first().map(AsRef::as_ref),
        }
    }

    pub fn is_secure(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }
}

/// A socket, with TLS if the mode wants it and the server has it.
pub fn connect(
    mode: TlsMode,
    host: &Host,
    client: Option<&Arc<ClientConfig>>,
    deadline: Instant,
) -> io::Result<Stream> {
    let mut plain = Stream::Plain(Socket::connect(host, deadline)?);
    let client = match (client, host) {
        // A socket of the machine has nobody in between; libpq has no TLS there either.
        (None, _) | (_, Host::Unix(..)) => return Ok(plain),
        (Some(client), Host::Tcp { .. }) if mode != TlsMode::Disable => client,
        _ => return Ok(plain),
    };
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    plain.set_deadline(deadline)?;
    plain.write_all(&request)?;
    let mut answer = [0];
    plain.set_deadline(deadline)?;
    plain.read_exact(&mut answer)?;
    match (answer, plain) {
        ([b'S'], Stream::Plain(socket)) => {
            let mut stream = Stream::secure(socket, host, client)?;
            if let Stream::Tls(tls) = &mut stream {
                while tls.conn.is_handshaking() {
                    let timeout = left(deadline)?;
                    tls.sock.set_timeout(timeout)?;
                    tls.conn.complete_io(&mut tls.sock)?;
                }
            }
            Ok(stream)
        }
        ([b'N'], plain) if mode == TlsMode::Prefer => Ok(plain),
        ([b'N'], _) => Err(io::Error::other("has no TLS, which sslmode wants")),
        _ => Err(io::Error::other("is no PostgreSQL server")),
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.read(buffer),
            Socket::Unix(socket) => socket.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.write(buffer),
            Socket::Unix(socket) => socket.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.read(buffer),
            Stream::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.write(buffer),
            Stream::Tls(tls) => tls.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(_) => Ok(()),
            Stream::Tls(tls) => tls.flush(),
        }
    }
}
