//! One connection: the login, prepared statements, and several of them in one round trip.

use super::config::{Config, Host, TlsMode};
use super::error::{Error, Kind};
use super::stream::{Socket, Stream, left};
use super::tls;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::IsNull;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::backend::{ErrorFields, Header, Message};
use postgres_protocol::message::frontend;
use rustls::ClientConfig;
use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The largest message that is taken from a server. Records are far smaller.
const MAX_MESSAGE: usize = 64 << 20;

/// How many statements a connection keeps prepared. Those of a program are a fixed few.
const MAX_PREPARED: usize = 256;

/// How long a request to cancel a statement may take.
const CANCEL_TIME: Duration = Duration::from_secs(2);

/// A parameter. Everything goes in binary form, so nothing has to be quoted.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
    Int(i64),
    Bool(bool),
    Null,
}

impl Value<'_> {
    /// The OID of its type. A NULL takes the type that the server finds for it.
    fn oid(self) -> u32 {
        match self {
            Value::Text(_) => 25,
            Value::Bytes(_) => 17,
            Value::Int(_) => 20,
            Value::Bool(_) => 16,
            Value::Null => 0,
        }
    }
}

/// A statement with its parameters.
pub struct Statement<'a> {
    pub sql: &'a str,
    pub values: Vec<Value<'a>>,
}

impl<'a> Statement<'a> {
    pub fn new(sql: &'a str, values: impl Into<Vec<Value<'a>>>) -> Statement<'a> {
        let values = values.into();
        Statement { sql, values }
    }
}

/// What a statement has come to.
#[derive(Debug, Default)]
pub struct Done {
    pub rows: Vec<Row>,
    /// How many rows it changed or returned.
    pub count: u64,
}

/// A row, its columns in binary form.
#[derive(Debug)]
pub struct Row(Vec<Option<Vec<u8>>>);

impl Row {
    fn column(&self, at: usize) -> Result<&[u8], Error> {
        let column = self.0.get(at).and_then(Option::as_deref);
        column.ok_or_else(|| unexpected("a row with another column"))
    }

    pub fn is_null(&self, at: usize) -> bool {
        self.0.get(at).is_none_or(Option::is_none)
    }

    pub fn text(&self, at: usize) -> Result<&str, Error> {
        std::str::from_utf8(self.column(at)?).map_err(|_| unexpected("a text that is not UTF-8"))
    }

    pub fn int(&self, at: usize) -> Result<i64, Error> {
        let bytes = self.column(at)?;
        match bytes.len() {
            8 => Ok(bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | i64::from(*byte))),
            4 => {
                let sum = bytes
                    .iter()
                    .fold(0, |sum: u32, byte| sum << 8 | u32::from(*byte));
                Ok(i64::from(sum.cast_signed()))
            }
            _ => Err(unexpected("a number of another size")),
        }
    }

    pub fn bool(&self, at: usize) -> Result<bool, Error> {
        Ok(self.column(at)? == [1])
    }

    /// Takes a column out of the row.
    pub fn take_bytes(&mut self, at: usize) -> Result<Vec<u8>, Error> {
        let column = self.0.get_mut(at).and_then(Option::take);
        column.ok_or_else(|| unexpected("a row with another column"))
    }
}

pub struct Connection {
    stream: Stream,
    host: Host,
    client: Option<Arc<ClientConfig>>,
    /// What was read and not yet looked at.
    input: BytesMut,
    output: BytesMut,
    prepared: HashMap<String, String>,
    named: u64,
    /// What cancels a statement of this connection.
    key: Option<(i32, i32)>,
    /// Whether nothing is under way on it.
    idle: bool,
}

fn unexpected(what: &str) -> Error {
    Error::new(Kind::Protocol, format!("the server sent {what}"))
}

impl Connection {
    /// Connects to the first host that takes the login and, if wanted, can be written to. `deadline` holds for all of it.
    pub fn open(
        config: &Config,
        client: Option<&Arc<ClientConfig>>,
        deadline: Instant,
    ) -> Result<Connection, Error> {
        let mut complaints = Vec::new();
        for host in &config.hosts {
            let until = deadline.min(Instant::now() + config.connect_timeout);
            match Connection::open_host(config, host, client, until) {
                Ok(connection) => return Ok(connection),
                Err(error) => complaints.push(format!("{host}: {error}")),
            }
        }
        Err(Error::new(Kind::Connect, complaints.join("; ")))
    }

    fn open_host(
        config: &Config,
        host: &Host,
        client: Option<&Arc<ClientConfig>>,
        deadline: Instant,
    ) -> Result<Connection, Error> {
        let failed = |error: io::Error| Error::new(Kind::Connect, plain(&error));
        let stream = connect(config.tls, host, client, deadline).map_err(failed)?;
        let mut connection = Connection {
            stream,
            host: host.clone(),
            client: client.cloned(),
            input: BytesMut::new(),
            output: BytesMut::new(),
            prepared: HashMap::new(),
            named: 0,
            key: None,
            idle: true,
        };
        connection.login(config, deadline)?;
        if config.writable {
            // Not every server tells by itself.
            let asked = [Statement::new("SHOW transaction_read_only", [])];
            let answer = connection.run(&asked, deadline)?;
            let row = answer.first().and_then(|done| done.rows.first());
            if row.is_some_and(|row| row.text(0) == Ok("on")) {
                return Err(Error::new(
                    Kind::Connect,
                    "is read only, as a standby is; wanted read-write",
                ));
            }
        }
        Ok(connection)
    }

    fn login(&mut self, config: &Config, deadline: Instant) -> Result<(), Error> {
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
                        .ok_or_else(|| unexpected("SASL out of turn"))?;
                    state.update(body.data()).map_err(refused)?;
                    frontend::sasl_response(state.message(), &mut self.output).map_err(refused)?;
                    self.flush(deadline)?;
                }
                Message::AuthenticationSaslFinal(body) => {
                    let state = scram
                        .as_mut()
                        .ok_or_else(|| unexpected("SASL out of turn"))?;
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
                _ => return Err(unexpected("something else than a login")),
            }
        }
    }

    /// Runs statements in one round trip and one transaction: all of them, or none. Of a refused one the error is returned.
    /// If the time is over, the statement is cancelled, and the connection is of no use any more.
    pub fn run(
        &mut self,
        statements: &[Statement<'_>],
        deadline: Instant,
    ) -> Result<Vec<Done>, Error> {
        if !self.idle {
            return Err(Error::new(Kind::Lost, "the connection was given up before"));
        }
        let fresh = self.prepare(statements).map_err(refused)?;
        self.idle = false;
        let result = self.exchange(statements.len(), deadline);
        match &result {
            Err(error) if error.kind == Kind::Lost && Instant::now() >= deadline => self.cancel(),
            Err(_) => {
                for sql in fresh {
                    self.prepared.remove(&sql);
                }
            }
            Ok(_) => {}
        }
        result
    }

    /// Whether it can be used again.
    pub fn is_idle(&self) -> bool {
        self.idle
    }

    /// Writes the messages. Returns what is prepared for the first time.
    fn prepare(&mut self, statements: &[Statement<'_>]) -> io::Result<Vec<String>> {
        self.output.clear();
        let mut fresh = Vec::new();
        if self.prepared.len() > MAX_PREPARED {
            for (_, name) in self.prepared.drain() {
                frontend::close(b'S', &name, &mut self.output)?;
            }
        }
        for statement in statements {
            let name = match self.prepared.get(statement.sql) {
                Some(name) => name,
                None => {
                    self.named += 1;
                    let name = format!("s{}", self.named);
                    let types = statement.values.iter().map(|value| value.oid());
                    frontend::parse(&name, statement.sql, types, &mut self.output)?;
                    fresh.push(statement.sql.to_owned());
                    self.prepared
                        .entry(statement.sql.to_owned())
                        .or_insert(name)
                }
            };
            frontend::bind(
                "",
                name,
                [1],
                &statement.values,
                write_value,
                [1],
                &mut self.output,
            )
            .map_err(|error| match error {
                frontend::BindError::Conversion(error) => io::Error::other(error),
                frontend::BindError::Serialization(error) => error,
            })?;
            frontend::execute("", 0, &mut self.output)?;
        }
        frontend::sync(&mut self.output);
        Ok(fresh)
    }

    fn exchange(&mut self, count: usize, deadline: Instant) -> Result<Vec<Done>, Error> {
        self.flush(deadline)?;
        let mut done = Vec::with_capacity(count);
        let mut current = Done::default();
        let mut failed = None;
        loop {
            match self.receive(deadline)? {
                Message::DataRow(body) => {
                    let mut columns = Vec::new();
                    let mut ranges = body.ranges();
                    while let Some(range) = ranges.next().map_err(refused)? {
                        columns.push(range.map(|range| body.buffer()[range].to_vec()));
                    }
                    current.rows.push(Row(columns));
                }
                Message::CommandComplete(body) => {
                    let tag = body.tag().map_err(refused)?;
                    let count = tag.rsplit(' ').next().and_then(|count| count.parse().ok());
                    current.count = count.unwrap_or_default();
                    done.push(std::mem::take(&mut current));
                }
                Message::ErrorResponse(body) => {
                    failed.get_or_insert(server_error(body.fields()));
                }
                Message::ReadyForQuery(_) => {
                    self.idle = true;
                    return match failed {
                        Some(error) => Err(error),
                        None if done.len() == count => Ok(done),
                        None => Err(unexpected("another number of results")),
                    };
                }
                Message::ParseComplete
                | Message::BindComplete
                | Message::CloseComplete
                | Message::EmptyQueryResponse
                | Message::NoData
                | Message::NoticeResponse(_)
                | Message::NotificationResponse(_)
                | Message::ParameterStatus(_) => {}
                _ => return Err(unexpected("something else than a result")),
            }
        }
    }

    fn flush(&mut self, deadline: Instant) -> Result<(), Error> {
        let mut write = || {
            self.stream.set_deadline(deadline)?;
            self.stream.write_all(&self.output)?;
            self.stream.flush()
        };
        let written = write();
        self.output.clear();
        written.map_err(|error| lost(&error))
    }

    fn receive(&mut self, deadline: Instant) -> Result<Message, Error> {
        loop {
            if let Some(header) = Header::parse(&self.input).map_err(refused)? {
                // A length is at least 4: the codec has looked.
                let length = usize::try_from(header.len()).unwrap_or(usize::MAX);
                if length > MAX_MESSAGE {
                    return Err(unexpected("a message that is too large"));
                }
                if let Some(message) = Message::parse(&mut self.input).map_err(refused)? {
                    return Ok(message);
                }
            }
            let mut read = || -> io::Result<()> {
                self.stream.set_deadline(deadline)?;
                let mut buffer = [0; 8192];
                match self.stream.read(&mut buffer)? {
                    0 => Err(ErrorKind::UnexpectedEof.into()),
                    n => {
                        self.input.extend_from_slice(&buffer[..n]);
                        Ok(())
                    }
                }
            };
            match read() {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => read.map_err(|error| lost(&error))?,
            }
        }
    }

    /// Asks the server to stop what it does for this connection. Whether it does is not known.
    fn cancel(&self) {
        let Some((process, key)) = self.key else {
            return;
        };
        let deadline = Instant::now() + CANCEL_TIME;
        let mode = match self.stream.is_secure() {
            true => TlsMode::Require,
            false => TlsMode::Disable,
        };
        let Ok(mut stream) = connect(mode, &self.host, self.client.as_ref(), deadline) else {
            return;
        };
        let mut request = BytesMut::new();
        frontend::cancel_request(process, key, &mut request);
        let _ = stream.write_all(&request).and_then(|()| stream.flush());
    }
}

/// Says goodbye, so that the server frees what it has at once.
impl Drop for Connection {
    fn drop(&mut self) {
        if self.idle
            && self
                .stream
                .set_deadline(Instant::now() + Duration::from_millis(100))
                .is_ok()
        {
            let mut goodbye = BytesMut::new();
            frontend::terminate(&mut goodbye);
            let _ = self
                .stream
                .write_all(&goodbye)
                .and_then(|()| self.stream.flush());
        }
    }
}

/// A socket, with TLS if the mode wants it and the server has it.
fn connect(
    mode: TlsMode,
    host: &Host,
    client: Option<&Arc<ClientConfig>>,
    deadline: Instant,
) -> io::Result<Stream> {
    let mut plain = Stream::Plain(Socket::connect(host, deadline)?);
    let client = match (client, host) {
        // A socket of the machine has nobody in between; libpq has no TLS there either.
        (None, _) | (_, Host::Unix(..)) => return Ok(plain),
        (Some(client), Host::Tcp { .. }) if mode != TlsMode::Disable => client,
        _ => return Ok(plain),
    };
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    plain.set_deadline(deadline)?;
    plain.write_all(&request)?;
    let mut answer = [0];
    plain.set_deadline(deadline)?;
    plain.read_exact(&mut answer)?;
    match (answer, plain) {
        ([b'S'], Stream::Plain(socket)) => {
            let mut stream = Stream::secure(socket, host, client)?;
            if let Stream::Tls(tls) = &mut stream {
                while tls.conn.is_handshaking() {
                    let timeout = left(deadline)?;
                    tls.sock.set_timeout(timeout)?;
                    tls.conn.complete_io(&mut tls.sock)?;
                }
            }
            Ok(stream)
        }
        ([b'N'], plain) if mode == TlsMode::Prefer => Ok(plain),
        ([b'N'], _) => Err(io::Error::other("has no TLS, which sslmode wants")),
        _ => Err(io::Error::other("is no PostgreSQL server")),
    }
}

fn write_value(
    value: &Value<'_>,
    buffer: &mut BytesMut,
) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
    match value {
        Value::Text(text) => buffer.extend_from_slice(text.as_bytes()),
        Value::Bytes(bytes) => buffer.extend_from_slice(bytes),
        Value::Int(number) => buffer.extend_from_slice(&number.to_be_bytes()),
        Value::Bool(value) => buffer.extend_from_slice(&[u8::from(*value)]),
        Value::Null => return Ok(IsNull::Yes),
    }
    Ok(IsNull::No)
}

/// SQLSTATE and message. Details may quote parameters, so they are left out.
fn server_error(mut fields: ErrorFields<'_>) -> Error {
    let (mut code, mut message) = (String::new(), String::new());
    while let Ok(Some(field)) = fields.next() {
        let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => code = value,
            b'M' => message = value,
            _ => {}
        }
    }
    let text = format!("{message} (SQLSTATE {code})");
    Error::new(Kind::Server(code), text)
}

fn refused(error: io::Error) -> Error {
    Error::new(Kind::Protocol, plain(&error))
}

fn lost(error: &io::Error) -> Error {
    Error::new(Kind::Lost, plain(error))
}

fn plain(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "no answer in time".to_owned(),
        _ => error.to_string(),
    }
}
