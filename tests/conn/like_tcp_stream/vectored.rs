//! Vectored writes.

use std::io::IoSlice;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::bytes::pattern;
use super::comparison::compare;
use crate::support::{Server, quick, refused_address, wait_for_break};

#[tokio::test]
#[cfg_attr(windows, ignore = "the errors of a TcpStream that has ended are others on Windows")]
async fn vectored_write_sends_its_parts_in_order_and_skips_the_empty_ones() {
    let log = compare(async |stream, mut peer, log| {
        log.note("is_write_vectored", stream.is_write_vectored());
        let parts = [b"".as_slice(), b"one ", b"", b"", b"two ", b"three", b""].map(IoSlice::new);
        log.outcome("several parts", stream.write_vectored(&parts).await);
        let parts = [IoSlice::new(b", four")];
        log.outcome("one part", stream.write_vectored(&parts).await);
        log.outcome("no part", stream.write_vectored(&[]).await);
        log.outcome("empty parts only", stream.write_vectored(&[IoSlice::new(b""), IoSlice::new(b"")]).await);
        log.outcome("shutdown", stream.shutdown().await);
        log.outcome("parts after the shutdown", stream.write_vectored(&parts).await);
        let mut text = String::new();
        peer.read_to_string(&mut text).await.unwrap();
        log.note("received", text);
    })
    .await;
    assert_eq!(
        log.lines(),
        [
            "is_write_vectored: true",
            "several parts: Ok(13)",
            "one part: Ok(6)",
            "no part: Ok(0)",
            "empty parts only: Ok(0)",
            "shutdown: Ok(())",
            "parts after the shutdown: Err(BrokenPipe)",
            "received: \"one two three, four\"",
        ]
    );
}

/// One system call takes 1,024 parts on Linux.
#[tokio::test]
async fn more_parts_than_one_call_takes_are_written_by_several() {
    let sent = pattern(5_000);
    let log = compare(async |stream, mut peer, log| {
        let mut parts: Vec<_> = sent.chunks(2).map(IoSlice::new).collect();
        let mut rest = &mut parts[..];
        while !rest.is_empty() {
            let n = stream.write_vectored(rest).await.unwrap();
            log.note("bytes written at once", n);
            IoSlice::advance_slices(&mut rest, n);
        }
        let mut received = vec![0; sent.len()];
        log.outcome("received", peer.read_exact(&mut received).await);
        log.note("the same bytes", received == sent);
    })
    .await;
    assert_eq!(log.lines().last(), Some(&"the same bytes: true"));
    #[cfg(target_os = "linux")]
    assert_eq!(log.lines()[..2], ["bytes written at once: 2048", "bytes written at once: 2048"]);
}

#[tokio::test]
async fn write_buf_and_write_all_buf_advance_their_buffer() {
    let log = compare(async |stream, mut peer, log| {
        let mut header = std::io::Cursor::new(b"header ".to_vec());
        log.outcome("write_buf", stream.write_buf(&mut header).await);
        log.note("position", header.position());
        let mut whole = std::io::Cursor::new(pattern(300_000));
        let (written, read) = tokio::join!(stream.write_all_buf(&mut whole), async {
            let mut received = vec![0; 300_007];
            peer.read_exact(&mut received)
                .await
                .map(|_| received[..7] == *b"header " && received[7..] == pattern(300_000))
        });
        log.outcome("write_all_buf", written);
        log.outcome("the same bytes", read);
    })
    .await;
    assert_eq!(log.lines(), ["write_buf: Ok(7)", "position: 7", "write_all_buf: Ok(())", "the same bytes: Ok(true)"]);
}

/// A layer above may ask only once, so the answer must hold for every later link.
#[tokio::test]
async fn connection_without_a_link_reports_vectored_writes() {
    let conn = quick(perconn::Conn::builder(refused_address().await)).build().unwrap();
    assert!(conn.is_write_vectored());
    let server = Server::start().await;
    let (conn, peer) = server.pair().await;
    drop(peer);
    wait_for_break(&conn).await;
    assert!(conn.is_write_vectored());
}
