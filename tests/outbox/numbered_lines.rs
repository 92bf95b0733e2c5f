//! Numbered lines to a server that is cut again and again. Afterwards, exactly the lines are missing that the tally says.
//!
//! The server stops reading until both kernels' buffers are full, and looks at what its kernel holds: that is what has been
//! acknowledged. Then it resets. So it is known to the byte what has arrived. (A proxy would not do: its kernel acknowledges
//! everything.)

use std::collections::BTreeSet;
use std::time::Duration;

use perconn::outbox::{Answer, Answers, Outbox, Resend, Tally};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_util::codec::LinesCodec;

use crate::support::{Server, in_time, reset};

/// How often the server resets a link.
const CUTS: u64 = 4;

/// The lines that arrived on all links.
#[derive(Default)]
struct Received {
    all: BTreeSet<u64>,
    twice: u64,
    /// Whether each link had ascending numbers.
    is_in_order: bool,
}

impl Received {
    /// Takes the bytes of one link. Half a line at the end does not count.
    fn take_link(&mut self, bytes: &[u8]) {
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines = std::str::from_utf8(&bytes[..whole]).expect("whole lines are text").lines();
        let numbers: Vec<u64> = lines.map(|line| line.trim_end().parse().expect("a line is a number")).collect();
        self.is_in_order &= numbers.is_sorted();
        for number in numbers {
            self.twice += u64::from(!self.all.insert(number));
        }
    }
}

/// A hundred bytes.
fn line(number: u64) -> String {
    format!("{number:<99}\n")
}

/// Sends lines through cuts. Returns how many, what has arrived, and the tally.
async fn run(resend: Resend, answers: bool) -> (u64, Received, Tally) {
    let server = Server::start().await;
    let outbox = Outbox::builder(server.client()).capacity(500).resend(resend).start().unwrap();
    let producer = tokio::spawn({
        let outbox = outbox.clone();
        async move { while outbox.send(line(outbox.tally().accepted + 1)).await.is_ok() {} }
    });
    let mut received = Received { is_in_order: true, ..Received::default() };
    for cut in 0..CUTS {
        let mut peer = server.accept().await;
        let mut bytes = vec![0; 10_000 + 3_333 * cut as usize];
        in_time("some lines", peer.read_exact(&mut bytes)).await.unwrap();
        if answers {
            // It answers what it has read, and not what its kernel has.
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
            peer.write_all("ok\n".repeat(lines).as_bytes()).await.unwrap();
        }
        bytes.extend(held_by_the_kernel(&peer).await);
        received.take_link(&bytes);
        reset(peer);
    }
    let mut peer = server.accept().await;
    let last = tokio::spawn(async move {
        let (mut bytes, mut buffer) = (Vec::new(), [0; 65_536]);
        loop {
            let len = peer.read(&mut buffer).await.unwrap();
            if len == 0 {
                return bytes;
            }
            bytes.extend_from_slice(&buffer[..len]);
            let lines = buffer[..len].iter().filter(|byte| **byte == b'\n').count();
            if answers && peer.write_all("ok\n".repeat(lines).as_bytes()).await.is_err() {
                return bytes;
            }
        }
    });
    let tally = in_time("close", outbox.close(Duration::from_secs(15))).await;
    received.take_link(&in_time("the last link", last).await.unwrap());
    producer.await.unwrap();
    (tally.accepted, received, tally)
}

/// What the receiver's kernel holds, once the buffers are full and all of it has been acknowledged.
async fn held_by_the_kernel(peer: &TcpStream) -> Vec<u8> {
    let mut held = 0;
    loop {
        // An acknowledgement may be delayed by up to 200 ms (`TCP_DELACK_MAX` in Linux's net/tcp.h).
        sleep(Duration::from_millis(300)).await;
        let now = rustix::io::ioctl_fionread(peer).unwrap() as usize;
        if now == held && held > 0 {
            break;
        }
        held = now;
    }
    let mut bytes = vec![0; held];
    let mut peeked = 0;
    while peeked < held {
        peeked = peer.peek(&mut bytes).await.unwrap();
    }
    bytes
}

fn check(sent: u64, received: &Received, tally: Tally) {
    let missing = (1..=sent).filter(|number| !received.all.contains(number)).count() as u64;
    println!("{tally}; missing {missing}, twice {}", received.twice);
    assert_eq!(tally.accepted, tally.settled());
    assert_eq!(missing, tally.missing(), "exactly what the tally says is missing");
    assert!(received.is_in_order, "the order of a link");
}

/// Without answers, the outbox writes until the buffers are full, and knows to the byte what has arrived.
fn check_exactly(sent: u64, received: &Received, tally: Tally) {
    check(sent, received, tally);
    assert!(sent > 4_000, "the buffers were never full: {sent}");
    assert_eq!(received.twice, 0, "lines that came twice");
}

#[tokio::test]
async fn resend_never_misses_what_is_in_doubt_and_sends_nothing_twice() {
    let (sent, received, tally) = run(Resend::Never, false).await;
    check_exactly(sent, &received, tally);
    assert!(tally.in_doubt >= CUTS, "each break has cut a line");
}

#[tokio::test]
async fn resend_interrupted_misses_what_is_in_doubt_and_sends_nothing_twice() {
    let (sent, received, tally) = run(Resend::Interrupted, false).await;
    check_exactly(sent, &received, tally);
    assert!(tally.in_doubt > 0);
}

#[tokio::test]
async fn resend_unacknowledged_misses_nothing_that_the_kernel_of_the_peer_had() {
    let (sent, received, tally) = run(Resend::Unacknowledged, false).await;
    check_exactly(sent, &received, tally);
    assert_eq!((tally.written, tally.missing()), (sent, 0));
}

#[tokio::test]
async fn resend_unanswered_misses_nothing() {
    let answers = Answers::new(LinesCodec::new, |line| (line == "ok").then_some(Answer::Next));
    // A window does not fill the buffers: the server's look comes when the whole of it has arrived.
    let (sent, received, tally) = run(Resend::Unanswered(answers), true).await;
    check(sent, &received, tally);
    assert_eq!((tally.answered, tally.missing()), (sent, 0));
    assert!(received.twice > 0 && received.twice <= CUTS * 1024, "{} came twice", received.twice);
}
