//! What a proxy may answer: successes of every form, refusals, and what is no answer.

use std::io::ErrorKind;
use std::time::Duration;

use perconn::Proxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::scripted::{HTTP_REQUEST, SOCKS_REQUEST, failure, failure_of, play, through};
use crate::support::{Server, in_time};

/// A message to the proxy, and its answer.
type Exchange<'a> = (&'a [u8], &'a [u8]);

/// The offer without credentials.
const NO_AUTHENTICATION: &[u8] = &[5, 1, 0];
/// The offer with credentials.
const BOTH: &[u8] = &[5, 2, 0, 2];
/// The user "me" with the password "secret".
const LOGIN: &[u8] = b"\x01\x02me\x06secret";

/// A success with an address of this length and type, with the first bytes of the target right behind it.
fn success(address_type: u8, address: &[u8]) -> Vec<u8> {
    [&[5, 0, 0, address_type], address, &[0, 80], b"hello"].concat()
}

#[tokio::test]
async fn bytes_behind_every_form_of_success_are_the_targets() {
    let socks = [success(1, &[0; 4]), success(4, &[0; 16]), success(3, b"\x09localhost"), success(3, b"\0")];
    let http = [
        "HTTP/1.1 200 Connection established\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\nProxy-Agent: tinyproxy/1.11.1\r\n\r\nhello",
        "HTTP/1.1 299\r\n\r\nhello",
        "HTTP/1.1 200 OK\nA: b\n\nhello",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhello",
        // Both are to be ignored (RFC 9110, section 9.3.6).
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
    ];
    let socks =
        socks.iter().map(|answer| (true, vec![(NO_AUTHENTICATION, &b"\x05\0"[..]), (SOCKS_REQUEST, &answer[..])]));
    let http = http.iter().map(|answer| (false, vec![(HTTP_REQUEST, answer.as_bytes())]));
    for (is_socks, script) in socks.chain(http) {
        let server = Server::start().await;
        let proxy = if is_socks { Proxy::socks5(server.address) } else { Proxy::http(server.address) };
        let (conn, mut stream) = tokio::join!(in_time("connect", through(proxy).connect()), play(&server, &script));
        let (mut conn, mut received) = (conn.unwrap(), [0; 5]);
        in_time("the target's bytes", conn.read_exact(&mut received)).await.unwrap();
        assert_eq!(&received, b"hello");
        conn.write_all(b"hi").await.unwrap();
        let mut received = [0; 2];
        in_time("our bytes", stream.read_exact(&mut received)).await.unwrap();
        assert_eq!(&received, b"hi");
    }
}

#[tokio::test]
async fn credentials_are_sent_to_a_proxy_that_wants_them() {
    let accepted = success(1, &[0; 4]);
    let http =
        b"CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\nProxy-Authorization: Basic bWU6c2VjcmV0\r\n\r\n";
    let scripts: [(bool, Vec<Exchange>); 4] = [
        (true, vec![(BOTH, b"\x05\x02"), (LOGIN, b"\x01\0"), (SOCKS_REQUEST, &accepted)]),
        // A wrong version, as some proxies answer.
        (true, vec![(BOTH, b"\x05\x02"), (LOGIN, b"\x05\0"), (SOCKS_REQUEST, &accepted)]),
        // This one can do without.
        (true, vec![(BOTH, b"\x05\0"), (SOCKS_REQUEST, &accepted)]),
        (false, vec![(http, b"HTTP/1.1 200 OK\r\n\r\n")]),
    ];
    for (is_socks, script) in scripts {
        let server = Server::start().await;
        let proxy = if is_socks { Proxy::socks5(server.address) } else { Proxy::http(server.address) };
        let builder = through(proxy.credentials("me", "secret"));
        let (conn, _stream) = tokio::join!(in_time("connect", builder.connect()), play(&server, &script));
        conn.unwrap();
    }
}

#[tokio::test]
async fn refusals_of_socks_have_their_reply_and_a_fitting_kind() {
    for (reply, kind, text) in [
        (1, ErrorKind::Other, "general failure"),
        (2, ErrorKind::PermissionDenied, "its rules do not allow the connection"),
        (3, ErrorKind::NetworkUnreachable, "network unreachable"),
        (4, ErrorKind::HostUnreachable, "host unreachable"),
        (5, ErrorKind::ConnectionRefused, "connection refused by the target"),
        (6, ErrorKind::TimedOut, "TTL expired"),
        (7, ErrorKind::Unsupported, "command not supported"),
        (8, ErrorKind::Unsupported, "type of address not supported"),
        (91, ErrorKind::Other, "unknown failure"),
    ] {
        // Two bytes are enough: some proxies send no more.
        let script: [(&[u8], &[u8]); 2] = [(NO_AUTHENTICATION, b"\x05\0"), (SOCKS_REQUEST, &[5, reply])];
        let outcome = failure_of(Proxy::socks5, &script, false).await;
        assert_eq!(outcome, (format!("{text} (SOCKS5 reply {reply})"), kind));
    }
}

#[tokio::test]
async fn refused_credentials_of_socks_are_an_error_without_them() {
    let with = |address| Proxy::socks5(address).credentials("me", "secret");
    let none = "it accepts no client without credentials, and there are none (SOCKS5 method 255)";
    let outcome = failure_of(Proxy::socks5, &[(NO_AUTHENTICATION, b"\x05\xff")], false).await;
    assert_eq!(outcome, (none.into(), ErrorKind::PermissionDenied));
    let neither = "it accepts this client neither with user and password nor without (SOCKS5 method 255)";
    let outcome = failure_of(with, &[(BOTH, b"\x05\xff")], false).await;
    assert_eq!(outcome, (neither.into(), ErrorKind::PermissionDenied));
    let wrong = "it refuses the user or the password (SOCKS5 status 7)";
    let outcome = failure_of(with, &[(BOTH, b"\x05\x02"), (LOGIN, b"\x01\x07")], true).await;
    assert_eq!(outcome, (wrong.into(), ErrorKind::PermissionDenied));
    // It wants what it was not offered.
    for method in [1, 2] {
        let expected = format!("it has chosen SOCKS5 method {method}, which was not offered");
        let outcome = failure_of(Proxy::socks5, &[(NO_AUTHENTICATION, &[5, method])], false).await;
        assert_eq!(outcome, (expected, ErrorKind::InvalidData));
    }
}

#[tokio::test]
async fn refusals_of_http_have_their_status_and_reason_and_a_fitting_kind() {
    for (line, kind) in [
        ("401 Unauthorized", ErrorKind::PermissionDenied),
        ("403 Filtered", ErrorKind::PermissionDenied),
        ("407 Proxy Authentication Required", ErrorKind::PermissionDenied),
        ("405 Method Not Allowed", ErrorKind::Unsupported),
        ("501 Not Implemented", ErrorKind::Unsupported),
        ("408 Request Timeout", ErrorKind::TimedOut),
        ("504 Gateway Timeout", ErrorKind::TimedOut),
        ("502 Bad Gateway", ErrorKind::HostUnreachable),
        ("503 Service Unavailable", ErrorKind::HostUnreachable),
        ("500 Unable to connect", ErrorKind::Other),
        ("302 Found", ErrorKind::Other),
        ("101 Switching Protocols", ErrorKind::Other),
        ("404", ErrorKind::Other),
    ] {
        let answer = format!("HTTP/1.1 {line}\r\nContent-Length: 1000\r\n\r\n<html>");
        let outcome = failure_of(Proxy::http, &[(HTTP_REQUEST, answer.as_bytes())], false).await;
        assert_eq!(outcome, (format!("it answers {line}"), kind));
    }
}

#[tokio::test]
async fn what_is_no_answer_is_shown_at_once() {
    let ssh = b"SSH-2.0-OpenSSH_9.2\r\n";
    for (answer, shown) in [(&ssh[..], "SSH-2.0-OpenSSH_9.2\\r\\n"), (b"HTTP/1.0 ", "HTTP/1.0 ")] {
        let outcome = failure_of(Proxy::socks5, &[(NO_AUTHENTICATION, answer)], false).await;
        assert_eq!(outcome, (format!("it answers \"{shown}\": expected an answer of SOCKS5"), ErrorKind::InvalidData));
    }
    let script: [(&[u8], &[u8]); 2] = [(NO_AUTHENTICATION, b"\x05\0"), (SOCKS_REQUEST, b"\x05\0\0\x09rest")];
    let (text, kind) = failure_of(Proxy::socks5, &script, false).await;
    let expected = "it answers \"\\x05\\x00\\x00\\trest\": expected an answer of SOCKS5";
    assert_eq!((text.as_str(), kind), (expected, ErrorKind::InvalidData));
    let script: [(&[u8], &[u8]); 2] = [(NO_AUTHENTICATION, b"\x05\0"), (SOCKS_REQUEST, b"\x04\x5a")];
    let (_, kind) = failure_of(Proxy::socks5, &script, false).await;
    assert_eq!(kind, ErrorKind::InvalidData);
    let login: [(&[u8], &[u8]); 2] = [(BOTH, b"\x05\x02"), (LOGIN, b"no")];
    let with = |address| Proxy::socks5(address).credentials("me", "secret");
    let (text, kind) = failure_of(with, &login, false).await;
    assert_eq!((text.as_str(), kind), ("it answers \"no\": expected an answer of SOCKS5", ErrorKind::InvalidData));
    for (answer, shown) in [
        (&ssh[..], "SSH-2.0-OpenSSH_9.2\\r\\n"),
        (b"\x05\xff", "\\x05\\xff"),
        (b"HTTP/2 200\r\n\r\n", "HTTP/2 200\\r\\n\\r\\n"),
        (b"HTTP/1.1 OK\r\n\r\n", "HTTP/1.1 OK\\r\\n\\r\\n"),
    ] {
        let outcome = failure_of(Proxy::http, &[(HTTP_REQUEST, answer)], false).await;
        let expected = format!("it answers \"{shown}\": expected an answer of HTTP/1.1");
        assert_eq!(outcome, (expected, ErrorKind::InvalidData));
    }
}

#[tokio::test]
async fn answer_that_is_cut_is_an_error() {
    let cut = ("it has closed before the end of its answer".to_owned(), ErrorKind::UnexpectedEof);
    for answer in [&b""[..], b"\x05"] {
        assert_eq!(failure_of(Proxy::socks5, &[(NO_AUTHENTICATION, answer)], true).await, cut);
    }
    for answer in [&b""[..], b"\x05\0\0", b"\x05\0\0\x01\x7f", b"\x05\0\0\x03", b"\x05\0\0\x03\xffabc"] {
        let script = [(NO_AUTHENTICATION, &b"\x05\0"[..]), (SOCKS_REQUEST, answer)];
        assert_eq!(failure_of(Proxy::socks5, &script, true).await, cut);
    }
    for answer in ["", "H", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nA: b\r\n\r"] {
        assert_eq!(failure_of(Proxy::http, &[(HTTP_REQUEST, answer.as_bytes())], true).await, cut);
    }
}

#[tokio::test]
async fn answer_without_an_end_is_an_error() {
    let too_long = ("its answer has more than 16384 bytes".to_owned(), ErrorKind::InvalidData);
    let header = format!("HTTP/1.1 200 OK\r\nA: {}", "b".repeat(20_000));
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
    for answer in [header, interim] {
        assert_eq!(failure_of(Proxy::http, &[(HTTP_REQUEST, answer.as_bytes())], false).await, too_long);
    }
}

/// In every phase, the error names the proxy.
#[tokio::test]
async fn proxy_that_does_not_answer_is_named_at_the_dial_timeout() {
    let scripts: [(bool, Vec<Exchange>); 4] = [
        (true, vec![]),
        (true, vec![(NO_AUTHENTICATION, b"\x05\0"), (SOCKS_REQUEST, b"\x05\0\0")]),
        (false, vec![]),
        (false, vec![(HTTP_REQUEST, b"HTTP/1.1 200 OK\r\n")]),
    ];
    for (is_socks, script) in scripts {
        let server = Server::start().await;
        let proxy = if is_socks { Proxy::socks5(server.address) } else { Proxy::http(server.address) };
        let builder = through(proxy).dial_timeout(Duration::from_millis(100));
        let (outcome, _stream) = tokio::join!(failure(builder), play(&server, &script));
        let cause = format!("proxy {}: the dial took longer than 100ms", server.address);
        assert_eq!(outcome, (format!("dial 1 to db.example:5432 failed: {cause}"), ErrorKind::TimedOut));
    }
}
