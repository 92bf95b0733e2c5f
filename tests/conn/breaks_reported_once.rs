//! Promise 1: each handle reports each break exactly once, before it touches the next link.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::support::{
    Server, in_time, perconn_error, quick, reported_generation, reset, wait_for_break, wait_for_disconnect,
    wait_for_generation,
};
use perconn::{Conn, Error, Op, dial_fn};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// One exchange in each direction.
async fn exchange(conn: &mut Conn, peer: &mut tokio::net::TcpStream) {
    let mut buf = [0; 4];
    in_time("write", conn.write_all(b"ping")).await.unwrap();
    in_time("peer read", peer.read_exact(&mut buf)).await.unwrap();
    assert_eq!(&buf, b"ping");
    in_time("peer write", peer.write_all(b"pong")).await.unwrap();
    in_time("read", conn.read_exact(&mut buf)).await.unwrap();
    assert_eq!(&buf, b"pong");
}

#[tokio::test]
async fn whole_connection_reports_a_reset_once_by_a_read() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    for generation in 1..=5 {
        exchange(&mut conn, &mut peer).await;
        reset(peer);
        let error = in_time("read", conn.read(&mut [0; 8])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(
            matches!(perconn_error(&error), Error::IoError { op: Op::Read, generation: g, .. } if *g == generation)
        );
        peer = server.accept().await;
    }
    exchange(&mut conn, &mut peer).await;
    assert_eq!(conn.generation(), 6);
}

#[tokio::test]
async fn whole_connection_reports_a_close_once_by_an_empty_read() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    for _ in 1..=5 {
        exchange(&mut conn, &mut peer).await;
        drop(peer);
        assert_eq!(in_time("read", conn.read(&mut [0; 8])).await.unwrap(), 0);
        peer = server.accept().await;
    }
    exchange(&mut conn, &mut peer).await;
}

#[tokio::test]
async fn whole_connection_reports_a_break_once_by_a_write() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    for generation in 1..=5 {
        exchange(&mut conn, &mut peer).await;
        if generation % 2 == 0 {
            reset(peer);
        } else {
            drop(peer);
        }
        wait_for_break(&conn).await;
        let error = in_time("write", conn.write_all(b"lost?")).await.unwrap_err();
        assert!(
            matches!(perconn_error(&error), Error::IoError { op: Op::Write, generation: g, .. } if *g == generation)
        );
        peer = server.accept().await;
    }
    exchange(&mut conn, &mut peer).await;
}

#[tokio::test]
async fn each_half_reports_each_break_once() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let (mut read, mut write) = conn.into_split();
    let mut buf = [0; 4];
    for generation in 1..=5 {
        in_time("write", write.write_all(b"ping")).await.unwrap();
        in_time("peer read", peer.read_exact(&mut buf)).await.unwrap();
        in_time("peer write", peer.write_all(b"pong")).await.unwrap();
        in_time("read", read.read_exact(&mut buf)).await.unwrap();
        reset(peer);
        // One half first, then the other.
        if generation % 2 == 0 {
            assert_eq!(reported_generation(&in_time("read", read.read(&mut buf)).await.unwrap_err()), generation);
            peer = server.accept().await;
            assert_eq!(reported_generation(&in_time("write", write.write_all(b"x")).await.unwrap_err()), generation);
        } else {
            wait_for_disconnect(read.watch_status()).await;
            assert_eq!(reported_generation(&in_time("write", write.write_all(b"x")).await.unwrap_err()), generation);
            peer = server.accept().await;
            assert_eq!(reported_generation(&in_time("read", read.read(&mut buf)).await.unwrap_err()), generation);
        }
    }
}

#[tokio::test]
async fn idle_handle_reports_each_break_that_it_missed() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    for generation in 2..=4 {
        reset(peer);
        peer = server.accept().await;
        wait_for_generation(&conn, generation).await;
    }
    for generation in 1..=3 {
        let error = in_time("write", conn.write_all(b"x")).await.unwrap_err();
        assert_eq!(reported_generation(&error), generation);
    }
    exchange(&mut conn, &mut peer).await;
}

#[tokio::test]
async fn handle_that_missed_many_breaks_reports_the_last_sixteen() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    for generation in 2..=41 {
        reset(peer);
        peer = server.accept().await;
        wait_for_generation(&conn, generation).await;
    }
    let mut reported = Vec::new();
    while let Err(error) = in_time("write", conn.write_all(b"ping")).await {
        reported.push(reported_generation(&error));
    }
    assert_eq!(reported, (25..=40).collect::<Vec<_>>());
    let mut buf = [0; 8];
    assert_eq!(in_time("peer read", peer.read(&mut buf)).await.unwrap(), 4);
}

#[tokio::test]
async fn waiting_read_reports_the_break_after_a_write_reported_it() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let (mut read, mut write) = tokio::io::split(conn);
    let mut buf = [0; 4];
    let mut waiting = tokio_test::task::spawn(read.read_exact(&mut buf));
    assert!(waiting.poll().is_pending());
    peer.write_all(b"ab").await.unwrap();
    while !waiting.is_woken() {
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(waiting.poll().is_pending(), "the read got all of its bytes");
    reset(peer);
    let error = loop {
        match in_time("write", write.write_all(b"x")).await {
            Ok(()) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(error) => break error,
        }
    };
    assert_eq!(reported_generation(&error), 1);
    // The next link is up and has bytes. The read that began on the first link must not get them.
    let mut peer = server.accept().await;
    peer.write_all(b"cdef").await.unwrap();
    in_time("write", write.write_all(b"hello")).await.unwrap();
    let error = in_time("the waiting read", waiting).await.unwrap_err();
    assert_eq!(reported_generation(&error), 1);
    in_time("read", read.read_exact(&mut buf)).await.unwrap();
    assert_eq!(&buf, b"cdef");
}

#[tokio::test]
async fn read_that_waited_and_got_the_last_bytes_reports_no_second_break() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    let mut buf = [0; 4];
    {
        let mut waiting = tokio_test::task::spawn(conn.read(&mut buf));
        assert!(waiting.poll().is_pending());
        peer.write_all(b"last").await.unwrap();
        drop(peer);
        // The next link is up, so the connection knows of the break when the read is polled again.
        peer = server.accept().await;
        assert_eq!(in_time("read", waiting).await.unwrap(), 4);
    }
    assert!(in_time("write", conn.write(b"x")).await.is_err(), "the write did not report the break");
    peer.write_all(b"next").await.unwrap();
    assert_eq!(in_time("read", conn.read(&mut buf)).await.unwrap(), 4);
    assert_eq!(&buf, b"next");
}

#[tokio::test]
async fn each_half_reports_a_break_on_purpose_as_an_aborted_connection() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    conn.break_link(1);
    let (mut read, mut write) = conn.into_split();
    for half in [read.read(&mut [0; 4]).await.unwrap_err(), write.write(b"x").await.unwrap_err()] {
        assert_eq!((half.kind(), reported_generation(&half)), (ErrorKind::ConnectionAborted, 1));
    }
    assert_eq!(in_time("peer", peer.read(&mut [0; 4])).await.unwrap(), 0, "the peer did not see the end of the stream");
    let mut peer = server.accept().await;
    in_time("write", write.write_all(b"new")).await.unwrap();
    let mut buf = [0; 3];
    in_time("peer", peer.read_exact(&mut buf)).await.unwrap();
}

/// The break is this side's own, whatever the peer does afterwards.
#[tokio::test]
async fn break_on_purpose_is_reported_as_aborted_though_the_peer_resets_afterwards() {
    let server = Server::start().await;
    for in_halves in [false, true] {
        let (mut conn, peer) = server.pair().await;
        in_time("write", conn.write_all(b"unread")).await.unwrap();
        conn.break_link(1);
        reset(peer);
        // The reset has arrived before the connection reports anything.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut kinds = Vec::new();
        if in_halves {
            let (mut read, mut write) = conn.into_split();
            kinds.push(in_time("write", write.write_all(b"x")).await.unwrap_err().kind());
            kinds.push(in_time("read", read.read_u8()).await.unwrap_err().kind());
        } else {
            kinds.push(in_time("read", conn.read_u8()).await.unwrap_err().kind());
        }
        assert!(kinds.iter().all(|kind| *kind == ErrorKind::ConnectionAborted), "{kinds:?}");
    }
}

#[tokio::test]
async fn read_into_an_empty_buffer_is_not_an_end_of_file() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    for _ in 0..100 {
        assert_eq!(in_time("empty read", conn.read(&mut [])).await.unwrap(), 0);
    }
    exchange(&mut conn, &mut peer).await;
    assert_eq!(conn.generation(), 1);
}

#[tokio::test]
async fn every_error_except_would_block_and_interrupted_is_a_break() {
    use ErrorKind::*;
    for kind in [ConnectionReset, TimedOut, UnexpectedEof, InvalidData, PermissionDenied, OutOfMemory, Other] {
        let mut dials = 0;
        let dialer = dial_fn(move || {
            dials += 1;
            let mut script = tokio_test::io::Builder::new();
            if dials == 1 {
                script.read_error(kind.into());
            } else {
                script.read(b"fine");
            }
            std::future::ready(Ok(script.build()))
        });
        let mut conn = in_time("connect", quick(Conn::builder("script").dialer(dialer)).connect()).await.unwrap();
        let error = in_time("read", conn.read(&mut [0; 4])).await.unwrap_err();
        assert_eq!((error.kind(), reported_generation(&error)), (kind, 1));
        assert_eq!(in_time("read", conn.read(&mut [0; 4])).await.unwrap(), 4, "after {kind:?}");
        assert_eq!(conn.generation(), 2);
    }
    for kind in [WouldBlock, Interrupted] {
        let dialer = move || std::future::ready(Ok(TryAgainOnce(Some(kind))));
        let mut conn =
            in_time("connect", quick(Conn::builder("try again once").dialer(dialer)).connect()).await.unwrap();
        assert_eq!(in_time("read", conn.read(&mut [0; 4])).await.unwrap_err().kind(), kind);
        assert_eq!(in_time("read", conn.read(&mut [0; 4])).await.unwrap(), 4);
        assert_eq!(conn.generation(), 1);
    }
}

/// A stream whose first read fails with a "try again" error.
struct TryAgainOnce(Option<ErrorKind>);

impl AsyncRead for TryAgainOnce {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(kind) = self.0.take() {
            return Poll::Ready(Err(kind.into()));
        }
        buf.put_slice(b"fine");
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TryAgainOnce {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn error_keeps_the_kernels_kind_and_number() {
    use std::error::Error as _;
    let server = Server::start().await;
    let (mut conn, peer) = server.pair().await;
    reset(peer);
    let error = in_time("read", conn.read(&mut [0; 4])).await.unwrap_err();
    let source = perconn_error(&error).source().unwrap().downcast_ref::<io::Error>().unwrap();
    assert_eq!(source.kind(), error.kind());
    #[cfg(target_os = "linux")]
    assert_eq!(source.raw_os_error(), Some(104));
}
