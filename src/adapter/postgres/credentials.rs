//! What an application gets to use its database.

use super::setup::Setup;
use crate::adapter::{Bound, Failure};
use crate::postgres::Config;
use crate::postgres::config::{Host, Roots};

use serde_json::{Map, Value, json};
use std::fs;

/// The login of one binding.
pub struct Login<'a> {
    pub user: &'a str,
    pub password: &'a str,
    pub database: &'a str,
}

/// Names and passwords are letters, digits and `_`: nothing in them has to be encoded.
pub fn of(setup: &Setup, config: &Config, login: &Login<'_>) -> Result<Bound, Failure> {
    let Login {
        user,
        password,
        database,
    } = login;
    let places = places(setup, config);
    let hosts: Vec<String> = places
        .iter()
        .map(|(host, port)| written(host, *port))
        .collect();
    let hosts = hosts.join(",");
    let sslmode = setup.sslmode.as_deref().unwrap_or(config.tls.name());
    // With several servers, the one that can be written to.
    let (primary, jdbc_primary) = if places.len() > 1 {
        (
            "&target_session_attrs=read-write",
            "&targetServerType=primary",
        )
    } else {
        ("", "")
    };
    let mut credentials = Map::new();
    let mut set = |key: &str, value: Value| credentials.insert(key.to_owned(), value);
    set(
        "uri",
        json!(format!(
            "postgres://{user}:{password}@{hosts}/{database}?sslmode={sslmode}{primary}"
        )),
    );
    set(
        "jdbcUrl",
        json!(format!(
            "jdbc:postgresql://{hosts}/{database}?user={user}&password={password}&sslmode={sslmode}{jdbc_primary}"
        )),
    );
    if let Some((host, port)) = places.first() {
        set("host", json!(host));
        set("port", json!(port));
    }
    set("name", json!(database));
    set("username", json!(user));
    set("password", json!(password));
    set("sslmode", json!(sslmode));
    if let (Some(Roots::File(path)), true) =
        (&config.root_certificates, sslmode.starts_with("verify"))
    {
        let certificates = fs::read_to_string(path).map_err(|error| {
            Failure::unavailable(
                "the certificates of the database server cannot be read at the moment",
            )
            .with_detail(format!("sslrootcert: {}: {error}", path.display()))
        })?;
        set("ca_certificate", json!(certificates));
    }
    Ok(Bound {
        credentials: Some(credentials),
        ..Bound::default()
    })
}

/// Where applications find the server.
fn places(setup: &Setup, config: &Config) -> Vec<(String, u16)> {
    let of_config = config.hosts.iter().map(|host| match host {
        Host::Tcp { name, port, .. } => (name.clone(), *port),
        Host::Unix(_, port) => (String::new(), *port),
    });
    match &setup.host {
        Some(host) => {
            let known = of_config.map(|(_, port)| port).next();
            vec![(host.clone(), setup.port.or(known).unwrap_or(5432))]
        }
        None => of_config
            .filter(|(host, _)| !host.is_empty())
            .map(|(host, port)| (host, setup.port.unwrap_or(port)))
            .collect(),
    }
}

fn written(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}
