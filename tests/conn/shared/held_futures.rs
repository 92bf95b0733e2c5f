//! Futures of jobs that are kept: not polled for a time, or polled once too often. And jobs that own their bytes.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use tokio::io::AsyncReadExt;
use tokio_test::task::spawn;

use crate::support::{CLOSE_LIMIT, Server, in_time, quick};
use perconn::Conn;

/// More than any socket buffers.
const HUGE: usize = 16 << 20;

/// Polls a future once.
async fn poll_once<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Poll<T> {
    poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx))).await
}

#[tokio::test]
#[cfg_attr(windows, ignore = "Windows takes a write whole, however long it is")]
async fn large_job_whose_future_is_not_polled_delays_no_other() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let conn = conn.into_shared();
    let huge = vec![1; HUGE];
    let mut held = Box::pin(conn.write_all(&huge));
    assert!(poll_once(&mut held).await.is_pending(), "the link takes only a part");
    let large = vec![2; 100_000];
    let mut also_held = Box::pin(conn.write_all(&large));
    assert!(poll_once(&mut also_held).await.is_pending());
    let other = tokio::spawn({
        let conn = conn.clone();
        async move { conn.write_all(b"last").await }
    });
    let mut all = vec![0; HUGE + 100_000 + 4];
    in_time("all three jobs", peer.read_exact(&mut all)).await.unwrap();
    assert!(all.ends_with(b"\x02last") && all[HUGE - 1] == 1 && all[HUGE] == 2);
    in_time("the other job", other).await.unwrap().unwrap();
    in_time("the held job", held).await.unwrap();
    in_time("the other held job", also_held).await.unwrap();
}

#[tokio::test]
#[cfg_attr(windows, ignore = "Windows takes a write whole, however long it is")]
async fn large_job_that_was_sent_whole_is_done_after_a_close() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let conn = conn.into_shared();
    let huge = vec![1; HUGE];
    let mut held = Box::pin(conn.write_all(&huge));
    assert!(poll_once(&mut held).await.is_pending());
    in_time("the job", peer.read_exact(&mut vec![0; HUGE])).await.unwrap();
    in_time("close", conn.close(CLOSE_LIMIT)).await;
    in_time("the held job", held).await.unwrap();
}

#[tokio::test]
async fn write_that_is_polled_after_it_was_ready_panics_and_sends_nothing_twice() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let conn = conn.into_shared();
    {
        let mut job = pin!(conn.write_all(b"job"));
        in_time("the job", job.as_mut()).await.unwrap();
        let again = catch_unwind(AssertUnwindSafe(|| spawn(job.as_mut()).poll().is_ready()));
        let message = *again.unwrap_err().downcast::<&str>().unwrap();
        assert!(message.contains("polled again"), "{message}");
    }
    drop(conn);
    let mut all = Vec::new();
    in_time("the peer", peer.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"job");
}

#[tokio::test]
async fn write_bytes_sends_jobs_of_any_size_in_an_outage_and_in_order() {
    let server = Server::start().await;
    let conn = quick(Conn::builder(server.address)).build().unwrap().into_shared();
    let sizes = [1, 15_000, 20_000, 100_000, 3];
    let mut jobs: Vec<_> =
        sizes.iter().enumerate().map(|(number, size)| Box::pin(conn.write_bytes(vec![number as u8; *size]))).collect();
    for job in &mut jobs {
        assert!(poll_once(job).await.is_pending());
    }
    let mut peer = server.accept().await;
    let mut all = vec![0; sizes.iter().sum()];
    in_time("the peer", peer.read_exact(&mut all)).await.unwrap();
    let expected: Vec<u8> = sizes.iter().enumerate().flat_map(|(number, size)| vec![number as u8; *size]).collect();
    assert!(all == expected, "the jobs are in order and whole");
    for job in jobs {
        in_time("a job", job).await.unwrap();
    }
}

#[tokio::test]
#[cfg_attr(windows, ignore = "Windows takes a write whole, however long it is")]
async fn owner_of_bytes_is_dropped_without_a_lock() {
    /// Bytes whose drop uses the connection.
    struct Owner(Vec<u8>, perconn::SharedConn);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    impl Drop for Owner {
        fn drop(&mut self) {
            let mut job = pin!(self.1.write_all(b"from the drop"));
            let _ = spawn(job.as_mut()).poll();
        }
    }
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let conn = conn.into_shared();
    for _ in 0..3 {
        let bytes = bytes::Bytes::from_owner(Owner(vec![1; HUGE], conn.clone()));
        let mut job = Box::pin(conn.write_bytes(bytes));
        assert!(poll_once(&mut job).await.is_pending());
        in_time("the first byte", peer.read_exact(&mut [0])).await.unwrap();
        // Only the queue has the bytes now, and it sends them to their end.
        drop(job);
        in_time("the rest", peer.read_exact(&mut vec![0; HUGE - 1])).await.unwrap();
    }
    in_time("another job", conn.write_all(b"x")).await.unwrap();
}
