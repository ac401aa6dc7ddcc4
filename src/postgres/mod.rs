//! A small client of PostgreSQL: blocking sockets, prepared statements, several of them in one round trip. The codec is that
//! of `postgres-protocol`; here is what goes around it.
//!
//! [`config`] reads connection strings, [`stream`] is the socket, with TLS ([`tls`]) or without, each with a deadline;
//! [`login`] leads to a [`connection`], which runs statements, and [`pool`] keeps connections for those who need one.

pub mod config;
pub mod connection;
pub mod error;
mod login;
pub mod pool;
pub mod statement;
mod stream;
mod tls;

pub use config::Config;
pub use connection::Connection;
pub use error::{Error, Kind};
pub use pool::Pool;
pub use statement::{Done, Row, Statement, Value};
