//! RELP, the Reliable Event Logging Protocol of rsyslog: syslog with answers.
//!
//! The specification is `doc/relp.html` of librelp. Where it and librelp differ, this does as librelp does: the version
//! that it offers is 0.
//!
//! Next: `relp/frame.rs`, the frames.

use std::collections::VecDeque;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::bytes::BytesMut;

use self::frame::{Frame, MAX_DATA, put_frame, take_frame};
use super::set_up::{invalid, read_reply};
use crate::outbox::{Answer, Outbox, OutboxBuilder, Protocol};
use crate::{Builder, Dial};

mod frame;

/// RELP, to rsyslog's `imrelp` or another server of this protocol: at least once.
///
/// ```no_run
/// use std::time::Duration;
/// use perconn::Conn;
/// use perconn::outbox::protocols::Relp;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let outbox = Relp::new().outbox(Conn::builder("logs.example:2514")).start()?;
/// outbox.send("<13>1 2026-11-30T19:00:00Z host app - - - a line").await?;
/// outbox.flush().await; // until rsyslog has answered
/// let tally = outbox.close(Duration::from_secs(5)).await;
/// println!("{tally}"); // 1 accepted: 1 answered
/// # Ok(())
/// # }
/// ```
///
/// A message is one whole syslog message, newlines included. Each link begins with the protocol's `open`, as a part of
/// the dial, and a close ends it with `close`. What the server answers with an error is
/// [rejected](crate::outbox::Fate::Rejected), with its text. The server's `serverclose` breaks the link.
///
/// # What the server has to do
///
/// rsyslog as it is configured by default answers what it then loses. Two settings change that:
///
/// - The ruleset of the input has no queue, `queue.type="Direct"`. The default is a queue in memory: rsyslog answers a
///   message that is in it, and loses the queue if it is killed. Without it, the message is in the file before the
///   answer leaves.
/// - The action waits while it cannot write, `action.resumeRetryCount="-1"`. By default rsyslog drops the message (the
///   disk is full, the folder is missing) and answers that all is well.
///
/// ```text
/// global(maxMessageSize="128k")
/// module(load="imrelp")
/// ruleset(name="relp" queue.type="Direct") {
///     action(type="omfile" file="/var/log/relp.log" action.resumeRetryCount="-1")
/// }
/// input(type="imrelp" port="2514" ruleset="relp")
/// ```
///
/// So what is answered survives a kill of rsyslog. A crash of the machine is another matter: the file is with the
/// kernel then, not on the disk. `sync="on"` of the action writes each message to the disk, some hundreds a second.
///
/// # Limits
///
/// A message has at most 128 KiB, the limit of the protocol; [`max_message`](OutboxBuilder::max_message) of the
/// returned builder changes that. The server has a limit of its own: rsyslog cuts a message that is longer than its
/// `maxMessageSize`, by default 8 KiB, and answers that all is well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "a protocol does nothing by itself, use `.outbox(..)`"]
#[doc(alias("rsyslog", "imrelp", "omrelp", "librelp"))]
pub struct Relp(());

impl Relp {
    /// The protocol; it has no settings.
    pub const fn new() -> Self {
        Self(())
    }

    /// The outbox of a connection that speaks this. All of its settings are still to choose; do not set
    /// [`protocol`](OutboxBuilder::protocol), [`framing`](OutboxBuilder::framing) or [`resend`](OutboxBuilder::resend).
    pub fn outbox<D: Dial>(self, conn: Builder<D>) -> OutboxBuilder<impl Dial<Stream = D::Stream>> {
        Outbox::builder(conn.and_then(open)).max_message(MAX_DATA).protocol(Transactions::default())
    }
}

/// The session set-up of a link.
async fn open<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<S> {
    let offers = format!(
        "relp_version=0\nrelp_software=perconn,{},https://docs.rs/perconn\ncommands=syslog",
        env!("CARGO_PKG_VERSION"),
    );
    let mut wire = BytesMut::new();
    put_frame(1, "open", offers.as_bytes(), &mut wire);
    stream.write_all(&wire).await?;
    stream.flush().await?;
    check_open(&read_reply(&mut stream, take_frame).await?)?;
    Ok(stream)
}

/// The answer to an `open`: 200, and a promise to take syslog.
fn check_open(frame: &Frame) -> io::Result<()> {
    let (status, offers) = frame.response()?;
    let text = String::from_utf8_lossy(offers);
    let offer = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let takes_syslog = offer("commands").is_some_and(|commands| commands.split(',').any(|command| command == "syslog"));
    if frame.txnr != 1 || !status.starts_with("200") {
        return Err(invalid(format!("the server does not open a RELP session: {status}")));
    }
    if offer("relp_version").is_none() || !takes_syslog {
        return Err(invalid(format!("the server's RELP has no syslog messages: {text:?}")));
    }
    Ok(())
}

/// The transactions of one link.
#[derive(Debug, Default)]
struct Transactions {
    /// The number of the last one that was sent.
    last: u32,
    /// The unanswered ones, and their messages.
    unanswered: VecDeque<(u32, u64)>,
    /// Whether `close` was sent: what arrives then says nothing about messages.
    is_closing: bool,
}

impl Transactions {
    /// The number of the next transaction.
    fn next(&mut self) -> u32 {
        self.last = if self.last == 999_999_999 { 1 } else { self.last + 1 };
        self.last
    }
}

impl Protocol for Transactions {
    fn begin(&mut self) {
        *self = Self { last: 1, ..Self::default() }; // 1 was the `open`.
    }

    fn encode(&mut self, number: u64, message: &[u8], wire: &mut BytesMut) -> io::Result<()> {
        if message.len() > 999_999_999 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "RELP has no frames of a gigabyte"));
        }
        let txnr = self.next();
        self.unanswered.push_back((txnr, number));
        put_frame(txnr, "syslog", message, wire);
        Ok(())
    }

    fn has_answers(&self) -> bool {
        true
    }

    fn decode(&mut self, inbound: &mut BytesMut) -> io::Result<Option<Answer>> {
        if self.is_closing {
            inbound.clear();
            return Ok(None);
        }
        let Some(frame) = take_frame(inbound)? else { return Ok(None) };
        if frame.command == "serverclose" {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the server closes the RELP session"));
        }
        let (status, _) = frame.response()?;
        // Servers answer in order, so it is the first one.
        let found = self.unanswered.iter().position(|(txnr, _)| *txnr == frame.txnr);
        let Some((_, number)) = found.and_then(|index| self.unanswered.remove(index)) else {
            return Err(invalid(format!(
                "the server answered RELP transaction {}, which is not unanswered",
                frame.txnr
            )));
        };
        Ok(Some(match status.starts_with("200") {
            true => Answer::One(number),
            false => Answer::Rejected(number, status),
        }))
    }

    fn finish(&mut self, wire: &mut BytesMut) {
        let txnr = self.next();
        put_frame(txnr, "close", b"", wire);
        self.is_closing = true;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn sent(count: u64) -> Transactions {
        let mut transactions = Transactions::default();
        transactions.begin();
        for number in 1..=count {
            transactions.encode(number, b"x", &mut BytesMut::new()).unwrap();
        }
        transactions
    }

    fn decode(transactions: &mut Transactions, text: &str) -> Result<Option<Answer>, String> {
        transactions.decode(&mut BytesMut::from(text)).map_err(|error| error.to_string())
    }

    #[test]
    fn transactions_begin_with_2_on_each_link_and_start_over_after_nine_digits() {
        let mut transactions = sent(0);
        let mut wire = BytesMut::new();
        transactions.encode(7, b"<13>a\nb", &mut wire).unwrap();
        assert_eq!(&wire[..], b"2 syslog 7 <13>a\nb\n");
        transactions.begin();
        wire.clear();
        transactions.encode(7, b"a", &mut wire).unwrap();
        assert_eq!(&wire[..], b"2 syslog 1 a\n");
        transactions.last = 999_999_998;
        assert_eq!((transactions.next(), transactions.next()), (999_999_999, 1));
    }

    #[test]
    fn a_response_is_an_answer_to_its_transaction() {
        let mut transactions = sent(3);
        assert_eq!(decode(&mut transactions, "2 rsp 6 200 OK\n"), Ok(Some(Answer::One(1))));
        assert_eq!(decode(&mut transactions, "4 rsp 3 200\n"), Ok(Some(Answer::One(3))));
        let rejected = Answer::Rejected(2, "500 no room".into());
        assert_eq!(decode(&mut transactions, "3 rsp 11 500 no room\n"), Ok(Some(rejected)));
        assert!(decode(&mut transactions, "3 rsp 6 200 OK\n").unwrap_err().contains("transaction 3"));
    }

    #[test]
    fn anything_but_a_response_breaks_the_link() {
        assert!(decode(&mut sent(1), "0 serverclose 0\n").unwrap_err().contains("closes"));
        assert!(decode(&mut sent(1), "2 syslog 1 x\n").unwrap_err().contains("syslog"));
        assert!(decode(&mut sent(1), "2 rsp 2 OK\n").unwrap_err().contains("OK"));
    }

    #[test]
    fn after_the_close_nothing_counts() {
        let mut transactions = sent(1);
        let mut wire = BytesMut::new();
        transactions.finish(&mut wire);
        assert_eq!(&wire[..], b"3 close 0\n");
        assert_eq!(decode(&mut transactions, "3 rsp 0\n0 serverclose 0\n"), Ok(None));
    }

    #[test]
    fn an_open_needs_a_version_and_syslog() {
        let check = |data: &str| {
            let frame = Frame { txnr: 1, command: "rsp".into(), data: Bytes::copy_from_slice(data.as_bytes()) };
            check_open(&frame).map_err(|error| error.to_string())
        };
        check("200 OK\nrelp_version=0\nrelp_software=librelp,1.11.0,http://librelp.adiscon.com\ncommands=syslog")
            .unwrap();
        check("200 OK\nrelp_version=1\ncommands=eventlog,syslog").unwrap();
        assert!(check("500 required command not supported").unwrap_err().contains("500 required"));
        assert!(check("200 OK\nrelp_version=0\ncommands=eventlog").unwrap_err().contains("no syslog"));
        assert!(check("200 OK").unwrap_err().contains("no syslog"));
    }

    #[tokio::test]
    async fn open_reads_its_own_answer_and_no_more() {
        let (client, mut server) = tokio::io::duplex(1024);
        let answer = "200 OK\nrelp_version=0\ncommands=syslog";
        server.write_all(format!("1 rsp {} {answer}\n0 serverclose 0\n", answer.len()).as_bytes()).await.unwrap();
        let mut client = open(client).await.unwrap();
        let rest = read_reply(&mut client, take_frame).await.unwrap();
        assert_eq!(rest.command, "serverclose");
        let sent = read_reply(&mut server, take_frame).await.unwrap();
        assert_eq!((sent.txnr, sent.command.as_str()), (1, "open"));
        assert!(sent.data.starts_with(b"relp_version=0\n"));
    }
}
