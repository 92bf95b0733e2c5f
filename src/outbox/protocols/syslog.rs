//! Syslog over TCP and TLS: RFC 6587 and RFC 5425.
//!
//! Next: `relp.rs`, syslog with answers.

use std::io;

use tokio_util::bytes::{BufMut, BytesMut};

use crate::Builder;
use crate::outbox::{Outbox, OutboxBuilder, Protocol};

/// Syslog over TCP, or TLS: to rsyslog (`imtcp`), syslog-ng, or a collector.
///
/// ```no_run
/// use std::time::Duration;
/// use perconn::Conn;
/// use perconn::outbox::protocols::Syslog;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let outbox = Syslog::octet_counting().outbox(Conn::builder("logs.example:601")).start()?;
/// outbox.send("<13>1 2026-11-30T19:00:00Z host app - - - a line").await?;
/// let tally = outbox.close(Duration::from_secs(5)).await;
/// println!("{tally}"); // 1 accepted: 1 written
/// # Ok(())
/// # }
/// ```
///
/// A message is one whole syslog message: RFC 5424 as here, or RFC 3164 (`<13>Nov 30 19:00:00 host app: a line`). The
/// program makes it, and this type only frames it.
///
/// **The server answers nothing.** [Written](crate::outbox::Fate::Written) says that its kernel has the message. A
/// server that is killed loses what its kernel had, and that can be many thousands of messages; no client can see it.
/// Use [`Relp`](super::Relp) where they must arrive. [`Resend::Unacknowledged`](crate::outbox::Resend::Unacknowledged),
/// for plain TCP on Linux, sends again what that kernel had not acknowledged; the default counts it as in doubt.
///
/// | framing | on the wire | a message may have newlines |
/// |---|---|---|
/// | [`octet_counting`](Self::octet_counting) | `17 <13>1 - - - - - -` | yes |
/// | [`lines`](Self::lines) | `<13>1 - - - - - -` and a newline | no |
///
/// Prefer octet counting: TLS needs it (RFC 5425), and both rsyslog and syslog-ng understand it. A server cuts what is
/// longer than its own limit: rsyslog's is `maxMessageSize`, by default 8 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a protocol does nothing by itself, use `.outbox(..)`"]
#[doc(alias("rfc5424", "rfc3164", "rfc6587", "rsyslog", "syslog-ng"))]
pub struct Syslog {
    /// Where a message ends.
    framing: Framing,
}

/// RFC 6587, 3.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// 3.4.1.
    OctetCounting,
    /// 3.4.2, with a newline.
    Lines,
}

impl Syslog {
    /// The length of each message stands before it.
    ///
    /// A message goes out as it is, with its newlines.
    pub const fn octet_counting() -> Self {
        Self { framing: Framing::OctetCounting }
    }

    /// A newline follows each message.
    ///
    /// A message may end with its newline, and is sent with one. Two kinds of messages would arrive as something else,
    /// and are [rejected](crate::outbox::Fate::Rejected): one with another newline in it, of which the server would
    /// make two, and one that begins with a digit, which it would take for a length.
    #[doc(alias("newline", "lf", "non_transparent"))]
    pub const fn lines() -> Self {
        Self { framing: Framing::Lines }
    }

    /// The outbox of a connection that speaks this. All of its settings are still to choose; do not set
    /// [`protocol`](OutboxBuilder::protocol) or [`framing`](OutboxBuilder::framing) again.
    pub fn outbox<D>(self, conn: Builder<D>) -> OutboxBuilder<D> {
        Outbox::builder(conn).protocol(self.framing)
    }
}

impl Protocol for Framing {
    fn encode(&mut self, _number: u64, message: &[u8], wire: &mut BytesMut) -> io::Result<()> {
        match self {
            Self::OctetCounting => {
                wire.put_slice(message.len().to_string().as_bytes());
                wire.put_u8(b' ');
                wire.put_slice(message);
            }
            Self::Lines => {
                let line = message.strip_suffix(b"\n").unwrap_or(message);
                if line.contains(&b'\n') {
                    return Err(refused("a newline within the message would make two of it: use octet counting"));
                }
                if line.first().is_none_or(u8::is_ascii_digit) {
                    return Err(refused("the line is empty, or begins with a digit like a length: expected a `<`"));
                }
                wire.put_slice(line);
                wire.put_u8(b'\n');
            }
        }
        Ok(())
    }
}

/// The error of a message.
fn refused(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(syslog: Syslog, message: &str) -> Result<String, String> {
        let mut wire = BytesMut::new();
        let encoded = { syslog.framing }.encode(1, message.as_bytes(), &mut wire);
        encoded.map_err(|error| error.to_string())?;
        Ok(String::from_utf8(wire.to_vec()).unwrap())
    }

    #[test]
    fn octets_are_counted_as_in_rfc_6587() {
        // SYSLOG-FRAME = MSG-LEN SP SYSLOG-MSG
        assert_eq!(encode(Syslog::octet_counting(), "<13>1 - - - - - -").unwrap(), "17 <13>1 - - - - - -");
        assert_eq!(encode(Syslog::octet_counting(), "<13>a\nb\n").unwrap(), "8 <13>a\nb\n");
        // Octets, not characters.
        assert_eq!(encode(Syslog::octet_counting(), "<13>ü").unwrap(), "6 <13>ü");
    }

    #[test]
    fn a_line_ends_with_one_newline() {
        assert_eq!(encode(Syslog::lines(), "<13>a").unwrap(), "<13>a\n");
        assert_eq!(encode(Syslog::lines(), "<13>a\n").unwrap(), "<13>a\n");
    }

    #[test]
    fn a_line_that_would_arrive_as_something_else_is_refused() {
        for message in ["<13>a\nb", "<13>a\n\n", "\n<13>a"] {
            assert!(encode(Syslog::lines(), message).unwrap_err().contains("newline"), "{message:?}");
        }
        for message in ["17 lines", "\n", ""] {
            assert!(encode(Syslog::lines(), message).unwrap_err().contains("digit"), "{message:?}");
        }
    }
}
