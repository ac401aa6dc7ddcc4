//! The table of the variables.

/// One environment variable, as `--help` and docs/configuration.md show it.
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
        "required, or BROKER_TOKEN",
        "user name that the platform logs in with",
    ),
    variable(
        "BROKER_PASSWORD",
        "required, or BROKER_TOKEN",
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
    variable(
        "BROKER_TOKEN",
        "",
        "bearer token that the platform may send instead of user name and password",
    ),
    variable(
        "BROKER_TOKEN_FILE",
        "",
        "file that holds the token, instead of BROKER_TOKEN",
    ),
    variable(
        "BROKER_TOKEN_2",
        "",
        "second token, accepted too while you rotate",
    ),
    variable(
        "BROKER_TOKEN_2_FILE",
        "",
        "file that holds the second token",
    ),
    variable("BROKER_CATALOG", "the tutorial's", "catalog file (JSON)"),
    variable(
        "BROKER_RELOAD_EVERY",
        "1m",
        "how often to look whether the files above or those of TLS have changed; 0 for never",
    ),
    variable(
        "BROKER_STORE",
        "file:brokerlet.db",
        "where the state is kept: file:PATH, postgres://… (feature postgres), or memory to try things out",
    ),
    variable(
        "BROKER_AUDIT_FOR",
        "400d",
        "how long the audit trail is kept; 0 for none",
    ),
    variable(
        "BROKER_STORE_SERVICE",
        "the one tagged postgresql",
        "name of the bound service (VCAP_SERVICES) to keep the state in, where BROKER_STORE is not set",
    ),
    variable(
        "BROKER_SEAL_KEYS",
        "",
        "keys that secrets in the state are sealed with, the current one first, separated by commas",
    ),
    variable(
        "BROKER_SEAL_KEYS_FILE",
        "",
        "file that holds these keys, instead of BROKER_SEAL_KEYS",
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
        "BROKER_ADMIN_ADDRESS",
        "",
        "IP address and port to serve /metrics and a page on, as in 127.0.0.1:9100; one that is no loopback address needs the credentials",
    ),
    variable(
        "BROKER_PUBLIC_URL",
        "",
        "address that users reach the broker at, for the links of ${page}",
    ),
    variable(
        "BROKER_PAGE_KEYS",
        "",
        "keys that these links are signed with, the current one first, separated by commas",
    ),
    variable(
        "BROKER_BASE_PATH",
        "/",
        "path that the broker is below, as in /brokers/mail, if the proxy in front leaves it in",
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
        "32KiB",
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
