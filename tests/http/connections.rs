//! Connections: kept, broken, slow, endless, and never answered.

use super::service::{Gate, Heard, Out, Service, Then, done};
use super::{incomplete, setup};
use crate::support::programs::provision;
use crate::support::{Broker, instance};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

/// A service whose first answer is this, and whose later ones are whole.
fn at_first(answer: impl Fn(Out<'_>) -> Then + Send + Sync + 'static) -> Service {
    Service::start(move |heard, out| match heard.attempt() {
        1 => answer(out),
        _ => done(out),
    })
}

fn write(out: Out<'_>, text: &str) {
    // The client may be gone.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[test]
fn connections_are_kept_and_closed_ones_are_replaced_before_anything_is_sent() {
    let service = Service::start(|heard, out| {
        let then = done(out);
        match heard.document()["instance_id"].as_str() {
            Some("i-2") => Then::Close,
            _ => then,
        }
    });
    let broker = setup(&service, json!({})).start();
    for id in ["i-1", "i-2", "i-3", "i-4"] {
        broker.put(&instance(id), &provision()).expect(201);
    }
    let heard = service.heard();
    let connections: Vec<_> = heard.iter().map(|heard| heard.connection).collect();
    assert_eq!(connections, [0, 0, 1, 1]);
    assert!(heard.iter().all(|heard| heard.attempt() == 1));
}

#[test]
fn what_nobody_asked_for_is_no_answer_to_the_next_request() {
    let forged =
        "HTTP/1.1 200 OK\r\nContent-Length: 32\r\n\r\n{\"dashboard_url\": \"https://evil\"}";
    let service = Service::start(move |_, out| {
        done(out);
        write(out, forged);
        Then::Keep
    });
    let broker = setup(&service, json!({})).start();
    for n in 0..20 {
        let target = instance(&format!("i-{n}"));
        let answer = broker.put(&target, &provision()).expect(201);
        assert_eq!(answer.json(), json!({}));
    }
    assert!(service.heard().iter().all(|heard| heard.attempt() == 1));
}

#[test]
fn an_interim_answer_comes_before_the_real_one() {
    let service = Service::start(|_, out| {
        write(out, "HTTP/1.1 100 Continue\r\n\r\n");
        done(out)
    });
    let broker = setup(&service, json!({})).start();
    broker.put(&instance("i-1"), &provision()).expect(201);
}

#[test]
fn a_connection_that_breaks_is_tried_again() {
    let cases: [fn(Out<'_>) -> Then; 7] = [
        |_| Then::Close,
        |out| {
            write(out, "HTTP/1.1 200 OK\r\nContent-");
            Then::Close
        },
        |out| {
            write(out, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"stat");
            Then::Close
        },
        // What was sent looks whole, and is not.
        |out| {
            write(out, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}");
            Then::Close
        },
        |out| {
            write(
                out,
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
            );
            Then::Close
        },
        |out| {
            write(out, "HTTP/1.1 200 OK\r\n\r\n{\"progress\": \"half\"}\n");
            Then::Close
        },
        |out| {
            write(out, "HTTP/1.0 200 OK\r\n\r\n{\"state\": {\"a\":");
            Then::Close
        },
    ];
    for (n, case) in cases.into_iter().enumerate() {
        let service = at_first(case);
        let broker = setup(&service, json!({})).start();
        broker.put(&instance("i-1"), &provision()).expect(201);
        let heard = service.heard();
        let attempts: Vec<_> = heard.iter().map(Heard::attempt).collect();
        assert_eq!(attempts, [1, 2], "case {n}");
        assert_eq!(
            heard[0].header("Idempotency-Key"),
            heard[1].header("Idempotency-Key")
        );
    }
}

#[test]
fn an_answer_without_a_length_ends_with_its_connection() {
    let service = Service::start(|_, out| {
        write(
            out,
            "HTTP/1.0 200 OK\r\n\r\n{\"dashboard_url\": \"https://x.example.com\"}",
        );
        Then::Close
    });
    let broker = setup(&service, json!({})).start();
    let answer = broker.put(&instance("i-1"), &provision()).expect(201);
    assert_eq!(answer.json()["dashboard_url"], "https://x.example.com");
}

#[test]
fn a_service_that_is_not_there_yet_is_waited_for() {
    // An address that was free a moment ago.
    let address = Service::start(|_, out| done(out)).address;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let later = free.local_addr().unwrap();
    assert_ne!(address, later);
    drop(free);
    let catalog = super::catalog(&format!("http://{later}/"), &json!({ "async": true }));
    let broker = crate::support::Setup::new()
        .env("BROKER_STORE", "memory")
        .catalog(&catalog)
        .start();
    broker
        .put(&incomplete(&instance("i-1")), &provision())
        .expect(202);
    broker.wait_for_print("event=operation_retried");
    let service = Service::at(&later.to_string(), |_, out| done(out));
    let heard = service.wait_for(1);
    assert!(heard[0].attempt() > 1);
    broker.wait_for_print("state=succeeded");
    assert!(
        broker.printed().contains("Connection refused"),
        "{}",
        broker.printed()
    );
}

#[test]
fn a_service_that_hangs_is_given_up_at_the_timeout() {
    let gate = Gate::default();
    let service = Service::start({
        let gate = gate.clone();
        move |_, out| {
            gate.pass();
            done(out)
        }
    });
    let broker = setup(&service, json!({ "timeout": "300ms" })).start();
    broker
        .put(&instance("i-1"), &provision())
        .expect_naming(500, "did not finish within 300ms");
    gate.open();
}

#[test]
fn an_answer_that_does_not_begin_is_asked_for_again() {
    let gate = Gate::default();
    let service = at_first({
        let gate = gate.clone();
        move |out| {
            write(out, "HTTP/1.1 200");
            gate.pass();
            Then::Close
        }
    });
    let settings = json!({ "timeout": "50s", "first_byte_timeout": "300ms" });
    let broker = setup(&service, settings).start();
    broker.put(&instance("i-1"), &provision()).expect(201);
    assert_eq!(service.heard()[1].attempt(), 2);
    gate.open();
}

#[test]
fn an_answer_may_come_byte_by_byte() {
    let body = json!({ "dashboard_url": "https://x.example.com/a" }).to_string();
    let length = body.len();
    let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
    for (pause, wanted) in [(1, 201), (30, 500)] {
        let text = text.clone();
        let service = Service::start(move |_, out| {
            for byte in text.as_bytes() {
                if out.write_all(&[*byte]).is_err() {
                    return Then::Close;
                }
                // It is slow, and that is what is tested.
                thread::sleep(Duration::from_millis(pause));
            }
            Then::Close
        });
        let broker = setup(&service, json!({ "timeout": "1s" })).start();
        let answer = broker.put(&instance("i-1"), &provision()).expect(wanted);
        if wanted == 500 {
            assert!(answer.description().contains("did not finish within 1s"));
        }
    }
}

#[test]
fn a_service_that_streams_for_ever_is_stopped() {
    for head in [
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        "HTTP/1.1 500 X\r\n\r\n",
        "HTTP/1.1 202 Accepted\r\n\r\n",
    ] {
        let service = Service::start(move |_, out| {
            write(out, head);
            while out.write_all(&[b' '; 4096]).is_ok() {}
            Then::Close
        });
        let broker = setup(&service, json!({})).start();
        let answer = broker.put(&instance("i-1"), &provision()).expect(500);
        if !head.contains("500") {
            let description = answer.description();
            assert!(
                description.contains("answered more than 1048576 bytes"),
                "{description}"
            );
        }
    }
    // A head without an end is none.
    let service = Service::start(|_, out| {
        write(out, "HTTP/1.1 200 OK\r\n");
        while out
            .write_all(b"X-Padding: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n")
            .is_ok()
        {}
        Then::Close
    });
    let broker = setup(&service, json!({})).start();
    broker
        .put(&instance("i-1"), &provision())
        .expect_naming(500, "cannot be spoken to");
}

#[test]
fn garbage_is_a_failure() {
    for garbage in [
        "SSH-2.0-OpenSSH_9.9\r\n\r\n",
        "\0\u{1}\u{2}\r\n\r\n",
        "HTTP/1.1 abc\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    ] {
        let service = Service::start(move |_, out| {
            write(out, garbage);
            Then::Close
        });
        let broker = setup(&service, json!({})).start();
        broker
            .put(&instance("i-1"), &provision())
            .expect_naming(500, "cannot be spoken to");
        assert_eq!(service.heard().len(), 1, "{garbage:?}");
    }
}

#[test]
fn a_service_that_hangs_starves_nobody() {
    let gate = Gate::default();
    let hanging = Service::start({
        let gate = gate.clone();
        move |_, out| {
            gate.pass();
            done(out)
        }
    });
    let prompt = Service::start(|_, out| done(out));
    let mut catalog = super::catalog(&hanging.url(), &json!({ "async": true, "concurrency": 3 }));
    catalog["services"][0]["plans"][1]["adapter"]["url"] = Value::from(prompt.url());
    let broker = crate::support::Setup::new()
        .env("BROKER_STORE", "memory")
        .catalog(&catalog)
        .start();
    for n in 0..20 {
        let target = incomplete(&instance(&format!("hanging-{n}")));
        broker.put(&target, &provision()).expect(202);
    }
    hanging.wait_for(3);
    let plan_2 = crate::support::provision("service-1", "plan-2");
    for n in 0..20 {
        let target = incomplete(&instance(&format!("prompt-{n}")));
        broker.put(&target, &plan_2).expect(202);
    }
    prompt.wait_for(20);
    assert_eq!(hanging.heard().len(), 3, "no more than its concurrency");
    gate.open();
    hanging.wait_for(20);
}

#[test]
fn no_more_calls_at_once_than_the_plan_allows() {
    static NOW: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let service = Service::start(|_, out| {
        MOST.fetch_max(NOW.fetch_add(1, Relaxed) + 1, Relaxed);
        thread::sleep(Duration::from_millis(20));
        NOW.fetch_sub(1, Relaxed);
        done(out)
    });
    let broker = setup(&service, json!({ "concurrency": 2 })).start();
    thread::scope(|scope| {
        for n in 0..12 {
            let broker: &Broker = &broker;
            scope.spawn(move || {
                broker
                    .put(&instance(&format!("i-{n}")), &provision())
                    .expect(201)
            });
        }
    });
    assert_eq!(MOST.load(Relaxed), 2);
    let heard = service.heard();
    assert!(
        heard.iter().all(|heard| heard.connection < 2),
        "kept connections"
    );
}
