//! The frames that a sink sends, and the errors that it returns.

use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use perconn::codec::{Framed, FramedError, FramedWrite};
use perconn::{Conn, Error, WhenDown, dial_fn};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio_util::bytes::{Bytes, BytesMut};
use tokio_util::codec::{Encoder, LengthDelimitedCodec, LinesCodec};

use super::support::{Server, in_time, pipes, quick, reset, wait_for_break};
use super::{Numbered, broken};

/// More than the socket buffers of both ends take.
const HUGE: usize = 16 << 20;

fn long_frames() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().max_frame_length(HUGE).new_codec()
}

/// Asserts that these bytes arrive.
async fn received(peer: &mut (impl AsyncReadExt + Unpin), expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    in_time("what was sent", peer.read_exact(&mut bytes)).await.unwrap();
    assert!(bytes == expected, "expected other bytes than {:?}", &bytes[..expected.len().min(40)]);
}

#[tokio::test]
#[cfg_attr(windows, ignore = "Windows takes a write whole, however long it is")]
async fn rest_of_a_half_sent_frame_never_begins_a_link() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let (_read, write) = conn.into_split();
    let mut sink = FramedWrite::new(write, long_frames());
    let send = sink.send(Bytes::from(vec![b'x'; HUGE]));
    let die = async {
        // A part has arrived, and the rest waits.
        peer.read_exact(&mut [0; 1000]).await.unwrap();
        reset(peer);
    };
    let (outcome, ()) = in_time("the break", async { tokio::join!(send, die) }).await;
    assert_eq!(broken(outcome.unwrap_err()).0, 1);
    let mut peer = server.accept().await;
    in_time("send", sink.send(Bytes::from("next"))).await.unwrap();
    received(&mut peer, b"\0\0\0\x04next").await;
}

#[tokio::test]
async fn frames_that_were_not_begun_are_dropped_too_and_reported_once() {
    let server = Server::start().await;
    let (conn, peer) = server.pair().await;
    let mut framed = FramedWrite::new(conn.into_split().1, LinesCodec::new());
    let mut status = framed.get_ref().watch_status();
    in_time("feed", framed.feed("lost")).await.unwrap();
    in_time("feed", framed.feed("lost, too")).await.unwrap();
    drop(peer);
    in_time("the break", status.wait_for(|status| !status.is_connected())).await.unwrap();
    let flush = in_time("flush", SinkExt::<&str>::flush(&mut framed)).await;
    assert_eq!(broken(flush.unwrap_err()), (1, ErrorKind::BrokenPipe));
    in_time("flush", SinkExt::<&str>::flush(&mut framed)).await.unwrap();
    let mut peer = server.accept().await;
    in_time("send", framed.send("kept")).await.unwrap();
    received(&mut peer, b"kept\n").await;
}

#[tokio::test]
async fn every_link_gets_a_fresh_encoder() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut sink = FramedWrite::with_factory(conn.into_split().1, Numbered::new);
    for generation in 1..=3 {
        let mut codec = Numbered::new();
        for frame in [b"one", b"two"] {
            in_time("send", sink.send(&frame[..])).await.unwrap();
            received(&mut peer, &codec.bytes(frame)).await;
        }
        assert_eq!(sink.codec().sent, 2);
        let mut status = sink.get_ref().watch_status();
        reset(peer);
        in_time("the break", status.wait_for(|status| !status.is_connected())).await.unwrap();
        // This frame is encoded before the sink knows of the break, and gets no number on the next link.
        assert_eq!(broken(in_time("send", sink.send(&b"lost"[..])).await.unwrap_err()).0, generation);
        assert_eq!(sink.codec().sent, 0);
        peer = server.accept().await;
    }
}

#[tokio::test]
async fn frame_that_the_codec_refuses_sends_nothing_and_drops_nothing() {
    struct Fickle;
    impl Encoder<&str> for Fickle {
        type Error = io::Error;

        fn encode(&mut self, frame: &str, bytes: &mut BytesMut) -> io::Result<()> {
            bytes.extend_from_slice(frame.as_bytes());
            if frame.contains('!') { Err(ErrorKind::InvalidInput.into()) } else { Ok(()) }
        }
    }
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut sink = FramedWrite::with_factory(conn.into_split().1, || Fickle);
    sink.feed("one").await.unwrap();
    let error = sink.feed("bad!").await.unwrap_err();
    assert!(matches!(error, FramedError::Codec(_)) && !error.is_final());
    in_time("send", sink.send("two")).await.unwrap();
    received(&mut peer, b"onetwo").await;
}

#[tokio::test]
async fn frame_beyond_the_limit_is_the_codecs_error() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut framed = Framed::new(conn, LengthDelimitedCodec::builder().max_frame_length(4).new_codec());
    let error = in_time("send", framed.send(Bytes::from("beyond"))).await.unwrap_err();
    assert!(matches!(error, FramedError::Codec(_)));
    in_time("send", framed.send(Bytes::from("fits"))).await.unwrap();
    received(&mut peer, b"\0\0\0\x04fits").await;
}

#[tokio::test]
#[cfg_attr(windows, ignore = "Windows takes a write whole, however long it is")]
async fn dropped_send_leaves_a_whole_frame() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut sink = FramedWrite::new(conn.into_split().1, long_frames());
    let frame = vec![b'x'; HUGE];
    let cut = tokio::time::timeout(Duration::from_millis(20), sink.send(Bytes::from(frame.clone()))).await;
    assert!(cut.is_err(), "the send ended, though the peer does not read");
    // Not accepted, as the sink is full.
    assert!(sink.send(Bytes::from("never accepted")).now_or_never().is_none());
    let reader = tokio::spawn(async move {
        received(&mut peer, &[&(HUGE as u32).to_be_bytes()[..], &frame].concat()).await;
        received(&mut peer, b"\0\0\0\x04next").await;
        peer
    });
    in_time("send", sink.send(Bytes::from("next"))).await.unwrap();
    in_time("the peer", reader).await.unwrap();
}

#[tokio::test]
async fn sink_is_full_when_nobody_reads() {
    let server = Server::start().await;
    let (conn, _peer) = server.pair().await;
    let mut sink = FramedWrite::new(conn.into_split().1, LinesCodec::new());
    sink.set_backpressure_boundary(1000);
    assert_eq!(sink.backpressure_boundary(), 1000);
    let line = "x".repeat(64 << 10);
    let accepted = (0..1000).take_while(|_| sink.feed(&line).now_or_never().is_some()).count();
    assert!(accepted < 1000, "the sink took 64 MiB, though the peer does not read");
}

#[tokio::test]
async fn close_sends_what_was_accepted_and_shuts_down() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut framed = Framed::new(conn, LinesCodec::new());
    in_time("feed", framed.feed("one")).await.unwrap();
    in_time("close", SinkExt::<&str>::close(&mut framed)).await.unwrap();
    let mut all = Vec::new();
    in_time("the peer", peer.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"one\n");
    let error = in_time("send", framed.send("two")).await.unwrap_err();
    assert!(matches!(error, FramedError::End(Error::ClosedConnection)), "{error:?}");
    // The stream goes on until its end.
    peer.write_all(b"answer\n").await.unwrap();
    assert_eq!(in_time("the answer", framed.next()).await.unwrap().unwrap(), "answer");
    drop(peer);
    assert_eq!(broken(in_time("the close", framed.next()).await.unwrap().unwrap_err()).0, 1);
    assert!(in_time("the end", framed.next()).await.unwrap().unwrap_err().is_final());
    assert!(in_time("nothing", framed.next()).await.is_none());
}

#[tokio::test]
async fn close_in_an_outage_does_not_wait_for_a_link() {
    let mut server = Server::start().await;
    let (conn, peer) = server.pair().await;
    server.stop();
    drop(peer);
    wait_for_break(&conn).await;
    let mut framed = Framed::new(conn, LinesCodec::new());
    assert_eq!(broken(in_time("the break", framed.next()).await.unwrap().unwrap_err()).0, 1);
    in_time("close", SinkExt::<&str>::close(&mut framed)).await.unwrap();
    assert!(in_time("the end", framed.next()).await.unwrap().unwrap_err().is_final());
}

#[tokio::test]
async fn frame_that_found_no_link_is_not_sent_later() {
    found_no_link(false).await;
}

#[tokio::test]
async fn frame_that_found_no_link_after_the_stream_reported_the_break_is_not_sent_later() {
    found_no_link(true).await;
}

async fn found_no_link(stream_first: bool) {
    let mut server = Server::start().await;
    let (conn, peer) = tokio::join!(server.client().when_down(WhenDown::Fail).connect(), server.accept());
    let conn = conn.unwrap();
    server.stop();
    drop(peer);
    wait_for_break(&conn).await;
    let mut framed = Framed::with_factory(conn, Numbered::new);
    if stream_first {
        assert_eq!(broken(in_time("the break", framed.next()).await.unwrap().unwrap_err()).0, 1);
    } else {
        assert_eq!(broken(in_time("send", framed.send(&b"lost"[..])).await.unwrap_err()).0, 1);
    }
    for _ in 0..3 {
        let error = in_time("send", framed.send(&b"refused"[..])).await.unwrap_err();
        assert!(matches!(error, FramedError::Down(Error::Down { .. })), "{error:?}");
    }
    server.restart().await;
    let mut peer = server.accept().await;
    in_time("the link", framed.get_ref().connected()).await.unwrap();
    in_time("send", framed.send(&b"kept"[..])).await.unwrap();
    received(&mut peer, &Numbered::new().bytes(b"kept")).await;
}

#[tokio::test]
#[cfg_attr(windows, ignore = "Windows takes a write whole, however long it is")]
async fn local_close_ends_the_sink() {
    let server = Server::start().await;
    let (conn, _peer) = server.pair().await;
    let mut sink = FramedWrite::new(conn.into_split().1, long_frames());
    let close = sink.get_ref().close();
    // It waits in the middle of the frame.
    let send = sink.send(Bytes::from(vec![0; HUGE]));
    let (outcome, ()) = in_time("the end", async { tokio::join!(send, close) }).await;
    assert!(matches!(outcome, Err(FramedError::End(Error::ClosedConnection))));
    assert!(in_time("send", sink.send(Bytes::new())).await.unwrap_err().is_final());
}

#[tokio::test]
async fn sink_over_another_stream_drops_its_half_frame_as_well() {
    let (conn, mut peers) = pipes().await;
    let mut peer = peers.recv().await.unwrap();
    let mut sink = FramedWrite::new(conn.into_split().1, LinesCodec::new());
    // The pipe takes 64 bytes.
    let line = "x".repeat(100);
    let die = async {
        peer.read_exact(&mut [0; 10]).await.unwrap();
        drop(peer);
    };
    let (outcome, ()) = in_time("the break", async { tokio::join!(sink.send(&line), die) }).await;
    assert_eq!(broken(outcome.unwrap_err()).0, 1);
    let mut peer = in_time("redial", peers.recv()).await.unwrap();
    in_time("send", sink.send("next")).await.unwrap();
    received(&mut peer, b"next\n").await;
}

#[tokio::test]
async fn close_that_reports_a_break_shuts_down_all_the_same() {
    let server = Server::start().await;
    let (conn, peer) = server.pair().await;
    let (mut stream, mut sink) = Framed::new(conn, LinesCodec::new()).into_split();
    in_time("feed", sink.feed("lost")).await.unwrap();
    reset(peer);
    let mut peer = server.accept().await;
    in_time("link 2", stream.get_ref().connected()).await.unwrap();
    let error = in_time("close", SinkExt::<&str>::close(&mut sink)).await.unwrap_err();
    assert_eq!(broken(error).0, 1);
    // Link 2 is shut down with nothing on it. When its peer closes, too, the stream ends.
    assert_eq!(in_time("the end", peer.read(&mut [0])).await.unwrap(), 0);
    drop(peer);
    while let Some(item) = in_time("the end of the stream", stream.next()).await {
        item.unwrap_err();
    }
    in_time("close", SinkExt::<&str>::close(&mut sink)).await.unwrap();
}

#[tokio::test]
async fn close_that_finds_no_link_for_its_frames_shuts_down_all_the_same() {
    let mut server = Server::start().await;
    server.stop();
    let conn = server.client().when_down(WhenDown::Fail).build().unwrap();
    let mut framed = Framed::new(conn, LinesCodec::new());
    in_time("feed", framed.feed("lost")).await.unwrap();
    let error = in_time("close", SinkExt::<&str>::close(&mut framed)).await.unwrap_err();
    assert!(matches!(error, FramedError::Down(_)), "{error:?}");
    assert!(in_time("the end", framed.next()).await.unwrap().unwrap_err().is_final());
}

/// A pipe whose shutdown is pending at the first poll.
struct SlowEnd(DuplexStream, bool);

impl AsyncRead for SlowEnd {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for SlowEnd {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.1, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn close_that_reports_a_break_waits_until_the_next_link_is_shut_down() {
    let (sender, mut peers) = tokio::sync::mpsc::unbounded_channel();
    let dialer = dial_fn(move || {
        let (near, far) = tokio::io::duplex(64);
        let _ = sender.send(far);
        std::future::ready(Ok(SlowEnd(near, false)))
    });
    let conn = in_time("connect", quick(Conn::builder("memory").dialer(dialer)).connect()).await.unwrap();
    let peer = peers.recv().await.unwrap();
    let (mut read, write) = conn.into_split();
    let mut sink = FramedWrite::new(write, LinesCodec::new());
    in_time("feed", sink.feed("lost")).await.unwrap();
    drop(peer);
    assert_eq!(in_time("the break", read.read(&mut [0])).await.unwrap(), 0);
    let mut peer = in_time("redial", peers.recv()).await.unwrap();
    in_time("link 2", read.connected()).await.unwrap();
    let error = in_time("close", SinkExt::<&str>::close(&mut sink)).await.unwrap_err();
    assert_eq!(broken(error).0, 1);
    assert_eq!(in_time("the end", peer.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test]
async fn encoder_that_panics_leaves_no_half_frame() {
    struct Fragile;
    impl Encoder<&str> for Fragile {
        type Error = io::Error;

        fn encode(&mut self, frame: &str, bytes: &mut BytesMut) -> io::Result<()> {
            bytes.extend_from_slice(frame.as_bytes());
            assert!(!frame.contains('!'), "a panic of the test");
            Ok(())
        }
    }
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut sink = FramedWrite::with_factory(conn.into_split().1, || Fragile);
    in_time("feed", sink.feed("one")).await.unwrap();
    catch_unwind(AssertUnwindSafe(|| sink.start_send_unpin("bad!"))).unwrap_err();
    in_time("send", sink.send("two")).await.unwrap();
    received(&mut peer, b"onetwo").await;
}
