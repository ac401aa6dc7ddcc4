use super::*;

const HOST: &str = "Host: broker\r\n";

/// What the gate does with these bytes: how many are the head and what it says, or the status of the refusal.
fn read(bytes: &[u8]) -> Result<Option<usize>, u16> {
    let mut looked = 0;
    let end = find_end(bytes, &mut looked).map_err(|error| error.status)?;
    let Some(end) = end else { return Ok(None) };
    parse(&bytes[..end], &Limits::default()).map_err(|error| error.status)?;
    Ok(Some(end))
}

/// A `PUT /` with these further lines.
fn with(lines: &str) -> String {
    format!("PUT / HTTP/1.1\r\n{HOST}{lines}\r\n")
}

fn framing(lines: &str) -> Result<Framing, u16> {
    let text = with(lines);
    parse(text.as_bytes(), &Limits::default())
        .map(|head| head.body)
        .map_err(|error| error.status)
}

#[test]
fn a_head_ends_with_its_empty_line_however_it_comes() {
    let text = format!("GET /v2/catalog HTTP/1.1\r\n{HOST}\r\nrest");
    let bytes = text.as_bytes();
    assert_eq!(read(bytes), Ok(Some(bytes.len() - 4)));
    for length in 0..bytes.len() - 4 {
        assert_eq!(read(&bytes[..length]), Ok(None), "{length}");
    }
    let mut looked = 0;
    for length in 0..bytes.len() - 4 {
        assert_eq!(find_end(&bytes[..length], &mut looked).unwrap(), None);
    }
    assert_eq!(find_end(bytes, &mut looked).unwrap(), Some(bytes.len() - 4));
}

#[test]
fn only_what_the_broker_reads_is_passed_on() {
    let text = with(
        "AUTHORIZATION:  Basic eDp5 \r\nX-Other: \u{e9}\r\nx-broker-api-version: 2.17\r\nUpgrade: h2c\r\nCookie: a\r\n",
    );
    let head = parse(text.as_bytes(), &Limits::default()).unwrap();
    assert_eq!(
        head.fields,
        [
            ("Authorization", "Basic eDp5"),
            ("X-Broker-API-Version", "2.17")
        ]
    );
    assert_eq!(head.field("Authorization"), Some("Basic eDp5"));
    assert_eq!((head.method, head.target, head.path()), ("PUT", "/", "/"));
}

#[test]
fn the_length_of_the_body_is_beyond_doubt() {
    for (lines, expected) in [
        ("", Ok(Framing::None)),
        ("Content-Length: 0\r\n", Ok(Framing::Length(0))),
        ("Content-Length: 007\r\n", Ok(Framing::Length(7))),
        (
            "Content-Length: 5\r\ncontent-length: 5\r\n",
            Ok(Framing::Length(5)),
        ),
        (
            "Content-Length: 99999999999999999999999\r\n",
            Ok(Framing::Length(u64::MAX)),
        ),
        ("Transfer-Encoding: Chunked\r\n", Ok(Framing::Chunked)),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", Err(400)),
        ("Content-Length: 5, 5\r\n", Err(400)),
        ("Content-Length: abc\r\n", Err(400)),
        ("Content-Length: -5\r\n", Err(400)),
        ("Content-Length: +5\r\n", Err(400)),
        ("Content-Length: 0x5\r\n", Err(400)),
        ("Content-Length: 5 5\r\n", Err(400)),
        ("Content-Length:\r\n", Err(400)),
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            Err(400),
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            Err(400),
        ),
        ("Transfer-Encoding: gzip\r\n", Err(400)),
        ("Transfer-Encoding: gzip, chunked\r\n", Err(400)),
        ("Transfer-Encoding: chunked, chunked\r\n", Err(400)),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            Err(400),
        ),
        ("Transfer-Encoding: xchunked\r\n", Err(400)),
        ("Transfer-Encoding: chunked;q=1\r\n", Err(400)),
        ("Transfer-Encoding: \u{b}chunked\r\n", Err(400)),
        ("Transfer-Encoding:\r\n", Err(400)),
        ("Transfer-Encoding: identity\r\n", Err(400)),
    ] {
        assert_eq!(framing(lines), expected, "{lines:?}");
    }
    let old = "PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(read(old.as_bytes()), Err(400));
}

#[test]
fn line_ends_and_names_are_strict() {
    for text in [
        "GET / HTTP/1.1\nHost: x\n\n",
        "GET / HTTP/1.1\r\nHost: x\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n\n",
        "GET / HTTP/1.1\r\nHost: x\rX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: \0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost\t: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nX: y\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nX\u{e9}: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: \u{e9}\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nX: \u{7f}\r\n\r\n",
    ] {
        assert_eq!(read(text.as_bytes()), Err(400), "{text:?}");
    }
}

#[test]
fn request_lines_are_strict() {
    for line in [
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET /",
        "GET",
        "GET / HTTP/2.0",
        "PRI * HTTP/2.0",
        "GET / HTTP/1.2",
        "GET / http/1.1",
        "GET /a b HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET * HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "GET ftp://broker/v2/catalog HTTP/1.1",
        "GET http:///v2/catalog HTTP/1.1",
        "GET http://user@broker/v2/catalog HTTP/1.1",
        "GET http:/v2/catalog HTTP/1.1",
        "GET http://broker/#x HTTP/1.1",
        "CONNECT broker:80 HTTP/1.1",
        "GET v2/catalog HTTP/1.1",
        "GET /#x HTTP/1.1",
        "GET /\u{e9} HTTP/1.1",
        "GET /\u{1} HTTP/1.1",
    ] {
        let text = format!("{line}\r\n{HOST}\r\n");
        assert_eq!(read(text.as_bytes()), Err(400), "{line:?}");
    }
    // What is no request at all is refused at its first byte.
    for garbage in [&b"\x16\x03\x01\x02\x00"[..], b"\0", b"{", b"\xff", b" "] {
        assert_eq!(read(garbage), Err(400), "{garbage:?}");
    }
}

#[test]
fn a_target_may_name_its_host() {
    for (target, path) in [
        ("http://broker/v2/catalog?a=b", "/v2/catalog?a=b"),
        ("HTTPS://broker.example.com:8443/v2", "/v2"),
        ("http://[::1]:80/v2//x", "/v2//x"),
        ("http://broker", "/"),
        ("http://broker?a=/b", "/"),
        ("/http://broker/v2", "/http://broker/v2"),
    ] {
        let text = format!("GET {target} HTTP/1.1\r\n{HOST}\r\n");
        let head = parse(text.as_bytes(), &Limits::default()).unwrap();
        assert_eq!(head.target, path, "{target}");
    }
}

#[test]
fn a_host_has_the_characters_of_one() {
    for (host, fine) in [
        ("broker", true),
        ("broker.example.com:8080", true),
        ("broker:", true),
        ("127.0.0.1:80", true),
        ("[::1]", true),
        ("[::1]:443", true),
        ("b%C3%BCro_1~", true),
        ("a b", false),
        ("a/b", false),
        ("a@b", false),
        ("a,b", true),
        ("a\"b", false),
        ("<script>", false),
        ("a:b", false),
        ("a:80:80", false),
        ("[::1", false),
        ("[x]", false),
        ("[::1]x", false),
        ("a?b", false),
        ("a\\b", false),
    ] {
        let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(read(text.as_bytes()).is_ok(), fine, "{host}");
    }
}

#[test]
fn what_the_broker_reads_comes_once_or_says_the_same() {
    for name in crate::http::FORWARDED {
        let two =
            |second: &str| read(with(&format!("{name}: a\r\n{name}: {second}\r\n")).as_bytes());
        assert!(two("a").is_ok(), "{name}");
        // The one that is a list. RFC 9110, 13.1.2.
        assert_eq!(two("b").is_ok(), name == "If-None-Match", "{name}");
    }
}

#[test]
fn one_host_is_wanted() {
    for (text, expected) in [
        ("GET / HTTP/1.1\r\n\r\n", Err(400)),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Err(400)),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", Ok(())),
        ("GET / HTTP/1.0\r\n\r\n", Ok(())),
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", Err(400)),
    ] {
        assert_eq!(read(text.as_bytes()).map(drop), expected, "{text:?}");
    }
}

#[test]
fn too_many_fields_are_431() {
    let fields = |count: usize| with(&"X: y\r\n".repeat(count - 1));
    assert!(read(fields(64).as_bytes()).is_ok());
    assert_eq!(read(fields(65).as_bytes()), Err(431));
    assert_eq!(read(fields(300).as_bytes()), Err(431));
}

#[test]
fn the_connection_stays_where_the_protocol_says_so() {
    for (version, field, stays) in [
        ("1.1", "", true),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.1", "Connection: Upgrade, CLOSE\r\n", false),
        ("1.1", "Connection: x\r\nConnection: close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: close\r\n", false),
    ] {
        let text = format!("GET / HTTP/{version}\r\n{HOST}{field}\r\n");
        let head = parse(text.as_bytes(), &Limits::default()).unwrap();
        assert_eq!(head.keep_alive, stays, "{version} {field:?}");
    }
}

#[test]
fn only_100_continue_can_be_expected() {
    let expects = |version: &str, value: &str| {
        let text = format!("PUT / HTTP/{version}\r\n{HOST}Expect: {value}\r\n\r\n");
        let head = parse(text.as_bytes(), &Limits::default());
        head.map(|head| head.expects_continue)
            .map_err(|error| error.status)
    };
    assert_eq!(expects("1.1", "100-Continue"), Ok(true));
    assert_eq!(expects("1.0", "100-continue"), Ok(false));
    assert_eq!(expects("1.1", "tea"), Err(417));
}

#[test]
fn what_proxies_say_is_kept_in_its_order() {
    let text = with("X-Forwarded-For: a, b\r\nX-Forwarded-Proto: https\r\nx-forwarded-for: c\r\n");
    let head = parse(text.as_bytes(), &Limits::default()).unwrap();
    assert_eq!(head.forwarded_for, ["a, b", "c"]);
    assert_eq!(head.forwarded_proto, Some("https"));
}
