//! Signed links to the page of one service instance, for its users: who has the link sees that instance and no other.

use crate::random;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::io;

/// The variable with the address that users reach the broker at.
pub const URL: &str = "BROKER_PUBLIC_URL";
/// The variable with the keys that links are signed with.
pub const KEYS: &str = "BROKER_PAGE_KEYS";

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
/// Tells these signatures from whatever else a key may be used for.
const PURPOSE: &str = "page of instance ";

/// Makes links and knows them again.
pub struct Links {
    /// Without a slash at its end.
    url: String,
    /// The current one first; all are accepted.
    keys: Vec<XChaCha20Poly1305>,
}

/// Without the keys.
impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Links({})", self.url)
    }
}

impl Links {
    /// Reads both variables. `None` if neither is set. The errors name the variable, and never a key.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Option<Links>, Vec<String>> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let (url, keys) = match (get(URL), get(KEYS)) {
            (None, None) => return Ok(None),
            (Some(url), Some(keys)) => (url, keys),
            (Some(_), None) => return Err(vec![format!("{KEYS} is not set, but {URL} is")]),
            (None, Some(_)) => return Err(vec![format!("{URL} is not set, but {KEYS} is")]),
        };
        let mut errors = Vec::new();
        let address = url.trim().trim_end_matches('/');
        let host = ["https://", "http://"]
            .iter()
            .find_map(|scheme| address.strip_prefix(scheme));
        let plain = |c: char| c.is_ascii_graphic() && !"?#\\\"<>^`{|}@".contains(c);
        if !host.is_some_and(|host| !host.is_empty() && host.chars().all(plain)) {
            errors.push(format!(
                "{URL}: found {url:?}, wanted the broker's address, such as https://broker.example.com"
            ));
        }
        let mut ciphers = Vec::new();
        let keys = keys.split([',', '\n']).map(str::trim);
        for (at, key) in keys.filter(|key| !key.is_empty()).enumerate() {
            let bytes = BASE64_STANDARD.decode(key).ok();
            match bytes.and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes).ok()) {
                Some(key) => ciphers.push(XChaCha20Poly1305::new(&key.into())),
                None => errors.push(format!(
                    "{KEYS}: key {} is not {KEY_BYTES} bytes in Base64, as openssl rand -base64 {KEY_BYTES} prints them",
                    at + 1
                )),
            }
        }
        match errors.is_empty() {
            true => Ok(Some(Links {
                url: address.to_owned(),
                keys: ciphers,
            })),
            false => Err(errors),
        }
    }

    /// A link to the page of this instance. Each is another one, and all are good.
    pub fn to(&self, instance_id: &str) -> io::Result<String> {
        let mut nonce = [0; NONCE_BYTES];
        random::fill(&mut nonce)?;
        let key = self.keys.first().ok_or(io::ErrorKind::NotFound)?;
        let tag = key
            .encrypt(&XNonce::from(nonce), signed(&purpose(instance_id), &[]))
            .map_err(|_| io::Error::other("the link could not be signed"))?;
        let signature = BASE64_URL_SAFE_NO_PAD.encode([&nonce[..], &tag].concat());
        let id = utf8_percent_encode(instance_id, NON_ALPHANUMERIC);
        Ok(format!(
            "{}/dashboard/instances/{id}?key={signature}",
            self.url
        ))
    }

    /// Whether this is the signature of a link to this instance.
    pub fn admits(&self, instance_id: &str, signature: &str) -> bool {
        let Ok(bytes) = BASE64_URL_SAFE_NO_PAD.decode(signature) else {
            return false;
        };
        let Some((nonce, tag)) = bytes.split_first_chunk::<NONCE_BYTES>() else {
            return false;
        };
        let (nonce, purpose) = (XNonce::from(*nonce), purpose(instance_id));
        let good = |key: &XChaCha20Poly1305| {
            let text = key.decrypt(&nonce, signed(&purpose, tag));
            text.is_ok_and(|text| text.is_empty())
        };
        self.keys.iter().any(good)
    }
}

fn purpose(instance_id: &str) -> String {
    format!("{PURPOSE}{instance_id}")
}

/// Nothing is encrypted: only the tag counts, which holds for what stands beside.
fn signed<'a>(purpose: &'a str, msg: &'a [u8]) -> Payload<'a, 'a> {
    Payload {
        msg,
        aad: purpose.as_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(keys: &[u8]) -> Links {
        let keys: Vec<String> = keys
            .iter()
            .map(|key| BASE64_STANDARD.encode([*key; KEY_BYTES]))
            .collect();
        let get = |name: &str| match name {
            URL => Some("https://broker.example.com/".to_owned()),
            _ => Some(keys.join(",")),
        };
        Links::read(get).unwrap().unwrap()
    }

    #[test]
    fn a_link_is_good_for_its_instance_alone() {
        let links = links(&[1]);
        let link = links.to("a/b").unwrap();
        let (address, key) = link.split_once("?key=").unwrap();
        assert_eq!(
            address,
            "https://broker.example.com/dashboard/instances/a%2Fb"
        );
        assert!(links.admits("a/b", key));
        for other in ["a/c", "a", "a/b ", ""] {
            assert!(!links.admits(other, key), "{other}");
        }
        for at in 0..key.len() {
            let mut wrong = key.as_bytes().to_vec();
            wrong[at] = if wrong[at] == b'A' { b'B' } else { b'A' };
            let wrong = String::from_utf8(wrong).unwrap();
            assert!(!links.admits("a/b", &wrong), "{wrong}");
        }
        for wrong in ["", "AAAA", &key[1..], &format!("{key}AAAA")] {
            assert!(!links.admits("a/b", wrong), "{wrong}");
        }
        assert_ne!(links.to("a/b").unwrap(), link);
    }

    #[test]
    fn keys_can_be_rotated() {
        let old = links(&[1]).to("i").unwrap();
        let key = old.split_once("?key=").unwrap().1;
        assert!(links(&[2, 1]).admits("i", key));
        assert!(!links(&[2]).admits("i", key));
    }

    #[test]
    fn complaints_name_the_variable_and_no_key() {
        let read = |url: Option<&str>, keys: Option<&str>| {
            let get = |name: &str| if name == URL { url } else { keys }.map(str::to_owned);
            Links::read(get).map(|links| links.is_some())
        };
        assert_eq!(read(None, Some("")), Ok(false));
        let good = BASE64_STANDARD.encode([1; KEY_BYTES]);
        for (url, keys, wanted) in [
            (Some("https://b"), None, KEYS),
            (None, Some(&*good), URL),
            (Some("broker.example.com"), Some(&*good), URL),
            (Some("https://"), Some(&*good), URL),
            (Some("https://b/?a"), Some(&*good), URL),
            (Some("https://b"), Some("c2VjcmV0"), KEYS),
        ] {
            let errors = read(url, keys).unwrap_err();
            assert!(
                errors.len() == 1 && errors[0].starts_with(wanted),
                "{errors:?}"
            );
            assert!(!errors[0].contains("c2VjcmV0"), "{errors:?}");
        }
    }
}
