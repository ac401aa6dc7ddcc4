//! What the adapter `http` costs, on the real broker, over HTTP on one machine.
//!
//! - Synchronous operations against a bare loop of the same client, which sends the same document to the same service, both from
//!   as many threads. They run by turns, a second each: machines are noisy, so only neighbours are compared, and the median
//!   counts.
//! - Asynchronous provisions, sent as fast as they are taken: how long until all are done, in how much memory, and how
//!   long somebody who polls has to wait meanwhile, against an idle broker.
//!
//! ```text
//! cargo bench --features http-adapter --bench http_adapter          # about two minutes
//! cargo bench --features http-adapter --bench http_adapter -- --rounds 5 --queued 1000
//! ```

mod adapters;

use adapters::support::Setup;
use adapters::{FILE, Fallible, asynchronous, options, rate, start, synchronous};

use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use ureq::Agent;

/// About what the broker sends.
const DOCUMENT: &str = r#"{"operation":"provision","operation_id":"6f6ad4a86f0e4ff59f0e2f8f0a6d5b11","attempt":1,"instance_id":"s-1000","service":{"id":"nothing","name":"nothing"},"plan":{"id":"sync","name":"sync"},"organization_guid":"o","space_guid":"s","parameters":{},"context":{},"state":{}}"#;

fn main() -> Fallible {
    let (rounds, queued) = options()?;
    let service = serve()?;
    let url = format!("http://{service}/");
    let adapter = json!({ "kind": "http", "url": url });
    let bare = || {
        rate(|_, stop| {
            let config = Agent::config_builder().timeout_global(Some(Duration::from_secs(55)));
            let agent = config.build().new_agent();
            let mut done = 0;
            while !stop.load(Ordering::Relaxed) {
                let answer = agent
                    .post(&url)
                    .header("Idempotency-Key", "x")
                    .send(DOCUMENT);
                assert_eq!(answer.unwrap().into_body().read_to_string().unwrap(), "{}");
                done += 1;
            }
            done
        })
    };
    // In memory it is the adapter that costs; the file store adds two durable commits to each operation.
    for store in ["memory", FILE] {
        let broker = start(Setup::new(), store, &adapter);
        synchronous(&broker, store, rounds, "bare loop of the same client", bare);
    }
    asynchronous(&start(Setup::new(), FILE, &adapter), queued)
}

/// A service that answers at once.
fn serve() -> Fallible<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
    Ok(address)
}

/// Every request of a connection, until it ends.
fn answer(stream: TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    loop {
        let mut length = 0;
        loop {
            line.clear();
            if stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                if line.trim_end().is_empty() {
                    break;
                }
                continue;
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        stream.get_mut().write_all(answer).ok()?;
    }
}
