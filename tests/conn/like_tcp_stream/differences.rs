//! Where a `Conn` differs from a `TcpStream`. Each test shows both, and `docs/tcp_stream.md` says why.

use std::io::ErrorKind;

use perconn::{Conn, Error, WhenDown, dial_fn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::comparison::{bare_pair, yield_times};
use crate::support::{Server, in_time, perconn_error, reset, wait_for_break, wait_for_generation};

/// A bare stream and a connection, each with its peer.
pub async fn both(server: &Server) -> ((TcpStream, TcpStream), (Conn, TcpStream)) {
    (bare_pair(server).await, server.pair().await)
}

#[tokio::test]
async fn end_of_stream_is_read_once_and_then_the_next_link() {
    let server = Server::start().await;
    let ((mut bare, bare_peer), (mut conn, peer)) = both(&server).await;
    let mut buf = [0; 4];
    drop(bare_peer);
    for _ in 0..3 {
        assert_eq!(in_time("read", bare.read(&mut buf)).await.unwrap(), 0);
    }
    drop(peer);
    assert_eq!(in_time("read", conn.read(&mut buf)).await.unwrap(), 0);
    let mut peer = server.accept().await;
    peer.write_all(b"next").await.unwrap();
    assert_eq!(in_time("read", conn.read(&mut buf)).await.unwrap(), 4);
    assert_eq!((&buf, conn.generation()), (b"next", 2));
}

#[tokio::test]
#[cfg_attr(windows, ignore = "the errors of a TcpStream that has ended are others on Windows")]
async fn operation_after_a_reported_reset_works() {
    let server = Server::start().await;
    let ((mut bare, bare_peer), (mut conn, peer)) = both(&server).await;
    reset(bare_peer);
    reset(peer);
    assert_eq!(in_time("write", bare.write(b"x")).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(in_time("write", conn.write(b"x")).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    for _ in 0..3 {
        assert_eq!(in_time("write", bare.write(b"x")).await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!(in_time("read", bare.read(&mut [0; 4])).await.unwrap(), 0);
    }
    let mut peer = server.accept().await;
    in_time("write", conn.write_all(b"heard")).await.unwrap();
    in_time("peer", peer.read_exact(&mut [0; 5])).await.unwrap();
}

/// The kernel reports its error once, and a `Conn` reports it to each half.
#[tokio::test]
#[cfg_attr(windows, ignore = "the errors of a TcpStream that has ended are others on Windows")]
async fn each_half_reports_a_reset_by_its_kind() {
    let server = Server::start().await;
    let ((bare, bare_peer), (conn, peer)) = both(&server).await;
    let ((mut bare_read, mut bare_write), (mut read, mut write)) = (bare.into_split(), conn.into_split());
    reset(bare_peer);
    reset(peer);
    assert_eq!(in_time("write", bare_write.write(b"x")).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(in_time("read", bare_read.read(&mut [0; 4])).await.unwrap(), 0);
    assert_eq!(in_time("write", write.write(b"x")).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(in_time("read", read.read(&mut [0; 4])).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let _next = server.accept().await;
    // Now the read half first.
    let ((bare, bare_peer), (conn, peer)) = both(&server).await;
    let ((mut bare_read, mut bare_write), (mut read, mut write)) = (bare.into_split(), conn.into_split());
    reset(bare_peer);
    reset(peer);
    assert_eq!(in_time("read", bare_read.read(&mut [0; 4])).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(in_time("write", bare_write.write(b"x")).await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(in_time("read", read.read(&mut [0; 4])).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(in_time("write", write.write(b"x")).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn operation_waits_for_a_link_unless_the_policy_is_fail() {
    let mut server = Server::start().await;
    let (mut bare, bare_peer) = bare_pair(&server).await;
    let (conn, peer) = tokio::join!(server.client().when_down(WhenDown::Fail).connect(), server.accept());
    let (mut failing, failing_peer) = (conn.unwrap(), peer);
    let (mut conn, peer) = server.pair().await;
    server.stop();
    for peer in [bare_peer, failing_peer, peer] {
        reset(peer);
    }
    assert!(in_time("write", bare.write(b"x")).await.is_err());
    assert!(in_time("write", bare.write(b"x")).await.is_err());
    assert!(in_time("write", failing.write(b"x")).await.is_err());
    let error = in_time("write", failing.write(b"x")).await.unwrap_err();
    assert!(matches!(perconn_error(&error), Error::Down { .. }));
    assert!(in_time("write", conn.write(b"x")).await.is_err());
    let mut waiting = tokio_test::task::spawn(conn.write(b"x"));
    assert!(waiting.poll().is_pending());
    drop(failing);
    server.restart().await;
    let _peer = server.accept().await;
    assert_eq!(in_time("write", waiting).await.unwrap(), 1);
}

#[tokio::test]
async fn read_into_an_empty_buffer_is_ready_at_once() {
    let server = Server::start().await;
    let ((mut bare, _bare_peer), (mut conn, _peer)) = both(&server).await;
    // The system call returns "would block" for an empty buffer too.
    assert!(tokio_test::task::spawn(bare.read(&mut [])).poll().is_pending());
    assert_eq!(in_time("read", conn.read(&mut [])).await.unwrap(), 0);
}

#[tokio::test]
async fn whole_connection_loses_unread_bytes_when_a_write_reports_the_break() {
    let server = Server::start().await;
    let ((mut bare, mut bare_peer), (mut conn, mut peer)) = both(&server).await;
    let (halves, mut halves_peer) = server.pair().await;
    let (mut read, mut write) = halves.into_split();
    for peer in [&mut bare_peer, &mut peer, &mut halves_peer] {
        peer.write_all(b"bye").await.unwrap();
        peer.shutdown().await.unwrap();
    }
    wait_for_break(&conn).await;
    yield_times(20).await;
    in_time("write", bare.write_all(b"x")).await.unwrap();
    assert_eq!(in_time("read", bare.read(&mut [0; 4])).await.unwrap(), 3);
    assert!(in_time("write", conn.write_all(b"x")).await.is_err());
    let mut next = server.accept().await;
    let mut other_next = server.accept().await;
    next.write_all(b"A").await.unwrap();
    other_next.write_all(b"A").await.unwrap();
    assert_eq!(in_time("read", conn.read(&mut [0; 4])).await.unwrap(), 1);
    // Each half reports the break, the read half after the last byte.
    assert!(in_time("write", write.write_all(b"x")).await.is_err());
    assert_eq!(in_time("read", read.read(&mut [0; 4])).await.unwrap(), 3);
    assert_eq!(in_time("read", read.read(&mut [0; 4])).await.unwrap(), 0);
    assert_eq!(in_time("read", read.read(&mut [0; 4])).await.unwrap(), 1);
}

#[tokio::test]
async fn os_error_code_is_in_the_source() {
    use std::error::Error as _;
    let server = Server::start().await;
    let ((mut bare, bare_peer), (mut conn, peer)) = both(&server).await;
    reset(bare_peer);
    reset(peer);
    let bare = in_time("read", bare.read(&mut [0; 4])).await.unwrap_err();
    let error = in_time("read", conn.read(&mut [0; 4])).await.unwrap_err();
    assert_eq!((error.kind(), error.raw_os_error()), (bare.kind(), None));
    let source = perconn_error(&error).source().unwrap().downcast_ref::<std::io::Error>().unwrap();
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
async fn port_zero_is_rejected_before_a_dial() {
    let (bare, conn) = tokio::join!(TcpStream::connect("127.0.0.1:0"), Conn::connect("127.0.0.1:0"));
    assert_ne!(bare.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(conn.unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// A tunnel that continues after one side has ended continues on the next link.
#[tokio::test]
async fn tunnel_continues_on_the_next_link_without_an_error() {
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
    in_time("the tunnel", through_bare).await;
    let through_conn = async {
        let (copied, ()) = tokio::join!(tokio::io::copy_bidirectional(&mut outer, &mut conn), async {
            assert_eq!(inner.read(&mut [0; 4]).await.unwrap(), 0);
            // The copy saw the end of the first link. These bytes go to the second.
            let mut next = server.accept().await;
            inner.write_all(b"late").await.unwrap();
            inner.shutdown().await.unwrap();
            let mut text = String::new();
            next.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "late");
        });
        assert_eq!(copied.unwrap(), (4, 0));
    };
    in_time("the tunnel", through_conn).await;
    wait_for_generation(&conn, 2).await;
}
