use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::*;
use crate::store::inspect::{Inspect as _, Refusal};
use crate::store::{AuditLine, Revision, contract};

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
        self.0.join("brokerlet.db")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open(path: &Path) -> Sqlite {
    Sqlite::open(path, CACHE_BYTES).unwrap()
}

/// Why the file is refused; it is left as it was.
fn refusal(path: &Path) -> String {
    let before = fs::read(path).unwrap();
    let message = match Sqlite::open(path, CACHE_BYTES) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error.message,
    };
    assert!(fs::read(path).unwrap() == before, "changed: {message}");
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

fn commit(store: &Sqlite, id: &str) -> Revision {
    match store.commit(put(id, Revision::ABSENT, id.as_bytes())) {
        Ok(Outcome::Committed(revision)) => revision,
        other => panic!("{other:?}"),
    }
}

fn body(store: &Sqlite, id: &str) -> Option<Vec<u8>> {
    let mut found = store.read(&[Key::instance(id)]).unwrap();
    found.remove(0).map(|record| record.body)
}

/// As another program would.
fn as_sqlite<T>(path: &Path, use_it: impl FnOnce(&Connection) -> T) -> T {
    let connection = Connection::open(path).unwrap();
    use_it(&connection)
}

/// Copies of the file and what lies beside it, as kill -9 leaves them.
fn left_by_kill(folder: &Folder) -> PathBuf {
    let copy = folder.0.join("copy.db");
    for suffix in ["", "-wal", "-shm"] {
        let name = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        let _ = fs::remove_file(name(&copy));
        if name(&folder.file()).exists() {
            fs::copy(name(&folder.file()), name(&copy)).unwrap();
        }
    }
    copy
}

#[test]
fn keeps_the_contract() {
    for cache_bytes in [CACHE_BYTES, 0] {
        let folder = Folder::new();
        let path = folder.file();
        contract::check_persistent(&|| Box::new(Sqlite::open(&path, cache_bytes).unwrap()));
    }
}

#[test]
fn a_new_file_is_for_its_owner_alone_and_says_what_it_is() {
    let folder = Folder::new();
    let store = open(&folder.file());
    commit(&store, "one");
    assert!(store.warnings().is_empty());
    let name = folder.file().display().to_string();
    assert_eq!(store.describe(), format!("file:{name}"));
    for suffix in ["", "-wal", "-shm", "-lock"] {
        let mode = fs::metadata(format!("{name}{suffix}")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600, "{suffix}");
    }
    drop(store);
    let left = fs::read_dir(&folder.0).unwrap().count();
    assert_eq!(left, 1, "one file is left");
}

#[test]
fn a_file_that_others_can_read_is_opened_with_a_warning() {
    let folder = Folder::new();
    drop(open(&folder.file()));
    fs::set_permissions(folder.file(), fs::Permissions::from_mode(0o644)).unwrap();
    let warnings = open(&folder.file()).warnings().to_vec();
    assert!(
        warnings.len() == 1 && warnings[0].contains("mode 0644"),
        "{warnings:?}"
    );
}

#[test]
fn one_broker_at_a_time_and_any_number_of_readers() {
    let folder = Folder::new();
    let store = open(&folder.file());
    commit(&store, "one");
    let link = folder.0.join("link.db");
    symlink(folder.file(), &link).unwrap();
    for path in [folder.file(), link] {
        let message = Sqlite::open(&path, CACHE_BYTES).err().unwrap().message;
        assert!(message.contains("in use by another process"), "{message}");
    }
    let reader = Sqlite::open_to_read(&folder.file(), CACHE_BYTES).unwrap();
    assert!(body(&reader, "one").is_some());
    commit(&store, "two");
    assert!(body(&reader, "two").is_some());
    let refused = reader
        .commit(put("three", Revision::ABSENT, b""))
        .unwrap_err();
    assert!(refused.message.contains("reading only"), "{refused}");
}

#[test]
fn what_is_committed_is_synced_on_the_connection_that_writes() {
    let folder = Folder::new();
    let connection = {
        drop(open(&folder.file()));
        let place = Place::find(&folder.file()).unwrap();
        let connection = connect(&place, CACHE_BYTES).unwrap();
        write_ahead(&connection).unwrap();
        connection
    };
    let pragma = |name: &str| -> String {
        let sql = format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}");
        connection.query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(pragma("journal_mode"), "wal");
    assert_eq!(pragma("synchronous"), "2");
    // And there is no other that writes: the readers' refuse to.
    let store = open(&folder.file());
    let written = store.readers.read(&store.place, |connection| {
        connection.execute("DELETE FROM revisions", [])
    });
    assert!(written.unwrap_err().message.contains("readonly"));
}

#[test]
fn what_is_not_a_store_is_left_alone() {
    let folder = Folder::new();
    let path = folder.file();
    for content in [
        &b"minutes of the board"[..],
        &[0; 4096],
        b"SQLite format 3\0",
    ] {
        fs::write(&path, content).unwrap();
        let message = refusal(&path);
        assert!(message.contains("not a store of brokerlet"), "{message}");
    }
    fs::remove_file(&path).unwrap();
    as_sqlite(&path, |foreign| {
        foreign.execute_batch("CREATE TABLE t (a)").unwrap()
    });
    let message = refusal(&path);
    assert!(
        message.contains("not of brokerlet; set BROKER_STORE"),
        "{message}"
    );
    let message = Sqlite::open(&folder.0, CACHE_BYTES).err().unwrap().message;
    assert!(message.contains("not a regular file"), "{message}");
}

#[test]
fn what_the_first_format_has_is_taken_over() {
    let folder = Folder::new();
    let store = open(&folder.file());
    assert!(matches!(
        store.commit(put("i", Revision::ABSENT, b"{}")).unwrap(),
        Outcome::Committed(_)
    ));
    drop(store);
    let old = Connection::open(folder.file()).unwrap();
    old.execute_batch("DROP TABLE audit; PRAGMA user_version = 1")
        .unwrap();
    drop(old);
    let store = open(&folder.file());
    assert!(store.read(&[Key::instance("i")]).unwrap()[0].is_some());
    let line = AuditLine {
        at: 1,
        text: b"{}".to_vec(),
    };
    let change = [put("j", Revision::ABSENT, b"{}"), vec![Change::Audit(line)]].concat();
    assert!(matches!(
        store.commit(change).unwrap(),
        Outcome::Committed(_)
    ));
    let mut lines = 0;
    let read = store.audit(0, &mut |_| {
        lines += 1;
        ControlFlow::Continue(())
    });
    read.unwrap();
    assert_eq!(lines, 1);
}

#[test]
fn a_newer_format_is_left_alone() {
    let folder = Folder::new();
    let path = folder.file();
    drop(open(&path));
    as_sqlite(&path, |store| {
        store.pragma_update(None, "user_version", 7).unwrap()
    });
    let message = refusal(&path);
    assert!(
        message.contains("written by a newer brokerlet, in format 7"),
        "{message}"
    );
}

#[test]
fn a_damaged_file_is_told_and_never_panics() {
    let folder = Folder::new();
    let path = folder.file();
    let store = open(&path);
    for n in 0..200 {
        commit(&store, &n.to_string());
    }
    drop(store);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let message = refusal(&path);
    assert!(
        message.contains("damaged; restore it from a backup"),
        "{message}"
    );
    let (mut refused, mut found) = (0, 0);
    for page in 0..whole.len() / 4096 {
        let mut damaged = whole.clone();
        damaged[page * 4096 + 100..(page + 1) * 4096].fill(0xA5);
        fs::write(&path, &damaged).unwrap();
        let Ok(store) = Sqlite::open(&path, CACHE_BYTES) else {
            refused += 1;
            continue;
        };
        let complaints = store.check().map_or(1, |lines| lines.len());
        let read = (0..200).all(|n| store.read(&[Key::instance(&n.to_string())]).is_ok());
        found += usize::from(complaints > 0);
        let _ = (read, store.commit(put("new", Revision::ABSENT, b"new")));
    }
    assert!(refused > 0 && found > 0, "{refused} refused, {found} found");
}

#[test]
fn an_emptied_file_is_new_unless_its_log_is_there() {
    let folder = Folder::new();
    let path = folder.file();
    fs::write(&path, b"").unwrap();
    let store = open(&path);
    let warnings = store.warnings().join(
        "
",
    );
    assert!(warnings.contains("was empty"), "{warnings}");
    commit(&store, "one");
    let left = left_by_kill(&folder);
    fs::write(&left, b"").unwrap();
    let message = refusal(&left);
    assert!(message.contains("its log is not"), "{message}");
}

#[test]
fn without_its_log_a_file_that_was_not_closed_opens_as_it_was_before() {
    let folder = Folder::new();
    let store = open(&folder.file());
    let first = commit(&store, "one");
    let left = left_by_kill(&folder);
    let (log, reopened) = (folder.0.join("copy.db-wal"), open(&left));
    assert!(body(&reopened, "one").is_some());
    drop(reopened);
    let left = left_by_kill(&folder);
    fs::remove_file(&log).unwrap();
    let reopened = open(&left);
    assert_eq!(reopened.check().unwrap(), [] as [String; 0]);
    assert_eq!(body(&reopened, "one"), None);
    assert_eq!(commit(&reopened, "two"), first, "it is another history");
}

#[test]
fn revisions_go_on_after_an_open() {
    let folder = Folder::new();
    let mut last = Revision::ABSENT;
    for n in 0..3 {
        let store = open(&folder.file());
        let revision = commit(&store, &n.to_string());
        assert!(revision.0 > last.0);
        let of_copy = commit(&open(&left_by_kill(&folder)), "copy");
        assert!(of_copy.0 > revision.0);
        last = revision;
    }
}

#[test]
fn a_file_that_was_removed_or_replaced_takes_no_commits() {
    let folder = Folder::new();
    let (path, aside) = (folder.file(), folder.0.join("aside.db"));
    let store = open(&path);
    commit(&store, "before");
    assert!(body(&store, "before").is_some());
    fs::rename(&path, &aside).unwrap();
    let refused = |wanted: &str| {
        let error = store.commit(put("new", Revision::ABSENT, b"")).unwrap_err();
        assert!(error.message.contains(wanted), "{error}");
    };
    refused("removed while in use");
    fs::write(&path, b"another file").unwrap();
    refused("replaced by another file");
    assert!(body(&store, "before").is_some());
    fs::rename(&aside, &path).unwrap();
    commit(&store, "new");
    drop(store);
    assert!(body(&open(&path), "new").is_some());
}

#[test]
fn a_store_that_is_closed_stays_closed() {
    let folder = Folder::new();
    let store = open(&folder.file());
    commit(&store, "one");
    store.close();
    store.close();
    let read = store.read(&[Key::instance("one")]).unwrap_err();
    let written = store.commit(put("two", Revision::ABSENT, b"")).unwrap_err();
    for error in [read, written] {
        assert!(error.message.ends_with(": closed"), "{error}");
    }
}

#[test]
fn commits_that_meet_are_judged_alone_and_the_first_of_rivals_wins() {
    let folder = Folder::new();
    let store = open(&folder.file());
    for round in 0..20 {
        let id = round.to_string();
        let won: usize = thread::scope(|scope| {
            let rivals: Vec<_> = (0..8)
                .map(|n| {
                    let (store, id) = (&store, &id);
                    scope.spawn(move || {
                        commit(store, &format!("{id}-{n}"));
                        let outcome = store.commit(put(id, Revision::ABSENT, b"")).unwrap();
                        usize::from(outcome != Outcome::Conflict)
                    })
                })
                .collect();
            rivals.into_iter().map(|rival| rival.join().unwrap()).sum()
        });
        assert_eq!(won, 1);
    }
}

/// Readers that never all stop, and records that come and go: neither file nor log grows without end.
#[test]
fn the_file_and_its_log_are_of_bounded_size() {
    let folder = Folder::new();
    let store = open(&folder.file());
    let done = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while done.load(Ordering::Relaxed) == 0 {
                    store.bindings("i").unwrap();
                }
            });
        }
        for _ in 0..100 {
            let keys: Vec<_> = (0..2000).map(|n| Key::instance(&n.to_string())).collect();
            let put = |key: &Key| Change::Put {
                key: key.clone(),
                revision: Revision::ABSENT,
                body: vec![b'x'; 350],
                open: false,
            };
            let Outcome::Committed(revision) =
                store.commit(keys.iter().map(put).collect()).unwrap()
            else {
                panic!("not committed");
            };
            let delete = |key| Change::Delete { key, revision };
            let outcome = store
                .commit(keys.into_iter().map(delete).collect())
                .unwrap();
            assert!(matches!(outcome, Outcome::Committed(_)));
        }
        done.store(1, Ordering::Relaxed);
    });
    let log = fs::metadata(folder.0.join("brokerlet.db-wal"))
        .unwrap()
        .len();
    assert!(log < 64 << 20, "the log has {log} bytes");
    drop(store);
    let length = fs::metadata(folder.file()).unwrap().len();
    assert!(length < 4 << 20, "the file has {length} bytes");
    open(&folder.file()).compact().unwrap();
    let length = fs::metadata(folder.file()).unwrap().len();
    assert!(length < 64 << 10, "the compact file has {length} bytes");
}

#[test]
fn the_views_show_whatever_is_in_the_records() {
    let folder = Folder::new();
    let store = open(&folder.file());
    let record = br#"{"service_id":"s","plan_id":"p","organization_guid":"o","space_guid":"sp",
        "created":{"at":"2026-01-02T03:04:05.000Z"},"operation":{"kind":"provision","state":"succeeded"}}"#;
    let bodies: [(&str, &[u8]); 4] = [
        ("i", record),
        (
            "gone",
            br#"{"gone":"2026-01-02T03:04:05.000Z","operation":{}}"#,
        ),
        ("text", b"not JSON"),
        ("bytes", b"\xFF\x00"),
    ];
    for (id, body) in bodies {
        let _ = store.commit(put(id, Revision::ABSENT, body)).unwrap();
    }
    let shown: Vec<String> = as_sqlite(&folder.file(), |reader| {
        let mut statement = reader
            .prepare("SELECT instance_id || ' ' || ifnull(service_id || plan_id || state || created, '-') FROM instances ORDER BY 1")
            .unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    });
    assert_eq!(
        shown,
        ["bytes -", "i spsucceeded2026-01-02T03:04:05.000Z", "text -"]
    );
}

/// In the middle of 16 writers a copy has all that was acknowledged before it began.
#[test]
fn a_copy_is_of_one_moment() {
    let folder = Folder::new();
    let store = open(&folder.file());
    let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let acknowledged = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while done.load(Ordering::Relaxed) == 0 {
                    let id = next.fetch_add(1, Ordering::Relaxed).to_string();
                    commit(&store, &id);
                    acknowledged.lock().unwrap().push(id);
                }
            });
        }
        for round in 0..3 {
            while acknowledged.lock().unwrap().len() < (round + 1) * 100 {
                thread::yield_now();
            }
            let copy = folder.0.join(format!("copy-{round}.db"));
            let before = acknowledged.lock().unwrap().clone();
            store.backup(&copy).unwrap();
            assert_eq!(fs::metadata(&copy).unwrap().mode() & 0o777, 0o600);
            let Err(Refusal::Unusable(again)) = store.backup(&copy) else {
                panic!("the copy was written over");
            };
            assert!(again.message.contains("exists"), "{again}");
            let copy = open(&copy);
            assert_eq!(copy.check().unwrap(), [] as [String; 0]);
            for id in before {
                assert!(body(&copy, &id).is_some(), "{id}");
            }
        }
        done.store(1, Ordering::Relaxed);
    });
}

#[test]
fn records_are_shown_one_by_one_until_that_is_enough() {
    let folder = Folder::new();
    let store = open(&folder.file());
    for id in ["b", "a", "c"] {
        commit(&store, id);
    }
    let mut seen = Vec::new();
    let shown = store.each(&mut |key, record, _| {
        seen.push((key, record.body));
        match seen.len() {
            2 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    });
    shown.unwrap();
    let wanted = ["a", "b"].map(|id| (Key::instance(id), id.as_bytes().to_vec()));
    assert_eq!(seen, wanted);
}
