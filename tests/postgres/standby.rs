//! The primary fails, and its standby is promoted while clients work.

use super::support::servers::ADMIN_PASSWORD;
use super::support::{Request, instance, provision};
use super::{Server, broker};

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

const CLIENTS: usize = 6;
/// How many provisions are acknowledged before the primary fails, and after it.
const EACH: usize = 60;

#[test]
fn a_standby_that_is_promoted_knows_all_that_was_acknowledged() {
    let Some(mut primary) = Server::start() else {
        return;
    };
    primary.database("followed");
    let standby = primary.standby();
    let url = format!(
        "postgres://admin:{ADMIN_PASSWORD}@127.0.0.1:{},127.0.0.1:{}/followed?target_session_attrs=read-write",
        primary.port, standby.port
    );
    let (one, two) = (broker(&url), broker(&url));
    let acknowledged = AtomicUsize::new(0);
    let (told, heard) = channel();
    let client = |number: usize, told: Sender<()>| {
        let address = [&one, &two][number % 2].address;
        for i in 0.. {
            let id = format!("{number}-{i}");
            // A platform tries again until it knows.
            let end = Instant::now() + Duration::from_secs(60);
            loop {
                let request = Request::new(address, "PUT", &instance(&id));
                let response = request
                    .json(&provision("example_service", "plan_one"))
                    .send();
                match response.status {
                    // 200: the answer to the commit was lost, and the commit was not.
                    200 | 201 => break,
                    503 => assert!(Instant::now() < end, "{}", response.description()),
                    _ => panic!("{}: {}", response.status, response.description()),
                }
            }
            // Nobody listens after the first.
            let _ = told.send(());
            if acknowledged.fetch_add(1, Ordering::SeqCst) >= 2 * EACH {
                return i + 1;
            }
        }
        unreachable!()
    };
    let made: Vec<usize> = thread::scope(|scope| {
        let client = &client;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let told = told.clone();
                scope.spawn(move || client(number, told))
            })
            .collect();
        assert_eq!(heard.iter().take(EACH).count(), EACH);
        primary.crash();
        standby.psql("SELECT pg_promote()");
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .collect()
    });
    // A broker that has seen none of it.
    let other = broker(&url);
    for (number, made) in made.into_iter().enumerate() {
        for i in 0..made {
            let request = provision("example_service", "plan_one");
            other
                .put(&instance(&format!("{number}-{i}")), &request)
                .expect(200);
        }
    }
}
