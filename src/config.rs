//! The environment -> [`Config`]. Every variable is in one table, which `--help` prints.

pub mod credentials;
mod gate;
mod hints;
mod seal;
mod store;
mod variables;

pub use seal::keys as seal_keys;
pub use store::{StoreConfig, state};
pub use variables::{VARIABLES, Variable};

use crate::duration;
use crate::http::auth::Credentials;
use crate::http::gate::limits::Limits;
use crate::http::gate::tls;
use crate::http::gate::trusted_proxies::TrustedProxies;
use crate::http::target::BasePath;
use crate::links::Links;
use crate::log;
use crate::store::sealed::Keys;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Looks an environment variable up.
pub type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// Everything that the environment says.
#[derive(Debug)]
pub struct Config {
    pub credentials: Credentials,
    pub catalog: Option<PathBuf>,
    /// How often to look whether the files have changed; never if there is none.
    pub reload_every: Option<Duration>,
    pub store: StoreConfig,
    /// How long the audit trail is kept; `None` for no trail.
    pub audit_for: Option<Duration>,
    /// What the secrets in the state are sealed with.
    pub seal_keys: Option<Keys>,
    pub address: SocketAddr,
    /// Where operators look.
    pub admin_address: Option<SocketAddr>,
    /// The links of `${page}`.
    pub links: Option<Links>,
    pub base_path: BasePath,
    pub workers: usize,
    pub limits: Limits,
    pub proxies: TrustedProxies,
    pub tls: Option<tls::Files>,
    pub log: log::Format,
    /// Whether this is an app container of Cloud Foundry, whose disk does not survive a restart.
    pub on_cloud_foundry: bool,
    /// What the operator should look at, but which does not stop the start.
    pub warnings: Vec<String>,
}

/// The environment, with every complaint about it collected. Values of passwords are never part of a complaint.
struct Reader<'e> {
    environment: Environment<'e>,
    errors: Vec<String>,
}

impl<'e> Reader<'e> {
    fn new(environment: Environment<'e>) -> Reader<'e> {
        Reader {
            environment,
            errors: Vec::new(),
        }
    }

    /// An empty variable counts as unset.
    fn get(&self, name: &str) -> Option<String> {
        (self.environment)(name).filter(|value| !value.is_empty())
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
}

impl Config {
    /// Reads the configuration; the error has a line for every variable that is wrong. `names` are all the variables that
    /// are set: those that look like a misspelt one of ours are warned about, or stop the start.
    pub fn read<'n>(
        environment: Environment<'_>,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Result<Config, Vec<String>> {
        let mut reader = Reader::new(environment);
        let credentials = credentials::read(environment)
            .map_err(|errors| reader.errors.extend(errors))
            .ok();
        let address = address(&mut reader);
        let admin_address = reader.parsed(
            "BROKER_ADMIN_ADDRESS",
            None,
            "an IP address and a port such as 127.0.0.1:9100 or [::1]:9100",
            |text| text.parse().ok().map(Some),
        );
        let links = Links::read(|name| reader.get(name)).unwrap_or_else(|errors| {
            reader.errors.extend(errors);
            None
        });
        let base_path = match BasePath::parse(&reader.get("BROKER_BASE_PATH").unwrap_or_default()) {
            Ok(base_path) => base_path,
            Err(error) => {
                reader.errors.push(format!("BROKER_BASE_PATH: {error}"));
                BasePath::default()
            }
        };
        let reload_every = reader.parsed(
            "BROKER_RELOAD_EVERY",
            Some(Duration::from_secs(60)),
            "a duration such as 1m or 30s, or 0 for never",
            |text| match text {
                "0" => Some(None),
                _ => duration::parse(text).map(Some),
            },
        );
        let audit_for = reader.parsed(
            "BROKER_AUDIT_FOR",
            Some(Duration::from_secs(400 * 24 * 3600)),
            "a duration such as 400d, or 0 for no audit trail",
            |text| match text {
                "0" => Some(None),
                _ => duration::parse(text).map(Some),
            },
        );
        let workers = reader.parsed("BROKER_WORKERS", 16, "a number from 1 to 1024", |text| {
            text.parse().ok().filter(|n| (1..=1024).contains(n))
        });
        let limits = gate::limits(&mut reader);
        let proxies = reader.parsed(
            "BROKER_TRUSTED_PROXIES",
            TrustedProxies::default(),
            "addresses and networks such as 10.0.0.0/8, separated by commas",
            |text| TrustedProxies::parse(text).ok(),
        );
        let tls = gate::tls_files(&mut reader);
        let store = store::read(&mut reader);
        let seal_keys = seal::read(&mut reader);
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
        let catalog = reader.get("BROKER_CATALOG").map(PathBuf::from);
        let unknown = hints::unknown(names, |name| reader.get(name).is_some());
        let mut warnings = unknown.warnings;
        reader.errors.extend(unknown.errors);
        if !reader.errors.is_empty() {
            // A variable that nobody reads may be why another one is missing.
            reader.errors.append(&mut warnings);
        }
        if catalog.is_none() {
            warnings.push(
                "BROKER_CATALOG is not set: the broker offers the tutorial's catalog, which is good for trying out only"
                    .to_owned(),
            );
        }
        if on_cloud_foundry && let Some(place) = store.lost_with_app() {
            warnings.push(format!(
                "on Cloud Foundry {place} does not survive a restart of the app: every service instance and binding is \
                 then forgotten; bind a PostgreSQL database to it"
            ));
        }
        if store.is_shared() && seal_keys.is_none() {
            warnings.push(
                "BROKER_SEAL_KEYS is not set: credentials are in the database in plain text"
                    .to_owned(),
            );
        }
        match credentials {
            Some(credentials) if reader.errors.is_empty() => Ok(Config {
                credentials,
                catalog,
                reload_every,
                store,
                audit_for,
                seal_keys,
                address,
                admin_address,
                links,
                base_path,
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
pub fn listening(environment: Environment<'_>) -> Result<(SocketAddr, bool), Vec<String>> {
    let mut reader = Reader::new(environment);
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

/// The files that are read again while the broker serves, as far as they are named: catalog, secrets, and those of TLS.
pub fn files(environment: Environment<'_>) -> Vec<PathBuf> {
    let reader = Reader::new(environment);
    let names = ["BROKER_CATALOG"]
        .into_iter()
        .chain(credentials::FILES)
        .chain(gate::TLS_FILES);
    names
        .filter_map(|name| reader.get(name).map(PathBuf::from))
        .collect()
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
