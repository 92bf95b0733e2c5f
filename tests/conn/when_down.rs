//! Operations during an outage; and promise 7, bounded: the queue of the actor has a limit.

use std::io::ErrorKind;
use std::time::Duration;

use crate::support::{Server, in_time, perconn_error, quick, refused_address, reset};
use perconn::{Conn, Error, WhenDown};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

#[tokio::test]
async fn fail_returns_at_once() {
    let mut conn = quick(Conn::builder(refused_address().await)).when_down(WhenDown::Fail).build().unwrap();
    for _ in 0..3 {
        let mut read = tokio_test::task::spawn(conn.read_u8());
        assert!(read.poll().is_ready());
        drop(read);
        let error = conn.write(b"x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConnected);
        assert!(matches!(perconn_error(&error), Error::Down { .. }));
    }
}

#[tokio::test]
async fn fail_reports_the_break_first_and_works_again_on_the_next_link() {
    let mut server = Server::start().await;
    let builder = server.client().when_down(WhenDown::Fail);
    let (conn, peer) = tokio::join!(builder.connect(), server.accept());
    let mut conn = conn.unwrap();
    server.stop();
    reset(peer);
    assert!(matches!(perconn_error(&in_time("read", conn.read_u8()).await.unwrap_err()), Error::IoError { .. }));
    assert!(matches!(perconn_error(&in_time("read", conn.read_u8()).await.unwrap_err()), Error::Down { .. }));
    server.restart().await;
    let mut peer = server.accept().await;
    in_time("connected", conn.connected()).await.unwrap();
    in_time("write", conn.write_all(b"A")).await.unwrap();
    assert_eq!(in_time("peer", peer.read_u8()).await.unwrap(), b'A');
}

#[tokio::test(start_paused = true)]
async fn wait_for_ends_at_its_limit_each_time() {
    let limit = Duration::from_secs(3);
    let dialer = || std::future::pending::<std::io::Result<tokio::io::DuplexStream>>();
    let builder = Conn::builder("black hole").dialer(dialer).dial_timeout(None);
    let mut conn = builder.when_down(WhenDown::WaitFor(limit)).build().unwrap();
    for _ in 0..3 {
        let start = Instant::now();
        let error = conn.write(b"x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(matches!(perconn_error(&error), Error::WaitTimeout { limit: l, .. } if *l == limit));
        assert!(start.elapsed() >= limit && start.elapsed() < limit + Duration::from_millis(10));
    }
    // Each direction has its own limit, and a cancelled wait counts.
    let start = Instant::now();
    assert!(tokio::time::timeout(Duration::from_secs(2), conn.read_u8()).await.is_err());
    assert_eq!(conn.read_u8().await.unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(start.elapsed() >= limit && start.elapsed() < limit + Duration::from_millis(10));
}

#[tokio::test]
async fn wait_for_ends_when_the_link_is_up_and_starts_over_in_the_next_outage() {
    let mut server = Server::start().await;
    let builder = server.client().when_down(WhenDown::WaitFor(Duration::from_secs(600)));
    let (conn, peer) = tokio::join!(builder.connect(), server.accept());
    let mut conn = conn.unwrap();
    let mut peer = peer;
    for _ in 0..3 {
        server.stop();
        reset(peer);
        assert!(in_time("the break", conn.read_u8()).await.is_err());
        {
            let mut waiting = tokio_test::task::spawn(conn.read_u8());
            assert!(waiting.poll().is_pending());
        }
        server.restart().await;
        peer = server.accept().await;
        peer.write_all(b"A").await.unwrap();
        assert_eq!(in_time("read", conn.read_u8()).await.unwrap(), b'A');
    }
}

#[tokio::test]
async fn smallest_queue_takes_every_request() {
    let server = Server::start().await;
    let builder = server.client().job_queue_size(1);
    let (conn, mut peer) = tokio::join!(builder.connect(), server.accept());
    let (mut read, mut write) = conn.unwrap().into_split();
    for round in 0..30 {
        // More requests than the queue has slots, before the actor runs.
        for _ in 0..100 {
            read.break_link(read.generation());
            read.dial_now();
        }
        if round % 2 == 0 {
            reset(peer);
        }
        assert!(in_time("read", read.read_u8()).await.is_err());
        while in_time("write", write.write(b"x")).await.is_err() {}
        peer = server.accept().await;
    }
    for _ in 0..100 {
        read.break_link(read.generation());
        read.dial_now();
        in_time("close", read.close()).await;
    }
}
