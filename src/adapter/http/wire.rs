//! The sockets of the client: TCP, with TLS around it where the address says `https`. TLS is set up once for all of them.

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Instant;
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, TcpConnector,
    Transport, TransportAdapter,
};

type Tcp = <TcpConnector as Connector>::Out;

/// Makes connections.
#[derive(Clone)]
pub struct Dial {
    /// Absent where no address is `https`.
    pub tls: Option<Arc<ClientConfig>>,
}

impl Connector for Dial {
    type Out = Either<Tcp, Tls>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Self::Out>, Error> {
        let begun = Instant::now();
        let left = || NextTimeout {
            after: details.timeout.after.saturating_sub(begun.elapsed()).into(),
            ..details.timeout
        };
        let addrs =
            DefaultResolver::default().resolve(details.uri, details.config, details.timeout)?;
        let found = &ConnectionDetails {
            addrs,
            uri: details.uri,
            config: details.config,
            request_level: details.request_level,
            resolver: details.resolver,
            now: details.now,
            timeout: left(),
            current_time: details.current_time.clone(),
            run_connector: details.run_connector.clone(),
            register_shutdown: details.register_shutdown.clone(),
        };
        let tcp: Option<Tcp> = TcpConnector::default().connect(found, None)?;
        let Some(tcp) = tcp else { return Ok(None) };
        let Some(client) = self.tls.as_ref().filter(|_| details.needs_tls()) else {
            return Ok(Some(Either::A(tcp)));
        };
        let host = details.uri.host().unwrap_or_default();
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let name =
            ServerName::try_from(host).map_err(|_| Error::Tls("the host is no name for TLS"))?;
        let connection = ClientConnection::new(client.clone(), name).map_err(io::Error::other)?;
        let socket = TransportAdapter::new(tcp, details.current_time.clone());
        let mut stream = StreamOwned::new(connection, socket);
        stream.sock.set_timeout(left());
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        let sizes = (
            details.config.input_buffer_size(),
            details.config.output_buffer_size(),
        );
        Ok(Some(Either::B(Tls {
            buffers: LazyBuffers::new(sizes.0, sizes.1),
            stream: Box::new(stream),
        })))
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dial").finish_non_exhaustive()
    }
}

/// Looks nothing up: [`Dial`] does, when there is a connection to be made. A kept one needs no address.
#[derive(Debug)]
pub struct Later;

impl Resolver for Later {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        Ok(self.empty())
    }
}

/// A socket with TLS around it.
pub struct Tls {
    buffers: LazyBuffers,
    stream: Box<StreamOwned<ClientConnection, TransportAdapter<Tcp>>>,
}

impl Transport for Tls {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.sock.set_timeout(timeout);
        self.stream.write_all(&self.buffers.output()[..amount])?;
        self.stream.flush()?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.sock.set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}
