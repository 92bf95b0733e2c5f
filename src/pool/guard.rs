//! A connection that is lent, until it is dropped.
//!
//! Next: [`ResourceInner::give_back`], by which it comes back.

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
use super::connection::Connection;
use super::resource_inner::ResourceInner;
use crate::io_error::{check_written, is_try_again};

/// A connection that a pool has lent; made by [`Resource::get`](super::Resource::get).
///
/// It reads and writes like the stream inside, and dereferences to it. When the guard is dropped, the connection goes
/// back to the pool and stays open. It is closed instead in these cases:
///
/// - a read or write through the guard failed, or reached the end of the stream;
/// - the connection was shut down through the guard;
/// - the thread panics while it drops the guard;
/// - [`close_on_drop`](Guard::close_on_drop) says so.
///
/// The guard does not see what you do to the stream itself, by `&mut *guard` or [`split`](TcpStream::split). After a
/// shutdown of that kind, call [`close_on_drop`](Guard::close_on_drop).
///
/// # Examples
///
/// If the future of an exchange may be dropped between the question and the answer, the answer would reach the next
/// user. So close the connection unless the exchange was completed:
///
/// ```
/// use std::io;
/// use perconn::pool::Guard;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// /// Can be used in a `select!`, or with a timeout.
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
/// The compiler rejects the use of a connection that was given back or closed:
///
/// ```compile_fail
/// # fn misuse(conn: perconn::pool::Guard) {
/// conn.close();
/// conn.peer_addr();
/// # }
/// ```
#[must_use = "the connection goes back to the pool as soon as this is dropped"]
pub struct Guard<T: Send + 'static = TcpStream> {
    /// Where the connection goes back to.
    resource: Arc<ResourceInner<T>>,
    /// `None` only while the guard is dropped.
    connection: Option<Connection<T>>,
    /// For the caller's decision to retry, and for the count of reuses.
    is_reused: bool,
    /// `false` unless the caller asks for the close, by `close_on_drop` or `close`.
    close_on_drop: bool,
    /// Why the connection cannot be used again, whatever `close_on_drop` says.
    close_reason: Option<CloseReason>,
}

impl<T: Send + 'static> Guard<T> {
    /// Lends a connection. The caller leaves its entry and its slot to the guard.
    pub(super) fn new(resource: Arc<ResourceInner<T>>, connection: Connection<T>, is_reused: bool) -> Self {
        Self { resource, connection: Some(connection), is_reused, close_on_drop: false, close_reason: None }
    }

    /// Whether the connection had been open before this call of [`get`](super::Resource::get).
    ///
    /// If it had, an error on it may only mean that the peer closed it at this moment, and another attempt may succeed.
    pub fn is_reused(&self) -> bool {
        self.is_reused
    }

    /// Sets whether a drop of the guard closes the connection, instead of giving it back. Defaults to `false`.
    ///
    /// Set it to `true` at the beginning of an exchange and to `false` at its end. A connection that failed or was shut
    /// down is closed in any case.
    pub fn close_on_drop(&mut self, close_on_drop: bool) {
        self.close_on_drop = close_on_drop;
    }

    /// Closes the connection. Its slot is free when this returns, or when its
    /// [release action](super::Resource::release) has ended.
    pub fn close(mut self) {
        self.close_on_drop = true;
    }

    /// Takes the connection out of the pool, for a use that it is not given back from. It stays open.
    ///
    /// Its slot is free when this returns, and the next caller of the resource dials. The pool closes nothing and runs no
    /// [release action](super::Resource::release) for it any more.
    ///
    /// ```
    /// use perconn::pool::Pool;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// let pool = Pool::new(64)?;
    /// let resource = pool.resource(server.local_addr()?)?;
    /// let stream = resource.get().await?.detach(); // a `TcpStream`
    /// assert_eq!((pool.stats().in_use, pool.stats().idle), (0, 0));
    /// # drop(stream);
    /// # Ok(())
    /// # }
    /// ```
    pub fn detach(mut self) -> T {
        let Some(connection) = self.connection.take() else { unreachable!("{UNTIL_DROP}") };
        self.resource.detach(connection, self.is_reused)
    }

    /// Notes whether an operation failed.
    fn note<R>(&mut self, outcome: &io::Result<R>) {
        if outcome.as_ref().is_err_and(|error| !is_try_again(error)) {
            self.close_reason = Some(CloseReason::Failed);
        }
    }

    /// The same for a write, which also failed if it took none of the bytes.
    fn note_written(&mut self, outcome: &io::Result<usize>, had_nothing: bool) {
        if matches!(outcome, Ok(0)) && !had_nothing {
            self.close_reason = Some(CloseReason::Failed);
        }
        self.note(outcome);
    }
}

/// Why the `expect`s hold.
const UNTIL_DROP: &str = "the guard has its connection until it is dropped";

impl<T: Send + 'static> Deref for Guard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.connection.as_ref().expect(UNTIL_DROP).value
    }
}

impl<T: Send + 'static> DerefMut for Guard<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.connection.as_mut().expect(UNTIL_DROP).value
    }
}

impl<T: Send + 'static> Drop for Guard<T> {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let reason = if thread::panicking() { Some(CloseReason::Panicked) } else { self.close_reason };
        let reason = reason
            .or_else(|| self.close_on_drop.then_some(CloseReason::Requested))
            .or_else(|| connection.is_aged().then_some(CloseReason::Aged));
        match reason {
            Some(reason) => self.resource.close(connection, reason, self.is_reused),
            None => self.resource.give_back(connection, self.is_reused),
        }
    }
}

impl<T: AsyncRead + Unpin + Send + 'static> AsyncRead for Guard<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.remaining();
        let outcome = ready!(Pin::new(&mut **this).poll_read(cx, buf));
        if outcome.is_ok() && before > 0 && buf.remaining() == before {
            this.close_reason = Some(CloseReason::Failed);
        }
        this.note(&outcome);
        Poll::Ready(outcome)
    }
}

impl<T: AsyncWrite + Unpin + Send + 'static> AsyncWrite for Guard<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = check_written(ready!(Pin::new(&mut **this).poll_write(cx, bytes)), bytes.len());
        this.note_written(&outcome, bytes.is_empty());
        Poll::Ready(outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = ready!(Pin::new(&mut **this).poll_write_vectored(cx, parts));
        let given = parts.iter().map(|part| part.len()).sum();
        let outcome = check_written(outcome, given);
        this.note_written(&outcome, given == 0);
        Poll::Ready(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        (**self).is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = ready!(Pin::new(&mut **this).poll_flush(cx));
        this.note(&outcome);
        Poll::Ready(outcome)
    }

    /// Shuts the connection down, which is not used again after that.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.close_reason.get_or_insert(CloseReason::Requested);
        Pin::new(&mut **this).poll_shutdown(cx)
    }
}

impl<T: fmt::Debug + Send + 'static> fmt::Debug for Guard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("name", &self.resource.name).field("value", &**self).finish_non_exhaustive()
    }
}
