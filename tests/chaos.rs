//! A server that is killed in mid-stream, again and again, in every way; framed records, checked at both ends.
//!
//! Each run has a seed; `PERCONN_CHAOS_SEED` repeats one, `PERCONN_CHAOS_LINKS` sets how many links each run kills.
//! (The sockets and the scheduler are real, so a seed repeats the plan and not every interleaving.)

mod support;

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use perconn::acceptor::Stream;
use perconn::{Builder, Conn, Dial, ReadHalf, SharedConn, TcpDialer, WriteHalf};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use support::{Links, quick, reset_link, soon, told_generation};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HELLO: &[u8] = b"hello, client";
const MAX_PAYLOAD: usize = 40_000;

/// How a link ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kill {
    Reset,
    Close,
    /// Takes only a part of a record, then resets or closes.
    MidFrame {
        orderly: bool,
    },
    /// Says a part of the greeting.
    MidSetUp {
        orderly: bool,
    },
    /// Reads nothing until the client's write waits, then resets.
    FullBuffers,
}

/// How the next link ends, and after how many records.
fn plan(random: &mut SmallRng) -> (Kill, usize) {
    let orderly = random.random_bool(0.5);
    let kill = match random.random_range(0..10) {
        0..=2 => Kill::Reset,
        3..=5 => Kill::Close,
        6..=7 => Kill::MidFrame { orderly },
        8 => Kill::MidSetUp { orderly },
        _ => Kill::FullBuffers,
    };
    // A record at least: when it has come, the client's set-up is over and the link is up.
    (kill, random.random_range(1..30))
}

fn links() -> usize {
    std::env::var("PERCONN_CHAOS_LINKS").map_or(40, |text| text.parse().expect("a number of links"))
}

fn seeds() -> Vec<u64> {
    match std::env::var("PERCONN_CHAOS_SEED") {
        Ok(text) => vec![text.parse().expect("a seed")],
        Err(_) => {
            let mut random: SmallRng = rand::make_rng();
            (0..8).map(|_| random.random_range(0..1_000_000)).collect()
        }
    }
}

/// One record: its number, its length, and bytes that follow from the number.
fn record(number: u64, len: usize) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend((len as u32).to_be_bytes());
    bytes.extend((0..len).map(|i| (number as usize + i) as u8));
    bytes
}

/// Reads one record and checks every byte of it. An error: the link ended, be it in mid-record.
async fn read_record(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<u64> {
    let number = stream.read_u64().await?;
    let len = stream.read_u32().await? as usize;
    assert!(len <= MAX_PAYLOAD, "not the start of a record: number {number:#x}, length {len:#x}");
    let mut payload = vec![0; len];
    stream.read_exact(&mut payload).await?;
    for (i, byte) in payload.iter().enumerate() {
        assert_eq!(*byte, (number as usize + i) as u8, "record {number} is torn at byte {i} of {len}");
    }
    Ok(number)
}

/// Serves one link as planned. The records that arrived whole are in `received`.
async fn serve(mut stream: Stream, kill: Kill, records: usize, received: &Mutex<Vec<u64>>) -> io::Result<()> {
    if let Kill::MidSetUp { orderly } = kill {
        stream.write_all(&HELLO[..5]).await?;
        return end(stream, orderly);
    }
    stream.write_all(HELLO).await?;
    for _ in 0..records {
        let number = read_record(&mut stream).await?;
        received.lock().unwrap().push(number);
        stream.write_all(&number.to_be_bytes()).await?;
    }
    match kill {
        Kill::Reset => end(stream, false),
        Kill::MidFrame { orderly } => {
            stream.read_exact(&mut [0; 10]).await?;
            end(stream, orderly)
        }
        Kill::FullBuffers => {
            // Long enough for a busy writer to fill the buffers; nothing depends on whether it does.
            tokio::time::sleep(Duration::from_millis(20)).await;
            end(stream, false)
        }
        Kill::Close | Kill::MidSetUp { .. } => end(stream, true),
    }
}

fn end(stream: Stream, orderly: bool) -> io::Result<()> {
    if orderly {
        drop(stream);
    } else {
        reset_link(stream);
    }
    Ok(())
}

/// A client whose session begins with the server's greeting.
fn client(server: &Links) -> Builder<impl Dial<Stream = TcpStream>> {
    let address = server.address();
    let greeted = TcpDialer::new(address).and_then(|mut stream| async move {
        let mut hello = vec![0; HELLO.len()];
        stream.read_exact(&mut hello).await?;
        assert_eq!(hello, HELLO);
        Ok(stream)
    });
    quick(Conn::builder(address).dialer(greeted)).retry_max(Duration::from_millis(5))
}

/// How many links the server will have killed. A killed set-up makes no link.
fn expected_breaks(seed: u64) -> u64 {
    let mut random = SmallRng::seed_from_u64(seed);
    let plans = (0..links()).map(|_| plan(&mut random).0);
    plans.filter(|kill| !matches!(kill, Kill::MidSetUp { .. })).count() as u64
}

/// What the server saw: the records that arrived whole, link by link.
async fn run_server(mut server: Links, seed: u64) -> Vec<Vec<u64>> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut seen = Vec::new();
    for _ in 0..links() {
        let stream = server.next().await;
        let (kill, records) = plan(&mut random);
        let received = Mutex::new(Vec::new());
        // The client may not come as far as the plan; an error ends the link all the same.
        let _ = soon("a link", serve(stream, kill, records, &received)).await;
        seen.push(received.into_inner().unwrap());
    }
    // The last link serves until the client has had enough.
    let stream = server.next().await;
    let received = Mutex::new(Vec::new());
    let _ = soon("the last link", serve(stream, Kill::Close, usize::MAX, &received)).await;
    seen.push(received.into_inner().unwrap());
    seen
}

/// Writes records until the acknowledgement of one that was begun on the last link has come.
async fn write_records(mut write: WriteHalf, seed: u64, enough: Arc<tokio::sync::Notify>) -> (u64, Vec<u64>) {
    let mut random = SmallRng::seed_from_u64(!seed);
    let mut number = 0;
    let mut told = Vec::new();
    let mut enough = std::pin::pin!(enough.notified());
    loop {
        let len = if random.random_bool(0.1) { MAX_PAYLOAD } else { random.random_range(0..200) };
        let outcome = tokio::select! {
            biased;
            () = &mut enough => return (number, told),
            outcome = async { write.write_all(&record(number, len)).await } => outcome,
        };
        number += 1;
        if let Err(error) = outcome {
            told.push(told_generation(&error));
        }
        if random.random_bool(0.05) {
            tokio::task::yield_now().await;
        }
    }
}

/// Reads acknowledgements; drops the half-received one at each break.
async fn read_acknowledgements(
    mut read: ReadHalf,
    last: u64,
    enough: Arc<tokio::sync::Notify>,
) -> (Vec<u64>, Vec<u64>) {
    let (mut acknowledged, mut told, mut half) = (Vec::new(), Vec::new(), Vec::new());
    let mut on_last = 0;
    let mut buf = [0; 1024];
    loop {
        let n = match soon("an acknowledgement", read.read(&mut buf)).await {
            Ok(0) => {
                half.clear();
                told.push(told.last().map_or(1, |generation| generation + 1));
                continue;
            }
            Ok(n) => n,
            Err(error) => {
                half.clear();
                told.push(told_generation(&error));
                continue;
            }
        };
        half.extend_from_slice(&buf[..n]);
        while half.len() >= 8 {
            let rest = half.split_off(8);
            acknowledged.push(u64::from_be_bytes(half.as_slice().try_into().unwrap()));
            half = rest;
            on_last += u64::from(told.len() as u64 == last - 1);
        }
        if on_last >= 20 {
            enough.notify_one();
            return (acknowledged, told);
        }
    }
}

async fn run(seed: u64) {
    println!("PERCONN_CHAOS_SEED={seed}");
    let server = Links::start();
    let conn = client(&server).build().unwrap();
    let last = 1 + expected_breaks(seed);
    let server = tokio::spawn(run_server(server, seed));
    let (read, write) = conn.into_split();
    let enough = Arc::new(tokio::sync::Notify::new());
    let writer = tokio::spawn(write_records(write, seed, Arc::clone(&enough)));
    let (acknowledged, read_told) = read_acknowledgements(read, last, enough).await;
    let (written, write_told) = soon("the writer", writer).await.unwrap();
    let seen = soon("the server", server).await.unwrap();

    // No torn frame: the server has checked every byte. Records go out in order, and none twice.
    let mut arrived = HashSet::new();
    for link in &seen {
        assert!(link.is_sorted(), "out of order: {link:?}");
        for number in link {
            assert!(*number < written && arrived.insert(*number), "record {number} arrived twice");
        }
    }
    // Nothing is acknowledged twice, or without having arrived.
    let unique: HashSet<_> = acknowledged.iter().copied().collect();
    assert_eq!(unique.len(), acknowledged.len(), "acknowledged twice");
    assert!(unique.is_subset(&arrived));
    // Each half was told of each break once, in order. (The writer may have stopped before it was told of the last.)
    let every: Vec<u64> = (1..last).collect();
    assert_eq!(read_told, every, "what the reading half was told");
    assert!(write_told.len() <= every.len() && write_told == every[..write_told.len()], "{write_told:?}");
    assert!(write_told.len() + 1 >= every.len(), "the writing half was told {write_told:?} of {last} links");
}

#[tokio::test]
async fn halves_on_one_thread() {
    for seed in seeds() {
        run(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn halves_on_one_worker() {
    for seed in seeds() {
        tokio::spawn(run(seed)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn halves_on_two_workers() {
    for seed in seeds() {
        tokio::spawn(run(seed)).await.unwrap();
    }
}

/// A whole connection that sends each record again until it is acknowledged: nothing is lost, and each break is told
/// to exactly one operation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_connection_with_retries_loses_nothing() {
    for seed in seeds() {
        println!("PERCONN_CHAOS_SEED={seed}");
        let server = Links::start();
        let mut conn = client(&server).build().unwrap();
        let server = tokio::spawn(run_server(server, seed));
        let mut told = Vec::new();
        let mut acknowledged = HashSet::new();
        let mut random = SmallRng::seed_from_u64(seed);
        let mut number = 0;
        // As long as the server has links to kill, and then a few more.
        let mut after = 0;
        while after < 20 {
            let bytes = record(number, random.random_range(0..2_000));
            let outcome = async {
                conn.write_all(&bytes).await?;
                conn.read_u64().await
            };
            match soon("an exchange", outcome).await {
                Ok(answer) => {
                    assert_eq!(answer, number, "an answer of another link");
                    acknowledged.insert(number);
                    number += 1;
                    after += usize::from(told.len() as u64 >= expected_breaks(seed));
                }
                Err(error)
                    if error.kind() == io::ErrorKind::UnexpectedEof && error.get_ref().is_none_or(is_not_ours) =>
                {
                    // `read_u64` at the end of the stream: the read was told with `Ok(0)`.
                    told.push(told.last().map_or(1, |generation| generation + 1));
                }
                Err(error) => told.push(told_generation(&error)),
            }
        }
        drop(conn);
        let seen = soon("the server", server).await.unwrap();
        let every: Vec<u64> = (1..=told.len() as u64).collect();
        assert_eq!(told, every);
        assert_eq!(acknowledged.len() as u64, number, "lost");
        let arrived: HashSet<_> = seen.iter().flatten().copied().collect();
        assert!(acknowledged.is_subset(&arrived));
    }
}

/// What a task that writes through a shared connection knows in the end.
#[derive(Default)]
struct Jobs {
    sent: HashSet<u64>,
    failed: HashSet<u64>,
}

/// One of many tasks. Now and then it loses patience with a write.
async fn write_jobs(conn: SharedConn, task: u64, seed: u64, enough: Arc<AtomicBool>) -> Jobs {
    let mut random = SmallRng::seed_from_u64(seed ^ task << 40);
    let mut jobs = Jobs::default();
    for number in task << 32.. {
        if enough.load(Ordering::Relaxed) {
            break;
        }
        let len = if random.random_bool(0.1) { MAX_PAYLOAD } else { random.random_range(0..200) };
        let bytes = record(number, len);
        let write = soon("a job", conn.write_all(&bytes));
        let outcome = if random.random_bool(0.1) {
            tokio::select! {
                biased;
                outcome = write => Some(outcome),
                () = tokio::task::yield_now() => None,
            }
        } else {
            Some(write.await)
        };
        match outcome {
            Some(Ok(())) => drop(jobs.sent.insert(number)),
            Some(Err(error)) => {
                told_generation(&error);
                jobs.failed.insert(number);
            }
            // Sent whole, or not at all.
            None => {}
        }
    }
    jobs
}

/// Reads acknowledgements through a clone of a shared connection until that of the very last job has come.
async fn read_shared(conn: SharedConn, last: u64, enough: Arc<AtomicBool>) -> (Vec<u64>, Vec<u64>) {
    let (mut acknowledged, mut told, mut half) = (Vec::new(), Vec::new(), Vec::new());
    let mut buf = [0; 1024];
    let mut on_last = 0;
    while acknowledged.last() != Some(&FAREWELL) {
        match soon("an acknowledgement", conn.read(&mut buf)).await {
            Ok(0) => told.push(told.last().map_or(1, |generation| generation + 1)),
            Ok(n) => {
                half.extend_from_slice(&buf[..n]);
                let whole = half.len() / 8 * 8;
                acknowledged.extend(half.drain(..whole).as_slice().chunks(8).map(|bytes| {
                    on_last += u64::from(told.len() as u64 == last - 1);
                    u64::from_be_bytes(bytes.try_into().unwrap())
                }));
                enough.store(on_last >= 20, Ordering::Relaxed);
                continue;
            }
            Err(error) => told.push(told_generation(&error)),
        }
        half.clear();
    }
    (acknowledged, told)
}

/// The number of the job that is written when every task has ended.
const FAREWELL: u64 = TASKS << 32;
const TASKS: u64 = 8;

async fn run_shared(seed: u64) {
    println!("PERCONN_CHAOS_SEED={seed}");
    let server = Links::start();
    let conn = client(&server).job_queue_size(4).build().unwrap().into_shared();
    let last = 1 + expected_breaks(seed);
    let server = tokio::spawn(run_server(server, seed));
    let enough = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> =
        (0..TASKS).map(|task| tokio::spawn(write_jobs(conn.clone(), task, seed, Arc::clone(&enough)))).collect();
    let reader = tokio::spawn(read_shared(conn.clone(), last, enough));
    let mut jobs = Jobs::default();
    for writer in writers {
        let Jobs { sent, failed } = soon("a writer", writer).await.unwrap();
        jobs.sent.extend(sent);
        jobs.failed.extend(failed);
    }
    soon("farewell", conn.write_all(&record(FAREWELL, 0))).await.unwrap();
    let (acknowledged, told) = soon("the reader", reader).await.unwrap();
    soon("close", conn.close()).await;
    let seen = soon("the server", server).await.unwrap();

    // No job is mixed with another: the server has checked every byte. None comes twice; each task's come in order, one
    // that failed does not come whole.
    let mut arrived = HashSet::new();
    let mut newest = [None; TASKS as usize + 1];
    for number in seen.iter().flatten() {
        assert!(arrived.insert(*number), "job {number:#x} arrived twice");
        assert!(!jobs.failed.contains(number), "job {number:#x} has failed, and arrived whole");
        let newest = &mut newest[(number >> 32) as usize];
        assert!(newest.is_none_or(|newest| newest < *number), "job {number:#x} comes after {newest:?}");
        *newest = Some(*number);
    }
    // Each is acknowledged once at most, and only if it has arrived.
    let unique: HashSet<_> = acknowledged.iter().copied().collect();
    assert_eq!(unique.len(), acknowledged.len(), "acknowledged twice");
    assert!(unique.is_subset(&arrived));
    // On the last link, which was never killed, nothing is lost.
    let on_last: HashSet<_> = seen.last().unwrap().iter().copied().collect();
    for task in 0..TASKS {
        let Some(first) = on_last.iter().filter(|number| **number >> 32 == task).min() else { continue };
        let lost: Vec<_> =
            jobs.sent.iter().filter(|sent| **sent >> 32 == task && *sent > first && !on_last.contains(sent)).collect();
        assert!(lost.is_empty(), "lost on the last link: {lost:#x?}");
    }
    let every: Vec<u64> = (1..last).collect();
    assert_eq!(told, every, "what the reader was told");
}

#[tokio::test]
async fn shared_connection_on_one_thread() {
    for seed in seeds() {
        run_shared(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn shared_connection_on_one_worker() {
    for seed in seeds() {
        tokio::spawn(run_shared(seed)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shared_connection_on_two_workers() {
    for seed in seeds() {
        tokio::spawn(run_shared(seed)).await.unwrap();
    }
}

fn is_not_ours(inner: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    !inner.is::<perconn::Error>()
}
