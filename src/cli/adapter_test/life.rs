//! What a broker does with a plan, and what is wanted of its adapter.

use super::calls::{Made, Operation, Subject};
use crate::adapter::{Bound, Failure, FailureKind, Provisioned};
use crate::catalog::Service;

use std::time::{Duration, Instant};

/// Lives a life of the plan, and returns how many calls did not do what they must. What can be deleted is deleted at the
/// end, whatever happens before.
pub fn live(subject: &Subject<'_>) -> usize {
    let mut life = Life { subject, broken: 0 };
    if let Err(failure) = life.live() {
        subject.screen.begin("adapter-test");
        life.failed(&failure);
    }
    life.broken
}

struct Life<'a> {
    subject: &'a Subject<'a>,
    broken: usize,
}

impl<'a> Life<'a> {
    /// An error is the tester's own.
    fn live(&mut self) -> Result<(), Failure> {
        let subject = self.subject;
        let mut instance = subject.new_instance()?;
        let operation = Operation::new()?;
        let begun = Instant::now();
        let first = self.step("provision", || subject.provision(&instance, &operation));
        let pace = begun.elapsed();
        let is_made = first.is_some();
        if let Some(first) = first {
            // The broker has not heard the answer, so it calls again and has no state yet.
            if self.goes_on() {
                self.repeat_provision(&instance, &operation.again(), &first);
            }
            instance.keep(first.state);
            if self.goes_on() && subject.plan.is_bindable() {
                self.bindings(&instance)?;
            }
            if self.goes_on() {
                self.update(&mut instance)?;
            }
        }
        self.twice("deprovision", |operation| {
            subject.deprovision(&instance, operation)
        })?;
        if is_made && self.goes_on() {
            self.killed(pace)?;
        }
        if !self.goes_on() {
            return Ok(());
        }
        let never = subject.new_instance()?;
        let operation = Operation::new()?;
        self.step("deprovision of an instance that was never made", || {
            subject.deprovision(&never, &operation)
        });
        Ok(())
    }

    fn repeat_provision(&mut self, instance: &Made, again: &Operation, first: &Provisioned) {
        self.subject.begin("provision again");
        match self.subject.provision(instance, again) {
            Err(failure) => self.failed(&failure),
            Ok(second) => match difference(first, &second) {
                None => self.subject.screen.good(),
                Some(what) => self.bad(&format!(
                    "the repeat returned another {what:?} than the first call: it must find what is there, and say the same"
                )),
            },
        }
    }

    fn bindings(&mut self, instance: &Made) -> Result<(), Failure> {
        let subject = self.subject;
        let mut binding = subject.new_binding()?;
        let operation = Operation::new()?;
        let bind = |operation: &Operation| subject.bind(instance, &binding, operation);
        let first = self.step_checked(
            "bind",
            || bind(&operation),
            |bound| unbindable(subject.service, bound),
        );
        let second = match first {
            // Repeated credentials may be new ones: nobody has heard of the first.
            Some(_) if self.goes_on() => self.step("bind again", || bind(&operation.again())),
            _ => None,
        };
        binding.keep(second.or(first).and_then(|bound| bound.state));
        self.twice("unbind", |operation| {
            subject.unbind(instance, &binding, operation)
        })?;
        if !self.goes_on() {
            return Ok(());
        }
        let never = subject.new_binding()?;
        let operation = Operation::new()?;
        self.step("unbind of a binding that was never made", || {
            subject.unbind(instance, &never, &operation)
        });
        Ok(())
    }

    fn update(&mut self, instance: &mut Made) -> Result<(), Failure> {
        let subject = self.subject;
        let operation = Operation::new()?;
        self.subject.begin("update");
        match self.subject.update(instance, &operation) {
            Err(failure) if failure.kind == FailureKind::Unsupported => {
                self.subject.screen.skipped(&failure.description);
            }
            Err(failure) => self.failed(&failure),
            Ok(_) => {
                self.subject.screen.good();
                let again = self.step("update again", || {
                    subject.update(instance, &operation.again())
                });
                subject.keep_updated(instance, again.and_then(|updated| updated.state));
            }
        }
        Ok(())
    }

    /// A provision that is cut off, and then either called again or taken back.
    fn killed(&mut self, pace: Duration) -> Result<(), Failure> {
        let subject = self.subject;
        for is_repeated in [true, false] {
            if !self.goes_on() {
                return Ok(());
            }
            let Some((mut instance, operation)) = self.kill(pace)? else {
                return Ok(());
            };
            if is_repeated && self.goes_on() {
                let repeated = self.step("provision again after the kill", || {
                    subject.provision(&instance, &operation.again())
                });
                instance.keep(repeated.and_then(|provisioned| provisioned.state));
            }
            let operation = Operation::new()?;
            let name = if is_repeated {
                "deprovision"
            } else {
                "deprovision after a kill, without state"
            };
            self.step(name, || subject.deprovision(&instance, &operation));
        }
        Ok(())
    }

    /// Kills a provision in the middle. `None` if that cannot be done.
    fn kill(&mut self, pace: Duration) -> Result<Option<(Made, Operation)>, Failure> {
        let subject = self.subject;
        subject.begin("provision, killed in the middle");
        // The middle of the first one may be the end of this one: then a little earlier.
        for part in [2, 4, 8, 64] {
            let (instance, operation) = (subject.new_instance()?, Operation::new()?);
            subject.tape.rewind();
            subject.tape.kill_after(Some(pace / part));
            let result = subject.provision(&instance, &operation);
            subject.tape.kill_after(None);
            if !subject.tape.recorded().is_program {
                subject.screen.skipped("there is no program to kill");
                subject.deprovision(&instance, &Operation::new()?)?;
                return Ok(None);
            }
            match result {
                Err(_) if subject.tape.recorded().is_killed => {
                    subject.screen.good();
                    return Ok(Some((instance, operation)));
                }
                Err(failure) => {
                    self.failed(&failure);
                    return Ok(Some((instance, operation)));
                }
                Ok(provisioned) => {
                    let mut instance = instance;
                    instance.keep(provisioned.state);
                    subject.deprovision(&instance, &Operation::new()?)?;
                }
            }
        }
        subject.screen.skipped("it is too fast to be killed");
        Ok(None)
    }

    /// The same call, twice: the broker has not heard the first answer.
    fn twice(
        &mut self,
        name: &str,
        call: impl Fn(&Operation) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let operation = Operation::new()?;
        let first = self.step(name, || call(&operation));
        if first.is_some() && self.goes_on() {
            self.step(&format!("{name} again"), || call(&operation.again()));
        }
        Ok(())
    }

    fn step<T>(&mut self, name: &str, call: impl FnOnce() -> Result<T, Failure>) -> Option<T> {
        self.step_checked(name, call, |_| None)
    }

    /// Makes a call, and shows how it went; `complaint` says what is wrong with its result.
    fn step_checked<T>(
        &mut self,
        name: &str,
        call: impl FnOnce() -> Result<T, Failure>,
        complaint: impl FnOnce(&T) -> Option<String>,
    ) -> Option<T> {
        self.subject.begin(name);
        let made = match call() {
            Ok(made) => made,
            Err(failure) => {
                self.failed(&failure);
                return None;
            }
        };
        match complaint(&made) {
            None => self.subject.screen.good(),
            Some(text) => self.bad(&text),
        }
        Some(made)
    }

    /// Whether nobody has interrupted it: then only what was made is still deleted.
    fn goes_on(&self) -> bool {
        !self.subject.interrupt.is_interrupted()
    }

    fn failed(&mut self, failure: &Failure) {
        if !self.goes_on() {
            self.subject.screen.skipped("interrupted");
            return;
        }
        let mut lines = vec![format!("the user reads: {}", failure.description)];
        if let Some(detail) = &failure.detail {
            lines.push(format!("the log says: {detail}"));
        }
        self.show(lines);
    }

    fn bad(&mut self, what: &str) {
        self.show(vec![what.to_owned()]);
    }

    fn show(&mut self, lines: Vec<String>) {
        self.broken += 1;
        let recorded = self.subject.tape.recorded();
        self.subject.screen.bad(lines, &recorded);
    }
}

/// What of an instance is not the same.
fn difference(first: &Provisioned, second: &Provisioned) -> Option<&'static str> {
    if first.dashboard_url != second.dashboard_url {
        Some("dashboard_url")
    } else if first.metadata != second.metadata {
        Some("metadata")
    } else if first.state != second.state {
        Some("state")
    } else {
        None
    }
}

/// What a platform would refuse of a binding.
fn unbindable(service: &Service, bound: &Bound) -> Option<String> {
    let needs = [
        (
            bound.syslog_drain_url.is_some(),
            "syslog_drain_url",
            "syslog_drain",
        ),
        (
            bound.route_service_url.is_some(),
            "route_service_url",
            "route_forwarding",
        ),
        (
            bound.volume_mounts.is_some(),
            "volume_mounts",
            "volume_mount",
        ),
    ];
    let requires = service.requires.as_deref().unwrap_or_default();
    let mut missing = needs.iter().filter(|(is_there, _, permission)| {
        *is_there && !requires.iter().any(|known| known == permission)
    });
    missing.next().map(|(_, field, permission)| {
        format!(
            "it returned {field}, which platforms refuse unless the service offering has \"requires\": [\"{permission}\"]"
        )
    })
}
