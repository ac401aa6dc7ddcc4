//! `brokerlet state list`: which service instances there are.

use super::arguments::Filters;
use super::names::Names;
use super::records::{Found, Shown};
use super::{Failed, counted, print, printable};
use crate::store::Key;
use crate::store::inspect::Inspect;

use serde_json::Value;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::Path;

const COLUMNS: [&str; 7] = [
    "INSTANCE",
    "SERVICE",
    "PLAN",
    "ORGANIZATION",
    "SPACE",
    "LAST OPERATION",
    "UPDATED",
];

/// In the order of their ids: a line of JSON each, or a table with a count.
pub(super) fn list(
    store: &dyn Inspect,
    catalog: Option<&Path>,
    filters: &Filters,
    json: bool,
) -> Result<(), Failed> {
    let names = Names::load(catalog)?;
    if filters.orphaned && !names.is_known() {
        return Err(Failed::Usage(
            "state list: --orphaned compares with a catalog file; wanted --catalog FILE or BROKER_CATALOG".to_owned(),
        ));
    }
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    let mut unreadable = 0;
    store.each(&mut |key, record, _| {
        // Bindings come behind the instances.
        let Key::Instance(id) = &key else {
            return ControlFlow::Break(());
        };
        match Found::parse(&record.body) {
            Found::Record(shown) if filters.take(&shown, &names) => {
                let summary = shown.summary(&key, &names);
                if json {
                    print(&format!("{}\n", Value::Object(summary)));
                } else {
                    rows.push(row(id, &shown, &names));
                }
            }
            Found::Unreadable(_) => unreadable += 1,
            _ => {}
        }
        ControlFlow::Continue(())
    })?;
    if !json {
        let count = counted(rows.len() - 1, "service instance");
        print(&format!("{}{count}\n", table(&rows)));
    }
    if unreadable > 0 {
        let what = counted(unreadable, "record");
        eprintln!("brokerlet: {what} cannot be read; brokerlet state check names them");
    }
    Ok(())
}

fn row(id: &str, shown: &Shown, names: &Names) -> [String; 7] {
    let text = |place| shown.text(place).unwrap_or("-");
    let plan_id = text("/plan_id");
    let (service, plan) = names.of(plan_id).unwrap_or((text("/service_id"), plan_id));
    [
        id,
        service,
        plan,
        text("/organization_guid"),
        text("/space_guid"),
        &shown.operation(),
        shown.updated().unwrap_or("-"),
    ]
    .map(printable)
}

/// Columns below each other; the last one is as long as it is.
fn table(rows: &[[String; 7]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; 7] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let mut text = String::new();
    for row in rows {
        for (cell, width) in row.iter().zip(widths) {
            _ = write!(text, "{cell:width$}  ");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

impl Filters {
    fn take(&self, shown: &Shown, names: &Names) -> bool {
        let plan_id = shown.text("/plan_id").unwrap_or_default();
        let name = names.of(plan_id);
        let is = |wanted: &Option<String>, found: [Option<&str>; 2]| {
            wanted
                .as_deref()
                .is_none_or(|wanted| found.contains(&Some(wanted)))
        };
        let state = shown.text("/operation/state");
        is(
            &self.service,
            [shown.text("/service_id"), name.map(|(service, _)| service)],
        ) && is(&self.plan, [Some(plan_id), name.map(|(_, plan)| plan)])
            && is(
                &self.organization,
                [
                    shown.text("/organization_guid"),
                    shown.text("/context/organization_name"),
                ],
            )
            && is(
                &self.space,
                [shown.text("/space_guid"), shown.text("/context/space_name")],
            )
            && (!self.failed || state == Some("failed"))
            && (!self.in_progress || state == Some("in progress"))
            && (!self.orphaned || name.is_none())
            && (!self.kept || shown.text("/kept/until").is_some())
            && (!self.protected || shown.text("/protected/since").is_some())
    }
}
