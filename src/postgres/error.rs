//! What can go wrong with a server, in words that hold no parameter of a statement.

use std::fmt;

/// An error of the client or of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub kind: Kind,
    /// What was tried, with which server, and what came back. No password and no parameter.
    pub message: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// No connection could be made. Nothing was sent.
    Connect,
    /// The connection broke, or the time was over, after something was sent: nobody knows what became of it.
    Lost,
    /// The server refused a statement. Its SQLSTATE.
    Server(String),
    /// What the server sent is not the protocol.
    Protocol,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        let message = message.into();
        Error { kind, message }
    }

    /// The server does not keep to the protocol.
    pub fn unexpected(what: &str) -> Error {
        Error::new(Kind::Protocol, format!("the server sent {what}"))
    }

    /// The SQLSTATE, if the server refused a statement.
    pub fn code(&self) -> Option<&str> {
        match &self.kind {
            Kind::Server(code) => Some(code),
            _ => None,
        }
    }

    /// Whether the same transaction may succeed when it is sent again: it came to nothing, since it met another one.
    pub fn is_serialization(&self) -> bool {
        matches!(self.code(), Some("40001" | "40P01"))
    }

    /// Whether the server goes down, has gone down to be read only, or ended the connection.
    pub fn is_connection(&self) -> bool {
        match &self.kind {
            Kind::Connect | Kind::Lost | Kind::Protocol => true,
            // 08: connection exception; 57P: operator intervention; 25006: read only; 53300: too many connections.
            Kind::Server(code) => {
                code.starts_with("08")
                    || code.starts_with("57P")
                    || code == "25006"
                    || code == "53300"
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
