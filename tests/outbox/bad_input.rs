//! Bad input: settings, messages, answers, and the program's own code. Each is a clear error, and nothing is lost.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use perconn::outbox::{Answer, Answers, Fate, Outbox, OutboxBuilder, Protocol, Resend, SendError, TrySendError};
use perconn::{Conn, Error, TcpDialer};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_util::codec::{Decoder, LinesCodec};

use crate::support::{Server, in_time, quick};

const LIMIT: Duration = Duration::from_secs(10);

/// What the connection's logger has got.
type Log = Arc<Mutex<Vec<String>>>;

fn logged(server: &Server) -> (perconn::Builder<TcpDialer>, Log) {
    let log = Log::default();
    let lines = Arc::clone(&log);
    let builder = quick(Conn::builder(server.address));
    (builder.logger(move |error| lines.lock().unwrap().push(error.with_causes().to_string())), log)
}

fn answers() -> Answers {
    Answers::new(
        || LinesCodec::new_with_max_length(20),
        |line| {
            let number = |text: &str| text.parse::<u64>().map_err(io::Error::other);
            Ok::<_, io::Error>(match line.split_once(' ') {
                Some(("one", text)) => Answer::One(number(text)?),
                Some(("upto", text)) => Answer::UpTo(number(text)?),
                Some(("no", text)) => Answer::Rejected(number(text)?, "it is bad".into()),
                _ if line == "next" => Answer::Next,
                _ if line == "bad" => Answer::NextRejected("it is bad".into()),
                _ if line == "panic" => panic!("on purpose"),
                _ => return Err(io::Error::other(format!("not an answer: {line}"))),
            })
        },
    )
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused_at_the_start() {
    type Set = fn(OutboxBuilder) -> OutboxBuilder;
    let table: [(Set, &str); 12] = [
        (|b| b.capacity(0), "capacity 0: expected 1 to"),
        (|b| b.capacity_bytes(0), "capacity_bytes 0: expected 1048576 to"),
        (|b| b.capacity_bytes(100).max_message(101), "capacity_bytes 100: expected 101 to"),
        (|b| b.max_message(0), "max_message 0"),
        (|b| b.window(0), "window 0: expected 1 to 1048576"),
        (|b| b.window(1 << 21), "window 2097152: expected 1 to 1048576"),
        (|b| b.expire_after(Duration::ZERO), "expire_after 0ns"),
        (|b| b.answer_timeout(Duration::ZERO), "answer_timeout 0ns"),
        (|b| b.catch_up_rate(0), "catch_up_rate 0"),
        (|b| b.first_number(0), "first_number 0"),
        (|b| b.first_number(u64::MAX), "first_number 18446744073709551615"),
        (|b| b.protocol(Silent).resend(Resend::Never), "the protocol has answers"),
    ];
    for (set, text) in table {
        let error = set(Outbox::builder(Conn::builder("127.0.0.1:1"))).start().unwrap_err();
        let Error::InvalidConfig(found) = &error else { panic!("{text}: {error:?}") };
        assert!(found.contains(text), "expected {text}, found {found}");
    }
    // On 32 bits, no capacity is too large.
    if let Ok(absurd) = usize::try_from(1_u64 << 32) {
        let error = Outbox::builder(Conn::builder("127.0.0.1:1")).capacity(absurd).start().unwrap_err();
        assert!(error.to_string().contains("capacity 4294967296: expected 1 to 4294967295"), "{error}");
    }
    let (near, _far) = tokio::io::duplex(64);
    let mut near = Some(near);
    let dialer = perconn::dial_fn(move || std::future::ready(near.take().ok_or_else(|| io::Error::other("no more"))));
    let over_a_pipe = Outbox::builder(Conn::builder("pipe").dialer(dialer)).resend(Resend::Unacknowledged);
    assert!(matches!(over_a_pipe.start(), Err(Error::InvalidConfig(text)) if text.contains("expected a TcpStream")));
}

#[test]
fn start_without_a_runtime_is_refused() {
    assert!(matches!(Outbox::builder(Conn::builder("127.0.0.1:1")).start(), Err(Error::InvalidConfig(_))));
}

/// Has answers, and gets none.
struct Silent;

impl Protocol for Silent {
    fn encode(&mut self, _: u64, message: &[u8], wire: &mut BytesMut) -> io::Result<()> {
        wire.extend_from_slice(message);
        Ok(())
    }

    fn has_answers(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn message_that_is_too_long_or_empty_is_refused() {
    let server = Server::start().await;
    let outbox = Outbox::builder(server.client()).max_message(10).start().unwrap();
    let error = outbox.send("hello world").await.unwrap_err();
    assert_eq!(error.to_string(), "a message of 11 bytes: expected at most 10");
    assert!(matches!(outbox.send("").await, Err(SendError::Empty)));
    assert!(matches!(outbox.try_send(""), Err(TrySendError::Refused(SendError::Empty))));
    assert_eq!(outbox.send("0123456789").await.unwrap(), 1);
    assert_eq!(outbox.tally().accepted, 1);
}

/// A server whose first link says `answer` to the first line and is then broken by the client. The second link
/// gets all lines again and answers each with "next". Returns the errors that the connection has logged.
async fn after_a_false_answer(answer: &str, resent: &[&str]) -> Vec<String> {
    let server = Server::start().await;
    let (conn, log) = logged(&server);
    let outbox = Outbox::builder(conn).resend(Resend::Unanswered(answers())).start().unwrap();
    for line in ["1\n", "2\n", "3\n"] {
        outbox.send(line).await.unwrap();
    }
    let mut first = BufReader::new(server.accept().await);
    read_lines(&mut first, &["1", "2", "3"]).await;
    first.write_all(answer.as_bytes()).await.unwrap();
    let mut second = BufReader::new(server.accept().await);
    read_lines(&mut second, resent).await;
    for _ in resent {
        second.write_all(b"next\n").await.unwrap();
    }
    in_time("flush", outbox.flush()).await;
    let tally = in_time("close", outbox.close(LIMIT)).await;
    assert_eq!(tally.answered, 3, "nothing is lost by {answer:?}: {tally}");
    let log = log.lock().unwrap();
    log.clone()
}

async fn read_lines(stream: &mut BufReader<TcpStream>, expected: &[&str]) {
    for expected in expected {
        let mut line = String::new();
        in_time("a line", stream.read_line(&mut line)).await.unwrap();
        assert_eq!(line.trim_end(), *expected);
    }
}

#[tokio::test]
async fn false_answer_breaks_the_link_with_a_clear_error_and_nothing_is_lost() {
    for (answer, resent, error) in [
        ("one 7\n", &["1", "2", "3"][..], "answered message 7, which was not sent: expected at most 3"),
        ("upto 4\n", &["1", "2", "3"], "answered message 4, which was not sent: expected at most 3"),
        ("no 9\n", &["1", "2", "3"], "answered message 9, which was not sent"),
        ("one 2\none 2\n", &["1", "3"], "answered message 2, which is not unanswered on this link"),
        ("next\none 1\n", &["2", "3"], "answered message 1, which is not unanswered on this link"),
        ("next\nhello\n", &["2", "3"], "not an answer: hello"),
        ("upto 2\na line that is far too long for it\n", &["3"], "max line length exceeded"),
        ("next\npanic\n", &["2", "3"], "the protocol's `decode` panicked: on purpose"),
    ] {
        let log = in_time(answer, after_a_false_answer(answer, resent)).await;
        assert!(log.iter().any(|line| line.contains(error)), "expected {error}, found {log:?}");
    }
}

#[tokio::test]
async fn answer_without_a_message_is_an_error() {
    let server = Server::start().await;
    let (conn, log) = logged(&server);
    let outbox = Outbox::builder(conn).resend(Resend::Unanswered(answers())).start().unwrap();
    let mut first = server.accept().await;
    first.write_all(b"next\n").await.unwrap();
    let _second = server.accept().await;
    assert!(log.lock().unwrap().iter().any(|line| line.contains("answered a message, but none is unanswered")));
    assert_eq!(outbox.tally().accepted, 0);
}

#[tokio::test]
async fn answer_up_to_a_lower_number_says_nothing_new() {
    let server = Server::start().await;
    let outbox = Outbox::builder(server.client()).resend(Resend::Unanswered(answers())).start().unwrap();
    for line in ["1\n", "2\n"] {
        outbox.send(line).await.unwrap();
    }
    let mut peer = BufReader::new(server.accept().await);
    read_lines(&mut peer, &["1", "2"]).await;
    peer.write_all(b"upto 2\nupto 1\nupto 0\nupto 2\n").await.unwrap();
    in_time("flush", outbox.flush()).await;
    assert_eq!(in_time("close", outbox.close(LIMIT)).await.to_string(), "2 accepted: 2 answered");
}

#[tokio::test]
async fn rejected_message_is_not_sent_again_and_its_sender_gets_the_reason() {
    let server = Server::start().await;
    let events = Arc::new(Mutex::new(Vec::new()));
    let hook = Arc::clone(&events);
    let outbox = Outbox::builder(server.client())
        .resend(Resend::Unanswered(answers()))
        .on_event(move |event| hook.lock().unwrap().push(event.to_string()))
        .start()
        .unwrap();
    let fates: Vec<_> = ["1\n", "2\n", "3\n"]
        .map(|line| {
            let outbox = outbox.clone();
            tokio::spawn(async move { outbox.send_and_wait(line).await.unwrap() })
        })
        .into();
    let mut peer = BufReader::new(server.accept().await);
    for _ in 0..3 {
        in_time("a line", peer.read_line(&mut String::new())).await.unwrap();
    }
    peer.write_all(b"bad\nno 3\none 2\n").await.unwrap();
    let mut found = Vec::new();
    for fate in fates {
        found.push(in_time("a fate", fate).await.unwrap());
    }
    found.sort_by_key(ToString::to_string);
    let rejected = Fate::Rejected("it is bad".into());
    assert_eq!(found, [Fate::Answered, rejected.clone(), rejected]);
    let tally = in_time("close", outbox.close(LIMIT)).await;
    assert_eq!(tally.to_string(), "3 accepted: 1 answered, 2 rejected");
    let events = events.lock().unwrap();
    assert_eq!(
        *events,
        [
            "message 1 was rejected: it is bad",
            "message 3 was rejected: it is bad",
            "the outbox has ended: 3 accepted: 1 answered, 2 rejected"
        ]
    );
}

#[tokio::test]
async fn peer_that_does_not_answer_in_time_loses_its_link() {
    let server = Server::start().await;
    let (conn, log) = logged(&server);
    let outbox = Outbox::builder(conn)
        .resend(Resend::Unanswered(answers()))
        .answer_timeout(Duration::from_millis(50))
        .start()
        .unwrap();
    outbox.send("1\n").await.unwrap();
    let _silent = server.accept().await;
    let mut second = BufReader::new(server.accept().await);
    read_lines(&mut second, &["1"]).await;
    second.write_all(b"next\n").await.unwrap();
    in_time("flush", outbox.flush()).await;
    assert_eq!(outbox.tally().answered, 1);
    let log = log.lock().unwrap();
    assert!(log.iter().any(|line| line.contains("not answered the oldest message within")), "{log:?}");
}

/// Refuses some messages, and panics at others.
struct Picky;

impl Protocol for Picky {
    fn encode(&mut self, _: u64, message: &[u8], wire: &mut BytesMut) -> io::Result<()> {
        wire.extend_from_slice(message);
        match message {
            b"refused\n" => Err(io::Error::other("this one not")),
            b"panics\n" => panic!("on purpose"),
            b"nothing\n" => {
                wire.truncate(wire.len() - message.len());
                Ok(())
            }
            b"too much\n" => {
                wire.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[tokio::test]
async fn message_that_cannot_be_encoded_is_rejected_and_poisons_no_link() {
    let server = Server::start().await;
    let (conn, log) = logged(&server);
    let outbox = Outbox::builder(conn).protocol(Picky).start().unwrap();
    let reader = tokio::spawn(async move {
        let mut all = Vec::new();
        loop {
            server.accept().await.read_to_end(&mut all).await.unwrap();
            if all.ends_with(b"last\n") {
                return all;
            }
        }
    });
    for (message, expected) in [
        ("first\n", Fate::Written),
        ("refused\n", Fate::Rejected("this one not".into())),
        ("panics\n", Fate::Rejected("the protocol's `encode` panicked: on purpose".into())),
        ("second\n", Fate::Written),
        ("nothing\n", Fate::Rejected("the protocol made no bytes of it".into())),
    ] {
        let fate = in_time(message, outbox.send_and_wait(message)).await.unwrap();
        assert_eq!(fate, expected, "{message}");
    }
    // Three in one batch.
    outbox.try_send("third\n").unwrap();
    outbox.try_send("too much\n").unwrap();
    outbox.try_send("last\n").unwrap();
    let tally = in_time("close", outbox.close(LIMIT)).await;
    assert_eq!((tally.written, tally.rejected), (4, 4), "{tally}");
    assert_eq!(in_time("the server", reader).await.unwrap(), b"first\nsecond\nthird\nlast\n");
    let log = log.lock().unwrap();
    assert!(log.iter().any(|line| line.contains("the protocol's `encode` panicked: on purpose")), "{log:?}");
}

/// The longest times are no limits. An outbox has an age, so that the sum of the two has to be looked after.
#[tokio::test]
async fn longest_times_are_no_limits() {
    for slack in [Duration::ZERO, Duration::from_millis(1)] {
        let (server, longest) = (Server::start().await, Duration::MAX - slack);
        let builder = Outbox::builder(server.client()).expire_after(longest).answer_timeout(longest).protocol(Silent);
        let outbox = builder.close_timeout(longest).start().unwrap();
        tokio::time::sleep(2 * slack).await;
        outbox.send("unanswered").await.unwrap();
        let mut stream = server.accept().await;
        in_time("the message", stream.read_exact(&mut [0; 10])).await.unwrap();
        // The task has gone on to wait for the answer.
        outbox.send("another").await.unwrap();
        in_time("the next message", stream.read_exact(&mut [0; 7])).await.unwrap();
        assert!(outbox.end_cause().is_none(), "{:?}", outbox.end_cause());
        assert_eq!(outbox.tally().waiting, 2);
    }
}

/// Returns an answer, or a frame that is none, again and again, and takes no bytes.
struct Greedy(Option<Answer>);

impl Decoder for Greedy {
    type Item = Option<Answer>;
    type Error = io::Error;

    fn decode(&mut self, inbound: &mut BytesMut) -> io::Result<Option<Self::Item>> {
        Ok((!inbound.is_empty()).then(|| self.0.clone()))
    }
}

#[tokio::test]
async fn decoder_that_takes_no_bytes_breaks_the_link() {
    for answer in [Some(Answer::UpTo(0)), None] {
        let server = Server::start().await;
        let (conn, log) = logged(&server);
        let answers = Answers::new(move || Greedy(answer.clone()), |answer| answer);
        let outbox = Outbox::builder(conn).resend(Resend::Unanswered(answers)).start().unwrap();
        outbox.send("x").await.unwrap();
        let mut stream = server.accept().await;
        stream.write_all(b"?").await.unwrap();
        let _next_link = in_time("a break, and the next link", server.accept()).await;
        in_time("close", outbox.close(Duration::ZERO)).await;
        let log = log.lock().unwrap();
        assert!(log.iter().any(|line| line.contains("takes no bytes")), "{log:?}");
    }
}
