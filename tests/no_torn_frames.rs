//! Promise 2: the bytes of one link are whole calls from the first byte on, and what arrived before a break is read
//! before the break is told.

mod support;

use std::io::IoSlice;

use perconn::{Conn, dial_fn};
use support::{Server, break_noticed, generation_up, quick, reset, soon, told_generation};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// More than the kernel's buffers of both ends take.
const MORE_THAN_FITS: usize = 64 << 20;

#[tokio::test]
async fn rest_of_a_failed_write_is_not_sent_on_the_next_link() {
    let server = Server::start().await;
    let (mut conn, peer) = server.pair().await;
    let mut big = vec![b'-'; MORE_THAN_FITS];
    big[0] = b'<';
    let mut write = tokio_test::task::spawn(conn.write_all(&big));
    assert!(write.poll().is_pending(), "the buffers are full, a part of the call is written");
    reset(peer);
    let error = soon("the write that waits", write).await.unwrap_err();
    assert_eq!(told_generation(&error), 1);
    let mut peer = server.accept().await;
    soon("write", conn.write_all(b"<new>")).await.unwrap();
    let mut start = [0; 5];
    soon("peer", peer.read_exact(&mut start)).await.unwrap();
    assert_eq!(&start, b"<new>");
}

#[tokio::test]
async fn write_that_waits_fails_even_if_the_read_was_told_first() {
    let server = Server::start().await;
    let (conn, peer) = server.pair().await;
    let (mut read, mut write) = tokio::io::split(conn);
    let big = vec![b'-'; MORE_THAN_FITS];
    let mut writing = tokio_test::task::spawn(write.write_all(&big));
    assert!(writing.poll().is_pending());
    reset(peer);
    assert!(soon("read", read.read(&mut [0; 8])).await.is_err());
    let mut peer = server.accept().await;
    assert_eq!(told_generation(&soon("the write that waits", writing).await.unwrap_err()), 1);
    soon("write", write.write_all(b"<new>")).await.unwrap();
    let mut start = [0; 5];
    soon("peer", peer.read_exact(&mut start)).await.unwrap();
    assert_eq!(&start, b"<new>");
}

#[tokio::test]
async fn short_write_ties_the_rest_to_its_link() {
    // Polled by hand: the write is short, the read is told of the break, the caller comes with the rest.
    let server = Server::start().await;
    let (mut conn, peer) = server.pair().await;
    let big = vec![b'-'; MORE_THAN_FITS];
    let written = soon("write", conn.write(&big)).await.unwrap();
    assert!(written < big.len());
    reset(peer);
    assert!(soon("read", conn.read(&mut [0; 8])).await.is_err());
    let _peer = server.accept().await;
    generation_up(&conn, 2).await;
    assert_eq!(told_generation(&conn.write(&big[written..]).await.unwrap_err()), 1);
    soon("the next write", conn.write_all(b"x")).await.unwrap();
}

#[tokio::test]
async fn bytes_before_a_close_are_read_before_it_is_told() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    peer.write_all(b"goodbye").await.unwrap();
    drop(peer);
    break_noticed(&conn).await;
    let mut text = String::new();
    soon("read", conn.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "goodbye");
}

#[tokio::test]
async fn read_half_reads_to_the_end_after_the_write_half_was_told() {
    for orderly in [true, false] {
        let server = Server::start().await;
        let (conn, mut peer) = server.pair().await;
        let (mut read, mut write) = conn.into_split();
        let goodbye = vec![7; 10_000];
        peer.write_all(&goodbye).await.unwrap();
        if orderly {
            drop(peer);
        } else {
            // Loopback has delivered the bytes within the sender's system call; a reset would overtake them otherwise.
            reset(peer);
        }
        let mut status = read.watch_status();
        soon("break", status.wait_for(|status| !status.is_connected())).await.unwrap();
        assert_eq!(told_generation(&soon("write", write.write_all(b"x")).await.unwrap_err()), 1);
        let mut peer = server.accept().await;
        soon("write on the next link", write.write_all(b"x")).await.unwrap();
        peer.write_all(b"welcome").await.unwrap();

        let mut rest = Vec::new();
        let outcome = soon("read", read.read_to_end(&mut rest)).await;
        assert_eq!(outcome.is_ok(), orderly, "a reset is not an end of file");
        assert_eq!(rest, goodbye);
        let mut welcome = [0; 7];
        soon("read", read.read_exact(&mut welcome)).await.unwrap();
        assert_eq!(&welcome, b"welcome");
    }
}

#[tokio::test]
async fn read_half_gets_a_banner_of_a_link_that_died_before_it_looked() {
    let server = Server::start().await;
    let (conn, peer) = server.pair().await;
    let (mut read, _write) = conn.into_split();
    reset(peer);
    let mut second = server.accept().await;
    second.write_all(b"banner").await.unwrap();
    drop(second);
    // The third link is up: the second has come and gone while the half slept.
    let _third = server.accept().await;
    let mut buf = [0; 16];
    assert_eq!(told_generation(&soon("read", read.read(&mut buf)).await.unwrap_err()), 1);
    let n = soon("read", read.read(&mut buf)).await.unwrap();
    assert_eq!(&buf[..n], b"banner");
    assert_eq!(soon("read", read.read(&mut buf)).await.unwrap(), 0);
}

#[tokio::test]
async fn read_half_that_has_never_looked_gets_the_banner_of_its_first_link() {
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
        soon("read", read.read_to_string(&mut text)).await.unwrap();
        assert_eq!(text, banner);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn idle_handle_keeps_one_broken_link_at_most() {
    const CLIENTS: usize = 60;
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let server = Server::start().await;
    let mut pairs = Vec::new();
    for _ in 0..CLIENTS {
        pairs.push(server.pair().await);
    }
    let before = descriptors();
    for generation in 2..=4 {
        let mut next = Vec::new();
        for (conn, peer) in pairs {
            reset(peer);
            let peer = server.accept().await;
            generation_up(&conn, generation).await;
            next.push((conn, peer));
        }
        pairs = next;
    }
    // Besides its live link, each has the one that it was told nothing of yet; other tests here take a few.
    let after = descriptors();
    assert!(after <= before + CLIENTS + CLIENTS / 2, "{before} descriptors, then {after}");
}

#[tokio::test]
async fn what_arrived_before_a_forced_reconnect_is_read_first() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let (mut read, _write) = conn.into_split();
    peer.write_all(b"news").await.unwrap();
    soon("readable", async { while read.get_ref().unwrap().peek(&mut [0; 4]).await.unwrap() < 4 {} }).await;
    read.reconnect();
    let mut buf = [0; 4];
    soon("read", read.read_exact(&mut buf)).await.unwrap();
    assert_eq!(&buf, b"news");
    assert_eq!(told_generation(&soon("read", read.read(&mut buf)).await.unwrap_err()), 1);
}

#[tokio::test]
async fn vectored_writes_are_whole_calls_too() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    assert!(tokio::io::AsyncWrite::is_write_vectored(&conn));
    let parts = [IoSlice::new(b"one "), IoSlice::new(b"two "), IoSlice::new(b"three")];
    assert_eq!(soon("write", conn.write_vectored(&parts)).await.unwrap(), 13);
    let mut text = [0; 13];
    soon("peer", peer.read_exact(&mut text)).await.unwrap();
    assert_eq!(&text, b"one two three");
    reset(peer);
    break_noticed(&conn).await;
    assert_eq!(told_generation(&soon("write", conn.write_vectored(&parts)).await.unwrap_err()), 1);
}

#[tokio::test]
async fn other_streams_keep_the_promise_as_well() {
    let (sender, mut peers) = tokio::sync::mpsc::unbounded_channel();
    let dialer = dial_fn(move || {
        let (near, far) = tokio::io::duplex(16);
        let sent = sender.send(far);
        std::future::ready(sent.map(|()| near).map_err(std::io::Error::other))
    });
    let conn = soon("connect", quick(Conn::builder("memory").dialer(dialer)).connect()).await.unwrap();
    let mut peer = peers.recv().await.unwrap();
    let (mut read, mut write) = conn.into_split();
    peer.write_all(b"goodbye").await.unwrap();
    let mut writing = tokio_test::task::spawn(write.write_all(&[b'-'; 100]));
    assert!(writing.poll().is_pending());
    drop(peer);
    assert_eq!(told_generation(&soon("write", writing).await.unwrap_err()), 1);
    let mut peer = soon("redial", peers.recv()).await.unwrap();
    soon("write", write.write_all(b"<new>")).await.unwrap();
    let mut start = [0; 5];
    soon("peer", peer.read_exact(&mut start)).await.unwrap();
    assert_eq!(&start, b"<new>");
    let mut goodbye = [0; 7];
    soon("read", read.read_exact(&mut goodbye)).await.unwrap();
    assert_eq!(&goodbye, b"goodbye");
    assert!(soon("read", read.read(&mut goodbye)).await.is_err());
    peer.write_all(b"welcome").await.unwrap();
    soon("read", read.read_exact(&mut goodbye)).await.unwrap();
    assert_eq!(&goodbye, b"welcome");
}

/// Between a part of a message and its rest, a flush succeeds and a read is told of the break.
#[tokio::test]
async fn flush_between_the_parts_of_a_message_does_not_let_the_rest_go_astray() {
    let (mut conn, mut peers) = support::pipes().await;
    let mut peer = peers.recv().await.unwrap();
    let message = [7; 100];
    let n = soon("write", conn.write(&message)).await.unwrap();
    assert!(n < message.len(), "the pipe takes a part");
    soon("flush", conn.flush()).await.unwrap();
    conn.reconnect();
    assert_eq!(told_generation(&soon("read", conn.read_u8()).await.unwrap_err()), 1);
    // The rest, on behalf of somebody who did not hear of it.
    assert_eq!(told_generation(&soon("write", conn.write(&message[n..])).await.unwrap_err()), 1);
    soon("write", conn.write_all(b"<new>")).await.unwrap();
    let mut received = vec![0; n];
    soon("peer", peer.read_exact(&mut received)).await.unwrap();
    let mut peer = soon("redial", peers.recv()).await.unwrap();
    let mut start = [0; 5];
    soon("peer", peer.read_exact(&mut start)).await.unwrap();
    assert_eq!(&start, b"<new>");
}
