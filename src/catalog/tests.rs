use super::{Catalog, SchemaUse, Service, Unknown};

use serde_json::{Value, json};
use std::time::SystemTime;

fn catalog(services: Value) -> Catalog {
    let services: Vec<Service> = serde_json::from_value(services).unwrap();
    Catalog::new(services, SystemTime::UNIX_EPOCH)
}

fn served(catalog: &Catalog) -> Value {
    serde_json::from_slice(catalog.rendered()).unwrap()
}

#[test]
fn plans_are_served_with_their_defaults_resolved() {
    let plan = |id: &str| json!({"id": id, "name": id, "description": "d"});
    let mut own = plan("own");
    own["free"] = json!(false);
    own["bindable"] = json!(false);
    own["plan_updateable"] = json!(false);
    let service = |id: &str, bindable: bool, updateable: Value, plans: Value| {
        json!({"id": id, "name": id, "description": "d", "bindable": bindable, "plan_updateable": updateable,
               "plans": plans})
    };
    let catalog = catalog(json!([
        service("a", true, json!(true), json!([plan("p"), own])),
        service("b", false, json!(null), json!([plan("q")])),
    ]));
    let served = served(&catalog);
    for (pointer, free, bindable, updateable) in [
        ("/services/0/plans/0", true, true, true),
        ("/services/0/plans/1", false, false, false),
        ("/services/1/plans/0", true, false, false),
    ] {
        let plan = served.pointer(pointer).unwrap();
        assert_eq!(plan["free"], free, "{pointer}");
        assert_eq!(plan["bindable"], bindable, "{pointer}");
        assert_eq!(plan["plan_updateable"], updateable, "{pointer}");
    }
    assert!(
        served
            .pointer("/services/1")
            .unwrap()
            .get("plan_updateable")
            .is_none()
    );
}

#[test]
fn null_is_never_served_and_extensions_are() {
    let catalog = catalog(json!([{
        "id": "s", "name": "s", "description": "d", "bindable": true, "tags": null, "metadata": null,
        "x-vendor": {"a": [1, null]},
        "plans": [{"id": "p", "name": "p", "description": "d", "schemas": null, "maintenance_info": null, "x-plan": 1}]
    }]));
    let service = &served(&catalog)["services"][0];
    assert!(service.get("tags").is_none() && service.get("metadata").is_none());
    assert_eq!(service["x-vendor"], json!({"a": [1, null]}));
    assert_eq!(service["plans"][0]["x-plan"], 1);
    assert!(service["plans"][0].get("schemas").is_none());
    assert!(service["plans"][0].get("maintenance_info").is_none());
}

#[test]
fn a_plan_is_found_under_its_own_service_only() {
    let service = |id: &str, plan: &str| {
        json!({"id": id, "name": id, "description": "d", "bindable": true,
               "plans": [{"id": plan, "name": plan, "description": "d"}]})
    };
    let catalog = catalog(json!([service("a", "p"), service("b", "q")]));
    let (found, plan) = catalog.plan("b", "q").unwrap();
    assert_eq!((found.id.as_str(), plan.id.as_str()), ("b", "q"));
    assert_eq!(catalog.plan("a", "q").unwrap_err(), Unknown::Plan);
    assert_eq!(catalog.plan("a", "x").unwrap_err(), Unknown::Plan);
    assert_eq!(catalog.plan("x", "p").unwrap_err(), Unknown::Service);
}

#[test]
fn equal_catalogs_have_equal_tags_and_others_do_not() {
    let tag = |description: &str| {
        let catalog = catalog(json!([{
            "id": "s", "name": "s", "description": description, "bindable": true, "plans": []
        }]));
        catalog.etag().to_owned()
    };
    assert_eq!(tag("one"), tag("one"));
    assert_ne!(tag("one"), tag("two"));
    assert!(tag("one").starts_with('"') && tag("one").ends_with('"'));
}

#[test]
fn each_kind_of_request_has_its_own_schema() {
    let catalog = catalog(json!([{
        "id": "s", "name": "s", "description": "d", "bindable": true, "plans": [
            {"id": "p", "name": "p", "description": "d", "schemas": {
                "service_instance": {
                    "create": {"parameters": {"title": "c"}},
                    "update": {"parameters": {"title": "u"}}
                },
                "service_binding": {"create": {"parameters": {"title": "b"}}}
            }},
            {"id": "q", "name": "q", "description": "d", "schemas": {"service_instance": {"create": {}}}}
        ]
    }]));
    let (_, plan) = catalog.plan("s", "p").unwrap();
    for (wanted, title) in [
        (SchemaUse::Provision, "c"),
        (SchemaUse::Update, "u"),
        (SchemaUse::Bind, "b"),
    ] {
        assert_eq!(plan.schema(wanted), Some(&json!({"title": title})));
    }
    let (_, plan) = catalog.plan("s", "q").unwrap();
    assert_eq!(plan.schema(SchemaUse::Provision), None);
    assert_eq!(plan.schema(SchemaUse::Bind), None);
}
