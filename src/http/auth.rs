//! Basic authentication. spec: Platform to Service Broker Authentication; RFC 7617.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::fmt;
use subtle::{Choice, ConstantTimeEq};

/// The pairs of user name and password that are accepted; two at once while an operator rotates them.
pub struct Credentials(Vec<Vec<u8>>);

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({} pairs)", self.0.len())
    }
}

/// Accepts tokens with and without padding: clients differ.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

impl Credentials {
    /// Pairs of user name and password. A user name has no colon: the header could not carry it.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Credentials {
        Credentials(
            pairs
                .into_iter()
                .map(|(user, password)| format!("{user}:{password}").into_bytes())
                .collect(),
        )
    }

    /// Whether the value of an `Authorization` header carries one of the pairs. Takes the same time wherever a wrong one
    /// differs, and whichever pair a right one is.
    pub fn accept(&self, authorization: Option<&str>) -> bool {
        let Some((scheme, token)) = authorization.and_then(|value| value.split_once(' ')) else {
            return false;
        };
        if !scheme.eq_ignore_ascii_case("Basic") {
            return false;
        }
        let Ok(given) = BASE64.decode(token.trim_matches(' ')) else {
            return false;
        };
        let accepted = self.0.iter().fold(Choice::from(0), |accepted, expected| {
            accepted | same(&given, expected)
        });
        accepted.into()
    }
}

/// Compares all of `given`, whatever the length of `expected` is, so that the time tells nothing about it.
fn same(given: &[u8], expected: &[u8]) -> Choice {
    let as_long = given.len() == expected.len();
    let other = if as_long { expected } else { given };
    given.ct_eq(other) & Choice::from(u8::from(as_long))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(token: &str) -> String {
        format!("Basic {}", BASE64.encode(token))
    }

    #[test]
    fn accepts_either_pair_and_nothing_else() {
        let credentials = Credentials::new([("alex", "bigsecret"), ("new", "pass:word é")]);
        for good in ["alex:bigsecret", "new:pass:word é"] {
            assert!(credentials.accept(Some(&basic(good))), "{good}");
        }
        for bad in [
            "alex:bigsecre",
            "alex:bigsecretX",
            "alex:",
            ":bigsecret",
            "",
            "alex",
            "Alex:bigsecret",
            "alex:pass:word é",
            "alex:bigsecretalex:bigsecret",
        ] {
            assert!(!credentials.accept(Some(&basic(bad))), "{bad}");
        }
    }

    #[test]
    fn reads_the_header_as_rfc_7617_says() {
        let credentials = Credentials::new([("alex", "bigsecret")]);
        let token = BASE64.encode("alex:bigsecret");
        for good in [
            format!("basic {token}"),
            format!("BASIC   {token} "),
            format!("Basic {}", token.trim_end_matches('=')),
        ] {
            assert!(credentials.accept(Some(&good)), "{good}");
        }
        for bad in [
            format!("Bearer {token}"),
            token.clone(),
            "Basic".into(),
            "Basic %%%".into(),
            String::new(),
        ] {
            assert!(!credentials.accept(Some(&bad)), "{bad}");
        }
        assert!(!credentials.accept(None));
    }

    #[test]
    fn no_pairs_accept_nobody() {
        assert!(!Credentials::new([]).accept(Some(&basic(""))));
        assert!(!Credentials::new([]).accept(Some(&basic(":"))));
    }
}
