//! `abandon`: nothing more of the link is yielded, sent or reported, whatever was under way.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use perconn::codec::{Framed, FramedError};
use perconn::{Error, WhenDown};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::codec::{LengthDelimitedCodec, LinesCodec};

use super::support::{Server, in_time, pipes, reset};
use super::{Numbered, broken, next, next_break, next_frame};

pub(super) type NumberedFrames<S = TcpStream> = Framed<Numbered, S>;

/// Asserts that the next frame of both directions passes on this link, as the first one, and that no break is reported.
pub(super) async fn talk<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    framed: &mut NumberedFrames<S>,
    peer: &mut (impl AsyncRead + AsyncWrite + Unpin),
    generation: u64,
) {
    in_time("send", framed.send("request")).await.unwrap();
    received(peer, &Numbered::new().bytes(b"request")).await;
    peer.write_all(&Numbered::new().bytes(b"answer")).await.unwrap();
    assert_eq!(next_frame(framed).await, "answer");
    assert_eq!((framed.codec().sent, framed.codec().received), (1, 1), "not one fresh codec for both directions");
    assert_eq!(framed.get_ref().generation(), generation);
}

/// Asserts that these bytes arrive.
async fn received(peer: &mut (impl AsyncRead + Unpin), expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    in_time("what was sent", peer.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(bytes, expected);
}

/// Asserts that the link ends with nothing more on it.
pub(super) async fn ended(peer: &mut (impl AsyncRead + Unpin)) {
    let mut rest = Vec::new();
    // If bytes of the peer were left unread, the end is a reset.
    let _ = in_time("the end of the link", peer.read_to_end(&mut rest)).await;
    assert!(rest.is_empty(), "{rest:?} was sent");
}

/// Waits until this link is up.
async fn link<C, S>(framed: &Framed<C, S>, generation: u64) {
    let mut status = framed.get_ref().watch_status();
    in_time("the link", status.wait_for(|_| framed.get_ref().generation() == generation)).await.unwrap();
    in_time("the link is up", framed.get_ref().connected()).await.unwrap();
}

/// Frames over a fresh connection, and the server's end.
pub(super) async fn start(server: &Server) -> (NumberedFrames, TcpStream) {
    let (conn, peer) = server.pair().await;
    (Framed::with_factory(conn, Numbered::new), peer)
}

#[tokio::test]
async fn abandon_drops_frames_that_were_received_and_not_yielded() {
    let server = Server::start().await;
    let (mut framed, mut peer) = start(&server).await;
    let mut codec = Numbered::new();
    peer.write_all(&[codec.bytes(b"one"), codec.bytes(b"two")].concat()).await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "one");
    // Not read from the socket yet.
    peer.write_all(&codec.bytes(b"three")).await.unwrap();
    framed.abandon();
    ended(&mut peer).await;
    talk(&mut framed, &mut server.accept().await, 2).await;
}

#[tokio::test]
async fn abandon_drops_half_a_frame_and_the_codec_that_remembers_its_head() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut framed = Framed::new(conn, LengthDelimitedCodec::new());
    peer.write_all(b"\0\0\0\x03one\0\0\0\x05ha").await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "one");
    assert!(framed.next().now_or_never().is_none());
    framed.abandon();
    server.accept().await.write_all(b"\0\0\0\x04next").await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "next");
}

#[tokio::test]
async fn abandon_drops_frames_that_were_accepted_and_not_flushed() {
    let server = Server::start().await;
    let (mut framed, mut peer) = start(&server).await;
    in_time("feed", framed.feed("dropped")).await.unwrap();
    framed.abandon();
    ended(&mut peer).await;
    talk(&mut framed, &mut server.accept().await, 2).await;
}

#[tokio::test]
async fn abandon_drops_the_rest_of_a_frame_that_was_sent_in_part() {
    let (conn, mut peers) = pipes().await;
    let mut peer = peers.recv().await.unwrap();
    let mut framed = Framed::with_factory(conn, Numbered::new);
    // The pipe takes 64 bytes.
    assert!(framed.send("x".repeat(100)).now_or_never().is_none());
    framed.abandon();
    let mut part = Vec::new();
    in_time("the part", peer.read_to_end(&mut part)).await.unwrap();
    assert_eq!(part.len(), 64);
    talk(&mut framed, &mut in_time("redial", peers.recv()).await.unwrap(), 2).await;
}

#[tokio::test]
async fn abandon_gives_up_the_sinks_link_while_the_stream_is_one_link_behind() {
    let server = Server::start().await;
    let (mut framed, mut peer) = start(&server).await;
    let mut codec = Numbered::new();
    peer.write_all(&[codec.bytes(b"one"), codec.bytes(b"two")].concat()).await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "one");
    drop(peer);
    let mut peer = server.accept().await;
    link(&framed, 2).await;
    assert_eq!(broken(in_time("send", framed.send("lost")).await.unwrap_err()).0, 1);
    in_time("send", framed.send("request")).await.unwrap();
    received(&mut peer, &Numbered::new().bytes(b"request")).await;
    framed.abandon();
    ended(&mut peer).await;
    talk(&mut framed, &mut server.accept().await, 3).await;
}

#[tokio::test]
async fn abandon_gives_up_the_streams_link_while_the_sink_is_one_link_behind() {
    let server = Server::start().await;
    let (mut framed, peer) = start(&server).await;
    drop(peer);
    assert_eq!(next_break(&mut framed).await.0, 1);
    let mut peer = server.accept().await;
    peer.write_all(&Numbered::new().bytes(b"one")).await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "one");
    framed.abandon();
    ended(&mut peer).await;
    talk(&mut framed, &mut server.accept().await, 3).await;
}

#[tokio::test]
async fn abandon_keeps_a_link_that_neither_direction_has_used() {
    for sink_has_reported in [false, true] {
        let server = Server::start().await;
        let (mut framed, mut peer) = start(&server).await;
        let mut codec = Numbered::new();
        peer.write_all(&[codec.bytes(b"one"), codec.bytes(b"two")].concat()).await.unwrap();
        assert_eq!(next_frame(&mut framed).await, "one");
        drop(peer);
        let mut peer = server.accept().await;
        link(&framed, 2).await;
        if sink_has_reported {
            assert_eq!(broken(in_time("send", framed.send("lost")).await.unwrap_err()).0, 1);
        }
        framed.abandon();
        talk(&mut framed, &mut peer, 2).await;
    }
}

#[tokio::test]
async fn abandon_in_an_outage_breaks_nothing_and_drops_what_was_accepted() {
    for is_yielded in [false, true] {
        let mut server = Server::start().await;
        let (mut framed, peer) = start(&server).await;
        server.stop();
        let mut status = framed.get_ref().watch_status();
        drop(peer);
        in_time("the break", status.wait_for(|status| !status.is_connected())).await.unwrap();
        if is_yielded {
            assert_eq!(next_break(&mut framed).await.0, 1);
        }
        in_time("feed", framed.feed("dropped")).await.unwrap();
        framed.abandon();
        server.restart().await;
        talk(&mut framed, &mut server.accept().await, 2).await;
    }
}

#[tokio::test]
async fn abandon_before_the_first_link_breaks_nothing() {
    let server = Server::start().await;
    let mut framed = Framed::with_factory(server.client().build().unwrap(), Numbered::new);
    in_time("feed", framed.feed("dropped")).await.unwrap();
    framed.abandon();
    talk(&mut framed, &mut server.accept().await, 1).await;
}

#[tokio::test]
async fn abandon_forgets_a_peers_close_that_was_not_yielded() {
    for is_next_up in [false, true] {
        let server = Server::start().await;
        let (conn, mut peer) = server.pair().await;
        let mut framed = Framed::new(conn, LinesCodec::new());
        // The second line is in the buffer, and the codec may make a frame of the rest.
        peer.write_all(b"one\ntwo").await.unwrap();
        drop(peer);
        assert_eq!(next_frame(&mut framed).await, "one");
        assert_eq!(next_frame(&mut framed).await, "two");
        if is_next_up {
            link(&framed, 2).await;
        }
        framed.abandon();
        let mut peer = server.accept().await;
        in_time("send", framed.send("request")).await.unwrap();
        received(&mut peer, b"request\n").await;
        peer.write_all(b"answer\n").await.unwrap();
        assert_eq!(next_frame(&mut framed).await, "answer");
        assert_eq!(framed.get_ref().generation(), 2);
    }
}

#[tokio::test]
async fn abandon_forgets_frames_that_a_known_break_has_taken() {
    let server = Server::start().await;
    let (mut framed, peer) = start(&server).await;
    in_time("feed", framed.feed("lost")).await.unwrap();
    reset(peer);
    assert_eq!(next_break(&mut framed).await.0, 1);
    // The next flush would report them.
    framed.abandon();
    talk(&mut framed, &mut server.accept().await, 2).await;
}

#[tokio::test]
async fn second_abandon_does_nothing() {
    let server = Server::start().await;
    let (mut framed, mut peer) = start(&server).await;
    framed.abandon();
    framed.abandon();
    ended(&mut peer).await;
    let mut peer = server.accept().await;
    link(&framed, 2).await;
    framed.abandon();
    talk(&mut framed, &mut peer, 2).await;
}

#[tokio::test]
async fn abandon_after_the_end_changes_nothing() {
    let server = Server::start().await;
    let (mut framed, _peer) = start(&server).await;
    in_time("close", framed.get_ref().close()).await;
    framed.abandon();
    assert!(next(&mut framed).await.unwrap_err().is_final());
    framed.abandon();
    assert!(in_time("nothing", framed.next()).await.is_none());
    assert!(in_time("send", framed.send("refused")).await.unwrap_err().is_final());
}

#[tokio::test]
async fn abandon_whose_codec_cannot_be_made_changes_nothing() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut calls = 0;
    let mut framed = Framed::with_factory(conn, move || {
        calls += 1;
        assert!(calls != 2, "a panic of the test");
        Numbered::new()
    });
    let mut codec = Numbered::new();
    peer.write_all(&[codec.bytes(b"one"), codec.bytes(b"two")].concat()).await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "one");
    in_time("feed", framed.feed("kept")).await.unwrap();
    catch_unwind(AssertUnwindSafe(|| framed.abandon())).unwrap_err();
    assert_eq!(next_frame(&mut framed).await, "two");
    in_time("flush", SinkExt::<&str>::flush(&mut framed)).await.unwrap();
    received(&mut peer, &Numbered::new().bytes(b"kept")).await;
    framed.abandon();
    ended(&mut peer).await;
    talk(&mut framed, &mut server.accept().await, 2).await;
}

#[tokio::test]
async fn abandon_by_the_reading_side_is_reported_once_by_the_writing_side() {
    let server = Server::start().await;
    let (framed, mut peer) = start(&server).await;
    let (mut read, mut write) = framed.into_split();
    let mut codec = Numbered::new();
    peer.write_all(&[codec.bytes(b"one"), codec.bytes(b"two")].concat()).await.unwrap();
    assert_eq!(next_frame(&mut read).await, "one");
    read.abandon();
    ended(&mut peer).await;
    assert_eq!(broken(in_time("send", write.send("lost")).await.unwrap_err()).0, 1);
    let mut peer = server.accept().await;
    in_time("send", write.send("kept")).await.unwrap();
    received(&mut peer, &Numbered::new().bytes(b"kept")).await;
    peer.write_all(&Numbered::new().bytes(b"next")).await.unwrap();
    assert_eq!(next_frame(&mut read).await, "next");
    assert_eq!((read.codec().received, write.codec().sent), (1, 1));
}

#[tokio::test]
async fn abandon_by_the_writing_side_is_reported_once_by_the_reading_side() {
    let server = Server::start().await;
    let (framed, mut peer) = start(&server).await;
    let (mut read, mut write) = framed.into_split();
    let mut codec = Numbered::new();
    peer.write_all(&[codec.bytes(b"one"), codec.bytes(b"two")].concat()).await.unwrap();
    assert_eq!(next_frame(&mut read).await, "one");
    in_time("feed", write.feed("dropped")).await.unwrap();
    write.abandon();
    ended(&mut peer).await;
    let mut peer = server.accept().await;
    in_time("send", write.send("kept")).await.unwrap();
    received(&mut peer, &Numbered::new().bytes(b"kept")).await;
    peer.write_all(&Numbered::new().bytes(b"next")).await.unwrap();
    // After what had arrived.
    assert_eq!(next_frame(&mut read).await, "two");
    assert_eq!(next_break(&mut read).await.0, 1);
    assert_eq!(next_frame(&mut read).await, "next");
}

#[tokio::test]
async fn abandon_by_both_sides_is_reported_by_neither() {
    for reads_first in [false, true] {
        let server = Server::start().await;
        let (framed, mut peer) = start(&server).await;
        let (mut read, mut write) = framed.into_split();
        if reads_first {
            read.abandon();
            write.abandon();
        } else {
            write.abandon();
            read.abandon();
        }
        ended(&mut peer).await;
        let mut peer = server.accept().await;
        in_time("send", write.send("kept")).await.unwrap();
        received(&mut peer, &Numbered::new().bytes(b"kept")).await;
        peer.write_all(&Numbered::new().bytes(b"next")).await.unwrap();
        assert_eq!(next_frame(&mut read).await, "next");
        assert_eq!(read.get_ref().generation(), 2);
    }
}

#[tokio::test]
async fn abandon_by_a_side_whose_codec_cannot_be_made_changes_nothing() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut calls = 0;
    let framed = Framed::with_factory(conn, move || {
        calls += 1;
        // The first two are for the sides.
        assert!(calls <= 2, "a panic of the test");
        Numbered::new()
    });
    let (mut read, mut write) = framed.into_split();
    let mut codec = Numbered::new();
    peer.write_all(&[codec.bytes(b"one"), codec.bytes(b"two")].concat()).await.unwrap();
    assert_eq!(next_frame(&mut read).await, "one");
    in_time("feed", write.feed("kept")).await.unwrap();
    catch_unwind(AssertUnwindSafe(|| read.abandon())).unwrap_err();
    catch_unwind(AssertUnwindSafe(|| write.abandon())).unwrap_err();
    assert_eq!(next_frame(&mut read).await, "two");
    in_time("send", write.send("as well")).await.unwrap();
    let mut codec = Numbered::new();
    received(&mut peer, &[codec.bytes(b"kept"), codec.bytes(b"as well")].concat()).await;
}

/// A loop of requests with a time limit: every answer belongs to its request, however late the answers are.
#[tokio::test]
async fn every_answer_after_an_abandon_belongs_to_its_request() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut framed = Framed::new(conn, LinesCodec::new());
    for number in 0..20 {
        let request = format!("request {number}");
        in_time("send", framed.send(&request)).await.unwrap();
        received(&mut peer, format!("{request}\n").as_bytes()).await;
        if number % 3 == 1 {
            // Too late: the program drops its wait for the answer, which arrives before the link is given up.
            assert!(framed.next().now_or_never().is_none());
            peer.write_all(format!("answer to {request}\n").as_bytes()).await.unwrap();
            framed.abandon();
            peer = server.accept().await;
        } else {
            peer.write_all(format!("answer to {request}\n").as_bytes()).await.unwrap();
            assert_eq!(next_frame(&mut framed).await, format!("answer to {request}"));
        }
    }
}

#[tokio::test]
async fn abandon_ends_a_wait_that_the_program_has_dropped() {
    let mut server = Server::start().await;
    let client = server.client().when_down(WhenDown::WaitFor(Duration::from_secs(600)));
    let (conn, peer) = tokio::join!(client.connect(), server.accept());
    let mut framed = Framed::with_factory(conn.unwrap(), Numbered::new);
    server.stop();
    drop(peer);
    assert_eq!(next_break(&mut framed).await.0, 1);
    assert!(framed.send("dropped").now_or_never().is_none());
    framed.abandon();
    server.restart().await;
    talk(&mut framed, &mut server.accept().await, 2).await;
}

#[tokio::test]
async fn abandon_after_a_shutdown_ends_the_connection() {
    let server = Server::start().await;
    let (mut framed, mut peer) = start(&server).await;
    in_time("close the sink", SinkExt::<&str>::close(&mut framed)).await.unwrap();
    peer.write_all(&Numbered::new().bytes(b"unread")).await.unwrap();
    framed.abandon();
    let error = next(&mut framed).await.unwrap_err();
    assert!(matches!(error, FramedError::End(Error::ClosedConnection)), "{error:?}");
    assert!(in_time("nothing", framed.next()).await.is_none());
    server.expect_no_dial(Duration::from_millis(100)).await;
}
