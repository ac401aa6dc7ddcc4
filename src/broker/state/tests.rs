use super::*;
use crate::broker::protocol::operation::{Kind, Operation};
use crate::store::memory::Memory;

use std::time::Duration;

fn deleted() -> Ending {
    Ending::Tombstone(Operation::new(
        Kind::Deprovision,
        operation::State::Succeeded,
    ))
}

#[test]
fn what_was_deleted_today_is_forgotten_in_nine_days() {
    let state = State::new(Box::new(Memory::default()));
    let key = Key::instance("1");
    let written = state.write_ending(&key, Revision::ABSENT, &deleted(), None);
    assert!(written.unwrap().is_some());
    let is_known = || state.tombstone(&key).unwrap().is_some();
    let day = Duration::from_secs(24 * 3600);
    state.forget_old_tombstones(SystemTime::now() + 7 * day);
    assert!(is_known());
    state.forget_old_tombstones(SystemTime::now() + 9 * day);
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
    assert!(takes_bindings(deleted()));
    let instance = serde_json::json!({
        "service_id": "s", "plan_id": "p", "organization_guid": "o", "space_guid": "sp",
        "adapter": "fake", "effects": true, "created": {"at": "2026-01-01T00:00:00Z"},
        "operation": {"kind": "update", "state": "succeeded"},
    });
    let instance = serde_json::from_value(instance).unwrap();
    assert!(!takes_bindings(Ending::Instance(instance)));
}
