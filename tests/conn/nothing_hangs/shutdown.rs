//! `shutdown`, and the drop of a write half: the connection ends with its link, and nothing dials again.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use perconn::{Conn, Error, Event, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Recorder, Server, in_time, next_event, perconn_error, quick, reset, wait_for_break};

#[tokio::test]
async fn shutdown_ends_the_connection_and_nothing_dials_again() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    in_time("write", conn.write_all(b"the end")).await.unwrap();
    in_time("shutdown", conn.shutdown()).await.unwrap();
    in_time("shutdown again", conn.shutdown()).await.unwrap();
    assert_eq!(in_time("write", conn.write(b"x")).await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    let mut text = String::new();
    in_time("peer", peer.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "the end");
    // The other direction stays open until the peer ends it.
    in_time("peer", peer.write_all(b"response")).await.unwrap();
    let mut response = [0; 8];
    in_time("read", conn.read_exact(&mut response)).await.unwrap();
    drop(peer);
    assert_eq!(in_time("read", conn.read(&mut response)).await.unwrap(), 0);
    for _ in 0..3 {
        let error = in_time("read", conn.read(&mut response)).await.unwrap_err();
        assert!(matches!(perconn_error(&error), Error::ClosedConnection));
    }
    conn.dial_now();
    conn.abandon();
    server.expect_no_dial(Duration::from_millis(100)).await;
    assert!(matches!(conn.connected().await, Err(Error::ClosedConnection)));
}

#[tokio::test]
async fn shutdown_after_the_peers_close_still_reads_what_it_sent() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    peer.write_all(b"response").await.unwrap();
    drop(peer);
    wait_for_break(&conn).await;
    in_time("shutdown", conn.shutdown()).await.unwrap();
    let mut text = String::new();
    in_time("read", conn.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "response");
    server.expect_no_dial(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn shutdown_during_an_outage_ends_the_redial() {
    let mut server = Server::start().await;
    let (mut conn, peer) = server.pair().await;
    server.stop();
    reset(peer);
    assert!(in_time("read", conn.read(&mut [0; 4])).await.is_err());
    in_time("shutdown", conn.shutdown()).await.unwrap();
    server.restart().await;
    let error = in_time("read", conn.read(&mut [0; 4])).await.unwrap_err();
    assert!(matches!(perconn_error(&error), Error::ClosedConnection));
    assert_eq!(in_time("write", conn.write(b"x")).await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    server.expect_no_dial(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn shutdown_that_reports_a_break_ends_the_connection_too() {
    let server = Server::start().await;
    let (mut conn, peer) = server.pair().await;
    reset(peer);
    wait_for_break(&conn).await;
    assert_eq!(in_time("shutdown", conn.shutdown()).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let error = in_time("read", conn.read(&mut [0; 4])).await.unwrap_err();
    assert!(matches!(perconn_error(&error), Error::ClosedConnection));
    // It ends a redial that had begun.
    let mut status = conn.watch_status();
    in_time("final", status.wait_for(Status::is_final)).await.unwrap();
}

/// The server closes when it sees the client's shutdown. In no interleaving of the threads is that a break with a
/// redial.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_beside_the_peers_close_does_not_redial() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&accepted);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            counter.fetch_add(1, Ordering::SeqCst);
            let mut stream = stream.unwrap();
            std::thread::spawn(move || std::io::Read::read(&mut stream, &mut [0]));
        }
    });
    for round in 1..=1_000 {
        let (recorder, mut events) = Recorder::new();
        let mut conn = quick(Conn::builder(address)).on_event(recorder.hook()).connect().await.unwrap();
        conn.shutdown().await.unwrap();
        next_event(&mut events, |event| matches!(event, Event::Closed).then_some(())).await;
        let events = recorder.events();
        assert_eq!(events.len(), 2, "expected Connected and Closed only: {events:?}");
        assert_eq!(accepted.load(Ordering::SeqCst), round);
    }
}

#[tokio::test]
async fn break_after_a_shutdown_is_reported_and_logged() {
    let server = Server::start().await;
    let (recorder, mut events) = Recorder::new();
    let builder = server.client().on_event(recorder.hook());
    let (conn, peer) = tokio::join!(builder.connect(), server.accept());
    let mut conn = conn.unwrap();
    conn.shutdown().await.unwrap();
    reset(peer);
    assert_eq!(in_time("read", conn.read_u8()).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    next_event(&mut events, |event| matches!(event, Event::Disconnected { retry_in: None, .. }).then_some(())).await;
    next_event(&mut events, |event| matches!(event, Event::Closed).then_some(())).await;
    server.expect_no_dial(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn dropped_write_half_shuts_down_and_a_forgotten_one_does_not() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let (mut read, write) = conn.into_split();
    drop(write);
    assert_eq!(in_time("peer", peer.read(&mut [0; 4])).await.unwrap(), 0);
    peer.write_all(b"A").await.unwrap();
    assert_eq!(in_time("read", read.read_u8()).await.unwrap(), b'A');
    drop(peer);
    assert_eq!(in_time("read", read.read(&mut [0; 4])).await.unwrap(), 0);
    assert!(matches!(
        perconn_error(&in_time("read", read.read(&mut [0; 4])).await.unwrap_err()),
        Error::ClosedConnection
    ));
    server.expect_no_dial(Duration::from_millis(100)).await;

    let (conn, peer) = server.pair().await;
    let (mut read, write) = conn.into_split();
    write.forget();
    drop(peer);
    assert_eq!(in_time("read", read.read(&mut [0; 4])).await.unwrap(), 0);
    let mut peer = server.accept().await;
    peer.write_all(b"B").await.unwrap();
    assert_eq!(in_time("read", read.read_u8()).await.unwrap(), b'B');
}
