//! A connection that is kept open, for whoever cares when which bytes go out.

use super::{Request, Response};

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub struct Connection(BufReader<TcpStream>);

impl Connection {
    pub fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        stream.set_nodelay(true).unwrap();
        Connection(BufReader::new(stream))
    }

    /// A connection that the broker has answered on already, so that the next request is all that is in its way.
    pub fn warm(address: SocketAddr) -> Connection {
        let mut connection = Connection::open(address);
        let request = Request::new(address, "GET", "/healthz");
        connection.send(&request).expect(200);
        connection
    }

    /// One request and its answer; the connection stays.
    pub fn send(&mut self, request: &Request) -> Response {
        self.write(&request.bytes("keep-alive"));
        self.read(request.bytes("").starts_with(b"HEAD "))
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    /// The next answer, be it an interim one. `bodiless`: it is the answer to a HEAD, which declares a body and has none.
    pub fn read(&mut self, bodiless: bool) -> Response {
        let status_line = self.line();
        let status = status_line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(": ") else {
                assert_eq!(line, "", "no header line");
                break;
            };
            headers.push((name.to_owned(), value.to_owned()));
        }
        let mut response = Response {
            status,
            headers,
            body: Vec::new(),
        };
        let length = response
            .header("Content-Length")
            .map(|n| n.parse().unwrap());
        if !bodiless {
            response.body = vec![0; length.unwrap_or(0)];
            self.0.read_exact(&mut response.body).unwrap();
        }
        response
    }

    /// Whether the broker has closed the connection, with nothing left to read; waits for either.
    pub fn is_closed(&mut self) -> bool {
        self.0.fill_buf().is_ok_and(<[u8]>::is_empty)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end_matches("\r\n").to_owned()
    }
}
