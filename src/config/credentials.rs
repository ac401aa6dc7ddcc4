//! What the environment says of who may log in: user names and passwords, bearer tokens, and the files that hold them.

use super::{Environment, Reader};
use crate::http::auth::Credentials;

/// Names that other brokers use for the credentials.
const USERNAME_ALIASES: &[&str] = &["SECURITY_USER_NAME", "AUTH_USER"];
const PASSWORD_ALIASES: &[&str] = &["SECURITY_USER_PASSWORD", "AUTH_PASSWORD"];

/// The variables that name a file which holds a secret.
pub(super) const FILES: [&str; 4] = [
    "BROKER_PASSWORD_FILE",
    "BROKER_PASSWORD_2_FILE",
    "BROKER_TOKEN_FILE",
    "BROKER_TOKEN_2_FILE",
];

/// Everybody who may log in; the error has a line for everything that is wrong. Reads the files anew.
pub fn read(environment: Environment<'_>) -> Result<Credentials, Vec<String>> {
    let mut reader = Reader::new(environment);
    let pairs = reader.pairs();
    let tokens = reader.tokens();
    if pairs.is_empty() && tokens.is_empty() && reader.errors.is_empty() {
        reader.errors.push(
            "BROKER_USERNAME and BROKER_PASSWORD are not set, nor is BROKER_TOKEN: the platform needs a user name and a \
             password, or a bearer token, to log in with; there is no default. BROKER_PASSWORD_FILE or \
             BROKER_TOKEN_FILE names a file that holds the secret"
                .to_owned(),
        );
    }
    match reader.errors.is_empty() {
        true => Ok(Credentials::new(
            pairs
                .iter()
                .map(|(name, password)| (name.as_str(), password.as_str())),
        )
        .with_tokens(tokens)),
        false => Err(reader.errors),
    }
}

impl Reader<'_> {
    /// The pairs of user name and password.
    fn pairs(&mut self) -> Vec<(String, String)> {
        let username = self.first("BROKER_USERNAME", USERNAME_ALIASES);
        let told = self.errors.len();
        let password = self.secret("BROKER_PASSWORD", PASSWORD_ALIASES, "BROKER_PASSWORD_FILE");
        let second_username = self.get("BROKER_USERNAME_2");
        let second_password = self.secret("BROKER_PASSWORD_2", &[], "BROKER_PASSWORD_2_FILE");
        let (username_from, username, password) = match (username, password) {
            (Some((from, username)), Some(password)) => (from, username, password),
            (None, None) => {
                if second_username.is_some() || second_password.is_some() {
                    self.errors.push(
                        "BROKER_USERNAME_2 or BROKER_PASSWORD_2 is set, but BROKER_USERNAME and BROKER_PASSWORD are \
                         not; wanted the first pair too"
                            .to_owned(),
                    );
                }
                return Vec::new();
            }
            (username, _) => {
                // Without a password for another reason than that none is set, the reason has been told already.
                if self.errors.len() == told {
                    let missing = match username {
                        None => "BROKER_USERNAME",
                        Some(_) => "BROKER_PASSWORD",
                    };
                    self.errors.push(format!(
                        "{missing} is not set: user name and password go together; there is no default. \
                         BROKER_PASSWORD_FILE names a file that holds the password; BROKER_TOKEN, a bearer token, needs \
                         neither"
                    ));
                }
                return Vec::new();
            }
        };
        self.check_pair(username_from, &username, &password);
        let mut pairs = vec![(username.clone(), password)];
        match (second_username, second_password) {
            (Some(_), None) if self.errors.len() == told => self.errors.push(
                "BROKER_USERNAME_2 is set, but BROKER_PASSWORD_2 is not; wanted both or none"
                    .to_owned(),
            ),
            (second_username, Some(password)) => {
                let username = second_username.unwrap_or(username);
                self.check_pair("BROKER_USERNAME_2", &username, &password);
                pairs.push((username, password));
            }
            _ => {}
        }
        pairs
    }

    /// The bearer tokens.
    fn tokens(&mut self) -> Vec<String> {
        let told = self.errors.len();
        let first = self.secret("BROKER_TOKEN", &[], "BROKER_TOKEN_FILE");
        let second = self.secret("BROKER_TOKEN_2", &[], "BROKER_TOKEN_2_FILE");
        for (name, token) in [("BROKER_TOKEN", &first), ("BROKER_TOKEN_2", &second)] {
            let carried = |token: &String| token.bytes().all(|byte| byte.is_ascii_graphic());
            if !token.as_ref().is_none_or(carried) {
                self.errors.push(format!(
                    "{name} or {name}_FILE: the token has a character that a header field cannot carry in it; wanted \
                     letters, digits and signs of ASCII, without spaces"
                ));
            }
        }
        if first.is_none() && second.is_some() && self.errors.len() == told {
            self.errors.push(
                "BROKER_TOKEN_2 is set, but BROKER_TOKEN is not; wanted the first token too"
                    .to_owned(),
            );
        }
        [first, second].into_iter().flatten().collect()
    }

    /// A secret that stands in a variable or in a file. Its value is never part of a complaint.
    pub(super) fn secret(
        &mut self,
        name: &'static str,
        aliases: &[&'static str],
        file: &'static str,
    ) -> Option<String> {
        let direct = self.first(name, aliases);
        let Some(path) = self.get(file) else {
            return direct.map(|(_, secret)| secret);
        };
        if let Some((name, _)) = direct {
            self.errors.push(format!(
                "{name} and {file} are both set; wanted only one of them"
            ));
            return None;
        }
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let secret = text.strip_suffix('\n').unwrap_or(&text);
                let secret = secret.strip_suffix('\r').unwrap_or(secret);
                if secret.is_empty() {
                    self.errors.push(format!(
                        "{file}: the file {path} is empty, wanted what {name} would hold"
                    ));
                    return None;
                }
                Some(secret.to_owned())
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

    fn first(
        &self,
        name: &'static str,
        aliases: &[&'static str],
    ) -> Option<(&'static str, String)> {
        std::iter::once(name)
            .chain(aliases.iter().copied())
            .find_map(|name| Some((name, self.get(name)?)))
    }
}
