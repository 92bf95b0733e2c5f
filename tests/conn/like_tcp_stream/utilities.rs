//! Tokio's utilities over any reader and writer.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, BufStream};

use super::bytes::pattern;
use super::comparison::compare;

#[tokio::test]
async fn copy_reads_to_the_end_of_the_stream() {
    let log = compare(async |stream, mut peer, log| {
        let sent = pattern(300_000);
        let mut received = Vec::new();
        let (_, copied) = tokio::join!(
            async {
                peer.write_all(&sent).await.unwrap();
                peer.shutdown().await.unwrap();
            },
            tokio::io::copy(stream, &mut received)
        );
        log.outcome("copy", copied);
        log.note("the same bytes", received == sent);
    })
    .await;
    assert_eq!(log.lines(), ["copy: Ok(300000)", "the same bytes: true"]);
}

#[tokio::test]
async fn copy_writes_everything() {
    let log = compare(async |stream, mut peer, log| {
        let sent = pattern(300_000);
        let mut received = Vec::new();
        let (_, read) = tokio::join!(
            async {
                log.outcome("copy", tokio::io::copy(&mut &sent[..150_000], stream).await);
                log.outcome("copy_buf", tokio::io::copy_buf(&mut &sent[150_000..], stream).await);
                log.outcome("shutdown", stream.shutdown().await);
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
    let log = compare(async |stream, mut peer, log| {
        peer.write_all(&pattern(20_000)).await.unwrap();
        drop(peer);
        let mut received = Vec::new();
        log.outcome("copy_buf", tokio::io::copy_buf(&mut BufReader::new(stream), &mut received).await);
        log.note("the same bytes", received == pattern(20_000));
    })
    .await;
    assert_eq!(log.lines(), ["copy_buf: Ok(20000)", "the same bytes: true"]);
}

/// Within one link, whose local side ends first. `differences` shows what happens across a break.
#[tokio::test]
async fn copy_bidirectional_copies_both_ways_within_one_link() {
    let log = compare(async |stream, mut peer, log| {
        let (mut inner, mut outer) = tokio::io::duplex(64);
        let tunnel = tokio::io::copy_bidirectional(&mut outer, stream);
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
    let log = compare(async |stream, mut peer, log| {
        let mut stream = BufStream::new(stream);
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
    let log = compare(async |stream, mut peer, log| {
        stream.write_u8(1).await.unwrap();
        stream.write_u16(2).await.unwrap();
        stream.write_i32_le(-3).await.unwrap();
        stream.write_u128(4).await.unwrap();
        stream.write_f64(0.5).await.unwrap();
        let mut bytes = [0; 31];
        log.outcome("the peer's read", peer.read_exact(&mut bytes).await);
        peer.write_all(&bytes).await.unwrap();
        log.outcome("u8", stream.read_u8().await);
        log.outcome("u16", stream.read_u16().await);
        log.outcome("i32", stream.read_i32_le().await);
        log.outcome("u128", stream.read_u128().await);
        log.outcome("f64", stream.read_f64().await);
    })
    .await;
    assert_eq!(
        log.lines(),
        ["the peer's read: Ok(31)", "u8: Ok(1)", "u16: Ok(2)", "i32: Ok(-3)", "u128: Ok(4)", "f64: Ok(0.5)"]
    );
}
