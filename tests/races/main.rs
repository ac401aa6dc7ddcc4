//! Many clients at once, doing anything about the same few instances for half a minute, while about every fifth call of
//! the program behind them fails: each single answer is checked for being one that the specification allows in some order
//! in which the requests may have taken effect.

mod history;
mod model;
#[path = "../support/mod.rs"]
mod support;

use history::{Call, Deed, Event, Seen};
use model::Plan;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use support::connection::Connection;
use support::programs::executable;
use support::{Broker, Folder, Request, Setup, binding, instance};

const CLIENTS: usize = 50;
const INSTANCES: usize = 5;
const BINDINGS: usize = 2;
const DURATION: Duration = Duration::from_secs(30);
/// The longest pause of a client between two requests, in milliseconds.
const THOUGHT: u64 = 30;

/// Makes a folder for each instance and a file in it for each binding. Fails now and then, before or after its work, or
/// asks to be called again, unless there is a file `calm`; and notes when it is called twice at once for the same thing.
const PROGRAM: &str = r#"#!/bin/sh
input=$(cat)
field() { rest=${input#*\"$1\":\"}; [ "$rest" = "$input" ] || echo "${rest%%\"*}"; }
thing=things/$(field instance_id)
binding=$(field binding_id)
busy=busy-$(field instance_id)-$binding
done_with() { rmdir "$busy"; exit "$1"; }
trap 'done_with 143' TERM
mkdir "$busy" || echo "$1 $busy" >>overlaps
fails() {
  [ ! -e calm ] && [ $(($$ % 10)) = "$1" ] && { echo '{"error":"Chaos","description":"it fails"}'; done_with 1; }
}
[ ! -e calm ] && [ $(($$ % 37)) = 0 ] && done_with 75
[ -e calm ] || sleep "0.0$(($$ % 7))"
fails 0
case $1 in
  provision) mkdir -p "$thing" ;;
  bind) touch "$thing/$binding" ;;
  unbind) rm -f "$thing/$binding" ;;
  deprovision) rm -rf "$thing" ;;
esac
fails 1
echo '{}'
done_with 0
"#;

/// How the plans do their operations: at once, asynchronously, and some of both.
const PLANS: [Plan; 3] = [
    Plan {
        id: "now",
        asynchronous: &[],
    },
    Plan {
        id: "later",
        asynchronous: &["provision", "update", "deprovision", "bind", "unbind"],
    },
    Plan {
        id: "mixed",
        asynchronous: &["provision", "bind"],
    },
];

/// The plan of every instance with this number.
fn plan_of(instance: usize) -> &'static Plan {
    &PLANS[instance % PLANS.len()]
}

fn catalog() -> Value {
    let plans: Vec<Value> = PLANS
        .iter()
        .map(|plan| {
            json!({
                "id": plan.id,
                "name": plan.id,
                "description": plan.id,
                "adapter": {
                    "kind": "exec",
                    "command": ["./program"],
                    "async": plan.asynchronous,
                    "timeout": "50s",
                    "concurrency": 64
                }
            })
        })
        .collect();
    json!({ "services": [{
        "id": "service",
        "name": "service",
        "description": "Made by a program",
        "bindable": true,
        "bindings_retrievable": true,
        "instances_retrievable": true,
        "plans": plans
    }]})
}

fn start() -> Broker {
    let folder = Arc::new(Folder::new());
    executable(&folder, "program", PROGRAM);
    Setup::in_folder(folder)
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("BROKER_STORE", "file:state.db")
        .catalog(&catalog())
        .start()
}

#[test]
fn every_answer_is_one_that_some_order_of_the_requests_explains() {
    let broker = start();
    // The ids of operations that were answered with, of each instance and each binding.
    let operations: Vec<Vec<Mutex<Vec<String>>>> = (0..INSTANCES)
        .map(|_| (0..=BINDINGS).map(|_| Mutex::default()).collect())
        .collect();
    let barrier = Barrier::new(CLIENTS);
    let began = Instant::now();
    let calls: Vec<(usize, Call)> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (broker, operations, barrier) = (&broker, &operations, &barrier);
                scope.spawn(move || {
                    let client = Client {
                        connection: Connection::warm(broker.address),
                        broker,
                        random: Random(number as u64 + 1),
                        began,
                    };
                    barrier.wait();
                    client.act(operations)
                })
            })
            .collect();
        let calls = clients.into_iter().map(|client| client.join().unwrap());
        calls.flatten().collect()
    });
    let total = calls.len();

    // Whatever is still in progress comes to its end, and nothing fails any more.
    broker.folder.file("calm", "");
    for number in 0..INSTANCES {
        for target in targets(number) {
            ended(&broker, &target);
        }
    }
    let overlaps = broker.folder.path().join("overlaps");
    assert!(!overlaps.exists(), "{}", broker.written("overlaps"));

    let mut statuses = HashMap::<(&str, u16), usize>::new();
    for (_, call) in &calls {
        *statuses
            .entry((call.deed.name(), call.seen.status))
            .or_default() += 1;
    }
    let mut statuses: Vec<_> = statuses.into_iter().collect();
    statuses.sort();
    println!("{total} answers: {statuses:?}");
    // It was a race: everything happened that can.
    for wanted in [
        ("provision", 201),
        ("provision", 202),
        ("provision", 409),
        ("provision", 422),
        ("provision", 500),
        ("update", 202),
        ("update", 422),
        ("deprovision", 200),
        ("deprovision", 202),
        ("deprovision", 410),
        ("deprovision", 422),
        ("bind", 201),
        ("bind", 202),
        ("bind", 404),
        ("unbind", 200),
        ("unbind", 202),
        ("fetch", 200),
        ("fetch", 422),
        ("poll", 200),
        ("poll", 400),
        ("poll", 410),
    ] {
        assert!(
            statuses.iter().any(|(found, _)| *found == wanted),
            "never: {wanted:?}"
        );
    }

    thread::scope(|scope| {
        for number in 0..INSTANCES {
            let calls = calls.iter().filter(|(of, _)| *of == number);
            let events = Event::in_order(calls.map(|(_, call)| call));
            scope.spawn(move || {
                if let Err(unexplained) = history::explain(plan_of(number), &events) {
                    panic!("instance {number}: {unexplained}");
                }
            });
        }
    });

    nothing_is_there_that_no_record_knows_of(&broker);
}

/// An instance and its bindings.
fn targets(number: usize) -> Vec<String> {
    let id = format!("i{number}");
    let bindings = (1..=BINDINGS).map(|n| binding(&id, &format!("b{n}")));
    [instance(&id)].into_iter().chain(bindings).collect()
}

/// Waits until nothing is in progress on it.
fn ended(broker: &Broker, target: &str) {
    loop {
        let answer = broker.get(&format!("{target}/last_operation"));
        match answer.status {
            200 if answer.json()["state"] == "in progress" => {
                thread::sleep(Duration::from_millis(10));
            }
            200 | 404 | 410 => return,
            _ => panic!("{answer:?}"),
        }
    }
}

/// What no record knows of is not there, and in the end everything can be removed.
fn nothing_is_there_that_no_record_knows_of(broker: &Broker) {
    let things = broker.folder.path().join("things");
    for number in 0..INSTANCES {
        let thing = things.join(format!("i{number}"));
        for (n, target) in targets(number).iter().enumerate() {
            let made = match n {
                0 => thing.clone(),
                _ => thing.join(format!("b{n}")),
            };
            let polled = broker.get(&format!("{target}/last_operation")).status;
            assert!(polled == 200 || !made.exists(), "{polled}, {made:?}");
        }
        let target = instance(&format!("i{number}"));
        let delete = format!(
            "{target}?service_id=service&plan_id={}&accepts_incomplete=true",
            plan_of(number).id
        );
        let answer = broker.delete(&delete);
        assert!(matches!(answer.status, 200 | 202 | 410), "{answer:?}");
        ended(broker, &target);
        broker.delete(&delete).expect(410);
    }
    assert_eq!(things.read_dir().unwrap().count(), 0);
}

/// A platform that has lost its mind: it asks for anything, whatever came before.
struct Client<'a> {
    broker: &'a Broker,
    connection: Connection,
    random: Random,
    began: Instant,
}

impl Client<'_> {
    /// Does anything until the time is over. `operations` is what everybody knows.
    fn act(mut self, operations: &[Vec<Mutex<Vec<String>>>]) -> Vec<(usize, Call)> {
        let mut calls = Vec::new();
        while self.began.elapsed() < DURATION {
            thread::sleep(Duration::from_millis(self.random.below(THOUGHT + 1)));
            let number = self.random.below(INSTANCES as u64) as usize;
            let deed = self.deed(&operations[number]);
            let request = self.request(number, &deed);
            let asked = self.began.elapsed();
            let answer = self.connection.send(&request);
            let answered = self.began.elapsed();
            let seen = Seen::of(&deed, &answer);
            if let Some(operation) = &seen.operation {
                let mut known = operations[number][deed.record()].lock().unwrap();
                if !known.contains(operation) {
                    known.push(operation.clone());
                }
            }
            calls.push((
                number,
                Call {
                    deed,
                    seen,
                    asked,
                    answered,
                },
            ));
        }
        calls
    }

    fn deed(&mut self, operations: &[Mutex<Vec<String>>]) -> Deed {
        let binding = 1 + self.random.below(BINDINGS as u64) as usize;
        let any = self.random.below(1 + BINDINGS as u64) as usize;
        let value = self.random.below(3) as u8;
        match self.random.below(16) {
            0..=2 => Deed::Provision {
                value: value.min(1),
            },
            3 | 4 => Deed::Update { value },
            5 => Deed::Deprovision,
            6..=8 => Deed::Bind {
                binding,
                value: u8::from(value == 0),
            },
            9 | 10 => Deed::Unbind { binding },
            11 => Deed::Fetch { record: 0 },
            12 => Deed::Fetch { record: binding },
            _ => Deed::Poll {
                record: any,
                operation: self.operation(&operations[any].lock().unwrap()),
            },
        }
    }

    /// None, the last one, or any.
    fn operation(&mut self, known: &[String]) -> Option<String> {
        let last = known.len().checked_sub(1)?;
        match self.random.below(4) {
            0 | 1 => None,
            2 => Some(known[last].clone()),
            _ => Some(known[self.random.below(known.len() as u64) as usize].clone()),
        }
    }

    fn request(&self, number: usize, deed: &Deed) -> Request {
        let id = format!("i{number}");
        let plan = plan_of(number).id;
        let ids = format!("service_id=service&plan_id={plan}");
        let target = match deed.record() {
            0 => instance(&id),
            n => binding(&id, &format!("b{n}")),
        };
        let incomplete = format!("{target}?accepts_incomplete=true");
        let body = |body: Value, value: &u8| {
            support::merged(&body, json!({ "parameters": { "value": value } }))
        };
        match deed {
            Deed::Provision { value } => {
                let provision = body(support::provision("service", plan), value);
                self.broker.request("PUT", &incomplete).json(&provision)
            }
            Deed::Update { value } => {
                let update = body(json!({ "service_id": "service" }), value);
                self.broker.request("PATCH", &incomplete).json(&update)
            }
            Deed::Bind { value, .. } => {
                let bind = body(support::bind("service", plan), value);
                self.broker.request("PUT", &incomplete).json(&bind)
            }
            Deed::Deprovision | Deed::Unbind { .. } => self
                .broker
                .request("DELETE", &format!("{incomplete}&{ids}")),
            Deed::Fetch { .. } => self.broker.request("GET", &target),
            Deed::Poll { operation, .. } => {
                let query = match operation {
                    Some(operation) => format!("?operation={operation}"),
                    None => String::new(),
                };
                let target = format!("{target}/last_operation{query}");
                self.broker.request("GET", &target)
            }
        }
    }
}

/// The same choices in each run; what comes of them is up to the machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}
