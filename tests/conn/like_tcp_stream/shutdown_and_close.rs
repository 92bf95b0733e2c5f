//! The end of a connection: shutdown, half-close, close and reset.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::comparison::{Endpoint, compare, yield_times};
use crate::support::{Server, in_time, reset};

#[tokio::test]
#[cfg_attr(windows, ignore = "the errors of a TcpStream that has ended are others on Windows")]
async fn shutdown_may_be_repeated_and_ends_writing_only() {
    let log = compare(async |stream, mut peer, log| {
        log.outcome("write", stream.write_all(b"last").await);
        for _ in 0..3 {
            log.outcome("shutdown", stream.shutdown().await);
        }
        log.outcome("write", stream.write(b"x").await);
        log.outcome("write_all", stream.write_all(b"x").await);
        log.outcome("flush", stream.flush().await);
        let mut text = String::new();
        log.outcome("the peer's read", peer.read_to_string(&mut text).await);
        log.note("received", text);
        peer.write_all(b"response").await.unwrap();
        log.outcome("read", stream.read_exact(&mut [0; 8]).await);
        log.outcome("the peer's shutdown", peer.shutdown().await);
        log.outcome("read", stream.read(&mut [0; 8]).await);
        log.outcome("shutdown", stream.shutdown().await);
    })
    .await;
    assert_eq!(
        log.lines(),
        [
            "write: Ok(())",
            "shutdown: Ok(())",
            "shutdown: Ok(())",
            "shutdown: Ok(())",
            "write: Err(BrokenPipe)",
            "write_all: Err(BrokenPipe)",
            "flush: Ok(())",
            "the peer's read: Ok(4)",
            "received: \"last\"",
            "read: Ok(8)",
            "the peer's shutdown: Ok(())",
            "read: Ok(0)",
            "shutdown: Ok(())",
        ]
    );
}

/// The peer copies what it receives until the end of the stream, and then shuts down.
#[tokio::test]
async fn local_shutdown_is_answered_by_the_peers_shutdown() {
    let log = compare(async |stream, mut peer, log| {
        let answer = tokio::spawn(async move {
            let (mut read, mut write) = peer.split();
            let copied = tokio::io::copy(&mut read, &mut write).await.unwrap();
            peer.shutdown().await.map(|()| copied)
        });
        log.outcome("shutdown", stream.shutdown().await);
        log.outcome("read", stream.read(&mut [0; 1]).await);
        log.outcome("the peer", answer.await.unwrap());
    })
    .await;
    assert_eq!(log.lines(), ["shutdown: Ok(())", "read: Ok(0)", "the peer: Ok(0)"]);
}

#[tokio::test]
async fn shutdown_delivers_everything_that_was_written_before_it() {
    let log = compare(async |stream, mut peer, log| {
        let sent = super::bytes::pattern(2 << 20);
        let mut received = Vec::new();
        let (written, read) = tokio::join!(
            async {
                stream.write_all(&sent).await?;
                stream.shutdown().await
            },
            peer.read_to_end(&mut received)
        );
        log.outcome("written", written);
        log.outcome("received", read);
        log.note("the same bytes", received == sent);
    })
    .await;
    assert_eq!(log.lines(), ["written: Ok(())", "received: Ok(2097152)", "the same bytes: true"]);
}

#[tokio::test]
#[cfg_attr(windows, ignore = "Windows takes a write whole, however long it is")]
async fn shutdown_behind_a_full_send_buffer_does_not_wait() {
    let log = compare(async |stream, mut peer, log| {
        let large = vec![7; 32 << 20];
        let mut write = tokio_test::task::spawn(tokio::task::unconstrained(stream.write_all(&large)));
        log.note("the buffer is full", write.poll().is_pending());
        drop(write);
        let mut shutdown = tokio_test::task::spawn(stream.shutdown());
        log.note("shutdown", shutdown.poll().map_err(|error| error.kind()));
        drop(shutdown);
        log.outcome("write", stream.write(b"x").await);
        let mut received = Vec::new();
        log.note("the peer reads to the end", peer.read_to_end(&mut received).await.is_ok());
        log.note("only written bytes arrive", received.iter().all(|byte| *byte == 7) && !received.is_empty());
    })
    .await;
    assert_eq!(
        log.lines(),
        [
            "the buffer is full: true",
            "shutdown: Ready(Ok(()))",
            "write: Err(BrokenPipe)",
            "the peer reads to the end: true",
            "only written bytes arrive: true"
        ]
    );
}

/// An out-of-band byte is neither data nor the end of the stream.
#[tokio::test]
async fn urgent_data_is_not_a_break() {
    let log = compare(async |stream, mut peer, log| {
        peer.write_all(b"before").await.unwrap();
        socket2::SockRef::from(&peer).send_out_of_band(b"!").unwrap();
        yield_times(20).await;
        peer.write_all(b"after").await.unwrap();
        log.outcome("write", stream.write_all(b"still here").await);
        let mut text = [0; 11];
        log.outcome("read", stream.read_exact(&mut text).await);
        log.note("bytes", String::from_utf8_lossy(&text));
        log.outcome("the peer's read", peer.read_exact(&mut [0; 10]).await);
        socket2::SockRef::from(&peer).send_out_of_band(b"!").unwrap();
        yield_times(20).await;
        log.outcome("write", stream.write_all(b"still here").await);
    })
    .await;
    assert_eq!(
        log.lines(),
        ["write: Ok(())", "read: Ok(11)", "bytes: \"beforeafter\"", "the peer's read: Ok(10)", "write: Ok(())"]
    );
}

#[tokio::test]
async fn bytes_before_the_peers_close_are_read_before_the_end() {
    let log = compare(async |stream, mut peer, log| {
        peer.write_all(b"banner").await.unwrap();
        drop(peer);
        yield_times(20).await;
        log.outcome("read", stream.read(&mut [0; 4]).await);
        log.outcome("read", stream.read(&mut [0; 4]).await);
        log.outcome("read", stream.read(&mut [0; 4]).await);
    })
    .await;
    assert_eq!(log.lines(), ["read: Ok(4)", "read: Ok(2)", "read: Ok(0)"]);
}

#[tokio::test]
async fn reads_of_more_than_arrived_end_at_the_end_of_stream() {
    let log = compare(async |stream, mut peer, log| {
        peer.write_all(b"abc").await.unwrap();
        drop(peer);
        log.outcome("read_exact", stream.read_exact(&mut [0; 4]).await);
    })
    .await;
    assert_eq!(log.lines(), ["read_exact: Err(UnexpectedEof)"]);
    let log = compare(async |stream, mut peer, log| {
        peer.write_all(b"abc").await.unwrap();
        drop(peer);
        let mut all = Vec::new();
        log.outcome("read_to_end", stream.read_to_end(&mut all).await);
        log.note("bytes", &all);
    })
    .await;
    assert_eq!(log.lines()[0], "read_to_end: Ok(3)");
}

/// After the peer's shutdown, a read waits for nothing more.
#[tokio::test]
async fn end_of_the_peers_writing_is_the_end_of_the_stream() {
    let log = compare(async |stream, mut peer, log| {
        peer.write_all(b"all of it").await.unwrap();
        log.outcome("the peer's shutdown", peer.shutdown().await);
        let mut text = String::new();
        log.outcome("read_to_string", stream.read_to_string(&mut text).await);
        log.note("text", text);
        log.outcome("shutdown", stream.shutdown().await);
    })
    .await;
    assert_eq!(
        log.lines(),
        ["the peer's shutdown: Ok(())", "read_to_string: Ok(9)", "text: \"all of it\"", "shutdown: Ok(())"]
    );
}

#[tokio::test]
async fn read_reports_a_reset_by_its_kind() {
    let log = compare(async |stream, peer, log| {
        reset(peer);
        log.outcome("read", stream.read(&mut [0; 4]).await);
    })
    .await;
    assert_eq!(log.lines(), ["read: Err(ConnectionReset)"]);
}

#[tokio::test]
async fn read_reports_a_reset_after_the_bytes_before_it() {
    let log = compare(async |stream, mut peer, log| {
        peer.write_all(b"abc").await.unwrap();
        yield_times(20).await;
        reset(peer);
        log.outcome("read", stream.read(&mut [0; 8]).await);
        log.outcome("read", stream.read(&mut [0; 8]).await);
    })
    .await;
    assert_eq!(log.lines(), ["read: Ok(3)", "read: Err(ConnectionReset)"]);
}

#[tokio::test]
async fn write_reports_a_reset_by_its_kind() {
    for has_unread in [false, true] {
        let log = compare(async |stream, mut peer, log| {
            if has_unread {
                peer.write_all(b"unread").await.unwrap();
            }
            reset(peer);
            log.outcome("write", stream.write(b"x").await);
        })
        .await;
        assert_eq!(log.lines(), ["write: Err(ConnectionReset)"]);
    }
}

/// A peer that closes while bytes of ours are unread sends a reset.
#[tokio::test]
async fn peer_that_closes_with_unread_bytes_resets() {
    let log = compare(async |stream, peer, log| {
        log.outcome("write", stream.write_all(b"never read").await);
        peer.readable().await.unwrap();
        drop(peer);
        log.outcome("read", stream.read(&mut [0; 4]).await);
    })
    .await;
    assert_eq!(log.lines(), ["write: Ok(())", "read: Err(ConnectionReset)"]);
}

#[tokio::test]
#[cfg_attr(windows, ignore = "Windows takes a write whole, however long it is")]
async fn waiting_write_reports_a_reset() {
    let log = compare(async |stream, peer, log| {
        let large = vec![7; 32 << 20];
        let mut write = tokio_test::task::spawn(stream.write_all(&large));
        log.note("pending", write.poll().is_pending());
        reset(peer);
        log.outcome("write_all", write.await);
    })
    .await;
    assert_eq!(log.lines(), ["pending: true", "write_all: Err(ConnectionReset)"]);
}

/// With and without a shutdown before the drop, the peer reads what was written, then the end.
#[tokio::test]
async fn dropping_the_stream_closes_it_cleanly() {
    for after_shutdown in [false, true] {
        let server = Server::start().await;
        let (bare, bare_peer) = Endpoint::bare(&server, super::comparison::Shape::Whole).await;
        let (conn, conn_peer) = Endpoint::conn(&server, super::comparison::Shape::Whole).await;
        for (mut stream, mut peer) in [(bare, bare_peer), (conn, conn_peer)] {
            stream.write_all(b"all of it").await.unwrap();
            if after_shutdown {
                stream.shutdown().await.unwrap();
            }
            drop(stream);
            let mut text = String::new();
            in_time("the peer", peer.read_to_string(&mut text)).await.unwrap();
            assert_eq!(text, "all of it");
        }
    }
}
