//! Variables that look like ours, but are not: which one is meant, and whether the broker may start without it.

use super::variables::VARIABLES;

/// Without these the broker would serve another catalog, keep its state elsewhere, or let in others than was meant.
const VITAL: &[&str] = &[
    "BROKER_CATALOG",
    "BROKER_STORE",
    "BROKER_USERNAME",
    "BROKER_PASSWORD",
    "BROKER_PASSWORD_FILE",
    "BROKER_USERNAME_2",
    "BROKER_PASSWORD_2",
    "BROKER_PASSWORD_2_FILE",
    "BROKER_TOKEN",
    "BROKER_TOKEN_FILE",
    "BROKER_TOKEN_2",
    "BROKER_TOKEN_2_FILE",
];

/// What people write after `BROKER_`, and which variable they mean. Letters and digits only, as [`letters`] leaves them.
pub(super) const WRITTEN: &[(&str, &[&str])] = &[
    (
        "BROKER_USERNAME",
        &[
            "USER",
            "LOGIN",
            "AUTHUSER",
            "AUTHUSERNAME",
            "BASICAUTHUSER",
            "BASICAUTHUSERNAME",
            "ADMINUSER",
        ],
    ),
    (
        "BROKER_PASSWORD",
        &[
            "PASS",
            "PWD",
            "PW",
            "SECRET",
            "AUTHPASS",
            "AUTHPASSWORD",
            "BASICAUTHPASSWORD",
            "ADMINPASSWORD",
        ],
    ),
    (
        "BROKER_PASSWORD_FILE",
        &["PASSFILE", "PASSWORDPATH", "SECRETFILE"],
    ),
    ("BROKER_USERNAME_2", &["USER2"]),
    (
        "BROKER_PASSWORD_2",
        &["PASS2", "PASSWORDNEW", "NEWPASSWORD"],
    ),
    (
        "BROKER_TOKEN",
        &[
            "BEARER",
            "BEARERTOKEN",
            "AUTHTOKEN",
            "ACCESSTOKEN",
            "APITOKEN",
            "APIKEY",
        ],
    ),
    (
        "BROKER_CATALOG",
        &[
            "CATALOGFILE",
            "CATALOGPATH",
            "CATALOGJSON",
            "SERVICES",
            "CONFIG",
            "CONFIGFILE",
        ],
    ),
    (
        "BROKER_STORE",
        &[
            "DB",
            "DBFILE",
            "DBPATH",
            "DATABASE",
            "DATABASEURL",
            "STATE",
            "STATEFILE",
            "STATEPATH",
            "STORAGE",
            "STOREFILE",
            "STOREPATH",
            "DATA",
            "DATADIR",
        ],
    ),
    ("PORT", &["PORT", "LISTENPORT", "HTTPPORT"]),
    (
        "BROKER_ADDRESS",
        &[
            "HOST",
            "ADDR",
            "IP",
            "BIND",
            "LISTEN",
            "BINDADDRESS",
            "LISTENADDRESS",
            "LISTENADDR",
        ],
    ),
    (
        "BROKER_BASE_PATH",
        &["PATH", "PREFIX", "PATHPREFIX", "CONTEXTPATH", "ROOTPATH"],
    ),
    ("BROKER_LOG", &["LOGLEVEL", "LOGFORMAT", "LOGGING", "LOGS"]),
    (
        "BROKER_TLS_CERT",
        &[
            "CERT",
            "CERTFILE",
            "CERTIFICATE",
            "TLSCERTFILE",
            "TLSCERTIFICATE",
            "SSLCERT",
        ],
    ),
    (
        "BROKER_TLS_KEY",
        &["KEY", "KEYFILE", "TLSKEYFILE", "PRIVATEKEY", "SSLKEY"],
    ),
    (
        "BROKER_TLS_CLIENT_CA",
        &["CA", "CAFILE", "CACERT", "CLIENTCA", "TLSCA"],
    ),
    ("BROKER_TRUSTED_PROXIES", &["PROXY", "PROXIES"]),
    ("BROKER_WORKERS", &["THREADS", "CONCURRENCY"]),
    ("BROKER_CACHE", &["CACHESIZE"]),
    (
        "BROKER_RELOAD_EVERY",
        &["RELOAD", "RELOADINTERVAL", "RELOADPERIOD"],
    ),
    ("BROKER_MAX_CONNECTIONS", &["CONNECTIONS"]),
];

/// What is wrong with the names of variables.
#[derive(Debug, Default)]
pub(super) struct Unknown {
    /// These stop the start.
    pub errors: Vec<String>,
    pub warnings: Vec<String>,
}

/// Finds the variables among those that are set that begin like ours, but are none. `is_set` says whether one of ours is
/// set: what is merely called otherwise elsewhere, beside the right one, stops nothing.
pub(super) fn unknown<'n>(
    names: impl IntoIterator<Item = &'n str>,
    is_set: impl Fn(&str) -> bool,
) -> Unknown {
    let mut names: Vec<_> = names.into_iter().collect();
    names.sort_unstable();
    let mut unknown = Unknown::default();
    for name in names {
        let known = VARIABLES.iter().any(|variable| variable.name == name);
        let Some(rest) = rest(name).filter(|_| !known) else {
            continue;
        };
        let (meant, vital) = match (written(&rest), misspelt(&rest)) {
            (Some(meant), _) => (Some(meant), VITAL.contains(&meant) && !is_set(meant)),
            (None, Some(meant)) => (Some(meant), VITAL.contains(&meant)),
            (None, None) => (None, false),
        };
        // Of another prefix than ours only what is like one of ours.
        if meant.is_none() && !name.starts_with("BROKER_") {
            continue;
        }
        let hint = meant.map_or(String::new(), |meant| {
            format!(", did you mean \"{meant}\"?")
        });
        let line = format!("{name}: unknown variable{hint}");
        match vital {
            true => unknown.errors.push(line),
            false => unknown.warnings.push(line),
        }
    }
    unknown
}

/// What follows `BROKER_`, or a slip of it.
fn rest(name: &str) -> Option<String> {
    let (prefix, rest) = name.split_once('_')?;
    let prefix = prefix.to_ascii_uppercase();
    let ours = prefix == "BROKERLET" || strsim::damerau_levenshtein(&prefix, "BROKER") <= 1;
    ours.then(|| letters(rest))
}

pub(super) fn letters(text: &str) -> String {
    let letters = text.chars().filter(char::is_ascii_alphanumeric);
    letters.map(|c| c.to_ascii_uppercase()).collect()
}

fn written(rest: &str) -> Option<&'static str> {
    let mut table = WRITTEN.iter();
    table
        .find(|(_, written)| written.contains(&rest))
        .map(|(meant, _)| *meant)
}

/// The variable that differs by a slip of the finger, or two in a long name. What all names begin with does not count.
fn misspelt(rest: &str) -> Option<&'static str> {
    VARIABLES
        .iter()
        .filter_map(|variable| {
            let known = letters(variable.name.strip_prefix("BROKER_")?);
            let tolerance = match known.len() {
                0..5 => 0,
                5..7 => 1,
                _ => 2,
            };
            let distance = strsim::damerau_levenshtein(rest, &known);
            (distance <= tolerance).then_some((distance, variable.name))
        })
        .min()
        .map(|(_, name)| name)
}
