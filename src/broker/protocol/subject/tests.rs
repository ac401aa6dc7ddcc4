use super::*;
use crate::adapter::Origin;
use crate::broker::protocol::operation::{Moment, Stamp, Underway};
use serde_json::json;

/// An instance or binding with an operation in progress, and what was last before it.
fn subject(kind: Kind, asynchronous: bool, before: Option<Operation>) -> Subject {
    let removes = matches!(kind, Kind::Deprovision | Kind::Unbind);
    let operation = Operation {
        id: "op".into(),
        asynchronous,
        unmade: removes && before.as_ref().is_some_and(|before| !before.exists()),
        underway: Some(Box::new(Underway {
            attempt: 1,
            deadline: Moment(std::time::SystemTime::UNIX_EPOCH),
            requested: Stamp::now(Origin::default()),
            before,
        })),
        ..Operation::new(kind, State::InProgress)
    };
    let created = json!({"at": "2026-01-01T00:00:00Z"});
    let instance: Instance = serde_json::from_value(json!({
        "service_id": "s", "plan_id": "p", "organization_guid": "o", "space_guid": "sp",
        "adapter": "fake", "effects": true, "created": created,
        "operation": {"kind": "provision", "state": "succeeded"},
        "update": (kind == Kind::Update).then(|| json!({"plan_id": "q"})),
    }))
    .unwrap();
    if !matches!(kind, Kind::Bind | Kind::Unbind) {
        return Subject::Instance(Box::new(instance.during(operation)));
    }
    let binding: Binding = serde_json::from_value(json!({
        "service_id": "s", "plan_id": "p", "answer": {}, "effects": true, "created": created,
        "operation": {"kind": "bind", "state": "succeeded"},
    }))
    .unwrap();
    Subject::Binding(Box::new(instance), Box::new(binding.during(operation)))
}

/// What is written in the end, as in `deprovision failed (op)`.
fn told(ending: &Ending) -> String {
    let operation = match ending {
        Ending::Nothing => return "nothing".into(),
        Ending::Tombstone(operation) => return format!("gone: {}", spelled(operation)),
        Ending::Instance(instance) => {
            assert!(instance.update.is_none());
            &instance.operation
        }
        Ending::Binding(binding) => &binding.operation,
    };
    spelled(operation)
}

fn spelled(operation: &Operation) -> String {
    assert!(operation.underway.is_none());
    let unmade = if operation.unmade { ", unmade" } else { "" };
    let (kind, state) = (operation.kind.name(), operation.state.name());
    format!("{kind} {state} ({}){unmade}", operation.id)
}

fn failures() -> [AttemptError; 2] {
    let error = Error::new(500, "no");
    [
        AttemptError::unchanged(error.clone()),
        AttemptError::half_way(error),
    ]
}

/// Synchronous operations: what fails without a trace was never asked for; what may have left something is kept.
#[test]
fn how_synchronous_operations_end_when_they_fail() {
    let made = |kind| Some(Operation::new(kind, State::Succeeded));
    let failed = |kind| Some(Operation::new(kind, State::Failed));
    for (kind, before, unchanged, half_way) in [
        (Kind::Provision, None, "nothing", "provision failed ()"),
        (
            Kind::Provision,
            failed(Kind::Provision),
            "provision failed ()",
            "provision failed ()",
        ),
        (
            Kind::Update,
            made(Kind::Provision),
            "provision succeeded ()",
            "update failed ()",
        ),
        (
            Kind::Update,
            failed(Kind::Update),
            "update failed ()",
            "update failed ()",
        ),
        (
            Kind::Deprovision,
            made(Kind::Update),
            "update succeeded ()",
            "deprovision failed ()",
        ),
        (
            Kind::Deprovision,
            failed(Kind::Provision),
            "provision failed ()",
            "provision failed ()",
        ),
        (Kind::Bind, None, "nothing", "bind failed ()"),
        (
            Kind::Unbind,
            made(Kind::Bind),
            "bind succeeded ()",
            "unbind failed ()",
        ),
        (
            Kind::Unbind,
            failed(Kind::Bind),
            "bind failed ()",
            "bind failed ()",
        ),
    ] {
        for (failure, wanted) in failures().into_iter().zip([unchanged, half_way]) {
            let subject = subject(kind, false, before.clone());
            let ending = subject.ending(Err(failure));
            assert_eq!(told(&ending), wanted, "{kind:?} {before:?}");
        }
    }
}

/// Of an asynchronous operation the platform learns by polling, so it is what was last, however it failed; what was
/// never made is no more there than before.
#[test]
fn how_asynchronous_operations_end_when_they_fail() {
    let made = |kind| Some(Operation::new(kind, State::Succeeded));
    let failed = |kind| Some(Operation::new(kind, State::Failed));
    for (kind, before, wanted) in [
        (Kind::Provision, None, "provision failed (op)"),
        (Kind::Update, made(Kind::Provision), "update failed (op)"),
        (
            Kind::Deprovision,
            made(Kind::Provision),
            "deprovision failed (op)",
        ),
        (
            Kind::Deprovision,
            failed(Kind::Provision),
            "deprovision failed (op), unmade",
        ),
        (Kind::Bind, None, "bind failed (op)"),
        (Kind::Unbind, made(Kind::Bind), "unbind failed (op)"),
        (
            Kind::Unbind,
            failed(Kind::Bind),
            "unbind failed (op), unmade",
        ),
    ] {
        for failure in failures() {
            let subject = subject(kind, true, before.clone());
            assert_eq!(told(&subject.ending(Err(failure))), wanted, "{kind:?}");
        }
    }
}

/// spec: Polling Last Operation, 410; Deprovisioning and Unbinding: what a synchronous delete cuts off has failed.
#[test]
fn what_is_remembered_of_what_was_removed() {
    let cut_off = |kind| {
        let in_progress = Operation {
            id: "first".into(),
            asynchronous: true,
            ..Operation::new(kind, State::InProgress)
        };
        Some(in_progress.cut_off())
    };
    let made = |kind| Some(Operation::new(kind, State::Succeeded));
    for (kind, asynchronous, before, wanted) in [
        (Kind::Deprovision, false, made(Kind::Provision), "nothing"),
        (
            Kind::Deprovision,
            true,
            made(Kind::Provision),
            "gone: deprovision succeeded (op)",
        ),
        (
            Kind::Deprovision,
            false,
            cut_off(Kind::Provision),
            "gone: provision failed (first)",
        ),
        (Kind::Unbind, false, made(Kind::Bind), "nothing"),
        (
            Kind::Unbind,
            true,
            made(Kind::Bind),
            "gone: unbind succeeded (op)",
        ),
        (
            Kind::Unbind,
            false,
            cut_off(Kind::Bind),
            "gone: bind failed (first)",
        ),
    ] {
        let subject = subject(kind, asynchronous, before);
        assert_eq!(
            told(&subject.ending(Ok(Success::Removed))),
            wanted,
            "{kind:?}"
        );
    }
    // Whatever it is, the removal that cut it off is not of something that can be used.
    let ending =
        subject(Kind::Deprovision, true, cut_off(Kind::Provision)).ending(Ok(Success::Removed));
    assert_eq!(told(&ending), "gone: deprovision succeeded (op), unmade");
}

/// The update is what the adapter of the next plan does.
#[test]
fn the_adapter_of_the_plan_to_come_makes_the_update() {
    assert_eq!(subject(Kind::Update, true, None).plan_ids(), ["q"]);
    assert_eq!(subject(Kind::Deprovision, true, None).plan_ids(), ["p"]);
}

#[test]
fn what_is_accepted_tells_nothing_of_a_binding() {
    let body = |subject: &Subject| String::from_utf8(subject.accepted().unwrap().body).unwrap();
    assert_eq!(
        body(&subject(Kind::Bind, true, None)),
        r#"{"operation":"op"}"#
    );
    let mut update = subject(Kind::Update, true, None);
    instance_of(&mut update).dashboard_url = Some("https://x".into());
    assert_eq!(
        body(&update),
        r#"{"operation":"op","dashboard_url":"https://x"}"#
    );
    instance_of(&mut update).operation.kind = Kind::Deprovision;
    assert_eq!(body(&update), r#"{"operation":"op"}"#);
}

fn instance_of(subject: &mut Subject) -> &mut Instance {
    match subject {
        Subject::Instance(instance) => instance,
        Subject::Binding(instance, _) => instance,
    }
}
