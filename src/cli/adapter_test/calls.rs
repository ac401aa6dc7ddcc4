//! The calls of a broker, made without one.

use super::Parameters;
use super::interrupt::Interrupt;
use super::screen::Screen;
use super::tape::Tape;
use crate::adapter::{
    Adapter, BindingCall, Bound, Failure, FailureKind, InstanceCall, Kind, Origin, Provisioned,
    Run, UpdateCall,
};
use crate::broker::protocol::instance::record::merged;
use crate::catalog::{Plan, Service};
use crate::json::{Object, to_raw};

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// The first pause before a call is repeated that asked for it; the next ones are longer.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A plan, and what is needed to try it.
pub struct Subject<'a> {
    pub service: &'a Service,
    pub plan: &'a Plan,
    pub adapter: &'a dyn Adapter,
    pub tape: &'a Tape,
    pub screen: &'a Screen,
    pub interrupt: &'a Interrupt,
    pub cut: &'static Cut,
    /// The operation that was called last.
    pub called: Cell<Option<Kind>>,
    parameters: &'a Parameters,
    context: Option<Box<RawValue>>,
    bind_resource: Option<Box<RawValue>>,
}

/// How a call is cut off in the middle, in words.
pub struct Cut {
    pub name: &'static str,
    pub again: &'static str,
    pub without_state: &'static str,
    pub too_fast: &'static str,
    /// Above what was said.
    pub output: &'static str,
}

impl Cut {
    /// Of this kind of adapter.
    pub fn of(kind: &str) -> &'static Cut {
        match kind {
            "http" => &Cut {
                name: "provision, with its connection cut in the middle",
                again: "provision again after the cut",
                without_state: "deprovision after a cut, without state",
                too_fast: "it is too fast to be cut off",
                output: "answer:",
            },
            _ => &Cut {
                name: "provision, killed in the middle",
                again: "provision again after the kill",
                without_state: "deprovision after a kill, without state",
                too_fast: "it is too fast to be killed",
                output: "standard output:",
            },
        }
    }
}

/// An instance or a binding, as a broker's record has it.
pub struct Made {
    pub id: String,
    pub state: Option<Box<RawValue>>,
    parameters: Option<Box<RawValue>>,
}

impl Made {
    fn new(parameters: &Option<Box<RawValue>>) -> Result<Made, Failure> {
        Ok(Made {
            id: format!("adapter-test-{}", random()?),
            state: None,
            parameters: parameters.clone(),
        })
    }

    /// Keeps what the adapter returned; what it leaves out stays.
    pub fn keep(&mut self, state: Option<Map<String, Value>>) {
        if let Some(state) = state {
            self.state = to_raw(&Value::Object(state));
        }
    }
}

/// One operation: its repeats carry the same id.
pub struct Operation {
    pub id: String,
    pub attempt: u32,
}

impl Operation {
    pub fn new() -> Result<Operation, Failure> {
        Ok(Operation {
            id: random()?,
            attempt: 1,
        })
    }

    pub fn again(&self) -> Operation {
        Operation {
            id: self.id.clone(),
            attempt: self.attempt + 1,
        }
    }
}

fn random() -> Result<String, Failure> {
    let mut bytes = [0; 8];
    crate::random::fill(&mut bytes)
        .map_err(|error| Failure::failed(format!("the system gives no random numbers: {error}")))?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}

impl<'a> Subject<'a> {
    pub fn new(
        service: &'a Service,
        plan: &'a Plan,
        (adapter, cut): (&'a dyn Adapter, &'static Cut),
        parameters: &'a Parameters,
        (tape, screen, interrupt): (&'a Tape, &'a Screen, &'a Interrupt),
    ) -> Subject<'a> {
        let context = json!({
            "platform": "cloudfoundry",
            "organization_guid": "adapter-test-organization", "organization_name": "adapter-test",
            "space_guid": "adapter-test-space", "space_name": "adapter-test", "instance_name": "adapter-test"
        });
        let bind_resource = json!({ "app_guid": APP, "space_guid": "adapter-test-space" });
        Subject {
            service,
            plan,
            adapter,
            tape,
            screen,
            interrupt,
            cut,
            called: Cell::new(None),
            parameters,
            context: to_raw(&context),
            bind_resource: to_raw(&bind_resource),
        }
    }

    /// An instance that is not made yet.
    pub fn new_instance(&self) -> Result<Made, Failure> {
        Made::new(&self.parameters.provision)
    }

    /// A binding that is not made yet.
    pub fn new_binding(&self) -> Result<Made, Failure> {
        Made::new(&self.parameters.bind)
    }

    /// Keeps what an update has made of an instance.
    pub fn keep_updated(&self, instance: &mut Made, state: Option<Map<String, Value>>) {
        instance.keep(state);
        instance.parameters = self.updated(instance);
    }

    fn updated(&self, instance: &Made) -> Option<Box<RawValue>> {
        merged(
            instance.parameters.as_deref(),
            self.parameters.update.as_deref(),
        )
    }

    /// Shows that a call begins, and records it.
    pub fn begin(&self, name: &str) {
        self.tape.rewind();
        self.screen.begin(name);
    }

    pub fn provision(
        &self,
        instance: &Made,
        operation: &Operation,
    ) -> Result<Provisioned, Failure> {
        self.call(Kind::Provision, operation, |run| {
            self.adapter.provision(&self.instance(instance, run))
        })
    }

    /// Without parameters it changes nothing, as Cloud Foundry sends one for a new name.
    pub fn update(&self, instance: &Made, operation: &Operation) -> Result<Provisioned, Failure> {
        let updated = self.updated(instance);
        self.call(Kind::Update, operation, |run| {
            self.adapter.update(&UpdateCall {
                instance: InstanceCall {
                    parameters: Object::new(updated.as_deref()),
                    ..self.instance(instance, run)
                },
                changes: Object::new(self.parameters.update.as_deref()),
                previous_parameters: Object::new(instance.parameters.as_deref()),
                previous_plan_id: &self.plan.id,
            })
        })
    }

    pub fn deprovision(&self, instance: &Made, operation: &Operation) -> Result<(), Failure> {
        self.call(Kind::Deprovision, operation, |run| {
            self.adapter.deprovision(&self.instance(instance, run))
        })
    }

    pub fn bind(
        &self,
        instance: &Made,
        binding: &Made,
        operation: &Operation,
    ) -> Result<Bound, Failure> {
        self.call(Kind::Bind, operation, |run| {
            self.adapter.bind(&self.binding(instance, binding, run))
        })
    }

    pub fn unbind(
        &self,
        instance: &Made,
        binding: &Made,
        operation: &Operation,
    ) -> Result<(), Failure> {
        self.call(Kind::Unbind, operation, |run| {
            self.adapter.unbind(&self.binding(instance, binding, run))
        })
    }

    fn instance<'c>(&'c self, instance: &'c Made, run: Run<'c>) -> InstanceCall<'c> {
        InstanceCall {
            instance_id: &instance.id,
            service: self.service,
            plan: self.plan,
            organization_guid: "adapter-test-organization",
            space_guid: "adapter-test-space",
            parameters: Object::new(instance.parameters.as_deref()),
            context: Object::new(self.context.as_deref()),
            state: Object::new(instance.state.as_deref()),
            origin: Origin::default(),
            run,
        }
    }

    fn binding<'c>(
        &'c self,
        instance: &'c Made,
        binding: &'c Made,
        run: Run<'c>,
    ) -> BindingCall<'c> {
        BindingCall {
            instance: self.instance(instance, run),
            binding_id: &binding.id,
            app_guid: Some(APP),
            bind_resource: Object::new(self.bind_resource.as_deref()),
            parameters: Object::new(binding.parameters.as_deref()),
            context: Object::new(self.context.as_deref()),
            predecessor_binding_id: None,
            state: Object::new(binding.state.as_deref()),
        }
    }

    /// Makes a call, and again with growing pauses while the adapter asks for it and there is time.
    fn call<T>(
        &self,
        kind: Kind,
        operation: &Operation,
        make: impl Fn(Run<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.called.set(Some(kind));
        let deadline = Instant::now() + self.adapter.timeout(kind);
        let cancel = self.interrupt.next_call();
        let (mut attempt, mut pause) = (operation.attempt, PAUSE);
        loop {
            let made = make(Run {
                id: &operation.id,
                attempt,
                deadline,
                progress: &|text| self.screen.progress(text),
                cancel: &cancel,
            });
            let wait = match made {
                Err(failure) if failure.kind == FailureKind::Again && !cancel.is_cancelled() => {
                    let wait = failure.retry_after.unwrap_or_default().max(pause);
                    if wait >= deadline.saturating_duration_since(Instant::now()) {
                        return Err(failure);
                    }
                    wait
                }
                made => return made,
            };
            let said = self.tape.recorded().messages.pop();
            let why = said.map_or_else(String::new, |line| format!(": {line}"));
            let shown = humantime::format_duration(wait);
            let text = format!("asks to be called again, in {shown}{why}");
            self.screen.progress(&text);
            cancel.wait_timeout(wait);
            pause = (pause * 2).min(LONGEST_PAUSE);
            attempt += 1;
        }
    }
}

const APP: &str = "adapter-test-app";
