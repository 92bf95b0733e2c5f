//! The two halves of a connection, in the shape of tokio's `OwnedReadHalf` and `OwnedWriteHalf`.

#![expect(clippy::result_large_err, reason = "the error of a reunion gives both halves back, as tokio's does")]

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
use super::methods::{common_methods, tcp_methods, write_methods};
use super::{Conn, ConnContext};
use crate::conn_state::{ConnState, Direction};
use crate::fault::Cause;
use crate::link::Bytes;
use crate::{Error, Op, Status, StatusWatch};

/// The reading half of a [`Conn`], made by [`Conn::into_split`].
///
/// It is told of every break once, after everything that had arrived on the link has been read. (If it slept through
/// several links, it reads the rest of the one it had in use and of the newest broken one; what lay on those between is
/// dropped, and their breaks told. Of more than 16 links, the last 16 are told, and the rest of the one it had is dropped, too.)
///
/// # Cancel safety
///
/// As for [`Conn`](Conn#cancel-safety).
pub struct ReadHalf<S = TcpStream> {
    pub(super) handle: Handle<S>,
    pub(super) dir: DirectionState,
    retire_on_drop: bool,
}

/// The writing half of a [`Conn`], made by [`Conn::into_split`].
///
/// It is told of every break once. Dropping it shuts the writing side down, and with that ends the conversation as
/// [`shutdown`](tokio::io::AsyncWriteExt::shutdown) does; [`forget`](WriteHalf::forget) does not.
///
/// # Cancel safety
///
/// As for [`Conn`](Conn#cancel-safety).
pub struct WriteHalf<S = TcpStream> {
    pub(super) handle: Handle<S>,
    pub(super) dir: DirectionState,
    on_drop: OnDrop,
}

/// What a [`WriteHalf`] does when it is dropped.
enum OnDrop {
    Shutdown,
    Forget,
    /// Nothing: it has become a part of a whole connection.
    Reunited,
}

/// Two halves that do not belong together, given back by an attempt to reunite them.
pub struct ReuniteError<S = TcpStream>(pub ReadHalf<S>, pub WriteHalf<S>);

// By hand, as derives would ask the stream to be `Debug`.
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
    pub(super) fn new(handle: Handle<S>, dir: DirectionState) -> Self {
        Self { handle, dir, retire_on_drop: true }
    }

    /// Makes the whole connection again.
    ///
    /// The whole has been told of what either half was told. If this half had not read a broken link to its end yet,
    /// and the other half had been told of the break, the rest is dropped.
    ///
    /// # Errors
    ///
    /// [`ReuniteError`] with both halves if they do not come from the same connection.
    pub fn reunite(self, other: WriteHalf<S>) -> Result<Conn<S>, ReuniteError<S>> {
        reunite(self, other)
    }

    common_methods!(Direction::Read);

    pub(super) fn conn_state(&self) -> Arc<ConnState<S>> {
        Arc::clone(&self.handle.conn_state)
    }

    /// Whether the program, or the runtime, has ended the connection: then there is nothing to tell but that.
    #[cfg(feature = "blocking")]
    pub(crate) fn is_closed(&self) -> bool {
        self.handle.conn_state.is_closed()
    }

    /// Tells of the first break after `told`, of which this half was told already. Returns its generation, too.
    pub(crate) fn tell_again(&self, last_reported: u64) -> (u64, io::Result<usize>) {
        let fault = self.handle.told_after(last_reported, Op::Read);
        let outcome = if matches!(fault.cause, Cause::PeerClosed) {
            Ok(0)
        } else {
            Err(fault.error(Op::Read, &self.handle.conn_state.address).into())
        };
        (fault.generation, outcome)
    }
}

impl<S> WriteHalf<S> {
    pub(super) fn new(handle: Handle<S>, dir: DirectionState) -> Self {
        Self { handle, dir, on_drop: OnDrop::Shutdown }
    }

    /// Makes the whole connection again; see [`ReadHalf::reunite`].
    ///
    /// # Errors
    ///
    /// [`ReuniteError`] with both halves if they do not come from the same connection.
    pub fn reunite(self, other: ReadHalf<S>) -> Result<Conn<S>, ReuniteError<S>> {
        reunite(other, self)
    }

    /// Drops this half without shutting the writing side down: the reading half stays connected, and is reconnected.
    pub fn forget(mut self) {
        self.on_drop = OnDrop::Forget;
    }

    common_methods!(Direction::Write);

    /// Whether the program, or the runtime, has ended the connection: then there is nothing to tell but that.
    #[cfg(feature = "blocking")]
    pub(crate) fn is_closed(&self) -> bool {
        self.handle.conn_state.is_closed()
    }

    /// Tells of the first break after `told`, of which this half was told already. Returns its generation, too.
    #[cfg(feature = "blocking")]
    pub(crate) fn tell_again(&self, last_reported: u64) -> (u64, io::Error) {
        let fault = self.handle.told_after(last_reported, Op::Write);
        (fault.generation, fault.error(Op::Write, &self.handle.conn_state.address).into())
    }

    pub(super) fn context(&self) -> Arc<ConnContext<S>> {
        Arc::clone(&self.handle.context)
    }

    /// Waits for a link, whatever the policy says.
    pub(super) fn be_patient(&mut self) {
        self.dir.is_patient = true;
    }
}

fn reunite<S>(mut read: ReadHalf<S>, mut write: WriteHalf<S>) -> Result<Conn<S>, ReuniteError<S>> {
    if !read.handle.is_same_connection(&write.handle) {
        return Err(ReuniteError(read, write));
    }
    read.retire_on_drop = false;
    write.on_drop = OnDrop::Reunited;
    let handle = read.handle.detach().join(write.handle.detach());
    let read_lane = std::mem::replace(&mut read.dir, DirectionState::new(Direction::Read));
    let write_lane = std::mem::replace(&mut write.dir, DirectionState::new(Direction::Write));
    Ok(Conn { handle, read: read_lane, write: write_lane })
}

impl ReadHalf {
    tcp_methods!();
}

impl WriteHalf {
    tcp_methods!();
}

impl<S> Drop for ReadHalf<S> {
    fn drop(&mut self) {
        if self.retire_on_drop {
            self.handle.conn_state.retire(Direction::Read);
        }
    }
}

impl<S> Drop for WriteHalf<S> {
    fn drop(&mut self) {
        match self.on_drop {
            OnDrop::Shutdown => self.handle.finish_now(),
            OnDrop::Forget => {}
            OnDrop::Reunited => return,
        }
        self.handle.conn_state.retire(Direction::Write);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> AsyncRead for ReadHalf<S> {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        me.handle.poll_read(&mut me.dir, cx, buf)
    }
}

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
