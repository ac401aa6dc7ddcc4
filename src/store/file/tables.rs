//! How records lie in redb's tables, and how a commit is judged and applied within a transaction.

use std::ops::Range;

use redb::{
    Database, Error, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition,
    TableError, WriteTransaction,
};

use crate::store::{Change, Key, Outcome, Record, Revision};

/// The layout below. Written into every file; a file that names a higher number is left alone.
pub(super) const FORMAT: u64 = 1;

/// All tables are of one type: redb is compiled once for each, and its code is most of the binary. redb compares the two
/// strings one after the other, so they may hold any character.
type Row = TableDefinition<'static, (&'static str, &'static str), &'static [u8]>;
type Rows<'t> = Table<'t, (&'static str, &'static str), &'static [u8]>;

/// [`FORMAT_KEY`] and [`REVISIONS_KEY`] -> a number (8 bytes, little endian).
const META: Row = Row::new("meta");
const FORMAT_KEY: (&str, &str) = ("format", "");
/// No record, present or past, has a revision above this.
const REVISIONS_KEY: (&str, &str) = ("revisions", "");

/// Instance id, "" -> revision (8 bytes, little endian), open flag (1 byte), body.
const INSTANCES: Row = Row::new("instances");
/// Instance id, binding id -> the same. The bindings of one instance lie side by side.
const BINDINGS: Row = Row::new("bindings");
/// The keys of the records whose open flag is set -> nothing. Written only where the flag is or was set.
const OPEN_INSTANCES: Row = Row::new("open_instances");
const OPEN_BINDINGS: Row = Row::new("open_bindings");

const HEAD: usize = 9;

/// Whose file it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    Nothing,
    Ours,
    /// A higher format than [`FORMAT`].
    Newer(u64),
    /// A redb database of another program.
    Foreign,
}

pub(super) fn content(db: &Database) -> Result<Content, Error> {
    let txn = db.begin_read()?;
    let format = match txn.open_table(META) {
        Ok(meta) => meta
            .get(FORMAT_KEY)?
            .and_then(|format| number(format.value())),
        Err(TableError::Storage(error)) => return Err(error.into()),
        Err(_) => None,
    };
    Ok(match format {
        Some(FORMAT) => Content::Ours,
        Some(newer) if newer > FORMAT => Content::Newer(newer),
        Some(_) => Content::Foreign,
        None if txn.list_tables()?.next().is_none()
            && txn.list_multimap_tables()?.next().is_none() =>
        {
            Content::Nothing
        }
        None => Content::Foreign,
    })
}

fn number(value: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(value.try_into().ok()?))
}

/// Where an instance lies in its tables.
fn place(instance_id: &str) -> (&str, &str) {
    (instance_id, "")
}

/// Makes the tables, so that readers always find them.
pub(super) fn create(db: &Database) -> Result<(), Error> {
    let txn = db.begin_write()?;
    txn.open_table(META)?
        .insert(FORMAT_KEY, &FORMAT.to_le_bytes()[..])?;
    txn.open_table(INSTANCES)?;
    txn.open_table(BINDINGS)?;
    txn.open_table(OPEN_INSTANCES)?;
    txn.open_table(OPEN_BINDINGS)?;
    Ok(txn.commit()?)
}

/// Hands out revisions: 1, 2, 3 and so on over the whole life of the file.
///
/// Writing the last one with every commit would cost a page each time. So a block of 2^32 is reserved in the file by
/// the first commit after an open, within that commit's transaction, and the next open starts behind the block. A
/// revision thus never comes twice: within a block the counter only grows; a block is on disk no later than the first
/// record that has a revision of it; and where that commit failed, nobody has ever seen one. No clock is needed, which
/// may go backward. 2^32 opens are far off, and so is a block's end (the next is then reserved in the same way).
pub(super) struct Revisions {
    next: u64,
    reserved: u64,
}

const BLOCK: u64 = 1 << 32;

impl Revisions {
    pub(super) fn load(db: &Database) -> Result<Revisions, Error> {
        let used = db.begin_read()?.open_table(META)?.get(REVISIONS_KEY)?;
        let reserved = match used {
            None => 0,
            Some(used) => number(used.value())
                .ok_or_else(|| Error::Corrupted("the last revision is no number".to_owned()))?,
        };
        Ok(Revisions {
            next: reserved.saturating_add(1),
            reserved,
        })
    }

    fn take(&mut self, txn: &WriteTransaction) -> Result<Revision, Error> {
        if self.next > self.reserved {
            let up_to = self.reserved.checked_add(BLOCK);
            self.reserved =
                up_to.ok_or_else(|| Error::Corrupted("no revisions left".to_owned()))?;
            txn.open_table(META)?
                .insert(REVISIONS_KEY, &self.reserved.to_le_bytes()[..])?;
        }
        let revision = Revision(self.next);
        self.next += 1;
        Ok(revision)
    }
}

/// Everything of one instance lies in this range, since no string lies between `id` and `id` followed by NUL.
fn after(instance_id: &str) -> String {
    format!("{instance_id}\0")
}

fn range<'a>(instance_id: &'a str, after: &'a str) -> Range<(&'a str, &'a str)> {
    (instance_id, "")..(after, "")
}

fn parse(value: &[u8]) -> Result<(Revision, bool, &[u8]), Error> {
    match value {
        [a, b, c, d, e, f, g, h, open, body @ ..] => {
            let revision = u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
            Ok((Revision(revision), *open != 0, body))
        }
        _ => Err(Error::Corrupted(format!(
            "a record of {} bytes, at least {HEAD} are wanted",
            value.len()
        ))),
    }
}

fn record(value: &[u8]) -> Result<Record, Error> {
    let (revision, _, body) = parse(value)?;
    Ok(Record {
        revision,
        body: body.to_vec(),
    })
}

pub(super) fn read(txn: &ReadTransaction, keys: &[Key]) -> Result<Vec<Option<Record>>, Error> {
    let (mut instances, mut bindings) = (None, None);
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let value = match key {
            Key::Instance(id) => {
                get_or_open(&mut instances, || txn.open_table(INSTANCES))?.get(place(id))?
            }
            Key::Binding(instance, id) => get_or_open(&mut bindings, || txn.open_table(BINDINGS))?
                .get((instance.as_str(), id.as_str()))?,
        };
        found.push(value.map(|value| record(value.value())).transpose()?);
    }
    Ok(found)
}

pub(super) fn bindings(
    txn: &ReadTransaction,
    instance_id: &str,
) -> Result<Vec<(String, Record)>, Error> {
    let after = after(instance_id);
    let table = txn.open_table(BINDINGS)?;
    let mut found = Vec::new();
    for entry in table.range(range(instance_id, &after))? {
        let (key, value) = entry?;
        found.push((key.value().1.to_owned(), record(value.value())?));
    }
    Ok(found)
}

pub(super) fn open_operations(txn: &ReadTransaction) -> Result<Vec<Key>, Error> {
    let mut keys = Vec::new();
    for entry in txn.open_table(OPEN_INSTANCES)?.iter()? {
        keys.push(Key::instance(entry?.0.value().0));
    }
    for entry in txn.open_table(OPEN_BINDINGS)?.iter()? {
        let key = entry?.0;
        let (instance, id) = key.value();
        keys.push(Key::binding(instance, id));
    }
    Ok(keys)
}

fn get_or_open<T>(
    slot: &mut Option<T>,
    open: impl FnOnce() -> Result<T, TableError>,
) -> Result<&mut T, TableError> {
    match slot {
        Some(table) => Ok(table),
        empty => Ok(empty.insert(open()?)),
    }
}

/// One write transaction, in which commits are judged and applied one after the other. A table is opened when a commit
/// first needs it. Drop it before the transaction is committed.
pub(super) struct Batch<'t> {
    txn: &'t WriteTransaction,
    revisions: &'t mut Revisions,
    instances: Option<Rows<'t>>,
    bindings: Option<Rows<'t>>,
    open_instances: Option<Rows<'t>>,
    open_bindings: Option<Rows<'t>>,
    changed: bool,
}

impl<'t> Batch<'t> {
    pub(super) fn new(txn: &'t WriteTransaction, revisions: &'t mut Revisions) -> Batch<'t> {
        Batch {
            txn,
            revisions,
            instances: None,
            bindings: None,
            open_instances: None,
            open_bindings: None,
            changed: false,
        }
    }

    /// Whether anything was written.
    pub(super) fn changed(&self) -> bool {
        self.changed
    }

    /// Looks at every change before the first is made, so that a refused commit leaves nothing behind.
    pub(super) fn commit(&mut self, changes: &[Change]) -> Result<Outcome, Error> {
        let mut were_open = Vec::with_capacity(changes.len());
        for change in changes {
            were_open.push(match change {
                Change::Expect { key, revision }
                | Change::Put { key, revision, .. }
                | Change::Delete { key, revision } => {
                    let (found, open) = self.look_up(key)?;
                    if found != *revision {
                        return Ok(Outcome::Conflict);
                    }
                    open
                }
                Change::DeleteBindings { .. } => false,
            });
        }
        let puts = changes
            .iter()
            .any(|change| matches!(change, Change::Put { .. }));
        let revision = match puts {
            true => self.revisions.take(self.txn)?,
            false => Revision::ABSENT,
        };
        for (change, was_open) in changes.iter().zip(were_open) {
            match change {
                Change::Expect { .. } => {}
                Change::Put {
                    key, body, open, ..
                } => self.put(key, revision, body, *open, was_open)?,
                Change::Delete { key, .. } => self.delete(key, was_open)?,
                Change::DeleteBindings { instance } => self.delete_bindings(instance)?,
            }
        }
        Ok(Outcome::Committed(revision))
    }

    fn look_up(&mut self, key: &Key) -> Result<(Revision, bool), Error> {
        let value = match key {
            Key::Instance(id) => open(&mut self.instances, self.txn, INSTANCES)?.get(place(id))?,
            Key::Binding(instance, id) => open(&mut self.bindings, self.txn, BINDINGS)?
                .get((instance.as_str(), id.as_str()))?,
        };
        match value {
            Some(value) => parse(value.value()).map(|(revision, open, _)| (revision, open)),
            None => Ok((Revision::ABSENT, false)),
        }
    }

    fn put(
        &mut self,
        key: &Key,
        revision: Revision,
        body: &[u8],
        open_now: bool,
        was_open: bool,
    ) -> Result<(), Error> {
        self.changed = true;
        let length = HEAD + body.len();
        let mut value = match key {
            Key::Instance(id) => {
                open(&mut self.instances, self.txn, INSTANCES)?.insert_reserve(place(id), length)?
            }
            Key::Binding(instance, id) => open(&mut self.bindings, self.txn, BINDINGS)?
                .insert_reserve((instance.as_str(), id.as_str()), length)?,
        };
        let (head, rest) = value.as_mut().split_at_mut(HEAD);
        head[..HEAD - 1].copy_from_slice(&revision.0.to_le_bytes());
        head[HEAD - 1] = u8::from(open_now);
        rest.copy_from_slice(body);
        drop(value);
        if open_now != was_open {
            self.mark(key, open_now)?;
        }
        Ok(())
    }

    fn delete(&mut self, key: &Key, was_open: bool) -> Result<(), Error> {
        let removed = match key {
            Key::Instance(id) => open(&mut self.instances, self.txn, INSTANCES)?
                .remove(place(id))?
                .is_some(),
            Key::Binding(instance, id) => open(&mut self.bindings, self.txn, BINDINGS)?
                .remove((instance.as_str(), id.as_str()))?
                .is_some(),
        };
        self.changed |= removed;
        if was_open {
            self.mark(key, false)?;
        }
        Ok(())
    }

    fn delete_bindings(&mut self, instance_id: &str) -> Result<(), Error> {
        let after = after(instance_id);
        let mut open_ids = Vec::new();
        let bindings = open(&mut self.bindings, self.txn, BINDINGS)?;
        for entry in bindings.extract_from_if(range(instance_id, &after), |_, _| true)? {
            let (key, value) = entry?;
            self.changed = true;
            if parse(value.value())?.1 {
                open_ids.push(Key::binding(instance_id, key.value().1));
            }
        }
        open_ids.iter().try_for_each(|key| self.mark(key, false))
    }

    /// Enters a key among the open operations, or takes it out.
    fn mark(&mut self, key: &Key, open_now: bool) -> Result<(), Error> {
        let (table, key) = match key {
            Key::Instance(id) => (
                open(&mut self.open_instances, self.txn, OPEN_INSTANCES)?,
                place(id),
            ),
            Key::Binding(instance, id) => (
                open(&mut self.open_bindings, self.txn, OPEN_BINDINGS)?,
                (instance.as_str(), id.as_str()),
            ),
        };
        if open_now {
            table.insert(key, &[][..])?;
        } else {
            table.remove(key)?;
        }
        Ok(())
    }
}

/// A function rather than a method, so that the other fields can be used meanwhile.
fn open<'a, 't>(
    slot: &'a mut Option<Rows<'t>>,
    txn: &'t WriteTransaction,
    table: Row,
) -> Result<&'a mut Rows<'t>, TableError> {
    get_or_open(slot, || txn.open_table(table))
}
