//! An adapter with outside effects that does what the test tells it, synchronously or asynchronously; beside it a broker
//! without sockets, and a store that fails when the test says so.

mod api;
mod shelf;

#[allow(unused_imports, reason = "every test file uses a part of it")]
pub use api::{Answered, Api};
pub use shelf::Shelf;

use brokerlet::adapter::kinds::Fulfilment;
use brokerlet::adapter::{
    Adapter, BindingCall, Bound, Failure, InstanceCall, Kind, Provisioned, Run, UpdateCall,
};
use brokerlet::broker::plans::Plans;
use brokerlet::catalog::Catalog;
use brokerlet::json::Object;
use serde_json::{Map, Value, json};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

/// The one service offering of [`offer`], and its plans.
pub const SERVICE: &str = "files";
pub const PLANS: [&str; 2] = ["small", "large"];

/// What an adapter was told, as far as tests look at it.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// `provision`, `update`, `deprovision`, `bind` or `unbind`.
    pub operation: &'static str,
    /// The plan whose adapter was called.
    pub plan: &'static str,
    /// The instance's, or the binding's.
    pub id: String,
    pub state: Value,
    pub parameters: Value,
    pub instance_state: Value,
    pub predecessor: Option<String>,
    pub user: Option<String>,
    /// The operation's id, and which attempt at it this is.
    pub run: (String, u32),
    /// Of an update: the plan before it, the parameters before it, and those it changes.
    pub before: Option<(String, Value, Value)>,
}

enum Order {
    Fail(Failure),
    Panic,
    Hold(Sender<()>, Sender<Word>, Receiver<Word>),
    HoldStubbornly(Sender<()>, Receiver<Word>),
}

/// What a held call is told.
enum Word {
    Release,
    /// Makes progress, and says through the channel when it has told so.
    Progress(String, Sender<()>),
    Cancelled,
}

/// The adapters of the plans of [`offer`], seen from the test.
#[derive(Clone, Default)]
pub struct Fake(Arc<Mutex<Told>>);

#[derive(Default)]
struct Told {
    calls: Vec<Call>,
    /// How much time the last call had.
    left: Duration,
    orders: HashMap<&'static str, Vec<Order>>,
    asynchronous: Vec<Kind>,
    concurrency: Option<usize>,
    timeout: Option<Duration>,
    /// The state of the generator that says which calls fail, if some are to.
    chaos: Option<u64>,
    /// What there is outside the broker: ids of instances and bindings.
    made: BTreeSet<String>,
    /// The ids that a call is about right now, and those that two were about at once.
    at_work: HashSet<String>,
    overlaps: Vec<String>,
}

/// A call that stays in the adapter until the test lets it go on.
pub struct Held {
    entered: Receiver<()>,
    word: Sender<Word>,
}

/// Longer than anything takes that is not broken.
const PATIENCE: Duration = Duration::from_secs(20);

impl Held {
    /// Waits until the adapter was called.
    pub fn entered(&self) {
        self.entered.recv_timeout(PATIENCE).unwrap();
    }

    /// Whether the adapter was called by now.
    pub fn was_entered(&self) -> bool {
        self.entered.try_recv().is_ok()
    }

    pub fn release(&self) {
        self.word.send(Word::Release).unwrap();
    }

    /// Has the call tell its progress.
    pub fn progress(&self, text: &str) {
        let (telling, told) = channel();
        let word = Word::Progress(text.to_owned(), telling);
        self.word.send(word).unwrap();
        told.recv_timeout(PATIENCE).unwrap();
    }
}

impl Fake {
    /// The next call of this operation fails so.
    pub fn fail(&self, operation: &'static str, failure: Failure) {
        self.order(operation, Order::Fail(failure));
    }

    /// The next call of this operation panics.
    pub fn panic(&self, operation: &'static str) {
        self.order(operation, Order::Panic);
    }

    /// The next call of this operation is held, and fails when it is cancelled.
    pub fn hold(&self, operation: &'static str) -> Held {
        let (entering, entered) = channel();
        let (word, words) = channel();
        self.order(operation, Order::Hold(entering, word.clone(), words));
        Held { entered, word }
    }

    /// The next call of this operation is held, also when it is cancelled.
    pub fn hold_stubbornly(&self, operation: &'static str) -> Held {
        let (entering, entered) = channel();
        let (word, words) = channel();
        self.order(operation, Order::HoldStubbornly(entering, words));
        Held { entered, word }
    }

    /// These operations are asynchronous from now on.
    pub fn set_async(&self, operations: &[Kind]) {
        self.0.lock().unwrap().asynchronous = operations.to_vec();
    }

    /// How much time the last call had.
    pub fn left(&self) -> Duration {
        self.0.lock().unwrap().left
    }

    /// So many calls may be made at once.
    pub fn set_concurrency(&self, concurrency: usize) {
        self.0.lock().unwrap().concurrency = Some(concurrency);
    }

    /// About every fourth call without an order fails from now on; none does with 0.
    pub fn set_chaos(&self, seed: u64) {
        self.0.lock().unwrap().chaos = Some(seed).filter(|seed| *seed > 0);
    }

    /// Operations that begin from now on may take so long.
    pub fn set_timeout(&self, timeout: Duration) {
        self.0.lock().unwrap().timeout = Some(timeout);
    }

    fn order(&self, operation: &'static str, order: Order) {
        let mut told = self.0.lock().unwrap();
        told.orders.entry(operation).or_default().insert(0, order);
    }

    /// The calls since this was asked last.
    pub fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.0.lock().unwrap().calls)
    }

    /// The same, as in `bind:b1`.
    pub fn told(&self) -> Vec<String> {
        let name = |call: Call| format!("{}:{}", call.operation, call.id);
        self.calls().into_iter().map(name).collect()
    }

    /// What there is outside the broker: ids of instances and bindings.
    pub fn made(&self) -> Vec<String> {
        self.0.lock().unwrap().made.iter().cloned().collect()
    }

    /// The ids that were worked on by two calls at once, which must not be.
    pub fn overlaps(&self) -> Vec<String> {
        self.0.lock().unwrap().overlaps.clone()
    }

    /// Carries a call out, as it was told to.
    fn work(&self, call: Call, run: Run<'_>) -> Result<(), Failure> {
        let (operation, id) = (call.operation, call.id.clone());
        {
            let mut told = self.0.lock().unwrap();
            if !told.at_work.insert(id.clone()) {
                told.overlaps.push(id.clone());
            }
        }
        let obeyed = catch_unwind(AssertUnwindSafe(|| self.obey(call, run)));
        let mut told = self.0.lock().unwrap();
        told.at_work.remove(&id);
        if let Ok(Ok(())) = obeyed {
            match operation {
                "provision" | "bind" => told.made.insert(id),
                "deprovision" | "unbind" => told.made.remove(&id),
                _ => true,
            };
        }
        drop(told);
        obeyed.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Obeys; what is held is released at the latest when the test is over, which then fails.
    fn obey(&self, call: Call, run: Run<'_>) -> Result<(), Failure> {
        let operation = call.operation;
        let order = {
            let mut told = self.0.lock().unwrap();
            told.calls.push(call);
            let order = told.orders.get_mut(operation).and_then(Vec::pop);
            let fails = told
                .chaos
                .as_mut()
                .is_some_and(|state| random(state).is_multiple_of(4));
            match order {
                None if fails => Some(Order::Fail(Failure::failed("chaos"))),
                order => order,
            }
        };
        match order {
            None => Ok(()),
            Some(Order::Fail(failure)) => Err(failure),
            Some(Order::Panic) => panic!("the adapter panics, as it was told"),
            Some(Order::Hold(entered, cancelled, words)) => {
                entered.send(()).unwrap();
                let _woken = run.cancel.on_cancel(move |_| {
                    let _ = cancelled.send(Word::Cancelled);
                });
                listen(&words, run)
            }
            Some(Order::HoldStubbornly(entered, words)) => {
                entered.send(()).unwrap();
                listen(&words, run)
            }
        }
    }
}

/// The next number of a small generator (xorshift), for tests that want variety and not secrets.
pub fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn listen(words: &Receiver<Word>, run: Run<'_>) -> Result<(), Failure> {
    loop {
        match words.recv_timeout(PATIENCE).unwrap() {
            Word::Release => return Ok(()),
            Word::Cancelled => return Err(Failure::failed("it was cancelled")),
            Word::Progress(text, told) => {
                (run.progress)(&text);
                told.send(()).unwrap();
            }
        }
    }
}

struct OfPlan {
    plan: &'static str,
    fake: Fake,
}

fn value(object: Object<'_>) -> Value {
    Value::Object(object.to_map())
}

fn map(value: Value) -> Option<Map<String, Value>> {
    value.as_object().cloned()
}

impl OfPlan {
    fn call(&self, operation: &'static str, call: &InstanceCall<'_>) -> Call {
        assert_eq!((&*call.service.id, &*call.plan.id), (SERVICE, self.plan));
        let left = call.run.deadline.saturating_duration_since(Instant::now());
        self.fake.0.lock().unwrap().left = left;
        Call {
            operation,
            plan: self.plan,
            id: call.instance_id.to_owned(),
            state: value(call.state),
            parameters: value(call.parameters),
            instance_state: value(call.state),
            predecessor: None,
            user: call
                .origin
                .identity
                .and_then(|i| i.user())
                .map(str::to_owned),
            run: (call.run.id.to_owned(), call.run.attempt),
            before: None,
        }
    }

    fn binding_call(&self, operation: &'static str, call: &BindingCall<'_>) -> Call {
        Call {
            id: call.binding_id.to_owned(),
            state: value(call.state),
            parameters: value(call.parameters),
            predecessor: call.predecessor_binding_id.map(str::to_owned),
            ..self.call(operation, &call.instance)
        }
    }
}

impl Adapter for OfPlan {
    fn is_async(&self, operation: Kind) -> bool {
        let told = self.fake.0.lock().unwrap();
        told.asynchronous.contains(&operation)
    }

    fn timeout(&self, _: Kind) -> Duration {
        let told = self.fake.0.lock().unwrap();
        told.timeout.unwrap_or(Duration::from_secs(600))
    }

    fn concurrency(&self) -> Option<usize> {
        self.fake.0.lock().unwrap().concurrency
    }

    fn provision(&self, call: &InstanceCall<'_>) -> Result<Provisioned, Failure> {
        self.fake.work(self.call("provision", call), call.run)?;
        Ok(Provisioned {
            dashboard_url: Some(format!("https://{}.example.com", self.plan)),
            state: map(json!({ "made": call.instance_id })),
            ..Provisioned::default()
        })
    }

    fn update(&self, call: &UpdateCall<'_>) -> Result<Provisioned, Failure> {
        let told = Call {
            before: Some((
                call.previous_plan_id.to_owned(),
                value(call.previous_parameters),
                value(call.changes),
            )),
            ..self.call("update", &call.instance)
        };
        self.fake.work(told, call.instance.run)?;
        Ok(Provisioned {
            dashboard_url: Some(format!("https://{}.example.com", self.plan)),
            ..Provisioned::default()
        })
    }

    fn deprovision(&self, call: &InstanceCall<'_>) -> Result<(), Failure> {
        self.fake.work(self.call("deprovision", call), call.run)
    }

    fn bind(&self, call: &BindingCall<'_>) -> Result<Bound, Failure> {
        let told = self.binding_call("bind", call);
        self.fake.work(told, call.instance.run)?;
        Ok(Bound {
            state: map(json!({ "granted": call.binding_id })),
            ..Bound::credentials([("user", call.binding_id)])
        })
    }

    fn unbind(&self, call: &BindingCall<'_>) -> Result<(), Failure> {
        let told = self.binding_call("unbind", call);
        self.fake.work(told, call.instance.run)
    }
}

/// [`SERVICE`] with these of the [`PLANS`], which may do everything, fulfilled by the fake.
pub fn offer(plans: &[&'static str], fake: &Fake) -> Plans {
    let plan =
        |id: &&str| json!({ "id": id, "name": id, "description": id, "binding_rotatable": true });
    let services = json!([{
        "id": SERVICE,
        "name": SERVICE,
        "description": "Files",
        "bindable": true,
        "plan_updateable": true,
        "instances_retrievable": true,
        "bindings_retrievable": true,
        "plans": plans.iter().map(plan).collect::<Value>(),
    }]);
    let services = serde_json::from_value(services).unwrap();
    let catalog = Catalog::new(services, SystemTime::now());
    let fulfilment = |plan: &'static str| Fulfilment {
        kind: "fake".to_owned(),
        adapter: Arc::new(OfPlan {
            plan,
            fake: fake.clone(),
        }),
        requires_app: false,
    };
    let fulfilments = plans
        .iter()
        .map(|plan| (plan.to_string(), fulfilment(plan)));
    Plans::new(catalog, fulfilments.collect())
}
