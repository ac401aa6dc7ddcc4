//! What the journal is for: that nothing is lost, whatever is left of it.

use redb::ReadableTable;

use super::*;
use crate::store::file::journal::{BYTES, path_of};

/// Every row of every table but the one that says how far the journal is applied.
fn rows(store: &File) -> Vec<(String, String, Vec<u8>)> {
    let live = store.shared.live();
    let txn = live.as_ref().unwrap().db.begin_read().unwrap();
    let mut rows = Vec::new();
    for table in ["instances", "bindings", "open_instances", "open_bindings"] {
        let definition: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new(table);
        for row in txn.open_table(definition).unwrap().iter().unwrap() {
            let (key, value) = row.unwrap();
            let (first, second) = key.value();
            rows.push((
                format!("{table} {first}"),
                second.to_owned(),
                value.value().to_owned(),
            ));
        }
    }
    rows
}

fn format(path: &Path) -> u64 {
    let db = Database::open(path).unwrap();
    let meta = db.begin_read().unwrap().open_table(META).unwrap();
    let format = meta.get(("format", "")).unwrap().unwrap();
    u64::from_le_bytes(format.value().try_into().unwrap())
}

/// Numbers that look random and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1);
        (self.0 >> 33) % limit
    }
}

/// Commits anything that a commit can do, in records of a few bytes and of more than half a journal. Returns whether the
/// journal began again.
fn commit_anything(store: &File, numbers: &mut Numbers) -> bool {
    let instance = numbers.below(12).to_string();
    let key = match numbers.below(2) {
        0 => Key::instance(&instance),
        _ => Key::binding(&instance, &numbers.below(4).to_string()),
    };
    let found = store.read(std::slice::from_ref(&key)).unwrap().remove(0);
    let revision = found.map_or(Revision::ABSENT, |record| record.revision);
    let change = match numbers.below(5) {
        0 => Change::Delete { key, revision },
        1 => Change::DeleteBindings { instance },
        _ => {
            let length = [20, 300, 7000, 40_000][numbers.below(4) as usize];
            Change::Put {
                key,
                revision,
                body: vec![numbers.below(256) as u8; length],
                open: numbers.below(3) == 0,
            }
        }
    };
    let before = store.writer.journal_end();
    let outcome = store.commit(vec![change]).unwrap();
    assert!(matches!(outcome, Outcome::Committed(_)));
    store.writer.journal_end() < before
}

/// What is not known to be on disk may be there or not, each piece of it.
#[test]
fn after_loss_of_power_all_is_as_it_was() {
    let folder = Folder::new();
    let path = folder.file();
    let faults = Faults::none();
    let store = faults.open(&path, 0);
    let mut numbers = Numbers(11);
    let (mut full, mut lost) = (0, 0);
    for step in 0..400 {
        full += u64::from(commit_anything(&store, &mut numbers));
        let left = left_by_kill(&path);
        let files = faults.unsynced.lock().unwrap();
        for (unsynced, path) in files.iter().zip([left.clone(), path_of(&left)]) {
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            // Latest first, since one may have been written over another.
            for (offset, before) in unsynced.lock().unwrap().iter().rev() {
                if step % 2 == 0 || numbers.below(2) == 0 {
                    file.write_all_at(before, *offset).unwrap();
                    lost += 1;
                }
            }
        }
        drop(files);
        assert!(rows(&open(&left)) == rows(&store), "after step {step}");
    }
    assert!(full > 10, "the journal was full {full} times");
    assert!(lost > 1000, "{lost} writes were lost");
}

#[test]
fn after_kill_9_all_is_as_it_was() {
    let folder = Folder::new();
    let path = folder.file();
    let mut store = open(&path);
    let mut numbers = Numbers(7);
    let mut full = 0;
    for step in 0..600 {
        full += u64::from(commit_anything(&store, &mut numbers));
        let left = open(&left_by_kill(&path));
        assert!(rows(&left) == rows(&store), "after step {step}");
        // Now and then, go on with what was left, or close in order.
        match numbers.below(20) {
            0 => {
                drop((left, store));
                fs::remove_file(path_of(&path)).unwrap_or_default();
                fs::rename(folder.0.join("copy.redb"), &path).unwrap();
                store = open(&path);
            }
            1 => {
                let before = rows(&store);
                drop(store);
                store = open(&path);
                assert!(rows(&store) == before, "closed after step {step}");
            }
            _ => {}
        }
    }
    assert!(full > 10, "the journal was full {full} times");
}

#[test]
fn a_store_that_was_closed_is_one_file_that_older_versions_know() {
    let folder = Folder::new();
    let path = folder.file();
    let store = open(&path);
    assert!(!path_of(&path).exists(), "nothing was written yet");
    commit(&store, "one");
    commit(&store, "two");
    assert_eq!(fs::metadata(path_of(&path)).unwrap().mode() & 0o777, 0o600);
    let left = left_by_kill(&path);
    drop(store);
    assert!(!path_of(&path).exists());
    assert_eq!((format(&path), format(&left)), (1, 2));
    let store = open(&path);
    assert!(body(&store, "one").is_some() && body(&store, "two").is_some());
}

#[test]
fn a_store_that_is_closed_is_in_order_and_stays_closed() {
    let folder = Folder::new();
    let path = folder.file();
    let store = open(&path);
    commit(&store, "one");
    store.close();
    assert!(!path_of(&path).exists());
    let copy = folder.0.join("copy.redb");
    let closed = fs::read(&path).unwrap();
    for _ in 0..2 {
        let read = store.read(&[Key::instance("one")]).unwrap_err();
        let written = store.commit(put("two", Revision::ABSENT, b"")).unwrap_err();
        for error in [read, written] {
            assert_eq!(error.message, format!("{}: closed", path.display()));
        }
        store.close();
    }
    assert!(fs::read(&path).unwrap() == closed);
    fs::write(&copy, closed).unwrap();
    let mut builder = Builder::new();
    builder.set_repair_callback(|repair| repair.abort());
    builder.open(&copy).unwrap();
    assert!(body(&open(&copy), "one").is_some());
}

/// A store of three records, of which the file has one and the journal two.
fn three(folder: &Folder) -> (PathBuf, Vec<u8>) {
    let path = folder.file();
    let store = open(&path);
    for id in ["one", "two", "three"] {
        commit(&store, id);
    }
    let left = left_by_kill(&path);
    let journal = fs::read(path_of(&left)).unwrap();
    (left, journal)
}

/// Where the bytes that are not zero end.
fn end(journal: &[u8]) -> usize {
    journal.iter().rposition(|byte| *byte != 0).unwrap() + 1
}

#[test]
fn an_entry_that_was_cut_off_is_left_out() {
    let folder = Folder::new();
    let (path, journal) = three(&folder);
    let file = fs::read(&path).unwrap();
    let end = end(&journal);
    for cut in 1..100 {
        // Zeros, as before the write, or what an older entry left.
        for residue in [0, 0xA5] {
            let mut torn = journal.clone();
            torn[end - cut..end].fill(residue);
            fs::write(&path, &file).unwrap();
            fs::write(path_of(&path), &torn).unwrap();
            let store = open(&path);
            assert!(body(&store, "one").is_some());
            // The last entry is 49 bytes long, and 3 zeros go before it.
            assert_eq!(body(&store, "two").is_some(), cut <= 52, "cut by {cut}");
            assert_eq!(body(&store, "three"), None, "cut by {cut}");
            commit(&store, "three");
            assert!(body(&open(&left_of(&path)), "three").is_some());
        }
    }
}

fn left_of(path: &Path) -> PathBuf {
    let copy = path.with_file_name("again.redb");
    fs::copy(path, &copy).unwrap();
    fs::copy(path_of(path), path_of(&copy)).unwrap();
    copy
}

#[test]
fn what_is_missing_in_the_middle_is_told_and_left_alone() {
    let folder = Folder::new();
    let (path, journal) = three(&folder);
    let refused = |journal: Option<&[u8]>, complaint: &str| {
        let _ = fs::remove_file(path_of(&path));
        if let Some(journal) = journal {
            fs::write(path_of(&path), journal).unwrap();
        }
        let message = refusal_without_change(&path);
        let name = path_of(&path).display().to_string();
        assert!(
            message.contains(&format!(
                "its journal {name}, which has what was written last, {complaint}; restore the two together"
            )),
            "{message}"
        );
        assert_eq!(fs::read(path_of(&path)).ok().as_deref(), journal);
    };
    // The first of the two entries; the second is whole.
    for at in [0, 7, 8, 12, 16, 17, 30] {
        let mut damaged = journal.clone();
        damaged[4096 + at] ^= 1;
        refused(Some(&damaged), "is damaged");
    }
    refused(Some(&journal[..BYTES / 2]), "is damaged");
    refused(None, "is missing");
    refused(
        Some(b"minutes of the board"),
        "is there, but is that of another store",
    );
    let mut other = journal.clone();
    other[16] ^= 1;
    refused(Some(&other), "is there, but is that of another store");

    // An empty file is the operator's word that it can do without.
    fs::write(path_of(&path), b"").unwrap();
    let store = open(&path);
    assert!(body(&store, "one").is_some() && body(&store, "two").is_none());
    commit(&store, "two");
    assert!(body(&open(&left_of(&path)), "two").is_some());
}

/// An operator tidies up.
#[test]
fn a_journal_taken_away_in_use_is_made_anew() {
    let folder = Folder::new();
    let path = folder.file();
    let store = open(&path);
    let ids = ["one", "two", "three", "four", "five"];
    for (at, id) in ids.into_iter().enumerate() {
        commit(&store, id);
        let left = open(&left_by_kill(&path));
        for id in &ids[..=at] {
            assert!(body(&left, id).is_some(), "{id} after {at}");
        }
        match at {
            1 => fs::remove_file(path_of(&path)).unwrap(),
            3 => fs::write(path_of(&path), b"").unwrap(),
            _ => {}
        }
    }
}

#[test]
fn an_old_journal_gives_way_and_another_file_stays() {
    let folder = Folder::new();
    let path = folder.file();
    let store = open(&path);
    commit(&store, "one");
    let old = fs::read(path_of(&path)).unwrap();
    drop(store);
    // As after a crash between the last transaction and the removal.
    fs::write(path_of(&path), &old).unwrap();
    let store = open(&path);
    assert_eq!(store.warnings(), Vec::<String>::new());
    commit(&store, "two");
    assert_ne!(fs::read(path_of(&path)).unwrap(), old);
    drop(store);

    let notes = b"not of brokerlet, and longer than a name";
    fs::write(path_of(&path), notes).unwrap();
    let store = open(&path);
    let warnings = store.warnings();
    let name = path_of(&path).display().to_string();
    assert!(
        warnings.len() == 1 && warnings[0].contains(&name) && warnings[0].contains("move it away"),
        "{warnings:?}"
    );
    for id in ["three", "four"] {
        commit(&store, id);
        let copy = folder.0.join("copy.redb");
        fs::copy(&path, &copy).unwrap();
        assert!(
            body(&open(&copy), id).is_some(),
            "durable without a journal"
        );
    }
    drop(store);
    assert_eq!(fs::read(path_of(&path)).unwrap(), notes);
}

/// Where others may make files, too, they learn nothing.
#[test]
fn what_lies_in_the_journals_place_is_not_written_to() {
    let folder = Folder::new();
    let path = folder.file();
    let elsewhere = folder.0.join("elsewhere");
    fs::write(&elsewhere, b"").unwrap();
    symlink(&elsewhere, path_of(&path)).unwrap();
    let store = open(&path);
    commit(&store, "one");
    commit(&store, "two");
    assert_eq!(fs::read(&elsewhere).unwrap(), b"");
    let made = fs::symlink_metadata(path_of(&path)).unwrap();
    assert!(made.is_file() && made.mode() & 0o777 == 0o600);
}

#[test]
fn the_journal_lies_beside_the_file_that_a_link_names() {
    let folder = Folder::new();
    let path = folder.file();
    commit(&open(&path), "one");
    let link = folder.0.join("link.redb");
    symlink(&path, &link).unwrap();
    let store = open(&link);
    commit(&store, "two");
    assert!(path_of(&path).exists() && !folder.0.join("link.redb-journal").exists());
    assert!(body(&open(&left_by_kill(&path)), "two").is_some());
}
