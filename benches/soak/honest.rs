//! Platforms: each does one thing after the other, and wants the right answer. Every other one opens a connection for each
//! request, as Cloud Controller does; the rest keep theirs.

use crate::support::{PASSWORD, USERNAME};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Between two requests: platforms do not send them back to back, and how long one takes is to say something about the
/// broker, not about how busy the processors are with the load itself.
const PAUSE: Duration = Duration::from_millis(20);
/// What no request may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long requests took, in microseconds.
#[derive(Default)]
pub struct Latencies(Vec<u32>);

impl Latencies {
    pub fn add(&mut self, other: Latencies) {
        self.0.extend(other.0);
        self.0.sort_unstable();
    }

    /// In microseconds.
    pub fn percentile(&self, percent: f64) -> f64 {
        let at = (self.0.len() as f64 * percent / 100.0) as usize;
        self.0
            .get(at.min(self.0.len().saturating_sub(1)))
            .map_or(f64::NAN, |&microseconds| f64::from(microseconds))
    }
}

impl std::fmt::Display for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [half, ninety_nine, all] = [50.0, 99.0, 100.0].map(|percent| self.percentile(percent));
        write!(
            f,
            "{} requests, median {half} µs, 99th percentile {ninety_nine} µs, longest {all} µs",
            self.0.len()
        )
    }
}

pub struct Platform {
    address: SocketAddr,
    connection: Option<TcpStream>,
    id: u64,
    cycles: u64,
    pub latencies: Latencies,
    pub failures: Vec<String>,
    pub again: u64,
}

/// The header fields of every request but the length of the body.
pub fn fields() -> String {
    let token = BASE64_STANDARD.encode(format!("{USERNAME}:{PASSWORD}"));
    format!("Host: broker\r\nAuthorization: Basic {token}\r\nX-Broker-API-Version: 2.17\r\n")
}

const PROVISION: &str = r#"{"service_id":"example_service","plan_id":"plan_one","organization_guid":"org-1","space_guid":"space-1","context":{"platform":"cloudfoundry","organization_guid":"org-1","space_guid":"space-1"}}"#;
const BIND: &str = r#"{"service_id":"example_service","plan_id":"plan_one","app_guid":"app-1","bind_resource":{"app_guid":"app-1"}}"#;
const IDS: &str = "service_id=example_service&plan_id=plan_one";

impl Platform {
    pub fn new(address: SocketAddr, id: u64) -> Platform {
        Platform {
            address,
            connection: None,
            id,
            cycles: 0,
            latencies: Latencies::default(),
            failures: Vec::new(),
            again: 0,
        }
    }

    /// The life of an instance and a binding. Once begun it is brought to its end.
    pub fn cycle(&mut self, stop: &AtomicBool) {
        self.cycles += 1;
        let instance = format!("/v2/service_instances/soak-{}-{}", self.id, self.cycles);
        let binding = format!("{instance}/service_bindings/b");
        // A large body now and then, filled up with white space.
        let padding = if self.cycles.is_multiple_of(10) {
            100_000
        } else {
            0
        };
        let provision = format!("{PROVISION}{}", " ".repeat(padding));
        let requests = [
            ("GET", "/v2/catalog", "", 200),
            ("PUT", &*instance, &*provision, 201),
            ("PUT", &instance, &provision, 200),
            ("PUT", &binding, BIND, 201),
            ("GET", "/healthz", "", 200),
            ("DELETE", &format!("{binding}?{IDS}"), "", 200),
            ("DELETE", &format!("{instance}?{IDS}"), "", 200),
            ("DELETE", &format!("{instance}?{IDS}"), "", 410),
        ];
        for (method, target, body, status) in requests {
            let started = Instant::now();
            match self.request(method, target, body) {
                Ok(found) if found == status => {
                    let took = started.elapsed().as_micros();
                    self.latencies.0.push(took.try_into().unwrap_or(u32::MAX));
                }
                Ok(found) => self.fail(format!("{method} {target}: {found}, wanted {status}")),
                Err(error) => self.fail(format!("{method} {target}: {error}")),
            }
            if !stop.load(Ordering::Relaxed) {
                thread::sleep(PAUSE);
            }
        }
    }

    fn fail(&mut self, complaint: String) {
        self.connection = None;
        self.failures.push(complaint);
    }

    /// The status of the answer. A connection on which nothing came back had been closed while it was idle: as every client
    /// does, sends the request once more, on a new one.
    fn request(&mut self, method: &str, target: &str, body: &str) -> io::Result<u16> {
        let length = match method {
            "PUT" => format!("Content-Length: {}\r\n", body.len()),
            _ => String::new(),
        };
        let bytes = format!(
            "{method} {target} HTTP/1.1\r\n{}{length}\r\n{body}",
            fields()
        );
        let kept = self.connection.take().filter(|_| self.id.is_multiple_of(2));
        if let Some(mut connection) = kept {
            if let Some((status, stays)) = exchange(&mut connection, bytes.as_bytes())? {
                self.connection = stays.then_some(connection);
                return Ok(status);
            }
            self.again += 1;
        }
        let mut connection = TcpStream::connect(self.address)?;
        connection.set_nodelay(true)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        let answer = exchange(&mut connection, bytes.as_bytes())?;
        let (status, stays) = answer.ok_or(ErrorKind::UnexpectedEof)?;
        self.connection = stays.then_some(connection);
        Ok(status)
    }
}

/// The status of the answer, and whether the connection stays. `None` if the connection ended before the answer began.
fn exchange(connection: &mut TcpStream, request: &[u8]) -> io::Result<Option<(u16, bool)>> {
    let is_end = |error: &io::Error| {
        matches!(
            error.kind(),
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
        )
    };
    match connection.write_all(request) {
        Err(error) if is_end(&error) => return Ok(None),
        result => result?,
    }
    let mut come = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match connection.read(&mut piece) {
            Ok(0) if come.is_empty() => return Ok(None),
            Err(error) if come.is_empty() && is_end(&error) => return Ok(None),
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            result => come.extend_from_slice(&piece[..result?]),
        }
        let Some(end) = come.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&come[..end]).into_owned();
        let field = |name: &str| {
            head.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let length: usize = field("Content-Length")
            .and_then(|length| length.parse().ok())
            .ok_or(ErrorKind::InvalidData)?;
        if come.len() > end + 4 + length {
            return Err(io::Error::other("more than one answer"));
        }
        if come.len() == end + 4 + length {
            let status = head.get(9..12).and_then(|status| status.parse().ok());
            let stays = field("Connection") != Some("close");
            return Ok(Some((status.ok_or(ErrorKind::InvalidData)?, stays)));
        }
    }
}
