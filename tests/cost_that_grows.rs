//! What adds up: the memory of idle connections, what wakes them, and what a thousand outages leave behind.
//!
//! Everything of a test is on one thread, so that the allocator can count by thread. The figures of 10,000 connections in
//! a process of their own are `benches/versus.rs`'s.

#![allow(unsafe_code)]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use perconn::{Conn, SharedConn};
use support::{Server, quick, refused_address, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_test::task::spawn;

struct Counting;

thread_local! {
    static LIVE_BYTES: Cell<isize> = const { Cell::new(0) };
}

fn add(bytes: isize) {
    let _ = LIVE_BYTES.try_with(|live| live.set(live.get() + bytes));
}

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        add(-(layout.size() as isize));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const COUNT: usize = 500;

/// How many bytes each of many connections takes.
async fn bytes_of_each<C>(server: &Server, mut connect: impl AsyncFnMut() -> C) -> isize {
    let mut kept = Vec::with_capacity(COUNT);
    let mut peers = Vec::with_capacity(COUNT);
    let mut cost = 0;
    for _ in 0..COUNT {
        // The server's end is in this process, too, and not counted.
        let before = LIVE_BYTES.get();
        kept.push(connect().await);
        cost += LIVE_BYTES.get() - before;
        peers.push(server.accept().await);
    }
    // What was put off until the runtime's next turn.
    let before = LIVE_BYTES.get();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    cost += LIVE_BYTES.get() - before;
    cost / COUNT as isize + size_of::<C>() as isize
}

#[tokio::test]
async fn idle_connection_takes_two_kibibytes_at_most_above_a_bare_stream() {
    let server = Server::start().await;
    let raw = bytes_of_each(&server, async || TcpStream::connect(server.address).await.unwrap()).await;
    let conn = bytes_of_each(&server, async || Conn::connect(server.address).await.unwrap()).await;
    println!("a TcpStream: {raw} bytes; a Conn: {conn}, {} above", conn - raw);
    assert!(raw > 0 && conn - raw <= 2048, "a TcpStream takes {raw} bytes, a Conn {conn}");
}

/// How often the runtime's thread wakes up. (For its own sleep a few times: the timer wheel goes in stages.)
async fn turns_in_a_month() -> u64 {
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.worker_park_count(0);
    tokio::time::sleep(Duration::from_secs(30 * 86_400)).await;
    metrics.worker_park_count(0) - before
}

/// In virtual time: a timer would be seen as a turn of the runtime.
#[tokio::test(start_paused = true)]
async fn idle_connections_set_no_timer_and_wake_nobody_up() {
    let alone = turns_in_a_month().await;
    let server = Server::start().await;
    let mut idle = Vec::new();
    for _ in 0..30 {
        // No limit to the dial: its timer could run out before the kernel has answered, as time flies here.
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
    let with_them = turns_in_a_month().await;
    assert!(with_them <= alone + 2, "{with_them} turns in a month, and {alone} without connections");
    assert!(idle.iter().all(|(conn, reading, ..)| conn.is_connected() && !reading.is_finished()));
}

/// Exchanges a byte with a server that hangs up after it.
async fn outage(server: &Server, conn: &mut Conn, shared: &SharedConn) {
    let exchange = async {
        let (mut one, mut two) = (server.accept().await, server.accept().await);
        // They come in any order.
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
    soon("an exchange", async { tokio::join!(exchange, calls) }).await;
    assert_eq!(soon("the end", conn.read(&mut [0])).await.unwrap(), 0);
    assert_eq!(soon("the end", shared.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test]
async fn thousand_outages_in_a_row_leave_memory_flat() {
    let server = Server::start().await;
    let client = || server.client().retry_min(Duration::from_millis(1)).retry_max(Duration::from_millis(1)).build();
    let (mut conn, shared) = (client().unwrap(), client().unwrap().into_shared());
    // The most there is at the end of an outage, as the two may be at different points of their redials.
    let mut most = async |outages| {
        let mut most = 0;
        for _ in 0..outages {
            outage(&server, &mut conn, &shared).await;
            most = most.max(LIVE_BYTES.get());
        }
        most
    };
    let first = most(200).await;
    let last = most(800).await;
    println!("after 200 outages {first} bytes at most, after 1,000 {last}");
    // A byte kept for each would be 800.
    assert!(last - first < 800, "after 200 outages {first} bytes, after 1,000 {last}");
}

#[tokio::test]
async fn cancelled_jobs_leave_nothing_behind() {
    let conn = quick(Conn::builder(refused_address().await)).build().unwrap().into_shared();
    let mut patient = spawn(conn.write_all(b"patient"));
    assert!(patient.poll().is_pending());
    let cancel = |count| {
        for _ in 0..count {
            let mut call = spawn(conn.write_all(b"impatient"));
            assert!(call.poll().is_pending());
        }
        LIVE_BYTES.get()
    };
    let (first, last) = (cancel(100), cancel(10_000));
    assert!(last <= first, "{first} bytes after 100 cancelled calls, {last} after 10,000 more");
    let mut next = spawn(conn.write_all(b"next"));
    assert!(next.poll().is_pending());
}
