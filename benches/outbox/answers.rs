//! Messages with answers: at most 1,024 unanswered, beside the same written by hand.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use perconn::Conn;
use perconn::codec::tokio_util::bytes::BytesMut;
use perconn::outbox::{Answer, Outbox, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::rounds::{compare, on_each_runtime};
use crate::sink::{MESSAGE, Sink};
use crate::speed::{fill, time};

/// How many messages may be unanswered: the default of an outbox.
const WINDOW: usize = 1024;

pub(crate) fn run(rounds: usize, messages: usize) {
    let sink = Sink::answering();
    on_each_runtime(|name, runtime| {
        compare(
            &format!("100-byte messages, each answered by a byte, at most {WINDOW} unanswered, {name}"),
            rounds,
            messages,
            vec![
                ("a window by hand", Box::new(|| time(runtime, &sink, messages, by_hand))),
                ("Outbox with answers", Box::new(|| time(runtime, &sink, messages, answered))),
            ],
        );
    });
}

/// Fills the window, writes what is new in it, and reads answers. Keeps a copy of each message, to send it again; that part
/// is not written here.
async fn by_hand(address: SocketAddr, messages: usize) {
    let (mut reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
    let mut unanswered = VecDeque::with_capacity(WINDOW);
    let (mut next, mut batch, mut answers) = (0, Vec::new(), [0; WINDOW]);
    let mut message = [b'x'; MESSAGE];
    while next < messages || !unanswered.is_empty() {
        batch.clear();
        while unanswered.len() < WINDOW && next < messages {
            fill(&mut message, next);
            batch.extend_from_slice(&message);
            unanswered.push_back(message);
            next += 1;
        }
        writer.write_all(&batch).await.unwrap();
        let answered = reader.read(&mut answers).await.unwrap();
        drop(unanswered.drain(..answered));
    }
}

/// One byte answers the next message.
struct Bytewise;

impl Protocol for Bytewise {
    fn encode(&mut self, _number: u64, message: &[u8], wire: &mut BytesMut) -> io::Result<()> {
        wire.extend_from_slice(message);
        Ok(())
    }

    fn has_answers(&self) -> bool {
        true
    }

    fn decode(&mut self, inbound: &mut BytesMut) -> io::Result<Option<Answer>> {
        if inbound.is_empty() {
            return Ok(None);
        }
        let _ = inbound.split_to(1);
        Ok(Some(Answer::Next))
    }
}

async fn answered(address: SocketAddr, messages: usize) {
    let outbox = Outbox::builder(Conn::builder(address)).protocol(Bytewise).start().unwrap();
    let mut message = [b'x'; MESSAGE];
    for number in 0..messages {
        fill(&mut message, number);
        outbox.send(message).await.unwrap();
    }
    outbox.flush().await;
    let tally = outbox.close(std::time::Duration::from_secs(60)).await;
    assert_eq!(tally.answered, messages as u64, "{tally}");
}
