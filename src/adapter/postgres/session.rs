//! A connection of the operator's role to the server, for one call of the adapter.

use super::names::literal;
use crate::adapter::{Failure, Run};
use crate::postgres::{Config, Connection, Error, Kind, Row, Statement, Value};

/// What the broker's own sessions keep to, whatever the owner of a database has set for it. The server notices within a
/// minute that a broker is gone, and lets go of its locks.
const OPTIONS: &str = "-c role=none -c search_path=pg_catalog -c default_transaction_read_only=off \
     -c default_transaction_isolation=read\\ committed -c statement_timeout=0 -c lock_timeout=2s \
     -c idle_in_transaction_session_timeout=0 -c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 \
     -c tcp_keepalives_count=3";

pub struct Session<'a> {
    connection: Connection,
    run: &'a Run<'a>,
}

impl<'a> Session<'a> {
    pub fn open(mut config: Config, run: &'a Run<'a>) -> Result<Session<'a>, Failure> {
        check(run)?;
        let options = config.options.take().unwrap_or_default();
        config.options = Some(format!("{options} {OPTIONS}").trim_start().to_owned());
        match config.connect(run.deadline) {
            Ok(connection) => Ok(Session { connection, run }),
            Err(error) => Err(unreachable(&error)),
        }
    }

    /// Waits until nobody else works on what has this name: other calls, other brokers, a statement of a broker that was
    /// killed. Held until the session ends.
    pub fn lock(&mut self, name: &str) -> Result<(), Failure> {
        let sql = "SELECT pg_advisory_lock(hashtextextended($1, 0))";
        loop {
            check(self.run)?;
            let statement = Statement::new(sql, [Value::Text(name)]);
            match self.connection.run(&[statement], self.run.deadline) {
                // The time for one look is over.
                Err(error) if error.code() == Some("55P03") => {}
                result => return result.map(|_| ()).map_err(|error| failure(&error)),
            }
        }
    }

    /// Runs statements in one transaction.
    pub fn run(&mut self, statements: &[String]) -> Result<(), Failure> {
        check(self.run)?;
        let statements: Vec<Statement<'_>> = statements
            .iter()
            .map(|sql| Statement::new(sql.as_str(), []))
            .collect();
        self.connection
            .run(&statements, self.run.deadline)
            .map(|_| ())
            .map_err(|error| failure(&error))
    }

    pub fn query(&mut self, sql: &str, parameter: &str) -> Result<Vec<Row>, Failure> {
        self.rows(sql, &[parameter])
    }

    /// Whether there is a row.
    fn has(&mut self, sql: &str, parameters: &[&str]) -> Result<bool, Failure> {
        Ok(!self.rows(sql, parameters)?.is_empty())
    }

    fn rows(&mut self, sql: &str, parameters: &[&str]) -> Result<Vec<Row>, Failure> {
        check(self.run)?;
        let values: Vec<_> = parameters.iter().map(|text| Value::Text(text)).collect();
        let statement = Statement::new(sql, values);
        let done = self.connection.run(&[statement], self.run.deadline);
        let mut done = done.map_err(|error| failure(&error))?;
        Ok(done.pop().map(|done| done.rows).unwrap_or_default())
    }

    /// The first column, which is a text.
    pub fn texts(&mut self, sql: &str, parameter: &str) -> Result<Vec<String>, Failure> {
        let rows = self.query(sql, parameter)?;
        rows.iter()
            .map(|row| row.text(0).map(str::to_owned))
            .collect::<Result<_, _>>()
            .map_err(|error| failure(&error))
    }

    pub fn has_database(&mut self, name: &str) -> Result<bool, Failure> {
        self.has("SELECT 1 FROM pg_database WHERE datname = $1", &[name])
    }

    /// Whether a database belongs to a role.
    pub fn is_owner(&mut self, database: &str, role: &str) -> Result<bool, Failure> {
        let sql = "SELECT 1 FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba \
             WHERE d.datname = $1 AND r.rolname = $2";
        self.has(sql, &[database, role])
    }

    /// Whether a role may log in and is a member of a group.
    pub fn is_member(&mut self, role: &str, group: &str) -> Result<bool, Failure> {
        let sql = "SELECT 1 FROM pg_auth_members m JOIN pg_roles u ON u.oid = m.member \
             JOIN pg_roles g ON g.oid = m.roleid WHERE u.rolname = $1 AND u.rolcanlogin AND g.rolname = $2";
        self.has(sql, &[role, group])
    }

    pub fn has_role(&mut self, name: &str) -> Result<bool, Failure> {
        self.has("SELECT 1 FROM pg_roles WHERE rolname = $1", &[name])
    }
}

/// Whether the call is to go on.
fn check(run: &Run<'_>) -> Result<(), Failure> {
    if run.cancel.is_cancelled() {
        return Err(Failure::again("the work was interrupted"));
    }
    Ok(())
}

/// Nothing was changed.
fn unreachable(error: &Error) -> Failure {
    Failure::unavailable("the database server cannot be reached at the moment")
        .with_detail(&error.message)
}

/// A statement went wrong. The server's message names databases and roles, no value.
pub fn failure(error: &Error) -> Failure {
    // 53300: too many connections; 55006: in use; 55P03: locked; 42P04, 42710, 23505: somebody else made it just now.
    let is_passing = error.is_connection()
        || error.is_serialization()
        || matches!(
            error.code(),
            Some("53300" | "55006" | "55P03" | "42P04" | "42710" | "23505")
        );
    let failed = match (&error.kind, is_passing) {
        (_, true) => Failure::again("the database server cannot do it at the moment"),
        (Kind::Server(code), _) if code == "42501" => {
            Failure::failed("the broker lacks a right on the database server")
        }
        _ => Failure::failed("the database server could not do it"),
    };
    failed.with_detail(&error.message)
}

/// `COMMENT ON …`, for people who look around on the server.
pub fn comment(on: &str, text: &str) -> String {
    format!("COMMENT ON {on} IS {}", literal(text))
}
