//! Writes in an outage: they follow the `WhenDown` policy, and each gets the error that applies to it.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use perconn::{Conn, Error, Status, WhenDown, dial_fn};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio_test::task::spawn;

use super::{run_other_tasks, wait_for_generation, within};
use crate::support::{CLOSE_LIMIT, Server, in_time, perconn_error, quick, refused_address, reset};

#[tokio::test]
async fn writes_in_an_outage_follow_the_policy() {
    let address = refused_address().await;
    let conn = quick(Conn::builder(address)).when_down(WhenDown::Fail).build().unwrap().into_shared();
    let error = in_time("write", conn.write_all(b"x")).await.unwrap_err();
    assert!(matches!(perconn_error(&error), Error::Down { .. }));

    let limit = Duration::from_millis(30);
    let conn = quick(Conn::builder(address)).when_down(WhenDown::WaitFor(limit)).build().unwrap().into_shared();
    let error = in_time("write", conn.write_all(b"x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);

    let mut server = Server::start().await;
    server.stop();
    let conn = server.client().build().unwrap().into_shared();
    let writing = tokio::spawn({
        let conn = conn.clone();
        async move { conn.write_all(b"waiting!").await }
    });
    server.restart().await;
    let mut peer = server.accept().await;
    let mut text = [0; 8];
    in_time("peer", peer.read_exact(&mut text)).await.unwrap();
    in_time("write", writing).await.unwrap().unwrap();
}

#[tokio::test]
async fn break_of_an_idle_connection_is_redialed() {
    let server = Server::start().await;
    let (conn, peer) = server.pair().await;
    let conn = conn.into_shared();
    drop(peer);
    let mut peer = server.accept().await;
    in_time("the next link", conn.connected()).await.unwrap();
    // A job that had not started is not affected by the break.
    in_time("write", conn.write_all(b"hello")).await.unwrap();
    let mut text = [0; 5];
    in_time("peer", peer.read_exact(&mut text)).await.unwrap();
}

#[tokio::test]
async fn loop_of_errors_lets_the_actor_redial() {
    let server = Server::start().await;
    let conn = server.client().when_down(WhenDown::Fail).build().unwrap().into_shared();
    // The actor runs on the same thread.
    while conn.write_all(b"x").await.is_err() {}
    conn.close(CLOSE_LIMIT).await;
    let looping = tokio::spawn(async move { while conn.write_all(b"x").await.is_err() {} });
    tokio::time::sleep(Duration::from_millis(5)).await;
    looping.abort();
    assert!(looping.await.unwrap_err().is_cancelled());
}

#[tokio::test]
async fn large_job_waits_for_a_link_only_for_its_time_limit() {
    let address = refused_address().await;
    let limit = Duration::from_millis(50);
    let conn = quick(Conn::builder(address)).when_down(WhenDown::WaitFor(limit)).build().unwrap().into_shared();
    let large = within(2000, conn.write_all(&vec![0; 16 << 10])).await;
    assert!(large.is_some(), "a job of 16 KiB waits beyond its limit");
}

#[tokio::test]
async fn job_that_timed_out_is_not_sent() {
    let mut server = Server::start().await;
    server.stop();
    let limit = Duration::from_millis(50);
    let conn = server.client().when_down(WhenDown::WaitFor(limit)).build().unwrap().into_shared();
    let mut call = Box::pin(conn.write_all(b"ghost"));
    let error = in_time("write", call.as_mut()).await.unwrap_err();
    assert!(matches!(perconn_error(&error), Error::WaitTimeout { .. }));
    server.restart().await;
    let mut peer = server.accept().await;
    let mut buf = [0; 16];
    let got = within(300, peer.read(&mut buf)).await;
    assert!(got.is_none(), "sent after WaitTimeout: {:?}", &buf[..got.unwrap().unwrap()]);
}

#[tokio::test]
async fn giving_up_is_reported_under_every_policy() {
    let address = refused_address().await;
    let conn = quick(Conn::builder(address)).when_down(WhenDown::Fail).max_retries(0).build().unwrap().into_shared();
    let mut status = conn.watch_status();
    in_time("gave up", status.wait_for(|status| *status == Status::GaveUp)).await.unwrap();
    let error = in_time("write", conn.write_all(b"x")).await.unwrap_err();
    let read = in_time("read", conn.read(&mut [0; 8])).await.unwrap_err();
    assert!(matches!(perconn_error(&read), Error::GaveUp { .. }), "read {read:?}");
    assert!(matches!(perconn_error(&error), Error::GaveUp { .. }), "{error:?}");
}

#[tokio::test]
async fn no_write_fails_as_down_while_a_link_is_up() {
    let server = Server::start().await;
    let (conn, peer) = tokio::join!(server.client().when_down(WhenDown::Fail).connect(), server.accept());
    let conn = conn.unwrap().into_shared();
    // Two tasks write, so writes go through the queue.
    for _ in 0..3 {
        let [a, b] = [conn.clone(), conn.clone()].map(|conn| tokio::spawn(async move { conn.write_all(b"x").await }));
        a.await.unwrap().unwrap();
        b.await.unwrap().unwrap();
    }
    drop(peer);
    let _peer = server.accept().await;
    wait_for_generation(&conn, 2).await;
    run_other_tasks().await;
    let [a, b] = [conn.clone(), conn.clone()].map(|conn| tokio::spawn(async move { conn.write_all(b"y").await }));
    let outcomes = [a.await.unwrap(), b.await.unwrap()];
    assert_eq!(conn.generation(), 2);
    assert!(conn.is_connected());
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
}

/// Polls a future when its task has used up its cooperative budget, so that every tokio resource returns `Pending`.
async fn poll_without_budget<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| {
        while pin!(tokio::task::consume_budget()).poll(cx).is_ready() {}
        Poll::Ready(Pin::new(&mut *future).poll(cx))
    })
    .await
}

#[tokio::test]
#[cfg_attr(windows, ignore = "Windows takes a write whole, however long it is")]
async fn partly_written_job_reports_the_break_and_not_down() {
    let server = Server::start().await;
    let (conn, mut peer) = tokio::join!(server.client().when_down(WhenDown::Fail).connect(), server.accept());
    let conn = conn.unwrap().into_shared();
    let bytes = vec![7; 32 << 20];
    let mut call = Box::pin(conn.write_all(&bytes));
    assert!(within(100, call.as_mut()).await.is_none());
    in_time("a part of the job", peer.read_exact(&mut [0; 1000])).await.unwrap();
    let mut status = conn.watch_status();
    reset(peer);
    in_time("the break", status.wait_for(|status| !status.is_connected())).await.unwrap();
    let outcome = match poll_without_budget(&mut call).await {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => in_time("write", call).await,
    };
    let error = outcome.unwrap_err();
    assert!(matches!(perconn_error(&error), Error::IoError { generation: 1, .. }), "{error:?}");
}

/// A stream that takes every byte, and whose flush never completes after 1,000 bytes.
#[derive(Default)]
struct NeverFlushed(usize);

impl AsyncRead for NeverFlushed {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for NeverFlushed {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0 += bytes.len();
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.0 < 1000 { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn job_waiting_for_its_flush_reports_the_break_and_not_down() {
    let dialer = dial_fn(|| std::future::ready(Ok(NeverFlushed::default())));
    let builder = quick(Conn::builder("never flushed").dialer(dialer)).when_down(WhenDown::Fail);
    let conn = builder.connect().await.unwrap().into_shared();
    // Two tasks write, so that the job goes through the queue.
    for _ in 0..2 {
        let conn = conn.clone();
        tokio::spawn(async move { conn.write_all(b"x").await }).await.unwrap().unwrap();
    }
    let bytes = vec![1; 20_000];
    let mut call = Box::pin(conn.write_all(&bytes));
    for _ in 0..5 {
        run_other_tasks().await;
        assert!(poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await.is_pending());
    }
    conn.break_link(1);
    let outcome = match poll_without_budget(&mut call).await {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => in_time("write", call).await,
    };
    let error = outcome.unwrap_err();
    assert!(matches!(perconn_error(&error), Error::IoError { .. }), "{error:?}");
}

#[tokio::test]
async fn cancelled_calls_behind_a_waiting_call_leave_nothing_behind() {
    let address = refused_address().await;
    let conn = quick(Conn::builder(address)).build().unwrap().into_shared();
    let mut waits = spawn(conn.write_all(b"waits"));
    assert!(waits.poll().is_pending());
    let call = || {
        let mut call = Box::pin(conn.write_all(b"next"));
        assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        call
    };
    // Each new call replaces the one before, so one is always queued.
    let mut last = call();
    let mut time_of = |calls| {
        let began = Instant::now();
        for _ in 0..calls {
            last = call();
        }
        began.elapsed()
    };
    let first = time_of(2_000);
    time_of(16_000);
    let then = time_of(2_000);
    assert!(then < first * 5 + Duration::from_millis(100), "2,000 calls took {first:?}, and later {then:?}");
}
