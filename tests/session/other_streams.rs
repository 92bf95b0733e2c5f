//! Sessions over streams that are not sockets.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures_util::FutureExt;
use perconn::Sessions;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::mpsc;

use super::support::{self, in_time, pipes, reported_generation};

#[tokio::test]
async fn shutdown_shuts_down_a_stream_that_is_not_a_socket() {
    let (conn, mut peers) = pipes().await;
    let mut sessions = Sessions::new(conn);
    for is_read in [true, false, false] {
        let mut session = in_time("the next session", sessions.next()).await.unwrap();
        let mut peer = in_time("the peer", peers.recv()).await.unwrap();
        if is_read {
            peer.write_all(b"!").await.unwrap();
            assert_eq!(in_time("read", session.read_u8()).await.unwrap(), b'!');
        }
        session.write_all(b"bye").await.unwrap();
        in_time("shutdown", session.shutdown()).await.unwrap();
        let mut received = String::new();
        in_time("the peer sees the end", peer.read_to_string(&mut received)).await.unwrap();
        assert_eq!(received, "bye");
        assert_eq!(in_time("write", session.write(b"more")).await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}

#[tokio::test]
async fn close_releases_a_stream_that_is_not_a_socket() {
    let (conn, mut peers) = pipes().await;
    let mut sessions = Sessions::new(conn);
    let _session = in_time("the first session", sessions.next()).await.unwrap();
    let mut peer = in_time("the peer", peers.recv()).await.unwrap();
    in_time("close", sessions.close()).await;
    assert_eq!(in_time("the peer sees the end", peer.read(&mut [0; 4])).await.unwrap(), 0);
}

#[tokio::test]
async fn close_closes_from_its_first_poll_on_and_keeps_nothing_alive_before() {
    let (conn, mut peers) = pipes().await;
    let mut sessions = Sessions::new(conn);
    let session = in_time("the first session", sessions.next()).await.unwrap();
    let mut peer = in_time("the peer", peers.recv()).await.unwrap();
    let _ = sessions.close().now_or_never();
    assert_eq!(in_time("the peer sees the end", peer.read(&mut [0; 4])).await.unwrap(), 0);
    drop(session);

    let (conn, mut peers) = pipes().await;
    let sessions = Sessions::new(conn);
    let mut peer = in_time("the peer", peers.recv()).await.unwrap();
    let close = sessions.close();
    drop(sessions);
    assert_eq!(in_time("the peer sees the end", peer.read(&mut [0; 4])).await.unwrap(), 0);
    in_time("close", close).await;
}

#[tokio::test]
async fn read_that_waits_for_the_end_of_its_stream_is_woken_by_the_next_session() {
    let (sender, mut peers) = mpsc::unbounded_channel();
    let dialer = perconn::dial_fn(move || {
        let (near, far) = tokio::io::duplex(64);
        sender.send(far).unwrap();
        std::future::ready(Ok(Unwritable(near)))
    });
    let builder = support::quick(perconn::Conn::builder("memory").dialer(dialer));
    let mut sessions = Sessions::new(in_time("connect", builder.connect()).await.unwrap());
    let mut readers = Vec::new();
    for _ in 0..2 {
        let mut session = in_time("the next session", sessions.next()).await.unwrap();
        let _peer = in_time("the peer", peers.recv()).await.unwrap();
        assert!(in_time("write", session.write(b"?")).await.is_err());
        readers.push((_peer, tokio::spawn(async move { session.read(&mut [0; 4]).await })));
        tokio::task::yield_now().await;
    }
    let _next = in_time("the next session", sessions.next()).await.unwrap();
    for (_peer, reader) in readers {
        in_time("the read", reader).await.unwrap().unwrap_err();
    }
}

/// The number of the error "broken pipe" on Unix.
const EPIPE: i32 = 32;

/// A stream whose writes fail with an error of the kernel's, and whose reads wait.
struct Unwritable(DuplexStream);

impl AsyncRead for Unwritable {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Unwritable {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::Error::from_raw_os_error(EPIPE)))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn sessions_work_over_streams_that_are_not_sockets() {
    let (conn, mut peers) = pipes().await;
    let mut sessions = Sessions::new(conn);
    for generation in 1..=5 {
        let mut session = in_time("the next session", sessions.next()).await.unwrap();
        let mut peer = in_time("the peer", peers.recv()).await.unwrap();
        assert_eq!(session.generation(), generation);
        session.write_all(b"?").await.unwrap();
        assert_eq!(in_time("the peer's read", peer.read_u8()).await.unwrap(), b'?');
        drop(peer);
        assert_eq!(in_time("the end", session.read(&mut [0; 4])).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn dropped_session_drops_a_stream_that_is_not_a_socket() {
    let (conn, mut peers) = pipes().await;
    let mut sessions = Sessions::new(conn);
    for _ in 0..3 {
        let session = in_time("the next session", sessions.next()).await.unwrap();
        let mut peer = in_time("the peer", peers.recv()).await.unwrap();
        drop(session);
        assert_eq!(in_time("the peer sees the end", peer.read(&mut [0; 4])).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn what_had_arrived_is_read_from_streams_that_are_not_sockets() {
    let (conn, mut peers) = pipes().await;
    let mut sessions = Sessions::new(conn);
    for is_read in [true, false, true] {
        let mut session = in_time("the next session", sessions.next()).await.unwrap();
        let mut peer = in_time("the peer", peers.recv()).await.unwrap();
        peer.write_all(b"go away").await.unwrap();
        drop(peer);
        let error = in_time("write", session.write(b"?")).await.unwrap_err();
        assert_eq!(reported_generation(&error), session.generation());
        if is_read {
            let mut bytes = Vec::new();
            // A stream that is not a socket may report the end as an end or as an error.
            let _ = in_time("read", session.read_to_end(&mut bytes)).await;
            assert_eq!(bytes, b"go away");
        }
    }
}

/// A stream that does something when it is dropped.
struct ActsOnDrop(DuplexStream, Option<Box<dyn FnOnce() + Send>>);

impl Drop for ActsOnDrop {
    fn drop(&mut self) {
        self.1.take().into_iter().for_each(|act| act());
    }
}

impl AsyncRead for ActsOnDrop {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for ActsOnDrop {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The stream closes the sessions when it is dropped, which takes their lock.
async fn close_in_a_drop() {
    type Close = Pin<Box<dyn Future<Output = ()> + Send>>;
    let close: Arc<Mutex<Option<Close>>> = Arc::default();
    let (sender, _peers) = mpsc::unbounded_channel();
    let dialer = perconn::dial_fn({
        let close = Arc::clone(&close);
        move || {
            let (near, far) = tokio::io::duplex(64);
            sender.send(far).unwrap();
            let close = Arc::clone(&close);
            let act = move || {
                let close = close.lock().unwrap().take();
                close.and_then(FutureExt::now_or_never);
            };
            std::future::ready(Ok(ActsOnDrop(near, Some(Box::new(act)))))
        }
    });
    let builder = support::quick(perconn::Conn::builder("memory").dialer(dialer));
    let mut conn = in_time("connect", builder.connect()).await.unwrap();
    // So both directions use the link that then breaks.
    conn.write_all(b"?").await.unwrap();
    conn.break_link(conn.generation());
    let mut sessions = Sessions::new(conn);
    *close.lock().unwrap() = Some(Box::pin(sessions.close()));
    assert!(in_time("the next session", sessions.next()).await.is_err());
    assert!(close.lock().unwrap().is_none());
}

#[test]
fn link_that_next_passes_over_is_dropped_without_the_lock() {
    let (sender, is_done) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(close_in_a_drop());
        sender.send(()).unwrap();
    });
    match is_done.recv_timeout(support::HANG_LIMIT) {
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("the thread is blocked"),
        _ => thread.join().unwrap(),
    }
}
