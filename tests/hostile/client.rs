//! A client that sends whatever bytes it likes, and looks closely at what comes back.

use crate::support::Response;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Longer than anything takes that is not broken.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Client {
    stream: TcpStream,
    /// What has come and was not looked at yet.
    come: Vec<u8>,
    /// The broker will send no more.
    over: bool,
}

impl Client {
    pub fn open(address: SocketAddr) -> Client {
        Client::of(TcpStream::connect(address).unwrap())
    }

    /// Comes from another address of this machine.
    pub fn from(source: Ipv4Addr, address: SocketAddr) -> Client {
        let socket = socket();
        let source = SocketAddr::from((source, 0));
        socket.bind(&source.into()).unwrap();
        socket.connect(&address.into()).unwrap();
        Client::of(socket.into())
    }

    /// Holds few bytes that it has not read.
    pub fn narrow(address: SocketAddr) -> Client {
        let socket = socket();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&address.into()).unwrap();
        Client::of(socket.into())
    }

    /// Sends a request on new connections until one of them is not closed before the answer: as clients have to where
    /// the broker makes room for others.
    #[track_caller]
    pub fn insist(address: SocketAddr, bytes: &[u8]) -> Response {
        for _ in 0..1000 {
            let mut client = Client::open(address);
            client.send(bytes);
            if let Some(answer) = client.next(false) {
                return answer;
            }
        }
        panic!("never answered");
    }

    fn of(stream: TcpStream) -> Client {
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client {
            stream,
            come: Vec::new(),
            over: false,
        }
    }

    /// The same connection, for somebody who sends while another reads.
    pub fn copy(&self) -> Client {
        Client::of(self.stream.try_clone().unwrap())
    }

    /// Sends all of it, unless the broker does not want any more.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.try_send(bytes);
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends nothing more.
    pub fn finish_sending(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Ends the connection as a program does that is killed with unread bytes.
    pub fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// The next answer, be it an interim one.
    #[track_caller]
    pub fn answer(&mut self) -> Response {
        self.next(false).expect("an answer")
    }

    /// The next answer, to a HEAD.
    #[track_caller]
    pub fn answer_to_head(&mut self) -> Response {
        self.next(true).expect("an answer")
    }

    /// The next answer, or none if the broker closes the connection instead.
    #[track_caller]
    pub fn next(&mut self, bodiless: bool) -> Option<Response> {
        loop {
            if let Some((answer, length)) = parse(&self.come, bodiless) {
                self.come.drain(..length);
                return Some(answer);
            }
            if self.over {
                let left = String::from_utf8_lossy(&self.come);
                assert!(left.is_empty(), "no whole answer: {left:?}");
                return None;
            }
            self.read_more();
        }
    }

    /// All answers that are still to come before the broker closes the connection.
    #[track_caller]
    pub fn answers(&mut self) -> Vec<Response> {
        std::iter::from_fn(|| self.next(false)).collect()
    }

    /// The one answer that comes before the broker closes the connection.
    #[track_caller]
    pub fn last_answer(&mut self) -> Response {
        let mut answers = self.answers();
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.remove(0)
    }

    /// Waits until the broker closes the connection, without a word.
    #[track_caller]
    pub fn is_closed(&mut self) {
        let answers = self.answers();
        assert!(answers.is_empty(), "{answers:?}");
    }

    /// Whether the connection is open and nothing has come.
    pub fn is_waiting(&self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        !self.over
            && self.come.is_empty()
            && peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Waits until the broker has closed the connection, without reading.
    #[track_caller]
    pub fn is_closed_unread(&mut self, bytes: &[u8]) {
        self.stream.set_nonblocking(true).unwrap();
        let end = Instant::now() + PATIENCE;
        loop {
            match self.stream.write(bytes) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => return,
                _ => assert!(Instant::now() < end, "the connection stays"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Reads little at a time until something has happened, and then what is left; how many bytes came.
    pub fn trickle(&mut self, until: impl Fn() -> bool) -> usize {
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut came, mut piece) = (0, vec![0; 1024 * 1024]);
        loop {
            let slow = !until();
            let space = if slow { 4096 } else { piece.len() };
            match self.stream.read(&mut piece[..space]) {
                Ok(0) => return came,
                Ok(count) => came += count,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return came,
                Err(error) => panic!("{error}; until then came {came} bytes"),
            }
            if slow {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    #[track_caller]
    fn read_more(&mut self) {
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece) {
            Ok(0) => self.over = true,
            Ok(count) => self.come.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => self.over = true,
            // A signal to the tests, as when a terminal stops them and goes on.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!(
                "{error}; until then came {:?}",
                String::from_utf8_lossy(&self.come)
            ),
        }
    }
}

fn socket() -> socket2::Socket {
    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap()
}

/// The answer at the beginning of `bytes`, once it is whole, and its length.
#[track_caller]
fn parse(bytes: &[u8], bodiless: bool) -> Option<(Response, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap();
    assert!(status_line.starts_with("HTTP/1.1 "), "{status_line:?}");
    let status = status_line[9..12].parse().unwrap();
    let headers = lines
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_owned(), value.to_owned())
        })
        .collect();
    let mut answer = Response {
        status,
        headers,
        body: Vec::new(),
    };
    let length = match answer.header("Content-Length") {
        Some(length) if !bodiless && status != 304 => length.parse().unwrap(),
        _ => 0,
    };
    let body = bytes.get(end + 4..end + 4 + length)?;
    answer.body = body.to_vec();
    Some((answer, end + 4 + length))
}
