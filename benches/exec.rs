//! What the adapter `exec` costs, on the real broker, over HTTP on one machine.
//!
//! - Synchronous operations against a bare loop that starts the same program and waits for it, both from as many threads.
//!   They run by turns, a second each: machines are noisy, so only neighbours are compared, and the median counts.
//! - Asynchronous provisions, sent as fast as they are taken: how long until all are done, in how much memory, and how
//!   long somebody who polls has to wait meanwhile, against an idle broker.
//!
//! ```text
//! cargo bench --bench exec                           # about three minutes
//! cargo bench --bench exec -- --rounds 5 --queued 1000
//! ```

mod adapters;

use adapters::support::Setup;
use adapters::support::programs::executable;
use adapters::{FILE, Fallible, asynchronous, options, rate, start, synchronous};

use serde_json::json;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

/// As little as a program can do.
const PROGRAM: &str = "#!/bin/sh\necho '{}'\n";

fn main() -> Fallible {
    let (rounds, queued) = options()?;
    let start = |store: &str| {
        let setup = Setup::new();
        executable(&setup.folder, "program", PROGRAM);
        start(
            setup,
            store,
            &json!({ "kind": "exec", "command": ["./program"] }),
        )
    };
    // In memory it is the adapter that costs; the file store adds two durable commits to each operation.
    for store in ["memory", FILE] {
        let broker = start(store);
        let program = broker.folder.path().join("program");
        let bare = || {
            rate(|_, stop| {
                let mut done = 0;
                while !stop.load(Ordering::Relaxed) {
                    let mut command = Command::new(&program);
                    command
                        .arg("provision")
                        .stdin(Stdio::null())
                        .stdout(Stdio::null())
                        .stderr(Stdio::null());
                    assert!(command.status().unwrap().success());
                    done += 1;
                }
                done
            })
        };
        synchronous(&broker, store, rounds, "bare start and wait", bare);
    }
    asynchronous(&start(FILE), queued)
}
