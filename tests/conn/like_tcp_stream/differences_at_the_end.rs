//! Where a `Conn` differs from a `TcpStream` at the end: shutdown, half-close, drop.

use std::io::ErrorKind;
use std::time::Duration;

use perconn::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::comparison::yield_times;
use super::differences::both;
use crate::support::{Server, in_time, perconn_error, reported_generation, reset, wait_for_break};

#[tokio::test]
async fn after_a_local_shutdown_end_of_stream_is_read_once_and_then_an_error() {
    let server = Server::start().await;
    let ((mut bare, bare_peer), (mut conn, peer)) = both(&server).await;
    drop((bare_peer, peer));
    bare.shutdown().await.unwrap();
    in_time("shutdown", conn.shutdown()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(in_time("read", bare.read(&mut [0; 4])).await.unwrap(), 0);
    }
    assert_eq!(in_time("read", conn.read(&mut [0; 4])).await.unwrap(), 0);
    for _ in 0..3 {
        let error = in_time("read", conn.read(&mut [0; 4])).await.unwrap_err();
        assert!(matches!(perconn_error(&error), Error::ClosedConnection));
        assert_eq!(error.kind(), ErrorKind::NotConnected);
    }
}

#[tokio::test]
async fn first_write_after_the_peers_close_fails_and_not_the_second() {
    let server = Server::start().await;
    let ((mut bare, bare_peer), (mut conn, peer)) = both(&server).await;
    drop((bare_peer, peer));
    yield_times(20).await;
    // The first write is lost, and the peer answers with a reset.
    in_time("write", bare.write_all(b"lost")).await.unwrap();
    in_time("the reset", first_error_of_writes(&mut bare)).await;
    let error = in_time("write", conn.write_all(b"kept")).await.unwrap_err();
    assert_eq!(reported_generation(&error), 1);
    let mut peer = server.accept().await;
    in_time("write", conn.write_all(b"kept")).await.unwrap();
    in_time("peer", peer.read_exact(&mut [0; 4])).await.unwrap();
}

#[tokio::test]
async fn write_to_a_half_closed_peer_fails_though_it_reads() {
    let server = Server::start().await;
    let ((mut bare, mut bare_peer), (mut conn, mut peer)) = both(&server).await;
    bare_peer.shutdown().await.unwrap();
    peer.shutdown().await.unwrap();
    assert_eq!(in_time("read", bare.read(&mut [0; 4])).await.unwrap(), 0);
    in_time("write", bare.write_all(b"heard")).await.unwrap();
    in_time("peer", bare_peer.read_exact(&mut [0; 5])).await.unwrap();
    wait_for_break(&conn).await;
    let error = in_time("write", conn.write_all(b"heard")).await.unwrap_err();
    assert_eq!((error.kind(), reported_generation(&error)), (ErrorKind::BrokenPipe, 1));
    // The peer sees the end of the stream on this link. Further writes go to the next one.
    assert_eq!(in_time("peer", peer.read(&mut [0; 5])).await.unwrap(), 0);
    let mut peer = server.accept().await;
    in_time("write", conn.write_all(b"heard")).await.unwrap();
    in_time("peer", peer.read_exact(&mut [0; 5])).await.unwrap();
}

#[tokio::test]
async fn shutdown_is_final_and_nothing_dials_again() {
    let server = Server::start().await;
    let (mut conn, peer) = server.pair().await;
    in_time("shutdown", conn.shutdown()).await.unwrap();
    drop(peer);
    assert_eq!(in_time("read", conn.read(&mut [0; 4])).await.unwrap(), 0);
    assert!(matches!(in_time("connected", conn.connected()).await, Err(Error::ClosedConnection)));
    server.expect_no_dial(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn shutdown_after_a_reset_reports_it() {
    let mut server = Server::start().await;
    let ((mut bare, bare_peer), (mut conn, peer)) = both(&server).await;
    // Without a next link, which both ends would close cleanly.
    server.stop();
    reset(bare_peer);
    reset(peer);
    yield_times(20).await;
    in_time("shutdown", bare.shutdown()).await.unwrap();
    assert_eq!(in_time("shutdown", conn.shutdown()).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    // It has ended the connection nevertheless.
    assert!(matches!(in_time("connected", conn.connected()).await, Err(Error::ClosedConnection)));
}

#[tokio::test]
#[cfg_attr(windows, ignore = "the errors of a TcpStream that has ended are others on Windows")]
async fn drop_with_bytes_unread_ends_the_stream_before_it_resets() {
    let server = Server::start().await;
    let ((bare, mut bare_peer), (conn, mut peer)) = both(&server).await;
    for peer in [&mut bare_peer, &mut peer] {
        peer.write_all(b"never read").await.unwrap();
    }
    yield_times(20).await;
    drop((bare, conn));
    let error = in_time("the peer", bare_peer.read(&mut [0; 4])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(in_time("the peer", peer.read(&mut [0; 4])).await.unwrap(), 0);
    let error = in_time("the peer's writes fail", first_error_of_writes(&mut peer)).await;
    assert_eq!(error, ErrorKind::BrokenPipe);
}

async fn first_error_of_writes(stream: &mut TcpStream) -> ErrorKind {
    loop {
        match stream.write(b"x").await {
            Ok(_) => yield_times(1).await,
            Err(error) => return error.kind(),
        }
    }
}
