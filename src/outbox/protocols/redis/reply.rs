//! The commands and replies of RESP, the protocol of Redis.
//!
//! Next: [`RedisStream`](super::RedisStream), which uses them.

use std::io;

use tokio_util::bytes::{Buf, BufMut, BytesMut};

use crate::outbox::protocols::set_up::{invalid, start_of};

/// How long a line of a reply may be, and a string in it. The id of an entry has at most 41 bytes; texts of errors are
/// longer.
const MAX_REPLY: usize = 16 * 1024;

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// `+OK`.
    Status(String),
    /// `$3`, `1-0`: the id of an entry.
    Id,
    /// `-ERR ..`.
    Error(String),
}

/// Appends the beginning of a command with this many words.
pub(super) fn put_command(words: usize, wire: &mut BytesMut) {
    wire.put_slice(format!("*{words}\r\n").as_bytes());
}

/// Appends one word of a command.
pub(super) fn put_word(word: &[u8], wire: &mut BytesMut) {
    wire.put_slice(format!("${}\r\n", word.len()).as_bytes());
    wire.put_slice(word);
    wire.put_slice(b"\r\n");
}

/// Takes the first reply out of what has arrived. `None`: more has to arrive.
///
/// # Errors
///
/// It is no reply, or none of the kinds that our commands have.
pub(super) fn take_reply(inbound: &mut BytesMut) -> io::Result<Option<Reply>> {
    let Some(end) = inbound.windows(2).take(MAX_REPLY).position(|two| two == b"\r\n") else {
        return if inbound.len() > MAX_REPLY { malformed(inbound) } else { Ok(None) };
    };
    let text = String::from_utf8_lossy(&inbound[..end]).into_owned();
    let mut len = end + 2;
    let reply = match text.split_at_checked(1) {
        Some(("+", status)) => Reply::Status(status.into()),
        Some(("-", error)) => Reply::Error(error.into()),
        Some(("$", digits)) => {
            let Some(string) = digits.parse::<usize>().ok().filter(|len| *len <= MAX_REPLY) else {
                return malformed(inbound);
            };
            len += string + 2;
            match inbound.get(len - 2..len) {
                None => return Ok(None),
                Some(b"\r\n") => Reply::Id,
                Some(_) => return malformed(inbound),
            }
        }
        _ => return malformed(inbound),
    };
    inbound.advance(len);
    Ok(Some(reply))
}

/// The error of what no server of Redis sends us.
fn malformed<T>(inbound: &[u8]) -> io::Result<T> {
    Err(invalid(format!("not a reply of Redis to these commands: {}", start_of(inbound))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_found_however_they_arrive() {
        let mut inbound = BytesMut::new();
        let mut seen = Vec::new();
        for byte in *b"+PONG\r\n$15\r\n1526919030474-0\r\n-ERR no such\r\n$0\r\n\r\n" {
            inbound.put_u8(byte);
            seen.extend(take_reply(&mut inbound).unwrap());
        }
        let error = Reply::Error("ERR no such".into());
        assert_eq!(seen, [Reply::Status("PONG".into()), Reply::Id, error, Reply::Id]);
        assert!(inbound.is_empty());
    }

    #[test]
    fn what_is_no_reply_is_an_error() {
        let (line, string) = ("+".repeat(MAX_REPLY + 1), format!("${}\r\n", MAX_REPLY + 1));
        let http = "HTTP/1.1 400 Bad Request\r\n";
        for text in [http, "$-1\r\n", "$x\r\n", ":1\r\n", "*0\r\n", "$1\r\nabc", "\r\n", "é\r\n", &line, &string] {
            let error = take_reply(&mut BytesMut::from(text)).unwrap_err();
            assert!(error.to_string().contains("not a reply"), "{text:?}: {error}");
        }
    }

    #[test]
    fn words_of_a_command_have_their_length() {
        let mut wire = BytesMut::new();
        put_command(2, &mut wire);
        put_word(b"ECHO", &mut wire);
        put_word(b"a\r\nb", &mut wire);
        assert_eq!(&wire[..], b"*2\r\n$4\r\nECHO\r\n$4\r\na\r\nb\r\n");
    }
}
