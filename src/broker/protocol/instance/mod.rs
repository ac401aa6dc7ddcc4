//! Service instances: records, requests and verdicts.

pub mod record;
pub mod request;
pub mod room;
pub mod verdict;
