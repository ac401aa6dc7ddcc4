//! Whatever two programs could read in two ways is refused: 400, the end of the connection, and never a second answer.

use crate::client::Client;
use crate::support::{Broker, IDS, instance};
use crate::{get_catalog, is_refusal, is_served, platform, provision, request, setup, tutorial};

use std::net::SocketAddr;

/// What a smuggler wants to have taken for a request of its own.
fn smuggled() -> Vec<u8> {
    provision("smuggled", "")
}

/// Sends bytes that are to be refused, and behind them a request that must not be seen.
#[track_caller]
fn refused(broker: &Broker, what: &str, bytes: &[u8]) {
    refused_with(broker, what, bytes, &[400]);
}

#[track_caller]
fn refused_with(broker: &Broker, what: &str, bytes: &[u8], statuses: &[u16]) {
    let mut client = Client::open(broker.address);
    client.send([bytes, &smuggled()].concat());
    let answers = client.answers();
    assert_eq!(answers.len(), 1, "{what}: {answers:?}");
    let answer = answers.into_iter().next().unwrap();
    assert!(statuses.contains(&answer.status), "{what}: {answer:?}");
    let status = answer.status;
    is_refusal(answer, status);
}

/// Nothing of all that was taken for a request.
#[track_caller]
fn nothing_was_smuggled(broker: &Broker) {
    for id in ["smuggled", "i"] {
        broker.delete(&format!("{}{IDS}", instance(id))).expect(410);
    }
}

/// A provision whose head has these fields, and of which this is everything behind the head.
fn put(fields: &str, body: &str) -> Vec<u8> {
    request("PUT /v2/service_instances/i", fields, body.as_bytes())
}

/// The same with a whole body, of which `LENGTH` in the fields is the length.
fn put_whole(fields: &str) -> Vec<u8> {
    let body = tutorial().to_string();
    put(&fields.replace("LENGTH", &body.len().to_string()), &body)
}

fn chunked(body: &str) -> Vec<u8> {
    put("Transfer-Encoding: chunked\r\n", body)
}

/// A catalog request with this request line.
fn line(request_line: &str) -> Vec<u8> {
    format!("{request_line}\r\nHost: broker\r\n{}\r\n", platform()).into_bytes()
}

#[test]
fn a_content_length_that_is_no_number_is_refused() {
    let broker = setup().start();
    for length in [
        "", "abc", "-5", "+5", "0x10", "1e3", "5.0", "5,", "5, 5", "5, 6", "5 5", "5;", "\"5\"",
        "½", "٣",
    ] {
        let bytes = put(&format!("Content-Length: {length}\r\n"), "");
        refused(&broker, &format!("Content-Length: {length}"), &bytes);
    }
    nothing_was_smuggled(&broker);
}

#[test]
fn two_content_lengths_are_refused_unless_they_are_the_same() {
    let broker = setup().start();
    for (first, second) in [
        ("0", "LENGTH"),
        ("LENGTH", "0"),
        ("LENGTH", "5"),
        ("LENGTH", ""),
    ] {
        let fields = format!("Content-Length: {first}\r\nContent-Length: {second}\r\n");
        refused(&broker, &fields, &put_whole(&fields));
    }
    nothing_was_smuggled(&broker);
    let mut client = Client::open(broker.address);
    client.send(put_whole(
        "Content-Length: LENGTH\r\ncontent-length: LENGTH\r\nConnection: close\r\n",
    ));
    client.last_answer().expect(201);
}

#[test]
fn content_length_with_transfer_encoding_is_refused() {
    let broker = setup().start();
    for (what, fields, body) in [
        (
            "CL.TE",
            "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\nG",
        ),
        (
            "TE.CL",
            "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
            "5c\r\nGPOST",
        ),
        (
            "CL 0",
            "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        (
            "another between",
            "Content-Length: 6\r\nX: y\r\ntransfer-encoding: CHUNKED\r\n",
            "0\r\n\r\nG",
        ),
        (
            "TE.CL.CL",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\nContent-Length: 5\r\n",
            "0\r\n\r\n",
        ),
    ] {
        refused(&broker, what, &put(fields, body));
    }
    nothing_was_smuggled(&broker);
}

#[test]
fn a_transfer_encoding_other_than_chunked_is_refused() {
    let broker = setup().start();
    for coding in [
        "gzip",
        "identity",
        "",
        "chunked, chunked",
        "gzip, chunked",
        "chunked, gzip",
        "chunked,",
        ", chunked",
        "xchunked",
        "chunkedx",
        "chunked;q=1",
        "\"chunked\"",
        "chunked chunked",
        "chun ked",
        "\u{b}chunked",
        "chunked\u{b}",
        "chunked\u{c}",
        "chunked\u{a0}",
        "chunKed\u{130}",
        "cow",
    ] {
        let bytes = put(&format!("Transfer-Encoding: {coding}\r\n"), "0\r\n\r\n");
        refused(&broker, &format!("Transfer-Encoding: {coding:?}"), &bytes);
    }
    for twice in ["chunked", "identity", "gzip"] {
        let fields = format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: {twice}\r\n");
        refused(&broker, &fields, &put(&fields, "0\r\n\r\n"));
    }
    nothing_was_smuggled(&broker);
}

#[test]
fn a_field_name_that_is_not_one_is_refused() {
    let broker = setup().start();
    for field in [
        "Content-Length : LENGTH",
        "Content-Length\t: LENGTH",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\u{b}: chunked",
        " Content-Length: LENGTH",
        "Content Length: LENGTH",
        ": nothing",
        "no colon",
        "(comment): x",
        "Näme: x",
        "Content-Length\u{0}: LENGTH",
        "\u{7f}X: y",
    ] {
        refused(&broker, field, &put_whole(&format!("{field}\r\n")));
    }
    nothing_was_smuggled(&broker);
}

#[test]
fn a_field_that_goes_on_in_another_line_is_refused() {
    let broker = setup().start();
    for fields in [
        "X-Long: a\r\n b\r\n",
        "X-Long: a\r\n\tb\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Content-Length: 5\r\n 5\r\n",
    ] {
        refused(&broker, fields, &put(fields, ""));
    }
    let first = format!(
        "GET /v2/catalog HTTP/1.1\r\n X: y\r\nHost: broker\r\n{}\r\n",
        platform()
    );
    refused(&broker, "before all fields", first.as_bytes());
    nothing_was_smuggled(&broker);
}

#[test]
fn line_ends_other_than_cr_lf_are_refused() {
    let broker = setup().start();
    let whole = String::from_utf8(request("GET /v2/catalog", "", b"")).unwrap();
    let all_of_them = whole.replace("\r\n", "\n");
    refused(&broker, "LF everywhere", all_of_them.as_bytes());
    // One line end after the other.
    for (at, _) in whole.match_indices("\r\n") {
        for end in ["\n", "\r", "\n\r", "\r\r\n", "\n\n"] {
            let bytes = format!("{}{end}{}", &whole[..at], &whole[at + 2..]);
            let bytes = format!("{bytes}\r\n\r\n");
            refused(&broker, &format!("{end:?} at {at}"), bytes.as_bytes());
        }
    }
    for value in ["a\rb", "a\nX-Injected: b", "a\n", "a\r"] {
        let bytes = put(&format!("X-Some: {value}\r\n"), "");
        refused(&broker, &format!("{value:?}"), &bytes);
    }
    nothing_was_smuggled(&broker);
}

#[test]
fn control_characters_in_the_head_are_refused() {
    let broker = setup().start();
    for character in [
        "\u{0}", "\u{1}", "\u{8}", "\u{b}", "\u{c}", "\u{1b}", "\u{7f}",
    ] {
        let bytes = put_whole(&format!(
            "Content-Length: LENGTH\r\nX-Some: a{character}b\r\n"
        ));
        refused(&broker, &format!("{character:?} in a value"), &bytes);
        let bytes = line(&format!("GET /v2/cata{character}log HTTP/1.1"));
        refused(&broker, &format!("{character:?} in the target"), &bytes);
        let bytes = line(&format!("GE{character}T /v2/catalog HTTP/1.1"));
        refused(&broker, &format!("{character:?} in the method"), &bytes);
        let bytes = line(&format!("GET /v2/catalog HTTP/1.1{character}"));
        refused(&broker, &format!("{character:?} in the version"), &bytes);
    }
    nothing_was_smuggled(&broker);
}

#[test]
fn no_host_or_two_are_refused() {
    let broker = setup().start();
    let with = |hosts: &str| format!("GET /v2/catalog HTTP/1.1\r\n{hosts}{}\r\n", platform());
    for hosts in [
        "",
        "Host: broker\r\nHost: broker\r\n",
        "Host: broker\r\nhost: other\r\n",
    ] {
        refused(&broker, &format!("{hosts:?}"), with(hosts).as_bytes());
    }
    // HTTP/1.0 had none, but may not have two either.
    let old = with("Host: a\r\nHost: b\r\n").replace("HTTP/1.1", "HTTP/1.0");
    refused(&broker, "two in HTTP/1.0", old.as_bytes());
    nothing_was_smuggled(&broker);
}

#[test]
fn a_target_that_is_no_path_is_refused() {
    let broker = setup().start();
    for target in [
        "*",
        "broker:80",
        "v2/catalog",
        "ftp://broker/v2/catalog",
        "http:///v2/catalog",
        "http://user@broker/v2/catalog",
        "http:v2/catalog",
        "/v2/catalog#x",
        "/v2/catalog?a#b",
        "/v2/größe",
        "/v2/\u{a0}",
        "/v2/cat alog",
        "/v2/cat\talog",
        "\\v2\\catalog",
    ] {
        for method in ["GET", "OPTIONS", "CONNECT"] {
            let bytes = line(&format!("{method} {target} HTTP/1.1"));
            refused(&broker, &format!("{method} {target}"), &bytes);
        }
    }
    nothing_was_smuggled(&broker);
}

/// Whom one of two readers would take it for, the other would not.
#[test]
fn two_values_of_a_field_that_has_one_are_refused() {
    let broker = setup().start();
    for field in [
        "Authorization: Basic YWxleDpndWVzcw==",
        "X-Broker-API-Version: 2.13",
        "X-Broker-API-Originating-Identity: a e30=\r\nX-Broker-API-Originating-Identity: b e30=",
        "If-Modified-Since: a\r\nIf-Modified-Since: b",
    ] {
        refused(&broker, field, &put(&format!("{field}\r\n"), ""));
    }
    for host in ["a b", "a/b", "a\"b", "<a>", "a@b", "[a]", "a:b"] {
        let bytes = get_catalog();
        let bytes = String::from_utf8(bytes).unwrap();
        refused(
            &broker,
            host,
            bytes
                .replace("Host: broker", &format!("Host: {host}"))
                .as_bytes(),
        );
    }
    // The same twice is no doubt.
    let mut client = Client::open(broker.address);
    client.send(request(
        "GET /v2/catalog",
        "X-Broker-API-Version: 2.17\r\n",
        b"",
    ));
    client.answer().expect(200);
    nothing_was_smuggled(&broker);
}

#[test]
fn https_on_a_port_of_http_is_named_so_in_the_log() {
    let broker = setup().start();
    let mut client = Client::open(broker.address);
    client.send(client_hello());
    is_refusal(client.last_answer(), 400);
    broker.wait_for_print("the client speaks https, and this port http");
}

#[test]
fn a_request_line_that_is_not_one_is_refused() {
    let broker = setup().start();
    for request_line in [
        "GET",
        "GET /v2/catalog",
        "GET /v2/catalog HTTP/1.1 ",
        "GET  /v2/catalog HTTP/1.1",
        "GET /v2/catalog  HTTP/1.1",
        "GET\t/v2/catalog\tHTTP/1.1",
        " GET /v2/catalog HTTP/1.1",
        "GET /v2/catalog HTTP/2.0",
        "GET /v2/catalog HTTP/0.9",
        "GET /v2/catalog HTTP/1.10",
        "GET /v2/catalog http/1.1",
        "GET /v2/catalog HTTP/1,1",
        "GET /v2/catalog ICY/1.1",
        "G(T /v2/catalog HTTP/1.1",
        "GËT /v2/catalog HTTP/1.1",
        "HTTP/1.1 200 OK",
    ] {
        refused(&broker, request_line, &line(request_line));
    }
    nothing_was_smuggled(&broker);
}

#[test]
fn malformed_chunks_are_refused() {
    let broker = setup().start();
    for body in [
        "G\r\n",
        "-1\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5_0\r\n",
        "\r\n0\r\n\r\n",
        ";x\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloo\r\n0\r\n\r\n",
        "3\r\nhello\r\n0\r\n\r\n",
        "7\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0\r\nX: y\n\r\n",
        "5\r\nhello\r\n0\r\nX: y\r\n continued\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: \u{0}\r\n\r\n",
        "5;\u{0}\r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "٣\r\nabc\r\n0\r\n\r\n",
    ] {
        refused(&broker, body, &chunked(body));
    }
    nothing_was_smuggled(&broker);
}

#[test]
fn chunk_sizes_that_overflow_are_refused() {
    let broker = setup().start();
    for size in [
        "100001",
        "80000000",
        "100000005",
        "7fffffffffffffff",
        "8000000000000000",
        "ffffffffffffffff",
        "fffffffffffffffb",
        "10000000000000005",
        "100000000000000000000000000000005",
    ] {
        let body = format!("{size}\r\nhello\r\n0\r\n\r\n");
        refused_with(&broker, size, &chunked(&body), &[400, 413]);
        let body = format!("1\r\n{{\r\n{size}\r\nhello\r\n0\r\n\r\n");
        refused_with(&broker, size, &chunked(&body), &[400, 413]);
    }
    nothing_was_smuggled(&broker);
}

#[test]
fn chunks_with_more_around_them_than_in_them_are_refused() {
    let broker = setup().start();
    let long = "x".repeat(100_000);
    for body in [
        format!("5;{long}\r\nhello\r\n0\r\n\r\n"),
        format!("0;{long}\r\n\r\n"),
        format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(100_000)),
        format!("5\r\nhello\r\n0\r\nX: {long}\r\n\r\n"),
        format!("5\r\nhello\r\n0\r\n{}\r\n", "X: y\r\n".repeat(10_000)),
    ] {
        refused_with(&broker, &body[..20], &chunked(&body), &[400, 413, 431]);
    }
    nothing_was_smuggled(&broker);
}

#[test]
fn chunks_that_are_well_formed_are_understood() {
    let broker = setup().start();
    let body = tutorial().to_string();
    let (one, two) = body.split_at(body.len() / 2);
    let (first, second) = (one.len(), two.len());
    for (n, body) in [
        format!("{first:x}\r\n{one}\r\n{second:x}\r\n{two}\r\n0\r\n\r\n"),
        format!("{first:X}\r\n{one}\r\n{second:X}\r\n{two}\r\n000\r\n\r\n"),
        format!("000{first:x}\r\n{one}\r\n{second:x};name=value;\"q\"\r\n{two}\r\n0;last\r\n\r\n"),
        format!(
            "{first:x}\r\n{one}\r\n{second:x}\r\n{two}\r\n0\r\nContent-Length: 7\r\nX: y\r\n\r\n"
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let target = format!("PUT /v2/service_instances/chunked{n}");
        let fields = "Transfer-Encoding: Chunked\r\n";
        let mut bytes = request(&target, fields, body.as_bytes());
        // Behind it comes another, which must be found.
        bytes.extend(request("GET /healthz", "Connection: close\r\n", b""));
        let statuses = |mut client: Client| -> Vec<u16> {
            client
                .answers()
                .iter()
                .map(|answer| answer.status)
                .collect()
        };
        let mut whole = Client::open(broker.address);
        whole.send(&bytes);
        assert_eq!(statuses(whole), [201, 200]);
        let mut in_pieces = Client::open(broker.address);
        bytes.chunks(7).for_each(|piece| in_pieces.send(piece));
        assert_eq!(statuses(in_pieces), [200, 200]);
    }
}

#[test]
fn what_follows_the_body_and_is_no_request_is_refused() {
    let broker = setup().start();
    for (n, garbage) in [
        "\u{0}\u{1}\u{2}",
        "{\"more\":1}",
        "\n\n",
        "<html>",
        " ",
        "HTTP/1.1 200 OK\r\n\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        for bytes in [
            provision(&format!("garbage{n}"), ""),
            request("GET /v2/catalog", "", b""),
        ] {
            let mut client = Client::open(broker.address);
            client.send([&bytes, garbage.as_bytes()].concat());
            let first = client.answer();
            assert!(matches!(first.status, 200 | 201), "{garbage:?}: {first:?}");
            is_refusal(client.last_answer(), 400);
        }
    }
    // A body where none is expected is read, not answered.
    let mut client = Client::open(broker.address);
    client.send(request(
        "GET /v2/catalog",
        "Content-Length: 5\r\n",
        b"GET /",
    ));
    client.answer().expect(200);
    client.send(request("GET /v2/catalog", "Connection: close\r\n", b""));
    client.last_answer().expect(200);
}

#[test]
fn a_request_that_is_cut_off_is_not_carried_out() {
    let broker = setup().start();
    let whole = provision("i", "");
    for length in [1, 10, whole.len() / 2, whole.len() - 1] {
        let mut client = Client::open(broker.address);
        client.send(&whole[..length]);
        client.finish_sending();
        is_refusal(client.last_answer(), 400);
    }
    for body in [
        "",
        "5",
        "5\r\n",
        "5\r\nhello",
        "5\r\nhello\r\n",
        "5\r\nhello\r\n0\r\n",
    ] {
        let mut client = Client::open(broker.address);
        client.send(chunked(body));
        client.finish_sending();
        is_refusal(client.last_answer(), 400);
    }
    nothing_was_smuggled(&broker);
}

/// A ClientHello, as far as anybody looks.
fn client_hello() -> Vec<u8> {
    let mut hello = vec![
        0x16, 0x03, 0x01, 0x00, 0xf8, 0x01, 0x00, 0x00, 0xf4, 0x03, 0x03,
    ];
    hello.extend((0..242).map(|n| n as u8));
    hello
}

/// What speaks another protocol.
fn garbage() -> Vec<Vec<u8>> {
    vec![
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x12\x04\x00\x00\x00\x00\x00".to_vec(),
        client_hello(),
        b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(),
        b"\x00\x00\x00\x2f\xffSMB".to_vec(),
        b"*1\r\n$4\r\nPING\r\n".to_vec(),
        b"\x80\x80\x80\x80".to_vec(),
        b"{}\r\n\r\n".to_vec(),
        vec![b'\n'; 1000],
        vec![0; 1000],
        vec![0xff; 100_000],
    ]
}

/// How many lines of the log are about refused requests.
fn refusals(broker: &Broker) -> usize {
    broker.printed().matches("event=request_refused").count()
}

#[test]
fn other_protocols_are_refused_with_one_line_in_the_log() {
    for bytes in garbage() {
        let broker = setup().start();
        let mut client = Client::open(broker.address);
        client.send(&bytes);
        client.finish_sending();
        let answers = client.answers();
        assert!(answers.len() <= 1, "{bytes:?}: {answers:?}");
        for answer in answers {
            is_refusal(answer, 400);
        }
        is_served(broker.address);
        let (_, printed) = broker.stop();
        let lines = printed.matches("event=request_refused").count();
        assert_eq!(lines, 1, "{bytes:?}: {printed}");
    }
}

fn flood(address: SocketAddr, count: usize) {
    for _ in 0..count {
        let mut client = Client::open(address);
        client.send(client_hello());
        client.answers();
    }
}

#[test]
fn a_flood_of_other_protocols_is_no_flood_in_the_log() {
    let broker = setup().start();
    let started = std::time::Instant::now();
    flood(broker.address, 1000);
    let seconds = started.elapsed().as_secs() as usize + 2;
    is_served(broker.address);
    let lines = refusals(&broker);
    assert!(lines >= 1 && lines <= 10 * seconds, "{lines} lines");
    assert!(lines < 1000);
}
