//! `close`, which sends what was accepted and ends the whole connection. And `close_as_error`, which frames do not need.

use std::io::ErrorKind;
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use perconn::Error;
use perconn::codec::{Framed, FramedError, FramedRead};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::codec::LinesCodec;

use super::support::{Server, in_time, perconn_error, pipes, reported_generation, reset};
use super::{broken, next, next_break, next_frame};

/// Asserts that the stream yields the end of the connection, and then nothing.
async fn ended<T, F, E>(stream: &mut T)
where
    T: futures_util::Stream<Item = Result<F, FramedError<E>>> + Unpin,
    F: std::fmt::Debug,
    E: std::fmt::Debug,
{
    let error = next(stream).await.unwrap_err();
    assert!(matches!(error, FramedError::End(Error::ClosedConnection)), "{error:?}");
    for _ in 0..3 {
        assert!(in_time("nothing", stream.next()).await.is_none());
    }
}

#[tokio::test]
async fn close_sends_what_was_accepted_and_ends_the_connection() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut framed = Framed::new(conn, LinesCodec::new());
    in_time("feed", framed.feed("one")).await.unwrap();
    in_time("feed", framed.feed("two")).await.unwrap();
    // No type of frames to name, unlike for `SinkExt::close`, which is in scope.
    in_time("close", framed.close()).await.unwrap();
    let mut all = Vec::new();
    in_time("the peer", peer.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"one\ntwo\n");
    // Unlike after `SinkExt::close`, the peer's side is not read any more.
    ended(&mut framed).await;
    assert!(in_time("send", framed.send("late")).await.unwrap_err().is_final());
    let again = in_time("close again", framed.close()).await;
    assert!(matches!(again, Ok(()) | Err(FramedError::End(Error::ClosedConnection))), "{again:?}");
    server.expect_no_dial(Duration::from_millis(100)).await;
}

#[tokio::test]
#[cfg_attr(windows, ignore = "Windows takes a write whole, however long it is")]
async fn close_waits_until_a_slow_peer_has_room_for_the_last_frame() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut framed = Framed::new(conn, LinesCodec::new());
    // More than the socket buffers of both ends take.
    let line = "x".repeat(16 << 20);
    in_time("feed", framed.feed(&line)).await.unwrap();
    assert!(framed.close().now_or_never().is_none(), "closed before the frame was written");
    assert!(framed.get_ref().is_connected(), "a close that was dropped in the flush has closed");
    let reader = tokio::spawn(async move {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).await.map(|_| all)
    });
    in_time("close", framed.close()).await.unwrap();
    let all = in_time("the peer", reader).await.unwrap().unwrap();
    assert!(all.len() == line.len() + 1 && all.ends_with(b"x\n"), "{} bytes arrived", all.len());
}

#[tokio::test]
async fn close_of_the_writing_side_ends_the_reading_side() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let (mut read, mut write) = Framed::new(conn, LinesCodec::new()).into_split();
    let reader = tokio::spawn(async move { ended(&mut read).await });
    in_time("feed", write.feed("last")).await.unwrap();
    in_time("close", write.close()).await.unwrap();
    in_time("the reader", reader).await.unwrap();
    let mut all = Vec::new();
    in_time("the peer", peer.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"last\n");
    server.expect_no_dial(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn close_over_another_stream_sends_what_was_accepted() {
    let (conn, mut peers) = pipes().await;
    let mut peer = peers.recv().await.unwrap();
    let mut framed = Framed::new(conn, LinesCodec::new());
    // The pipe takes 64 bytes.
    let line = "x".repeat(200);
    in_time("feed", framed.feed(&line)).await.unwrap();
    let mut all = vec![0; 201];
    let (outcome, read) = in_time("close", async { tokio::join!(framed.close(), peer.read_exact(&mut all)) }).await;
    outcome.unwrap();
    read.unwrap();
    ended(&mut framed).await;
    drop(framed);
    assert_eq!(in_time("the end", peer.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test]
async fn close_in_an_outage_waits_for_a_link_only_if_frames_were_accepted() {
    for has_frames in [false, true] {
        let mut server = Server::start().await;
        let (conn, peer) = server.pair().await;
        let mut framed = Framed::new(conn, LinesCodec::new());
        server.stop();
        drop(peer);
        assert_eq!(next_break(&mut framed).await.0, 1);
        if has_frames {
            in_time("feed", framed.feed("kept")).await.unwrap();
            assert!(framed.close().now_or_never().is_none(), "closed without a link for the frame");
            server.restart().await;
            let (outcome, mut peer) = in_time("close", async { tokio::join!(framed.close(), server.accept()) }).await;
            outcome.unwrap();
            let mut all = Vec::new();
            in_time("the peer", peer.read_to_end(&mut all)).await.unwrap();
            assert_eq!(all, b"kept\n");
        } else {
            in_time("close", framed.close()).await.unwrap();
        }
        ended(&mut framed).await;
    }
}

#[tokio::test]
async fn close_after_an_abandon_waits_for_nothing() {
    let mut server = Server::start().await;
    let (conn, peer) = server.pair().await;
    let mut framed = Framed::new(conn, LinesCodec::new());
    server.stop();
    drop(peer);
    assert_eq!(next_break(&mut framed).await.0, 1);
    in_time("feed", framed.feed("dropped")).await.unwrap();
    framed.abandon();
    in_time("close", framed.close()).await.unwrap();
    ended(&mut framed).await;
}

#[tokio::test]
async fn close_that_loses_frames_reports_the_break_and_closes() {
    for in_halves in [false, true] {
        let server = Server::start().await;
        let (conn, peer) = server.pair().await;
        let mut framed = Framed::new(conn, LinesCodec::new());
        in_time("feed", framed.feed("lost")).await.unwrap();
        let mut status = framed.get_ref().watch_status();
        reset(peer);
        in_time("the break", status.wait_for(|status| !status.is_connected())).await.unwrap();
        if in_halves {
            let (mut read, mut write) = framed.into_split();
            assert_eq!(broken(in_time("close", write.close()).await.unwrap_err()).0, 1);
            ended(&mut read).await;
        } else {
            assert_eq!(broken(in_time("close", framed.close()).await.unwrap_err()).0, 1);
            ended(&mut framed).await;
        }
        in_time("the end", status.wait_for(|status| status.is_final())).await.unwrap();
    }
}

#[tokio::test]
async fn close_as_error_changes_nothing_for_frames() {
    for close_as_error in [false, true] {
        let server = Server::start().await;
        let (conn, mut peer) = tokio::join!(server.client().close_as_error(close_as_error).connect(), server.accept());
        let mut framed = Framed::new(conn.unwrap(), LinesCodec::new());
        peer.write_all(b"one\nlast").await.unwrap();
        drop(peer);
        assert_eq!(next_frame(&mut framed).await, "one");
        // The codec sees the end of the link.
        assert_eq!(next_frame(&mut framed).await, "last");
        assert_eq!(next_break(&mut framed).await, (1, ErrorKind::UnexpectedEof));
        let mut peer = server.accept().await;
        peer.write_all(b"two\nlast").await.unwrap();
        let (mut read, _write) = framed.into_split();
        assert_eq!(next_frame(&mut read).await, "two");
        drop(peer);
        assert_eq!(next_frame(&mut read).await, "last");
        assert_eq!(next_break(&mut read).await, (2, ErrorKind::UnexpectedEof));
    }
}

#[tokio::test]
async fn into_inner_gives_close_as_error_back() {
    for close_as_error in [false, true] {
        let server = Server::start().await;
        let (conn, mut peer) = tokio::join!(server.client().close_as_error(close_as_error).connect(), server.accept());
        let check = |outcome: std::io::Result<usize>, generation: u64| match outcome {
            Ok(n) => assert!(n == 0 && !close_as_error, "link {generation}: Ok({n})"),
            Err(error) => {
                assert!(close_as_error, "link {generation}: {error}");
                assert_eq!((error.kind(), reported_generation(&error)), (ErrorKind::UnexpectedEof, generation));
            }
        };
        // Through frames of the whole connection.
        let mut framed = Framed::new(conn.unwrap(), LinesCodec::new());
        peer.write_all(b"one\n").await.unwrap();
        assert_eq!(next_frame(&mut framed).await, "one");
        let mut conn = framed.into_inner();
        drop(peer);
        check(in_time("read", conn.read(&mut [0; 8])).await, 1);
        // Through frames of its sides.
        let (read, write) = Framed::new(conn, LinesCodec::new()).into_split();
        let (mut read, write) = (read.into_inner(), write.into_inner());
        drop(server.accept().await);
        check(in_time("read", read.read(&mut [0; 8])).await, 2);
        // Through frames of a half.
        let framed = FramedRead::new(read, LinesCodec::new());
        let mut read = framed.into_inner();
        drop(server.accept().await);
        check(in_time("read", read.read(&mut [0; 8])).await, 3);
        // A half keeps it in the whole.
        let mut conn = read.reunite(write).unwrap();
        drop(server.accept().await);
        check(in_time("read", conn.read(&mut [0; 8])).await, 4);
        // The end that the program has asked for is no error.
        let peer = server.accept().await;
        in_time("link 5", conn.connected()).await.unwrap();
        in_time("shutdown", conn.shutdown()).await.unwrap();
        drop(peer);
        assert_eq!(in_time("read", conn.read(&mut [0; 8])).await.unwrap(), 0);
        let error = in_time("read", conn.read(&mut [0; 8])).await.unwrap_err();
        assert!(matches!(perconn_error(&error), Error::ClosedConnection));
    }
}
