//! What an operator does with the database, beside brokers: reading in transactions that change nothing; and instead of them:
//! with a line in the table `brokers`, as a broker has it, so that each sees the other.

use super::schema::{self, does_not_hold};
use super::{Postgres, deadline, new_revision};
use crate::postgres::{self, Config, Connection, Kind, Row, Statement, Value};
use crate::store::inspect::{Filling, Inspect, Put, Refusal, Visit, removal};
use crate::store::{AuditLine, Change, Error, Key, Outcome, Record, Revision};

use std::mem;
use std::path::Path;
use std::time::Duration;

/// How long one step may take: nobody waits for an answer over HTTP.
const TIME: Duration = Duration::from_secs(60);
/// How many records, and about how many bytes of them, are written in one round trip.
const TOGETHER: usize = 256;
const BYTES: usize = 1 << 20;

const READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
const WRITE: &str = "BEGIN";

const NOT_FOUND: &str =
    "has no tables of brokerlet; they are made by the first broker that starts on it";

impl Postgres {
    /// Reads what is there, and makes no tables. The role needs nothing but `SELECT`.
    pub fn open_to_read(config: Config) -> Result<Postgres, Error> {
        let store = Postgres::connect(config, schema::MOVER)?;
        let until = deadline(TIME);
        let ask = |connection: &mut Connection| schema::version(connection, until);
        match store.readers.with(until, ask) {
            Ok(0) => Err(store.error(NOT_FOUND)),
            Err(error) if error.code() == Some("42P01") => Err(store.error(NOT_FOUND)),
            Err(error) => Err(store.failed(error)),
            Ok(version) if version > schema::STEPS.len() as u64 => Err(store.newer(version)),
            Ok(_) => Ok(store),
        }
    }

    /// Instead of brokers: refused while one lives, and none can start meanwhile.
    pub fn open_alone(config: Config) -> Result<Postgres, Error> {
        let store = Postgres::connect(config, schema::MOVER)?;
        store.migrate()?;
        store.live()?;
        match store.others(schema::OTHERS)? {
            0 => Ok(store),
            1 => Err(store.error(&format!("in use by a broker; {STOP}"))),
            count => Err(store.error(&format!("in use by {count} brokers; {STOP}"))),
        }
    }

    /// Several round trips in one transaction, which is taken back if `work` fails.
    fn transaction(
        &self,
        begin: &str,
        work: impl FnOnce(&mut Connection) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut result = Ok(());
        let done = self.writer.pool().once(deadline(TIME), |connection| {
            run(connection, &[Statement::new(begin, [])])?;
            result = work(connection);
            let end = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
            run(connection, &[Statement::new(end, [])])
        });
        result?;
        match done {
            Ok(_) => Ok(()),
            Err(error) if begin == WRITE && error.kind == Kind::Lost => {
                let what =
                    "whether the records were written is not known: brokerlet state list tells";
                Err(self.error(&format!("{}; {what}", error.message)))
            }
            Err(error) => Err(self.failed(error)),
        }
    }
}

const STOP: &str = "stop them all, and try again (15 seconds after one was killed)";

fn run(
    connection: &mut Connection,
    statements: &[Statement<'_>],
) -> Result<Vec<postgres::Done>, postgres::Error> {
    connection.run(statements, deadline(TIME))
}

fn rows(
    connection: &mut Connection,
    sql: &str,
    values: Vec<Value<'_>>,
) -> Result<Vec<Row>, postgres::Error> {
    let done = run(connection, &[Statement::new(sql, values)])?;
    Ok(done.into_iter().flat_map(|done| done.rows).collect())
}

/// Shows the records of a table page by page until there are no more. Whether `visit` wants more. The first columns are the ids.
fn pages<const IDS: usize>(
    connection: &mut Connection,
    me: &str,
    (sql, key): (&str, fn([String; IDS]) -> Key),
    visit: &mut Visit<'_>,
) -> Result<bool, postgres::Error> {
    let mut last = [const { Vec::new() }; IDS];
    loop {
        let values = last.each_ref().map(|id| Value::Bytes(id));
        let found = rows(connection, sql, values.into())?;
        if found.is_empty() {
            return Ok(true);
        }
        for mut row in found {
            for (at, id) in last.iter_mut().enumerate() {
                *id = row.take_bytes(at)?;
            }
            let ids = last
                .each_ref()
                .map(|id| String::from_utf8_lossy(id).into_owned());
            let open = row.bool(IDS)?;
            let record = schema::record(&mut row, IDS + 1, me)?;
            if visit(key(ids), record, open).is_break() {
                return Ok(false);
            }
        }
    }
}

impl Inspect for Postgres {
    fn each(&self, visit: &mut Visit<'_>) -> Result<(), Error> {
        self.transaction(READ, |connection| {
            let instances = (schema::NEXT_INSTANCES, |[id]: [String; 1]| {
                Key::Instance(id)
            });
            let bindings = (schema::NEXT_BINDINGS, |[instance_id, id]: [String; 2]| {
                Key::Binding(instance_id, id)
            });
            let mut show = || {
                if pages(connection, &self.me, (instances.0, instances.1), visit)? {
                    pages(connection, &self.me, (bindings.0, bindings.1), visit)?;
                }
                Ok(())
            };
            show().map_err(|error| self.failed(error))
        })
    }

    fn fill(&self, source: &mut dyn FnMut(&mut Put<'_>) -> Result<(), Error>) -> Result<(), Error> {
        let revision = new_revision().map_err(|error| self.error(&error.to_string()))?;
        let has_records = "has records already; wanted a store without any";
        self.transaction(WRITE, |connection| {
            let count = |connection: &mut Connection| {
                let found = rows(connection, schema::COUNT, Vec::new())?;
                found.first().map_or(Ok(0), |row| row.int(0))
            };
            if count(connection).map_err(|error| self.failed(error))? > 0 {
                return Err(self.error(has_records));
            }
            let (mut waiting, mut bytes, mut written) = (Vec::new(), 0, 0);
            source(&mut |filling| {
                bytes += filling.body.len();
                written += 1;
                waiting.push(filling);
                if waiting.len() < TOGETHER && bytes < BYTES {
                    return Ok(());
                }
                bytes = 0;
                self.insert(connection, mem::take(&mut waiting), revision)
            })?;
            self.insert(connection, waiting, revision)?;
            match count(connection).map_err(|error| self.failed(error))? {
                found if found == written => Ok(()),
                found => Err(self.error(&format!(
                    "found {found} records, wanted {written}: somebody else writes to it; nothing was written"
                ))),
            }
        })
    }

    fn forget(
        &self,
        instance: (&str, Revision),
        bindings: &[(String, Record)],
        line: Option<AuditLine>,
    ) -> Result<Outcome, Error> {
        let changes = removal(instance, bindings, line);
        let revision = new_revision().map_err(|error| self.error(&error.to_string()))?;
        let mut statements: Vec<_> = changes
            .iter()
            .map(|change| schema::step(change, revision, &self.me, false).statement)
            .collect();
        // The instance is locked by now: what binds afterwards finds it gone.
        let no_bindings = [Value::Bytes(instance.0.as_bytes())];
        statements.push(Statement::new(schema::NO_BINDINGS, no_bindings));
        let writer = self.writer.pool();
        match writer.once(deadline(TIME), |connection| run(connection, &statements)) {
            Ok(_) => Ok(Outcome::Committed(revision)),
            Err(error) if does_not_hold(&error) || error.is_serialization() => {
                Ok(Outcome::Conflict)
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    fn is_worked_on(&self, key: &Key) -> Result<bool, Error> {
        let (sql, ids) = match key {
            Key::Instance(id) => (schema::WORKED_ON_INSTANCE, vec![id]),
            Key::Binding(instance_id, id) => (schema::WORKED_ON_BINDING, vec![instance_id, id]),
        };
        let values: Vec<_> = ids.iter().map(|id| Value::Bytes(id.as_bytes())).collect();
        let done = self.run(&[Statement::new(sql, values)])?;
        let row = done.first().and_then(|done| done.rows.first());
        let count = row.map_or(Ok(0), |row| row.int(0));
        Ok(count.map_err(|error| self.failed(error))? > 0)
    }

    fn backup(&self, _: &Path) -> Result<(), Refusal> {
        Err(Refusal::Instead(
            "pg_dump copies it while brokers run, and brokerlet state export writes lines of JSON",
        ))
    }

    fn compact(&self) -> Result<(), Refusal> {
        Err(Refusal::Instead(
            "PostgreSQL uses the space of what was deleted by itself (autovacuum), and VACUUM (FULL) gives it back",
        ))
    }
}

impl Postgres {
    fn insert(
        &self,
        connection: &mut Connection,
        records: Vec<Filling>,
        revision: Revision,
    ) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        let changes: Vec<Change> = records
            .into_iter()
            .map(|Filling { key, body, open }| Change::Put {
                key,
                revision: Revision::ABSENT,
                body,
                open,
            })
            .collect();
        // Open records are mine, and so anybody's when I am gone.
        let statements: Vec<_> = changes
            .iter()
            .map(|change| schema::step(change, revision, &self.me, false).statement)
            .collect();
        match run(connection, &statements) {
            Ok(_) => Ok(()),
            Err(error) if does_not_hold(&error) => {
                Err(self.error("a record came twice; nothing was written"))
            }
            Err(error) => Err(self.failed(error)),
        }
    }
}
