//! Connection strings, as libpq reads them: `postgres://…` and `key=value …`.

use percent_encoding::percent_decode_str;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// What a connection string says.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    /// In the order in which they are tried.
    pub hosts: Vec<Host>,
    pub user: String,
    pub password: Option<String>,
    pub database: String,
    pub tls: TlsMode,
    pub root_certificates: Option<Roots>,
    /// A certificate for the client, and its private key.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    pub options: Option<String>,
    pub application_name: String,
    pub connect_timeout: Duration,
    /// `target_session_attrs=read-write`: a standby is not good enough.
    pub writable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    Tcp {
        name: String,
        /// `hostaddr`: connected to instead of what the name resolves to.
        address: Option<String>,
        port: u16,
    },
    /// The folder of the socket, and the port that is a part of its name.
    Unix(PathBuf, u16),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Tcp { name, port, .. } if name.contains(':') => write!(f, "[{name}]:{port}"),
            Host::Tcp { name, port, .. } => write!(f, "{name}:{port}"),
            Host::Unix(folder, port) => write!(f, "{}/.s.PGSQL.{port}", folder.display()),
        }
    }
}

/// `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    Disable,
    /// TLS if the server has it.
    Prefer,
    /// TLS with whoever answers. With `sslrootcert` as `verify-ca`, as libpq does it.
    Require,
    VerifyCa,
    VerifyFull,
}

impl TlsMode {
    const ALL: [TlsMode; 5] = [
        TlsMode::Disable,
        TlsMode::Prefer,
        TlsMode::Require,
        TlsMode::VerifyCa,
        TlsMode::VerifyFull,
    ];

    pub fn name(self) -> &'static str {
        match self {
            TlsMode::Disable => "disable",
            TlsMode::Prefer => "prefer",
            TlsMode::Require => "require",
            TlsMode::VerifyCa => "verify-ca",
            TlsMode::VerifyFull => "verify-full",
        }
    }
}

/// `sslrootcert`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    File(PathBuf),
    /// `system`: those of the machine.
    System,
}

/// Without the password.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// For the log, as in `postgres://user@host:5432/database`.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self.hosts.iter().map(Host::to_string).collect();
        let (user, hosts, database) = (&self.user, hosts.join(","), &self.database);
        write!(f, "postgres://{user}@{hosts}/{database}")
    }
}

const DEFAULT_PORT: u16 = 5432;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The settings as text, before they are read.
#[derive(Default)]
struct Settings(Vec<(String, String)>);

impl Settings {
    fn set(&mut self, key: &str, value: &str) {
        self.0.retain(|(known, _)| known != key);
        self.0.push((key.to_owned(), value.to_owned()));
    }

    fn take(&mut self, key: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == key)?;
        Some(self.0.remove(at).1).filter(|value| !value.is_empty())
    }
}

impl Config {
    /// Whether a text is meant as a connection string.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with("postgres://") || text.starts_with("postgresql://")
    }

    /// The error says what is wrong, and shows no password.
    pub fn parse(text: &str) -> Result<Config, String> {
        let uri = ["postgres://", "postgresql://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme));
        match uri {
            Some(rest) => from_uri(rest)?,
            None => from_pairs(text)?,
        }
        .read()
    }
}

fn from_uri(rest: &str) -> Result<Settings, String> {
    let mut settings = Settings::default();
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, query),
        None => (rest, ""),
    };
    // A password may hold an `@` that somebody forgot to encode; hosts hold none.
    let (login, rest) = match rest.rsplit_once('@') {
        Some((login, rest)) => (login, rest),
        None => ("", rest),
    };
    let (hosts, database) = match rest.split_once('/') {
        Some((hosts, database)) => (hosts, database),
        None => (rest, ""),
    };
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (login, None),
    };
    settings.set("user", &decoded("the user name", user)?);
    if let Some(password) = password {
        settings.set("password", &decoded("the password", password)?);
    }
    settings.set("dbname", &decoded("the database", database)?);
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in hosts.split(',') {
        let (name, port) = match host.strip_prefix('[') {
            Some(rest) => {
                let (name, rest) = rest
                    .split_once(']')
                    .ok_or_else(|| format!("the host {host:?} has no \"]\""))?;
                (name, rest.strip_prefix(':').unwrap_or_default())
            }
            None => host.rsplit_once(':').unwrap_or((host, "")),
        };
        names.push(decoded("a host", name)?);
        ports.push(port.to_owned());
    }
    settings.set("host", &names.join(","));
    settings.set("port", &ports.join(","));
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| format!("the parameter {pair:?} has no \"=\""))?;
        let key = match key {
            "ssl" if value == "true" => {
                settings.set("sslmode", "require");
                continue;
            }
            key => key,
        };
        settings.set(key, &decoded(key, value)?);
    }
    Ok(settings)
}

fn decoded(what: &str, text: &str) -> Result<String, String> {
    let text = percent_decode_str(text).decode_utf8();
    let text = text.map_err(|_| format!("{what} is not percent-encoded UTF-8"))?;
    match text.contains('\0') {
        true => Err(format!("{what} has a NUL")),
        false => Ok(text.into_owned()),
    }
}

/// `host=a port=1 password='it''s'`: values in quotes may hold spaces, and a backslash takes the next character as it is.
fn from_pairs(text: &str) -> Result<Settings, String> {
    let mut settings = Settings::default();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let mut key = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=' && !c.is_whitespace()) {
            key.push(c);
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if key.is_empty() && chars.peek().is_none() {
            return Ok(settings);
        }
        if key.is_empty() || chars.next() != Some('=') {
            return Err("found no postgres://… and no key=value".to_owned());
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = chars.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match chars.next() {
                Some('\\') => value.extend(chars.next()),
                Some('\'') if quoted => break,
                None if quoted => return Err(format!("the value of {key} has no closing quote")),
                None => break,
                Some(c) if !quoted && c.is_whitespace() => break,
                Some(c) => value.push(c),
            }
        }
        settings.set(&key, &value);
    }
}

/// Parameters of libpq that change nothing here.
const IGNORED: &[&str] = &[
    "channel_binding",
    "client_encoding",
    "fallback_application_name",
    "gssencmode",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "sslcompression",
    "sslsni",
    "tcp_user_timeout",
    "uselibpqcompat",
];

impl Settings {
    fn read(mut self) -> Result<Config, String> {
        let user = self
            .take("user")
            .ok_or("the user name is missing, as in postgres://USER:PASSWORD@HOST/DATABASE")?;
        let hosts = self.hosts()?;
        let tls = match self.take("sslmode").as_deref() {
            None | Some("allow") => TlsMode::Prefer,
            Some(found) => {
                let mut modes = TlsMode::ALL.into_iter();
                modes.find(|mode| mode.name() == found).ok_or_else(|| {
                    format!(
                        "sslmode: found {found:?}, wanted disable, prefer, require, verify-ca or verify-full"
                    )
                })?
            }
        };
        let root_certificates = self.take("sslrootcert").map(|path| match path.as_str() {
            "system" => Roots::System,
            path => Roots::File(path.into()),
        });
        let tls = match (tls, &root_certificates) {
            (_, Some(Roots::System)) => TlsMode::VerifyFull,
            (TlsMode::Require, Some(_)) => TlsMode::VerifyCa,
            (tls, _) => tls,
        };
        let client_certificate = match (self.take("sslcert"), self.take("sslkey")) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
            _ => return Err("sslcert and sslkey go together; found only one of them".to_owned()),
        };
        let connect_timeout = match self.take("connect_timeout") {
            None => CONNECT_TIMEOUT,
            Some(text) => match text.parse() {
                Ok(0) => CONNECT_TIMEOUT,
                Ok(seconds) => Duration::from_secs(seconds),
                Err(_) => return Err(format!("connect_timeout: found {text:?}, wanted seconds")),
            },
        };
        let writable = match self.take("target_session_attrs").as_deref() {
            None | Some("any") => hosts.len() > 1,
            Some("read-write" | "primary") => true,
            Some(other) => {
                return Err(format!(
                    "target_session_attrs: found {other:?}, wanted read-write or any"
                ));
            }
        };
        let config = Config {
            database: self.take("dbname").unwrap_or_else(|| user.clone()),
            password: self.take("password"),
            options: self.take("options"),
            application_name: self
                .take("application_name")
                .unwrap_or_else(|| "brokerlet".to_owned()),
            hosts,
            user,
            tls,
            root_certificates,
            client_certificate,
            connect_timeout,
            writable,
        };
        self.0.retain(|(key, _)| !IGNORED.contains(&key.as_str()));
        match self.0.first() {
            None => Ok(config),
            Some((key, _)) => Err(format!("there is no parameter {key:?}")),
        }
    }

    fn hosts(&mut self) -> Result<Vec<Host>, String> {
        let list = |text: Option<String>| -> Vec<String> {
            let text = text.unwrap_or_default();
            text.split(',').map(|part| part.trim().to_owned()).collect()
        };
        let (names, addresses) = (list(self.take("host")), list(self.take("hostaddr")));
        let ports = list(self.take("port"));
        let count = names.len().max(addresses.len());
        if ports.len() != 1 && ports.len() != count {
            return Err(format!(
                "found {count} hosts and {} ports; wanted one port for all, or one for each",
                ports.len()
            ));
        }
        (0..count)
            .map(|at| {
                let port = match ports.get(at).unwrap_or(&ports[0]).as_str() {
                    "" => DEFAULT_PORT,
                    text => text
                        .parse()
                        .ok()
                        .filter(|port| *port > 0)
                        .ok_or_else(|| format!("port: found {text:?}, wanted 1 to 65535"))?,
                };
                let name = names.get(at).map_or("", String::as_str);
                let address = addresses.get(at).filter(|address| !address.is_empty());
                Ok(match (name, address) {
                    (name, None) if name.starts_with('/') => Host::Unix(name.into(), port),
                    ("", None) => Host::Tcp {
                        name: "localhost".to_owned(),
                        address: None,
                        port,
                    },
                    ("", Some(address)) => Host::Tcp {
                        name: address.clone(),
                        address: Some(address.clone()),
                        port,
                    },
                    (name, address) => Host::Tcp {
                        name: name.to_owned(),
                        address: address.cloned(),
                        port,
                    },
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
