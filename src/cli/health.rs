//! `brokerlet health [URL]`: whether a running broker is healthy, for images that have neither a shell nor curl.

use super::{EX_CONFIG, print, usage};
use crate::config;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

/// Until when the answer has to be there, names looked up and connections made.
const DEADLINE: Duration = Duration::from_secs(5);
const PATH: &str = "/healthz";
/// Longest status line that is read.
const LONGEST: u64 = 1024;

/// Where to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    is_tls: bool,
    /// A name or an address, without the brackets of IPv6.
    host: String,
    port: u16,
    path: String,
}

/// Asks, and says what came of it. The exit code is 0 if the broker is healthy.
pub fn run(url: Option<&str>) -> ExitCode {
    let environment = |name: &str| std::env::var(name).ok();
    let target = match url {
        Some(url) => match Target::parse(url) {
            Ok(target) => target,
            Err(wrong) => return usage(&format!("health: {wrong}")),
        },
        None => match config::listening(&environment).and_then(Target::of_broker) {
            Ok(target) => target,
            Err(errors) => {
                errors
                    .iter()
                    .for_each(|error| eprintln!("brokerlet: {error}"));
                return ExitCode::from(EX_CONFIG);
            }
        },
    };
    let url = target.url();
    let (tell, told) = mpsc::channel();
    // One deadline for all of it, names included, which no socket's timeout covers. The thread ends with the process.
    let asking = std::thread::Builder::new().spawn(move || tell.send(ask(&target)));
    if let Err(error) = asking {
        eprintln!("brokerlet: cannot make a thread: {error}");
        return ExitCode::FAILURE;
    }
    let wrong = match told.recv_timeout(DEADLINE) {
        Ok(Ok(200)) => {
            print(&format!("{url}: healthy\n"));
            return ExitCode::SUCCESS;
        }
        Ok(Ok(status)) => format!("answered {status}, wanted 200"),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} seconds", DEADLINE.as_secs()),
    };
    eprintln!("brokerlet: {url}: {wrong}");
    ExitCode::FAILURE
}

impl Target {
    fn parse(url: &str) -> Result<Target, String> {
        let wrong = |what: &str| {
            format!("found {url:?}: {what}; wanted http://HOST[:PORT][/PATH], or https://")
        };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("no scheme"))?;
        let is_tls = match &*scheme.to_ascii_lowercase() {
            "http" => false,
            "https" if cfg!(feature = "tls") => true,
            "https" => return Err(wrong("this brokerlet was built without TLS")),
            _ => return Err(wrong("another scheme")),
        };
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("a character that no URL has"));
        }
        let rest = rest.split('#').next().unwrap_or(rest);
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            // Not quoted: it may be a password.
            return Err("the URL has a user name, which /healthz does not need".to_owned());
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(|| wrong("no \"]\""))?;
                host.parse::<Ipv6Addr>()
                    .map_err(|_| wrong("no IPv6 address within []"))?;
                match port.strip_prefix(':') {
                    None if !port.is_empty() => return Err(wrong("no colon behind \"]\"")),
                    port => (host, port),
                }
            }
            None => match authority.split_once(':') {
                Some((_, port)) if port.contains(':') => {
                    return Err(wrong("an IPv6 address stands within []"));
                }
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.is_empty() {
            return Err(wrong("no host"));
        }
        let port = match port {
            None | Some("") => {
                if is_tls {
                    443
                } else {
                    80
                }
            }
            Some(port) => match port.parse() {
                Ok(port) if port > 0 => port,
                _ => return Err(wrong("no such port")),
            },
        };
        let path = match path {
            "" | "/" => PATH.to_owned(),
            path if path.starts_with('?') => format!("/{path}"),
            path => path.to_owned(),
        };
        Ok(Target {
            is_tls,
            host: host.to_owned(),
            port,
            path,
        })
    }

    /// The broker that listens there.
    fn of_broker((address, is_tls): (SocketAddr, bool)) -> Result<Target, Vec<String>> {
        if address.port() == 0 {
            let text = "PORT: found 0, which is another port at each start; name the URL: brokerlet health URL";
            return Err(vec![text.to_owned()]);
        }
        // It listens on all addresses: any of them will do.
        let host = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        Ok(Target {
            is_tls,
            host: host.to_string(),
            port: address.port(),
            path: PATH.to_owned(),
        })
    }

    fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    fn url(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path)
    }

    fn connect(&self) -> io::Result<TcpStream> {
        if self.host.eq_ignore_ascii_case("localhost") {
            // An image may have no /etc/hosts.
            let local = [
                SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)),
                SocketAddr::from((Ipv6Addr::LOCALHOST, self.port)),
            ];
            return TcpStream::connect(&local[..]);
        }
        let addresses: Vec<SocketAddr> = (&*self.host, self.port).to_socket_addrs()?.collect();
        TcpStream::connect(&addresses[..])
    }
}

/// The status of the answer.
fn ask(target: &Target) -> io::Result<u16> {
    let stream = target.connect()?;
    if target.is_tls {
        return tls::wrap(&target.host, stream).and_then(|stream| exchange(target, stream));
    }
    exchange(target, stream)
}

fn exchange(target: &Target, mut stream: impl Read + Write) -> io::Result<u16> {
    let (path, host) = (&target.path, target.authority());
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut line = Vec::new();
    BufReader::new(stream.take(LONGEST)).read_until(b'\n', &mut line)?;
    status(&line).ok_or_else(|| io::Error::other("the answer is not HTTP"))
}

/// `HTTP/1.1 200 OK`.
fn status(line: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(line).ok()?.strip_prefix("HTTP/1.")?;
    let code = line.split_ascii_whitespace().nth(1)?;
    code.parse().ok().filter(|code| (100..600).contains(code))
}

#[cfg(feature = "tls")]
mod tls;

#[cfg(not(feature = "tls"))]
mod tls {
    use std::io;
    use std::net::TcpStream;

    /// Who names TLS is told earlier that there is none.
    pub fn wrap(_host: &str, _stream: TcpStream) -> io::Result<TcpStream> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(url: &str) -> String {
        Target::parse(url).map_or_else(|wrong| wrong, |target| target.url())
    }

    #[test]
    fn a_url_names_host_port_and_path() {
        for (url, wanted) in [
            ("http://localhost", "http://localhost:80/healthz"),
            ("HTTP://127.0.0.1:5000/", "http://127.0.0.1:5000/healthz"),
            ("http://[::1]:5000", "http://[::1]:5000/healthz"),
            ("http://[::1]", "http://[::1]:80/healthz"),
            (
                "http://b.example.com:/up?x=1#y",
                "http://b.example.com:80/up?x=1",
            ),
            ("http://b?x", "http://b:80/?x"),
        ] {
            assert_eq!(found(url), wanted);
        }
        for (url, wanted) in [
            ("localhost:5000", "no scheme"),
            ("ftp://x", "another scheme"),
            ("http://", "no host"),
            ("http://:5000", "no host"),
            ("http://x:0", "no such port"),
            ("http://x:65536", "no such port"),
            ("http://x:http", "no such port"),
            ("http://::1", "an IPv6 address stands within []"),
            ("http://[::1", "no \"]\""),
            ("http://[x]", "no IPv6 address within []"),
            ("http://[::1]5000", "no colon behind \"]\""),
            ("http://x/a b", "a character that no URL has"),
            ("http://x/\r\nHost: y", "a character that no URL has"),
        ] {
            let complaint = found(url);
            assert!(
                complaint.contains(&format!(": {wanted}; wanted http://")),
                "{complaint}"
            );
        }
        assert!(!found("http://alex:bigsecret@x").contains("bigsecret"));
        let of_tls = found("https://x");
        match cfg!(feature = "tls") {
            true => assert_eq!(of_tls, "https://x:443/healthz"),
            false => assert!(of_tls.contains("built without TLS"), "{of_tls}"),
        }
    }

    #[test]
    fn the_broker_is_asked_where_it_listens() {
        for (address, wanted) in [
            ("0.0.0.0:5000", "http://127.0.0.1:5000/healthz"),
            ("[::]:8080", "http://[::1]:8080/healthz"),
            ("192.0.2.7:80", "http://192.0.2.7:80/healthz"),
        ] {
            let target = Target::of_broker((address.parse().unwrap(), false)).unwrap();
            assert_eq!(target.url(), wanted);
        }
        assert!(Target::of_broker(("0.0.0.0:0".parse().unwrap(), false)).is_err());
    }

    #[test]
    fn the_status_is_that_of_http() {
        for (line, wanted) in [
            ("HTTP/1.1 200 OK\r", Some(200)),
            ("HTTP/1.0 503", Some(503)),
            ("SSH-2.0-x", None),
            ("HTTP/1.1 2000", None),
            ("", None),
        ] {
            assert_eq!(status(line.as_bytes()), wanted, "{line}");
        }
    }
}
