//! What comes after this side's shutdown, and what becomes of the bytes that are under way when it goes.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::side::{Shape, Side, alike, turns};
use crate::support::{Server, reset, soon};

#[tokio::test]
async fn reset_after_the_own_shutdown_is_told_to_a_read() {
    let log = alike(async |side, mut peer, log| {
        log.outcome("shutdown", side.shutdown().await);
        peer.write_all(b"abc").await.unwrap();
        turns(20).await;
        reset(peer);
        log.outcome("shutdown", side.shutdown().await);
        log.outcome("flush", side.flush().await);
        log.outcome("read", side.read(&mut [0; 8]).await);
        log.outcome("read", side.read(&mut [0; 8]).await);
        log.outcome("shutdown", side.shutdown().await);
        log.outcome("write", side.write(b"x").await);
    })
    .await;
    assert_eq!(
        log.lines(),
        [
            "shutdown: Ok(())",
            "shutdown: Ok(())",
            "flush: Ok(())",
            "read: Ok(3)",
            "read: Err(ConnectionReset)",
            "shutdown: Ok(())",
            "write: Err(BrokenPipe)"
        ]
    );
}

#[tokio::test]
async fn flush_tells_of_no_reset() {
    let log = alike(async |side, peer, log| {
        reset(peer);
        turns(20).await;
        log.outcome("flush", side.flush().await);
        log.outcome("read", side.read(&mut [0; 8]).await);
    })
    .await;
    assert_eq!(log.lines(), ["flush: Ok(())", "read: Err(ConnectionReset)"]);
}

/// A reader that waits while its own program shuts the writing side down goes on waiting.
#[tokio::test]
async fn shutdown_leaves_a_waiting_read_waiting() {
    let log = alike(async |side, mut peer, log| {
        let (mut read, mut write) = tokio::io::split(side);
        let mut buf = [0; 8];
        let mut waiting = tokio_test::task::spawn(read.read(&mut buf));
        log.note("pending", waiting.poll().is_pending());
        log.outcome("shutdown", write.shutdown().await);
        turns(20).await;
        log.note("pending", waiting.poll().is_pending());
        peer.write_all(b"abc").await.unwrap();
        log.outcome("read", waiting.await);
    })
    .await;
    assert_eq!(log.lines(), ["pending: true", "shutdown: Ok(())", "pending: true", "read: Ok(3)"]);
}

/// Dropped with the kernel's buffer full: what it had taken is delivered, to the last byte.
#[tokio::test]
async fn bytes_that_the_kernel_has_taken_survive_the_drop() {
    for shape in [Shape::Whole, Shape::IoSplit, Shape::Halves] {
        let server = Server::start().await;
        let sides = [Side::bare(&server, shape).await, Side::conn(&server, shape).await];
        for (mut side, mut peer) in sides {
            let mut taken = 0;
            let fill = poll_fn(|cx| {
                while let Poll::Ready(n) = Pin::new(&mut side).poll_write(cx, &[7; 4096]) {
                    taken += n.unwrap();
                }
                Poll::Ready(())
            });
            tokio::task::unconstrained(fill).await;
            drop(side);
            turns(20).await;
            let mut received = Vec::new();
            soon("the peer", peer.read_to_end(&mut received)).await.unwrap();
            assert!(taken > 0 && received.len() == taken, "{shape:?}: {} of {taken}", received.len());
        }
    }
}

/// Made on one runtime, used on another one.
#[test]
fn stream_of_one_runtime_works_on_another() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (home, abroad) = (runtime(), runtime());
    for shape in [Shape::Whole, Shape::IoSplit, Shape::Halves] {
        let (server, sides) = home.block_on(async {
            let server = Server::start().await;
            let sides = [Side::bare(&server, shape).await, Side::conn(&server, shape).await];
            (server, sides)
        });
        for (mut side, mut peer) in sides {
            let echo = home.spawn(async move {
                let (mut read, mut write) = peer.split();
                tokio::io::copy(&mut read, &mut write).await
            });
            abroad.block_on(async {
                let mut back = [0; 4];
                for _ in 0..20 {
                    soon("write", side.write_all(b"ping")).await.unwrap();
                    soon("read", side.read_exact(&mut back)).await.unwrap();
                }
                soon("shutdown", side.shutdown()).await.unwrap();
                assert_eq!(soon("read", side.read(&mut back)).await.unwrap(), 0);
            });
            assert_eq!(home.block_on(echo).unwrap().unwrap(), 80, "{shape:?}");
        }
        drop(server);
    }
}
