//! PostgreSQL: the client, the store, and brokers that share a state, against real servers.

#[path = "../support/mod.rs"]
mod support;

mod adapter;
mod brokers;
mod chaos;
mod client;
mod faults;
mod proxy;
mod standby;
mod state;
mod store;

use support::servers::Postgres as Server;
use support::{Broker, Setup};

/// A broker on this database, with the tutorial's catalog.
fn broker(url: &str) -> Broker {
    Setup::new().env("BROKER_STORE", url).start()
}
