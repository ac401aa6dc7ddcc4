//! The store passes the contract, and what is its own.

use super::Server;

use brokerlet::postgres::Config;
use brokerlet::store::contract;
use brokerlet::store::postgres::Postgres;
use brokerlet::store::{Change, Key, Outcome, Revision, Store};
use std::sync::Barrier;
use std::thread;

fn open(url: &str) -> Postgres {
    Postgres::open(Config::parse(url).unwrap()).unwrap()
}

fn put(id: &str, open: bool) -> Vec<Change> {
    vec![Change::Put {
        key: Key::instance(id),
        revision: Revision::ABSENT,
        body: br#"{"operation":{"kind":"provision","state":"in progress"}}"#.to_vec(),
        open,
    }]
}

#[test]
fn it_passes_the_contract() {
    let Some(server) = Server::start() else {
        return;
    };
    let url = server.database("contract");
    contract::check_persistent(&|| Box::new(open(&url)));
}

#[test]
fn many_that_open_it_at_once_make_the_tables_once() {
    let Some(server) = Server::start() else {
        return;
    };
    let url = server.database("together");
    thread::scope(|scope| {
        let opened: Vec<_> = (0..8).map(|_| scope.spawn(|| open(&url))).collect();
        for opened in opened {
            opened.join().unwrap().read(&[Key::instance("i")]).unwrap();
        }
    });
    let password = crate::support::servers::ADMIN_PASSWORD;
    let rows = server.psql_as("admin", password, "together", "SELECT * FROM store_format");
    assert_eq!(rows.unwrap(), "t|2");
    // A newer brokerlet was there.
    let sql = "UPDATE store_format SET version = 7";
    server.psql_as("admin", password, "together", sql).unwrap();
    let refused = Postgres::open(Config::parse(&url).unwrap());
    let error = refused.err().unwrap().message;
    assert!(
        error.contains("its tables are of version 7, and this brokerlet knows those up to 2"),
        "{error}"
    );
    assert!(!error.contains(password), "{error}");
}

/// What a broker has begun is its own while it lives, and another's when it has gone.
#[test]
fn what_is_in_progress_has_one_owner() {
    let Some(server) = Server::start() else {
        return;
    };
    let url = server.database("owned");
    let (one, two) = (open(&url), open(&url));
    let Outcome::Committed(first) = one.commit(put("i", true)).unwrap() else {
        panic!("not committed");
    };
    let keys = [Key::instance("i")];
    let read = |store: &Postgres| store.read(&keys).unwrap().remove(0).unwrap();
    assert!(!read(&one).elsewhere && read(&two).elsewhere);
    assert_eq!(one.open_operations().unwrap(), keys);
    assert_eq!(two.open_operations().unwrap(), []);
    assert_eq!(two.take_over().unwrap(), []);
    one.close();
    assert_eq!(two.take_over().unwrap(), keys);
    assert_eq!(two.open_operations().unwrap(), keys);
    let taken = read(&two);
    assert!(!taken.elsewhere && taken.revision != first);
    // Whoever still works for the first one can write nothing any more.
    let late = Change::Delete {
        key: Key::instance("i"),
        revision: first,
    };
    assert_eq!(one.commit(vec![late]).unwrap(), Outcome::Conflict);
}

#[test]
fn the_views_show_people_what_is_there() {
    let Some(server) = Server::start() else {
        return;
    };
    let url = server.database("shown");
    let broker = super::broker(&url);
    let request = crate::support::provision("example_service", "plan_one");
    broker
        .put("/v2/service_instances/i-1", &request)
        .expect(201);
    let sql = "SELECT instance_id, service_id, plan_id, state, last_operation FROM instances";
    let password = crate::support::servers::ADMIN_PASSWORD;
    let rows = server.psql_as("admin", password, "shown", sql);
    assert_eq!(
        rows.unwrap(),
        "i-1|example_service|plan_one|succeeded|provision"
    );
}

/// However many see that a broker is gone: each of its operations goes on in one of them.
#[test]
fn what_is_left_is_taken_over_once() {
    let Some(server) = Server::start() else {
        return;
    };
    let url = server.database("heirs");
    let heirs: Vec<Postgres> = (0..4).map(|_| open(&url)).collect();
    for round in 0..20 {
        let gone = open(&url);
        for n in 0..50 {
            let committed = gone.commit(put(&format!("{round}-{n}"), true)).unwrap();
            assert!(matches!(committed, Outcome::Committed(_)));
        }
        gone.close();
        let begin = Barrier::new(heirs.len());
        let mut taken: Vec<Key> = thread::scope(|scope| {
            let taken: Vec<_> = heirs
                .iter()
                .map(|heir| {
                    scope.spawn(|| {
                        begin.wait();
                        heir.take_over().unwrap()
                    })
                })
                .collect();
            taken
                .into_iter()
                .flat_map(|taken| taken.join().unwrap())
                .collect()
        });
        taken.sort();
        let count = taken.len();
        taken.dedup();
        assert_eq!((taken.len(), count), (50, 50), "round {round}");
    }
}
