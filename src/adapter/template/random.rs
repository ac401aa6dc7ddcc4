//! `${random:N}` and `${random:N:label}`.

use crate::adapter::Failure;

use serde_json::{Map, Value};

const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const LONGEST: usize = 256;

/// A random value that templates of one section share.
#[derive(Debug, PartialEq, Eq)]
pub struct Random {
    length: usize,
    /// `32` or `32:label`: what the value is kept under.
    key: String,
}

impl Random {
    /// From what stands behind `random:`. The error says what is wrong, not where.
    pub fn parse(asked: &str) -> Result<Random, String> {
        let (digits, label) = match asked.split_once(':') {
            Some((digits, label)) => (digits, Some(label)),
            None => (asked, None),
        };
        let is_number = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
        let length = digits.parse().ok().filter(|n| is_number && *n <= LONGEST);
        let Some(length) = length else {
            return Err(format!(
                "${{random:{asked}}}: wanted a length from 1 to {LONGEST}, as in ${{random:32}}"
            ));
        };
        let is_word = |label: &str| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
        };
        if !label.is_none_or(is_word) {
            return Err(format!(
                "${{random:{asked}}}: wanted a label of letters, digits, \"_\" and \"-\", as in ${{random:32:admin}}"
            ));
        }
        Ok(Random {
            length,
            key: asked.to_owned(),
        })
    }

    /// The value that was kept from before, else a new one. [`Failure::unavailable`] if the system's generator fails.
    pub fn take_or_draw(&self, kept: Option<&Map<String, Value>>) -> Result<String, Failure> {
        match kept.and_then(|kept| kept.get(&self.key)?.as_str()) {
            Some(value) => Ok(value.to_owned()),
            None => Random::draw(self.length),
        }
    }

    /// What the value is kept under.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// `length` letters and digits, each equally likely.
    pub fn draw(length: usize) -> Result<String, Failure> {
        // Bytes from the last, incomplete round of the alphabet would favour its beginning.
        const FAIR: u8 = (256 / ALPHABET.len() * ALPHABET.len()) as u8;
        let (mut drawn, mut bytes) = (String::with_capacity(length), [0; 64]);
        while drawn.len() < length {
            crate::random::fill(&mut bytes).map_err(|error| {
                Failure::unavailable("no random values can be drawn now")
                    .with_detail(format!("the system's random generator: {error}"))
            })?;
            let fair = bytes.iter().filter(|byte| **byte < FAIR);
            let letters = fair.filter_map(|byte| ALPHABET.get(usize::from(*byte) % ALPHABET.len()));
            drawn.extend(
                letters
                    .take(length - drawn.len())
                    .map(|letter| char::from(*letter)),
            );
        }
        Ok(drawn)
    }
}
