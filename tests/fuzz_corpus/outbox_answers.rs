//! Any bytes from a peer that answers messages, during the set-up of a link or after it: each message has one fate, and none has
//! an answer that did not come.
//!
//! Next: `src/outbox/protocols.rs`.

use std::time::Duration;

use perconn::outbox::protocols::{Forward, RedisStream, Relp};
use perconn::outbox::{Answer, Answers, Outbox, OutboxBuilder, Resend};
use perconn::testing::{ScriptedDialer, ScriptedStream};
use perconn::{Builder, Conn, Dial};
use tokio_util::codec::LinesCodec;

/// How many messages are sent.
const MESSAGES: u64 = 8;

/// The first byte says which protocol it is, and the second how long the pieces are that arrive together.
pub(crate) fn check(bytes: &[u8]) {
    let Some(([protocol, piece], bytes)) = bytes.split_first_chunk() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let pieces = bytes.chunks(usize::from(*piece).max(1));
        let stream = pieces.fold(ScriptedStream::new().expects_anything(), ScriptedStream::sends);
        let conn = Conn::builder("peer").dialer(ScriptedDialer::new().connects(stream.closes())).logger(|_| {});
        let outbox = outbox(*protocol, conn);
        for number in 1..=MESSAGES {
            // A message of the forward protocol is a map; an empty one of MessagePack.
            let message = if protocol % 4 == 2 { b"\x80".to_vec() } else { format!("{number}").into_bytes() };
            assert_eq!(outbox.send(message).await.unwrap(), number);
        }
        let close = outbox.close(Duration::from_secs(3));
        let tally = tokio::time::timeout(Duration::from_secs(3600), close).await.expect("the outbox closes");
        assert_eq!((tally.accepted, tally.settled(), tally.waiting), (MESSAGES, MESSAGES, 0), "{tally}");
        assert_eq!((tally.written, tally.dropped, tally.expired), (0, 0, 0), "{tally}");
        assert!(tally.answered == 0 || !bytes.is_empty(), "{tally}");
    });
}

/// An outbox that speaks one of the protocols.
fn outbox(protocol: u8, conn: Builder<ScriptedDialer>) -> Outbox {
    match protocol % 4 {
        0 => start(Relp::new().outbox(conn)),
        1 => start(RedisStream::new("log").outbox(conn)),
        2 => start(Forward::new("app").outbox(conn)),
        _ => start(Outbox::builder(conn).resend(Resend::Unanswered(Answers::new(LinesCodec::new, answer)))),
    }
}

fn start<D: Dial>(builder: OutboxBuilder<D>) -> Outbox {
    builder.answer_timeout(Duration::from_secs(1)).on_event(|_| {}).start().unwrap()
}

/// "u7" answers all up to 7, "o7" only 7, "r7" refuses it; any other line answers the next.
fn answer(line: String) -> Answer {
    let number = line.get(1..).and_then(|number| number.parse().ok());
    match (line.get(..1), number) {
        (Some("u"), Some(number)) => Answer::UpTo(number),
        (Some("o"), Some(number)) => Answer::One(number),
        (Some("r"), Some(number)) => Answer::Rejected(number, line),
        _ => Answer::Next,
    }
}
