//! Promise 4: reader and writer may live in different tasks, be cancelled, polled late or moved; when a link comes up
//! or goes down, everyone who waits is woken.
//!
//! No test here puts a timeout around the operation itself: the timeout's own wake-up would poll it and hide the bug.

mod support;

use std::time::{Duration, Instant};

use support::{HANG, Server, free_address, generation_up, quick, reset, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Lets the runtime run until `task` has been woken.
async fn woken<F: Future>(what: &str, task: &tokio_test::task::Spawn<F>) {
    let start = Instant::now();
    while !task.is_woken() {
        assert!(start.elapsed() < HANG, "not woken: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reader_that_waits_through_an_outage_hears_the_answer_to_the_writers_request() {
    for round in 0..20 {
        let mut server = Server::start().await;
        let (conn, peer) = server.pair().await;
        let (mut read, mut write) = conn.into_split();
        let (told, was_told) = oneshot::channel();
        let reader = tokio::spawn(async move {
            let error = read.read(&mut [0; 4]).await;
            assert!(matches!(error, Ok(0) | Err(_)));
            told.send(()).unwrap();
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
        soon("the reader is told", was_told).await.unwrap();
        // Only now does the writer start. Its first poll must not steal the reader's wake-up.
        let writer = tokio::spawn(async move {
            while write.write_all(b"ping").await.is_err() {}
            write
        });
        tokio::task::yield_now().await;
        server.restart().await;
        let mut peer = server.accept().await;
        let mut buf = [0; 4];
        soon("the request", peer.read_exact(&mut buf)).await.unwrap();
        let answered = Instant::now();
        peer.write_all(b"pong").await.unwrap();
        let (answer, woken) = soon("the reader", reader).await.unwrap();
        assert_eq!(&answer, b"pong");
        let delay = woken.saturating_duration_since(answered);
        assert!(delay < Duration::from_secs(2), "the reader woke {delay:?} after its answer");
        soon("the writer", writer).await.unwrap();
    }
}

#[tokio::test]
async fn reader_and_writer_that_wait_are_woken_by_the_break_and_by_the_next_link() {
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
    woken("reader by the break", &reading).await;
    woken("writer by the break", &writing).await;
    assert!(matches!(reading.poll(), std::task::Poll::Ready(Err(_))));
    assert!(matches!(writing.poll(), std::task::Poll::Ready(Err(_))));
    drop((reading, writing));

    // During the outage each waits in a task of its own.
    let mut reading = tokio_test::task::spawn(read.read(&mut buf2));
    let mut writing = tokio_test::task::spawn(write.write_all(b"ping"));
    assert!(reading.poll().is_pending());
    assert!(writing.poll().is_pending());
    server.restart().await;
    let _peer = server.accept().await;
    woken("reader by the link", &reading).await;
    woken("writer by the link", &writing).await;
    soon("write", writing).await.unwrap();
}

#[tokio::test]
async fn forced_reconnect_wakes_who_waits() {
    let server = Server::start().await;
    let (conn, _peer) = server.pair().await;
    let (mut read, write) = conn.into_split();
    let mut buf = [0; 4];
    let mut reading = tokio_test::task::spawn(read.read(&mut buf));
    assert!(reading.poll().is_pending());
    write.reconnect();
    woken("reader", &reading).await;
    assert!(soon("read", reading).await.is_err());
}

#[tokio::test]
async fn cancelled_operation_does_not_take_the_wake_up_of_the_other_half() {
    let mut server = Server::start().await;
    let (conn, peer) = server.pair().await;
    let (mut read, mut write) = conn.into_split();
    server.stop();
    drop(peer);
    assert_eq!(soon("read", read.read(&mut [0; 4])).await.unwrap(), 0);
    let mut buf = [0; 4];
    let mut reading = tokio_test::task::spawn(read.read(&mut buf));
    assert!(reading.poll().is_pending(), "down");
    // The writer looks last, and goes away.
    assert!(write.write(b"x").await.is_err(), "told");
    let mut writing = tokio_test::task::spawn(write.write(b"x"));
    assert!(writing.poll().is_pending(), "down");
    drop(writing);
    server.restart().await;
    let mut peer = server.accept().await;
    peer.write_all(b"news").await.unwrap();
    woken("reader", &reading).await;
    assert_eq!(soon("read", reading).await.unwrap(), 4);
}

#[tokio::test]
async fn operation_that_moves_to_another_task_is_woken_there() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    {
        let mut here = tokio_test::task::spawn(conn.read_u8());
        assert!(here.poll().is_pending());
    }
    // Another task polls the same connection, so the first task's waker must no longer count.
    let moved = tokio::spawn(async move { conn.read_u8().await });
    tokio::task::yield_now().await;
    peer.write_all(b"A").await.unwrap();
    assert_eq!(soon("read", moved).await.unwrap().unwrap(), b'A');

    let (mut conn, peer) = server.pair().await;
    {
        let mut here = tokio_test::task::spawn(conn.read_u8());
        assert!(here.poll().is_pending());
    }
    let moved = tokio::spawn(async move { conn.read_u8().await });
    tokio::task::yield_now().await;
    reset(peer);
    assert!(soon("read", moved).await.unwrap().is_err());
}

#[tokio::test]
async fn everyone_who_waits_for_the_first_link_is_woken() {
    let address = free_address().await;
    let conn = quick(perconn::Conn::builder(address)).build().unwrap();
    let connected: Vec<_> = (0..3).map(|_| tokio::spawn(conn.connected())).collect();
    let (mut read, mut write) = conn.into_split();
    let reader = tokio::spawn(async move { read.read_u8().await });
    let writer = tokio::spawn(async move { write.write_all(b"hello").await.map(|()| write) });
    tokio::task::yield_now().await;
    let listener = TcpListener::bind(address).await.unwrap();
    let (mut peer, _) = soon("accept", listener.accept()).await.unwrap();
    peer.write_all(b"A").await.unwrap();
    for task in connected {
        soon("connected", task).await.unwrap().unwrap();
    }
    let write = soon("writer", writer).await.unwrap().unwrap();
    assert_eq!(soon("reader", reader).await.unwrap().unwrap(), b'A');
    drop(write);
}

#[tokio::test]
async fn vectored_write_of_more_parts_than_the_kernel_takes_at_once_goes_on() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    let parts = vec![std::io::IoSlice::new(b"0123456789"); 2_000];
    for _ in 0..10 {
        let n = soon("write", conn.write_vectored(&parts)).await.unwrap();
        soon("peer", peer.read_exact(&mut vec![0; n])).await.unwrap();
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
    woken("reader", &reading).await;
    assert_eq!(soon("read", reading).await.unwrap(), b'A');
    assert_eq!(conn.generation(), 1);
    reset(peer);
    let _peer = server.accept().await;
    generation_up(&conn, 2).await;
}
