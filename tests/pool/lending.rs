//! Lending and giving back.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use perconn::TcpDialer;
use perconn::pool::{CloseReason, GetError, Pool};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::support::{Server, in_time};
use crate::world::{Closings, EchoServer, echo, nobody_has_anything};

#[tokio::test]
async fn resource_dials_when_it_is_first_asked_for_and_then_keeps_the_connection() {
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
async fn connection_idle_for_longest_is_closed_when_its_slot_is_needed() {
    let server = EchoServer::start().await;
    let closings = Closings::default();
    let pool = closings.watch(Pool::builder(2));
    let [a, b, c] = [(); 3].map(|()| pool.resource(server.address).unwrap());
    for resource in [&a, &b, &a] {
        echo(&mut in_time("get", resource.get()).await.unwrap()).await;
    }
    // `b` has been idle for longer than `a`.
    echo(&mut in_time("get", c.get()).await.unwrap()).await;
    assert_eq!(closings.list(), [CloseReason::Evicted]);
    assert!(in_time("a", a.get()).await.unwrap().is_reused());
    assert!(!in_time("b", b.get()).await.unwrap().is_reused());
    assert_eq!(pool.stats().evicted, 2);
    nobody_has_anything(&pool);
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
async fn guard_that_is_closed_frees_its_slot() {
    let server = EchoServer::start().await;
    let closings = Closings::default();
    let pool = closings.watch(Pool::builder(1));
    let resource = pool.resource(server.address).unwrap();
    in_time("get", resource.get()).await.unwrap().close();
    assert_eq!((pool.stats().in_use, pool.stats().idle, pool.stats().releasing), (0, 0, 0));
    assert_eq!(closings.list(), [CloseReason::Requested]);
    assert!(!in_time("get", resource.get()).await.unwrap().is_reused());
}

#[tokio::test]
async fn exchange_that_is_cut_short_takes_its_connection_with_it() {
    let server = EchoServer::start().await;
    let pool = Pool::new(1).unwrap();
    let resource = pool.resource(server.address).unwrap();
    let mut conn = in_time("get", resource.get()).await.unwrap();
    conn.close_on_drop(true);
    conn.write_all(b"question").await.unwrap();
    drop(conn);
    assert_eq!(pool.stats().idle, 0);
    // One that came to its end does not.
    let mut conn = in_time("get", resource.get()).await.unwrap();
    conn.close_on_drop(true);
    echo(&mut conn).await;
    conn.close_on_drop(false);
    drop(conn);
    assert_eq!(pool.stats().idle, 1);
}

#[tokio::test]
async fn connection_of_a_user_who_panics_is_closed() {
    let server = EchoServer::start().await;
    let closings = Closings::default();
    let pool = closings.watch(Pool::builder(1));
    let resource = pool.resource(server.address).unwrap();
    let user = tokio::spawn({
        let resource = resource.clone();
        async move {
            let _conn = resource.get().await.unwrap();
            panic!("the user's own");
        }
    });
    assert!(user.await.unwrap_err().is_panic());
    assert_eq!(closings.list(), [CloseReason::Panicked]);
    nobody_has_anything(&pool);
    assert!(in_time("get", resource.get()).await.is_ok());
}

#[tokio::test]
async fn connection_on_which_an_operation_failed_is_not_used_again() {
    let server = Server::start().await;
    let closings = Closings::default();
    let pool = closings.watch(Pool::builder(1));
    let resource = pool.resource(server.address).unwrap();
    let (conn, peer) = in_time("a dial", async { tokio::join!(resource.get(), server.accept()) }).await;
    let mut conn = conn.unwrap();
    drop(peer);
    assert_eq!(in_time("the end", tokio::io::AsyncReadExt::read(&mut conn, &mut [0; 8])).await.unwrap(), 0);
    drop(conn);
    assert_eq!(closings.list(), [CloseReason::Failed]);
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
    // It is the resource's connection as any other.
    assert!(in_time("get", resource.get()).await.unwrap().is_reused());
}

#[tokio::test]
async fn bare_slot_counts_and_makes_an_idle_connection_give_way() {
    let server = EchoServer::start().await;
    let closings = Closings::default();
    let pool = closings.watch(Pool::builder(2));
    let resource = pool.resource(server.address).unwrap();
    drop(in_time("get", resource.get()).await.unwrap());
    let one = in_time("a slot", pool.slot()).await.unwrap();
    assert_eq!(closings.list(), []);
    let two = pool.try_slot().unwrap();
    assert_eq!(closings.list(), [CloseReason::Evicted]);
    assert!(matches!(pool.try_slot(), Err(GetError::Busy { .. })));
    assert!(matches!(resource.try_get().await, Err(GetError::Busy { .. })));
    drop((one, two));
    nobody_has_anything(&pool);
    assert!(in_time("get", resource.get()).await.is_ok());
}

#[tokio::test]
async fn things_that_are_no_connections_are_kept_within_the_same_budget() {
    let pool = Pool::new(1).unwrap();
    let files = ["Cargo.toml", "README.md"].map(|path| pool.resource_fn(path, move || tokio::fs::File::open(path)));
    for file in &files {
        assert!(file.get().await.unwrap().metadata().await.unwrap().len() > 0);
    }
    assert_eq!((pool.stats().opened, pool.stats().evicted, pool.stats().idle), (2, 1, 1));
    assert!(files[1].get().await.unwrap().is_reused());
}

#[tokio::test]
async fn pool_of_the_process_is_one_and_within_its_descriptors() {
    let max = Pool::global().stats().max;
    assert_eq!(max, Pool::global().stats().max);
    #[cfg(target_os = "linux")]
    if let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        assert!(0 < max && (max as u64) < limit.max(2), "{max} of {limit}");
    }
}

#[tokio::test]
async fn connection_that_was_shut_down_or_has_failed_is_closed_though_its_user_takes_his_wish_back() {
    let closings = Closings::default();
    let pool = closings.watch(Pool::builder(1));
    let (mut peers, mut is_first) = (Vec::new(), true);
    let dialer = perconn::dial_fn(move || {
        let (stream, peer) = tokio::io::duplex(8);
        // The first one has a peer.
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
    assert_eq!(closings.list(), [CloseReason::Requested, CloseReason::Failed]);
}

/// Takes nothing.
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
async fn connection_that_took_nothing_of_a_write_is_not_used_again() {
    let pool = Pool::new(1).unwrap();
    let resource = pool.resource_with("full", perconn::dial_fn(|| async { Ok(Full) })).unwrap();
    for parts in [&[b"".as_slice(), b"x"][..], &[b"x"]] {
        let mut conn = resource.get().await.unwrap();
        // Nothing of nothing is no failure.
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
