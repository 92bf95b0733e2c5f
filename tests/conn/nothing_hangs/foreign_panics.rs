//! Panics of the program's wakers and of its streams' destructors: other tasks are woken, and the connection goes on.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::{io, panic};

use perconn::{Conn, SharedConn, dial_fn};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::runtime::Handle;
use tokio_test::task::spawn;

use super::{assert_closed, close};
use crate::support::{CLOSE_LIMIT, in_time, perconn_error, quick, refused_address};

/// A stream that panics when it is dropped.
struct Bomb(DuplexStream);

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic::resume_unwind(Box::new("from the stream's drop"));
        }
    }
}

impl AsyncRead for Bomb {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Bomb {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A connection whose streams panic when they are dropped, and the other ends of its links.
async fn bombs() -> (Conn<Bomb>, tokio::sync::mpsc::UnboundedReceiver<DuplexStream>) {
    let (sender, peers) = tokio::sync::mpsc::unbounded_channel();
    let dialer = dial_fn(move || {
        let (ours, theirs) = duplex(64);
        let _ = sender.send(theirs);
        std::future::ready(Ok(Bomb(ours)))
    });
    let conn = quick(Conn::builder("bombs").dialer(dialer)).build().unwrap();
    in_time("connected", conn.connected()).await.unwrap();
    (conn, peers)
}

#[tokio::test]
async fn stream_whose_drop_panics_does_not_keep_a_close_waiting() {
    let tasks = Handle::current().metrics().num_alive_tasks();
    let (mut conn, _peers) = bombs().await;
    // No handle has taken the link: the close drops it.
    close(&conn).await;
    assert_closed(&mut conn).await;
    drop(conn);
    assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks, "the actor has ended");
}

#[tokio::test]
async fn stream_whose_drop_panics_is_a_break_like_any_other() {
    let (mut conn, mut peers) = bombs().await;
    for _ in 0..3 {
        drop(peers.recv().await.unwrap());
        assert_eq!(in_time("the break", conn.read(&mut [0; 4])).await.unwrap(), 0);
        in_time("the next link", conn.connected()).await.unwrap();
    }
    drop(conn);
}

#[tokio::test]
async fn job_that_a_break_cuts_is_torn_by_no_panic_of_the_streams_drop() {
    let (conn, mut peers) = bombs().await;
    let conn = conn.into_shared();
    let mut peer = peers.recv().await.unwrap();
    let job = |conn: SharedConn<Bomb>, byte| tokio::spawn(async move { conn.write_all(&[byte; 100]).await });
    let (cut, next) = (job(conn.clone(), 1), job(conn.clone(), 2));
    in_time("a part of the first job", peer.read_exact(&mut [0; 10])).await.unwrap();
    drop(peer);
    let mut peer = peers.recv().await.unwrap();
    let mut all = [0; 100];
    in_time("the second job", peer.read_exact(&mut all)).await.unwrap();
    assert_eq!(all, [2; 100], "the rest of the first job is on no other link");
    assert!(in_time("the first job", cut).await.unwrap().is_err());
    in_time("the second job", next).await.unwrap().unwrap();
}

/// A waker that panics, or counts.
struct Watched {
    count: AtomicUsize,
    panics: AtomicBool,
}

impl Wake for Watched {
    fn wake(self: Arc<Self>) {
        self.count.fetch_add(1, Ordering::Relaxed);
        if self.panics.load(Ordering::Relaxed) {
            panic::resume_unwind(Box::new("from the waker"));
        }
    }
}

#[tokio::test]
async fn waker_that_panics_in_a_wait_for_the_status_keeps_nobody_waiting() {
    let conn = quick(Conn::builder(refused_address().await)).build().unwrap();
    let wakers: Vec<_> = [true, false, false]
        .map(|panics| Arc::new(Watched { count: AtomicUsize::new(0), panics: panics.into() }))
        .into();
    let mut waits: Vec<_> = wakers.iter().map(|_| Box::pin(conn.connected())).collect();
    let mut watches: Vec<_> = wakers.iter().map(|_| conn.watch_status()).collect();
    let mut changes: Vec<_> = watches.iter_mut().map(|watch| Box::pin(watch.changed())).collect();
    for ((wait, change), waker) in waits.iter_mut().zip(&mut changes).zip(&wakers) {
        let waker = Waker::from(Arc::clone(waker));
        assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert!(change.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    close(&conn).await;
    for ((wait, change), waker) in waits.into_iter().zip(changes).zip(&wakers) {
        assert_eq!(waker.count.load(Ordering::Relaxed), 2, "each wait is woken");
        assert!(spawn(wait).poll().is_ready());
        assert!(spawn(change).poll().is_ready());
    }
}

/// A stream that says it has taken one byte more than it was given.
struct Liar(DuplexStream);

impl AsyncRead for Liar {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Liar {
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
async fn stream_that_takes_more_than_it_was_given_is_an_error() {
    use tokio::io::AsyncWriteExt;
    let dialer = || {
        dial_fn(|| {
            let (ours, theirs) = duplex(64);
            std::mem::forget(theirs);
            std::future::ready(Ok(Liar(ours)))
        })
    };
    let mut conn = quick(Conn::builder("liar").dialer(dialer())).build().unwrap();
    let slices = [io::IoSlice::new(b"he"), io::IoSlice::new(b"llo")];
    for _ in 0..2 {
        let error = in_time("write", conn.write(b"hello")).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let text = perconn_error(&error).with_causes().to_string();
        assert!(text.contains("6 bytes of the 5"), "{text}");
        // The default of a vectored write gives the stream its first part only.
        assert!(in_time("write_vectored", conn.write_vectored(&slices)).await.is_ok());
    }
    drop(conn);
    let conn = quick(Conn::builder("liar").dialer(dialer())).build().unwrap().into_shared();
    let jobs: Vec<_> = (0..3).map(|_| conn.clone()).collect();
    let jobs: Vec<_> =
        jobs.into_iter().map(|conn| tokio::spawn(async move { conn.write_all(b"hello").await })).collect();
    in_time("close", conn.close(CLOSE_LIMIT)).await;
    for job in jobs {
        assert!(in_time("a job", job).await.unwrap().is_err());
    }
}

/// A dial that is ready at once, and panics when it is dropped.
struct PanickingDrop(Option<DuplexStream>);

impl Future for PanickingDrop {
    type Output = io::Result<DuplexStream>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(self.0.take().ok_or_else(|| io::ErrorKind::Other.into()))
    }
}

impl Drop for PanickingDrop {
    fn drop(&mut self) {
        panic::resume_unwind(Box::new("from the dial's drop"));
    }
}

#[tokio::test]
async fn stream_of_a_dial_whose_drop_panics_is_closed() {
    let (sender, mut peers) = tokio::sync::mpsc::unbounded_channel();
    let dialer = dial_fn(move || {
        let (ours, theirs) = duplex(64);
        let _ = sender.send(theirs);
        PanickingDrop(Some(ours))
    });
    let conn = quick(Conn::builder("drops").dialer(dialer)).build().unwrap();
    let mut peer = in_time("a dial", peers.recv()).await.unwrap();
    assert_eq!(in_time("the end", peer.read(&mut [0])).await.unwrap(), 0);
    close(&conn).await;
}
