//! Every command in the pages is run, in the order in which it stands there, and prints what the page says. Where it takes a
//! platform, a stand-in notes how it was called, and that is looked up in [`KNOWN`].

mod support;

use brokerlet::config::VARIABLES;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use support::pages::{Block, Page, blocks, chapter, page, pages, prose, root};
use support::programs::executable;
use support::{Broker, Folder, Setup, bind, binding, brokerlet, instance, needs, provision};

/// How programs are called that the tests cannot run. A word in capitals stands for a value, see [`is_value`].
const KNOWN: &[&str] = &[
    "cargo bench --bench BENCH",
    "cargo build --release --features FEATURES",
    "cargo build --release --locked --features FEATURES --target TARGET",
    "cargo build --release --locked --target TARGET",
    "cargo build --release --target TARGET",
    "cargo doc --open",
    "cargo install --path FILE --locked",
    "cargo test",
    "cargo test --test TEST",
    "cf add-network-policy NAME NAME --protocol tcp --port 8080",
    "cf bind-service NAME NAME",
    "cf create-service NAME NAME NAME",
    "cf create-service-broker NAME NAME NAME URL",
    "cf create-service-broker NAME NAME NAME URL --space-scoped",
    "cf enable-service-access NAME -b NAME",
    "cf marketplace",
    "cf push --no-start",
    "cf push --no-start -f FILE",
    "cf set-env NAME VARIABLE NAME",
    "cf start NAME",
    "cf update-service-broker NAME NAME NAME URL",
    "docker build -f FILE --build-arg CATALOG=FILE -t NAME .",
    "docker build -f FILE --build-arg FEATURES=tls,schemas,postgres -t NAME .",
    "docker push NAME",
    "docker run --read-only -v NAME:/state -p 127.0.0.1:5000:5000 -e VARIABLE=NAME -e VARIABLE=NAME NAME",
    "kubectl apply -f -",
    "kubectl apply -f FILE",
    "kubectl apply -f FILE -f FILE -f FILE",
    "kubectl attach -i -n brokers pod/brokerlet-restore",
    "kubectl create configmap brokerlet -n brokers --from-file=catalog.json=my-catalog.json --dry-run=client -o yaml",
    "kubectl delete -n brokers pod/brokerlet-restore",
    "kubectl exec -n brokers deployment/brokerlet -- /brokerlet state export",
    "kubectl logs -n brokers deployment/brokerlet --since=5m",
    "kubectl logs -n brokers pod/brokerlet-restore",
    "kubectl rollout restart -n brokers deployment/brokerlet",
    "kubectl rollout status -n brokers deployment/brokerlet",
    "kubectl scale -n brokers deployment/brokerlet --replicas=0",
    "kubectl wait -n brokers --for=condition=Ready pod/brokerlet-restore",
    "systemctl restart brokerlet",
];

/// The project's own scripts, whose work has tests of its own.
const SCRIPTS: &[&str] = &["tests/run", ".ci/run", ".ci/release"];

fn is_value(kind: &str, value: &str, folder: &Path) -> bool {
    let is_there = |path: String| root().join(path).exists();
    match kind {
        "BENCH" => {
            is_there(format!("benches/{value}.rs")) || is_there(format!("benches/{value}/main.rs"))
        }
        "TEST" => {
            is_there(format!("tests/{value}.rs")) || is_there(format!("tests/{value}/main.rs"))
        }
        "FEATURES" => {
            let features = fs::read_to_string(root().join("Cargo.toml")).unwrap();
            let is_feature = |name: &str| features.contains(&format!("\n{name} = ["));
            value.split(',').all(is_feature)
        }
        "FILE" => folder.join(value).exists(),
        "TARGET" => value == "x86_64-unknown-linux-gnu",
        "URL" => {
            value.starts_with("https://") || value == "http://brokerlet.brokers.svc.cluster.local"
        }
        "VARIABLE" => {
            // Those of the recipe for `http`.
            let recipe = ["REDIS_URL", "WEBHOOK_SECRET"];
            recipe.contains(&value) || VARIABLES.iter().any(|variable| variable.name == value)
        }
        "NAME" => !value.is_empty() && !value.starts_with('-'),
        literal => literal == value,
    }
}

/// Whether a call has this form.
fn has_form(call: &str, form: &str, folder: &Path) -> bool {
    let (words, kinds): (Vec<_>, Vec<_>) = (call.split(' ').collect(), form.split(' ').collect());
    // `VARIABLE=NAME` and `NAME:/state` are two values with a sign between them.
    let fits = |word: &str, kind: &str| {
        let sign = kind.chars().find(|sign| "=:".contains(*sign));
        let halves = sign.and_then(|sign| word.split_once(sign).zip(kind.split_once(sign)));
        match halves {
            Some(((before, after), (kind, other))) => {
                is_value(kind, before, folder) && is_value(other, after, folder)
            }
            None => is_value(kind, word, folder),
        }
    };
    let pairs = words.iter().zip(&kinds);
    words.len() == kinds.len()
        && pairs
            .into_iter()
            .all(|(word, kind)| word == kind || fits(word, kind))
}

/// An answer over HTTP, as curl prints it with `-i`.
struct Answer {
    status: String,
    headers: Vec<(String, String)>,
    /// `None` where the body is empty.
    body: Option<Value>,
}

impl Answer {
    fn parse(text: &str) -> Answer {
        let text = text.replace("\r\n", "\n");
        let (head, body) = text
            .split_once("\n\n")
            .unwrap_or_else(|| panic!("no empty line after the head: {text}"));
        let mut lines = head.lines();
        let status = lines.next().unwrap().to_owned();
        assert!(status.starts_with("HTTP/1.1 "), "no status line: {text}");
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        });
        let body = body.trim();
        Answer {
            status,
            headers: headers.collect(),
            body: (!body.is_empty()).then(|| {
                serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
            }),
        }
    }
}

/// A folder that is like a clone of the project to whoever stands in it, with stand-ins for what is not the project's.
struct Reader {
    folder: Arc<Folder>,
    path: String,
    exported: Vec<(String, String)>,
    broker: Option<Broker>,
}

impl Reader {
    fn new() -> Reader {
        let folder = Folder::new();
        let at = |name: &str| folder.path().join(name);
        copy(&root().join("examples"), &at("examples"));
        for file in ["Cargo.toml", "manifest.yml"] {
            fs::copy(root().join(file), at(file)).unwrap();
        }
        let catalog = fs::read(root().join("examples/tutorial.json")).unwrap();
        for name in ["my-catalog.json", "catalog.json"] {
            folder.file(name, &catalog);
        }
        for name in ["bin", "tests", ".ci"] {
            fs::create_dir(at(name)).unwrap();
        }
        let note = format!("echo \"${{0##*/}} $*\" >>'{}'", at("calls").display());
        for name in ["cf", "docker", "kubectl", "systemctl"] {
            executable(
                &folder,
                &format!("bin/{name}"),
                &format!("#!/bin/sh\n{note}\n"),
            );
        }
        // The test asks what it was asked, see `ask_the_database`.
        let sqlite = format!(
            "[ $# = 3 ] && [ $1 = -readonly ] && echo \"$2 $3\" >>'{}'",
            at("queries").display()
        );
        executable(&folder, "bin/sqlite3", &format!("#!/bin/sh\n{sqlite}\n"));
        for name in SCRIPTS {
            assert!(root().join(name).is_file(), "{name}");
            executable(&folder, name, "#!/bin/sh\n");
        }
        // What it builds is there already.
        let binary = env!("CARGO_BIN_EXE_brokerlet");
        let build = format!(
            "case \"$*\" in *'--target '*) folder=target/${{*##* }}/release\n\
             mkdir -p \"$folder\" && ln -sf '{binary}' \"$folder/brokerlet\" ;; esac"
        );
        executable(
            &folder,
            "bin/cargo",
            &format!("#!/bin/sh\n{note}\n{build}\n"),
        );
        let binaries = Path::new(binary).parent().unwrap();
        let system = std::env::var("PATH").unwrap();
        let path = format!("{}:{}:{system}", at("bin").display(), binaries.display());
        Reader {
            folder: Arc::new(folder),
            path,
            exported: Vec::new(),
            broker: None,
        }
    }

    /// With an instance and a binding in `brokerlet.db`, and no broker.
    fn with_state() -> Reader {
        let reader = Reader::new();
        let broker = Setup::in_folder(reader.folder.clone()).start();
        let (service, plan) = ("example_service", "plan_one");
        broker
            .put(&instance("i-1"), &provision(service, plan))
            .expect(201);
        broker
            .put(&binding("i-1", "b-1"), &bind(service, plan))
            .expect(201);
        broker.stop();
        reader
    }

    fn made_in(&self, folder: &str) -> Vec<PathBuf> {
        let made = fs::read_dir(self.folder.path().join(folder)).unwrap();
        made.map(|entry| entry.unwrap().path()).collect()
    }

    /// Does what the blocks say, one after the other.
    fn follow(&mut self, blocks: &[Block<'_>]) {
        for (i, block) in blocks.iter().enumerate() {
            let next = blocks.get(i + 1).filter(|next| next.follows);
            match block.language {
                "sh" => self.enter(block.text, next),
                "json" if block.text.contains("\"services\"") => {
                    self.folder.file("catalog.json", block.text);
                }
                "json" | "rust" | "sql" | "text" => {}
                "http" => assert!(block.follows, "an answer without a call: {}", block.text),
                other => panic!("a block of {other:?}: {}", block.text),
            }
        }
    }

    /// Enters commands into a shell. A line that starts a broker leaves it running.
    fn enter(&mut self, text: &str, answer: Option<&Block<'_>>) {
        let mut script = String::new();
        for line in text.lines() {
            if let Some((variables, program)) = server(line) {
                assert!(script.is_empty(), "{text}");
                self.serve(&variables, program);
                continue;
            }
            if let Some((name, value)) = line
                .strip_prefix("export ")
                .and_then(|line| line.split_once('='))
            {
                let value = value.trim_matches('\'').to_owned();
                self.exported.push((name.to_owned(), value));
            }
            script += line;
            script.push('\n');
        }
        // The pages have no database; `tests/postgres/state.rs` copies to one.
        script = script.replace(
            "postgres://brokerlet:PASSWORD@db.example.com/brokerlet'",
            "file:moved.db'",
        );
        let mut command = support::program("/bin/sh");
        command
            .current_dir(self.folder.path())
            .env("PATH", &self.path)
            .env("NO_PROXY", "*");
        command.envs(self.exported.iter().map(|(name, value)| (name, value)));
        if let Some(broker) = &self.broker {
            let address = format!("http://{}/", broker.address);
            script = script.replace("http://localhost:5000/", &address);
            command.env("PORT", broker.address.port().to_string());
        }
        let output = command.args(["-euc", &script]).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}{printed}{complaints}");
        self.ask_the_database();
        match answer.map(|answer| (answer.language, answer.text)) {
            Some(("http", wanted)) => {
                let (found, wanted) = (Answer::parse(&printed), Answer::parse(wanted));
                assert_eq!(found.status, wanted.status, "{script}{printed}");
                for header in &wanted.headers {
                    assert!(
                        found.headers.contains(header),
                        "{script}no {header:?} in {printed}"
                    );
                }
                assert_eq!(found.body, wanted.body, "{script}");
            }
            Some(("text", wanted)) => assert_eq!(printed, wanted, "{script}"),
            _ => {}
        }
    }

    /// Asks the file of the state what `sqlite3` was asked.
    fn ask_the_database(&self) {
        let queries = self.folder.path().join("queries");
        let text = fs::read_to_string(&queries).unwrap_or_default();
        for query in text.lines() {
            let (file, query) = query.split_once(' ').unwrap();
            let file = self.folder.path().join(file);
            let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
            let database = rusqlite::Connection::open_with_flags(file, flags).unwrap();
            assert!(database.prepare(query).unwrap().exists([]).unwrap());
        }
        let _ = fs::remove_file(queries);
    }

    fn serve(&mut self, variables: &[(String, String)], program: Program) {
        // The one before is gone before the next one takes its state.
        self.broker = None;
        for (name, _) in variables {
            assert!(is_value("VARIABLE", name, self.folder.path()), "{name}");
        }
        // With a certificate or a database it is `tests/tls` and `tests/postgres` that start it.
        let is_elsewhere = |(name, value): &(String, String)| {
            value.starts_with("/etc/brokerlet/") || name == "BROKER_STORE" && value.contains("://")
        };
        if variables.iter().any(is_elsewhere) {
            return;
        }
        let command = match program {
            Program::Brokerlet => brokerlet(),
            Program::Example(name) => {
                let test = std::env::current_exe().unwrap();
                let profile = test.ancestors().nth(2).unwrap();
                support::program(profile.join("examples").join(name).to_str().unwrap())
            }
        };
        let mut setup = Setup::of(command, self.folder.clone()).env("PATH", &self.path);
        for (name, value) in variables.iter().chain(&self.exported) {
            setup = setup.env(name, value);
        }
        self.broker = Some(setup.start());
    }

    /// Every call of a stand-in has a form that is known.
    fn is_understood(&self) {
        let calls = fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        for call in calls.lines() {
            let known = KNOWN
                .iter()
                .any(|form| has_form(call.trim_end(), form, self.folder.path()));
            assert!(known, "nobody knows whether this works: {call}");
        }
    }
}

enum Program {
    Brokerlet,
    Example(String),
}

/// The variables and the program of a line that starts a broker.
fn server(line: &str) -> Option<(Vec<(String, String)>, Program)> {
    let line = line.split(" #").next().unwrap();
    let words = line.split_whitespace();
    let (mut variables, mut rest) = (Vec::new(), Vec::new());
    for word in words {
        match word.split_once('=') {
            Some((name, value)) if rest.is_empty() => {
                variables.push((name.to_owned(), value.trim_matches('\'').to_owned()));
            }
            _ => rest.push(word),
        }
    }
    match rest[..] {
        ["brokerlet"] | ["cargo", "run", "--release"] => Some((variables, Program::Brokerlet)),
        ["cargo", "run", "--example", name] => Some((variables, Program::Example(name.to_owned()))),
        _ => None,
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// Follows a text, if the programs are here that it uses. What it takes beside them is in the reader's folder.
fn follow(text: &str, mut reader: Reader) -> Option<Reader> {
    let blocks = blocks(text);
    let used = |program: &&str| {
        let commands = blocks.iter().filter(|block| block.language == "sh");
        let mut words = commands.flat_map(|block| block.text.split([' ', '\n', '(']));
        words.any(|word| word == *program)
    };
    let programs: Vec<&str> = ["curl", "git", "jq"].into_iter().filter(used).collect();
    if !needs::has(&programs) {
        return None;
    }
    reader.follow(&blocks);
    reader.is_understood();
    Some(reader)
}

fn follow_page(path: &str) {
    follow(&page(path).text, Reader::new());
}

#[test]
fn readme() {
    follow_page("README.md");
}

#[test]
fn what_a_platform_asks() {
    let page = page("docs/tutorial.md");
    follow(
        chapter(&page.text, "## What a platform asks"),
        Reader::new(),
    );
}

#[test]
fn a_service_of_ones_own() {
    let page = page("docs/tutorial.md");
    let text = chapter(&page.text, "## Offer your own service in ten minutes");
    if let Some(reader) = follow(text, Reader::new()) {
        let made = reader.made_in("repositories");
        assert_eq!(made.len(), 1, "{made:?}");
        assert!(made[0].join("HEAD").is_file());
    }
}

#[test]
fn work_that_takes_long() {
    let page = page("docs/tutorial.md");
    let text = chapter(&page.text, "## Work that takes long");
    if let Some(reader) = follow(text, Reader::new()) {
        assert_eq!(reader.made_in("machines").len(), 1);
    }
}

#[test]
fn an_adapter_in_rust() {
    let page = page("docs/tutorial.md");
    follow(chapter(&page.text, "## An adapter in Rust"), Reader::new());
}

#[test]
fn the_catalog_file() {
    follow_page("docs/catalog.md");
}

#[test]
fn the_adapter_exec() {
    follow_page("docs/exec.md");
}

// `dist.sh` checks the catalog of the recipe with this binary.
#[cfg(feature = "http-adapter")]
#[test]
fn the_adapter_http() {
    follow_page("docs/http.md");
}

#[test]
fn configuration() {
    follow_page("docs/configuration.md");
}

#[test]
fn operating() {
    follow(&page("docs/operating.md").text, Reader::with_state());
}

#[test]
fn kubernetes() {
    follow_page("docs/kubernetes.md");
}

#[test]
fn figures() {
    follow_page("docs/figures.md");
}

#[test]
fn contributing() {
    follow_page("CONTRIBUTING.md");
}

#[test]
fn no_command_stands_where_no_test_runs_it() {
    let followed = [
        "CONTRIBUTING.md",
        "README.md",
        "docs/catalog.md",
        "docs/configuration.md",
        "docs/exec.md",
        "docs/figures.md",
        "docs/http.md",
        "docs/kubernetes.md",
        "docs/operating.md",
        "docs/tutorial.md",
    ];
    for Page { path, text } in pages() {
        let path = path.to_str().unwrap();
        let is_followed = followed.contains(&path);
        let commands = blocks(&text).iter().any(|block| block.language == "sh");
        assert!(
            is_followed || !commands,
            "{path} has commands, and no test follows it"
        );
        // An indented block is no place for them.
        for line in prose(&text).lines().filter(|line| line.starts_with("    ")) {
            assert!(!is_followed, "{path}: {line}");
        }
    }
    let tutorial = page("docs/tutorial.md");
    let chapters = tutorial.text.matches("\n## ").count();
    assert_eq!(
        chapters, 4,
        "each chapter of the tutorial is followed on its own"
    );
}
