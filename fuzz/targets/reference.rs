//! A second reader of requests, written from RFC 9112 and not for speed: it has the whole input before it.

use std::collections::HashMap;

/// One request, as far as framing goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub body: Vec<u8>,
    pub keep_alive: bool,
    /// Bytes from the first of the request line to the last of the body.
    pub length: usize,
    /// What limits are about.
    pub size: Size,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Size {
    pub head: usize,
    pub fields: usize,
    /// The longest line that gives the size of a chunk, and all trailers.
    pub chunk_line: usize,
    pub trailers: usize,
}

/// Why there is no request at the beginning of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum No {
    /// It may still come.
    Incomplete,
    Malformed,
}

/// The request that `bytes` begin with; empty lines before it are the caller's business.
pub fn request(bytes: &[u8]) -> Result<Request, No> {
    let end = find(bytes, b"\r\n\r\n").ok_or(No::Incomplete)?;
    let mut lines = lines(&bytes[..end]).ok_or(No::Malformed)?.into_iter();
    let line = lines.next().ok_or(No::Malformed)?;
    let (method, target, old) = request_line(line).ok_or(No::Malformed)?;
    let mut size = Size {
        head: end + 4,
        ..Size::default()
    };
    let (mut hosts, mut lengths, mut codings) = (0, Vec::new(), Vec::new());
    let (mut close, mut keep) = (false, false);
    let mut singles = HashMap::new();
    for line in lines {
        let (name, value) = field(line).ok_or(No::Malformed)?;
        size.fields += 1;
        match &*name {
            "host" => {
                hosts += 1;
                ascii(value)
                    .filter(|host| is_host(host))
                    .ok_or(No::Malformed)?;
            }
            "content-length" => lengths.push(value),
            "transfer-encoding" => codings.push(value),
            "connection" => {
                let value = ascii(value).ok_or(No::Malformed)?.to_ascii_lowercase();
                let mut options = value.split(',').map(str::trim);
                close |= options.clone().any(|option| option == "close");
                keep |= options.any(|option| option == "keep-alive");
            }
            "expect" if !value.eq_ignore_ascii_case(b"100-continue") => return Err(No::Malformed),
            // What the broker reads has to be readable.
            "authorization"
            | "x-broker-api-version"
            | "x-broker-api-originating-identity"
            | "x-broker-api-request-identity"
            | "x-vcap-request-id"
            | "if-none-match"
            | "if-modified-since" => {
                let value = ascii(value).ok_or(No::Malformed)?;
                let first = singles.entry(name.clone()).or_insert(value);
                if *first != value && name != "if-none-match" {
                    return Err(No::Malformed);
                }
            }
            _ => {}
        }
    }
    if hosts > 1 || (hosts == 0 && !old) {
        return Err(No::Malformed);
    }
    let behind = &bytes[end + 4..];
    let (body, length) = match (&*lengths, &*codings) {
        ([], []) => (Vec::new(), 0),
        ([], [coding]) if !old && coding.eq_ignore_ascii_case(b"chunked") => {
            chunked(behind, &mut size)?
        }
        ([first, rest @ ..], []) => {
            let length = number(first).ok_or(No::Malformed)?;
            if rest.iter().any(|other| number(other) != Some(length)) {
                return Err(No::Malformed);
            }
            let length = usize::try_from(length).map_err(|_| No::Incomplete)?;
            let body = behind.get(..length).ok_or(No::Incomplete)?;
            (body.to_vec(), length)
        }
        _ => return Err(No::Malformed),
    };
    Ok(Request {
        method,
        target,
        body,
        // As the gate has it, "close" may be taken back only by a client of HTTP/1.0 that says both.
        keep_alive: if old { keep && !close } else { !close },
        length: end + 4 + length,
        size,
    })
}

/// The body in chunks that `bytes` begin with, and its length with everything around it.
pub fn chunked(bytes: &[u8], size: &mut Size) -> Result<(Vec<u8>, usize), No> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let line = line(&bytes[at..])?;
        size.chunk_line = size.chunk_line.max(line.len());
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit());
        let (digits, extension) = line.split_at(digits.count());
        if digits.is_empty() || !(extension.is_empty() || extension[0] == b';') {
            return Err(No::Malformed);
        }
        let length = digits.iter().fold(0u128, |length, digit| {
            let digit = (*digit as char).to_digit(16).unwrap_or(0);
            length.saturating_mul(16).saturating_add(digit.into())
        });
        at += line.len() + 2;
        if length == 0 {
            break;
        }
        let length = usize::try_from(length).map_err(|_| No::Incomplete)?;
        let rest = &bytes[at..];
        // A wrong byte behind the data is seen as soon as it is there.
        let end = rest.get(length..).unwrap_or_default();
        if !b"\r\n".starts_with(&end[..end.len().min(2)]) {
            return Err(No::Malformed);
        }
        if end.len() < 2 {
            return Err(No::Incomplete);
        }
        body.extend_from_slice(&rest[..length]);
        at += length + 2;
    }
    loop {
        let rest = &bytes[at..];
        // A field, or the empty line at the end; what is neither is seen at its first wrong byte.
        match rest.iter().position(|byte| !is_token(&[*byte])) {
            None => return Err(No::Incomplete),
            Some(0) if rest[0] == b'\r' => {}
            Some(name) if name > 0 && rest[name] == b':' => {}
            Some(_) => return Err(No::Malformed),
        }
        let line = line(rest)?;
        at += line.len() + 2;
        if line.is_empty() {
            return Ok((body, at));
        }
        size.trailers += line.len();
    }
}

/// The bytes before the first line end, which has to be CR LF, if no control character is among them.
fn line(bytes: &[u8]) -> Result<&[u8], No> {
    let Some(end) = bytes.iter().position(|byte| !is_content(*byte)) else {
        return Err(No::Incomplete);
    };
    match &bytes[end..] {
        [b'\r', b'\n', ..] => Ok(&bytes[..end]),
        b"\r" => Err(No::Incomplete),
        _ => Err(No::Malformed),
    }
}

fn lines(head: &[u8]) -> Option<Vec<&[u8]>> {
    let mut lines = Vec::new();
    let mut left = head;
    while let Some(end) = find(left, b"\r\n") {
        lines.push(&left[..end]);
        left = &left[end + 2..];
    }
    lines.push(left);
    let clean = lines
        .iter()
        .all(|line| line.iter().all(|byte| is_content(*byte)));
    clean.then_some(lines)
}

fn request_line(line: &[u8]) -> Option<(String, String, bool)> {
    let line = std::str::from_utf8(line).ok()?;
    let mut parts = line.split(' ');
    let (method, target, version) = (parts.next()?, parts.next()?, parts.next()?);
    let old = match version {
        "HTTP/1.1" => false,
        "HTTP/1.0" => true,
        _ => return None,
    };
    let is_visible = target
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'#');
    let path = path_of(target)?;
    let well_formed = parts.next().is_none() && is_token(method.as_bytes()) && is_visible;
    well_formed.then(|| (method.to_owned(), path.to_owned(), old))
}

/// What a target asks for, be it a path or a whole URL.
fn path_of(target: &str) -> Option<&str> {
    if target.starts_with('/') {
        return Some(target);
    }
    let mut parts = target.splitn(3, '/');
    let (scheme, nothing, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let known = matches!(&*scheme.to_ascii_lowercase(), "http:" | "https:");
    let host = rest.split(['/', '?']).next()?;
    let path = &rest[host.len()..];
    let well_formed = known && nothing.is_empty() && !host.is_empty() && is_host(host);
    well_formed.then_some(if path.starts_with('/') { path } else { "/" })
}

/// RFC 3986, 3.2: a host without a user, and a port or none.
fn is_host(text: &str) -> bool {
    let is_number = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((address, port))) => {
            let is_address = address.parse::<std::net::Ipv6Addr>().is_ok();
            return is_address
                && (port.is_empty() || port.strip_prefix(':').is_some_and(is_number));
        }
        Some(None) => return false,
        None => text.split(':').collect(),
    };
    let is_name = parts[0]
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-._~%!$&'()*+,;=".contains(c));
    match parts[1..] {
        [] => is_name,
        [port] => is_name && is_number(port),
        _ => false,
    }
}

/// The name in small letters, and the value without white space around it.
fn field(line: &[u8]) -> Option<(String, &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value
        .iter()
        .position(|byte| !is_space(byte))
        .unwrap_or(value.len());
    let end = value
        .iter()
        .rposition(|byte| !is_space(byte))
        .map_or(start, |end| end + 1);
    is_token(name).then(|| {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        (name, &value[start..end])
    })
}

fn is_token(bytes: &[u8]) -> bool {
    let special = b"!#$%&'*+-.^_`|~";
    !bytes.is_empty()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || special.contains(byte))
}

/// What a line may have in it: visible characters, white space, and what is beyond ASCII.
fn is_content(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

fn ascii(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value)
        .ok()
        .filter(|text| text.is_ascii())
}

fn number(digits: &[u8]) -> Option<u128> {
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    all.then(|| {
        digits.iter().fold(0, |number: u128, digit| {
            number
                .saturating_mul(10)
                .saturating_add((digit - b'0').into())
        })
    })
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}
