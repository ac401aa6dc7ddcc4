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
    let compares = [
        ("--orphaned", filters.orphaned),
        ("--behind", filters.behind),
    ];
    if let Some((option, _)) = compares.iter().find(|(_, is_said)| *is_said)
        && !names.is_known()
    {
        return Err(Failed::Usage(format!(
            "state list: {option} compares with a catalog file; wanted --catalog FILE or BROKER_CATALOG"
        )));
    }
    let mut rows = vec![COLUMNS.map(str::to_owned).to_vec()];
    if filters.behind {
        rows[0].push("VERSION".to_owned());
    }
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
                    rows.push(row(id, &shown, &names, filters.behind));
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

fn row(id: &str, shown: &Shown, names: &Names, versions: bool) -> Vec<String> {
    let text = |place| shown.text(place).unwrap_or("-");
    let plan_id = text("/plan_id");
    let (service, plan) = names.of(plan_id).unwrap_or((text("/service_id"), plan_id));
    let cells = [
        id,
        service,
        plan,
        text("/organization_guid"),
        text("/space_guid"),
        &shown.operation(),
        shown.updated().unwrap_or("-"),
    ];
    let mut row = cells.map(printable).to_vec();
    if versions {
        let (own, plan) = (text("/maintenance_version"), shown.behind(names));
        row.push(printable(&format!("{own}, plan {}", plan.unwrap_or("-"))));
    }
    row
}

/// Columns below each other; the last one is as long as it is.
fn table(rows: &[Vec<String>]) -> String {
    let mut widths = Vec::new();
    for row in rows {
        widths.resize(row.len(), 0);
        for (cell, width) in row.iter().zip(&mut widths) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        for (cell, width) in row.iter().zip(&widths) {
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
            && (!self.behind || shown.behind(names).is_some())
            && (!self.kept || shown.text("/kept/until").is_some())
            && (!self.protected || shown.text("/protected/since").is_some())
    }
}
