//! Starts the real binary on a free port and speaks HTTP to it.
#![allow(dead_code, reason = "every test file uses a part of it")]

pub mod connection;
pub mod needs;
pub mod pages;
pub mod programs;
pub mod servers;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub const USERNAME: &str = "alex";
pub const PASSWORD: &str = "bigsecret";

/// A folder that is gone when the test is.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The binary with an environment of its own: nothing of the test's environment reaches it.
pub fn brokerlet() -> Command {
    program(env!("CARGO_BIN_EXE_brokerlet"))
}

pub fn program(path: &str) -> Command {
    let mut command = Command::new(path);
    command
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// How to start a broker; by default with the tutorial's credentials and catalog, and a file store in its own folder.
pub struct Setup {
    pub folder: Arc<Folder>,
    pub command: Command,
}

impl Setup {
    pub fn new() -> Setup {
        Setup::in_folder(Arc::new(Folder::new()))
    }

    /// In the folder of an earlier broker, whose state it finds.
    pub fn in_folder(folder: Arc<Folder>) -> Setup {
        Setup::of(brokerlet(), folder)
    }

    pub fn of(mut command: Command, folder: Arc<Folder>) -> Setup {
        command
            .current_dir(folder.path())
            .env("BROKER_USERNAME", USERNAME)
            .env("BROKER_PASSWORD", PASSWORD)
            .env("BROKER_ADDRESS", "127.0.0.1")
            // Tests try as many wrong passwords as they like.
            .env("BROKER_LOGIN_RATE", "0")
            .env("PORT", "0");
        Setup { folder, command }
    }

    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Setup {
        self.command.env(name, value);
        self
    }

    pub fn catalog(self, catalog: &Value) -> Setup {
        let path = self.folder.file("catalog.json", catalog.to_string());
        self.env("BROKER_CATALOG", path)
    }

    pub fn start(mut self) -> Broker {
        let mut child = self.command.spawn().unwrap();
        let printed = Arc::new(Mutex::new(String::new()));
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut address = None;
        let mut line = String::new();
        while address.is_none() && stdout.read_line(&mut line).unwrap() > 0 {
            address = address_in(&line);
            printed.lock().unwrap().push_str(&std::mem::take(&mut line));
        }
        let Some(address) = address else {
            let output = child.wait_with_output().unwrap();
            panic!(
                "the broker did not start: {} {}{}",
                output.status,
                printed.lock().unwrap(),
                String::from_utf8_lossy(&output.stderr)
            );
        };
        let readers = vec![
            collect(stdout, printed.clone()),
            collect(
                BufReader::new(child.stderr.take().unwrap()),
                printed.clone(),
            ),
        ];
        Broker {
            child,
            address,
            folder: self.folder,
            printed,
            readers,
        }
    }

    /// Runs to the end, for starts that are refused.
    pub fn run(mut self) -> Output {
        self.command.output().unwrap()
    }
}

/// The address in the start line, in either form of the log.
fn address_in(line: &str) -> Option<SocketAddr> {
    if let Ok(line) = serde_json::from_str::<Value>(line) {
        return line["listen"].as_str()?.parse().ok();
    }
    let (_, rest) = line.split_once(" listen=")?;
    rest.split_whitespace().next()?.parse().ok()
}

fn collect(
    mut from: impl BufRead + Send + 'static,
    into: Arc<Mutex<String>>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            into.lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}

/// Waits until this is so: something that another process does, and that shows nowhere but there. `told` says what was there
/// instead.
#[track_caller]
pub fn wait_until(told: impl Fn() -> String, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "{}", told());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A running broker; killed when the test ends.
pub struct Broker {
    child: Child,
    pub address: SocketAddr,
    pub folder: Arc<Folder>,
    printed: Arc<Mutex<String>>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

impl Broker {
    /// The tutorial's broker.
    pub fn start() -> Broker {
        Setup::new().start()
    }

    /// A broker with this catalog, its state in memory.
    pub fn with(catalog: &Value) -> Broker {
        Setup::new()
            .env("BROKER_STORE", "memory")
            .catalog(catalog)
            .start()
    }

    /// The tutorial's broker, its state in memory.
    pub fn in_memory() -> Broker {
        Setup::new().env("BROKER_STORE", "memory").start()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn request(&self, method: &str, target: &str) -> Request {
        Request::new(self.address, method, target)
    }

    pub fn get(&self, target: &str) -> Response {
        self.request("GET", target).send()
    }

    pub fn put(&self, target: &str, body: &Value) -> Response {
        self.request("PUT", target).json(body).send()
    }

    pub fn patch(&self, target: &str, body: &Value) -> Response {
        self.request("PATCH", target).json(body).send()
    }

    pub fn delete(&self, target: &str) -> Response {
        self.request("DELETE", target).send()
    }

    /// Asks the broker to stop as Cloud Foundry does, and waits for it. Returns the exit status and all that was printed.
    pub fn stop(mut self) -> (ExitStatus, String) {
        self.signal("TERM");
        let status = self.child.wait().unwrap();
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        let printed = self.printed.lock().unwrap().clone();
        (status, printed)
    }

    pub fn signal(&self, name: &str) {
        needs::kill(name, &self.pid().to_string());
    }

    /// kill -9; returns the folder, in which another broker may start.
    pub fn kill(mut self) -> Arc<Folder> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.folder.clone()
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// What was printed until now.
    pub fn printed(&self) -> String {
        self.printed.lock().unwrap().clone()
    }

    /// Waits until the broker has printed this.
    #[track_caller]
    pub fn wait_for_print(&self, text: &str) {
        self.wait_for_prints(text, 1);
    }

    /// Waits until the broker has printed this so many times.
    #[track_caller]
    pub fn wait_for_prints(&self, text: &str, n: usize) {
        let told = || format!("{text} was not printed {n} times\n{}", self.printed());
        wait_until(told, || self.printed().matches(text).count() >= n);
    }

    /// Polls until the last operation is not in progress any more, or there is none: the last answer.
    #[track_caller]
    pub fn settled(&self, target: &str) -> Response {
        let poll = || self.get(&format!("{target}/last_operation"));
        let mut last = poll();
        let told = || format!("{target} is in progress for ever\n{}", self.printed());
        wait_until(told, || {
            last = poll();
            last.status != 200 || last.json()["state"] != "in progress"
        });
        last
    }

    /// Polls until the answer is as wanted, and returns it.
    #[track_caller]
    pub fn poll_until(&self, target: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let poll = || {
            self.get(&format!("{target}/last_operation"))
                .expect(200)
                .json()
        };
        let mut last = poll();
        let told = || format!("{target}\n{}", self.printed());
        wait_until(told, || {
            last = poll();
            wanted(&last)
        });
        last
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request in the making: with the right credentials and version, unless told otherwise.
pub struct Request {
    address: SocketAddr,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    pub fn new(address: SocketAddr, method: &str, target: &str) -> Request {
        let token = BASE64_STANDARD.encode(format!("{USERNAME}:{PASSWORD}"));
        Request {
            address,
            method: method.into(),
            target: target.into(),
            headers: vec![
                ("Authorization".into(), format!("Basic {token}")),
                ("X-Broker-API-Version".into(), "2.17".into()),
            ],
            body: Vec::new(),
        }
    }

    pub fn method(&self) -> &str {
        &self.method
    }

    pub fn target(&self) -> &str {
        &self.target
    }

    /// Sets a header field, in the place of one of the same name.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Request {
        self = self.without(name);
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn without(mut self, name: &str) -> Request {
        self.headers
            .retain(|(field, _)| !field.eq_ignore_ascii_case(name));
        self
    }

    /// Other credentials.
    pub fn login(self, username: &str, password: &str) -> Request {
        let token = BASE64_STANDARD.encode(format!("{username}:{password}"));
        self.header("Authorization", format!("Basic {token}"))
    }

    /// On behalf of a user of Cloud Foundry.
    pub fn user(self, user_id: &str) -> Request {
        let value = BASE64_STANDARD.encode(json!({ "user_id": user_id }).to_string());
        self.header(
            "X-Broker-API-Originating-Identity",
            format!("cloudfoundry {value}"),
        )
    }

    pub fn json(self, body: &Value) -> Request {
        self.header("Content-Type", "application/json")
            .body(body.to_string())
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = body.into();
        self
    }

    pub fn send(self) -> Response {
        self.try_send().unwrap()
    }

    /// An error if the broker goes away before it has answered.
    pub fn try_send(self) -> std::io::Result<Response> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.write_all(&self.bytes("close"))?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Response::parse(&answer).ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
    }

    /// The request as it goes over the wire.
    pub fn bytes(&self, connection: &str) -> Vec<u8> {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nConnection: {connection}\r\n",
            self.method, self.target, self.address
        );
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !self.body.is_empty() || matches!(&*self.method, "PUT" | "PATCH" | "POST") {
            head += &format!("Content-Length: {}\r\n", self.body.len());
        }
        let mut bytes = (head + "\r\n").into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    fn parse(bytes: &[u8]) -> Option<Response> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let response = Response {
            status,
            headers,
            body: bytes[end + 4..].to_vec(),
        };
        let declared: usize = response.header("Content-Length")?.parse().ok()?;
        let bodiless = response.body.is_empty();
        (response.body.len() == declared || bodiless).then_some(response)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!(
                "no JSON in the answer ({error}): {} {}",
                self.status,
                String::from_utf8_lossy(&self.body)
            )
        })
    }

    pub fn description(&self) -> String {
        self.json()["description"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Asserts the status; for an error also that its body is one that a user can act on.
    #[track_caller]
    pub fn expect(self, status: u16) -> Response {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        if status >= 400 {
            assert!(
                !self.description().is_empty(),
                "an error without description"
            );
        }
        self
    }

    /// Asserts status and error code.
    #[track_caller]
    pub fn expect_error(self, status: u16, code: &str) -> Response {
        let response = self.expect(status);
        assert_eq!(response.json()["error"], code);
        response
    }

    /// Asserts the status, and that the description names this.
    #[track_caller]
    pub fn expect_naming(self, status: u16, name: &str) -> Response {
        let response = self.expect(status);
        let description = response.description();
        assert!(
            description.contains(name),
            "{name:?} is not in {description:?}"
        );
        response
    }
}

pub fn instance(id: &str) -> String {
    format!("/v2/service_instances/{id}")
}

pub fn binding(instance: &str, id: &str) -> String {
    format!("/v2/service_instances/{instance}/service_bindings/{id}")
}

/// The tutorial's ids, as the query of a delete.
pub const IDS: &str = "?service_id=example_service&plan_id=plan_one";

/// A provision request for a plan.
pub fn provision(service: &str, plan: &str) -> Value {
    json!({
        "service_id": service,
        "plan_id": plan,
        "organization_guid": "org-1",
        "space_guid": "space-1",
        "context": {
            "platform": "cloudfoundry",
            "organization_guid": "org-1",
            "organization_name": "acme",
            "space_guid": "space-1",
            "space_name": "dev",
            "instance_name": "mine"
        }
    })
}

/// A bind request for a plan.
pub fn bind(service: &str, plan: &str) -> Value {
    json!({
        "service_id": service,
        "plan_id": plan,
        "app_guid": "app-1",
        "bind_resource": { "app_guid": "app-1", "space_guid": "space-1" }
    })
}

/// `value` with some of its fields replaced.
pub fn merged(value: &Value, changes: Value) -> Value {
    let mut merged = value.clone();
    for (name, change) in changes.as_object().unwrap() {
        merged[name] = change.clone();
    }
    merged
}

/// `value` without one of its fields.
pub fn without(value: &Value, field: &str) -> Value {
    let mut less = value.clone();
    less.as_object_mut().unwrap().remove(field).unwrap();
    less
}
