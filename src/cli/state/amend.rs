//! `brokerlet state protect`, `unprotect` and `undelete`: second thoughts of an operator about an instance.

use super::records::{Found, Shown, record_of};
use super::{Failed, printable};
use crate::broker::protocol::audit::{self, Entry};
use crate::broker::protocol::instance::record::{Instance, Protection};
use crate::broker::protocol::operation::{Kind, Moment, Operation, Stamp, State};
use crate::store::inspect::Inspect;
use crate::store::{AuditLine, Change, Key, Outcome};

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use std::collections::BTreeMap;
use std::time::SystemTime;

/// The fields of a record, each as it is written there.
struct Fields(BTreeMap<String, Box<RawValue>>);

impl Fields {
    fn set(&mut self, name: &str, value: &impl Serialize) -> Result<(), Failed> {
        let value = to_raw_value(value);
        let value = value.map_err(|error| Failed::Unusable(format!("{name}: {error}")))?;
        self.0.insert(name.to_owned(), value);
        Ok(())
    }
}

/// From now on, the instance is not deprovisioned.
pub(super) fn protect(store: &dyn Inspect, id: &str, reason: Option<&str>) -> Result<(), Failed> {
    let protection = Protection {
        since: Moment(SystemTime::now()),
        reason: reason.map(str::to_owned),
    };
    amend(store, id, "protect", |shown, fields| {
        refuse_kept(id, shown)?;
        fields.set("protected", &protection)
    })?;
    said(id, "is protected from deletion");
    Ok(())
}

/// From now on, the instance may be deprovisioned.
pub(super) fn unprotect(store: &dyn Inspect, id: &str) -> Result<(), Failed> {
    amend(store, id, "unprotect", |_, fields| {
        match fields.0.remove("protected") {
            Some(_) => Ok(()),
            None => Err(no(id, "is not protected; nothing was changed")),
        }
    })?;
    said(id, "is protected no more");
    Ok(())
}

/// Brings an instance back that was deprovisioned and is kept.
pub(super) fn undelete(store: &dyn Inspect, id: &str) -> Result<(), Failed> {
    amend(store, id, "undelete", |shown, fields| {
        if shown.text("/kept/until").is_some() && shown.text("/operation/state") == Some("failed") {
            let what = "its removal was begun and has failed, so a part of it may be gone; nothing was changed";
            return Err(no(id, what));
        }
        if fields.0.remove("kept").is_none() {
            return Err(no(id, "is not deleted; nothing was changed"));
        }
        let operation = Operation::new(Kind::Provision, State::Succeeded);
        fields.set("operation", &operation)
    })?;
    said(id, "is back, without bindings");
    Ok(())
}

/// Changes the record of an instance on which no operation is in progress.
fn amend(
    store: &dyn Inspect,
    id: &str,
    what: &str,
    change: impl FnOnce(&Shown, &mut Fields) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let key = Key::instance(id);
    let record = record_of(store, &key)?;
    let shown = match Found::parse(&record.body) {
        Found::Record(shown) => shown,
        Found::Tombstone(since) => {
            return Err(no(id, &format!("was deleted at {since}, and is not kept")));
        }
        Found::Unreadable(why) => {
            return Err(unusable(id, &format!("the record cannot be read: {why}")));
        }
    };
    if shown.text("/operation/state") == Some("in progress") {
        let what = shown.text("/operation/kind").unwrap_or_default();
        let what =
            format!("{what} is in progress; nothing was changed, try again when that is done");
        return Err(unusable(id, &what));
    }
    // Not by way of a tree: what the platform gave is kept as it is written.
    let fields = serde_json::from_slice(&record.body);
    let mut fields = Fields(fields.map_err(|_| unusable(id, "the record cannot be read"))?);
    change(&shown, &mut fields)?;
    let body = serde_json::to_vec(&fields.0);
    let instance = serde_json::from_slice(&record.body).ok();
    let line = instance.and_then(|instance| line(&key, &instance, what));
    let put = Change::Put {
        key,
        revision: record.revision,
        body: body.map_err(|error| unusable(id, &error.to_string()))?,
        open: false,
    };
    let changes = [put].into_iter().chain(line.map(Change::Audit));
    match store.commit(changes.collect())? {
        Outcome::Committed(_) => Ok(()),
        Outcome::Conflict => Err(unusable(
            id,
            "it has changed meanwhile; nothing was changed, try again",
        )),
    }
}

/// The line of the audit trail about what an operator does to an instance, or a binding of it.
pub(super) fn line(key: &Key, instance: &Instance, what: &str) -> Option<AuditLine> {
    let operator = Stamp {
        at: Moment(SystemTime::now()),
        by: None,
        request_id: None,
        from: Some("operator".to_owned()),
    };
    let entry = Entry::of_instance(
        key,
        instance,
        what,
        audit::Outcome::Succeeded,
        Some(&operator),
    );
    entry.line(operator.at.0)
}

fn refuse_kept(id: &str, shown: &Shown) -> Result<(), Failed> {
    match shown.text("/kept/until") {
        None => Ok(()),
        Some(until) => Err(no(
            id,
            &format!(
                "was deleted, and is kept until {until}; brokerlet state undelete brings it back"
            ),
        )),
    }
}

fn no(id: &str, what: &str) -> Failed {
    Failed::No(format!("service instance {id:?}: {what}"))
}

fn unusable(id: &str, what: &str) -> Failed {
    Failed::Unusable(format!("service instance {id:?}: {what}"))
}

fn said(id: &str, what: &str) {
    eprintln!(
        "brokerlet: service instance {} {what}",
        printable(&format!("{id:?}"))
    );
}
