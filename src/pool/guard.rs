//! A connection that is lent.

use std::fmt;
use std::io::{self, IoSlice};
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::CloseReason;
use super::inner::{Inner, Live};
use crate::io_error::is_try_again;

/// A connection that a pool has lent; made by [`Resource::get`](super::Resource::get).
///
/// It reads and writes like the stream that it holds, and its methods are there, too. Dropped, it goes back to the pool and
/// stays open; but if a read or write through the guard has failed or come to the end of the stream, or it was shut down
/// through it, or its user panics, it is closed. (What is done to the stream itself, by `&mut *guard` or
/// [`split`](TcpStream::split), the guard does not see: say [`close_on_drop`](Guard::close_on_drop) after a shutdown.)
///
/// # Examples
///
/// If the future of an exchange may be dropped between the question and the answer, the answer would meet the next user:
///
/// ```
/// use std::io;
/// use perconn::pool::Guard;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// /// May be used in a `select!`, or with a timeout.
/// async fn ask(conn: &mut Guard, question: &[u8; 4]) -> io::Result<[u8; 4]> {
///     conn.close_on_drop(true);
///     conn.write_all(question).await?;
///     let mut answer = [0; 4];
///     conn.read_exact(&mut answer).await?;
///     conn.close_on_drop(false);
///     Ok(answer)
/// }
/// # fn check(conn: &mut Guard) { let _future = ask(conn, b"ping"); }
/// ```
///
/// What was given back or closed cannot be used any more; the compiler sees to that:
///
/// ```compile_fail
/// # fn misuse(conn: perconn::pool::Guard) {
/// conn.close();
/// conn.peer_addr();
/// # }
/// ```
#[must_use = "it goes back to the pool as soon as it is dropped"]
pub struct Guard<T: Send + 'static = TcpStream> {
    inner: Arc<Inner<T>>,
    /// There until it is dropped.
    live: Option<Live<T>>,
    is_reused: bool,
    /// Its user wants it to be closed.
    closes: bool,
    /// Why it cannot be used again.
    fault: Option<CloseReason>,
}

impl<T: Send + 'static> Guard<T> {
    pub(super) fn new(inner: Arc<Inner<T>>, live: Live<T>, is_reused: bool) -> Self {
        Self { inner, live: Some(live), is_reused, closes: false, fault: None }
    }

    /// Whether it had been open before: an error may then only mean that its peer has closed it at this moment, and another
    /// attempt may be worth while.
    pub fn is_reused(&self) -> bool {
        self.is_reused
    }

    /// Whether it is closed when it is dropped, instead of going back: `true` at the beginning of an exchange, `false` when
    /// it is over. (One that has failed, or was shut down, is closed all the same.)
    pub fn close_on_drop(&mut self, closes: bool) {
        self.closes = closes;
    }

    /// Closes the connection. Its slot is free when this returns.
    pub fn close(mut self) {
        self.closes = true;
    }

    /// Looks at the outcome of an operation for the end of the connection.
    fn note<R>(&mut self, outcome: &io::Result<R>) {
        if let Err(error) = outcome {
            if !is_try_again(&error) {
                self.fault = Some(CloseReason::Failed);
            }
        }
    }

    /// The same for a write; one that writes nothing of something has failed.
    fn note_written(&mut self, outcome: &io::Result<usize>, had_nothing: bool) {
        if matches!(outcome, Ok(0)) && !had_nothing {
            self.fault = Some(CloseReason::Failed);
        }
        self.note(outcome);
    }
}

const OPEN: &str = "it is there until the guard is dropped";

impl<T: Send + 'static> Deref for Guard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.live.as_ref().expect(OPEN).value
    }
}

impl<T: Send + 'static> DerefMut for Guard<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.live.as_mut().expect(OPEN).value
    }
}

impl<T: Send + 'static> Drop for Guard<T> {
    fn drop(&mut self) {
        let Some(live) = self.live.take() else { return };
        let fault = if thread::panicking() { Some(CloseReason::Panicked) } else { self.fault };
        let fault = fault.or_else(|| self.closes.then_some(CloseReason::Requested));
        match fault.or_else(|| self.inner.is_aged(&live).then_some(CloseReason::Aged)) {
            Some(reason) => self.inner.close(live, reason, self.is_reused),
            None => self.inner.put(live, self.is_reused),
        }
    }
}

impl<T: AsyncRead + Unpin + Send + 'static> AsyncRead for Guard<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let before = buf.remaining();
        let outcome = ready!(Pin::new(&mut **me).poll_read(cx, buf));
        if outcome.is_ok() && before > 0 && buf.remaining() == before {
            me.fault = Some(CloseReason::Failed);
        }
        me.note(&outcome);
        Poll::Ready(outcome)
    }
}

impl<T: AsyncWrite + Unpin + Send + 'static> AsyncWrite for Guard<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        let outcome = ready!(Pin::new(&mut **me).poll_write(cx, bytes));
        me.note_written(&outcome, bytes.is_empty());
        Poll::Ready(outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        let outcome = ready!(Pin::new(&mut **me).poll_write_vectored(cx, parts));
        me.note_written(&outcome, parts.iter().all(|part| part.is_empty()));
        Poll::Ready(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        (**self).is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let outcome = ready!(Pin::new(&mut **me).poll_flush(cx));
        me.note(&outcome);
        Poll::Ready(outcome)
    }

    /// A connection that was shut down is not used again.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        me.fault.get_or_insert(CloseReason::Requested);
        Pin::new(&mut **me).poll_shutdown(cx)
    }
}

impl<T: fmt::Debug + Send + 'static> fmt::Debug for Guard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("name", &self.inner.name).field("value", &**self).finish_non_exhaustive()
    }
}
