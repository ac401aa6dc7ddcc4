//! How records lie in redb's tables, and how a commit is judged and applied within a transaction.

use std::ops::Range;

use redb::{
    Database, Error, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition,
    TableError, WriteTransaction,
};

use super::journal::{self, Entry};
use crate::store::{Change, Key, Outcome, Record, Revision};

/// The layout below. Written into every file; a file that names a higher number than [`FORMAT`] is left alone.
const COMPLETE: u64 = 1;
/// The same with a journal, which holds what was written last: versions that know no journals must leave it alone.
const WITH_JOURNAL: u64 = 2;
/// The highest that this version knows.
pub(super) const FORMAT: u64 = WITH_JOURNAL;

/// All tables are of one type: redb is compiled once for each, and its code is most of the binary. redb compares the two
/// strings one after the other, so they may hold any character.
type Row = TableDefinition<'static, (&'static str, &'static str), &'static [u8]>;
type Rows<'t> = Table<'t, (&'static str, &'static str), &'static [u8]>;

/// [`FORMAT_KEY`] and [`REVISIONS_KEY`] -> a number (8 bytes, little endian). [`JOURNAL_KEY`] -> [`Applied`].
const META: Row = Row::new("meta");
const FORMAT_KEY: (&str, &str) = ("format", "");
const JOURNAL_KEY: (&str, &str) = ("journal", "");
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

/// The tables, with their numbers in the journal.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Name {
    Meta,
    Instances,
    Bindings,
    OpenInstances,
    OpenBindings,
}

impl Name {
    /// By their numbers.
    const ALL: [Name; 5] = [
        Name::Meta,
        Name::Instances,
        Name::Bindings,
        Name::OpenInstances,
        Name::OpenBindings,
    ];

    fn table(self) -> Row {
        match self {
            Name::Meta => META,
            Name::Instances => INSTANCES,
            Name::Bindings => BINDINGS,
            Name::OpenInstances => OPEN_INSTANCES,
            Name::OpenBindings => OPEN_BINDINGS,
        }
    }
}

/// Which journal goes with the file, and how far it is a part of the file already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Applied {
    pub(super) journal: journal::Id,
    /// The number of the last entry that needs the journal no more (8 bytes behind the id, little endian).
    pub(super) number: u64,
}

impl Applied {
    fn parse(value: &[u8]) -> Option<Applied> {
        let (journal, entry) = value.split_first_chunk()?;
        Some(Applied {
            journal: *journal,
            number: number(entry)?,
        })
    }
}

/// Whose file it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    Nothing,
    /// With what its journal has to bring, unless it is complete.
    Ours(Option<Applied>),
    /// A higher format than [`FORMAT`].
    Newer(u64),
    /// A redb database of another program.
    Foreign,
}

pub(super) fn content(db: &Database) -> Result<Content, Error> {
    let txn = db.begin_read()?;
    let (mut format, mut applied) = (None, None);
    match txn.open_table(META) {
        Ok(meta) => {
            let found = meta.get(FORMAT_KEY)?;
            format = found.and_then(|format| number(format.value()));
            let found = meta.get(JOURNAL_KEY)?;
            applied = found.and_then(|applied| Applied::parse(applied.value()));
        }
        Err(TableError::Storage(error)) => return Err(error.into()),
        Err(_) => {}
    }
    Ok(match format {
        Some(COMPLETE) => Content::Ours(None),
        Some(WITH_JOURNAL) if applied.is_some() => Content::Ours(applied),
        Some(WITH_JOURNAL) => {
            return Err(Error::Corrupted("it does not name its journal".to_owned()));
        }
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

/// Where a record lies, and where its key does while an operation on it is open.
fn places(key: &Key) -> ([Name; 2], (&str, &str)) {
    match key {
        Key::Instance(id) => ([Name::Instances, Name::OpenInstances], place(id)),
        Key::Binding(instance, id) => {
            let tables = [Name::Bindings, Name::OpenBindings];
            (tables, (instance, id))
        }
    }
}

/// Makes the tables, so that readers always find them.
pub(super) fn create(db: &Database) -> Result<(), Error> {
    let txn = db.begin_write()?;
    for name in Name::ALL {
        txn.open_table(name.table())?;
    }
    note(&txn, None)?;
    Ok(txn.commit()?)
}

/// Writes down which journal goes with the file from this transaction on, if any.
pub(super) fn note(txn: &WriteTransaction, applied: Option<Applied>) -> Result<(), Error> {
    let mut meta = txn.open_table(META)?;
    let format = match applied {
        None => {
            meta.remove(JOURNAL_KEY)?;
            COMPLETE
        }
        Some(Applied { journal, number }) => {
            let value = [&journal[..], &number.to_le_bytes()].concat();
            meta.insert(JOURNAL_KEY, &value[..])?;
            WITH_JOURNAL
        }
    };
    meta.insert(FORMAT_KEY, &format.to_le_bytes()[..])?;
    Ok(())
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

    /// The next one. `reserve` writes down how far a new block goes.
    fn take(
        &mut self,
        reserve: impl FnOnce(&[u8]) -> Result<(), Error>,
    ) -> Result<Revision, Error> {
        if self.next > self.reserved {
            let up_to = self.reserved.checked_add(BLOCK);
            self.reserved =
                up_to.ok_or_else(|| Error::Corrupted("no revisions left".to_owned()))?;
            reserve(&self.reserved.to_le_bytes())?;
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

pub(super) fn instances(
    txn: &ReadTransaction,
    behind: &str,
    most: usize,
) -> Result<Vec<(String, Record)>, Error> {
    let first = after(behind);
    let table = txn.open_table(INSTANCES)?;
    let mut found = Vec::new();
    for entry in table.range((first.as_str(), "")..)?.take(most) {
        let (key, value) = entry?;
        found.push((key.value().0.to_owned(), record(value.value())?));
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

/// The tables of a write transaction, each opened when it is first needed.
struct Tables<'t> {
    txn: &'t WriteTransaction,
    open: [Option<Rows<'t>>; Name::ALL.len()],
}

impl<'t> Tables<'t> {
    fn new(txn: &'t WriteTransaction) -> Tables<'t> {
        let open = Default::default();
        Tables { txn, open }
    }

    fn get(&mut self, name: Name) -> Result<&mut Rows<'t>, TableError> {
        let slot = &mut self.open[name as usize];
        get_or_open(slot, || self.txn.open_table(name.table()))
    }
}

/// One write transaction, in which commits are judged and applied one after the other. Every row that is written or
/// removed goes into `entry` as well. Drop it before the transaction is committed.
pub(super) struct Batch<'t> {
    tables: Tables<'t>,
    entry: &'t mut Entry,
    revisions: &'t mut Revisions,
}

impl<'t> Batch<'t> {
    pub(super) fn new(
        txn: &'t WriteTransaction,
        entry: &'t mut Entry,
        revisions: &'t mut Revisions,
    ) -> Batch<'t> {
        Batch {
            tables: Tables::new(txn),
            entry,
            revisions,
        }
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
            true => self.revisions.take(|up_to| {
                let value = self
                    .entry
                    .put(Name::Meta as u8, REVISIONS_KEY, [up_to, &[]]);
                self.tables.get(Name::Meta)?.insert(REVISIONS_KEY, value)?;
                Ok(())
            })?,
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
        let ([table, _], key) = places(key);
        match self.tables.get(table)?.get(key)? {
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
        let ([table, open_table], key) = places(key);
        let mut head = [u8::from(open_now); HEAD];
        head[..HEAD - 1].copy_from_slice(&revision.0.to_le_bytes());
        self.write(table, key, [&head, body])?;
        match (was_open, open_now) {
            (false, true) => self.write(open_table, key, [&[], &[]]),
            (true, false) => self.remove(open_table, key),
            _ => Ok(()),
        }
    }

    fn delete(&mut self, key: &Key, was_open: bool) -> Result<(), Error> {
        let ([table, open_table], key) = places(key);
        self.remove(table, key)?;
        match was_open {
            true => self.remove(open_table, key),
            false => Ok(()),
        }
    }

    fn delete_bindings(&mut self, instance_id: &str) -> Result<(), Error> {
        let after = after(instance_id);
        let mut open_ids = Vec::new();
        let bindings = self.tables.get(Name::Bindings)?;
        for row in bindings.extract_from_if(range(instance_id, &after), |_, _| true)? {
            let (key, value) = row?;
            self.entry.remove(Name::Bindings as u8, key.value());
            if parse(value.value())?.1 {
                open_ids.push(key.value().1.to_owned());
            }
        }
        let mut close = |id: &String| self.remove(Name::OpenBindings, (instance_id, id));
        open_ids.iter().try_for_each(&mut close)
    }

    fn write(&mut self, table: Name, key: (&str, &str), value: [&[u8]; 2]) -> Result<(), Error> {
        let value = self.entry.put(table as u8, key, value);
        self.tables.get(table)?.insert(key, value)?;
        Ok(())
    }

    fn remove(&mut self, table: Name, key: (&str, &str)) -> Result<(), Error> {
        if self.tables.get(table)?.remove(key)?.is_some() {
            self.entry.remove(table as u8, key);
        }
        Ok(())
    }
}

/// Makes the changes of entries of the journal once more.
pub(super) fn apply<'e>(
    txn: &WriteTransaction,
    entries: impl Iterator<Item = &'e [u8]>,
) -> Result<(), Error> {
    let mut tables = Tables::new(txn);
    for row in entries.flat_map(journal::rows) {
        let known = row.and_then(|(table, key, value)| {
            Some((*Name::ALL.get(usize::from(table))?, key, value))
        });
        let Some((name, key, value)) = known else {
            return Err(Error::Corrupted(
                "the journal has an unknown row".to_owned(),
            ));
        };
        let table = tables.get(name)?;
        match value {
            Some(value) => drop(table.insert(key, value)?),
            None => drop(table.remove(key)?),
        }
    }
    Ok(())
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
