mod recovery;

use std::collections::HashSet;
use std::ops::Bound;
use std::os::unix::fs::symlink;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use redb::{BackendError, TableDefinition};

use super::*;
use crate::store::{Revision, contract};

const CACHE_BYTES: usize = 1 << 20;

/// A folder of its own for each test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("brokerlet-store-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("brokerlet.redb")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open(path: &Path) -> File {
    File::open(path, CACHE_BYTES).unwrap()
}

fn refusal(path: &Path) -> String {
    match File::open(path, CACHE_BYTES) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error.message,
    }
}

/// The same, and that the file is left as it was.
fn refusal_without_change(path: &Path) -> String {
    let before = fs::read(path).unwrap();
    let message = refusal(path);
    assert!(
        fs::read(path).unwrap() == before,
        "an open that fails changes nothing: {message}"
    );
    assert!(
        message.starts_with(&format!("{}: ", path.display())),
        "names the file: {message}"
    );
    message
}

fn put(id: &str, revision: Revision, body: &[u8]) -> Vec<Change> {
    vec![Change::Put {
        key: Key::instance(id),
        revision,
        body: body.to_vec(),
        open: false,
    }]
}

fn body(store: &File, id: &str) -> Option<Vec<u8>> {
    let mut found = store.read(&[Key::instance(id)]).unwrap();
    found.remove(0).map(|record| record.body)
}

fn commit(store: &File, id: &str) {
    assert!(matches!(
        store
            .commit(put(id, Revision::ABSENT, id.as_bytes()))
            .unwrap(),
        Outcome::Committed(_)
    ));
}

#[test]
fn keeps_the_contract() {
    let folder = Folder::new();
    contract::check_persistent(&|| Box::new(open(&folder.file())));
}

#[test]
fn keeps_the_contract_with_hardly_any_cache() {
    let folder = Folder::new();
    contract::check(&File::open(&folder.file(), 0).unwrap());
}

#[test]
fn says_what_and_where_it_is() {
    let folder = Folder::new();
    let store = open(&folder.file());
    assert_eq!(
        store.describe(),
        format!("file:{}", folder.file().display())
    );
}

#[test]
fn a_new_file_is_for_its_owner_alone() {
    let folder = Folder::new();
    let store = open(&folder.file());
    assert_eq!(fs::metadata(folder.file()).unwrap().mode() & 0o777, 0o600);
    assert_eq!(store.warnings(), Vec::<String>::new());
}

#[test]
fn a_file_that_others_can_read_is_opened_with_a_warning() {
    let folder = Folder::new();
    let path = folder.file();
    commit(&open(&path), "kept");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let store = open(&path);
    let warnings = store.warnings();
    assert!(
        warnings.len() == 1 && warnings[0].contains("mode 0640"),
        "{warnings:?}"
    );
    assert!(
        warnings[0].contains(&format!("chmod 600 {}", path.display())),
        "{warnings:?}"
    );
    assert_eq!(body(&store, "kept").as_deref(), Some(&b"kept"[..]));
}

#[test]
fn a_file_in_use_is_refused() {
    let folder = Folder::new();
    let path = folder.file();
    let store = open(&path);
    let wanted =
        "in use by another process; stop the other broker or set BROKER_STORE to another path";
    assert_eq!(refusal(&path), format!("{}: {wanted}", path.display()));
    // Also by another name, and the store that has it goes on.
    symlink(&path, folder.0.join("other.redb")).unwrap();
    assert!(refusal(&folder.0.join("other.redb")).ends_with(wanted));
    commit(&store, "after");
    drop(store);
    assert_eq!(body(&open(&path), "after").as_deref(), Some(&b"after"[..]));
}

const META: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("meta");

fn as_redb(path: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let db = Database::create(path).unwrap();
    let txn = db.begin_write().unwrap();
    change(&txn);
    txn.commit().unwrap();
}

fn set_format(path: &Path, format: u64) {
    as_redb(path, |txn| {
        txn.open_table(META)
            .unwrap()
            .insert(("format", ""), &format.to_le_bytes()[..])
            .unwrap();
    });
}

#[test]
fn a_newer_format_is_left_alone() {
    let folder = Folder::new();
    let path = folder.file();
    commit(&open(&path), "kept");
    set_format(&path, 7);
    let wanted = "written by a newer brokerlet, in format 7; this one knows formats up to 2";
    assert!(refusal_without_change(&path).ends_with(wanted));
    // Nor is it repaired where it was not closed.
    mark_unclean(&path);
    assert!(refusal_without_change(&path).ends_with(wanted));
    set_format(&path, 1);
    assert_eq!(body(&open(&path), "kept").as_deref(), Some(&b"kept"[..]));
}

#[test]
fn a_database_of_another_program_is_left_alone() {
    let folder = Folder::new();
    let path = folder.file();
    as_redb(&path, |txn| {
        txn.open_table(TableDefinition::<u64, u64>::new("theirs"))
            .unwrap()
            .insert(1, 1)
            .unwrap();
    });
    assert!(refusal_without_change(&path).contains("not of brokerlet"));
    // Nor where the name of a table is the same by chance.
    as_redb(&path, |txn| {
        txn.open_table(TableDefinition::<&str, &str>::new("meta"))
            .unwrap()
            .insert("format", "1")
            .unwrap();
    });
    assert!(refusal_without_change(&path).contains("not of brokerlet"));
    // Nor where it is of the same type.
    let path = folder.0.join("alike.redb");
    as_redb(&path, |txn| {
        txn.open_table(META)
            .unwrap()
            .insert(("format", ""), &b"1"[..])
            .unwrap();
    });
    assert!(refusal_without_change(&path).contains("not of brokerlet"));
}

#[test]
fn what_is_not_a_store_is_left_alone() {
    let folder = Folder::new();
    let path = folder.file();
    let contents: [&[u8]; 6] = [
        b"{\"services\": []}",
        b"x",
        &[0; 100],
        &[0xAB; 100_000],
        b"redb\x1A\x0A\xA9\x0D\x0A",
        &[b"redb\x1A\x0A\xA9\x0D\x0A".as_slice(), &[0xFF; 8192]].concat(),
    ];
    for content in contents {
        fs::write(&path, content).unwrap();
        refusal_without_change(&path);
    }
    assert!(refusal(&folder.0).contains("cannot be opened"), "a folder");
    let pipe = Path::new("/dev/null");
    assert_eq!(refusal(pipe), "/dev/null: not a regular file");
}

#[test]
fn a_file_out_of_reach_is_an_error_that_says_so() {
    let folder = Folder::new();
    let missing = folder.0.join("none").join("brokerlet.redb");
    let wanted = format!(
        "cannot be created: there is no folder {}",
        folder.0.join("none").display()
    );
    assert_eq!(
        refusal(&missing),
        format!("{}: {wanted}", missing.display())
    );
    // Not even root may make files there.
    let message = refusal(Path::new("/sys/brokerlet.redb"));
    assert!(
        message.starts_with("/sys/brokerlet.redb: cannot be opened for reading and writing: "),
        "{message}"
    );
    assert!(message.contains("os error"), "{message}");
}

/// redb's second byte after its magic: bit 1 says that the file was not closed.
fn mark_unclean(path: &Path) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 9).unwrap();
    file.write_all_at(&[byte[0] | 2], 9).unwrap();
}

fn filled(path: &Path) -> Vec<u8> {
    let store = open(path);
    for number in 0..60 {
        commit(&store, &format!("{number:-^300}"));
    }
    drop(store);
    fs::read(path).unwrap()
}

#[test]
fn a_truncated_file_is_left_alone() {
    let folder = Folder::new();
    let path = folder.file();
    let whole = filled(&path);
    for length in [
        1,
        9,
        319,
        320,
        4096,
        8192,
        whole.len() / 2,
        whole.len() - 4096,
        whole.len() - 1,
    ] {
        for unclean in [false, true] {
            fs::write(&path, &whole[..length]).unwrap();
            if unclean && length > 9 {
                mark_unclean(&path);
            }
            refusal_without_change(&path);
        }
    }
}

/// Whatever is broken: an error or the right answer, but no panic, and an open that fails changes nothing.
#[test]
fn a_damaged_file_never_panics() {
    let folder = Folder::new();
    let path = folder.file();
    let whole = filled(&path);
    let mut refused = 0;
    for page in (0..whole.len()).step_by(4096) {
        for unclean in [false, true] {
            let mut damaged = whole.clone();
            for byte in damaged[page..page + 4096].iter_mut().skip(10) {
                *byte ^= 0x5A;
            }
            fs::write(&path, &damaged).unwrap();
            if unclean {
                mark_unclean(&path);
                damaged = fs::read(&path).unwrap();
            }
            match File::open(&path, CACHE_BYTES) {
                Err(error) => {
                    refused += 1;
                    assert!(
                        error.message.starts_with(&path.display().to_string()),
                        "{error}"
                    );
                    assert!(
                        fs::read(&path).unwrap() == damaged,
                        "an open that fails changes nothing: {error}"
                    );
                }
                Ok(store) => {
                    let _ = store.open_operations();
                    for number in 0..60 {
                        let id = format!("{number:-^300}");
                        if let Ok(found) = store.read(&[Key::instance(&id)])
                            && let Some(Some(record)) = found.first()
                            && unclean
                        {
                            assert_eq!(
                                record.body,
                                id.as_bytes(),
                                "a repair verifies what it keeps"
                            );
                        }
                    }
                    let _ = store.commit(put("new", Revision::ABSENT, b"new"));
                }
            }
        }
    }
    assert!(refused > 0);
}

/// A copy of what kill -9 would leave at this moment.
fn left_by_kill(path: &Path) -> PathBuf {
    let copy = path.with_file_name("copy.redb");
    fs::copy(path, &copy).unwrap();
    let journal = journal::path_of(&copy);
    match fs::copy(journal::path_of(path), &journal) {
        Ok(_) => {}
        Err(_) => drop(fs::remove_file(&journal)),
    }
    copy
}

#[test]
fn a_file_that_was_not_closed_is_repaired() {
    let folder = Folder::new();
    let path = folder.file();
    let store = open(&path);
    for number in 0..20 {
        commit(&store, &number.to_string());
        let copied = open(&left_by_kill(&path));
        for present in 0..=number {
            assert!(
                body(&copied, &present.to_string()).is_some(),
                "{present} of {number}"
            );
        }
    }
}

#[test]
fn a_file_whose_creation_was_cut_short_is_made_anew() {
    let folder = Folder::new();
    let path = folder.file();
    let mut header_without_magic = vec![0; 72 * 1024];
    header_without_magic[9..320].fill(1);
    for content in [Vec::new(), vec![0; 72 * 1024], header_without_magic] {
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let store = open(&path);
        assert!(
            store.warnings().len() == 1 && store.warnings()[0].contains("cut short"),
            "{:?}",
            store.warnings()
        );
        commit(&store, "kept");
        drop(store);
        assert_eq!(body(&open(&path), "kept").as_deref(), Some(&b"kept"[..]));
    }
    // redb's own header, but no transaction yet.
    drop(Database::create(folder.0.join("bare.redb")).unwrap());
    commit(&open(&folder.0.join("bare.redb")), "kept");
}

#[test]
fn a_clean_close_needs_no_repair() {
    let folder = Folder::new();
    commit(&open(&folder.file()), "kept");
    let mut builder = Builder::new();
    builder.set_repair_callback(|repair| repair.abort());
    builder.open(folder.file()).unwrap();
}

#[test]
fn revisions_go_on_after_an_open() {
    let folder = Folder::new();
    let mut seen = HashSet::new();
    for _ in 0..3 {
        let store = open(&folder.file());
        for _ in 0..3 {
            commit(&store, "one");
            let revision = store
                .read(&[Key::instance("one")])
                .unwrap()
                .remove(0)
                .unwrap()
                .revision;
            assert!(seen.insert(revision.0), "{} came twice", revision.0);
            let key = Key::instance("one");
            assert!(matches!(
                store
                    .commit(vec![Change::Delete { key, revision }])
                    .unwrap(),
                Outcome::Committed(_)
            ));
        }
    }
}

#[test]
fn a_file_that_was_removed_or_replaced_takes_no_commits() {
    let folder = Folder::new();
    let (path, aside) = (folder.file(), folder.0.join("aside.redb"));
    let store = open(&path);
    commit(&store, "before");
    fs::rename(&path, &aside).unwrap();
    let error = store.commit(put("new", Revision::ABSENT, b"")).unwrap_err();
    assert!(error.message.contains("removed while in use"), "{error}");
    fs::write(&path, b"another file").unwrap();
    let error = store.commit(put("new", Revision::ABSENT, b"")).unwrap_err();
    assert!(
        error.message.contains("replaced by another file"),
        "{error}"
    );
    assert_eq!(body(&store, "before").as_deref(), Some(&b"before"[..]));
    fs::rename(&aside, &path).unwrap();
    commit(&store, "new");
    drop(store);
    assert_eq!(body(&open(&path), "new").as_deref(), Some(&b"new"[..]));
}

/// What a test lets happen to the file.
#[derive(Debug, Default)]
struct Faults {
    /// How many changes of the file go well before they fail; `u64::MAX` for all.
    good: AtomicU64,
    /// Whether the faults go on after the first.
    lasting: AtomicBool,
    /// Panic instead of returning an error.
    panics: AtomicBool,
    /// Reads fail.
    reads: AtomicBool,
    /// Only what needs new space fails, which here is everything but redb's header and the journal.
    full: AtomicBool,
    /// What a kernel may do with what was written, when `fdatasync` fails: drop it.
    drops: Mutex<Option<Drops>>,
    /// For each file in the order of their opening: what it held before each write since its last `fdatasync`.
    unsynced: Mutex<Vec<Arc<Unsynced>>>,
    syncs: AtomicU64,
}

type Unsynced = Mutex<Vec<(u64, Vec<u8>)>>;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Drops {
    All,
    HeaderOnly,
    AllButHeader,
}

#[derive(Debug)]
struct Faulty {
    inner: FileBackend,
    faults: Arc<Faults>,
    unsynced: Arc<Unsynced>,
}

const FAULT: &str = "No space left on device";
const READ_FAULT: &str = "Input/output error";

impl Faults {
    fn none() -> Arc<Faults> {
        let faults = Faults::default();
        faults.heal();
        Arc::new(faults)
    }

    fn arm(&self, good: u64, lasting: bool) {
        self.lasting.store(lasting, Ordering::Relaxed);
        self.good.store(good, Ordering::Relaxed);
    }

    fn heal(&self) {
        self.good.store(u64::MAX, Ordering::Relaxed);
        self.reads.store(false, Ordering::Relaxed);
        self.full.store(false, Ordering::Relaxed);
        self.panics.store(false, Ordering::Relaxed);
    }

    /// Whether the next change of the file fails.
    fn strikes(&self) -> bool {
        match self.good.load(Ordering::Relaxed) {
            u64::MAX => false,
            0 => {
                if !self.lasting.load(Ordering::Relaxed) {
                    self.good.store(u64::MAX, Ordering::Relaxed);
                }
                assert!(!self.panics.load(Ordering::Relaxed), "a fault within redb");
                true
            }
            good => {
                self.good.store(good - 1, Ordering::Relaxed);
                false
            }
        }
    }

    fn has_struck(&self) -> bool {
        let good = self.good.load(Ordering::Relaxed);
        good == 0 || good == u64::MAX
    }

    fn open(self: &Arc<Faults>, path: &Path, cache_bytes: usize) -> File {
        let faults = Arc::clone(self);
        let wrap = move |inner| -> Box<dyn StorageBackend> {
            let (faults, unsynced) = (Arc::clone(&faults), Arc::<Unsynced>::default());
            faults.unsynced.lock().unwrap().push(Arc::clone(&unsynced));
            Box::new(Faulty {
                inner,
                faults,
                unsynced,
            })
        };
        File::open_through(path, cache_bytes, Box::new(wrap)).unwrap()
    }
}

fn fault<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::StorageFull, FAULT))
}

impl StorageBackend for Faulty {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.faults.reads.load(Ordering::Relaxed) {
            return Err(io::Error::other(READ_FAULT));
        }
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if self.faults.strikes() {
            return fault();
        }
        self.inner.set_len(len)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let has_its_place = self.faults.full.load(Ordering::Relaxed)
            && (offset == 0 || self.inner.len()? == journal::BYTES as u64);
        if !has_its_place && self.faults.strikes() {
            // Half of it may be there.
            self.inner.write(offset, &data[..data.len() / 2])?;
            return fault();
        }
        let mut before = vec![0; data.len()];
        self.inner.read(offset, &mut before)?;
        self.unsynced.lock().unwrap().push((offset, before));
        self.inner.write(offset, data)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.faults.syncs.fetch_add(1, Ordering::Relaxed);
        let unsynced = std::mem::take(&mut *self.unsynced.lock().unwrap());
        if !self.faults.full.load(Ordering::Relaxed) && self.faults.strikes() {
            let drops = *self.faults.drops.lock().unwrap();
            for (offset, before) in unsynced.iter().rev() {
                let dropped = match drops {
                    None => false,
                    Some(Drops::All) => true,
                    Some(Drops::HeaderOnly) => *offset == 0,
                    Some(Drops::AllButHeader) => *offset != 0,
                };
                if dropped {
                    self.inner.write(*offset, before)?;
                }
            }
            return fault();
        }
        // No test pulls the plug, so what the kernel has is as good as what the disk has.
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}

/// A commit of a large record, so that the file grows as well.
fn large(id: &str) -> Vec<Change> {
    put(id, Revision::ABSENT, &[b'l'; 10_000])
}

/// One that no journal takes, so that it is a durable transaction of redb.
fn huge(id: &str) -> Vec<Change> {
    put(id, Revision::ABSENT, &[b'h'; journal::BYTES])
}

/// Lets the disk fail at each of the steps that a commit takes, one after the other, in every way. What was answered
/// with an error is not there, not even in what kill -9 would leave; what was answered with success is; and the store
/// goes on by itself when the disk is well again.
#[test]
fn a_fault_at_any_step_of_a_commit_is_an_error_and_passes() {
    let ways = [
        None,
        Some(Drops::All),
        Some(Drops::HeaderOnly),
        Some(Drops::AllButHeader),
    ];
    let kinds = [(large as fn(&str) -> Vec<Change>, 2), (huge, 5)];
    for ((change, steps), lasting, drops) in kinds.into_iter().flat_map(|kind| {
        let ways = ways.map(|drops| [(kind, false, drops), (kind, true, drops)]);
        ways.into_iter().flatten()
    }) {
        let folder = Folder::new();
        let path = folder.file();
        let faults = Faults::none();
        *faults.drops.lock().unwrap() = drops;
        let store = faults.open(&path, CACHE_BYTES);
        let mut committed = HashSet::new();
        let mut failures = 0;
        for step in 0.. {
            let (before, id) = (format!("before-{step}"), format!("at-{step}"));
            commit(&store, &before);
            committed.insert(before);
            faults.arm(step, lasting);
            let result = store.commit(change(&id));
            let struck = faults.has_struck();
            match result {
                Err(error) => {
                    failures += 1;
                    assert!(error.message.contains(FAULT), "step {step}: {error}");
                    assert!(
                        error.message.starts_with(&path.display().to_string()),
                        "step {step}: {error}"
                    );
                    if lasting {
                        let again = store
                            .commit(put("never", Revision::ABSENT, b""))
                            .unwrap_err();
                        assert!(again.message.contains(FAULT), "step {step}: {again}");
                    }
                    faults.heal();
                    assert!(
                        body(&store, &id).is_none(),
                        "step {step}: not there after an error"
                    );
                    let copied = open(&left_by_kill(&path));
                    assert!(
                        body(&copied, &id).is_none(),
                        "step {step}: not there after kill -9"
                    );
                    assert!(
                        committed.iter().all(|id| body(&copied, id).is_some()),
                        "step {step}: all else is"
                    );
                    let outcome = store.commit(change(&id)).unwrap();
                    assert!(
                        matches!(outcome, Outcome::Committed(_)),
                        "step {step}: goes on"
                    );
                }
                Ok(outcome) => {
                    assert!(matches!(outcome, Outcome::Committed(_)));
                    faults.heal();
                }
            }
            assert!(body(&store, &id).is_some(), "step {step}");
            committed.insert(id);
            assert!(
                committed.iter().all(|id| body(&store, id).is_some()),
                "step {step}: nothing is lost"
            );
            if !struck {
                break;
            }
        }
        assert!(failures >= steps, "the faults struck: {failures}");
        drop(store);
        let store = open(&path);
        assert!(
            committed.iter().all(|id| body(&store, id).is_some()),
            "nothing is lost after all that"
        );
        assert_eq!(body(&store, "never"), None);
    }
}

#[test]
fn a_full_disk_fails_the_whole_batch() {
    let folder = Folder::new();
    let faults = Faults::none();
    let store = faults.open(&folder.file(), CACHE_BYTES);
    commit(&store, "before");
    faults.arm(0, true);
    thread::scope(|threads| {
        let commits: Vec<_> = (0..8)
            .map(|number| {
                let store = &store;
                threads.spawn(move || {
                    store.commit(put(&format!("full-{number}"), Revision::ABSENT, b""))
                })
            })
            .collect();
        for commit in commits {
            let error = commit.join().unwrap().unwrap_err();
            assert!(error.message.contains(FAULT), "{error}");
        }
    });
    faults.heal();
    for number in 0..8 {
        assert_eq!(body(&store, &format!("full-{number}")), None);
        commit(&store, &format!("full-{number}"));
    }
    assert!(body(&store, "before").is_some());
}

/// A broker reads before it writes, so reading must go on, or come back, by itself. Without a cache, so that every read
/// is one of the file.
#[test]
fn reading_goes_on_after_a_fault() {
    let folder = Folder::new();
    let faults = Faults::none();
    let store = faults.open(&folder.file(), 0);
    commit(&store, "kept");
    let broken = |step: &str| {
        let error = store.read(&[Key::instance("kept")]).unwrap_err();
        assert!(error.message.contains(step), "{error}");
        assert!(store.bindings("kept").is_err() && store.open_operations().is_err());
    };

    // A full disk takes what it has a place for: reading works throughout.
    faults.full.store(true, Ordering::Relaxed);
    faults.arm(0, true);
    for _ in 0..2 {
        store.commit(huge("new")).unwrap_err();
        assert!(body(&store, "kept").is_some() && body(&store, "new").is_none());
    }
    faults.heal();
    assert!(matches!(
        store.commit(huge("new")).unwrap(),
        Outcome::Committed(_)
    ));

    // A disk that takes nothing at all, and is well again: the first read mends the store.
    faults.arm(0, true);
    store.commit(huge("newer")).unwrap_err();
    broken(FAULT);
    faults.heal();
    assert!(body(&store, "kept").is_some() && body(&store, "newer").is_none());

    // A disk that gives nothing back.
    faults.reads.store(true, Ordering::Relaxed);
    broken(READ_FAULT);
    broken(READ_FAULT);
    assert!(
        store
            .commit(huge("newer"))
            .unwrap_err()
            .message
            .contains(READ_FAULT)
    );
    faults.heal();
    assert!(body(&store, "kept").is_some() && body(&store, "newer").is_none());
    assert!(matches!(
        store.commit(huge("newer")).unwrap(),
        Outcome::Committed(_)
    ));
}

#[test]
fn a_panic_within_a_commit_is_an_error_and_passes() {
    let folder = Folder::new();
    let faults = Faults::none();
    let store = faults.open(&folder.file(), CACHE_BYTES);
    commit(&store, "before");
    for step in 0.. {
        faults.panics.store(true, Ordering::Relaxed);
        faults.arm(step, true);
        let id = format!("at-{step}");
        if store.commit(huge(&id)).is_ok() {
            assert!(step > 5, "the panics struck");
            break;
        }
        faults.heal();
        assert_eq!(body(&store, &id), None);
        commit(&store, &id);
    }
    faults.heal();
    drop(store);
    assert!(body(&open(&folder.file()), "before").is_some());
}

#[test]
fn what_changes_nothing_needs_no_disk() {
    let folder = Folder::new();
    let faults = Faults::none();
    let store = faults.open(&folder.file(), CACHE_BYTES);
    commit(&store, "one");
    faults.arm(0, true);
    let key = Key::instance("one");
    let revision = store
        .read(std::slice::from_ref(&key))
        .unwrap()
        .remove(0)
        .unwrap()
        .revision;
    assert_eq!(
        store.commit(put("one", Revision::ABSENT, b"")).unwrap(),
        Outcome::Conflict
    );
    assert!(matches!(
        store
            .commit(vec![Change::Expect { key, revision }])
            .unwrap(),
        Outcome::Committed(_)
    ));
    assert!(matches!(
        store.commit(vec![]).unwrap(),
        Outcome::Committed(_)
    ));
    let instance = "one".to_owned();
    assert!(matches!(
        store
            .commit(vec![Change::DeleteBindings { instance }])
            .unwrap(),
        Outcome::Committed(_)
    ));
    assert!(
        !store.shared.live().as_ref().unwrap().disk.failed(),
        "nothing was tried"
    );
}

/// While one commit is being written, others gather, and share the next `fdatasync`.
#[test]
fn commits_that_meet_share_one_sync() {
    const WRITERS: u64 = 16;
    let folder = Folder::new();
    let faults = Faults::none();
    let store = faults.open(&folder.file(), CACHE_BYTES);
    commit(&store, "before");
    let before = faults.syncs.load(Ordering::Relaxed);
    // Nobody gets further than the queue as long as this is held.
    let held = store.shared.live.write().unwrap();
    thread::scope(|threads| {
        for number in 0..WRITERS {
            let store = &store;
            threads.spawn(move || commit(store, &number.to_string()));
        }
        let gathered = || store.writer.gathered() as u64 == WRITERS - 1;
        while !gathered() {
            thread::sleep(Duration::from_millis(1));
        }
        drop(held);
    });
    // The first one alone, and the others together; a transaction that lets the file grow syncs that, too.
    let syncs = faults.syncs.load(Ordering::Relaxed) - before;
    assert!((2..=4).contains(&syncs), "{syncs}");
    for number in 0..WRITERS {
        assert!(body(&store, &number.to_string()).is_some());
    }
}

#[test]
fn in_one_batch_the_first_of_two_rivals_wins() {
    let folder = Folder::new();
    let store = open(&folder.file());
    for round in 0..50 {
        let id = format!("rivals-{round}");
        let won: usize = thread::scope(|threads| {
            let rivals: Vec<_> = (0..4)
                .map(|number: u8| {
                    let (store, id) = (&store, &id);
                    threads
                        .spawn(move || store.commit(put(id, Revision::ABSENT, &[number])).unwrap())
                })
                .collect();
            let outcomes = rivals.into_iter().map(|rival| rival.join().unwrap());
            outcomes
                .filter(|outcome| matches!(outcome, Outcome::Committed(_)))
                .count()
        });
        assert_eq!(won, 1);
    }
}
