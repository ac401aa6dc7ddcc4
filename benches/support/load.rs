//! Load over HTTP: blocking threads, one for each connection, and requests that are rendered once.
//!
//! The load runs on the same processors as the server that it measures, so it does as little as it can.

use super::{Fallible, PASSWORD, USERNAME};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// tiny_http forgets some of the connections that are opened all at once, and a few of others.
const APART: Duration = Duration::from_millis(5);
/// After which a new connection counts as forgotten, and another is opened in its place.
const FORGOTTEN: Duration = Duration::from_secs(1);
/// How many may be forgotten in one run.
const MOST_FORGOTTEN: usize = 20;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Stands in the path where each request has an id of its own.
const ID: &str = "00000000-5c1e-4d0b-a0f3-000000000000";

/// A request, rendered but for the id in its path, and the status that it must be answered with.
#[derive(Clone)]
pub struct Template {
    bytes: Vec<u8>,
    id: Option<usize>,
    status: [u8; 3],
}

impl Template {
    pub fn new(method: &str, path: &str, body: &str, status: &[u8; 3]) -> Template {
        let token = BASE64_STANDARD.encode(format!("{USERNAME}:{PASSWORD}"));
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: broker.example.com\r\nAuthorization: Basic {token}\r\n\
             X-Broker-API-Version: 2.17\r\n"
        );
        if !body.is_empty() {
            head += &format!(
                "Content-Type: application/json\r\nContent-Length: {}\r\n",
                body.len()
            );
        }
        let bytes = format!("{head}\r\n{body}").into_bytes();
        Template {
            id: path.find(ID).map(|at| method.len() + 1 + at),
            bytes,
            status: *status,
        }
    }

    pub fn catalog() -> Template {
        Template::new("GET", "/v2/catalog", "", b"200")
    }

    /// Makes a service instance of the tutorial's plan, as Cloud Foundry does.
    pub fn provision() -> Template {
        let body = r#"{"service_id":"example_service","plan_id":"plan_one","organization_guid":"6e1d6d36-84a3-4a8f-a6f1-bb6f0e9e6a70","space_guid":"9c1c0d52-0d2f-4a2f-8b8e-0d5e9f6d4c11","context":{"platform":"cloudfoundry","organization_guid":"6e1d6d36-84a3-4a8f-a6f1-bb6f0e9e6a70","organization_name":"acme","space_guid":"9c1c0d52-0d2f-4a2f-8b8e-0d5e9f6d4c11","space_name":"dev","instance_name":"mine"}}"#;
        Template::new("PUT", &format!("/v2/service_instances/{ID}"), body, b"201")
    }

    /// Asks how the provision of an instance went, which reads its record.
    pub fn last_operation() -> Template {
        let path = format!("/v2/service_instances/{ID}/last_operation");
        Template::new("GET", &path, "", b"200")
    }

    /// Makes an instance and a binding of it, and removes both.
    pub fn life() -> Vec<Template> {
        let ids = "?service_id=example_service&plan_id=plan_one";
        let instance = format!("/v2/service_instances/{ID}");
        let binding = format!("{instance}/service_bindings/b");
        let bind = r#"{"service_id":"example_service","plan_id":"plan_one","bind_resource":{"app_guid":"0d2f4a2f-8b8e-4d5e-9f6d-4c119c1c0d52"}}"#;
        vec![
            Template::provision(),
            Template::new("PUT", &binding, bind, b"201"),
            Template::new("DELETE", &format!("{binding}{ids}"), "", b"200"),
            Template::new("DELETE", &format!("{instance}{ids}"), "", b"200"),
        ]
    }

    fn fill(&mut self, number: u64) {
        if let Some(at) = self.id {
            self.bytes[at..at + ID.len()].copy_from_slice(id(number).as_bytes());
        }
    }
}

/// The id with a number: as many ids as numbers, in no order, as are those of a platform.
pub fn id(number: u64) -> String {
    let digits = format!("{:016x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    format!("{}{}0000{}", &digits[..8], &ID[8..24], &digits[8..])
}

/// What a load was answered.
#[derive(Default)]
pub struct Answers {
    /// In the time of the measurement.
    pub count: u64,
    /// All of them, those before the measurement too.
    pub asked: u64,
    /// Connections that the server forgot when they were opened. It may still answer them some time.
    pub forgotten: usize,
    pub seconds: f64,
    /// Of each request, in microseconds; sorted.
    latencies: Vec<f64>,
}

impl Answers {
    pub fn rate(&self) -> f64 {
        self.count as f64 / self.seconds
    }

    /// The 99th percentile of the time from request to answer, in microseconds.
    pub fn p99(&self) -> f64 {
        match self.latencies.len() {
            0 => f64::NAN,
            count => self.latencies[(count - 1) * 99 / 100],
        }
    }
}

/// Sends these requests one after the other, again and again, on that many connections at once that are kept open, for
/// so long. Each time round takes the next number for its id. Fails with the first answer of another status.
pub fn run(
    address: SocketAddr,
    connections: usize,
    duration: Duration,
    round: &[Template],
    next: &AtomicU64,
) -> Fallible<Answers> {
    run_on(
        || Connection::open(address),
        connections,
        duration,
        round,
        next,
    )
}

/// The same, on connections of any kind.
pub fn run_on(
    open: impl Fn() -> io::Result<Connection>,
    connections: usize,
    duration: Duration,
    round: &[Template],
    next: &AtomicU64,
) -> Fallible<Answers> {
    let mut answers = Answers::default();
    let mut opened = Vec::new();
    while opened.len() < connections {
        thread::sleep(APART);
        let mut connection = open()?;
        connection.stream.wait_at_most(FORGOTTEN)?;
        match connection.ask(&Template::catalog()) {
            Ok(()) => {
                connection.stream.wait_at_most(PATIENCE)?;
                answers.asked += 1;
                opened.push(connection);
            }
            Err(error)
                if error.kind() == ErrorKind::WouldBlock && answers.forgotten < MOST_FORGOTTEN =>
            {
                answers.forgotten += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let start = Barrier::new(connections);
    let one = |mut connection: Connection| -> io::Result<(Vec<Duration>, Duration)> {
        let mut round = round.to_vec();
        let mut latencies = Vec::with_capacity(1 << 16);
        start.wait();
        let started = Instant::now();
        let mut before = started;
        while before - started < duration {
            let number = next.fetch_add(1, Ordering::Relaxed);
            for template in &mut round {
                template.fill(number);
                connection.ask(template)?;
                let now = Instant::now();
                latencies.push(now - before);
                before = now;
            }
        }
        Ok((latencies, before - started))
    };
    thread::scope(|scope| -> Fallible {
        let threads: Vec<_> = opened
            .into_iter()
            .map(|connection| scope.spawn(|| one(connection)))
            .collect();
        for thread in threads {
            let (latencies, took) = thread.join().map_err(|_| "a connection panicked")??;
            answers.count += latencies.len() as u64;
            answers.asked += latencies.len() as u64;
            answers.seconds = answers.seconds.max(took.as_secs_f64());
            let micros = latencies.iter().map(|latency| latency.as_secs_f64() * 1e6);
            answers.latencies.extend(micros);
        }
        Ok(())
    })?;
    answers.latencies.sort_unstable_by(f64::total_cmp);
    Ok(answers)
}

/// What a connection runs over.
pub trait Wire: Read + Write + Send {
    /// For the other side to say something.
    fn wait_at_most(&self, limit: Duration) -> io::Result<()>;
}

impl Wire for TcpStream {
    fn wait_at_most(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))
    }
}

/// One connection, kept open.
pub struct Connection {
    stream: Box<dyn Wire>,
    buffer: Vec<u8>,
}

/// Connects as far as TCP goes.
pub fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.wait_at_most(PATIENCE)?;
    Ok(stream)
}

impl Connection {
    pub fn open(address: SocketAddr) -> io::Result<Connection> {
        Ok(Connection::over(Box::new(connect(address)?)))
    }

    pub fn over(stream: Box<dyn Wire>) -> Connection {
        Connection {
            stream,
            buffer: vec![0; 64 * 1024],
        }
    }

    /// Sends a request for the instance with this number, and reads the answer.
    pub fn ask_for(&mut self, mut template: Template, number: u64) -> io::Result<()> {
        template.fill(number);
        self.ask(&template)
    }

    fn ask(&mut self, template: &Template) -> io::Result<()> {
        self.stream.write_all(&template.bytes)?;
        let mut filled = 0;
        loop {
            match self.stream.read(&mut self.buffer[filled..])? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
            if let Some(length) = length(&self.buffer[..filled]) {
                if filled == length && self.buffer[9..12] == template.status {
                    return Ok(());
                }
                if filled >= length {
                    let answer = String::from_utf8_lossy(&self.buffer[..filled]);
                    let wanted = String::from_utf8_lossy(&template.status);
                    return Err(io::Error::other(format!("wanted {wanted}, found {answer}")));
                }
            }
        }
    }
}

/// The length of the whole answer, once its head is there.
fn length(answer: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"\r\nContent-Length: ";
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let name = answer[..head]
        .windows(NAME.len())
        .position(|name| name == NAME)?;
    let digits = &answer[name + NAME.len()..head];
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    let body: usize = std::str::from_utf8(&digits[..end]).ok()?.parse().ok()?;
    Some(head + body)
}
