//! The arguments of `brokerlet state`.

use super::adopt::Adopt;

use crate::cli::options::Said;

use std::path::PathBuf;

/// What the arguments say.
pub(crate) struct Options {
    pub store: Option<String>,
    pub catalog: Option<PathBuf>,
    pub json: bool,
    pub(super) command: Command,
}

pub(super) enum Command {
    List(Filters),
    Show {
        id: String,
        credentials: bool,
    },
    Export {
        file: Option<PathBuf>,
        unsealed: bool,
    },
    Import(PathBuf),
    Adopt(Adopt),
    Copy {
        from: String,
        to: String,
    },
    Backup(PathBuf),
    Check,
    Compact,
    Protect {
        id: String,
        reason: Option<String>,
    },
    Unprotect(String),
    Undelete(String),
    Forget {
        id: String,
        yes: bool,
    },
}

/// Which service instances to list: those that all of these are true of.
#[derive(Default)]
pub(super) struct Filters {
    /// Id or name.
    pub service: Option<String>,
    pub plan: Option<String>,
    pub organization: Option<String>,
    pub space: Option<String>,
    pub failed: bool,
    pub in_progress: bool,
    /// The plan is not in the catalog.
    pub orphaned: bool,
    /// Of another version than the maintenance information of the plan in the catalog.
    pub behind: bool,
    /// Deprovisioned, and kept for a while.
    pub kept: bool,
    /// Not to be deprovisioned.
    pub protected: bool,
}

/// Each command: its name, how many arguments it has at least and at most, and its own options.
const COMMANDS: [(&str, usize, usize, &[&str]); 13] = [
    (
        "list",
        0,
        0,
        &[
            "--service",
            "--plan",
            "--organization",
            "--space",
            "--failed",
            "--in-progress",
            "--orphaned",
            "--behind",
            "--kept",
            "--protected",
            "--json",
        ],
    ),
    ("show", 1, 1, &["--credentials", "--json"]),
    ("export", 0, 1, &["--unsealed"]),
    ("import", 1, 1, &[]),
    ("adopt", 1, 1, &["--dry-run", "--skip-failed", "--json"]),
    ("copy", 2, 2, &[]),
    ("backup", 1, 1, &[]),
    ("check", 0, 0, &["--json"]),
    ("compact", 0, 0, &[]),
    ("protect", 1, 1, &["--reason"]),
    ("unprotect", 1, 1, &[]),
    ("undelete", 1, 1, &[]),
    ("forget", 1, 1, &["--yes"]),
];
/// Options of every command.
const COMMON: [&str; 2] = ["--store", "--catalog"];
/// Options that a value follows.
const WITH_VALUE: [&str; 7] = [
    "--store",
    "--catalog",
    "--service",
    "--plan",
    "--organization",
    "--space",
    "--reason",
];

impl Options {
    /// The error is a complaint for the user.
    pub fn parse(arguments: &[&str]) -> Result<Options, String> {
        let wanted = || COMMANDS.map(|(name, ..)| name).join(", ");
        let said = Said::parse("state", arguments, &WITH_VALUE)?;
        let [command, operands @ ..] = &said.words[..] else {
            return Err(format!("state: wanted one of {}", wanted()));
        };
        let Some((name, least, most, own)) = COMMANDS.iter().find(|(name, ..)| name == command)
        else {
            return Err(format!(
                "state: found {command:?}, wanted one of {}",
                wanted()
            ));
        };
        if let Some(option) = said.unknown(&[&COMMON, own]) {
            return Err(format!("state {name}: unknown option {option}"));
        }
        if *name == "copy" && said.has("--store") {
            return Err("state copy: found --store, wanted the two stores alone".to_owned());
        }
        if operands.len() < *least || operands.len() > *most {
            let what = match (*name, operands.len() > *most) {
                (_, true) => format!("found {:?}, wanted nothing more", operands[*most]),
                ("copy", _) => {
                    "wanted two stores, the one to copy from and the one to copy to".to_owned()
                }
                ("show" | "protect" | "unprotect" | "undelete" | "forget", _) => {
                    "wanted the id of a service instance".to_owned()
                }
                _ => "wanted the name of a file".to_owned(),
            };
            return Err(format!("state {name}: {what}"));
        }
        let has = |option: &str| said.has(option);
        let text = |option: &str| said.text(option);
        let operand = |at: usize| operands.get(at).copied().unwrap_or_default().to_owned();
        let id = || operand(0);
        let file = || operands.first().map(PathBuf::from);
        Ok(Options {
            store: text("--store"),
            catalog: text("--catalog").map(PathBuf::from),
            json: has("--json"),
            command: match *name {
                "list" => Command::List(Filters {
                    service: text("--service"),
                    plan: text("--plan"),
                    organization: text("--organization"),
                    space: text("--space"),
                    failed: has("--failed"),
                    in_progress: has("--in-progress"),
                    orphaned: has("--orphaned"),
                    behind: has("--behind"),
                    kept: has("--kept"),
                    protected: has("--protected"),
                }),
                "show" => Command::Show {
                    id: id(),
                    credentials: has("--credentials"),
                },
                "export" => Command::Export {
                    file: file(),
                    unsealed: has("--unsealed"),
                },
                "copy" => Command::Copy {
                    from: operand(0),
                    to: operand(1),
                },
                "adopt" => Command::Adopt(Adopt {
                    list: file().unwrap_or_default(),
                    dry_run: has("--dry-run"),
                    skip_failed: has("--skip-failed"),
                    json: has("--json"),
                }),
                "import" => Command::Import(file().unwrap_or_default()),
                "backup" => Command::Backup(file().unwrap_or_default()),
                "check" => Command::Check,
                "compact" => Command::Compact,
                "protect" => Command::Protect {
                    id: id(),
                    reason: text("--reason").filter(|text| !text.trim().is_empty()),
                },
                "unprotect" => Command::Unprotect(id()),
                "undelete" => Command::Undelete(id()),
                _ => Command::Forget {
                    id: id(),
                    yes: has("--yes"),
                },
            },
        })
    }
}
