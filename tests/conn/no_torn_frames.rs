//! Promise 2: no torn frames. The bytes of one link are whole calls from the first byte on, and bytes that arrived
//! before a break are read before a read half reports it.

use std::io::IoSlice;

use crate::support::{
    Server, in_time, pipes, quick, reported_generation, reset, wait_for_break, wait_for_disconnect, wait_for_generation,
};
use perconn::{Conn, dial_fn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// More than the kernel buffers of both ends hold.
const MORE_THAN_FITS: usize = 64 << 20;

#[tokio::test]
#[cfg_attr(windows, ignore = "Windows takes a write whole, however long it is")]
async fn rest_of_a_failed_write_is_not_sent_on_the_next_link() {
    let server = Server::start().await;
    let (mut conn, peer) = server.pair().await;
    let mut big = vec![b'-'; MORE_THAN_FITS];
    big[0] = b'<';
    let mut write = tokio_test::task::spawn(conn.write_all(&big));
    assert!(write.poll().is_pending(), "the buffers take the whole call");
    reset(peer);
    let error = in_time("the waiting write", write).await.unwrap_err();
    assert_eq!(reported_generation(&error), 1);
    let mut peer = server.accept().await;
    in_time("write", conn.write_all(b"<new>")).await.unwrap();
    let mut start = [0; 5];
    in_time("peer", peer.read_exact(&mut start)).await.unwrap();
    assert_eq!(&start, b"<new>");
}

#[tokio::test]
#[cfg_attr(windows, ignore = "Windows takes a write whole, however long it is")]
async fn waiting_write_fails_even_if_the_read_reported_first() {
    let server = Server::start().await;
    let (conn, peer) = server.pair().await;
    let (mut read, mut write) = tokio::io::split(conn);
    let big = vec![b'-'; MORE_THAN_FITS];
    let mut writing = tokio_test::task::spawn(write.write_all(&big));
    assert!(writing.poll().is_pending());
    reset(peer);
    assert!(in_time("read", read.read(&mut [0; 8])).await.is_err());
    let mut peer = server.accept().await;
    assert_eq!(reported_generation(&in_time("the waiting write", writing).await.unwrap_err()), 1);
    in_time("write", write.write_all(b"<new>")).await.unwrap();
    let mut start = [0; 5];
    in_time("peer", peer.read_exact(&mut start)).await.unwrap();
    assert_eq!(&start, b"<new>");
}

#[tokio::test]
#[cfg_attr(windows, ignore = "Windows takes a write whole, however long it is")]
async fn rest_of_a_short_write_fails_on_the_next_link() {
    // The write is short, then a read reports the break, then the caller writes the rest.
    let server = Server::start().await;
    let (mut conn, peer) = server.pair().await;
    let big = vec![b'-'; MORE_THAN_FITS];
    let written = in_time("write", conn.write(&big)).await.unwrap();
    assert!(written < big.len());
    reset(peer);
    assert!(in_time("read", conn.read(&mut [0; 8])).await.is_err());
    let _peer = server.accept().await;
    wait_for_generation(&conn, 2).await;
    assert_eq!(reported_generation(&conn.write(&big[written..]).await.unwrap_err()), 1);
    in_time("the next write", conn.write_all(b"x")).await.unwrap();
}

#[tokio::test]
async fn bytes_before_a_close_are_read_before_the_end() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    peer.write_all(b"goodbye").await.unwrap();
    drop(peer);
    wait_for_break(&conn).await;
    let mut text = String::new();
    in_time("read", conn.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "goodbye");
}

#[tokio::test]
async fn read_half_reads_to_the_end_after_the_write_half_reported_the_break() {
    for orderly in [true, false] {
        let server = Server::start().await;
        let (conn, mut peer) = server.pair().await;
        let (mut read, mut write) = conn.into_split();
        let goodbye = vec![7; 10_000];
        peer.write_all(&goodbye).await.unwrap();
        if orderly {
            drop(peer);
        } else {
            // The loopback delivers the bytes within the sender's system call, so this reset cannot overtake them.
            reset(peer);
        }
        wait_for_disconnect(read.watch_status()).await;
        assert_eq!(reported_generation(&in_time("write", write.write_all(b"x")).await.unwrap_err()), 1);
        let mut peer = server.accept().await;
        in_time("write on the next link", write.write_all(b"x")).await.unwrap();
        peer.write_all(b"welcome").await.unwrap();

        let mut rest = Vec::new();
        let outcome = in_time("read", read.read_to_end(&mut rest)).await;
        assert_eq!(outcome.is_ok(), orderly, "a reset is not an end of file");
        assert_eq!(rest, goodbye);
        let mut welcome = [0; 7];
        in_time("read", read.read_exact(&mut welcome)).await.unwrap();
        assert_eq!(&welcome, b"welcome");
    }
}

#[tokio::test]
async fn read_half_reads_the_banner_of_a_link_that_broke_before_its_first_read() {
    let server = Server::start().await;
    let (conn, peer) = server.pair().await;
    let (mut read, _write) = conn.into_split();
    reset(peer);
    let mut second = server.accept().await;
    second.write_all(b"banner").await.unwrap();
    drop(second);
    // The third link is up: the second came and broke while the half read nothing.
    let _third = server.accept().await;
    let mut buf = [0; 16];
    assert_eq!(reported_generation(&in_time("read", read.read(&mut buf)).await.unwrap_err()), 1);
    let n = in_time("read", read.read(&mut buf)).await.unwrap();
    assert_eq!(&buf[..n], b"banner");
    assert_eq!(in_time("read", read.read(&mut buf)).await.unwrap(), 0);
}

#[tokio::test]
async fn read_half_that_has_never_read_gets_the_banner_of_its_first_link() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let (mut read, _write) = conn.into_split();
    peer.write_all(b"first").await.unwrap();
    drop(peer);
    let mut peer = server.accept().await;
    peer.write_all(b"second").await.unwrap();
    drop(peer);
    let _third = server.accept().await;
    for banner in ["first", "second"] {
        let mut text = String::new();
        in_time("read", read.read_to_string(&mut text)).await.unwrap();
        assert_eq!(text, banner);
    }
}

#[tokio::test]
async fn bytes_that_arrived_before_a_break_on_purpose_are_read_first() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let (mut read, _write) = conn.into_split();
    peer.write_all(b"data").await.unwrap();
    in_time("readable", async { while read.get_ref().unwrap().peek(&mut [0; 4]).await.unwrap() < 4 {} }).await;
    read.break_link(1);
    let mut buf = [0; 4];
    in_time("read", read.read_exact(&mut buf)).await.unwrap();
    assert_eq!(&buf, b"data");
    assert_eq!(reported_generation(&in_time("read", read.read(&mut buf)).await.unwrap_err()), 1);
}

#[tokio::test]
async fn vectored_writes_are_whole_calls_too() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    assert!(tokio::io::AsyncWrite::is_write_vectored(&conn));
    let parts = [IoSlice::new(b"one "), IoSlice::new(b"two "), IoSlice::new(b"three")];
    assert_eq!(in_time("write", conn.write_vectored(&parts)).await.unwrap(), 13);
    let mut text = [0; 13];
    in_time("peer", peer.read_exact(&mut text)).await.unwrap();
    assert_eq!(&text, b"one two three");
    reset(peer);
    wait_for_break(&conn).await;
    assert_eq!(reported_generation(&in_time("write", conn.write_vectored(&parts)).await.unwrap_err()), 1);
}

#[tokio::test]
async fn custom_streams_keep_whole_calls_too() {
    let (sender, mut peers) = tokio::sync::mpsc::unbounded_channel();
    let dialer = dial_fn(move || {
        let (near, far) = tokio::io::duplex(16);
        let sent = sender.send(far);
        std::future::ready(sent.map(|()| near).map_err(std::io::Error::other))
    });
    let conn = in_time("connect", quick(Conn::builder("memory").dialer(dialer)).connect()).await.unwrap();
    let mut peer = peers.recv().await.unwrap();
    let (mut read, mut write) = conn.into_split();
    peer.write_all(b"goodbye").await.unwrap();
    let mut writing = tokio_test::task::spawn(write.write_all(&[b'-'; 100]));
    assert!(writing.poll().is_pending());
    drop(peer);
    assert_eq!(reported_generation(&in_time("write", writing).await.unwrap_err()), 1);
    let mut peer = in_time("redial", peers.recv()).await.unwrap();
    in_time("write", write.write_all(b"<new>")).await.unwrap();
    let mut start = [0; 5];
    in_time("peer", peer.read_exact(&mut start)).await.unwrap();
    assert_eq!(&start, b"<new>");
    let mut goodbye = [0; 7];
    in_time("read", read.read_exact(&mut goodbye)).await.unwrap();
    assert_eq!(&goodbye, b"goodbye");
    assert!(in_time("read", read.read(&mut goodbye)).await.is_err());
    peer.write_all(b"welcome").await.unwrap();
    in_time("read", read.read_exact(&mut goodbye)).await.unwrap();
    assert_eq!(&goodbye, b"welcome");
}

/// Between a part of a message and its rest, a flush succeeds and a read reports the break.
#[tokio::test]
async fn flush_between_the_parts_of_a_message_does_not_release_the_rest_from_its_link() {
    let (mut conn, mut peers) = pipes().await;
    let mut peer = peers.recv().await.unwrap();
    let message = [7; 100];
    let n = in_time("write", conn.write(&message)).await.unwrap();
    assert!(n < message.len(), "the pipe takes the whole message");
    in_time("flush", conn.flush()).await.unwrap();
    conn.break_link(1);
    assert_eq!(reported_generation(&in_time("read", conn.read_u8()).await.unwrap_err()), 1);
    // The rest, written by a caller that has not seen that report.
    assert_eq!(reported_generation(&in_time("write", conn.write(&message[n..])).await.unwrap_err()), 1);
    in_time("write", conn.write_all(b"<new>")).await.unwrap();
    let mut received = vec![0; n];
    in_time("peer", peer.read_exact(&mut received)).await.unwrap();
    let mut peer = in_time("redial", peers.recv()).await.unwrap();
    let mut start = [0; 5];
    in_time("peer", peer.read_exact(&mut start)).await.unwrap();
    assert_eq!(&start, b"<new>");
}
