//! A connection string of PostgreSQL: it is read or refused, and what the log shows of it has no password.

use brokerlet::postgres::Config;

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    match Config::parse(text) {
        Ok(config) => {
            assert!(!config.hosts.is_empty());
            let shown = format!("{config} {config:?}");
            let without = Config {
                password: None,
                ..config.clone()
            };
            assert_eq!(shown, format!("{without} {without:?}"));
        }
        Err(error) => assert!(!error.is_empty()),
    }
}
