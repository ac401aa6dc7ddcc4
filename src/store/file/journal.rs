//! What was written last, in a second file beside the first: `brokerlet.redb-journal`.
//!
//! A durable transaction of redb writes half a dozen pages all over its file. So most commits go without one: their rows
//! are appended to the journal, which takes one write in one place and one `fdatasync`, and redb has them in memory and
//! in the page cache. When the journal is full, one durable transaction takes over everything, and the journal begins
//! again from its start. After a crash its entries are applied once more. A store that was closed in order has no
//! journal: then all is in the first file.
//!
//! The file has its full length from the start and was written once with zeros, so an append changes nothing but the
//! bytes it writes: it takes no space on a full disk, and `fdatasync` has no size or block to note down.
//!
//! An entry is a head of 16 bytes (number, length, CRC-32; little endian), its rows, and zeros up to a multiple of 8. The
//! checksum begins with the journal's id, which was drawn at random, so that nothing that a record holds can pass for an
//! entry. Numbers go on when the journal begins again. The next entry is written when the one before is on disk; so only
//! the last can be torn, and one that nobody was told about. A valid entry behind one that is not is damage.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use redb::StorageBackend;
use redb::backends::FileBackend;
use rustix::fs::Access;
use rustix::process::geteuid;

use super::tables::Applied;
use super::{Identity, Wrap, identity, sync_folder};
use crate::random;

/// The whole file. What it costs is space, and the time in which redb takes over what it holds, some milliseconds. In the
/// unit tests it is often full.
pub(super) const BYTES: usize = if cfg!(test) { 64 << 10 } else { 1 << 20 };
/// Where the entries begin: on a page of its own, so that the file's head is written once.
const START: usize = 4096;
const MAGIC: &[u8; 16] = b"brokerlet-log 1\n";
const ID_BYTES: usize = 16;
/// Number, length and checksum of an entry.
const HEAD: usize = 16;
const ALIGNMENT: usize = 8;

/// Which journal belongs to a file: drawn anew for each.
pub(super) type Id = [u8; ID_BYTES];

/// An open journal, which goes on behind its last entry.
pub(super) struct Journal {
    file: Box<dyn StorageBackend>,
    path: PathBuf,
    identity: Identity,
    id: Id,
    /// The number of the last entry.
    last: u64,
    /// Where the next one begins.
    end: usize,
    /// The last append failed, so there may be anything at `end`.
    torn: bool,
}

/// Why a journal cannot be used.
#[derive(Debug)]
pub(super) enum Unusable {
    Missing,
    /// Made, but emptied by somebody: they want to go on without it.
    Empty,
    /// Of another store, or no journal at all.
    Foreign,
    Damaged,
    Io(io::Error),
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Unusable {
        match error.kind() {
            io::ErrorKind::NotFound => Unusable::Missing,
            _ => Unusable::Io(error),
        }
    }
}

/// The journal of a store: the same name, and the same symbolic links followed.
pub(super) fn path_of(store: &Path) -> PathBuf {
    let mut name = fs::canonicalize(store)
        .unwrap_or_else(|_| store.to_owned())
        .into_os_string();
    name.push("-journal");
    name.into()
}

/// Why no journal can be made at this path: what is there is neither an old journal nor one whose creation was cut short,
/// or the folder is not ours to write in.
pub(super) fn obstacle(path: &Path) -> Option<io::Error> {
    match may_be_made(path) {
        Ok(true) => None,
        Ok(false) => Some(io::Error::other(
            "there is something else, or somebody else's; move it away",
        )),
        Err(error) => Some(error),
    }
}

fn may_be_made(path: &Path) -> io::Result<bool> {
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = path.parent().unwrap_or(Path::new("/"));
            rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK)?;
            return Ok(true);
        }
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.uid() != geteuid().as_raw() {
        return Ok(false);
    }
    let mut head = [0; MAGIC.len()];
    match metadata.len() {
        0 => Ok(true),
        length if length < head.len() as u64 => Ok(false),
        _ => {
            file.read_exact(&mut head)?;
            Ok(head == *MAGIC || head == [0; MAGIC.len()])
        }
    }
}

impl Journal {
    /// Makes an empty journal, in the place of an old one where there is one. Its name and all of its space are durable
    /// when this returns.
    pub(super) fn create(path: &Path, wrap: &Wrap) -> io::Result<Journal> {
        if let Some(error) = obstacle(path) {
            return Err(error);
        }
        let mut id = [0; ID_BYTES];
        random::fill(&mut id)?;
        // Never what is there already: somebody else may have it open, or it may lead elsewhere.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(path)?;
        let identity = identity(&file.metadata()?);
        let file = wrap(FileBackend::new(file).map_err(io::Error::other)?);
        file.set_len(BYTES as u64)?;
        let mut head = [0; START];
        for page in (START..BYTES).step_by(START) {
            file.write(page as u64, &head)?;
        }
        head[..MAGIC.len()].copy_from_slice(MAGIC);
        head[MAGIC.len()..][..ID_BYTES].copy_from_slice(&id);
        file.write(0, &head)?;
        file.sync_data()?;
        sync_folder(path)?;
        Ok(Journal {
            file,
            path: path.to_owned(),
            identity,
            id,
            last: 0,
            end: START,
            torn: false,
        })
    }

    /// Opens the journal that a file names, with the entries that the file does not have yet.
    pub(super) fn open(
        path: &Path,
        wrap: &Wrap,
        applied: Applied,
    ) -> Result<(Journal, Content), Unusable> {
        let id = applied.journal;
        let (file, identity, bytes) = read(path, wrap, &id)?;
        let content = Content { bytes, applied };
        let end_of_last = content.found().last().map(|last| (last.number, last.end));
        let (last, end) = end_of_last.unwrap_or((applied.number, START));
        let later = last + 1..=last + (BYTES / ALIGNMENT) as u64;
        let is_later = |at: usize| entry_at(&content.bytes, at, &id, &later).is_some();
        if (end..BYTES).step_by(ALIGNMENT).any(is_later) {
            return Err(Unusable::Damaged);
        }
        let journal = Journal {
            file,
            path: path.to_owned(),
            identity,
            id,
            last,
            end,
            torn: false,
        };
        Ok((journal, content))
    }

    /// What to write down in a durable transaction that takes over all entries.
    pub(super) fn all(&self) -> Applied {
        Applied {
            journal: self.id,
            number: self.last,
        }
    }

    /// Whether the entry can be appended. If not, a durable transaction of redb has to take over; then
    /// [`Journal::begin_again`].
    pub(super) fn takes(&self, entry: &Entry) -> bool {
        entry.padded() <= BYTES - self.end && self.is_in_its_place()
    }

    /// Returns when the entry is on disk.
    pub(super) fn append(&mut self, entry: &mut Entry) -> io::Result<()> {
        let number = self.last + 1;
        self.torn = true;
        self.file
            .write(self.end as u64, entry.seal(&self.id, number))?;
        self.file.sync_data()?;
        self.torn = false;
        self.last = number;
        self.end += entry.padded();
        Ok(())
    }

    /// Takes an entry that could not be appended away, so that it does not come to light later. May be repeated when it
    /// fails.
    pub(super) fn mend(&mut self) -> io::Result<()> {
        if self.torn {
            self.file.write(self.end as u64, &[0; HEAD])?;
            self.file.sync_data()?;
            self.torn = false;
        }
        Ok(())
    }

    /// After a durable transaction has taken over all entries.
    pub(super) fn begin_again(mut self) -> Journal {
        self.end = START;
        self
    }

    /// Removes the file, where it is still this one.
    pub(super) fn remove(self) -> io::Result<()> {
        match self.is_in_its_place() {
            true => fs::remove_file(&self.path),
            false => Ok(()),
        }
    }

    #[cfg(test)]
    pub(super) fn end(&self) -> usize {
        self.end
    }

    /// Whether the file is still there under its name, in its full length.
    pub(super) fn is_in_its_place(&self) -> bool {
        fs::metadata(&self.path)
            .is_ok_and(|found| identity(&found) == self.identity && found.len() == BYTES as u64)
    }
}

/// A journal as it was found.
pub(super) struct Content {
    bytes: Vec<u8>,
    applied: Applied,
}

impl Content {
    /// The rows of each entry that the file does not have yet, in order.
    pub(super) fn entries(&self) -> impl Iterator<Item = &[u8]> {
        self.found().map(|entry| entry.rows)
    }

    fn found(&self) -> impl Iterator<Item = Found<'_>> {
        let (mut next, mut at) = (self.applied.number.wrapping_add(1), START);
        std::iter::from_fn(move || {
            let entry = entry_at(&self.bytes, at, &self.applied.journal, &(next..=next))?;
            (next, at) = (next.wrapping_add(1), entry.end);
            Some(entry)
        })
    }
}

type Opened = (Box<dyn StorageBackend>, Identity, Vec<u8>);

fn read(path: &Path, wrap: &Wrap, id: &Id) -> Result<Opened, Unusable> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Unusable::Foreign);
    }
    if metadata.len() == 0 {
        return Err(Unusable::Empty);
    }
    let identity = identity(&metadata);
    let backend = FileBackend::new(file).map_err(|error| Unusable::Io(io::Error::other(error)))?;
    let file = wrap(backend);
    if metadata.len() != BYTES as u64 {
        let mut magic = vec![0; MAGIC.len().min(metadata.len() as usize)];
        file.read(0, &mut magic)?;
        return Err(match MAGIC.starts_with(&magic) {
            true => Unusable::Damaged,
            false => Unusable::Foreign,
        });
    }
    let mut content = vec![0; BYTES];
    file.read(0, &mut content)?;
    if !content.starts_with(MAGIC) || content[MAGIC.len()..][..ID_BYTES] != *id {
        return Err(Unusable::Foreign);
    }
    Ok((file, identity, content))
}

/// An entry as it lies in the file.
struct Found<'a> {
    number: u64,
    rows: &'a [u8],
    end: usize,
}

/// The entry at this place, if there is one with such a number. The number is looked at first: a checksum of whatever lies
/// at every place would take its time.
fn entry_at<'a>(
    content: &'a [u8],
    at: usize,
    id: &Id,
    numbers: &RangeInclusive<u64>,
) -> Option<Found<'a>> {
    let (head, behind) = content.get(at..)?.split_at_checked(HEAD)?;
    let number = u64::from_le_bytes(head[..8].try_into().ok()?);
    if !numbers.contains(&number) {
        return None;
    }
    let length = u32::from_le_bytes(head[8..12].try_into().ok()?) as usize;
    let rows = behind.get(..length)?;
    if head[12..] != checksum(id, number, rows).to_le_bytes() {
        return None;
    }
    let end = at + (HEAD + length).next_multiple_of(ALIGNMENT);
    Some(Found { number, rows, end })
}

fn checksum(id: &Id, number: u64, rows: &[u8]) -> u32 {
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(id);
    checksum.update(&number.to_le_bytes());
    checksum.update(rows);
    checksum.finalize()
}

/// The rows that one entry writes and removes.
///
/// A row is the number of its table (1 byte), whether there is a value (1 byte), the lengths of the two halves of the key
/// and of the value (4 bytes each), and these three.
pub(super) struct Entry {
    /// With room for the head.
    bytes: Vec<u8>,
}

/// A row: the table's number, the key, and the value, or that there is none any more.
pub(super) type Row<'a> = (u8, (&'a str, &'a str), Option<&'a [u8]>);

const ROW_HEAD: usize = 14;

impl Entry {
    pub(super) fn new() -> Entry {
        Entry {
            bytes: vec![0; HEAD],
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.len() == HEAD
    }

    /// Adds a row whose value is the `parts` one after the other, and returns the value.
    pub(super) fn put(&mut self, table: u8, key: (&str, &str), parts: [&[u8]; 2]) -> &[u8] {
        let length = parts[0].len() + parts[1].len();
        self.begin(table, key, Some(length));
        let start = self.bytes.len();
        self.bytes.extend_from_slice(parts[0]);
        self.bytes.extend_from_slice(parts[1]);
        &self.bytes[start..]
    }

    pub(super) fn remove(&mut self, table: u8, key: (&str, &str)) {
        self.begin(table, key, None);
    }

    fn begin(&mut self, table: u8, (first, second): (&str, &str), value: Option<usize>) {
        let lengths = [first.len(), second.len(), value.unwrap_or(0)];
        self.bytes.reserve(ROW_HEAD + lengths.iter().sum::<usize>());
        self.bytes.extend([table, u8::from(value.is_some())]);
        for length in lengths {
            // An entry whose lengths do not fit is far too long for the journal, and never gets there.
            self.bytes.extend((length as u32).to_le_bytes());
        }
        self.bytes.extend_from_slice(first.as_bytes());
        self.bytes.extend_from_slice(second.as_bytes());
    }

    /// The bytes that it takes in the journal.
    fn padded(&self) -> usize {
        self.bytes.len().next_multiple_of(ALIGNMENT)
    }

    fn seal(&mut self, id: &Id, number: u64) -> &[u8] {
        let rows = &self.bytes[HEAD..];
        let (length, checksum) = (rows.len() as u32, checksum(id, number, rows));
        self.bytes[..8].copy_from_slice(&number.to_le_bytes());
        self.bytes[8..12].copy_from_slice(&length.to_le_bytes());
        self.bytes[12..HEAD].copy_from_slice(&checksum.to_le_bytes());
        &self.bytes
    }
}

/// The rows of an entry, in order. `None` for what is no row, which a valid checksum rules out but for a mistake of ours.
pub(super) fn rows(mut bytes: &[u8]) -> impl Iterator<Item = Option<Row<'_>>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let row = split_row(&mut bytes);
        if row.is_none() {
            bytes = &[];
        }
        Some(row)
    })
}

fn split_row<'a>(bytes: &mut &'a [u8]) -> Option<Row<'a>> {
    let mut take = |length: usize| {
        let (piece, behind) = bytes.split_at_checked(length)?;
        *bytes = behind;
        Some(piece)
    };
    let (table, has_value) = match take(2)? {
        [table, has_value] => (*table, *has_value != 0),
        _ => return None,
    };
    let mut length = || Some(u32::from_le_bytes(take(4)?.try_into().ok()?) as usize);
    let lengths = [length()?, length()?, length()?];
    let first = str::from_utf8(take(lengths[0])?).ok()?;
    let second = str::from_utf8(take(lengths[1])?).ok()?;
    let value = take(lengths[2])?;
    Some((table, (first, second), has_value.then_some(value)))
}
