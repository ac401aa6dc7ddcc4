//! An adapter with outside effects that does what the test tells it, and a store that fails when the test says so.

use brokerlet::adapter::settings::Fulfilment;
use brokerlet::adapter::{
    Adapter, BindingCall, Bound, Failure, InstanceCall, Provisioned, UpdateCall,
};
use brokerlet::broker::error::Error as Refused;
use brokerlet::broker::plans::Plans;
use brokerlet::broker::{Answer, Broker, Caller};
use brokerlet::catalog::Catalog;
use brokerlet::json::Object;
use brokerlet::store::memory::Memory;
use brokerlet::store::{Change, Error, Key, Outcome, Record, Store};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

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
    /// Of an update: the plan before it, the parameters before it, and those it changes.
    pub before: Option<(String, Value, Value)>,
}

enum Order {
    Fail(Failure),
    Panic,
    Hold(Sender<()>, Receiver<()>),
}

/// The adapters of the plans of [`offer`], seen from the test.
#[derive(Clone, Default)]
pub struct Fake(Arc<Mutex<Told>>);

#[derive(Default)]
struct Told {
    calls: Vec<Call>,
    orders: HashMap<&'static str, Vec<Order>>,
}

/// A call that stays in the adapter until the test lets it go on.
pub struct Held {
    entered: Receiver<()>,
    release: Sender<()>,
}

/// Longer than anything takes that is not broken.
const PATIENCE: Duration = Duration::from_secs(20);

impl Held {
    /// Waits until the adapter was called.
    pub fn entered(&self) {
        self.entered.recv_timeout(PATIENCE).unwrap();
    }

    pub fn release(&self) {
        self.release.send(()).unwrap();
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

    /// The next call of this operation is held.
    pub fn hold(&self, operation: &'static str) -> Held {
        let (entering, entered) = channel();
        let (release, released) = channel();
        self.order(operation, Order::Hold(entering, released));
        Held { entered, release }
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

    /// Obeys; what is held is released at the latest when the test is over, which then fails.
    fn obey(&self, call: Call) -> Result<(), Failure> {
        let operation = call.operation;
        let order = {
            let mut told = self.0.lock().unwrap();
            told.calls.push(call);
            told.orders.get_mut(operation).and_then(Vec::pop)
        };
        match order {
            None => Ok(()),
            Some(Order::Fail(failure)) => Err(failure),
            Some(Order::Panic) => panic!("the adapter panics, as it was told"),
            Some(Order::Hold(entered, released)) => {
                entered.send(()).unwrap();
                released.recv_timeout(PATIENCE).unwrap();
                Ok(())
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
    fn provision(&self, call: &InstanceCall<'_>) -> Result<Provisioned, Failure> {
        self.fake.obey(self.call("provision", call))?;
        Ok(Provisioned {
            dashboard_url: Some(format!("https://{}.example.com", self.plan)),
            state: map(json!({ "made": call.instance_id })),
            ..Provisioned::default()
        })
    }

    fn update(&self, call: &UpdateCall<'_>) -> Result<Provisioned, Failure> {
        self.fake.obey(Call {
            before: Some((
                call.previous_plan_id.to_owned(),
                value(call.previous_parameters),
                value(call.changes),
            )),
            ..self.call("update", &call.instance)
        })?;
        Ok(Provisioned {
            dashboard_url: Some(format!("https://{}.example.com", self.plan)),
            ..Provisioned::default()
        })
    }

    fn deprovision(&self, call: &InstanceCall<'_>) -> Result<(), Failure> {
        self.fake.obey(self.call("deprovision", call))
    }

    fn bind(&self, call: &BindingCall<'_>) -> Result<Bound, Failure> {
        self.fake.obey(self.binding_call("bind", call))?;
        Ok(Bound {
            state: map(json!({ "granted": call.binding_id })),
            ..Bound::credentials([("user", call.binding_id)])
        })
    }

    fn unbind(&self, call: &BindingCall<'_>) -> Result<(), Failure> {
        self.fake.obey(self.binding_call("unbind", call))
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
    Plans::new(catalog, fulfilments.collect()).unwrap()
}

/// A store in memory that outlives its broker, as a disk does, and that can fail.
#[derive(Clone, Default)]
pub struct Shelf(Arc<Inner>);

#[derive(Default)]
struct Inner {
    memory: Memory,
    commits: AtomicUsize,
    /// How many more commits succeed, and then how many fail.
    script: Mutex<Option<(usize, usize)>>,
    panics: AtomicBool,
}

impl Shelf {
    pub fn new() -> Shelf {
        Shelf::default()
    }

    /// A broker on what is in the store; it has recovered.
    pub fn broker(&self, fake: &Fake) -> Api {
        self.broker_offering(&PLANS, fake)
    }

    /// The same, with some of the plans only.
    pub fn broker_offering(&self, plans: &[&'static str], fake: &Fake) -> Api {
        let broker = Broker::new(offer(plans, fake), Box::new(self.clone()));
        broker.recover().unwrap();
        Api(broker)
    }

    /// So many commits succeed from now on, then so many fail, then all succeed again.
    pub fn fail(&self, after: usize, times: usize) {
        *self.0.script.lock().unwrap() = Some((after, times));
    }

    /// All commits succeed again.
    pub fn heal(&self) {
        *self.0.script.lock().unwrap() = None;
    }

    /// Whether reading panics.
    pub fn set_panics(&self, panics: bool) {
        self.0.panics.store(panics, Ordering::SeqCst);
    }

    /// How many commits succeeded since this was asked last.
    pub fn commits(&self) -> usize {
        self.0.commits.swap(0, Ordering::SeqCst)
    }

    fn fails(&self) -> bool {
        match &mut *self.0.script.lock().unwrap() {
            Some((after, _)) if *after > 0 => {
                *after -= 1;
                false
            }
            Some((_, times)) if *times > 0 => {
                *times -= 1;
                true
            }
            _ => false,
        }
    }
}

impl Store for Shelf {
    fn read(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, Error> {
        assert!(
            !self.0.panics.load(Ordering::SeqCst),
            "the store panics, as it was told"
        );
        self.0.memory.read(keys)
    }

    fn bindings(&self, instance_id: &str) -> Result<Vec<(String, Record)>, Error> {
        self.0.memory.bindings(instance_id)
    }

    fn open_operations(&self) -> Result<Vec<Key>, Error> {
        self.0.memory.open_operations()
    }

    fn commit(&self, changes: Vec<Change>) -> Result<Outcome, Error> {
        if self.fails() {
            return Err(Error {
                message: "the disk is full".to_owned(),
            });
        }
        let outcome = self.0.memory.commit(changes)?;
        if outcome != Outcome::Conflict {
            self.0.commits.fetch_add(1, Ordering::SeqCst);
        }
        Ok(outcome)
    }

    fn describe(&self) -> String {
        "shelf".to_owned()
    }
}

/// A broker without sockets.
pub struct Api(pub Arc<Broker>);

/// Status and body, of successes and errors alike.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    pub status: u16,
    pub body: Value,
}

impl From<Result<Answer, Refused>> for Answered {
    fn from(result: Result<Answer, Refused>) -> Answered {
        match result {
            Ok(answer) => Answered {
                status: answer.status,
                body: serde_json::from_slice(&answer.body).unwrap(),
            },
            Err(error) => Answered {
                status: error.status,
                body: serde_json::to_value(&error).unwrap(),
            },
        }
    }
}

impl Answered {
    /// The description of an error.
    pub fn description(&self) -> &str {
        self.body["description"].as_str().unwrap_or_default()
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// Asserts 422 ConcurrencyError, and that its description says this.
    #[track_caller]
    pub fn expect_busy(self, with: &str) {
        let body = self.expect(422);
        assert_eq!(body["error"], "ConcurrencyError");
        let description = body["description"].as_str().unwrap();
        assert!(description.contains(with), "{with:?} in {description:?}");
    }
}

impl Api {
    pub fn provision(&self, id: &str, body: &Value) -> Answered {
        let body = body.to_string();
        self.0
            .provision(id, body.as_bytes(), Caller::default())
            .into()
    }

    pub fn fetch(&self, id: &str) -> Answered {
        self.0.fetch_instance(id, None, None).into()
    }

    pub fn poll(&self, id: &str) -> Answered {
        self.0.poll_instance(id, None, None, None).into()
    }

    /// `body` without the service_id, which is [`SERVICE`].
    pub fn update(&self, id: &str, body: &Value) -> Answered {
        let mut body = body.clone();
        body["service_id"] = json!(SERVICE);
        let body = body.to_string();
        self.0.update(id, body.as_bytes(), Caller::default()).into()
    }

    pub fn deprovision(&self, id: &str, plan: &str) -> Answered {
        self.0
            .deprovision(id, SERVICE, plan, Caller::default())
            .into()
    }

    pub fn bind(&self, instance: &str, id: &str, body: &Value) -> Answered {
        let body = body.to_string();
        self.0
            .bind(instance, id, body.as_bytes(), Caller::default())
            .into()
    }

    pub fn fetch_binding(&self, instance: &str, id: &str) -> Answered {
        self.0.fetch_binding(instance, id, None, None).into()
    }

    pub fn poll_binding(&self, instance: &str, id: &str) -> Answered {
        self.0.poll_binding(instance, id, None, None, None).into()
    }

    pub fn unbind(&self, instance: &str, id: &str, plan: &str) -> Answered {
        self.0
            .unbind(instance, id, SERVICE, plan, Caller::default())
            .into()
    }
}
