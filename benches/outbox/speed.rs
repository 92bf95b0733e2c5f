//! Messages of 100 bytes, as fast as one producer or 64 can send them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use perconn::Conn;
use perconn::outbox::Outbox;
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

use crate::rounds::{compare, on_each_runtime};
use crate::sink::{MESSAGE, Sink};

/// How many tasks send in the second table.
const PRODUCERS: usize = 64;

pub(crate) fn run(rounds: usize, messages: usize) {
    let sink = Sink::silent();
    on_each_runtime(|name, runtime| {
        let few = messages / 10;
        let by_many = messages / PRODUCERS * PRODUCERS;
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
            by_many,
            vec![
                ("a BufWriter behind a Mutex", Box::new(|| time(runtime, &sink, by_many, buffered_by_many))),
                ("Outbox::send", Box::new(|| time(runtime, &sink, by_many, sent_by_many))),
            ],
        );
    });
}

/// One round: from the first message until the last has been read.
pub(crate) fn time<F: Future<Output = ()> + Send + 'static>(
    runtime: &Runtime,
    sink: &Sink,
    messages: usize,
    client: fn(SocketAddr, usize) -> F,
) -> Duration {
    let address = sink.address;
    let start = Instant::now();
    // On a worker, where there are any.
    let client = runtime.spawn(client(address, messages));
    std::thread::scope(|threads| {
        let read = threads.spawn(|| {
            sink.wait_for(messages);
            start.elapsed()
        });
        runtime.block_on(client).unwrap();
        read.join().unwrap()
    })
}

/// A message that differs from the one before it.
pub(crate) fn fill(message: &mut [u8; MESSAGE], number: usize) {
    message[..8].copy_from_slice(&number.to_le_bytes());
}

async fn buffered(address: SocketAddr, messages: usize) {
    let mut stream = BufWriter::with_capacity(64 * 1024, TcpStream::connect(address).await.unwrap());
    let mut message = [b'x'; MESSAGE];
    for number in 0..messages {
        fill(&mut message, number);
        stream.write_all(&message).await.unwrap();
    }
    stream.shutdown().await.unwrap();
}

async fn written(address: SocketAddr, messages: usize) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut message = [b'x'; MESSAGE];
    for number in 0..messages {
        fill(&mut message, number);
        stream.write_all(&message).await.unwrap();
    }
    stream.shutdown().await.unwrap();
}

async fn sent(address: SocketAddr, messages: usize) {
    let outbox = Outbox::builder(Conn::builder(address)).start().unwrap();
    let mut message = [b'x'; MESSAGE];
    for number in 0..messages {
        fill(&mut message, number);
        outbox.send(message).await.unwrap();
    }
    close(outbox, messages).await;
}

async fn tried(address: SocketAddr, messages: usize) {
    let outbox = Outbox::builder(Conn::builder(address)).start().unwrap();
    let mut message = [b'x'; MESSAGE];
    for number in 0..messages {
        fill(&mut message, number);
        if outbox.try_send(message).is_err() {
            outbox.send(message).await.unwrap();
        }
    }
    close(outbox, messages).await;
}

async fn buffered_by_many(address: SocketAddr, messages: usize) {
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
}

async fn sent_by_many(address: SocketAddr, messages: usize) {
    let outbox = Outbox::builder(Conn::builder(address)).start().unwrap();
    let each = messages / PRODUCERS;
    let producers: tokio::task::JoinSet<()> = (0..PRODUCERS)
        .map(|_| {
            let outbox = outbox.clone();
            async move {
                let mut message = [b'x'; MESSAGE];
                for number in 0..each {
                    fill(&mut message, number);
                    outbox.send(message).await.unwrap();
                }
            }
        })
        .collect();
    producers.join_all().await;
    close(outbox, each * PRODUCERS).await;
}

async fn close(outbox: Outbox, messages: usize) {
    let tally = outbox.close(Duration::from_secs(60)).await;
    assert_eq!(tally.written, messages as u64, "{tally}");
}
