//! `break_link`: what was received on the link is dropped, its break is yielded, and no other link is touched.

use std::io::{self, ErrorKind};
use std::time::Duration;

use futures_util::SinkExt;
use perconn::Conn;
use perconn::codec::{Framed, FramedError, FramedRead, Terminated};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_util::bytes::{Buf, BytesMut};
use tokio_util::codec::{Decoder, LinesCodec};

use super::abandon::{ended, start, talk};
use super::support::{Server, in_time, wait_for_break, wait_for_disconnect};
use super::{Numbered, broken, next, next_break, next_frame};

#[tokio::test]
async fn break_link_drops_what_had_arrived() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut framed = Framed::new(conn, LinesCodec::new());
    peer.write_all(b"one\ntwo\nthree\n").await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "one");
    // More bytes, which are not read from the socket yet.
    peer.write_all(b"four\n").await.unwrap();
    framed.break_link(1);
    framed.break_link(1);
    assert_eq!(next_break(&mut framed).await, (1, ErrorKind::ConnectionAborted));
    let mut peer = server.accept().await;
    peer.write_all(b"five\n").await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "five");
    assert_eq!(framed.get_ref().generation(), 2);
}

/// Finds its frames at the end of the stream: one after the other, whatever came before.
struct AtEnd(Vec<&'static str>);

impl Decoder for AtEnd {
    type Item = &'static str;
    type Error = io::Error;

    fn decode(&mut self, _: &mut BytesMut) -> io::Result<Option<&'static str>> {
        Ok(None)
    }

    fn decode_eof(&mut self, _: &mut BytesMut) -> io::Result<Option<&'static str>> {
        Ok(self.0.pop())
    }
}

#[tokio::test]
async fn break_link_of_a_link_that_the_peer_has_closed_asks_the_codec_for_nothing_more() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let (read, _write) = conn.into_split();
    let mut framed = FramedRead::with_factory(read, || AtEnd(vec!["two", "one"]));
    peer.write_all(b"x").await.unwrap();
    drop(peer);
    wait_for_disconnect(framed.get_ref().watch_status()).await;
    framed.break_link(1);
    assert_eq!(next_break(&mut framed).await, (1, ErrorKind::UnexpectedEof));

    // In the middle of what the codec finds at the end.
    drop(server.accept().await);
    assert_eq!(next_frame(&mut framed).await, "one");
    for other in [0, 1, 3] {
        framed.break_link(other);
    }
    assert_eq!(next_frame(&mut framed).await, "two");
    assert_eq!(next_break(&mut framed).await, (2, ErrorKind::UnexpectedEof));
}

#[tokio::test]
async fn break_link_of_the_streams_broken_link_leaves_the_next_one() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let (read, _write) = conn.into_split();
    let mut framed = FramedRead::new(read, LinesCodec::new());
    peer.write_all(b"one\ntwo\n").await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "one");
    drop(peer);
    let mut peer = server.accept().await;
    in_time("link 2", framed.get_ref().watch_status().wait_for(|_| framed.get_ref().generation() == 2)).await.unwrap();
    in_time("link 2 is up", framed.get_ref().connected()).await.unwrap();
    peer.write_all(b"three\n").await.unwrap();
    framed.break_link(1);
    assert!(framed.get_ref().is_connected(), "link 2 was broken instead of link 1");
    assert_eq!(next_break(&mut framed).await.0, 1);
    assert_eq!(next_frame(&mut framed).await, "three");
    assert_eq!(framed.get_ref().generation(), 2);
}

#[tokio::test]
async fn break_link_in_an_outage_drops_nothing_of_the_next_link() {
    let mut server = Server::start().await;
    let (conn, peer) = server.pair().await;
    let mut framed = Framed::new(conn, LinesCodec::new());
    server.stop();
    drop(peer);
    assert_eq!(next_break(&mut framed).await.0, 1);
    // The broken link, and one that is not there yet.
    framed.break_link(1);
    framed.break_link(2);
    server.restart().await;
    server.accept().await.write_all(b"one\n").await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "one");
}

/// A connection whose redial comes only after the test, unless something asks for it.
async fn slow_to_redial(server: &Server) -> (Conn, TcpStream) {
    let delay = Duration::from_secs(3600);
    let client = server.client().retry_max(delay).retry_min(delay);
    let (conn, peer) = tokio::join!(client.connect(), server.accept());
    (conn.unwrap(), peer)
}

#[tokio::test]
async fn break_link_and_abandon_after_a_break_keep_to_the_backoff() {
    let server = Server::start().await;
    let (conn, mut peer) = slow_to_redial(&server).await;
    peer.write_all(b"go away\n").await.unwrap();
    drop(peer);
    wait_for_break(&conn).await;
    let mut framed = Framed::new(conn, LinesCodec::new());
    assert_eq!(next_frame(&mut framed).await, "go away");
    framed.break_link(1);
    assert_eq!(next_break(&mut framed).await.0, 1);
    framed.break_link(1);
    framed.abandon();
    // Even this comes no sooner than `retry_min` after the last dial.
    framed.get_ref().dial_now();
    server.expect_no_dial(Duration::from_millis(50)).await;
}

#[tokio::test]
async fn break_link_at_the_end_of_a_link_leaves_the_next_one() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut framed = Framed::new(conn, LinesCodec::new());
    peer.write_all(b"last").await.unwrap();
    drop(peer);
    // The stream has seen the end, and has not yielded the break yet.
    assert_eq!(next_frame(&mut framed).await, "last");
    let mut peer = server.accept().await;
    framed.break_link(1);
    assert_eq!(next_break(&mut framed).await, (1, ErrorKind::UnexpectedEof));
    peer.write_all(b"next\n").await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "next");
    assert_eq!(framed.get_ref().generation(), 2);
}

#[tokio::test]
async fn break_link_of_another_link_does_nothing() {
    let server = Server::start().await;
    let (mut framed, peer) = start(&server).await;
    drop(peer);
    assert_eq!(next_break(&mut framed).await.0, 1);
    let mut peer = server.accept().await;
    let mut codec = Numbered::new();
    peer.write_all(&[codec.bytes(b"one"), codec.bytes(b"two")].concat()).await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "one");
    for generation in [0, 1, 3, u64::MAX] {
        framed.break_link(generation);
        assert!(framed.get_ref().is_connected(), "break_link({generation}) broke link 2");
    }
    assert_eq!(next_frame(&mut framed).await, "two");
    peer.write_all(&codec.bytes(b"three")).await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "three");
    assert_eq!(framed.get_ref().generation(), 2);
}

#[tokio::test]
async fn break_link_of_a_link_after_the_streams_drops_nothing_of_the_streams() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let (read, _write) = conn.into_split();
    let mut framed = FramedRead::new(read, LinesCodec::new());
    peer.write_all(b"one\ntwo\n").await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "one");
    drop(peer);
    let mut peer = server.accept().await;
    let mut status = framed.get_ref().watch_status();
    in_time("link 2", status.wait_for(|_| framed.get_ref().generation() == 2)).await.unwrap();
    in_time("link 2 is up", framed.get_ref().connected()).await.unwrap();
    framed.break_link(2);
    ended(&mut peer).await;
    assert_eq!(next_frame(&mut framed).await, "two");
    assert_eq!(next_break(&mut framed).await.0, 1);
    assert_eq!(next_break(&mut framed).await.0, 2);
    server.accept().await.write_all(b"three\n").await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "three");
}

#[tokio::test]
async fn break_link_drops_the_frames_that_the_codec_would_make_of_the_rest() {
    /// Makes frames of single bytes, once the link has ended.
    #[derive(Clone)]
    struct AtTheEnd;
    impl Decoder for AtTheEnd {
        type Item = u8;
        type Error = io::Error;

        fn decode(&mut self, _: &mut BytesMut) -> io::Result<Option<u8>> {
            Ok(None)
        }

        fn decode_eof(&mut self, bytes: &mut BytesMut) -> io::Result<Option<u8>> {
            Ok((!bytes.is_empty()).then(|| bytes.get_u8()))
        }
    }
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut framed = Framed::new(conn, AtTheEnd);
    peer.write_all(b"ab").await.unwrap();
    drop(peer);
    assert_eq!(next_frame(&mut framed).await, b'a');
    framed.break_link(1);
    assert_eq!(next_break(&mut framed).await.0, 1);
    server.accept().await.write_all(b"c").await.unwrap();
    assert_eq!(next_frame(&mut framed).await, b'c');
}

#[tokio::test]
async fn break_link_is_reported_by_the_stream_and_by_the_sink_that_loses_a_frame() {
    let server = Server::start().await;
    let (mut framed, mut peer) = start(&server).await;
    in_time("feed", framed.feed("lost")).await.unwrap();
    framed.break_link(1);
    ended(&mut peer).await;
    assert_eq!(next_break(&mut framed).await.0, 1);
    assert_eq!(broken(in_time("flush", SinkExt::<&str>::flush(&mut framed)).await.unwrap_err()).0, 1);
    talk(&mut framed, &mut server.accept().await, 2).await;
}

#[tokio::test]
async fn stream_generation_is_that_of_the_bytes_which_the_codec_rejects() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut framed = Framed::new(conn, Terminated(LinesCodec::new()));
    peer.write_all(b"one\nhalf").await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "one");
    drop(peer);
    let mut peer = server.accept().await;
    in_time("link 2", framed.get_ref().watch_status().wait_for(|_| framed.get_ref().generation() == 2)).await.unwrap();
    in_time("link 2 is up", framed.get_ref().connected()).await.unwrap();
    let error = next(&mut framed).await.unwrap_err();
    assert!(matches!(error, FramedError::Codec(_)), "{error:?}");
    assert_eq!(framed.stream_generation(), 1);
    framed.break_link(framed.stream_generation());
    assert!(framed.get_ref().is_connected(), "link 2 was broken for the bytes of link 1");
    assert_eq!(next_break(&mut framed).await.0, 1);
    assert_eq!(framed.stream_generation(), 2);
    peer.write_all(b"two\n").await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "two");
}
