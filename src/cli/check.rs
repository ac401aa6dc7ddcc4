//! `brokerlet check FILE`: whether a catalog file can be served, and how to register it.

use super::{load, print};
use crate::adapter::Kinds;
use crate::catalog::Service;
use crate::catalog::finding::Severity;

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// Prints the findings and, without errors, the commands. The exit code says whether there were errors.
pub fn run(path: &Path, kinds: &Kinds) -> ExitCode {
    let environment = |name: &str| std::env::var(name).ok();
    let (offered, findings) = load(Some(path), kinds, &environment);
    let file = path.display();
    let counts = format!(
        "{}, {}",
        counted(findings.count(Severity::Error), "error"),
        counted(findings.count(Severity::Warning), "warning")
    );
    let Some((catalog, _)) = offered else {
        print(&format!("{findings}{file}: {counts}\n"));
        return ExitCode::FAILURE;
    };
    let offered = || {
        catalog
            .services()
            .iter()
            .filter(|service| service.is_offered())
    };
    let plans = offered().map(|service| service.offered().count()).sum();
    print(&format!(
        "{findings}{file}: {counts}; offers {} with {}\n{}",
        counted(offered().count(), "service"),
        counted(plans, "plan"),
        register(&offered().collect::<Vec<_>>())
    ));
    ExitCode::SUCCESS
}

fn counted(count: usize, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}

/// The `cf` commands that register a catalog and use its first plan.
fn register(services: &[&Service]) -> String {
    let mut text = String::from(
        "\nTo register this catalog, with the broker's own user name, password and URL:\n\n  \
         cf create-service-broker brokerlet \"$BROKER_USERNAME\" \"$BROKER_PASSWORD\" https://brokerlet.example.com\n",
    );
    for service in services {
        _ = writeln!(
            text,
            "  cf enable-service-access {} -b brokerlet",
            shell(&service.name)
        );
    }
    text.push_str("  cf marketplace\n");
    for service in services {
        for plan in service.offered() {
            let (service, plan) = (&service.name, &plan.name);
            let instance = shell(&format!("my-{service}-{plan}"));
            _ = writeln!(
                text,
                "  cf create-service {} {} {instance}",
                shell(service),
                shell(plan)
            );
        }
    }
    text
}

/// A word for a shell, quoted where it must be.
fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
