//! The environment -> [`Config`]. Every variable is in one table, which `--help` prints.

mod gate;

use crate::catalog::finding::suggestion;
use crate::http::auth::Credentials;
use crate::http::gate::limits::Limits;
use crate::http::gate::proxies::Proxies;
use crate::http::gate::tls;
use crate::log;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// One environment variable, as `--help` and README show it.
pub struct Variable {
    pub name: &'static str,
    pub default: &'static str,
    pub meaning: &'static str,
}

const fn variable(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable {
        name,
        default,
        meaning,
    }
}

/// Every variable that brokerlet reads.
pub const VARIABLES: &[Variable] = &[
    variable(
        "BROKER_USERNAME",
        "required",
        "user name that the platform logs in with",
    ),
    variable(
        "BROKER_PASSWORD",
        "required",
        "password that the platform logs in with",
    ),
    variable(
        "BROKER_PASSWORD_FILE",
        "",
        "file that holds the password, instead of BROKER_PASSWORD",
    ),
    variable(
        "BROKER_USERNAME_2",
        "BROKER_USERNAME",
        "user name of a second pair, accepted too while you rotate",
    ),
    variable("BROKER_PASSWORD_2", "", "password of the second pair"),
    variable(
        "BROKER_PASSWORD_2_FILE",
        "",
        "file that holds the second password",
    ),
    variable("BROKER_CATALOG", "the tutorial's", "catalog file (JSON)"),
    variable(
        "BROKER_STORE",
        "file:brokerlet.redb",
        "where the state is kept: file:PATH, or memory to try things out",
    ),
    variable(
        "BROKER_CACHE",
        "1MiB",
        "memory that the file store may use as a cache",
    ),
    variable("BROKER_ADDRESS", "0.0.0.0", "IP address to listen on"),
    variable(
        "PORT",
        "VCAP_APP_PORT, else 5000",
        "port to listen on; 0 takes a free one",
    ),
    variable(
        "BROKER_WORKERS",
        "16",
        "requests worked on at the same time, 1 to 1024",
    ),
    variable(
        "BROKER_LOG",
        "logfmt",
        "form of the log lines: logfmt or json",
    ),
    variable(
        "BROKER_TLS_CERT",
        "",
        "file with the certificate for TLS, in PEM (feature tls)",
    ),
    variable("BROKER_TLS_KEY", "", "file with its private key"),
    variable(
        "BROKER_TLS_CLIENT_CA",
        "",
        "file with the authorities that must have signed a client's certificate",
    ),
    variable(
        "BROKER_TRUSTED_PROXIES",
        "",
        "addresses and networks whose X-Forwarded-For and -Proto are believed",
    ),
    variable(
        "BROKER_MAX_CONNECTIONS",
        "256",
        "connections served at once",
    ),
    variable(
        "BROKER_QUEUE_TIMEOUT",
        "1s",
        "how long one more waits for its turn before it gets 503",
    ),
    variable(
        "BROKER_MAX_HEAD",
        "16KiB",
        "largest head of a request; larger is 431",
    ),
    variable(
        "BROKER_MAX_FIELDS",
        "64",
        "most header fields of a request; more is 431",
    ),
    variable(
        "BROKER_MAX_BODY",
        "1MiB",
        "largest body of a request; larger is 413",
    ),
    variable(
        "BROKER_BODY_MEMORY",
        "4MiB",
        "memory that large bodies share while they are received",
    ),
    variable(
        "BROKER_REQUEST_TIMEOUT",
        "10s",
        "from the first byte of a request to its last; longer is 408",
    ),
    variable(
        "BROKER_SILENT_TIMEOUT",
        "10s",
        "how long a new connection may stay silent",
    ),
    variable(
        "BROKER_IDLE_TIMEOUT",
        "95s",
        "how long a connection is kept for another request",
    ),
    variable(
        "BROKER_ANSWER_TIMEOUT",
        "10s",
        "from the first byte of an answer to its last",
    ),
    variable(
        "BROKER_LOGIN_RATE",
        "10",
        "wrong passwords a second and address that are answered at once; 0 for any number",
    ),
];

/// Names that other brokers use for the credentials.
const USERNAME_ALIASES: &[&str] = &["SECURITY_USER_NAME", "AUTH_USER"];
const PASSWORD_ALIASES: &[&str] = &["SECURITY_USER_PASSWORD", "AUTH_PASSWORD"];

const MIN_CACHE: usize = 64 * 1024;

/// Where the state is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreConfig {
    Memory,
    File { path: PathBuf, cache: usize },
}

/// Everything that the environment says.
#[derive(Debug)]
pub struct Config {
    pub credentials: Credentials,
    pub catalog: Option<PathBuf>,
    pub store: StoreConfig,
    pub address: SocketAddr,
    pub workers: usize,
    pub limits: Limits,
    pub proxies: Proxies,
    pub tls: Option<tls::Files>,
    pub log: log::Format,
    /// Whether this is an app container of Cloud Foundry, whose disk does not survive a restart.
    pub on_cloud_foundry: bool,
    /// What the operator should look at, but which does not stop the start.
    pub warnings: Vec<String>,
}

/// The environment, with every complaint about it collected. Values of passwords are never part of a complaint.
struct Reader<'e> {
    environment: &'e dyn Fn(&str) -> Option<String>,
    errors: Vec<String>,
}

impl Reader<'_> {
    /// An empty variable counts as unset.
    fn get(&self, name: &str) -> Option<String> {
        (self.environment)(name).filter(|value| !value.is_empty())
    }

    fn first(
        &self,
        name: &'static str,
        aliases: &[&'static str],
    ) -> Option<(&'static str, String)> {
        std::iter::once(name)
            .chain(aliases.iter().copied())
            .find_map(|name| Some((name, self.get(name)?)))
    }

    fn parsed<T>(
        &mut self,
        name: &str,
        default: T,
        wanted: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> T {
        let Some(value) = self.get(name) else {
            return default;
        };
        parse(value.trim()).unwrap_or_else(|| {
            self.errors
                .push(format!("{name}: found {value:?}, wanted {wanted}"));
            default
        })
    }

    fn password(
        &mut self,
        name: &'static str,
        aliases: &[&'static str],
        file: &'static str,
    ) -> Option<String> {
        let direct = self.first(name, aliases);
        let Some(path) = self.get(file) else {
            return direct.map(|(_, password)| password);
        };
        if let Some((name, _)) = direct {
            self.errors.push(format!(
                "{name} and {file} are both set; wanted only one of them"
            ));
            return None;
        }
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let password = text.strip_suffix('\n').unwrap_or(&text);
                let password = password.strip_suffix('\r').unwrap_or(password);
                if password.is_empty() {
                    self.errors.push(format!(
                        "{file}: the file {path} is empty, wanted the password"
                    ));
                }
                Some(password.to_owned())
            }
            Err(error) => {
                self.errors
                    .push(format!("{file}: cannot read {path}: {error}"));
                None
            }
        }
    }

    fn check_pair(&mut self, username_from: &str, username: &str, password: &str) {
        if username.contains(':') {
            self.errors.push(format!(
                "{username_from}: found {username:?}, wanted a name without a colon; Basic authentication cannot carry one"
            ));
        }
        if username
            .chars()
            .chain(password.chars())
            .any(char::is_control)
        {
            self.errors.push(format!(
                "{username_from} or its password has a control character, which Basic authentication cannot carry"
            ));
        }
    }
}

impl Config {
    /// Reads the configuration; the error has a line for every variable that is wrong. `names` are all the variables that
    /// are set: those that look like a misspelt one of ours are warned about.
    pub fn read<'n>(
        environment: &dyn Fn(&str) -> Option<String>,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Result<Config, Vec<String>> {
        let mut reader = Reader {
            environment,
            errors: Vec::new(),
        };
        let credentials = credentials(&mut reader);
        let address = address(&mut reader);
        let workers = reader.parsed("BROKER_WORKERS", 16, "a number from 1 to 1024", |text| {
            text.parse().ok().filter(|n| (1..=1024).contains(n))
        });
        let limits = gate::limits(&mut reader);
        let proxies = reader.parsed(
            "BROKER_TRUSTED_PROXIES",
            Proxies::default(),
            "addresses and networks such as 10.0.0.0/8, separated by commas",
            |text| Proxies::parse(text).ok(),
        );
        let tls = gate::tls_files(&mut reader);
        let cache = reader.parsed(
            "BROKER_CACHE",
            1 << 20,
            "a size of at least 64KiB, such as 1MiB",
            |text| size(text).filter(|bytes| *bytes >= MIN_CACHE),
        );
        let store = reader.parsed(
            "BROKER_STORE",
            StoreConfig::File {
                path: "brokerlet.redb".into(),
                cache,
            },
            "file:PATH or memory",
            |text| match text.split_once(':') {
                None if text == "memory" => Some(StoreConfig::Memory),
                Some(("file", path)) if !path.is_empty() => Some(StoreConfig::File {
                    path: path.into(),
                    cache,
                }),
                _ => None,
            },
        );
        let log = reader.parsed(
            "BROKER_LOG",
            log::Format::Logfmt,
            "logfmt or json",
            |text| match text {
                "logfmt" => Some(log::Format::Logfmt),
                "json" => Some(log::Format::Json),
                _ => None,
            },
        );
        let on_cloud_foundry = reader.get("VCAP_APPLICATION").is_some();
        let mut warnings = unknown_variables(names);
        if on_cloud_foundry {
            let place = match &store {
                StoreConfig::File { path, .. } => {
                    format!("the disk, and {} with it,", path.display())
                }
                StoreConfig::Memory => "memory".to_owned(),
            };
            warnings.push(format!(
                "on Cloud Foundry {place} does not survive a restart of the app: every service instance and binding is \
                 then forgotten"
            ));
        }
        let catalog = reader.get("BROKER_CATALOG").map(PathBuf::from);
        match credentials {
            Some(credentials) if reader.errors.is_empty() => Ok(Config {
                credentials,
                catalog,
                store,
                address,
                workers,
                limits,
                proxies,
                tls,
                log,
                on_cloud_foundry,
                warnings,
            }),
            _ => Err(reader.errors),
        }
    }
}

/// Where a broker with this environment listens, and whether through TLS: for whoever asks it how it is.
pub fn listening(
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<(SocketAddr, bool), Vec<String>> {
    let mut reader = Reader {
        environment,
        errors: Vec::new(),
    };
    let address = address(&mut reader);
    let is_tls = gate::tls_files(&mut reader).is_some();
    if reader.errors.is_empty() {
        Ok((address, is_tls))
    } else {
        Err(reader.errors)
    }
}

fn address(reader: &mut Reader<'_>) -> SocketAddr {
    let ip = reader.parsed(
        "BROKER_ADDRESS",
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        "an IP address such as 0.0.0.0, 127.0.0.1 or ::",
        |text| text.parse().ok(),
    );
    let port_from = if reader.get("PORT").is_some() {
        "PORT"
    } else {
        "VCAP_APP_PORT"
    };
    let port = reader.parsed(port_from, 5000, "a port from 0 to 65535", |text| {
        text.parse().ok()
    });
    SocketAddr::new(ip, port)
}

fn credentials(reader: &mut Reader<'_>) -> Option<Credentials> {
    let username = reader.first("BROKER_USERNAME", USERNAME_ALIASES);
    let password = reader.password("BROKER_PASSWORD", PASSWORD_ALIASES, "BROKER_PASSWORD_FILE");
    let missing = match (&username, &password) {
        (None, None) => "BROKER_USERNAME and BROKER_PASSWORD are",
        (None, _) => "BROKER_USERNAME is",
        (_, None) => "BROKER_PASSWORD is",
        _ => "",
    };
    // Without a password for another reason than that none is set, the reason has been told already.
    if !missing.is_empty() && reader.errors.is_empty() {
        reader.errors.push(format!(
            "{missing} not set: the platform needs a user name and a password to log in with; there is no default. \
             BROKER_PASSWORD_FILE names a file that holds the password"
        ));
    }
    let (username_from, username) = username?;
    let password = password?;
    reader.check_pair(username_from, &username, &password);

    let second_username = reader.get("BROKER_USERNAME_2");
    let second_password = reader.password("BROKER_PASSWORD_2", &[], "BROKER_PASSWORD_2_FILE");
    let mut pairs = vec![(username.clone(), password)];
    match (second_username, second_password) {
        (Some(_), None) => reader.errors.push(
            "BROKER_USERNAME_2 is set, but BROKER_PASSWORD_2 is not; wanted both or none"
                .to_owned(),
        ),
        (second_username, Some(password)) => {
            let username = second_username.unwrap_or(username);
            reader.check_pair("BROKER_USERNAME_2", &username, &password);
            pairs.push((username, password));
        }
        (None, None) => {}
    }
    let pairs = pairs
        .iter()
        .map(|(user, password)| (user.as_str(), password.as_str()));
    Some(Credentials::new(pairs))
}

/// Variables that begin like ours, but are not.
fn unknown_variables<'n>(names: impl IntoIterator<Item = &'n str>) -> Vec<String> {
    let known = || VARIABLES.iter().map(|variable| variable.name);
    let mut unknown: Vec<_> = names
        .into_iter()
        .filter(|name| name.starts_with("BROKER_") && !known().any(|known| known == *name))
        .map(|name| {
            let rest = name.trim_start_matches("BROKER_");
            let hint = match known().find(|known| *known == rest) {
                Some(known) => format!(", did you mean \"{known}\"?"),
                None => suggestion(name, known()),
            };
            format!("{name}: unknown variable{hint}")
        })
        .collect();
    unknown.sort();
    unknown
}

/// `1048576`, `1024KiB`, `1MiB`, `1M`: bytes.
fn size(text: &str) -> Option<usize> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number: usize = text[..digits].parse().ok()?;
    let factor = match text[digits..].trim() {
        "" | "B" => 1,
        "K" | "KB" | "KiB" => 1 << 10,
        "M" | "MB" | "MiB" => 1 << 20,
        "G" | "GB" | "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests;
