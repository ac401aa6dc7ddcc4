//! The listening socket of the API: the one that systemd hands over as standard input, else a new one.
//!
//! systemd can number the sockets that it hands over, too (`LISTEN_FDS`), but to take up a number as a socket needs unsafe
//! code. Standard input is there for everybody.

use rustix::net::sockopt::socket_acceptconn;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;

/// The socket, and whether it was handed over: then it goes on when the broker stops.
pub fn listen(address: SocketAddr) -> io::Result<(TcpListener, bool)> {
    let input = io::stdin();
    if !socket_acceptconn(&input).unwrap_or(false) {
        return Ok((TcpListener::bind(address)?, false));
    }
    let listener = TcpListener::from(input.as_fd().try_clone_to_owned()?);
    match listener.local_addr() {
        Ok(_) => Ok((listener, true)),
        Err(_) => Err(io::Error::other(
            "standard input is a listening socket, but none of TCP",
        )),
    }
}
