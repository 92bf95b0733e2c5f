//! Streams whose writes the test controls: they wait, fail, panic or buffer at the worst moment.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use perconn::{Conn, SharedConn, WhenDown, dial_fn};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, BufStream, ReadBuf};
use tokio_test::task::spawn;

use super::within;
use crate::support::{CLOSE_LIMIT, Server, in_time, quick};

/// Decides the outcome of each write.
type WriteFn = Box<dyn FnMut(&[u8]) -> Poll<io::Result<usize>> + Send>;

/// A stream whose writes the test decides.
struct ScriptedStream {
    on_write: Arc<Mutex<WriteFn>>,
}

impl AsyncRead for ScriptedStream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for ScriptedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = self.on_write.lock().unwrap_or_else(PoisonError::into_inner)(bytes);
        if outcome.is_pending() {
            // Wakes the writer after a while.
            let waker = cx.waker().clone();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(5));
                waker.wake();
            });
        }
        outcome
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A connection over scripted streams. The first `links` dials succeed, later ones fail.
async fn scripted_conn(when_down: WhenDown, links: usize, on_write: WriteFn) -> SharedConn<ScriptedStream> {
    let on_write = Arc::new(Mutex::new(on_write));
    let mut dials = 0;
    let dialer = dial_fn(move || {
        dials += 1;
        let stream = ScriptedStream { on_write: Arc::clone(&on_write) };
        std::future::ready(if dials <= links { Ok(stream) } else { Err(io::ErrorKind::ConnectionRefused.into()) })
    });
    quick(Conn::builder("scripted").dialer(dialer)).when_down(when_down).connect().await.unwrap().into_shared()
}

/// A lone caller writes, and during its write another call joins and is cancelled. The first call must then go through
/// the queue.
async fn second_call_during_the_first_write(size: usize) {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let other: Arc<Mutex<Option<SharedConn<ScriptedStream>>>> = Arc::default();
    let is_first = AtomicBool::new(true);
    let is_open = Arc::new(AtomicBool::new(false));
    let on_write: WriteFn = Box::new({
        let (sent, other, is_open) = (Arc::clone(&sent), Arc::clone(&other), Arc::clone(&is_open));
        move |bytes| {
            if is_first.swap(false, Ordering::SeqCst) {
                // As another thread could at this moment.
                let conn = other.lock().unwrap().clone().unwrap();
                let mut call = Box::pin(conn.write_all(b"cancelled"));
                assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
                return Poll::Pending;
            }
            if !is_open.load(Ordering::SeqCst) {
                return Poll::Pending;
            }
            sent.lock().unwrap().extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }
    });
    let conn = scripted_conn(WhenDown::Wait, 1, on_write).await;
    *other.lock().unwrap() = Some(conn.clone());
    let bytes = vec![7; size];
    let mut call = spawn(conn.write_all(&bytes));
    assert!(call.poll().is_pending());
    assert!(call.poll().is_pending(), "Ok although the stream took {} bytes", sent.lock().unwrap().len());
    is_open.store(true, Ordering::SeqCst);
    in_time("the first", call).await.unwrap();
    assert_eq!(sent.lock().unwrap().len(), size);
}

#[tokio::test]
async fn small_write_of_a_lone_caller_is_not_reported_as_sent_too_early() {
    second_call_during_the_first_write(100).await;
}

#[tokio::test]
async fn large_write_of_a_lone_caller_is_not_reported_as_sent_too_early() {
    second_call_during_the_first_write(20_000).await;
}

async fn second_call_during_the_break(when_down: WhenDown) {
    let other: Arc<Mutex<Option<SharedConn<ScriptedStream>>>> = Arc::default();
    let joined = Arc::new(Mutex::new(None));
    let on_write: WriteFn = Box::new({
        let (other, joined) = (Arc::clone(&other), Arc::clone(&joined));
        move |_| {
            let Some(conn) = other.lock().unwrap().take() else { panic!("one write only") };
            // In another worker, at this moment.
            let (sender, is_queued) = std::sync::mpsc::channel();
            let call = tokio::spawn(async move {
                let mut call = pin!(conn.write_all(b"joined"));
                poll_fn(|cx| {
                    let outcome = call.as_mut().poll(cx);
                    let _ = sender.send(());
                    outcome
                })
                .await
            });
            is_queued.recv().unwrap();
            *joined.lock().unwrap() = Some(call);
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }
    });
    let conn = scripted_conn(when_down, 1, on_write).await;
    *other.lock().unwrap() = Some(conn.clone());
    within(1000, conn.write_all(b"first")).await;
    let call = joined.lock().unwrap().take().unwrap();
    let outcome = within(2000, call).await;
    assert!(outcome.is_some(), "{when_down:?}: the second call waits beyond its limit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn job_queued_during_a_break_fails_as_down() {
    second_call_during_the_break(WhenDown::Fail).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn job_queued_during_a_break_waits_only_for_its_time_limit() {
    second_call_during_the_break(WhenDown::WaitFor(Duration::from_millis(100))).await;
}

#[tokio::test]
async fn buffering_stream_is_flushed_before_a_job_completes() {
    let server = Server::start().await;
    let address = server.address;
    let dialer = dial_fn(move || async move { tokio::net::TcpStream::connect(address).await.map(BufStream::new) });
    let (conn, mut peer) = tokio::join!(quick(Conn::builder(address).dialer(dialer)).connect(), server.accept());
    let conn = conn.unwrap().into_shared();
    conn.write_all(b"hello").await.unwrap();
    let got = within(500, peer.read(&mut [0; 16])).await;
    conn.close(CLOSE_LIMIT).await;
    drop(conn);
    let mut all = Vec::new();
    let _ = in_time("end", peer.read_to_end(&mut all)).await;
    assert!(got.is_some(), "Ok, but the kernel has nothing; after close the peer had {all:?}");
}

#[tokio::test]
async fn panic_in_the_stream_releases_the_write_permit() {
    let count = AtomicUsize::new(0);
    let on_write: WriteFn = Box::new(move |bytes| {
        if count.fetch_add(1, Ordering::SeqCst) == 0 {
            panic!("from the stream");
        }
        Poll::Ready(Ok(bytes.len()))
    });
    let conn = scripted_conn(WhenDown::Wait, 2, on_write).await;
    let one = conn.clone();
    // A lone caller, polled outside of any task.
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = Box::pin(one.write_all(b"x")).as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }));
    assert!(caught.is_err());
    let outcome = within(1000, conn.write_all(b"y")).await;
    assert!(outcome.is_some(), "hangs");
}

#[tokio::test]
async fn stream_that_panics_breaks_its_link_and_tears_no_job() {
    for size in [100, 20_000] {
        let sent: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let wire = Arc::clone(&sent);
        let dialer = dial_fn(move || {
            let (wire, link) = (Arc::clone(&wire), wire.lock().unwrap().len());
            wire.lock().unwrap().push(Vec::new());
            let on_write: WriteFn = Box::new(move |bytes| {
                let mut wire = wire.lock().unwrap();
                // The first job on the first link.
                if link == 0 && bytes.len() > 10 {
                    wire[0].extend_from_slice(&bytes[..50]);
                    drop(wire);
                    std::panic::resume_unwind(Box::new("from the stream"));
                }
                wire[link].extend_from_slice(bytes);
                Poll::Ready(Ok(bytes.len()))
            });
            std::future::ready(Ok(ScriptedStream { on_write: Arc::new(Mutex::new(on_write)) }))
        });
        let conn = quick(Conn::builder("panics").dialer(dialer)).connect().await.unwrap().into_shared();
        // Two tasks write, so that the jobs go through the queue.
        for _ in 0..2 {
            let conn = conn.clone();
            tokio::spawn(async move { conn.write_all(b"x").await }).await.unwrap().unwrap();
        }
        let call = tokio::spawn({
            let conn = conn.clone();
            async move { conn.write_all(&vec![7; size]).await }
        });
        let _ = in_time("the job", call).await;
        in_time("the next job", conn.write_all(b"next")).await.unwrap();
        let sent = sent.lock().unwrap();
        assert!(sent[0].iter().all(|byte| b"x\x07".contains(byte)), "{} bytes follow a torn job", sent[0].len() - 52);
        assert!(
            sent[1].ends_with(b"next") && (sent[1].len() - 4) % size == 0,
            "{} bytes on the next link",
            sent[1].len()
        );
    }
}
