//! A thin line through the whole house: the tutorial's broker from the catalog to the deprovision.

mod support;

use serde_json::json;
use support::*;

#[test]
fn the_tutorials_broker_lives_its_life() {
    let broker = Broker::start();
    let catalog = broker.get("/v2/catalog").expect(200).json();
    assert_eq!(catalog["services"][0]["name"], "example_service");

    let request = provision("example_service", "plan_one");
    let wanted = bind("example_service", "plan_one");
    broker.put(&instance("i"), &request).expect(201);
    broker.put(&binding("i", "b"), &wanted).expect(201);

    // What was acknowledged survives kill -9.
    let broker = Setup::in_folder(broker.kill()).start();
    broker.put(&instance("i"), &request).expect(200);
    let bound = broker.put(&binding("i", "b"), &wanted).expect(200).json();
    assert_eq!(bound, json!({ "credentials": {} }));

    broker
        .delete(&format!("{}{IDS}", binding("i", "b")))
        .expect(200);
    broker
        .delete(&format!("{}{IDS}", binding("i", "b")))
        .expect(410);
    broker
        .delete(&format!("{}{IDS}", instance("i")))
        .expect(200);
    broker
        .delete(&format!("{}{IDS}", instance("i")))
        .expect(410);
    let (status, _) = broker.stop();
    assert_eq!(status.code(), Some(0));
}
