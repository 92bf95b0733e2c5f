//! Reads and writes of every size.

use std::mem::MaybeUninit;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};

use super::comparison::compare;

/// Bytes in which neighbouring regions differ.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

#[tokio::test]
async fn echo_of_every_size_comes_back() {
    for size in [1, 2, 63, 64, 1_000, 4_095, 4_096, 65_536, 65_537, 1 << 20, 3 << 20] {
        let sent = pattern(size);
        let log = compare(async |stream, mut peer, log| {
            let echo = tokio::spawn(async move {
                let (mut read, mut write) = peer.split();
                tokio::io::copy(&mut read, &mut write).await
            });
            let mut received = Vec::new();
            for round in 0..2 {
                // Both windows may be full, so write and read at the same time.
                let (mut read, mut write) = tokio::io::split(&mut *stream);
                let mut back = vec![0; size];
                let (written, read) = tokio::join!(write.write_all(&sent), read.read_exact(&mut back));
                log.outcome("write_all", written);
                log.outcome("read_exact", read);
                log.note("the same bytes", back == sent);
                log.note("round", round);
                received.extend(back);
            }
            log.outcome("shutdown", stream.shutdown().await);
            log.outcome("the rest", stream.read_to_end(&mut received).await);
            log.note("echoed", echo.await.unwrap().unwrap());
        })
        .await;
        let lines = log.lines();
        assert_eq!(lines.iter().filter(|line| **line == "the same bytes: true").count(), 2, "{size}: {lines:?}");
        assert_eq!(lines[lines.len() - 2..], ["the rest: Ok(0)".to_owned(), format!("echoed: {}", 2 * size)]);
    }
}

#[tokio::test]
async fn read_returns_what_has_arrived_and_leaves_the_rest_in_order() {
    let log = compare(async |stream, mut peer, log| {
        peer.write_all(b"one message, read in parts").await.unwrap();
        for room in [3, 1, 8, 5] {
            let mut buf = vec![0; room];
            log.outcome("read", stream.read(&mut buf).await);
            log.note("bytes", String::from_utf8(buf).unwrap());
        }
        let mut large = [0; 100];
        log.outcome("read with room to spare", stream.read(&mut large).await);
        peer.write_all(b"?").await.unwrap();
        log.outcome("read", stream.read(&mut large).await);
    })
    .await;
    assert_eq!(log.lines()[8..], ["read with room to spare: Ok(9)", "read: Ok(1)"]);
}

#[tokio::test]
async fn read_fills_uninitialised_memory_and_keeps_earlier_bytes() {
    let log = compare(async |stream, mut peer, log| {
        peer.write_all(b"abcdefgh").await.unwrap();
        let mut memory = [MaybeUninit::uninit(); 8];
        let mut buf = ReadBuf::uninit(&mut memory);
        buf.put_slice(b"xy");
        let outcome = std::future::poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut buf)).await;
        log.outcome("poll_read", outcome);
        log.note("filled", buf.filled());
        log.note("room left", buf.remaining());

        let mut vec = Vec::with_capacity(16);
        vec.extend(b"xy");
        log.outcome("read_buf", stream.read_buf(&mut vec).await);
        log.note("filled", &vec);
        peer.write_all(b"i").await.unwrap();
        log.outcome("read_buf", stream.read_buf(&mut vec).await);
        log.note("filled", &vec);

        // A limit on the buffer limits the read.
        peer.write_all(b"jkl").await.unwrap();
        let mut limited = Vec::with_capacity(16);
        log.outcome("read_buf with a limit", (&mut *stream).take(2).read_buf(&mut limited).await);
        log.note("filled", &limited);
    })
    .await;
    let filled = |bytes: &[u8]| format!("filled: {bytes:?}");
    let lines = log.lines();
    assert_eq!(lines[1], filled(b"xyabcdef"));
    assert_eq!(lines[3..5], ["read_buf: Ok(2)".to_owned(), filled(b"xygh")]);
    assert_eq!(lines[7..], ["read_buf with a limit: Ok(2)".to_owned(), filled(b"jk")]);
}

#[tokio::test]
#[cfg_attr(windows, ignore = "the errors of a TcpStream that has ended are others on Windows")]
async fn empty_write_is_ready_and_sends_nothing() {
    let log = compare(async |stream, mut peer, log| {
        log.outcome("write", stream.write(b"").await);
        log.outcome("write_all", stream.write_all(b"").await);
        log.outcome("flush", stream.flush().await);
        log.outcome("write", stream.write(b"x").await);
        let mut buf = [0; 4];
        log.outcome("the peer's read", peer.read(&mut buf).await);
        log.outcome("shutdown", stream.shutdown().await);
        log.outcome("write after the shutdown", stream.write(b"").await);
    })
    .await;
    assert_eq!(log.lines()[0], "write: Ok(0)");
    assert_eq!(
        log.lines()[4..],
        ["the peer's read: Ok(1)", "shutdown: Ok(())", "write after the shutdown: Err(BrokenPipe)"]
    );
}

#[tokio::test]
async fn empty_read_is_ready_when_bytes_have_arrived() {
    let log = compare(async |stream, mut peer, log| {
        peer.write_all(b"x").await.unwrap();
        log.outcome("read", stream.read(&mut []).await);
        log.outcome("read", stream.read(&mut []).await);
        log.outcome("nothing was lost", stream.read_u8().await);
    })
    .await;
    assert_eq!(log.lines(), ["read: Ok(0)", "read: Ok(0)", "nothing was lost: Ok(120)"]);
}

#[tokio::test]
async fn flush_is_always_ready() {
    let log = compare(async |stream, mut peer, log| {
        log.outcome("flush", stream.flush().await);
        log.outcome("write", stream.write_all(b"abc").await);
        log.outcome("flush", stream.flush().await);
        log.outcome("the peer's read", peer.read_exact(&mut [0; 3]).await);
        log.outcome("shutdown", stream.shutdown().await);
        log.outcome("flush", stream.flush().await);
    })
    .await;
    assert_eq!(log.lines().iter().filter(|line| **line == "flush: Ok(())").count(), 3);
}
