//! Both directions in one value: who is told of what.

use futures_util::{SinkExt, StreamExt};
use perconn::codec::{Framed, FramedError, FramedRead, FramedWrite};
use perconn::{Conn, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio_util::codec::LinesCodec;

use super::support::{Server, in_time, reset};
use super::{Numbered, break_of, broken, frame, next};

/// Ends the link, and waits until the connection knows.
async fn end(framed: &Framed<Numbered>, peer: TcpStream, orderly: bool) {
    let mut status = framed.get_ref().watch_status();
    if orderly {
        drop(peer);
    } else {
        reset(peer);
    }
    in_time("the break", status.wait_for(|status| !status.is_connected())).await.unwrap();
}

async fn expect(peer: &mut TcpStream, bytes: &[u8]) {
    let mut buf = vec![0; bytes.len()];
    in_time("the peer", peer.read_exact(&mut buf)).await.unwrap();
    assert_eq!(buf, bytes);
}

#[tokio::test]
async fn sink_with_nothing_unconfirmed_is_not_told_what_the_stream_told() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut framed = Framed::with_factory(conn, Numbered::new);
    for generation in 1..=6 {
        let bytes = Numbered::new().bytes(b"ping");
        in_time("send", framed.send(&b"ping"[..])).await.unwrap();
        expect(&mut peer, &bytes).await;
        peer.write_all(&bytes).await.unwrap();
        assert_eq!(frame(&mut framed).await, "ping");
        end(&framed, peer, generation % 2 == 0).await;
        assert_eq!(break_of(&mut framed).await.0, generation);
        peer = server.accept().await;
    }
}

#[tokio::test]
async fn broken_link_is_let_go_though_the_sink_is_never_used() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut framed = Framed::new(conn, LinesCodec::new());
    for generation in 1..=3 {
        // Ends its side only: this read returns when the client has closed the socket, too.
        in_time("shutdown", peer.shutdown()).await.unwrap();
        assert_eq!(break_of(&mut framed).await.0, generation);
        assert_eq!(in_time("the client lets go", peer.read(&mut [0])).await.unwrap(), 0);
        peer = server.accept().await;
    }
}

#[tokio::test]
async fn sink_is_told_once_of_a_break_that_took_its_frames() {
    let server = Server::start().await;
    let (conn, peer) = server.pair().await;
    let mut framed = Framed::with_factory(conn, Numbered::new);
    in_time("feed", framed.feed(&b"lost"[..])).await.unwrap();
    end(&framed, peer, false).await;
    assert_eq!(break_of(&mut framed).await.0, 1);
    let flush = in_time("flush", SinkExt::<&[u8]>::flush(&mut framed)).await;
    assert_eq!(broken(flush.unwrap_err()).0, 1);
    let mut peer = server.accept().await;
    in_time("send", framed.send(&b"kept"[..])).await.unwrap();
    let bytes = Numbered::new().bytes(b"kept");
    expect(&mut peer, &bytes).await;
    peer.write_all(&bytes).await.unwrap();
    assert_eq!(frame(&mut framed).await, "kept");
}

#[tokio::test]
async fn frame_that_follows_lost_ones_unawares_is_told_lost_with_them() {
    let server = Server::start().await;
    let (conn, peer) = server.pair().await;
    let mut framed = Framed::with_factory(conn, Numbered::new);
    in_time("feed", framed.feed(&b"lost"[..])).await.unwrap();
    // Ready before the break, used after it.
    std::future::poll_fn(|cx| SinkExt::<&[u8]>::poll_ready_unpin(&mut framed, cx)).await.unwrap();
    end(&framed, peer, true).await;
    assert_eq!(break_of(&mut framed).await.0, 1);
    framed.start_send_unpin(&b"lost as well"[..]).unwrap();
    let flush = in_time("flush", SinkExt::<&[u8]>::flush(&mut framed)).await;
    assert_eq!(broken(flush.unwrap_err()).0, 1);
    let mut peer = server.accept().await;
    in_time("send", framed.send(&b"kept"[..])).await.unwrap();
    expect(&mut peer, &Numbered::new().bytes(b"kept")).await;
}

#[tokio::test]
async fn frames_for_the_next_link_survive_breaks_that_are_known() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut framed = Framed::with_factory(conn, Numbered::new);
    // The stream is told of three breaks, the sink sleeps.
    for generation in 1..=3 {
        end(&framed, peer, true).await;
        assert_eq!(break_of(&mut framed).await.0, generation);
        peer = server.accept().await;
        in_time("the link", framed.get_ref().connected()).await.unwrap();
    }
    in_time("send", framed.send(&b"kept"[..])).await.unwrap();
    expect(&mut peer, &Numbered::new().bytes(b"kept")).await;
}

#[tokio::test]
async fn break_that_the_sink_met_first_stands_at_its_place_in_the_stream() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut framed = Framed::with_factory(conn, Numbered::new);
    let mut codec = Numbered::new();
    let frames = ["one", "two", "three", "four"].map(|payload| codec.bytes(payload.as_bytes()));
    let mut bytes = frames.concat();
    bytes.truncate(bytes.len() - 1);
    let rest = bytes.split_off(frames[0].len() + frames[1].len() + 9);
    peer.write_all(&bytes).await.unwrap();
    assert_eq!(frame(&mut framed).await, "one");
    // This is not read by anyone yet.
    peer.write_all(&rest).await.unwrap();
    end(&framed, peer, true).await;
    assert_eq!(broken(in_time("send", framed.send(&b"lost"[..])).await.unwrap_err()).0, 1);
    // The sink goes on with the next link, whose codec is another than the stream's.
    let mut peer = server.accept().await;
    let mut codec = Numbered::new();
    in_time("send", framed.send(&b"kept"[..])).await.unwrap();
    expect(&mut peer, &codec.bytes(b"kept")).await;
    assert_eq!(framed.codec().received, 1);
    assert_eq!(frame(&mut framed).await, "two");
    assert_eq!(frame(&mut framed).await, "three");
    assert!(matches!(next(&mut framed).await, Err(FramedError::Codec(_))), "what came of the fourth");
    assert_eq!(break_of(&mut framed).await.0, 1);
    // One codec for both directions again.
    assert_eq!((framed.codec().sent, framed.codec().received), (1, 0));
    in_time("send", framed.send(&b"more"[..])).await.unwrap();
    expect(&mut peer, &codec.bytes(b"more")).await;
}

#[tokio::test]
async fn sink_may_be_many_breaks_ahead_of_the_stream() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut framed = Framed::with_factory(conn, Numbered::new);
    for generation in 1..=3 {
        peer.write_all(&Numbered::new().bytes(format!("of {generation}").as_bytes())).await.unwrap();
        if generation == 1 {
            assert_eq!(frame(&mut framed).await, "of 1");
        }
        end(&framed, peer, true).await;
        assert_eq!(broken(in_time("send", framed.send(&b"lost"[..])).await.unwrap_err()).0, generation);
        peer = server.accept().await;
        in_time("send", framed.send(&b"kept"[..])).await.unwrap();
        expect(&mut peer, &Numbered::new().bytes(b"kept")).await;
    }
    peer.write_all(&Numbered::new().bytes(b"of 4")).await.unwrap();
    let (mut breaks, mut frames) = (Vec::new(), Vec::new());
    while frames.last().is_none_or(|frame| frame != "of 4") {
        match next(&mut framed).await {
            Ok(frame) => frames.push(frame),
            Err(error) => breaks.push(broken(error).0),
        }
    }
    // What came on links between the one in use and the last broken one is gone, as on every handle.
    assert_eq!(breaks, [1, 2, 3]);
    assert_eq!(framed.codec().sent, 1);
    in_time("send", framed.send(&b"more"[..])).await.unwrap();
    let mut codec = Numbered::new();
    codec.sent = 1;
    expect(&mut peer, &codec.bytes(b"more")).await;
}

#[tokio::test]
async fn own_halves_take_along_what_the_whole_had() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut framed = Framed::new(conn, LinesCodec::new());
    peer.write_all(b"one\ntwo\n").await.unwrap();
    assert_eq!(frame(&mut framed).await, "one");
    in_time("feed", framed.feed("first")).await.unwrap();
    let (mut read, mut write) = framed.into_split();
    assert_eq!(frame(&mut read).await, "two");
    in_time("send", write.send("second")).await.unwrap();
    expect(&mut peer, b"first\nsecond\n").await;
    // Each is told of the break.
    let mut status = write.get_ref().watch_status();
    reset(peer);
    in_time("the break", status.wait_for(|status| !status.is_connected())).await.unwrap();
    assert_eq!(broken(in_time("send", write.send("lost")).await.unwrap_err()).0, 1);
    assert_eq!(break_of(&mut read).await.0, 1);
    let conn = read.into_inner().reunite(write.into_inner()).unwrap();
    let _peer = server.accept().await;
    in_time("link", conn.connected()).await.unwrap();
    assert_eq!(conn.last_reported(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn halves_of_futures_wake_each_other_in_two_tasks() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let (mut sink, mut stream) = Framed::new(conn, LinesCodec::new()).split();
    let reader = tokio::spawn(async move {
        let mut told = Vec::new();
        while told.len() < 10 {
            match next(&mut stream).await {
                Ok(line) => assert_eq!(line, "pong"),
                Err(error) => told.push(broken(error).0),
            }
        }
        told
    });
    for generation in 1..=10 {
        while let Err(error) = in_time("send", sink.send("ping")).await {
            assert!(broken(error).0 < generation);
        }
        expect(&mut peer, b"ping\n").await;
        peer.write_all(b"pong\n").await.unwrap();
        reset(peer);
        peer = server.accept().await;
    }
    assert_eq!(in_time("the reader", reader).await.unwrap(), (1..=10).collect::<Vec<_>>());
}

#[test]
fn types_may_go_to_other_tasks() {
    fn is<T: Send + Sync + Unpin + std::fmt::Debug + 'static>() {}
    is::<Framed<LinesCodec>>();
    is::<FramedRead<LinesCodec>>();
    is::<FramedWrite<LinesCodec>>();
    is::<Framed<LinesCodec, DuplexStream>>();
    fn is_send<T: Send + Unpin>() {}
    is_send::<Framed<std::cell::Cell<u8>, DuplexStream>>();
    fn is_error<T: std::error::Error + Send + Sync + 'static>() {}
    is_error::<FramedError<std::io::Error>>();
}

#[tokio::test]
async fn error_says_its_own_level_only() {
    let server = Server::start().await;
    let (conn, peer): (Conn, _) = server.pair().await;
    let mut framed = Framed::new(conn, LinesCodec::new());
    reset(peer);
    let error = next(&mut framed).await.unwrap_err();
    assert_eq!(error.broken_generation(), Some(1));
    assert_eq!(error.to_string(), "link 1 broke");
    let chain = std::iter::successors(std::error::Error::source(&error), |error| error.source());
    let chain: Vec<_> = chain.map(ToString::to_string).collect();
    assert_eq!(chain.len(), 2, "{chain:?}");
    assert_eq!(chain[0], format!("read on link 1 to {} failed", server.address));
    assert!(!matches!(framed.get_ref().status(), Status::GaveUp));
}
