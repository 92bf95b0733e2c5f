//! A stream that the test controls: its flush waits, its shutdown takes several polls, its reads fail.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use perconn::{Conn, dial_fn};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::mpsc;

use crate::support::{in_time, quick, reported_generation};

/// The test's control of one stream.
#[derive(Clone, Default)]
struct StreamControl(Arc<Mutex<StreamState>>);

#[derive(Default)]
struct StreamState {
    /// The outcomes of reads, in order. Further reads wait.
    reads: Vec<io::Result<&'static [u8]>>,
    is_flush_stuck: bool,
    /// How many polls of a shutdown return `Pending`.
    shutdown_polls: usize,
    is_shut_down: bool,
    is_dropped: bool,
    wakers: Vec<Waker>,
}

impl StreamControl {
    fn change(&self, change: impl FnOnce(&mut StreamState)) {
        let mut state = self.0.lock().unwrap();
        change(&mut state);
        state.wakers.drain(..).for_each(Waker::wake);
    }

    fn is_shut_down(&self) -> bool {
        self.0.lock().unwrap().is_shut_down
    }

    fn is_dropped(&self) -> bool {
        self.0.lock().unwrap().is_dropped
    }
}

/// The stream that the connection holds.
struct ControlledStream(StreamControl);

impl Drop for ControlledStream {
    fn drop(&mut self) {
        self.0.change(|state| state.is_dropped = true);
    }
}

impl AsyncRead for ControlledStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.0.lock().unwrap();
        if state.reads.is_empty() {
            state.wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(state.reads.remove(0).map(|bytes| buf.put_slice(bytes)))
    }
}

impl AsyncWrite for ControlledStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.0.lock().unwrap();
        if state.is_flush_stuck {
            state.wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.0.lock().unwrap();
        if state.shutdown_polls > 0 {
            state.shutdown_polls -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        state.is_shut_down = true;
        Poll::Ready(Ok(()))
    }
}

/// A connection over controlled streams, and the control of each.
async fn controlled_conn() -> (Conn<impl AsyncRead + AsyncWrite + Unpin + Send>, mpsc::UnboundedReceiver<StreamControl>)
{
    let (sender, links) = mpsc::unbounded_channel();
    let dialer = dial_fn(move || {
        let control = StreamControl::default();
        sender.send(control.clone()).unwrap();
        std::future::ready(Ok(ControlledStream(control)))
    });
    (in_time("connect", quick(Conn::builder("controlled").dialer(dialer)).connect()).await.unwrap(), links)
}

#[tokio::test]
async fn waiting_flush_reports_the_break_after_a_read_reported_it() {
    let (mut conn, mut links) = controlled_conn().await;
    in_time("write", conn.write_all(b"in the stream's own buffer")).await.unwrap();
    let link = links.recv().await.unwrap();
    link.change(|state| state.is_flush_stuck = true);
    let (mut read, mut write) = tokio::io::split(conn);
    let mut flush = tokio_test::task::spawn(write.flush());
    assert!(flush.poll().is_pending());
    link.change(|state| state.reads.push(Err(ErrorKind::ConnectionReset.into())));
    assert!(in_time("read", read.read_u8()).await.is_err());
    assert_eq!(reported_generation(&in_time("flush", flush).await.unwrap_err()), 1, "the flushed bytes are lost");
}

#[tokio::test]
async fn flush_that_waited_and_succeeded_leaves_nothing_to_report() {
    let (mut conn, mut links) = controlled_conn().await;
    in_time("write", conn.write_all(b"x")).await.unwrap();
    let link = links.recv().await.unwrap();
    link.change(|state| state.is_flush_stuck = true);
    {
        let mut flush = tokio_test::task::spawn(conn.flush());
        assert!(flush.poll().is_pending());
        link.change(|state| state.is_flush_stuck = false);
        in_time("flush", flush).await.unwrap();
    }
    link.change(|state| state.reads.push(Err(ErrorKind::ConnectionReset.into())));
    assert!(in_time("read", conn.read_u8()).await.is_err());
    in_time("a write on the next link", conn.write_all(b"x")).await.unwrap();
}

#[tokio::test]
async fn dropped_write_half_lets_the_stream_finish_its_shutdown() {
    let (conn, mut links) = controlled_conn().await;
    let link = links.recv().await.unwrap();
    link.change(|state| state.shutdown_polls = 3);
    let (read, write) = conn.into_split();
    drop(write);
    in_time("the shutdown ends", async {
        while !link.is_shut_down() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(read);
}

#[tokio::test]
async fn stuck_shutdown_ends_with_the_connection() {
    let (conn, mut links) = controlled_conn().await;
    let link = links.recv().await.unwrap();
    link.change(|state| state.shutdown_polls = usize::MAX);
    let (read, write) = conn.into_split();
    drop(write);
    drop(read);
    in_time("the stream is dropped", async {
        while !link.is_dropped() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!link.is_shut_down());
}

#[tokio::test]
async fn interrupted_read_of_the_last_bytes_loses_none() {
    let (conn, mut links) = controlled_conn().await;
    let link = links.recv().await.unwrap();
    let (mut read, write) = conn.into_split();
    assert!(tokio_test::task::spawn(read.read_u8()).poll().is_pending());
    link.change(|state| state.reads.extend([Err(ErrorKind::Interrupted.into()), Ok(&b"tail"[..])]));
    write.break_link(1);
    let mut buf = [0; 8];
    let first = in_time("read", read.read(&mut buf)).await;
    assert_eq!(first.unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(in_time("read", read.read(&mut buf)).await.unwrap(), 4);
    assert_eq!(reported_generation(&in_time("read", read.read(&mut buf)).await.unwrap_err()), 1);
}
