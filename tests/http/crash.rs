//! kill -9 of the broker and of the web service in the middle of each operation: every operation comes to its end, nothing is
//! made twice, and what is there is what the platform was told of.

use super::catalog;
use super::service::{Heard, Out, Service, Then, done, say};
use crate::support::programs::{IDS, bind, provision};
use crate::support::{Broker, Folder, Request, Setup, binding, instance};

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const ROUNDS: usize = 20;
/// The folder of the service that is a process of its own.
const FOLDER: &str = "HTTP_SERVICE_FOLDER";

/// Where a first attempt stops, until it is killed or told to go on.
const STAGES: [&str; 4] = ["at once", "before", "after", "polled"];

/// The service of the tests below, as a process of its own. All that it must know again is in files.
#[test]
#[ignore = "is started by the other tests"]
fn serve() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let folder = Path::new(&folder).to_owned();
    let port = fs::read_to_string(folder.join("port")).unwrap_or_else(|_| "0".to_owned());
    let known = Mutex::<BTreeSet<String>>::default();
    let service = Service::at(&format!("127.0.0.1:{port}"), {
        let folder = folder.clone();
        move |heard, out| answer(&folder, &known, heard, out)
    });
    fs::write(folder.join("port.new"), service.address.port().to_string()).unwrap();
    fs::rename(folder.join("port.new"), folder.join("port")).unwrap();
    loop {
        thread::park();
    }
}

fn answer(folder: &Path, known: &Mutex<BTreeSet<String>>, heard: &Heard, out: Out<'_>) -> Then {
    let key = heard.header("Idempotency-Key").unwrap().to_owned();
    if heard.method != "POST" {
        return match known.lock().unwrap().contains(&key) {
            true => say(out, "202 Accepted", "Retry-After: 0\r\n", ""),
            false => say(out, "404 Not Found", "", ""),
        };
    }
    let stage = || fs::read_to_string(folder.join("stage")).unwrap();
    let stay = |wanted: &str| {
        if heard.attempt() == 1 && stage() == wanted {
            fs::write(folder.join("at"), "").unwrap();
            while stage() == wanted {
                thread::sleep(Duration::from_millis(5));
            }
        }
    };
    if heard.attempt() == 1 && stage() == "polled" {
        known.lock().unwrap().insert(key.clone());
        fs::write(folder.join("at"), "").unwrap();
        return say(
            out,
            "202 Accepted",
            "Retry-After: 0\r\n",
            "{\"poll\":\"/operations/x\"}",
        );
    }
    stay("before");
    {
        // One at a time.
        let _working = known.lock().unwrap();
        work(folder, &heard.document(), &key);
    }
    stay("after");
    done(out)
}

/// Makes a folder for each instance and a file in it for each binding; knows by its key what was done already.
fn work(folder: &Path, document: &Value, key: &str) {
    let text = |name: &str| document[name].as_str().unwrap_or_default();
    let done = format!("{key} {} {}", text("operation"), text("binding_id"));
    let done = folder.join("done").join(done);
    if done.exists() {
        return;
    }
    let thing = folder.join("things").join(text("instance_id"));
    let part = thing.join(text("binding_id"));
    let made = |path: &Path| {
        let mut log = fs::File::options()
            .create(true)
            .append(true)
            .open(folder.join("made"))
            .unwrap();
        writeln!(log, "{}", path.display()).unwrap();
    };
    match text("operation") {
        "provision" if !thing.exists() => {
            made(&thing);
            fs::create_dir_all(&thing).unwrap();
            fs::write(thing.join("plan"), document["plan"]["id"].as_str().unwrap()).unwrap();
        }
        "update" => {
            fs::write(thing.join("plan"), document["plan"]["id"].as_str().unwrap()).unwrap()
        }
        "bind" if !part.exists() => {
            made(&part);
            fs::write(part, "").unwrap();
        }
        // What is not there need not be removed.
        "unbind" => drop(fs::remove_file(part)),
        "deprovision" => drop(fs::remove_dir_all(thing)),
        _ => {}
    }
    fs::create_dir_all(folder.join("done")).unwrap();
    fs::write(done, "").unwrap();
}

fn start_service(folder: &Folder) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--ignored", "--exact", "crash::serve"])
        .env(FOLDER, folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().unwrap()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Victim {
    Broker,
    Service,
}

/// A broker and a service, of which one is killed and started again.
struct Life {
    folder: Arc<Folder>,
    broker: Option<Broker>,
    service: Child,
    victim: Victim,
}

impl Drop for Life {
    fn drop(&mut self) {
        let _ = self.service.kill();
        let _ = self.service.wait();
    }
}

impl Life {
    fn begin(victim: Victim) -> Life {
        let folder = Arc::new(Folder::new());
        folder.file("stage", "never");
        let service = start_service(&folder);
        let port = folder.path().join("port");
        while !port.exists() {
            thread::sleep(Duration::from_millis(5));
        }
        let url = format!("http://127.0.0.1:{}/", fs::read_to_string(port).unwrap());
        let offered = catalog(&url, &json!({ "async": true, "timeout": "5m" }));
        folder.file("catalog.json", offered.to_string());
        let broker = Some(start_broker(&folder));
        Life {
            folder,
            broker,
            service,
            victim,
        }
    }

    fn broker(&self) -> &Broker {
        self.broker.as_ref().unwrap()
    }

    fn accepted(&self, method: &str, target: &str, query: &str, body: Option<&Value>) {
        let target = format!("{target}?accepts_incomplete=true{query}");
        let mut request = self.broker().request(method, &target);
        if let Some(body) = body {
            request = request.json(body);
        }
        request.send().expect(202);
    }

    fn ended(&self, target: &str) {
        let last = self.broker().settled(target);
        match (last.status, last.json()["state"].as_str()) {
            (200, Some("succeeded")) | (410, _) => {}
            other => panic!("{other:?} {}", self.broker().printed()),
        }
    }

    /// An operation that nobody disturbs.
    fn done(&self, method: &str, target: &str, query: &str, body: Option<&Value>) {
        self.accepted(method, target, query, body);
        self.ended(target);
    }

    /// An operation, in the middle of which the victim is killed.
    fn cut_off(
        &mut self,
        round: usize,
        method: &str,
        target: &str,
        query: &str,
        body: Option<&Value>,
    ) {
        let stage = STAGES[round % STAGES.len()];
        let at = self.folder.path().join("at");
        let _ = fs::remove_file(&at);
        self.stage(stage);
        self.accepted(method, target, query, body);
        while stage != "at once" && !at.exists() {
            thread::sleep(Duration::from_millis(2));
        }
        match self.victim {
            Victim::Broker => {
                self.broker.take().unwrap().kill();
                self.broker = Some(start_broker(&self.folder));
            }
            Victim::Service => {
                self.service.kill().unwrap();
                self.service.wait().unwrap();
                self.service = start_service(&self.folder);
            }
        }
        self.ended(target);
        self.stage("never");
    }

    fn stage(&self, stage: &str) {
        // In one step: the service reads it at any time.
        let new = self.folder.file("stage.new", stage);
        fs::rename(new, self.folder.path().join("stage")).unwrap();
    }

    /// What is there, as the service made it.
    fn things(&self) -> BTreeSet<String> {
        let Ok(things) = self.folder.path().join("things").read_dir() else {
            return BTreeSet::new();
        };
        let names = things.map(|thing| thing.unwrap().file_name().into_string());
        names.map(Result::unwrap).collect()
    }

    fn thing(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.folder.path().join("things").join(path)).ok()
    }

    /// How much was made by now.
    fn made(&self) -> usize {
        let made = fs::read_to_string(self.folder.path().join("made"));
        made.map_or(0, |made| made.lines().count())
    }
}

fn start_broker(folder: &Arc<Folder>) -> Broker {
    Setup::in_folder(folder.clone())
        .env("BROKER_STORE", "file:state.db")
        .env("BROKER_CATALOG", folder.path().join("catalog.json"))
        .start()
}

fn deletes() -> String {
    IDS.replace('?', "&")
}

fn provisions(victim: Victim) {
    let mut life = Life::begin(victim);
    let mut told = BTreeSet::new();
    for round in 0..ROUNDS {
        let id = format!("i-{round}");
        life.cut_off(round, "PUT", &instance(&id), "", Some(&provision()));
        life.broker().get(&instance(&id)).expect(200);
        told.insert(id);
        assert_eq!(life.things(), told);
        assert_eq!(life.made(), told.len(), "nothing is made twice");
    }
}

fn updates(victim: Victim) {
    let mut life = Life::begin(victim);
    let target = instance("i");
    life.done("PUT", &target, "", Some(&provision()));
    for round in 0..ROUNDS {
        let plan = ["plan-2", "plan-1"][round % 2];
        let update = json!({ "service_id": "service-1", "plan_id": plan });
        life.cut_off(round, "PATCH", &target, "", Some(&update));
        let found = life.broker().get(&target).expect(200).json();
        assert_eq!(found["plan_id"], plan);
        assert_eq!(life.thing("i/plan").as_deref(), Some(plan));
    }
}

fn binds(victim: Victim) {
    let mut life = Life::begin(victim);
    life.done("PUT", &instance("i"), "", Some(&provision()));
    let target = binding("i", "b");
    for round in 0..ROUNDS {
        life.cut_off(round, "PUT", &target, "", Some(&bind()));
        life.broker().get(&target).expect(200);
        assert!(life.thing("i/b").is_some());
        assert_eq!(life.made(), 2 + round, "nothing is made twice");
        life.done("DELETE", &target, &deletes(), None);
        assert!(life.thing("i/b").is_none());
    }
}

fn unbinds(victim: Victim) {
    let mut life = Life::begin(victim);
    life.done("PUT", &instance("i"), "", Some(&provision()));
    let target = binding("i", "b");
    for round in 0..ROUNDS {
        life.done("PUT", &target, "", Some(&bind()));
        assert!(life.thing("i/b").is_some());
        life.cut_off(round, "DELETE", &target, &deletes(), None);
        life.broker().get(&target).expect(404);
        assert!(life.thing("i/b").is_none());
    }
}

fn deprovisions(victim: Victim) {
    let mut life = Life::begin(victim);
    let target = instance("i");
    for round in 0..ROUNDS {
        life.done("PUT", &target, "", Some(&provision()));
        life.done("PUT", &binding("i", "b"), "", Some(&bind()));
        assert!(life.thing("i/b").is_some());
        life.cut_off(round, "DELETE", &target, &deletes(), None);
        life.broker().get(&target).expect(404);
        assert_eq!(life.things(), BTreeSet::new());
        let target = format!("{target}{IDS}");
        let again = Request::new(life.broker().address, "DELETE", &target);
        again.send().expect(410);
    }
}

#[test]
fn a_provision_outlives_the_broker() {
    provisions(Victim::Broker);
}

#[test]
fn a_provision_outlives_the_service() {
    provisions(Victim::Service);
}

#[test]
fn an_update_outlives_the_broker() {
    updates(Victim::Broker);
}

#[test]
fn an_update_outlives_the_service() {
    updates(Victim::Service);
}

#[test]
fn a_bind_outlives_the_broker() {
    binds(Victim::Broker);
}

#[test]
fn a_bind_outlives_the_service() {
    binds(Victim::Service);
}

#[test]
fn an_unbind_outlives_the_broker() {
    unbinds(Victim::Broker);
}

#[test]
fn an_unbind_outlives_the_service() {
    unbinds(Victim::Service);
}

#[test]
fn a_deprovision_outlives_the_broker() {
    deprovisions(Victim::Broker);
}

#[test]
fn a_deprovision_outlives_the_service() {
    deprovisions(Victim::Service);
}
