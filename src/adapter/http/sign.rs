//! Signatures of what is sent, in the form of Standard Webhooks (<https://www.standardwebhooks.com>), which many languages
//! have a library for.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::hmac::{Context, HMAC_SHA256, Key};

/// What a secret of Standard Webhooks begins with; the rest of it is base64.
const PREFIX: &[u8] = b"whsec_";

/// The key that a secret stands for. The error says what is wrong and quotes nothing.
pub fn key(secret: &[u8]) -> Result<Vec<u8>, String> {
    let key = match secret.strip_prefix(PREFIX) {
        Some(encoded) => BASE64_STANDARD
            .decode(encoded)
            .map_err(|_| "begins with \"whsec_\", but what follows is no base64".to_owned())?,
        None => secret.to_vec(),
    };
    match key.is_empty() {
        true => Err("is empty".to_owned()),
        false => Ok(key),
    }
}

/// The value of `webhook-signature`.
pub fn signature(key: &[u8], id: &str, timestamp: &str, body: &[u8]) -> String {
    let mut context = Context::with_key(&Key::new(HMAC_SHA256, key));
    for piece in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        context.update(piece);
    }
    format!("v1,{}", BASE64_STANDARD.encode(context.sign()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_one_of_the_specification() {
        let key = key(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let found = signature(&key, id, "1614265330", br#"{"test": 2432232314}"#);
        let wanted = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_secret_is_base64_or_as_it_is() {
        assert_eq!(key(b"whsec_YWJj"), Ok(b"abc".to_vec()));
        assert_eq!(key(b"abc"), Ok(b"abc".to_vec()));
        for (secret, wanted) in [("whsec_!", "no base64"), ("whsec_", "empty"), ("", "empty")] {
            assert!(key(secret.as_bytes()).unwrap_err().contains(wanted));
        }
    }
}
