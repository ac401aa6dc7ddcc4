//! Hostile clients of every kind. Each does its deed again and again until it is told to stop; none of them sends or waits
//! without end.

use crate::honest::fields;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Between two deeds of one client: what is wanted is that the broker withstands them, not that the load generator takes
/// the processors away from both.
const PAUSE: Duration = Duration::from_millis(50);
/// How often whoever waits looks whether it is to stop.
const TICK: Duration = Duration::from_millis(200);
/// They come from other addresses of this machine than the honest ones.
const SOURCES: u8 = 8;

/// The addresses of a crowd that comes from everywhere.
pub fn addresses() -> Vec<Ipv4Addr> {
    (2..252).map(|n| Ipv4Addr::new(127, 0, 0, n)).collect()
}

type Deed = fn(&Client) -> Option<()>;

/// What they do. Some have valid credentials; the bodies that those declare and hold back leave some of the memory for
/// bodies to others, since whoever has credentials could as well delete everything. Ends early with `None` where the broker has hung up.
pub const KINDS: [(&str, Deed); 20] = [
    ("silent", |c| c.open()?.stay()),
    ("half a head, then silence", |c| {
        c.say("GET /v2/catalog HTTP/1.1\r\nHost: b")?.stay()
    }),
    ("a head, byte by byte", |c| {
        c.say("GET /v2/catalog HTTP/1.1\r\nX-Slow: ")?.drip()
    }),
    ("an endless head", |c| {
        c.say("GET /v2/catalog HTTP/1.1\r\nX-Long: ")?.pour(b'x')
    }),
    ("too many fields", |c| {
        c.say(&format!(
            "GET / HTTP/1.1\r\nHost: b\r\n{}\r\n",
            "X: y\r\n".repeat(500)
        ))?
        .listen()
    }),
    ("an enormous body without credentials", |c| {
        let mut said = c.say("PUT /v2/service_instances/x HTTP/1.1\r\nHost: b\r\nContent-Length: 9000000000000000\r\n\r\n")?;
        said.pour(b'x')
    }),
    ("an enormous body", |c| {
        c.put("Content-Length: 9000000000000000", "")?.listen()
    }),
    ("a body that stalls", |c| {
        c.put("Content-Length: 100000", "{")?.stay()
    }),
    ("a body, byte by byte", |c| {
        c.put("Content-Length: 100000", "{")?.drip()
    }),
    ("a chunked body without end", |c| {
        c.put("Transfer-Encoding: chunked", "fffff\r\n")?.pour(b' ')
    }),
    ("malformed chunks", |c| {
        c.put("Transfer-Encoding: chunked", "5\r\nhelloX\r\n0\r\n\r\n")?
            .listen()
    }),
    ("smuggling", |c| {
        let hidden = format!("0\r\n\r\nGET /v2/catalog HTTP/1.1\r\n{}\r\n", fields());
        let framing = format!(
            "Content-Length: {}\r\nTransfer-Encoding: chunked",
            hidden.len()
        );
        c.put(&framing, &hidden)?.listen()
    }),
    ("bare line feeds", |c| {
        c.say("GET /v2/catalog HTTP/1.1\nHost: b\n\n")?.listen()
    }),
    ("TLS where there is none", |c| {
        c.say("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}")?
            .listen()
    }),
    ("HTTP/2", |c| {
        c.say("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?.listen()
    }),
    ("garbage", |c| c.open()?.pour(0xff)),
    ("reads nothing", |c| {
        let ask = format!("GET /v2/catalog HTTP/1.1\r\n{}\r\n", fields());
        c.say(&ask.repeat(500))?.stay()
    }),
    ("wrong passwords", |c| {
        let wrong = "Authorization: Basic YWxleDpndWVzcw==\r\n";
        c.say(&format!(
            "GET /v2/catalog HTTP/1.1\r\nHost: b\r\n{wrong}Connection: close\r\n\r\n"
        ))?
        .listen()
    }),
    ("resets", |c| {
        c.say(&format!("GET /v2/catalog HTTP/1.1\r\n{}\r\n", fields()))?
            .reset()
    }),
    ("sixteen at once, and idle then", |c| {
        let ask = "GET /healthz HTTP/1.1\r\nHost: b\r\n\r\n";
        let burst: Vec<_> = (0..16).map(|_| c.say(ask)).collect();
        burst.into_iter().flatten().next()?.stay()
    }),
];

/// The deed of the `n`-th client, until `stop`; counted in `deeds`, which are as many as kinds.
pub fn work(address: SocketAddr, n: usize, stop: &AtomicBool, deeds: &[AtomicU64]) {
    let kind = n % KINDS.len();
    let client = Client {
        address,
        source: Ipv4Addr::new(127, 0, 0, 2 + (n % usize::from(SOURCES)) as u8),
        stop,
    };
    while !client.is_over() {
        let _ = (KINDS[kind].1)(&client);
        deeds[kind].fetch_add(1, Ordering::Relaxed);
        thread::sleep(PAUSE);
    }
}

pub struct Client<'s> {
    address: SocketAddr,
    source: Ipv4Addr,
    stop: &'s AtomicBool,
}

/// A connection of a hostile client.
pub struct Open<'s> {
    stream: TcpStream,
    client: &'s Client<'s>,
}

impl Client<'_> {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn open(&self) -> Option<Open<'_>> {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).ok()?;
        socket
            .bind(&SocketAddr::from((self.source, 0)).into())
            .ok()?;
        socket
            .connect_timeout(&self.address.into(), TICK * 10)
            .ok()?;
        socket.set_recv_buffer_size(16 * 1024).ok()?;
        socket.set_read_timeout(Some(TICK)).ok()?;
        socket.set_write_timeout(Some(TICK)).ok()?;
        Some(Open {
            stream: socket.into(),
            client: self,
        })
    }

    fn say(&self, text: &str) -> Option<Open<'_>> {
        let mut open = self.open()?;
        // What does not fit need not be sent: nobody reads the answers either.
        let _ = open.stream.write(text.as_bytes()).ok()?;
        Some(open)
    }

    /// A provision with valid credentials, and its body so far.
    fn put(&self, framing: &str, body: &str) -> Option<Open<'_>> {
        let fields = fields();
        self.say(&format!(
            "PUT /v2/service_instances/hostile HTTP/1.1\r\n{fields}{framing}\r\n\r\n{body}"
        ))
    }
}

impl Open<'_> {
    /// Reads nothing and says nothing, until the broker hangs up.
    fn stay(&mut self) -> Option<()> {
        while !self.client.is_over() {
            // Whether the end has come can be seen without taking what came before it.
            let mut ahead = [0; 1];
            match self.stream.peek(&mut ahead) {
                Ok(0) => return None,
                Ok(_) => {
                    if self
                        .stream
                        .write(b"\0")
                        .is_err_and(|error| !is_again(&error))
                    {
                        return None;
                    }
                    thread::sleep(TICK);
                }
                Err(error) if is_again(&error) => {}
                Err(_) => return None,
            }
        }
        Some(())
    }

    /// One byte after the other, slowly, until the broker hangs up.
    fn drip(&mut self) -> Option<()> {
        while !self.client.is_over() {
            self.stream.write_all(b"x").ok()?;
            match self.stream.peek(&mut [0]) {
                Err(error) if is_again(&error) => {}
                _ => return None,
            }
        }
        Some(())
    }

    /// A megabyte, as fast as it goes.
    fn pour(&mut self, byte: u8) -> Option<()> {
        for _ in 0..16 {
            if self.client.is_over() {
                break;
            }
            self.stream.write_all(&[byte; 64 * 1024]).ok()?;
        }
        self.listen()
    }

    /// Reads until the broker hangs up.
    fn listen(&mut self) -> Option<()> {
        let mut ignored = [0; 4096];
        while !self.client.is_over() {
            match self.stream.read(&mut ignored) {
                Ok(0) => return Some(()),
                Err(error) if !is_again(&error) => return None,
                _ => {}
            }
        }
        Some(())
    }

    /// Ends the connection as a program does that is killed.
    fn reset(&self) -> Option<()> {
        let linger = Some(Duration::ZERO);
        socket2::SockRef::from(&self.stream).set_linger(linger).ok()
    }
}

fn is_again(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
