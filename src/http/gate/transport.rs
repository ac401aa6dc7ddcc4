//! Bytes to and from a client, in the clear or through TLS.

use super::socket::Socket;

use std::io::{self, Read, Write};
#[cfg(feature = "tls")]
use std::time::Duration;
use std::time::Instant;

/// How long the last word of TLS may take.
#[cfg(feature = "tls")]
const GOODBYE: Duration = Duration::from_secs(1);

/// What a request is read from and its answer written to.
pub enum Transport<'s> {
    Plain(Socket<'s>),
    #[cfg(feature = "tls")]
    Tls(Box<super::tls::Stream<'s>>),
}

impl Transport<'_> {
    /// The protocol, where it is worth telling.
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
                // What was received before, or a fault that reading tells.
                _ => Ok(()),
            },
        }
    }

    /// Says that nothing more will be written, where the protocol has a word for it.
    pub fn close(&mut self) {
        match self {
            Transport::Plain(_) => {}
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => {
                // The deadline of what came before has passed, maybe.
                stream.sock.set_deadline(Instant::now() + GOODBYE);
                stream.conn.send_close_notify();
                // The client may have gone already.
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
                // Clients that end the connection without saying so are as common as those that do.
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
