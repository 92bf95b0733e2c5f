//! Promise 4: no lost wake-ups. Reader and writer may live in different tasks, be cancelled, polled late or moved;
//! every waiter is woken when a link comes up or goes down.
//!
//! No test puts a timeout around the operation itself: the timeout's own wake-up would poll the operation and hide the
//! bug.

use std::time::{Duration, Instant};

use crate::support::{HANG_LIMIT, ReservedPort, SLOWNESS, Server, in_time, quick, reset, wait_for_generation};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

/// Waits until `task` has been woken, without polling it.
async fn wait_until_woken<F: Future>(what: &str, task: &tokio_test::task::Spawn<F>) {
    let start = Instant::now();
    while !task.is_woken() {
        assert!(start.elapsed() < HANG_LIMIT, "not woken: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reader_that_waits_through_an_outage_gets_the_answer_to_the_writers_request() {
    for round in 0..20 {
        let mut server = Server::start().await;
        let (conn, peer) = server.pair().await;
        let (mut read, mut write) = conn.into_split();
        let (report, reported) = oneshot::channel();
        let reader = tokio::spawn(async move {
            let error = read.read(&mut [0; 4]).await;
            assert!(matches!(error, Ok(0) | Err(_)));
            report.send(()).unwrap();
            // Waits while the server is down.
            let mut answer = [0; 4];
            read.read_exact(&mut answer).await.unwrap();
            (answer, Instant::now())
        });
        server.stop();
        if round % 2 == 0 {
            reset(peer);
        } else {
            drop(peer);
        }
        in_time("the reader reports the break", reported).await.unwrap();
        // The writer starts only now. Its first poll must not take the reader's wake-up.
        let writer = tokio::spawn(async move {
            while write.write_all(b"ping").await.is_err() {}
            write
        });
        tokio::task::yield_now().await;
        server.restart().await;
        let mut peer = server.accept().await;
        let mut buf = [0; 4];
        in_time("the request", peer.read_exact(&mut buf)).await.unwrap();
        let answered = Instant::now();
        peer.write_all(b"pong").await.unwrap();
        let (answer, woken) = in_time("the reader", reader).await.unwrap();
        assert_eq!(&answer, b"pong");
        let delay = woken.saturating_duration_since(answered);
        assert!(delay < Duration::from_secs(2) * SLOWNESS, "the reader woke {delay:?} after its answer");
        in_time("the writer", writer).await.unwrap();
    }
}

#[tokio::test]
#[cfg_attr(windows, ignore = "Windows takes a write whole, however long it is")]
async fn waiting_reader_and_writer_are_woken_by_the_break_and_by_the_next_link() {
    let mut server = Server::start().await;
    let (conn, peer) = server.pair().await;
    let (mut read, mut write) = conn.into_split();
    let big = vec![0; 64 << 20];
    let (mut buf, mut buf2) = ([0; 4], [0; 4]);
    let mut reading = tokio_test::task::spawn(read.read(&mut buf));
    let mut writing = tokio_test::task::spawn(write.write_all(&big));
    assert!(reading.poll().is_pending());
    assert!(writing.poll().is_pending());
    server.stop();
    reset(peer);
    wait_until_woken("reader by the break", &reading).await;
    wait_until_woken("writer by the break", &writing).await;
    assert!(matches!(reading.poll(), std::task::Poll::Ready(Err(_))));
    assert!(matches!(writing.poll(), std::task::Poll::Ready(Err(_))));
    drop((reading, writing));

    // During the outage, both wait.
    let mut reading = tokio_test::task::spawn(read.read(&mut buf2));
    let mut writing = tokio_test::task::spawn(write.write_all(b"ping"));
    assert!(reading.poll().is_pending());
    assert!(writing.poll().is_pending());
    server.restart().await;
    let _peer = server.accept().await;
    wait_until_woken("reader by the link", &reading).await;
    wait_until_woken("writer by the link", &writing).await;
    in_time("write", writing).await.unwrap();
}

#[tokio::test]
async fn break_on_purpose_wakes_a_waiting_read() {
    let server = Server::start().await;
    let (conn, _peer) = server.pair().await;
    let (mut read, write) = conn.into_split();
    let mut buf = [0; 4];
    let mut reading = tokio_test::task::spawn(read.read(&mut buf));
    assert!(reading.poll().is_pending());
    write.break_link(1);
    wait_until_woken("reader", &reading).await;
    assert!(in_time("read", reading).await.is_err());
}

#[tokio::test]
async fn cancelled_operation_does_not_take_the_wake_up_of_the_other_half() {
    let mut server = Server::start().await;
    let (conn, peer) = server.pair().await;
    let (mut read, mut write) = conn.into_split();
    server.stop();
    drop(peer);
    assert_eq!(in_time("read", read.read(&mut [0; 4])).await.unwrap(), 0);
    let mut buf = [0; 4];
    let mut reading = tokio_test::task::spawn(read.read(&mut buf));
    assert!(reading.poll().is_pending(), "a read during the outage waits");
    // The writer polls last, and is dropped.
    assert!(write.write(b"x").await.is_err(), "the write half has not reported the break");
    let mut writing = tokio_test::task::spawn(write.write(b"x"));
    assert!(writing.poll().is_pending(), "a write during the outage waits");
    drop(writing);
    server.restart().await;
    let mut peer = server.accept().await;
    peer.write_all(b"data").await.unwrap();
    wait_until_woken("reader", &reading).await;
    assert_eq!(in_time("read", reading).await.unwrap(), 4);
}

#[tokio::test]
async fn operation_that_moves_to_another_task_is_woken_there() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    {
        let mut here = tokio_test::task::spawn(conn.read_u8());
        assert!(here.poll().is_pending());
    }
    // Another task polls the same connection, so its waker replaces the first task's.
    let moved = tokio::spawn(async move { conn.read_u8().await });
    tokio::task::yield_now().await;
    peer.write_all(b"A").await.unwrap();
    assert_eq!(in_time("read", moved).await.unwrap().unwrap(), b'A');

    let (mut conn, peer) = server.pair().await;
    {
        let mut here = tokio_test::task::spawn(conn.read_u8());
        assert!(here.poll().is_pending());
    }
    let moved = tokio::spawn(async move { conn.read_u8().await });
    tokio::task::yield_now().await;
    reset(peer);
    assert!(in_time("read", moved).await.unwrap().is_err());
}

#[tokio::test]
async fn every_waiter_for_the_first_link_is_woken() {
    let port = ReservedPort::new();
    let conn = quick(perconn::Conn::builder(port.address)).build().unwrap();
    let connected: Vec<_> = (0..3).map(|_| tokio::spawn(conn.connected())).collect();
    let (mut read, mut write) = conn.into_split();
    let reader = tokio::spawn(async move { read.read_u8().await });
    let writer = tokio::spawn(async move { write.write_all(b"hello").await.map(|()| write) });
    tokio::task::yield_now().await;
    let listener = port.listen();
    let (mut peer, _) = in_time("accept", listener.accept()).await.unwrap();
    peer.write_all(b"A").await.unwrap();
    for task in connected {
        in_time("connected", task).await.unwrap().unwrap();
    }
    let write = in_time("writer", writer).await.unwrap().unwrap();
    assert_eq!(in_time("reader", reader).await.unwrap().unwrap(), b'A');
    drop(write);
}

#[tokio::test]
async fn vectored_write_of_more_parts_than_the_kernel_accepts_continues() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    let parts = vec![std::io::IoSlice::new(b"0123456789"); 2_000];
    for _ in 0..10 {
        let n = in_time("write", conn.write_vectored(&parts)).await.unwrap();
        in_time("peer", peer.read_exact(&mut vec![0; n])).await.unwrap();
    }
}

#[tokio::test]
async fn spurious_polls_change_nothing() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    let mut reading = tokio_test::task::spawn(conn.read_u8());
    for _ in 0..1_000 {
        assert!(reading.poll().is_pending());
    }
    peer.write_all(b"A").await.unwrap();
    wait_until_woken("reader", &reading).await;
    assert_eq!(in_time("read", reading).await.unwrap(), b'A');
    assert_eq!(conn.generation(), 1);
    reset(peer);
    let _peer = server.accept().await;
    wait_for_generation(&conn, 2).await;
}
