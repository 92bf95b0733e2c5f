//! Where the end of a conversation differs from a `TcpStream`'s: shutdown, half-close, drop.

use std::io::ErrorKind;
use std::time::Duration;

use perconn::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::differences::both;
use crate::side::turns;
use crate::support::{Server, break_noticed, inside, reset, soon, told_generation};

#[tokio::test]
async fn after_its_own_shutdown_the_end_of_the_stream_is_told_once_and_then_an_error() {
    let server = Server::start().await;
    let ((mut bare, bare_peer), (mut conn, peer)) = both(&server).await;
    drop((bare_peer, peer));
    bare.shutdown().await.unwrap();
    soon("shutdown", conn.shutdown()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(soon("read", bare.read(&mut [0; 4])).await.unwrap(), 0);
    }
    assert_eq!(soon("read", conn.read(&mut [0; 4])).await.unwrap(), 0);
    for _ in 0..3 {
        let error = soon("read", conn.read(&mut [0; 4])).await.unwrap_err();
        assert!(matches!(inside(&error), Error::ClosedConnection));
        assert_eq!(error.kind(), ErrorKind::NotConnected);
    }
}

#[tokio::test]
async fn write_after_the_peers_close_fails_at_the_first_one_and_not_at_the_second() {
    let server = Server::start().await;
    let ((mut bare, bare_peer), (mut conn, peer)) = both(&server).await;
    drop((bare_peer, peer));
    turns(20).await;
    // The first is lost, and its answer is a reset.
    soon("write", bare.write_all(b"lost")).await.unwrap();
    soon("the reset", first_error_of_writes(&mut bare)).await;
    let error = soon("write", conn.write_all(b"kept")).await.unwrap_err();
    assert_eq!(told_generation(&error), 1);
    let mut peer = server.accept().await;
    soon("write", conn.write_all(b"kept")).await.unwrap();
    soon("peer", peer.read_exact(&mut [0; 4])).await.unwrap();
}

#[tokio::test]
async fn write_to_a_peer_that_has_half_closed_fails_though_it_reads() {
    let server = Server::start().await;
    let ((mut bare, mut bare_peer), (mut conn, mut peer)) = both(&server).await;
    bare_peer.shutdown().await.unwrap();
    peer.shutdown().await.unwrap();
    assert_eq!(soon("read", bare.read(&mut [0; 4])).await.unwrap(), 0);
    soon("write", bare.write_all(b"heard")).await.unwrap();
    soon("peer", bare_peer.read_exact(&mut [0; 5])).await.unwrap();
    break_noticed(&conn).await;
    let error = soon("write", conn.write_all(b"heard")).await.unwrap_err();
    assert_eq!((error.kind(), told_generation(&error)), (ErrorKind::BrokenPipe, 1));
    // The peer sees the end of the stream on this link; what comes now is on the next.
    assert_eq!(soon("peer", peer.read(&mut [0; 5])).await.unwrap(), 0);
    let mut peer = server.accept().await;
    soon("write", conn.write_all(b"heard")).await.unwrap();
    soon("peer", peer.read_exact(&mut [0; 5])).await.unwrap();
}

#[tokio::test]
async fn shutdown_is_final_and_dials_no_more() {
    let server = Server::start().await;
    let (mut conn, peer) = server.pair().await;
    soon("shutdown", conn.shutdown()).await.unwrap();
    drop(peer);
    assert_eq!(soon("read", conn.read(&mut [0; 4])).await.unwrap(), 0);
    assert!(matches!(soon("connected", conn.connected()).await, Err(Error::ClosedConnection)));
    server.expect_silence(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn shutdown_after_a_reset_tells_of_it() {
    let mut server = Server::start().await;
    let ((mut bare, bare_peer), (mut conn, peer)) = both(&server).await;
    // No next link, which would be ended in good order by both ends.
    server.stop();
    reset(bare_peer);
    reset(peer);
    turns(20).await;
    soon("shutdown", bare.shutdown()).await.unwrap();
    assert_eq!(soon("shutdown", conn.shutdown()).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    // It has ended the connection all the same.
    assert!(matches!(soon("connected", conn.connected()).await, Err(Error::ClosedConnection)));
}

#[tokio::test]
async fn drop_with_bytes_unread_ends_the_stream_before_it_resets() {
    let server = Server::start().await;
    let ((bare, mut bare_peer), (conn, mut peer)) = both(&server).await;
    for peer in [&mut bare_peer, &mut peer] {
        peer.write_all(b"never read").await.unwrap();
    }
    turns(20).await;
    drop((bare, conn));
    let error = soon("the peer", bare_peer.read(&mut [0; 4])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(soon("the peer", peer.read(&mut [0; 4])).await.unwrap(), 0);
    let error = soon("the peer's writes fail", first_error_of_writes(&mut peer)).await;
    assert_eq!(error, ErrorKind::BrokenPipe);
}

async fn first_error_of_writes(stream: &mut TcpStream) -> ErrorKind {
    loop {
        match stream.write(b"x").await {
            Ok(_) => turns(1).await,
            Err(error) => return error.kind(),
        }
    }
}
