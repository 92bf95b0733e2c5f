//! A factory that panics once: the next call reports what that call had to report, and no old codec meets a new link.

use std::panic::AssertUnwindSafe;

use futures_util::{FutureExt, SinkExt, StreamExt};
use perconn::codec::{Framed, FramedRead, FramedWrite};
use perconn::{StatusWatch, WhenDown};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{Server, in_time, reset};
use super::{Numbered, broken, next_break, next_frame};

/// A factory of codecs, which panics when it makes codec `number`.
fn panics_at(number: usize) -> impl FnMut() -> Numbered + Send + 'static {
    let mut calls = 0;
    move || {
        calls += 1;
        assert!(calls != number, "a panic of the test");
        Numbered::new()
    }
}

/// Breaks the link, and waits until the connection has noticed.
async fn end(peer: TcpStream, mut status: StatusWatch) {
    reset(peer);
    in_time("the break", status.wait_for(|status| !status.is_connected())).await.unwrap();
}

async fn expect_panic<T>(future: impl Future<Output = T>) {
    assert!(in_time("the panic", AssertUnwindSafe(future).catch_unwind()).await.is_err(), "the call did not panic");
}

/// Asserts that a frame arrives.
async fn expect(peer: &mut TcpStream, payload: &[u8]) {
    let bytes = Numbered::new().bytes(payload);
    let mut buf = vec![0; bytes.len()];
    in_time("the peer", peer.read_exact(&mut buf)).await.unwrap();
    assert_eq!(buf, bytes);
}

#[tokio::test]
async fn stream_reports_the_break_once_it_has_a_codec_again() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let (read, _write) = conn.into_split();
    let mut stream = FramedRead::with_factory(read, panics_at(2));
    // The old codec has decoded one frame and the head of another.
    let mut codec = Numbered::new();
    peer.write_all(&[codec.bytes(b"one"), codec.bytes(b"two").split_to(6)].concat()).await.unwrap();
    assert_eq!(next_frame(&mut stream).await, "one");
    end(peer, stream.get_ref().watch_status()).await;
    expect_panic(stream.next()).await;
    let mut peer = server.accept().await;
    in_time("link 2", stream.get_ref().connected()).await.unwrap();
    // The program objects to the old link, not to this one.
    stream.break_link(1);
    assert_eq!(next_break(&mut stream).await.0, 1);
    peer.write_all(&Numbered::new().bytes(b"three")).await.unwrap();
    assert_eq!(next_frame(&mut stream).await, "three");
    assert_eq!(stream.get_ref().generation(), 2);
}

#[tokio::test]
async fn sink_reports_the_break_once_it_has_a_codec_again() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let (_read, write) = conn.into_split();
    let mut sink = FramedWrite::with_factory(write, panics_at(2));
    in_time("send", sink.send("one")).await.unwrap();
    expect(&mut peer, b"one").await;
    in_time("feed", sink.feed("lost")).await.unwrap();
    end(peer, sink.get_ref().watch_status()).await;
    expect_panic(SinkExt::<&str>::flush(&mut sink)).await;
    assert_eq!(broken(in_time("send", sink.send("lost, too")).await.unwrap_err()).0, 1);
    let mut peer = server.accept().await;
    in_time("send", sink.send("kept")).await.unwrap();
    expect(&mut peer, b"kept").await;
}

#[tokio::test]
async fn both_directions_share_one_codec_again() {
    for stream_first in [true, false] {
        let server = Server::start().await;
        let (conn, mut peer) = server.pair().await;
        let mut framed = Framed::with_factory(conn, panics_at(2));
        in_time("send", framed.send("one")).await.unwrap();
        expect(&mut peer, b"one").await;
        in_time("feed", framed.feed("lost")).await.unwrap();
        end(peer, framed.get_ref().watch_status()).await;
        if stream_first {
            expect_panic(framed.next()).await;
            assert_eq!(broken(in_time("flush", SinkExt::<&str>::flush(&mut framed)).await.unwrap_err()).0, 1);
            assert_eq!(next_break(&mut framed).await.0, 1);
        } else {
            expect_panic(SinkExt::<&str>::flush(&mut framed)).await;
            assert_eq!(next_break(&mut framed).await.0, 1);
            assert_eq!(broken(in_time("flush", SinkExt::<&str>::flush(&mut framed)).await.unwrap_err()).0, 1);
        }
        let mut peer = server.accept().await;
        in_time("send", framed.send("kept")).await.unwrap();
        expect(&mut peer, b"kept").await;
        peer.write_all(&Numbered::new().bytes(b"answer")).await.unwrap();
        assert_eq!(next_frame(&mut framed).await, "answer");
        assert_eq!((framed.codec().sent, framed.codec().received), (1, 1));
    }
}

#[tokio::test]
async fn codec_that_is_made_late_takes_nothing_from_the_stream() {
    let mut server = Server::start().await;
    server.stop();
    let conn = server.client().when_down(WhenDown::Fail).build().unwrap();
    let mut framed = Framed::with_factory(conn, panics_at(2));
    expect_panic(framed.send("lost")).await;
    server.restart().await;
    let mut peer = server.accept().await;
    let mut codec = Numbered::new();
    peer.write_all(&[codec.bytes(b"one"), codec.bytes(b"two")].concat()).await.unwrap();
    in_time("the link", framed.get_ref().connected()).await.unwrap();
    assert_eq!(next_frame(&mut framed).await, "one");
    in_time("flush", SinkExt::<&str>::flush(&mut framed)).await.unwrap_err();
    assert_eq!(next_frame(&mut framed).await, "two");
    in_time("send", framed.send("kept")).await.unwrap();
    expect(&mut peer, b"kept").await;
}
