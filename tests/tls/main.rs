//! TLS at the gate: versions, certificates and their replacement, clients that need one, and handshakes that do not end.
#![cfg(feature = "tls")]

mod client;
mod crowd;
#[path = "../support/crowd.rs"]
mod gather;
mod handshakes;
mod material;
mod requests;
mod start;
#[path = "../support/mod.rs"]
mod support;

use material::{Authority, Pair};
use support::{Broker, Setup};

use std::path::PathBuf;

/// The tutorial's broker, its state in memory, with these certificates.
fn setup(pair: &Pair) -> Setup {
    let setup = Setup::new().env("BROKER_STORE", "memory");
    let (certificate, key) = write(&setup, pair);
    setup
        .env("BROKER_TLS_CERT", certificate)
        .env("BROKER_TLS_KEY", key)
}

/// Where the files of the broker are.
fn write(setup: &Setup, pair: &Pair) -> (PathBuf, PathBuf) {
    let folder = &setup.folder;
    (
        folder.file("cert.pem", &pair.certificate),
        folder.file("key.pem", &pair.key),
    )
}

/// A broker with a certificate of a new authority.
fn start() -> (Broker, Authority) {
    let authority = Authority::new("ours");
    let broker = setup(&authority.issue("localhost")).start();
    (broker, authority)
}
