//! Basic authentication and bearer tokens. spec: Platform to Service Broker Authentication; RFC 7617; RFC 6750.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::fmt;
use subtle::{Choice, ConstantTimeEq};

/// The pairs of user name and password, and the bearer tokens, that are accepted; two at once while an operator rotates
/// them.
pub struct Credentials {
    pairs: Vec<Vec<u8>>,
    tokens: Vec<Vec<u8>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pairs, tokens) = (self.pairs.len(), self.tokens.len());
        write!(f, "Credentials({pairs} pairs, {tokens} tokens)")
    }
}

/// The result of comparing the credentials of one request. Only this file makes one, so it cannot be forged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authentication {
    attempted: bool,
    valid: bool,
}

impl Authentication {
    /// Of a request to an address that needs no credentials.
    pub(super) fn not_needed() -> Authentication {
        Authentication {
            attempted: true,
            valid: true,
        }
    }

    /// The request had credentials, valid or not.
    pub fn was_attempted(self) -> bool {
        self.attempted
    }

    pub fn is_valid(self) -> bool {
        self.valid
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
        let pairs = pairs
            .into_iter()
            .map(|(user, password)| format!("{user}:{password}").into_bytes());
        Credentials {
            pairs: pairs.collect(),
            tokens: Vec::new(),
        }
    }

    /// With these bearer tokens, too. A token has neither spaces nor control characters: the header could not carry it.
    pub fn with_tokens(self, tokens: impl IntoIterator<Item = String>) -> Credentials {
        Credentials {
            tokens: tokens.into_iter().map(String::into_bytes).collect(),
            ..self
        }
    }

    /// Compares the value of an `Authorization` header, if there is one.
    pub fn check(&self, authorization: Option<&str>) -> Authentication {
        Authentication {
            attempted: authorization.is_some(),
            valid: self.accept(authorization),
        }
    }

    /// Whether the value of an `Authorization` header has one of the pairs or tokens. The time
    /// it takes does not tell at which byte a wrong one differs, nor which of several right ones it is.
    pub fn accept(&self, authorization: Option<&str>) -> bool {
        let Some((scheme, token)) = authorization.and_then(|value| value.split_once(' ')) else {
            return false;
        };
        let token = token.trim_matches(' ');
        if scheme.eq_ignore_ascii_case("Bearer") {
            return one_of(token.as_bytes(), &self.tokens);
        }
        scheme.eq_ignore_ascii_case("Basic")
            && BASE64
                .decode(token)
                .is_ok_and(|given| one_of(&given, &self.pairs))
    }

    /// The values of `WWW-Authenticate`: one for each scheme that is accepted. RFC 9110, 11.6.1.
    pub fn challenges(&self) -> impl Iterator<Item = &'static str> {
        let basic = "Basic realm=\"brokerlet\", charset=\"UTF-8\"";
        let bearer = "Bearer realm=\"brokerlet\"";
        let basic = (!self.pairs.is_empty()).then_some(basic);
        let bearer = (!self.tokens.is_empty()).then_some(bearer);
        basic.into_iter().chain(bearer)
    }

    /// What a client has to send, in words for the 401.
    pub fn wanted(&self) -> &'static str {
        match (self.pairs.is_empty(), self.tokens.is_empty()) {
            (_, true) => "user name or password",
            (true, _) => "bearer token",
            _ => "user name or password, or the bearer token,",
        }
    }
}

fn one_of(given: &[u8], expected: &[Vec<u8>]) -> bool {
    let accepted = expected.iter().fold(Choice::from(0), |accepted, expected| {
        accepted | same(given, expected)
    });
    accepted.into()
}

/// Compares all of `given` even if the lengths differ, so that the time tells nothing about `expected`.
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
    fn a_bearer_token_is_accepted_as_it_is_and_nothing_else() {
        let tokens = ["ab.c-d~+/=", "new"].map(str::to_owned);
        let credentials = Credentials::new([("alex", "bigsecret")]).with_tokens(tokens);
        for good in ["Bearer ab.c-d~+/=", "bearer new", "BEARER   new "] {
            assert!(credentials.accept(Some(good)), "{good}");
        }
        assert!(credentials.accept(Some(&basic("alex:bigsecret"))));
        for bad in [
            "Bearer ab.c-d~+/",
            "Bearer New",
            "Bearer new new",
            "Bearer alex:bigsecret",
            "Bearer ",
            "Bearer",
            "Basic new",
            "new",
        ] {
            assert!(!credentials.accept(Some(bad)), "{bad}");
        }
        assert!(!credentials.accept(Some(&basic("new"))));
        assert_eq!(credentials.challenges().count(), 2);
    }

    #[test]
    fn the_result_says_whether_there_were_credentials_and_whether_they_are_right() {
        let credentials = Credentials::new([("alex", "bigsecret")]);
        let result = |authorization: Option<&str>| {
            let result = credentials.check(authorization);
            (result.was_attempted(), result.is_valid())
        };
        assert_eq!(result(None), (false, false));
        assert_eq!(result(Some(&basic("alex:guess"))), (true, false));
        assert_eq!(result(Some(&basic("alex:bigsecret"))), (true, true));
    }

    #[test]
    fn no_pairs_accept_nobody() {
        assert!(!Credentials::new([]).accept(Some(&basic(""))));
        assert!(!Credentials::new([]).accept(Some(&basic(":"))));
        assert!(!Credentials::new([]).accept(Some("Bearer ")));
    }
}
