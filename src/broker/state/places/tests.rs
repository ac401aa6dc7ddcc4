use super::*;
use crate::catalog::Limits;

use serde_json::{Value, json};

fn plan(id: &str, limits: Limits) -> Plan {
    let plan = json!({ "id": id, "name": id, "description": "P" });
    let mut plan: Plan = serde_json::from_value(plan).unwrap();
    plan.rules.limits = limits;
    plan
}

fn at_most(instances: u64) -> Plan {
    let limits = Limits {
        instances: Some(instances),
        ..Limits::default()
    };
    plan("p", limits)
}

fn instance(more: Value) -> Instance {
    let mut record = json!({
        "service_id": "s", "plan_id": "p", "organization_guid": "o", "space_guid": "sp",
        "adapter": "fake", "effects": true, "created": { "at": "2026-01-01T00:00:00Z" },
        "operation": { "kind": "provision", "state": "succeeded" },
    });
    let members = more.as_object().unwrap().clone();
    record.as_object_mut().unwrap().extend(members);
    serde_json::from_value(record).unwrap()
}

fn key(n: usize) -> Key {
    Key::instance(&n.to_string())
}

/// Counting the instances of the plans `p` and `q`, of which there are none.
fn places() -> Places {
    let places = Places::default();
    recount(&places, || {});
    places
}

/// Counts anew, while something happens, and meets nothing.
fn recount(places: &Places, meanwhile: impl FnOnce()) {
    let plans = ["p", "q"].map(str::to_owned);
    let number = places.begin(Some(plans.into())).unwrap();
    meanwhile();
    places.end(number, true);
}

fn is_full(places: &Places, n: usize, plan: &Plan) -> bool {
    places.claim(&key(n), plan, "o", "sp").is_err()
}

#[test]
fn a_claim_holds_a_place_until_the_record_does() {
    let (places, plan) = (places(), at_most(1));
    let claim = places.claim(&key(1), &plan, "o", "sp").unwrap();
    assert!(is_full(&places, 2, &plan));
    // The same once more is not another one.
    assert!(!is_full(&places, 1, &plan));
    drop(claim);
    assert!(!is_full(&places, 2, &plan));

    let claim = places.claim(&key(1), &plan, "o", "sp").unwrap();
    places.note(&key(1), Some(&instance(json!({}))));
    drop(claim);
    assert!(is_full(&places, 2, &plan));
    assert!(!is_full(&places, 1, &plan));
    places.note(&key(1), None);
    assert!(!is_full(&places, 2, &plan));
    assert_eq!(places.books().now.as_ref().unwrap().sums.len(), 0);
}

#[test]
fn an_update_to_another_plan_takes_a_place_in_both_until_it_has_ended() {
    let places = places();
    let one = Limits {
        instances_per_space: Some(1),
        ..Limits::default()
    };
    let (p, q) = (plan("p", one), plan("q", one));
    places.note(&key(1), Some(&instance(json!({}))));
    let claim = places.claim(&key(1), &q, "o", "sp").unwrap();
    let moving = instance(json!({ "update": { "plan_id": "q" } }));
    places.note(&key(1), Some(&moving));
    drop(claim);
    assert!(is_full(&places, 2, &p) && is_full(&places, 2, &q));
    // Another space has room.
    assert!(places.claim(&key(2), &q, "o", "other").is_ok());
    places.note(&key(1), Some(&instance(json!({ "plan_id": "q" }))));
    assert!(!is_full(&places, 2, &p) && is_full(&places, 2, &q));
}

#[test]
fn what_is_kept_after_its_deletion_has_no_place() {
    let (places, plan) = (places(), at_most(1));
    places.note(&key(1), Some(&instance(json!({}))));
    let kept =
        json!({ "kept": { "since": "2026-01-01T00:00:00Z", "until": "2026-02-01T00:00:00Z" } });
    places.note(&key(1), Some(&instance(kept)));
    assert!(!is_full(&places, 2, &plan));
}

#[test]
fn what_happens_while_it_is_counted_is_newer_than_what_was_read() {
    let (places, plan) = (places(), at_most(3));
    let meet = |number, n| places.meet(number, &key(n), ["p"].into_iter(), "o", "sp");
    places.note(&key(9), Some(&instance(json!({}))));
    let claim = places.claim(&key(3), &plan, "o", "sp").unwrap();
    let number = places.begin(None).unwrap();
    assert!(places.begin(None).is_none());
    meet(number, 1);
    places.note(&key(1), None);
    places.note(&key(2), None);
    meet(number, 2);
    places.note(&key(4), Some(&instance(json!({}))));
    meet(number, 5);
    places.end(number, true);
    // 3 is claimed, 4 was made, 5 was met; 9 is gone, which nobody had told.
    assert!(is_full(&places, 6, &plan));
    drop(claim);
    assert!(!is_full(&places, 6, &plan));
    // What comes of a count that another one has displaced is of no use.
    recount(&places, || meet(number, 7));
    places.end(number, true);
    assert_eq!(places.books().now.as_ref().unwrap().sums.len(), 0);
}

#[test]
fn without_limits_nothing_is_counted() {
    let places = Places::default();
    places.note(&key(1), Some(&instance(json!({}))));
    assert!(places.books().now.is_none());
    assert!(!is_full(&places, 1, &plan("p", Limits::default())));
    assert!(places.wait(false).is_none());
}

#[test]
fn it_is_counted_anew_sooner_where_somebody_was_refused() {
    let (places, plan) = (places(), at_most(1));
    assert!(places.wait(true).is_none());
    places.note(&key(1), Some(&instance(json!({}))));
    assert!(is_full(&places, 2, &plan));
    assert!(places.wait(false).is_some_and(|wait| wait <= DOUBTED));
    recount(&places, || {});
    assert!(places.wait(false).is_none());
}
