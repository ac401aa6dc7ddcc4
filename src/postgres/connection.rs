//! One connection: prepared statements, and several of them in one round trip.

use super::config::{Config, Host, TlsMode};
use super::error::{Error, Kind};
use super::statement::{Done, Row, Statement, write_value};
use super::stream::{Stream, connect};
use super::tls;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
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

pub struct Connection {
    pub(super) stream: Stream,
    host: Host,
    client: Option<Arc<ClientConfig>>,
    /// What was read and not yet looked at.
    input: BytesMut,
    pub(super) output: BytesMut,
    prepared: HashMap<String, String>,
    named: u64,
    /// What cancels a statement of this connection.
    pub(super) key: Option<(i32, i32)>,
    /// Whether nothing is under way on it.
    idle: bool,
}

impl Config {
    /// A connection of its own, for work that no pool is needed for.
    pub fn connect(&self, deadline: Instant) -> Result<Connection, Error> {
        let client = tls::client(self).map_err(|error| Error::new(Kind::Connect, error))?;
        Connection::open(self, client.as_ref(), deadline)
    }
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
                        None => Err(Error::unexpected("another number of results")),
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
                _ => return Err(Error::unexpected("something else than a result")),
            }
        }
    }

    pub(super) fn flush(&mut self, deadline: Instant) -> Result<(), Error> {
        let mut write = || {
            self.stream.set_deadline(deadline)?;
            self.stream.write_all(&self.output)?;
            self.stream.flush()
        };
        let written = write();
        self.output.clear();
        written.map_err(|error| lost(&error))
    }

    pub(super) fn receive(&mut self, deadline: Instant) -> Result<Message, Error> {
        loop {
            if let Some(header) = Header::parse(&self.input).map_err(refused)? {
                // A length is at least 4: the codec has looked.
                let length = usize::try_from(header.len()).unwrap_or(usize::MAX);
                if length > MAX_MESSAGE {
                    return Err(Error::unexpected("a message that is too large"));
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

/// SQLSTATE and message. Details may quote parameters, so they are left out.
pub(super) fn server_error(mut fields: ErrorFields<'_>) -> Error {
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

pub(super) fn refused(error: io::Error) -> Error {
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
