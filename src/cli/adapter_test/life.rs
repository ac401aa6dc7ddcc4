//! What a broker does with a plan, and what is wanted of its adapter.

use super::calls::{Made, Operation, Subject};
use crate::adapter::{Bound, Failure, FailureKind, Kind, Provisioned};
use crate::catalog::Service;

use serde_json::Value;
use std::time::{Duration, Instant};

/// Lives a life of the plan, and returns how many calls did not do what they must. What can be deleted is deleted at the
/// end, whatever happens before.
pub fn live(subject: &Subject<'_>) -> usize {
    let mut life = Life {
        subject,
        broken: 0,
        left_out: Vec::new(),
    };
    if let Err(failure) = life.live() {
        subject.screen.begin("adapter-test");
        life.failed(&failure);
    }
    if life.goes_on() {
        subject.screen.left_out(&life.left_out);
    }
    life.broken
}

struct Life<'a> {
    subject: &'a Subject<'a>,
    broken: usize,
    /// The calls that had no sense after one that failed.
    left_out: Vec<String>,
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
        } else {
            self.leave_out("provision again");
            if subject.plan.is_bindable() {
                self.leave_out("bind");
                self.leave_out("unbind");
            }
            self.leave_out("update");
            self.leave_out(subject.cut.name);
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
                None => self.subject.screen.good(None),
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
        subject.begin("bind");
        let first = match bind(&operation) {
            Ok(bound) => {
                match unbindable(subject.service, &bound) {
                    Some(text) => self.bad(&text),
                    None => subject.screen.good(says_nothing(&bound)),
                }
                Some(bound)
            }
            Err(failure) => {
                self.failed(&failure);
                self.leave_out("bind again");
                None
            }
        };
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
            Err(failure) => {
                self.failed(&failure);
                self.leave_out("update again");
            }
            Ok(_) => {
                self.subject.screen.good(None);
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
                let repeated = self.step(subject.cut.again, || {
                    subject.provision(&instance, &operation.again())
                });
                instance.keep(repeated.and_then(|provisioned| provisioned.state));
            }
            let operation = Operation::new()?;
            let name = if is_repeated {
                "deprovision"
            } else {
                subject.cut.without_state
            };
            self.step(name, || subject.deprovision(&instance, &operation));
        }
        Ok(())
    }

    /// Kills a provision in the middle. `None` if that cannot be done.
    fn kill(&mut self, pace: Duration) -> Result<Option<(Made, Operation)>, Failure> {
        let subject = self.subject;
        subject.begin(subject.cut.name);
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
                    subject.screen.good(None);
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
        subject.screen.skipped(subject.cut.too_fast);
        Ok(None)
    }

    /// The same call, twice: the broker has not heard the first answer.
    fn twice(
        &mut self,
        name: &str,
        call: impl Fn(&Operation) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let operation = Operation::new()?;
        let again = format!("{name} again");
        match self.step(name, || call(&operation)) {
            Some(()) if self.goes_on() => {
                self.step(&again, || call(&operation.again()));
            }
            Some(()) => {}
            None => self.leave_out(&again),
        }
        Ok(())
    }

    /// Makes a call, and shows how it went.
    fn step<T>(&mut self, name: &str, call: impl FnOnce() -> Result<T, Failure>) -> Option<T> {
        self.subject.begin(name);
        match call() {
            Ok(made) => {
                self.subject.screen.good(None);
                Some(made)
            }
            Err(failure) => {
                self.failed(&failure);
                None
            }
        }
    }

    fn leave_out(&mut self, name: &str) {
        self.left_out.push(name.to_owned());
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
        lines.extend(hint(self.subject.called.get(), failure));
        self.show(lines);
    }

    fn bad(&mut self, what: &str) {
        self.show(vec![what.to_owned()]);
    }

    fn show(&mut self, lines: Vec<String>) {
        self.broken += 1;
        let recorded = self.subject.tape.recorded();
        let output = self.subject.cut.output;
        self.subject.screen.bad(lines, output, &recorded);
    }
}

/// How to give parameters, where they are most probably what is wrong: users would get a 400.
fn hint(called: Option<Kind>, failure: &Failure) -> Option<String> {
    let (option, command) = match called? {
        Kind::Provision => ("--parameters", "create-service"),
        Kind::Update => ("--update-parameters", "update-service"),
        Kind::Bind => ("--bind-parameters", "bind-service"),
        Kind::Deprovision | Kind::Unbind => return None,
    };
    // What the platform says of the place is always there.
    if failure.kind != FailureKind::Invalid || failure.description.starts_with("context.") {
        return None;
    }
    let missing = failure.description.strip_prefix("parameters.");
    let missing = missing.and_then(|rest| rest.split_once(": missing"));
    let json = missing.map_or("JSON".to_owned(), |(path, _)| {
        let nested = path.rsplit('.').fold("…".to_owned(), |inner, name| {
            format!("{{{}: {inner}}}", Value::from(name))
        });
        format!("'{nested}'")
    });
    Some(format!(
        "hint: what users give with cf {command} -c is given here with {option} {json}"
    ))
}

/// A note on a binding that gives an app nothing at all.
fn says_nothing(bound: &Bound) -> Option<&'static str> {
    let has_credentials = bound.credentials.as_ref().is_some_and(|c| !c.is_empty());
    let is_for_the_platform = bound.syslog_drain_url.is_some()
        || bound.route_service_url.is_some()
        || bound.volume_mounts.is_some();
    (!has_credentials && !is_for_the_platform)
        .then_some("note: it returned no credentials, so the app learns nothing")
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
