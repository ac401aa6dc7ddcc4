//! What is fuzzed, and what has to be true of every input. `fuzz_targets/` hands these functions to cargo-fuzz:
//!
//! ```text
//! cargo +nightly fuzz run framing
//! ```
//!
//! `tests/corpus.rs` runs them over the corpus on stable Rust. An input that has broken a promise belongs into the corpus.
#![allow(dead_code, reason = "every fuzz target uses a part of it")]

#[cfg(feature = "postgres")]
pub mod address;
pub mod catalog;
pub mod chunked;
pub mod dispatch;
pub mod framing;
pub mod program;
mod reference;
#[cfg(feature = "postgres")]
pub mod server;

/// `bytes` in pieces of one size after the other, over and over.
fn pieces<'b>(bytes: &'b [u8], sizes: &'b [usize]) -> impl Iterator<Item = &'b [u8]> {
    let mut left = bytes;
    sizes.iter().cycle().map_while(move |size| {
        let (piece, rest) = left.split_at_checked((*size).max(1)).unwrap_or((left, &[]));
        left = rest;
        (!piece.is_empty()).then_some(piece)
    })
}
