//! The stream of one session.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop;

use super::{Slot, lock};
use crate::WriteHalf;
use crate::sync::Mutex;

/// A stream that lives and dies with one link; made by [`Sessions::next`](super::Sessions::next).
///
/// It is read and written like a [`TcpStream`], and when its link breaks it is over, also as one of a `TcpStream` would be:
/// the break is told by the error of the operation that meets it (with the [`Error`](crate::Error) inside), or by a
/// read that returns `Ok(0)`. After a read was told, nothing is read or written any more: after an error, each operation fails
/// with the same kind; after `Ok(0)`, each read returns `Ok(0)` and each write fails with
/// [`BrokenPipe`](io::ErrorKind::BrokenPipe). If a write was told, each further one fails with the same kind, and reads go
/// on: what the peer had said before the break (perhaps why it closes) can still be read, and then a read is told, too. (A
/// flush succeeds if nothing was written since the last one.) Once another session was begun, or the connection was closed,
/// operations fail with
/// [`ConnectionAborted`](io::ErrorKind::ConnectionAborted) or
/// [`Error::ClosedConnection`](crate::Error::ClosedConnection).
///
/// A [`shutdown`](tokio::io::AsyncWriteExt::shutdown) ends the session and its link, but not the connection. It ends both
/// directions; there is no half-close. So does dropping the session. The bytes that the kernel had accepted are still
/// delivered, unless received bytes were left unread (over TLS 1.3, a session that only writes leaves the server's tickets: so
/// read an answer to the last request first). A stream that is no socket is shut down by a `shutdown` (one of TLS says goodbye),
/// and dropped in either case.
///
/// # Cancel safety
///
/// As for [`Conn`](crate::Conn#cancel-safety).
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
    /// A write has failed, with an error of this kind.
    write_failed: Option<io::ErrorKind>,
    /// Nothing was written since the last flush.
    is_flushed: bool,
}

/// How a session ended.
#[derive(Clone, Copy)]
enum End {
    /// The peer closed, and a read has said so.
    Closed,
    /// A read has failed, with an error of this kind.
    Failed(io::ErrorKind),
    /// It was shut down by its user.
    Shutdown,
}

impl<S> Session<S> {
    pub(super) fn new(slot: Arc<Mutex<Slot<S>>>, number: u64, generation: u64) -> Self {
        Self { slot, number, generation, end: None, write_failed: None, is_flushed: true }
    }

    /// The number of the link that the session uses.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether nothing more can be written.
    fn is_write_over(&self) -> bool {
        self.end.is_some() || self.write_failed.is_some()
    }

    /// What an operation fails with once the session is over.
    fn check(&self) -> Result<MutexGuard<'_, Slot<S>>, io::ErrorKind> {
        match self.end {
            Some(End::Closed | End::Shutdown) => return Err(io::ErrorKind::BrokenPipe),
            Some(End::Failed(kind)) => return Err(kind),
            None => {}
        }
        let slot = lock(&self.slot);
        if slot.number == self.number { Ok(slot) } else { Err(io::ErrorKind::ConnectionAborted) }
    }

    /// Ends the link, unless it is another session's turn.
    fn hang_up(&self) {
        let mut slot = lock(&self.slot);
        let released = if slot.number == self.number { slot.hang_up() } else { [None, None] };
        drop(slot);
        drop(released);
    }

    fn over(&self, kind: io::ErrorKind) -> io::Error {
        io::Error::new(kind, format!("the session on link {} is over", self.generation))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Session<S> {
    /// Writes, or flushes, unless the session or its writing is over.
    fn poll_writing<T>(
        &mut self,
        cx: &mut Context<'_>,
        operation: impl FnOnce(Pin<&mut WriteHalf<S>>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let outcome = match self.write_failed.map_or_else(|| self.check(), Err) {
            Ok(mut slot) => ready!(operation(Pin::new(&mut slot.write), cx)),
            Err(kind) => {
                ready!(poll_yield(cx));
                Err(self.over(kind))
            }
        };
        if self.write_failed.is_none() {
            self.write_failed = outcome.as_ref().err().and_then(failure);
        }
        Poll::Ready(outcome)
    }
}

/// What has failed for good, unlike the two kinds that say "try again".
fn failure(error: &io::Error) -> Option<io::ErrorKind> {
    let kind = error.kind();
    (!matches!(kind, io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)).then_some(kind)
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
        let outcome = match me.check() {
            Ok(mut slot) => ready!(Pin::new(&mut slot.read).poll_read(cx, buf)),
            Err(kind) => {
                ready!(poll_yield(cx));
                Err(me.over(kind))
            }
        };
        me.end = match &outcome {
            Ok(()) => (buf.filled().len() == before).then_some(End::Closed),
            Err(error) => failure(error).map(End::Failed),
        };
        Poll::Ready(outcome)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> AsyncWrite for Session<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        me.is_flushed &= me.is_write_over();
        me.poll_writing(cx, |write, cx| write.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        me.is_flushed &= me.is_write_over();
        me.poll_writing(cx, |write, cx| write.poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        lock(&self.slot).write.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if me.is_write_over() && me.is_flushed {
            // As on a socket: clients flush as they read on, and would take an error for the reason of the end.
            ready!(poll_yield(cx));
            return Poll::Ready(Ok(()));
        }
        ready!(me.poll_writing(cx, |write, cx| write.poll_flush(cx)))?;
        me.is_flushed = true;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if me.is_write_over() {
            return Poll::Ready(Ok(()));
        }
        let generation = me.generation;
        let farewell = ready!(me.poll_writing(cx, |write, cx| write.get_mut().poll_shutdown_stream(cx, generation)));
        let is_done = farewell.as_ref().map_or_else(|error| failure(error).is_some(), |()| true);
        if is_done {
            me.end = Some(End::Shutdown);
            me.hang_up();
        }
        Poll::Ready(farewell)
    }
}

/// A loop over what is over must yield, too.
fn poll_yield(cx: &mut Context<'_>) -> Poll<()> {
    coop::poll_proceed(cx).map(|budget| budget.made_progress())
}

impl<S> Drop for Session<S> {
    fn drop(&mut self) {
        self.hang_up();
    }
}

impl<S> fmt::Debug for Session<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("generation", &self.generation).finish_non_exhaustive()
    }
}
