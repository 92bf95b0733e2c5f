//! Where a `Conn` does not do what a `TcpStream` does. Each test shows both; `docs/tcp_stream.md` says why.

use std::io::ErrorKind;

use perconn::{Conn, Error, WhenDown, dial_fn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::side::{bare_pair, turns};
use crate::support::{Server, break_noticed, generation_up, inside, reset, soon};

/// A bare stream and a connection, each with its peer.
pub async fn both(server: &Server) -> ((TcpStream, TcpStream), (Conn, TcpStream)) {
    (bare_pair(server).await, server.pair().await)
}

#[tokio::test]
async fn end_of_the_stream_is_told_once_and_then_comes_the_next_link() {
    let server = Server::start().await;
    let ((mut bare, bare_peer), (mut conn, peer)) = both(&server).await;
    let mut buf = [0; 4];
    drop(bare_peer);
    for _ in 0..3 {
        assert_eq!(soon("read", bare.read(&mut buf)).await.unwrap(), 0);
    }
    drop(peer);
    assert_eq!(soon("read", conn.read(&mut buf)).await.unwrap(), 0);
    let mut peer = server.accept().await;
    peer.write_all(b"next").await.unwrap();
    assert_eq!(soon("read", conn.read(&mut buf)).await.unwrap(), 4);
    assert_eq!((&buf, conn.generation()), (b"next", 2));
}

#[tokio::test]
async fn after_a_reset_was_told_the_next_operation_works() {
    let server = Server::start().await;
    let ((mut bare, bare_peer), (mut conn, peer)) = both(&server).await;
    reset(bare_peer);
    reset(peer);
    assert_eq!(soon("write", bare.write(b"x")).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(soon("write", conn.write(b"x")).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    for _ in 0..3 {
        assert_eq!(soon("write", bare.write(b"x")).await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!(soon("read", bare.read(&mut [0; 4])).await.unwrap(), 0);
    }
    let mut peer = server.accept().await;
    soon("write", conn.write_all(b"heard")).await.unwrap();
    soon("peer", peer.read_exact(&mut [0; 5])).await.unwrap();
}

/// The kernel gives its error out once; a `Conn` gives it to each half.
#[tokio::test]
async fn reset_is_told_to_each_half_with_its_kind() {
    let server = Server::start().await;
    let ((bare, bare_peer), (conn, peer)) = both(&server).await;
    let ((mut bare_read, mut bare_write), (mut read, mut write)) = (bare.into_split(), conn.into_split());
    reset(bare_peer);
    reset(peer);
    assert_eq!(soon("write", bare_write.write(b"x")).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(soon("read", bare_read.read(&mut [0; 4])).await.unwrap(), 0);
    assert_eq!(soon("write", write.write(b"x")).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(soon("read", read.read(&mut [0; 4])).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let _next = server.accept().await;
    // The other way round.
    let ((bare, bare_peer), (conn, peer)) = both(&server).await;
    let ((mut bare_read, mut bare_write), (mut read, mut write)) = (bare.into_split(), conn.into_split());
    reset(bare_peer);
    reset(peer);
    assert_eq!(soon("read", bare_read.read(&mut [0; 4])).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(soon("write", bare_write.write(b"x")).await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(soon("read", read.read(&mut [0; 4])).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(soon("write", write.write(b"x")).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn operation_waits_while_there_is_no_link_unless_it_shall_fail() {
    let mut server = Server::start().await;
    let (mut bare, bare_peer) = bare_pair(&server).await;
    let (conn, peer) = tokio::join!(server.client().when_down(WhenDown::Fail).connect(), server.accept());
    let (mut failing, failing_peer) = (conn.unwrap(), peer);
    let (mut conn, peer) = server.pair().await;
    server.stop();
    for peer in [bare_peer, failing_peer, peer] {
        reset(peer);
    }
    assert!(soon("write", bare.write(b"x")).await.is_err());
    assert!(soon("write", bare.write(b"x")).await.is_err());
    assert!(soon("write", failing.write(b"x")).await.is_err());
    let error = soon("write", failing.write(b"x")).await.unwrap_err();
    assert!(matches!(inside(&error), Error::Down { .. }));
    assert!(soon("write", conn.write(b"x")).await.is_err());
    let mut waiting = tokio_test::task::spawn(conn.write(b"x"));
    assert!(waiting.poll().is_pending());
    drop(failing);
    server.restart().await;
    let _peer = server.accept().await;
    assert_eq!(soon("write", waiting).await.unwrap(), 1);
}

#[tokio::test]
async fn read_into_an_empty_buffer_is_ready_at_once() {
    let server = Server::start().await;
    let ((mut bare, _bare_peer), (mut conn, _peer)) = both(&server).await;
    // The system call says "would block" for an empty buffer, too.
    assert!(tokio_test::task::spawn(bare.read(&mut [])).poll().is_pending());
    assert_eq!(soon("read", conn.read(&mut [])).await.unwrap(), 0);
}

#[tokio::test]
async fn whole_that_is_told_by_a_write_has_lost_what_was_unread() {
    let server = Server::start().await;
    let ((mut bare, mut bare_peer), (mut conn, mut peer)) = both(&server).await;
    let (halves, mut halves_peer) = server.pair().await;
    let (mut read, mut write) = halves.into_split();
    for peer in [&mut bare_peer, &mut peer, &mut halves_peer] {
        peer.write_all(b"bye").await.unwrap();
        peer.shutdown().await.unwrap();
    }
    break_noticed(&conn).await;
    turns(20).await;
    soon("write", bare.write_all(b"x")).await.unwrap();
    assert_eq!(soon("read", bare.read(&mut [0; 4])).await.unwrap(), 3);
    assert!(soon("write", conn.write_all(b"x")).await.is_err());
    let mut next = server.accept().await;
    let mut other_next = server.accept().await;
    next.write_all(b"A").await.unwrap();
    other_next.write_all(b"A").await.unwrap();
    assert_eq!(soon("read", conn.read(&mut [0; 4])).await.unwrap(), 1);
    // The halves are told each by itself, the reading one after the last byte.
    assert!(soon("write", write.write_all(b"x")).await.is_err());
    assert_eq!(soon("read", read.read(&mut [0; 4])).await.unwrap(), 3);
    assert_eq!(soon("read", read.read(&mut [0; 4])).await.unwrap(), 0);
    assert_eq!(soon("read", read.read(&mut [0; 4])).await.unwrap(), 1);
}

#[tokio::test]
async fn number_of_the_error_is_in_its_source() {
    use std::error::Error as _;
    let server = Server::start().await;
    let ((mut bare, bare_peer), (mut conn, peer)) = both(&server).await;
    reset(bare_peer);
    reset(peer);
    let bare = soon("read", bare.read(&mut [0; 4])).await.unwrap_err();
    let error = soon("read", conn.read(&mut [0; 4])).await.unwrap_err();
    assert_eq!((error.kind(), error.raw_os_error()), (bare.kind(), None));
    let source = inside(&error).source().unwrap().downcast_ref::<std::io::Error>().unwrap();
    assert!(bare.raw_os_error().is_some());
    assert_eq!(source.raw_os_error(), bare.raw_os_error());
}

#[tokio::test(start_paused = true)]
async fn connect_takes_twenty_seconds_at_most() {
    let start = tokio::time::Instant::now();
    let never = dial_fn(std::future::pending::<std::io::Result<TcpStream>>);
    let error = Conn::builder("nowhere").dialer(never).connect().await.unwrap_err();
    assert_eq!((error.kind(), start.elapsed().as_secs()), (ErrorKind::TimedOut, 20));
}

#[tokio::test]
async fn port_zero_is_a_bad_address_before_anything_is_dialed() {
    let (bare, conn) = tokio::join!(TcpStream::connect("127.0.0.1:0"), Conn::connect("127.0.0.1:0"));
    assert_ne!(bare.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(conn.unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// A tunnel that goes on after one side has ended runs on into the next link.
#[tokio::test]
async fn tunnel_over_a_conn_is_not_told_to_anybody() {
    let server = Server::start().await;
    let ((mut bare, mut bare_peer), (mut conn, mut peer)) = both(&server).await;
    let (mut bare_inner, mut bare_outer) = tokio::io::duplex(64);
    let (mut inner, mut outer) = tokio::io::duplex(64);
    bare_peer.shutdown().await.unwrap();
    peer.shutdown().await.unwrap();
    let through_bare = async {
        let (copied, ()) = tokio::join!(tokio::io::copy_bidirectional(&mut bare_outer, &mut bare), async {
            assert_eq!(bare_inner.read(&mut [0; 4]).await.unwrap(), 0);
            bare_inner.write_all(b"late").await.unwrap();
            bare_inner.shutdown().await.unwrap();
            let mut text = String::new();
            bare_peer.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "late");
        });
        assert_eq!(copied.unwrap(), (4, 0));
    };
    soon("the tunnel", through_bare).await;
    let through_conn = async {
        let (copied, ()) = tokio::join!(tokio::io::copy_bidirectional(&mut outer, &mut conn), async {
            assert_eq!(inner.read(&mut [0; 4]).await.unwrap(), 0);
            // The end that the copying was told of was the first link's; this goes to the second.
            let mut next = server.accept().await;
            inner.write_all(b"late").await.unwrap();
            inner.shutdown().await.unwrap();
            let mut text = String::new();
            next.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "late");
        });
        assert_eq!(copied.unwrap(), (4, 0));
    };
    soon("the tunnel", through_conn).await;
    generation_up(&conn, 2).await;
}
