//! How records lie in the file: two tables of JSON, with views beside them for people.

use rusqlite::types::ToSqlOutput;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::failed;
use super::guard::Place;
use crate::store::inspect::Visit;
use crate::store::{AuditLine, Change, Error, Key, Record, Revision};

/// `brkl`, in the file's header.
pub(super) const APPLICATION: i32 = 0x6272_6B6C;

/// What leads from each version to the next, each in one transaction. The version is the header's `user_version`. What was
/// released is not changed any more.
const STEPS: &[&str] = &["
    CREATE TABLE service_instances (
        id TEXT NOT NULL PRIMARY KEY, revision INTEGER NOT NULL, open INTEGER NOT NULL, record NOT NULL
    );
    CREATE TABLE service_bindings (
        instance_id TEXT NOT NULL, id TEXT NOT NULL, revision INTEGER NOT NULL, open INTEGER NOT NULL, record NOT NULL,
        PRIMARY KEY (instance_id, id)
    );
    CREATE INDEX open_instances ON service_instances (id) WHERE open;
    CREATE INDEX open_bindings ON service_bindings (instance_id, id) WHERE open;

    -- Revisions below it were given.
    CREATE TABLE revisions (reserved INTEGER NOT NULL);
    INSERT INTO revisions VALUES (1);

    CREATE VIEW instances AS
    SELECT id AS instance_id,
        record ->> '$.service_id' AS service_id, record ->> '$.plan_id' AS plan_id,
        record ->> '$.organization_guid' AS organization_guid, record ->> '$.space_guid' AS space_guid,
        record ->> '$.operation.state' AS state, record ->> '$.operation.kind' AS last_operation,
        record ->> '$.created.at' AS created,
        coalesce(record ->> '$.updated.at', record ->> '$.created.at') AS updated
    FROM (SELECT id, CASE WHEN json_valid(record) THEN record ELSE '{}' END AS record FROM service_instances)
    WHERE record ->> '$.gone' IS NULL;

    CREATE VIEW bindings AS
    SELECT instance_id, id AS binding_id,
        record ->> '$.service_id' AS service_id, record ->> '$.plan_id' AS plan_id,
        record ->> '$.app_guid' AS app_guid,
        record ->> '$.operation.state' AS state, record ->> '$.operation.kind' AS last_operation,
        record ->> '$.created.at' AS created,
        coalesce(record ->> '$.updated.at', record ->> '$.created.at') AS updated
    FROM (
        SELECT instance_id, id, CASE WHEN json_valid(record) THEN record ELSE '{}' END AS record FROM service_bindings
    )
    WHERE record ->> '$.gone' IS NULL;
    ", "
    CREATE TABLE audit (at INTEGER NOT NULL, line TEXT NOT NULL);
    CREATE INDEX audit_at ON audit (at);
    "];

/// Makes a store of an empty file. In one transaction, and before there is a log: from its first byte on the file tells what it
/// is.
pub(super) fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    step(&transaction, 0)?;
    transaction.commit()
}

/// Leads the file to the present version.
pub(super) fn migrate(connection: &mut Connection, place: &Place) -> Result<(), Error> {
    let cannot = |error| failed(place, "cannot be opened", &error);
    // Only what the log says is true: the header's may be older.
    known(version(connection).map_err(cannot)?, place)?;
    loop {
        let transaction = connection.transaction().map_err(cannot)?;
        let at = version(&transaction).map_err(cannot)? as usize;
        if at >= STEPS.len() {
            return Ok(());
        }
        step(&transaction, at)
            .and_then(|()| transaction.commit())
            .map_err(|error| failed(place, "cannot be brought to a newer format", &error))?;
    }
}

fn step(transaction: &Connection, from: usize) -> rusqlite::Result<()> {
    transaction.execute_batch(STEPS[from])?;
    transaction.pragma_update(None, "user_version", from as i64 + 1)
}

pub(super) fn version(connection: &Connection) -> rusqlite::Result<i32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Whether nothing is left to migrate.
pub(super) fn is_current(connection: &Connection) -> rusqlite::Result<bool> {
    Ok(usize::try_from(version(connection)?) == Ok(STEPS.len()))
}

/// Refuses what a newer brokerlet has written.
pub(super) fn known(version: i32, place: &Place) -> Result<(), Error> {
    match usize::try_from(version) {
        Ok(version) if (1..=STEPS.len()).contains(&version) => Ok(()),
        _ => Err(place.error(&format!(
            "written by a newer brokerlet, in format {version}; this one knows formats up to {}",
            STEPS.len()
        ))),
    }
}

pub(super) fn reserved(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row("SELECT reserved FROM revisions", [], |row| {
        Ok(row.get::<_, i64>(0)? as u64)
    })
}

pub(super) fn reserve(connection: &Connection, reserved: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE revisions SET reserved = ?")?
        .execute([reserved as i64])
        .map(drop)
}

fn record(row: &Row<'_>, at: usize) -> rusqlite::Result<Record> {
    Ok(Record {
        elsewhere: false,
        revision: Revision(row.get::<_, i64>(at)? as u64),
        body: row.get_ref(at + 1)?.as_bytes()?.to_vec(),
    })
}

fn read_one(connection: &Connection, key: &Key) -> rusqlite::Result<Option<Record>> {
    let found = match key {
        Key::Instance(id) => connection
            .prepare_cached("SELECT revision, record FROM service_instances WHERE id = ?")?
            .query_row([id], |row| record(row, 0)),
        Key::Binding(instance_id, id) => connection
            .prepare_cached(
                "SELECT revision, record FROM service_bindings WHERE instance_id = ? AND id = ?",
            )?
            .query_row([instance_id, id], |row| record(row, 0)),
    };
    found.optional()
}

/// The records of these keys, of one moment.
pub(super) fn read(connection: &Connection, keys: &[Key]) -> rusqlite::Result<Vec<Option<Record>>> {
    let all = |connection: &Connection| keys.iter().map(|key| read_one(connection, key)).collect();
    match keys.len() {
        // A statement is of one moment anyway.
        0 | 1 => all(connection),
        _ => {
            let transaction = connection.unchecked_transaction()?;
            all(&transaction)
        }
    }
}

pub(super) fn bindings(
    connection: &Connection,
    instance_id: &str,
) -> rusqlite::Result<Vec<(String, Record)>> {
    connection
        .prepare_cached(
            "SELECT id, revision, record FROM service_bindings WHERE instance_id = ? ORDER BY id",
        )?
        .query_map([instance_id], |row| Ok((row.get(0)?, record(row, 1)?)))?
        .collect()
}

/// The next instances behind an id, in the order of their ids.
pub(super) fn instances(
    connection: &Connection,
    after: &str,
    most: usize,
) -> rusqlite::Result<Vec<(String, Record)>> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "SELECT id, revision, record FROM service_instances WHERE id > ? ORDER BY id LIMIT ?",
        )?
        .query_map(params![after, most], |row| {
            Ok((row.get(0)?, record(row, 1)?))
        })?
        .collect()
}

pub(super) fn open_operations(connection: &Connection) -> rusqlite::Result<Vec<Key>> {
    let mut keys = Vec::new();
    let mut statement = connection.prepare("SELECT id FROM service_instances WHERE open")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        keys.push(Key::Instance(row.get(0)?));
    }
    let mut statement =
        connection.prepare("SELECT instance_id, id FROM service_bindings WHERE open")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        keys.push(Key::Binding(row.get(0)?, row.get(1)?));
    }
    Ok(keys)
}

/// Every record, of one moment: instances first, each kind in the order of its keys.
pub(super) fn each(connection: &Connection, visit: &mut Visit<'_>) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    let mut statement = transaction
        .prepare("SELECT id, revision, record, open FROM service_instances ORDER BY id")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let key = Key::Instance(row.get(0)?);
        if visit(key, record(row, 1)?, row.get(3)?).is_break() {
            return Ok(());
        }
    }
    let mut statement = transaction.prepare(
        "SELECT instance_id, id, revision, record, open FROM service_bindings ORDER BY instance_id, id",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let key = Key::Binding(row.get(0)?, row.get(1)?);
        if visit(key, record(row, 2)?, row.get(4)?).is_break() {
            return Ok(());
        }
    }
    Ok(())
}

/// Whether there is no record.
pub(super) fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row(
        "SELECT NOT EXISTS (SELECT 1 FROM service_instances) AND NOT EXISTS (SELECT 1 FROM service_bindings)",
        [],
        |row| row.get(0),
    )
}

/// Whether every record is of the revision that the changes expect.
pub(super) fn holds(connection: &Connection, changes: &[Change]) -> rusqlite::Result<bool> {
    for change in changes {
        let (Change::Expect { key, revision }
        | Change::Put { key, revision, .. }
        | Change::Delete { key, revision }) = change
        else {
            continue;
        };
        if current(connection, key)? != *revision {
            return Ok(false);
        }
    }
    Ok(true)
}

fn current(connection: &Connection, key: &Key) -> rusqlite::Result<Revision> {
    let found: Option<i64> = match key {
        Key::Instance(id) => connection
            .prepare_cached("SELECT revision FROM service_instances WHERE id = ?")?
            .query_row([id], |row| row.get(0)),
        Key::Binding(instance_id, id) => connection
            .prepare_cached(
                "SELECT revision FROM service_bindings WHERE instance_id = ? AND id = ?",
            )?
            .query_row([instance_id, id], |row| row.get(0)),
    }
    .optional()?;
    Ok(found.map_or(Revision::ABSENT, |found| Revision(found as u64)))
}

/// The next lines of the audit trail behind a time and a row, each with its row.
pub(super) fn audit(
    connection: &Connection,
    (at, row): (u64, i64),
) -> rusqlite::Result<Vec<(i64, AuditLine)>> {
    connection
        .prepare_cached(
            "SELECT rowid, at, CAST(line AS BLOB) FROM audit WHERE (at, rowid) > (?, ?) ORDER BY at, rowid LIMIT 256",
        )?
        .query_map([at.cast_signed(), row], |row| {
            let line = AuditLine {
                at: row.get::<_, i64>(1)?.cast_unsigned(),
                text: row.get(2)?,
            };
            Ok((row.get(0)?, line))
        })?
        .collect()
}

pub(super) fn forget_audit(
    connection: &Connection,
    before: u64,
    most: usize,
) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "DELETE FROM audit WHERE rowid IN (SELECT rowid FROM audit WHERE at < ? ORDER BY at LIMIT ?)",
        )?
        .execute(params![before.cast_signed(), i64::try_from(most).unwrap_or(i64::MAX)])
}

/// JSON is text, for people; whatever else a caller keeps is a blob.
fn text(body: &[u8]) -> ToSqlOutput<'_> {
    match std::str::from_utf8(body) {
        Ok(text) => text.into(),
        Err(_) => ToSqlOutput::Borrowed(body.into()),
    }
}

pub(super) fn apply(
    connection: &Connection,
    change: &Change,
    revision: Revision,
) -> rusqlite::Result<()> {
    let number = revision.0 as i64;
    match change {
        Change::Expect { .. } => Ok(0),
        Change::Put {
            key: Key::Instance(id),
            body,
            open,
            ..
        } => connection
            .prepare_cached("REPLACE INTO service_instances VALUES (?, ?, ?, ?)")?
            .execute(params![id, number, open, text(body)]),
        Change::Put {
            key: Key::Binding(instance_id, id),
            body,
            open,
            ..
        } => connection
            .prepare_cached("REPLACE INTO service_bindings VALUES (?, ?, ?, ?, ?)")?
            .execute(params![instance_id, id, number, open, text(body)]),
        Change::Delete {
            key: Key::Instance(id),
            ..
        } => connection
            .prepare_cached("DELETE FROM service_instances WHERE id = ?")?
            .execute([id]),
        Change::Delete {
            key: Key::Binding(instance_id, id),
            ..
        } => connection
            .prepare_cached("DELETE FROM service_bindings WHERE instance_id = ? AND id = ?")?
            .execute([instance_id, id]),
        Change::DeleteBindings { instance } => connection
            .prepare_cached("DELETE FROM service_bindings WHERE instance_id = ?")?
            .execute([instance]),
        Change::Audit(line) => connection
            .prepare_cached("INSERT INTO audit VALUES (?, ?)")?
            .execute(params![line.at.cast_signed(), text(&line.text)]),
    }
    .map(drop)
}
