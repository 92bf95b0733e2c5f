//! Messages of 100 bytes, as fast as one producer or 64 can send them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use perconn::Conn;
use perconn::outbox::Outbox;
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Mutex;

use crate::rounds::compare;
use crate::sink::{MESSAGE, Sink};

/// How many tasks send in the second table.
const PRODUCERS: usize = 64;

pub(crate) fn run(rounds: usize, messages: usize) {
    let sink = Sink::silent();
    let one = Builder::new_current_thread().enable_all().build().unwrap();
    let two = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for (name, runtime) in [("one thread", &one), ("two workers", &two)] {
        let few = messages / 10;
        compare(
            &format!("100-byte messages of one task, {name}, beside a BufWriter of 64 KiB"),
            rounds,
            messages,
            vec![
                ("BufWriter on a TcpStream", Box::new(|| time(runtime, &sink, messages, buffered))),
                ("Outbox::send", Box::new(|| time(runtime, &sink, messages, sent))),
                ("Outbox::try_send, else send", Box::new(|| time(runtime, &sink, messages, tried))),
            ],
        );
        compare(
            &format!("the same beside write_all of each, {name}"),
            rounds,
            few,
            vec![
                ("write_all on a TcpStream", Box::new(|| time(runtime, &sink, few, written))),
                ("Outbox::send", Box::new(|| time(runtime, &sink, few, sent))),
            ],
        );
        compare(
            &format!("100-byte messages of 64 tasks, {name}"),
            rounds,
            messages / PRODUCERS * PRODUCERS,
            vec![
                ("a BufWriter behind a Mutex", Box::new(|| time(runtime, &sink, messages, buffered_by_many))),
                ("Outbox::send", Box::new(|| time(runtime, &sink, messages, sent_by_many))),
            ],
        );
    }
}

/// One round: from the first message until the last has been read.
fn time<F: Future<Output = usize> + Send + 'static>(
    runtime: &Runtime,
    sink: &Sink,
    messages: usize,
    client: fn(SocketAddr, usize) -> F,
) -> Duration {
    let address = sink.address;
    let start = Instant::now();
    // On a worker, where there are any.
    let sent = runtime.block_on(async move { tokio::spawn(client(address, messages)).await.unwrap() });
    sink.check(sent);
    start.elapsed()
}

/// A message that differs from the one before it.
fn fill(message: &mut [u8; MESSAGE], number: usize) {
    message[..8].copy_from_slice(&number.to_le_bytes());
}

async fn buffered(address: SocketAddr, messages: usize) -> usize {
    let mut stream = BufWriter::with_capacity(64 * 1024, TcpStream::connect(address).await.unwrap());
    let mut message = [b'x'; MESSAGE];
    for number in 0..messages {
        fill(&mut message, number);
        stream.write_all(&message).await.unwrap();
    }
    stream.shutdown().await.unwrap();
    messages
}

async fn written(address: SocketAddr, messages: usize) -> usize {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut message = [b'x'; MESSAGE];
    for number in 0..messages {
        fill(&mut message, number);
        stream.write_all(&message).await.unwrap();
    }
    stream.shutdown().await.unwrap();
    messages
}

async fn sent(address: SocketAddr, messages: usize) -> usize {
    let outbox = Outbox::builder(Conn::builder(address)).start().unwrap();
    let mut message = [b'x'; MESSAGE];
    for number in 0..messages {
        fill(&mut message, number);
        outbox.send(&message).await.unwrap();
    }
    close(outbox, messages).await
}

async fn tried(address: SocketAddr, messages: usize) -> usize {
    let outbox = Outbox::builder(Conn::builder(address)).start().unwrap();
    let mut message = [b'x'; MESSAGE];
    for number in 0..messages {
        fill(&mut message, number);
        if outbox.try_send(&message).is_err() {
            outbox.send(&message).await.unwrap();
        }
    }
    close(outbox, messages).await
}

async fn buffered_by_many(address: SocketAddr, messages: usize) -> usize {
    let stream = BufWriter::with_capacity(64 * 1024, TcpStream::connect(address).await.unwrap());
    let stream = Arc::new(Mutex::new(stream));
    let each = messages / PRODUCERS;
    let producers: tokio::task::JoinSet<()> = (0..PRODUCERS)
        .map(|_| {
            let stream = Arc::clone(&stream);
            async move {
                let mut message = [b'x'; MESSAGE];
                for number in 0..each {
                    fill(&mut message, number);
                    stream.lock().await.write_all(&message).await.unwrap();
                }
            }
        })
        .collect();
    producers.join_all().await;
    stream.lock().await.shutdown().await.unwrap();
    each * PRODUCERS
}

async fn sent_by_many(address: SocketAddr, messages: usize) -> usize {
    let outbox = Outbox::builder(Conn::builder(address)).start().unwrap();
    let each = messages / PRODUCERS;
    let producers: tokio::task::JoinSet<()> = (0..PRODUCERS)
        .map(|_| {
            let outbox = outbox.clone();
            async move {
                let mut message = [b'x'; MESSAGE];
                for number in 0..each {
                    fill(&mut message, number);
                    outbox.send(&message).await.unwrap();
                }
            }
        })
        .collect();
    producers.join_all().await;
    close(outbox, each * PRODUCERS).await
}

async fn close(outbox: Outbox, messages: usize) -> usize {
    let tally = outbox.close(Duration::from_secs(60)).await;
    assert_eq!(tally.written, messages as u64, "{tally}");
    messages
}
