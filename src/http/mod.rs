//! HTTP: everything between the socket and [`Broker`](crate::broker::Broker). The rest of the crate knows no HTTP.
//!
//! A file uses only files above it in this list:
//!
//! | file | what it does |
//! | --- | --- |
//! | `target`, `version`, `auth`, `identity` | read one part of a request each |
//! | `counts` | what is counted of requests, and at the gate |
//! | `request`, `reply` | a request and an answer as plain values, so that tests can do without a socket |
//! | `recent` | the last requests |
//! | `page` | what operators look at in a browser |
//! | `route` | which endpoint a path is |
//! | `dispatch` | checks authentication and version, then one arm for each endpoint |
//! | `server` | the request loop; alone in knowing tiny_http |
//! | `gate` | stands before tiny_http, and keeps from it whatever is hostile |

pub mod auth;
pub mod counts;
pub mod dispatch;
pub mod gate;
pub mod identity;
mod page;
mod recent;
pub mod reply;
pub mod request;
mod route;
pub mod server;
pub mod target;
pub mod version;

pub use request::{FORWARDED, Headers, Request};
