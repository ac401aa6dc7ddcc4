//! The settings of a plan: which server, and what an instance may use of it.

use super::names::LONGEST_PREFIX;
use crate::adapter::settings::Secret;
use crate::adapter::{Failure, Settings};
use crate::json;
use crate::postgres::Config;
use crate::postgres::config::Host;
use crate::vcap;

use serde_json::Value;
use std::time::Duration;

/// How many calls work on the server at the same time by default; each has a connection or two.
const CONCURRENCY: usize = 4;
/// The largest number in the server's settings.
const LARGEST: u128 = i32::MAX as u128;

/// Deliberately not printable: it holds a password.
pub struct Setup {
    server: Server,
    pub prefix: String,
    /// Where applications find the server, if elsewhere than the broker does.
    pub host: Option<String>,
    pub port: Option<u16>,
    pub sslmode: Option<String>,
    pub connections: Option<usize>,
    pub statement_timeout: Option<Duration>,
    pub extensions: Vec<String>,
    pub retain: Option<Duration>,
    pub concurrency: usize,
}

/// Where the connection string comes from.
enum Server {
    /// `url`.
    Url(Secret),
    /// The credentials of a bound service.
    Service(Box<Config>),
}

impl Setup {
    /// What is wrong is reported to the settings.
    pub fn read(settings: &Settings<'_>) -> Option<Setup> {
        let host = settings.string("host");
        let server = read_server(settings, host.is_some());
        let connections = settings.count("connections");
        let connections =
            connections.filter(|number| fits(settings, "connections", *number as u128));
        let statement_timeout = settings.duration("statement_timeout");
        let statement_timeout =
            statement_timeout.filter(|time| fits(settings, "statement_timeout", time.as_millis()));
        let setup = Setup {
            prefix: read_prefix(settings),
            host,
            port: read_port(settings),
            sslmode: read_sslmode(settings),
            connections,
            statement_timeout,
            extensions: read_extensions(settings),
            retain: settings.duration("retain"),
            concurrency: settings.count("concurrency").unwrap_or(CONCURRENCY),
            server: server?,
        };
        Some(setup)
    }

    /// The server as it is named now: a file of the connection string may have changed.
    pub fn config(&self) -> Result<Config, Failure> {
        let mut config = match &self.server {
            Server::Service(config) => (**config).clone(),
            Server::Url(secret) => Config::parse(secret.read()?.trim()).map_err(|error| {
                Failure::unavailable(
                    "the address of the database server cannot be read at the moment",
                )
                .with_detail(error)
            })?,
        };
        // A standby can do nothing of what is asked for.
        config.writable = true;
        Ok(config)
    }
}

fn read_server(settings: &Settings<'_>, has_host: bool) -> Option<Server> {
    let named = settings.string("service");
    let text = settings.string("url");
    match (text, named) {
        (Some(text), None) => {
            check_url(settings, text.trim(), has_host)?;
            let written = settings.value("url").and_then(Value::as_str)?;
            settings.secret_at(written, "url").map(Server::Url)
        }
        (None, Some(name)) => match find_service(settings, &name) {
            Ok(config) => {
                check_host(settings, "service", &config, has_host);
                Some(Server::Service(Box::new(config)))
            }
            Err(error) => {
                settings.error("service", error);
                None
            }
        },
        (Some(_), Some(_)) => {
            settings.error("service", "found \"url\" as well, wanted one of the two");
            None
        }
        (None, None) => {
            // What cannot be read was complained about.
            if settings.value("url").is_none() && settings.value("service").is_none() {
                settings.error(
                    "url",
                    "found nothing, wanted the address of a PostgreSQL server, such as \"${env:PG_ADMIN_URL}\", or in \
                     \"service\" the name of a service that is bound to the broker",
                );
            }
            None
        }
    }
}

fn check_url(settings: &Settings<'_>, text: &str, has_host: bool) -> Option<()> {
    match Config::parse(text) {
        Ok(config) => check_host(settings, "url", &config, has_host),
        Err(error) => settings.error("url", error),
    }
    Some(())
}

/// An application elsewhere cannot use a socket of this machine.
fn check_host(settings: &Settings<'_>, key: &str, config: &Config, has_host: bool) {
    if !has_host
        && config
            .hosts
            .iter()
            .all(|host| matches!(host, Host::Unix(..)))
    {
        settings.error(
            key,
            "leads to a socket of this machine; wanted \"host\" beside it, the host that applications connect to",
        );
    }
}

fn find_service(settings: &Settings<'_>, name: &str) -> Result<Config, String> {
    let text = settings.environment().variable("VCAP_SERVICES");
    let services = vcap::services(text.as_deref().unwrap_or("{}"))?;
    let service = services.iter().find(|service| service.is_named(name));
    let service = service.ok_or_else(|| {
        let found = settings.value("service").and_then(Value::as_str);
        format!(
            "found {:?}, which is no service in VCAP_SERVICES",
            found.unwrap_or_default()
        )
    })?;
    Config::parse(&service.connection_string()?).map_err(|error| {
        format!(
            "VCAP_SERVICES: the credentials of {}: {error}",
            service.name
        )
    })
}

fn fits(settings: &Settings<'_>, key: &'static str, number: u128) -> bool {
    let fits = number <= LARGEST;
    if !fits {
        settings.error(
            key,
            format!("is too large: PostgreSQL takes {LARGEST} at most"),
        );
    }
    fits
}

fn read_prefix(settings: &Settings<'_>) -> String {
    let prefix = settings.string("prefix").unwrap_or_else(|| "cf".to_owned());
    let is_word = prefix.starts_with(|first: char| first.is_ascii_lowercase())
        && prefix
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    // The server keeps these names for itself.
    if !is_word || prefix.len() > LONGEST_PREFIX || prefix == "pg" || prefix.starts_with("pg_") {
        settings.error(
            "prefix",
            format!(
                "wanted at most {LONGEST_PREFIX} small letters, digits and \"_\", with a letter first, and not \"pg\""
            ),
        );
    }
    prefix
}

fn read_port(settings: &Settings<'_>) -> Option<u16> {
    let port = settings.count("port")?;
    let read = u16::try_from(port).ok();
    if read.is_none() {
        settings.error(
            "port",
            format!("found {port}, wanted a port from 1 to 65535"),
        );
    }
    read
}

fn read_sslmode(settings: &Settings<'_>) -> Option<String> {
    let mode = settings.string("sslmode")?;
    let modes = [
        "disable",
        "allow",
        "prefer",
        "require",
        "verify-ca",
        "verify-full",
    ];
    if !modes.contains(&mode.as_str()) {
        settings.error("sslmode", format!("wanted one of {}", modes.join(", ")));
    }
    Some(mode)
}

fn read_extensions(settings: &Settings<'_>) -> Vec<String> {
    let items = settings.array("extensions").into_iter().flatten();
    let mut names = Vec::new();
    for (at, item) in items.enumerate() {
        match item.as_str() {
            Some(name) if !name.is_empty() && !name.contains('\0') => names.push(name.to_owned()),
            _ => settings.error(
                &format!("extensions[{at}]"),
                format!(
                    "found {}, wanted the name of an extension",
                    json::kind(item)
                ),
            ),
        }
    }
    names
}
