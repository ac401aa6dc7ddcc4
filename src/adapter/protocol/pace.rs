//! The settings `async`, `timeout` and `concurrency`.

use crate::adapter::{Kind, SYNCHRONOUS_TIMEOUT, Settings};
use crate::catalog::finding::suggestion;
use crate::json;

use serde_json::Value;
use std::time::Duration;

/// What an asynchronous operation may take by default, unless the plan says that platforms give up earlier.
const ASYNCHRONOUS: Duration = Duration::from_secs(60 * 60);
/// How many calls of one plan there are at the same time by default.
const CONCURRENCY: usize = 4;

/// How long the operations of a plan may take, and how many there may be at once.
pub struct Pace {
    asynchronous: Vec<Kind>,
    timeout: Option<Duration>,
    asynchronous_default: Duration,
    pub concurrency: usize,
}

impl Pace {
    /// What is wrong is reported to the settings.
    pub fn read(settings: &Settings<'_>) -> Pace {
        let asynchronous = read_asynchronous(settings);
        let timeout = settings.duration("timeout");
        let concurrency = settings.count("concurrency").unwrap_or(CONCURRENCY);
        check_timeout(settings, timeout, &asynchronous);
        let longest_poll = settings.plan().maximum_polling_duration;
        Pace {
            asynchronous,
            timeout,
            asynchronous_default: longest_poll.map_or(ASYNCHRONOUS, |seconds| {
                // Nine tenths of it: the platform should hear the end.
                ASYNCHRONOUS.min(Duration::from_millis(seconds.saturating_mul(900)))
            }),
            concurrency,
        }
    }

    pub fn is_async(&self, kind: Kind) -> bool {
        self.asynchronous.contains(&kind)
    }

    pub fn timeout(&self, kind: Kind) -> Duration {
        if self.is_async(kind) {
            self.timeout.unwrap_or(self.asynchronous_default)
        } else {
            let longest = SYNCHRONOUS_TIMEOUT;
            self.timeout.map_or(longest, |timeout| timeout.min(longest))
        }
    }
}

/// `true`, `false` or a list of operations.
fn read_asynchronous(settings: &Settings<'_>) -> Vec<Kind> {
    let items = match settings.value("async") {
        None | Some(Value::Bool(false)) => return Vec::new(),
        Some(Value::Bool(true)) => return Kind::ALL.to_vec(),
        Some(Value::Array(items)) => items,
        Some(other) => {
            let found = json::kind(other);
            let text = format!("found {found}, wanted true, false or a list of operations");
            settings.error("async", text);
            return Vec::new();
        }
    };
    let mut kinds = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let place = format!("async[{i}]");
        let names = Kind::ALL.map(Kind::name);
        match Kind::ALL.iter().find(|kind| item == kind.name()) {
            Some(kind) => kinds.push(*kind),
            None => {
                let hint = item.as_str().map(|found| suggestion(found, names));
                let names = names.join(", ");
                let hint = hint.unwrap_or_default();
                settings.error(&place, format!("found {item}, wanted one of {names}{hint}"));
            }
        }
    }
    kinds
}

fn check_timeout(settings: &Settings<'_>, timeout: Option<Duration>, asynchronous: &[Kind]) {
    let Some(timeout) = timeout else { return };
    let found = humantime::format_duration(timeout);
    if asynchronous.is_empty() && timeout > SYNCHRONOUS_TIMEOUT {
        settings.error(
            "timeout",
            format!(
                "found {found}, wanted at most 55s: platforms give up a synchronous request after 60s; for longer work say \
                 \"async\": true"
            ),
        );
    }
}
