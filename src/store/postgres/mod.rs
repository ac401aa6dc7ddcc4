//! Records in PostgreSQL: the store of any number of brokers at once.
//!
//! Every change is a compare-and-set on the record's revision, so brokers meet the same rule as the threads of one. An operation
//! in progress belongs to the broker that began it, which renews a line in the table `brokers` while it lives. What belongs to a
//! broker that is gone is taken over by another one, under a new revision.

mod inspect;
mod schema;
mod writer;

use super::{AuditLine, Change, Error, Key, Outcome, Record, Revision, SeeLine, Store};
use crate::log;
use crate::postgres::{self, Config, Connection, Pool, Statement, Value};
use crate::random;
use writer::Writer;

use std::mem;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a read may take, with connecting.
const READ_TIME: Duration = Duration::from_secs(5);
/// How long opening may take.
const OPEN_TIME: Duration = Duration::from_secs(20);
/// How often a broker says that it lives. It counts as gone after three times as long.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// How long saying goodbye may take.
const LEAVE_TIME: Duration = Duration::from_secs(2);
/// How many connections read at once. One more writes, and one says that the broker lives.
const READERS: usize = 8;

pub struct Postgres {
    readers: Pool,
    writer: Writer,
    /// The name of this broker in the database, drawn at the start.
    me: String,
    /// The renewal, and what ends it when it is dropped.
    life: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

fn failed(config: &Config, what: &str, unknown: bool) -> Error {
    Error {
        message: format!("{config}: {what}"),
        unknown,
    }
}

fn deadline(time: Duration) -> Instant {
    Instant::now() + time
}

impl Postgres {
    /// Connects, brings the tables to the present form, and takes over the operations of brokers that are gone.
    ///
    /// Errors name the server and the database: nobody is there, the login is refused, the role may not make tables, a file that
    /// the connection string names will not do, the tables are of a newer version.
    pub fn open(config: Config) -> Result<Postgres, Error> {
        let store = Postgres::connect(config, "")?;
        store.migrate()?;
        store.live()?;
        // Who moves the records has looked for brokers after it said so, and this broker has said that it lives before it looks.
        if store.others(schema::MOVERS)? > 0 {
            return Err(store.error(
                "brokerlet state import or copy works on it; start the broker when that has ended (15 seconds after it, if it was \
                 killed)",
            ));
        }
        store.take_over()?;
        Ok(store)
    }

    /// Knows the server, and has not asked it for anything yet.
    fn connect(config: Config, kind: &str) -> Result<Postgres, Error> {
        let unusable = |error: String| failed(&config, &error, false);
        let word = random::word().map_err(|error| unusable(error.to_string()))?;
        let me = format!("{kind}{word}");
        let readers = Pool::new(config.clone(), READERS).map_err(unusable)?;
        let writer = Pool::new(config.clone(), 1).map_err(unusable)?;
        Ok(Postgres {
            life: Mutex::new(None),
            writer: Writer::new(writer, &me),
            readers,
            me,
        })
    }

    fn migrate(&self) -> Result<(), Error> {
        let until = deadline(OPEN_TIME);
        let migrate = |connection: &mut Connection| schema::migrate(connection, until);
        let migrated = self.writer.pool().with(until, migrate);
        match migrated.map_err(|error| self.failed(error))? {
            Ok(()) => Ok(()),
            Err(version) => Err(self.newer(version)),
        }
    }

    fn newer(&self, version: u64) -> Error {
        let known = schema::STEPS.len();
        self.error(&format!(
            "its tables are of version {version}, and this brokerlet knows those up to {known}"
        ))
    }

    /// Says that this one lives, from now on until it is closed.
    fn live(&self) -> Result<(), Error> {
        renew(&self.readers, &self.me).map_err(|error| self.failed(error))?;
        let life = keep_alive(self.readers.config(), &self.me)?;
        *self.life.lock().unwrap_or_else(PoisonError::into_inner) = Some(life);
        Ok(())
    }

    /// How many others live, as one of these statements counts them.
    fn others(&self, sql: &str) -> Result<i64, Error> {
        let done = self.run(&[Statement::new(sql, [Value::Text(&self.me)])])?;
        let row = done.first().and_then(|done| done.rows.first());
        row.map_or(Ok(0), |row| row.int(0))
            .map_err(|error| self.failed(error))
    }

    fn error(&self, what: &str) -> Error {
        failed(self.readers.config(), what, false)
    }

    fn run(&self, statements: &[Statement<'_>]) -> Result<Vec<postgres::Done>, Error> {
        self.readers
            .run(statements, deadline(READ_TIME))
            .map_err(|error| self.failed(error))
    }

    fn failed(&self, error: postgres::Error) -> Error {
        failed(self.readers.config(), &error.message, false)
    }

    fn listed(&self, statement: Statement<'_>) -> Result<Vec<(String, Record)>, Error> {
        let done = self.run(&[statement])?;
        let rows = done.into_iter().flat_map(|done| done.rows);
        rows.map(|mut row| {
            let record = schema::record(&mut row, 1, &self.me)?;
            Ok((schema::text(&mut row, 0)?, record))
        })
        .collect::<Result<_, _>>()
        .map_err(|error| self.failed(error))
    }

    /// The keys that two statements return, for instances and for bindings.
    fn keys(&self, statements: [Statement<'_>; 2]) -> Result<Vec<Key>, Error> {
        let done = self.run(&statements)?;
        let mut keys = Vec::new();
        for (at, done) in done.into_iter().enumerate() {
            for mut row in done.rows {
                let mut text = |at| schema::text(&mut row, at).map_err(|error| self.failed(error));
                keys.push(match at {
                    0 => Key::Instance(text(0)?),
                    _ => Key::Binding(text(0)?, text(1)?),
                });
            }
        }
        Ok(keys)
    }
}

fn new_revision() -> Result<Revision, std::io::Error> {
    let mut bytes = [0; 8];
    loop {
        random::fill(&mut bytes)?;
        // A BIGINT that is no less than 0, and not the one of what is absent.
        let revision = Revision(u64::from_le_bytes(bytes) >> 1);
        if revision != Revision::ABSENT {
            return Ok(revision);
        }
    }
}

fn renew(pool: &Pool, me: &str) -> Result<(), postgres::Error> {
    let statements = [
        Statement::new(schema::RENEW, [Value::Text(me)]),
        Statement::new(schema::FORGET_BROKERS, []),
    ];
    pool.run(&statements, deadline(RENEW_EVERY)).map(drop)
}

/// Says that this broker lives, until the sender is dropped. On a connection of its own, so that no crowd keeps it waiting.
fn keep_alive(config: &Config, me: &str) -> Result<(Sender<()>, JoinHandle<()>), Error> {
    let pool = Pool::new(config.clone(), 1).map_err(|error| failed(config, &error, false))?;
    let me = me.to_owned();
    let (life, over) = channel();
    let renewal = move || {
        let mut well = true;
        while over.recv_timeout(RENEW_EVERY) == Err(RecvTimeoutError::Timeout) {
            let renewed = renew(&pool, &me);
            match &renewed {
                Err(error) if well => log::warn("store")
                    .with(
                        "message",
                        "the database cannot be reached; asked again every few seconds",
                    )
                    .with("error", &error.message)
                    .send(),
                Ok(()) if !well => log::info("store")
                    .with("message", "the database can be reached again")
                    .send(),
                _ => {}
            }
            well = renewed.is_ok();
        }
        // What is still in progress is anybody's from now on.
        let leave = [Statement::new(schema::LEAVE, [Value::Text(&me)])];
        let _ = pool.run(&leave, deadline(LEAVE_TIME));
    };
    let renewal = thread::Builder::new()
        .name("renewal".to_owned())
        .spawn(renewal)
        .map_err(|error| failed(config, &error.to_string(), false))?;
    Ok((life, renewal))
}

impl Store for Postgres {
    fn read(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, Error> {
        let mut records = vec![None; keys.len()];
        if keys.is_empty() {
            return Ok(records);
        }
        let mut sql = String::new();
        let done = self.run(&[schema::read(keys, &mut sql)])?;
        for mut row in done.into_iter().flat_map(|done| done.rows) {
            let mut found = || {
                let place = usize::try_from(row.int(0)?).unwrap_or(usize::MAX);
                Ok((place, schema::record(&mut row, 1, &self.me)?))
            };
            let (place, record) = found().map_err(|error| self.failed(error))?;
            if let Some(slot) = records.get_mut(place) {
                *slot = Some(record);
            }
        }
        Ok(records)
    }

    fn bindings(&self, instance_id: &str) -> Result<Vec<(String, Record)>, Error> {
        let values = [Value::Bytes(instance_id.as_bytes())];
        self.listed(Statement::new(schema::BINDINGS, values))
    }

    fn instances(&self, after: &str, most: usize) -> Result<Vec<(String, Record)>, Error> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let values = [Value::Bytes(after.as_bytes()), Value::Int(most)];
        self.listed(Statement::new(schema::INSTANCES, values))
    }

    fn open_operations(&self) -> Result<Vec<Key>, Error> {
        let me = Value::Text(&self.me);
        self.keys(schema::OWN.map(|sql| Statement::new(sql, [me])))
    }

    fn take_over(&self) -> Result<Vec<Key>, Error> {
        let revision = new_revision()
            .map_err(|error| failed(self.readers.config(), &error.to_string(), false))?;
        let values = [Value::Text(&self.me), Value::Int(revision.0.cast_signed())];
        self.keys(schema::TAKE_OVER.map(|sql| Statement::new(sql, values)))
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn commit(&self, changes: Vec<Change>) -> Result<Outcome, Error> {
        let revision = new_revision()
            .map_err(|error| failed(self.readers.config(), &error.to_string(), false))?;
        if changes.is_empty() {
            return Ok(Outcome::Committed(revision));
        }
        self.writer.commit(changes, revision)
    }

    fn keeps_audit(&self) -> bool {
        true
    }

    /// Page by page, so not of one moment: what comes meanwhile is later.
    fn audit(&self, since: u64, see: &mut SeeLine<'_>) -> Result<(), Error> {
        let mut last = (since.cast_signed(), String::new());
        loop {
            let values = [Value::Int(last.0), Value::Text(&last.1)];
            let mut done = self.run(&[Statement::new(schema::NEXT_LINES, values)])?;
            let rows = done.first_mut().map(|done| mem::take(&mut done.rows));
            let rows = rows.unwrap_or_default();
            if rows.is_empty() {
                return Ok(());
            }
            for mut row in rows {
                let mut read = || Ok((row.int(0)?, schema::text(&mut row, 1)?, row.take_bytes(2)?));
                let (at, id, text) = read().map_err(|error| self.failed(error))?;
                let at_time = at.cast_unsigned();
                last = (at, id);
                if see(AuditLine { at: at_time, text }).is_break() {
                    return Ok(());
                }
            }
        }
    }

    fn forget_audit(&self, before: u64, most: usize) -> Result<usize, Error> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let values = [Value::Int(before.cast_signed()), Value::Int(most)];
        let done = self.run(&[Statement::new(schema::FORGET_LINES, values)])?;
        let count = done.first().map_or(0, |done| done.count);
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    fn close(&self) {
        let life = self
            .life
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some((life, renewal)) = life {
            drop(life);
            let _ = renewal.join();
        }
        self.readers.close();
        self.writer.pool().close();
    }

    fn describe(&self) -> String {
        self.readers.config().to_string()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.close();
    }
}
