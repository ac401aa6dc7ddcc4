//! What was asked and answered, and whether some order of it all explains every answer: each request takes effect at one
//! moment between its sending and its answer (an operation that it waits for begins and ends in between), and operations
//! that are polled for end at any moment.
//!
//! All states that the answers up to now leave possible are carried along. An answer is an error if it is possible in
//! none of them. (Lowe, "Testing for linearizability", 2017: just-in-time linearization.)

use crate::model::{Plan, State, World};
use crate::support::Response;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// What a client asks for. Record 0 is the instance, the others are its bindings.
#[derive(Debug, Clone)]
pub enum Deed {
    Provision {
        value: u8,
    },
    Update {
        value: u8,
    },
    Deprovision,
    Bind {
        binding: usize,
        value: u8,
    },
    Unbind {
        binding: usize,
    },
    Fetch {
        record: usize,
    },
    Poll {
        record: usize,
        operation: Option<String>,
    },
}

impl Deed {
    pub fn name(&self) -> &'static str {
        match self {
            Deed::Provision { .. } => "provision",
            Deed::Update { .. } => "update",
            Deed::Deprovision => "deprovision",
            Deed::Bind { .. } => "bind",
            Deed::Unbind { .. } => "unbind",
            Deed::Fetch { .. } => "fetch",
            Deed::Poll { .. } => "poll",
        }
    }

    pub fn record(&self) -> usize {
        match self {
            Deed::Provision { .. } | Deed::Update { .. } | Deed::Deprovision => 0,
            Deed::Bind { binding, .. } | Deed::Unbind { binding } => *binding,
            Deed::Fetch { record } | Deed::Poll { record, .. } => *record,
        }
    }
}

/// What an answer tells.
#[derive(Debug, Clone)]
pub struct Seen {
    pub status: u16,
    /// The operation that it names.
    pub operation: Option<String>,
    /// The same, as a number, and that of the operation that was asked for.
    pub number: Option<u16>,
    pub asked: Option<u16>,
    /// Of a poll.
    pub state: Option<State>,
    /// Of a fetch.
    pub value: Option<u8>,
}

impl Seen {
    /// Reads an answer; every error has a description, and 422 means that something else is in progress.
    pub fn of(deed: &Deed, answer: &Response) -> Seen {
        let body = answer.json();
        if answer.status >= 400 {
            assert!(!answer.description().is_empty(), "{deed:?}: {answer:?}");
        }
        if answer.status == 422 {
            assert_eq!(body["error"], "ConcurrencyError", "{deed:?}");
        }
        let operation = body["operation"].as_str().map(str::to_owned);
        assert_eq!(answer.status == 202, operation.is_some(), "{deed:?}");
        let polled = matches!(deed, Deed::Poll { .. }) && answer.status == 200;
        Seen {
            status: answer.status,
            operation,
            number: None,
            asked: None,
            state: polled.then(|| match body["state"].as_str() {
                Some("in progress") => State::InProgress,
                Some("succeeded") => State::Succeeded,
                Some("failed") => State::Failed,
                _ => panic!("{deed:?}: {body}"),
            }),
            value: body["parameters"]["value"]
                .as_u64()
                .map(|value| value as u8),
        }
    }
}

/// One request, from its sending to its answer.
#[derive(Debug, Clone)]
pub struct Call {
    pub deed: Deed,
    pub seen: Seen,
    pub asked: Duration,
    pub answered: Duration,
}

/// A request is sent, or the one in this place of all is answered.
pub enum Event {
    Asked(usize, Call),
    Answered(usize),
}

impl Event {
    /// In the order of time, with numbers for the ids of operations.
    pub fn in_order<'a>(calls: impl Iterator<Item = &'a Call>) -> Vec<Event> {
        let mut numbers = HashMap::new();
        let mut number = |id: &Option<String>| {
            let next = numbers.len() as u16;
            id.clone().map(|id| *numbers.entry(id).or_insert(next))
        };
        let mut events = Vec::new();
        for (place, call) in calls.enumerate() {
            let mut call = call.clone();
            call.seen.number = number(&call.seen.operation);
            if let Deed::Poll { operation, .. } = &call.deed {
                call.seen.asked = number(operation);
            }
            events.push((call.answered, Event::Answered(place)));
            events.push((call.asked, Event::Asked(place, call)));
        }
        // Of the same moment, what was sent comes first.
        events.sort_by_key(|(at, event)| (*at, matches!(event, Event::Answered(_))));
        events.into_iter().map(|(_, event)| event).collect()
    }
}

/// One way in which everything may have come about up to now. Bits stand for the places of requests not yet answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Way {
    world: World,
    /// Which have begun an operation and wait for its end.
    begun: u64,
    /// Whose answer is explained.
    explained: u64,
}

/// Those who have not been answered yet, by place.
type Pending = [Option<Call>; 64];

/// Says which answer nothing explains.
pub fn explain(plan: &Plan, events: &[Event]) -> Result<(), String> {
    let mut pending: Pending = [const { None }; 64];
    let mut places = HashMap::new();
    let mut ways = HashSet::from([Way {
        world: World::new(),
        begun: 0,
        explained: 0,
    }]);
    let mut latest = Vec::new();
    for event in events {
        match event {
            Event::Asked(number, call) => {
                let place = pending.iter().position(Option::is_none);
                let place = place.ok_or("too many at once")?;
                places.insert(*number, place);
                pending[place] = Some(call.clone());
            }
            Event::Answered(number) => {
                let place = places.remove(number).ok_or("answered unasked")?;
                let mut explained = answered(&ways, &pending, plan, place);
                let call = pending[place].take().ok_or("answered twice")?;
                if explained.is_empty() {
                    let before: Vec<_> = ways.iter().take(5).collect();
                    let from = latest.len() - latest.len().min(30);
                    return Err(format!(
                        "nothing explains {call:?}\nafter {:#?}\nbeside {:#?}\nin any of {} ways, such as {before:#?}",
                        &latest[from..],
                        pending.iter().flatten().collect::<Vec<_>>(),
                        ways.len(),
                    ));
                }
                let bit = 1 << place;
                ways = explained
                    .drain()
                    .map(|way| Way {
                        begun: way.begun & !bit,
                        explained: way.explained & !bit,
                        ..way
                    })
                    .collect();
                latest.push(call);
            }
        }
    }
    Ok(())
}

/// All ways in which the answer to the request in this place is explained.
fn answered(ways: &HashSet<Way>, pending: &Pending, plan: &Plan, place: usize) -> HashSet<Way> {
    let mut seen = HashSet::new();
    let mut open: Vec<Way> = ways.iter().copied().collect();
    let mut explained = HashSet::new();
    while let Some(mut way) = open.pop() {
        listen(&mut way, pending);
        if !seen.insert(way) {
            continue;
        }
        if way.explained & (1 << place) != 0 {
            explained.insert(way);
            continue;
        }
        open.extend(
            way.world
                .by_itself()
                .into_iter()
                .map(|world| Way { world, ..way }),
        );
        for (place, call) in pending.iter().enumerate() {
            let Some(call) = call else { continue };
            let bit = 1 << place;
            if way.explained & bit != 0 {
                continue;
            }
            let (deed, seen, number) = (&call.deed, &call.seen, place as u8);
            if way.begun & bit != 0 {
                open.extend(way.world.ends(deed, seen, number).map(|world| Way {
                    world,
                    explained: way.explained | bit,
                    ..way
                }));
                continue;
            }
            // Who is to poll has the answer when the operation begins.
            let (begun, explained) = match seen.status {
                202 => (way.begun, way.explained | bit),
                _ => (way.begun | bit, way.explained),
            };
            open.extend(way.world.begins(plan, deed, seen, number).map(|world| Way {
                world,
                begun,
                explained,
            }));
            // "It is so already" and "it is so now" are one answer to an update: both are possible.
            if is_ambiguous(call) && way.world.tells(deed, seen) {
                open.push(Way {
                    explained: way.explained | bit,
                    ..way
                });
            }
        }
    }
    explained
}

/// Marks the answers that tell how things are right now. To wait with them explains nothing more.
fn listen(way: &mut Way, pending: &Pending) {
    for (place, call) in pending.iter().enumerate() {
        let Some(call) = call else { continue };
        let bit = 1 << place;
        if way.explained & bit == 0
            && way.begun & bit == 0
            && !is_ambiguous(call)
            && way.world.tells(&call.deed, &call.seen)
        {
            way.explained |= bit;
        }
    }
}

fn is_ambiguous(call: &Call) -> bool {
    matches!(call.deed, Deed::Update { .. }) && call.seen.status == 200
}

/// Histories that no broker may give, so that the one above is known to be looked at.
mod tests {
    use super::*;

    const NOW: Plan = Plan {
        id: "now",
        asynchronous: &[],
    };
    const LATER: Plan = Plan {
        id: "later",
        asynchronous: &["provision", "update", "deprovision", "bind", "unbind"],
    };
    const PROVISION: Deed = Deed::Provision { value: 0 };
    const BIND: Deed = Deed::Bind {
        binding: 1,
        value: 0,
    };

    /// Asked and answered at these times, with this status.
    fn call(deed: Deed, asked: u64, answered: u64, status: u16) -> Call {
        Call {
            deed,
            seen: Seen {
                status,
                operation: None,
                number: None,
                asked: None,
                state: None,
                value: None,
            },
            asked: Duration::from_millis(asked),
            answered: Duration::from_millis(answered),
        }
    }

    fn fetched(asked: u64, answered: u64, value: u8) -> Call {
        let mut call = call(Deed::Fetch { record: 0 }, asked, answered, 200);
        call.seen.value = Some(value);
        call
    }

    fn accepted(deed: Deed, asked: u64, answered: u64, operation: &str) -> Call {
        let mut call = call(deed, asked, answered, 202);
        call.seen.operation = Some(operation.to_owned());
        call
    }

    fn polled(asked: u64, answered: u64, operation: &str, state: State) -> Call {
        let deed = Deed::Poll {
            record: 0,
            operation: Some(operation.to_owned()),
        };
        let mut call = call(deed, asked, answered, 200);
        call.seen.state = Some(state);
        call
    }

    fn is_explained(plan: &Plan, calls: &[Call]) -> bool {
        explain(plan, &Event::in_order(calls.iter())).is_ok()
    }

    #[test]
    fn what_was_made_once_is_not_made_again() {
        let first = call(PROVISION, 0, 1, 201);
        assert!(is_explained(
            &NOW,
            &[first.clone(), call(PROVISION, 2, 3, 200)]
        ));
        assert!(!is_explained(
            &NOW,
            &[first.clone(), call(PROVISION, 2, 3, 201)]
        ));
        // At the same time, one of them is the first.
        let same = [call(PROVISION, 0, 5, 200), call(PROVISION, 1, 4, 201)];
        assert!(is_explained(&NOW, &same));
        let same = [call(PROVISION, 0, 5, 200), call(PROVISION, 1, 4, 200)];
        assert!(!is_explained(&NOW, &same));
    }

    #[test]
    fn what_was_acknowledged_is_not_lost() {
        let made = call(PROVISION, 0, 1, 201);
        let lost = call(Deed::Fetch { record: 0 }, 2, 3, 404);
        assert!(!is_explained(&NOW, &[made.clone(), lost]));
        let updated = call(Deed::Update { value: 2 }, 2, 3, 200);
        let both = [made.clone(), updated.clone(), fetched(4, 5, 2)];
        assert!(is_explained(&NOW, &both));
        let both = [made, updated, fetched(4, 5, 0)];
        assert!(!is_explained(&NOW, &both));
    }

    #[test]
    fn a_binding_does_not_outlive_its_instance() {
        let life = [
            call(PROVISION, 0, 1, 201),
            call(BIND, 2, 3, 201),
            call(Deed::Deprovision, 4, 5, 200),
        ];
        let after = |status| {
            let fetch = call(Deed::Fetch { record: 1 }, 6, 7, status);
            is_explained(&NOW, &[&life[..], &[fetch]].concat())
        };
        assert!(after(404));
        assert!(!after(200));
        assert!(!is_explained(&NOW, &[call(BIND, 0, 1, 201)]));
    }

    #[test]
    fn nobody_is_busy_without_a_cause() {
        let made = call(PROVISION, 0, 1, 201);
        let refused = call(Deed::Update { value: 1 }, 2, 3, 422);
        assert!(!is_explained(&NOW, &[made.clone(), refused.clone()]));
        let meanwhile = call(Deed::Deprovision, 2, 3, 500);
        assert!(is_explained(&NOW, &[made, refused, meanwhile]));
    }

    #[test]
    fn an_operation_ends_once() {
        let begun = accepted(PROVISION, 0, 1, "a");
        let poll = |at, state| polled(at, at + 1, "a", state);
        let history = |states: &[State]| {
            let polls = states.iter().zip(1..).map(|(state, n)| poll(2 * n, *state));
            let calls: Vec<_> = [begun.clone()].into_iter().chain(polls).collect();
            is_explained(&LATER, &calls)
        };
        use State::*;
        assert!(history(&[InProgress, InProgress, Failed, Failed]));
        assert!(!history(&[Succeeded, InProgress]));
        assert!(!history(&[Failed, Succeeded]));
        // Another id is another operation.
        let again = accepted(PROVISION, 2, 3, "b");
        let unharmed = poll(4, InProgress);
        assert!(!is_explained(&LATER, &[begun.clone(), again, unharmed]));
        let same = accepted(PROVISION, 2, 3, "a");
        assert!(is_explained(&LATER, &[begun, same]));
    }
}
