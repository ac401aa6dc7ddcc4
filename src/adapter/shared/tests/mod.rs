mod lifetime;
mod random;
mod rendering;
mod served;
mod settings;

use super::*;
use crate::adapter::settings::tests::{offering, probe};
use crate::adapter::{FailureKind, Origin, Run};
use crate::catalog::Service;
use crate::json::{Object, to_raw};

use serde_json::{Map, Value, json};
use std::time::{Duration, UNIX_EPOCH};

/// A service offering that may do everything.
fn permitted() -> Service {
    let requires = json!({"requires": ["syslog_drain", "route_forwarding", "volume_mount"]});
    offering(requires, json!({}))
}

fn read(adapter: &Value, service: &Service) -> (Shared, Vec<String>) {
    let (shared, findings) = probe(adapter, service, Shared::from_settings);
    (shared.unwrap(), findings)
}

/// The findings for the section `binding`, without the beginning of their place.
fn findings_of(binding: Value) -> Vec<String> {
    let findings = read(&json!({"binding": binding}), &permitted()).1;
    let short = |line: &String| line.replace("services[0].plans[0].adapter.", "");
    findings.iter().map(short).collect()
}

#[derive(Default)]
struct Given {
    parameters: Value,
    context: Value,
    state: Value,
}

impl Given {
    fn parameters(parameters: Value) -> Given {
        Given {
            parameters,
            ..Given::default()
        }
    }

    /// Calls `f` for an instance of the offering's first plan.
    fn call<T>(&self, service: &Service, f: impl FnOnce(&InstanceCall<'_>) -> T) -> T {
        let raws =
            [&self.parameters, &self.context, &self.state].map(|value| to_raw(value).unwrap());
        f(&InstanceCall {
            instance_id: "i-1",
            service,
            plan: &service.plans[0],
            organization_guid: "",
            space_guid: "",
            parameters: Object::new(Some(&raws[0])),
            context: Object::new(Some(&raws[1])),
            state: Object::new(Some(&raws[2])),
            origin: Origin::default(),
            run: Run::alone("op", Duration::from_secs(1)),
        })
    }

    fn bind_at(&self, shared: &Shared, now: SystemTime) -> Result<Bound, Failure> {
        self.call(&permitted(), |instance| {
            let call = BindingCall {
                instance: *instance,
                binding_id: "b-1",
                app_guid: None,
                bind_resource: Object::default(),
                parameters: Object::default(),
                context: Object::default(),
                predecessor_binding_id: None,
                state: Object::default(),
            };
            shared.binding.render(&call, now)
        })
    }

    fn bind(&self, binding: Value) -> Result<Bound, Failure> {
        let (shared, findings) = read(&json!({"binding": binding}), &permitted());
        assert_eq!(findings, [""; 0]);
        self.bind_at(&shared, SystemTime::now())
    }

    fn provision(&self, instance: Value) -> Result<Provisioned, Failure> {
        let service = permitted();
        let (shared, findings) = read(&json!({"instance": instance}), &service);
        assert_eq!(findings, [""; 0]);
        self.call(&service, |call| shared.provision(call))
    }

    fn update(&self, instance: Value) -> Result<Provisioned, Failure> {
        let service = permitted();
        let (shared, findings) = read(&json!({"instance": instance}), &service);
        assert_eq!(findings, [""; 0]);
        self.call(&service, |instance| {
            shared.update(&UpdateCall {
                instance: *instance,
                changes: Object::default(),
                previous_parameters: Object::default(),
                previous_plan_id: "p0",
            })
        })
    }
}

fn bound(binding: Value) -> Bound {
    Given::default().bind(binding).unwrap()
}

fn refused(given: Value, binding: Value) -> Failure {
    Given::parameters(given).bind(binding).unwrap_err()
}

fn mount(changes: Value) -> Value {
    let mut mount = json!({
        "driver": "nfs", "container_dir": "/data", "mode": "rw", "device_type": "shared", "device": {"volume_id": "v"}
    });
    let changes = changes.as_object().unwrap().clone();
    mount.as_object_mut().unwrap().extend(changes);
    mount
}
