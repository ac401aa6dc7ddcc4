//! A web service that does as a test says: it writes any bytes, when and as slowly as it likes.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What it was told.
#[derive(Clone, Debug)]
pub struct Heard {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Which connection it came on, counted from 0.
    pub connection: usize,
    pub at: Instant,
}

impl Heard {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(field, _)| field.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn document(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn operation(&self) -> String {
        self.document()["operation"].as_str().unwrap().to_owned()
    }

    pub fn attempt(&self) -> u32 {
        self.header("Brokerlet-Attempt").unwrap().parse().unwrap()
    }

    /// Reads one request. `None` at the end of the connection.
    fn read(stream: &mut BufReader<impl Read>, connection: usize) -> Option<Heard> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let mut words = lines.first()?.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let headers: Vec<(String, String)> = lines[1..]
            .iter()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut heard = Heard {
            method,
            path,
            headers,
            body: Vec::new(),
            connection,
            at: Instant::now(),
        };
        let length = heard.header("Content-Length").unwrap_or("0").parse().ok()?;
        heard.body = vec![0; length];
        stream.read_exact(&mut heard.body).ok()?;
        Some(heard)
    }
}

/// Whether a connection is kept after an answer.
pub enum Then {
    Keep,
    Close,
}

/// Where an answer is written to.
pub type Out<'o> = &'o mut dyn Write;

type Wrap = Box<dyn Fn(TcpStream) -> Option<Box<dyn ReadWrite>> + Send + Sync>;
type Answer = Box<dyn Fn(&Heard, Out<'_>) -> Then + Send + Sync>;

pub trait ReadWrite: Read + Write {}
impl<S: Read + Write> ReadWrite for S {}

struct Shared {
    answer: Answer,
    wrap: Wrap,
    heard: Mutex<Vec<Heard>>,
    came: Condvar,
}

pub struct Service {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Service {
    /// One that answers so.
    pub fn start(answer: impl Fn(&Heard, Out<'_>) -> Then + Send + Sync + 'static) -> Service {
        Service::at("127.0.0.1:0", answer)
    }

    pub fn at(
        address: &str,
        answer: impl Fn(&Heard, Out<'_>) -> Then + Send + Sync + 'static,
    ) -> Service {
        let plain = |stream| Some(Box::new(stream) as Box<dyn ReadWrite>);
        Service::over(address, plain, answer)
    }

    /// With something around each socket, as TLS.
    pub fn over(
        address: &str,
        wrap: impl Fn(TcpStream) -> Option<Box<dyn ReadWrite>> + Send + Sync + 'static,
        answer: impl Fn(&Heard, Out<'_>) -> Then + Send + Sync + 'static,
    ) -> Service {
        let listener = TcpListener::bind(address).unwrap();
        let service = Service {
            address: listener.local_addr().unwrap(),
            shared: Arc::new(Shared {
                answer: Box::new(answer),
                wrap: Box::new(wrap),
                heard: Mutex::default(),
                came: Condvar::new(),
            }),
        };
        let shared = service.shared.clone();
        thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let (shared, stream) = (shared.clone(), stream.unwrap());
                thread::spawn(move || serve(&shared, stream, connection));
            }
        });
        service
    }

    /// One that answers every operation with this, at once.
    pub fn saying(status: &'static str, headers: &'static str, body: &'static str) -> Service {
        Service::start(move |_, out| say(out, status, headers, body))
    }

    pub fn url(&self) -> String {
        format!("http://{}/brokerlet", self.address)
    }

    /// All that came by now.
    pub fn heard(&self) -> Vec<Heard> {
        self.shared.heard.lock().unwrap().clone()
    }

    /// Waits until so many requests have come.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<Heard> {
        let heard = self.shared.heard.lock().unwrap();
        let (heard, waited) = self
            .shared
            .came
            .wait_timeout_while(heard, PATIENCE, |heard| heard.len() < count)
            .unwrap();
        assert!(!waited.timed_out(), "{count} wanted: {heard:?}");
        heard.clone()
    }
}

fn serve(shared: &Shared, stream: TcpStream, connection: usize) {
    let Some(stream) = (shared.wrap)(stream) else {
        return;
    };
    let mut stream = BufReader::new(stream);
    while let Some(heard) = Heard::read(&mut stream, connection) {
        shared.heard.lock().unwrap().push(heard.clone());
        shared.came.notify_all();
        match (shared.answer)(&heard, stream.get_mut()) {
            Then::Keep => {}
            Then::Close => return,
        }
    }
}

/// A whole answer. `headers`: lines that end with CR LF.
pub fn say(out: Out<'_>, status: &str, headers: &str, body: &str) -> Then {
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
    // The client may be gone.
    let _ = out.write_all(answer.as_bytes()).and_then(|()| out.flush());
    Then::Keep
}

pub fn done(out: Out<'_>) -> Then {
    say(out, "200 OK", "", "{}")
}

/// A gate in the way of an answer, which a test opens.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub fn pass(&self) {
        let is_open = self.0.0.lock().unwrap();
        let waited = self
            .0
            .1
            .wait_timeout_while(is_open, PATIENCE, |open| !*open);
        assert!(!waited.unwrap().1.timed_out());
    }
}
