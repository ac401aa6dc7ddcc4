//! `brokerlet state check`, `compact` and `forget`.

use super::amend::line;
use super::names::Names;
use super::records::{Found, ids, record_of};
use super::{Failed, counted, print, refused};
use crate::config;
use crate::store::inspect::Inspect;
use crate::store::sealed::sealed_with;
use crate::store::{Key, Outcome};

use serde_json::json;
use std::collections::HashSet;
use std::io::{IsTerminal as _, stdin};
use std::ops::ControlFlow;
use std::path::Path;

/// One line for each fault: of the file, of a record, of what belongs together. Fails if there is any.
pub(super) fn check(store: &dyn Inspect, catalog: Option<&Path>, json: bool) -> Result<(), Failed> {
    let names = Names::load(catalog)?;
    let keys = config::seal_keys(&|name| std::env::var(name).ok()).map_err(Failed::Config)?;
    let (mut faults, mut closed) = (0, 0);
    let mut fault = |key: Option<&Key>, what: &str| {
        faults += 1;
        let (instance_id, binding_id) = key.map_or((None, None), |key| {
            let (instance_id, binding_id) = ids(key);
            (Some(instance_id), binding_id)
        });
        let line = match (json, instance_id, binding_id) {
            (true, ..) => {
                let mut line = json!({ "fault": what });
                for (field, id) in [("instance_id", instance_id), ("binding_id", binding_id)] {
                    if let Some(id) = id {
                        line[field] = id.into();
                    }
                }
                line.to_string()
            }
            (_, Some(instance), Some(binding)) => {
                format!("service binding {binding:?} of service instance {instance:?}: {what}")
            }
            (_, Some(instance), None) => format!("service instance {instance:?}: {what}"),
            (_, None, _) => format!("the file: {what}"),
        };
        print(&format!("{line}\n"));
    };
    for complaint in store.check()? {
        fault(None, &complaint);
    }
    let (mut instances, mut bindings) = (HashSet::new(), 0);
    store.each(&mut |key, record, open| {
        let found = Found::parse(&record.body);
        match &keys {
            Some(keys) => {
                if let Err(error) = keys.open(&key, record.body) {
                    fault(Some(&key), &error.message);
                }
            }
            None => closed += usize::from(sealed_with(&record.body).is_some()),
        }
        match (&key, found) {
            (_, Found::Unreadable(why)) => {
                fault(Some(&key), &format!("the record cannot be read: {why}"))
            }
            (_, Found::Tombstone(_)) => {}
            (key, Found::Record(shown)) => {
                let in_progress = shown.text("/operation/state") == Some("in progress");
                if in_progress != open {
                    fault(
                        Some(key),
                        "whether an operation is in progress is said in two ways",
                    );
                }
                let plan_id = shown.text("/plan_id").unwrap_or_default();
                match key {
                    Key::Instance(id) => {
                        instances.insert(id.clone());
                        if names.is_known() && names.of(plan_id).is_none() {
                            fault(
                                Some(key),
                                &format!("its plan {plan_id:?} is not in the catalog"),
                            );
                        }
                    }
                    Key::Binding(instance_id, _) => {
                        bindings += 1;
                        if !instances.contains(instance_id) {
                            fault(Some(key), "there is no such service instance");
                        }
                    }
                }
            }
        }
        ControlFlow::Continue(())
    })?;
    if closed > 0 {
        let what = counted(closed, "record");
        eprintln!(
            "brokerlet: BROKER_SEAL_KEYS is not set, so whether {what} can be opened was not looked at"
        );
    }
    match faults {
        0 => {
            if !json {
                let instances = counted(instances.len(), "service instance");
                print(&format!(
                    "{instances}, {}: no faults\n",
                    counted(bindings, "binding")
                ));
            }
            Ok(())
        }
        count => Err(Failed::No(counted(count, "fault"))),
    }
}

/// Gives the space back that nothing is in.
pub(super) fn compact(store: &dyn Inspect) -> Result<(), Failed> {
    let compacted = store.compact();
    compacted.map_err(|refusal| refused(store, "compact", refusal))?;
    eprintln!("brokerlet: {}: compacted", store.describe());
    Ok(())
}

/// Removes the records of an instance and its bindings. No adapter is called: for what a person has cleaned up.
pub(super) fn forget(store: &dyn Inspect, id: &str, yes: bool) -> Result<(), Failed> {
    let key = Key::instance(id);
    let record = record_of(store, &key)?;
    let found = store.bindings(id)?;
    let records = found
        .iter()
        .map(|(binding, record)| (Key::binding(id, binding), record));
    for (key, record) in records.chain([(key.clone(), &record)]) {
        let in_progress = matches!(
            Found::parse(&record.body),
            Found::Record(shown) if shown.text("/operation/state") == Some("in progress")
        );
        if in_progress && store.is_worked_on(&key)? {
            let (_, binding) = ids(&key);
            let binding = binding.map_or(String::new(), |id| format!(", its binding {id:?}"));
            return Err(Failed::Unusable(format!(
                "service instance {id:?}{binding}: a broker is working on it; nothing was changed"
            )));
        }
    }
    let bindings = counted(found.len(), "binding");
    if !yes {
        if !stdin().is_terminal() {
            return Err(Failed::Usage(
                "state forget: nobody can be asked here; wanted --yes".to_owned(),
            ));
        }
        eprint!(
            "Forget service instance {id:?} and {bindings}? No adapter is called: what they have made elsewhere stays. \
             Type yes: "
        );
        let mut answer = String::new();
        let read = stdin().read_line(&mut answer);
        if read.is_err() || answer.trim() != "yes" {
            return Err(Failed::No("nothing was changed".to_owned()));
        }
    }
    let instance = serde_json::from_slice(&record.body).ok();
    let line = instance.and_then(|instance| line(&key, &instance, "forget"));
    match store.forget((id, record.revision), &found, line)? {
        Outcome::Committed(_) => {
            eprintln!("brokerlet: service instance {id:?} and {bindings} are forgotten");
            Ok(())
        }
        // Of a database: a file is ours alone.
        Outcome::Conflict => Err(Failed::Unusable(format!(
            "service instance {id:?}: it or its bindings have changed meanwhile; nothing was changed, try again"
        ))),
    }
}
