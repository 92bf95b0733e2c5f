//! Costs that add up over connections and time: the memory of idle connections, what wakes them, and what a thousand
//! outages leave behind.

use std::time::Duration;

use perconn::{Conn, SharedConn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_test::task::spawn;

use crate::live_bytes;
use crate::support::{Server, in_time, quick, refused_address};

const COUNT: usize = 500;

/// The bytes that one of many connections takes, on average.
async fn bytes_of_each<C>(server: &Server, mut connect: impl AsyncFnMut() -> C) -> isize {
    let mut kept = Vec::with_capacity(COUNT);
    let mut peers = Vec::with_capacity(COUNT);
    let mut cost = 0;
    for _ in 0..COUNT {
        // The server's end is in this process too, and is not counted.
        let before = live_bytes();
        kept.push(connect().await);
        cost += live_bytes() - before;
        peers.push(server.accept().await);
    }
    // Work that the runtime has put off.
    let before = live_bytes();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    cost += live_bytes() - before;
    cost / COUNT as isize + size_of::<C>() as isize
}

#[tokio::test]
async fn idle_connection_takes_at_most_two_kibibytes_more_than_a_bare_stream() {
    let server = Server::start().await;
    let raw = bytes_of_each(&server, async || TcpStream::connect(server.address).await.unwrap()).await;
    let conn = bytes_of_each(&server, async || Conn::connect(server.address).await.unwrap()).await;
    println!("a TcpStream: {raw} bytes; a Conn: {conn}, {} above", conn - raw);
    assert!(raw > 0 && conn - raw <= 2048, "a TcpStream takes {raw} bytes, a Conn {conn}");
}

/// How often the runtime's thread wakes up. Its own sleep accounts for a few, as the timer wheel works in stages.
async fn wake_ups_in_a_month() -> u64 {
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.worker_park_count(0);
    tokio::time::sleep(Duration::from_secs(30 * 86_400)).await;
    metrics.worker_park_count(0) - before
}

/// Under paused time, a timer shows as a wake-up of the runtime.
#[tokio::test(start_paused = true)]
async fn idle_connections_set_no_timer_and_wake_no_task() {
    let alone = wake_ups_in_a_month().await;
    let server = Server::start().await;
    let mut idle = Vec::new();
    for _ in 0..30 {
        // No dial timeout: paused time could advance past it before the kernel has answered.
        let dial = async || server.client().dial_timeout(None).connect().await.unwrap();
        let (conn, one) = tokio::join!(dial(), server.accept());
        let (waiting, two) = tokio::join!(dial(), server.accept());
        let (shared, three) = tokio::join!(dial(), server.accept());
        let (mut reader, writer) = waiting.into_split();
        let reading = tokio::spawn(async move { reader.read(&mut [0; 8]).await });
        idle.push((conn, reading, writer, shared.into_shared(), [one, two, three]));
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let with_them = wake_ups_in_a_month().await;
    assert!(with_them <= alone + 2, "{with_them} wake-ups in a month, and {alone} without connections");
    assert!(idle.iter().all(|(conn, reading, ..)| conn.is_connected() && !reading.is_finished()));
}

/// Exchanges a byte on each connection; then the server closes both links.
async fn outage(server: &Server, conn: &mut Conn, shared: &SharedConn) {
    let exchange = async {
        let (mut one, mut two) = (server.accept().await, server.accept().await);
        // They arrive in any order.
        for peer in [&mut one, &mut two] {
            peer.read_exact(&mut [0]).await.unwrap();
            peer.write_all(b"x").await.unwrap();
        }
    };
    let calls = async {
        conn.write_all(b"x").await.unwrap();
        shared.write_all(b"x").await.unwrap();
        conn.read_exact(&mut [0]).await.unwrap();
        assert_eq!(shared.read(&mut [0]).await.unwrap(), 1);
    };
    in_time("an exchange", async { tokio::join!(exchange, calls) }).await;
    assert_eq!(in_time("the end", conn.read(&mut [0])).await.unwrap(), 0);
    assert_eq!(in_time("the end", shared.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test]
async fn memory_stays_flat_over_a_thousand_outages() {
    let server = Server::start().await;
    let client = || server.client().retry_min(Duration::from_millis(1)).retry_max(Duration::from_millis(1)).build();
    let (mut conn, shared) = (client().unwrap(), client().unwrap().into_shared());
    // The maximum over the ends of many outages, as the two connections may be at different points of their redials.
    let mut most = async |outages| {
        let mut most = 0;
        for _ in 0..outages {
            outage(&server, &mut conn, &shared).await;
            most = most.max(live_bytes());
        }
        most
    };
    let first = most(200).await;
    let last = most(800).await;
    println!("after 200 outages {first} bytes at most, after 1,000 {last}");
    // One byte kept per outage would add 800.
    assert!(last - first < 800, "after 200 outages {first} bytes, after 1,000 outages {last}");
}

#[tokio::test]
async fn cancelled_jobs_leave_nothing_behind() {
    let conn = quick(Conn::builder(refused_address().await)).build().unwrap().into_shared();
    let mut waiting = spawn(conn.write_all(b"waiting"));
    assert!(waiting.poll().is_pending());
    let cancel = |count| {
        for _ in 0..count {
            let mut call = spawn(conn.write_all(b"cancelled"));
            assert!(call.poll().is_pending());
        }
        live_bytes()
    };
    let (first, last) = (cancel(100), cancel(10_000));
    assert!(last <= first, "{first} bytes after 100 cancelled calls, {last} after 10,000 more");
    let mut next = spawn(conn.write_all(b"next"));
    assert!(next.poll().is_pending());
}

#[tokio::test]
async fn large_job_that_was_cancelled_or_sent_leaves_nothing_behind() {
    const LARGE: usize = 32 << 20;
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let conn = conn.into_shared();
    let large = vec![7; LARGE];
    let mut buf = vec![0; 1 << 16];
    let mut send_large = async |is_cancelled| {
        let mut job = spawn(conn.write_all(&large));
        assert!(job.poll().is_pending());
        in_time("the first byte", peer.read_exact(&mut buf[..1])).await.unwrap();
        let job = if is_cancelled { None } else { Some(job) };
        for _ in 0..(LARGE - 1).div_ceil(buf.len()) - 1 {
            in_time("a part", peer.read_exact(&mut buf)).await.unwrap();
        }
        in_time("the rest", peer.read_exact(&mut buf[..(LARGE - 1) % (1 << 16)])).await.unwrap();
        if let Some(job) = job {
            in_time("the large job", job).await.unwrap();
        }
        in_time("a small job", conn.write_all(b"small")).await.unwrap();
        in_time("the small job", peer.read_exact(&mut buf[..5])).await.unwrap();
    };
    send_large(true).await;
    let before = live_bytes();
    for is_cancelled in [true, false] {
        send_large(is_cancelled).await;
        let more = live_bytes() - before;
        assert!(more < 10_000, "{more} bytes more than before");
    }
}
