//! The end of a conversation: shutdown, half-close, close, reset.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::side::{Side, alike, turns};
use crate::support::{Server, reset, soon};

#[tokio::test]
async fn shutdown_may_be_repeated_and_ends_writing_only() {
    let log = alike(async |side, mut peer, log| {
        log.outcome("write", side.write_all(b"last").await);
        for _ in 0..3 {
            log.outcome("shutdown", side.shutdown().await);
        }
        log.outcome("write", side.write(b"x").await);
        log.outcome("write_all", side.write_all(b"x").await);
        log.outcome("flush", side.flush().await);
        let mut text = String::new();
        log.outcome("the peer's read", peer.read_to_string(&mut text).await);
        log.note("received", text);
        peer.write_all(b"farewell").await.unwrap();
        log.outcome("read", side.read_exact(&mut [0; 8]).await);
        log.outcome("the peer's shutdown", peer.shutdown().await);
        log.outcome("read", side.read(&mut [0; 8]).await);
        log.outcome("shutdown", side.shutdown().await);
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

/// The peer copies what it hears until the end of the stream, and ends its own side then.
#[tokio::test]
async fn shutdown_of_one_end_is_answered_by_the_shutdown_of_the_other() {
    let log = alike(async |side, mut peer, log| {
        let answer = tokio::spawn(async move {
            let (mut read, mut write) = peer.split();
            let copied = tokio::io::copy(&mut read, &mut write).await.unwrap();
            peer.shutdown().await.map(|()| copied)
        });
        log.outcome("shutdown", side.shutdown().await);
        log.outcome("read", side.read(&mut [0; 1]).await);
        log.outcome("the peer", answer.await.unwrap());
    })
    .await;
    assert_eq!(log.lines(), ["shutdown: Ok(())", "read: Ok(0)", "the peer: Ok(0)"]);
}

#[tokio::test]
async fn shutdown_delivers_everything_that_was_written_before_it() {
    let log = alike(async |side, mut peer, log| {
        let sent = crate::bytes::pattern(2 << 20);
        let mut received = Vec::new();
        let (written, read) = tokio::join!(
            async {
                side.write_all(&sent).await?;
                side.shutdown().await
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
async fn shutdown_behind_a_full_send_buffer_does_not_wait() {
    let log = alike(async |side, mut peer, log| {
        let large = vec![7; 32 << 20];
        let mut write = tokio_test::task::spawn(tokio::task::unconstrained(side.write_all(&large)));
        log.note("the buffer is full", write.poll().is_pending());
        drop(write);
        let mut shutdown = tokio_test::task::spawn(side.shutdown());
        log.note("shutdown", shutdown.poll().map_err(|error| error.kind()));
        drop(shutdown);
        log.outcome("write", side.write(b"x").await);
        let mut received = Vec::new();
        log.note("the peer reads to the end", peer.read_to_end(&mut received).await.is_ok());
        log.note("everything that was taken", received.iter().all(|byte| *byte == 7) && !received.is_empty());
    })
    .await;
    assert_eq!(
        log.lines(),
        [
            "the buffer is full: true",
            "shutdown: Ready(Ok(()))",
            "write: Err(BrokenPipe)",
            "the peer reads to the end: true",
            "everything that was taken: true"
        ]
    );
}

/// One byte out of band is neither data nor the end of anything.
#[tokio::test]
async fn urgent_data_is_no_break() {
    let log = alike(async |side, mut peer, log| {
        peer.write_all(b"before").await.unwrap();
        socket2::SockRef::from(&peer).send_out_of_band(b"!").unwrap();
        turns(20).await;
        peer.write_all(b"after").await.unwrap();
        log.outcome("write", side.write_all(b"still here").await);
        let mut text = [0; 11];
        log.outcome("read", side.read_exact(&mut text).await);
        log.note("bytes", String::from_utf8_lossy(&text));
        log.outcome("the peer's read", peer.read_exact(&mut [0; 10]).await);
        socket2::SockRef::from(&peer).send_out_of_band(b"!").unwrap();
        turns(20).await;
        log.outcome("write", side.write_all(b"still here").await);
    })
    .await;
    assert_eq!(
        log.lines(),
        ["write: Ok(())", "read: Ok(11)", "bytes: \"beforeafter\"", "the peer's read: Ok(10)", "write: Ok(())"]
    );
}

#[tokio::test]
async fn what_came_before_the_peers_close_is_read_before_its_end() {
    let log = alike(async |side, mut peer, log| {
        peer.write_all(b"banner").await.unwrap();
        drop(peer);
        turns(20).await;
        log.outcome("read", side.read(&mut [0; 4]).await);
        log.outcome("read", side.read(&mut [0; 4]).await);
        log.outcome("read", side.read(&mut [0; 4]).await);
    })
    .await;
    assert_eq!(log.lines(), ["read: Ok(4)", "read: Ok(2)", "read: Ok(0)"]);
}

#[tokio::test]
async fn readers_of_more_than_there_is_say_so() {
    let log = alike(async |side, mut peer, log| {
        peer.write_all(b"abc").await.unwrap();
        drop(peer);
        log.outcome("read_exact", side.read_exact(&mut [0; 4]).await);
    })
    .await;
    assert_eq!(log.lines(), ["read_exact: Err(UnexpectedEof)"]);
    let log = alike(async |side, mut peer, log| {
        peer.write_all(b"abc").await.unwrap();
        drop(peer);
        let mut all = Vec::new();
        log.outcome("read_to_end", side.read_to_end(&mut all).await);
        log.note("bytes", &all);
    })
    .await;
    assert_eq!(log.lines()[0], "read_to_end: Ok(3)");
}

/// The peer has ended its writing: what it writes no more is not waited for.
#[tokio::test]
async fn end_of_the_peers_writing_is_the_end_of_the_stream() {
    let log = alike(async |side, mut peer, log| {
        peer.write_all(b"all of it").await.unwrap();
        log.outcome("the peer's shutdown", peer.shutdown().await);
        let mut text = String::new();
        log.outcome("read_to_string", side.read_to_string(&mut text).await);
        log.note("text", text);
        log.outcome("shutdown", side.shutdown().await);
    })
    .await;
    assert_eq!(
        log.lines(),
        ["the peer's shutdown: Ok(())", "read_to_string: Ok(9)", "text: \"all of it\"", "shutdown: Ok(())"]
    );
}

#[tokio::test]
async fn reset_is_told_to_a_read_by_its_kind() {
    let log = alike(async |side, peer, log| {
        reset(peer);
        log.outcome("read", side.read(&mut [0; 4]).await);
    })
    .await;
    assert_eq!(log.lines(), ["read: Err(ConnectionReset)"]);
}

#[tokio::test]
async fn reset_is_told_to_a_read_after_the_bytes_that_came_before_it() {
    let log = alike(async |side, mut peer, log| {
        peer.write_all(b"abc").await.unwrap();
        turns(20).await;
        reset(peer);
        log.outcome("read", side.read(&mut [0; 8]).await);
        log.outcome("read", side.read(&mut [0; 8]).await);
    })
    .await;
    assert_eq!(log.lines(), ["read: Ok(3)", "read: Err(ConnectionReset)"]);
}

#[tokio::test]
async fn reset_is_told_to_a_write_by_its_kind() {
    for has_unread in [false, true] {
        let log = alike(async |side, mut peer, log| {
            if has_unread {
                peer.write_all(b"unread").await.unwrap();
            }
            reset(peer);
            log.outcome("write", side.write(b"x").await);
        })
        .await;
        assert_eq!(log.lines(), ["write: Err(ConnectionReset)"]);
    }
}

/// A peer that closes with bytes of ours unread answers with a reset.
#[tokio::test]
async fn peer_that_closes_without_having_read_everything_resets() {
    let log = alike(async |side, peer, log| {
        log.outcome("write", side.write_all(b"never read").await);
        peer.readable().await.unwrap();
        drop(peer);
        log.outcome("read", side.read(&mut [0; 4]).await);
    })
    .await;
    assert_eq!(log.lines(), ["write: Ok(())", "read: Err(ConnectionReset)"]);
}

#[tokio::test]
async fn reset_under_a_writer_that_waits_is_told_to_it() {
    let log = alike(async |side, peer, log| {
        let large = vec![7; 32 << 20];
        let mut write = tokio_test::task::spawn(side.write_all(&large));
        log.note("pending", write.poll().is_pending());
        reset(peer);
        log.outcome("write_all", write.await);
    })
    .await;
    assert_eq!(log.lines(), ["pending: true", "write_all: Err(ConnectionReset)"]);
}

/// Both ways of dropping: the peer reads what was written, then the end.
#[tokio::test]
async fn dropping_both_directions_closes_in_good_order() {
    for after_shutdown in [false, true] {
        let server = Server::start().await;
        let (bare, bare_peer) = Side::bare(&server, crate::side::Shape::Whole).await;
        let (conn, conn_peer) = Side::conn(&server, crate::side::Shape::Whole).await;
        for (mut side, mut peer) in [(bare, bare_peer), (conn, conn_peer)] {
            side.write_all(b"last words").await.unwrap();
            if after_shutdown {
                side.shutdown().await.unwrap();
            }
            drop(side);
            let mut text = String::new();
            soon("the peer", peer.read_to_string(&mut text)).await.unwrap();
            assert_eq!(text, "last words");
        }
    }
}
