//! The items that a stream yields.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FusedStream;
use perconn::codec::{Framed, FramedError, FramedRead, Terminated};
use perconn::{Conn, Error, WhenDown};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::codec::{LengthDelimitedCodec, LinesCodec, LinesCodecError};

use super::support::{Server, in_time, pipes, reset, wait_for_break, wait_for_generation};
use super::{Numbered, next, next_break, next_frame};

const HELLO: &[u8] = b"\0\0\0\x05hello";
const WORLD: &[u8] = b"\0\0\0\x05world";

#[tokio::test]
async fn half_received_frame_is_dropped_at_a_reset() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut framed = Framed::new(conn, LengthDelimitedCodec::new());
    // The codec has taken the head of the second frame, and remembers it.
    peer.write_all(&[HELLO, &WORLD[..7]].concat()).await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "hello");
    reset(peer);
    assert_eq!(next_break(&mut framed).await, (1, ErrorKind::ConnectionReset));
    let mut peer = server.accept().await;
    peer.write_all(WORLD).await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "world");
}

#[tokio::test]
async fn half_received_line_is_dropped_at_a_reset() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut framed = Framed::new(conn, LinesCodec::new());
    peer.write_all(b"whole\nhalf of ").await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "whole");
    reset(peer);
    assert_eq!(next_break(&mut framed).await.0, 1);
    let mut peer = server.accept().await;
    peer.write_all(b"A\nB\n").await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "A");
    assert_eq!(next_frame(&mut framed).await, "B");
}

#[tokio::test]
async fn codec_may_make_a_last_frame_at_a_clean_close() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut framed = Framed::new(conn, LinesCodec::new());
    peer.write_all(b"one\ntwo\nlast").await.unwrap();
    drop(peer);
    for line in ["one", "two", "last"] {
        assert_eq!(next_frame(&mut framed).await, line);
    }
    assert_eq!(next_break(&mut framed).await, (1, ErrorKind::UnexpectedEof));
    server.accept().await.write_all(b"three\n").await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "three");
    assert_eq!(next_break(&mut framed).await, (2, ErrorKind::UnexpectedEof));
}

#[tokio::test]
async fn codec_may_refuse_what_a_clean_close_left() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut framed = Framed::new(conn, LengthDelimitedCodec::new());
    peer.write_all(&[HELLO, &WORLD[..6]].concat()).await.unwrap();
    drop(peer);
    assert_eq!(next_frame(&mut framed).await, "hello");
    assert!(matches!(next(&mut framed).await, Err(FramedError::Codec(_))));
    assert_eq!(next_break(&mut framed).await, (1, ErrorKind::UnexpectedEof));
    let mut peer = server.accept().await;
    peer.write_all(WORLD).await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "world");
}

#[tokio::test]
async fn terminated_codec_makes_no_frame_of_half_a_line() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut framed = Framed::new(conn, Terminated(LinesCodec::new()));
    peer.write_all(b"whole\nhalf").await.unwrap();
    drop(peer);
    assert_eq!(next_frame(&mut framed).await, "whole");
    let Err(FramedError::Codec(LinesCodecError::Io(error))) = next(&mut framed).await else { panic!("no error") };
    assert_eq!(error.to_string(), "the link ended in the middle of a frame, with 4 bytes left over");
    assert_eq!(next_break(&mut framed).await.0, 1);
    server.accept().await.write_all(b"next\n").await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "next");
    // Nothing is left over, so there is no error.
    assert_eq!(next_break(&mut framed).await.0, 2);
}

#[tokio::test]
async fn every_link_gets_a_fresh_codec() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let (read, _write) = conn.into_split();
    let mut framed = FramedRead::with_factory(read, move || {
        count.fetch_add(1, Ordering::Relaxed);
        Numbered::new()
    });
    for generation in 1..=3 {
        let mut codec = Numbered::new();
        peer.write_all(&[codec.bytes(b"one"), codec.bytes(b"two")].concat()).await.unwrap();
        assert_eq!(next_frame(&mut framed).await, "one");
        assert_eq!(next_frame(&mut framed).await, "two");
        assert_eq!(framed.codec().received, 2);
        reset(peer);
        assert_eq!(next_break(&mut framed).await.0, generation);
        assert_eq!(framed.codec().received, 0);
        peer = server.accept().await;
    }
    assert_eq!(made.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn codec_that_gets_past_its_error_goes_on() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut framed = Framed::new(conn, LinesCodec::new_with_max_length(5));
    peer.write_all(b"short\nmuch too long\nshort\n").await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "short");
    let error = next(&mut framed).await.unwrap_err();
    assert!(matches!(error, FramedError::Codec(LinesCodecError::MaxLineLengthExceeded)));
    assert!(!error.is_final() && error.broken_generation().is_none());
    assert_eq!(next_frame(&mut framed).await, "short");
    peer.write_all(b"\xff\xff\nutf-8\n").await.unwrap();
    assert!(matches!(next(&mut framed).await, Err(FramedError::Codec(LinesCodecError::Io(_)))));
    assert_eq!(next_frame(&mut framed).await, "utf-8");
    assert_eq!(framed.get_ref().generation(), 1);
}

#[tokio::test]
async fn codec_that_cannot_get_past_its_error_breaks_the_link() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut framed = Framed::new(conn, LengthDelimitedCodec::builder().max_frame_length(5).new_codec());
    peer.write_all(&[HELLO, b"\0\0\0\x06beyond", WORLD].concat()).await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "hello");
    let Err(FramedError::Codec(error)) = next(&mut framed).await else { panic!("no error") };
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert_eq!(framed.get_ref().generation(), 1);
    assert!(framed.get_ref().is_connected(), "an error of the codec is not a break");
    assert_eq!(next_break(&mut framed).await, (1, ErrorKind::ConnectionAborted));
    in_time("the link ends", peer.read(&mut [0])).await.unwrap_or(0);
    let mut peer = server.accept().await;
    peer.write_all(WORLD).await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "world");
}

#[tokio::test]
async fn breaks_that_were_slept_through_are_reported_one_by_one() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut framed = Framed::new(conn, LinesCodec::new());
    for _ in 1..=20 {
        drop(peer);
        peer = server.accept().await;
    }
    let mut status = framed.get_ref().watch_status();
    in_time("link 21", status.wait_for(|_| framed.get_ref().generation() == 21)).await.unwrap();
    in_time("link 21 is up", framed.get_ref().connected()).await.unwrap();
    peer.write_all(b"here\n").await.unwrap();
    // The last 16, as on every handle.
    for generation in 5..=20 {
        assert_eq!(next_break(&mut framed).await, (generation, ErrorKind::UnexpectedEof));
    }
    assert_eq!(next_frame(&mut framed).await, "here");
}

#[tokio::test]
async fn local_close_ends_the_stream() {
    let server = Server::start().await;
    let (conn, _peer) = server.pair().await;
    let mut framed = Framed::new(conn, LinesCodec::new());
    let close = framed.get_ref().close();
    assert!(!framed.is_terminated());
    let (item, ()) = in_time("the end", async { tokio::join!(framed.next(), close) }).await;
    assert!(matches!(item, Some(Err(FramedError::End(Error::ClosedConnection)))));
    assert!(framed.is_terminated());
    for _ in 0..3 {
        assert!(in_time("nothing", framed.next()).await.is_none());
    }
}

#[tokio::test]
async fn giving_up_ends_the_stream_after_the_break() {
    let mut server = Server::start().await;
    let (conn, peer) = tokio::join!(server.client().max_retries(2).connect(), server.accept());
    let mut framed = Framed::new(conn.unwrap(), LinesCodec::new());
    server.stop();
    drop(peer);
    assert_eq!(next_break(&mut framed).await.0, 1);
    let error = next(&mut framed).await.unwrap_err();
    assert!(error.is_final());
    assert!(matches!(error, FramedError::End(Error::GaveUp { .. })), "{error:?}");
    assert!(in_time("nothing", framed.next()).await.is_none());
}

#[test]
fn shutdown_of_the_runtime_ends_the_stream() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut framed = runtime.block_on(async {
        let conn = super::support::quick(Conn::builder("127.0.0.1:1")).build().unwrap();
        Framed::new(conn, LinesCodec::new())
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let item = other.block_on(next(&mut framed));
    assert!(matches!(item, Err(FramedError::End(Error::RuntimeShutdown))), "{item:?}");
    assert!(other.block_on(framed.next()).is_none());
}

#[tokio::test]
async fn stream_without_a_link_goes_on_after_its_error() {
    let mut server = Server::start().await;
    let (conn, peer) = tokio::join!(server.client().when_down(WhenDown::Fail).connect(), server.accept());
    let mut framed = Framed::new(conn.unwrap(), LinesCodec::new());
    server.stop();
    drop(peer);
    assert_eq!(next_break(&mut framed).await.0, 1);
    for _ in 0..3 {
        let error = next(&mut framed).await.unwrap_err();
        assert!(matches!(error, FramedError::Down(Error::Down { .. })) && !error.is_final());
    }
    server.restart().await;
    let mut peer = server.accept().await;
    in_time("the link", framed.get_ref().connected()).await.unwrap();
    peer.write_all(b"back\n").await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "back");
}

#[tokio::test]
async fn cancelled_next_loses_nothing() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut framed = Framed::new(conn, LengthDelimitedCodec::new());
    let mut cancelled = 0;
    for round in 0..5 {
        for byte in [HELLO, WORLD].concat() {
            // Polled with bytes of a frame in its buffer, and dropped.
            if let Ok(item) = tokio::time::timeout(Duration::from_millis(1), framed.next()).await {
                assert_eq!(item.unwrap().unwrap(), "hello");
            } else {
                cancelled += 1;
            }
            peer.write_all(&[byte]).await.unwrap();
        }
        assert_eq!(next_frame(&mut framed).await, "world", "in round {round}");
    }
    assert!(cancelled > 20);
}

#[tokio::test]
async fn other_streams_carry_frames_as_well() {
    let (conn, mut peers) = pipes().await;
    let mut peer = peers.recv().await.unwrap();
    let mut framed = Framed::new(conn, LinesCodec::new());
    peer.write_all(b"whole\nha").await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "whole");
    drop(peer);
    assert_eq!(next_frame(&mut framed).await, "ha");
    assert_eq!(next_break(&mut framed).await.0, 1);
    let mut peer = in_time("redial", peers.recv()).await.unwrap();
    peer.write_all(b"whole\n").await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "whole");
}

#[tokio::test]
async fn connection_comes_back_from_its_frames() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut framed = Framed::new(conn, LinesCodec::new());
    peer.write_all(b"line\n").await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "line");
    let mut conn = framed.into_inner();
    peer.write_all(b"A").await.unwrap();
    assert_eq!(in_time("read", conn.read_u8()).await.unwrap(), b'A');
    reset(peer);
    wait_for_break(&conn).await;
    let mut peer = server.accept().await;
    wait_for_generation(&conn, 2).await;
    // The stream yields the break that the whole connection has not reported.
    let mut framed = Framed::new(conn, LinesCodec::new());
    assert_eq!(next_break(&mut framed).await.0, 1);
    peer.write_all(b"line\n").await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "line");
}
