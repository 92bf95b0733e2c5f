//! Clients of all kinds at once, by a seed: those that behave get all of their answers, and no connection is left.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use perconn::acceptor::{Acceptor, Event, LineConn, Overflow, Stats};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::common::{figures, local};
use crate::support::{SLOWNESS, in_time, reset};

const CLIENTS: u64 = 100;
const REFUSAL: &str = "no acceptor is free";

/// Echoes lines. Some lines ask it to be late, to panic, or to fail.
async fn handle(line: Vec<u8>, conn: LineConn) -> io::Result<()> {
    match &line[..] {
        b"panic" => panic!("on purpose"),
        b"fail" => return Err(io::Error::other("on purpose")),
        b"late" => sleep(Duration::from_millis(3)).await,
        _ => {}
    }
    conn.send(line).await
}

fn acceptor(overflow: Overflow, open: Arc<AtomicU64>) -> Acceptor {
    local()
        .acceptors(8)
        .overflow(overflow)
        .refusal(format!("{REFUSAL}\n"))
        .max_line_length(1000)
        // Ends the clients that keep silent. It is long for those that behave.
        .first_byte_timeout(Duration::from_secs(1) * SLOWNESS)
        .idle_timeout(Duration::from_secs(1) * SLOWNESS)
        .on_event(move |event| {
            match event {
                Event::Accepted { .. } => open.fetch_add(1, Ordering::SeqCst),
                Event::Closed { .. } => open.fetch_sub(1, Ordering::SeqCst),
                _ => 0,
            };
        })
        .line_handler(handle)
        .build()
        .unwrap()
}

/// How a client ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// It got all of its answers.
    Well,
    Refused,
    /// It misbehaved.
    Badly,
}

/// Sends some lines, in pieces of any size, and expects an answer to each.
async fn behave(stream: TcpStream, rng: &mut SmallRng) -> io::Result<Ended> {
    let mut stream = BufReader::new(stream);
    let mut answer = String::new();
    for number in 0..rng.random_range(1..20) {
        let line = match rng.random_range(0..4) {
            0 => "late\n".to_owned(),
            _ => format!("line {number} {}\n", "x".repeat(rng.random_range(0..900))),
        };
        let cut = rng.random_range(0..line.len());
        stream.write_all(&line.as_bytes()[..cut]).await?;
        tokio::task::yield_now().await;
        stream.write_all(&line.as_bytes()[cut..]).await?;
        answer.clear();
        in_time("an answer", stream.read_line(&mut answer)).await?;
        if number == 0 && answer.trim_end() == REFUSAL {
            assert_eq!(in_time("the end", stream.read_line(&mut answer)).await?, 0);
            return Ok(Ended::Refused);
        }
        assert_eq!(answer, line);
    }
    Ok(Ended::Well)
}

async fn client(acceptor: &Acceptor, seed: u64) -> Ended {
    let mut rng = SmallRng::seed_from_u64(seed);
    sleep(Duration::from_micros(rng.random_range(0..100_000))).await;
    let mut stream = TcpStream::connect(acceptor.local_addr().unwrap()).await.unwrap();
    let kind = rng.random_range(0..14);
    let bytes: &[u8] = match kind {
        0 => b"",
        1 => b"half a li",
        2 => b"panic\nmore\n",
        3 => b"one\nfail\n",
        4 => &[b'x'; 5000],
        5 => b"late\nlate\nlate\nlate\n",
        // A client that behaves must not be reset: it reads everything.
        _ => return behave(stream, &mut rng).await.unwrap_or_else(|error| panic!("seed {seed}: {error}")),
    };
    let _ = stream.write_all(bytes).await;
    match rng.random_range(0..3) {
        0 => reset(stream),
        1 => drop(stream),
        _ => {
            // The client waits until the acceptor closes.
            in_time("its end", async { while matches!(stream.read(&mut [0; 99]).await, Ok(1..)) {} }).await;
        }
    }
    Ended::Badly
}

fn sum(stats: &Stats) -> u64 {
    stats.finished + stats.failed + stats.timed_out + stats.panicked + stats.cut
}

async fn run(overflow: Overflow, seed: u64) {
    let open = Arc::new(AtomicU64::new(0));
    let acceptor = Arc::new(acceptor(overflow, Arc::clone(&open)));
    let mut clients = JoinSet::new();
    for index in 0..CLIENTS {
        let acceptor = Arc::clone(&acceptor);
        clients.spawn(async move { client(&acceptor, seed * CLIENTS + index).await });
    }
    let ends = in_time("all clients", clients.join_all()).await;
    let refused = ends.iter().filter(|end| **end == Ended::Refused).count();
    assert!(ends.contains(&Ended::Well));
    assert!(overflow != Overflow::Wait || refused == 0, "{refused}");
    let stats = figures(&acceptor, "all are gone", |stats| stats.busy == 0 && sum(stats) == stats.accepted).await;
    // Clients that misbehave may have been refused as well. One that resets at once may never have been accepted.
    assert!(stats.refused >= refused as u64 && stats.accepted + stats.refused <= CLIENTS, "{stats:?}");
    assert_eq!((stats.acceptors, open.load(Ordering::SeqCst), stats.cut), (8, 0, 0), "{stats:?}");
    assert_eq!(in_time("stop", acceptor.stop(Duration::ZERO)).await, Default::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_behave_are_served_among_those_that_do_not() {
    for seed in 0..2 {
        run(Overflow::Wait, seed).await;
        run(Overflow::Refuse, seed).await;
        run(Overflow::Grow { by: 4, max: 20 }, seed).await;
    }
}

#[tokio::test]
async fn clients_that_behave_are_served_among_those_that_do_not_on_one_thread() {
    run(Overflow::Wait, 7).await;
    run(Overflow::Grow { by: 8, max: 16 }, 8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_among_clients_of_all_kinds_leaves_no_connection() {
    for seed in 20..26 {
        let open = Arc::new(AtomicU64::new(0));
        let acceptor = acceptor(Overflow::Grow { by: 8, max: 100 }, Arc::clone(&open));
        let address = acceptor.local_addr().unwrap();
        let mut clients = JoinSet::new();
        for index in 0..60 {
            clients.spawn(async move {
                let mut rng = SmallRng::seed_from_u64(seed * 100 + index);
                sleep(Duration::from_micros(rng.random_range(0..20_000))).await;
                let Ok(mut stream) = TcpStream::connect(address).await else { return };
                let _ = stream.write_all([&b"late\n"[..], b"hal", b"one\ntwo\n", b""][rng.random_range(0..4)]).await;
                in_time("its end", async { while matches!(stream.read(&mut [0; 99]).await, Ok(1..)) {} }).await;
            });
        }
        sleep(Duration::from_millis(10)).await;
        let before = acceptor.stats();
        let stopped = in_time("stop", acceptor.stop(Duration::from_millis(20))).await;
        let stats = acceptor.stats();
        assert_eq!((stats.busy, open.load(Ordering::SeqCst), stopped.cut as u64), (0, 0, stats.cut));
        let ended = (stopped.finished + stopped.idle + stopped.cut) as u64;
        // Some may have been accepted, or have ended, between these figures and the stop.
        assert!(ended <= stats.accepted && ended + sum(&before) <= stats.accepted, "{stopped:?} {stats:?}");
        in_time("all clients", clients.join_all()).await;
    }
}
