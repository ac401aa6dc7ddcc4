//! What the program says of itself: `help`, `--help` behind a command, `version`.

use crate::catalog::finding::suggestion;
use crate::config::VARIABLES;
use crate::features;

use std::fmt::Write as _;

pub const USAGE: &str = "\
Usage:
  brokerlet               serve the Open Service Broker API until SIGTERM or SIGINT
  brokerlet check [--without-secrets] [FILE]...
                          check catalog files (- for standard input), else that of BROKER_CATALOG, and print the cf
                          commands that register them; --without-secrets where variables and files are absent
  brokerlet adapter-test FILE [--service NAME] [--plan NAME]
                         [--parameters JSON] [--update-parameters JSON] [--bind-parameters JSON]
                          make, use and delete instances of each plan, to see whether its adapter does what it must
  brokerlet import-env [--output FILE]
                          print or write the catalog file of a worlds-simplest-service-broker with the same environment
  brokerlet state COMMAND
                          look into the state, export, import, copy, back up and repair it: list, show, export,
                          import, adopt, copy, backup, check, compact, protect, unprotect, undelete, forget
  brokerlet audit [--instance ID] [--user ID] [--since TIME] [--json]
                          print who had what done, when, from where, and how it ended
  brokerlet health [URL]  ask a running broker whether it is healthy
  brokerlet help [COMMAND], --help, -h
                          print this help, or that of a command
  brokerlet version, --version, -V
                          print the version and the features that are built in
";

/// The commands that have a help of their own.
const COMMANDS: [(&str, &str); 6] = [
    (
        "check",
        "\
Usage:
  brokerlet check [--without-secrets] [FILE]...

Checks catalog files: every rule of the specification and those that Cloud Foundry and Korifi add, the settings of the
adapters, the environment variables and files that they name. Prints each finding with its place, and without errors the
cf commands that register the catalog. It serves nothing and needs no configuration.

  FILE               a catalog file, or - for standard input; without any, that of BROKER_CATALOG
  --without-secrets  says nothing of variables and files that are absent, as in CI, and prints no commands

Exit codes: 0 no errors (there may be warnings), 1 errors, 64 wrong arguments.
",
    ),
    (
        "adapter-test",
        "\
Usage:
  brokerlet adapter-test FILE [--service NAME] [--plan NAME]
                         [--parameters JSON] [--update-parameters JSON] [--bind-parameters JSON]

Makes, uses and deletes instances of each plan of a catalog file, without a platform and with the settings of the
catalog, to see whether its adapter does what it must: calls each operation twice, kills a program or cuts off a web
service in the middle and repeats the call. It works on what the catalog names: do not name your production.

  --service NAME            only plans of this service offering
  --plan NAME               only plans of this name
  --parameters JSON         what users give with cf create-service -c: a JSON object, or the path of a file with one
  --update-parameters JSON  the same for cf update-service -c
  --bind-parameters JSON    the same for cf bind-service -c

Exit codes: 0 every call did what it must, 1 one did not or it was interrupted, 64 wrong arguments.
",
    ),
    (
        "import-env",
        "\
Usage:
  brokerlet import-env [--output FILE]

Reads the environment of a worlds-simplest-service-broker and prints the catalog file that offers the same, with the
same ids: what is not set is as the original has it. It says on standard error what such a file has no place for, and
what versions of the original do in different ways. The file passes brokerlet check.

  BASE_GUID, SERVICE_NAME, SERVICE_PLAN_NAME  ids and names; at least one of these and CREDENTIALS must be set
  CREDENTIALS                                 what every binding gets: a JSON object
  IMAGE_URL, TAGS, SYSLOG_DRAIN_URL           as in the pages of the original
  FAKE_STATEFUL                               true: instances and bindings can be fetched

  --output FILE  a new file of mode 0600 instead of standard output: the credentials are in it

Exit codes: 0 done, 1 the environment is wrong or the file cannot be written, 64 wrong arguments.
",
    ),
    (
        "state",
        "\
Usage:
  brokerlet state list [--service X] [--plan X] [--organization X] [--space X]
                       [--failed] [--in-progress] [--orphaned] [--behind] [--kept] [--protected] [--json]
  brokerlet state show ID [--credentials] [--json]
  brokerlet state check [--json]
  brokerlet state export [FILE] [--unsealed]
  brokerlet state backup FILE
  brokerlet state import FILE
  brokerlet state adopt LIST [--dry-run] [--skip-failed] [--json]
  brokerlet state copy FROM TO
  brokerlet state compact
  brokerlet state protect ID [--reason TEXT]
  brokerlet state unprotect ID
  brokerlet state undelete ID
  brokerlet state forget ID [--yes]

Looks into the file or database where the broker of the same environment keeps its state, or that --store names. list,
show, check, export and backup go on beside brokers that run, and change nothing; in a database they need SELECT alone.
protect, unprotect and undelete go on beside brokers, too. import and copy are refused while a broker runs, adopt, compact
and forget while one runs on the file. In a database, adopt and forget go on beside brokers, and forget leaves what one
of them works on.

  list     service instances in the order of their ids; --orphaned: those whose plan is not in the catalog; --behind: those
           whose version is another one than maintenance_info of their plan in the catalog; --kept: those that were
           deprovisioned and are kept; --protected: those that cannot be. --service, --plan, --organization and --space
           take an id, or a name where it is known
  show     a service instance and its bindings; --credentials shows credentials, parameters and what adapters keep
  check    the structure of the file, records that cannot be read, or opened with BROKER_SEAL_KEYS, instances without a
           plan in the catalog, bindings without an instance: a line for each fault
  export   all records as lines of JSON, with all credentials: to a new file of mode 0600, or to standard output. What is
           sealed stays so; --unsealed opens it with BROKER_SEAL_KEYS
  backup   a copy of one moment of a file to a new file, which is a store itself (a database: pg_dump)
  import   such an export into a store without records: all of it or nothing. With BROKER_SEAL_KEYS, records are sealed
           with the first key; without, they stay as they are
  adopt    takes over service instances and bindings of another broker: LIST, or - for standard input, has a JSON object
           for each on a line of its own. The adapter of each plan looks whether it is there, and only if all are, any
           is written; --skip-failed: those that are. --dry-run writes nothing. What is there already stays
  copy     all records of one store into another one without records, sealed as by import: all of it or nothing
  compact  gives back the space of what was deleted (a database: VACUUM)
  protect  has every deprovision of an instance refused, with the reason; unprotect ends that
  undelete brings back an instance that was deprovisioned and is kept (retain of its plan); its bindings are gone
  forget   removes the records of an instance and its bindings and calls no adapter, after a person has cleaned up

  --store STORE   where the state is [BROKER_STORE, or the database in VCAP_SERVICES]
  --catalog FILE  the catalog file, for names, --orphaned, --behind, check and adopt [BROKER_CATALOG]
  --json          lines of JSON

STORE, FROM and TO are file:PATH, postgres://… without a password, env:NAME, whose variable NAME holds one of them, with
the password, or env:VCAP_SERVICES, the bound database. An address with a password is refused as an argument: every user
of the machine can read it there.

Exit codes: 0 done, 1 no such instance, faults, a file that cannot be imported, or lines that adopt has refused, 64 wrong
arguments, 74 the state or a file cannot be used, 78 the environment or the catalog file is wrong.
",
    ),
    (
        "audit",
        "\
Usage:
  brokerlet audit [--instance ID] [--user ID] [--since TIME] [--json]

Prints the audit trail, the oldest line first: when, what, how it ended, on which service instance or binding, for which
user, from which address, and why it failed. An asynchronous operation has one line when it is accepted and one when it
has ended. It goes on beside brokers that run, and changes nothing; in a database it needs SELECT alone.

  --instance ID   lines about this service instance and its bindings
  --user ID       lines for this user: the id or name that the platform has sent
  --since TIME    lines from then on: 2026-12-01T10:00:00Z, or how long ago, as in 7d or 12h
  --json          lines of JSON, as they are kept
  --store STORE   where the state is [BROKER_STORE, or the database in VCAP_SERVICES]
  --catalog FILE  the catalog file, for names [BROKER_CATALOG]

Exit codes: 0 done, 64 wrong arguments, 74 the state cannot be used, 78 the environment or the catalog file is wrong.
",
    ),
    (
        "health",
        "\
Usage:
  brokerlet health [URL]

Asks a running broker for /healthz, and says within 5 seconds whether it is healthy: for images that have neither a
shell nor curl. Without a URL it asks the broker that the same environment starts (BROKER_ADDRESS, PORT or
VCAP_APP_PORT, BROKER_TLS_CERT) on this machine. A URL has the form http://HOST[:PORT][/PATH], or https://, which needs
the feature tls; without a path, /healthz is asked for.

It sends no secret and believes nothing but the status, so it does not verify the certificate of the broker; Kubernetes'
probes do not either. Where BROKER_TLS_CLIENT_CA is set, it shows the certificate of the broker itself.

Exit codes: 0 healthy, 1 not healthy or no answer, 64 wrong arguments, 78 wrong environment.
",
    ),
];

/// Commands without a help of their own.
const OTHERS: [&str; 4] = ["help", "version", "--help", "--version"];

/// What is to be printed, if the arguments ask for help.
pub fn asked_for(arguments: &[&str]) -> Option<String> {
    let is_help = |word: &&str| matches!(*word, "-h" | "--help");
    match arguments {
        ["help" | "-h" | "--help"] => Some(general()),
        ["help" | "-h" | "--help", "help" | "version"] | ["help" | "version", "-h" | "--help"] => {
            Some(general())
        }
        ["help" | "-h" | "--help", command] => of(command),
        [command, rest @ ..] if rest.iter().any(is_help) => of(command),
        _ => None,
    }
}

fn of(command: &str) -> Option<String> {
    let found = COMMANDS.iter().find(|(name, _)| *name == command);
    found.map(|(_, text)| (*text).to_owned())
}

/// `, did you mean "check"?`, if a command is nearly that.
pub fn hint(arguments: &[&str]) -> String {
    let wrong = match arguments {
        ["help" | "-h" | "--help", command, ..] | [command, ..] => command,
        [] => return String::new(),
    };
    let known = COMMANDS.iter().map(|(name, _)| *name).chain(OTHERS);
    if known.clone().any(|name| name == *wrong) {
        return String::new();
    }
    suggestion(wrong, known)
}

/// `0.1.0 (features: postgres, schemas, tls)`.
pub fn version() -> String {
    let names = features::built_in();
    let features = match names[..] {
        [] => "no features".to_owned(),
        _ => format!("features: {}", names.join(", ")),
    };
    format!("{} ({features})", env!("CARGO_PKG_VERSION"))
}

fn general() -> String {
    let mut text = format!(
        "brokerlet {}: {}\n\n{USAGE}\nEnvironment:\n",
        env!("CARGO_PKG_VERSION"),
        env!("CARGO_PKG_DESCRIPTION"),
    );
    for variable in VARIABLES {
        _ = write!(text, "  {:24}{}", variable.name, variable.meaning);
        if !variable.default.is_empty() {
            _ = write!(text, " [{}]", variable.default);
        }
        text.push('\n');
    }
    text.push_str(
        "\nExit codes: 0 stopped as asked, or healthy; 1 check, adapter-test or import-env found errors, or not \
         healthy; 64 wrong arguments;\n74 the state or the network cannot be used; 78 the environment or the catalog file is wrong.\n",
    );
    text
}
