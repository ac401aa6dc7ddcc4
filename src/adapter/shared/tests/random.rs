//! Random values, and the state that keeps them.

use super::*;

#[test]
fn an_instance_keeps_its_random_values_over_updates() {
    let instance = json!({
        "dashboard_url": "https://x/${random:32}?size=${parameters.size|url}",
        "metadata": {"attributes": {"key": "${random:8:key}", "again": "${random:32}"}}
    });
    let mut given = Given::parameters(json!({"size": "S"}));
    let first = given.provision(instance.clone()).unwrap();
    let state = first.state.unwrap();
    let kept = state["random"].clone();
    assert_eq!(kept.as_object().unwrap().len(), 2);
    let random = kept["32"].as_str().unwrap();
    assert_eq!(random.len(), 32);
    assert_eq!(
        first.dashboard_url.unwrap(),
        format!("https://x/{random}?size=S")
    );
    let attributes = first.metadata.unwrap()["attributes"].clone();
    assert_eq!(attributes, json!({"key": kept["8:key"], "again": random}));

    given.state = Value::Object(state.clone());
    given.parameters = json!({"size": "XL"});
    let second = given.update(instance).unwrap();
    assert_eq!(
        second.dashboard_url.unwrap(),
        format!("https://x/{random}?size=XL")
    );
    assert_eq!(second.metadata.unwrap()["attributes"], attributes);
    assert_eq!(second.state.unwrap(), state);

    // Another plan draws only what it needs beside, and forgets nothing.
    let other = given
        .update(json!({"dashboard_url": "${random:32}${random:4}"}))
        .unwrap();
    let kept = other.state.unwrap()["random"].clone();
    assert_eq!(kept["32"], random);
    assert_eq!(kept["8:key"], state["random"]["8:key"]);
    let four = kept["4"].as_str().unwrap();
    assert_eq!(other.dashboard_url.unwrap(), format!("{random}{four}"));
    let none = given.update(json!({"dashboard_url": "x"})).unwrap();
    assert_eq!(none.state, None);
}

#[test]
fn the_state_of_another_adapter_is_kept() {
    let given = Given {
        state: json!({"database": "db1", "random": "not ours"}),
        ..Given::default()
    };
    let state = given
        .update(json!({"dashboard_url": "${random:4}"}))
        .unwrap()
        .state
        .unwrap();
    assert_eq!(state["database"], "db1");
    assert_eq!(state["random"]["4"].as_str().unwrap().len(), 4);
}

#[test]
fn a_damaged_state_is_not_drawn_anew() {
    let given = Given {
        state: json!("secret"),
        ..Given::default()
    };
    let failure = given
        .update(json!({"dashboard_url": "${random:4}"}))
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Failed);
    assert!(!failure.description.contains("secret"));
}

#[test]
fn random_values_of_bindings_differ_and_are_their_own() {
    let (shared, _) = read(
        &json!({
            "instance": {"dashboard_url": "${random:32}"},
            "binding": {"credentials": {"p": "${random:32}", "u": "x:${random:32}"}}
        }),
        &permitted(),
    );
    let given = Given {
        state: json!({"random": {"32": "of-the-instance"}}),
        ..Given::default()
    };
    let passwords: Vec<_> = (0..2)
        .map(|_| {
            let bound = given.bind_at(&shared, SystemTime::now()).unwrap();
            assert_eq!(bound.state, None);
            let credentials = bound.credentials.unwrap();
            let password = credentials["p"].as_str().unwrap().to_owned();
            assert_eq!(credentials["u"], format!("x:{password}"));
            password
        })
        .collect();
    assert_ne!(passwords[0], passwords[1]);
    assert!(!passwords.contains(&"of-the-instance".to_owned()));
}
