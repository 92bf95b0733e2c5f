//! The stream of one session.
//!
//! Next: the [parent module](super), which begins a session and ends the one before it.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop;

use super::SessionConn;
use crate::WriteHalf;
use crate::io_error::is_try_again;
use crate::sync::Mutex;

/// A stream that lives and dies with one link; made by [`Sessions::next`](super::Sessions::next).
///
/// It is read and written like a [`TcpStream`], and ends like one when its link breaks. The operation that meets the
/// break returns an error, with the [`Error`](crate::Error) inside; a read returns `Ok(0)` if the peer closed
/// cleanly.
///
/// - After a read has reported the break, nothing is read or written any more. After an error, each operation fails with the
///   same kind. After `Ok(0)`, each read returns `Ok(0)`, and each write fails with [`BrokenPipe`](io::ErrorKind::BrokenPipe).
/// - If a write has reported it, each further write fails with the same kind, but reads go on. You can still read what the
///   peer sent before the break, which may say why it closes. Then a read reports the break, too.
/// - A flush succeeds if nothing was written since the last flush.
/// - Once the next session begins, operations fail with [`ConnectionAborted`](io::ErrorKind::ConnectionAborted). Once the
///   connection is closed, they fail with [`Error::ClosedConnection`](crate::Error::ClosedConnection).
///
/// A [`shutdown`](tokio::io::AsyncWriteExt::shutdown) ends the session and its link, but not the connection. It ends
/// both directions; there is no half-close. Dropping the session does the same. Bytes that the kernel has accepted
/// are still delivered, unless received bytes are left unread.
///
/// Over TLS 1.3, a session that only writes leaves the server's tickets unread: read an answer to the last request
/// first. A stream that is not a socket is itself shut down by a `shutdown` (TLS sends its close_notify). A drop only
/// drops it.
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
    /// Shared with `Sessions` and the other sessions. Only the current one may use it.
    conn: Arc<Mutex<SessionConn<S>>>,
    /// This session is the current one as long as `SessionConn::current` equals it.
    number: u64,
    /// The link of the session, for ever: it never goes on with another one.
    generation: u64,
    /// Set by the end that a read meets, or by a shutdown. Operations after it do no I/O.
    end: Option<SessionEnd>,
    /// The kind of the error with which a write has failed.
    write_failed: Option<io::ErrorKind>,
    /// Whether nothing was written since the last flush.
    is_flushed: bool,
}

/// How a session ended.
#[derive(Clone, Copy)]
enum SessionEnd {
    /// The peer closed, and a read has reported it by `Ok(0)`.
    Closed,
    /// A read has failed, with an error of this kind.
    Failed(io::ErrorKind),
    /// The program shut the session down.
    Shutdown,
}

impl<S> Session<S> {
    /// A session on a fresh link. `number` is the current one of `conn`.
    pub(super) fn new(conn: Arc<Mutex<SessionConn<S>>>, number: u64, generation: u64) -> Self {
        Self { conn, number, generation, end: None, write_failed: None, is_flushed: true }
    }

    /// The number of the link that the session uses.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How many bytes of the link the peer's kernel has not acknowledged: so far, or when it broke; see
    /// [`WriteHalf::unacknowledged`].
    #[cfg(feature = "outbox")]
    pub(crate) fn unacknowledged(&self) -> Option<u64> {
        self.conn.lock().write.unacknowledged(self.generation)
    }

    /// Breaks the session's link with this error as the cause, which goes to the connection's logger. Gives it back if
    /// the link has broken already.
    #[cfg(feature = "outbox")]
    #[must_use]
    pub(crate) fn fail(&self, error: io::Error) -> Option<io::Error> {
        self.conn.lock().write.fail_link(self.generation, error)
    }

    /// Whether no write can succeed any more.
    fn is_write_ended(&self) -> bool {
        self.end.is_some() || self.write_failed.is_some()
    }

    /// Locks the connection for an operation.
    ///
    /// # Errors
    ///
    /// The kind of the operation's error, if the session has ended or is no longer the current one.
    fn lock_conn(&self) -> Result<MutexGuard<'_, SessionConn<S>>, io::ErrorKind> {
        match self.end {
            Some(SessionEnd::Closed | SessionEnd::Shutdown) => return Err(io::ErrorKind::BrokenPipe),
            Some(SessionEnd::Failed(kind)) => return Err(kind),
            None => {}
        }
        let conn = self.conn.lock();
        if conn.current == self.number { Ok(conn) } else { Err(io::ErrorKind::ConnectionAborted) }
    }

    /// Breaks the session's link, unless a later session is the current one.
    fn break_link(&self) {
        let mut conn = self.conn.lock();
        let released = if conn.current == self.number { conn.break_active_link() } else { [None, None] };
        drop(conn);
        // Runs the program's own code, so it comes after the unlock.
        drop(released);
    }

    /// The error of an operation after the end.
    fn ended_error(&self, kind: io::ErrorKind) -> io::Error {
        io::Error::new(kind, format!("the session on link {} has ended", self.generation))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Session<S> {
    /// Runs a write, flush or shutdown of the write half, unless the session or its writing side has ended.
    fn poll_write_half<T>(
        &mut self,
        cx: &mut Context<'_>,
        operation: impl FnOnce(Pin<&mut WriteHalf<S>>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let outcome = match self.write_failed.map_or_else(|| self.lock_conn(), Err) {
            Ok(mut conn) => ready!(operation(Pin::new(&mut conn.write), cx)),
            Err(kind) => {
                ready!(poll_budget(cx));
                Err(self.ended_error(kind))
            }
        };
        if self.write_failed.is_none() {
            self.write_failed = outcome.as_ref().err().and_then(failure_kind);
        }
        Poll::Ready(outcome)
    }
}

/// The kind of an error that ends the session; `None` for the two kinds that say "try again".
fn failure_kind(error: &io::Error) -> Option<io::ErrorKind> {
    (!is_try_again(error)).then_some(error.kind())
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> AsyncRead for Session<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if matches!(me.end, Some(SessionEnd::Closed)) {
            ready!(poll_budget(cx));
            return Poll::Ready(Ok(()));
        }
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let outcome = match me.lock_conn() {
            Ok(mut conn) => ready!(Pin::new(&mut conn.read).poll_read(cx, buf)),
            Err(kind) => {
                ready!(poll_budget(cx));
                Err(me.ended_error(kind))
            }
        };
        me.end = match &outcome {
            Ok(()) => (buf.filled().len() == before).then_some(SessionEnd::Closed),
            Err(error) => failure_kind(error).map(SessionEnd::Failed),
        };
        Poll::Ready(outcome)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> AsyncWrite for Session<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        me.is_flushed &= me.is_write_ended();
        me.poll_write_half(cx, |write, cx| write.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        me.is_flushed &= me.is_write_ended();
        me.poll_write_half(cx, |write, cx| write.poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        self.conn.lock().write.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if me.is_write_ended() && me.is_flushed {
            // As on a socket. Clients flush while they read on, and would take an error for the cause of the end.
            ready!(poll_budget(cx));
            return Poll::Ready(Ok(()));
        }
        ready!(me.poll_write_half(cx, |write, cx| write.poll_flush(cx)))?;
        me.is_flushed = true;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if me.is_write_ended() {
            return Poll::Ready(Ok(()));
        }
        let generation = me.generation;
        let outcome = ready!(me.poll_write_half(cx, |write, cx| write.get_mut().poll_shutdown_stream(cx, generation)));
        let is_done = outcome.as_ref().map_or_else(|error| failure_kind(error).is_some(), |()| true);
        if is_done {
            me.end = Some(SessionEnd::Shutdown);
            me.break_link();
        }
        Poll::Ready(outcome)
    }
}

/// Takes a part of the task's cooperative budget, so that a loop over an ended session yields, too.
fn poll_budget(cx: &mut Context<'_>) -> Poll<()> {
    coop::poll_proceed(cx).map(|budget| budget.made_progress())
}

impl<S> Drop for Session<S> {
    fn drop(&mut self) {
        self.break_link();
    }
}

impl<S> fmt::Debug for Session<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("generation", &self.generation).finish_non_exhaustive()
    }
}
