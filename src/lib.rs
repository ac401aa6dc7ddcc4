//! brokerlet: a small, durable Open Service Broker.
//!
//! An operator writes one JSON catalog file and runs one static binary; each plan in the file names an *adapter* that
//! says how it is fulfilled. As a library, brokerlet lets a Rust program bring its own adapter: implement [`Adapter`],
//! add it to [`Kinds`], and call [`main`].
//!
//! A request walks one way: `http::server -> http::dispatch -> broker -> (store, adapter) -> http::reply`. Nothing lower
//! knows anything higher.

pub mod adapter;
pub mod broker;
pub mod catalog;
mod cli;
pub mod config;
mod current;
mod duration;
mod features;
pub mod http;
pub mod json;
mod links;
pub mod log;
mod memory;
mod metrics;
#[cfg(feature = "postgres")]
pub mod postgres;
mod random;
mod serve;
pub mod store;
#[cfg(any(feature = "http-adapter", feature = "postgres"))]
mod trust;
mod vcap;

pub use adapter::{Adapter, Kinds, Settings};
pub use cli::main;
