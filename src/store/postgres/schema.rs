//! How records lie in the database, and the statements that read and change them.
//!
//! Only what CockroachDB and YugabyteDB have as well. Ids and records are bytes, so that they are ordered as bytes in every
//! database, whatever its collation.

use crate::postgres::{Connection, Error, Row, Statement, Value};
use crate::store::{Change, Key, Record, Revision};

use std::time::Instant;

/// What leads from each version to the next. Each is one transaction. What was released is not changed any more.
pub const STEPS: &[&[&str]] = &[&[
    "CREATE TABLE service_instances (
        id BYTEA PRIMARY KEY, revision BIGINT NOT NULL, open BOOLEAN NOT NULL, owner TEXT, record BYTEA NOT NULL
    )",
    "CREATE TABLE service_bindings (
        instance_id BYTEA NOT NULL, id BYTEA NOT NULL, revision BIGINT NOT NULL, open BOOLEAN NOT NULL, owner TEXT,
        record BYTEA NOT NULL, PRIMARY KEY (instance_id, id)
    )",
    "CREATE INDEX open_instances ON service_instances (owner) WHERE open",
    "CREATE INDEX open_bindings ON service_bindings (owner) WHERE open",
    // A broker that does not renew its line is gone.
    "CREATE TABLE brokers (id TEXT PRIMARY KEY, alive_until TIMESTAMPTZ NOT NULL)",
    "CREATE VIEW instances AS
        SELECT instance_id, record ->> 'service_id' AS service_id, record ->> 'plan_id' AS plan_id,
            record ->> 'organization_guid' AS organization_guid, record ->> 'space_guid' AS space_guid,
            record -> 'operation' ->> 'state' AS state, record -> 'operation' ->> 'kind' AS last_operation,
            record -> 'created' ->> 'at' AS created,
            coalesce(record -> 'updated' ->> 'at', record -> 'created' ->> 'at') AS updated
        FROM (SELECT convert_from(id, 'UTF8') AS instance_id, convert_from(record, 'UTF8')::JSONB AS record
            FROM service_instances) AS decoded
        WHERE record ->> 'gone' IS NULL",
    "CREATE VIEW bindings AS
        SELECT instance_id, binding_id, record ->> 'service_id' AS service_id, record ->> 'plan_id' AS plan_id,
            record ->> 'app_guid' AS app_guid,
            record -> 'operation' ->> 'state' AS state, record -> 'operation' ->> 'kind' AS last_operation,
            record -> 'created' ->> 'at' AS created,
            coalesce(record -> 'updated' ->> 'at', record -> 'created' ->> 'at') AS updated
        FROM (SELECT convert_from(instance_id, 'UTF8') AS instance_id, convert_from(id, 'UTF8') AS binding_id,
            convert_from(record, 'UTF8')::JSONB AS record FROM service_bindings) AS decoded
        WHERE record ->> 'gone' IS NULL",
], &[
    // Of two lines of one microsecond, which may come from two brokers, neither is the first. The id follows from the line.
    "CREATE TABLE audit (at BIGINT NOT NULL, id TEXT NOT NULL, line BYTEA NOT NULL, PRIMARY KEY (at, id))",
]];

/// A statement of a change, and what its count has to be.
pub struct Step<'a> {
    pub statement: Statement<'a>,
    pub wanted: Option<u64>,
}

/// The statements of a change. `alone` says that the count tells whether it holds; otherwise a statement that does not hold is an
/// error ([`does_not_hold`]), which takes all of its transaction back.
pub fn step<'a>(change: &'a Change, new: Revision, owner: &'a str, alone: bool) -> Step<'a> {
    let new = Value::Int(new.0.cast_signed());
    let read = |revision: &Revision| Value::Int(revision.0.cast_signed());
    let (sql, values, wanted): ([&str; 2], Vec<Value<'a>>, Option<u64>) = match change {
        Change::Put {
            key,
            revision,
            body,
            open,
        } => {
            let owner = if *open {
                Value::Text(owner)
            } else {
                Value::Null
            };
            let mut values = key_values(key);
            values.extend([new, Value::Bool(*open), owner, Value::Bytes(body)]);
            let sql = match (key, *revision == Revision::ABSENT) {
                (Key::Instance(_), true) => INSERT_INSTANCE,
                (Key::Binding(..), true) => INSERT_BINDING,
                (Key::Instance(_), false) => UPDATE_INSTANCE,
                (Key::Binding(..), false) => UPDATE_BINDING,
            };
            if *revision != Revision::ABSENT {
                values.push(read(revision));
            }
            (sql, values, Some(1))
        }
        Change::Delete { key, revision } | Change::Expect { key, revision }
            if *revision == Revision::ABSENT =>
        {
            let sql = match key {
                Key::Instance(_) => ABSENT_INSTANCE,
                Key::Binding(..) => ABSENT_BINDING,
            };
            (sql, key_values(key), Some(0))
        }
        Change::Delete { key, revision } => {
            let sql = match key {
                Key::Instance(_) => DELETE_INSTANCE,
                Key::Binding(..) => DELETE_BINDING,
            };
            let mut values = key_values(key);
            values.push(read(revision));
            (sql, values, Some(1))
        }
        Change::Expect { key, revision } => {
            let sql = match key {
                Key::Instance(_) => EXPECT_INSTANCE,
                Key::Binding(..) => EXPECT_BINDING,
            };
            let mut values = key_values(key);
            values.push(read(revision));
            (sql, values, Some(1))
        }
        Change::DeleteBindings { instance } => {
            const SQL: &str = "DELETE FROM service_bindings WHERE instance_id = $1";
            ([SQL, SQL], vec![Value::Bytes(instance.as_bytes())], None)
        }
        Change::Audit(line) => {
            // So no line is doubled by a commit that is sent again.
            const SQL: &str = "INSERT INTO audit VALUES ($1, md5($2), $2) ON CONFLICT DO NOTHING";
            let values = vec![Value::Int(line.at.cast_signed()), Value::Bytes(&line.text)];
            ([SQL, SQL], values, None)
        }
    };
    Step {
        statement: Statement::new(sql[usize::from(!alone)], values),
        wanted: if alone { wanted } else { None },
    }
}

fn key_values(key: &Key) -> Vec<Value<'_>> {
    match key {
        Key::Instance(id) => vec![Value::Bytes(id.as_bytes())],
        Key::Binding(instance_id, id) => {
            vec![
                Value::Bytes(instance_id.as_bytes()),
                Value::Bytes(id.as_bytes()),
            ]
        }
    }
}

/// Division by zero: so ends a statement that does not hold.
pub fn does_not_hold(error: &Error) -> bool {
    error.code() == Some("22012")
}

/// The statement, and its twin that is an error if it changes nothing.
macro_rules! held {
    ($sql:expr) => {
        [
            $sql,
            concat!(
                "WITH changed AS (",
                $sql,
                " RETURNING 1) SELECT 1 / count(*) FROM changed"
            ),
        ]
    };
}
/// The same of a query: it has to find one row.
macro_rules! found {
    ($sql:expr) => {
        [
            $sql,
            concat!("SELECT 1 / count(*) FROM (", $sql, ") AS found"),
        ]
    };
}
/// The same of a query that has to find none.
macro_rules! absent {
    ($sql:expr) => {
        [
            $sql,
            concat!("SELECT 1 / (1 - count(*)) FROM (", $sql, ") AS found"),
        ]
    };
}

const INSERT_INSTANCE: [&str; 2] = held!(
    "INSERT INTO service_instances (id, revision, open, owner, record) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING"
);
const INSERT_BINDING: [&str; 2] = held!(
    "INSERT INTO service_bindings (instance_id, id, revision, open, owner, record) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING"
);
const UPDATE_INSTANCE: [&str; 2] = held!(
    "UPDATE service_instances SET revision = $2, open = $3, owner = $4, record = $5 WHERE id = $1 AND revision = $6"
);
const UPDATE_BINDING: [&str; 2] = held!(
    "UPDATE service_bindings SET revision = $3, open = $4, owner = $5, record = $6 WHERE instance_id = $1 AND id = $2 AND revision = $7"
);
const DELETE_INSTANCE: [&str; 2] =
    held!("DELETE FROM service_instances WHERE id = $1 AND revision = $2");
const DELETE_BINDING: [&str; 2] =
    held!("DELETE FROM service_bindings WHERE instance_id = $1 AND id = $2 AND revision = $3");
// The lock holds until the end of the transaction, so that nobody deletes meanwhile what is counted on.
const EXPECT_INSTANCE: [&str; 2] =
    found!("SELECT 1 FROM service_instances WHERE id = $1 AND revision = $2 FOR SHARE");
const EXPECT_BINDING: [&str; 2] = found!(
    "SELECT 1 FROM service_bindings WHERE instance_id = $1 AND id = $2 AND revision = $3 FOR SHARE"
);
const ABSENT_INSTANCE: [&str; 2] = absent!("SELECT 1 FROM service_instances WHERE id = $1");
const ABSENT_BINDING: [&str; 2] =
    absent!("SELECT 1 FROM service_bindings WHERE instance_id = $1 AND id = $2");

/// Records by their keys, in one statement, so of one moment. The first column is the place of the key.
pub fn read<'a>(keys: &'a [Key], sql: &'a mut String) -> Statement<'a> {
    let mut values = Vec::new();
    for (place, key) in keys.iter().enumerate() {
        if place > 0 {
            sql.push_str(" UNION ALL ");
        }
        let at = values.len() + 1;
        sql.push_str(&match key {
            Key::Instance(_) => format!(
                "SELECT {place}::BIGINT, revision, record, owner FROM service_instances WHERE id = ${at}"
            ),
            Key::Binding(..) => format!(
                "SELECT {place}::BIGINT, revision, record, owner FROM service_bindings WHERE instance_id = ${at} AND id = ${}",
                at + 1
            ),
        });
        values.extend(key_values(key));
    }
    Statement::new(sql, values)
}

/// Columns: revision, record, owner, from `at` on.
pub fn record(row: &mut Row, at: usize, me: &str) -> Result<Record, Error> {
    Ok(Record {
        revision: Revision(row.int(at)?.cast_unsigned()),
        elsewhere: !row.is_null(at + 2) && row.text(at + 2)? != me,
        body: row.take_bytes(at + 1)?,
    })
}

pub fn text(row: &mut Row, at: usize) -> Result<String, Error> {
    let bytes = row.take_bytes(at)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

pub const BINDINGS: &str =
    "SELECT id, revision, record, owner FROM service_bindings WHERE instance_id = $1 ORDER BY id";
pub const INSTANCES: &str =
    "SELECT id, revision, record, owner FROM service_instances WHERE id > $1 ORDER BY id LIMIT $2";
pub const OWN: [&str; 2] = [
    "SELECT id FROM service_instances WHERE open AND owner = $1",
    "SELECT instance_id, id FROM service_bindings WHERE open AND owner = $1",
];
/// Takes over what belongs to brokers that are gone. A new revision, so that theirs can write nothing any more; and only of the
/// revision that was found, so that of two that take over at once only one gets it: the database looks at a row again that another
/// transaction has changed, but not at what was found in other tables.
pub const TAKE_OVER: [&str; 2] = [
    "UPDATE service_instances AS found SET owner = $1, revision = $2
        FROM (SELECT id, revision FROM service_instances WHERE open AND owner <> $1
            AND NOT EXISTS (SELECT 1 FROM brokers WHERE brokers.id = owner AND alive_until > now())) AS left_behind
        WHERE found.id = left_behind.id AND found.revision = left_behind.revision RETURNING found.id",
    "UPDATE service_bindings AS found SET owner = $1, revision = $2
        FROM (SELECT instance_id, id, revision FROM service_bindings WHERE open AND owner <> $1
            AND NOT EXISTS (SELECT 1 FROM brokers WHERE brokers.id = owner AND alive_until > now())) AS left_behind
        WHERE found.instance_id = left_behind.instance_id AND found.id = left_behind.id
            AND found.revision = left_behind.revision RETURNING found.instance_id, found.id",
];
/// Who moves records is in the table `brokers` as well, under a name that no broker has.
pub const MOVER: &str = "state:";
/// Those that move records, and all others but oneself.
pub const MOVERS: &str =
    "SELECT count(*) FROM brokers WHERE alive_until > now() AND id <> $1 AND id LIKE 'state:%'";
pub const OTHERS: &str = "SELECT count(*) FROM brokers WHERE alive_until > now() AND id <> $1";
/// Whether the owner of an open record lives.
pub const WORKED_ON_INSTANCE: &str = "SELECT count(*) FROM service_instances AS found
    JOIN brokers ON brokers.id = owner AND alive_until > now() WHERE open AND found.id = $1";
pub const WORKED_ON_BINDING: &str = "SELECT count(*) FROM service_bindings AS found
    JOIN brokers ON brokers.id = owner AND alive_until > now() WHERE open AND instance_id = $1 AND found.id = $2";
/// An error if there is a binding.
pub const NO_BINDINGS: &str = "SELECT 1 / (CASE WHEN count(*) = 0 THEN 1 ELSE 0 END) FROM service_bindings WHERE instance_id = $1";
pub const COUNT: &str =
    "SELECT (SELECT count(*) FROM service_instances) + (SELECT count(*) FROM service_bindings)";
/// The next records behind a key.
pub const NEXT_INSTANCES: &str = "SELECT id, open, revision, record, owner FROM service_instances
    WHERE id > $1 ORDER BY id LIMIT 64";
pub const NEXT_BINDINGS: &str =
    "SELECT instance_id, id, open, revision, record, owner FROM service_bindings
    WHERE (instance_id, id) > ($1, $2) ORDER BY instance_id, id LIMIT 64";
/// The next lines behind one.
pub const NEXT_LINES: &str =
    "SELECT at, id, line FROM audit WHERE (at, id) > ($1, $2) ORDER BY at, id LIMIT 256";
pub const FORGET_LINES: &str = "DELETE FROM audit WHERE (at, id) IN
    (SELECT at, id FROM audit WHERE at < $1 ORDER BY at, id LIMIT $2)";
pub const RENEW: &str =
    "INSERT INTO brokers (id, alive_until) VALUES ($1, now() + INTERVAL '15 seconds')
    ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until";
pub const FORGET_BROKERS: &str = "DELETE FROM brokers WHERE alive_until < now() - INTERVAL '1 day'";
pub const LEAVE: &str = "DELETE FROM brokers WHERE id = $1";

/// Leads the database to the present version. Any number of brokers may do so at once: the row of `store_format` is the lock.
pub fn migrate(connection: &mut Connection, deadline: Instant) -> Result<Result<(), u64>, Error> {
    loop {
        let version = match version(connection, deadline) {
            Err(error) if error.code() == Some("42P01") => {
                create(connection, deadline)?;
                continue;
            }
            version => version?,
        };
        let at = usize::try_from(version).unwrap_or(usize::MAX);
        if at == STEPS.len() {
            return Ok(Ok(()));
        }
        let Some(step) = STEPS.get(at) else {
            return Ok(Err(version));
        };
        const NEXT: &str = "WITH changed AS (UPDATE store_format SET version = version + 1 WHERE version = $1 RETURNING 1)
            SELECT 1 / count(*) FROM changed";
        let mut statements = vec![Statement::new(NEXT, [Value::Int(version.cast_signed())])];
        statements.extend(step.iter().map(|sql| Statement::new(sql, [])));
        match connection.run(&statements, deadline) {
            Ok(_) => {}
            // Another broker was faster.
            Err(error) if does_not_hold(&error) || error.is_serialization() => {}
            Err(error) => return Err(error),
        }
    }
}

pub fn version(connection: &mut Connection, deadline: Instant) -> Result<u64, Error> {
    let asked = [Statement::new("SELECT version FROM store_format", [])];
    let done = connection.run(&asked, deadline)?;
    let row = done.first().and_then(|done| done.rows.first());
    Ok(row.map_or(Ok(0), |row| row.int(0))?.cast_unsigned())
}

fn create(connection: &mut Connection, deadline: Instant) -> Result<(), Error> {
    let create = [
        Statement::new(
            "CREATE TABLE IF NOT EXISTS store_format (one BOOLEAN PRIMARY KEY, version BIGINT NOT NULL)",
            [],
        ),
        Statement::new(
            "INSERT INTO store_format VALUES (true, 0) ON CONFLICT DO NOTHING",
            [],
        ),
    ];
    match connection.run(&create, deadline) {
        Ok(_) => Ok(()),
        // Two at once make the same table: one of them meets what the other one has not yet finished.
        Err(error) if matches!(error.code(), Some("23505" | "42P07")) => Ok(()),
        Err(error) => Err(error),
    }
}
