//! A broker without sockets: its answers as values.

use super::{Fake, PATIENCE, PLANS, SERVICE, offer};

use brokerlet::broker::error::Error as Refused;
use brokerlet::broker::{Answer, Broker, Caller};
use brokerlet::store::Store;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A broker without sockets.
pub struct Api(pub Arc<Broker>, Arc<AtomicBool>);

/// A platform that polls where it is told to.
fn polls() -> Caller<'static> {
    Caller {
        accepts_incomplete: true,
        ..Caller::default()
    }
}

/// Status and body, of successes and errors alike.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    pub status: u16,
    pub body: Value,
    pub retry_after: Option<u32>,
}

impl From<Result<Answer, Refused>> for Answered {
    fn from(result: Result<Answer, Refused>) -> Answered {
        match result {
            Ok(answer) => Answered {
                status: answer.status,
                body: serde_json::from_slice(&answer.body).unwrap(),
                retry_after: answer.retry_after,
            },
            Err(error) => Answered {
                status: error.status,
                body: serde_json::to_value(&error).unwrap(),
                retry_after: error.retry_after,
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
    /// A broker on a store that is not a shelf; it has recovered.
    pub fn on(store: Box<dyn Store>, fake: &Fake) -> Api {
        Api::new(store, &PLANS, fake, Arc::default())
    }

    /// A broker offering some of the plans; once `cut` is set, it is to reach its store no more.
    pub(super) fn new(
        store: Box<dyn Store>,
        plans: &[&'static str],
        fake: &Fake,
        cut: Arc<AtomicBool>,
    ) -> Api {
        let broker = Broker::new(offer(plans, fake), store);
        broker.recover().unwrap();
        Api(broker, cut)
    }

    /// Stops the broker and waits until its last thread has let go of the store.
    pub fn close(self, finish: Instant, end: Instant) {
        assert!(self.0.stop(finish, end));
        self.wait_for_threads();
    }

    /// Waits until no thread of the queue is left.
    pub fn wait_for_threads(&self) {
        let end = Instant::now() + PATIENCE;
        while Arc::strong_count(&self.0) > 1 {
            assert!(Instant::now() < end, "a thread still holds the broker");
            thread::yield_now();
        }
    }

    /// Ends the broker as kill -9 does: it reads and writes nothing any more. Calls of adapters are not ended.
    pub fn kill(self) {
        self.1.store(true, Ordering::SeqCst);
        self.0.finish();
    }

    pub fn provision(&self, id: &str, body: &Value) -> Answered {
        let body = body.to_string();
        self.0.provision(id, body.as_bytes(), polls()).into()
    }

    pub fn fetch(&self, id: &str) -> Answered {
        self.0.fetch_instance(id, None, None, polls()).into()
    }

    /// Polls until the operation has ended, as platforms do.
    #[track_caller]
    pub fn ended(&self, poll: impl Fn() -> Answered) -> Answered {
        let end = Instant::now() + PATIENCE;
        loop {
            let answered = poll();
            if answered.body["state"] != "in progress" {
                return answered;
            }
            assert!(Instant::now() < end, "still {}", answered.body);
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn poll_operation(&self, id: &str, operation: &str) -> Answered {
        self.0
            .poll_instance(id, None, None, Some(operation), polls())
            .into()
    }

    pub fn poll_binding_operation(&self, instance: &str, id: &str, operation: &str) -> Answered {
        self.0
            .poll_binding(instance, id, None, None, Some(operation), polls())
            .into()
    }

    pub fn poll(&self, id: &str) -> Answered {
        self.0.poll_instance(id, None, None, None, polls()).into()
    }

    /// `body` without the service_id, which is [`SERVICE`].
    pub fn update(&self, id: &str, body: &Value) -> Answered {
        let mut body = body.clone();
        body["service_id"] = json!(SERVICE);
        let body = body.to_string();
        self.0.update(id, body.as_bytes(), polls()).into()
    }

    pub fn deprovision(&self, id: &str, plan: &str) -> Answered {
        self.0.deprovision(id, SERVICE, plan, polls()).into()
    }

    pub fn bind(&self, instance: &str, id: &str, body: &Value) -> Answered {
        let body = body.to_string();
        self.0.bind(instance, id, body.as_bytes(), polls()).into()
    }

    pub fn fetch_binding(&self, instance: &str, id: &str) -> Answered {
        self.0
            .fetch_binding(instance, id, None, None, polls())
            .into()
    }

    pub fn poll_binding(&self, instance: &str, id: &str) -> Answered {
        self.0
            .poll_binding(instance, id, None, None, None, polls())
            .into()
    }

    pub fn unbind(&self, instance: &str, id: &str, plan: &str) -> Answered {
        self.0.unbind(instance, id, SERVICE, plan, polls()).into()
    }
}
