//! Databases that another broker has made: `brokerlet state adopt`.

use super::*;
use crate::support::brokerlet;

/// In the folder of a broker, beside it or before it. What was printed; fails unless it ends with this code.
#[track_caller]
fn adopt(setup: &Setup, lines: &[Value], code: i32) -> String {
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    setup.folder.file("list.jsonl", lines.join("\n"));
    let mut command = brokerlet();
    command.args(["state", "adopt", "list.jsonl"]);
    let variables = setup.command.get_envs();
    command.envs(variables.filter_map(|(name, value)| Some((name, value?))));
    let output = command.current_dir(setup.folder.path()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (printed, told) = (text(output.stdout), text(output.stderr));
    assert_eq!(output.status.code(), Some(code), "{printed}{told}");
    assert!(!format!("{printed}{told}").contains(PASSWORD));
    printed
}

fn listed(id: &str) -> Value {
    merged(&request("small"), json!({ "instance_id": id }))
}

fn listed_binding(id: &str, credentials: &Value) -> Value {
    json!({ "instance_id": UUID, "binding_id": id, "credentials": credentials })
}

#[test]
fn a_database_with_the_name_of_its_id_is_taken_over() {
    let Some(server) = server() else { return };
    let plans = [("small", json!({ "retain": "1d" }))];
    let other = broker(&server, &plans);
    other.put(&instance(UUID), &request("small")).expect(201);
    let credentials = bind(&other, UUID, "b");
    query(&credentials, "CREATE TABLE notes (text text)").unwrap();
    drop(other);

    let setup = setup(&server, &plans);
    let name = format!("cf_{}", UUID.replace('-', "_"));
    let printed = adopt(&setup, &[listed("i"), listed(UUID)], 1);
    assert!(
        printed.contains("\"i\": refused: there is no database \"cf_"),
        "{printed}"
    );
    server.psql(&format!(
        "CREATE ROLE owner; ALTER DATABASE {name} OWNER TO owner"
    ));
    let printed = adopt(&setup, &[listed(UUID)], 1);
    assert!(
        printed.contains(&format!("refused: there is no database \"{name}\"")),
        "{printed}"
    );
    server.psql(&format!(
        "ALTER DATABASE {name} OWNER TO {name}; DROP ROLE owner"
    ));
    let with = merged(&listed(UUID), json!({ "parameters": { "size": 1 } }));
    let printed = adopt(&setup, &[with], 1);
    assert!(
        printed.contains("parameters.size: found a parameter"),
        "{printed}"
    );

    let unknown = listed_binding("c", &credentials);
    let printed = adopt(&setup, &[listed(UUID), unknown], 1);
    assert!(
        printed.contains("\"c\" of service instance")
            && printed.contains("refused: there is no role \"cf_u_"),
        "{printed}"
    );
    let silent = json!({ "instance_id": UUID, "binding_id": "b" });
    let printed = adopt(&setup, &[listed(UUID), silent], 1);
    assert!(printed.contains("credentials: missing; "), "{printed}");

    let list = [listed(UUID), listed_binding("b", &credentials)];
    adopt(&setup, &list, 0);
    let printed = adopt(&setup, &list, 0);
    assert_eq!(printed.matches(": there already\n").count(), 2, "{printed}");

    let broker = setup.start();
    broker.put(&instance(UUID), &request("small")).expect(200);
    let request = json!({ "service_id": "database", "plan_id": "small" });
    let again = broker.put(&binding(UUID, "b"), &request).expect(200).json();
    assert_eq!(again["credentials"], credentials);
    let new = bind(&broker, UUID, "d");
    query(&new, "INSERT INTO notes VALUES ('kept')").unwrap();
    assert_eq!(
        query(&credentials, "SELECT text FROM notes").unwrap(),
        "kept"
    );
    broker
        .delete(&format!("{}{QUERY}", binding(UUID, "b")))
        .expect(200);
    assert!(query(&credentials, "SELECT 1").is_err());
    broker
        .delete(&format!("{}{QUERY}", binding(UUID, "d")))
        .expect(200);
    broker
        .delete(&format!("{}{QUERY}", instance(UUID)))
        .expect(200);
    // What was taken over is kept for a while, as what was made here.
    assert!(left(&server).contains(&format!("{name}_kept_")));
}

#[test]
fn a_state_in_a_database_takes_over_beside_its_brokers() {
    let Some(server) = server() else { return };
    let plans = [("small", json!({}))];
    let other = broker(&server, &plans);
    other.put(&instance(UUID), &request("small")).expect(201);
    let credentials = bind(&other, UUID, "b");
    drop(other);
    let store = server.database("state");
    let shared = || setup(&server, &plans).env("BROKER_STORE", &store);
    let list = [listed(UUID), listed_binding("b", &credentials)];
    // The first broker makes the tables.
    adopt(&shared(), &list, 74);
    let broker = shared().start();
    adopt(&shared(), &list, 0);
    broker.put(&instance(UUID), &request("small")).expect(200);
    broker
        .delete(&format!("{}{QUERY}", instance(UUID)))
        .expect(200);
    let printed = adopt(&shared(), &list, 1);
    assert!(
        printed.contains("refused: there is no database "),
        "{printed}"
    );
}
