//! What every store must do, as a test that any store can be put to: those of this crate, and others from their own
//! tests. A broken promise panics with a message that names it.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::thread::{self, ScopedJoinHandle};

use super::{AuditLine, Change, Key, Outcome, Record, Revision, Store};

/// Puts a store that holds no records to the test. It holds some afterwards.
pub fn check(store: &dyn Store) {
    absent_is_absent(store);
    put_is_read_back(store);
    reads_answer_in_the_order_asked(store);
    wrong_revisions_are_refused(store);
    a_refused_commit_changes_nothing(store);
    expect_holds_the_commit_to_what_was_read(store);
    delete_deletes(store);
    a_revision_never_comes_again(store);
    bindings_come_in_order_and_of_one_instance_only(store);
    delete_bindings_deletes_all_of_one_instance(store);
    open_operations_come_and_go(store);
    instances_are_listed_in_steps(store);
    odd_ids_are_kept_apart(store);
    large_bodies_are_kept(store);
    a_read_is_of_one_moment(store);
    no_update_is_lost(store);
    audit_lines_come_with_their_commit(store);
}

/// Puts a store that survives its process to the test: [`check`], and that what was committed is there when the store
/// is opened again. Each call of `open` opens the same store, which holds no records at first, and is dropped before
/// the next call.
pub fn check_persistent(open: &dyn Fn() -> Box<dyn Store>) {
    what_was_committed_survives(open);
    check(&*open());
    // And what that left behind can be opened too.
    read_one(&*open(), &Key::instance("contract-absent"));
}

/// The lines of the audit trail from this time on.
fn lines(store: &dyn Store, since: u64) -> Vec<(u64, Vec<u8>)> {
    let mut lines = Vec::new();
    let read = store.audit(since, &mut |line| {
        lines.push((line.at, line.text));
        ControlFlow::Continue(())
    });
    read.unwrap();
    lines
}

fn audit_lines_come_with_their_commit(store: &dyn Store) {
    if !store.keeps_audit() {
        return;
    }
    // No other check has lines of that time.
    const FROM: u64 = 1 << 60;
    let key = Key::instance(&instance("audit"));
    let line = |n: u64| {
        let at = FROM + n;
        let text = format!("{{\"line\":{n}}}").into_bytes();
        Change::Audit(AuditLine { at, text })
    };
    let mut revision = Revision::ABSENT;
    for n in 0..600 {
        match commit(store, vec![put(&key, revision, b"{}"), line(n)]) {
            Outcome::Committed(committed) => revision = committed,
            Outcome::Conflict => panic!("a commit with a line was refused"),
        }
    }
    let refused = store.commit(vec![line(700), put(&key, Revision::ABSENT, b"{}")]);
    assert_eq!(refused.unwrap(), Outcome::Conflict);
    let found = lines(store, FROM);
    assert_eq!(
        found.len(),
        600,
        "a line is there twice, or without its change"
    );
    let in_order = found.iter().zip(0u64..).all(|((at, text), n)| {
        *at == FROM + n && *text == format!("{{\"line\":{n}}}").into_bytes()
    });
    assert!(in_order, "the lines are not in the order of their times");
    assert_eq!(lines(store, FROM + 599).len(), 1, "older lines were shown");
    let mut seen = 0;
    let read = store.audit(FROM, &mut |_| {
        seen += 1;
        ControlFlow::Break(())
    });
    read.unwrap();
    assert_eq!(seen, 1, "the trail goes on after it was broken off");
    assert_eq!(store.forget_audit(FROM + 100, 70).unwrap(), 70);
    assert_eq!(store.forget_audit(FROM + 100, 70).unwrap(), 30);
    assert_eq!(store.forget_audit(FROM + 100, 70).unwrap(), 0);
    assert_eq!(lines(store, FROM).len(), 500, "younger lines are gone");
}

/// An id that no other check uses.
fn instance(check: &str) -> String {
    format!("contract-{check}")
}

fn put(key: &Key, revision: Revision, body: &[u8]) -> Change {
    Change::Put {
        key: key.clone(),
        revision,
        body: body.to_vec(),
        open: false,
    }
}

fn put_open(key: &Key, revision: Revision) -> Change {
    Change::Put {
        key: key.clone(),
        revision,
        body: b"{}".to_vec(),
        open: true,
    }
}

fn delete(key: &Key, revision: Revision) -> Change {
    Change::Delete {
        key: key.clone(),
        revision,
    }
}

fn expect(key: &Key, revision: Revision) -> Change {
    Change::Expect {
        key: key.clone(),
        revision,
    }
}

fn delete_bindings(instance: &str) -> Change {
    Change::DeleteBindings {
        instance: instance.to_owned(),
    }
}

fn commit(store: &dyn Store, changes: Vec<Change>) -> Outcome {
    store.commit(changes).expect("a commit of a store in order")
}

fn commits(store: &dyn Store, changes: Vec<Change>) {
    let shown = format!("{changes:?}");
    let puts: Vec<Key> = changes
        .iter()
        .filter_map(|change| match change {
            Change::Put { key, .. } => Some(key.clone()),
            _ => None,
        })
        .collect();
    let Outcome::Committed(revision) = commit(store, changes) else {
        panic!("nothing speaks against {shown:.300}");
    };
    for key in puts {
        let found = read_one(store, &key).map(|found| found.revision);
        assert_eq!(found, Some(revision), "the revision of {key:?}");
    }
}

fn conflicts(store: &dyn Store, changes: Vec<Change>) {
    let shown = format!("{changes:?}");
    assert_eq!(
        commit(store, changes),
        Outcome::Conflict,
        "must be refused: {shown:.300}"
    );
}

fn read_one(store: &dyn Store, key: &Key) -> Option<Record> {
    let mut found = store
        .read(std::slice::from_ref(key))
        .expect("a read of a store in order");
    assert_eq!(found.len(), 1, "one answer for one key");
    found.remove(0)
}

fn body(store: &dyn Store, key: &Key) -> Option<Vec<u8>> {
    read_one(store, key).map(|record| record.body)
}

/// The revision to give for the record as it is now.
fn revision(store: &dyn Store, key: &Key) -> Revision {
    read_one(store, key).map_or(Revision::ABSENT, |record| record.revision)
}

fn binding_ids(store: &dyn Store, instance: &str) -> Vec<String> {
    let found = store
        .bindings(instance)
        .expect("the bindings of a store in order");
    found.into_iter().map(|(id, _)| id).collect()
}

/// Of one instance, since other checks may have left some open.
fn open_of(store: &dyn Store, instance: &str) -> HashSet<Key> {
    let open = store
        .open_operations()
        .expect("the open operations of a store in order");
    let all = open.len();
    let distinct: HashSet<Key> = open.into_iter().collect();
    assert_eq!(distinct.len(), all, "each open operation is named once");
    let of_instance =
        |key: &Key| matches!(key, Key::Instance(id) | Key::Binding(id, _) if id == instance);
    distinct.into_iter().filter(of_instance).collect()
}

fn absent_is_absent(store: &dyn Store) {
    let id = instance("absent");
    assert_eq!(read_one(store, &Key::instance(&id)), None);
    assert_eq!(read_one(store, &Key::binding(&id, "b")), None);
    assert_eq!(binding_ids(store, &id), Vec::<String>::new());
    assert_eq!(store.read(&[]).expect("a read of nothing"), Vec::new());
    commits(store, vec![]);
}

fn put_is_read_back(store: &dyn Store) {
    let id = instance("put");
    for key in [Key::instance(&id), Key::binding(&id, "b")] {
        commits(store, vec![put(&key, Revision::ABSENT, b"one")]);
        let first = read_one(store, &key).expect("what was put");
        assert_eq!(first.body, b"one");
        assert_ne!(
            first.revision,
            Revision::ABSENT,
            "what is there has a revision"
        );
        commits(store, vec![put(&key, first.revision, b"")]);
        let second = read_one(store, &key).expect("what was put again");
        assert_eq!(second.body, b"", "an empty body is a body");
        assert_ne!(
            second.revision, first.revision,
            "another state, another revision"
        );
        assert_eq!(
            read_one(store, &key),
            Some(second),
            "reading changes nothing"
        );
    }
}

fn reads_answer_in_the_order_asked(store: &dyn Store) {
    let id = instance("order");
    let (one, other) = (Key::instance(&id), Key::binding(&id, "b"));
    commits(
        store,
        vec![
            put(&one, Revision::ABSENT, b"one"),
            put(&other, Revision::ABSENT, b"other"),
        ],
    );
    let none = Key::binding(&id, "none");
    let keys = [other.clone(), none, one.clone(), other];
    let bodies: Vec<_> = store
        .read(&keys)
        .expect("a read")
        .into_iter()
        .map(|found| found.map(|it| it.body))
        .collect();
    let wanted = [Some(&b"other"[..]), None, Some(b"one"), Some(b"other")];
    assert_eq!(bodies, wanted.map(|body| body.map(<[u8]>::to_vec)));
}

fn wrong_revisions_are_refused(store: &dyn Store) {
    let id = instance("refused");
    for key in [Key::instance(&id), Key::binding(&id, "b")] {
        // There is none.
        conflicts(store, vec![put(&key, Revision(1), b"never")]);
        conflicts(store, vec![put(&key, Revision(u64::MAX), b"never")]);
        conflicts(store, vec![delete(&key, Revision(1))]);
        conflicts(store, vec![expect(&key, Revision(1))]);
        assert_eq!(read_one(store, &key), None);
        commits(store, vec![put(&key, Revision::ABSENT, b"first")]);
        let stale = revision(store, &key);
        commits(store, vec![put(&key, stale, b"second")]);
        let now = read_one(store, &key);
        // There is one, but of another revision.
        for wrong in [Revision::ABSENT, stale, Revision(u64::MAX)] {
            conflicts(store, vec![put(&key, wrong, b"never")]);
            conflicts(store, vec![delete(&key, wrong)]);
            conflicts(store, vec![expect(&key, wrong)]);
        }
        assert_eq!(read_one(store, &key), now);
    }
}

fn a_refused_commit_changes_nothing(store: &dyn Store) {
    let id = instance("all-or-nothing");
    let [kept, gone, new] = ["kept", "gone", "new"].map(|id_of| Key::binding(&id, id_of));
    commits(
        store,
        vec![
            put(&kept, Revision::ABSENT, b"kept"),
            put_open(&gone, Revision::ABSENT),
        ],
    );
    let before = (store.bindings(&id).expect("bindings"), open_of(store, &id));
    let (of_kept, of_gone) = (revision(store, &kept), revision(store, &gone));
    // Whether the change that does not hold comes first, last or between.
    let wrong = expect(&Key::instance(&id), Revision(1));
    let right = [
        put(&kept, of_kept, b"changed"),
        put_open(&new, Revision::ABSENT),
        delete(&gone, of_gone),
    ];
    for place in 0..=right.len() {
        let mut changes = right.to_vec();
        changes.insert(place, wrong.clone());
        conflicts(store, changes);
        let after = (store.bindings(&id).expect("bindings"), open_of(store, &id));
        assert_eq!(after, before, "a refused commit changes nothing");
    }
    conflicts(store, vec![delete_bindings(&id), wrong]);
    let after = (store.bindings(&id).expect("bindings"), open_of(store, &id));
    assert_eq!(after, before, "a refused commit deletes no bindings");
    commits(store, right.to_vec());
    assert_eq!(body(store, &kept).as_deref(), Some(&b"changed"[..]));
    assert_eq!(binding_ids(store, &id), ["kept", "new"]);
    assert_eq!(open_of(store, &id), HashSet::from([new]));
}

fn expect_holds_the_commit_to_what_was_read(store: &dyn Store) {
    let id = instance("expect");
    let (seen, written) = (Key::instance(&id), Key::binding(&id, "b"));
    commits(
        store,
        vec![
            expect(&seen, Revision::ABSENT),
            put(&written, Revision::ABSENT, b"1"),
        ],
    );
    commits(store, vec![put(&seen, Revision::ABSENT, b"seen")]);
    let before = read_one(store, &seen);
    conflicts(
        store,
        vec![
            expect(&seen, Revision::ABSENT),
            put(&written, revision(store, &written), b"2"),
        ],
    );
    commits(
        store,
        vec![
            expect(&seen, revision(store, &seen)),
            put(&written, revision(store, &written), b"3"),
        ],
    );
    assert_eq!(body(store, &written).as_deref(), Some(&b"3"[..]));
    assert_eq!(
        read_one(store, &seen),
        before,
        "what is only expected keeps its revision"
    );
    commits(store, vec![expect(&seen, revision(store, &seen))]);
}

fn delete_deletes(store: &dyn Store) {
    let id = instance("delete");
    for key in [Key::instance(&id), Key::binding(&id, "b")] {
        commits(store, vec![put(&key, Revision::ABSENT, b"1")]);
        let last = revision(store, &key);
        commits(store, vec![delete(&key, last)]);
        assert_eq!(read_one(store, &key), None);
        conflicts(store, vec![delete(&key, last)]);
        commits(store, vec![delete(&key, Revision::ABSENT)]);
    }
    assert_eq!(binding_ids(store, &id), Vec::<String>::new());
}

fn a_revision_never_comes_again(store: &dyn Store) {
    let id = instance("aba");
    for key in [Key::instance(&id), Key::binding(&id, "b")] {
        let mut seen = HashSet::new();
        for _ in 0..20 {
            commits(store, vec![put(&key, Revision::ABSENT, b"same")]);
            let made = revision(store, &key);
            assert!(seen.insert(made.0), "revision {} came twice", made.0);
            commits(store, vec![put(&key, made, b"same")]);
            let changed = revision(store, &key);
            assert!(seen.insert(changed.0), "revision {} came twice", changed.0);
            conflicts(store, vec![delete(&key, made)]);
            match &key {
                Key::Instance(_) => commits(store, vec![delete(&key, changed)]),
                Key::Binding(instance, _) => commits(store, vec![delete_bindings(instance)]),
            }
        }
    }
}

fn bindings_come_in_order_and_of_one_instance_only(store: &dyn Store) {
    let id = instance("ordered");
    let neighbours = [
        format!("{id}\0"),
        format!("{id}-"),
        format!("{id}a"),
        "contract-ordere".to_owned(),
    ];
    for neighbour in &neighbours {
        commits(
            store,
            vec![put(&Key::binding(neighbour, "x"), Revision::ABSENT, b"x")],
        );
    }
    let mut ids = [
        "m",
        "",
        "z",
        "a",
        "A",
        "aa",
        "a\0",
        "a\0b",
        "ä",
        "\u{10FFFF}",
        "10",
        "9",
        " ",
    ];
    for of_binding in ids {
        let key = Key::binding(&id, of_binding);
        commits(
            store,
            vec![put(&key, Revision::ABSENT, of_binding.as_bytes())],
        );
    }
    ids.sort_unstable();
    let found = store.bindings(&id).expect("bindings");
    assert_eq!(
        found.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(),
        ids
    );
    for (of_binding, record) in found {
        assert_eq!(record.body, of_binding.as_bytes());
        assert_eq!(
            read_one(store, &Key::binding(&id, &of_binding)),
            Some(record)
        );
    }
    for neighbour in &neighbours {
        assert_eq!(binding_ids(store, neighbour), ["x"], "of {neighbour:?}");
    }
}

fn delete_bindings_deletes_all_of_one_instance(store: &dyn Store) {
    let id = instance("sweep");
    let neighbours = [
        format!("{id}\0"),
        format!("{id}\0\0"),
        format!("{id}!"),
        format!("{id}a"),
        "contract-swee".into(),
    ];
    let own = Key::instance(&id);
    commits(store, vec![put(&own, Revision::ABSENT, b"instance")]);
    for instance in neighbours.iter().chain([&id]) {
        for of_binding in ["", "\0", "a", "\u{10FFFF}"] {
            commits(
                store,
                vec![put(
                    &Key::binding(instance, of_binding),
                    Revision::ABSENT,
                    b"b",
                )],
            );
        }
    }
    let looked_at = revision(store, &own);
    // One more comes after the caller looked.
    commits(
        store,
        vec![put_open(&Key::binding(&id, "late"), Revision::ABSENT)],
    );
    commits(store, vec![delete(&own, looked_at), delete_bindings(&id)]);
    assert_eq!(read_one(store, &own), None);
    assert_eq!(binding_ids(store, &id), Vec::<String>::new());
    assert_eq!(read_one(store, &Key::binding(&id, "late")), None);
    assert_eq!(
        open_of(store, &id),
        HashSet::new(),
        "what is gone is not open"
    );
    for neighbour in &neighbours {
        assert_eq!(
            binding_ids(store, neighbour),
            ["", "\0", "a", "\u{10FFFF}"],
            "of {neighbour:?}"
        );
    }
    commits(store, vec![delete_bindings(&id)]);
}

fn open_operations_come_and_go(store: &dyn Store) {
    let id = instance("open");
    let keys = [
        Key::instance(&id),
        Key::binding(&id, "b"),
        Key::binding(&id, "c"),
    ];
    for key in &keys {
        assert_eq!(open_of(store, &id), HashSet::new());
        commits(store, vec![put_open(key, Revision::ABSENT)]);
        assert_eq!(open_of(store, &id), HashSet::from([key.clone()]));
        // Still open, then closed, then open again, then deleted while open.
        commits(store, vec![put_open(key, revision(store, key))]);
        assert_eq!(open_of(store, &id), HashSet::from([key.clone()]));
        commits(store, vec![put(key, revision(store, key), b"done")]);
        assert_eq!(open_of(store, &id), HashSet::new());
        commits(store, vec![put_open(key, revision(store, key))]);
        assert_eq!(open_of(store, &id), HashSet::from([key.clone()]));
        commits(store, vec![delete(key, revision(store, key))]);
    }
    commits(
        store,
        keys.iter()
            .map(|key| put_open(key, Revision::ABSENT))
            .collect(),
    );
    assert_eq!(open_of(store, &id), HashSet::from(keys.clone()));
    commits(store, vec![delete_bindings(&id)]);
    assert_eq!(
        open_of(store, &id),
        HashSet::from([keys[0].clone()]),
        "the instance itself is still open"
    );
}

fn instances_are_listed_in_steps(store: &dyn Store) {
    let prefix = instance("listed");
    let ids: Vec<String> = ["", "/", "a", "aa", "b", "é"]
        .iter()
        .map(|end| format!("{prefix}{end}"))
        .collect();
    for id in ids.iter().rev() {
        commits(
            store,
            vec![put(&Key::instance(id), Revision::ABSENT, id.as_bytes())],
        );
        let binding = Key::binding(id, "b");
        commits(store, vec![put(&binding, Revision::ABSENT, b"binding")]);
    }
    for step in 1..=ids.len() + 1 {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let listed = store
                .instances(&after, step)
                .expect("the instances of a store in order");
            assert!(listed.len() <= step, "no more than asked for");
            let Some((last, _)) = listed.last() else {
                break;
            };
            after.clone_from(last);
            found.extend(listed);
        }
        assert!(found.is_sorted_by(|a, b| a.0 < b.0), "in order, each once");
        // Other checks may have left some.
        found.retain(|(id, _)| id.starts_with(&prefix));
        assert_eq!(found.len(), ids.len());
        for ((id, record), wanted) in found.iter().zip(&ids) {
            assert_eq!(id, wanted);
            let key = Key::instance(id);
            assert_eq!(read_one(store, &key).as_ref(), Some(record));
        }
    }
    for id in &ids {
        let key = Key::instance(id);
        commits(
            store,
            vec![delete(&key, revision(store, &key)), delete_bindings(id)],
        );
    }
    let left = store.instances(&prefix, 1).expect("a store in order");
    assert!(left.iter().all(|(id, _)| !id.starts_with(&prefix)));
}

fn odd_ids_are_kept_apart(store: &dyn Store) {
    let prefix = instance("odd");
    let odd = [
        "", "\0", "\0\0", "a\0", "\0a", "a/b", "a%2Fb", "a b", " ", "'", "\"", "\\", "é",
        "e\u{301}", "\u{FFFD}",
    ];
    let mut keys: Vec<Key> = odd
        .iter()
        .map(|id| Key::instance(&format!("{prefix}{id}")))
        .collect();
    for of_instance in odd {
        let with = |of_binding: &str| Key::binding(&format!("{prefix}{of_instance}"), of_binding);
        keys.extend(odd.map(with));
    }
    let long = "x".repeat(4000);
    keys.push(Key::instance(&long));
    keys.push(Key::binding(&long, &long));
    // The empty id is as good as any.
    keys.push(Key::instance(""));
    keys.push(Key::binding("", ""));
    for (number, key) in keys.iter().enumerate() {
        commits(
            store,
            vec![put(key, Revision::ABSENT, number.to_string().as_bytes())],
        );
    }
    let found = store.read(&keys).expect("a read");
    for (number, (key, record)) in keys.iter().zip(found).enumerate() {
        let body = record.map(|record| record.body);
        assert_eq!(body, Some(number.to_string().into_bytes()), "of {key:?}");
    }
}

fn large_bodies_are_kept(store: &dyn Store) {
    const MEBIBYTE: usize = 1 << 20;
    let id = instance("large");
    let key = Key::binding(&id, "b");
    let large: Vec<u8> = (0..MEBIBYTE).map(|at| (at * 31 + at / 251) as u8).collect();
    commits(store, vec![put(&key, Revision::ABSENT, &large)]);
    assert!(
        body(store, &key).as_ref() == Some(&large),
        "1 MiB is read back as it was put"
    );
    let other: Vec<u8> = large.iter().rev().copied().collect();
    commits(store, vec![put(&key, revision(store, &key), &other)]);
    assert!(
        body(store, &key) == Some(other),
        "and so is what replaced it"
    );
    commits(store, vec![delete(&key, revision(store, &key))]);
}

/// A value moves to and fro between two records; who reads both finds it in exactly one.
fn a_read_is_of_one_moment(store: &dyn Store) {
    let id = instance("moment");
    let places = [Key::instance(&id), Key::binding(&id, "b")];
    commits(store, vec![put(&places[0], Revision::ABSENT, b"value")]);
    let read_while_it_moves = || {
        let (mut reads, mut moves, mut last) = (0, 0, 0);
        while reads < 200 || moves < 20 {
            let found = store
                .read(&places)
                .expect("a read while another thread writes");
            let there: Vec<usize> = (0..2).filter(|at| found[*at].is_some()).collect();
            assert_eq!(
                there.len(),
                1,
                "the value is in exactly one place, was found in {there:?}"
            );
            reads += 1;
            moves += usize::from(there[0] != last);
            last = there[0];
        }
    };
    thread::scope(|threads| {
        let readers = [
            threads.spawn(read_while_it_moves),
            threads.spawn(read_while_it_moves),
        ];
        let mut at = 0;
        while !readers.iter().all(ScopedJoinHandle::is_finished) {
            let (from, to) = (&places[at], &places[1 - at]);
            commits(
                store,
                vec![
                    delete(from, revision(store, from)),
                    put(to, Revision::ABSENT, b"value"),
                ],
            );
            at = 1 - at;
        }
    });
}

/// Each thread reads, adds one and commits, again and again until it is not refused.
fn no_update_is_lost(store: &dyn Store) {
    const THREADS: u64 = 8;
    const EACH: u64 = 25;
    let key = Key::instance(&instance("counter"));
    commits(
        store,
        vec![put(&key, Revision::ABSENT, &0_u64.to_be_bytes())],
    );
    let number = |record: &Record| {
        u64::from_be_bytes(record.body.as_slice().try_into().expect("eight bytes"))
    };
    thread::scope(|threads| {
        for _ in 0..THREADS {
            threads.spawn(|| {
                for _ in 0..EACH {
                    loop {
                        let found = read_one(store, &key).expect("the counter");
                        let next = (number(&found) + 1).to_be_bytes();
                        if commit(store, vec![put(&key, found.revision, &next)])
                            != Outcome::Conflict
                        {
                            break;
                        }
                    }
                }
            });
        }
    });
    assert_eq!(
        number(&read_one(store, &key).expect("the counter")),
        THREADS * EACH
    );
}

fn what_was_committed_survives(open: &dyn Fn() -> Box<dyn Store>) {
    let id = instance("survives");
    let (kept, still_open, closed, gone) = (
        Key::instance(&id),
        Key::binding(&id, "open"),
        Key::binding(&id, "closed"),
        Key::binding(&id, "gone"),
    );
    let store = open();
    commits(
        &*store,
        vec![
            put(&kept, Revision::ABSENT, b"kept"),
            put_open(&still_open, Revision::ABSENT),
            put_open(&closed, Revision::ABSENT),
            put(&gone, Revision::ABSENT, b"gone"),
        ],
    );
    let of_gone = revision(&*store, &gone);
    commits(
        &*store,
        vec![
            put(&closed, revision(&*store, &closed), b"closed"),
            delete(&gone, of_gone),
        ],
    );
    let keys = [kept, still_open.clone(), closed, gone.clone()];
    let before = store.read(&keys).expect("a read");
    drop(store);

    let store = open();
    let after = store.read(&keys).expect("a read");
    for (key, (before, after)) in keys.iter().zip(before.iter().zip(&after)) {
        let bodies = [before, after].map(|record| record.as_ref().map(|record| &record.body));
        assert_eq!(
            bodies[0], bodies[1],
            "what was committed is there after an open"
        );
        // What is in progress may have been taken over.
        if *key != still_open {
            assert_eq!(before, after, "and is the same");
        }
    }
    assert_eq!(binding_ids(&*store, &id), ["closed", "open"]);
    assert_eq!(open_of(&*store, &id), HashSet::from([still_open]));
    // The revision is not handed out again, also not by the process that comes after.
    commits(&*store, vec![put(&gone, Revision::ABSENT, b"gone")]);
    let again = revision(&*store, &gone);
    let used: Vec<_> = before
        .iter()
        .flatten()
        .map(|record| record.revision)
        .chain([of_gone])
        .collect();
    assert!(!used.contains(&again), "revision {} came twice", again.0);
    drop(store);

    // A store that was only read from is left as it was.
    drop(open());
    assert_eq!(revision(&*open(), &gone), again);
}
