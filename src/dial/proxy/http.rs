//! HTTP `CONNECT` (RFC 9110, section 9.3.6), with Basic credentials (RFC 7617).

use std::io;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::answer::{not_the_protocol, read_into};
use super::settings::Credentials;
use super::target::Target;

/// The longest answer, with all its headers.
const MAX_ANSWER: usize = 16 * 1024;
/// The longest reason that an error shows, in characters.
const MAX_REASON: usize = 100;
/// How every answer begins.
const PREFIX: &[u8] = b"HTTP/1.";

/// Opens a tunnel on a fresh connection to the proxy.
pub(super) async fn open<S>(stream: &mut S, target: &Target, credentials: Option<&Credentials>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(request(target, credentials).as_bytes()).await?;
    stream.flush().await?;
    let mut left = MAX_ANSWER;
    loop {
        let head = read_head(stream, &mut left).await?;
        let (status, reason) = parse(&head).ok_or_else(|| not_the_protocol(stream, &head, "an answer of HTTP/1.1"))?;
        match status {
            200..=299 => return Ok(()),
            // Another answer follows.
            100 | 102..=199 => {}
            _ => return Err(refusal(status, &reason)),
        }
    }
}

/// The request of a tunnel.
fn request(target: &Target, credentials: Option<&Credentials>) -> String {
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some(Credentials { user, password }) = credentials {
        request.push_str("Proxy-Authorization: Basic ");
        BASE64_STANDARD.encode_string(format!("{user}:{password}"), &mut request);
        request.push_str("\r\n");
    }
    request + "\r\n"
}

/// Reads an answer up to the empty line that ends it. `left` is how many bytes it may have.
async fn read_head<S: AsyncRead + Unpin>(stream: &mut S, left: &mut usize) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    loop {
        let missing = missing(&head);
        if missing == 0 {
            return Ok(head);
        }
        if *left < missing {
            let text = format!("its answer has more than {MAX_ANSWER} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        *left -= missing;
        let start = head.len();
        head.resize(start + missing, 0);
        read_into(stream, &mut head[start..]).await?;
        let length = head.len().min(PREFIX.len());
        if head[..length] != PREFIX[..length] {
            return Err(not_the_protocol(stream, &head, "an answer of HTTP/1.1"));
        }
    }
}

/// How many bytes of an answer are missing for sure. As everywhere in HTTP, a line may end without a carriage return.
fn missing(head: &[u8]) -> usize {
    if head.ends_with(b"\n\r\n") || head.ends_with(b"\n\n") {
        0
    } else if head.ends_with(b"\n\r") || head.ends_with(b"\n") {
        1
    } else {
        2
    }
}

/// The status and the reason of an answer. The reason has no control characters, and a limited length.
fn parse(head: &[u8]) -> Option<(u16, String)> {
    let line = head.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let (_version, rest) = line.trim_end().split_once(' ')?;
    let (status, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    let is_status = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit());
    let status = status.parse().ok().filter(|_| is_status)?;
    Some((status, reason.trim().chars().filter(|c| !c.is_control()).take(MAX_REASON).collect()))
}

/// The error of a status that is no success.
fn refusal(status: u16, reason: &str) -> io::Error {
    use io::ErrorKind;

    let kind = match status {
        401 | 403 | 407 => ErrorKind::PermissionDenied,
        405 | 501 => ErrorKind::Unsupported,
        408 | 504 => ErrorKind::TimedOut,
        502 | 503 => ErrorKind::HostUnreachable,
        _ => ErrorKind::Other,
    };
    let space = if reason.is_empty() { "" } else { " " };
    io::Error::new(kind, format!("it answers {status}{space}{reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_has_the_target_twice_and_the_credentials_once() {
        let target = Target::Ip("[2001:db8::1]:443".parse().unwrap());
        let plain = "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\r\n";
        assert_eq!(request(&target, None), plain);
        // The example of RFC 7617.
        let credentials = Credentials { user: "Aladdin".into(), password: "open sesame".into() };
        let header = "Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n";
        assert!(request(&Target::Name("db.example".into(), 5432), Some(&credentials)).ends_with(header));
    }

    #[test]
    fn status_line_is_read_with_and_without_a_reason() {
        let long = format!("HTTP/1.0 500 {}\r\n\r\n", "x".repeat(1000));
        for (head, expected) in [
            ("HTTP/1.1 200 Connection established\r\n\r\n", Some((200, "Connection established"))),
            ("HTTP/1.1 200\r\n\r\n", Some((200, ""))),
            ("HTTP/1.0 407 \r\nVia: x\r\n\r\n", Some((407, ""))),
            ("HTTP/1.1 403 \x1b[31mred\x07\n\n", Some((403, "[31mred"))),
            ("HTTP/1.1 20 OK\r\n\r\n", None),
            ("HTTP/1.1 +20 OK\r\n\r\n", None),
            ("HTTP/1.1\r\n\r\n", None),
            (long.as_str(), Some((500, &long[13..113]))),
        ] {
            let expected = expected.map(|(status, reason)| (status, reason.to_owned()));
            assert_eq!(parse(head.as_bytes()), expected, "{head:?}");
        }
    }

    #[test]
    fn answer_is_taken_up_to_its_empty_line() {
        for head in
            ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\n\n", "HTTP/1.1 200 OK\nA: b\r\n\n", "H\r\r\nA: b\r\n\r\n"]
        {
            let stream = format!("{head}\r\n\r\nbytes of the target");
            let mut length = 0;
            while missing(&stream.as_bytes()[..length]) > 0 {
                length += missing(&stream.as_bytes()[..length]);
            }
            assert_eq!(&stream[..length], head);
        }
    }
}
