//! Service bindings: records, requests and verdicts.

pub mod record;
pub mod request;
pub mod verdict;
