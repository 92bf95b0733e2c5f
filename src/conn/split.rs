//! The two halves of a connection, in the shape of tokio's `OwnedReadHalf` and `OwnedWriteHalf`.
//!
//! Next: [`shared`](super::shared), a connection for any number of tasks.

#![expect(clippy::result_large_err, reason = "like tokio's, the error gives both halves back")]

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::direction::DirectionState;
use super::handle::Handle;
#[cfg(any(feature = "codec", feature = "session"))]
use super::handle::Released;
use super::methods::{handle_methods, state_methods, tcp_methods, write_methods};
use super::{Conn, SharedConn};
#[cfg(any(feature = "blocking", feature = "codec"))]
use crate::conn_state::ConnState;
use crate::conn_state::Direction;
use crate::link::WriteBufs;
use crate::stats::StatsSource;
use crate::{ConnStats, Error, Op, StatsWatch, Status, StatusWatch};

/// The reading half of a [`Conn`], made by [`Conn::into_split`].
///
/// It reports every break once, after you have read everything that had arrived on the link.
///
/// If several links broke while no read ran, it reads the rest of the link in use and of the newest broken one. What
/// had arrived on the links between is dropped; their breaks are reported. Of more than 16 links, the breaks of the
/// last 16 are reported, and the rest of the link it had is dropped, too.
///
/// # Cancel safety
///
/// As for [`Conn`](Conn#cancel-safety).
pub struct ReadHalf<S = TcpStream> {
    /// The link and the reports of this half, apart from the other half's.
    pub(super) handle: Handle<S>,
    /// The read that is under way, if any.
    pub(super) dir: DirectionState,
    /// It has become a part of a whole connection, so dropping it does nothing.
    is_reunited: bool,
}

/// The writing half of a [`Conn`], made by [`Conn::into_split`].
///
/// It reports every break once. Dropping it shuts the writing side down, as
/// [`shutdown`](tokio::io::AsyncWriteExt::shutdown) does: after that no link follows. To drop it without a shutdown,
/// use [`forget`](WriteHalf::forget).
///
/// # Cancel safety
///
/// As for [`Conn`](Conn#cancel-safety).
pub struct WriteHalf<S = TcpStream> {
    /// The link and the reports of this half, apart from the other half's.
    pub(super) handle: Handle<S>,
    /// The write that is under way, if any.
    pub(super) dir: DirectionState,
    /// `Shutdown` until `forget` or `reunite` changes it.
    on_drop: OnDrop,
}

/// What a [`WriteHalf`] does when it is dropped.
enum OnDrop {
    /// It shuts the writing side down, as tokio's half does.
    Shutdown,
    /// It leaves the connection as it is.
    Forget,
    /// It has become a part of a whole connection.
    Reunited,
}

/// Two halves of different connections, given back by an attempt to reunite them.
pub struct ReuniteError<S = TcpStream>(pub ReadHalf<S>, pub WriteHalf<S>);

// By hand, because a derive would require `S: Debug`.
impl<S> fmt::Debug for ReuniteError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReuniteError").field(&self.0).field(&self.1).finish()
    }
}

impl<S> fmt::Display for ReuniteError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the halves belong to different connections")
    }
}

impl<S> std::error::Error for ReuniteError<S> {}

impl<S> ReadHalf<S> {
    /// The half that reads through this handle.
    pub(super) fn new(handle: Handle<S>, dir: DirectionState) -> Self {
        Self { handle, dir, is_reunited: false }
    }

    /// Gives the link up for this half; see [`Conn::abandon`].
    ///
    /// If it breaks the link, the other half reports that break. To give a link up with both halves, call it on the
    /// [`WriteHalf`] first and then here: this call forgets the break. Or [`reunite`](ReadHalf::reunite) them.
    #[doc(alias("reconnect", "reset", "disconnect", "cancel"))]
    pub fn abandon(&mut self) {
        self.handle.abandon(&mut self.dir);
    }

    /// Sets whether reads report the peer's close as an error. `None`: as the builder says.
    #[cfg(any(feature = "codec", feature = "session"))]
    pub(crate) fn set_close_as_error(&mut self, is_error: Option<bool>) {
        self.dir.close_as_error = is_error.unwrap_or(self.handle.context.close_as_error);
    }

    /// Makes the whole connection again.
    ///
    /// No operation of the halves is under way any more, and the whole owes no report for one.
    ///
    /// A break that either half has reported counts as reported for the whole. If only the other half has reported a
    /// break, what this half had not read of that link is dropped.
    ///
    /// # Errors
    ///
    /// [`ReuniteError`] with both halves if they do not come from the same connection.
    pub fn reunite(self, other: WriteHalf<S>) -> Result<Conn<S>, ReuniteError<S>> {
        reunite(self, other)
    }

    handle_methods!(Direction::Read);
    state_methods!(self => self.handle.conn_state);

    /// The number of the link that this half uses or used last, 0 if it has none.
    #[cfg(any(feature = "blocking", feature = "codec"))]
    pub(crate) fn used(&self) -> u64 {
        self.handle.used()
    }

    /// What the handles of the connection share.
    #[cfg(any(feature = "blocking", feature = "codec"))]
    pub(crate) fn conn_state(&self) -> &ConnState<S> {
        &self.handle.conn_state
    }

    /// Skips the breaks of the links up to `generation`, and what is left to read on them. A waiting operation looks
    /// again.
    #[must_use]
    #[cfg(any(feature = "codec", feature = "session"))]
    pub(crate) fn skip_breaks(&mut self, generation: u64) -> Released<S> {
        self.handle.skip_breaks(&mut self.dir, generation)
    }

    /// Whether the program or its runtime has closed the connection. Then no break is reported any more.
    #[cfg(feature = "blocking")]
    pub(crate) fn is_closed(&self) -> bool {
        self.handle.conn_state.is_closed()
    }

    /// Reports the first break after `last_reported`, which this half has reported, to another of its users. Returns
    /// the generation of that break, too.
    pub(crate) fn report_again(&self, last_reported: u64) -> (u64, io::Result<usize>) {
        let fault = self.handle.fault_after(last_reported, Op::Read);
        let outcome = self.handle.read_outcome(&fault, self.dir.close_as_error);
        (fault.generation, outcome.map(|()| 0))
    }
}

impl<S> WriteHalf<S> {
    /// The half that writes through this handle.
    pub(super) fn new(handle: Handle<S>, dir: DirectionState) -> Self {
        Self { handle, dir, on_drop: OnDrop::Shutdown }
    }

    /// Gives the link up for this half; see [`Conn::abandon`].
    ///
    /// If it breaks the link, the other half reports that break, after the bytes that had arrived.
    #[doc(alias("reconnect", "reset", "disconnect", "cancel"))]
    pub fn abandon(&mut self) {
        self.handle.abandon(&mut self.dir);
    }

    /// Makes the whole connection again; see [`ReadHalf::reunite`].
    ///
    /// # Errors
    ///
    /// [`ReuniteError`] with both halves if they do not come from the same connection.
    pub fn reunite(self, other: ReadHalf<S>) -> Result<Conn<S>, ReuniteError<S>> {
        reunite(other, self)
    }

    /// Drops this half without shutting the writing side down. The reading half stays connected and goes on
    /// reconnecting.
    pub fn forget(mut self) {
        self.on_drop = OnDrop::Forget;
    }

    handle_methods!(Direction::Write);
    state_methods!(self => self.handle.conn_state);

    /// The number of the link that this half uses or used last, 0 if it has none.
    pub(crate) fn used(&self) -> u64 {
        self.handle.used()
    }

    /// Skips the breaks of the links up to `generation`. The next write works on the link after them.
    #[must_use]
    #[cfg(any(feature = "codec", feature = "session"))]
    pub(crate) fn skip_breaks(&mut self, generation: u64) -> Released<S> {
        self.handle.skip_breaks(&mut self.dir, generation)
    }

    /// Whether the program or its runtime has closed the connection. Then no break is reported any more.
    #[cfg(feature = "blocking")]
    pub(crate) fn is_closed(&self) -> bool {
        self.handle.conn_state.is_closed()
    }

    /// Reports the first break after `last_reported`, which this half has reported, to another of its users. Returns
    /// the generation of that break, too.
    #[cfg(feature = "blocking")]
    pub(crate) fn report_again(&self, last_reported: u64) -> (u64, io::Error) {
        let fault = self.handle.fault_after(last_reported, Op::Write);
        (fault.generation, fault.error(Op::Write, &self.handle.conn_state.address).into())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> WriteHalf<S> {
    /// Makes a [`SharedConn`] that any number of tasks write through, beside the [`ReadHalf`] that one task reads.
    ///
    /// Its reads fail with [`Unsupported`](io::ErrorKind::Unsupported): the `ReadHalf` reads. When its last clone is
    /// dropped, it finishes the jobs that it has begun and shuts the writing side down, as a `WriteHalf` does. Its
    /// [`close`](SharedConn::close) closes the whole connection.
    ///
    /// ```
    /// use perconn::Conn;
    /// use tokio::io::{AsyncBufReadExt, BufReader};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// # let address = server.local_addr()?;
    /// # tokio::spawn(async move {
    /// #     let (mut stream, _) = server.accept().await?;
    /// #     let (mut read, mut write) = stream.split();
    /// #     tokio::io::copy(&mut read, &mut write).await
    /// # });
    /// let conn = Conn::builder(address).close_as_error(true).connect().await?;
    /// let (reader, writer) = conn.into_split();
    /// let writer = writer.into_shared();
    /// let tasks: Vec<_> = (0..8)
    ///     .map(|task| {
    ///         let writer = writer.clone();
    ///         tokio::spawn(async move { writer.write_all(format!("line of task {task}\n").as_bytes()).await })
    ///     })
    ///     .collect();
    /// let mut lines = BufReader::new(reader).lines();
    /// for _ in &tasks {
    ///     println!("{:?}", lines.next_line().await?); // after an error: a new `BufReader` over `into_inner().into_inner()`
    /// }
    /// # for task in tasks { task.await??; }
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_shared(self) -> SharedConn<S> {
        SharedConn::new(None, self)
    }
}

/// Joins the halves if they belong together. Their `Drop` then does nothing.
fn reunite<S>(mut read: ReadHalf<S>, mut write: WriteHalf<S>) -> Result<Conn<S>, ReuniteError<S>> {
    if !read.handle.is_same_connection(&write.handle) {
        return Err(ReuniteError(read, write));
    }
    read.is_reunited = true;
    write.on_drop = OnDrop::Reunited;
    let handle = read.handle.detach().join(write.handle.detach());
    let read = std::mem::replace(&mut read.dir, DirectionState::new(Direction::Read));
    let write = std::mem::replace(&mut write.dir, DirectionState::new(Direction::Write));
    let mut conn = Conn { handle, read, write };
    conn.forget_operations();
    Ok(conn)
}

impl ReadHalf {
    tcp_methods!();
}

impl WriteHalf {
    tcp_methods!();
}

impl<S> Drop for ReadHalf<S> {
    fn drop(&mut self) {
        if !self.is_reunited {
            self.handle.conn_state.unregister(Direction::Read);
        }
    }
}

impl<S> Drop for WriteHalf<S> {
    fn drop(&mut self) {
        match self.on_drop {
            OnDrop::Shutdown => self.handle.shut_down_now(),
            OnDrop::Forget => {}
            OnDrop::Reunited => return,
        }
        self.handle.conn_state.unregister(Direction::Write);
    }
}

/// A read that returns `Ok` and fills nothing, though there was room, reports the peer's close. The next read works
/// on the next link, or waits for it. An error with an [`Error`] inside reports any other break or the end of the
/// connection.
impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> AsyncRead for ReadHalf<S> {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        me.handle.poll_read(&mut me.dir, cx, buf)
    }
}

/// An error with an [`Error::IoError`] inside reports a break. The next write works on the next link, or waits for
/// it. A flush on a connection over sockets has nothing to do: the kernel has every byte that a write has accepted.
impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> AsyncWrite for WriteHalf<S> {
    write_methods!(dir);
}

impl<S> fmt::Debug for ReadHalf<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.debug("ReadHalf", f)
    }
}

impl<S> fmt::Debug for WriteHalf<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.debug("WriteHalf", f)
    }
}
