//! The login: from the first message to the one that says that statements can come.

use super::config::Config;
use super::connection::{Connection, refused, server_error};
use super::error::{Error, Kind};
use super::tls;

use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use std::time::Instant;

impl Connection {
    pub(super) fn login(&mut self, config: &Config, deadline: Instant) -> Result<(), Error> {
        check_random()?;
        let mut parameters = vec![
            ("user", config.user.as_str()),
            ("database", &config.database),
            ("client_encoding", "UTF8"),
            ("application_name", &config.application_name),
        ];
        if let Some(options) = &config.options {
            parameters.push(("options", options));
        }
        frontend::startup_message(parameters, &mut self.output).map_err(refused)?;
        self.flush(deadline)?;
        let password = || {
            let password = config.password.as_deref();
            password.ok_or_else(|| Error::new(Kind::Connect, "wants a password, and none is given"))
        };
        let mut scram: Option<ScramSha256> = None;
        loop {
            match self.receive(deadline)? {
                Message::AuthenticationOk => {}
                Message::AuthenticationCleartextPassword => {
                    if !self.stream.is_secure() {
                        let what = "wants the password in the clear, without TLS: refused";
                        return Err(Error::new(Kind::Connect, what));
                    }
                    frontend::password_message(password()?.as_bytes(), &mut self.output)
                        .map_err(refused)?;
                    self.flush(deadline)?;
                }
                Message::AuthenticationMd5Password(body) => {
                    let password = password()?.as_bytes();
                    let hash = md5_hash(config.user.as_bytes(), password, body.salt());
                    frontend::password_message(hash.as_bytes(), &mut self.output)
                        .map_err(refused)?;
                    self.flush(deadline)?;
                }
                Message::AuthenticationSasl(body) => {
                    let offered: Vec<&str> = body.mechanisms().collect().map_err(refused)?;
                    let end_point = self.stream.certificate().and_then(tls::end_point);
                    let (mechanism, binding) = match end_point {
                        Some(hash) if offered.contains(&SCRAM_SHA_256_PLUS) => (
                            SCRAM_SHA_256_PLUS,
                            ChannelBinding::tls_server_end_point(hash),
                        ),
                        // The server must not have been able to do it either, or somebody is in between.
                        Some(_) => (SCRAM_SHA_256, ChannelBinding::unrequested()),
                        None => (SCRAM_SHA_256, ChannelBinding::unsupported()),
                    };
                    if !offered.contains(&mechanism) {
                        let what =
                            format!("wants one of {offered:?}; this client has SCRAM-SHA-256");
                        return Err(Error::new(Kind::Connect, what));
                    }
                    let state = scram.insert(ScramSha256::new(password()?.as_bytes(), binding));
                    frontend::sasl_initial_response(mechanism, state.message(), &mut self.output)
                        .map_err(refused)?;
                    self.flush(deadline)?;
                }
                Message::AuthenticationSaslContinue(body) => {
                    let state = scram
                        .as_mut()
                        .ok_or_else(|| Error::unexpected("SASL out of turn"))?;
                    state.update(body.data()).map_err(refused)?;
                    frontend::sasl_response(state.message(), &mut self.output).map_err(refused)?;
                    self.flush(deadline)?;
                }
                Message::AuthenticationSaslFinal(body) => {
                    let state = scram
                        .as_mut()
                        .ok_or_else(|| Error::unexpected("SASL out of turn"))?;
                    state.finish(body.data()).map_err(refused)?;
                }
                Message::BackendKeyData(body) => {
                    self.key = Some((body.process_id(), body.secret_key()));
                }
                Message::ReadyForQuery(_) => return Ok(()),
                Message::ErrorResponse(body) => {
                    let error = server_error(body.fields());
                    return Err(Error::new(Kind::Connect, error.message));
                }
                Message::ParameterStatus(_) | Message::NoticeResponse(_) => {}
                _ => return Err(Error::unexpected("something else than a login")),
            }
        }
    }
}

/// The codec panics where it gets no random values. A static binary gets them from a file, which a folder of its own may not
/// have.
fn check_random() -> Result<(), Error> {
    getrandom::fill(&mut [0]).map_err(|error| {
        let what = format!("no random values for the login: /dev/urandom: {error}");
        Error::new(Kind::Connect, what)
    })
}
