//! Lending connections and giving them back.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use perconn::TcpDialer;
use perconn::pool::{CloseReason, GetError, Pool};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::fixtures::{CloseReasons, EchoServer, assert_all_given_back, echo};
use crate::support::{Server, in_time};

#[tokio::test]
async fn resource_dials_for_the_first_caller_and_keeps_the_connection() {
    let server = EchoServer::start().await;
    let pool = Pool::new(4).unwrap();
    let resource = pool.resource(server.address).unwrap();
    assert_eq!((pool.stats().opened, pool.stats().idle), (0, 0));
    let mut ports = Vec::new();
    for round in 0..3 {
        let mut conn = in_time("get", resource.get()).await.unwrap();
        assert_eq!(conn.is_reused(), round > 0);
        ports.push(conn.local_addr().unwrap());
        echo(&mut conn).await;
        assert_eq!(pool.stats().in_use, 1);
        drop(conn);
        assert_eq!((pool.stats().in_use, pool.stats().idle), (0, 1));
    }
    ports.dedup();
    assert_eq!(ports.len(), 1);
    assert_eq!((pool.stats().opened, pool.stats().reused), (1, 2));
}

#[tokio::test]
async fn connection_that_is_idle_for_longest_is_closed_when_its_slot_is_needed() {
    let server = EchoServer::start().await;
    let reasons = CloseReasons::default();
    let pool = reasons.watch(Pool::builder(2));
    let [a, b, c] = [(); 3].map(|()| pool.resource(server.address).unwrap());
    for resource in [&a, &b, &a] {
        echo(&mut in_time("get", resource.get()).await.unwrap()).await;
    }
    // `b` has been idle for longer than `a`.
    echo(&mut in_time("get", c.get()).await.unwrap()).await;
    assert_eq!(reasons.list(), [CloseReason::Evicted]);
    assert!(in_time("a", a.get()).await.unwrap().is_reused());
    assert!(!in_time("b", b.get()).await.unwrap().is_reused());
    assert_eq!(pool.stats().evicted, 2);
    assert_all_given_back(&pool);
}

#[tokio::test]
async fn connection_in_use_is_never_closed_for_another() {
    let server = EchoServer::start().await;
    let pool = Pool::new(1).unwrap();
    let [a, b] = [(); 2].map(|()| pool.resource(server.address).unwrap());
    let mut conn = in_time("get", a.get()).await.unwrap();
    assert!(matches!(b.try_get().await, Err(GetError::Busy { .. })));
    echo(&mut conn).await;
    drop(conn);
    echo(&mut in_time("get", b.try_get()).await.unwrap()).await;
}

#[tokio::test]
async fn close_of_a_guard_frees_its_slot() {
    let server = EchoServer::start().await;
    let reasons = CloseReasons::default();
    let pool = reasons.watch(Pool::builder(1));
    let resource = pool.resource(server.address).unwrap();
    in_time("get", resource.get()).await.unwrap().close();
    assert_eq!((pool.stats().in_use, pool.stats().idle, pool.stats().releasing), (0, 0, 0));
    assert_eq!(reasons.list(), [CloseReason::Requested]);
    assert!(!in_time("get", resource.get()).await.unwrap().is_reused());
}

#[tokio::test]
async fn connection_of_an_interrupted_exchange_is_closed() {
    let server = EchoServer::start().await;
    let pool = Pool::new(1).unwrap();
    let resource = pool.resource(server.address).unwrap();
    let mut conn = in_time("get", resource.get()).await.unwrap();
    conn.close_on_drop(true);
    conn.write_all(b"question").await.unwrap();
    drop(conn);
    assert_eq!(pool.stats().idle, 0);
    // The connection of a completed exchange stays open.
    let mut conn = in_time("get", resource.get()).await.unwrap();
    conn.close_on_drop(true);
    echo(&mut conn).await;
    conn.close_on_drop(false);
    drop(conn);
    assert_eq!(pool.stats().idle, 1);
}

#[tokio::test]
async fn connection_of_a_task_that_panics_is_closed() {
    let server = EchoServer::start().await;
    let reasons = CloseReasons::default();
    let pool = reasons.watch(Pool::builder(1));
    let resource = pool.resource(server.address).unwrap();
    let caller = tokio::spawn({
        let resource = resource.clone();
        async move {
            let _conn = resource.get().await.unwrap();
            panic!("the task");
        }
    });
    assert!(caller.await.unwrap_err().is_panic());
    assert_eq!(reasons.list(), [CloseReason::Panicked]);
    assert_all_given_back(&pool);
    assert!(in_time("get", resource.get()).await.is_ok());
}

#[tokio::test]
async fn connection_on_which_an_operation_failed_is_not_used_again() {
    let server = Server::start().await;
    let reasons = CloseReasons::default();
    let pool = reasons.watch(Pool::builder(1));
    let resource = pool.resource(server.address).unwrap();
    let (conn, peer) = in_time("a dial", async { tokio::join!(resource.get(), server.accept()) }).await;
    let mut conn = conn.unwrap();
    drop(peer);
    assert_eq!(
        in_time("the end of the stream", tokio::io::AsyncReadExt::read(&mut conn, &mut [0; 8])).await.unwrap(),
        0
    );
    drop(conn);
    assert_eq!(reasons.list(), [CloseReason::Failed]);
}

#[tokio::test]
async fn connection_that_was_shut_down_is_not_used_again() {
    let server = EchoServer::start().await;
    let pool = Pool::new(1).unwrap();
    let resource = pool.resource(server.address).unwrap();
    in_time("get", resource.get()).await.unwrap().shutdown().await.unwrap();
    assert_eq!(pool.stats().idle, 0);
}

#[tokio::test]
async fn dialer_given_with_the_call_opens_the_connection() {
    let (one, two) = (EchoServer::start().await, EchoServer::start().await);
    let pool = Pool::new(1).unwrap();
    let resource = pool.resource(one.address).unwrap();
    let mut dialer = TcpDialer::new(two.address);
    let conn = in_time("get", resource.get_with(&mut dialer)).await.unwrap();
    assert_eq!(conn.peer_addr().unwrap(), two.address);
    drop(conn);
    // It is the resource's connection like any other.
    assert!(in_time("get", resource.get()).await.unwrap().is_reused());
}

#[tokio::test]
async fn bare_slot_counts_and_evicts_an_idle_connection() {
    let server = EchoServer::start().await;
    let reasons = CloseReasons::default();
    let pool = reasons.watch(Pool::builder(2));
    let resource = pool.resource(server.address).unwrap();
    drop(in_time("get", resource.get()).await.unwrap());
    let one = in_time("a slot", pool.slot()).await.unwrap();
    assert_eq!(reasons.list(), []);
    let two = pool.try_slot().unwrap();
    assert_eq!(reasons.list(), [CloseReason::Evicted]);
    assert!(matches!(pool.try_slot(), Err(GetError::Busy { .. })));
    assert!(matches!(resource.try_get().await, Err(GetError::Busy { .. })));
    drop((one, two));
    assert_all_given_back(&pool);
    assert!(in_time("get", resource.get()).await.is_ok());
}

#[tokio::test]
async fn files_are_kept_within_the_same_budget() {
    let pool = Pool::new(1).unwrap();
    let files = ["Cargo.toml", "README.md"].map(|path| pool.resource_fn(path, move || tokio::fs::File::open(path)));
    for file in &files {
        assert!(file.get().await.unwrap().metadata().await.unwrap().len() > 0);
    }
    assert_eq!((pool.stats().opened, pool.stats().evicted, pool.stats().idle), (2, 1, 1));
    assert!(files[1].get().await.unwrap().is_reused());
}

#[tokio::test]
async fn global_pool_is_one_and_within_the_descriptor_limit() {
    let max = Pool::global().stats().max;
    assert_eq!(max, Pool::global().stats().max);
    #[cfg(target_os = "linux")]
    if let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        assert!(0 < max && (max as u64) < limit.max(2), "{max} of {limit}");
    }
}

#[tokio::test]
async fn connection_that_was_shut_down_or_failed_is_closed_even_after_close_on_drop_false() {
    let reasons = CloseReasons::default();
    let pool = reasons.watch(Pool::builder(1));
    let (mut peers, mut is_first) = (Vec::new(), true);
    let dialer = perconn::dial_fn(move || {
        let (stream, peer) = tokio::io::duplex(8);
        // Only the first stream has a peer.
        peers.extend(std::mem::take(&mut is_first).then_some(peer));
        std::future::ready(Ok(stream))
    });
    let resource = pool.resource_with("a pipe", dialer).unwrap();
    for fails in [false, true] {
        let mut conn = resource.get().await.unwrap();
        conn.close_on_drop(true);
        assert_eq!(conn.write_all(b"x").await.is_err(), fails);
        conn.shutdown().await.unwrap();
        conn.close_on_drop(false);
        drop(conn);
    }
    assert_eq!(reasons.list(), [CloseReason::Requested, CloseReason::Failed]);
}

/// A stream that takes none of the bytes of a write.
struct Full;

impl AsyncRead for Full {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Full {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(0))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn connection_that_took_no_byte_of_a_write_is_not_used_again() {
    let pool = Pool::new(1).unwrap();
    let resource = pool.resource_with("full", perconn::dial_fn(|| async { Ok(Full) })).unwrap();
    for parts in [&[b"".as_slice(), b"x"][..], &[b"x"]] {
        let mut conn = resource.get().await.unwrap();
        // To write no bytes is not a failure.
        assert_eq!(conn.write(b"").await.unwrap(), 0);
        assert_eq!(conn.write_vectored(&[]).await.unwrap(), 0);
        drop(conn);
        let mut conn = resource.get().await.unwrap();
        assert!(conn.is_reused());
        let parts: Vec<_> = parts.iter().map(|part| io::IoSlice::new(part)).collect();
        assert_eq!(conn.write_vectored(&parts).await.unwrap(), 0);
        drop(conn);
        let mut conn = resource.get().await.unwrap();
        assert!(!conn.is_reused());
        assert_eq!(conn.write(b"x").await.unwrap(), 0);
        drop(conn);
        assert_eq!(pool.stats().idle, 0);
    }
}

/// A stream that says it has taken more than it was given.
struct TakesTooMuch(tokio::io::DuplexStream);

impl AsyncRead for TakesTooMuch {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for TakesTooMuch {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len() + 1))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn stream_that_takes_more_than_it_was_given_fails_with_both_numbers_and_is_closed() {
    let reasons = CloseReasons::default();
    let pool = reasons.watch(Pool::builder(1));
    let dialer = perconn::dial_fn(async || {
        let (stream, peer) = tokio::io::duplex(64);
        std::mem::forget(peer);
        Ok(TakesTooMuch(stream))
    });
    let resource = pool.resource_with("a liar", dialer).unwrap();
    for is_vectored in [false, true] {
        let mut conn = in_time("get", resource.get()).await.unwrap();
        let written = if is_vectored {
            conn.write_vectored(&[io::IoSlice::new(b"hello")]).await
        } else {
            conn.write(b"hello").await
        };
        let error = written.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("6 bytes of the 5"), "{error}");
        drop(conn);
        assert_eq!(pool.stats().idle, 0);
    }
    assert_eq!(reasons.list(), [CloseReason::Failed, CloseReason::Failed]);
}
