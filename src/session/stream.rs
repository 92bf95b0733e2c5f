//! The stream of one session.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop;

use super::{Slot, broken_link, lock};
use crate::Conn;

/// A stream that lives and dies with one link; made by [`Sessions::next`](super::Sessions::next).
///
/// It is read and written like a [`TcpStream`], and when its link breaks it is over, also as one of a `TcpStream` would be:
/// the break is told by the error of the operation that meets it (with the [`Error`](crate::Error) inside), or by a
/// read that returns `Ok(0)`. From then on nothing is read or written any more: after an error, each operation fails
/// with the same kind; after `Ok(0)`, each read returns `Ok(0)` and each write fails with
/// [`BrokenPipe`](io::ErrorKind::BrokenPipe). (A flush succeeds if nothing was written since the last
/// one.) Once another session was begun, or the connection was closed, operations fail with
/// [`ConnectionAborted`](io::ErrorKind::ConnectionAborted) or
/// [`Error::ClosedConnection`](crate::Error::ClosedConnection).
///
/// A [`shutdown`](tokio::io::AsyncWriteExt::shutdown) ends the session and its link, but not the connection. It ends both
/// directions; there is no half-close. So does dropping the session. The bytes that the kernel had accepted are still
/// delivered, unless received bytes were left unread.
///
/// # Cancel safety
///
/// As for [`Conn`](Conn#cancel-safety).
///
/// # Examples
///
/// ```
/// use perconn::{Conn, Sessions};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// # let address = server.local_addr()?;
/// let mut sessions = Sessions::new(Conn::connect(address).await?);
/// let mut session = sessions.next().await?;
/// # drop(server.accept().await?); // the server dies
/// assert_eq!(session.read(&mut [0; 16]).await?, 0);
/// assert!(session.write_all(b"for the old server").await.is_err()); // and nothing for the new one
/// # sessions.close().await;
/// # Ok(())
/// # }
/// ```
pub struct Session<S = TcpStream> {
    slot: Arc<Mutex<Slot<S>>>,
    number: u64,
    generation: u64,
    end: Option<End>,
    /// Nothing was written since the last flush.
    is_flushed: bool,
}

/// How a session ended.
#[derive(Clone, Copy)]
enum End {
    /// The peer closed, and a read has said so.
    Closed,
    /// An operation has failed, with an error of this kind.
    Failed(io::ErrorKind),
    /// It was shut down by its user.
    Shutdown,
}

impl<S> Session<S> {
    pub(super) fn new(slot: Arc<Mutex<Slot<S>>>, number: u64, generation: u64) -> Self {
        Self { slot, number, generation, end: None, is_flushed: true }
    }

    /// The number of the link that the session uses.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Does one operation on the connection, unless the session is over. `ended` looks at its outcome for an end.
    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut operation: impl FnMut(&mut Conn<S>, &mut Context<'_>) -> Poll<io::Result<T>>,
        ended: impl FnOnce(&mut Slot<S>, &T) -> Option<End>,
    ) -> Poll<io::Result<T>> {
        let over = |kind| io::Error::new(kind, format!("the session on link {} is over", self.generation));
        match self.end {
            None => {}
            Some(End::Closed | End::Shutdown) => {
                ready!(poll_yield(cx));
                return Poll::Ready(Err(over(io::ErrorKind::BrokenPipe)));
            }
            Some(End::Failed(kind)) => {
                ready!(poll_yield(cx));
                return Poll::Ready(Err(over(kind)));
            }
        }
        let mut slot = lock(&self.slot);
        if slot.number != self.number {
            self.end = Some(End::Failed(io::ErrorKind::ConnectionAborted));
            return Poll::Ready(Err(over(io::ErrorKind::ConnectionAborted)));
        }
        let outcome = loop {
            match ready!(operation(&mut slot.conn, cx)) {
                // What an operation of an earlier session had left behind when it was dropped.
                Err(error) if broken_link(&error).is_some_and(|generation| generation < self.generation) => {}
                outcome => break outcome,
            }
        };
        self.end = match &outcome {
            Ok(value) => ended(&mut slot, value),
            // No break: the two that say "try again".
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => None,
            Err(error) => Some(End::Failed(error.kind())),
        };
        if self.end.is_some() {
            // There is no conversation to hang up any more.
            slot.busy = None;
        }
        Poll::Ready(outcome)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> AsyncRead for Session<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if matches!(me.end, Some(End::Closed)) {
            ready!(poll_yield(cx));
            return Poll::Ready(Ok(()));
        }
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        me.poll(
            cx,
            |conn, cx| Pin::new(conn).poll_read(cx, buf).map_ok(|()| buf.filled().len()),
            |_, after| (*after == before).then_some(End::Closed),
        )
        .map_ok(drop)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> AsyncWrite for Session<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        me.is_flushed &= me.end.is_some();
        me.poll(cx, |conn, cx| Pin::new(conn).poll_write(cx, bytes), |_, _| None)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        me.is_flushed &= me.end.is_some();
        me.poll(cx, |conn, cx| Pin::new(conn).poll_write_vectored(cx, parts), |_, _| None)
    }

    fn is_write_vectored(&self) -> bool {
        lock(&self.slot).conn.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if me.end.is_some() && me.is_flushed {
            // As on a socket: clients flush as they read on, and would take an error for the reason of the end.
            ready!(poll_yield(cx));
            return Poll::Ready(Ok(()));
        }
        ready!(me.poll(cx, |conn, cx| Pin::new(conn).poll_flush(cx), |_, ()| None))?;
        me.is_flushed = true;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if me.end.is_some() {
            return Poll::Ready(Ok(()));
        }
        me.poll(
            cx,
            |conn, cx| Pin::new(conn).poll_flush(cx),
            |slot, ()| {
                slot.hang_up();
                Some(End::Shutdown)
            },
        )
    }
}

/// A loop over what is over must yield, too.
fn poll_yield(cx: &mut Context<'_>) -> Poll<()> {
    coop::poll_proceed(cx).map(|budget| budget.made_progress())
}

impl<S> Drop for Session<S> {
    fn drop(&mut self) {
        let mut slot = lock(&self.slot);
        if slot.number == self.number {
            slot.hang_up();
        }
    }
}

impl<S> fmt::Debug for Session<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("generation", &self.generation).finish_non_exhaustive()
    }
}
