//! The server is away, another call is at work, the broker is killed.

use super::*;

#[test]
fn what_cannot_be_done_is_told() {
    let Some(mut server) = server() else { return };
    let broker = broker(&server, &[("small", json!({}))]);
    let with = merged(&request("small"), json!({ "parameters": { "size": 3 } }));
    broker
        .put(&instance("i"), &with)
        .expect_naming(400, "parameters.size");
    broker.put(&instance("i"), &request("small")).expect(201);
    let with =
        json!({ "service_id": "database", "plan_id": "small", "parameters": { "role": "x" } });
    broker
        .put(&binding("i", "b"), &with)
        .expect_naming(400, "parameters.role");
    broker
        .patch(&instance("i"), &with)
        .expect_naming(400, "parameters.role");
    let credentials = bind(&broker, "i", "b");
    server.stop();
    let refused = broker.put(&instance("j"), &request("small")).expect(503);
    assert_eq!(
        refused.description(),
        "the database server cannot be reached at the moment"
    );
    broker
        .delete(&format!("{}{QUERY}", binding("i", "b")))
        .expect(503);
    server.go_on();
    assert_eq!(query(&credentials, "SELECT 1").unwrap(), "1");
    broker
        .delete(&format!("{}{QUERY}", binding("i", "b")))
        .expect(200);
    // Somebody has removed it by hand.
    server.psql(&format!(
        "DROP DATABASE \"{}\"",
        credentials["name"].as_str().unwrap()
    ));
    let bound = json!({ "service_id": "database", "plan_id": "small" });
    let failed = broker.put(&binding("i", "c"), &bound).expect(500);
    assert_eq!(
        failed.description(),
        "the database of this instance is gone from its server"
    );
    broker
        .delete(&format!("{}{QUERY}", instance("i")))
        .expect(200);
    assert_eq!(left(&server), "");
    // A role without rights, and a wrong password.
    server.psql("ALTER ROLE pgadmin NOCREATEDB");
    let failed = broker.put(&instance("k"), &request("small")).expect(500);
    assert_eq!(
        failed.description(),
        "the broker lacks a right on the database server"
    );
    server.psql("ALTER ROLE pgadmin CREATEDB PASSWORD 'another'");
    let refused = broker.put(&instance("k"), &request("small")).expect(503);
    assert_eq!(
        refused.description(),
        "the database server cannot be reached at the moment"
    );
    server.psql(&format!("ALTER ROLE pgadmin PASSWORD '{PASSWORD}'"));
    let gone = broker.delete(&format!("{}{QUERY}", instance("k"))).status;
    assert!(matches!(gone, 200 | 410), "{gone}");
    assert_eq!(left(&server), "");
    let printed = broker.stop().1;
    for secret in [PASSWORD, credentials["password"].as_str().unwrap()] {
        assert!(!printed.contains(secret), "{printed}");
    }
    assert!(printed.contains("SQLSTATE 28P01"), "{printed}");
}

/// As that of a broker that was killed, whose statement goes on in the server.
#[test]
fn nobody_works_on_an_instance_beside_another_one() {
    let Some(server) = server() else { return };
    let broker = broker(&server, &[("small", json!({}))]);
    let name = format!("cf_{}", UUID.replace('-', "_"));
    let admin = json!({ "uri": url(&server) });
    let mut other = session(&admin);
    {
        use std::io::{BufRead, BufReader, Write};
        let lock =
            format!("SELECT pg_advisory_lock(hashtextextended('{name}', 0));\nSELECT 'locked';\n");
        other
            .stdin
            .as_mut()
            .unwrap()
            .write_all(lock.as_bytes())
            .unwrap();
        let mut lines = BufReader::new(other.stdout.as_mut().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "locked"));
    }
    let target = instance(UUID);
    let answer = thread::scope(|scope| {
        let waiting = scope.spawn(|| broker.put(&target, &request("small")));
        let end = Instant::now() + Duration::from_secs(60);
        while server
            .psql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            != "1"
        {
            assert!(Instant::now() < end, "nobody waits");
        }
        assert_eq!(left(&server), "");
        other.kill().unwrap();
        other.wait().unwrap();
        waiting.join().unwrap()
    });
    answer.expect(201);
}

/// Killed in the middle of whatever it does: everything ends, and nothing is left over.
#[test]
fn a_broker_that_is_killed_leaves_nothing_behind() {
    let Some(server) = server() else { return };
    let plans = [("small", json!({ "concurrency": 8 }))];
    let folder = Arc::new(Folder::new());
    let mut reached = Vec::new();
    for round in 0..6 {
        let broker = in_folder(folder.clone(), &server, &plans).start();
        let address = broker.address;
        let clients: Vec<_> = (0..4)
            .map(|client| {
                thread::spawn(move || {
                    use super::super::support::Request;
                    for number in 0.. {
                        let id = format!("{round}-{client}-{number}");
                        let bound = json!({ "service_id": "database", "plan_id": "small" });
                        let requests = [
                            Request::new(address, "PUT", &instance(&id)).json(&request("small")),
                            Request::new(address, "PUT", &binding(&id, "b")).json(&bound),
                            Request::new(
                                address,
                                "DELETE",
                                &format!("{}{QUERY}", binding(&id, "b")),
                            ),
                            Request::new(address, "DELETE", &format!("{}{QUERY}", instance(&id))),
                        ];
                        for request in requests {
                            match request.try_send() {
                                Ok(answer) => assert!(answer.status < 300, "{answer:?}"),
                                Err(_) => return id,
                            }
                        }
                    }
                    unreachable!()
                })
            })
            .collect();
        // Somewhere in the middle: when the server has just seen something new.
        let seen = server.psql("SELECT max(oid) FROM pg_roles");
        let end = Instant::now() + Duration::from_secs(60);
        while server.psql("SELECT max(oid) FROM pg_roles") == seen {
            assert!(Instant::now() < end, "nothing happens");
        }
        broker.kill();
        reached.extend(clients.into_iter().map(|client| client.join().unwrap()));
    }
    let broker = in_folder(folder, &server, &plans).start();
    // Platforms delete what they have no answer for.
    for id in reached {
        let bound = format!("{}{QUERY}", binding(&id, "b"));
        for target in [bound, format!("{}{QUERY}", instance(&id))] {
            let gone = broker.delete(&target).status;
            assert!(matches!(gone, 200 | 410), "{gone}");
        }
    }
    assert_eq!(left(&server), "");
}
