use super::write::changes;
use super::*;
use crate::broker::protocol::operation::{Kind, Operation};
use crate::broker::protocol::subject::{Ended, Ending};
use crate::store::Change;
use crate::store::memory::Memory;

use std::time::{Duration, SystemTime};

fn deleted() -> Ended {
    let operation = Operation::new(Kind::Deprovision, operation::State::Succeeded);
    Ended {
        ending: Ending::Tombstone(operation),
        line: None,
    }
}

#[test]
fn what_was_deleted_today_is_forgotten_in_nine_days() {
    let state = State::new(Box::new(Memory::default()));
    let key = Key::instance("1");
    let written = state.write_ending(&key, Revision::ABSENT, &deleted(), None);
    assert!(written.unwrap().is_some());
    let is_known = || state.tombstone(&key).unwrap().is_some();
    let day = Duration::from_secs(24 * 3600);
    let forget = |days| state.forget_old_tombstones(SystemTime::now() + days * day, || false);
    forget(7);
    assert!(is_known());
    forget(9);
    assert!(!is_known());
}

#[test]
fn with_an_instance_go_its_bindings_and_what_is_remembered_of_them() {
    let key = Key::instance("i");
    let takes_bindings = |ending: Ending| {
        let changes = changes(&key, Revision(1), &ending, SystemTime::now()).unwrap();
        changes
            .iter()
            .any(|change| matches!(change, Change::DeleteBindings { .. }))
    };
    assert!(takes_bindings(Ending::Nothing));
    assert!(takes_bindings(deleted().ending));
    let instance = serde_json::json!({
        "service_id": "s", "plan_id": "p", "organization_guid": "o", "space_guid": "sp",
        "adapter": "fake", "effects": true, "created": {"at": "2026-01-01T00:00:00Z"},
        "operation": {"kind": "update", "state": "succeeded"},
    });
    let instance = serde_json::from_value(instance).unwrap();
    assert!(!takes_bindings(Ending::Instance(instance)));
}

#[test]
fn where_a_record_has_come_in_its_place_only_the_other_tombstones_are_forgotten() {
    let state = State::new(Box::new(Memory::default()));
    let keys: Vec<Key> = (0..100).map(|n| Key::instance(&n.to_string())).collect();
    for key in &keys {
        let written = state.write_ending(key, Revision::ABSENT, &deleted(), None);
        assert!(written.unwrap().is_some());
    }
    let revision = state.record(&keys[40]).unwrap().unwrap().revision;
    let instance = serde_json::json!({
        "service_id": "s", "plan_id": "p", "organization_guid": "o", "space_guid": "sp",
        "adapter": "fake", "effects": true, "created": {"at": "2026-01-01T00:00:00Z"},
        "operation": {"kind": "provision", "state": "succeeded"},
    });
    let instance = serde_json::from_value(instance).unwrap();
    assert!(
        state
            .write_instance("40", revision, &instance)
            .unwrap()
            .is_some()
    );
    let later = SystemTime::now() + Duration::from_secs(9 * 24 * 3600);
    state.forget_old_tombstones(later, || false);
    let left = keys
        .iter()
        .filter(|key| state.record(key).unwrap().is_some());
    assert_eq!(left.collect::<Vec<_>>(), [&keys[40]]);
}
