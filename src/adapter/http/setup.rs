//! The settings of a plan: which web service, with which headers, and how long it may take. What is wrong with them is found
//! at the start.

use super::address::Address;
use super::client::{Client, Limits};
use super::sign;
use super::tls::{Files, Stamp};
use crate::adapter::protocol::mask::Mask;
use crate::adapter::protocol::pace::Pace;
use crate::adapter::settings::Secret;
use crate::adapter::{Run, Settings};
use crate::json;

use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use ureq::http::HeaderMap;
use ureq::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};

/// How long a connection may take, with the look-up of the host's name and with TLS.
const CONNECT: Duration = Duration::from_secs(10);
/// How long until an answer has begun: all of its head.
const FIRST_BYTE: Duration = Duration::from_secs(60);

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const ATTEMPT: HeaderName = HeaderName::from_static("brokerlet-attempt");
const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Headers that are the broker's own.
const RESERVED: &[&str] = &[
    "brokerlet-attempt",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "idempotency-key",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
];

/// Where the calls of one plan go. Deliberately not printable: it holds secrets.
pub struct Setup {
    pub address: Address,
    headers: Vec<(HeaderName, Secret)>,
    sign_with: Option<Secret>,
    files: Files,
    pub pace: Pace,
    pub limits: Limits,
    /// The client, and the state of the files that it was made with.
    client: Mutex<(Stamp, Arc<Client>)>,
}

/// The headers of one message, and what is secret in them.
pub struct Headers {
    pub headers: HeaderMap,
    pub mask: Mask,
}

impl Setup {
    /// What is wrong is reported to the settings.
    pub fn read(settings: &Settings<'_>) -> Option<Setup> {
        let address = read_address(settings);
        let headers = read_headers(settings);
        let sign_with = read_key(settings);
        let files = Files::read(settings);
        let pace = Pace::read(settings);
        let limits = Limits {
            connect: settings.duration("connect_timeout").unwrap_or(CONNECT),
            first_byte: settings
                .duration("first_byte_timeout")
                .unwrap_or(FIRST_BYTE),
        };
        let address = address?;
        let stamp = files.stamp();
        let tls = if address.is_tls() {
            let made = files.client();
            Some(
                made.map_err(|(key, error)| settings.error(key, error))
                    .ok()?,
            )
        } else {
            if let Some(key) = files.any() {
                settings.error(key, "is for TLS, and \"url\" is http://");
            }
            None
        };
        Some(Setup {
            client: Mutex::new((stamp, Arc::new(Client::new(tls, pace.concurrency)))),
            address,
            headers,
            sign_with,
            files,
            pace,
            limits,
        })
    }

    /// The client, with the certificates as they are now. The error names the file.
    pub fn client(&self) -> Result<Arc<Client>, String> {
        let stamp = self.files.stamp();
        {
            let made = self.client.lock().unwrap_or_else(PoisonError::into_inner);
            if made.0 == stamp {
                return Ok(made.1.clone());
            }
        }
        let tls = self
            .files
            .client()
            .map_err(|(key, error)| format!("{key}: {error}"))?;
        let client = Arc::new(Client::new(Some(tls), self.pace.concurrency));
        let mut made = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        *made = (stamp, client.clone());
        Ok(client)
    }

    /// The headers of the next message, with secrets as they are now. The error names the setting or the file.
    pub fn headers(&self, run: Run<'_>, body: &[u8]) -> Result<Headers, String> {
        let mut mask = Mask::default();
        let mut headers = HeaderMap::with_capacity(self.headers.len() + 6);
        if !body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        headers.insert(ATTEMPT, HeaderValue::from(run.attempt));
        headers.insert(KEY, value(run.id.as_bytes(), KEY.as_str())?);
        for (name, secret) in &self.headers {
            let found = value(&secret.masked(&mut mask)?, name.as_str())?;
            headers.insert(name.clone(), found);
        }
        if let Some(secret) = &self.sign_with {
            let key =
                sign::key(&secret.masked(&mut mask)?).map_err(|why| format!("sign_with: {why}"))?;
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            let now = now.as_secs().to_string();
            let signature = sign::signature(&key, run.id, &now, body);
            headers.insert(ID, value(run.id.as_bytes(), ID.as_str())?);
            headers.insert(TIMESTAMP, value(now.as_bytes(), TIMESTAMP.as_str())?);
            headers.insert(SIGNATURE, value(signature.as_bytes(), SIGNATURE.as_str())?);
        }
        Ok(Headers { headers, mask })
    }
}

fn value(bytes: &[u8], name: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_bytes(bytes).map_err(|_| {
        format!("the value of the header {name} holds a character that no header can")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn read_address(settings: &Settings<'_>) -> Option<Address> {
    let plaintext = settings.boolean("plaintext").unwrap_or(false);
    let text = settings.required_string("url")?;
    match Address::parse(text.trim(), plaintext) {
        Ok(address) => Some(address),
        Err(complaint) => {
            // What stands in the file holds nothing of the environment.
            let found = settings.literal("url").unwrap_or_default();
            settings.error("url", format!("{found:?} {complaint}"));
            None
        }
    }
}

fn read_headers(settings: &Settings<'_>) -> Vec<(HeaderName, Secret)> {
    let mut headers = Vec::new();
    for (name, found) in settings.object("headers").into_iter().flatten() {
        let place = format!("headers.{name}");
        let Ok(parsed) = name.parse::<HeaderName>() else {
            settings.error(&place, "wanted the name of a header");
            continue;
        };
        if RESERVED.contains(&parsed.as_str()) {
            settings.error(&place, "is a header that the broker sets itself");
            continue;
        }
        let Value::String(text) = found else {
            let found = json::kind(found);
            settings.error(&place, format!("found {found}, wanted a string"));
            continue;
        };
        match settings.secret_at(text, &place) {
            Some(secret) if ['\0', '\n', '\r'].iter().any(|c| secret.holds(*c)) => {
                settings.error(
                    &place,
                    "holds a line end or a zero byte, which no header can",
                );
            }
            Some(secret) => headers.push((parsed, secret)),
            None => {}
        }
    }
    headers
}

fn read_key(settings: &Settings<'_>) -> Option<Secret> {
    let secret = settings.secret("sign_with")?;
    // A file may come later; what is absent in a check without secrets is no key either.
    if let Ok(known) = secret.bytes(|_| ())
        && !known.is_empty()
        && let Err(complaint) = sign::key(&known)
    {
        settings.error("sign_with", complaint);
        return None;
    }
    Some(secret)
}
