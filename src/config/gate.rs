//! What the environment says of the gate: limits and TLS.

use super::{Reader, size};
use crate::duration;
use crate::http::gate::limits::{Limits, MAX_FIELDS};
use crate::http::gate::tls;

use std::path::PathBuf;
use std::time::Duration;

/// The variables that name the files of TLS.
pub(super) const TLS_FILES: [&str; 3] =
    ["BROKER_TLS_CERT", "BROKER_TLS_KEY", "BROKER_TLS_CLIENT_CA"];

/// The limits of the gate.
pub(super) fn limits(reader: &mut Reader<'_>) -> Limits {
    let default = Limits::default();
    let mut number = |name: &str, default: usize, least: usize, most: usize| {
        let wanted = format!("a number from {least} to {most}");
        reader.parsed(name, default, &wanted, |text| {
            text.parse().ok().filter(|n| (least..=most).contains(n))
        })
    };
    let connections = number("BROKER_MAX_CONNECTIONS", default.connections, 1, 65_536);
    let fields = number("BROKER_MAX_FIELDS", default.fields, 16, MAX_FIELDS);
    let logins = number("BROKER_LOGIN_RATE", default.logins as usize, 0, 1_000_000) as u32;
    let mut bytes = |name: &str, default: usize, least: usize, most: usize| {
        let wanted = format!("a size from {} to {}", in_words(least), in_words(most));
        reader.parsed(name, default, &wanted, |text| {
            size(text).filter(|bytes| (least..=most).contains(bytes))
        })
    };
    let head = bytes("BROKER_MAX_HEAD", default.head, 4 << 10, 1 << 20);
    let body = bytes("BROKER_MAX_BODY", default.body, 4 << 10, 64 << 20);
    // A body that is larger than all of the memory could never be received.
    let body_memory = default.body_memory.max(body);
    let body_memory = bytes("BROKER_BODY_MEMORY", body_memory, body, 1 << 30);
    let mut time = |name: &str, default: Duration| {
        reader.parsed(
            name,
            default,
            "a duration such as 10s or 500ms",
            duration::parse,
        )
    };
    Limits {
        connections,
        queue: time("BROKER_QUEUE_TIMEOUT", default.queue),
        head,
        fields,
        body,
        body_memory,
        request: time("BROKER_REQUEST_TIMEOUT", default.request),
        silent: time("BROKER_SILENT_TIMEOUT", default.silent),
        idle: time("BROKER_IDLE_TIMEOUT", default.idle),
        answer: time("BROKER_ANSWER_TIMEOUT", default.answer),
        logins,
    }
}

/// Both files of TLS, or none.
pub(super) fn tls_files(reader: &mut Reader<'_>) -> Option<tls::Files> {
    let [certificate, key, client_ca] = TLS_FILES.map(|name| reader.get(name).map(PathBuf::from));
    if certificate.is_none() && key.is_none() && client_ca.is_none() {
        return None;
    }
    if cfg!(not(feature = "tls")) {
        reader.errors.push(
            "BROKER_TLS_CERT, BROKER_TLS_KEY or BROKER_TLS_CLIENT_CA is set, but this brokerlet was built without TLS; \
             wanted one that is built with --features tls"
                .to_owned(),
        );
        return None;
    }
    let (Some(certificate), Some(key)) = (certificate, key) else {
        reader.errors.push(
            "TLS needs both BROKER_TLS_CERT and BROKER_TLS_KEY; found only one of them or BROKER_TLS_CLIENT_CA alone"
                .to_owned(),
        );
        return None;
    };
    Some(tls::Files {
        certificate,
        key,
        client_ca,
    })
}

/// `16KiB`, as [`size`] reads it.
fn in_words(bytes: usize) -> String {
    match bytes {
        _ if bytes.is_multiple_of(1 << 30) => format!("{}GiB", bytes >> 30),
        _ if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{}KiB", bytes >> 10),
        _ => format!("{bytes}B"),
    }
}
