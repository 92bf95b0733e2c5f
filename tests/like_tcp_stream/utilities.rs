//! Tokio's own functions over any reader and writer.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, BufStream};

use crate::bytes::pattern;
use crate::side::alike;

#[tokio::test]
async fn copy_reads_to_the_end_of_the_stream() {
    let log = alike(async |side, mut peer, log| {
        let sent = pattern(300_000);
        let mut received = Vec::new();
        let (_, copied) = tokio::join!(
            async {
                peer.write_all(&sent).await.unwrap();
                peer.shutdown().await.unwrap();
            },
            tokio::io::copy(side, &mut received)
        );
        log.outcome("copy", copied);
        log.note("the same bytes", received == sent);
    })
    .await;
    assert_eq!(log.lines(), ["copy: Ok(300000)", "the same bytes: true"]);
}

#[tokio::test]
async fn copy_writes_everything() {
    let log = alike(async |side, mut peer, log| {
        let sent = pattern(300_000);
        let mut received = Vec::new();
        let (_, read) = tokio::join!(
            async {
                log.outcome("copy", tokio::io::copy(&mut &sent[..150_000], side).await);
                log.outcome("copy_buf", tokio::io::copy_buf(&mut &sent[150_000..], side).await);
                log.outcome("shutdown", side.shutdown().await);
            },
            peer.read_to_end(&mut received)
        );
        log.outcome("the peer's read", read);
        log.note("the same bytes", received == sent);
    })
    .await;
    assert_eq!(
        log.lines(),
        [
            "copy: Ok(150000)",
            "copy_buf: Ok(150000)",
            "shutdown: Ok(())",
            "the peer's read: Ok(300000)",
            "the same bytes: true"
        ]
    );
}

#[tokio::test]
async fn copy_buf_reads_through_a_buffer_to_the_end() {
    let log = alike(async |side, mut peer, log| {
        peer.write_all(&pattern(20_000)).await.unwrap();
        drop(peer);
        let mut received = Vec::new();
        log.outcome("copy_buf", tokio::io::copy_buf(&mut BufReader::new(side), &mut received).await);
        log.note("the same bytes", received == pattern(20_000));
    })
    .await;
    assert_eq!(log.lines(), ["copy_buf: Ok(20000)", "the same bytes: true"]);
}

/// One link, and this program's side ends first. (Across a break, see `differences`.)
#[tokio::test]
async fn copy_bidirectional_carries_both_ways_while_the_link_lasts() {
    let log = alike(async |side, mut peer, log| {
        let (mut inner, mut outer) = tokio::io::duplex(64);
        let tunnel = tokio::io::copy_bidirectional(&mut outer, side);
        let ends = async {
            inner.write_all(b"request").await.unwrap();
            inner.shutdown().await.unwrap();
            let mut request = String::new();
            peer.read_to_string(&mut request).await.unwrap();
            peer.write_all(b"a longer response").await.unwrap();
            peer.shutdown().await.unwrap();
            let mut response = String::new();
            inner.read_to_string(&mut response).await.unwrap();
            (request, response)
        };
        let (tunnel, ends) = tokio::join!(tunnel, ends);
        log.outcome("copied", tunnel);
        log.note("ends", ends);
    })
    .await;
    assert_eq!(log.lines(), ["copied: Ok((7, 17))", "ends: (\"request\", \"a longer response\")"]);
}

#[tokio::test]
async fn lines_and_buffers_work_within_a_link() {
    let log = alike(async |side, mut peer, log| {
        let mut stream = BufStream::new(side);
        stream.write_all(b"one\n").await.unwrap();
        stream.write_all(b"two\n").await.unwrap();
        log.outcome("flush", stream.flush().await);
        let mut received = [0; 8];
        peer.read_exact(&mut received).await.unwrap();
        peer.write_all(&received).await.unwrap();
        peer.write_all(b"three without an end").await.unwrap();
        peer.shutdown().await.unwrap();
        let mut lines = stream.lines();
        for _ in 0..3 {
            log.outcome("line", lines.next_line().await);
        }
    })
    .await;
    assert_eq!(
        log.lines(),
        [
            "flush: Ok(())",
            "line: Ok(Some(\"one\"))",
            "line: Ok(Some(\"two\"))",
            "line: Ok(Some(\"three without an end\"))"
        ]
    );
}

#[tokio::test]
async fn numbers_are_written_and_read() {
    let log = alike(async |side, mut peer, log| {
        side.write_u8(1).await.unwrap();
        side.write_u16(2).await.unwrap();
        side.write_i32_le(-3).await.unwrap();
        side.write_u128(4).await.unwrap();
        side.write_f64(0.5).await.unwrap();
        let mut bytes = [0; 31];
        log.outcome("the peer's read", peer.read_exact(&mut bytes).await);
        peer.write_all(&bytes).await.unwrap();
        log.outcome("u8", side.read_u8().await);
        log.outcome("u16", side.read_u16().await);
        log.outcome("i32", side.read_i32_le().await);
        log.outcome("u128", side.read_u128().await);
        log.outcome("f64", side.read_f64().await);
    })
    .await;
    assert_eq!(
        log.lines(),
        ["the peer's read: Ok(31)", "u8: Ok(1)", "u16: Ok(2)", "i32: Ok(-3)", "u128: Ok(4)", "f64: Ok(0.5)"]
    );
}
