//! After a local shutdown or drop: what reads report, and that bytes in flight arrive.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::comparison::{Endpoint, Shape, compare, yield_times};
use crate::support::{Server, in_time, reset};

#[tokio::test]
#[cfg_attr(windows, ignore = "the errors of a TcpStream that has ended are others on Windows")]
async fn read_after_a_local_shutdown_reports_a_reset() {
    let log = compare(async |stream, mut peer, log| {
        log.outcome("shutdown", stream.shutdown().await);
        peer.write_all(b"abc").await.unwrap();
        yield_times(20).await;
        reset(peer);
        log.outcome("shutdown", stream.shutdown().await);
        log.outcome("flush", stream.flush().await);
        log.outcome("read", stream.read(&mut [0; 8]).await);
        log.outcome("read", stream.read(&mut [0; 8]).await);
        log.outcome("shutdown", stream.shutdown().await);
        log.outcome("write", stream.write(b"x").await);
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
async fn flush_does_not_report_a_reset() {
    let log = compare(async |stream, peer, log| {
        reset(peer);
        yield_times(20).await;
        log.outcome("flush", stream.flush().await);
        log.outcome("read", stream.read(&mut [0; 8]).await);
    })
    .await;
    assert_eq!(log.lines(), ["flush: Ok(())", "read: Err(ConnectionReset)"]);
}

/// A local shutdown does not end a waiting read.
#[tokio::test]
async fn shutdown_leaves_a_waiting_read_waiting() {
    let log = compare(async |stream, mut peer, log| {
        let (mut read, mut write) = tokio::io::split(stream);
        let mut buf = [0; 8];
        let mut waiting = tokio_test::task::spawn(read.read(&mut buf));
        log.note("pending", waiting.poll().is_pending());
        log.outcome("shutdown", write.shutdown().await);
        yield_times(20).await;
        log.note("pending", waiting.poll().is_pending());
        peer.write_all(b"abc").await.unwrap();
        log.outcome("read", waiting.await);
    })
    .await;
    assert_eq!(log.lines(), ["pending: true", "shutdown: Ok(())", "pending: true", "read: Ok(3)"]);
}

/// The stream is dropped with a full send buffer, and every byte that the kernel accepted arrives.
#[tokio::test]
async fn bytes_that_the_kernel_accepted_survive_the_drop() {
    for shape in [Shape::Whole, Shape::IoSplit, Shape::Halves] {
        let server = Server::start().await;
        let sides = [Endpoint::bare(&server, shape).await, Endpoint::conn(&server, shape).await];
        for (mut stream, mut peer) in sides {
            let mut taken = 0;
            let fill = poll_fn(|cx| {
                while let Poll::Ready(n) = Pin::new(&mut stream).poll_write(cx, &[7; 4096]) {
                    taken += n.unwrap();
                }
                Poll::Ready(())
            });
            tokio::task::unconstrained(fill).await;
            drop(stream);
            yield_times(20).await;
            let mut received = Vec::new();
            in_time("the peer", peer.read_to_end(&mut received)).await.unwrap();
            assert!(taken > 0 && received.len() == taken, "{shape:?}: {} of {taken}", received.len());
        }
    }
}

/// The stream is made on one runtime and used on another.
#[test]
fn stream_of_one_runtime_works_on_another() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (first, second) = (runtime(), runtime());
    for shape in [Shape::Whole, Shape::IoSplit, Shape::Halves] {
        let (server, sides) = first.block_on(async {
            let server = Server::start().await;
            let sides = [Endpoint::bare(&server, shape).await, Endpoint::conn(&server, shape).await];
            (server, sides)
        });
        for (mut stream, mut peer) in sides {
            let echo = first.spawn(async move {
                let (mut read, mut write) = peer.split();
                tokio::io::copy(&mut read, &mut write).await
            });
            second.block_on(async {
                let mut back = [0; 4];
                for _ in 0..20 {
                    in_time("write", stream.write_all(b"ping")).await.unwrap();
                    in_time("read", stream.read_exact(&mut back)).await.unwrap();
                }
                in_time("shutdown", stream.shutdown()).await.unwrap();
                assert_eq!(in_time("read", stream.read(&mut back)).await.unwrap(), 0);
            });
            assert_eq!(first.block_on(echo).unwrap().unwrap(), 80, "{shape:?}");
        }
        drop(server);
    }
}
