//! `brokerlet adapter-test` on a web service: one that keeps the contract, and those that do not.

use super::catalog;
use super::service::{Heard, Out, Service, Then, say};
use crate::support::{Folder, brokerlet};

use serde_json::json;
use std::collections::BTreeSet;
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What is there: instances, and bindings with their instance.
type Made = Arc<Mutex<BTreeSet<String>>>;

/// Does everything right. One request after the other: what was cut off has ended before the next one begins.
fn good(heard: &Heard, out: Out<'_>, made: &Made) -> Then {
    let document = heard.document();
    let instance = document["instance_id"].as_str().unwrap();
    let binding = format!("{instance} {}", document["binding_id"]);
    let mut made = made.lock().unwrap();
    let answer = match heard.operation().as_str() {
        "provision" => {
            let length = "{\"progress\":\"Making it\"}\n".len();
            let chunk = format!("{length:x}\r\n{{\"progress\":\"Making it\"}}\n\r\n");
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            let _ = write!(out, "{head}{chunk}").and_then(|()| out.flush());
            // Long enough to be cut off.
            thread::sleep(Duration::from_millis(400));
            made.insert(instance.to_owned());
            let _ = write!(out, "2\r\n{{}}\r\n0\r\n\r\n");
            return Then::Keep;
        }
        "bind" => {
            made.insert(binding);
            "{\"credentials\":{\"password\":\"hunter22\"}}"
        }
        "unbind" => {
            made.remove(&binding);
            "{}"
        }
        "deprovision" => {
            made.retain(|name| !name.starts_with(instance));
            "{}"
        }
        _ => "{}",
    };
    say(out, "200 OK", "", answer)
}

fn try_out(service: &Service) -> Output {
    let folder = Folder::new();
    let file = folder.file(
        "catalog.json",
        catalog(&service.url(), &json!({})).to_string(),
    );
    let mut command = brokerlet();
    command.args(["adapter-test", "--plan", "small"]).arg(file);
    command.output().unwrap()
}

#[test]
fn a_service_that_keeps_the_contract_passes() {
    let made = Made::default();
    let service = Service::start({
        let made = made.clone();
        move |heard, out| good(heard, out, &made)
    });
    let output = try_out(&service);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        printed,
        "\
database, plan small (http)
        provision: Making it
  ok    provision
        provision again: Making it
  ok    provision again
  ok    bind
  ok    bind again
  ok    unbind
  ok    unbind again
  ok    unbind of a binding that was never made
  ok    update
  ok    update again
  ok    deprovision
  ok    deprovision again
        provision, with its connection cut in the middle: Making it
  ok    provision, with its connection cut in the middle
        provision again after the cut: Making it
  ok    provision again after the cut
  ok    deprovision
        provision, with its connection cut in the middle: Making it
  ok    provision, with its connection cut in the middle
  ok    deprovision after a cut, without state
  ok    deprovision of an instance that was never made
1 plan: every call did what it must
"
    );
    assert_eq!(output.status.code(), Some(0));
    assert!(made.lock().unwrap().is_empty());
}

#[test]
fn a_service_that_breaks_the_contract_is_found_and_shown() {
    let made = Made::default();
    let service = Service::start(move |heard, out| match heard.operation().as_str() {
        // It does not know an operation again.
        "bind" if heard.attempt() > 1 => say(
            out,
            "409 Conflict",
            "",
            "{\"error\":\"exists\",\"description\":\"There already.\"}",
        ),
        // Nothing to remove is a success.
        "unbind" => say(out, "404 Not Found", "", "no such binding"),
        _ => good(heard, out, &made),
    });
    let output = try_out(&service);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{printed}");
    for wanted in [
        "  FAIL  bind again\n        the user reads: There already.\n        the log says: the web service answered 409; error \"exists\"",
        "        answer:\n        > {\"error\":\"exists\"",
        "  FAIL  unbind\n",
        "the log says: the web service answered 404",
        "        > no such binding",
    ] {
        assert!(printed.contains(wanted), "{wanted}\n{printed}");
    }
}

#[test]
fn not_now_is_waited_for() {
    let made = Made::default();
    let service = Service::start(move |heard, out| match heard.operation().as_str() {
        "update" if heard.attempt() == 1 => {
            say(out, "503 Service Unavailable", "Retry-After: 2\r\n", "")
        }
        _ => good(heard, out, &made),
    });
    let output = try_out(&service);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{printed}");
    assert!(
        printed.contains("update: asks to be called again, in 2s"),
        "{printed}"
    );
}
