//! Bytes to and from a client, in plain text or through TLS.

use super::socket::Socket;

use std::io::{self, Read, Write};
#[cfg(feature = "tls")]
use std::time::Duration;
use std::time::Instant;

/// How long sending the `close_notify` of TLS may take.
#[cfg(feature = "tls")]
const CLOSE: Duration = Duration::from_secs(1);

pub enum Transport<'s> {
    Plain(Socket<'s>),
    #[cfg(feature = "tls")]
    Tls(Box<super::tls::Stream<'s>>),
}

impl Transport<'_> {
    /// The protocol for the log. `None` in plain text: a proxy may have spoken https to the client.
    pub fn proto(&self) -> Option<&'static str> {
        match self {
            Transport::Plain(_) => None,
            #[cfg(feature = "tls")]
            Transport::Tls(_) => Some("https"),
        }
    }

    /// Reads and writes fail with [`io::ErrorKind::TimedOut`] after this.
    pub fn set_deadline(&mut self, deadline: Instant) {
        match self {
            Transport::Plain(socket) => socket.set_deadline(deadline),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.sock.set_deadline(deadline),
        }
    }

    /// Waits until there is something to read, or the stream has ended.
    pub fn wait(&mut self) -> io::Result<()> {
        match self {
            Transport::Plain(socket) => socket.wait(),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => match stream.conn.process_new_packets() {
                Ok(state) if state.plaintext_bytes_to_read() == 0 => stream.sock.wait(),
                // Decrypted bytes are there, or an error that reading returns.
                _ => Ok(()),
            },
        }
    }

    /// Tells the client that nothing more comes, if the protocol has a message for it.
    pub fn close(&mut self) {
        match self {
            Transport::Plain(_) => {}
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => {
                // The old deadline may have passed.
                stream.sock.set_deadline(Instant::now() + CLOSE);
                stream.conn.send_close_notify();
                // Fails if the client has gone.
                let _ = stream.flush();
            }
        }
    }
}

impl Read for Transport<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(socket) => socket.read(buffer),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => match stream.read(buffer) {
                // Many clients close the connection without `close_notify`.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                result => result,
            },
        }
    }
}

impl Write for Transport<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(socket) => socket.write(bytes),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Transport::Plain(socket) => socket.flush(),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.flush(),
        }
    }
}
